package inference_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"testing"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/inference"
)

func TestDefaultCatalog(t *testing.T) {
	echo := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var b struct{ Model string }
		if err := json.NewDecoder(r.Body).Decode(&b); err != nil {
			t.Error(err)
		}
		fmt.Fprintf(w, "%s %s %s", r.Method, r.URL.Path, b.Model)
	})
	c, err := inference.New(inference.Config{Builtin: echo})
	if err != nil {
		t.Fatal(err)
	}
	m, ok := c.Find("GPT-4o", "")
	if !ok || m.Version != "2024-11-20" || !m.Builtin() || m.Capabilities.Embeddings {
		t.Errorf("got %+v, %v", m, ok)
	}
	if _, ok := c.Find("text-embedding-3-small", ""); ok {
		t.Error("the built-in model offers embeddings")
	}
	a, err := c.Do(t.Context(), "gpt-4o-mini", "2024-07-18", &inference.Call{Operation: inference.Chat, Body: []byte(`{"model":"mine"}`)})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	if got, err := io.ReadAll(a.Body); err != nil || string(got) != "POST /v1/chat/completions tiny-writer" {
		t.Errorf("got %s, %v", got, err)
	}
	for op, kind := range map[inference.Operation]apierr.Kind{inference.Embeddings: apierr.BadRequest, "x": apierr.BadRequest} {
		if _, err := c.Do(t.Context(), "gpt-4o-mini", "", &inference.Call{Operation: op, Body: []byte(`{}`)}); !apierr.Is(err, kind) {
			t.Errorf("%s: got %v", op, err)
		}
	}
	if _, err := c.Do(t.Context(), "gpt-9", "", &inference.Call{Operation: inference.Chat, Body: []byte(`{}`)}); !apierr.Is(err, apierr.NotFound) {
		t.Errorf("got %v", err)
	}
}

func TestBuiltin_Absent(t *testing.T) {
	c, err := inference.New(inference.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Do(t.Context(), "gpt-4o-mini", "", &inference.Call{Operation: inference.Chat, Body: []byte(`{}`)}); !apierr.Is(err, apierr.Unavailable) {
		t.Errorf("got %v", err)
	}
}

func TestBuiltin_CloseEndsIt(t *testing.T) {
	ended := make(chan error, 1)
	endless := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for {
			if _, err := io.WriteString(w, "data: {}\n\n"); err != nil {
				<-r.Context().Done()
				ended <- context.Cause(r.Context())
				return
			}
		}
	})
	c, err := inference.New(inference.Config{Builtin: endless})
	if err != nil {
		t.Fatal(err)
	}
	a, err := c.Do(t.Context(), "gpt-4o-mini", "", &inference.Call{Operation: inference.Chat, Body: []byte(`{}`), Stream: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(a.Body, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	if err := a.Body.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; err == nil {
		t.Error("the handler's context goes on")
	}
}
