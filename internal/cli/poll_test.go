package cli

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestPhases(t *testing.T) {
	s, sess := newStandIn(t)
	asked := 0
	s.answer("PUT /subscriptions/sub/x", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Azure-AsyncOperation", s.URL+"/subscriptions/sub/op")
		w.Header().Set("retry-after-ms", "1")
		w.Header().Set(warningHeader, "mind the gap")
		w.WriteHeader(http.StatusCreated)
		fmt.Fprint(w, `{"properties":{"provisioningState":"Creating"}}`)
	})
	s.answer("GET /subscriptions/sub/op", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("retry-after-ms", "1")
		asked++
		fmt.Fprint(w, []string{
			`{"status":"InProgress","percentComplete":10,"properties":{"phases":[{"name":"etcd"}]}}`,
			`{"status":"InProgress","percentComplete":40,"properties":{"phases":[{"name":"etcd","done":true,"took":1500000000},{"name":"api server","detail":"starting\u001b[2J"}]}}`,
			`{"status":"Succeeded"}`,
		}[min(asked, 3)-1])
	})
	s.answer("GET /subscriptions/sub/x", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"name":"x"}`) })
	stderr := sess.env.Stderr.(*bytes.Buffer)
	for _, terminal := range []bool{true, false} {
		asked = 0
		stderr.Reset()
		sess.env.IsTerminal = func(io.Writer) bool { return terminal }
		if _, err := managed(t, sess).put(t.Context(), "/subscriptions/sub/x", "2025-01-01", object{}, false); err != nil {
			t.Fatal(err)
		}
		got := stderr.String()
		if !strings.Contains(got, "WARNING: mind the gap\n") || strings.Contains(got, "\x1b[2J") {
			t.Errorf("terminal %v: got %q", terminal, got)
		}
		for _, want := range []string{"etcd", "1.5 s\n", "40 % api server (starting [2J)"} {
			if strings.Contains(got, want) != terminal {
				t.Errorf("terminal %v: %q in %q", terminal, want, got)
			}
		}
	}
}
