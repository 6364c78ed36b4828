package kube

import (
	"context"
	"net/netip"
	"slices"
)

// Local is which nodes answer for addresses of load balancers that keep their
// clients' addresses (externalTrafficPolicy: Local): those with a ready pod of
// the service. Addresses of other services are not in it.
func (c *Cluster) Local(ctx context.Context) (map[netip.Addr][]string, error) {
	type meta struct {
		Name, Namespace string
		Labels          map[string]string
	}
	var services struct {
		Items []struct {
			Metadata meta `json:"metadata"`
			Spec     struct {
				Type, ExternalTrafficPolicy string
			} `json:"spec"`
			Status struct {
				LoadBalancer struct {
					Ingress []struct{ IP string }
				}
			} `json:"status"`
		} `json:"items"`
	}
	// Version 0: from the API server's memory.
	if err := c.client.get(ctx, "/api/v1/services?resourceVersion=0", &services); err != nil {
		return nil, err
	}
	local, addresses := map[netip.Addr][]string{}, map[string][]netip.Addr{}
	for _, s := range services.Items {
		if s.Spec.Type != "LoadBalancer" || s.Spec.ExternalTrafficPolicy != "Local" {
			continue
		}
		for _, ingress := range s.Status.LoadBalancer.Ingress {
			if a, err := netip.ParseAddr(ingress.IP); err == nil && c.cfg.LoadBalancers.Contains(a) {
				local[a] = nil
				addresses[s.Metadata.Namespace+"/"+s.Metadata.Name] = append(addresses[s.Metadata.Namespace+"/"+s.Metadata.Name], a)
			}
		}
	}
	if len(local) == 0 {
		return nil, nil
	}
	var parts struct {
		Items []struct {
			Metadata  meta `json:"metadata"`
			Endpoints []struct {
				NodeName   string
				Conditions struct{ Ready *bool }
			} `json:"endpoints"`
		} `json:"items"`
	}
	if err := c.client.get(ctx, "/apis/discovery.k8s.io/v1/endpointslices?resourceVersion=0", &parts); err != nil {
		return nil, err
	}
	for _, s := range parts.Items {
		for _, a := range addresses[s.Metadata.Namespace+"/"+s.Metadata.Labels["kubernetes.io/service-name"]] {
			for _, e := range s.Endpoints {
				if (e.Conditions.Ready == nil || *e.Conditions.Ready) && !slices.Contains(local[a], e.NodeName) {
					local[a] = append(local[a], e.NodeName)
				}
			}
		}
	}
	return local, nil
}
