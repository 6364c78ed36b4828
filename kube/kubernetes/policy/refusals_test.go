package policy

import (
	"net/netip"
	"testing"
)

const listing = `{"nftables": [{"metainfo": {"version": "1.0.6"}}, {"set": {"family": "ip", "name": "refused-in", "table": "lazurite-policy", "elem": [
	{"elem": {"val": {"concat": ["10.244.0.3", "10.244.0.2", 6, 8080]}, "timeout": 600, "expires": 599, "counter": {"packets": 2, "bytes": 120}}},
	{"elem": {"val": {"concat": ["10.244.0.3", "10.244.0.2", "udp", 53]}, "counter": {"packets": 1, "bytes": 60}}}]}}]}`

func TestParseRefusals(t *testing.T) {
	got, err := parseRefusals([]byte(listing))
	if err != nil {
		t.Fatal(err)
	}
	source, destination := netip.MustParseAddr("10.244.0.3"), netip.MustParseAddr("10.244.0.2")
	want := []Refusal{{Source: source, Destination: destination, Protocol: "tcp", Port: 8080, Packets: 2}, {Source: source, Destination: destination, Protocol: "udp", Port: 53, Packets: 1}}
	if len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("got %+v", got)
	}
	for _, bad := range []string{"", "{", `{"nftables":[{"set":{"elem":[{"elem":{"val":{"concat":["x","10.0.0.1",6,1]}}}]}}]}`, `{"nftables":[{"set":{"elem":[{"elem":{"val":{"concat":[1]}}}]}}]}`} {
		if got, err := parseRefusals([]byte(bad)); err == nil {
			t.Errorf("%q gives %+v", bad, got)
		}
	}
}

func FuzzParseRefusals(f *testing.F) {
	f.Add([]byte(listing))
	f.Add([]byte(`{"nftables":[{"set":{"elem":[{"elem":{"val":{"concat":["10.0.0.1","10.0.0.1",6,-1]}}}]}}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		all, err := parseRefusals(raw)
		if err != nil {
			return
		}
		for _, r := range all {
			if !r.Source.IsValid() || !r.Destination.IsValid() || r.Port < 0 || r.Port > 65535 {
				t.Errorf("%+v", r)
			}
		}
	})
}
