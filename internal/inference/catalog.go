package inference

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"lazurite.dev/internal/apierr"
)

// Catalog is the models that can be deployed and the servers behind them.
type Catalog struct {
	log    *slog.Logger
	ollama *ollama                  // nil: none is looked for
	models atomic.Pointer[[]*entry] // sorted by name; a name's default version first

	mu sync.Mutex // guards changes of models
}

// entry is a model with what answers for it.
type entry struct {
	Model
	pool *pool // shared by the versions of a model
}

// New makes a catalogue; it opens no connection.
func New(c Config) (*Catalog, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	cat := &Catalog{log: c.Log}
	if cat.log == nil {
		cat.log = slog.New(slog.DiscardHandler)
	}
	all, err := cat.configured(c)
	if err != nil {
		return nil, err
	}
	switch {
	case c.NoBuiltin:
	case len(c.Models) == 0:
		err = cat.builtin(c, &all, usualModels())
	case !slices.ContainsFunc(all, func(e *entry) bool { return strings.EqualFold(e.Name, TinyWriter) }):
		err = cat.builtin(c, &all, []Model{builtinModel(TinyWriter, "1", true)})
	}
	if err != nil {
		return nil, err
	}
	cat.set(all)
	if c.Ollama != OllamaOff {
		cat.ollama, err = newOllama(cat, c.Ollama)
	}
	return cat, err
}

// set makes all the catalogue's models.
func (c *Catalog) set(all []*entry) {
	slices.SortStableFunc(all, func(a, b *entry) int { return strings.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name)) })
	c.models.Store(&all)
}

// configured are the models of the configuration.
func (c *Catalog) configured(cfg Config) (all []*entry, err error) {
	for _, m := range cfg.Models {
		m = m.withDefaults()
		p := &pool{model: m.Name, log: c.log}
		for i, bc := range m.Backends {
			b, err := newBackend(bc, cfg.Builtin)
			if err != nil {
				return nil, fmt.Errorf("model %s: %w", m.Name, err)
			}
			b.index = i
			p.backends = append(p.backends, b)
		}
		can := *m.Capabilities
		can.Responses = can.Chat || m.responses()
		for i, v := range m.Version {
			all = append(all, &entry{Model{Name: m.Name, Version: v, Format: m.Format, Default: i == 0, Source: SourceConfig, Capabilities: can}, p})
		}
	}
	return all, nil
}

// builtin adds models that the built-in one answers for: one pool for all of them.
func (c *Catalog) builtin(cfg Config, all *[]*entry, models []Model) error {
	b, err := newBackend(BackendConfig{Builtin: true}.withDefaults(TinyWriter), cfg.Builtin)
	if err != nil {
		return err
	}
	p := &pool{model: TinyWriter, log: c.log, backends: []*backend{b}}
	for _, m := range models {
		*all = append(*all, &entry{m, p})
	}
	return nil
}

// Models is every model that can be deployed, sorted by name.
func (c *Catalog) Models() []Model {
	all := *c.models.Load()
	out := make([]Model, len(all))
	for i, e := range all {
		out[i] = e.Model
	}
	return out
}

// Find is the model of a name and version, both without letter case; an empty
// version is the default one.
func (c *Catalog) Find(name, version string) (*Model, bool) {
	if e := c.find(name, version); e != nil {
		m := e.Model
		return &m, true
	}
	return nil, false
}

func (c *Catalog) find(name, version string) *entry {
	for _, e := range *c.models.Load() {
		if strings.EqualFold(e.Name, name) && (version == "" && e.Default || strings.EqualFold(e.Version, version)) {
			return e
		}
	}
	return nil
}

// Do asks a backend of the model, and another one as long as none has begun to
// answer: where a backend can't be reached, is late, is broken (5xx), wants
// fewer calls (429) or refuses Lazurite's key (401). The answer has whatever
// status the last one gave.
//
// Errors are *apierr.Error: NotFound where the catalogue lacks the model,
// BadRequest where the model can't do the operation or the body is not valid,
// TooManyRequests where all backends are full or want fewer calls, Unavailable
// where none answered; or ctx's.
func (c *Catalog) Do(ctx context.Context, model, version string, call *Call) (*Answer, error) {
	e := c.find(model, version)
	if e == nil {
		return nil, apierr.New(apierr.NotFound, "ModelNotFound", "The model %s, version %s, is not in the catalogue any more. `laz models list` shows what is; the setting is `models:`.", model, version)
	}
	if !e.Capabilities.Can(call.Operation) {
		return nil, e.cannot(call.Operation)
	}
	if call.Operation == Responses && len(call.Set) > 0 { // it may be translated, and what is answered has to say the same
		set := *call
		var err error
		if set.Body, err = Edit(call.Body, call.Set...); err != nil {
			return nil, err
		}
		set.Set, call = nil, &set
	}
	return (&asking{entry: e, call: call}).run(ctx)
}

// cannot names the setting that would let e do op.
func (e *entry) cannot(op Operation) error {
	say := func(format string, args ...any) error {
		return apierr.New(apierr.BadRequest, "OperationNotSupported", "The %s operation does not work with the model %s: "+format, append([]any{op, e.Name}, args...)...)
	}
	setting := map[Operation]string{Chat: "chat", Completions: "completions", Embeddings: "embeddings", Images: "images", Responses: "chat"}[op]
	switch {
	case e.Builtin():
		return say("the built-in model answers for it, and that only drafts product descriptions in a chat. The setting `models:` of the configuration names servers that do more; see docs/models.md.")
	case setting == "":
		return say("no backend does it.")
	case e.Source == SourceOllama:
		return say("Ollama says that it has no such capability.")
	default:
		return say("the configuration does not say that its backends do it. The setting is `models:`, capabilities.%s.", setting)
	}
}

// asking is one call on its way through a model's backends.
type asking struct {
	*entry
	call *Call

	asked      tried
	tried      []Attempt  // those that could not answer
	suspects   []*backend // those that answered 500
	last       *Answer    // of a backend that could not, for want of a better one
	translated [2][]byte  // the body as chat, where the call is not and a backend needs it; the second one of those that want max_completion_tokens
}

// run asks backend after backend.
func (a *asking) run(ctx context.Context) (*Answer, error) {
	for {
		b, err := a.pool.acquire(ctx, a.call.Key, a.asked, a.last == nil)
		if err != nil {
			return a.giveUp(ctx, err)
		}
		a.asked = a.asked.with(b)
		op, body, err := a.prepare(b)
		if err != nil {
			a.pool.judge(b, verdict{by: a.call.Key})
			a.pool.release(b)
			return nil, errors.Join(err, a.drop())
		}
		pool, key := a.pool, a.call.Key // what runs until the answer's end holds no prompt
		r := b.ask(ctx, op, a.call, body, func(err error) {
			if err != nil && ctx.Err() == nil && !errors.Is(err, errClosed) && !errors.Is(err, errSlow) {
				pool.judge(b, verdict{by: key, err: err})
			}
			pool.release(b)
		})
		if ctx.Err() != nil {
			r.verdict = verdict{}
		}
		r.verdict.by = key
		a.pool.judge(b, r.verdict)
		if r.answer == nil {
			a.pool.release(b)
		}
		if err := ctx.Err(); err != nil {
			if r.answer != nil {
				_ = r.answer.Body.Close()
			}
			_ = a.drop()
			return nil, context.Cause(ctx)
		}
		if !r.next {
			return a.done(r.answer, op)
		}
		a.failed(b, r)
	}
}

// failed keeps what b answered, if anybody may see it, and who is next.
func (a *asking) failed(b *backend, r reply) {
	problem := "it wants fewer calls"
	switch {
	case r.verdict.err != nil:
		problem = brief(r.verdict.err)
	case r.verdict.limited == 0:
		problem = "it answered HTTP 500"
		a.suspects = append(a.suspects, b)
	}
	a.tried = append(a.tried, Attempt{b.name, problem})
	if r.answer == nil {
		return
	}
	if r.answer.Status < 429 { // not for the caller's eyes: its own key is not meant
		_ = r.answer.Body.Close()
		return
	}
	_ = a.drop()
	a.last = r.answer
}

func (a *asking) drop() error {
	if a.last == nil {
		return nil
	}
	err := a.last.Body.Close()
	a.last = nil
	return err
}

// done hands over the answer of a backend that could.
func (a *asking) done(answer *Answer, op Operation) (*Answer, error) {
	_ = a.drop()
	for _, b := range a.suspects {
		a.pool.judge(b, verdict{by: a.call.Key, err: err500})
	}
	answer.Attempts, answer.Tried = len(a.tried)+1, a.tried
	if op == a.call.Operation {
		return answer, nil
	}
	if err := translateAnswer(answer, a.call); err != nil {
		_ = answer.Body.Close()
		return nil, err
	}
	return answer, nil
}

// giveUp is what the caller gets when nobody is left: the last answer, or what
// went wrong.
func (a *asking) giveUp(ctx context.Context, err error) (*Answer, error) {
	if ctx.Err() != nil {
		_ = a.drop()
		return nil, context.Cause(ctx)
	}
	if a.last != nil {
		a.last.Attempts, a.last.Tried = len(a.tried), a.tried
		return a.last, nil
	}
	if len(a.tried) == 0 {
		return nil, err
	}
	var what []string
	for _, t := range a.tried {
		what = append(what, t.Backend+": "+t.Problem)
	}
	e := apierr.New(apierr.Unavailable, "ServiceUnavailable", "No backend of the model %s could answer: %s. `laz models list` shows their state.", a.Name, strings.Join(what, "; "))
	return nil, e.WithCause(err)
}

// prepare is what b is asked for and with which body.
func (a *asking) prepare(b *backend) (Operation, []byte, error) {
	op, body, edits := a.call.Operation, a.call.Body, slices.Clone(a.call.Set)
	if op == Responses && !b.native {
		op = Chat
		limit, as := "max_tokens", &a.translated[0]
		if b.modern {
			limit, as = "max_completion_tokens", &a.translated[1]
		}
		if *as == nil {
			var err error
			if *as, err = responsesToChat(body, limit); err != nil {
				return op, nil, err
			}
		}
		body = *as
	}
	edits = append(edits, Member{"model", b.named})
	if b.plain {
		edits = append(edits, Member{Key: "stream_options"})
	}
	body, err := Edit(body, edits...)
	return op, body, err
}
