package cluster

import (
	"context"
	"strings"
	"time"
)

// Agent is the part of the node agent that the driver needs: what only root
// can do. Its methods may be called at the same time; those that change a
// cluster wait for each other by uid. An error that is ErrUnavailable says why
// no agent can be asked.
type Agent interface {
	// Info says whether clusters can run, and of which version: "1.37.2".
	Info(ctx context.Context) (version string, err error)
	// Apply converges the cluster; it returns when its API server is ready and
	// its nodes are Ready, or all of it is stopped.
	Apply(ctx context.Context, p Plan, tell func(Phase)) error
	// Remove leaves nothing behind; gone already is no error.
	Remove(ctx context.Context, uid string) error
	// Admin gives a cluster administrator's credentials.
	Admin(ctx context.Context, uid string) (Access, error)
}

// Plan is what the agent is to make.
type Plan struct {
	Spec
	Issuer  string // URL with a slash at the end
	JWKSURI string
	Keys    []SigningKey // the first signs, all verify
	Names   []string     // further names of the API server's certificate
	Pull    *Pull        // how nodes get credentials for registries; nil: not
}

// Pull is how nodes get credentials for this cloud's registries. It never shows
// its secret. Its fields are those of node.Pull.
type Pull struct {
	Registries []string // host names; a star is for the first label
	TokenURL   string   // where Secret gets tokens of the kubelet's identity
	CA         []byte   // PEM: who signs for those
	Secret     string
}

// String keeps the secret out of messages.
func (p Pull) String() string { return "pull from " + strings.Join(p.Registries, ", ") }

// GoString keeps the secret out of messages.
func (p Pull) GoString() string { return p.String() }

// SigningKey is a private key of an issuer. It never shows itself.
type SigningKey struct {
	ID    string
	PEM   []byte    // PKCS #8
	Until time.Time // published until then; zero for the one that signs
}

// String keeps the key out of messages.
func (k SigningKey) String() string { return "key " + k.ID }

// GoString keeps the key out of messages.
func (k SigningKey) GoString() string { return k.String() }
