package compute_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lazurite.dev/internal/compute"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
)

// ready are the instances that a router would ask.
func (w *world) ready(uid string) []compute.Instance {
	var out []compute.Instance
	for _, i := range w.compute.Of(uid) {
		if i.Ready && !i.Draining {
			out = append(out, i)
		}
	}
	return out
}

// ask sends a request to the n-th instance, over a connection of its own.
func (w *world) ask(uid, path string, n int) (string, error) {
	list := w.ready(uid)
	if len(list) == 0 {
		return "", errors.New("no instance")
	}
	i := list[n%len(list)]
	client := &http.Client{Timeout: 15 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return w.compute.Dial(ctx, i)
	}}}
	resp, err := client.Get("http://instance" + path)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

func (w *world) apply(ctx context.Context, d compute.Deployment) (time.Duration, error) {
	began := time.Now()
	err := w.compute.Apply(ctx, d, func(s string) { w.t.Logf("%s %6.2fs %s", d.Name, time.Since(began).Seconds(), s) })
	return time.Since(began), err
}

// TestDeployments runs deployments of all fates in one cluster.
func TestDeployments(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithTimeout(t.Context(), 9*time.Minute)
	defer cancel()
	w.must(w.compute.Available(ctx))
	archive := w.archive()
	began := time.Now()
	w.must(w.compute.Network(ctx, compute.Workspace{UID: guid, Name: workName, Location: "eastus", ID: rid.MustParse(wsID)}, func(s string) { t.Logf("%6.2fs %s", time.Since(began).Seconds(), s) }))
	t.Logf("the cluster took %s", time.Since(began).Round(10*time.Millisecond))

	blue := w.deployment("blue", archive)
	took, err := w.apply(ctx, blue)
	w.must(err)
	t.Logf("the first deployment took %s", took.Round(10*time.Millisecond))
	t.Run("Scores", func(t *testing.T) { scores(t, w) })
	t.Run("NothingChangedIsQuick", func(t *testing.T) {
		if took, err := w.apply(ctx, blue); err != nil || took > 2*time.Second {
			t.Errorf("%v after %s", err, took)
		}
	})
	t.Run("RollsWithoutLoss", func(t *testing.T) { rolls(ctx, t, w, archive) })
	t.Run("Fates", func(t *testing.T) { fates(ctx, t, w, archive) })
	t.Run("ComesBack", func(t *testing.T) { comesBack(t, w) })
	t.Run("Goes", func(t *testing.T) { goes(ctx, t, w, archive) })
}

func scores(t *testing.T, w *world) {
	w.eventually(5*time.Second, "an instance is known", func() bool { return len(w.ready("d-blue")) == 1 })
	said, err := w.ask("d-blue", "/score", 0)
	if err != nil || !strings.HasPrefix(said, "v1 a model <nil> ") {
		t.Errorf("got %q, %v", said, err)
	}
	if said, err := w.ask("d-blue", "/file?name="+compute.AppRoot+"/code/one.txt", 0); err != nil || said != "one <nil>" {
		t.Errorf("one blob: got %q, %v", said, err)
	}
	for name, want := range map[string]string{
		"/var/run/secrets/kubernetes.io/serviceaccount/token": "no such file", "/proc/self/environ": "LITERAL=$(VERSION)", "/etc/resolv.conf": "nameserver 198.19.",
	} {
		if said, err := w.ask("d-blue", "/file?name="+name, 0); err != nil || !strings.Contains(said, want) {
			t.Errorf("%s: got %q, %v", name, said, err)
		}
	}
	status, err := w.ask("d-blue", "/file?name=/proc/self/status", 0)
	for _, want := range []string{"NoNewPrivs:\t1", "Seccomp:\t2"} {
		if !strings.Contains(status, want) {
			t.Errorf("no %q in %s, %v", want, status, err)
		}
	}
	i := w.ready("d-blue")[0]
	if got, want := w.compute.Who(guid, i.Address.Addr()), "ep/blue (pod "+i.ID+")"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	for container, want := range map[string]string{compute.InferenceServer: "starting, mode", compute.StorageInitializer: "2 of 2 downloads done"} {
		log, err := w.compute.Logs(t.Context(), "d-blue", container, 100)
		if err != nil || !strings.Contains(log, want) || !strings.Contains(log, "Instance status:\nSystemSetup: Succeeded\n") {
			t.Errorf("%s: got %q, %v", container, log, err)
		}
		t.Log(log)
	}
	if _, err := w.compute.Logs(t.Context(), "d-blue", "etcd", 100); err == nil {
		t.Error("the log of a container that is not a deployment's")
	}
	if _, err := w.compute.Logs(t.Context(), "d-none", compute.InferenceServer, 100); err == nil {
		t.Error("the log of a deployment that is not there")
	}
}

// rolls changes a deployment under load.
func rolls(ctx context.Context, t *testing.T, w *world, archive string) {
	d := w.deployment("blue", archive)
	d.Instances, d.Env["VERSION"] = 2, "v2"
	load, stop := context.WithCancel(ctx)
	var asked, failed atomic.Int64
	var wg sync.WaitGroup
	for n := range 4 {
		wg.Go(func() {
			for load.Err() == nil {
				asked.Add(1)
				if said, err := w.ask("d-blue", "/score?wait=200ms", n); err != nil || !strings.HasPrefix(said, "v") {
					failed.Add(1)
					t.Errorf("got %q, %v", said, err)
				}
			}
		})
	}
	took, err := w.apply(ctx, d)
	if err != nil {
		t.Error(err)
	}
	<-time.After(time.Second)
	stop()
	wg.Wait()
	t.Logf("rolled in %s under load: %d requests, %d failed", took.Round(10*time.Millisecond), asked.Load(), failed.Load())
	w.eventually(5*time.Second, "two new instances", func() bool { return len(w.ready("d-blue")) == 2 })
	for i, n := range []int{3, 2} {
		if err := w.compute.Scale(ctx, "d-blue", 2+i, n); err != nil {
			t.Error(err)
		}
		w.eventually(30*time.Second, fmt.Sprintf("%d instances", n), func() bool { return len(w.ready("d-blue")) == n })
	}
	if err := w.compute.Scale(ctx, "d-blue", 2, -1); err == nil {
		t.Error("scaled to less than none")
	}
	rises(ctx, t, w)
	if err := w.compute.Scale(ctx, "d-none", 1, 2); err != nil {
		t.Error(err)
	}
	if said, err := w.ask("d-blue", "/score", 0); !strings.HasPrefix(said, "v2 ") {
		t.Errorf("got %q, %v", said, err)
	}
}

// rises has a deployment go to zero under a request, which is answered, and come
// back.
func rises(ctx context.Context, t *testing.T, w *world) {
	conn, err := w.compute.Dial(ctx, w.ready("d-blue")[0])
	w.must(err)
	defer conn.Close()
	_, err = io.WriteString(conn, "GET /score?wait=2s HTTP/1.1\r\nHost: instance\r\n\r\n")
	w.must(err)
	w.must(w.compute.Scale(ctx, "d-blue", 2, 0))
	w.eventually(30*time.Second, "none takes requests", func() bool { return len(w.ready("d-blue")) == 0 })
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	w.must(err)
	defer resp.Body.Close()
	if text, err := io.ReadAll(resp.Body); err != nil || !strings.HasPrefix(string(text), "v2 ") {
		t.Errorf("what was under way when it went to zero: %q, %v", text, err)
	}
	if n, ok, err := w.compute.Scaled(ctx, "d-blue"); n != 0 || !ok || err != nil {
		t.Errorf("got %d, %v, %v", n, ok, err)
	}
	began := time.Now()
	if err := w.compute.Start(ctx, "d-blue"); err != nil {
		t.Error(err)
	}
	t.Logf("started from zero in %s", time.Since(began).Round(10*time.Millisecond))
	w.eventually(5*time.Second, "an instance is known", func() bool { return len(w.ready("d-blue")) == 1 })
	var gone *compute.Failure
	if err := w.compute.Start(ctx, "d-none"); !errors.As(err, &gone) || gone.Code != compute.CodeWasRemoved {
		t.Errorf("started what is not there: %v", err)
	}
	if err := w.compute.Scale(ctx, "d-blue", 1, 2); err != nil {
		t.Error(err)
	}
	w.eventually(30*time.Second, "both are back", func() bool { return len(w.ready("d-blue")) == 2 })
}

// fates are deployments that do not run, and why.
func fates(ctx context.Context, t *testing.T, w *world, archive string) {
	for _, c := range []struct {
		name   string
		change func(*compute.Deployment)
		code   string
		words  []string
		most   time.Duration
	}{
		{"raises", func(d *compute.Deployment) { d.Env["MODE"] = "raise" }, compute.CodeNotReady, []string{"ValueError: the model is not a model", "get-logs"}, 15 * time.Second},
		{"eats", func(d *compute.Deployment) { d.Env["MODE"] = "eat" }, compute.CodeNotReady, []string{"memory", "OOMKilled"}, 30 * time.Second},
		{"hangs", func(d *compute.Deployment) { d.Env["MODE"], d.Deadline = "hang", 6*time.Second }, compute.CodeNotReady, []string{"no progress for 6s", "probe failed"}, 15 * time.Second},
		{"imageless", func(d *compute.Deployment) { d.Image, d.Archive = "lazurite.dev/nobody:v9", "" }, compute.CodeBad, []string{"container image 'lazurite.dev/nobody:v9'"}, 60 * time.Second},
		{"modelless", func(d *compute.Deployment) { d.Downloads[0].URL = "https://" + account + "/models/nothing" }, compute.CodeBad, []string{"neither a blob nor a folder", "models/nothing"}, 15 * time.Second},
		{"forbidden", func(d *compute.Deployment) { d.Downloads[0].URL = "https://" + account + "/closed/model" }, compute.CodeBad, []string{"AuthorizationPermissionMismatch", "Storage Blob Data Reader"}, 30 * time.Second},
		{"nobody", func(d *compute.Deployment) { d.Identities = []string{wsID + "/onlineEndpoints/none"} }, compute.CodeBad, []string{"identity endpoint", "Identity not found"}, 30 * time.Second},
		{"fills", func(d *compute.Deployment) { d.Env["MODE"], d.Env["FILL"], d.DiskMiB = "fill", compute.AppRoot, 64 }, compute.CodeNotReady, []string{"evicted", "64Mi"}, 2 * time.Minute},
		{"writes", func(d *compute.Deployment) { d.Env["MODE"], d.Env["FILL"], d.DiskMiB = "fill", "/tmp", 64 }, compute.CodeNotReady, []string{"evicted", "64Mi"}, 2 * time.Minute},
		{"large", func(d *compute.Deployment) { d.MemoryMiB = 16 * 8192 }, compute.CodeQuota, []string{"not enough memory"}, 30 * time.Second},
		{"elsewhere", func(d *compute.Deployment) { d.Downloads[0].Path = "/etc/passwd" }, compute.CodeBad, []string{"/etc/passwd"}, time.Second},
		{"unnamed", func(d *compute.Deployment) { d.Identities = nil }, compute.CodeBad, []string{"identity"}, time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := w.deployment(c.name, archive)
			c.change(&d)
			took, err := w.apply(ctx, d)
			f, ok := errors.AsType[*compute.Failure](err)
			if !ok || f.Code != c.code || took > c.most {
				t.Fatalf("got %v after %s, want %s within %s", err, took, c.code, c.most)
			}
			for _, word := range c.words {
				if !strings.Contains(f.Message, word) {
					t.Errorf("no %q in %q", word, f.Message)
				}
			}
			t.Logf("after %s: %s", took.Round(10*time.Millisecond), f.Message)
			if log, err := w.compute.Logs(ctx, d.UID, compute.InferenceServer, 50); c.name == "raises" && (err != nil || !strings.Contains(log, "ValueError") || !strings.Contains(log, "UserContainerStart: Failed")) {
				t.Errorf("its log: %q, %v", log, err)
			}
			if err := w.compute.Remove(ctx, d.UID); err != nil {
				t.Error(err)
			}
		})
	}
	if list := w.ready("d-blue"); len(list) != 2 {
		t.Errorf("the one that ran has %v", list)
	}
}

// comesBack kills the agent, and stops and starts everything.
func comesBack(t *testing.T, w *world) {
	served := func() bool {
		said, err := w.ask("d-blue", "/score", 0)
		return err == nil && strings.HasPrefix(said, "v2 a model ")
	}
	w.must(w.process.Process.Kill())
	w.eventually(10*time.Second, "the agent is gone", func() bool { return !w.agent.Running(t.Context()) })
	if len(w.ready("d-blue")) != 2 {
		t.Error("instances are forgotten with the agent")
	}
	w.startAgent()
	began := time.Now()
	w.eventually(time.Minute, "served after kill -9 of the agent", served)
	t.Logf("served %s after the agent came back", time.Since(began).Round(10*time.Millisecond))

	w.stop()
	w.closeDoors(compute.ClusterUID(guid))
	w.must(w.agent.Stop(t.Context()))
	w.eventually(30*time.Second, "the agent has ended", func() bool { return !w.agent.Running(t.Context()) })
	began = time.Now()
	w.startAgent()
	w.up()
	w.eventually(time.Minute, "the instances are known", func() bool { return len(w.compute.Of("d-blue")) > 0 })
	for _, i := range w.ready("d-blue") { // what is said to be ready has to be
		if conn, err := w.compute.Dial(t.Context(), i); err != nil {
			t.Errorf("instance %s is said to be ready: %v", i.ID, err)
		} else {
			_ = conn.Close()
		}
	}
	w.eventually(2*time.Minute, "served after down and up", func() bool { return len(w.ready("d-blue")) == 2 && served() })
	t.Logf("served %s after up", time.Since(began).Round(10*time.Millisecond))
}

// goes takes everything away.
func goes(ctx context.Context, t *testing.T, w *world, archive string) {
	d := w.deployment("slow", archive)
	d.Env["MODE"] = "hang"
	done := make(chan error, 1)
	begun := make(chan struct{})
	var once sync.Once
	go func() {
		done <- w.compute.Apply(ctx, d, func(s string) {
			if strings.Contains(s, "starting the user container") {
				once.Do(func() { close(begun) })
			}
		})
	}()
	select {
	case <-begun:
	case err := <-done:
		t.Fatalf("it ended by itself: %v", err)
	}
	if err := w.compute.Remove(ctx, d.UID); err != nil {
		t.Error(err)
	}
	if f, ok := errors.AsType[*compute.Failure](<-done); !ok || f.Code != compute.CodeWasRemoved {
		t.Errorf("the rollout that was removed: %v", f)
	}
	for range 2 {
		if err := w.compute.RemoveEndpoint(ctx, guid, "e1"); err != nil {
			t.Error(err)
		}
	}
	w.eventually(30*time.Second, "no instance gets anything", func() bool { return len(w.ready("d-blue")) == 0 })
	for range 2 {
		if err := w.compute.RemoveNetwork(ctx, guid); err != nil {
			t.Error(err)
		}
	}
	if all, err := w.agent.Status(ctx); err != nil || len(all) != 0 {
		t.Errorf("left: %v, %v", all, err)
	}
	docs := 0
	for _, prefix := range []string{"compute/", "imds/", "cluster/"} {
		list, err := w.store.List(ctx, store.Query{Prefix: prefix})
		if err != nil {
			t.Error(err)
		}
		docs += len(list)
	}
	if docs != 0 {
		t.Errorf("%d documents are left", docs)
	}
	// Again, under the same name.
	took, err := w.apply(ctx, w.deployment("blue", archive))
	if err != nil {
		t.Error(err)
	}
	t.Logf("cluster and deployment took %s", took.Round(10*time.Millisecond))
}
