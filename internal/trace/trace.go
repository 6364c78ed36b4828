// Package trace keeps the hops of a decision as the decision is made, so that
// `laz explain` can say what was found and which command mends it.
//
// Whoever decides calls [Add]; it costs an append when the request carries a
// [Log] and nothing when it does not. The surface that answers a refusal gives
// the hops to the recorder of package refusals. Hops are shown to people: they hold identifiers
// and what was expected, never a secret or a token.
package trace

import (
	"context"
	"strings"
	"sync"
	"time"
)

// The limits of one trace; what is longer is cut, marked with an ellipsis.
const (
	maxHops  = 64
	maxField = 1024 // bytes
)

// Hop is one step of a decision.
type Hop struct {
	Step     string `json:"step"`               // "issuer", "credential", "subject", "audience", "identity", "network", "token", "role", …
	Subject  string `json:"subject,omitempty"`  // what was looked at: an id, a name
	Found    string `json:"found,omitempty"`    // what was found there, a sentence
	Expected string `json:"expected,omitempty"` // of a comparison
	Received string `json:"received,omitempty"` // of a comparison
	OK       bool   `json:"ok"`
	Fix      string `json:"fix,omitempty"` // the command that would mend it
}

// Trace is a finished decision.
type Trace struct {
	ID          string    `json:"id"`          // the request's id
	Correlation string    `json:"correlation"` // x-ms-correlation-request-id, or the token service's correlation_id
	Time        time.Time `json:"time"`
	Surface     string    `json:"surface"`             // "token", "management", "keyvault", …
	Who         string    `json:"who"`                 // principal, as far as it is known
	Principal   string    `json:"principal,omitempty"` // object id of whoever brought a valid token
	What        string    `json:"what"`                // action and target
	Outcome     string    `json:"outcome"`             // the code that the caller saw
	Hops        []Hop     `json:"hops"`

	// Answered says that the request was no refusal.
	Answered bool `json:"answered,omitempty"`
}

// By says who was refused: a name for people, and the object id.
func (t *Trace) By(name, oid string) {
	t.Who, t.Principal = name+" ("+oid+")", oid
}

// Log collects the hops of one request. The nil Log takes and gives nothing.
type Log struct {
	mu   sync.Mutex // guards hops
	hops []entry
}

// entry is a hop, or what will make it when somebody asks.
type entry struct {
	hop  Hop
	late func() Hop
}

type key struct{}

// With gives a context whose hops are collected, and the Log that collects them.
func With(ctx context.Context) (context.Context, *Log) {
	l := &Log{}
	return context.WithValue(ctx, key{}, l), l
}

// Without is ctx whose decisions are not recorded: for those that only choose
// what a list shows.
func Without(ctx context.Context) context.Context {
	return context.WithValue(ctx, key{}, (*Log)(nil))
}

// From is the Log of ctx, nil when nobody collects.
func From(ctx context.Context) *Log {
	l, _ := ctx.Value(key{}).(*Log)
	return l
}

// Add appends a hop to the Log of ctx, if there is one.
func Add(ctx context.Context, h Hop) { From(ctx).Add(h) }

// Add appends a hop. Beyond 64 hops further ones are left out.
func (l *Log) Add(h Hop) { l.add(entry{hop: h}) }

// AddLate appends the hop that late makes, which is called only if somebody
// asks for the hops: hardly ever for a step that was passed. It must not add
// hops itself, and what it reads must not change.
func (l *Log) AddLate(late func() Hop) { l.add(entry{late: late}) }

func (l *Log) add(e entry) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.hops) < maxHops {
		if l.hops == nil {
			l.hops = make([]entry, 0, 4)
		}
		l.hops = append(l.hops, e)
	}
}

// Wants reports whether another hop would be kept: what costs more than a
// moment to find out need not be found out otherwise.
func (l *Log) Wants() bool {
	if l == nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.hops) < maxHops
}

// Hops is a copy of what was collected so far.
func (l *Log) Hops() []Hop {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []Hop
	for i := range l.hops {
		if e := &l.hops[i]; e.late != nil {
			*e = entry{hop: e.late()}
		}
		out = append(out, l.hops[i].hop)
	}
	return out
}

// Trimmed is t with every text within its limit: parts of it come from callers.
func (t Trace) Trimmed() Trace {
	for _, s := range []*string{&t.ID, &t.Correlation, &t.Surface, &t.Who, &t.Principal, &t.What, &t.Outcome} {
		*s = cut(*s)
	}
	hops := make([]Hop, 0, len(t.Hops))
	for _, h := range t.Hops[:min(len(t.Hops), maxHops)] {
		for _, s := range []*string{&h.Step, &h.Subject, &h.Found, &h.Expected, &h.Received, &h.Fix} {
			*s = cut(*s)
		}
		hops = append(hops, h)
	}
	t.Hops = hops
	return t
}

func cut(s string) string {
	if len(s) > maxField {
		s = strings.ToValidUTF8(s[:maxField-3], "") + "…"
	}
	return strings.ToValidUTF8(s, "�")
}
