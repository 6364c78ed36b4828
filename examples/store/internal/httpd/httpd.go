// Package httpd is what the store's services share: a server that ends when it
// is told to, paths with doubled slashes, and answers in JSON.
package httpd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path"
	"strings"
	"syscall"
	"time"
)

// MaxBody is the longest request body that a service reads, in bytes.
const MaxBody = 64 << 10

// Main runs the service name on every address at PORT, port where that is not
// set, until the process is asked to end. It returns the exit status.
func Main(name, port string, handler http.Handler) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	listener, err := net.Listen("tcp", net.JoinHostPort("", Env("PORT", port)))
	if err == nil {
		err = Serve(ctx, name, listener, handler)
	}
	if err != nil {
		slog.Error(name+" ended", "error", err)
		return 1
	}
	return 0
}

// Serve answers on listener until ctx ends, and then finishes what it has begun.
func Serve(ctx context.Context, name string, listener net.Listener, handler http.Handler) error {
	server := &http.Server{
		Handler:           Logged(Slashes(handler)),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
	}
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		return fmt.Errorf("the address %s: %w", listener.Addr(), err)
	}
	slog.Info(name+" listens on http://0.0.0.0:"+port, "version", Version())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return server.Shutdown(limit)
}

// Version is what /health calls this build: APP_VERSION, as the images of
// aks-store-demo have it.
func Version() string { return Env("APP_VERSION", "dev") }

// Env is the variable name, or otherwise where it is empty.
func Env(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}

// Slashes makes //health what /health is: clients join URLs that end in a slash.
func Slashes(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "//") {
			r = r.Clone(r.Context())
			r.URL.Path, r.URL.RawPath = path.Clean("/"+r.URL.Path), ""
		}
		next.ServeHTTP(w, r)
	})
}

// Logged writes a line for every request but the probes of /health, and nothing
// of what is in it.
func Logged(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen, started := &status{ResponseWriter: w, code: http.StatusOK}, time.Now()
		next.ServeHTTP(seen, r)
		if strings.HasSuffix(r.URL.Path, "/health") && seen.code < 400 {
			return
		}
		slog.Info("request", "method", r.Method, "path", r.URL.Path, "status", seen.code, "took", time.Since(started).Round(time.Millisecond))
	})
}

// status remembers what was answered.
type status struct {
	http.ResponseWriter
	code int
}

func (s *status) WriteHeader(code int) {
	s.code = code
	s.ResponseWriter.WriteHeader(code)
}

// Unwrap is for http.ResponseController.
func (s *status) Unwrap() http.ResponseWriter { return s.ResponseWriter }

// JSON answers with v.
func JSON(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v) // who asked may be gone
}

// Detail answers with what went wrong and what to do, in the form that
// aks-store-demo's services have.
func Detail(w http.ResponseWriter, code int, format string, args ...any) {
	JSON(w, code, map[string]string{"detail": fmt.Sprintf(format, args...)})
}

// Read decodes the request's body into v. Where it cannot, it has answered.
func Read(w http.ResponseWriter, r *http.Request, v any) bool {
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, MaxBody))
	err := decoder.Decode(v)
	if err == nil {
		if _, more := decoder.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("there is more than one value in it")
		}
	}
	var tooLong *http.MaxBytesError
	switch {
	case err == nil:
		return true
	case errors.As(err, &tooLong):
		Detail(w, http.StatusRequestEntityTooLarge, "The request is longer than %d bytes.", tooLong.Limit)
	default:
		Detail(w, http.StatusUnprocessableEntity, "The request is not the JSON that is expected here: %v", err)
	}
	return false
}

// Direct is a transport that asks no proxy: services of one store are neighbours.
func Direct() *http.Transport {
	t := &http.Transport{
		DialContext:           (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		MaxIdleConnsPerHost:   16,
		IdleConnTimeout:       time.Minute,
		ResponseHeaderTimeout: 2 * time.Minute,
	}
	return t
}
