package controller

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

func TestPool_GivesEachAddressOnce(t *testing.T) {
	p := newPool(netip.MustParsePrefix("198.18.0.129/29")) // .128 to .135
	seen := map[netip.Addr]bool{}
	for _, owner := range []string{"a", "b", "c", "d", "e", "f"} {
		a, err := p.any(owner)
		if err != nil || seen[a] || !p.usable(a) {
			t.Fatalf("%s got %s, %v", owner, a, err)
		}
		seen[a] = true
	}
	for _, edge := range []string{"198.18.0.128", "198.18.0.135"} {
		if seen[netip.MustParseAddr(edge)] {
			t.Errorf("%s was given", edge)
		}
	}
	if _, err := p.any("g"); !errors.Is(err, errExhausted) {
		t.Errorf("got %v, want that every address is given", err)
	}
	freed, _ := p.of("c")
	if !p.free("c", netip.Addr{}) || p.free("c", netip.Addr{}) {
		t.Error("an address is freed once")
	}
	if a, err := p.any("g"); err != nil || a != freed {
		t.Errorf("got %s, %v, want %s", a, err, freed)
	}
}

func TestPool_AFreedAddressRests(t *testing.T) {
	p := newPool(netip.MustParsePrefix("198.18.0.128/25"))
	first, err := p.any("a")
	if err != nil {
		t.Fatal(err)
	}
	p.free("a", netip.Addr{})
	if next, err := p.any("b"); err != nil || next == first {
		t.Errorf("got %s again, %v", next, err)
	}
}

func TestPool_TakesWhatIsAskedFor(t *testing.T) {
	p := newPool(netip.MustParsePrefix("198.18.0.128/25"))
	want := netip.MustParseAddr("198.18.0.200")
	if err := p.take(want, "a"); err != nil {
		t.Fatal(err)
	}
	if err := p.take(want, "a"); err != nil {
		t.Errorf("its own address again: %v", err)
	}
	if err := p.take(want, "b"); err == nil || !strings.Contains(err.Error(), "belongs to the service a") {
		t.Errorf("got %v", err)
	}
	for _, outside := range []string{"198.18.0.127", "198.18.0.128", "198.18.0.255", "10.0.0.1", "::1"} {
		if err := p.take(netip.MustParseAddr(outside), "b"); err == nil {
			t.Errorf("%s is taken", outside)
		}
	}
	// A service that asks for another address gives the old one back.
	other := netip.MustParseAddr("198.18.0.201")
	if err := p.take(other, "a"); err != nil {
		t.Fatal(err)
	}
	if !p.free("a", other) {
		t.Error("nothing was freed")
	}
	if err := p.take(want, "b"); err != nil {
		t.Error(err)
	}
}
