package vnet

import (
	"context"
	"net/netip"

	"github.com/miekg/dns"
)

// HostResolvers are those of a resolv.conf that a Resolver would ask: not
// those in base, which are ourselves.
func HostResolvers(path string, base netip.Prefix) ([]netip.AddrPort, error) {
	return (&hostResolvers{path: path, base: base}).list()
}

// Probe asks a resolver a question that every one can answer, and gives the
// error if it does not. That it refuses is an answer.
func Probe(ctx context.Context, server netip.AddrPort) error {
	q := new(dns.Msg)
	q.SetQuestion(".", dns.TypeNS)
	_, err := exchange(ctx, question(q), server)
	return err
}
