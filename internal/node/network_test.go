package node_test

import (
	"encoding/json"
	"errors"
	"net/netip"
	"testing"

	"lazurite.dev/internal/node"
)

func goodNetwork() node.Network {
	p := netip.MustParsePrefix
	return node.Network{
		UID: "n1", Name: "rg/net", ResourceID: "/subscriptions/s/resourceGroups/rg/providers/Microsoft.Network/virtualNetworks/net", Space: []netip.Prefix{p("10.77.0.0/16")},
		Subnets: []node.Subnet{{Name: "default", Ranges: []netip.Prefix{p("10.77.0.0/24")}}}, Endpoints: []netip.Addr{netip.MustParseAddr("10.77.0.4")},
		Peers: []node.Peer{{UID: "n2", Space: []netip.Prefix{p("10.88.0.0/16")}}},
	}
}

func TestNetwork_Refusals(t *testing.T) {
	if err := goodNetwork().Validate(); err != nil {
		t.Fatal(err)
	}
	p, a := netip.MustParsePrefix, netip.MustParseAddr
	for name, change := range map[string]func(*node.Network){
		"uid":                  func(n *node.Network) { n.UID = "../x" },
		"name":                 func(n *node.Network) { n.Name = "a\nb" },
		"no space":             func(n *node.Network) { n.Space = nil },
		"IPv6":                 func(n *node.Network) { n.Space = []netip.Prefix{p("fd00::/48")} },
		"loopback":             func(n *node.Network) { n.Space = []netip.Prefix{p("127.0.0.0/8")} },
		"platform":             func(n *node.Network) { n.Space = []netip.Prefix{p("168.63.129.0/24")} },
		"host bits":            func(n *node.Network) { n.Space = []netip.Prefix{netip.PrefixFrom(a("10.77.0.1"), 16)} },
		"subnet outside":       func(n *node.Network) { n.Subnets[0].Ranges[0] = p("10.78.0.0/24") },
		"subnet name":          func(n *node.Network) { n.Subnets[0].Name = `x" accept` },
		"endpoint outside":     func(n *node.Network) { n.Endpoints[0] = a("10.1.0.4") },
		"endpoint twice":       func(n *node.Network) { n.Endpoints = append(n.Endpoints, n.Endpoints[0]) },
		"peer overlaps":        func(n *node.Network) { n.Peers[0].Space[0] = p("10.77.128.0/17") },
		"peer is itself":       func(n *node.Network) { n.Peers[0].UID = n.UID },
		"zero range of a peer": func(n *node.Network) { n.Peers[0].Space[0] = netip.Prefix{} },
	} {
		n := goodNetwork()
		change(&n)
		if err := n.Validate(); !errors.Is(err, node.ErrInvalid) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func FuzzDecodeNetwork(f *testing.F) {
	raw, err := json.Marshal(goodNetwork())
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range []string{string(raw), "{}", "[]", `{"UID":"a","Space":["x"]}`, `{"Endpoints":[""]}`, string(raw) + "{}"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		n, err := node.DecodeNetwork(raw)
		if err != nil && !errors.Is(err, node.ErrInvalid) {
			t.Errorf("got %v", err)
		}
		if err == nil && n.Validate() != nil {
			t.Error("it is valid and is not")
		}
	})
}
