package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// bareName is the name in the certificate of the bare server.
const bareName = "bare.lazurite.test"

// serveBare is the limit of what is measured over HTTPS: Go's own server with a
// handler that answers a fixed text, under /sign after one RSA-2048 signature
// and one verification. To a POST it answers as much as a token. With the URL of
// a server it is Go's reverse proxy in front of that instead, or the router of
// online endpoints. It prints its
// address and certificate.
func serveBare(ctx context.Context, to string, scoring bool) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: bareName}, DNSNames: []string{bareName},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	text := func(size int) []byte { return []byte(`{"value":"` + strings.Repeat("x", size) + `"}`) }
	secret, token := text(300), text(1700) // as long as ours
	signer, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			answer := secret
			if r.Method == http.MethodPost {
				answer = token
				if _, err := io.Copy(io.Discard, r.Body); err != nil {
					return // the client went away
				}
			}
			if r.URL.Path == "/sign" {
				if err := verifyAndSign(signer); err != nil {
					http.Error(w, err.Error(), http.StatusInternalServerError)
					return
				}
			}
			w.Header().Set("Content-Type", "application/json; charset=utf-8")
			_, _ = w.Write(answer) // the client measures what it got
		}),
		TLSConfig:         &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}},
		ReadHeaderTimeout: 10 * time.Second,
	}
	switch {
	case scoring:
		srv.Handler, err = serveScoring(ctx, to)
	case to != "":
		srv.Handler, err = reverseProxy(to)
	}
	if err != nil {
		return err
	}
	fmt.Println(ln.Addr())
	if err := pem.Encode(os.Stdout, &pem.Block{Type: "CERTIFICATE", Bytes: der}); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.ServeTLS(ln, "", ""); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// reverseProxy is Go's, in front of a server.
func reverseProxy(to string) (http.Handler, error) {
	u, err := url.Parse(to)
	if err != nil {
		return nil, err
	}
	proxy := &httputil.ReverseProxy{FlushInterval: -1, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(u) },
		Transport: &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true}, ErrorLog: log.New(io.Discard, "", 0)}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex() // or an early answer ends the request, and with it itself
		proxy.ServeHTTP(w, r)
	}), nil
}

// bareProcess is serveBare in a process of its own.
type bareProcess struct {
	pid  int
	addr string
	ca   []byte
	stop func() error
}

// trust is how a client trusts the bare server.
func (b *bareProcess) trust() *tls.Config {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(b.ca)
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, ServerName: bareName}
}

func startBare(ctx context.Context, words ...string) (*bareProcess, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, append([]string{"-bare"}, words...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	b := &bareProcess{pid: cmd.Process.Pid, stop: func() error {
		if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
			return err
		}
		return cmd.Wait()
	}}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		line := lines.Text()
		switch {
		case b.addr == "":
			b.addr = line
		default:
			b.ca = append(b.ca, line+"\n"...)
		}
		if strings.HasPrefix(line, "-----END") {
			return b, nil
		}
	}
	return nil, errors.Join(errors.New("the bare server ended"), cmd.Wait())
}

// client asks it over HTTP/2, or over HTTP/1.1 alone.
func (b *bareProcess) client(two bool) *http.Client {
	return &http.Client{Transport: spoken(&http.Transport{TLSClientConfig: b.trust()}, two)}
}

// spoken is t for one version of HTTP.
func spoken(t *http.Transport, two bool) *http.Transport {
	t = t.Clone()
	t.ForceAttemptHTTP2 = two
	if !two {
		t.TLSClientConfig.NextProtos, t.TLSNextProto = []string{"http/1.1"}, map[string]func(string, *tls.Conn) http.RoundTripper{}
	}
	return t
}
