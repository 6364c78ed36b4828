package openai

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lazurite.dev/internal/rid"
)

// mostSeries bounds the deployments, and the principals of deployments, that
// metrics tell apart at a time; what comes later counts as "other".
const mostSeries = 1000

// tidyEvery is how long it takes at least from one search for deployments that
// are gone to the next.
const tidyEvery = time.Minute

// meter is the metrics of the plane.
type meter struct {
	requests *prometheus.CounterVec
	tokens   *prometheus.CounterVec
	first    *prometheus.HistogramVec
	limited  *prometheus.CounterVec
	broken   *prometheus.CounterVec

	wants atomic.Bool // a deployment came that was not known

	mu         sync.Mutex // guards the rest
	seen       map[string]*told
	principals int // of all in seen
	tidied     time.Time
}

// told is a deployment that metrics tell apart; its name is "" for what came to
// none of its account's.
type told struct {
	account    rid.ID
	deployment string
	principals map[string]bool
}

func newMeter(reg prometheus.Registerer) (*meter, error) {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	m := &meter{
		requests: counter("laz_openai_requests_total", "Requests to accounts and their deployments, by what was answered; no deployment where none was found, 499 is a client that went away.", "account", "deployment", "operation", "status"),
		tokens:   counter("laz_openai_tokens_total", "Tokens of prompts and answers.", "account", "deployment", "principal", "kind"),
		limited:  counter("laz_openai_limited_total", "Requests refused by a deployment's capacity.", "account", "deployment", "limit"),
		broken:   counter("laz_openai_broken_answers_total", "Answers that did not come to their end, by reason.", "reason"),
		first: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "laz_openai_first_byte_seconds", Help: "Time from a request to the first byte of its answer.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}, []string{"account", "deployment"}),
		seen: map[string]*told{},
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.requests, m.tokens, m.limited, m.broken, m.first} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("registering the metrics of models: %w", err)
		}
	}
	return m, nil
}

const other = "other"

// names are the labels of a deployment and a principal.
func (m *meter) names(account rid.ID, deployment, principal string) (string, string, string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := account.Name() + "/" + deployment
	d := m.seen[key]
	if d == nil {
		m.wants.Store(true)
		if len(m.seen) >= mostSeries {
			return other, other, other
		}
		d = &told{account, deployment, map[string]bool{}}
		m.seen[key] = d
	}
	switch {
	case principal == "" || d.principals[principal]:
	case m.principals >= mostSeries:
		principal = other
	default:
		d.principals[principal] = true
		m.principals++
	}
	return account.Name(), deployment, principal
}

// forget ends the series of deployments and accounts that are gone, once in a
// while when new ones come: there is room for those then.
func (m *meter) forget(now time.Time, gone func(account rid.ID, deployment string) (bool, error)) error {
	if !m.wants.Load() {
		return nil
	}
	m.mu.Lock()
	if now.Sub(m.tidied) < tidyEvery {
		m.mu.Unlock()
		return nil
	}
	m.tidied = now
	m.wants.Store(false)
	all := slices.Collect(maps.Values(m.seen))
	m.mu.Unlock()
	for _, d := range all {
		yes, err := gone(d.account, d.deployment)
		if err != nil {
			return err
		}
		if yes {
			m.end(d)
		}
	}
	return nil
}

// end ends the series of a deployment.
func (m *meter) end(d *told) {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := d.account.Name() + "/" + d.deployment
	if m.seen[key] != d {
		return
	}
	delete(m.seen, key)
	m.principals -= len(d.principals)
	of := prometheus.Labels{"account": d.account.Name(), "deployment": d.deployment}
	m.requests.DeletePartialMatch(of)
	m.tokens.DeletePartialMatch(of)
	m.first.DeletePartialMatch(of)
	m.limited.DeletePartialMatch(of)
}

// call is what is measured of one.
type measured struct {
	account                          rid.ID
	deployment, principal, operation string
	status                           int
	first                            time.Duration
	prompt, completion               int
}

func (m *meter) count(c measured) {
	account, deployment, principal := m.names(c.account, c.deployment, c.principal)
	m.requests.WithLabelValues(account, deployment, c.operation, strconv.Itoa(c.status)).Inc()
	if c.first > 0 {
		m.first.WithLabelValues(account, deployment).Observe(c.first.Seconds())
	}
	if c.prompt > 0 {
		m.tokens.WithLabelValues(account, deployment, principal, "prompt").Add(float64(c.prompt))
	}
	if c.completion > 0 {
		m.tokens.WithLabelValues(account, deployment, principal, "completion").Add(float64(c.completion))
	}
}
