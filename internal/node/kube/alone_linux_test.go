package kube_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lazurite.dev/internal/node/box"
	"lazurite.dev/internal/node/kube"
)

// aloneTime is enough where a processor is emulated.
const aloneTime = 15 * time.Minute

// alonePod is a pod of the toybox that needs no network of its own.
func alonePod(name, memory string, words ...string) string {
	args, _ := json.Marshal(words) // strings always are
	return fmt.Sprintf(`{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": %q, "namespace": "default"}, "spec": {
		"hostNetwork": true, "restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [
		{"name": "c", "image": "lazurite.dev/toybox:v1", "args": %s, "resources": {"limits": {"cpu": "250m", "memory": %q}}}]}}`, name, args, memory)
}

// TestNode_Alone is a node on its cgroups, whichever version they are: its own
// size, the limits of pods, and one that takes more memory than it may. No
// control plane runs, so it can be run in a slow machine (e2e/cgroup2).
func TestNode_Alone(t *testing.T) {
	b := newBed(t)
	if _, err := b.cluster.LoadImage(b.context(aloneTime), bytes.NewReader(toybox(t))); err != nil {
		t.Fatal(err)
	}
	n := b.spec.Nodes[0]
	place, pods, err := b.cluster.Alone(b.context(aloneTime), b.spec, n)
	if err != nil {
		b.logs()
		t.Fatal(err)
	}
	version, err := box.CgroupVersion()
	if err != nil {
		t.Fatal(err)
	}
	own, err := b.cfg.Root.FindCgroup(b.cfg.Name + "-" + n.Name)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{"memory/memory.limit_in_bytes": "4294967296"} // of the node: kube.limit says why no processors
	limited := map[string]string{"cpu/cpu.cfs_quota_us": "25000", "memory/memory.limit_in_bytes": "67108864"}
	if version == 2 {
		files = map[string]string{"cpu.max": "200000 100000", "memory.max": "4294967296", "cgroup.procs": ""}
		limited = map[string]string{"cpu.max": "25000 100000", "memory.max": "67108864"}
	}
	for file, want := range files {
		dir, name := filepath.Split(file)
		raw, err := os.ReadFile(filepath.Join("/sys/fs/cgroup", dir, own.Path, name))
		if got := strings.TrimSpace(string(raw)); err != nil || got != want {
			t.Errorf("%s of the node: got %q, %v, want %q", file, got, err, want)
		}
	}

	write := func(name, pod string) {
		if err := os.WriteFile(filepath.Join(pods, name), []byte(pod), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("limited.json", alonePod("limited", "64Mi", "pause"))
	write("greedy.json", alonePod("greedy", "32Mi", "eat", "200"))
	b.reports(place, `"name":"limited-node1"`, `"running":{`)
	b.reports(place, `"reason":"OOMKilled"`)
	for file, want := range limited {
		dir, name := filepath.Split(file)
		if at := folders(t, filepath.Join("/sys/fs/cgroup", dir, own.Path, "kubepods"), name, want); len(at) < 2 {
			t.Errorf("%s is %s in %v, want it in a pod's cgroup and its container's", name, want, at)
		}
	}

	if err := b.cluster.RemoveNode(b.context(aloneTime), n.Name, false); err != nil {
		t.Fatal(err)
	}
	if pids, err := own.Processes(); err != nil || len(pids) != 0 {
		t.Errorf("left: %v, %v", pids, err)
	}
	if names, err := b.cfg.Root.Cgroups(); err != nil || len(names) != 0 {
		t.Errorf("left: %v, %v", names, err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(mounts), "/nodes/"+n.Name) {
		t.Errorf("mounts are left:\n%s", mounts)
	}
}

// reports waits until what the kubelet says of its pods has all words.
func (b *bed) reports(place kube.Place, words ...string) {
	b.t.Helper()
	dial := func(ctx context.Context, network, address string) (conn net.Conn, err error) {
		err = place.Space.Do(func() error {
			conn, err = (&net.Dialer{}).DialContext(ctx, network, address)
			return err
		})
		return conn, err
	}
	client := &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}, Timeout: time.Minute}
	url := fmt.Sprintf("http://%s:%d/pods", place.Address, kube.AlonePort)
	said := ""
	for deadline := time.Now().Add(aloneTime); time.Now().Before(deadline); <-time.After(200 * time.Millisecond) {
		res, err := client.Get(url)
		if err != nil {
			said = err.Error()
			continue
		}
		var all bytes.Buffer
		_, _ = all.ReadFrom(res.Body) // what is missing is asked for again
		_ = res.Body.Close()
		said = all.String()
		missing := false
		for _, w := range words {
			missing = missing || !strings.Contains(said, w)
		}
		if !missing {
			return
		}
	}
	b.logs()
	b.t.Fatalf("the kubelet does not say %v but %s", words, said)
}

// folders are those below dir in which the file called name has the content want.
func folders(t *testing.T, dir, name, want string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() != name {
			return err
		}
		if raw, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(raw)) == want {
			all = append(all, filepath.Dir(path))
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return all
}
