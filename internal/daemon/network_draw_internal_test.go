package daemon

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lazurite.dev/internal/node"
	"lazurite.dev/internal/server"
)

func TestDrawNetwork(t *testing.T) {
	n := server.NetworkState{
		Name: "rg/home", Real: true, Space: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}, Resolver: netip.MustParseAddr("168.63.129.16"), Public: server.DoorState{Open: 1, Total: 3},
		Subnets: []server.SubnetState{
			{Name: "default", Ranges: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/24")}},
			{Name: "far", Ranges: []netip.Prefix{netip.MustParsePrefix("10.1.1.0/24")}, Services: []string{"Microsoft.KeyVault"}, Closed: true},
		},
		Endpoints: []server.EndpointState{{Address: netip.MustParseAddr("10.1.0.4"), ID: "/s/pe", Target: "/s/kv", Status: "Approved", DoorState: server.DoorState{Total: 2}}},
		Programs:  []node.Member{{Address: netip.MustParseAddr("10.1.0.254"), Subnet: "default"}},
		Peers:     []server.PeerState{{ID: "/s/peer", Space: []netip.Prefix{netip.MustParsePrefix("10.2.0.0/16")}, Joined: true}},
		Zones:     []server.ZoneState{{Name: "z.example", Records: []string{"a.z.example.\t10\tIN\tA\t10.1.0.4", "z.example. 3600 IN SOA x. y. 1 2 3 4 5"}}, {Name: "none.example"}},
		Refused:   map[string]uint64{"forged": 1},
	}
	const want = `
  rg/home   10.1.0.0/16
  │
  ├─ 168.63.129.16   resolver, public side, way out   1 open, 3 in all
  ├─ default   10.1.0.0/24
  │    ├─ 10.1.0.4        pe ──▶ kv   Approved   0 open, 2 in all
  │    └─ 10.1.0.254      a program (laz run)
  ├─ far   10.1.1.0/24   service endpoints: Microsoft.KeyVault   no way out
  ├─ ◀▶ peer   10.2.0.0/16   joined
  ├─ zone z.example
  │    └─ a.z.example. 10 IN A 10.1.0.4
  ├─ zone none.example
  └─ refused packets: 1 from a false address, 0 to what is closed, 0 to where nothing leads

`
	if d := cmp.Diff(want, drawNetwork(n)); d != "" {
		t.Error(d)
	}
}

func TestDrawManaged(t *testing.T) {
	n := server.NetworkState{
		Name:      "rg/ws",
		Endpoints: []server.EndpointState{{Address: netip.MustParseAddr("100.64.0.16"), ID: "/s/outboundRules/kv", Target: "/s/vaults/v", Status: "Approved"}},
		Managed: &server.ManagedState{
			Isolation: "AllowOnlyApprovedOutbound",
			Rules:     []server.RuleState{{Name: "kv", Type: "PrivateEndpoint", Category: "Required", To: "/s/vaults/v (vault)"}, {Name: "pypi", Type: "FQDN", Category: "UserDefined", To: "pypi.org"}},
			Flows: []server.FlowRecord{
				{Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Who: "e/d (pod p)", Name: "x.org", Port: 443, Why: "no rule has it", Fix: "az ml …"},
				{Time: time.Date(2026, 1, 2, 3, 4, 4, 0, time.UTC), Client: netip.MustParseAddr("10.244.0.9"), Address: netip.MustParseAddr("10.0.0.5"), Why: "it is private"},
			},
		},
	}
	const want = `
  rg/ws   managed network, AllowOnlyApprovedOutbound
  │
  ├─ 100.64.0.16     kv ──▶ v   Approved
  ├─ kv (PrivateEndpoint, Required)   v (vault)
  ├─ pypi (FQDN, UserDefined)   pypi.org
  └─ refused of late: 2
       03:04:05  e/d (pod p) ──▶ x.org:443   no rule has it
                 az ml …
       03:04:04  10.244.0.9 ──▶ 10.0.0.5   it is private

`
	if d := cmp.Diff(want, drawManaged(n)); d != "" {
		t.Error(d)
	}
}
