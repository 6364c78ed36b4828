package inference

import (
	"context"
	"io"
	"net/http"
	"time"
)

// SetTransport puts t in the place of a backend's connections.
func (c *Catalog) SetTransport(model, backend string, t http.RoundTripper) {
	for _, b := range c.find(model, "").pool.backends {
		if b.name == backend {
			b.transport = t
		}
	}
}

// Handler is a transport that is answered by h, in this process.
func Handler(h http.Handler) http.RoundTripper { return inProcess{h} }

// Events gives the data of the events in r.
func Events(r io.Reader) (out []string, err error) {
	e := newEvents(r)
	for {
		data, err := e.next()
		if err != nil {
			return out, err
		}
		out = append(out, string(data))
	}
}

// The bounds that tests wait for.
const (
	Stall       = stall
	MaxAhead    = maxAhead
	Patience    = patience
	MinCooldown = minCooldown
	TripAfter   = tripAfter
	QueueTime   = queueTime
	QueueLength = queueLength
)

// Translate is what becomes of a chat's stream for a request for a response.
func Translate(body []byte, chat io.Reader) ([]byte, error) {
	t, err := newTranslation(body)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(&responseStream{t: t, in: newEvents(chat)})
}

// ResponsesToChat is responsesToChat.
func ResponsesToChat(body []byte) ([]byte, error) { return responsesToChat(body, "max_tokens") }

// LookForOllama is one look.
func (c *Catalog) LookForOllama(ctx context.Context) { c.ollama.look(ctx) }

// ForgetKey makes the next call look at a backend's file with the key.
func (c *Catalog) ForgetKey(model, backend string) {
	for _, b := range c.find(model, "").pool.backends {
		if b.name == backend {
			b.key.looked = time.Time{}
		}
	}
}

// WantsCompletionTokens is BackendConfig.wantsCompletionTokens after defaults.
func WantsCompletionTokens(b BackendConfig) bool {
	return b.withDefaults("m").wantsCompletionTokens()
}
