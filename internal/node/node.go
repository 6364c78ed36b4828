// Package node is how the server, which needs no rights, asks for what only
// root can make on this machine: clusters of real Kubernetes with networks of
// their own. An [Agent] is a separate process of the same program, started as
// root; [Dial] finds it. What is asked for is always a typed specification
// that both sides check ([Cluster.Validate]): the agent takes no command
// lines, no paths and no addresses from its client.
//
// The agent itself is internal/node/agent; what it starts for a cluster is
// internal/node/kube; namespaces, processes and cgroups are internal/node/box;
// links, routes and filters are internal/node/wire.
package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"time"
)

var (
	// ErrNoAgent says that no node agent runs for the state folder. What to do
	// about it: `sudo laz up`.
	ErrNoAgent = errors.New("no node agent runs for this state folder")
	// ErrKilled is an ErrNoAgent that may pass: there was one a moment ago, and
	// its keeper starts it again.
	ErrKilled = fmt.Errorf("%w: it was killed", ErrNoAgent)
	// ErrNotFound says that the agent knows no such cluster.
	ErrNotFound = errors.New("the node agent knows no such cluster")
	// ErrInvalid says that a specification was refused before anything was done.
	ErrInvalid = errors.New("refused by the node agent")
	// ErrUnavailable says that this machine can't run clusters now; the text says why.
	ErrUnavailable = errors.New("clusters can't run here")
)

// Agent makes clusters. All methods may be called at the same time; those that
// change a cluster wait for each other by UID. Errors satisfy errors.Is with
// the sentinels of this package where those say it.
type Agent interface {
	// Info says who the agent is and whether clusters can run here at all.
	Info(ctx context.Context) (Info, error)
	// Apply makes the cluster as c says, or changes it so, and returns when its
	// API server is ready and all its nodes are Ready (or, with Running false,
	// when all its processes have ended). It is idempotent by UID. Each step is
	// told twice, when it begins and when it is done; tell may be nil. When ctx
	// ends the caller is let go and the cluster is left as far as it got; the
	// next Apply goes on from there.
	Apply(ctx context.Context, c Cluster, tell func(Phase)) error
	// Remove takes the cluster away with everything of it, its data included;
	// it interrupts an Apply in progress. Gone already is no error.
	Remove(ctx context.Context, uid string) error
	// Status is the state of all clusters, by UID.
	Status(ctx context.Context) ([]ClusterStatus, error)
	// Admin are credentials of a cluster administrator (group system:masters),
	// made anew when they would soon end.
	Admin(ctx context.Context, uid string) (Credentials, error)
	// Listen opens a socket at the cluster's own address inside its network:
	// "tcp" or "udp" and one of the ports that ListenPorts names. The file is
	// the caller's to close. For tcp it is listening.
	Listen(ctx context.Context, uid, network string, port int) (*os.File, error)
	// DialPod connects from the cluster's network to a pod of it: an address in
	// its PodCIDR, in a range that a node has. Everything else is ErrInvalid. The
	// connection outlives the agent.
	DialPod(ctx context.Context, uid string, at netip.AddrPort) (net.Conn, error)
	// LoadImage puts a docker archive or a tar of an OCI layout into the image
	// store of every node, and keeps it for nodes that come later. It returns
	// the names that the images have.
	LoadImage(ctx context.Context, uid string, archive io.Reader) ([]string, error)
	// Images are those that the cluster's nodes have.
	Images(ctx context.Context, uid string) ([]Image, error)
	// RemoveImage takes images off the nodes and out of what is kept; names as
	// Images gives them.
	RemoveImage(ctx context.Context, uid, name string) error

	Networks
}

// The ports at a cluster's own address. Nothing else can be listened on.
const (
	PortDNS   = 53    // udp and tcp: the resolver
	PortHTTP  = 80    // the front door
	PortHTTPS = 443   // the front door
	PortGate  = 15001 // the outbound gate: every outward TCP connection is led here; SO_ORIGINAL_DST tells where it went
	PortAPI   = 6443  // the API server, which the agent runs
)

// ListenPort reports whether Listen opens the port for the network.
func ListenPort(network string, port int) bool {
	switch network {
	case "tcp":
		return port == PortDNS || port == PortHTTP || port == PortHTTPS || port == PortGate
	case "udp":
		return port == PortDNS
	}
	return false
}

// Info is what an agent says of itself.
type Info struct {
	Version  string // of the program
	PID      int
	Instance string            // which all names of links, namespaces and cgroups carry
	Cgroup   int               // 1 or 2
	Range    netip.Prefix      // where clusters get their addresses from
	Kube     string            // folder of the distribution; "" when there is none
	Versions map[string]string // of its parts: "kubernetes" → "1.37.2"
	Missing  string            // why clusters can't run here, in a sentence; "" when they can
	NoWires  string            // why virtual networks can't be made here; "" when they can
}

// Cluster is what a cluster should be.
type Cluster struct {
	UID        string // names it for good: ^[a-z0-9-]{1,63}$
	Name       string // as its owner calls it, for messages: ^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$
	ResourceID string
	Version    string // of Kubernetes: "1.37.2"
	Running    bool
	Issuer     string // of service-account tokens: an https URL with a trailing slash
	JWKSURI    string // https URL
	Keys       []Key  // of the issuer: the first signs, all verify
	// PodCIDR and ServiceCIDR are IPv4 ranges of the cluster's own: other
	// clusters may have the same. DNSServiceIP lies in ServiceCIDR.
	PodCIDR, ServiceCIDR, DNSServiceIP string
	Names                              []string          // further names of the API server's certificate
	NetworkPolicy                      bool              // false: --network-policy none
	Mirrors                            map[string]string // registry (or AllRegistries) to the URL of one that is asked first
	// Pull is how nodes get images from this cloud's registries; nil: without
	// credentials, as from any other.
	Pull *Pull
	// Isolated: pods reach the front door, the resolver and the gate alone.
	Isolated bool
	Nodes    []Node
}

// Key is a private key of a cluster's issuer. It never shows itself.
type Key struct {
	ID  string
	PEM []byte // RSA, PKCS #1 or PKCS #8
}

// LogValue keeps the key out of logs.
func (k Key) LogValue() slog.Value { return slog.StringValue("key " + k.ID) }

// String keeps the key out of messages.
func (k Key) String() string { return "key " + k.ID }

// GoString keeps the key out of messages.
func (k Key) GoString() string { return k.String() }

// Node is what a node should be. Its limits are those of all its pods together.
type Node struct {
	Name      string // ^[a-z0-9-]{1,63}$, unique in the cluster
	Pool      string
	CPUMillis int // 1000 is one processor
	MemoryMiB int
	MaxPods   int
	Labels    map[string]string
	Taints    []string // "KEY=VALUE:NoSchedule"
}

// Phase is a step of Apply: "network", "certificates", "etcd", "api server",
// "controllers", "node NAME", ….
type Phase struct {
	Name, Detail string
	Done         bool
	Took         time.Duration // when Done
	Err          string        // why it could not be done; Apply says it too
}

// ClusterStatus is the state of a cluster.
type ClusterStatus struct {
	UID, Name, ResourceID string
	Running               bool   // as was asked for
	Applying              bool   // an Apply or a restart is at work
	Err                   string // why the last one failed; "" when it did not
	Server                string // URL of the API server: https://198.18.N.2:6443
	Address, HostAddress  netip.Addr
	Network               netip.Prefix // 198.18.N.0/24, as the host sees it
	LoadBalancers         netip.Prefix // 198.18.N.128/25
	// Space names the network's namespace: with another number it was made
	// anew, and sockets from before are dead. 0 while there is none.
	Space     uint64
	Processes []ProcessStatus
	Nodes     []NodeStatus
}

// The states of a process.
const (
	StateStarting = "starting" // begun, not ready yet
	StateRunning  = "running"
	StateWaiting  = "waiting" // for its next start, after it ended
	StateStopped  = "stopped" // on purpose
)

// ProcessStatus is the state of a process.
type ProcessStatus struct {
	Name     string // "etcd", "kubelet"
	Node     string // "" for the control plane's
	PID      int    // 0 when it does not run
	State    string
	Restarts int       // since the agent began
	Since    time.Time // when the state began
	Err      string    // how it ended last; "" when it never did
}

// NodeStatus is the state of a node.
type NodeStatus struct {
	Name    string
	Address netip.Addr
	PodCIDR netip.Prefix
	Ready   bool
	Message string // why not
}

// Credentials are how to reach an API server as an administrator.
type Credentials struct {
	Server        string // URL
	CA, Cert, Key []byte // PEM
	NotAfter      time.Time
}

// LogValue keeps the key out of logs.
func (c Credentials) LogValue() slog.Value { return slog.StringValue("credentials for " + c.Server) }

// String keeps the key out of messages.
func (c Credentials) String() string { return fmt.Sprintf("credentials for %s", c.Server) }

// GoString keeps the key out of messages.
func (c Credentials) GoString() string { return c.String() }

// Image is one that nodes have.
type Image struct {
	Names  []string
	Digest string // "sha256:…"
	Size   int64  // bytes
	Nodes  []string
}
