package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"syscall"

	"lazurite.dev/internal/node"
)

// networkRoutes are the questions about virtual networks.
func (a api) networkRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/networks", answer(func(r *http.Request) (any, error) { return a.m.virtual.status(r.Context()), nil }))
	mux.HandleFunc("POST /v1/networks", answer(func(r *http.Request) (any, error) {
		raw, err := io.ReadAll(io.LimitReader(r.Body, maxSpec+1))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", node.ErrInvalid, err)
		}
		n, err := node.DecodeNetwork(raw)
		if err != nil {
			return nil, err
		}
		return struct{}{}, a.m.virtual.apply(r.Context(), n)
	}))
	mux.HandleFunc("DELETE /v1/networks/{uid}", answer(func(r *http.Request) (any, error) {
		return struct{}{}, a.m.virtual.remove(r.Context(), r.PathValue("uid"))
	}))
	mux.HandleFunc("POST /v1/networks/{uid}/listen", a.listenNetwork)
	mux.HandleFunc("POST /v1/networks/{uid}/join", a.join)
}

func (a api) listenNetwork(w http.ResponseWriter, r *http.Request) {
	at, err := netip.ParseAddrPort(r.URL.Query().Get("at"))
	if err != nil {
		err = fmt.Errorf("%w: %w", node.ErrInvalid, err)
	}
	var f *os.File
	if err == nil {
		f, err = a.m.virtual.listen(r.PathValue("uid"), r.URL.Query().Get("network"), at)
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

// send answers with v, and the file beside it. The connection is the caller's
// then; nil where that came to nothing.
func (a api) send(w http.ResponseWriter, f *os.File, v any) net.Conn {
	body, err := json.Marshal(v)
	if err != nil {
		refuse(w, http.StatusInternalServerError, err)
		return nil
	}
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		refuse(w, http.StatusInternalServerError, err)
		return nil
	}
	u, ok := conn.(*net.UnixConn)
	if !ok {
		_ = conn.Close()
		return nil
	}
	head := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(body), body)
	if _, _, err := u.WriteMsgUnix([]byte(head), syscall.UnixRights(int(f.Fd())), nil); err != nil {
		a.m.log.Warn("a file was not sent", slog.String("error", err.Error()))
		_ = conn.Close()
		return nil
	}
	return conn
}

// join makes a place, and keeps it as long as the connection lasts.
func (a api) join(w http.ResponseWriter, r *http.Request) {
	s := a.m.virtual
	v, slot, seat, err := s.join(r.Context(), r.PathValue("uid"), r.URL.Query().Get("subnet"))
	if err != nil {
		refuse(w, http.StatusConflict, err)
		return
	}
	end := func() {
		if err := s.leave(context.WithoutCancel(r.Context()), v, slot, seat); err != nil {
			a.m.log.Warn("a place in a network was not taken away", slog.String("network", v.spec.Name), slog.String("error", err.Error()))
		}
	}
	defer end()
	f, err := os.Open(seat.space.NetPath())
	if err != nil {
		refuse(w, http.StatusInternalServerError, err)
		return
	}
	conn := a.send(w, f, seat.Member)
	_ = f.Close() // the client has its own
	if conn == nil {
		return
	}
	defer conn.Close()
	stop := context.AfterFunc(a.m.stopping, func() { _ = conn.Close() })
	defer stop()
	_, _ = io.Copy(io.Discard, conn) // until the client is gone
}
