package redirect_test

import (
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"lazurite.dev/kube/webhook/redirect"
)

// TestApply redirects inside a network namespace of its own: connections to
// the address end here, but not those of the excepted user.
func TestApply(t *testing.T) {
	if os.Getuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("needs root")
		}
		t.Skip("needs root")
	}
	done := make(chan struct{})
	go func() { // the thread is in the namespace: it ends with the goroutine, locked
		defer close(done)
		runtime.LockOSThread()
		if err := syscall.Unshare(syscall.CLONE_NEWNET); err != nil {
			t.Error(err)
			return
		}
		inNamespace(t)
	}()
	<-done
}

func inNamespace(t *testing.T) {
	for _, args := range [][]string{{"link", "set", "lo", "up"}, {"route", "add", "local", "default", "dev", "lo"}, {"addr", "add", "10.9.9.9/32", "dev", "lo"}} {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Errorf("ip %v: %v: %s", args, err, out)
			return
		}
	}
	const uid = 1501
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Error(err)
		return
	}
	defer func() { _ = l.Close() }()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte("proxy"))
			_ = c.Close()
		}
	}()
	port := l.Addr().(*net.TCPAddr).Port
	for range 2 { // it may be applied again
		if err := redirect.Apply("169.254.169.254", 80, port, uid); err != nil {
			t.Error(err)
			return
		}
	}
	if got := read("169.254.169.254:80"); got != "proxy" {
		t.Errorf("got %q", got)
	}
	if got := read("169.254.169.254:81"); got != "" {
		t.Errorf("another port: got %q", got)
	}
	if got := read("169.254.169.253:80"); got != "" {
		t.Errorf("another address: got %q", got)
	}
	cmd := exec.Command("bash", "-c", "exec 3<>/dev/tcp/169.254.169.254/80 && cat <&3")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	if out, err := cmd.Output(); err == nil || len(out) != 0 {
		t.Errorf("the proxy's own user came to %q", out)
	}
	if err := redirect.Apply("::1", 80, port, uid); err == nil {
		t.Error("no IPv4 address, and no error")
	}
}

func read(addr string) string {
	c, err := (&net.Dialer{Timeout: 2 * time.Second}).Dial("tcp", addr)
	if err != nil {
		return ""
	}
	defer func() { _ = c.Close() }()
	b, _ := io.ReadAll(c)
	return string(b)
}
