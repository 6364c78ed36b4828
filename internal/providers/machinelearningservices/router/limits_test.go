package router_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"lazurite.dev/internal/providers/machinelearningservices/router"
)

// trailed is what an answer ended with.
func trailed(t *testing.T, w *world, c *http.Client, size int, path string) (body string, trailer http.Header) {
	t.Helper()
	res, err := c.Do(w.request("POST", path, strings.Repeat("x", size)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%d %s %v", res.StatusCode, b, err)
	}
	return string(b), res.Trailer
}

func TestBandwidth(t *testing.T) {
	const in, out = "Ms-Azureml-Bandwidth-Request-Delay-Ms", "Ms-Azureml-Bandwidth-Response-Delay-Ms"
	serve := func(rw http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.URL.Path == "/stream" {
			_ = http.NewResponseController(rw).Flush()
		}
		_, _ = io.WriteString(rw, "ok")
	}
	for _, like := range []bool{true, false} {
		now := time.Now()
		w := newWorld(t, func(c *router.Config) { c.AzureLike, c.Now = like, func() time.Time { return now } })
		i, _ := w.runs("a", serve)
		w.fleetOf("blue", i)
		if _, trailer := trailed(t, w, w.client, 4_000_000, "/score"); trailer.Get(in) != "" || trailer.Get(out) != "" {
			t.Errorf("a second's worth: held back for %v", trailer)
		}
		began := time.Now()
		for name, c := range map[string]*http.Client{"HTTP/2": w.client, "HTTP/1.1": w.http1()} {
			for _, path := range []string{"/score", "/stream"} {
				body, trailer := trailed(t, w, c, 1_500_000, path)
				if body != "ok" || like && (trailer.Get(in) != "100" || trailer.Get(out) != "100") || !like && len(trailer) > 0 {
					t.Errorf("%s %s: got %q, held back for %v", name, path, body, trailer)
				}
				now = now.Add(300 * time.Millisecond) // as much as came
			}
		}
		if took := time.Since(began); like && took < 800*time.Millisecond {
			t.Errorf("eight times a tenth of a second took %s", took)
		}
	}
}

// What an endpoint has at once counts over all of its deployments.
func TestAtOnce_OfAnEndpoint(t *testing.T) {
	for _, like := range []bool{true, false} {
		w := newWorld(t, func(c *router.Config) { c.AzureLike = like })
		i, _ := w.runs("a", says("ok"))
		w.fleetOf("blue", i)
		w.router.Occupy(w.endpoint, 499) // by another deployment
		w.wants("the last that it takes", w.score("{}"), 200, "ok")
		w.router.Occupy(w.endpoint, 1)
		if like {
			w.wants("one more", w.score("{}"), 429, "more than 500 requests at once")
		} else {
			w.wants("one more", w.score("{}"), 200, "ok")
		}
		w.router.Occupy(w.endpoint, -500)
		w.wants("after them", w.score("{}"), 200, "ok")
		if n := w.router.Occupy(w.endpoint, 0); n != 0 {
			t.Errorf("%d are counted that are not there", n)
		}
	}
}

// What is held back of a body that comes while it is passed on is not the time of
// who sends it.
func TestBandwidth_TakesNoTimeOfTheUpload(t *testing.T) {
	w := newWorld(t, func(c *router.Config) { c.AzureLike = true })
	i, _ := w.runs("a", func(rw http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		_, _ = fmt.Fprint(rw, n)
	})
	w.fleetOf("blue", i)
	w.change(func(ep *router.Endpoint) { ep.Deployments["blue"].Timeout = 500 * time.Millisecond }) // also of a pause in the upload
	w.router.LimitUploads(time.Second)
	upload := func() (*http.Request, io.WriteCloser) {
		in, out := io.Pipe()
		r := w.request("POST", "/score", "")
		r.Body, r.ContentLength = in, -1
		return r, out
	}
	w.router.Spend(w.endpoint, 12_500_000) // by another request: it takes a second and a half until anything may come
	all := map[string]chan answer{}
	for name, c := range map[string]*http.Client{"HTTP/2": w.client, "HTTP/1.1": w.http1()} {
		r, out := upload()
		all[name] = make(chan answer, 1)
		got := all[name]
		go func() { got <- do(c, r) }()
		go func() {
			_, _ = io.WriteString(out, "12345")
			<-time.After(time.Second)
			_, _ = io.WriteString(out, "67890")
			_ = out.Close()
		}()
	}
	for name, got := range all {
		w.wants(name, <-got, 200, "10")
	}
	// Who sends nothing for long is still late.
	r, out := upload()
	go func() { _, _ = io.WriteString(out, "x") }()
	w.wants("one who stops", do(w.client, r), 408, "did not come in time")
	_ = out.Close()
}
