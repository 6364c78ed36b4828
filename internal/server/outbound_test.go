package server

import (
	"context"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/arm/privatelink"
	"lazurite.dev/internal/arrival"
	"lazurite.dev/internal/providers/keyvault"
	mls "lazurite.dev/internal/providers/machinelearningservices"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
	"lazurite.dev/internal/store/sqlstore"
	"lazurite.dev/internal/trace"
	"lazurite.dev/internal/vnet"
)

const (
	theGroup     = "/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/rg"
	theWorkspace = theGroup + "/providers/Microsoft.MachineLearningServices/workspaces/ws"
	theVault     = theGroup + "/providers/Microsoft.KeyVault/vaults/kv1"
)

// newTestOutbound knows a vault and an online endpoint of the workspace.
func newTestOutbound(t *testing.T, record func(trace.Trace)) *outbound {
	t.Helper()
	cfg := &Config{Home: t.TempDir(), Names: NamesAzure, Log: slog.New(slog.DiscardHandler)}
	if err := cfg.Default(); err != nil {
		t.Fatal(err)
	}
	st, err := sqlstore.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	res := arm.Resources{Store: st}
	for _, e := range []*arm.Envelope{
		{ID: theVault, Name: "kv1", Type: "Microsoft.KeyVault/vaults", Location: "eastus"},
		{ID: theWorkspace + "/onlineEndpoints/endpt", Name: "endpt", Type: onlineEndpointType, Location: "eastus"},
		{ID: strings.Replace(theWorkspace, "/ws", "/other", 1) + "/onlineEndpoints/theirs", Name: "theirs", Type: onlineEndpointType, Location: "eastus"},
	} {
		if err := res.Put(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	links, err := privatelink.Open(t.Context(), st, keyvault.PrivateLink(cfg.vaultURL))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(links.Close)
	mirror, err := store.NewMirror(t.Context(), st, arm.KeyPrefix+"/", arm.DecodeEnvelope, time.Second, strings.ToLower(onlineEndpointType))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(mirror.Close)
	o := newOutbound(cfg)
	o.src.Store(&OutboundSources{Links: links, Resources: mirror, Store: st, Record: record})
	return o
}

func testPlan() mls.NetworkPlan {
	return mls.NetworkPlan{
		UID: "0a", Workspace: rid.MustParse(theWorkspace), Mode: mls.AllowByRules, Active: true,
		Rules: []mls.PlannedRule{
			{Name: "pypi", Type: mls.RuleFQDN, Destination: "*.PyPI.org"},
			{Name: "login", Type: mls.RuleServiceTag, Tag: "AzureActiveDirectory", Protocol: "TCP", Ports: "80, 443"},
			{Name: "ml", Type: mls.RuleServiceTag, Tag: "AzureMachineLearning", Protocol: "*", Ports: "443"},
			{Name: "range", Type: mls.RuleServiceTag, Protocol: "TCP", Ports: "8000-9000", Prefixes: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}},
			{Name: "udp", Type: mls.RuleServiceTag, Protocol: "UDP", Ports: "443", Prefixes: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}},
			{Name: "odd", Type: mls.RuleServiceTag, Tag: "Storage", Protocol: "TCP", Ports: "9-1"},
			{Name: "kv", Type: mls.RulePrivateEndpoint},
		},
		Endpoints: []mls.PlannedEndpoint{{Rule: "kv", Address: netip.MustParseAddr("100.64.0.4"), ID: rid.MustParse(theWorkspace + "/outboundRules/kv"), Target: rid.MustParse(theVault), Group: "vault", Approved: true}},
	}
}

func TestOutbound_ModesOfWorkspaces(t *testing.T) {
	o := newTestOutbound(t, nil)
	for _, c := range []struct {
		mode   string
		active bool
		want   vnet.Mode
		ends   int
	}{
		{mls.Disabled, false, vnet.Internet, 0}, {mls.AllowAll, true, vnet.Internet, 1}, {mls.AllowByRules, true, vnet.Approved, 1},
		{mls.AllowAll, false, vnet.Closed, 0}, {mls.AllowByRules, false, vnet.Closed, 0}, {"Whatever", true, vnet.Closed, 0}, {"", true, vnet.Closed, 0},
	} {
		plan := testPlan()
		plan.Mode, plan.Active = c.mode, c.active
		p := o.managed(t.Context(), &outlet{uid: "ml-0a"}, plan)
		if p.Mode != c.want || len(p.Endpoints) != c.ends || (p.Mode == vnet.Closed) != (p.Why != "") {
			t.Errorf("%s %v: got %+v", c.mode, c.active, p)
		}
	}
	// What is not known lets nothing out.
	o.src.Store(nil)
	if p, _ := o.policy(t.Context(), &outlet{uid: "ml-0a"}); p == nil || p.Mode != vnet.Closed {
		t.Errorf("without sources: got %+v", p)
	}
}

func TestOutbound_RulesOfWorkspaces(t *testing.T) {
	o := newTestOutbound(t, nil)
	p := o.managed(t.Context(), &outlet{uid: "ml-0a"}, testPlan())
	by := map[string]vnet.Rule{}
	for _, r := range p.Rules {
		by[r.Name] = r
	}
	if len(by) != 4 || by["odd"].Name != "" || by["udp"].Name != "" { // what can't be enforced as it says lets nothing out
		t.Errorf("got %+v", by)
	}
	if r := by["pypi"]; !slices.Equal(r.Hosts, []string{"*.pypi.org"}) || r.Owned || len(r.Ports) != 0 {
		t.Errorf("got %+v", r)
	}
	if r := by["login"]; !slices.Contains(r.Hosts, "login.microsoftonline.com") || !slices.Contains(r.Hosts, "graph.microsoft.com") || slices.Contains(r.Hosts, "management.azure.com") ||
		!r.Owned || !slices.Equal(r.Ports, []vnet.Ports{{First: 80, Last: 80}, {First: 443, Last: 443}}) {
		t.Errorf("got %+v", r)
	}
	if r := by["ml"]; !slices.Contains(r.Hosts, "endpt.eastus.inference.ml.azure.com") || strings.Contains(strings.Join(r.Hosts, " "), "theirs") || strings.Contains(strings.Join(r.Hosts, " "), "*") {
		t.Errorf("got %+v", r)
	}
	if r := by["range"]; len(r.Hosts) != 0 || r.Owned || !slices.Equal(r.Ports, []vnet.Ports{{First: 8000, Last: 9000}}) {
		t.Errorf("got %+v", r)
	}
	e := p.Endpoints[netip.MustParseAddr("100.64.0.4")]
	want := arrival.Arrival{Kind: arrival.PrivateEndpoint, Endpoint: theWorkspace + "/outboundRules/kv", Network: theWorkspace, Client: netip.MustParseAddr("10.244.0.9")}
	if got := e.Arrival(want.Client); e.ID != want.Endpoint || got != want {
		t.Errorf("got %+v", got)
	}
	// Its name leads there.
	r := vnet.NewResolver(vnet.ResolverConfig{Network: "ws", Owns: func(string) bool { return true }, Front: netip.MustParseAddr("198.18.0.2"), Log: o.log, Policy: p})
	q := new(dns.Msg)
	q.SetQuestion("kv1.vault.azure.net.", dns.TypeA)
	m := r.Answer(t.Context(), q)
	if len(m.Answer) != 2 || m.Answer[0].(*dns.CNAME).Target != "kv1.privatelink.vaultcore.azure.net." || m.Answer[1].(*dns.A).A.String() != "100.64.0.4" {
		t.Errorf("got %v", m)
	}
}

func TestPortsOf(t *testing.T) {
	for text, want := range map[string][]vnet.Ports{
		"443": {{First: 443, Last: 443}}, "80,443": {{First: 80, Last: 80}, {First: 443, Last: 443}}, " 1 - 65535 ": {{First: 1, Last: 65535}}, "*": nil,
	} {
		if got, ok := portsOf(text); !ok || !slices.Equal(got, want) {
			t.Errorf("%q: got %v %v", text, got, ok)
		}
	}
	for _, text := range []string{"", "x", "443,", "9-1", "70000", "-1", "1-2-3"} {
		if got, ok := portsOf(text); ok {
			t.Errorf("%q: got %v", text, got)
		}
	}
}

func TestFlows(t *testing.T) {
	var traces []trace.Trace
	o := newTestOutbound(t, func(x trace.Trace) { traces = append(traces, x) })
	plan := testPlan()
	const set = "az ml workspace outbound-rule set --workspace-name ws --resource-group rg --rule "
	to := func(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }
	for _, c := range []struct {
		r    vnet.Refusal
		want string
	}{
		{vnet.Refusal{Name: "a_b.example", Reason: vnet.ReasonName, To: to("203.0.113.9:443")}, set + "allow-a-b-example --type fqdn --destination a_b.example"},
		{vnet.Refusal{Name: "kv1.vault.azure.net", Reason: vnet.ReasonName}, set + "allow-kv1-vault-azure-net --type private_endpoint --service-resource-id " + theVault + " --subresource-target vault"},
		{vnet.Refusal{Name: "kv2.vault.azure.net", Reason: vnet.ReasonName}, set + "allow-kv2-vault-azure-net --type fqdn --destination kv2.vault.azure.net"},
		{vnet.Refusal{Reason: vnet.ReasonAddress, To: to("203.0.113.9:22")}, set + "allow-203-0-113-9 --type service_tag --address-prefixes 203.0.113.9/32 --protocol TCP --port-ranges 22"},
		{vnet.Refusal{Reason: vnet.ReasonDenied, Why: "the rule pypi forbids it"}, "az ml workspace outbound-rule remove --workspace-name ws --resource-group rg --rule pypi"},
		{vnet.Refusal{Reason: vnet.ReasonInside, To: to("10.0.0.1:443")}, ""},
		{vnet.Refusal{Reason: vnet.ReasonHidden, To: to("203.0.113.9:443")}, ""},
	} {
		if got := o.flows.fix(t.Context(), o.src.Load(), plan, c.r); got != c.want {
			t.Errorf("%+v: got %q, want %q", c.r, got, c.want)
		}
	}
	plan.Active = false
	if got := o.flows.fix(t.Context(), o.src.Load(), plan, vnet.Refusal{Reason: vnet.ReasonClosed}); got != "az ml workspace provision-network --name ws --resource-group rg" {
		t.Errorf("got %q", got)
	}

	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		o.flows.Run(ctx)
	}()
	tell := o.flows.of(&outlet{uid: "ml-0a"})
	for range 1000 { // a program that tries without end
		tell(vnet.Refusal{Client: netip.MustParseAddr("10.244.0.9"), Who: "endpt/blue", Name: "evil.example", To: to("203.0.113.9:443"), Reason: vnet.ReasonName, Why: "no rule"})
	}
	for end := time.Now().Add(10 * time.Second); len(o.flows.list("ml-0a")) == 0 && time.Now().Before(end); {
		<-time.After(5 * time.Millisecond)
	}
	cancel()
	<-done
	got := o.flows.list("ml-0a")
	if len(got) != 1 || got[0].Who != "endpt/blue" || got[0].Port != 443 || len(traces) != 1 || traces[0].What != "connect to evil.example:443" || traces[0].Who != "endpt/blue" {
		t.Errorf("got %+v, %+v", got, traces)
	}
	if before, ok := o.flows.counts(flowKey{"ml-0a", netip.MustParseAddr("10.244.0.9"), "evil.example", netip.AddrPortFrom(netip.Addr{}, 443)}, time.Now().Add(flowsAgain)); !ok || before != 999 {
		t.Errorf("after a while: got %d %v", before, ok)
	}
	recorded, now := 0, time.Now()
	for i := range 3 * flowsKnown { // what is remembered is bounded, and what is recorded
		if _, ok := o.flows.counts(flowKey{client: netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})}, now); ok {
			recorded++
		}
	}
	if n := len(o.flows.seen); n > flowsKnown || recorded != flowsRate {
		t.Errorf("%d are remembered, %d recorded", n, recorded)
	}
}
