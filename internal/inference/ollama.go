package inference

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	ollamaInterval = 15 * time.Second
	maxOllamaBody  = 4 << 20
)

// ollama is the Ollama on this machine. Its models join the catalogue under
// their own names when it is found, and leave it when Ollama says that they are
// gone. Source: Ollama, docs/api.md.
type ollama struct {
	cat *Catalog
	url string
	b   *backend // for questions

	mu    sync.Mutex // guards what follows
	found bool
	mine  map[string]*entry // by name
}

func newOllama(cat *Catalog, url string) (*ollama, error) {
	if url == "" {
		url = DefaultOllama
	}
	b, err := newBackend(BackendConfig{Name: SourceOllama, URL: url, Prefix: "/api"}.withDefaults(SourceOllama), nil)
	return &ollama{cat: cat, url: url, b: b, mine: map[string]*entry{}}, err
}

// look asks Ollama for its models. Where none listens that is no news.
func (o *ollama) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	var list struct {
		Models []struct {
			Name string `json:"name"`
		} `json:"models"`
	}
	began := time.Now()
	err := o.ask(ctx, http.MethodGet, "tags", nil, &list)
	o.mu.Lock()
	defer o.mu.Unlock()
	if err != nil {
		for _, e := range o.mine {
			e.pool.probed(e.pool.backends[0], err, 0)
		}
		return
	}
	if !o.found {
		o.found = true
		o.cat.log.Info("an Ollama runs here", slog.String("url", o.url), slog.Int("models", len(list.Models)))
	}
	there := map[string]bool{}
	changed := false
	for _, m := range list.Models {
		there[m.Name] = true
		if e := o.mine[m.Name]; e != nil {
			e.pool.probed(e.pool.backends[0], nil, time.Since(began))
			continue
		}
		if checkName(m.Name) != nil {
			continue
		}
		e, err := o.entry(ctx, m.Name)
		if err != nil {
			o.cat.log.Warn("a model of Ollama's is left out", slog.String("model", m.Name), slog.String("error", err.Error()))
			continue
		}
		o.mine[m.Name], changed = e, true
	}
	for name := range o.mine {
		if !there[name] {
			delete(o.mine, name)
			changed = true
		}
	}
	if changed {
		o.cat.join(o.mine)
	}
}

// entry makes a model of Ollama's one of the catalogue's.
func (o *ollama) entry(ctx context.Context, name string) (*entry, error) {
	var show struct {
		Capabilities []string       `json:"capabilities"`
		ModelInfo    map[string]any `json:"model_info"`
	}
	ask, err := json.Marshal(map[string]any{"model": name})
	if err != nil {
		return nil, err
	}
	if err := o.ask(ctx, http.MethodPost, "show", ask, &show); err != nil {
		return nil, err
	}
	can := Capabilities{
		Embeddings: slices.Contains(show.Capabilities, "embedding"),
		Tools:      slices.Contains(show.Capabilities, "tools"),
	}
	can.Chat = slices.Contains(show.Capabilities, "completion") || len(show.Capabilities) == 0 // older ones don't say
	can.Completions, can.Responses = can.Chat, can.Chat
	for k, v := range show.ModelInfo {
		if n, ok := v.(float64); ok && strings.HasSuffix(k, ".context_length") && n > 0 && n < 1e9 {
			can.MaxContext = int(n)
		}
	}
	never := time.Duration(0)
	b, err := newBackend(BackendConfig{Name: SourceOllama, URL: o.url, HealthInterval: &never}.withDefaults(name), nil)
	if err != nil {
		return nil, err
	}
	p := &pool{model: name, log: o.cat.log, backends: []*backend{b}}
	return &entry{Model{Name: name, Version: "1", Format: FormatOpenAI, Default: true, Source: SourceOllama, Capabilities: can}, p}, nil
}

// ask does one call of Ollama's own API.
func (o *ollama) ask(ctx context.Context, method, what string, body []byte, into any) error {
	r, err := o.b.request(ctx, method, Operation(what), nil)
	if err != nil {
		return err
	}
	if body != nil {
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	}
	resp, err := o.b.transport.RoundTrip(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxOllamaBody))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("it answered HTTP %d", resp.StatusCode)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("it is no Ollama: %w", err)
	}
	return nil
}

// join replaces the catalogue's models of Ollama. A name of the configuration's
// stays with it.
func (c *Catalog) join(found map[string]*entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []*entry
	for _, e := range *c.models.Load() {
		if e.Source != SourceOllama {
			all = append(all, e)
		}
	}
	rest := slices.Clone(all)
	for name, e := range found {
		if !slices.ContainsFunc(rest, func(e *entry) bool { return strings.EqualFold(e.Name, name) }) {
			all = append(all, e)
		}
	}
	c.set(all)
}
