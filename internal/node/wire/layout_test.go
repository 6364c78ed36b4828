package wire_test

import (
	"net/netip"
	"testing"

	"lazurite.dev/internal/node/wire"
)

func TestLayout(t *testing.T) {
	p := netip.MustParsePrefix
	for _, c := range []struct{ pods, first, last string }{
		{"10.244.0.0/16", "10.244.0.0/24", "10.244.111.0/24"},
		{"10.0.0.0/9", "10.0.0.0/24", "10.0.111.0/24"},
		{"10.1.0.0/20", "10.1.0.0/27", "10.1.13.224/27"},
		{"10.1.0.0/18", "10.1.0.0/25", "10.1.55.128/25"},
	} {
		l := wire.Layout{Base: p(wire.DefaultRange), Index: 300, Pods: p(c.pods)}
		last := wire.FirstSlot + l.Slots() - 1
		if got := l.PodCIDR(wire.FirstSlot); got != p(c.first) {
			t.Errorf("%s: got %s, want %s", c.pods, got, c.first)
		}
		if got := l.PodCIDR(last); got != p(c.last) || !l.Pods.Contains(got.Addr()) {
			t.Errorf("%s: got %s, want %s", c.pods, got, c.last)
		}
		if l.Network() != p("198.19.44.0/24") || l.LoadBalancers() != p("198.19.44.128/25") || l.Cluster().String() != "198.19.44.2" {
			t.Errorf("got %s, %s, %s", l.Network(), l.LoadBalancers(), l.Cluster())
		}
	}
	for s, want := range map[string]int{"198.18.0.0/15": 512, "10.0.0.0/8": 512, "10.1.2.0/24": 1, "10.1.2.0/25": 0, "fd00::/64": 0} {
		if got := wire.Indexes(p(s)); got != want {
			t.Errorf("%s: got %d, want %d", s, got, want)
		}
		if err := wire.CheckRange(p(s)); (err == nil) != (want > 0) {
			t.Errorf("%s: got %v", s, err)
		}
	}
	if wire.CheckRange(p("10.1.2.3/16")) == nil {
		t.Error("a range with more than a network's address was taken")
	}
}
