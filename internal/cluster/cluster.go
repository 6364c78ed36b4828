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
	"log/slog"
	"time"
)

var (
	// ErrNotFound says that there is no such cluster.
	ErrNotFound = errors.New("no such cluster")
	// ErrNoAPIServer says that the driver runs no Kubernetes.
	ErrNoAPIServer = errors.New("the cluster has no API server")
	// ErrUnavailable says why a driver can't work now, in a sentence.
	ErrUnavailable = errors.New("the driver can't be used")
	// ErrRemoved ends an Apply whose cluster is being taken away.
	ErrRemoved = errors.New("the cluster is being deleted")
	// ErrInvalid says that a request can't be answered as asked.
	ErrInvalid = errors.New("invalid request")
)

// Driver provides the Kubernetes of clusters. Its methods are idempotent by
// Spec.UID and may be called at the same time.
type Driver interface {
	// Name is "issuer", "embedded" or "existing".
	Name() string
	// Offer gives the versions of Kubernetes that clusters can have, newest
	// first. ErrUnavailable says why the driver can make none now.
	Offer(ctx context.Context) ([]string, error)
	// Apply makes the cluster as the spec says, or changes it so, and returns
	// when it is. tell hears of each step twice, when it begins and when it is
	// done.
	Apply(ctx context.Context, s Spec, tell func(Phase)) error
	// Remove takes it away; one that is gone already is no error. It ends an
	// Apply that is going on.
	Remove(ctx context.Context, uid string) error
	// Access is how to reach the API server as an administrator.
	// ErrNoAPIServer where there is none.
	Access(ctx context.Context, uid string) (Access, error)
}

// Spec is a cluster as its driver gets to know it.
type Spec struct {
	UID        string // as in the issuer URL; never changes
	Name       string
	ResourceID string
	Location   string // region, in lower case without spaces
	Version    string // of Kubernetes: "1.34.2"
	Running    bool   // false: stopped by its owner
	FQDN       string // of the API server, as the resource shows it

	PodCIDR, ServiceCIDR, DNSServiceIP string

	Published        bool // the issuer's keys are public: anybody may read the discovery documents
	WorkloadIdentity bool // the webhook injects identities
	NetworkPolicy    bool // false: policies are refused, as nothing would enforce them

	// Isolated closes what is open inside a common cluster: pods reach the front
	// door, the resolver and the gate and nothing else, not even each other or
	// the API server. Add-ons, which would need those, are left out.
	Isolated bool

	// Kubelet is the resource id of the identity with which nodes pull images from
	// this cloud's registries; "": without one.
	Kubelet string

	Nodes []Node

	Attached *Attached // of the driver existing alone
}

// Node is a machine of a cluster.
type Node struct {
	Name      string // unique in the cluster
	Pool      string
	CPUMillis int // 1000 is one processor
	MemoryMiB int
	MaxPods   int
	Labels    map[string]string
	Taints    []string // "KEY=VALUE:EFFECT"
}

// Phase is a step of Apply.
type Phase struct {
	Name   string        `json:"name"` // "network", "api server", "node aks-…", …
	Detail string        `json:"detail,omitempty"`
	Done   bool          `json:"done,omitempty"`
	Took   time.Duration `json:"took,omitempty"` // when Done; nanoseconds
	Err    string        `json:"error,omitempty"`
}

// Access is how to reach an API server: with a client certificate or a token.
type Access struct {
	Server        string // URL
	CA, Cert, Key []byte // PEM
	Token         string
	ServerName    string `json:",omitempty"` // in the server's certificate, where it is not the URL's
}

// LogValue keeps the secrets out of logs.
func (a Access) LogValue() slog.Value { return slog.StringValue("access to " + a.Server) }

// String keeps the secrets out of messages.
func (a Access) String() string { return "access to " + a.Server }

// GoString keeps the secrets out of messages.
func (a Access) GoString() string { return a.String() }

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
