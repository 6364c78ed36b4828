package inference_test

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"lazurite.dev/internal/inference"
)

func TestMetrics(t *testing.T) {
	c, err := inference.New(inference.Config{Ollama: inference.OllamaOff, Models: []inference.ModelConfig{{Name: "m", Version: inference.Versions{"1", "2"}, Backends: []inference.BackendConfig{
		{Name: "a", URL: (&replay{fault: status(503)}).server(t).URL}, {Name: "b", URL: (&replay{}).server(t).URL, Weight: weight(0)}}}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, who := range []string{"one", "another", "third"} {
		if _, err := as(t, c, who); err != nil {
			t.Fatal(err)
		}
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(c.Metrics())
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			name := strings.TrimPrefix(f.GetName(), "laz_openai_backend_")
			for _, l := range m.Label {
				name += " " + l.GetValue()
			}
			got[name] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	for name, want := range map[string]float64{
		"failures_total a m": inference.TripAfter, "failures_total b m": 0, "calls_total b m": inference.TripAfter, "up a m": 0, "up b m": 1,
		"up builtin/tiny-writer tiny-writer": 1, "in_flight b m": 0, "waiting m": 0,
	} {
		if v, ok := got[name]; !ok || v != want {
			t.Errorf("%s is %v, %v, want %v", name, v, ok, want)
		}
	}
	if v := got["first_byte_seconds b m"]; v <= 0 || v > 5 {
		t.Errorf("the first byte takes %v s", v)
	}
}
