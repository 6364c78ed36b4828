package server

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arrival"
	"lazurite.dev/internal/environment"
	"lazurite.dev/internal/gate"
	"lazurite.dev/internal/providers/containerregistry/distribution"
	"lazurite.dev/internal/providers/machinelearningservices"
	"lazurite.dev/internal/rid"
)

// registryImages opens images of registries for online deployments: in this
// process, as their computes would reach the registries.
type registryImages struct {
	plane    *distribution.Plane
	learning machinelearningservices.Config
}

// registryImages are those of the plane of registries.
func (s *system) registryImages() (registryImages, error) {
	plane, ok := s.planes[Registry].(*distribution.Plane)
	if !ok {
		return registryImages{}, errors.New("there is no plane of registries")
	}
	return registryImages{plane, s.runner.learning}, nil
}

// Image implements endpoints.Registries.
func (r registryImages) Image(ctx context.Context, reader string, workspace rid.ID, reference string) (*environment.Pulled, error) {
	host, _, _ := strings.Cut(reference, "/")
	host, _, _ = strings.Cut(strings.ToLower(host), ":")
	who := distribution.Puller{ObjectID: reader, Reach: func(ctx context.Context, registry rid.ID, n gate.Network) error {
		way, err := machinelearningservices.WayTo(ctx, r.learning, workspace, registry, registryGroup, host, Registry)
		if err != nil {
			return err
		}
		return reaches(ctx, way, workspace, registry, host, n)
	}}
	o, err := r.plane.Pull(ctx, who, reference)
	if o == nil || err != nil {
		return nil, err
	}
	return &environment.Pulled{Image: o.Image, Name: o.Name, Bytes: o.Bytes, Close: o.Close}, nil
}

const registryGroup = "registry" // the member of a registry that private endpoints lead to

// reaches refuses what the computes of a workspace can't reach, with what would
// let them, and no more of the registry than its name: who asks may have no right
// there.
func reaches(ctx context.Context, way machinelearningservices.Way, workspace, registry rid.ID, host string, n gate.Network) error {
	rule := fmt.Sprintf("az ml workspace outbound-rule set --workspace-name %s --resource-group %s --rule allow-%s", workspace.Name(), workspace.ResourceGroup(), strings.ToLower(registry.Name()))
	id := fmt.Sprintf("$(az acr show -n %s --query id -o tsv)", registry.Name())
	private := rule + fmt.Sprintf(" --type private_endpoint --service-resource-id %s --subresource-target %s", id, registryGroup)
	blocked, err := arrives(ctx, way, workspace, n)
	if err != nil {
		return err
	}
	refuse := func(format string, args ...any) error { return apierr.New(apierr.Forbidden, "DENIED", format, args...) }
	switch {
	case blocked != 0 && len(way.Endpoints) > 0:
		return refuse("The workspace's private endpoint %s has no approved connection to the registry. Approve it: az network private-endpoint-connection approve --id CONNECTION, from: az network private-endpoint-connection list --id %s", points(way.Endpoints), id)
	case blocked != 0 && way.Mode == machinelearningservices.Disabled:
		return refuse("The registry's network rules do not let the workspace's computes in, which have no managed network with private endpoints. Let the public network in: az acr update -n %s --public-network-enabled true --default-action Allow", registry.Name())
	case blocked != 0:
		return refuse("The registry's network rules let private endpoints in, and the workspace's managed network has none to it. Add one: %s", private)
	case len(way.Endpoints) == 0 && !way.Out:
		return refuse("No outbound rule of the workspace's managed network has '%s'. Add one: %s --type fqdn --destination %s, or a private endpoint: %s", host, rule, host, private)
	}
	return nil
}

// arrives says what refuses the computes of a workspace at a resource: by every
// private endpoint that they have to it, or without any.
func arrives(ctx context.Context, way machinelearningservices.Way, workspace rid.ID, n gate.Network) (blocked gate.Blocked, err error) {
	a := arrival.Arrival{Local: true, Network: workspace.String()} // whose addresses mean nothing outside of it
	if len(way.Endpoints) == 0 {
		return gate.Judge(ctx, a, n)
	}
	a.Kind = arrival.PrivateEndpoint
	for _, e := range way.Endpoints {
		a.Endpoint = e.String()
		if blocked, err = gate.Judge(ctx, a, n); blocked == 0 || err != nil {
			break
		}
	}
	return blocked, err
}

func points(endpoints []rid.ID) string {
	var names []string
	for _, e := range endpoints {
		names = append(names, e.String())
	}
	return strings.Join(names, " or ")
}
