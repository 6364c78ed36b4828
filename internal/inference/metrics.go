package inference

import "github.com/prometheus/client_golang/prometheus"

// collector tells the state of the backends when it is asked.
type collector struct {
	catalog *Catalog

	up, inFlight, waiting, calls, failures, firstByte *prometheus.Desc
}

// Metrics are gauges and counters of the backends, laz_openai_backend_*, by
// model and backend; the models that the built-in one answers for are one.
func (c *Catalog) Metrics() prometheus.Collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("laz_openai_backend_"+name, help, labels, nil)
	}
	return &collector{
		catalog:   c,
		up:        desc("up", "1 while a backend of a model is asked, 0 while it is out or wants no calls.", "model", "backend"),
		inFlight:  desc("in_flight", "Calls that a backend has.", "model", "backend"),
		waiting:   desc("waiting", "Calls that wait for a backend of a model.", "model"),
		calls:     desc("calls_total", "Calls that a backend was given.", "model", "backend"),
		failures:  desc("failures_total", "Calls and questions for models that a backend could not answer.", "model", "backend"),
		firstByte: desc("first_byte_seconds", "Time to the first byte of a backend's answer, a moving average.", "model", "backend"),
	}
}

// Describe implements prometheus.Collector.
func (k *collector) Describe(out chan<- *prometheus.Desc) { prometheus.DescribeByCollect(k, out) }

// Collect implements prometheus.Collector.
func (k *collector) Collect(out chan<- prometheus.Metric) {
	builtin := false
	for _, m := range k.catalog.Status() {
		name := m.Name
		if m.Source == SourceBuiltin {
			if builtin {
				continue
			}
			builtin, name = true, TinyWriter
		}
		out <- prometheus.MustNewConstMetric(k.waiting, prometheus.GaugeValue, float64(m.Waiting), name)
		for _, b := range m.Backends {
			up := 1.0
			if b.State == StateOut || b.State == StateLimited {
				up = 0
			}
			for _, v := range []struct {
				desc  *prometheus.Desc
				kind  prometheus.ValueType
				value float64
			}{
				{k.up, prometheus.GaugeValue, up}, {k.inFlight, prometheus.GaugeValue, float64(b.InFlight)},
				{k.calls, prometheus.CounterValue, float64(b.Calls)}, {k.failures, prometheus.CounterValue, float64(b.Failed)},
				{k.firstByte, prometheus.GaugeValue, b.FirstByte / 1000},
			} {
				out <- prometheus.MustNewConstMetric(v.desc, v.kind, v.value, name, b.Name)
			}
		}
	}
}
