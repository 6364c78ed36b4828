package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// types are those of questions. Source: RFC 1035 section 3.2.2.
var types = map[string]uint16{"A": 1, "NULL": 10, "TXT": 16}

// ask1035 asks a question of a resolver: "own" is the one that the system
// names. It is "answered", "empty", "refused" or "silence".
// Source: RFC 1035, 7766, 7858 (tls), 8484 (https).
func ask1035(ctx context.Context, transport, server, typ, name, sni string) string {
	if server == "own" {
		server = net.JoinHostPort(nameserver(), "53")
	}
	q := binary.BigEndian.AppendUint16(nil, uint16(rand.N(1<<16)))
	q = append(q, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0) // recursion desired; one question
	for _, label := range strings.Split(name, ".") {
		q = append(append(q, byte(len(label))), label...)
	}
	q = binary.BigEndian.AppendUint16(append(q, 0), types[typ])
	a, err := exchange(ctx, transport, server, sni, append(q, 0, 1))
	switch {
	case err != nil:
		return verdict(err)
	case len(a) < 12 || !bytes.Equal(a[:2], q[:2]) || a[3]&0xF != 0:
		return "refused"
	case a[6] == 0 && a[7] == 0:
		return "empty"
	}
	return "answered"
}

// nameserver is the first of resolv.conf(5).
func nameserver() string {
	raw, _ := os.ReadFile("/etc/resolv.conf") // none is no address
	for line := range strings.Lines(string(raw)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "nameserver" {
			return f[1]
		}
	}
	return ""
}

func exchange(ctx context.Context, transport, server, sni string, q []byte) ([]byte, error) {
	trust := &tls.Config{ServerName: sni, InsecureSkipVerify: true}
	if transport == "https" {
		to := &http.Transport{TLSClientConfig: trust, DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, server)
		}}
		defer to.CloseIdleConnections()
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+sni+"/dns-query", bytes.NewReader(q))
		if err != nil {
			return nil, err
		}
		req.Header.Set("Content-Type", "application/dns-message")
		res, err := to.RoundTrip(req)
		if err != nil {
			return nil, err
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK {
			return nil, errors.New(res.Status)
		}
		return io.ReadAll(res.Body)
	}
	c, err := (&net.Dialer{}).DialContext(ctx, map[bool]string{true: "udp", false: "tcp"}[transport == "udp"], server)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if transport == "tls" {
		c = tls.Client(c, trust)
	}
	if deadline, ok := ctx.Deadline(); ok {
		if err := c.SetDeadline(deadline); err != nil {
			return nil, err
		}
	}
	if transport == "udp" {
		if _, err := c.Write(q); err != nil {
			return nil, err
		}
		buf := make([]byte, 4096)
		n, err := c.Read(buf)
		return buf[:n], err
	}
	if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(q))), q...)); err != nil {
		return nil, err
	}
	var size [2]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return nil, err
	}
	a := make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err = io.ReadFull(c, a)
	return a, err
}

// answers serves probes: a POST of targets, one a line, is answered with what
// became of each. All are tried at once.
func answers(ctx context.Context, port string) error {
	s := &http.Server{Addr: ":" + port, ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			return // Kubernetes asks whether we live
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		_, _ = io.WriteString(w, probes(r.Context(), strings.Split(strings.TrimSpace(string(body)), "\n"))) // who asked may be gone
	})}
	go func() {
		<-ctx.Done()
		_ = s.Close() // the program ends with it
	}()
	if _, err := strconv.Atoi(port); err != nil {
		return err
	}
	if err := s.ListenAndServe(); ctx.Err() == nil {
		return err
	}
	return nil
}
