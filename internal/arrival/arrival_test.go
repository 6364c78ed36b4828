package arrival_test

import (
	"crypto/tls"
	"net"
	"net/netip"
	"testing"

	"lazurite.dev/internal/arrival"
)

func TestFrom_NothingIsPublicFromNowhere(t *testing.T) {
	got := arrival.From(t.Context())
	if got.Kind != arrival.Public || got.Client.IsValid() || got.Endpoint != "" {
		t.Errorf("got %+v, want the zero arrival", got)
	}
}

func TestConnContext(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	pe := arrival.Arrival{Kind: arrival.PrivateEndpoint, Client: netip.MustParseAddr("10.0.0.4"), Endpoint: "/x"}
	for _, c := range []struct {
		name string
		conn net.Conn
		want arrival.Arrival
	}{
		{"unmarked", a, arrival.Arrival{}},
		{"marked", arrival.Mark(a, pe), pe},
		{"marked below tls", tls.Server(arrival.Mark(a, pe), &tls.Config{}), pe},
	} {
		if got := arrival.From(arrival.ConnContext(t.Context(), c.conn)); got != c.want {
			t.Errorf("%s: got %+v, want %+v", c.name, got, c.want)
		}
	}
}

func TestOf_AddressesAreShort(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"::ffff:203.0.113.7", "203.0.113.7"},
		{"2001:db8::1", "2001:db8::1"},
	} {
		got := arrival.Of(&net.TCPAddr{IP: net.ParseIP(c.in), Port: 1})
		if got.Client.String() != c.want {
			t.Errorf("Of(%s): got %s, want %s", c.in, got.Client, c.want)
		}
	}
}
