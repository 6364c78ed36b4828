// Package router is the data plane of online endpoints: requests to an
// endpoint's name are judged, divided among its deployments, and passed to the
// least busy instance of the one chosen.
//
// Source: "Managed online endpoints", "Troubleshoot online endpoints" (status
// codes and headers) and "Authentication for online endpoints" of Azure Machine
// Learning's documents.
package router

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"lazurite.dev/internal/rid"
)

// ErrNotFound is for a host name that is no endpoint's.
var ErrNotFound = errors.New("there is no such online endpoint")

// Catalog knows the endpoints. It is asked with every request, so it answers
// out of memory; what it gives is not changed any more by anybody.
type Catalog interface {
	// Find gives the endpoint with a host name, in lower case and without a
	// port, whether it is one of Azure's names or of the operator's; ErrNotFound
	// where there is none.
	Find(ctx context.Context, host string) (*Endpoint, error)
}

// The ways in which an endpoint's callers show who they are.
const (
	AuthKey = "Key"
	AuthAML = "AMLToken"
	AuthAAD = "AADToken"
)

// Endpoint is an online endpoint.
type Endpoint struct {
	ID        rid.ID
	Workspace rid.ID // whose private endpoints lead to it
	Name      string
	Location  string
	Public    bool   // publicNetworkAccess is not Disabled
	AuthMode  string // AuthKey, AuthAML or AuthAAD

	Traffic     map[string]int // percent of requests by name of deployment; together 0 or 100
	Mirror      map[string]int // percent of requests that a deployment gets a copy of
	Deployments map[string]*Deployment

	// Key tells by which name a key is known ("primary"), in constant time; ok
	// is false where it is none of the endpoint's. Nil: it has none.
	Key func(given string) (name string, ok bool)
	// Token judges a token of the endpoint's own. Nil: it has none.
	Token func(ctx context.Context, raw string) error
}

// Deployment is what answers for an endpoint.
type Deployment struct {
	ID    rid.ID
	Name  string
	UID   string // of this deployment alone, also where another has the name later
	Ready bool   // it was rolled out once

	MaxConcurrent int           // requests at once in one instance; 0 is 1
	Instances     int           // wanted
	QueueWait     time.Duration // how long a request may wait for an instance; 0 is 500 ms
	Timeout       time.Duration // how long an instance may take; 0 is 5 s
	ScoringPath   string        // "/score"

	// Insights: requests are recorded in the workspace's Application Insights.
	Insights bool

	// ToZero: it may have no instance because nobody asked, and is started for
	// the first who does.
	ToZero bool
}

// Scored is a request that was answered, as it is recorded: nothing of its body,
// its query or its credential.
type Scored struct {
	Workspace            rid.ID
	Endpoint, Deployment string
	Instance             string // that had the request; "" where none had
	RequestID            string
	Time                 time.Time
	Duration             time.Duration // from its beginning until the answer was there
	Method, Host, Path   string
	Status               int // as metrics count it
	ModelStatus          int // what the container answered; 0: nothing
}

// Starter starts deployments that may have no instance because nobody asked.
type Starter interface {
	// Start has one instance started, where that is not being done already, and
	// returns when one takes requests, or ctx ends. What was begun goes on then. An
	// error that is an *apierr.Error may be told to whoever asked. zero says that
	// it had none because nobody asked, and not because it fails, or is not back
	// after a restart.
	Start(ctx context.Context, deploymentUID string) (zero bool, err error)
}

// Instances knows the running instances of deployments.
type Instances interface {
	// Of are those of a deployment, out of memory.
	Of(deploymentUID string) []Instance
	// OnChange calls fn after each change of any; fn returns at once.
	OnChange(fn func())
	// Dial opens a connection to an instance's port.
	Dial(ctx context.Context, i Instance) (net.Conn, error)
}

// Instance is one container that answers.
type Instance struct {
	ID       string         // of the pod: another one with the same name has another
	Cluster  string         // UID of the cluster
	Address  netip.AddrPort // inside the cluster, of the port that requests go to
	Ready    bool
	Draining bool // it ends: no new request
}
