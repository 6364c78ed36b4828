// Package containerservice is Microsoft.ContainerService: managed clusters and
// their agent pools, as far as the driver behind them goes.
package containerservice

// Namespace is what the types are named under.
const Namespace = "Microsoft.ContainerService"

// Cluster are the properties of a managed cluster that this provider knows;
// others are kept as sent.
// Source: Microsoft.ContainerService/managedClusters 2025-02-01.
type Cluster struct {
	PowerState               *PowerState             `json:"powerState,omitempty"`
	KubernetesVersion        string                  `json:"kubernetesVersion,omitempty"`
	CurrentKubernetesVersion string                  `json:"currentKubernetesVersion,omitempty"`
	DNSPrefix                string                  `json:"dnsPrefix,omitempty"`
	FQDN                     string                  `json:"fqdn,omitempty"`
	AzurePortalFQDN          string                  `json:"azurePortalFQDN,omitempty"`
	AgentPoolProfiles        []map[string]any        `json:"agentPoolProfiles,omitempty"`
	ServicePrincipalProfile  *ServicePrincipal       `json:"servicePrincipalProfile,omitempty"`
	NodeResourceGroup        string                  `json:"nodeResourceGroup,omitempty"`
	EnableRBAC               *bool                   `json:"enableRBAC,omitempty"`
	SupportPlan              string                  `json:"supportPlan,omitempty"`
	NetworkProfile           map[string]any          `json:"networkProfile,omitempty"`
	MaxAgentPools            int                     `json:"maxAgentPools,omitempty"`
	IdentityProfile          map[string]UserIdentity `json:"identityProfile,omitempty"`
	OIDCIssuerProfile        *OIDCIssuer             `json:"oidcIssuerProfile,omitempty"`
	SecurityProfile          *Security               `json:"securityProfile,omitempty"`
}

// PowerState says whether the cluster runs.
type PowerState struct {
	Code string `json:"code,omitempty"` // Running, Stopped
}

// ServicePrincipal is "msi": clusters have managed identities.
type ServicePrincipal struct {
	ClientID string `json:"clientId,omitempty"`
}

// UserIdentity names a user-assigned identity.
type UserIdentity struct {
	ResourceID string `json:"resourceId,omitempty"`
	ClientID   string `json:"clientId,omitempty"`
	ObjectID   string `json:"objectId,omitempty"`
}

// OIDCIssuer is the issuer of service-account tokens.
type OIDCIssuer struct {
	Enabled   bool   `json:"enabled"`
	IssuerURL string `json:"issuerURL,omitempty"`
}

// Security is securityProfile.
type Security struct {
	WorkloadIdentity *Switch `json:"workloadIdentity,omitempty"`
}

// Switch is on or off.
type Switch struct {
	Enabled bool `json:"enabled"`
}
