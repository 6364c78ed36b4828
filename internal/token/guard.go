package token

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"
)

// guard decides to which addresses a look-up of an issuer's keys may connect,
// so that a credential can't make the token service call into the operator's
// own network. It is asked with the address about to be dialled: a name that
// resolves differently the second time gains nothing.
type guard struct {
	names    map[string]bool // host or host:port, lower case
	prefixes []netip.Prefix
	offline  bool // nothing else is asked, not even for an address
}

// inner are ranges that aren't public, beside those that net/netip names.
// Source: IANA special-purpose address registries (RFC 6890).
var inner = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("100.64.0.0/10"),
	netip.MustParsePrefix("168.63.129.16/32"), // the platform's own, in Azure
	netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("192.0.2.0/24"),
	netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("198.51.100.0/24"),
	netip.MustParsePrefix("203.0.113.0/24"),
	netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("64:ff9b::/96"), // these carry IPv4 addresses
	netip.MustParsePrefix("64:ff9b:1::/48"),
	netip.MustParsePrefix("2001::/32"),
	netip.MustParsePrefix("2002::/16"),
	netip.MustParsePrefix("100::/64"),
	netip.MustParsePrefix("2001:db8::/32"),
	netip.MustParsePrefix("fec0::/10"),
}

// check refuses an address of host:port that is not public and not allowed.
func (g guard) check(host, port string, addr netip.Addr) error {
	addr = addr.Unmap().WithZone("")
	private := !addr.IsGlobalUnicast() || addr.IsPrivate() // also loopback, link-local, multicast, unspecified
	for _, p := range inner {
		private = private || p.Contains(addr)
	}
	host = strings.ToLower(host)
	if !private || g.names[host] || g.names[net.JoinHostPort(host, port)] {
		return nil
	}
	for _, p := range g.prefixes {
		if p.Contains(addr) {
			return nil
		}
	}
	return fmt.Errorf("'%s' resolves to %s, which is not a public address; the operator can allow it with allowPrivateIssuers", host, addr)
}

// listed reports whether the operator named the host, or its address.
func (g guard) listed(host, port string) bool {
	host = strings.ToLower(host)
	if g.names[host] || g.names[net.JoinHostPort(host, port)] {
		return true
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	for _, p := range g.prefixes {
		if p.Contains(addr.Unmap()) {
			return true
		}
	}
	return false
}

// dial resolves, checks every address, and connects to one that was checked.
func (g guard) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("dialling an issuer: %w", err)
	}
	if g.offline && !g.listed(host, port) {
		return nil, fmt.Errorf("'%s' is not asked: this system runs offline", host)
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, fmt.Errorf("resolving '%s': %w", host, err)
	}
	for _, a := range addrs {
		if err := g.check(host, port, a); err != nil {
			return nil, err
		}
	}
	d := net.Dialer{Timeout: 3 * time.Second}
	err = fmt.Errorf("'%s' has no address", host)
	for _, a := range addrs {
		var c net.Conn
		if c, err = d.DialContext(ctx, network, net.JoinHostPort(a.Unmap().String(), port)); err == nil {
			return c, nil
		}
	}
	return nil, err
}
