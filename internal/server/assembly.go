package server

import (
	"context"
	"net/http"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/ca"
	"lazurite.dev/internal/inference"
	"lazurite.dev/internal/providers/explain"
	"lazurite.dev/internal/providers/network"
	"lazurite.dev/internal/store"
	"lazurite.dev/internal/web"
)

// Base is what surfaces are built from.
type Base struct {
	Config  *Config
	Home    Home
	Store   store.Store
	Metrics *prometheus.Registry
	CA      *ca.Authority

	// Joined serves the network of a cluster, which has to be there; Left stops
	// it, before the network goes away. Both may be called again.
	Joined func(ctx context.Context, uid string) error
	Left   func(uid string)

	// Wire makes virtual networks real; Virtual tells it what there should be.
	Wire    network.Wire
	Virtual func(*network.Networks)

	// Outbound tells what may leave the networks of clusters; until it is told
	// nothing may.
	Outbound func(OutboundSources)

	// Refused is what the network of a workspace's computes has refused an address
	// since then, with the command that would allow it. nil: that is not known.
	Refused func(workspaceUID string, client netip.Addr, since time.Time) []string
}

// Assembly is the system behind the front door. Every field may be empty; a
// function that is nil answers that there is no such thing here.
type Assembly struct {
	Surfaces map[string]web.Surface // by the names in names.go; Name is set by the server
	IMDS     http.Handler           // the instance metadata service; proxy.Credential says which run asks
	MSI      http.Handler           // the App Service style endpoint, at /msi/token of the local address

	// Pages are the sign-in pages for browsers of this machine, at /device and
	// /TENANT/oauth2/v2.0/authorize of the local address.
	Pages http.Handler

	// ServiceAccountToken makes a projected token for `laz run --as`.
	ServiceAccountToken func(context.Context, TokenRequest) (TokenAnswer, error)

	// RunSecret makes a secret by which the metadata endpoints know a run of
	// `laz run --identity`.
	RunSecret func(context.Context, RunRequest) (RunAnswer, error)

	// RotateTokenKey and RotateRootKey change keys, for `laz rotate`.
	RotateTokenKey, RotateRootKey func(context.Context, RotateRequest) (RotateAnswer, error)

	// EndRun makes the secret of a run that has ended worthless.
	EndRun func(context.Context, RunEnd) (struct{}, error)

	// Providers are those of the management plane.
	Providers []arm.Provider

	// Admin are further handlers of the admin socket, by http.ServeMux pattern.
	Admin map[string]http.Handler

	// Counts says how many there are of what, for `laz status`.
	Counts func(context.Context) (map[string]int, error)

	// Models are the models that can be deployed.
	Models *inference.Catalog

	// Clusters are the managed clusters.
	Clusters func(context.Context) ([]*arm.Envelope, error)

	// OpenCluster reads a managed cluster's objects as its administrator.
	OpenCluster explain.Opens

	// Workers run from the start until the last request is answered.
	Workers []func(context.Context) error

	// Owner is the owner's user principal name.
	Owner string

	// Welcome is what the first start made; nil at every later one.
	Welcome *Welcome
}

// Welcome is shown once.
type Welcome struct {
	Owner        string `json:"owner"` // e-mail
	Password     string `json:"password"`
	Tenant       string `json:"tenant"`
	Subscription string `json:"subscription"`
}

// TokenRequest asks for a service account's token.
type TokenRequest struct {
	Namespace         string `json:"namespace"`
	Name              string `json:"name"`
	Cluster           string `json:"cluster,omitempty"`           // name or resource id; "" is the only one there is
	Audience          string `json:"audience,omitempty"`          // "" is api://AzureADTokenExchange
	ExpirationSeconds int    `json:"expirationSeconds,omitempty"` // 0 is an hour
	Identity          string `json:"identity,omitempty"`          // name, client id or resource id of the identity wanted; "" is the one that trusts the service account
}

// TokenAnswer is a token and what a pod with it would find in its environment.
type TokenAnswer struct {
	Token         string    `json:"token"`
	Expires       time.Time `json:"expires"`
	ClientID      string    `json:"clientId,omitempty"`   // of the identity that trusts the service account, when exactly one does
	Identities    []string  `json:"identities,omitempty"` // names of those that trust it, where none was asked for
	Cluster       string    `json:"cluster"`              // name
	TenantID      string    `json:"tenantId"`
	AuthorityHost string    `json:"authorityHost"` // URL with a slash at the end
}

// RunRequest asks for a run's secret.
type RunRequest struct {
	Identity string `json:"identity"` // name, client id or resource id
}

// RunEnd says that a run has ended.
type RunEnd struct {
	Secret string `json:"secret"`
}

// RunAnswer is a run's secret.
type RunAnswer struct {
	Secret   string `json:"secret"`
	ClientID string `json:"clientId"`
	TenantID string `json:"tenantId"`
}
