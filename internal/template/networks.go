package template

import (
	"errors"
	"fmt"
	"math/big"
	"net/netip"
)

func networkFunctions() map[string]builtin {
	return map[string]builtin{
		"parsecidr":  {1, 1, parseCIDR},
		"cidrsubnet": {3, 3, cidrSubnet},
		"cidrhost":   {2, 2, cidrHost},
	}
}

func prefixArg(a []any) (netip.Prefix, error) {
	t, err := textArg(a, 0)
	if err != nil {
		return netip.Prefix{}, err
	}
	p, err := netip.ParsePrefix(t)
	if err != nil {
		return p, fmt.Errorf("the text '%s' is no network in CIDR notation", short(t))
	}
	return p.Masked(), nil
}

// offset is the address n after a.
func offset(a netip.Addr, n *big.Int) (netip.Addr, error) {
	b := a.AsSlice()
	sum := new(big.Int).Add(new(big.Int).SetBytes(b), n)
	if sum.Sign() < 0 || sum.BitLen() > len(b)*8 {
		return a, errors.New("the address is outside of the address space")
	}
	out, _ := netip.AddrFromSlice(sum.FillBytes(make([]byte, len(b))))
	return out, nil
}

// lastOf is the highest address of p.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

func parseCIDR(_ *scope, a []any) (any, error) {
	p, err := prefixArg(a)
	if err != nil {
		return nil, err
	}
	first, last := p.Addr(), lastOf(p)
	out := map[string]any{"network": first.String(), "cidr": int64(p.Bits())}
	mask := netip.PrefixFrom(lastOf(netip.PrefixFrom(first, 0)), p.Bits()).Masked()
	if first.Is4() {
		ones, _ := netip.AddrFromSlice([]byte{255, 255, 255, 255})
		mask = netip.PrefixFrom(ones, p.Bits()).Masked()
		out["broadcast"] = last.String()
		if p.Bits() < 31 {
			first, last = first.Next(), last.Prev()
		}
	}
	out["netmask"] = mask.Addr().String()
	out["firstUsable"], out["lastUsable"] = first.String(), last.String()
	return out, nil
}

func cidrSubnet(_ *scope, a []any) (any, error) {
	p, err := prefixArg(a)
	if err != nil {
		return nil, err
	}
	bits, err := intArg(a, 1)
	if err != nil {
		return nil, err
	}
	n, err := intArg(a, 2)
	if err != nil {
		return nil, err
	}
	width := int64(p.Addr().BitLen())
	if bits < int64(p.Bits()) || bits > width || n < 0 {
		return nil, fmt.Errorf("a network of %d bits has no subnet of %d bits", p.Bits(), bits)
	}
	at, err := offset(p.Addr(), new(big.Int).Lsh(big.NewInt(n), uint(width-bits)))
	if err != nil || !p.Contains(at) {
		return nil, fmt.Errorf("the network has no subnet with the index %d", n)
	}
	return netip.PrefixFrom(at, int(bits)).String(), nil
}

func cidrHost(_ *scope, a []any) (any, error) {
	p, err := prefixArg(a)
	if err != nil {
		return nil, err
	}
	n, err := intArg(a, 1)
	if err != nil {
		return nil, err
	}
	at, err := offset(p.Addr(), new(big.Int).Add(big.NewInt(n), big.NewInt(1)))
	if err != nil || n < 0 || !p.Contains(at) {
		return nil, fmt.Errorf("the network has no host with the index %d", n)
	}
	return at.String(), nil
}
