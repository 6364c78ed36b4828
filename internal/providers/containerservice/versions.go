package containerservice

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/cluster"
	"lazurite.dev/internal/rid"
)

// apiVersions are Azure's, newest first, from the first one of an az that is
// still around. Source: azure-rest-api-specs, containerservice/resource-manager.
func apiVersions() []string {
	return []string{
		"2025-08-01", "2025-07-02-preview", "2025-07-01", "2025-06-02-preview", "2025-05-02-preview", "2025-05-01", "2025-04-02-preview", "2025-04-01",
		"2025-03-02-preview", "2025-03-01", "2025-02-02-preview", "2025-02-01", "2025-01-02-preview", "2025-01-01",
		"2024-10-02-preview", "2024-10-01", "2024-09-02-preview", "2024-09-01", "2024-08-01", "2024-07-02-preview", "2024-07-01", "2024-06-02-preview",
		"2024-05-02-preview", "2024-05-01", "2024-04-02-preview", "2024-03-02-preview", "2024-02-02-preview", "2024-02-01", "2024-01-02-preview", "2024-01-01",
		"2023-11-02-preview", "2023-11-01", "2023-10-02-preview", "2023-10-01", "2023-09-02-preview", "2023-09-01", "2023-08-02-preview", "2023-08-01",
		"2023-07-02-preview", "2023-07-01", "2023-06-02-preview", "2023-06-01", "2023-05-02-preview", "2023-05-01", "2023-04-02-preview", "2023-04-01",
		"2023-03-02-preview", "2023-03-01", "2023-02-02-preview", "2023-02-01", "2023-01-02-preview", "2023-01-01",
		"2022-11-02-preview", "2022-11-01", "2022-10-02-preview", "2022-09-02-preview", "2022-09-01", "2022-08-03-preview", "2022-08-02-preview", "2022-08-01",
		"2022-07-02-preview", "2022-07-01", "2022-06-02-preview", "2022-06-01", "2022-05-02-preview", "2022-04-02-preview", "2022-04-01",
		"2022-03-02-preview", "2022-03-01", "2022-02-02-preview", "2022-02-01", "2022-01-02-preview", "2022-01-01",
		"2021-11-01-preview", "2021-10-01", "2021-09-01", "2021-08-01", "2021-07-01", "2021-05-01", "2021-03-01", "2021-02-01",
		"2020-12-01", "2020-11-01", "2020-09-01",
	}
}

// release is a minor version of Kubernetes and its newest patch.
type release struct{ minor, patch int }

func (r release) String() string { return "1." + strconv.Itoa(r.minor) + "." + strconv.Itoa(r.patch) }

func (r release) short() string { return "1." + strconv.Itoa(r.minor) }

// offer is what a driver runs, newest first; the first is the default.
type offer struct {
	list   []release
	older  bool // older ones are taken too: a version is a label
	driver string
}

// offered asks the driver what it runs.
func offered(ctx context.Context, d cluster.Driver) (offer, error) {
	o := offer{older: d.Name() != embedded, driver: d.Name()}
	list, err := d.Offer(ctx)
	if err != nil {
		return o, unavailable(d.Name(), err)
	}
	for _, v := range list {
		r, err := parseVersion(v)
		if err != nil {
			return o, err
		}
		o.list = append(o.list, r)
	}
	if len(o.list) == 0 {
		return o, unavailable(d.Name(), errors.New("it offers no version of Kubernetes"))
	}
	return o, nil
}

// offeredNew is what new clusters can be.
func (s *Service) offeredNew(ctx context.Context) (offer, error) {
	d, _, err := s.Drivers.Choose(ctx)
	if err != nil {
		return offer{}, unavailable(s.Drivers.Mode, err)
	}
	return offered(ctx, d)
}

var versionShape = regexp.MustCompile(`^1\.([0-9]{1,2})(?:\.([0-9]{1,3}))?$`)

// parseVersion reads "1.37.2"; "1.37" is its first patch.
func parseVersion(s string) (release, error) {
	m := versionShape.FindStringSubmatch(s)
	if m == nil {
		return release{}, offer{}.refuse(s)
	}
	minor, err := strconv.Atoi(m[1])
	if err != nil || m[2] == "" {
		return release{minor: minor}, err
	}
	patch, err := strconv.Atoi(m[2])
	return release{minor, patch}, err
}

// read reads a version that is asked for: "1.37.2", or "1.37" as the newest
// patch of it.
func (o offer) read(s string) (release, error) {
	v, err := parseVersion(s)
	if err != nil {
		return v, o.refuse(s)
	}
	whole := strings.Count(s, ".") == 2
	for _, r := range o.list {
		if r == v && whole || r.minor == v.minor && !whole {
			return r, nil
		}
	}
	if !o.older || v.minor > o.list[0].minor || v.minor < 20 {
		return v, o.refuse(s)
	}
	return v, nil
}

func (o offer) refuse(s string) error {
	var known []string
	for _, r := range o.list {
		known = append(known, r.String())
	}
	more := fmt.Sprintf("The driver '%s' runs what its distribution holds, and nothing else", o.driver)
	if o.older || o.driver == "" {
		more = "older ones are taken too"
	}
	return apierr.New(apierr.BadRequest, "K8sVersionNotSupported",
		"The Kubernetes version '%s' is not supported. The offered versions are %s; %s.", s, strings.Join(known, ", "), lowerFirst(more)).
		WithTarget("properties.kubernetesVersion")
}

func lowerFirst(s string) string { return strings.ToLower(s[:1]) + s[1:] }

// newer are the releases that a cluster of version from can be upgraded to.
func (o offer) newer(from string) []release {
	at, err := parseVersion(from)
	var out []release
	for _, r := range o.list {
		if err == nil && (r.minor == at.minor+1 || r.minor == at.minor && r.patch > at.patch) {
			out = append(out, r)
		}
	}
	return out
}

func (s *Service) endpoints() []arm.Endpoint {
	const at = "/subscriptions/{subscriptionId}/providers/Microsoft.ContainerService/locations/{location}/"
	return []arm.Endpoint{
		{
			Method: http.MethodGet, Path: at + "kubernetesVersions", APIVersions: apiVersions(),
			Action: Namespace + "/locations/kubernetesVersions/read", Handle: s.kubernetesVersions,
		},
		{
			Method: http.MethodGet, Path: at + "orchestrators", APIVersions: []string{"2019-08-01", "2019-06-01", "2019-04-01", "2017-09-30"},
			Action: Namespace + "/locations/orchestrators/read", Handle: s.orchestrators,
		},
	}
}

// kubernetesVersions is Managed Clusters - List Kubernetes Versions.
func (s *Service) kubernetesVersions(ctx context.Context, r *arm.Request) (*arm.Response, error) {
	if err := checkLocation(r.Params["location"]); err != nil {
		return nil, err
	}
	o, err := s.offeredNew(ctx)
	if err != nil {
		return nil, err
	}
	var list []any
	for i, rel := range o.list {
		up := []string{}
		for _, n := range o.newer(rel.String()) {
			up = append(up, n.String())
		}
		v := map[string]any{
			"version": rel.short(), "capabilities": map[string]any{"supportPlan": []string{"KubernetesOfficial", "AKSLongTermSupport"}},
			"patchVersions": map[string]any{rel.String(): map[string]any{"upgrades": up}},
		}
		if i == 0 {
			v["isDefault"] = true
		}
		list = append(list, v)
	}
	return &arm.Response{Body: map[string]any{"values": list}}, nil
}

// orchestrators is Container Services - List Orchestrators, which an older az asks.
func (s *Service) orchestrators(ctx context.Context, r *arm.Request) (*arm.Response, error) {
	if err := checkLocation(r.Params["location"]); err != nil {
		return nil, err
	}
	o, err := s.offeredNew(ctx)
	if err != nil {
		return nil, err
	}
	const typ = "orchestratorType"
	var list []any
	for i, rel := range o.list {
		v := map[string]any{typ: "Kubernetes", "orchestratorVersion": rel.String(), "default": i == 0}
		var up []any
		for _, n := range o.newer(rel.String()) {
			up = append(up, map[string]any{typ: "Kubernetes", "orchestratorVersion": n.String()})
		}
		if up != nil {
			v["upgrades"] = up
		}
		list = append(list, v)
	}
	return &arm.Response{Body: map[string]any{
		"id": r.HTTP.URL.Path, "name": "default", "type": Namespace + "/locations/orchestrators", "properties": map[string]any{"orchestrators": list},
	}}, nil
}

func checkLocation(name string) error {
	if arm.KnownLocation(arm.NormalizeLocation(name)) {
		return nil
	}
	return apierr.New(apierr.BadRequest, "LocationNotAvailableForResourceType",
		"The provided location '%s' is not available. List of available regions is '%s'.", name, strings.Join(arm.LocationNames(), ","))
}

type versionRef struct {
	KubernetesVersion string `json:"kubernetesVersion"`
}

type upgradeProfile struct {
	KubernetesVersion string       `json:"kubernetesVersion"`
	Name              string       `json:"name,omitempty"`
	OSType            string       `json:"osType"`
	Upgrades          []versionRef `json:"upgrades,omitempty"`
}

func (o offer) profile(name, version, os string) upgradeProfile {
	p := upgradeProfile{KubernetesVersion: version, Name: name, OSType: os}
	for _, r := range o.newer(version) {
		p.Upgrades = append(p.Upgrades, versionRef{r.String()})
	}
	return p
}

// upgrades is what upgradeProfiles/default of a cluster says.
type upgrades struct {
	ControlPlaneProfile upgradeProfile   `json:"controlPlaneProfile"`
	AgentPoolProfiles   []upgradeProfile `json:"agentPoolProfiles"`
}

func (s *Service) clusterUpgrades(ctx context.Context, id rid.ID) (*arm.Resource[upgrades], error) {
	if !strings.EqualFold(id.Name(), "default") {
		return nil, nil
	}
	c, err := s.read(ctx, id.Parent())
	if err != nil {
		return nil, err
	}
	o, err := s.offerOf(ctx, c)
	if err != nil {
		return nil, err
	}
	r := &arm.Resource[upgrades]{ID: id, Properties: upgrades{ControlPlaneProfile: o.profile("", c.Properties.CurrentKubernetesVersion, "Linux")}}
	pools, err := s.pools(ctx, id.Parent())
	if err != nil {
		return nil, err
	}
	for _, e := range pools {
		r.Properties.AgentPoolProfiles = append(r.Properties.AgentPoolProfiles, o.profile(e.Name, text(e.Properties, "orchestratorVersion"), text(e.Properties, "osType")))
	}
	return r, nil
}

// poolUpgrades is what upgradeProfiles/default of an agent pool says.
type poolUpgrades struct {
	upgradeProfile
}

func (s *Service) poolUpgrades(ctx context.Context, id rid.ID) (*arm.Resource[poolUpgrades], error) {
	if !strings.EqualFold(id.Name(), "default") {
		return nil, nil
	}
	e, err := s.res.Get(ctx, id.Parent())
	if err != nil {
		return nil, err
	}
	c, err := s.read(ctx, id.Parent().Parent())
	if err != nil {
		return nil, err
	}
	o, err := s.offerOf(ctx, c)
	if err != nil {
		return nil, err
	}
	return &arm.Resource[poolUpgrades]{ID: id, Properties: poolUpgrades{o.profile("", text(e.Properties, "orchestratorVersion"), text(e.Properties, "osType"))}}, nil
}

// poolVersions is Agent Pools - Get Available Agent Pool Versions.
func (s *Service) poolVersions(ctx context.Context, scope rid.ID, _ json.RawMessage) (any, error) {
	c, err := s.read(ctx, scope)
	if err != nil {
		return nil, err
	}
	o, err := s.offerOf(ctx, c)
	if err != nil {
		return nil, err
	}
	var list []any
	for i, r := range o.list {
		list = append(list, map[string]any{"kubernetesVersion": r.String(), "default": i == 0})
	}
	return map[string]any{
		"id": scope.String() + "/availableAgentPoolVersions", "name": "default", "type": Namespace + "/managedClusters/availableAgentPoolVersions",
		"properties": map[string]any{"agentPoolVersions": list},
	}, nil
}
