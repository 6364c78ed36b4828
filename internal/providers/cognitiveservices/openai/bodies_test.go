package openai_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"lazurite.dev/internal/arrival"
	"lazurite.dev/internal/providers/cognitiveservices/openai"
)

// TestBodies_AreBounded: a caller has a part of the memory for prompts, and
// only until the model begins to answer.
func TestBodies_AreBounded(t *testing.T) {
	w := newWorld(t, func(c *openai.Config) { c.MostBodies = 64 << 10 })
	w.standard()
	padded := func(n int) string { return `{"messages":[],"user":"` + strings.Repeat("x", n) + `"}` }
	for range 3 {
		w.want(200, "", me, "POST", chat, padded(12<<10))
	}
	a := w.want(503, "ServiceUnavailable", me, "POST", chat, padded(20<<10))
	if a.Header.Get("Retry-After") != "1" {
		t.Errorf("%v", a.Header)
	}
	w.want(200, "", me, "POST", chat, padded(12<<10)) // what was refused is let go too

	w.backs(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(rw, word)
		rw.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	for range 3 { // open at once, and more than the caller's part
		lines, cancel := w.open(t, `{"stream":true,`+padded(10 << 10)[1:])
		t.Cleanup(cancel)
		if line, err := lines.ReadString('\n'); err != nil || !strings.HasPrefix(line, "data:") {
			t.Fatalf("%q, %v", line, err)
		}
	}
	if got := w.metric("laz_openai_requests_total", "acc", "dd", "503"); got != 1 {
		t.Errorf("%v refusals counted", got)
	}
}

// TestLimits_ComeBeforeTheBody: whoever is out of requests is not read.
func TestLimits_ComeBeforeTheBody(t *testing.T) {
	w := newWorld(t)
	w.account("acc", "")
	w.deploy("acc", "dd", "gpt-4o-mini", "2024-07-18", 1, "")
	for range 6 {
		w.want(200, "", me, "POST", chat, hello)
	}
	r := httptest.NewRequestWithContext(arrival.With(t.Context(), w.from), "POST", chat, iotest.ErrReader(errors.New("it was read")))
	authenticate(r, me)
	rec := httptest.NewRecorder()
	w.data.ServeHTTP(rec, r)
	if rec.Code != 429 {
		t.Errorf("got %d %s", rec.Code, rec.Body)
	}
}

// TestMetering_RefusalsCountToo: also those that came to no deployment.
func TestMetering_RefusalsCountToo(t *testing.T) {
	w := newWorld(t)
	w.standard()
	w.want(404, "DeploymentNotFound", me, "POST", strings.Replace(chat, "/dd/", "/none/", 1), hello)
	w.want(401, "401", "wrong", "POST", chat, hello)
	w.want(400, "BadRequest", me, "POST", chat, `{"messages":`)
	for _, labels := range [][]string{{"acc", "", "chat/completions", "404"}, {"acc", "", "none", "401"}, {"acc", "dd", "chat/completions", "400"}} {
		if got := w.metric("laz_openai_requests_total", labels...); got != 1 {
			t.Errorf("%v: %v counted", labels, got)
		}
	}
}

// TestMetering_EndsWithWhatIsDeleted: what is gone makes room for what comes.
func TestMetering_EndsWithWhatIsDeleted(t *testing.T) {
	w := newWorld(t)
	w.standard()
	w.deploy("acc", "ee", "gpt-4o-mini", "2024-07-18", 100, "")
	w.account("bcc", "")
	w.deploy("bcc", "dd", "gpt-4o-mini", "2024-07-18", 100, "")
	other := strings.Replace(chat, "acc.", "bcc.", 1)
	counted := func(labels ...string) float64 { t.Helper(); return w.metric("laz_openai_requests_total", labels...) }
	w.want(200, "", me, "POST", chat, hello)
	w.want(200, "", me, "POST", other, hello)
	w.want(404, "DeploymentNotFound", me, "POST", strings.Replace(other, "/dd/", "/none/", 1), hello)

	w.arm.Settle(w.arm.Do("DELETE", accountID+"acc/deployments/dd"+mgmt, ""))
	w.arm.Settle(w.arm.Do("DELETE", accountID+"bcc"+mgmt, ""))
	if counted("acc", "dd") != 1 || counted("bcc") != 2 {
		t.Error("they ended before anything new came")
	}
	w.mu.Lock()
	w.now = w.now.Add(2 * time.Minute)
	w.mu.Unlock()
	w.want(200, "", me, "POST", strings.Replace(chat, "/dd/", "/ee/", 1), hello)
	if got := counted("acc", "ee"); got != 1 {
		t.Errorf("the new one has %v", got)
	}
	for _, gone := range [][]string{{"acc", "dd"}, {"bcc", "dd"}, {"bcc"}} {
		if got := counted(gone...) + w.metric("laz_openai_tokens_total", gone...); got != 0 {
			t.Errorf("%v is still counted: %v", gone, got)
		}
	}
}
