package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"lazurite.dev/internal/node"
)

// The limits of a request.
const (
	maxSpec  = 1 << 20  // bytes
	maxImage = 16 << 30 // bytes
)

// caller is the key of the asking process's user in a connection's context.
type caller struct{}

func newServer(m *machine) *http.Server {
	a := api{m}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/info", answer(func(*http.Request) (any, error) { return m.info(), nil }))
	mux.HandleFunc("GET /v1/clusters", answer(a.status))
	mux.HandleFunc("POST /v1/clusters", a.apply)
	mux.HandleFunc("DELETE /v1/clusters/{uid}", answer(a.remove))
	mux.HandleFunc("GET /v1/clusters/{uid}/admin", answer(of(m, func(c *cluster, _ *http.Request) (any, error) { return c.admin() })))
	mux.HandleFunc("POST /v1/clusters/{uid}/listen", a.listen)
	mux.HandleFunc("POST /v1/clusters/{uid}/dial", a.dial)
	mux.HandleFunc("GET /v1/clusters/{uid}/images", answer(of(m, func(c *cluster, r *http.Request) (any, error) { return c.images(r.Context()) })))
	mux.HandleFunc("POST /v1/clusters/{uid}/images", answer(of(m, a.loadImage)))
	mux.HandleFunc("DELETE /v1/clusters/{uid}/images", answer(of(m, func(c *cluster, r *http.Request) (any, error) {
		return struct{}{}, c.removeImage(r.Context(), r.URL.Query().Get("name"))
	})))
	a.networkRoutes(mux)
	mux.HandleFunc("POST /v1/stop", answer(a.end(false)))
	mux.HandleFunc("POST /v1/purge", answer(a.end(true)))
	return &http.Server{
		Handler:           owned(m, mux),
		ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(m.log.Handler(), slog.LevelWarn),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, caller{}, userOf(c))
		},
	}
}

// userOf is the user of the process at the other end, SO_PEERCRED of unix(7);
// -1 when the kernel does not say.
func userOf(c net.Conn) int {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return -1
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return -1
	}
	uid := -1
	err = raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			uid = int(cred.Uid)
		}
	})
	if err != nil {
		return -1
	}
	return uid
}

// owned lets the owner of the state folder in, and root.
func owned(m *machine, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		uid, ok := r.Context().Value(caller{}).(int)
		if !ok || uid != m.opt.Owner && uid != 0 {
			m.log.Warn("a stranger asked", slog.Int("user", uid))
			refuse(w, http.StatusForbidden, errors.New("this node agent is another user's"))
			return
		}
		if r.URL.Path == "/v1/alive" { // answered while everything else waits
			w.WriteHeader(http.StatusNoContent)
			return
		}
		select {
		case <-m.loaded:
			next.ServeHTTP(w, r)
		case <-r.Context().Done():
		}
	})
}

func refuse(w http.ResponseWriter, status int, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(node.FaultOf(err)) // who went away needs no answer
}

// answer makes f a handler.
func answer(f func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, err := f(r)
		if err != nil {
			refuse(w, http.StatusConflict, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v) // who went away needs no answer
	}
}

// of finds the cluster that the path names.
func of(m *machine, f func(*cluster, *http.Request) (any, error)) func(*http.Request) (any, error) {
	return func(r *http.Request) (any, error) {
		c, err := m.cluster(r.PathValue("uid"))
		if err != nil {
			return nil, err
		}
		return f(c, r)
	}
}

type api struct{ m *machine }

func (a api) status(r *http.Request) (any, error) {
	all := a.m.all()
	out := make([]node.ClusterStatus, len(all))
	var wait sync.WaitGroup
	for i, c := range all {
		wait.Go(func() { out[i] = c.status(r.Context()) })
	}
	wait.Wait()
	return out, nil
}

// apply answers with a line of JSON for each phase, and one for the end.
func (a api) apply(w http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxSpec+1))
	if err != nil {
		refuse(w, http.StatusBadRequest, fmt.Errorf("%w: %w", node.ErrInvalid, err))
		return
	}
	spec, err := node.DecodeCluster(raw)
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	c, err := a.m.claim(spec)
	if err != nil {
		refuse(w, http.StatusConflict, err)
		return
	}
	w.Header().Set("Content-Type", "application/jsonl")
	out := json.NewEncoder(w)
	flush := http.NewResponseController(w)
	var mu sync.Mutex // one line at a time
	say := func(p node.Progress) {
		mu.Lock()
		defer mu.Unlock()
		// Who went away ends the request's context, and with it the work.
		_ = errors.Join(out.Encode(p), flush.Flush())
	}
	err = c.apply(r.Context(), spec, func(p node.Phase) { say(node.Progress{Phase: &p}) })
	end := node.Progress{End: true}
	if err != nil {
		f := node.FaultOf(err)
		end.Fault = &f
	}
	say(end)
}

func (a api) remove(r *http.Request) (any, error) {
	c, err := a.m.cluster(r.PathValue("uid"))
	if errors.Is(err, node.ErrNotFound) {
		return struct{}{}, nil
	}
	if err != nil {
		return nil, err
	}
	return struct{}{}, c.remove(r.Context())
}

func (a api) loadImage(c *cluster, r *http.Request) (any, error) {
	return c.loadImage(r.Context(), io.LimitReader(r.Body, maxImage))
}

// listen sends the socket beside the answer.
func (a api) listen(w http.ResponseWriter, r *http.Request) {
	c, err := a.m.cluster(r.PathValue("uid"))
	var f *os.File
	if err == nil {
		port, bad := strconv.Atoi(r.URL.Query().Get("port"))
		if bad != nil {
			port = -1
		}
		f, err = c.listen(r.URL.Query().Get("network"), port)
	}
	if err != nil {
		refuse(w, http.StatusConflict, err)
		return
	}
	defer f.Close()
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		refuse(w, http.StatusInternalServerError, err)
		return
	}
	defer conn.Close()
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return
	}
	const head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 3\r\nConnection: close\r\n\r\n{}\n"
	if _, _, err := u.WriteMsgUnix([]byte(head), syscall.UnixRights(int(f.Fd())), nil); err != nil {
		a.m.log.Warn("a socket was not sent", slog.String("error", err.Error()))
	}
}

// dial sends a connection to a pod beside the answer.
func (a api) dial(w http.ResponseWriter, r *http.Request) {
	at, err := netip.ParseAddrPort(r.URL.Query().Get("at"))
	if err != nil {
		err = fmt.Errorf("%w: %w", node.ErrInvalid, err)
	}
	var c *cluster
	if err == nil {
		c, err = a.m.cluster(r.PathValue("uid"))
	}
	var f *os.File
	if err == nil {
		f, err = c.dial(r.Context(), at)
	}
	if err != nil {
		refuse(w, http.StatusConflict, err)
		return
	}
	defer f.Close()
	if conn := a.send(w, f, struct{}{}); conn != nil {
		_ = conn.Close() // everything is sent
	}
}

// end stops everything; the agent ends when the answer is on its way.
func (a api) end(erasing bool) func(*http.Request) (any, error) {
	return func(r *http.Request) (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), stopTime)
		defer cancel()
		return struct{}{}, a.m.end(ctx, erasing)
	}
}
