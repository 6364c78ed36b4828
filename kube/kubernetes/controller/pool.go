package controller

import (
	"errors"
	"fmt"
	"net/netip"
)

// pool is who has which address of a range. The first and the last address are
// nobody's: some systems take them for the network and for everybody.
type pool struct {
	prefix netip.Prefix
	owners map[netip.Addr]string
	last   netip.Addr // given most recently: a freed address rests while others are free
}

// errExhausted says that every address is given.
var errExhausted = errors.New("every address of the range is given")

func newPool(prefix netip.Prefix) *pool {
	prefix = prefix.Masked()
	return &pool{prefix: prefix, owners: map[netip.Addr]string{}, last: prefix.Addr()}
}

// usable says whether an address can be given at all.
func (p *pool) usable(a netip.Addr) bool {
	return p.prefix.Contains(a) && a != p.prefix.Addr() && p.prefix.Contains(a.Next())
}

// take gives an address that was asked for.
func (p *pool) take(a netip.Addr, owner string) error {
	if !p.usable(a) {
		return fmt.Errorf("the address %s is not in the range %s of load balancers", a, p.prefix)
	}
	if other, taken := p.owners[a]; taken && other != owner {
		return fmt.Errorf("the address %s belongs to the service %s", a, other)
	}
	p.owners[a] = owner
	return nil
}

// any gives a free address, the next one after the last that was given.
func (p *pool) any(owner string) (netip.Addr, error) {
	a := p.last
	for range 1 << (32 - p.prefix.Bits()) {
		if a = a.Next(); !p.prefix.Contains(a) {
			a = p.prefix.Addr()
		}
		if _, taken := p.owners[a]; !taken && p.usable(a) {
			p.owners[a], p.last = owner, a
			return a, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("%w: %s", errExhausted, p.prefix)
}

// free takes back what an owner has, but the address keep, and says whether
// there was something.
func (p *pool) free(owner string, keep netip.Addr) bool {
	freed := false
	for a, o := range p.owners {
		if o == owner && a != keep {
			delete(p.owners, a)
			freed = true
		}
	}
	return freed
}

// of returns the address of an owner.
func (p *pool) of(owner string) (netip.Addr, bool) {
	for a, o := range p.owners {
		if o == owner {
			return a, true
		}
	}
	return netip.Addr{}, false
}
