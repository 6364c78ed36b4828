package web_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/web"
)

func newFront(t *testing.T) (*web.Front, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	f, err := web.NewFront(slog.New(slog.NewJSONHandler(&log, nil)), prometheus.NewRegistry(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return f, &log
}

func serve(f *web.Front, s *web.Surface, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	f.Serve(s, w, r)
	return w
}

func event(t *testing.T, log *bytes.Buffer) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(log.Bytes(), &m); err != nil {
		t.Fatalf("the log is not one event: %v\n%s", err, log)
	}
	return m
}

func TestServe_OneEventWithoutSecrets(t *testing.T) {
	f, log := newFront(t)
	s := &web.Surface{Name: "keyvault", Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ev := web.EventFrom(r.Context())
		ev.SetPrincipal("me")
		ev.SetOperation("getSecret")
		ev.Set("vault", "kv1")
		ev.Fail(apierr.New(apierr.Forbidden, "Forbidden", "no role").WithCause(errors.New("because")))
		ev.Fail(errors.New("a second one does not count"))
		w.WriteHeader(403)
	})}
	r := httptest.NewRequest("GET", "https://kv1.vault.azure.net/secrets/a?sig=hidden1", nil)
	r.Header.Set("Authorization", "Bearer hidden2")
	serve(f, s, r)
	if strings.Contains(log.String(), "hidden") {
		t.Errorf("the log holds a secret: %s", log)
	}
	m := event(t, log)
	for k, want := range map[string]any{
		"msg": "request", "level": "WARN", "surface": "keyvault", "path": "/secrets/a", "status": 403.0, "principal": "me",
		"operation": "getSecret", "vault": "kv1", "code": "Forbidden", "error": "no role", "cause": "because",
	} {
		if got := m[k]; got != want {
			t.Errorf("%s: got %v, want %v", k, got, want)
		}
	}
}

func TestServe_IDs(t *testing.T) {
	const id = "0f8fad5b-d9cb-469f-a165-70867728950e"
	for _, c := range []struct {
		name string
		ids  web.IDs
		send map[string]string
		want map[string]string // header → value, "*" for any
	}{
		{"nothing sent", web.Management, nil, map[string]string{"X-Ms-Request-Id": "*", "X-Ms-Correlation-Request-Id": "*"}},
		{"correlation", web.Management, map[string]string{"x-ms-correlation-request-id": id, "x-ms-client-request-id": id},
			map[string]string{"X-Ms-Request-Id": "*", "X-Ms-Correlation-Request-Id": id}},
		{"unprintable correlation", web.Management, map[string]string{"x-ms-correlation-request-id": "a b"},
			map[string]string{"X-Ms-Request-Id": "*", "X-Ms-Correlation-Request-Id": "*"}},
		{"client id on demand", web.Management, map[string]string{"x-ms-client-request-id": id, "x-ms-return-client-request-id": "true"},
			map[string]string{"X-Ms-Request-Id": "*", "X-Ms-Correlation-Request-Id": "*", "X-Ms-Client-Request-Id": id}},
		{"key vault", web.KeyVault, map[string]string{"x-ms-client-request-id": id},
			map[string]string{"X-Ms-Request-Id": "*", "X-Ms-Client-Request-Id": id}},
		{"token service", web.TokenService, map[string]string{"client-request-id": id, "return-client-request-id": "true"},
			map[string]string{"X-Ms-Request-Id": "*", "Client-Request-Id": id}},
		{"token service, not asked", web.TokenService, map[string]string{"client-request-id": id},
			map[string]string{"X-Ms-Request-Id": "*"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, _ := newFront(t)
			var correlation string
			s := &web.Surface{IDs: c.ids, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				correlation = web.CorrelationID(r.Context())
				w.WriteHeader(204)
			})}
			r := httptest.NewRequest("GET", "https://x/", nil)
			for k, v := range c.send {
				r.Header.Set(k, v)
			}
			h := serve(f, s, r).Header()
			for k, want := range c.want {
				if got := h.Get(k); got == "" || want != "*" && got != want {
					t.Errorf("%s: got %q, want %q", k, got, want)
				}
				h.Del(k)
			}
			if len(h) > 0 {
				t.Errorf("further headers: %v", h)
			}
			if correlation == "" {
				t.Error("no correlation id in the context")
			}
		})
	}
}

func TestServe_PanicIsAnInternalError(t *testing.T) {
	f, log := newFront(t)
	w := serve(f, &web.Surface{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("a bug") })},
		httptest.NewRequest("GET", "https://x/", nil))
	if w.Code != 500 || strings.Contains(w.Body.String(), "a bug") {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	if cause, _ := event(t, log)["cause"].(string); !strings.Contains(cause, "a bug") {
		t.Errorf("the log does not say what happened: %s", log)
	}
}

func TestServe_PanicAfterTheAnswerBeganCutsItShort(t *testing.T) {
	f, _ := newFront(t)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.Serve(&web.Surface{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "10")
			_, _ = io.WriteString(w, "half")
			panic("a bug")
		})}, w, r)
	}))
	defer srv.Close()
	resp, err := http.Get(srv.URL)
	if err != nil {
		return // cut before the header went out
	}
	defer resp.Body.Close()
	if _, err := io.ReadAll(resp.Body); err == nil {
		t.Error("half an answer looked whole")
	}
}

func TestServe_SurfacesOwnErrorDialect(t *testing.T) {
	f, log := newFront(t)
	s := &web.Surface{Name: "x", Error: func(w http.ResponseWriter, r *http.Request, e *apierr.Error) {
		w.WriteHeader(e.Kind.Status())
		_, _ = io.WriteString(w, "dialect "+e.Code)
	}}
	w := serve(f, s, httptest.NewRequest("GET", "https://x/", nil))
	if w.Code != 404 || w.Body.String() != "dialect NoSurface" {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	if got := event(t, log)["code"]; got != "NoSurface" {
		t.Errorf("code in the log: got %v", got)
	}
}

func TestEventFrom_WithoutARequest(t *testing.T) {
	web.EventFrom(context.Background()).SetPrincipal("nobody")
	if got := web.RequestID(context.Background()) + web.CorrelationID(context.Background()); got != "" {
		t.Errorf("got %q, want nothing", got)
	}
}

func TestReadJSON(t *testing.T) {
	type doc struct {
		Name string `json:"name"`
		Tags struct {
			N int `json:"n"`
		} `json:"tags"`
	}
	for _, c := range []struct {
		name, body string
		kind       apierr.Kind
		has        string // in the message; "" when it is accepted
	}{
		{"good", ` {"name":"a","tags":{"n":1},"more":[1,{"a":null}]} `, 0, ""},
		{"too long", `{"name":"` + strings.Repeat("a", 100) + `"}`, apierr.TooLarge, "64 bytes"},
		{"empty", ``, apierr.BadRequest, "empty"},
		{"cut", `{"name":"a"`, apierr.BadRequest, "middle"},
		{"not json", `name=a`, apierr.BadRequest, "invalid character"},
		{"two values", `{} {}`, apierr.BadRequest, "more follows"},
		{"doubled key", `{"name":"a","name":"b"}`, apierr.BadRequest, `"name" appears twice`},
		{"doubled below", `{"x":[{"a":1,"a":2}]}`, apierr.BadRequest, `"a" appears twice`},
		{"wrong type", `{"tags":{"n":"one"}}`, apierr.BadRequest, "'tags.n' holds a string where a number is expected"},
		{"deep", strings.Repeat("[", 64), apierr.BadRequest, "middle"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var v doc
			err := web.ReadJSON(httptest.NewRequest("PUT", "/", strings.NewReader(c.body)), 64, &v)
			if c.has == "" {
				if err != nil || v.Name != "a" || v.Tags.N != 1 {
					t.Errorf("got %+v, %v", v, err)
				}
				return
			}
			if !apierr.Is(err, c.kind) || !strings.Contains(err.Error(), c.has) {
				t.Errorf("got %v, want kind %v with %q", err, c.kind, c.has)
			}
		})
	}
}

func TestReadJSON_TheSurfacesLimitHoldsToo(t *testing.T) {
	f, _ := newFront(t)
	s := &web.Surface{MaxBody: 8, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var v any
		web.WriteError(w, apierr.From(web.ReadJSON(r, 1000, &v)))
	})}
	r := httptest.NewRequest("PUT", "https://x/", io.MultiReader(strings.NewReader(`{"a":"123456789"}`)))
	if w := serve(f, s, r); w.Code != 413 {
		t.Errorf("got %d %s, want 413", w.Code, w.Body)
	}
}

func TestParseJSON_DeepNestingIsRefused(t *testing.T) {
	var v any
	err := web.ParseJSON([]byte(strings.Repeat("[", 200)+strings.Repeat("]", 200)), &v)
	if !apierr.Is(err, apierr.BadRequest) || !strings.Contains(err.Error(), "deeper") {
		t.Errorf("got %v", err)
	}
}

func TestWriteError(t *testing.T) {
	w := httptest.NewRecorder()
	web.WriteError(w, &apierr.Error{Kind: apierr.TooManyRequests, Code: "C", Message: "<m>", Target: "t",
		Details: []apierr.Error{{Code: "D", Message: "d"}}, RetryAfter: 1500e6})
	if got := w.Header().Get("Retry-After"); got != "2" {
		t.Errorf("Retry-After: got %q, want 2", got)
	}
	want := `{"error":{"code":"C","message":"<m>","target":"t","details":[{"code":"D","message":"d"}]}}`
	if d := cmp.Diff(want, w.Body.String()); d != "" {
		t.Error(d)
	}
}

func FuzzParseJSON(f *testing.F) {
	for _, s := range []string{`{}`, `[1,"a",null]`, `{"a":1,"a":2}`, `{"a":{"b":[{}]}}`, ` `, "\xff", `1e400`, `{"a"`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var v any
		err := web.ParseJSON(raw, &v)
		if err == nil && !json.Valid(raw) {
			t.Errorf("accepted what is no JSON: %q", raw)
		}
		if err != nil && !apierr.Is(err, apierr.BadRequest) {
			t.Errorf("got %v, want a bad request", err)
		}
	})
}

// TestReadBody_OfAnyLength: whatever its client says, a body is read whole.
func TestReadBody_OfAnyLength(t *testing.T) {
	for _, n := range []int{0, 1, 511, 512, 513, 64<<10 - 1, 64 << 10, 64<<10 + 1, 300 << 10} {
		for _, said := range []int64{int64(n), -1} {
			want := bytes.Repeat([]byte("x"), n)
			r := httptest.NewRequest(http.MethodPost, "/", io.NopCloser(iotest.OneByteReader(bytes.NewReader(want))))
			if n > 1<<10 {
				r.Body = io.NopCloser(bytes.NewReader(want))
			}
			r.ContentLength = said
			got, err := web.ReadBody(r, 300<<10)
			if err != nil || !bytes.Equal(got, want) || cap(got) > max(4*n, 1<<10) {
				t.Errorf("%d bytes, said %d: %d of %d, %v", n, said, len(got), cap(got), err)
			}
			r.Body = io.NopCloser(bytes.NewReader(append(want, 'y')))
			if _, err := web.ReadBody(r, int64(n)); !apierr.Is(err, apierr.TooLarge) {
				t.Errorf("%d bytes of %d allowed: %v", n+1, n, err)
			}
			r.Body = io.NopCloser(io.MultiReader(bytes.NewReader(want), iotest.ErrReader(io.ErrUnexpectedEOF)))
			if _, err := web.ReadBody(r, 300<<10); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("a body that was cut: %v", err)
			}
		}
	}
}
