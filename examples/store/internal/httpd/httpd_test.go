package httpd_test

import (
	"context"
	"net"
	"net/http"
	"testing"
	"time"

	"lazurite.dev/examples/store/internal/httpd"
)

// A server that is told to end finishes what it has begun.
func TestServeEnds(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	begun := make(chan struct{})
	ctx, end := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- httpd.Serve(ctx, "test", listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			close(begun)
			<-ctx.Done()
			httpd.JSON(w, http.StatusOK, "done")
		}))
	}()
	go func() { <-begun; end() }()
	answer, err := http.Get("http://" + listener.Addr().String() + "/")
	if err != nil || answer.StatusCode != 200 {
		t.Fatalf("got %v %v", answer, err)
	}
	_ = answer.Body.Close()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("it did not end")
	}
}
