package inference_test

import (
	"encoding/pem"
	"io"
	"log"
	"net/http/httptest"
	"runtime"
	"testing"
	"time"
)

func goroutines() int { return runtime.NumGoroutine() }

// eventually waits until ok says yes.
func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(10 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Error("it never came")
			return
		}
	}
}

func quiet() *log.Logger { return log.New(io.Discard, "", 0) }

func certificatePEM(s *httptest.Server) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
}

// pass lets the clock of a synctest's bubble go on.
func pass(d time.Duration) { <-time.After(d) }
