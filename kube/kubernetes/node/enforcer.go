package node

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	networkinglisters "k8s.io/client-go/listers/networking/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"

	"lazurite.dev/kube/kubernetes/policy"
)

// enforcer keeps the node's rules as the cluster's policies, pods and
// namespaces want them.
type enforcer struct {
	Config
	client     kubernetes.Interface
	events     record.EventRecorder
	log        *slog.Logger
	pods       corelisters.PodLister
	namespaces corelisters.NamespaceLister
	policies   networkinglisters.NetworkPolicyLister
	wake       chan struct{} // something changed

	kernelMu sync.Mutex // guards kernel
	kernel   policy.Kernel

	mu       sync.Mutex // guards what follows
	attached map[string]attachment
	wanted   uint64        // counts changes
	standing uint64        // the last change that the kernel's rules hold
	stands   chan struct{} // closed when standing grows
	failure  error         // why the last change does not stand, nil where it does
}

func newEnforcer(c Config, client kubernetes.Interface, factory informers.SharedInformerFactory, events record.EventRecorder, log *slog.Logger) (*enforcer, error) {
	e := &enforcer{
		Config: c, client: client, events: events, log: log,
		pods:       factory.Core().V1().Pods().Lister(),
		namespaces: factory.Core().V1().Namespaces().Lister(),
		policies:   factory.Networking().V1().NetworkPolicies().Lister(),
		wake:       make(chan struct{}, 1),
		attached:   map[string]attachment{},
		stands:     make(chan struct{}),
	}
	for _, informer := range []cache.SharedIndexInformer{
		factory.Core().V1().Pods().Informer(), factory.Core().V1().Namespaces().Informer(), factory.Networking().V1().NetworkPolicies().Informer(),
	} {
		if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    func(any) { e.changed() },
			UpdateFunc: func(any, any) { e.changed() },
			DeleteFunc: func(any) { e.changed() },
		}); err != nil {
			return nil, fmt.Errorf("watching the cluster: %w", err)
		}
	}
	return e, nil
}

// changed asks for new rules and returns the number of the change, for wait.
func (e *enforcer) changed() uint64 {
	e.mu.Lock()
	e.wanted++
	number := e.wanted
	e.mu.Unlock()
	select {
	case e.wake <- struct{}{}:
	default: // asked already
	}
	return number
}

// wait returns when the rules hold a change.
func (e *enforcer) wait(ctx context.Context, number uint64) error {
	for {
		e.mu.Lock()
		done, stands, failure := e.standing >= number, e.stands, e.failure
		e.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-stands:
		case <-ctx.Done():
			return fmt.Errorf("waiting for the network policies' rules: %w", cmp.Or(failure, ctx.Err()))
		}
	}
}

// run sets the rules after each change. Where that fails the old ones stand,
// and it tries again.
func (e *enforcer) run(ctx context.Context) error {
	e.changed()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-e.wake:
		}
		if err := e.set(ctx); err != nil {
			e.log.Error("the rules of network policies are not up to date", "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
				e.changed()
			}
		}
	}
}

func (e *enforcer) set(ctx context.Context) error {
	e.mu.Lock()
	number := e.wanted
	e.mu.Unlock()
	w, err := e.world()
	if err != nil {
		return err
	}
	e.kernelMu.Lock()
	err = e.kernel.Set(ctx, policy.Compile(w))
	e.kernelMu.Unlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.failure = err; err != nil {
		return err
	}
	e.standing = number
	close(e.stands)
	e.stands = make(chan struct{})
	return nil
}

// world is what is known now. Of pods with one address, the one that has it is
// the one attached here, or else the youngest.
func (e *enforcer) world() (*policy.World, error) {
	w := &policy.World{Namespaces: map[string]map[string]string{}}
	pods, err := e.pods.List(labels.Everything())
	if err != nil {
		return nil, fmt.Errorf("listing pods: %w", err)
	}
	namespaces, err := e.namespaces.List(labels.Everything())
	if err != nil {
		return nil, fmt.Errorf("listing namespaces: %w", err)
	}
	if w.Policies, err = e.policies.List(labels.Everything()); err != nil {
		return nil, fmt.Errorf("listing network policies: %w", err)
	}
	for _, namespace := range namespaces {
		w.Namespaces[namespace.Name] = namespace.Labels
	}
	known := map[string]*corev1.Pod{}
	for _, pod := range pods {
		known[string(pod.UID)] = pod
	}
	taken := map[netip.Addr]bool{}
	e.mu.Lock()
	for uid, a := range e.attached {
		if pod := known[uid]; pod != nil {
			if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
				continue
			}
			a.Labels, a.Ports = pod.Labels, policy.NamedPorts(&pod.Spec)
			e.attached[uid] = a // what is known of it last
		}
		taken[a.Address] = true
		delete(known, uid)
		w.Pods = append(w.Pods, a.Pod)
	}
	e.mu.Unlock()
	slices.SortStableFunc(pods, func(a, b *corev1.Pod) int { return b.CreationTimestamp.Compare(a.CreationTimestamp.Time) })
	for _, pod := range pods {
		if known[string(pod.UID)] == nil {
			continue
		}
		if p, ok := policy.FromPod(pod, e.Node); ok && !taken[p.Address] {
			taken[p.Address] = true
			w.Pods = append(w.Pods, p)
		}
	}
	return w, nil
}
