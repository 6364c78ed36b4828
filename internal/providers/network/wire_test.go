package network_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
)

// machine is a node agent's part of networks, which a test breaks and mends.
type machine struct {
	unable, fails error
	taken         map[string]bool
}

func (m *machine) Available(context.Context) error    { return m.unable }
func (m *machine) Sync(context.Context, string) error { return m.fails }
func (m *machine) Taken(_, address string) bool       { return m.taken[address] }

// TestWire_WhatFailsLeavesNothing: a network or a subnet that could not be made
// can be asked for again, with the same ranges.
func TestWire_WhatFailsLeavesNothing(t *testing.T) {
	m := &machine{}
	s := newSiteOn(t, m)
	g := s.group + "/providers/Microsoft.Network/"
	m.fails = errors.New("no memory")
	body := `{"properties":{"addressPrefix":"10.77.1.0/24"}}`
	s.WantError(http.StatusConflict, "NetworkNotMade", "PUT", s.net+"/subnets/a"+v, body)
	other := `{"location":"westus2","properties":{"addressSpace":{"addressPrefixes":["10.9.0.0/16"]},"subnets":[{"name":"x","properties":{"addressPrefix":"10.9.0.0/24"}}]}}`
	s.WantError(http.StatusConflict, "NetworkNotMade", "PUT", g+"virtualNetworks/other"+v, other)
	s.WantError(http.StatusConflict, "NetworkNotMade", "PUT", s.sub+v, `{"properties":{"addressPrefix":"10.77.2.0/24"}}`)
	m.fails = nil
	s.Want(http.StatusNotFound, "GET", g+"virtualNetworks/other/subnets/x"+v, "")
	s.Want(http.StatusCreated, "PUT", s.net+"/subnets/b"+v, body) // its range is free, and the default's is not
	s.WantError(http.StatusBadRequest, "NetcfgSubnetRangesOverlap", "PUT", s.net+"/subnets/c"+v, `{"properties":{"addressPrefix":"10.77.0.0/25"}}`)
	s.Want(http.StatusCreated, "PUT", s.net+"/subnets/d"+v, `{"properties":{"addressPrefix":"10.77.2.0/24"}}`)
	s.Want(http.StatusCreated, "PUT", g+"virtualNetworks/other"+v, other)
}

// TestWire_NoEndpointWithoutAMachine: a private endpoint that nothing would
// enforce is refused; one whose subnet is full too.
func TestWire_NoEndpointWithoutAMachine(t *testing.T) {
	m := &machine{unable: errors.New("no node agent runs"), taken: map[string]bool{}}
	s := newSiteOn(t, m)
	pe, body := s.endpoint("pe", "privateLinkServiceConnections", "")
	s.WantError(http.StatusConflict, "NetworkNotEnforceable", "PUT", pe+v, body)
	m.unable = nil
	for i := range 256 {
		m.taken[fmt.Sprintf("10.77.0.%d", i)] = true
	}
	s.WantError(http.StatusBadRequest, "SubnetIsFull", "PUT", pe+v, body)
	delete(m.taken, "10.77.0.9")
	s.Want(http.StatusCreated, "PUT", pe+v, body)
	if list := s.Want(http.StatusOK, "GET", pe+v, "").At("properties", "customDnsConfigs").([]any); len(list) != 1 || fmt.Sprint(list[0].(map[string]any)["ipAddresses"]) != "[10.77.0.9]" {
		t.Errorf("got %v", list)
	}
}

func TestAddresses_WhichAreFree(t *testing.T) {
	m := &machine{taken: map[string]bool{"10.77.0.30": true}}
	s := newSiteOn(t, m)
	pe, body := s.endpoint("pe", "privateLinkServiceConnections", "")
	s.Want(http.StatusCreated, "PUT", pe+v, body)
	for address, want := range map[string][2]bool{
		"10.77.0.4": {false, false}, "10.77.0.1": {false, true}, "10.77.0.0": {false, true}, "10.77.0.255": {false, true}, "10.77.0.30": {false, false}, "10.77.0.31": {true, false},
	} {
		got := s.Want(http.StatusOK, "GET", s.net+"/checkIPAddressAvailability"+v+"&ipAddress="+address, "")
		if got.At("available") != want[0] || got.At("isPlatformReserved") != want[1] {
			t.Errorf("%s: %s", address, got.Raw)
		}
	}
	s.WantError(http.StatusBadRequest, "PrivateIPAddressNotInAnySubnet", "GET", s.net+"/checkIPAddressAvailability"+v+"&ipAddress=10.78.0.1", "")
	none := s.group + "/providers/Microsoft.Network/virtualNetworks/none"
	s.WantError(http.StatusNotFound, "ResourceNotFound", "GET", none+"/checkIPAddressAvailability"+v+"&ipAddress=10.77.0.4", "")
	s.WantError(http.StatusNotFound, "ResourceNotFound", "GET", none+"/usages"+v, "")
	s.Want(http.StatusOK, "GET", s.net+"/usages"+v, "")
}

// TestZoneGroup_LeavesWhatPeopleWrote: a record that leads elsewhere is nobody's
// to take; one that leads to the endpoint already may stay.
func TestZoneGroup_LeavesWhatPeopleWrote(t *testing.T) {
	s := newSite(t)
	pe, body := s.endpoint("pe", "manualPrivateLinkServiceConnections", "")
	s.Want(http.StatusCreated, "PUT", pe+v, body)
	if names, err := s.networks.Aliases(t.Context()); err != nil || len(names) != 0 {
		t.Errorf("a name leads to an endpoint that waits: %v, %v", names, err)
	}
	group, config := pe+"/privateDnsZoneGroups/zg", `{"properties":{"privateDnsZoneConfigs":[{"name":"z","properties":{"privateDnsZoneId":"`+s.zone+`"}}]}}`
	s.Want(http.StatusCreated, "PUT", s.zone+"/A/myvault"+vz, `{"properties":{"ttl":60,"aRecords":[{"ipv4Address":"10.1.2.3"}]}}`)
	s.WantError(http.StatusConflict, "RecordSetConflict", "PUT", group+v, config)
	if got := s.Want(http.StatusOK, "GET", s.zone+"/A/myvault"+vz, ""); got.At("properties", "aRecords").([]any)[0].(map[string]any)["ipv4Address"] != "10.1.2.3" {
		t.Errorf("got %s", got.Raw)
	}
	s.Want(http.StatusOK, "PUT", s.zone+"/A/myvault"+vz, `{"properties":{"ttl":60,"aRecords":[{"ipv4Address":"10.77.0.4"}]}}`)
	s.Want(http.StatusCreated, "PUT", group+v, config)
}
