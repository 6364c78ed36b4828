package network_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/arm/armtest"
	"lazurite.dev/internal/arm/privatelink"
	"lazurite.dev/internal/providers/keyvault"
	"lazurite.dev/internal/providers/network"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
	"lazurite.dev/internal/vnet"
)

const (
	v   = "?api-version=2024-05-01"
	vz  = "?api-version=2020-06-01"
	vkv = "?api-version=2024-11-01"

	net      = "{group}/providers/Microsoft.Network/"
	netBody  = `{"location":"westus2","properties":{"addressSpace":{"addressPrefixes":["10.0.0.0/8"]}}}`
	zoneBody = `{}`
)

type plane struct {
	*armtest.Plane
	networks *network.Networks
	links    *privatelink.Links
}

func uri(name string) string { return "https://" + name + ".vault.azure.net" }

// things are resources that private endpoints reach.
func things() privatelink.Service {
	return privatelink.Service{
		Type: "Contoso.Shop/things", APIVersions: []string{"2025-01-01"}, Groups: []privatelink.Group{{ID: "thing", Members: []string{"default"}, Zone: "privatelink.shop.example"}},
		Names: func(e *arm.Envelope, _ string) []privatelink.Name {
			return privatelink.NamesOf("default", e.Name+".privatelink.shop.example", e.Name+".shop.example")
		},
	}
}

// markets are resources under which there are stalls with names of their own.
func markets() privatelink.Service {
	stall := func(market, name string) []privatelink.Name {
		return privatelink.NamesOf("default", name+"."+market+".in.privatelink.shop.example", name+".all.shop.example")
	}
	return privatelink.Service{
		Type: "Contoso.Shop/markets", APIVersions: []string{"2025-01-01"}, Groups: []privatelink.Group{{ID: "market", Members: []string{"default"}, Zone: "privatelink.shop.example"}},
		Names: func(e *arm.Envelope, _ string) []privatelink.Name {
			return append(privatelink.NamesOf("default", e.Name+".privatelink.shop.example", e.Name+".shop.example"), stall(e.Name, "*")...)
		},
		Children:   "stalls",
		ChildNames: func(e *arm.Envelope, _, child string) []privatelink.Name { return stall(e.Name, child) },
	}
}

// shop is their provider.
func shop() arm.Provider {
	routes := append(things().Routes(), arm.Serve("Contoso.Shop", arm.Kind[struct{}]{Type: "things", APIVersions: []string{"2025-01-01"}, Tracked: true}))
	return arm.Provider{Namespace: "Contoso.Shop", Routes: routes}
}

func start(t *testing.T, more ...func(store.Store, *privatelink.Links) arm.Provider) *plane {
	t.Helper()
	return startOn(t, nil, more...)
}

// startOn is start on a machine that makes networks.
func startOn(t *testing.T, wire network.Wire, more ...func(store.Store, *privatelink.Links) arm.Provider) *plane {
	t.Helper()
	p := &plane{}
	p.Plane = armtest.New(t, func(s store.Store) []arm.Provider {
		var err error
		if p.links, err = privatelink.Open(t.Context(), s, keyvault.PrivateLink(uri), things(), markets()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.links.Close)
		if p.networks, err = network.Open(t.Context(), s, p.links); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.networks.Close)
		list := []arm.Provider{network.New(network.Config{Networks: p.networks, Wire: wire}), shop()}
		for _, f := range more {
			list = append(list, f(s, p.links))
		}
		return list
	}, nil)
	return p
}

func vaults(s store.Store, links *privatelink.Links) arm.Provider {
	return keyvault.New(keyvault.Config{
		Store: s, TenantID: armtest.Tenant, URI: uri, Links: links, Destroy: func(context.Context, string) error { return nil },
	})
}

func TestContract(t *testing.T) {
	netStep := armtest.Step{Path: net + "virtualNetworks/net" + v, Body: netBody}
	subnet := armtest.Step{Path: net + "virtualNetworks/net/subnets/s" + v, Body: `{"properties":{"addressPrefix":"10.250.0.0/16"}}`}
	other := armtest.Step{Path: net + "virtualNetworks/other{n}" + v, Body: strings.ReplaceAll(netBody, "10.0.0.0/8", "192.168.{n}.0/24")}
	zone := armtest.Step{Path: net + "privateDnsZones/corp.example" + vz, Body: zoneBody}
	thing := armtest.Step{Path: "{group}/providers/Contoso.Shop/things/t?api-version=2025-01-01", Body: `{"location":"westus2"}`}
	endpoint := `{"location":"westus2","properties":{"subnet":{"id":"{group}/providers/Microsoft.Network/virtualNetworks/net/subnets/s"},
		"privateLinkServiceConnections":[{"name":"c","properties":{"privateLinkServiceId":"{group}/providers/Contoso.Shop/things/t","groupIds":["thing"]}}]}}`
	cases := []armtest.Case{
		{Type: "Contoso.Shop/things", Path: "{group}/providers/Contoso.Shop/things/t{n}", Body: `{"location":"westus2"}`},
		{Type: "Microsoft.Network/virtualNetworks", Path: net + "virtualNetworks/n{n}", Body: netBody, BadNames: []string{"-a", "a-", "a%20b"}},
		{
			Type: "Microsoft.Network/virtualNetworks/subnets", Path: net + "virtualNetworks/net/subnets/s{n}",
			Body: `{"properties":{"addressPrefix":"10.{n}.0.0/16"}}`, Before: []armtest.Step{netStep},
		},
		{Type: "Microsoft.Network/publicIPAddresses", Path: net + "publicIPAddresses/ip{n}", Body: `{"location":"westus2","properties":{}}`},
		{Type: "Microsoft.Network/privateDnsZones", Path: net + "privateDnsZones/z{n}.example", Body: zoneBody, BadNames: []string{"a..b", "*.x", "x%20y"}},
		{Type: "Microsoft.Network/privateEndpoints", Path: net + "privateEndpoints/pe{n}", Body: endpoint, Before: []armtest.Step{netStep, subnet, thing}},
		{
			Type: "Microsoft.Network/privateEndpoints/privateDnsZoneGroups", Path: net + "privateEndpoints/pe/privateDnsZoneGroups/g{n}",
			Body:   `{"properties":{"privateDnsZoneConfigs":[{"name":"z","properties":{"privateDnsZoneId":"{group}/providers/Microsoft.Network/privateDnsZones/corp.example"}}]}}`,
			Before: []armtest.Step{netStep, subnet, thing, zone, {Path: net + "privateEndpoints/pe" + v, Body: endpoint}},
		},
		{
			Type: "Microsoft.Network/privateDnsZones/virtualNetworkLinks", Path: net + "privateDnsZones/corp.example/virtualNetworkLinks/l{n}",
			Body:   `{"properties":{"virtualNetwork":{"id":"{group}/providers/Microsoft.Network/virtualNetworks/other{n}"}}}`,
			Before: []armtest.Step{zone}, Each: []armtest.Step{other},
		},
		{
			Type: "Microsoft.Network/virtualNetworks/virtualNetworkPeerings", Path: net + "virtualNetworks/net/virtualNetworkPeerings/p{n}",
			Body:   `{"properties":{"remoteVirtualNetwork":{"id":"{group}/providers/Microsoft.Network/virtualNetworks/other{n}"}}}`,
			Before: []armtest.Step{netStep}, Each: []armtest.Step{other},
		},
	}
	for typ, body := range map[string]string{
		"A": `"aRecords":[{"ipv4Address":"10.0.0.1"}]`, "AAAA": `"aaaaRecords":[{"ipv6Address":"fd00::1"}]`, "CNAME": `"cnameRecord":{"cname":"x.example"}`,
		"MX": `"mxRecords":[{"preference":1,"exchange":"x.example"}]`, "PTR": `"ptrRecords":[{"ptrdname":"x.example"}]`,
		"SRV": `"srvRecords":[{"priority":1,"weight":2,"port":3,"target":"x.example"}]`, "TXT": `"txtRecords":[{"value":["a","b"]}]`,
	} {
		cases = append(cases, armtest.Case{
			Type: "Microsoft.Network/privateDnsZones/" + typ, Path: net + "privateDnsZones/corp.example/" + typ + "/" + strings.ToLower(typ) + "{n}",
			Body: `{"properties":{"ttl":300,` + body + `}}`, Before: []armtest.Step{zone}, BadNames: []string{"a..b", "a.*", "x%20y"},
		})
	}
	armtest.Run(t, func(t *testing.T) *armtest.Plane { return start(t).Plane }, cases...)
}

// site is a group with a network, a vault and a zone.
type site struct {
	*plane
	t                            *testing.T
	group, net, vault, zone, sub string
}

func newSite(t *testing.T) *site {
	t.Helper()
	return newSiteOn(t, nil)
}

func newSiteOn(t *testing.T, wire network.Wire) *site {
	t.Helper()
	p := startOn(t, wire, vaults)
	s := &site{plane: p, t: t, group: p.Group("rg")}
	s.net = s.group + "/providers/Microsoft.Network/virtualNetworks/net"
	s.sub = s.net + "/subnets/default"
	s.vault = s.group + "/providers/Microsoft.KeyVault/vaults/myvault"
	s.zone = s.group + "/providers/Microsoft.Network/privateDnsZones/privatelink.vaultcore.azure.net"
	p.Want(http.StatusCreated, "PUT", s.net+v, `{"location":"westus2","properties":{"addressSpace":{"addressPrefixes":["10.77.0.0/16"]},"subnets":[{"name":"default","properties":{"addressPrefix":"10.77.0.0/24"}}]}}`)
	p.Want(http.StatusCreated, "PUT", s.vault+vkv, `{"location":"westus2","properties":{"tenantId":"`+armtest.Tenant+`","sku":{"family":"A","name":"standard"},"publicNetworkAccess":"Disabled"}}`)
	p.Want(http.StatusCreated, "PUT", s.zone+vz, `{"location":"global"}`)
	return s
}

func (s *site) endpoint(name, kind, more string) (path, body string) {
	return s.group + "/providers/Microsoft.Network/privateEndpoints/" + name, `{"location":"westus2","properties":{"subnet":{"id":"` + s.sub + `"},"` + kind +
		`":[{"name":"c","properties":{"privateLinkServiceId":"` + s.vault + `","groupIds":["vault"],"requestMessage":"please"}}]` + more + `}}`
}

func (s *site) state(pe string) string {
	s.t.Helper()
	got := s.Want(http.StatusOK, "GET", pe+v, "")
	for _, kind := range []string{"privateLinkServiceConnections", "manualPrivateLinkServiceConnections"} {
		if list, _ := got.At("properties", kind).([]any); len(list) == 1 {
			st := list[0].(map[string]any)["properties"].(map[string]any)["privateLinkServiceConnectionState"].(map[string]any)
			return st["status"].(string)
		}
	}
	s.t.Fatalf("no connection in %s", got.Raw)
	return ""
}

func (s *site) approved(pe string) bool {
	s.t.Helper()
	ok, err := s.links.Approved(s.t.Context(), rid.MustParse(s.vault), pe)
	if err != nil {
		s.t.Fatal(err)
	}
	return ok
}

func TestEndpoint_WhoeverMayApproveNeedNotWait(t *testing.T) {
	s := newSite(t)
	pe, body := s.endpoint("pe", "privateLinkServiceConnections", "")
	got := s.Want(http.StatusCreated, "PUT", pe+v, body)
	if s.state(pe) != "Approved" || !s.approved(pe) || !s.approved(strings.ToUpper(pe)) {
		t.Errorf("got %s", got.Raw)
	}
	if !strings.Contains(string(got.Raw), `"fqdn":"myvault.vault.azure.net","ipAddresses":["10.77.0.4"]`) {
		t.Errorf("got %s", got.Raw)
	}
	nic := s.Want(http.StatusOK, "GET", got.At("properties", "networkInterfaces").([]any)[0].(map[string]any)["id"].(string)+v, "")
	if !strings.Contains(string(nic.Raw), `"privateIPAddress":"10.77.0.4"`) || !strings.Contains(string(nic.Raw), `"fqdns":["myvault.vault.azure.net"]`) {
		t.Errorf("got %s", nic.Raw)
	}
	s.WantError(http.StatusBadRequest, "NicInUseWithPrivateEndpoint", "DELETE", nic.Text("id")+v, "")
	s.WantError(http.StatusBadRequest, "InUseSubnetCannotBeDeleted", "DELETE", s.sub+v, "")
	s.WantError(http.StatusBadRequest, "InUseSubnetCannotBeDeleted", "DELETE", s.net+v, "")
	shown := s.Want(http.StatusOK, "GET", s.vault+vkv, "")
	if !strings.Contains(string(shown.Raw), `"privateEndpointConnections":[{"id":"`+s.vault) || !strings.Contains(string(shown.Raw), `"status":"Approved"`) {
		t.Errorf("the vault shows %s", shown.Raw)
	}
	s.Want(http.StatusOK, "DELETE", pe+v, "")
	if s.approved(pe) || len(s.networks.Plans()[0].Endpoints) != 0 {
		t.Error("the endpoint outlives itself")
	}
	s.Want(http.StatusNotFound, "GET", nic.Text("id")+v, "")
	if list := s.Want(http.StatusOK, "GET", s.vault+"/privateEndpointConnections"+vkv, ""); len(list.At("value").([]any)) != 0 {
		t.Errorf("got %s", list.Raw)
	}
	s.Want(http.StatusOK, "DELETE", s.sub+v, "")
}

func TestEndpoint_WhoeverMayNotApproveIsRefusedOrWaits(t *testing.T) {
	s := newSite(t)
	for _, a := range []string{"Microsoft.Network/privateEndpoints/write", "Microsoft.Network/privateEndpoints/read", "Microsoft.Network/virtualNetworks/subnets/join/action"} {
		s.Policy.Allow(armtest.Nobody, a)
	}
	as := []string{"Authorization", "Bearer " + armtest.Nobody}
	pe, body := s.endpoint("pe", "privateLinkServiceConnections", "")
	s.WantError(http.StatusForbidden, "AuthorizationFailed", "PUT", pe+v, body, as...)
	_, body = s.endpoint("pe", "manualPrivateLinkServiceConnections", "")
	s.Want(http.StatusCreated, "PUT", pe+v, body, as...)
	if s.state(pe) != "Pending" || s.approved(pe) {
		t.Error("it did not wait")
	}
	list := s.Want(http.StatusOK, "GET", s.vault+"/privateEndpointConnections"+vkv, "").At("value").([]any)
	if len(list) != 1 {
		t.Fatalf("got %v", list)
	}
	id := list[0].(map[string]any)["id"].(string)
	decide := func(status string) string {
		return `{"properties":{"privateLinkServiceConnectionState":{"status":"` + status + `","description":"because"}}}`
	}
	s.WantError(http.StatusForbidden, "AuthorizationFailed", "PUT", id+vkv, decide("Approved"), as...)
	for _, r := range []struct {
		status string
		ok     bool
	}{{"Approved", true}, {"Rejected", false}, {"approved", true}} {
		got := s.Want(http.StatusOK, "PUT", id+vkv, decide(r.status))
		if s.approved(pe) != r.ok || !strings.EqualFold(s.state(pe), r.status) || !strings.Contains(string(got.Raw), `"description":"because"`) || !strings.Contains(string(got.Raw), pe) {
			t.Errorf("%s: got %s", r.status, got.Raw)
		}
	}
	s.WantError(http.StatusBadRequest, "BadRequest", "PUT", id+vkv, decide("Pending"))
	s.WantError(http.StatusBadRequest, "BadRequest", "PUT", id+vkv, decide("Whatever"))
	s.WantError(http.StatusNotFound, "ResourceNotFound", "PUT", id+"x"+vkv, decide("Approved"))
	s.Want(http.StatusOK, "DELETE", id+vkv, "")
	if s.state(pe) != "Disconnected" || s.approved(pe) {
		t.Error("a connection that was removed is not gone")
	}
}

// TestSubnet_OfAClustersNodesStays: a subnet in which nodes of a cluster are goes
// neither by itself nor with its network; with its whole group it does.
func TestSubnet_OfAClustersNodesStays(t *testing.T) {
	const containers = "Microsoft.ContainerService"
	p := startOn(t, nil, func(store.Store, *privatelink.Links) arm.Provider {
		versions := []string{"2025-01-01"}
		return arm.Provider{Namespace: containers, Routes: []arm.Route{
			arm.Serve(containers, arm.Kind[struct{}]{Type: "managedClusters", APIVersions: versions, Tracked: true}),
			arm.Serve(containers, arm.Kind[map[string]any]{Type: "managedClusters/agentPools", APIVersions: versions}),
		}}
	})
	group, other := p.Group("rg"), p.Group("clusters")
	netID := group + "/providers/Microsoft.Network/virtualNetworks/net"
	const vc = "?api-version=2025-01-01"
	pool := other + "/providers/" + containers + "/managedClusters/c/agentPools/p"
	p.Want(http.StatusCreated, "PUT", netID+v, netBody)
	for i, name := range []string{"nodes", "free"} {
		p.Want(http.StatusCreated, "PUT", netID+"/subnets/"+name+v, fmt.Sprintf(`{"properties":{"addressPrefix":"10.%d.0.0/16"}}`, i))
	}
	p.Want(http.StatusCreated, "PUT", other+"/providers/"+containers+"/managedClusters/c"+vc, `{"location":"westus2"}`)
	p.Want(http.StatusCreated, "PUT", pool+vc, `{"properties":{"vnetSubnetID":"`+strings.ToUpper(netID)+`/subnets/NODES"}}`)
	for _, path := range []string{netID + "/subnets/nodes", netID} {
		a := p.WantError(http.StatusBadRequest, "InUseSubnetCannotBeDeleted", "DELETE", path+v, "")
		if !strings.Contains(string(a.Raw), pool) {
			t.Errorf("it does not say by what: %s", a.Raw)
		}
	}
	p.Want(http.StatusOK, "DELETE", netID+"/subnets/free"+v, "")
	p.Want(http.StatusOK, "DELETE", pool+vc, "")
	p.Want(http.StatusOK, "DELETE", netID+"/subnets/nodes"+v, "")
	p.Want(http.StatusOK, "DELETE", netID+v, "")
}

// TestEndpoint_WhatCannotBeChangedIsRefused wants no change that would not be
// followed, and nothing of another endpoint's gone with one that was refused.
func TestEndpoint_WhatCannotBeChangedIsRefused(t *testing.T) {
	s := newSite(t)
	more := func(members string) string {
		_, body := s.endpoint("pe", "privateLinkServiceConnections", "")
		return strings.Replace(body, `"properties":{`, `"properties":{`+members+`,`, 1)
	}
	addresses := func(list ...string) string {
		var out []string
		for _, a := range list {
			out = append(out, `{"name":"i`+a+`","properties":{"privateIPAddress":"`+a+`"}}`)
		}
		return `"ipConfigurations":[` + strings.Join(out, ",") + `]`
	}
	pe, _ := s.endpoint("pe", "privateLinkServiceConnections", "")
	s.WantError(http.StatusBadRequest, "InvalidRequestFormat", "PUT", pe+v, more(addresses("10.77.0.20", "10.77.0.21")))
	s.WantError(http.StatusBadRequest, "PrivateIPAddressNotInSubnet", "PUT", pe+v, more(addresses("9.9.9.9")))
	s.Want(http.StatusCreated, "PUT", pe+v, more(addresses("10.77.0.20")+`,"customNetworkInterfaceName":"nic1"`))
	for _, change := range []string{addresses("10.77.0.21"), `"customNetworkInterfaceName":"nic2"`} {
		s.WantError(http.StatusBadRequest, "PrivateEndpointCannotBeUpdated", "PUT", pe+v, more(change))
	}
	_, manual := s.endpoint("pe", "manualPrivateLinkServiceConnections", "")
	s.WantError(http.StatusBadRequest, "PrivateEndpointCannotBeUpdated", "PUT", pe+v, manual)
	s.Want(http.StatusOK, "PUT", pe+v, more(`"customNetworkInterfaceName":"NIC1"`))

	pe2, _ := s.endpoint("pe2", "privateLinkServiceConnections", "")
	s.WantError(http.StatusBadRequest, "PrivateIPAddressInUse", "PUT", pe2+v, more(addresses("10.77.0.20")))
	s.WantError(http.StatusBadRequest, "NetworkInterfaceNameInUse", "PUT", pe2+v, more(`"customNetworkInterfaceName":"nic1"`))
	nic := s.group + "/providers/Microsoft.Network/networkInterfaces/nic1"
	s.Want(http.StatusOK, "GET", nic+v, "")
	s.Want(http.StatusOK, "DELETE", pe+v, "")
	s.Want(http.StatusNotFound, "GET", nic+v, "")
}

func TestVault_ItsConnectionsGoWithIt(t *testing.T) {
	s := newSite(t)
	pe, body := s.endpoint("pe", "privateLinkServiceConnections", "")
	s.Want(http.StatusCreated, "PUT", pe+v, body)
	s.Want(http.StatusOK, "DELETE", s.vault+vkv, "")
	if s.approved(pe) || s.state(pe) != "Disconnected" {
		t.Error("the connection outlives the vault")
	}
}

func TestZoneGroup_WritesTheEndpointsNames(t *testing.T) {
	s := newSite(t)
	pe, body := s.endpoint("pe", "privateLinkServiceConnections", "")
	s.Want(http.StatusCreated, "PUT", pe+v, body)
	link := s.zone + "/virtualNetworkLinks/l"
	s.Want(http.StatusCreated, "PUT", link+vz, `{"location":"global","properties":{"virtualNetwork":{"id":"`+s.net+`"},"registrationEnabled":false}}`)
	s.WantError(http.StatusBadRequest, "NotEnforced", "PUT", s.zone+"/virtualNetworkLinks/m"+vz, `{"location":"global","properties":{"virtualNetwork":{"id":"`+s.net+`"},"registrationEnabled":true}}`)
	s.WantError(http.StatusConflict, "Conflict", "PUT", s.zone+"/virtualNetworkLinks/m"+vz, `{"location":"global","properties":{"virtualNetwork":{"id":"`+s.net+`"}}}`)
	group := pe + "/privateDnsZoneGroups/zg"
	got := s.Want(http.StatusCreated, "PUT", group+v, `{"properties":{"privateDnsZoneConfigs":[{"name":"z","properties":{"privateDnsZoneId":"`+s.zone+`"}}]}}`)
	if !strings.Contains(string(got.Raw), `"recordSetName":"myvault"`) {
		t.Errorf("got %s", got.Raw)
	}
	a := s.Want(http.StatusOK, "GET", s.zone+"/A/myvault"+vz, "")
	if !strings.Contains(string(a.Raw), `"ipv4Address":"10.77.0.4"`) || a.Text("properties", "fqdn") != "myvault.privatelink.vaultcore.azure.net." {
		t.Errorf("got %s", a.Raw)
	}
	all := s.Want(http.StatusOK, "GET", s.zone+"/ALL"+vz, "")
	if len(all.At("value").([]any)) != 2 { // with the SOA
		t.Errorf("got %s", all.Raw)
	}
	names, err := s.networks.Aliases(t.Context())
	if err != nil || names["myvault.vault.azure.net"] != "myvault.privatelink.vaultcore.azure.net" {
		t.Errorf("got %v %v", names, err)
	}
	if z := s.networks.Zones(rid.MustParse(s.net)); len(z) != 1 || len(z[0].Records) != 2 {
		t.Errorf("got %v", z)
	}
	s.WantError(http.StatusConflict, "CannotDeleteResource", "DELETE", s.zone+vz, "")
	s.Want(http.StatusOK, "DELETE", group+v, "")
	s.Want(http.StatusNotFound, "GET", s.zone+"/A/myvault"+vz, "")
	s.WantError(http.StatusBadRequest, "BadRequest", "DELETE", s.zone+"/SOA/@"+vz, "")
}

// TestZoneGroup_OneRecordStandsForAllThatIsUnderAResource: a record with a star
// is written, and the name of each of them leads to it.
func TestZoneGroup_OneRecordStandsForAllThatIsUnderAResource(t *testing.T) {
	s := newSite(t)
	market := s.group + "/providers/Contoso.Shop/markets/m1"
	store := func(id, typ string) {
		r := rid.MustParse(id)
		if err := (arm.Resources{Store: s.Store}).Put(t.Context(), &arm.Envelope{ID: id, Name: r.Name(), Type: typ, Location: "westus2"}); err != nil {
			t.Fatal(err)
		}
	}
	store(market, "Contoso.Shop/markets")
	pe, body := s.endpoint("pe", "privateLinkServiceConnections", "")
	body = strings.NewReplacer(s.vault, market, `"vault"`, `"market"`).Replace(body)
	s.Want(http.StatusCreated, "PUT", pe+v, body)
	zone := s.group + "/providers/Microsoft.Network/privateDnsZones/privatelink.shop.example"
	s.Want(http.StatusCreated, "PUT", zone+vz, `{"location":"global"}`)
	s.Want(http.StatusCreated, "PUT", zone+"/virtualNetworkLinks/l"+vz, `{"location":"global","properties":{"virtualNetwork":{"id":"`+s.net+`"},"registrationEnabled":false}}`)
	s.Want(http.StatusCreated, "PUT", pe+"/privateDnsZoneGroups/zg"+v, `{"properties":{"privateDnsZoneConfigs":[{"name":"z","properties":{"privateDnsZoneId":"`+zone+`"}}]}}`)
	if a := s.Want(http.StatusOK, "GET", zone+"/A/*.m1.in"+vz, ""); !strings.Contains(string(a.Raw), "10.77.0.4") {
		t.Errorf("got %s", a.Raw)
	}
	version := s.networks.Version()
	store(market+"/stalls/fruit", "Contoso.Shop/markets/stalls")
	names, err := s.networks.Aliases(t.Context())
	if err != nil || names["fruit.all.shop.example"] != "fruit.m1.in.privatelink.shop.example" || names["*.all.shop.example"] != "" || s.networks.Version() == version {
		t.Fatalf("got %v %v", names, err)
	}
	known := vnet.NewNames(s.networks.Zones(rid.MustParse(s.net)), names)
	r := vnet.NewResolver(vnet.ResolverConfig{
		Network: "n", Owns: func(string) bool { return true }, Front: netip.MustParseAddr("168.63.129.16"), Offline: true,
		Log: slog.New(slog.DiscardHandler), Names: func() *vnet.Names { return known },
	})
	for name, want := range map[string]string{"fruit.all.shop.example.": "10.77.0.4", "other.all.shop.example.": "168.63.129.16", "m1.shop.example.": "10.77.0.4"} {
		q := new(dns.Msg)
		q.SetQuestion(name, dns.TypeA)
		a := r.Answer(t.Context(), q).Answer
		if len(a) == 0 || !strings.HasSuffix(a[len(a)-1].String(), want) {
			t.Errorf("%s: got %v, want %s", name, a, want)
		}
	}
}

func TestPeering_IsConnectedByBothHalves(t *testing.T) {
	s := newSite(t)
	other := s.group + "/providers/Microsoft.Network/virtualNetworks/other"
	twin := s.group + "/providers/Microsoft.Network/virtualNetworks/twin"
	s.Want(http.StatusCreated, "PUT", other+v, `{"location":"westus2","properties":{"addressSpace":{"addressPrefixes":["10.88.0.0/16"]}}}`)
	s.Want(http.StatusCreated, "PUT", twin+v, `{"location":"westus2","properties":{"addressSpace":{"addressPrefixes":["10.77.128.0/17"]}}}`)
	half := func(to string) string { return `{"properties":{"remoteVirtualNetwork":{"id":"` + to + `"}}}` }
	s.WantError(http.StatusBadRequest, "VnetAddressSpacesOverlap", "PUT", s.net+"/virtualNetworkPeerings/t"+v, half(twin))
	near := s.group + "/providers/Microsoft.Network/virtualNetworks/overlapping"
	s.Want(http.StatusCreated, "PUT", near+v, `{"location":"westus2","properties":{"addressSpace":{"addressPrefixes":["10.88.8.0/24"]}}}`)
	s.WantError(http.StatusBadRequest, "CannotPeerToSelf", "PUT", s.net+"/virtualNetworkPeerings/t"+v, half(s.net))
	s.WantError(http.StatusBadRequest, "NotEnforced", "PUT", s.net+"/virtualNetworkPeerings/t"+v, `{"properties":{"useRemoteGateways":true,"remoteVirtualNetwork":{"id":"`+other+`"}}}`)
	state := func(path string) string {
		return s.Want(http.StatusOK, "GET", path+v, "").Text("properties", "peeringState")
	}
	a, b := s.net+"/virtualNetworkPeerings/to", other+"/virtualNetworkPeerings/back"
	s.Want(http.StatusCreated, "PUT", a+v, half(other))
	if state(a) != "Initiated" || len(s.networks.Plans()[0].Peers) != 0 {
		t.Error("half a peering is none")
	}
	s.Want(http.StatusCreated, "PUT", b+v, half(s.net))
	if state(a) != "Connected" || state(b) != "Connected" || len(s.networks.Plans()[0].Peers) != 1 {
		t.Errorf("got %s %s", state(a), state(b))
	}
	back := func(name, to string) string {
		return `{"location":"westus2","properties":{"addressSpace":{"addressPrefixes":["10.88.0.0/16"]},"virtualNetworkPeerings":[{"name":"` + name + `","properties":{"remoteVirtualNetwork":{"id":"` + to + `"}}}]}}`
	}
	s.Want(http.StatusOK, "PUT", other+v, back("back", s.net))                                     // as it was shown
	s.WantError(http.StatusBadRequest, "NotEnforced", "PUT", other+v, back("more", s.net))         // would not be made
	s.WantError(http.StatusBadRequest, "NotEnforced", "PUT", other+v, back("back", s.net+"other")) // would not be changed
	s.WantError(http.StatusBadRequest, "VnetAddressSpacesOverlap", "PUT", other+v, `{"location":"westus2","properties":{"addressSpace":{"addressPrefixes":["10.88.0.0/16","10.77.9.0/24"]}}}`)
	s.WantError(http.StatusBadRequest, "VnetAddressSpacesOverlap", "PUT", s.net+"/virtualNetworkPeerings/near"+v, half(near)) // with another peer's
	s.Want(http.StatusOK, "DELETE", b+v, "")
	if state(a) == "Connected" || len(s.networks.Plans()[0].Peers) != 0 {
		t.Error("the peering outlives its half")
	}
}

func TestNetwork_Refusals(t *testing.T) {
	s := newSite(t)
	g := s.group + "/providers/Microsoft.Network/"
	space := func(more string) string {
		return `{"location":"westus2","properties":{"addressSpace":{"addressPrefixes":["10.1.0.0/16"]}` + more + `}}`
	}
	prefix := func(p string) string {
		return `{"location":"westus2","properties":{"addressSpace":{"addressPrefixes":["` + p + `"]}}}`
	}
	subnet := func(more string) string { return `{"properties":{"addressPrefix":"10.77.9.0/24"` + more + `}}` }
	pe, body := s.endpoint("pe", "privateLinkServiceConnections", "")
	swap := func(old, new string) string { return strings.Replace(body, old, new, 1) }
	for _, r := range []struct{ path, body, code string }{
		{g + "virtualNetworks/n", `{"location":"westus2"}`, "InvalidRequestFormat"},
		{g + "virtualNetworks/n", prefix("10.0.0.1/16"), "InvalidCIDRNotation"},
		{g + "virtualNetworks/n", prefix("x"), "InvalidAddressPrefixFormat"},
		{g + "virtualNetworks/n", prefix("fd00::/48"), "NotEnforced"},
		{g + "virtualNetworks/n", prefix("169.254.0.0/16"), "AddressPrefixNotAllowed"},
		{g + "virtualNetworks/n", prefix("127.0.0.0/8"), "AddressPrefixNotAllowed"},
		{g + "virtualNetworks/n", prefix("168.63.129.0/24"), "AddressPrefixNotAllowed"},
		{g + "virtualNetworks/n", space(`,"enableDdosProtection":true`), "NotEnforced"},
		{g + "virtualNetworks/n", space(`,"dhcpOptions":{"dnsServers":["10.1.0.4"]}`), "NotEnforced"},
		{g + "virtualNetworks/n", space(`,"subnets":[{"name":"a","properties":{"addressPrefix":"10.1.0.0/24"}},{"name":"b","properties":{"addressPrefix":"10.1.0.128/25"}}]`), "NetcfgSubnetRangesOverlap"},
		{g + "virtualNetworks/n", space(`,"subnets":[{"name":"a","properties":{"addressPrefix":"10.2.0.0/24"}}]`), "NetcfgInvalidSubnet"},
		{g + "virtualNetworks/n", space(`,"flowTimeoutInMinutes":4`), "NotEnforced"},
		{g + "virtualNetworks/n", space(`,"privateEndpointVNetPolicies":"Basic"`), "NotEnforced"},
		{g + "virtualNetworks/n", space(`,"virtualNetworkPeerings":[{"name":"p","properties":{}}]`), "NotEnforced"},
		{g + "publicIPAddresses/x", `{"location":"westus2","properties":{"ipTags":[{"ipTagType":"RoutingPreference","tag":"Internet"}]}}`, "NotEnforced"},
		{s.net + "/subnets/x", `{"properties":{"addressPrefix":"10.77.0.64/26"}}`, "NetcfgSubnetRangesOverlap"},
		{s.net + "/subnets/x", `{"properties":{"addressPrefix":"10.78.0.0/24"}}`, "NetcfgInvalidSubnet"},
		{s.net + "/subnets/x", `{"properties":{}}`, "InvalidRequestFormat"},
		{s.net + "/subnets/x", subnet(`,"networkSecurityGroup":{"id":"/x"}`), "NotEnforced"},
		{s.net + "/subnets/x", subnet(`,"routeTable":{"id":"/x"}`), "NotEnforced"},
		{s.net + "/subnets/x", subnet(`,"natGateway":{"id":"/x"}`), "NotEnforced"},
		{s.net + "/subnets/x", subnet(`,"delegations":[{"name":"d"}]`), "NotEnforced"},
		{s.net + "/subnets/x", subnet(`,"privateEndpointNetworkPolicies":"Enabled"`), "NotEnforced"},
		{s.net + "/subnets/x", subnet(`,"serviceEndpoints":[{"service":"Microsoft.Sql"}]`), "NotEnforced"},
		{g + "networkSecurityGroups/x", `{"location":"westus2"}`, "NotEnforced"},
		{g + "routeTables/x", `{"location":"westus2"}`, "NotEnforced"},
		{g + "natGateways/x", `{"location":"westus2"}`, "NotEnforced"},
		{g + "publicIPAddresses/x", `{"location":"westus2","properties":{"publicIPAllocationMethod":"Static"}}`, "NotEnforced"},
		{pe, swap("subnets/default", "subnets/none"), "InvalidResourceReference"},
		{pe, swap("vaults/myvault", "vaults/none1"), "InvalidResourceReference"},
		{pe, swap(`["vault"]`, `["blob"]`), "PrivateEndpointInvalidGroupId"},
		{pe, swap(`["vault"]`, `[]`), "PrivateEndpointGroupIdRequired"},
		{pe, swap("Microsoft.KeyVault/vaults/myvault", "Microsoft.Network/virtualNetworks/net"), "PrivateLinkServiceIdTypeNotSupported"},
		{pe, swap("westus2", "eastus"), "InvalidResourceReference"},
		{pe, `{"location":"westus2","properties":{"subnet":{"id":"` + s.sub + `"}}}`, "InvalidRequestFormat"},
	} {
		s.WantError(http.StatusBadRequest, r.code, "PUT", r.path+v, r.body)
	}
	for _, r := range []struct{ path, body string }{
		{"A/x", `{"properties":{"ttl":1,"aRecords":[{"ipv4Address":"nope"}]}}`}, {"A/x", `{"properties":{"ttl":0,"aRecords":[]}}`},
		{"A/x", `{"properties":{"ttl":1,"txtRecords":[{"value":["a"]}]}}`}, {"CNAME/@", `{"properties":{"ttl":1,"cnameRecord":{"cname":"a.b"}}}`},
		{"CNAME/x", `{"properties":{"ttl":1}}`}, {"TXT/x", `{"properties":{"ttl":1,"txtRecords":[{"value":["` + strings.Repeat("x", 1025) + `"]}]}}`},
		{"SRV/x", `{"properties":{"ttl":1,"srvRecords":[{"priority":1,"weight":1,"port":99999,"target":"a.b"}]}}`},
		{"MX/x", `{"properties":{"ttl":1,"mxRecords":[{"preference":1,"exchange":"a b"}]}}`},
	} {
		s.Want(http.StatusBadRequest, "PUT", s.zone+"/"+r.path+vz, r.body)
	}
}

func TestSubnet_FirewallRulesWantItsServiceEndpoint(t *testing.T) {
	s := newSite(t)
	rule := `{"location":"westus2","properties":{"tenantId":"` + armtest.Tenant + `","sku":{"family":"A","name":"standard"},"networkAcls":{"defaultAction":"Deny","bypass":"None","virtualNetworkRules":[{"id":"` + s.sub + `"}]}}}`
	s.WantError(http.StatusBadRequest, "SubnetsHaveNoServiceEndpointsConfigured", "PUT", s.vault+vkv, rule)
	s.WantError(http.StatusBadRequest, "SubnetNotFound", "PUT", s.vault+vkv, strings.Replace(rule, "/default", "/none", 1))
	s.WantError(http.StatusBadRequest, "BadRequest", "PUT", s.vault+vkv, strings.Replace(rule, "/subnets/default", "", 1))
	s.Want(http.StatusOK, "PUT", s.sub+v, `{"properties":{"addressPrefix":"10.77.0.0/24","serviceEndpoints":[{"service":"Microsoft.KeyVault"}]}}`)
	s.Want(http.StatusOK, "PUT", s.vault+vkv, rule)
}

func TestGroup_GoesWhole(t *testing.T) {
	s := newSite(t)
	pe, body := s.endpoint("pe", "privateLinkServiceConnections", "")
	s.Want(http.StatusCreated, "PUT", pe+v, body)
	if a := s.Do("DELETE", s.group+"?api-version="+armtest.Version, ""); a.Status/100 != 2 || s.Settle(a) != "Succeeded" {
		t.Fatalf("got %d %s", a.Status, a.Raw)
	}
	if len(s.networks.Plans()) != 0 || s.approved(pe) {
		t.Error("something outlives the group")
	}
}
