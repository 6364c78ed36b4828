package main

import (
	"context"
	"crypto/tls"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// within is how long a probe may take; a refusal comes sooner.
const within = 3 * time.Second

// probe says what becomes of a connection: who answered, "refused" or
// "silence". Targets are
//
//	tls ADDRESS NAME   TLS to an address for a name; who answers is its certificate's common name
//	name NAME          the same to port 443 of where the resolver says
//	status URL         the status of an answer, whoever gives it
//	lookup NAME        "answered" or "refused"
//	dial ADDRESS       a connection that is not cut off at once is "open"
//	udp ADDRESS        a datagram: "open" is an answer
//	dns HOW SERVER TYPE NAME [SNI]
//	                   a question, HOW is udp, tcp, tls or https; "answered", "empty" or "refused".
//	                   SERVER is an address with its port, or own
//	unix PATH          a socket in the file system, or with @ an abstract one
//	sockets            those that can be seen: paths outside of /proc and /sys, and abstract ones; or "none"
func probe(ctx context.Context, target string) string {
	f := strings.Fields(target)
	arg := func(i int) string {
		if i < len(f) {
			return f[i]
		}
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	switch arg(0) {
	case "tls":
		return secure(ctx, arg(1), arg(2))
	case "name":
		list, err := net.DefaultResolver.LookupIP(ctx, "ip4", arg(1))
		if err != nil || len(list) == 0 {
			return verdict(err)
		}
		return secure(ctx, net.JoinHostPort(list[0].String(), "443"), arg(1))
	case "lookup":
		if list, err := net.DefaultResolver.LookupIP(ctx, "ip4", arg(1)); err != nil || len(list) == 0 {
			return verdict(err)
		}
		return "answered"
	case "status":
		return status(ctx, arg(1))
	case "dial":
		return verdictOf(dial(arg(1)))
	case "udp":
		return datagram(arg(1))
	case "dns":
		return ask1035(ctx, arg(1), arg(2), arg(3), arg(4), arg(5))
	case "sockets":
		return sockets()
	case "unix":
		c, err := (&net.Dialer{}).DialContext(ctx, "unix", arg(1))
		if err == nil {
			_ = c.Close()
		}
		return verdictOf(err)
	}
	return "unknown"
}

// probes probes all targets at once, and gives a line for each: the target, a
// tab, and what became of it.
func probes(ctx context.Context, targets []string) string {
	lines := make([]string, len(targets))
	var all sync.WaitGroup
	for i, target := range targets {
		all.Go(func() { lines[i] = target + "\t" + probe(ctx, target) + "\n" })
	}
	all.Wait()
	return strings.Join(lines, "")
}

// sockets are all that a program here could connect to by a name.
func sockets() string {
	var found []string
	_ = filepath.WalkDir("/", func(path string, d fs.DirEntry, err error) error {
		switch {
		case path == "/proc" || path == "/sys":
			return fs.SkipDir
		case err == nil && d.Type()&fs.ModeSocket != 0: // what can't be read can't be connected to either
			found = append(found, path)
		}
		return nil
	})
	raw, err := os.ReadFile("/proc/net/unix")
	if err != nil {
		return err.Error()
	}
	for line := range strings.Lines(string(raw)) {
		if f := strings.Fields(line); len(f) > 7 && strings.HasPrefix(f[7], "@") {
			found = append(found, f[7])
		}
	}
	if len(found) == 0 {
		return "none"
	}
	return strings.Join(found, " ")
}

func secure(ctx context.Context, address, name string) string {
	c, err := (&tls.Dialer{Config: &tls.Config{ServerName: name, InsecureSkipVerify: true}}).DialContext(ctx, "tcp", address)
	if err != nil {
		return verdict(err)
	}
	defer c.Close()
	return c.(*tls.Conn).ConnectionState().PeerCertificates[0].Subject.CommonName
}

func status(ctx context.Context, url string) string {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err.Error()
	}
	res, err := (&http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}).RoundTrip(req)
	if err != nil {
		return verdict(err)
	}
	defer res.Body.Close()
	return strconv.Itoa(res.StatusCode)
}

func datagram(address string) string {
	c, err := net.Dial("udp", address)
	if err != nil {
		return "refused"
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return err.Error()
	}
	if _, err := c.Write([]byte("x")); err != nil {
		return verdict(err)
	}
	if _, err := c.Read(make([]byte, 16)); err != nil {
		return verdict(err)
	}
	return "open"
}

func verdictOf(err error) string {
	if err == nil {
		return "open"
	}
	return verdict(err)
}

func verdict(err error) string {
	if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
		return "silence"
	}
	return "refused"
}
