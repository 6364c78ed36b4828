package inference_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/inference"
)

// switchable is a backend in this process that a test breaks and mends.
type switchable struct {
	broken atomic.Bool // nobody answers
	hangs  atomic.Bool // nobody answers, ever
	deaf   atomic.Bool // hangs, but lists its models
	calls  atomic.Int64
	probes atomic.Int64
}

func (s *switchable) RoundTrip(r *http.Request) (*http.Response, error) {
	probe := strings.HasSuffix(r.URL.Path, "/models")
	if probe {
		s.probes.Add(1)
	} else {
		s.calls.Add(1)
	}
	switch {
	case s.broken.Load():
		return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	case s.hangs.Load() || s.deaf.Load() && !probe:
		<-r.Context().Done()
		return nil, context.Cause(r.Context())
	}
	return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("{}")), ContentLength: 2}, nil
}

// with is the catalogue of catalog whose backends are in this process.
func with(t *testing.T, config map[string]inference.BackendConfig, transports map[string]http.RoundTripper) *inference.Catalog {
	t.Helper()
	var list []inference.BackendConfig
	for _, name := range []string{"a", "b", "c"} {
		if transports[name] == nil {
			continue
		}
		b := config[name]
		b.Name, b.URL = name, "http://"+name
		list = append(list, b)
	}
	c := catalog(t, list...)
	for name, rt := range transports {
		c.SetTransport("m", name, rt)
	}
	return c
}

// once does one call and gives who answered.
func once(t *testing.T, c *inference.Catalog) (string, error) {
	t.Helper()
	a, err := c.Do(t.Context(), "m", "", chat())
	if err != nil {
		return "", err
	}
	_ = text(t, a, nil)
	return a.Backend, nil
}

func TestPool_Weights(t *testing.T) {
	c := with(t, map[string]inference.BackendConfig{"a": {Weight: weight(3)}, "c": {Weight: weight(0)}},
		map[string]http.RoundTripper{"a": &switchable{}, "b": &switchable{}, "c": &switchable{}})
	got := ""
	for range 8 {
		who, err := once(t, c)
		if err != nil {
			t.Fatal(err)
		}
		got += who
	}
	if got != "aabaaaba" {
		t.Errorf("got %s", got)
	}
}

func TestPool_BreakerOpensTriesAndCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad, reserve := &switchable{}, &switchable{}
		never := time.Duration(0)
		c := with(t, map[string]inference.BackendConfig{"a": {HealthInterval: &never}, "b": {Weight: weight(0)}}, map[string]http.RoundTripper{"a": bad, "b": reserve})
		bad.broken.Store(true)
		for range 10 {
			if who, err := once(t, c); err != nil || who != "b" {
				t.Fatalf("got %s, %v", who, err)
			}
		}
		if n := bad.calls.Load(); n != inference.TripAfter {
			t.Errorf("it was asked %d times", n)
		}
		if s := backendStatus(t, c, "a"); s.State != inference.StateOut || s.Failed != inference.TripAfter || s.LastError == "" {
			t.Errorf("got %+v", s)
		}
		pass(inference.MinCooldown) // one more call tries it, and the pause doubles
		for range 5 {
			_, _ = once(t, c)
		}
		pass(inference.MinCooldown)
		_, _ = once(t, c)
		if n := bad.calls.Load(); n != inference.TripAfter+1 {
			t.Errorf("it was asked %d times", n)
		}
		bad.broken.Store(false)
		pass(2 * inference.MinCooldown)
		for range 5 {
			if who, err := once(t, c); err != nil || who != "a" {
				t.Errorf("got %s, %v", who, err)
			}
		}
		if s := backendStatus(t, c, "a"); s.State != inference.StateReady {
			t.Errorf("got %+v", s)
		}
	})
}

func TestPool_OneTrialAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad := &switchable{}
		c := with(t, nil, map[string]http.RoundTripper{"a": bad})
		bad.broken.Store(true)
		for range inference.TripAfter {
			_, _ = once(t, c)
		}
		_, err := once(t, c)
		e, ok := errors.AsType[*apierr.Error](err)
		if !ok || e.Kind != apierr.Unavailable || e.RetryAfter != inference.MinCooldown || !strings.Contains(e.Message, "a does not answer") {
			t.Errorf("got %v", err)
		}
		pass(inference.MinCooldown)
		bad.broken.Store(false)
		bad.hangs.Store(true)
		before := bad.calls.Load()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			_, err := c.Do(ctx, "m", "", chat())
			done <- err
		}()
		synctest.Wait()
		if _, err := once(t, c); !apierr.Is(err, apierr.Unavailable) || bad.calls.Load() != before+1 {
			t.Errorf("got %v, %d calls", err, bad.calls.Load()-before)
		}
		cancel() // the client's going says nothing: the next call is the trial
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		bad.hangs.Store(false)
		if who, err := once(t, c); err != nil || who != "a" {
			t.Errorf("got %s, %v", who, err)
		}
	})
}

func TestPool_ProbesTakeOutAndBringBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		a, b := &switchable{}, &switchable{}
		c := with(t, nil, map[string]http.RoundTripper{"a": a, "b": b})
		a.broken.Store(true)
		ended := make(chan error)
		go func() { ended <- c.Run(ctx) }()
		pass(40 * time.Second)
		synctest.Wait()
		if s := backendStatus(t, c, "a"); s.State != inference.StateOut || a.calls.Load() != 0 {
			t.Errorf("got %+v", s)
		}
		a.broken.Store(false)
		pass(15 * time.Second)
		synctest.Wait()
		if s := backendStatus(t, c, "a"); s.State != inference.StateReady || s.LastError == "" {
			t.Errorf("got %+v", s)
		}
		// One that lists its models and answers no calls is not brought back by that.
		a.deaf.Store(true)
		for range 2 * inference.TripAfter {
			if who, err := once(t, c); err != nil || who != "b" {
				t.Errorf("got %s, %v", who, err)
			}
		}
		pass(30 * time.Second)
		synctest.Wait()
		if s := backendStatus(t, c, "a"); s.State == inference.StateReady {
			t.Errorf("got %+v", s)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestPool_RetryAfterIsRespected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var limited atomic.Bool
		limited.Store(true)
		h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if limited.Load() {
				w.Header().Set("Retry-After", "7")
				w.WriteHeader(http.StatusTooManyRequests)
			}
		})
		b := &switchable{}
		c := with(t, map[string]inference.BackendConfig{"b": {Weight: weight(0)}}, map[string]http.RoundTripper{"a": inference.Handler(h), "b": b})
		for range 5 {
			if who, err := once(t, c); err != nil || who != "b" {
				t.Fatalf("got %s, %v", who, err)
			}
		}
		if s := backendStatus(t, c, "a"); s.Calls != 1 || s.Failed != 0 || s.State != inference.StateLimited {
			t.Errorf("got %+v", s)
		}
		b.broken.Store(true)
		for range inference.TripAfter {
			_, _ = once(t, c)
		}
		_, err := once(t, c)
		if e, ok := errors.AsType[*apierr.Error](err); !ok || e.Kind != apierr.TooManyRequests || e.RetryAfter < inference.MinCooldown || e.RetryAfter > 7*time.Second {
			t.Errorf("got %v", err)
		}
		limited.Store(false)
		pass(7 * time.Second)
		if who, err := once(t, c); err != nil || who != "a" {
			t.Errorf("got %s, %v", who, err)
		}
	})
}

// TestPool_PoisonTakesNobodyOut: a request that breaks every backend says
// nothing of them; one that another can answer does.
func TestPool_PoisonTakesNobodyOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := inference.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }))
		c := with(t, nil, map[string]http.RoundTripper{"a": broken, "b": broken})
		for range 10 {
			a, err := c.Do(t.Context(), "m", "", chat())
			if err != nil || a.Status != 500 || a.Attempts != 2 {
				t.Fatalf("got %+v, %v", a, err)
			}
			_ = a.Body.Close()
		}
		if s := backendStatus(t, c, "a"); s.State != inference.StateReady {
			t.Errorf("got %+v", s)
		}
		c.SetTransport("m", "b", &switchable{})
		for range 20 {
			if who, err := once(t, c); err != nil || who != "b" {
				t.Fatalf("got %s, %v", who, err)
			}
		}
		if s := backendStatus(t, c, "a"); s.State != inference.StateOutForOne {
			t.Errorf("got %+v", s)
		}
	})
}

// transport is a backend in this process.
type transport func(*http.Request) (*http.Response, error)

// RoundTrip implements http.RoundTripper.
func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// as does one call of a caller and gives who answered.
func as(t *testing.T, c *inference.Catalog, key string) (string, error) {
	t.Helper()
	call := chat()
	call.Key = key
	a, err := c.Do(t.Context(), "m", "", call)
	if err != nil {
		return "", err
	}
	_ = text(t, a, nil)
	if a.Status != http.StatusOK {
		return fmt.Sprint(a.Status), nil
	}
	return a.Backend, nil
}

// TestPool_OneCallersFailuresAreItsOwn: what a request can provoke takes a backend
// out for whoever sent it, and for all only where others' calls fail, too.
func TestPool_OneCallersFailuresAreItsOwn(t *testing.T) {
	answers := func(status int) transport {
		return func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("{}")), ContentLength: 2}, nil
		}
	}
	for name, fail := range map[string]transport{
		"503": answers(503), "504": answers(504), "closes": func(*http.Request) (*http.Response, error) { return nil, io.EOF },
		"hangs": func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, context.Cause(r.Context())
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var sick atomic.Bool // fails whoever asks
				// The backend sees no caller; tests tell it by a header that is sent on.
				h := transport(func(r *http.Request) (*http.Response, error) {
					if sick.Load() || r.Header.Get("Traceparent") == "poison" {
						return fail(r)
					}
					return answers(200)(r)
				})
				never := time.Duration(0)
				c := with(t, map[string]inference.BackendConfig{"a": {HealthInterval: &never, Timeouts: inference.Timeouts{FirstByte: time.Second}}}, map[string]http.RoundTripper{"a": h})
				poison := func() error {
					call := chat()
					call.Key, call.Header = "noisy", http.Header{"Traceparent": {"poison"}}
					a, err := c.Do(t.Context(), "m", "", call)
					if err == nil {
						_ = a.Body.Close()
					}
					return err
				}
				for range 2 * inference.TripAfter {
					_ = poison()
				}
				if s := backendStatus(t, c, "a"); s.State != inference.StateOutForOne || s.Calls != inference.TripAfter {
					t.Errorf("got %+v", s)
				}
				if e, ok := errors.AsType[*apierr.Error](poison()); !ok || e.Kind != apierr.Unavailable || e.RetryAfter != inference.MinCooldown {
					t.Errorf("got %v", e)
				}
				if who, err := as(t, c, "quiet"); err != nil || who != "a" {
					t.Fatalf("another caller got %s, %v", who, err)
				}
				if s := backendStatus(t, c, "a"); s.State != inference.StateReady {
					t.Errorf("after another's answer: %+v", s)
				}
				for range inference.TripAfter {
					_ = poison()
				}
				sick.Store(true)
				for range 2 {
					_, _ = as(t, c, "quiet")
				}
				if s := backendStatus(t, c, "a"); s.State != inference.StateOut || time.Until(*s.Until) != inference.MinCooldown {
					t.Errorf("two callers' failures: %+v", s)
				}
				if _, err := as(t, c, "third"); !apierr.Is(err, apierr.Unavailable) {
					t.Errorf("got %v", err)
				}
				sick.Store(false)
				pass(inference.MinCooldown)
				if who, err := as(t, c, "third"); err != nil || who != "a" {
					t.Errorf("got %s, %v", who, err)
				}
			})
		})
	}
}

// TestPool_ABurstOfFailuresIsOne: calls that were on their way when a backend was
// taken out don't prolong its pause.
func TestPool_ABurstOfFailuresIsOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			pass(time.Second)
			w.WriteHeader(502)
		})
		c := with(t, nil, map[string]http.RoundTripper{"a": inference.Handler(h)})
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() { _, _ = as(t, c, fmt.Sprint(i)) })
		}
		wg.Wait()
		if s := backendStatus(t, c, "a"); s.State != inference.StateOut || time.Until(*s.Until) != inference.MinCooldown {
			t.Errorf("got %+v at %v", s, time.Now())
		}
	})
}

// TestPool_CallersTakeTurns: who has many calls waiting delays its own.
func TestPool_CallersTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := inference.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { pass(time.Second) }))
		c := with(t, map[string]inference.BackendConfig{"a": {Concurrency: 1}}, map[string]http.RoundTripper{"a": slow})
		var mu sync.Mutex
		var order []string
		var wg sync.WaitGroup
		ask := func(key string) {
			wg.Go(func() {
				call := chat()
				call.Key = key
				a, err := c.Do(t.Context(), "m", "", call)
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = io.ReadAll(a.Body)
				_ = a.Body.Close()
				mu.Lock()
				order = append(order, key)
				mu.Unlock()
			})
			synctest.Wait()
		}
		for range 5 {
			ask("greedy")
		}
		ask("modest")
		ask("modest")
		if s := c.Status()[0]; s.Waiting != 6 || s.Backends[0].InFlight != 1 {
			t.Errorf("got %+v", s)
		}
		wg.Wait()
		if got := strings.Join(order, " "); got != "greedy greedy modest greedy modest greedy greedy" {
			t.Errorf("got %s", got)
		}
		if s := c.Status()[0]; s.Waiting != 0 || s.Backends[0].InFlight != 0 {
			t.Errorf("got %+v", s)
		}
	})
}

func TestPool_WaitingEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := &switchable{}
		hang.hangs.Store(true)
		c := with(t, map[string]inference.BackendConfig{"a": {Concurrency: 1, Timeouts: inference.Timeouts{FirstByte: time.Hour}}}, map[string]http.RoundTripper{"a": hang})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = c.Do(ctx, "m", "", chat()) })
		synctest.Wait()
		began := time.Now()
		if _, err := once(t, c); !apierr.Is(err, apierr.TooManyRequests) || time.Since(began) != inference.QueueTime {
			t.Errorf("got %v after %s", err, time.Since(began))
		}
		impatient, leave := context.WithTimeout(t.Context(), time.Second)
		defer leave()
		if _, err := c.Do(impatient, "m", "", chat()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		cancel()
		wg.Wait()
		hang.hangs.Store(false)
		if _, err := once(t, c); err != nil {
			t.Error(err)
		}
		if s := c.Status()[0]; s.Waiting != 0 || s.Backends[0].InFlight != 0 {
			t.Errorf("got %+v", s)
		}
	})
}

// TestBody_SlowReaderHoldsNoBackend: the rest is fetched without it.
func TestBody_SlowReaderHoldsNoBackend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			for i := range 100 {
				fmt.Fprintf(w, "data: %d\n\n", i)
			}
		})
		c := with(t, nil, map[string]http.RoundTripper{"a": inference.Handler(h)})
		a, err := c.Do(t.Context(), "m", "", chatStream())
		if err != nil {
			t.Fatal(err)
		}
		defer a.Body.Close()
		pass(2 * inference.Stall)
		synctest.Wait()
		if s := backendStatus(t, c, "a"); s.InFlight != 0 {
			t.Errorf("got %+v", s)
		}
		pass(time.Hour)
		got, err := io.ReadAll(a.Body)
		if n := strings.Count(string(got), "data: "); err != nil || n != 100 {
			t.Errorf("got %d events, %v", n, err)
		}
	})
}

func TestBody_ReaderThatNeverComesIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var wrote atomic.Int64
		gone := make(chan struct{})
		h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			defer close(gone)
			for {
				n, err := w.Write(make([]byte, 8<<10))
				wrote.Add(int64(n))
				if err != nil {
					return
				}
			}
		})
		c := with(t, nil, map[string]http.RoundTripper{"a": inference.Handler(h)})
		a, err := c.Do(t.Context(), "m", "", chatStream())
		if err != nil {
			t.Fatal(err)
		}
		defer a.Body.Close()
		<-gone
		synctest.Wait() // until all know of it
		if n := wrote.Load(); n < inference.MaxAhead || n > inference.MaxAhead+64<<10 {
			t.Errorf("%d bytes were read ahead", n)
		}
		if s := backendStatus(t, c, "a"); s.InFlight != 0 || s.Failed != 0 {
			t.Errorf("got %+v", s)
		}
		if _, err := io.ReadAll(a.Body); err == nil || !strings.Contains(err.Error(), "too slowly") {
			t.Errorf("got %v", err)
		}
	})
}

// TestOllama_ComesAndGoes: its models join, and leave when it says so.
func TestOllama_ComesAndGoes(t *testing.T) {
	var gone atomic.Bool
	p := &replay{t: t}
	p.fault = func(w http.ResponseWriter, r *http.Request) bool {
		switch r.URL.Path {
		case "/api/tags":
			if gone.Load() {
				fmt.Fprint(w, `{"models":[{"name":"llama3.2:1b"}]}`)
			} else {
				fmt.Fprint(w, `{"models":[{"name":"llama3.2:1b","size":1},{"name":"nomic-embed-text:latest"},{"name":"gpt-4o"},{"name":"bad name"}]}`)
			}
		case "/api/show":
			if p.seen[len(p.seen)-1]["model"] == "nomic-embed-text:latest" {
				fmt.Fprint(w, `{"capabilities":["embedding"],"model_info":{"nomic-bert.context_length":2048}}`)
			} else {
				fmt.Fprint(w, `{"capabilities":["completion","tools"],"model_info":{"llama.context_length":131072}}`)
			}
		default:
			return false
		}
		return true
	}
	s := p.server(t)
	c, err := inference.New(inference.Config{Ollama: s.URL})
	if err != nil {
		t.Fatal(err)
	}
	c.LookForOllama(t.Context())
	m, ok := c.Find("llama3.2:1b", "1")
	if !ok || m.Source != inference.SourceOllama || !m.Capabilities.Chat || !m.Capabilities.Tools || !m.Capabilities.Responses || m.Capabilities.MaxContext != 131072 {
		t.Errorf("got %+v", m)
	}
	if m, ok := c.Find("nomic-embed-text:latest", ""); !ok || m.Capabilities.Chat || !m.Capabilities.Embeddings {
		t.Errorf("got %+v", m)
	}
	if m, _ := c.Find("gpt-4o", ""); m.Source != inference.SourceBuiltin {
		t.Errorf("a usual name changed hands: %+v", m)
	}
	a, err := c.Do(t.Context(), "llama3.2:1b", "", chat())
	if got := text(t, a, err); !strings.Contains(got, "Hello") || a.Backend != "ollama" || p.paths[len(p.paths)-1] != "POST /v1/chat/completions" {
		t.Errorf("got %s, %+v", got, a)
	}
	if _, err := c.Do(t.Context(), "nomic-embed-text:latest", "", chat()); !apierr.Is(err, apierr.BadRequest) || !strings.Contains(err.Error(), "Ollama says") {
		t.Errorf("got %v", err)
	}
	gone.Store(true)
	c.LookForOllama(t.Context())
	if _, ok := c.Find("nomic-embed-text:latest", ""); ok {
		t.Error("it is still there")
	}
	if _, ok := c.Find("llama3.2:1b", ""); !ok {
		t.Error("it is not there any more")
	}
	s.Close() // a failure is no reason to forget
	c.LookForOllama(t.Context())
	if _, ok := c.Find("llama3.2:1b", ""); !ok {
		t.Error("it is not there any more")
	}
}

func TestCatalog_Test(t *testing.T) {
	c := catalog(t, inference.BackendConfig{Name: "a", URL: (&replay{}).server(t).URL}, inference.BackendConfig{Name: "b", URL: (&replay{fault: status(503)}).server(t).URL})
	got, err := c.Test(t.Context(), "m", "")
	if err != nil || len(got) != 2 || !got[0].OK || got[0].Text != "Hello! How can I help?" || got[1].OK || got[1].Status != 503 || !strings.Contains(got[1].Error, "it is broken") {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := c.Test(t.Context(), "nothing", ""); !apierr.Is(err, apierr.NotFound) {
		t.Errorf("got %v", err)
	}
	if s := backendStatus(t, c, "b"); s.Calls != 0 || s.State != inference.StateReady {
		t.Errorf("got %+v", s)
	}
}

// TestPool_AQueueIsNobodysAlone fills the queue with one caller's calls: another
// one is let in, and the first loses its last.
func TestPool_AQueueIsNobodysAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := &switchable{}
		hang.hangs.Store(true)
		c := with(t, map[string]inference.BackendConfig{"a": {Concurrency: 1, Timeouts: inference.Timeouts{FirstByte: time.Hour}}}, map[string]http.RoundTripper{"a": hang})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		var refused atomic.Int32
		ask := func(key string, busy *atomic.Int32) {
			wg.Go(func() {
				call := chat()
				call.Key = key
				if _, err := c.Do(ctx, "m", "", call); apierr.Is(err, apierr.TooManyRequests) {
					busy.Add(1)
				}
			})
		}
		for range inference.QueueLength + 1 { // one of them is at the backend
			ask("greedy", &refused)
		}
		synctest.Wait()
		if s := c.Status()[0]; s.Waiting != inference.QueueLength || refused.Load() != 0 {
			t.Fatalf("%d wait, %d were refused", s.Waiting, refused.Load())
		}
		ask("greedy", &refused)
		synctest.Wait()
		if refused.Load() != 1 {
			t.Errorf("%d of the caller who has all were refused, want the one", refused.Load())
		}
		var quiet atomic.Int32
		ask("quiet", &quiet)
		synctest.Wait()
		if s := c.Status()[0]; quiet.Load() != 0 || refused.Load() != 2 || s.Waiting != inference.QueueLength {
			t.Errorf("quiet: %d refused, greedy: %d, %d wait", quiet.Load(), refused.Load(), s.Waiting)
		}
		cancel()
		wg.Wait()
	})
}

// TestBody_IsNotKeptWhileTheAnswerLasts: what was sent may go.
func TestBody_IsNotKeptWhileTheAnswerLasts(t *testing.T) {
	over := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: {}\n\n")
		w.(http.Flusher).Flush()
		<-over
	}))
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(over) })
	c := catalog(t, inference.BackendConfig{Name: "a", URL: server.URL})
	ask := func() (*inference.Answer, weak.Pointer[byte]) {
		call := chat()
		call.Stream = true
		call.Body = []byte(`{"messages":[],"stream":true,"user":"` + strings.Repeat("x", 1<<20) + `"}`)
		a, err := c.Do(t.Context(), "m", "", call)
		if err != nil {
			t.Fatal(err)
		}
		return a, weak.Make(&call.Body[0])
	}
	a, body := ask()
	t.Cleanup(func() { _ = a.Body.Close() })
	for deadline := time.Now().Add(10 * time.Second); body.Value() != nil; runtime.GC() {
		if time.Now().After(deadline) {
			t.Fatal("the prompt is held")
		}
	}
}
