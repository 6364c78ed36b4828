package network

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/arm/privatelink"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
)

// Namespace is the provider's.
const Namespace = "Microsoft.Network"

// The types of the resources.
const (
	NetworkType   = Namespace + "/virtualNetworks"
	SubnetType    = NetworkType + "/subnets"
	PeeringType   = NetworkType + "/virtualNetworkPeerings"
	EndpointType  = Namespace + "/privateEndpoints"
	InterfaceType = Namespace + "/networkInterfaces"
	ZoneType      = Namespace + "/privateDnsZones"
	LinkType      = ZoneType + "/virtualNetworkLinks"
)

// versions are the known api-versions of networks, newest first.
func versions() []string {
	return []string{
		"2025-01-01", "2024-10-01", "2024-07-01", "2024-05-01", "2024-03-01", "2024-01-01", "2023-11-01", "2023-09-01", "2023-06-01",
		"2023-05-01", "2023-04-01", "2023-02-01", "2022-11-01", "2022-09-01", "2022-07-01", "2022-05-01", "2022-01-01", "2021-12-01",
		"2021-08-01", "2021-06-01", "2021-05-01", "2021-03-01", "2021-02-01", "2020-11-01", "2020-08-01", "2020-07-01", "2020-06-01",
		"2020-05-01", "2020-04-01", "2020-03-01", "2019-12-01", "2019-11-01", "2019-09-01", "2019-08-01", "2019-07-01", "2019-06-01",
		"2019-04-01", "2019-02-01", "2018-12-01", "2018-11-01", "2018-10-01", "2018-08-01", "2018-07-01", "2018-06-01", "2018-04-01",
		"2018-02-01", "2018-01-01", "2017-11-01", "2017-10-01", "2017-09-01", "2017-08-01", "2017-06-01", "2017-03-01", "2016-12-01",
		"2016-09-01", "2016-06-01", "2016-03-30", "2015-06-15",
	}
}

// zoneVersions are those of private DNS.
func zoneVersions() []string {
	return []string{"2024-06-01", "2020-06-01", "2020-01-01", "2018-09-01"}
}

// Wire makes networks real on this machine.
type Wire interface {
	// Available is nil where networks can be made; else the reason, a sentence.
	Available(ctx context.Context) error
	// Sync brings the network with the uid, and those that it is joined with, to
	// what [Networks.Plans] says, and returns when it is so.
	Sync(ctx context.Context, uid string) error
	// Taken reports whether something that is no resource, such as a program
	// inside, has the address in the network now.
	Taken(uid, address string) bool
}

// Config is what New needs.
type Config struct {
	Networks *Networks
	Wire     Wire // nil: networks are documents alone
}

type provider struct {
	*Networks
	res  arm.Resources
	wire Wire
}

// Networks knows all networks, zones and endpoints. See Open.
type Networks struct {
	store  store.Store
	links  *privatelink.Links
	mirror *store.Mirror[*arm.Envelope]
	claims *store.Mirror[*claims]

	version atomic.Int64 // counts changes
	mu      sync.Mutex   // guards what follows
	seen    *view        // of version at
	at      int64
}

const maxStale = time.Second

// Open makes Networks. Close ends them.
func Open(ctx context.Context, s store.Store, links *privatelink.Links) (*Networks, error) {
	n := &Networks{store: s, links: links}
	n.version.Store(1)
	kinds := []string{NetworkType, SubnetType, PeeringType, EndpointType, ZoneType, LinkType}
	for _, t := range recordTypes() {
		kinds = append(kinds, ZoneType+"/"+t)
	}
	for i := range kinds {
		kinds[i] = strings.ToLower(kinds[i])
	}
	var err error
	if n.mirror, err = store.NewMirror(ctx, s, arm.KeyPrefix+"/", arm.DecodeEnvelope, maxStale, kinds...); err != nil {
		return nil, fmt.Errorf("open networks: %w", err)
	}
	if n.claims, err = store.NewMirror(ctx, s, claimPrefix, decodeClaims, maxStale); err != nil {
		n.mirror.Close()
		return nil, fmt.Errorf("open networks: %w", err)
	}
	changed := func(store.Change) { n.version.Add(1) }
	n.mirror.OnChange(changed)
	n.claims.OnChange(changed)
	links.OnChange(func() { n.version.Add(1) })
	return n, nil
}

// Close ends the mirrors.
func (n *Networks) Close() {
	n.mirror.Close()
	n.claims.Close()
}

// Version is another number after each change of anything that Plans, Zones
// and Aliases give.
func (n *Networks) Version() int64 { return n.version.Load() }

// New makes the provider.
func New(c Config) arm.Provider {
	p := &provider{Networks: c.Networks, res: arm.Resources{Store: c.Networks.store}, wire: c.Wire}
	routes := []arm.Route{
		arm.Serve(Namespace, p.networks()), arm.Serve(Namespace, p.subnets()), arm.Serve(Namespace, p.peerings()),
		arm.Serve(Namespace, p.endpointsKind()), arm.Serve(Namespace, p.zoneGroups()), arm.Serve(Namespace, p.interfaces()),
		arm.Serve(Namespace, p.publicAddresses()),
		arm.Serve(Namespace, p.zones()), arm.Serve(Namespace, p.zoneLinks()), arm.Serve(Namespace, p.allRecords()),
	}
	for _, t := range recordTypes() {
		routes = append(routes, arm.Serve(Namespace, p.records(t)))
	}
	return arm.Provider{Namespace: Namespace, Routes: routes, Endpoints: append(p.questions(), refusals()...)}
}

// refusals are the types that promise what nothing here keeps.
func refusals() []arm.Endpoint {
	const group = "/subscriptions/{subscriptionId}/resourceGroups/{resourceGroupName}/providers/" + Namespace + "/"
	why := map[string]string{
		"networkSecurityGroups":   "security rules are not enforced in networks of this service. A network lets its own members and its peers reach each other, and nobody else in",
		"routeTables":             "routes of one's own are not followed: a network leads to itself, to its peers and to the internet",
		"natGateways":             "every network leaves to the internet through this machine. To close a subnet set its defaultOutboundAccess to false",
		"applicationGateways":     "there are no gateways",
		"azureFirewalls":          "there are no firewalls of one's own",
		"firewallPolicies":        "there are no firewalls of one's own",
		"bastionHosts":            "there are no machines to reach by a bastion. `laz run --network` puts a program into a network",
		"loadBalancers":           "load balancers are those of Kubernetes services",
		"virtualNetworkGateways":  "there are no gateways to other networks",
		"vpnGateways":             "there are no gateways to other networks",
		"expressRouteCircuits":    "there are no circuits",
		"privateLinkServices":     "private endpoints reach the services of this cloud alone",
		"serviceEndpointPolicies": "policies for service endpoints are not enforced",
		"ddosProtectionPlans":     "nothing protects from floods here",
		"dnsResolvers":            "every network has its resolver already",
	}
	var list []arm.Endpoint
	for _, typ := range slices.Sorted(maps.Keys(why)) {
		reason := why[typ]
		list = append(list,
			arm.Endpoint{
				Method: http.MethodPut, Path: group + typ + "/{name}", Action: Namespace + "/" + typ + "/write", APIVersions: versions(),
				Handle: func(context.Context, *arm.Request) (*arm.Response, error) {
					return nil, apierr.New(apierr.BadRequest, "NotEnforced", "Resources of the type %s/%s are refused: %s.", Namespace, typ, reason)
				},
			},
			arm.Endpoint{
				Method: http.MethodGet, Path: group + typ, Action: Namespace + "/" + typ + "/read", APIVersions: versions(),
				Handle: func(context.Context, *arm.Request) (*arm.Response, error) {
					return &arm.Response{Body: map[string]any{"value": []any{}}}, nil
				},
			})
	}
	return list
}

func bad(code, target, format string, args ...any) *apierr.Error {
	return apierr.New(apierr.BadRequest, code, format, args...).WithTarget(target)
}

// refuse reports a property that promises what nothing here keeps.
func refuse(target, why string) error {
	return bad("NotEnforced", target, "The property '%s' is refused: %s.", target, why)
}

// get gives a resource; nil where there is none.
func (p *provider) get(ctx context.Context, id rid.ID) (*arm.Envelope, error) {
	e, err := p.res.Get(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	return e, err
}

// sync brings a network about, where there is one to bring about. Without an
// agent a network without endpoints is a document, and the answer says so.
func (p *provider) sync(ctx context.Context, uid string) error {
	if p.wire == nil {
		return nil
	}
	if err := p.wire.Available(ctx); err != nil {
		arm.Warn(ctx, "This network is only written down: "+err.Error())
		return nil
	}
	if err := p.wire.Sync(ctx, uid); err != nil {
		return apierr.New(apierr.Conflict, "NetworkNotMade", "The virtual network could not be brought about on this machine: %v.", err).WithCause(err)
	}
	return nil
}

// parseID reads an id of the type.
func parseID(text, typ, target string) (rid.ID, error) {
	id, err := rid.Parse(text)
	if err != nil || !strings.EqualFold(id.Type(), typ) || id.ResourceGroup() == "" {
		return id, bad("InvalidResourceReference", target, "The id '%s' at '%s' is not that of a resource of the type %s.", text, target, typ)
	}
	return id, nil
}

func notFound(id rid.ID, referrer string) error {
	return bad("InvalidResourceReference", "", "Resource %s referenced by resource %s was not found. Please make sure that the referenced resource exists, and that both resources are in the same region.", id, referrer)
}
