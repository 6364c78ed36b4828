package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/cluster"
	"lazurite.dev/internal/providers/explain"
)

// doctorTime is how long all clusters together may take to be looked at.
const doctorTime = 15 * time.Second

// ClusterHealth is what `laz doctor` looks at in a cluster.
type ClusterHealth struct {
	ClusterState
	Unreachable string               `json:"unreachable,omitempty"` // why its API server does not answer
	Waiting     []string             `json:"waiting,omitempty"`     // parts of ours inside it that are not available, a sentence each
	Pods        []explain.Uninjected `json:"pods,omitempty"`        // that run without the identity they should have
}

// DoctorAnswer is what the server knows of its health.
type DoctorAnswer struct {
	Agent    AgentState      `json:"nodeAgent"`
	Clusters []ClusterHealth `json:"clusters"`
}

func (s *Server) doctor(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), doctorTime)
	defer cancel()
	list, agent, err := s.clusters(ctx)
	if err != nil {
		tellAdmin(w, r, nil, err)
		return
	}
	a := DoctorAnswer{Agent: agent, Clusters: make([]ClusterHealth, len(list))}
	envelopes, err := s.system.Clusters(ctx)
	if err != nil {
		tellAdmin(w, r, nil, err)
		return
	}
	var g errgroup.Group
	g.SetLimit(4)
	for i, c := range list {
		a.Clusters[i].ClusterState = c
		for _, e := range envelopes {
			if e.ID == c.ID && c.State != "stopped" && c.State != "deleting" && c.State != "creating" {
				g.Go(func() error {
					s.examine(ctx, e, &a.Clusters[i])
					return nil
				})
			}
		}
	}
	tellAdmin(w, r, a, g.Wait())
}

// examine looks into one cluster.
func (s *Server) examine(ctx context.Context, e *arm.Envelope, h *ClusterHealth) {
	k, done, err := s.system.OpenCluster(ctx, e)
	if errors.Is(err, cluster.ErrNoAPIServer) {
		return
	}
	if err != nil {
		h.Unreachable = err.Error()
		return
	}
	defer done()
	enabled := explain.Injects(e)
	namespaces := []string{webhookNamespace} // what else is in somebody's own cluster is not ours to judge
	if h.Driver == ClustersEmbedded {
		namespaces = append(namespaces, "kube-system")
		if len(h.Nodes) == 0 {
			namespaces = nil // nowhere to run
		}
	}
	if h.Waiting, err = waiting(ctx, k, namespaces); err == nil {
		h.Pods, err = explain.FindUninjected(ctx, k, enabled)
	}
	if err != nil {
		h.Unreachable = err.Error()
	}
}

const webhookNamespace = "azure-workload-identity-system"

// waiting names the Deployments in namespaces that have no pod available.
func waiting(ctx context.Context, k explain.Objects, namespaces []string) ([]string, error) {
	var out []string
	for _, ns := range namespaces {
		var list struct {
			Items []struct {
				Metadata struct {
					Name string `json:"name"`
				} `json:"metadata"`
				Spec struct {
					Replicas int `json:"replicas"`
				} `json:"spec"`
				Status struct {
					AvailableReplicas int `json:"availableReplicas"`
				} `json:"status"`
			} `json:"items"`
		}
		if err := k.Get(ctx, "/apis/apps/v1/namespaces/"+ns+"/deployments", &list); err != nil {
			return nil, fmt.Errorf("list the deployments in %s: %w", ns, err)
		}
		for _, d := range list.Items {
			if d.Spec.Replicas > 0 && d.Status.AvailableReplicas == 0 {
				out = append(out, fmt.Sprintf("deployment %s in %s has none of its %d pods available", d.Metadata.Name, ns, d.Spec.Replicas))
			}
		}
	}
	return out, nil
}
