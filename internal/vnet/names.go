package vnet

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// SetPolicy changes which names are answered.
func (r *Resolver) SetPolicy(p *Policy) {
	if p == nil {
		p = open()
	}
	r.policy.Store(p)
}

// approved reports whether a rule has the name of a question.
func (r *Resolver) approved(p *Policy, question string) bool {
	name, err := hostName(question)
	if err != nil {
		return false
	}
	_, _, ok := p.host(name, r.cfg.Owns(name), 0)
	return ok
}

// refused tells of a question that the policy refuses, and gives the reason.
// Names that programs ask for on their way to another one are passed over.
func (r *Resolver) refused(p *Policy, question string, client netip.Addr) string {
	name := strings.ToLower(strings.TrimSuffix(question, "."))
	reason, why := p.refuses(name, r.cfg.Owns(name), 0)
	if !strings.Contains(name, ".") || strings.HasSuffix(name, ".arpa") || strings.HasSuffix(name, ".cluster.local") || !client.IsValid() {
		return why
	}
	r.cfg.Metrics.refused(r.cfg.Network, reason)
	f := Refusal{Network: r.cfg.Network, Client: client, Name: name, Reason: reason, Why: why, Question: true}
	if r.cfg.Who != nil {
		f.Who = r.cfg.Who(client)
	}
	switch {
	case r.cfg.Refused != nil:
		r.cfg.Refused(f)
	case r.mayWarn():
		r.cfg.Log.Warn("name refused", slog.String("network", f.Network), slog.String("client", client.String()), slog.String("who", f.Who),
			slog.String("name", f.Name), slog.String("error", why))
	}
	return why
}

// maxRefused is how many refused names a second are logged.
const maxRefused = 20

func (r *Resolver) mayWarn() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := time.Now().Truncate(time.Second); !now.Equal(r.second) {
		r.second, r.refusals = now, 0
	}
	r.refusals++
	return r.refusals <= maxRefused
}

// plainly asks what q does without what its asker chose besides the name: letter
// case and flags would carry words out, a few bits with each question.
func plainly(q *dns.Msg) *dns.Msg {
	m := new(dns.Msg)
	m.SetQuestion(strings.ToLower(q.Question[0].Name), dns.TypeA)
	return m
}

// addressesAlone takes out of an answer what is neither an address nor on the
// way to one.
func addressesAlone(m *dns.Msg) {
	kept := m.Answer[:0]
	for _, rr := range m.Answer {
		if t := rr.Header().Rrtype; t == dns.TypeA || t == dns.TypeCNAME {
			kept = append(kept, rr)
		}
	}
	m.Answer, m.Ns, m.Extra = kept, nil, nil
}

// lookups are the addresses of names that were asked for of late.
type lookups struct {
	mu    sync.Mutex // guards names
	names map[string]lookup
}

type lookup struct {
	list  []netip.Addr
	until time.Time
}

const (
	maxLookups = 1024
	maxLookTTL = 30 * time.Second
)

// Lookup gives the IPv4 addresses that the host's resolvers have for a name; it
// is for the gate, and not bound by the policy. They are kept for as long as
// they say, half a minute at most.
func (r *Resolver) Lookup(ctx context.Context, name string) ([]netip.Addr, error) {
	now := time.Now()
	r.looked.mu.Lock()
	kept, ok := r.looked.names[name]
	r.looked.mu.Unlock()
	if ok && now.Before(kept.until) {
		return kept.list, nil
	}
	if r.cfg.Offline {
		return nil, fmt.Errorf("%s is not asked for: Lazurite runs with --offline", name)
	}
	q := new(dns.Msg)
	q.SetQuestion(dns.Fqdn(name), dns.TypeA)
	m, err := r.ask(ctx, q)
	if err != nil {
		return nil, fmt.Errorf("asking for %s: %w", name, err)
	}
	if m.Rcode != dns.RcodeSuccess {
		return nil, fmt.Errorf("asking for %s: %s", name, dns.RcodeToString[m.Rcode])
	}
	one := lookup{until: now.Add(maxLookTTL)}
	for _, rr := range m.Answer {
		if until := now.Add(time.Duration(rr.Header().Ttl) * time.Second); until.Before(one.until) {
			one.until = until
		}
		if a, ok := rr.(*dns.A); ok {
			if ip, ok := netip.AddrFromSlice(a.A.To4()); ok {
				one.list = append(one.list, ip)
			}
		}
	}
	r.looked.keep(name, one, now)
	return one.list, nil
}

func (l *lookups) keep(name string, one lookup, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.names == nil || len(l.names) >= maxLookups {
		fresh := map[string]lookup{}
		for k, v := range l.names {
			if now.Before(v.until) && len(fresh) < maxLookups/2 {
				fresh[k] = v
			}
		}
		l.names = fresh
	}
	l.names[name] = one
}
