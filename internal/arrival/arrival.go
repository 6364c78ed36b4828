// Package arrival says how a connection came in: over the public network with
// a client's address, through a private endpoint, or from a service of
// Lazurite itself that Azure counts as trusted.
//
// Only the front door knows this, from the connection; nothing that a client
// writes into a request can change it. Network rules (publicNetworkAccess,
// networkAcls, bypass) are judged by it before any token is looked at.
package arrival

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"strings"
)

// Kind is the way in.
type Kind int

// The ways in. The zero Kind is the least trusted one.
const (
	Public          Kind = iota // from a client's address
	PrivateEndpoint             // at the address of a private endpoint
	TrustedService              // from a service that `bypass: AzureServices` lets in
)

// String is the kind's name as logs show it.
func (k Kind) String() string {
	switch k {
	case PrivateEndpoint:
		return "private endpoint"
	case TrustedService:
		return "trusted service"
	default:
		return "public"
	}
}

// Arrival is one connection's way in. The zero Arrival is public from an
// unknown address, which no address rule allows.
type Arrival struct {
	Kind     Kind
	Client   netip.Addr // of the peer, IPv4 in its short form; invalid when unknown
	Endpoint string     // resource id of the private endpoint; "" unless Kind is PrivateEndpoint
	Network  string     // resource id of the cluster or virtual network that it came from; "" elsewhere
	Subnet   string     // resource id of the subnet of a virtual network that it came from; Client then counts in that network alone
	Local    bool       // Client counts in Network alone: other networks have the same addresses
	Services string     // service endpoints of Subnet, each between commas, in lower case: ",microsoft.keyvault,"
}

// Serves reports whether the subnet that a came from has the service endpoint.
func (a Arrival) Serves(service string) bool {
	return a.Subnet != "" && strings.Contains(a.Services, ","+strings.ToLower(service)+",")
}

// ServicesOf writes service endpoints as the field Services holds them.
func ServicesOf(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return "," + strings.ToLower(strings.Join(list, ",")) + ","
}

type contextKey struct{}

// With returns ctx carrying a.
func With(ctx context.Context, a Arrival) context.Context {
	return context.WithValue(ctx, contextKey{}, a)
}

// From is the arrival that ctx carries, the zero one when there is none.
func From(ctx context.Context) Arrival {
	a, _ := ctx.Value(contextKey{}).(Arrival)
	return a
}

// Of is the public arrival of a connection whose peer has address addr.
func Of(addr net.Addr) Arrival {
	if tcp, ok := addr.(*net.TCPAddr); ok {
		return Arrival{Client: tcp.AddrPort().Addr().Unmap().WithZone("")}
	}
	return Arrival{}
}

// marked is a connection whose arrival was decided by whoever accepted it.
type marked struct {
	net.Conn
	arrival Arrival
}

// Mark returns conn such that [ConnContext] reports a for it.
func Mark(conn net.Conn, a Arrival) net.Conn { return marked{conn, a} }

// ConnContext is for http.Server's field of that name: it puts the arrival of
// c into ctx. A connection that nobody marked is public.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	if m, ok := c.(marked); ok {
		return With(ctx, m.arrival)
	}
	return With(ctx, Of(c.RemoteAddr()))
}
