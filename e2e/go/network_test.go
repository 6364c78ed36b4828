package clients_test

import (
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v6"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/privatedns/armprivatedns"
)

func TestVirtualNetworks(t *testing.T) {
	if !cloud.Under(t) {
		return
	}
	ctx, rg := t.Context(), group(t)
	clients := must(armnetwork.NewClientFactory(cloud.Vars["SUBSCRIPTION"], owner(t), nil))(t)
	networks, subnets, peerings := clients.NewVirtualNetworksClient(), clients.NewSubnetsClient(), clients.NewVirtualNetworkPeeringsClient()
	make := func(name, space string) armnetwork.VirtualNetwork {
		poller := must(networks.BeginCreateOrUpdate(ctx, rg, name, armnetwork.VirtualNetwork{
			Location: to.Ptr("eastus"), Properties: &armnetwork.VirtualNetworkPropertiesFormat{AddressSpace: &armnetwork.AddressSpace{AddressPrefixes: []*string{&space}}},
		}, nil))(t)
		return must(poller.PollUntilDone(ctx, nil))(t).VirtualNetwork
	}
	a, b := make("a", "10.1.0.0/16"), make("b", "10.2.0.0/16")
	sub := must(subnets.BeginCreateOrUpdate(ctx, rg, "a", "s", armnetwork.Subnet{Properties: &armnetwork.SubnetPropertiesFormat{
		AddressPrefix: to.Ptr("10.1.1.0/24"), ServiceEndpoints: []*armnetwork.ServiceEndpointPropertiesFormat{{Service: to.Ptr("Microsoft.KeyVault")}},
	}}, nil))(t)
	made := must(sub.PollUntilDone(ctx, nil))(t)
	if got := must(networks.Get(ctx, rg, "a", nil))(t); len(got.Properties.Subnets) != 1 || *got.Properties.Subnets[0].ID != *made.ID {
		t.Errorf("got %+v", got.Properties)
	}
	for _, p := range []struct {
		net    string
		remote armnetwork.VirtualNetwork
		want   armnetwork.VirtualNetworkPeeringState
	}{{"a", b, armnetwork.VirtualNetworkPeeringStateInitiated}, {"b", a, armnetwork.VirtualNetworkPeeringStateConnected}} {
		poller := must(peerings.BeginCreateOrUpdate(ctx, rg, p.net, "p", armnetwork.VirtualNetworkPeering{Properties: &armnetwork.VirtualNetworkPeeringPropertiesFormat{
			RemoteVirtualNetwork: &armnetwork.SubResource{ID: p.remote.ID}, AllowVirtualNetworkAccess: to.Ptr(true),
		}}, nil))(t)
		if got := must(poller.PollUntilDone(ctx, nil))(t); *got.Properties.PeeringState != p.want {
			t.Errorf("the peering of %s is %s", p.net, *got.Properties.PeeringState)
		}
	}
	_, err := subnets.BeginCreateOrUpdate(ctx, rg, "a", "t", armnetwork.Subnet{Properties: &armnetwork.SubnetPropertiesFormat{AddressPrefix: to.Ptr("10.1.1.128/25")}}, nil)
	refused(t, err, 400, "NetcfgSubnetRangesOverlap")
	_, err = clients.NewSecurityGroupsClient().BeginCreateOrUpdate(ctx, rg, "nsg", armnetwork.SecurityGroup{Location: to.Ptr("eastus")}, nil)
	refused(t, err, 400, "NotEnforced")
	gone := must(subnets.BeginDelete(ctx, rg, "a", "s", nil))(t)
	must(gone.PollUntilDone(ctx, nil))(t)
}

func TestPrivateDNS(t *testing.T) {
	if !cloud.Under(t) {
		return
	}
	ctx, rg := t.Context(), group(t)
	nets := must(armnetwork.NewVirtualNetworksClient(cloud.Vars["SUBSCRIPTION"], owner(t), nil))(t)
	net := must(must(nets.BeginCreateOrUpdate(ctx, rg, "n", armnetwork.VirtualNetwork{
		Location: to.Ptr("eastus"), Properties: &armnetwork.VirtualNetworkPropertiesFormat{AddressSpace: &armnetwork.AddressSpace{AddressPrefixes: []*string{to.Ptr("10.3.0.0/16")}}},
	}, nil))(t).PollUntilDone(ctx, nil))(t)
	clients := must(armprivatedns.NewClientFactory(cloud.Vars["SUBSCRIPTION"], owner(t), nil))(t)
	const zone = "corp.example"
	must(must(clients.NewPrivateZonesClient().BeginCreateOrUpdate(ctx, rg, zone, armprivatedns.PrivateZone{Location: to.Ptr("global")}, nil))(t).PollUntilDone(ctx, nil))(t)
	link := must(must(clients.NewVirtualNetworkLinksClient().BeginCreateOrUpdate(ctx, rg, zone, "l", armprivatedns.VirtualNetworkLink{
		Location: to.Ptr("global"), Properties: &armprivatedns.VirtualNetworkLinkProperties{VirtualNetwork: &armprivatedns.SubResource{ID: net.ID}, RegistrationEnabled: to.Ptr(false)},
	}, nil))(t).PollUntilDone(ctx, nil))(t)
	if *link.Properties.VirtualNetworkLinkState != armprivatedns.VirtualNetworkLinkStateCompleted {
		t.Errorf("the link is %s", *link.Properties.VirtualNetworkLinkState)
	}
	records := clients.NewRecordSetsClient()
	got := must(records.CreateOrUpdate(ctx, rg, zone, armprivatedns.RecordTypeA, "www", armprivatedns.RecordSet{Properties: &armprivatedns.RecordSetProperties{
		TTL: to.Ptr[int64](60), ARecords: []*armprivatedns.ARecord{{IPv4Address: to.Ptr("10.3.0.4")}},
	}}, nil))(t)
	if *got.Properties.Fqdn != "www.corp.example." || *got.Properties.ARecords[0].IPv4Address != "10.3.0.4" {
		t.Errorf("got %+v", got.Properties)
	}
	count := 0
	for pages := records.NewListPager(rg, zone, nil); pages.More(); {
		count += len(must(pages.NextPage(ctx))(t).Value)
	}
	if count != 2 { // with the SOA
		t.Errorf("the zone has %d record sets", count)
	}
	_, err := records.CreateOrUpdate(ctx, rg, zone, armprivatedns.RecordTypeCNAME, "www", armprivatedns.RecordSet{Properties: &armprivatedns.RecordSetProperties{
		TTL: to.Ptr[int64](60), CnameRecord: &armprivatedns.CnameRecord{Cname: to.Ptr("x.example")},
	}}, nil)
	refused(t, err, 400, "RecordSetConflict")
	must(records.Delete(ctx, rg, zone, armprivatedns.RecordTypeA, "www", nil))(t)
}
