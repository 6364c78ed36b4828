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
	why   reasons
}

// reasons are why a driver doesn't keep a property: one that runs no
// Kubernetes, and one that does. "" is kept.
type reasons struct{ none, real string }

// What can't be kept by any driver, and why.
func noServer(real string) reasons {
	return reasons{"there is no API server that it could protect", real}
}

func noNodes(real string) reasons { return reasons{"there are no nodes that it could protect", real} }

func noPods(real string) reasons { return reasons{"there are no pods that it could govern", real} }

const (
	noAddons   = "an add-on needs a Kubernetes to run in"
	azureAddon = "Azure's add-ons are not among what runs in its clusters"
	noPassword = "there are no Windows nodes, and a password would be kept for nothing"
	onMachine  = "its API server is reached from this machine alone, whatever is asked for"
	entra      = "Entra does not sign in to its API server: get-credentials gives client certificates"
	noSubnet   = "its nodes are in a network of the cluster's own"
	noWatcher  = "nothing in its clusters does that"
)

// refused says which property of a cluster the driver doesn't keep.
func (o offer) refused(c *Cluster) error {
	list := append(c.serverRefusals(), c.nodeRefusals()...)
	list = append(list, c.podRefusals()...)
	for name, addon := range c.AddonProfiles {
		list = append(list, refusal{"addonProfiles." + name + ".enabled", enabledAddon(addon), reasons{noAddons, azureAddon}})
	}
	for _, r := range list {
		if why := o.why(r.why); r.asked && why != "" {
			return unsupported(o.driver, r.path, why)
		}
	}
	if !o.older {
		return c.NetworkProfile.check()
	}
	return nil
}

func (o offer) why(r reasons) string {
	switch o.driver {
	case issuerOnly:
		return r.none
	case existing:
		return notOurs
	}
	return r.real
}

func unsupported(driver, path, why string) error {
	return apierr.New(apierr.BadRequest, "NotSupportedByDriver",
		"'properties.%s' can't be kept: the cluster's driver is '%s' and %s. Leave the property out.",
		path, driver, why).WithTarget("properties." + path)
}

func (c *Cluster) serverRefusals() []refusal {
	access := c.APIServerAccessProfile
	if access == nil {
		access = &APIServerAccess{}
	}
	return []refusal{
		{"apiServerAccessProfile.authorizedIPRanges", len(access.AuthorizedIPRanges) > 0, noServer(onMachine)},
		{"apiServerAccessProfile.enablePrivateCluster", yes(access.EnablePrivateCluster), noServer(onMachine)},
		{"apiServerAccessProfile.enableVnetIntegration", yes(access.EnableVnetIntegration), noServer(onMachine)},
		{"apiServerAccessProfile.subnetId", access.SubnetID != "", noServer(onMachine)},
		{"apiServerAccessProfile.privateDNSZone", access.PrivateDNSZone != "", noServer(onMachine)},
		{"publicNetworkAccess", c.PublicNetworkAccess != "" && !strings.EqualFold(c.PublicNetworkAccess, "Enabled"), noServer(onMachine)},
		{"aadProfile", c.AADProfile != nil, noServer(entra)},
		{"disableLocalAccounts", yes(c.DisableLocalAccounts), noServer(entra)},
		{"enableRBAC", c.EnableRBAC != nil && !*c.EnableRBAC, noServer("its API server always asks who may what")},
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
		{"diskEncryptionSetID", c.DiskEncryptionSetID != "", noNodes("its disks are folders of this machine")},
		{"httpProxyConfig", c.HTTPProxyConfig != nil, noNodes("its nodes reach what this machine reaches, by its own gate")},
		{"windowsProfile.adminPassword", windows.AdminPassword != "", reasons{noPassword, noPassword}},
		{"windowsProfile.gmsaProfile", windows.GMSAProfile.on(), noNodes(noPassword)},
		{"networkProfile.outboundType", !oneOf(network.OutboundType, "", "loadBalancer", "managedNATGateway", "userAssignedNATGateway"), noNodes("all that leaves a cluster goes by the gate of this machine")},
		{"nodeResourceGroupProfile.restrictionLevel", c.NodeResourceGroupProfile != nil && !oneOf(c.NodeResourceGroupProfile.RestrictionLevel, "", "Unrestricted"), noNodes("the node resource group is a name alone")},
		{"bootstrapProfile.artifactSource", c.BootstrapProfile != nil && !oneOf(c.BootstrapProfile.ArtifactSource, "", "Direct"), noNodes("images come from the distribution and from az acr and laz image load")},
		{"securityProfile.azureKeyVaultKms", sec.AzureKeyVaultKMS.on(), reasons{"there is no etcd that it could encrypt", "its etcd is not sealed by a vault's key"}},
		{"securityProfile.nodeRestriction", sec.NodeRestriction.on(), noNodes("")},
		{"securityProfile.customCATrustCertificates", len(sec.CustomCATrustCertificates) > 0, noNodes(noWatcher)},
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
		{"networkProfile.networkPolicy", !oneOf(network.NetworkPolicy, "", "none"), noPods("")},
		{"networkProfile.advancedNetworking.security", network.AdvancedNetworking != nil && network.AdvancedNetworking.Security.on(), noPods(noWatcher)},
		{"securityProfile.defender.securityMonitoring", defender.SecurityMonitoring.on(), noPods(noWatcher)},
		{"securityProfile.defender.securityGating", defender.SecurityGating.on(), noPods(noWatcher)},
		{"securityProfile.imageCleaner", sec.ImageCleaner.on(), noPods(noWatcher)},
		{"securityProfile.imageIntegrity", sec.ImageIntegrity.on(), noPods(noWatcher)},
		{"podIdentityProfile", c.PodIdentityProfile.on(), reasons{"there are no pods that it could govern; use workload identity", "it is replaced by workload identity: use that"}},
		{"serviceMeshProfile.mode", c.ServiceMeshProfile != nil && !oneOf(c.ServiceMeshProfile.Mode, "", "Disabled"), noPods(noWatcher)},
		{"enablePodSecurityPolicy", yes(c.EnablePodSecurityPolicy), noPods("Kubernetes has none any more; use pod security admission")},
		{"safeguardsProfile.level", c.SafeguardsProfile != nil && !oneOf(c.SafeguardsProfile.Level, "", "Off"), noPods(noWatcher)},
		{"enableNamespaceResources", yes(c.EnableNamespaceResources), noServer(noWatcher)},
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
func (o offer) refusedPool(name string, p Pool) error {
	is := func(key string) bool { v, ok := p[key]; return ok && v != false && v != nil && v != "" }
	runtime, _ := p["workloadRuntime"].(string)
	for _, r := range []refusal{
		{"enableEncryptionAtHost", is("enableEncryptionAtHost"), noNodes("a node is a set of namespaces on this machine")},
		{"enableFIPS", is("enableFIPS"), noNodes("a node is a set of namespaces on this machine")},
		{"vnetSubnetID", is("vnetSubnetID"), noNodes(o.subnet())},
		{"podSubnetID", is("podSubnetID"), noPods(noSubnet)},
		{"hostGroupID", is("hostGroupID"), noNodes("a node is a set of namespaces on this machine")},
		{"nodePublicIPPrefixID", is("nodePublicIPPrefixID"), noNodes("a node is a set of namespaces on this machine")},
		{"workloadRuntime", !oneOf(runtime, "", "OCIContainer"), noPods("its runtime is runc")},
		{"networkProfile", isOn(p["networkProfile"]), noNodes("a node is a set of namespaces on this machine")},
		{"securityProfile", isOn(p["securityProfile"]), noNodes("a node is a set of namespaces on this machine")},
		{"enableAutoScaling", is("enableAutoScaling"), reasons{"", "nothing there counts the pods that wait: scale by az aks nodepool scale"}},
		{"powerState", fmt.Sprint(p["powerState"]) == fmt.Sprint(map[string]any{"code": stopped}), reasons{"", "a pool is stopped with its cluster: az aks stop; or scale it to 0 nodes"}},
		{"enableNodePublicIP", is("enableNodePublicIP"), reasons{"", "a node has no public address"}},
		{"scaleSetPriority", oneOf(text(p, "scaleSetPriority"), "Spot"), reasons{"", "no machine of it is ever taken away"}},
		{"osType", oneOf(text(p, "osType"), "Windows"), reasons{"", "its nodes run Linux"}},
		{"kubeletConfig", p["kubeletConfig"] != nil, reasons{"", "its kubelets are configured by it alone"}},
		{"linuxOSConfig", p["linuxOSConfig"] != nil, reasons{"", "its nodes share this machine's kernel"}},
		{"gpuInstanceProfile", is("gpuInstanceProfile"), reasons{"", "its nodes have no GPUs"}},
	} {
		if why := o.why(r.why); r.asked && why != "" {
			return unsupported(o.driver, fmt.Sprintf("agentPoolProfiles['%s'].%s", name, r.path), why)
		}
	}
	return nil
}

// subnet says why a driver with nodes puts them into no subnet; "" where it does.
func (o offer) subnet() string {
	if o.driver == embedded {
		return ""
	}
	return noSubnet
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
