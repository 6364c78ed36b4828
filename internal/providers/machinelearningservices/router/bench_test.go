package router_test

import (
	"testing"

	"lazurite.dev/internal/providers/machinelearningservices/router"
)

// BenchmarkScore is a whole request over HTTP/1.1: client, TLS and instance are
// in it.
func BenchmarkScore(b *testing.B) {
	w := newWorld(b)
	w.change(func(ep *router.Endpoint) { ep.Deployments["blue"].MaxConcurrent = 100 })
	i, _ := w.runs("a", says(`[11055.977245525679,4503.079536107787]`))
	w.fleetOf("blue", i)
	c := w.http1()
	b.ReportAllocs()
	for b.Loop() {
		if a := do(c, w.request("POST", "/score", `{"data":[[1,2,3,4,5,6,7,8,9,10]]}`)); a.status != 200 {
			b.Fatal(a)
		}
	}
}
