package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/resourceversion"

	"lazurite.dev/kube/kubernetes/policy"
)

// attachment is a pod whose network the CNI chain made on this node: its
// address is known here before the API server has it, and its rules stand
// until its network is gone, whatever becomes of the pod's object.
type attachment struct {
	policy.Pod
	Sandbox string // the runtime's id: a late DEL of an older sandbox changes nothing
}

// attachRequest is what the CNI plugin sends, as JSON.
type attachRequest struct {
	Command   string `json:"command"` // ADD or DEL
	Sandbox   string `json:"sandbox"`
	Namespace string `json:"namespace"`
	Pod       string `json:"pod"`
	UID       string `json:"uid"`
	Address   string `json:"address"` // ADD: the pod's IPv4 address
}

// attachLimit is how long a pod waits for its rules before the kubelet hears
// of it.
const attachLimit = 20 * time.Second

// serve answers the CNI plugin on the socket.
func (e *enforcer) serve(ctx context.Context) error {
	if err := os.MkdirAll(filepath.Dir(e.Socket), 0o755); err != nil {
		return fmt.Errorf("making the folder of the socket: %w", err)
	}
	if err := os.Remove(e.Socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing an old socket: %w", err)
	}
	listener, err := net.Listen("unix", e.Socket)
	if err != nil {
		return fmt.Errorf("listening for the CNI plugin: %w", err)
	}
	if err := os.Chmod(e.Socket, 0o600); err != nil {
		return fmt.Errorf("protecting the socket: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /attach", e.handle)
	server := &http.Server{Handler: mux, ReadTimeout: 5 * time.Second, WriteTimeout: attachLimit + 5*time.Second}
	go func() {
		<-ctx.Done()
		server.Close()
	}()
	if err := server.Serve(listener); ctx.Err() == nil {
		return fmt.Errorf("serving the CNI plugin: %w", err)
	}
	return ctx.Err()
}

func (e *enforcer) handle(w http.ResponseWriter, r *http.Request) {
	var q attachRequest
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<16)).Decode(&q)
	if err == nil {
		ctx, cancel := context.WithTimeout(r.Context(), attachLimit)
		defer cancel()
		switch q.Command {
		case "ADD":
			err = e.attach(ctx, q)
		case "DEL":
			e.detach(q)
		default:
			err = fmt.Errorf("unknown command %q", q.Command)
		}
	}
	if err != nil {
		e.log.Warn("a pod gets no network", "namespace", q.Namespace, "pod", q.Pod, "error", err)
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

// attach returns when the rules for a new pod stand: those of the policies
// that the API server has at this moment.
func (e *enforcer) attach(ctx context.Context, q attachRequest) error {
	address, err := netip.ParseAddr(q.Address)
	if err != nil || !address.Is4() {
		return fmt.Errorf("the address %q is no IPv4 address", q.Address)
	}
	pod, err := e.client.CoreV1().Pods(q.Namespace).Get(ctx, q.Pod, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("reading the pod: %w", err)
	}
	if string(pod.UID) != q.UID || pod.Spec.NodeName != e.Node {
		return fmt.Errorf("the pod %s/%s is another one now", q.Namespace, q.Pod)
	}
	if err := e.current(ctx, q.Namespace); err != nil {
		return err
	}
	a := attachment{Sandbox: q.Sandbox, Pod: policy.Pod{
		UID: q.UID, Namespace: q.Namespace, Name: q.Pod, Labels: pod.Labels, Address: address, Here: true, Ports: policy.NamedPorts(&pod.Spec),
	}}
	e.mu.Lock()
	for uid, old := range e.attached {
		if old.Address == address {
			delete(e.attached, uid) // its DEL was missed: the address has a new owner
		}
	}
	e.attached[q.UID] = a
	err = e.remember()
	e.mu.Unlock()
	if err != nil {
		return err
	}
	return e.wait(ctx, e.changed())
}

// current waits until the policies of a namespace that the API server has now
// are known here: a policy that was made before the pod must not be late.
func (e *enforcer) current(ctx context.Context, namespace string) error {
	list, err := e.client.NetworkingV1().NetworkPolicies(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("reading network policies: %w", err)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for i := range list.Items {
		for !e.knows(namespace, list.Items[i].Name, list.Items[i].ResourceVersion) {
			select {
			case <-ctx.Done():
				return fmt.Errorf("the network policy %s/%s is not known yet: %w", namespace, list.Items[i].Name, ctx.Err())
			case <-tick.C:
			}
			// One that was deleted meanwhile never comes: ask again.
			if _, err := e.policies.NetworkPolicies(namespace).Get(list.Items[i].Name); err != nil {
				if _, err := e.client.NetworkingV1().NetworkPolicies(namespace).Get(ctx, list.Items[i].Name, metav1.GetOptions{}); err != nil {
					return fmt.Errorf("reading a network policy: %w", err)
				}
			}
		}
	}
	return nil
}

func (e *enforcer) knows(namespace, name, version string) bool {
	have, err := e.policies.NetworkPolicies(namespace).Get(name)
	if err != nil {
		return false
	}
	order, err := resourceversion.CompareResourceVersion(have.ResourceVersion, version)
	return err == nil && order >= 0
}

func (e *enforcer) detach(q attachRequest) {
	e.mu.Lock()
	a, ok := e.attached[q.UID]
	if ok = ok && a.Sandbox == q.Sandbox; ok {
		delete(e.attached, q.UID)
		if err := e.remember(); err != nil {
			e.log.Error("what is attached is not kept for a restart", "error", err)
		}
	}
	e.mu.Unlock()
	if ok {
		e.changed()
	}
}

// remember writes the attachments beside the socket. The caller holds mu.
func (e *enforcer) remember() error {
	raw, err := json.Marshal(e.attached)
	if err != nil {
		return fmt.Errorf("keeping what is attached: %w", err)
	}
	temp := e.memory() + ".new"
	if err := os.WriteFile(temp, raw, 0o600); err != nil {
		return fmt.Errorf("keeping what is attached: %w", err)
	}
	if err := os.Rename(temp, e.memory()); err != nil {
		return fmt.Errorf("keeping what is attached: %w", err)
	}
	return nil
}

func (e *enforcer) memory() string { return e.Socket + ".attached.json" }

// recall reads what an earlier process of this node attached. What the API
// server no longer knows is forgotten: its DEL may have been missed.
func (e *enforcer) recall() error {
	raw, err := os.ReadFile(e.memory())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading what was attached: %w", err)
	}
	old := map[string]attachment{}
	if err := json.Unmarshal(raw, &old); err != nil {
		e.log.Error("what was attached before can't be read; pods are known by the API server only", "error", err)
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for uid, a := range old {
		if pod, err := e.pods.Pods(a.Namespace).Get(a.Name); err == nil && string(pod.UID) == uid {
			e.attached[uid] = a
		}
	}
	return nil
}
