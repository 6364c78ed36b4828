package serve

import (
	"bytes"
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

const name = ServiceName + ".ns.svc"

func TestRenewal(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	first, err := serving{}.renewed(name, now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := first.pair("other.ns.svc", now); err == nil {
		t.Error("good for another name")
	}
	again, err := first.renewed(name, now.Add(200*24*time.Hour))
	if err != nil || !again.equal(first) {
		t.Errorf("renewed too early: %v", err)
	}
	second, err := first.renewed(name, now.Add(300*24*time.Hour))
	if err != nil || bytes.Equal(second[fileCert], first[fileCert]) || !bytes.Equal(second[fileCACert], first[fileCACert]) {
		t.Errorf("a new certificate of the same authority: %v", err)
	}
	late := now.Add(8 * 365 * 24 * time.Hour)
	third, err := first.renewed(name, late)
	if err != nil || !bytes.Contains(third[fileCACert], first[fileCACert]) || len(third[fileCACert]) <= len(first[fileCACert]) {
		t.Fatalf("a new authority beside the old one: %v", err)
	}
	if _, err := third.pair(name, late); err != nil {
		t.Error(err)
	}
	if fourth, err := third.renewed(name, late.Add(24*time.Hour)); err != nil || !fourth.equal(third) {
		t.Errorf("two authorities are no reason to renew: %v", err)
	}
	broken := serving{fileCert: []byte("x"), fileKey: first[fileKey], fileCACert: first[fileCACert], fileCAKey: []byte("x")}
	if repaired, err := broken.renewed(name, now); err != nil {
		t.Error(err)
	} else if _, err := repaired.pair(name, now); err != nil {
		t.Error(err)
	}
}

func TestRegistration(t *testing.T) {
	now := time.Now()
	old, err := serving{}.renewed(name, now)
	if err != nil {
		t.Fatal(err)
	}
	next, err := serving{}.renewed(name, now)
	if err != nil {
		t.Fatal(err)
	}
	with := func(ca []byte) *unstructured.Unstructured {
		hook := func(name string) any {
			return map[string]any{"name": name, "clientConfig": map[string]any{"caBundle": b64(ca)}}
		}
		return &unstructured.Unstructured{Object: map[string]any{"webhooks": []any{hook("a.stranger.io"), hook(IdentityWebhook)}}}
	}
	hooks := []string{IdentityWebhook}
	if ops := registration(with(old[fileCACert]), hooks, old[fileCACert], true, now); ops != nil {
		t.Errorf("got %v", ops)
	}
	both := append(bytes.Clone(next[fileCACert]), old[fileCACert]...)
	ops := registration(with(old[fileCACert]), hooks, next[fileCACert], false, now)
	if len(ops) != 2 || ops[0] != (operation{"test", "/webhooks/1/name", IdentityWebhook}) || ops[1] != (operation{"add", "/webhooks/1/clientConfig/caBundle", b64(both)}) {
		t.Errorf("got %v", ops)
	}
	if ops = registration(with(both), hooks, next[fileCACert], false, now); ops != nil {
		t.Errorf("got %v", ops)
	}
	if ops = registration(with(both), hooks, next[fileCACert], true, now); len(ops) != 2 || ops[1].Value != b64(next[fileCACert]) {
		t.Errorf("got %v", ops)
	}
}

// TestFilesReload: a new certificate is served to new connections, a bad one is
// not, and the connections that stand go on.
func TestFilesReload(t *testing.T) {
	dir := t.TempDir()
	put := func(s serving) {
		for _, f := range []string{fileCert, fileKey} {
			if err := os.WriteFile(filepath.Join(dir, f), s[f], 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	one, err := serving{}.renewed(name, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	two, err := serving{}.renewed(name, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	f := &fileCerts{dir: dir, every: 10 * time.Millisecond, log: slog.New(slog.DiscardHandler)}
	if f.ready() == nil {
		t.Error("ready without a certificate")
	}
	put(one)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go f.run(ctx)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{GetCertificate: f.get})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	go echo(l)
	dial := func(s serving) *tls.Conn {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); ; {
			c, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{RootCAs: roots(s), ServerName: name})
			if err == nil {
				return c
			}
			if time.Now().After(deadline) {
				t.Fatal(err)
			}
		}
	}
	stands := dial(one)
	put(serving{fileCert: []byte("bad"), fileKey: []byte("bad")})
	_ = dial(one).Close()
	put(two)
	_ = dial(two).Close()
	if _, err := stands.Write([]byte("x")); err != nil {
		t.Error(err)
	}
	if n, err := stands.Read(make([]byte, 1)); n != 1 || err != nil {
		t.Error(n, err)
	}
}

func echo(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			b := make([]byte, 1)
			for {
				if _, err := c.Read(b); err != nil {
					return
				}
				if _, err := c.Write(b); err != nil {
					return
				}
			}
		}()
	}
}
