// Package containerservice is Microsoft.ContainerService: managed clusters and
// their agent pools, as far as the driver behind them goes.
//
// Agent pools are resources of their own; a cluster's agentPoolProfiles are
// read from them, and what a cluster's PUT says of them is written to them.
package containerservice

import (
	"net/http"

	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/cluster"
	"lazurite.dev/internal/directory"
	"lazurite.dev/internal/store"
	"lazurite.dev/internal/turns"
)

// Namespace is what the types are named under.
const Namespace = "Microsoft.ContainerService"

// Config is what the provider needs.
type Config struct {
	Store     store.Store
	Directory *directory.Directory
	Issuers   *cluster.Issuers
	Drivers   *cluster.Drivers
	Existing  *cluster.Existing // attaches clusters of somebody else's
	TenantID  string
}

// Service is what stands behind the provider.
type Service struct {
	Config
	res   arm.Resources
	turns turns.Turns // of clusters: what is read of one's pools then is what its driver hears last
}

// Open makes it.
func Open(cfg Config) *Service {
	return &Service{Config: cfg, res: arm.Resources{Store: cfg.Store}}
}

// New gives the provider alone.
func New(cfg Config) arm.Provider { return Open(cfg).Provider() }

// Provider gives the provider.
func (s *Service) Provider() arm.Provider {
	return arm.Provider{
		Namespace: Namespace,
		Routes: []arm.Route{
			arm.Serve(Namespace, s.clusters()),
			arm.Serve(Namespace, s.agentPools()),
			arm.Serve(Namespace, arm.Kind[accessProfile]{
				Type: "managedClusters/accessProfiles", APIVersions: apiVersions(), NoPut: true, NoState: true, Get: s.accessProfile,
				Actions: map[string]arm.Action[accessProfile]{
					"listCredential": s.listCredential,
				},
			}),
			arm.Serve(Namespace, arm.Kind[upgrades]{
				Type: "managedClusters/upgradeProfiles", APIVersions: apiVersions(), NoPut: true, NoState: true, Get: s.clusterUpgrades,
			}),
			arm.Serve(Namespace, arm.Kind[poolUpgrades]{
				Type: "managedClusters/agentPools/upgradeProfiles", APIVersions: apiVersions(), NoPut: true, NoState: true, Get: s.poolUpgrades,
			}),
			arm.Serve(Namespace, arm.Kind[struct{}]{
				Type: "managedClusters/availableAgentPoolVersions", APIVersions: apiVersions(), NoPut: true, NoState: true,
				Ask: map[string]arm.Question{http.MethodGet: s.poolVersions},
			}),
		},
		Endpoints: s.endpoints(),
	}
}

// Cluster are the properties of a managed cluster that this provider knows;
// others are kept as sent.
// Source: Microsoft.ContainerService/managedClusters 2025-02-01.
type Cluster struct {
	PowerState               *PowerState              `json:"powerState,omitempty"`
	KubernetesVersion        string                   `json:"kubernetesVersion,omitempty"`
	CurrentKubernetesVersion string                   `json:"currentKubernetesVersion,omitempty"`
	DNSPrefix                string                   `json:"dnsPrefix,omitempty"`
	FQDNSubdomain            string                   `json:"fqdnSubdomain,omitempty"`
	FQDN                     string                   `json:"fqdn,omitempty"`
	AzurePortalFQDN          string                   `json:"azurePortalFQDN,omitempty"`
	AgentPoolProfiles        []Pool                   `json:"agentPoolProfiles,omitempty"`
	ServicePrincipalProfile  *ServicePrincipal        `json:"servicePrincipalProfile,omitempty"`
	NodeResourceGroup        string                   `json:"nodeResourceGroup,omitempty"`
	EnableRBAC               *bool                    `json:"enableRBAC,omitempty"`
	SupportPlan              string                   `json:"supportPlan,omitempty"`
	NetworkProfile           *Network                 `json:"networkProfile,omitempty"`
	MaxAgentPools            int                      `json:"maxAgentPools,omitempty"`
	IdentityProfile          map[string]*UserIdentity `json:"identityProfile,omitempty"`
	OIDCIssuerProfile        *OIDCIssuer              `json:"oidcIssuerProfile,omitempty"`
	SecurityProfile          *Security                `json:"securityProfile,omitempty"`
	ResourceUID              string                   `json:"resourceUID,omitempty"`
	ExistingClusterProfile   *ExistingCluster         `json:"existingClusterProfile,omitempty"`

	Unsupported
}

// Pool is an agent pool's properties, in a cluster with its name.
type Pool = map[string]any

// PowerState says whether the cluster runs.
type PowerState struct {
	Code string `json:"code,omitempty"` // Running, Stopped
}

// ServicePrincipal is "msi": clusters have managed identities.
type ServicePrincipal struct {
	ClientID string `json:"clientId,omitempty"`
	Secret   string `json:"secret,omitempty"`
}

// UserIdentity names a user-assigned identity.
type UserIdentity struct {
	ResourceID string `json:"resourceId,omitempty"`
	ClientID   string `json:"clientId,omitempty"`
	ObjectID   string `json:"objectId,omitempty"`
}

// OIDCIssuer is the issuer of service-account tokens.
type OIDCIssuer struct {
	Enabled   *bool  `json:"enabled,omitempty"`
	IssuerURL string `json:"issuerURL,omitempty"`
}

// Network is networkProfile.
type Network struct {
	NetworkPlugin      string              `json:"networkPlugin,omitempty"`
	NetworkPluginMode  string              `json:"networkPluginMode,omitempty"`
	NetworkPolicy      string              `json:"networkPolicy,omitempty"`
	PodCIDR            string              `json:"podCidr,omitempty"`
	ServiceCIDR        string              `json:"serviceCidr,omitempty"`
	DNSServiceIP       string              `json:"dnsServiceIP,omitempty"`
	OutboundType       string              `json:"outboundType,omitempty"`
	LoadBalancerSKU    string              `json:"loadBalancerSku,omitempty"`
	PodCIDRs           []string            `json:"podCidrs,omitempty"`
	ServiceCIDRs       []string            `json:"serviceCidrs,omitempty"`
	IPFamilies         []string            `json:"ipFamilies,omitempty"`
	AdvancedNetworking *AdvancedNetworking `json:"advancedNetworking,omitempty"`
}

// AdvancedNetworking is networkProfile.advancedNetworking.
type AdvancedNetworking struct {
	Enabled  *bool   `json:"enabled,omitempty"`
	Security *Switch `json:"security,omitempty"`
}

// Security is securityProfile.
type Security struct {
	WorkloadIdentity          *Switch  `json:"workloadIdentity,omitempty"`
	AzureKeyVaultKMS          *Switch  `json:"azureKeyVaultKms,omitempty"`
	Defender                  *Monitor `json:"defender,omitempty"`
	ImageCleaner              *Switch  `json:"imageCleaner,omitempty"`
	ImageIntegrity            *Switch  `json:"imageIntegrity,omitempty"`
	NodeRestriction           *Switch  `json:"nodeRestriction,omitempty"`
	CustomCATrustCertificates []string `json:"customCATrustCertificates,omitempty"`
}

// Monitor is securityProfile.defender.
type Monitor struct {
	SecurityMonitoring *Switch `json:"securityMonitoring,omitempty"`
	SecurityGating     *Switch `json:"securityGating,omitempty"`
}

// Switch is on or off.
type Switch struct {
	Enabled *bool `json:"enabled,omitempty"`
}

func (s *Switch) on() bool { return s != nil && yes(s.Enabled) }

func yes(b *bool) bool { return b != nil && *b }

func ptr[T any](v T) *T { return &v }
