// Package cluster runs what stands behind a managed cluster: its issuer of
// service-account tokens, and through a [Driver] whatever answers as its
// Kubernetes.
//
// The issuer is the same for all drivers. Each cluster has signing keys of its
// own, which are documents in the store, so that every replica publishes and
// signs with the same ones.
package cluster

import (
	"context"
	"errors"
	"time"
)

var (
	// ErrNotFound says that there is no such cluster.
	ErrNotFound = errors.New("no such cluster")
	// ErrNoAPIServer says that the driver runs no Kubernetes.
	ErrNoAPIServer = errors.New("the cluster has no API server")
	// ErrInvalid says that a request can't be answered as asked.
	ErrInvalid = errors.New("invalid request")
)

// Driver provides the Kubernetes of clusters. Its methods are idempotent by
// Spec.UID and may be called at the same time.
type Driver interface {
	// Name is "issuer", "embedded" or "existing".
	Name() string
	// Apply makes the cluster as the spec says, or changes it so, and returns
	// when it is.
	Apply(ctx context.Context, s Spec) error
	// Remove takes it away; one that is gone already is no error.
	Remove(ctx context.Context, uid string) error
	// Kubeconfig is how to reach the API server: of a user, or of an
	// administrator. ErrNoAPIServer where there is none.
	Kubeconfig(ctx context.Context, uid string, admin bool) ([]byte, error)
}

// Spec is a cluster as its driver gets to know it.
type Spec struct {
	UID        string // as in the issuer URL; never changes
	ResourceID string
	Location   string // region, in lower case without spaces
	Version    string // of Kubernetes: "1.34.2"
	Running    bool   // false: stopped by its owner
}

// Request asks for a service account's token.
type Request struct {
	Cluster        string // resource id, in any case
	Namespace      string
	ServiceAccount string
	Audience       string        // "" is DefaultAudience
	Lifetime       time.Duration // 10 minutes to 24 hours; 0 is an hour
}

// DefaultAudience is what identities trust unless told otherwise.
const DefaultAudience = "api://AzureADTokenExchange"

// Token is a service account's token.
type Token struct {
	Value   string // compact JWS
	Issuer  string
	Subject string // "system:serviceaccount:NAMESPACE:NAME"
	Expires time.Time
}
