package endpoints

import (
	"context"
	"maps"
	"slices"
	"strings"

	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/rid"
)

// checkTraffic refuses shares that do not add up, or of deployments that are
// not there, and writes the others' names as the deployments have them.
func (s *Service) checkTraffic(ctx context.Context, old, next *endpoint) error {
	n := &next.Properties
	var there []*arm.Envelope
	if old != nil && len(n.Traffic)+len(n.Mirror) > 0 {
		var err error
		if there, err = s.res.List(ctx, next.ID, DeploymentType, "", 1000); err != nil {
			return err
		}
	}
	var err error
	if n.Traffic, err = named("traffic", n.Traffic, there); err != nil {
		return err
	}
	if n.Mirror, err = named("mirrorTraffic", n.Mirror, there); err != nil {
		return err
	}
	sum := 0
	for _, share := range n.Traffic {
		sum += share
	}
	if sum != 0 && sum != 100 {
		return bad("properties.traffic", "The percentages of traffic add up to %d: they have to add up to 0 or to 100.", sum)
	}
	return checkMirror(n)
}

// checkMirror: one deployment, at most half of the requests, and not one that
// answers itself. Source: "Safe rollout for online endpoints", mirroring.
func checkMirror(n *Endpoint) error {
	var mirrors []string
	for name, share := range n.Mirror {
		if share > 0 {
			mirrors = append(mirrors, name)
		}
	}
	switch {
	case len(mirrors) == 0:
		return nil
	case len(mirrors) > 1:
		return bad("properties.mirrorTraffic", "Traffic is mirrored to one deployment at most, not to %d.", len(mirrors))
	case n.Mirror[mirrors[0]] > 50:
		return bad("properties.mirrorTraffic", "At most 50 percent of the traffic is mirrored, not %d.", n.Mirror[mirrors[0]])
	case n.Traffic[mirrors[0]] > 0:
		return bad("properties.mirrorTraffic", "The deployment '%s' has %d percent of the traffic: to mirror to it too would give it requests twice.", mirrors[0], n.Traffic[mirrors[0]])
	}
	return nil
}

// named are shares by the names of deployments that are there. A share of 0 of
// one that is not is left out.
func named(property string, shares map[string]int, there []*arm.Envelope) (map[string]int, error) {
	out := map[string]int{}
	for _, name := range slices.Sorted(maps.Keys(shares)) {
		share := shares[name]
		if share < 0 || share > 100 {
			return nil, bad("properties."+property, "The percentage %d of '%s' is not from 0 to 100.", share, name)
		}
		i := slices.IndexFunc(there, func(e *arm.Envelope) bool { return strings.EqualFold(e.Name, name) && e.State() != "Deleting" })
		switch {
		case i < 0 && share == 0:
			continue
		case i < 0:
			return nil, bad("properties."+property, "The endpoint has no deployment '%s' that could have %d percent of %s (together 0 or 100).", name, share, property)
		}
		if _, twice := out[there[i].Name]; twice {
			return nil, bad("properties."+property, "The deployment '%s' is there twice, in different letter case.", name)
		}
		out[there[i].Name] = share
	}
	return out, nil
}

// share is what a deployment has of the endpoint's traffic, and of its mirrored traffic.
func (s *Service) share(ctx context.Context, deployment rid.ID) (traffic, mirror int, err error) {
	e, err := s.res.Get(ctx, deployment.Parent())
	if err != nil {
		return 0, 0, err
	}
	v, err := arm.View[Endpoint](e)
	if err != nil {
		return 0, 0, err
	}
	of := func(m map[string]int) (n int) {
		for name, share := range m {
			if strings.EqualFold(name, deployment.Name()) {
				n += share
			}
		}
		return n
	}
	return of(v.Properties.Traffic), of(v.Properties.Mirror), nil
}
