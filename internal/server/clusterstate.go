package server

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/node"
)

// agentTime is how long the node agent may take to say how things are.
const agentTime = 3 * time.Second

// AgentState is the node agent, as far as one answers.
type AgentState struct {
	Running    bool              `json:"running"`
	PID        int               `json:"pid,omitempty"`
	Version    string            `json:"version,omitempty"`
	Kubernetes string            `json:"kubernetes,omitempty"` // version that clusters get
	Versions   map[string]string `json:"versions,omitempty"`   // of the distribution's parts
	Folder     string            `json:"distribution,omitempty"`
	Cgroup     int               `json:"cgroup,omitempty"` // version, 1 or 2
	Err        string            `json:"error,omitempty"`  // why clusters can't run, or why it does not answer
}

// ClusterState is a managed cluster, as `laz status` and `laz doctor` show it.
type ClusterState struct {
	Name          string         `json:"name"`
	Group         string         `json:"resourceGroup"`
	ID            string         `json:"id"`
	UID           string         `json:"uid"`
	Driver        string         `json:"driver"`
	Version       string         `json:"kubernetesVersion"`
	State         string         `json:"state"` // "running", "stopped", "creating", "applying", "failed", …
	Joined        bool           `json:"frontDoor"`
	Server        string         `json:"apiServer,omitempty"`
	Address       netip.Addr     `json:"address,omitzero"`
	Network       netip.Prefix   `json:"network,omitzero"`
	LoadBalancers netip.Prefix   `json:"loadBalancers,omitzero"`
	Err           string         `json:"error,omitempty"`
	Nodes         []NodeState    `json:"nodes"`
	Processes     []ProcessState `json:"processes"`
}

// NodeState is a node of a cluster.
type NodeState struct {
	Name    string       `json:"name"`
	Address netip.Addr   `json:"address,omitzero"`
	PodCIDR netip.Prefix `json:"podCIDR,omitzero"`
	Ready   bool         `json:"ready"`
	Message string       `json:"message,omitempty"` // why not
}

// ProcessState is a process of a cluster.
type ProcessState struct {
	Name     string    `json:"name"`
	Node     string    `json:"node,omitempty"` // "" for the control plane's
	PID      int       `json:"pid,omitempty"`
	State    string    `json:"state"` // node.StateRunning and the others
	Restarts int       `json:"restarts"`
	Since    time.Time `json:"since,omitzero"`
	Err      string    `json:"error,omitempty"` // how it ended last
}

// clusters are all managed clusters, with what the node agent knows of them,
// by resource group and name.
func (s *Server) clusters(ctx context.Context) ([]ClusterState, AgentState, error) {
	agent, states := s.agentState(ctx)
	out := []ClusterState{}
	if s.system.Clusters == nil {
		return out, agent, nil
	}
	all, err := s.system.Clusters(ctx)
	if err != nil {
		return nil, agent, err
	}
	for _, e := range all {
		c := clusterState(e)
		for _, st := range states {
			if st.UID == c.UID || strings.EqualFold(st.ResourceID, c.ID) {
				c.take(st)
				c.Joined = s.networks.has(st.UID)
			}
		}
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b ClusterState) int {
		return strings.Compare(strings.ToLower(a.Group+"/"+a.Name), strings.ToLower(b.Group+"/"+b.Name))
	})
	return out, agent, nil
}

func (s *Server) agentState(ctx context.Context) (AgentState, []node.ClusterStatus) {
	ctx, cancel := context.WithTimeout(ctx, agentTime)
	defer cancel()
	info, err := s.cfg.Nodes.Info(ctx)
	if errors.Is(err, node.ErrNoAgent) {
		return AgentState{}, nil
	}
	if err != nil {
		return AgentState{Err: "it does not answer: " + err.Error()}, nil
	}
	a := AgentState{
		Running: true, PID: info.PID, Version: info.Version, Kubernetes: info.Versions["kubernetes"], Versions: info.Versions,
		Folder: info.Kube, Cgroup: info.Cgroup, Err: info.Missing,
	}
	states, err := s.cfg.Nodes.Status(ctx)
	if err != nil && a.Err == "" {
		a.Err = "it does not say how its clusters are: " + err.Error()
	}
	return a, states
}

// clusterState is what the resource says.
func clusterState(e *arm.Envelope) ClusterState {
	text := func(name string) string {
		s, _ := e.Properties[name].(string)
		return s
	}
	c := ClusterState{
		Name: e.Name, Group: e.RID().ResourceGroup(), ID: e.ID, UID: e.Private["uid"], Driver: e.Private["driver"],
		Version: text("currentKubernetesVersion"), State: "running", Nodes: []NodeState{}, Processes: []ProcessState{},
	}
	if c.Driver == "" {
		c.Driver = "issuer"
	}
	if c.Version == "" {
		c.Version = text("kubernetesVersion")
	}
	if power, _ := e.Properties["powerState"].(map[string]any); power["code"] == "Stopped" {
		c.State = "stopped"
	}
	if p := text("provisioningState"); p != "" && p != "Succeeded" {
		c.State = strings.ToLower(p)
	}
	return c
}

// take adds what the node agent says.
func (c *ClusterState) take(st node.ClusterStatus) {
	c.Server, c.Address, c.Network, c.LoadBalancers, c.Err = st.Server, st.Address, st.Network, st.LoadBalancers, st.Err
	if st.Applying && (c.State == "running" || c.State == "stopped") {
		c.State = "applying"
	}
	for _, n := range st.Nodes {
		c.Nodes = append(c.Nodes, NodeState{n.Name, n.Address, n.PodCIDR, n.Ready, n.Message})
	}
	for _, p := range st.Processes {
		c.Processes = append(c.Processes, ProcessState{p.Name, p.Node, p.PID, p.State, p.Restarts, p.Since, p.Err})
	}
}

// ClusterNames are the names of the managed clusters; those that can't be read
// are left out.
func (s *Server) ClusterNames(ctx context.Context) []string {
	if s.system.Clusters == nil {
		return nil
	}
	all, err := s.system.Clusters(ctx)
	if err != nil {
		s.log.Warn("listing the clusters", "error", fmt.Sprint(err))
		return nil
	}
	var names []string
	for _, e := range all {
		names = append(names, e.Name)
	}
	slices.Sort(names)
	return names
}
