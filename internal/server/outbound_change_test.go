package server

import (
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"lazurite.dev/internal/arrival"
	"lazurite.dev/internal/compute"
	"lazurite.dev/internal/vnet"
)

// TestOutbound_AChangeCutsWhatItForbids: while a policy is set, whoever it cuts
// is named in the log, which asks for names.
func TestOutbound_AChangeCutsWhatItForbids(t *testing.T) {
	o := newTestOutbound(t, nil)
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	w := &outlet{uid: compute.ClusterUID("11111111-1111-1111-1111-111111111111"), id: "x"}
	at := netip.MustParseAddrPort("100.64.0.16:443")
	got := make(chan net.Conn, 1)
	w.resolver = vnet.NewResolver(vnet.ResolverConfig{Network: "n", Owns: func(string) bool { return false }, Log: log})
	w.gate = vnet.NewGate(vnet.GateConfig{
		Network: "n", Log: log, Who: o.who(w),
		Original: func(net.Conn) (netip.AddrPort, error) { return at, nil },
		Front:    func(c net.Conn, _ uint16, _ arrival.Arrival) { got <- c },
		Policy: &vnet.Policy{Mode: vnet.Approved, Endpoints: map[netip.Addr]vnet.Endpoint{
			at.Addr(): {ID: "pe", Arrival: func(netip.Addr) arrival.Arrival { return arrival.Arrival{} }},
		}},
	})
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = w.gate.Serve(t.Context(), ln) }()
	c, err := net.Dial("tcp4", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	<-got
	done := make(chan struct{})
	go func() {
		defer close(done)
		o.serve(t.Context(), w)
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("the policy was not set")
	}
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("the connection lives on")
	}
}

// TestOutbound_ASubnetCountsToTheEnd: pools of a cluster that is being deleted go
// before it does, and that opens nothing.
func TestOutbound_ASubnetCountsToTheEnd(t *testing.T) {
	o := newTestOutbound(t, nil)
	w := &outlet{uid: "u", id: theGroup + "/providers/Microsoft.ContainerService/managedClusters/aks", subnet: "what is no id"}
	if p, _ := o.policy(t.Context(), w); p == nil || p.Mode != vnet.Closed || p.Why == "" {
		t.Errorf("got %+v", p)
	}
	w.subnet = ""
	if p, _ := o.policy(t.Context(), w); p != nil {
		t.Errorf("got %+v", p)
	}
}

// TestOutbound_WorkspacesAddressesAreTheirOwn: no firewall's rule may mean them.
func TestOutbound_WorkspacesAddressesAreTheirOwn(t *testing.T) {
	o := newTestOutbound(t, nil)
	_, from := o.policy(t.Context(), &outlet{uid: "ml-0a", id: "x"})
	if !from.Local {
		t.Errorf("got %+v", from)
	}
}
