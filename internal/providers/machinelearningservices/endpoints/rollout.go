package endpoints

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/compute"
	"lazurite.dev/internal/environment"
	"lazurite.dev/internal/ops"
	"lazurite.dev/internal/providers/machinelearningservices/assets"
)

// Where a container finds its files. Source: "Deploy machine learning models to
// online endpoints", and the inference server's settings.
const (
	appRoot    = "/var/azureml-app"
	modelsRoot = appRoot + "/azureml-models"

	pathKey = "scoring" // in Private: the path of the scoring route

	maxKeptLog = 32 << 10
)

// parts are what a deployment is made of, found.
type parts struct {
	code, model       *assets.Location
	modelName         string // with its version: "my-model/1"
	mlflow            bool
	environment       environment.Environment
	environmentBuild  *assets.Build
	environmentServes bool // it brings its own server
}

// checkAssets refuses a deployment whose assets are not there, or that has
// nothing to run.
func (s *Service) checkAssets(ctx context.Context, w *assets.Workspace, next *deployment) error {
	if err := s.pin(ctx, w, &next.Properties); err != nil {
		return err
	}
	p, err := s.parts(ctx, w, next)
	if err != nil {
		return err
	}
	if next.Properties.Code == nil && !p.mlflow && !p.environmentServes {
		return bad("properties.codeConfiguration", "The codeConfiguration is missing: only a model of MLflow, or an environment with an inferenceConfig, is deployed without a scoring script.")
	}
	return nil
}

// pin writes the version in place of a label, so that what runs changes with
// the deployment alone. Labels of registries stay: the configuration has an image for them.
func (s *Service) pin(ctx context.Context, w *assets.Workspace, n *Deployment) error {
	named := map[string]*string{assets.Models: &n.Model, assets.Environments: &n.Environment}
	if n.Code != nil {
		named[assets.Codes] = &n.Code.CodeID
	}
	for typ, text := range named {
		ref, err := assets.ParseReference(*text)
		if err != nil || ref.Label == "" || ref.Registry != "" {
			continue // what is malformed is refused where it is used
		}
		found, err := s.Assets.Find(ctx, w.ID, typ, ref)
		if err != nil {
			return err
		}
		*text = found.ID.String()
	}
	return nil
}

// parts finds what a deployment refers to.
func (s *Service) parts(ctx context.Context, w *assets.Workspace, r *deployment) (*parts, error) {
	p, n := &parts{}, &r.Properties
	if c := n.Code; c != nil {
		found, err := s.asset(ctx, w, assets.Codes, "properties.codeConfiguration.codeId", c.CodeID)
		if err != nil {
			return nil, err
		}
		if p.code, err = s.files(ctx, w, found.Properties.CodeURI); err != nil {
			return nil, err
		}
	}
	if n.Model != "" {
		if err := s.model(ctx, w, n.Model, p); err != nil {
			return nil, err
		}
	}
	return p, s.environment(ctx, w, n, p)
}

func (s *Service) files(ctx context.Context, w *assets.Workspace, uri string) (*assets.Location, error) {
	l, err := s.Assets.Locate(ctx, w.ID, uri)
	return &l, err
}

// asset finds the version that a property names.
func (s *Service) asset(ctx context.Context, w *assets.Workspace, typ, property, text string) (*assets.Found, error) {
	ref, err := assets.ParseReference(text)
	if err == nil && (ref.URI != "" || ref.Registry != "") {
		err = errors.New("it names no asset of the workspace")
	}
	if err != nil {
		return nil, bad(property, "The reference '%s' is invalid: %v.", text, err)
	}
	return s.Assets.Find(ctx, w.ID, typ, ref)
}

func (s *Service) model(ctx context.Context, w *assets.Workspace, text string, p *parts) error {
	const at = "properties.model"
	ref, err := assets.ParseReference(text)
	switch {
	case err != nil:
		return bad(at, "The reference '%s' is invalid: %v.", text, err)
	case ref.Registry != "":
		return bad(at, "The model '%s' is in a registry: this cloud has none of models. Register it in the workspace.", text)
	case ref.URI != "":
		p.modelName = "model/1"
		p.model, err = s.files(ctx, w, ref.URI)
		return err
	}
	found, err := s.Assets.Find(ctx, w.ID, assets.Models, ref)
	if err != nil {
		return err
	}
	p.modelName, p.mlflow = found.Name+"/"+found.Version, found.Properties.ModelType == "mlflow_model"
	p.model, err = s.files(ctx, w, found.Properties.ModelURI)
	return err
}

// environment finds out what the deployment asks to run in.
func (s *Service) environment(ctx context.Context, w *assets.Workspace, n *Deployment, p *parts) error {
	const at = "properties.environmentId"
	text := n.Environment
	e := &p.environment
	e.MLflow = p.mlflow && n.Code == nil
	if text == "" {
		if !e.MLflow {
			return bad(at, "The environmentId is missing: only a model of MLflow is deployed without an environment.")
		}
		e.Name = "of " + p.modelName // environment chooses
		return nil
	}
	ref, err := assets.ParseReference(text)
	if err != nil || ref.URI != "" {
		return bad(at, "The reference '%s' is none of an environment.", text)
	}
	if ref.Registry != "" {
		e.Name, e.Curated = ref.Name, text
		return nil
	}
	found, err := s.Assets.Find(ctx, w.ID, assets.Environments, ref)
	if err != nil {
		return err
	}
	v := &found.Properties
	e.Name, e.Image, e.CondaFile = found.Name+":"+found.Version, v.Image, v.CondaFile
	p.environmentBuild = v.Build
	if c := v.Inference; c != nil && c.Scoring != nil {
		p.environmentServes = true
		scoring := environment.Route(*c.Scoring)
		e.Inference = &environment.Routes{Liveness: scoring, Readiness: scoring, Scoring: scoring}
		if c.Liveness != nil {
			e.Inference.Liveness = environment.Route(*c.Liveness)
		}
		if c.Readiness != nil {
			e.Inference.Readiness = environment.Route(*c.Readiness)
		}
	}
	return nil
}

// putDeployment rolls the deployment out. It may be run again.
func (s *Service) putDeployment(ctx context.Context, _, next *deployment) error {
	tell := func(phase string) { ops.Report(ctx, ops.Phase{Name: phase}, 10) }
	spec, err := s.spec(ctx, next)
	if err != nil {
		return err
	}
	tell("the image is " + spec.Image)
	if err := s.started(ctx); err != nil {
		return err
	}
	spec.Instances = s.kept(ctx, next, spec)
	err = s.Runner.Apply(ctx, spec, func(phase string) {
		tell(phase)
		_ = s.current(ctx, next, spec) // asked again at the end
	})
	if err == nil {
		err = s.settle(ctx, next, spec.UID)
	}
	if err != nil {
		return refusal(err)
	}
	next.Private[rolledKey] = "true"
	delete(next.Private, faultKey)
	return nil
}

// kept is how many instances a rollout has: no fewer than there are where their
// number follows the load, which goes on.
func (s *Service) kept(ctx context.Context, r *deployment, spec compute.Deployment) int {
	c := r.Properties.Scale
	if c == nil || c.Type != scaleTarget {
		return spec.Instances
	}
	have, ok, err := s.Runner.Scaled(ctx, spec.UID)
	if err != nil || !ok {
		return spec.Instances
	}
	return c.bound(max(have, spec.Instances))
}

// current gives the deployment the identities that its endpoint has now, where
// they are others than those with which the rollout began.
func (s *Service) current(ctx context.Context, r *deployment, spec compute.Deployment) error {
	parent, err := s.res.Get(ctx, r.ID.Parent())
	if err != nil {
		return err
	}
	list, err := identities(parent.ID, parent.Extra)
	if err != nil || slices.Equal(list, spec.Identities) {
		return err
	}
	return s.Runner.Identify(ctx, spec.UID, list)
}

// settle is current at the end of a rollout: what current has read meanwhile may
// have been taken away before it was given, so that the last word is what the
// endpoint still has once it counts.
func (s *Service) settle(ctx context.Context, r *deployment, uid string) error {
	read := func() ([]string, error) {
		parent, err := s.res.Get(ctx, r.ID.Parent())
		if err != nil {
			return nil, err
		}
		return identities(parent.ID, parent.Extra)
	}
	list, err := read()
	for err == nil {
		if err = s.Runner.Identify(ctx, uid, list); err != nil {
			break
		}
		var now []string
		if now, err = read(); err == nil && slices.Equal(now, list) {
			break
		}
		list = now
	}
	return err
}

// How long a rollout that goes on after a restart waits for what runs it, which
// starts as this program does.
const (
	startLook = time.Second
	startTime = 2 * time.Minute
)

// started waits until deployments can run.
func (s *Service) started(ctx context.Context) error {
	wait, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	tick := time.NewTicker(startLook)
	defer tick.Stop()
	for {
		err := s.available(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-wait.Done():
			return errors.Join(err, ctx.Err())
		}
	}
}

// refusal is a failure of compute for who follows the operation.
func refusal(err error) error {
	f, ok := errors.AsType[*compute.Failure](err)
	if !ok {
		return err
	}
	e := apierr.New(apierr.Conflict, f.Code, "%s", f.Message).WithCause(err)
	if log := strings.TrimSpace(f.Log); log != "" {
		e.Details = []apierr.Error{{Kind: apierr.Conflict, Code: "ContainerLog", Message: tailOf(log, 4<<10)}}
	}
	return e
}

// failed keeps why a rollout came to nothing.
func (s *Service) failed(_ context.Context, r *deployment, err error) error {
	r.Private[faultKey] = tailOf(apierr.From(err).Error(), maxKeptLog)
	return nil
}

func tailOf(text string, n int) string {
	if len(text) > n {
		text = strings.ToValidUTF8(text[len(text)-n:], "")
	}
	return text
}

// spec is the deployment as compute runs it; r learns the build log and the
// path of the scoring route.
func (s *Service) spec(ctx context.Context, r *deployment) (compute.Deployment, error) {
	var d compute.Deployment
	parent, err := s.res.Get(ctx, r.ID.Parent())
	if err != nil {
		return d, err
	}
	w, err := s.Assets.Workspace(ctx, r.ID.Parent().Parent())
	if err != nil {
		return d, err
	}
	p, err := s.parts(ctx, w, r)
	if err != nil {
		return d, err
	}
	image, err := s.image(ctx, w, parent, r, p)
	if err != nil {
		return d, err
	}
	n := &r.Properties
	timeout, _ := ParseDuration(n.Request.Timeout) // checked
	t, _ := instanceType(n.InstanceType)
	d = compute.Deployment{
		UID: endpointUID(r.Private[uidKey]), Name: r.ID.Name(), ID: r.ID, Endpoint: parent.Name, EndpointUID: endpointUID(parent.Private[uidKey]),
		Workspace: w.ID, WorkspaceUID: w.GUID, Location: r.Location, Image: image.Image, Archive: image.Archive,
		Port: image.Routes.Scoring.Port, Routes: compute.Routes{Liveness: compute.Route(image.Routes.Liveness), Readiness: compute.Route(image.Routes.Readiness)},
		Liveness: n.Liveness.probe(), Readiness: n.Readiness.probe(), CPUMillis: t.CPU * 1000, MemoryMiB: int(t.MemoryGiB * 1024), DiskMiB: t.DiskGiB << 10,
		Instances: n.Scale.bound(instances(r)), Concurrent: n.Request.Concurrent, Timeout: timeout,
	}
	if d.Identities, err = identities(parent.ID, parent.Extra); err != nil {
		return d, err
	}
	p.mount(r, &d)
	return d, nil
}

// image finds the image, and keeps the build log.
func (s *Service) image(ctx context.Context, w *assets.Workspace, parent *arm.Envelope, r *deployment, p *parts) (environment.Resolved, error) {
	image, err := s.resolve(ctx, w, parent, r, p)
	if f, ok := errors.AsType[*environment.BuildError](err); ok {
		r.Private[buildKey] = tailOf(f.Log, maxKeptLog)
		code := compute.CodeImage
		switch {
		case f.Full:
			code = compute.CodeQuota
		case f.Bad:
			code = compute.CodeBad
		}
		e := apierr.New(apierr.Conflict, code, "%s", f.Message).WithCause(err)
		if f.Log != "" {
			e.Details = []apierr.Error{{Kind: apierr.Conflict, Code: "BuildLog", Message: tailOf(f.Log, 4<<10)}}
		}
		return image, e
	}
	if e, ok := errors.AsType[*apierr.Error](err); ok && e.Kind != apierr.Internal {
		return image, err
	}
	if err != nil {
		return image, fmt.Errorf("find the image of %s: %w", r.ID, err)
	}
	r.Private[buildKey], r.Private[pathKey] = tailOf(image.Log, maxKeptLog), image.Routes.Scoring.Path
	return image, nil
}

// identities are those of the endpoint, its own first.
func identities(parent string, extra map[string]json.RawMessage) ([]string, error) {
	id, err := arm.IdentityOf(extra)
	if err != nil {
		return nil, err
	}
	var list []string
	for name := range id.UserAssigned {
		list = append(list, name)
	}
	slices.Sort(list)
	if id.PrincipalID != "" {
		list = slices.Insert(list, 0, parent)
	}
	return list, nil
}

// mount says what is downloaded where, and tells the container by its environment.
func (p *parts) mount(r *deployment, d *compute.Deployment) {
	n := &r.Properties
	d.Env = map[string]string{}
	for k, v := range n.Variables {
		d.Env[k] = v
	}
	d.Env["SERVICE_NAME"] = d.Endpoint
	if n.AppInsights != nil && *n.AppInsights {
		d.Env[compute.InsightsVariable] = "true"
	}
	if p.code != nil {
		root := path.Join(appRoot, p.code.Base)
		d.Downloads = append(d.Downloads, compute.Download{URL: p.code.URL, Path: root})
		d.Env["AML_APP_ROOT"], d.Env["AZUREML_ENTRY_SCRIPT"] = root, n.Code.Script
	} else {
		d.Env["AML_APP_ROOT"] = appRoot
	}
	if p.model != nil {
		top := modelsRoot
		if n.MountPath != "" {
			top = n.MountPath
			d.Folders = []string{top}
		}
		dir := path.Join(top, p.modelName)
		d.Downloads = append(d.Downloads, compute.Download{URL: p.model.URL, Path: path.Join(dir, p.model.Base)})
		d.Env["AZUREML_MODEL_DIR"] = dir
	}
}

// deleteDeployment takes away what runs.
func (s *Service) deleteDeployment(ctx context.Context, old *deployment) error {
	if s.Runner == nil || old.Private[uidKey] == "" {
		return nil
	}
	if err := s.Runner.Remove(ctx, endpointUID(old.Private[uidKey])); err != nil {
		return fmt.Errorf("remove what ran for the deployment %s: %w", old.ID, err)
	}
	return nil
}
