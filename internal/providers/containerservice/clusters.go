package containerservice

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	"github.com/google/uuid"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/rid"
)

// What a cluster keeps in Private. The ids are there from the intent on, so
// that an operation that is resumed makes nothing twice.
const (
	keyUID           = "uid"
	keyDriver        = "driver"
	keyKubeletClient = "kubelet.client"
	keyKubeletID     = "kubelet.principal"
)

const (
	running = "Running"
	stopped = "Stopped"

	maxAgentPools = 100
)

type resource = arm.Resource[Cluster]

func (s *Service) clusters() arm.Kind[Cluster] {
	return arm.Kind[Cluster]{
		Type: "managedClusters", APIVersions: apiVersions(), Tracked: true, Async: true, Cancels: true, Identity: true, Name: clusterName,
		ReadOnly: []string{
			"fqdn", "azurePortalFQDN", "privateFQDN", "currentKubernetesVersion", "maxAgentPools", "powerState", "resourceUID",
			"oidcIssuerProfile.issuerURL", "existingClusterProfile.server", "existingClusterProfile.issuerKeys",
		},
		WriteOnly: []string{"existingClusterProfile.kubeconfig"},
		Default:   s.defaults, Validate: s.validate, Put: s.put, Delete: s.delete, Read: s.fill, Actions: s.actions(), LongActions: s.longActions(),
	}
}

var nameShape = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9_-]{0,61}[a-zA-Z0-9])?$`)

func clusterName(name string) error {
	if nameShape.MatchString(name) {
		return nil
	}
	return apierr.New(apierr.BadRequest, "InvalidParameter",
		"The value of parameter resourceName is invalid. '%s' has to be 1 to 63 letters, digits, underscores and hyphens, with a letter or digit at both ends.", name).
		WithTarget("name")
}

// read gives a stored cluster.
func (s *Service) read(ctx context.Context, id rid.ID) (*resource, error) {
	e, err := s.res.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	return arm.View[Cluster](e)
}

// defaults fills in what Azure would; what an update leaves out stays.
func (s *Service) defaults(ctx context.Context, old, next *resource) error {
	if e := next.Properties.ExistingClusterProfile; e != nil && *e == (ExistingCluster{}) {
		next.Properties.ExistingClusterProfile = nil // nothing that a client may set
	}
	if attaches(old, next) {
		return s.defaultsAttached(ctx, old, next)
	}
	p := &next.Properties
	if old == nil {
		next.Private[keyUID] = uuid.NewString()
		if err := s.choose(ctx, next); err != nil {
			return err
		}
	} else {
		keep(&old.Properties, p)
		if next.Extra["sku"] == nil && old.Extra["sku"] != nil {
			next.Extra["sku"] = old.Extra["sku"]
		}
	}
	name, group := next.ID.Name(), next.ID.ResourceGroup()
	if p.DNSPrefix == "" && p.FQDNSubdomain == "" {
		p.DNSPrefix = dnsPrefix(name, group, next.ID.Subscription())
	}
	if err := s.version(ctx, old, next); err != nil {
		return err
	}
	if p.NodeResourceGroup == "" {
		p.NodeResourceGroup = cut("MC_"+group+"_"+name+"_"+next.Location, 80)
	}
	if p.EnableRBAC == nil {
		p.EnableRBAC = ptr(true)
	}
	if p.SupportPlan == "" {
		p.SupportPlan = "KubernetesOfficial"
	}
	if p.ServicePrincipalProfile == nil {
		p.ServicePrincipalProfile = &ServicePrincipal{ClientID: "msi"}
	}
	if next.Extra["sku"] == nil {
		next.Extra["sku"] = json.RawMessage(`{"name":"Base","tier":"Free"}`)
	}
	if p.PowerState == nil {
		p.PowerState = &PowerState{Code: running}
	}
	p.MaxAgentPools, p.ResourceUID = maxAgentPools, strings.ReplaceAll(next.Private[keyUID], "-", "")[:24]
	p.network(driverName(next) != issuerOnly)
	label := p.DNSPrefix
	if label == "" {
		label = p.FQDNSubdomain
	}
	label += "-" + next.Private[keyUID][:8]
	p.FQDN, p.AzurePortalFQDN = label+".hcp."+next.Location+".azmk8s.io", label+".portal.hcp."+next.Location+".azmk8s.io"
	defaultKubelet(next)
	return s.defaultPools(ctx, old, next)
}

// version chooses the version that will run.
func (s *Service) version(ctx context.Context, old, next *resource) error {
	o, err := s.offerOf(ctx, next)
	if err != nil {
		return err
	}
	p := &next.Properties
	if p.KubernetesVersion == "" {
		p.KubernetesVersion = o.list[0].String()
	}
	same := old != nil && old.Properties.KubernetesVersion == p.KubernetesVersion
	switch {
	case same && o.older:
	case same: // what the distribution holds now
		p.CurrentKubernetesVersion = o.list[0].String()
	default:
		v, err := o.read(p.KubernetesVersion)
		if err != nil {
			return err
		}
		p.CurrentKubernetesVersion = v.String()
	}
	return nil
}

// keep takes over from the cluster as it is what a PUT leaves out.
func keep(old, next *Cluster) {
	set := func(to *string, from string) {
		if *to == "" {
			*to = from
		}
	}
	set(&next.KubernetesVersion, old.KubernetesVersion)
	set(&next.NodeResourceGroup, old.NodeResourceGroup)
	set(&next.SupportPlan, old.SupportPlan)
	set(&next.DNSPrefix, old.DNSPrefix)
	set(&next.FQDNSubdomain, old.FQDNSubdomain)
	if next.EnableRBAC == nil {
		next.EnableRBAC = old.EnableRBAC
	}
	if next.NetworkProfile == nil {
		next.NetworkProfile = old.NetworkProfile
	}
	if next.IdentityProfile == nil {
		next.IdentityProfile = old.IdentityProfile
	}
	if next.SecurityProfile == nil {
		next.SecurityProfile = old.SecurityProfile
	}
	if old.OIDCIssuerProfile != nil {
		if next.OIDCIssuerProfile == nil {
			next.OIDCIssuerProfile = &OIDCIssuer{IssuerURL: old.OIDCIssuerProfile.IssuerURL}
		}
		if next.OIDCIssuerProfile.Enabled == nil {
			next.OIDCIssuerProfile.Enabled = old.OIDCIssuerProfile.Enabled
		}
	}
}

// dnsPrefix is what az makes of names: the cluster's, the group's and the
// subscription's first letters.
func dnsPrefix(name, group, subscription string) string {
	clean := func(s string, n int) string {
		return cut(regexp.MustCompile(`[^A-Za-z0-9-]`).ReplaceAllString(s, ""), n)
	}
	return strings.Trim(clean(name, 10)+"-"+clean(group, 16)+"-"+clean(subscription, 6), "-")
}

func cut(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}

// network is AKS's default networkProfile. Real pods always have a range of
// their own.
func (c *Cluster) network(real bool) {
	if c.NetworkProfile == nil {
		c.NetworkProfile = &Network{}
	}
	n := c.NetworkProfile
	set := func(to *string, v string) {
		if *to == "" {
			*to = v
		}
	}
	set(&n.NetworkPlugin, "kubenet")
	set(&n.OutboundType, "loadBalancer")
	set(&n.LoadBalancerSKU, "standard")
	set(&n.ServiceCIDR, "10.0.0.0/16")
	set(&n.DNSServiceIP, "10.0.0.10")
	if real || n.NetworkPlugin == "kubenet" || n.NetworkPluginMode == "overlay" {
		set(&n.PodCIDR, "10.244.0.0/16")
	}
	if n.PodCIDRs == nil && n.PodCIDR != "" {
		n.PodCIDRs = []string{n.PodCIDR}
	}
	if n.ServiceCIDRs == nil {
		n.ServiceCIDRs = []string{n.ServiceCIDR}
	}
	if n.IPFamilies == nil {
		n.IPFamilies = []string{"IPv4"}
	}
}

func (s *Service) validate(ctx context.Context, old, next *resource) error {
	p := &next.Properties
	if driverName(next) == existing {
		return s.validateAttached(old, next)
	}
	if p.ExistingClusterProfile != nil {
		return invalid("properties.existingClusterProfile", "the cluster was made here, and is not attached")
	}
	o, err := s.offerOf(ctx, next)
	if err != nil {
		return err
	}
	if err := o.refused(p); err != nil {
		return err
	}
	if err := checkSKU(next.Extra["sku"]); err != nil {
		return err
	}
	if !oneOf(p.SupportPlan, "KubernetesOfficial", "AKSLongTermSupport") {
		return invalid("properties.supportPlan", "'%s' is neither KubernetesOfficial nor AKSLongTermSupport", p.SupportPlan)
	}
	if !dnsShape.MatchString(p.DNSPrefix + p.FQDNSubdomain) {
		return invalid("properties.dnsPrefix", "'%s' has to be 1 to 54 letters, digits and hyphens, with a letter or digit at both ends", p.DNSPrefix+p.FQDNSubdomain)
	}
	if old != nil {
		if err := s.idle(ctx, next.ID); err != nil {
			return err
		}
		if err := o.unchanged(&old.Properties, p); err != nil {
			return err
		}
	} else if err := s.checkNodeGroup(ctx, next); err != nil {
		return err
	}
	if p.SecurityProfile != nil && p.SecurityProfile.WorkloadIdentity.on() && !p.issues() {
		return invalid("properties.securityProfile.workloadIdentity.enabled",
			"workload identity needs the OIDC issuer: set oidcIssuerProfile.enabled too (az aks update --enable-oidc-issuer)")
	}
	if err := s.checkIdentities(ctx, old, next); err != nil {
		return err
	}
	return s.checkPools(ctx, o, old, next)
}

var dnsShape = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9-]{0,52}[a-zA-Z0-9])?$`)

func invalid(target, format string, args ...any) *apierr.Error {
	return apierr.New(apierr.BadRequest, "InvalidParameter", "The value of parameter %s is invalid: %s.", strings.TrimPrefix(target, "properties."), fmt.Sprintf(format, args...)).
		WithTarget(target)
}

// issues reports whether the cluster has an issuer.
func (c *Cluster) issues() bool {
	return c.OIDCIssuerProfile != nil && yes(c.OIDCIssuerProfile.Enabled)
}

func checkSKU(raw json.RawMessage) error {
	var sku struct{ Name, Tier string }
	if err := json.Unmarshal(raw, &sku); err != nil {
		return invalid("sku", "it has to be an object with name and tier")
	}
	switch {
	case strings.EqualFold(sku.Name, "Automatic"):
		return invalid("sku.name", "Automatic clusters promise policies that no driver keeps; use 'Base'")
	case !oneOf(sku.Name, "", "Base", "Basic"):
		return invalid("sku.name", "'%s' is not 'Base'", sku.Name)
	case !oneOf(sku.Tier, "", "Free", "Standard", "Premium", "Paid"):
		return invalid("sku.tier", "'%s' is none of Free, Standard, Premium", sku.Tier)
	}
	return nil
}

// unchanged refuses what an update may not change.
func (o offer) unchanged(old, next *Cluster) error {
	for _, f := range []struct{ path, old, next string }{
		{"dnsPrefix", old.DNSPrefix, next.DNSPrefix},
		{"fqdnSubdomain", old.FQDNSubdomain, next.FQDNSubdomain},
		{"nodeResourceGroup", old.NodeResourceGroup, next.NodeResourceGroup},
	} {
		if !strings.EqualFold(f.old, f.next) {
			return notAllowed("properties."+f.path, f.old, f.next)
		}
	}
	if !o.older {
		if err := sameNetwork(old.NetworkProfile, next.NetworkProfile); err != nil {
			return err
		}
	}
	if old.issues() && !next.issues() {
		return apierr.New(apierr.BadRequest, "OIDCIssuerFeatureCannotBeDisabled", "OIDC issuer feature cannot be disabled once it is enabled.").
			WithTarget("properties.oidcIssuerProfile.enabled")
	}
	if old.KubernetesVersion == next.KubernetesVersion {
		return nil
	}
	from, err := parseVersion(old.CurrentKubernetesVersion)
	if err != nil {
		return err
	}
	to, err := o.read(next.KubernetesVersion)
	if err != nil {
		return err
	}
	if to.minor < from.minor || to.minor == from.minor && to.patch < from.patch && next.KubernetesVersion != to.short() {
		return apierr.New(apierr.BadRequest, "OperationNotAllowed", "Downgrading the cluster from %s to %s is not allowed.", from, to).
			WithTarget("properties.kubernetesVersion")
	}
	return nil
}

func notAllowed(path, from, to string) error {
	return apierr.New(apierr.BadRequest, "PropertyChangeNotAllowed", "Changing property '%s' is not allowed: it is '%s', not '%s'.", path, from, to).WithTarget(path)
}

// put brings the cluster about. Every step can be done again.
func (s *Service) put(ctx context.Context, old, next *resource) error {
	if driverName(next) == existing {
		return s.apply(ctx, next)
	}
	if err := s.putKubelet(ctx, old, next); err != nil {
		return err
	}
	if err := s.putPools(ctx, next); err != nil {
		return err
	}
	if err := s.ensureIssuer(ctx, next); err != nil {
		return err
	}
	return s.apply(ctx, next)
}

// ensureIssuer makes the issuer be there, or the keys alone with which the
// cluster's own API server signs.
func (s *Service) ensureIssuer(ctx context.Context, next *resource) error {
	uid := next.Private[keyUID]
	if !next.Properties.issues() {
		if next.Private[keyDriver] != embedded {
			return nil
		}
		return s.Issuers.EnsureHidden(ctx, uid, next.ID.String(), next.Location)
	}
	url, err := s.Issuers.Ensure(ctx, uid, next.ID.String(), next.Location)
	if err != nil {
		return err
	}
	next.Properties.OIDCIssuerProfile.IssuerURL = url
	return nil
}

// delete takes the cluster away, its issuer first: no token of it counts from
// then on.
func (s *Service) delete(ctx context.Context, old *resource) error {
	if driverName(old) == existing {
		return s.deleteAttached(ctx, old)
	}
	uid := old.Private[keyUID]
	if err := s.Issuers.Remove(ctx, uid); err != nil {
		return err
	}
	d, err := s.driver(old)
	if err != nil {
		return err
	}
	if err := d.Remove(ctx, uid); err != nil {
		return s.failed(ctx, d, old.ID, "taken away", err)
	}
	return s.removeKubelet(ctx, old)
}

// fill shows the agent pools.
func (s *Service) fill(ctx context.Context, r *resource) error {
	pools, err := s.pools(ctx, r.ID)
	if err != nil || len(pools) == 0 {
		return err
	}
	r.Properties.AgentPoolProfiles = nil
	for _, e := range pools {
		p := Pool{"name": e.Name}
		for k, v := range e.Properties {
			p[k] = v
		}
		if now := r.Properties.PowerState; now != nil && now.Code == stopped { // with it all its pools are
			p["powerState"] = map[string]any{"code": stopped}
		}
		r.Properties.AgentPoolProfiles = append(r.Properties.AgentPoolProfiles, p)
	}
	return nil
}
