package daemon_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"lazurite.dev/internal/server"
)

// adminSocket is a server that answers on the admin socket alone: what `laz
// run` does with the answers is the question here. Each token lives two seconds.
func adminSocket(t *testing.T) *laz {
	t.Helper()
	l := &laz{t: t, home: filepath.Join(t.TempDir(), "home")}
	h := server.Home(l.home)
	if err := h.Make(); err != nil {
		t.Fatal(err)
	}
	lock, err := os.Create(filepath.Join(h.Run(), "lock"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lock.Close() })
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	raw, _ := json.Marshal(server.Endpoint{Proxy: "http://127.0.0.1:9", CA: "/ca", OwnCA: "/own"})
	if err := os.WriteFile(h.Endpoint(), raw, 0o600); err != nil {
		t.Fatal(err)
	}
	path, done, err := h.SocketPath()
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	var n atomic.Int32
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/serviceaccount-token", func(w http.ResponseWriter, r *http.Request) {
		var q server.TokenRequest
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil || q.Namespace != "default" {
			w.WriteHeader(404)
			fmt.Fprint(w, `{"error":{"code":"NoCluster","message":"There is no cluster."}}`)
			return
		}
		_ = json.NewEncoder(w).Encode(server.TokenAnswer{
			Token: fmt.Sprintf("token %d for %s in %s", n.Add(1), q.Name, q.Cluster), Expires: time.Now().Add(2 * time.Second),
			ClientID: "the-client", TenantID: "the-tenant", AuthorityHost: "https://login.microsoftonline.com/",
		})
	})
	mux.HandleFunc("POST /v1/run-secret", func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(w).Encode(server.RunAnswer{Secret: "s3cret", ClientID: "the-client", TenantID: "the-tenant"})
	})
	mux.HandleFunc("POST /v1/run-end", func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		_ = os.WriteFile(filepath.Join(l.home, "ended"), raw, 0o600)
		_, _ = io.WriteString(w, "{}")
	})
	srv := &http.Server{Handler: mux}
	go func() { _ = srv.Serve(ln) }()
	t.Cleanup(func() { srv.Close() })
	return l
}

func TestRun_AsServiceAccount(t *testing.T) {
	l := adminSocket(t)
	l.env = []string{"AZURE_CLIENT_SECRET=another's"}
	out := l.ok("run", "--as", "default/sa", "--cluster", "c1", "--", "sh", "-c",
		`echo "$AZURE_CLIENT_ID $AZURE_TENANT_ID $AZURE_AUTHORITY_HOST ($AZURE_CLIENT_SECRET)"; cat "$AZURE_FEDERATED_TOKEN_FILE"; echo; stat -c '%a' "$AZURE_FEDERATED_TOKEN_FILE" "$(dirname "$AZURE_FEDERATED_TOKEN_FILE")"; echo "$AZURE_FEDERATED_TOKEN_FILE"`)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	want := []string{"the-client the-tenant https://login.microsoftonline.com/ ()", "token 1 for sa in c1", "600", "700"}
	for i, w := range want {
		if i >= len(lines) || lines[i] != w {
			t.Fatalf("got %q, want %q", lines, want)
		}
	}
	if _, err := os.Stat(lines[4]); !os.IsNotExist(err) {
		t.Errorf("the token stays after the program: %v", err)
	}
	l.run("run", "--as", "other/sa", "--", "true").want(t, 1, "(NoCluster) There is no cluster.")
}

func TestRun_TokenIsRenewed(t *testing.T) {
	l := adminSocket(t)
	out := l.ok("run", "--as", "default/sa", "--", "sh", "-c",
		`i=0; while [ $i -lt 200 ]; do grep -q "token 2" "$AZURE_FEDERATED_TOKEN_FILE" && { echo renewed; exit; }; i=$((i+1)); sleep 0.05; done`)
	if out != "renewed\n" {
		t.Errorf("got %q, want renewed", out)
	}
}

func TestRun_ManagedIdentity(t *testing.T) {
	l := adminSocket(t)
	out := l.ok("run", "--identity", "id1", "--", "sh", "-c", `echo "$IDENTITY_ENDPOINT $IDENTITY_HEADER $AZURE_CLIENT_ID $HTTP_PROXY $HTTPS_PROXY"`)
	if want := "http://127.0.0.1:9/msi/token s3cret the-client http://run:s3cret@127.0.0.1:9 http://127.0.0.1:9\n"; out != want {
		t.Errorf("got %q, want %q", out, want)
	}
	if raw, err := os.ReadFile(filepath.Join(l.home, "ended")); string(raw) != `{"secret":"s3cret"}` {
		t.Errorf("when the program had ended the server was told %q, %v", raw, err)
	}
}

func TestRun_SupervisedStatusAndSignals(t *testing.T) {
	l := adminSocket(t)
	l.run("run", "--as", "default/sa", "--", "sh", "-c", "exit 7").want(t, 7)
	l.run("run", "--as", "default/sa", "--", "sh", "-c", "kill -TERM $$").want(t, 128+15)

	flag := filepath.Join(t.TempDir(), "started")
	cmd := l.command("run", "--as", "default/sa", "--", "sh", "-c",
		`trap 'echo got; exit 3' TERM; touch "$0"; while :; do sleep 0.02; done`, flag)
	var out strings.Builder
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "started", func() bool { _, err := os.Stat(flag); return err == nil })
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if got := cmd.ProcessState.ExitCode(); got != 3 || out.String() != "got\n" {
		t.Errorf("got status %d and %q, want 3 and the program's own end", got, out.String())
	}
}
