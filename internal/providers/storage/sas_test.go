package storage_test

import (
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"lazurite.dev/internal/providers/storage"
)

const sig = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="

func query(pairs ...string) url.Values {
	q := url.Values{"sig": {sig}, "sv": {"2022-11-02"}, "sp": {"rl"}, "se": {"2099-01-01T00:00:00Z"}, "sr": {"c"}}
	for i := 0; i+1 < len(pairs); i += 2 {
		if q.Set(pairs[i], pairs[i+1]); pairs[i+1] == "" {
			q.Del(pairs[i])
		}
	}
	return q
}

func TestParseSAS(t *testing.T) {
	if s, err := storage.ParseSAS(url.Values{"sp": {"r"}}); s != nil || err != nil {
		t.Errorf("without a signature: %v %v", s, err)
	}
	for _, c := range []struct {
		name string
		q    url.Values
		kind storage.Kind
		err  string
	}{
		{"service", query(), storage.ServiceSAS, ""},
		{"account", query("ss", "b", "srt", "sco", "sr", ""), storage.AccountSAS, ""},
		{"delegation", query("skoid", "o", "sktid", "t", "skt", "2024-01-01", "ske", "2099-01-01T00:00Z", "sks", "b", "skv", "2020-12-06"), storage.DelegationSAS, ""},
		{"old", query("sv", "2013-08-15"), 0, "none that is supported"},
		{"no version", query("sv", ""), 0, "none that is supported"},
		{"no expiry", query("se", ""), 0, "mandatory"},
		{"no permissions", query("sp", ""), 0, "mandatory"},
		{"bad expiry", query("se", "tomorrow"), 0, "is not in UTC"},
		{"policy", query("si", "p"), 0, "'si' is not supported"},
		{"scope", query("ses", "p"), 0, "'ses' is not supported"},
		{"snapshot", query("sr", "bs"), 0, "neither 'b' nor 'c'"},
		{"directory", query("sr", "d", "sdd", "1"), 0, "'sdd' is not supported"},
		{"headers", query("srh", "x"), 0, "'srh' is not supported"},
		{"protocol", query("spr", "http"), 0, "'spr'"},
		{"short signature", query("sig", "AAAA"), 0, "32 bytes"},
		{"line break", query("sp", "r\nw"), 0, "line break"},
		{"twice", url.Values{"sig": {sig}, "sp": {"r", "w"}, "sv": {"2022-11-02"}}, 0, "more than once"},
		{"delegation without times", query("skoid", "o"), 0, "'skt' and 'ske'"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := storage.ParseSAS(c.q)
			if c.err == "" && (err != nil || s.Kind != c.kind) || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
				t.Errorf("%+v %v, want %q", s, err, c.err)
			}
		})
	}
}

func TestSAS_Admits(t *testing.T) {
	for _, c := range []struct {
		sip, client string
		want        bool
	}{
		{"", "203.0.113.9", true}, {"203.0.113.9", "203.0.113.9", true}, {"203.0.113.9", "203.0.113.8", false}, {"203.0.113.1-203.0.113.9", "203.0.113.9", true},
		{"203.0.113.1-203.0.113.9", "203.0.113.10", false}, {"203.0.113.1-203.0.113.9", "::ffff:203.0.113.2", true}, {"x", "203.0.113.9", false}, {"203.0.113.1-y", "203.0.113.9", false},
		{"203.0.113.1", "2001:db8::1", false},
	} {
		s, err := storage.ParseSAS(query("sip", c.sip))
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Admits(netip.MustParseAddr(c.client)); got != c.want {
			t.Errorf("%q admits %s: %v", c.sip, c.client, got)
		}
	}
	if s, _ := storage.ParseSAS(query("sip", "203.0.113.1")); s.Admits(netip.Addr{}) {
		t.Error("an address that nobody knows is admitted")
	}
}

// FuzzParseSAS: what is taken has a kind, an end and permissions, and no part
// of it can stand for two of what is signed.
func FuzzParseSAS(f *testing.F) {
	f.Add(query().Encode())
	f.Add(query("ss", "b", "srt", "sco").Encode())
	f.Add(query("skoid", "o", "skt", "2024-01-01", "ske", "2024-01-02").Encode())
	f.Fuzz(func(t *testing.T, raw string) {
		q, err := url.ParseQuery(raw)
		if err != nil {
			return
		}
		s, err := storage.ParseSAS(q)
		if err != nil || s == nil {
			return
		}
		if s.Expiry.IsZero() || s.Get("sp") == "" || len(s.Signature) != 32 {
			t.Errorf("%q was taken", raw)
		}
		for _, n := range []string{"sp", "st", "se", "sr", "sip", "rscc", "rsct", "skoid", "scid"} {
			if strings.Contains(s.Get(n), "\n") {
				t.Errorf("%q has a line break", n)
			}
		}
		s.Admits(netip.MustParseAddr("203.0.113.1"))
	})
}
