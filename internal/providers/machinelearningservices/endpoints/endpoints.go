// Package endpoints is online endpoints and their deployments: names, keys and
// tokens, traffic, and the rollout of what answers, which is an operation that
// goes on after a restart.
//
// An endpoint has one document beside the resource that the pipeline keeps: the
// claim of its name in its region, which also holds its sealed keys. For the
// data plane all of it is in memory: see Catalog.
//
// Source: Microsoft.MachineLearningServices, stable 2024-04-01.
package endpoints

import (
	"context"
	"io"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/compute"
	"lazurite.dev/internal/environment"
	"lazurite.dev/internal/providers/machinelearningservices/assets"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
)

// The types of the resources.
const (
	EndpointType   = assets.WorkspaceType + "/onlineEndpoints"
	DeploymentType = EndpointType + "/deployments"
)

// Sealer seals the keys of endpoints; *seal.Keyring is one.
type Sealer interface {
	Seal(ctx context.Context, scope string, plaintext, aad []byte) ([]byte, error)
	Open(ctx context.Context, scope string, ciphertext, aad []byte) ([]byte, error)
	Destroy(ctx context.Context, scope string) error
}

// Runner runs deployments; *compute.Compute is one.
type Runner interface {
	// Available says why nothing can run on this machine; nil where it can.
	Available(ctx context.Context) error

	// Apply makes the deployment run as it says, and the workspace's cluster
	// where there is none; it returns when all of it answers. A *compute.Failure
	// says why it does not.
	Apply(ctx context.Context, d compute.Deployment, tell func(string)) error

	// Identify makes the identities those whose tokens a deployment gets, at once
	// and no others. One of which nothing runs is no error.
	Identify(ctx context.Context, deploymentUID string, identities []string) error

	// Scaled is how many instances the deployment should have by the last Apply,
	// Scale or Start, which may be none; ok is false where it is not there.
	Scaled(ctx context.Context, deploymentUID string) (instances int, ok bool, err error)

	// Start has a deployment with no instance get one, and returns when one is
	// ready. A *compute.Failure says why none is.
	Start(ctx context.Context, deploymentUID string) error

	// Build runs a build in the computes of a workspace, which it makes where there
	// are none, and writes what it made to out.
	Build(ctx context.Context, b compute.Build, out io.Writer, tell func(string)) (compute.BuildReport, error)

	Remove(ctx context.Context, deploymentUID string) error
	RemoveEndpoint(ctx context.Context, workspaceUID, endpointUID string) error
	Logs(ctx context.Context, deploymentUID, container string, tail int) (string, error)
}

// Images finds the image of an environment; *environment.Catalogue is one.
type Images interface {
	Resolve(ctx context.Context, e environment.Environment) (environment.Resolved, error)
}

// Grants gives roles to the identities of endpoints, and takes them away.
type Grants interface {
	Grant(ctx context.Context, scope rid.ID, role, principal string) error
	Revoke(ctx context.Context, scope rid.ID, role, principal string) error
}

// Config is what Open needs.
type Config struct {
	Store    store.Store
	Sealer   Sealer
	Assets   *assets.Service
	Runner   Runner // nil: nothing runs here
	Images   Images
	Contexts Contexts // nil: environments with build contexts are refused
	Grants   Grants   // nil: no role is given

	Registries Registries // nil: there are none

	// Refused is what the network of a workspace's computes has refused an address
	// since then, with the command that would allow it. nil: that is not known.
	Refused func(workspaceUID string, client netip.Addr, since time.Time) []string

	// URL is where an endpoint answers, "https://HOST" without a slash at the
	// end; label is "{endpoint}.{region}".
	URL func(label string) string

	// Management is where the resource manager answers, without a slash at the end;
	// "" is https://management.azure.com.
	Management string

	// Label is what stands before the suffix of a host name of endpoints, in
	// lower case and without a port.
	Label func(host string) (label string, ok bool)

	AzureLike bool             // keeps Azure's limits of numbers
	Now       func() time.Time // nil means time.Now
}

// Service is what stands behind the provider.
type Service struct {
	Config
	res   arm.Resources
	names *store.Mirror[*claim]
	docs  *store.Mirror[*arm.Envelope]
	cache cache

	granting sync.Mutex // one changes the roles of identities at a time

	flights flights
	work    context.Context // ends with Close
	stop    context.CancelFunc
}

// Open makes a Service that keeps what the data plane asks for in memory.
// Close ends it.
func Open(ctx context.Context, c Config) (*Service, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Management == "" {
		c.Management = "https://management.azure.com"
	}
	s := &Service{Config: c, res: arm.Resources{Store: c.Store}}
	s.work, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	return s, s.follow(ctx)
}

// Routes are the types of endpoints, for the namespace's provider.
func (s *Service) Routes() []arm.Route {
	return []arm.Route{
		arm.Serve(assets.Namespace, arm.Kind[Endpoint]{
			Type: "workspaces/onlineEndpoints", APIVersions: assets.Versions(), Tracked: true, Async: true, Identity: true,
			Name:      checkEndpointName,
			ReadOnly:  []string{"scoringUri", "swaggerUri"},
			WriteOnly: []string{"keys"},
			Default:   s.completeEndpoint,
			Validate:  s.validateEndpoint,
			Put:       s.putEndpoint,
			Delete:    s.deleteEndpoint,
			Read:      s.showEndpoint,
			Actions:   map[string]arm.Action[Endpoint]{"listKeys": s.listKeys, "regenerateKeys": s.regenerateKeys, "token": s.token},
		}),
		arm.Serve(assets.Namespace, arm.Kind[Deployment]{
			Type: "workspaces/onlineEndpoints/deployments", APIVersions: assets.Versions(), Tracked: true, NoLocation: true, Async: true, Cancels: true,
			Name:      checkDeploymentName,
			ReadOnly:  []string{"currentInstances", "scaledToZero"},
			Read:      s.showDeployment,
			Default:   s.completeDeployment,
			Validate:  s.validateDeployment,
			State:     deploymentState,
			Put:       s.putDeployment,
			Failed:    s.failed,
			Deletable: s.deletable, WithParent: true, // as traffic is given by the parent's
			Delete:  s.deleteDeployment,
			Actions: map[string]arm.Action[Deployment]{"getLogs": s.getLogs},
		}),
	}
}

// Endpoints are what is no resource, for the namespace's provider.
func (s *Service) Endpoints() []arm.Endpoint {
	const (
		sub        = "/subscriptions/{subscriptionId}"
		deployment = sub + "/resourceGroups/{resourceGroupName}/providers/" + assets.WorkspaceType + "/{workspaceName}/onlineEndpoints/{endpointName}/deployments/{deploymentName}"
		region     = sub + "/providers/" + assets.Namespace + "/locations/{location}"
	)
	at := func(path, action string, handle func(context.Context, *arm.Request) (*arm.Response, error)) arm.Endpoint {
		return arm.Endpoint{Method: http.MethodGet, Path: path, Action: action, APIVersions: assets.Versions(), Handle: handle}
	}
	return []arm.Endpoint{
		at(deployment+"/skus", "", s.skus), // asks for the right at the deployment by itself
		at(region+"/mfeOperationsStatus/{operation}", "", s.operation),
		at(region+"/vmSizes", assets.Namespace+"/locations/vmSizes/read", vmSizes),
	}
}
