package server

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/compute"
	"lazurite.dev/internal/providers/machinelearningservices"
	"lazurite.dev/internal/providers/operationalinsights"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/web"
)

// machineLearning is the management of Machine Learning workspaces.
func (s *system) machineLearning(ctx context.Context) error {
	var err error
	if s.workspaces, err = machinelearningservices.Open(ctx, s.Store, s.links); err != nil {
		return err
	}
	s.ends(s.workspaces.Close)
	cfg := machinelearningservices.Config{
		Workspaces: s.workspaces, Authorizer: s.policy, TenantID: s.in.Tenant, Assign: s.policy.Assign,
		Regrant: func(ctx context.Context, workspace rid.ID) error { return s.online.Regrant(ctx, workspace) },
		Machine: managed{s.compute}, Storage: s.stores, API: s.Config.workspaceHost,
	}
	s.out.Surfaces[Workspace] = web.Surface{Handler: http.HandlerFunc(discovery), MaxBody: 1 << 10}
	s.runner = runner{s.compute, cfg}
	s.learning = machinelearningservices.New(cfg, s.Config.scoringHost)
	s.worker(func(ctx context.Context) error {
		s.hourly(ctx, func(ctx context.Context) error { return machinelearningservices.Sweep(ctx, cfg) })
		return nil
	})
	return nil
}

// workspaceHost is where the workspaces of a region answer.
func (c *Config) workspaceHost(region string) string { return c.Host(Workspace, region) }

// discovery answers a workspace's discoveryUrl: which services there are. Those
// that Azure has beside management (runs, experiments, notebooks) do not exist here.
func discovery(w http.ResponseWriter, r *http.Request) {
	if path := strings.TrimSuffix(r.URL.Path, "/"); path == "/discovery" && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
		web.WriteJSON(w, http.StatusOK, map[string]string{"api": "https://" + strings.ToLower(r.Host)})
		return
	}
	web.WriteJSON(w, http.StatusNotFound, map[string]any{"error": map[string]string{
		"code": "NotFound", "message": "Workspaces answer GET /discovery here. Everything else about them is asked of management; there are no runs, experiments and notebooks.",
	}})
}

// scoringHost is where "ENDPOINT.REGION" is scored.
func (c *Config) scoringHost(label string) string { return c.Host(Scoring, strings.ToLower(label)) }

// managed makes managed networks on this machine.
type managed struct{ compute *compute.Compute }

// Available implements machinelearningservices.Machine.
func (m managed) Available(ctx context.Context) error { return m.compute.Available(ctx) }

// Network implements machinelearningservices.Machine.
func (m managed) Network(ctx context.Context, ws *machinelearningservices.Workspace) error {
	return m.compute.Network(ctx, compute.Workspace{UID: ws.UID, Name: ws.ID.Name(), Location: ws.Location, ID: ws.ID}, nil)
}

// RemoveNetwork implements machinelearningservices.Machine.
func (m managed) RemoveNetwork(ctx context.Context, uid string) error {
	return m.compute.RemoveNetwork(ctx, uid)
}

// runner runs deployments in the networks of their workspaces.
type runner struct {
	*compute.Compute
	learning machinelearningservices.Config
}

// Apply makes the network that the deployment is to run in, where it is not
// there, before the deployment.
func (r runner) Apply(ctx context.Context, d compute.Deployment, tell func(string)) error {
	if err := r.provision(ctx, d.Workspace); err != nil {
		return err
	}
	return r.Compute.Apply(ctx, d, tell)
}

// Build makes the network that the build is to run in, where it is not there,
// before the build.
func (r runner) Build(ctx context.Context, b compute.Build, out io.Writer, tell func(string)) (compute.BuildReport, error) {
	if err := r.provision(ctx, b.Workspace); err != nil {
		return compute.BuildReport{}, err
	}
	return r.Compute.Build(ctx, b, out, tell)
}

func (r runner) provision(ctx context.Context, workspace rid.ID) error {
	err := machinelearningservices.Provision(ctx, r.learning, workspace)
	if e, ok := errors.AsType[*apierr.Error](err); ok && ctx.Err() == nil {
		return &compute.Failure{Code: e.Code, Message: e.Message} // whoever deploys may see why
	}
	return err
}

// logSinks are the workspaces into which logs are said to go.
func (s *system) logSinks() arm.Provider { return operationalinsights.New(s.keyring) }
