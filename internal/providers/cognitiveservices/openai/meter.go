package openai

import (
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// mostSeries bounds the deployments, and the principals of deployments, that
// metrics tell apart; what comes later counts as "other".
const mostSeries = 1000

// meter is the metrics of the plane.
type meter struct {
	requests *prometheus.CounterVec
	tokens   *prometheus.CounterVec
	first    *prometheus.HistogramVec
	limited  *prometheus.CounterVec
	broken   *prometheus.CounterVec

	mu   sync.Mutex // guards seen
	seen [2]map[string]bool
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
		seen: [2]map[string]bool{{}, {}},
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
func (m *meter) names(account, deployment, principal string) (string, string, string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	fits := func(i int, key string) bool {
		if !m.seen[i][key] && len(m.seen[i]) >= mostSeries {
			return false
		}
		m.seen[i][key] = true
		return true
	}
	key := account + "/" + deployment
	if !fits(0, key) {
		return other, other, other
	}
	if principal != "" && !fits(1, key+"/"+principal) {
		principal = other
	}
	return account, deployment, principal
}

// call is what is measured of one.
type measured struct {
	account, deployment, principal, operation string
	status                                    int
	first                                     time.Duration
	prompt, completion                        int
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
