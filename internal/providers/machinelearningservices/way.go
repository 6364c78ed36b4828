package machinelearningservices

import (
	"context"
	"slices"
	"strings"

	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/vnet"
)

// Way is how the computes of a workspace reach a resource of this cloud.
type Way struct {
	Mode string // of the workspace's managed network

	// Endpoints are the managed private endpoints that lead to the resource, any of
	// which its owner may not have approved.
	Endpoints []rid.ID

	// Out says that names lead out to the resource's public address at 443, where
	// there is no endpoint.
	Out bool
}

// WayTo finds how the computes of a workspace reach the target: by a private
// endpoint for its group, or by its host name, for which service tags of surface
// stand too. The managed network is brought about where it is not there yet, as
// the first deployment does. c is as for New.
func WayTo(ctx context.Context, c Config, workspace, target rid.ID, group, host, surface string) (Way, error) {
	if err := Provision(ctx, c, workspace); err != nil {
		return Way{}, err
	}
	p := newProvider(c)
	ws, err := p.fresh(ctx, workspace)
	if err != nil {
		return Way{}, err
	}
	if ws == nil {
		return Way{}, arm.NotFound(workspace)
	}
	way := Way{Mode: ws.Mode(), Out: ws.Mode() != AllowByRules}
	rules, err := p.list(ctx, ws)
	if err != nil {
		return Way{}, err
	}
	for _, x := range rules {
		if x.rule.Type == RulePrivateEndpoint {
			if d, to, err := x.rule.endpoint(); err == nil && to.Equal(target) && strings.EqualFold(d.Group, group) {
				way.Endpoints = append(way.Endpoints, ws.ID.Child(ruleWord, x.name))
			}
			continue
		}
		way.Out = way.Out || x.rule.planned(x.name).names(host, surface)
	}
	return way, nil
}

// names reports whether the rule lets the name of a surface of this cloud out at 443.
func (r PlannedRule) names(host, surface string) bool {
	if r.Type == RuleFQDN {
		return vnet.MatchHost(strings.TrimSuffix(r.Destination, "."), strings.ToLower(host))
	}
	surfaces, _ := Surfaces(r.Tag)
	if !slices.Contains(surfaces, surface) || r.Protocol != "*" && !strings.EqualFold(r.Protocol, "TCP") {
		return false
	}
	for part := range strings.SplitSeq(r.Ports, ",") {
		low, high, ranged := strings.Cut(strings.TrimSpace(part), "-")
		if low == "*" || low == "443" || ranged && atMost(low, "443") && atMost("443", high) {
			return true
		}
	}
	return false
}

// atMost compares numbers as checkPorts writes them.
func atMost(a, b string) bool { return len(a) < len(b) || len(a) == len(b) && a <= b }
