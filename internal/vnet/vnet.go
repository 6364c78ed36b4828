// Package vnet is what a network that Lazurite runs offers to those inside it:
// a resolver, which sends the owned names to the network's front door and asks
// the host's resolvers for the others, and the outbound gate, through which
// every other connection leaves, or is refused at once with a reason in the
// log.
//
// Both serve on sockets that somebody with the rights has opened inside the
// network; they themselves need none.
package vnet

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics count what resolvers and gates do, by network. The zero Metrics and
// nil count nothing.
type Metrics struct {
	queries  *prometheus.CounterVec
	outbound *prometheus.CounterVec
	bytes    *prometheus.CounterVec
	open     *prometheus.GaugeVec
	refusals *prometheus.CounterVec
}

// NewMetrics registers the metrics with reg. It fails when reg has them already.
func NewMetrics(reg prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
		queries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "lazurite_network_queries_total", Help: "Questions that resolvers of networks answered.",
		}, []string{"network", "answer"}),
		outbound: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "lazurite_network_outbound_total", Help: "Connections that wanted to leave a network.",
		}, []string{"network", "outcome"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "lazurite_network_outbound_bytes_total", Help: "Bytes that passed the outbound gate.",
		}, []string{"network", "direction"}),
		open: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "lazurite_network_outbound_open", Help: "Connections that are open through the outbound gate.",
		}, []string{"network"}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "lazurite_network_refusals_total", Help: "Connections and questions that a network's policy refused.",
		}, []string{"network", "reason"}),
	}
	for _, c := range []prometheus.Collector{m.queries, m.outbound, m.bytes, m.open, m.refusals} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("registering the metrics of networks: %w", err)
		}
	}
	return m, nil
}

// Forget drops what was counted for a network that is gone.
func (m *Metrics) Forget(network string) {
	if m == nil || m.queries == nil {
		return
	}
	l := prometheus.Labels{"network": network}
	m.queries.DeletePartialMatch(l)
	m.outbound.DeletePartialMatch(l)
	m.bytes.DeletePartialMatch(l)
	m.open.DeletePartialMatch(l)
	m.refusals.DeletePartialMatch(l)
}

func (m *Metrics) query(network, answer string) {
	if m != nil && m.queries != nil {
		m.queries.WithLabelValues(network, answer).Inc()
	}
}

func (m *Metrics) left(network, outcome string) {
	if m != nil && m.outbound != nil {
		m.outbound.WithLabelValues(network, outcome).Inc()
	}
}

func (m *Metrics) refused(network, reason string) {
	if m != nil && m.refusals != nil && reason != "" {
		m.refusals.WithLabelValues(network, reason).Inc()
	}
}

func (m *Metrics) passed(network, direction string, n int64) {
	if m != nil && m.bytes != nil && n > 0 {
		m.bytes.WithLabelValues(network, direction).Add(float64(n))
	}
}

func (m *Metrics) opened(network string, n float64) {
	if m != nil && m.open != nil {
		m.open.WithLabelValues(network).Add(n)
	}
}

// addrPort is the address of a as a netip one, IPv4 in its short form; the zero
// AddrPort for another kind of address.
func addrPort(a net.Addr) netip.AddrPort {
	var ap netip.AddrPort
	switch a := a.(type) {
	case *net.TCPAddr:
		ap = a.AddrPort()
	case *net.UDPAddr:
		ap = a.AddrPort()
	}
	return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
}

// platform is the address of resolver and front door in virtual networks, as in Azure.
func platform() netip.Addr { return netip.AddrFrom4([4]byte{168, 63, 129, 16}) }

// closing closes c when ctx ends, until the function that it gives is called.
func closing(ctx context.Context, c interface{ Close() error }) (stop func() bool) {
	return context.AfterFunc(ctx, func() { _ = c.Close() }) // whoever waits on it sees that
}
