package containerservice

import (
	"fmt"
	"strings"

	"lazurite.dev/internal/apierr"
)

// Unsupported are properties of a managed cluster that promise protection (or
// carry secrets) and that no driver keeps yet: asking for it is refused.
type Unsupported struct {
	APIServerAccessProfile   *APIServerAccess          `json:"apiServerAccessProfile,omitempty"`
	AADProfile               any                       `json:"aadProfile,omitempty"`
	DisableLocalAccounts     *bool                     `json:"disableLocalAccounts,omitempty"`
	DiskEncryptionSetID      string                    `json:"diskEncryptionSetID,omitempty"`
	HTTPProxyConfig          any                       `json:"httpProxyConfig,omitempty"`
	PodIdentityProfile       *Switch                   `json:"podIdentityProfile,omitempty"`
	AddonProfiles            map[string]map[string]any `json:"addonProfiles,omitempty"`
	PublicNetworkAccess      string                    `json:"publicNetworkAccess,omitempty"`
	ServiceMeshProfile       *Mode                     `json:"serviceMeshProfile,omitempty"`
	NodeResourceGroupProfile *NodeGroup                `json:"nodeResourceGroupProfile,omitempty"`
	BootstrapProfile         *Bootstrap                `json:"bootstrapProfile,omitempty"`
	EnablePodSecurityPolicy  *bool                     `json:"enablePodSecurityPolicy,omitempty"`
	WindowsProfile           *Windows                  `json:"windowsProfile,omitempty"`
	SafeguardsProfile        *Level                    `json:"safeguardsProfile,omitempty"`
	EnableNamespaceResources *bool                     `json:"enableNamespaceResources,omitempty"`
}

// APIServerAccess is apiServerAccessProfile.
type APIServerAccess struct {
	AuthorizedIPRanges             []string `json:"authorizedIPRanges,omitempty"`
	EnablePrivateCluster           *bool    `json:"enablePrivateCluster,omitempty"`
	EnablePrivateClusterPublicFQDN *bool    `json:"enablePrivateClusterPublicFQDN,omitempty"`
	EnableVnetIntegration          *bool    `json:"enableVnetIntegration,omitempty"`
	SubnetID                       string   `json:"subnetId,omitempty"`
	PrivateDNSZone                 string   `json:"privateDNSZone,omitempty"`
}

// Mode is serviceMeshProfile.
type Mode struct {
	Mode string `json:"mode,omitempty"`
}

// Level is safeguardsProfile.
type Level struct {
	Level string `json:"level,omitempty"`
}

// NodeGroup is nodeResourceGroupProfile.
type NodeGroup struct {
	RestrictionLevel string `json:"restrictionLevel,omitempty"`
}

// Bootstrap is bootstrapProfile.
type Bootstrap struct {
	ArtifactSource string `json:"artifactSource,omitempty"`
}

// Windows is windowsProfile.
type Windows struct {
	AdminPassword string  `json:"adminPassword,omitempty"`
	GMSAProfile   *Switch `json:"gmsaProfile,omitempty"`
}

// refusal is a property that was asked for in vain.
type refusal struct {
	path  string // below properties
	asked bool
	why   string
}

const (
	noServer   = "there is no API server that it could protect"
	noNodes    = "there are no nodes that it could protect"
	noPods     = "there are no pods that it could govern"
	noAddons   = "an add-on needs a Kubernetes to run in"
	noPassword = "there are no Windows nodes, and a password would be kept for nothing"
)

// refused says which property of a cluster no driver keeps.
func (s *service) refused(c *Cluster) error {
	list := append(c.serverRefusals(), c.nodeRefusals()...)
	list = append(list, c.podRefusals()...)
	for name, addon := range c.AddonProfiles {
		list = append(list, refusal{"addonProfiles." + name + ".enabled", enabledAddon(addon), noAddons})
	}
	for _, r := range list {
		if r.asked {
			return s.unsupported(r.path, r.why)
		}
	}
	return nil
}

func (s *service) unsupported(path, why string) error {
	return apierr.New(apierr.BadRequest, "NotSupportedByDriver",
		"'properties.%s' can't be kept: the cluster's driver is '%s' and %s. Leave the property out.",
		path, s.Driver.Name(), why).WithTarget("properties." + path)
}

func (c *Cluster) serverRefusals() []refusal {
	access := c.APIServerAccessProfile
	if access == nil {
		access = &APIServerAccess{}
	}
	return []refusal{
		{"apiServerAccessProfile.authorizedIPRanges", len(access.AuthorizedIPRanges) > 0, noServer},
		{"apiServerAccessProfile.enablePrivateCluster", yes(access.EnablePrivateCluster), noServer},
		{"apiServerAccessProfile.enableVnetIntegration", yes(access.EnableVnetIntegration), noServer},
		{"apiServerAccessProfile.subnetId", access.SubnetID != "", noServer},
		{"apiServerAccessProfile.privateDNSZone", access.PrivateDNSZone != "", noServer},
		{"publicNetworkAccess", c.PublicNetworkAccess != "" && !strings.EqualFold(c.PublicNetworkAccess, "Enabled"), noServer},
		{"aadProfile", c.AADProfile != nil, noServer},
		{"disableLocalAccounts", yes(c.DisableLocalAccounts), noServer},
		{"enableRBAC", c.EnableRBAC != nil && !*c.EnableRBAC, noServer},
	}
}

func (c *Cluster) nodeRefusals() []refusal {
	windows, network, sec := c.WindowsProfile, c.NetworkProfile, c.SecurityProfile
	if windows == nil {
		windows = &Windows{}
	}
	if network == nil {
		network = &Network{}
	}
	if sec == nil {
		sec = &Security{}
	}
	return []refusal{
		{"diskEncryptionSetID", c.DiskEncryptionSetID != "", noNodes},
		{"httpProxyConfig", c.HTTPProxyConfig != nil, noNodes},
		{"windowsProfile.adminPassword", windows.AdminPassword != "", noPassword},
		{"windowsProfile.gmsaProfile", windows.GMSAProfile.on(), noNodes},
		{"networkProfile.outboundType", !oneOf(network.OutboundType, "", "loadBalancer", "managedNATGateway", "userAssignedNATGateway"), noNodes},
		{"nodeResourceGroupProfile.restrictionLevel", c.NodeResourceGroupProfile != nil && !oneOf(c.NodeResourceGroupProfile.RestrictionLevel, "", "Unrestricted"), noNodes},
		{"bootstrapProfile.artifactSource", c.BootstrapProfile != nil && !oneOf(c.BootstrapProfile.ArtifactSource, "", "Direct"), noNodes},
		{"securityProfile.azureKeyVaultKms", sec.AzureKeyVaultKMS.on(), "there is no etcd that it could encrypt"},
		{"securityProfile.nodeRestriction", sec.NodeRestriction.on(), noNodes},
		{"securityProfile.customCATrustCertificates", len(sec.CustomCATrustCertificates) > 0, noNodes},
	}
}

func (c *Cluster) podRefusals() []refusal {
	network, sec := c.NetworkProfile, c.SecurityProfile
	if network == nil {
		network = &Network{}
	}
	if sec == nil {
		sec = &Security{}
	}
	defender := sec.Defender
	if defender == nil {
		defender = &Monitor{}
	}
	return []refusal{
		{"networkProfile.networkPolicy", !oneOf(network.NetworkPolicy, "", "none"), noPods},
		{"networkProfile.advancedNetworking.security", network.AdvancedNetworking != nil && network.AdvancedNetworking.Security.on(), noPods},
		{"securityProfile.defender.securityMonitoring", defender.SecurityMonitoring.on(), noPods},
		{"securityProfile.defender.securityGating", defender.SecurityGating.on(), noPods},
		{"securityProfile.imageCleaner", sec.ImageCleaner.on(), noPods},
		{"securityProfile.imageIntegrity", sec.ImageIntegrity.on(), noPods},
		{"podIdentityProfile", c.PodIdentityProfile.on(), noPods + "; use workload identity"},
		{"serviceMeshProfile.mode", c.ServiceMeshProfile != nil && !oneOf(c.ServiceMeshProfile.Mode, "", "Disabled"), noPods},
		{"enablePodSecurityPolicy", yes(c.EnablePodSecurityPolicy), noPods},
		{"safeguardsProfile.level", c.SafeguardsProfile != nil && !oneOf(c.SafeguardsProfile.Level, "", "Off"), noPods},
		{"enableNamespaceResources", yes(c.EnableNamespaceResources), noServer},
	}
}

func oneOf(s string, list ...string) bool {
	for _, x := range list {
		if strings.EqualFold(s, x) {
			return true
		}
	}
	return false
}

// enabledAddon looks at an add-on whatever letter case its members are in.
func enabledAddon(addon map[string]any) bool {
	for k, v := range addon {
		if strings.EqualFold(k, "enabled") && v != false && v != nil {
			return true
		}
	}
	return false
}

// refusedPool is refused for an agent pool, whose keys are as documented.
func (s *service) refusedPool(name string, p Pool) error {
	is := func(key string) bool { v, ok := p[key]; return ok && v != false && v != nil && v != "" }
	runtime, _ := p["workloadRuntime"].(string)
	for _, r := range []refusal{
		{"enableEncryptionAtHost", is("enableEncryptionAtHost"), noNodes},
		{"enableFIPS", is("enableFIPS"), noNodes},
		{"vnetSubnetID", is("vnetSubnetID"), noNodes},
		{"podSubnetID", is("podSubnetID"), noPods},
		{"hostGroupID", is("hostGroupID"), noNodes},
		{"nodePublicIPPrefixID", is("nodePublicIPPrefixID"), noNodes},
		{"workloadRuntime", !oneOf(runtime, "", "OCIContainer"), noPods},
		{"networkProfile", isOn(p["networkProfile"]), noNodes},
		{"securityProfile", isOn(p["securityProfile"]), noNodes},
	} {
		if r.asked {
			return s.unsupported(fmt.Sprintf("agentPoolProfiles['%s'].%s", name, r.path), r.why)
		}
	}
	return nil
}

// isOn reports whether anything in v is turned on: true, or a list of something.
func isOn(v any) bool {
	switch v := v.(type) {
	case map[string]any:
		for _, x := range v {
			if isOn(x) {
				return true
			}
		}
		return false
	case []any:
		return len(v) > 0
	default:
		return v == true
	}
}
