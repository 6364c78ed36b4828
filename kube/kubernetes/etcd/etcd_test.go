package etcd_test

import (
	"bytes"
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"lazurite.dev/kube/kubernetes/etcd"
)

// TestRun_UnixSocket: what was written is there after a restart on the same folder.
func TestRun_UnixSocket(t *testing.T) {
	dir := t.TempDir()
	socket := "unix://" + filepath.Join(dir, "etcd.sock")
	for round, want := range []int64{1, 2} {
		ctx, stop := context.WithTimeout(t.Context(), time.Minute)
		ready, ended := make(chan struct{}), make(chan error, 1)
		go func() {
			ended <- etcd.Run(ctx, etcd.Options{DataDir: filepath.Join(dir, "data"), Listen: socket, QuotaMiB: 64}, func() { close(ready) })
		}()
		select {
		case <-ready:
		case err := <-ended:
			t.Fatal(err)
		}
		client, err := clientv3.New(clientv3.Config{Endpoints: []string{socket}, DialTimeout: 10 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.Put(ctx, "/key", "value"); err != nil {
			t.Fatal(err)
		}
		answer, err := client.Get(ctx, "/key")
		if err != nil {
			t.Fatal(err)
		}
		if got := answer.Kvs[0].Version; got != want {
			t.Errorf("round %d: version %d, want %d", round, got, want)
		}
		if err := client.Close(); err != nil {
			t.Error(err)
		}
		stop()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
	}
}

func TestMain_Refuses(t *testing.T) {
	for name, tt := range map[string]struct{ args, want string }{
		"no folder":                     {"--listen unix:///run/x.sock", "no absolute path"},
		"no listener":                   {"--data-dir /var/x", "neither unix:///PATH nor https://HOST:PORT"},
		"plain HTTP":                    {"--data-dir /var/x --listen http://127.0.0.1:2379", "neither unix:///PATH nor https://HOST:PORT"},
		"TLS without clients' CA":       {"--data-dir /var/x --listen https://127.0.0.1:2379 --cert-file a --key-file b", "needs --cert-file, --key-file and --client-ca-file"},
		"an argument":                   {"--data-dir /var/x more", `unexpected argument "more"`},
		"a flag that turns flushes off": {"--unsafe-no-fsync", "flag provided but not defined"},
		"a path too long for a socket":  {"--data-dir /" + strings.Repeat("x", 120) + " --listen unix:///run/x.sock", "at most 107"},
	} {
		t.Run(name, func(t *testing.T) {
			var stderr bytes.Buffer
			if status := etcd.Main(strings.Fields(tt.args), &stderr); status != 1 {
				t.Errorf("status %d, want 1", status)
			}
			if !strings.Contains(stderr.String(), tt.want) {
				t.Errorf("got %q, want %q in it", stderr.String(), tt.want)
			}
		})
	}
}
