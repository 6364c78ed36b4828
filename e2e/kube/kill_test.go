package kube_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"lazurite.dev/e2e/live"
)

// direct is kubectl without laz: as long as the API server answers, it works.
func (k *kube) direct(t *testing.T, cluster string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	args = append([]string{"kubectl", "--kubeconfig", k.config(cluster)}, args...)
	out, err := live.Exec(k.Command(ctx, filepath.Join(distribution(), "bin", "kubernetes"), args...))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimRight(out, "\n")
}

// TestKilledProcesses kills each process of a cluster: it starts again and is
// seen in laz status, what was acknowledged just before is there, a running pod
// goes on and new ones start.
func TestKilledProcesses(t *testing.T) {
	k := battered(t)
	k.pod(t, "c1", "goes-on")
	before := k.since(t, "c1", "goes-on")
	for _, name := range []string{"etcd", "kube-apiserver", "kubelet", "containerd", "kube-proxy", "kube-controller-manager", "kube-scheduler", "lazurite-controller", "lazurite-node"} {
		t.Run(name, func(t *testing.T) {
			pid := k.pid(t, "c1", name)
			kept := "kept-" + name
			k.kubectl(t, "c1", "create", "configmap", kept)
			t.Cleanup(func() { k.forget(t, "c1", "configmap", kept) })
			kill(t, pid)
			until(t, 30*time.Second, "laz status says that "+name+" was killed", func() (string, error) {
				for _, p := range k.cluster(t, "c1").Processes {
					if p.Name == name && p.Restarts > 0 && p.PID != pid {
						return p.Error, nil
					}
				}
				return "", nil
			}, func(s string) bool { return strings.Contains(s, "killed") })
			k.healed(t, "c1")
			k.kubectl(t, "c1", "get", "configmap", kept)
			k.pod(t, "c1", "after-"+name)
			if now := k.since(t, "c1", "goes-on"); now != before {
				t.Errorf("the running pod was %s, is %s", before, now)
			}
		})
	}
}

// killServer kills laz's server, and waits until it is gone.
func (k *kube) killServer(t *testing.T) {
	t.Helper()
	kill(t, k.status(t).PID)
	if !live.Until(10*time.Second, func() bool { _, err := k.tryStatus(); return err != nil }) {
		t.Fatal("the server was killed and answers")
	}
}

// TestKilledServer kills laz's server: clusters go on without it, and the next
// one takes them over.
func TestKilledServer(t *testing.T) {
	k := battered(t)
	k.pod(t, "c1", "without-laz")
	before := k.since(t, "c1", "without-laz")
	k.killServer(t)
	k.direct(t, "c1", "create", "configmap", "without-laz")
	t.Cleanup(func() { k.forget(t, "c1", "configmap", "without-laz") })
	k.direct(t, "c1", "run", "meanwhile", "--image", Toybox)
	t.Cleanup(func() { k.forget(t, "c1", "pod", "meanwhile") })
	k.direct(t, "c1", "wait", "--for=condition=Ready", "--timeout=60s", "pod/meanwhile")
	k.up(t)
	k.healed(t, "c1")
	if now := k.since(t, "c1", "without-laz"); now != before {
		t.Errorf("the running pod was %s, is %s", before, now)
	}
	until(t, 30*time.Second, "pods reach the front door again", func() (string, error) {
		return k.inside("c1", "without-laz", "dial", "login.microsoftonline.com:443")
	}, func(s string) bool { return s == "connected" })
	k.az(t, "aks", "nodepool", "list", "-g", group, "--cluster-name", "c1") // and it is its cluster still
}

// agentPIDs are the node agent and the keeper that would start it again.
func (k *kube) agentPIDs(t *testing.T) (agent, keeper int) {
	t.Helper()
	agent = k.status(t).NodeAgent.PID
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", agent))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(raw), ") ")
	if keeper, err = strconv.Atoi(strings.Fields(rest)[1]); err != nil || keeper < 2 { // proc_pid_stat(5)
		t.Fatalf("the agent's parent: %d, %v", keeper, err)
	}
	return agent, keeper
}

// TestKilledAgent kills the node agent, with which the cluster's own processes
// end: containers live on, and the next agent takes them over. That is started
// by its keeper, or when that was killed too by laz up.
func TestKilledAgent(t *testing.T) {
	k := battered(t)
	k.pod(t, "c1", "without-agent")
	before := k.since(t, "c1", "without-agent")
	again := func(kept string) {
		t.Helper()
		k.healed(t, "c1")
		k.kubectl(t, "c1", "get", "configmap", kept)
		if now := k.since(t, "c1", "without-agent"); now != before {
			t.Errorf("the running pod was %s, is %s", before, now)
		}
		k.pod(t, "c1", "after-"+kept)
		until(t, 30*time.Second, "pods reach the front door again", func() (string, error) {
			return k.inside("c1", "after-"+kept, "dial", "login.microsoftonline.com:443")
		}, func(s string) bool { return s == "connected" })
	}
	keep := func(name string) {
		t.Helper()
		k.kubectl(t, "c1", "create", "configmap", name)
		t.Cleanup(func() { k.forget(t, "c1", "configmap", name) })
	}

	keep("kept-agent")
	agent, keeper := k.agentPIDs(t)
	kill(t, agent)
	until(t, 30*time.Second, "another agent is there", func() (string, error) {
		return fmt.Sprint(k.status(t).NodeAgent.PID), nil
	}, func(s string) bool { return s != "0" && s != fmt.Sprint(agent) })
	again("kept-agent")

	keep("kept-keeper")
	agent, _ = k.agentPIDs(t)
	kill(t, keeper, agent)
	until(t, 30*time.Second, "laz status says that the agent is gone", func() (string, error) { return k.Laz("status") },
		func(s string) bool { return strings.Contains(s, "sudo laz up") })
	k.up(t)
	again("kept-keeper")
}

// holder is a deployment with a volume, both called %[1]s.
const holder = `
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: %[1]s, namespace: default}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 10Mi}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s, namespace: default}
spec:
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec:
      terminationGracePeriodSeconds: 1
      securityContext: {fsGroup: 2000}
      containers: [{name: app, image: %[2]s, args: [pause], volumeMounts: [{name: v, mountPath: /kept}]}]
      volumes: [{name: v, persistentVolumeClaim: {claimName: %[1]s}}]
`

// keeps is holds for a cluster that stays.
func (k *kube) keeps(t *testing.T, cluster string) (check func()) {
	t.Helper()
	name, check := k.holds(t, cluster)
	t.Cleanup(func() {
		k.forget(t, cluster, "deployment", name)
		k.forget(t, cluster, "pvc", name)
		k.forget(t, cluster, "configmap", name)
	})
	return check
}

// holds puts data on a volume of a cluster, and gives a function that looks
// whether it is there, in a pod that runs.
func (k *kube) holds(t *testing.T, cluster string) (name string, check func()) {
	t.Helper()
	name = "kept-" + strconv.FormatInt(time.Now().UnixNano(), 36)
	k.apply(t, cluster, fmt.Sprintf(holder, name, Toybox))
	ready := func() {
		t.Helper()
		until(t, 2*time.Minute, "the deployment is there", func() (string, error) {
			return k.tryKubectl(cluster, "", "get", "deployment", name, "-o", "jsonpath={.status.availableReplicas}")
		}, func(s string) bool { return s == "1" })
	}
	ready()
	k.kubectl(t, cluster, "exec", "deploy/"+name, "--", "/toybox", "write", "/kept/word", name)
	k.kubectl(t, cluster, "create", "configmap", name)
	return name, func() {
		t.Helper()
		ready()
		k.kubectl(t, cluster, "get", "configmap", name)
		until(t, 30*time.Second, "the volume's file is there", func() (string, error) {
			return k.tryKubectl(cluster, "", "exec", "deploy/"+name, "--", "/toybox", "read", "/kept/word")
		}, func(s string) bool { return s == name })
	}
}

// TestKilledEverything ends all processes at once, as the machine's power
// does: `laz up` brings back the cluster, its pods and their data.
func TestKilledEverything(t *testing.T) {
	k := battered(t)
	check := k.keeps(t, "c1")
	agent, keeper := k.agentPIDs(t)
	// Who starts others first, so that it starts nothing meanwhile.
	server := k.status(t).PID
	kill(t, keeper, agent, server)
	if !live.Until(10*time.Second, func() bool { return len(k.killCgroups(t)) == 0 }) {
		t.Fatalf("still there: %v", k.killCgroups(t))
	}
	k.up(t)
	k.healed(t, "c1")
	check()
}

// killCgroups kills what is in the cloud's cgroups, and gives what it found.
func (k *kube) killCgroups(t *testing.T) []string {
	t.Helper()
	var found []string
	for _, p := range k.processes(t) {
		number, _, _ := strings.Cut(p, " ")
		pid, err := strconv.Atoi(number)
		cgroup, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid)) // it may have ended
		if err != nil || !strings.Contains(string(cgroup), "lazurite-"+k.instance()) {
			continue
		}
		found = append(found, p)
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && err != syscall.ESRCH {
			t.Fatal(err)
		}
	}
	return found
}

// TestDownAndUp stops everything in order and starts it again.
func TestDownAndUp(t *testing.T) {
	k := battered(t)
	check := k.keeps(t, "c1")
	k.az(t, "down")
	if left := k.processes(t); len(left) > 0 {
		t.Errorf("after laz down there are processes: %v", left)
	}
	k.up(t)
	k.healed(t, "c1")
	check()
}

// TestStopAndStart stops the cluster alone and starts it again: what it holds
// stays, and what is on its volumes.
func TestStopAndStart(t *testing.T) {
	k := battered(t)
	check := k.keeps(t, "c1")
	k.az(t, "aks", "stop", "-g", group, "-n", "c1")
	if c := k.cluster(t, "c1"); c.State != "stopped" || c.pid("etcd") != 0 {
		t.Errorf("after az aks stop laz status says %+v", c)
	}
	if got := k.show(t, "c1", "powerState.code"); got != "Stopped" {
		t.Errorf("got %q", got)
	}
	if _, err := k.tryKubectl("c1", "", "get", "nodes", "--request-timeout=2s"); err == nil {
		t.Error("a stopped cluster answers")
	}
	k.az(t, "aks", "start", "-g", group, "-n", "c1")
	if got := k.show(t, "c1", "powerState.code"); got != "Running" {
		t.Errorf("got %q", got)
	}
	k.healed(t, "c1")
	check()
}

// TestKilledWebhook kills the webhook's server processes again and again: pods
// are refused until they are back, and none is missed.
func TestKilledWebhook(t *testing.T) {
	k := battered(t)
	k.account(t, "c1", "killed-webhook", "r", "client")
	t.Cleanup(func() { k.forget(t, "c1", "namespace", "killed-webhook") })
	server := k.proxied(t, "c1")
	for range 2 {
		var pids []int
		until(t, 2*time.Minute, "both of the webhook's servers run", func() (string, error) {
			pids = nil
			for _, p := range k.processes(t) {
				if number, words, _ := strings.Cut(p, " "); strings.HasPrefix(words, "/azure-workload-identity webhook") {
					pid, err := strconv.Atoi(number)
					if err != nil {
						return "", err
					}
					pids = append(pids, pid)
				}
			}
			return fmt.Sprint(len(pids)), nil
		}, func(s string) bool { return s == "2" })
		kill(t, pids...)
		refused := 0
		until(t, 2*time.Minute, "pods come in again", func() (string, error) {
			pod, err := makePod(server, "killed-webhook", "r", "")
			if err != nil {
				refused++
				return "", err
			}
			return pod.env("AZURE_CLIENT_ID"), nil
		}, func(s string) bool {
			if s != "client" {
				t.Fatalf("a pod was missed: %q", s)
			}
			return true
		})
		t.Logf("%d refused meanwhile", refused)
	}
	k.kubectl(t, "c1", "-n", hookSpace, "rollout", "status", "deployment/azure-wi-webhook-controller-manager", "--timeout=3m")
	k.healed(t, "c1")
}
