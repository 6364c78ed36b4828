package kube_test

import (
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"lazurite.dev/e2e/live"
)

// busy gives a cluster what is hardest to take away: pods with volumes and
// open streams, services with addresses.
func (k *kube) busy(t *testing.T, cluster string) {
	t.Helper()
	k.holds(t, cluster)
	k.apply(t, cluster, `
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {type: LoadBalancer, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
`+"---"+toy("web", "app: web", "serve", "8080", "web"))
	k.running(t, cluster, "default", "web")
}

// TestNothingIsLeft: a cluster that is deleted, or of which a delete or a kill
// interrupts the making, leaves nothing on the machine, nor does a purge after
// all was killed.
func TestNothingIsLeft(t *testing.T) {
	k := alone(t)
	before := k.machine(t)
	remove := func(name string) {
		t.Helper()
		k.az(t, "aks", "delete", "-g", group, "-n", name, "--yes")
		k.leaves(t, before)
	}

	// Two at once; one goes on when the other goes.
	var errs [2]error
	var both sync.WaitGroup
	for i, name := range []string{"deleted", "beside"} {
		both.Go(func() { errs[i] = k.create(name) })
	}
	both.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		t.Fatal(err)
	}
	k.busy(t, "deleted")
	k.apply(t, "beside", toy("goes-on", ""))
	k.running(t, "beside", "default", "goes-on")
	k.az(t, "aks", "delete", "-g", group, "-n", "deleted", "--yes")
	k.healed(t, "beside")
	if out, err := k.inside("beside", "goes-on", "lookup", "kubernetes.default"); err != nil {
		t.Errorf("the other cluster: %s, %v", out, err)
	}
	remove("beside")

	// Deleted as soon as there is something of it.
	for _, process := range []string{"etcd", "containerd", "kubelet"} {
		var making sync.WaitGroup
		making.Go(func() { _ = k.create("cut-off") }) // that it fails is another test's
		k.begun(t, "cut-off", process)
		remove("cut-off")
		making.Wait()
	}

	// The agent dies in the middle; what it was asked for is deleted all the same.
	var making sync.WaitGroup
	making.Go(func() { _ = k.create("killed") })
	k.begun(t, "killed", "containerd")
	agent, _ := k.agentPIDs(t)
	kill(t, agent)
	k.az(t, "aks", "delete", "-g", group, "-n", "killed", "--yes")
	making.Wait()
	until(t, time.Minute, "another agent is there", func() (string, error) { return "", nil }, func(string) bool {
		now := k.status(t).NodeAgent.PID
		return now != 0 && now != agent
	})
	k.leaves(t, append(before, k.agents(t)...))

	if err := k.create("purged"); err != nil {
		t.Fatal(err)
	}
	k.busy(t, "purged")
	agent, keeper := k.agentPIDs(t)
	server := k.status(t).PID
	kill(t, keeper, agent, server)
	k.az(t, "down", "--purge", "--yes")
	k.leaves(t, k.ofOthers(before))
	if _, err := os.Stat(k.Home()); !os.IsNotExist(err) {
		t.Errorf("the state folder after a purge: %v", err)
	}
}

// agents are the processes of the server and the agent as machine says them.
func (k *kube) agents(t *testing.T) []string {
	t.Helper()
	agent, keeper := k.agentPIDs(t)
	var all []string
	for _, p := range k.processes(t) {
		if number, _, _ := strings.Cut(p, " "); number == strconv.Itoa(agent) || number == strconv.Itoa(keeper) {
			all = append(all, "process "+p)
		}
	}
	return all
}

// ofOthers are the things that have nothing to do with the cloud.
func (k *kube) ofOthers(things []string) []string {
	return slices.DeleteFunc(slices.Clone(things), func(s string) bool {
		return strings.HasPrefix(s, "process ") || strings.Contains(s, k.instance()) || strings.Contains(s, k.Dir)
	})
}

// begun waits until a cluster's process was started.
func (k *kube) begun(t *testing.T, cluster, process string) {
	t.Helper()
	if !live.Until(time.Minute, func() bool {
		s, err := k.tryStatus()
		if err != nil {
			return false
		}
		for _, c := range s.Clusters {
			if c.Name == cluster && c.pid(process) != 0 {
				return true
			}
		}
		return false
	}) {
		t.Fatalf("%s of %s was not begun", process, cluster)
	}
}
