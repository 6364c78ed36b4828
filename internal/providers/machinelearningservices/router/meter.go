package router

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lazurite.dev/internal/gate"
)

// mostSeries bounds the deployments that metrics tell apart at a time; what comes
// later counts as "other".
const mostSeries = 1000

const other = "other"

// meter is the metrics of the plane.
type meter struct {
	requests *prometheus.CounterVec
	refusals *prometheus.CounterVec
	mirrored *prometheus.CounterVec
	model    *prometheus.HistogramVec
	queue    *prometheus.HistogramVec

	mu   sync.Mutex // guards seen
	seen map[series]*measures
}

// series is whose they are. Names of endpoints are unique in a region. The
// deployment is "" for the endpoint itself.
type series struct{ region, endpoint, deployment string }

// measures are those of one deployment, ready at hand.
type measures struct {
	series
	host         string // by which it was asked for; "" for what is others'
	model, queue prometheus.Observer

	mu       sync.Mutex // guards statuses
	statuses map[int]prometheus.Counter
}

func newMeter(reg prometheus.Registerer) (*meter, error) {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	histogram := func(name, help string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: name, Help: help, Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 180},
		}, []string{"region", "endpoint", "deployment"})
	}
	m := &meter{
		requests: counter("laz_scoring_requests_total", "Requests to deployments, by what was answered; 499 is a client that went away.", "region", "endpoint", "deployment", "status"),
		refusals: counter("laz_scoring_refused_total", "Requests refused before a deployment was chosen.", "region", "endpoint", "status"),
		mirrored: counter("laz_scoring_mirrored_total", "Requests that were to be copied to a deployment, by what became of the copy.", "region", "endpoint", "deployment", "result"),
		model:    histogram("laz_scoring_model_seconds", "Time from the dispatch of a request to the beginning of its instance's answer."),
		queue:    histogram("laz_scoring_queue_seconds", "Time that requests waited for an instance."),
		seen:     map[series]*measures{},
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.requests, m.refusals, m.mirrored, m.model, m.queue} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("registering the metrics of scoring: %w", err)
		}
	}
	return m, nil
}

// of is what measures a deployment of an endpoint, which was asked for at a host.
func (m *meter) of(host string, ep *Endpoint, deployment string) *measures {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := series{ep.Location, ep.Name, deployment}
	if d := m.seen[key]; d != nil {
		return d
	}
	if len(m.seen) >= mostSeries {
		host, key = "", series{other, other, other}
		if d := m.seen[key]; d != nil {
			return d
		}
	}
	d := &measures{series: key, host: host, statuses: map[int]prometheus.Counter{}}
	if deployment != "" || host == "" {
		d.model, d.queue = m.model.WithLabelValues(key.region, key.endpoint, key.deployment), m.queue.WithLabelValues(key.region, key.endpoint, key.deployment)
	}
	m.seen[key] = d
	return d
}

// forget ends the series of deployments and endpoints that are gone: there is
// room for others.
func (m *meter) forget(gone func(host, deployment string) bool) {
	m.mu.Lock()
	all := slices.Collect(maps.Values(m.seen))
	m.mu.Unlock()
	for _, d := range all {
		if d.host == "" || !gone(d.host, d.deployment) {
			continue
		}
		m.mu.Lock()
		delete(m.seen, d.series)
		of := prometheus.Labels{"region": d.region, "endpoint": d.endpoint}
		if d.deployment == "" {
			m.refusals.DeletePartialMatch(of)
		} else {
			of["deployment"] = d.deployment
			m.requests.DeletePartialMatch(of)
			m.mirrored.DeletePartialMatch(of)
			m.model.DeletePartialMatch(of)
			m.queue.DeletePartialMatch(of)
		}
		m.mu.Unlock()
	}
}

// count counts one request.
func (m *meter) count(a *ask, status int) {
	d := m.of(hostOf(a.c.Request), a.ep, a.dep.Name)
	d.mu.Lock()
	c := d.statuses[status]
	if c == nil {
		c = m.requests.WithLabelValues(d.region, d.endpoint, d.deployment, strconv.Itoa(status))
		d.statuses[status] = c
	}
	d.mu.Unlock()
	c.Inc()
	if a.inst == nil {
		return
	}
	d.queue.Observe(a.queued.Seconds())
	if a.took > 0 {
		d.model.Observe(a.took.Seconds())
	}
}

// refused counts a request for which no deployment was chosen. Names that are
// no endpoint's are the callers' own, and not told apart.
func (m *meter) refused(c *gate.Call, status int) {
	of := series{region: other, endpoint: other}
	if c.Target != nil {
		of = m.of(hostOf(c.Request), endpoint(c), "").series
	}
	m.refusals.WithLabelValues(of.region, of.endpoint, strconv.Itoa(status)).Inc()
}

// copy counts what became of a copy.
func (m *meter) copy(host string, ep *Endpoint, deployment, result string) {
	d := m.of(host, ep, deployment)
	m.mirrored.WithLabelValues(d.region, d.endpoint, d.deployment, result).Inc()
}

// rate is how many requests an endpoint gets in a second, where that is bounded.
type rate struct {
	mu   sync.Mutex // guards the rest
	at   time.Time
	left float64
}

// take takes one of so many a second.
func (r *rate) take(now time.Time, most float64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.at.IsZero() {
		r.at, r.left = now, most
	}
	r.left = min(most, r.left+max(0, now.Sub(r.at).Seconds())*most)
	r.at = now
	if r.left < 1 {
		return false
	}
	r.left--
	return true
}
