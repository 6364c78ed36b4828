package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/cluster"
	"lazurite.dev/internal/node"
	"lazurite.dev/internal/providers/explain"
)

// The values of Config.Clusters.
const (
	ClustersAuto     = cluster.Auto
	ClustersIssuer   = "issuer"
	ClustersEmbedded = "embedded"
)

// clusterDrivers makes what stands behind managed clusters.
func (s *system) clusterDrivers(context.Context) error {
	real := cluster.NewEmbedded(cluster.EmbeddedConfig{
		Agent: nodeAgent{s.Config.Nodes, s.Config.Mirrors, s.Config.Store.PostgresDSNFile != ""}, Issuers: s.issuers, Log: s.Config.Log, Settings: s.addonSettings,
		Joined: s.Joined, Left: s.Left, Pulls: s.pulls, PullsNot: s.pullsNot,
	})
	s.existing = cluster.NewExisting(cluster.ExistingConfig{
		Store: s.Store, Seal: s.keyring, Issuers: s.issuers, Log: s.Config.Log, Settings: s.addonSettings,
		Names: s.Config.patterns, AllowPrivate: s.Config.Issuers.AllowPrivate,
	})
	s.drivers = &cluster.Drivers{Mode: s.Config.Clusters, List: []cluster.Driver{cluster.IssuerOnly{}, real, s.existing}}
	return nil
}

// openCluster reads a managed cluster's objects, as its administrator: whoever
// calls it has made sure that somebody may.
func (s *system) openCluster(ctx context.Context, e *arm.Envelope) (explain.Objects, func(), error) {
	d, err := s.drivers.Named(e.Private["driver"])
	if err != nil {
		return nil, nil, err
	}
	a, err := d.Access(ctx, e.Private["uid"])
	if err != nil {
		return nil, nil, err
	}
	k, err := cluster.OpenKube(a)
	if err != nil {
		return nil, nil, err
	}
	return k, k.Close, nil
}

// addonSettings are what all clusters' add-ons have in common.
func (s *system) addonSettings() (cluster.Values, error) {
	v := cluster.Values{TenantID: s.in.Tenant, AuthorityHost: s.Config.URL(Login, "") + "/"}
	bundle, err := os.ReadFile(s.CA.BundleFile())
	if err != nil {
		return v, fmt.Errorf("reading the bundle of authorities: %w", err)
	}
	own, err := os.ReadFile(s.CA.CertFile())
	if err != nil {
		return v, fmt.Errorf("reading the certificate of the authority: %w", err)
	}
	v.CABundle, v.CACert = string(bundle), string(own)
	return v, nil
}

// nodeAgent is the node agent as the driver knows it; without one it says so.
type nodeAgent struct {
	node.Agent
	mirrors map[string]string
	shared  bool // the database is for servers on several machines
}

// againTime is how long a killed node agent may take until it answers again.
const againTime = 5 * time.Second

// Info implements cluster.Agent.
func (a nodeAgent) Info(ctx context.Context) (string, error) {
	if a.shared {
		return "", cluster.Unavailable("a cluster of this driver is on one machine, and this database is for servers on several")
	}
	if a.Agent == nil {
		return "", a.reason(node.ErrNoAgent)
	}
	info, err := a.Agent.Info(ctx)
	for end := time.Now().Add(againTime); errors.Is(err, node.ErrKilled) && time.Now().Before(end) && ctx.Err() == nil; info, err = a.Agent.Info(ctx) {
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
	if err != nil {
		return "", a.reason(err)
	}
	if info.Missing != "" {
		return "", cluster.Unavailable("%s", info.Missing)
	}
	return info.Versions["kubernetes"], nil
}

// reason translates the agent's errors.
func (nodeAgent) reason(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, node.ErrNoAgent):
		return cluster.Unavailable("no node agent runs, which needs root: start Lazurite with 'sudo laz up'")
	case errors.Is(err, node.ErrUnavailable):
		return cluster.Unavailable("%v", err)
	case errors.Is(err, node.ErrNotFound):
		return fmt.Errorf("%w: %w", cluster.ErrNotFound, err)
	case errors.Is(err, node.ErrInvalid):
		return fmt.Errorf("%w: %w", cluster.ErrInvalid, err)
	}
	return err
}

// Apply implements cluster.Agent.
func (a nodeAgent) Apply(ctx context.Context, p cluster.Plan, tell func(cluster.Phase)) error {
	if a.Agent == nil {
		return a.reason(node.ErrNoAgent)
	}
	c := node.Cluster{
		UID: p.UID, Name: p.Name, ResourceID: p.ResourceID, Version: p.Version, Running: p.Running, Issuer: p.Issuer, JWKSURI: p.JWKSURI,
		PodCIDR: p.PodCIDR, ServiceCIDR: p.ServiceCIDR, DNSServiceIP: p.DNSServiceIP, Names: p.Names, NetworkPolicy: p.NetworkPolicy, Mirrors: a.mirrors,
		Isolated: p.Isolated,
	}
	for _, k := range p.Keys {
		c.Keys = append(c.Keys, node.Key{ID: k.ID, PEM: k.PEM})
	}
	if p.Pull != nil {
		c.Pull = &node.Pull{Registries: p.Pull.Registries, TokenURL: p.Pull.TokenURL, CA: p.Pull.CA, Secret: p.Pull.Secret}
	}
	for _, n := range p.Nodes {
		c.Nodes = append(c.Nodes, node.Node(n))
	}
	return a.reason(a.Agent.Apply(ctx, c, func(p node.Phase) { tell(cluster.Phase(p)) }))
}

// Remove implements cluster.Agent.
func (a nodeAgent) Remove(ctx context.Context, uid string) error {
	if a.Agent == nil {
		return a.reason(node.ErrNoAgent)
	}
	return a.reason(a.Agent.Remove(ctx, uid))
}

// Admin implements cluster.Agent.
func (a nodeAgent) Admin(ctx context.Context, uid string) (cluster.Access, error) {
	if a.Agent == nil {
		return cluster.Access{}, a.reason(node.ErrNoAgent)
	}
	c, err := a.Agent.Admin(ctx, uid)
	if err != nil {
		return cluster.Access{}, a.reason(err)
	}
	return cluster.Access{Server: c.Server, CA: c.CA, Cert: c.Cert, Key: c.Key}, nil
}
