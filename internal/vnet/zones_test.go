package vnet_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"lazurite.dev/internal/vnet"
)

func front() netip.Addr { return netip.MustParseAddr("168.63.129.16") }

// rr is a record of a zone file's line.
func rr(t testing.TB, line string) dns.RR {
	t.Helper()
	r, err := dns.NewRR(line)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func privateNames(t testing.TB) *vnet.Names {
	t.Helper()
	return vnet.NewNames([]vnet.Zone{
		{Name: "corp.example", Records: []dns.RR{
			rr(t, "corp.example. 60 IN SOA ns.corp.example. me.corp.example. 1 2 3 4 5"), rr(t, "www.corp.example. 60 IN A 10.0.0.1"),
			rr(t, "alias.corp.example. 60 IN CNAME www.corp.example."), rr(t, "out.corp.example. 60 IN CNAME login.owned.test."),
			rr(t, "*.wild.corp.example. 60 IN A 10.0.0.2"), rr(t, "a.deep.corp.example. 60 IN A 10.0.0.3"),
			rr(t, "loop.corp.example. 60 IN CNAME loop.corp.example."),
		}},
		{Name: "privatelink.owned.test", Records: []dns.RR{rr(t, "mine.privatelink.owned.test. 60 IN A 10.0.0.9")}},
	}, map[string]string{
		"mine.owned.test": "mine.privatelink.owned.test", "other.owned.test": "other.privatelink.owned.test", "far.owned.test": "far.unlinked.owned.test",
	})
}

func TestResolver_PrivateZonesAndNames(t *testing.T) {
	names := privateNames(t)
	r := vnet.NewResolver(vnet.ResolverConfig{
		Network: "net", Owns: func(s string) bool { return strings.HasSuffix(s, ".owned.test") }, Front: front(), Offline: true, Log: (&lines{}).logger(), Names: func() *vnet.Names { return names },
	})
	for _, row := range []struct {
		name  string
		typ   uint16
		rcode int
		want  string // the last answer's data
	}{
		{"www.corp.example.", dns.TypeA, dns.RcodeSuccess, "10.0.0.1"},
		{"WWW.Corp.Example.", dns.TypeA, dns.RcodeSuccess, "10.0.0.1"},
		{"www.corp.example.", dns.TypeAAAA, dns.RcodeSuccess, ""},
		{"alias.corp.example.", dns.TypeA, dns.RcodeSuccess, "10.0.0.1"},
		{"out.corp.example.", dns.TypeA, dns.RcodeSuccess, front().String()},
		{"none.corp.example.", dns.TypeA, dns.RcodeNameError, ""},
		{"x.wild.corp.example.", dns.TypeA, dns.RcodeSuccess, "10.0.0.2"},
		{"x.y.wild.corp.example.", dns.TypeA, dns.RcodeSuccess, "10.0.0.2"},
		{"deep.corp.example.", dns.TypeA, dns.RcodeSuccess, ""}, // it has a name below it
		{"loop.corp.example.", dns.TypeA, dns.RcodeServerFailure, ""},
		{"mine.owned.test.", dns.TypeA, dns.RcodeSuccess, "10.0.0.9"},
		{"other.owned.test.", dns.TypeA, dns.RcodeNameError, ""},             // the zone is linked and lacks it
		{"far.owned.test.", dns.TypeA, dns.RcodeSuccess, front().String()},   // no zone is linked: the public side
		{"plain.owned.test.", dns.TypeA, dns.RcodeSuccess, front().String()}, // no private name
		{"corp.example.evil.test.", dns.TypeA, dns.RcodeNameError, ""},       // not in the zone; offline
		{"far.unlinked.owned.test.", dns.TypeA, dns.RcodeSuccess, front().String()},
	} {
		q := new(dns.Msg)
		q.SetQuestion(row.name, row.typ)
		got := r.Answer(t.Context(), q)
		data := ""
		if n := len(got.Answer); n > 0 {
			data = strings.TrimPrefix(got.Answer[n-1].String(), got.Answer[n-1].Header().String())
		}
		if got.Rcode != row.rcode || row.rcode == dns.RcodeSuccess && data != row.want {
			t.Errorf("%s %s: got %s %q", row.name, dns.TypeToString[row.typ], dns.RcodeToString[got.Rcode], data)
		}
	}
}

func FuzzNames(f *testing.F) {
	names := privateNames(f)
	r := vnet.NewResolver(vnet.ResolverConfig{
		Network: "net", Owns: func(s string) bool { return strings.HasSuffix(s, ".owned.test") }, Front: front(), Offline: true, Log: (&lines{}).logger(), Names: func() *vnet.Names { return names },
	})
	for _, s := range []string{"www.corp.example.", "*.corp.example.", ".", "\\.corp.example.", "loop.corp.example.", strings.Repeat("a.", 100)} {
		f.Add(s, uint16(1))
	}
	f.Fuzz(func(t *testing.T, name string, typ uint16) {
		q := new(dns.Msg)
		q.SetQuestion(name, typ)
		if got := r.Answer(t.Context(), q); got == nil || got.Id != q.Id {
			t.Errorf("%q: got %v", name, got)
		}
	})
}
