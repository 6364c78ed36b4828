package machinelearningservices

import (
	"encoding/json"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm/privatelink"
)

// Namespace is the provider's.
const Namespace = "Microsoft.MachineLearningServices"

// The types of the resources.
const (
	WorkspaceType = Namespace + "/workspaces"
	RuleType      = WorkspaceType + "/" + ruleWord

	ruleWord = "outboundRules"
)

// apiVersions of workspaces, newest first.
func apiVersions() []string {
	return []string{
		"2025-09-01", "2025-07-01-preview", "2025-06-01", "2025-04-01", "2025-04-01-preview", "2025-01-01-preview", "2024-10-01", "2024-10-01-preview",
		"2024-07-01-preview", "2024-04-01", "2024-04-01-preview", "2024-01-01-preview", "2023-10-01", "2023-08-01-preview", "2023-06-01-preview",
		"2023-04-01", "2023-04-01-preview", "2023-02-01-preview", "2022-12-01-preview", "2022-10-01", "2022-10-01-preview", "2022-06-01-preview",
		"2022-05-01", "2022-02-01-preview", "2022-01-01-preview", "2021-07-01", "2021-04-01", "2021-03-01-preview", "2021-01-01",
		"2020-09-01-preview", "2020-08-01", "2020-06-01", "2020-05-15-preview", "2020-04-01", "2020-03-01",
		"2020-01-01", "2019-11-01", "2019-06-01", "2019-05-01", "2018-11-19",
	}
}

// Properties are those of a workspace.
type Properties struct {
	WorkspaceID  string   `json:"workspaceId,omitempty"`
	Description  string   `json:"description,omitempty"`
	Friendly     string   `json:"friendlyName,omitempty"`
	KeyVault     string   `json:"keyVault,omitempty"`
	Insights     string   `json:"applicationInsights,omitempty"`
	Registry     string   `json:"containerRegistry,omitempty"`
	Storage      string   `json:"storageAccount,omitempty"`
	DiscoveryURL string   `json:"discoveryUrl,omitempty"`
	MLFlow       string   `json:"mlFlowTrackingUri,omitempty"`
	TenantID     string   `json:"tenantId,omitempty"`
	PublicAccess string   `json:"publicNetworkAccess,omitempty"`
	BehindVNet   *bool    `json:"allowPublicAccessWhenBehindVnet,omitempty"`
	V1Legacy     *bool    `json:"v1LegacyMode,omitempty"`
	HBI          *bool    `json:"hbiWorkspace,omitempty"`
	ImageCompute string   `json:"imageBuildCompute,omitempty"`
	Primary      string   `json:"primaryUserAssignedIdentity,omitempty"`
	HNS          *bool    `json:"storageHnsEnabled,omitempty"`
	Datastores   string   `json:"systemDatastoresAuthMode,omitempty"`
	Network      *Network `json:"managedNetwork,omitempty"`
	ProvisionNow *bool    `json:"provisionNetworkNow,omitempty"`
	Recover      *bool    `json:"allowRecoverSoftDeletedWorkspace,omitempty"`
	SoftDelete   *bool    `json:"softDeleteEnabled,omitempty"`

	Notebook    *Notebook           `json:"notebookInfo,omitempty"`               // computed
	Connections []privatelink.Shown `json:"privateEndpointConnections,omitempty"` // computed

	// What is refused unless it says nothing.
	Encryption *Encryption       `json:"encryption,omitempty"`
	Shared     []json.RawMessage `json:"sharedPrivateLinkResources,omitempty"`
	Serverless json.RawMessage   `json:"serverlessComputeSettings,omitempty"`
	Store      json.RawMessage   `json:"featureStoreSettings,omitempty"`
	Firewall   json.RawMessage   `json:"networkAcls,omitempty"`
	Allowlist  []string          `json:"ipAllowlist,omitempty"`
	Hub        string            `json:"hubResourceId,omitempty"`
	Hubs       json.RawMessage   `json:"workspaceHubConfig,omitempty"`
	Managed    json.RawMessage   `json:"serviceManagedResourcesSettings,omitempty"`
}

// Encryption says with whose key a workspace is encrypted.
type Encryption struct {
	Status string          `json:"status,omitempty"`
	Vault  json.RawMessage `json:"keyVaultProperties,omitempty"`
}

// Notebook is where a workspace's notebooks would be.
type Notebook struct {
	ResourceID string `json:"resourceId"`
	FQDN       string `json:"fqdn"`
	Private    bool   `json:"isPrivateLinkEnabled"`
	Error      any    `json:"notebookPreparationError"`
}

// Network is a workspace's managed network.
type Network struct {
	Mode     string           `json:"isolationMode,omitempty"`
	ID       string           `json:"networkId,omitempty"`
	Rules    map[string]*Rule `json:"outboundRules,omitempty"` // stored as resources
	Status   *NetworkStatus   `json:"status,omitempty"`        // computed
	Firewall string           `json:"firewallSku,omitempty"`
	Changes  []string         `json:"changeableIsolationModes,omitempty"` // computed
}

// NetworkStatus says whether a managed network is there.
type NetworkStatus struct {
	Status string `json:"status"` // Active or Inactive
	Spark  bool   `json:"sparkReady"`
}

func (n *Properties) mode() string {
	if n.Network == nil || n.Network.Mode == "" {
		return Disabled
	}
	return n.Network.Mode
}

func bad(target, format string, args ...any) *apierr.Error {
	return apierr.New(apierr.BadRequest, "BadRequest", format, args...).WithTarget(target)
}

func lower(s string) string { return strings.ToLower(s) }

func isTrue(b *bool) bool { return b != nil && *b }

func asMap(v any) (map[string]any, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	m := map[string]any{}
	return m, json.Unmarshal(b, &m)
}

func textOf(raw json.RawMessage, member string) (string, error) {
	if len(raw) == 0 {
		return "", nil
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return "", bad(member, "The '%s' must be a text.", member)
	}
	return s, nil
}
