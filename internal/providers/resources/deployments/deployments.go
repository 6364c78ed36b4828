// Package deployments is Microsoft.Resources/deployments: templates that are
// deployed to a resource group or to the subscription. Every resource of a
// template is an ordinary request through the management plane, as the caller.
//
// Source: the REST API reference of Deployments and Deployment Operations.
package deployments

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/seal"
	"lazurite.dev/internal/store"
	"lazurite.dev/internal/template"
	"lazurite.dev/internal/web"
)

const namespace = "Microsoft.Resources"

// Config is what the service is made of.
type Config struct {
	Store    store.Store
	Seal     *seal.Keyring // of templates and parameters, which may hold secrets
	TenantID string
	Versions []string       // api-versions, newest first
	Cloud    map[string]any // what environment() gives
}

// Service deploys templates.
type Service struct {
	cfg   Config
	res   arm.Resources
	plane atomic.Pointer[arm.Handler]
}

// New makes the service; Attach must follow before a request does.
func New(cfg Config) *Service { return &Service{cfg: cfg, res: arm.Resources{Store: cfg.Store}} }

// Attach says which management plane resources are made through.
func (s *Service) Attach(h *arm.Handler) { s.plane.Store(h) }

// Routes are the types.
func (s *Service) Routes() []arm.Route {
	return []arm.Route{
		arm.Serve(namespace, arm.Kind[properties]{
			Type: "deployments", APIVersions: s.cfg.Versions, Scopes: arm.ResourceGroup | arm.Subscription, Async: true, Cancels: true, NoPatch: true, Busy: "Running", Own: true, Body: template.Relaxed,
			Name: checkName, Validate: s.accept, Put: s.deploy, Failed: s.failed, Delete: s.forget, List: s.filter,
			Actions: map[string]arm.Action[properties]{"cancel": s.cancel, "exportTemplate": s.export},
			Unmade:  map[string]arm.Action[properties]{"validate": s.validate, "whatIf": s.whatIf},
		}),
		arm.Serve(namespace, arm.Kind[operation]{
			Type: "deployments/operations", APIVersions: s.cfg.Versions, Scopes: arm.ResourceGroup | arm.Subscription, NoPut: true, NoPatch: true, NoState: true,
			Get: s.getOperation, ListAt: s.listOperations,
		}),
	}
}

// properties of a deployment: what is sent, and then what is shown.
type properties struct {
	Template       json.RawMessage `json:"template,omitempty"`
	TemplateLink   json.RawMessage `json:"templateLink,omitempty"`
	Parameters     json.RawMessage `json:"parameters,omitempty"`
	ParametersLink json.RawMessage `json:"parametersLink,omitempty"`
	Mode           string          `json:"mode,omitempty"`
	Debug          *struct {
		DetailLevel string `json:"detailLevel,omitempty"`
	} `json:"debugSetting,omitempty"`
	OnError         json.RawMessage `json:"onErrorDeployment,omitempty"`
	Evaluation      json.RawMessage `json:"expressionEvaluationOptions,omitempty"`
	ValidationLevel string          `json:"validationLevel,omitempty"`
	WhatIfSettings  json.RawMessage `json:"whatIfSettings,omitempty"`

	State           string         `json:"provisioningState,omitempty"`
	Hash            string         `json:"templateHash,omitempty"`
	Correlation     string         `json:"correlationId,omitempty"`
	Timestamp       *time.Time     `json:"timestamp,omitempty"`
	Duration        string         `json:"duration,omitempty"`
	Outputs         map[string]any `json:"outputs,omitempty"`
	OutputResources []idOf         `json:"outputResources,omitempty"`
	Providers       []any          `json:"providers,omitempty"`
	Dependencies    []any          `json:"dependencies,omitempty"`
	Error           map[string]any `json:"error,omitempty"`
}

type idOf struct {
	ID string `json:"id"`
}

func checkName(name string) error {
	bad := len(name) > 64 || strings.HasSuffix(name, ".")
	for _, r := range name {
		bad = bad || r > 0x7f || !strings.ContainsRune("-_.()", r) && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	}
	if bad {
		return apierr.New(apierr.BadRequest, "InvalidDeploymentName",
			"The provided deployment name '%s' is not valid. It has at most 64 letters, digits, '-', '_', '.', '(' and ')', and does not end in '.'.", name)
	}
	return nil
}

// order is a deployment that was asked for, bound and planned.
type order struct {
	id      rid.ID
	d       *template.Deployment
	plan    *template.Plan
	mode    string // Incremental or Complete
	hash    string
	level   string   // of validation
	secrets []string // longest first: one may be in another
	outer   *order   // of which it is a nested deployment, while it is looked at
}

// run is an order as it is kept, sealed, until the deployment is gone: to go on
// after a restart, and for exportTemplate.
type run struct {
	Input template.Input `json:"input"`
	Mode  string         `json:"mode"`
}

type outerKey struct{}

// withOuter carries the deployment whose scope a nested template sees.
func withOuter(ctx context.Context, d *template.Deployment) context.Context {
	return context.WithValue(ctx, outerKey{}, d)
}

func longestFirst(list []string) []string {
	slices.SortFunc(list, func(a, b string) int { return len(b) - len(a) })
	return list
}

func bad(code, format string, args ...any) error {
	return apierr.New(apierr.BadRequest, code, format, args...)
}

// order reads what a PUT, validate or whatIf asks for.
func (s *Service) order(ctx context.Context, id rid.ID, location string, p *properties) (*order, error) {
	switch {
	case p.TemplateLink != nil || p.ParametersLink != nil:
		return nil, bad("TemplateLinkNotSupported", "'templateLink' and 'parametersLink' are not supported: nothing is fetched from elsewhere. Send the template itself, in 'template'.")
	case p.OnError != nil && string(p.OnError) != "null":
		return nil, bad("OnErrorDeploymentNotSupported", "'onErrorDeployment' is not supported: deploy the earlier template again.")
	case p.Debug != nil && p.Debug.DetailLevel != "" && !strings.EqualFold(p.Debug.DetailLevel, "none"):
		return nil, bad("DebugSettingNotSupported", "'debugSetting' is not supported: nothing of requests and answers is kept.")
	case p.ValidationLevel != "" && !strings.EqualFold(p.ValidationLevel, "Template") && !strings.EqualFold(p.ValidationLevel, "Provider"):
		return nil, bad("InvalidDeployment", "The 'validationLevel' '%s' is not supported; expected is 'Template' or 'Provider'.", p.ValidationLevel)
	case len(p.Template) == 0 || string(p.Template) == "null":
		return nil, bad("InvalidDeployment", "The 'template' property of the deployment is missing.")
	}
	o := &order{id: id, level: p.ValidationLevel}
	switch strings.ToLower(p.Mode) {
	case "incremental":
		o.mode = "Incremental"
	case "complete":
		if o.mode = "Complete"; id.ResourceGroup() == "" {
			return nil, bad("InvalidDeployment", "A deployment to a subscription can't have the mode 'Complete'.")
		}
	default:
		return nil, bad("InvalidDeployment", "The deployment's 'mode' is '%s'; expected is 'Incremental' or 'Complete'.", p.Mode)
	}
	env, err := s.env(ctx, id, location)
	if err != nil {
		return nil, err
	}
	var params map[string]any
	if len(p.Parameters) > 0 {
		v, err := template.Decode(p.Parameters)
		m, ok := v.(map[string]any)
		if err != nil || !ok && v != nil {
			return nil, bad("InvalidDeployment", "The deployment's 'parameters' must be an object of names and {\"value\": …}.")
		}
		params = m
	}
	outer, _ := ctx.Value(outerKey{}).(*template.Deployment)
	if o.d, err = template.Bind(p.Template, params, env, outer); err != nil {
		return nil, err
	}
	if o.plan, err = o.d.Plan(); err != nil {
		return nil, err
	}
	if o.hash, err = hash(p.Template); err != nil {
		return nil, err
	}
	o.secrets = longestFirst(o.d.Secrets())
	return o, nil
}

// env is the place that a deployment goes to.
func (s *Service) env(ctx context.Context, id rid.ID, location string) (template.Env, error) {
	env := template.Env{
		TenantID: s.cfg.TenantID, SubscriptionID: id.Subscription(), Name: id.Name(), Location: location, Cloud: s.cfg.Cloud, Now: time.Now().UTC(),
	}
	for range 16 {
		env.Seeds = append(env.Seeds, uuid.NewString())
	}
	if c := arm.Caller(ctx); c != nil {
		env.Caller = map[string]string{"objectId": c.ObjectID, "userPrincipalName": c.UPN}
	}
	sub, err := s.res.Get(ctx, rid.MustParse("/subscriptions/"+id.Subscription()))
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return env, err
	}
	if err == nil {
		env.SubscriptionID = sub.Name
		env.SubscriptionName, _ = sub.Properties["displayName"].(string)
	}
	if g, ok := id.Group(); ok {
		e, err := s.res.Get(ctx, g)
		switch {
		case errors.Is(err, store.ErrNotFound): // of a preview: it is still to be made
			env.Group = &template.Group{Name: g.Name()}
		case err != nil:
			return env, err
		default:
			env.Group = &template.Group{Name: e.Name, Location: e.Location, Tags: e.Tags}
		}
	} else if location == "" {
		return env, bad("LocationRequired", "The 'location' property must be specified for the deployment '%s' to a subscription.", id.Name())
	}
	return env, nil
}

// accept checks a PUT, and puts a sealed run in the place of what it sent.
func (s *Service) accept(ctx context.Context, old, next *arm.Resource[properties]) error {
	if old != nil && !strings.EqualFold(old.Location, next.Location) {
		return apierr.New(apierr.Conflict, "InvalidDeploymentLocation",
			"Invalid deployment location '%s'. The deployment '%s' already exists in location '%s'.", next.Location, next.ID.Name(), old.Location)
	}
	for _, k := range []string{"identity", "sku", "kind", "plan"} {
		if _, ok := next.Extra[k]; ok {
			return bad("InvalidDeployment", "A deployment has no '%s'.", k)
		}
	}
	o, err := s.order(ctx, next.ID, next.Location, &next.Properties)
	if err != nil {
		return err
	}
	if err := s.preflight(ctx, o); err != nil {
		return err
	}
	if old == nil { // only for one that begins
		if err := s.makeRoom(ctx, next.ID); err != nil {
			return err
		}
	}
	ref, err := s.keep(ctx, o)
	if err != nil {
		return err
	}
	now := time.Now().UTC()
	next.Private["run"] = ref
	next.Properties = o.shown(web.CorrelationID(ctx), now)
	return nil
}

// shown is a deployment that has just begun.
func (o *order) shown(correlation string, now time.Time) properties {
	params, err := json.Marshal(o.d.ShownParameters())
	if err != nil {
		params = nil
	}
	return properties{
		Mode: o.mode, Hash: o.hash, Correlation: correlation, Timestamp: &now, Duration: "PT0S", Parameters: params,
		Providers: o.providers(), Dependencies: o.dependencies(),
	}
}

func runKey(ref string) string { return "deployment-run/" + ref }

// keep seals the order and gives the name that it is kept under.
func (s *Service) keep(ctx context.Context, o *order) (string, error) {
	b, err := json.Marshal(run{Input: o.d.Input(), Mode: o.mode})
	if err != nil {
		return "", fmt.Errorf("encode deployment: %w", err)
	}
	ref := uuid.NewString()
	sealed, err := s.cfg.Seal.Seal(ctx, sealScope(o.id), b, []byte(runKey(ref)))
	if err != nil {
		return "", err
	}
	_, err = s.cfg.Store.Put(ctx, store.Doc{Key: runKey(ref), Kind: "deployment-run", Value: sealed})
	return ref, err
}

func sealScope(id rid.ID) string { return "deployments/" + strings.ToLower(id.Subscription()) }

// kept reads what keep wrote.
func (s *Service) kept(ctx context.Context, id rid.ID, ref string) (*run, error) {
	doc, err := s.cfg.Store.Get(ctx, runKey(ref))
	if err != nil {
		return nil, fmt.Errorf("read deployment: %w", err)
	}
	b, err := s.cfg.Seal.Open(ctx, sealScope(id), doc.Value, []byte(runKey(ref)))
	if err != nil {
		return nil, err
	}
	r := &run{}
	if err := json.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("decode deployment: %w", err)
	}
	return r, nil
}

// reopen is the order of a run that was kept.
func (s *Service) reopen(ctx context.Context, id rid.ID, ref string) (*order, error) {
	r, err := s.kept(ctx, id, ref)
	if err != nil {
		return nil, err
	}
	o := &order{id: id, mode: r.Mode}
	if o.d, err = template.Open(r.Input); err != nil {
		return nil, err
	}
	o.secrets = longestFirst(o.d.Secrets())
	o.plan, err = o.d.Plan()
	return o, err
}

// providers are the namespaces and types that the template uses, as Azure lists them.
func (o *order) providers() []any {
	types := map[string]map[string]bool{}
	var order []string
	for _, r := range o.plan.Resources {
		ns, typ, _ := strings.Cut(r.Type, "/")
		if types[ns] == nil {
			types[ns], order = map[string]bool{}, append(order, ns)
		}
		types[ns][typ] = true
	}
	out := []any{}
	for _, ns := range order {
		var list []any
		for _, typ := range sorted(types[ns]) {
			list = append(list, map[string]any{"resourceType": typ, "locations": []any{nil}})
		}
		out = append(out, map[string]any{"namespace": ns, "resourceTypes": list})
	}
	return out
}

// dependencies are the edges of the plan.
func (o *order) dependencies() []any {
	wire := func(r *template.Resource) map[string]any {
		return map[string]any{"id": r.ID, "resourceType": r.Type, "resourceName": r.Name}
	}
	out := []any{}
	for _, r := range o.plan.Resources {
		if len(r.DependsOn) == 0 || r.Skipped {
			continue
		}
		m := wire(r)
		var on []any
		for _, i := range r.DependsOn {
			on = append(on, wire(o.plan.Resources[i]))
		}
		m["dependsOn"] = on
		out = append(out, m)
	}
	return out
}

func (s *Service) filter(_ context.Context, filter string) (func(*arm.Resource[properties]) (bool, error), error) {
	return arm.FilterBy(filter, func(r *arm.Resource[properties]) map[string]string {
		return map[string]string{"provisioningState": r.Properties.State, "name": r.ID.Name()}
	})
}

func (s *Service) cancel(ctx context.Context, r *arm.Resource[properties], _ json.RawMessage) (any, error) {
	if err := s.plane.Load().Cancel(ctx, r.ID, "DeploymentCanceled", "The deployment was canceled."); err != nil {
		if e := apierr.From(err); e.Kind == apierr.Conflict {
			e.Code = "DeploymentCannotBeCancelled"
		}
		return nil, err
	}
	return &arm.Response{Status: http.StatusNoContent}, s.cancelNested(ctx, r.ID, r.Private["run"])
}

// cancelNested cancels the nested deployments of one that was canceled.
func (s *Service) cancelNested(ctx context.Context, id rid.ID, ref string) error {
	o, err := s.reopen(ctx, id, ref)
	if err != nil {
		return err
	}
	for _, r := range o.plan.Resources {
		if r.Nested == nil {
			continue
		}
		e, err := s.res.Get(ctx, rid.MustParse(r.ID))
		if errors.Is(err, store.ErrNotFound) {
			continue
		} else if err != nil {
			return err
		}
		err = s.plane.Load().Cancel(ctx, e.RID(), "DeploymentCanceled", "The deployment that it is part of was canceled.")
		if apierr.Is(err, apierr.Conflict) {
			continue // it is not going on
		} else if err != nil {
			return err
		}
		if err := s.cancelNested(ctx, e.RID(), e.Private["run"]); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) export(ctx context.Context, r *arm.Resource[properties], _ json.RawMessage) (any, error) {
	kept, err := s.kept(ctx, r.ID, r.Private["run"])
	if err != nil {
		return nil, err
	}
	return map[string]any{"template": kept.Input.Template}, nil
}
