package endpoints

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/google/uuid"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/providers/machinelearningservices/assets"
	"lazurite.dev/internal/providers/machinelearningservices/router"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
)

// Deployment are the properties of an online deployment.
type Deployment struct {
	ComputeType  string             `json:"endpointComputeType,omitempty"`
	AppInsights  *bool              `json:"appInsightsEnabled,omitempty"`
	Code         *CodeConfiguration `json:"codeConfiguration,omitempty"`
	Collector    json.RawMessage    `json:"dataCollector,omitempty"`
	Description  string             `json:"description,omitempty"`
	Egress       string             `json:"egressPublicNetworkAccess,omitempty"`
	Environment  string             `json:"environmentId,omitempty"`
	Variables    map[string]string  `json:"environmentVariables,omitempty"`
	InstanceType string             `json:"instanceType,omitempty"`
	Liveness     *Probe             `json:"livenessProbe,omitempty"`
	Readiness    *Probe             `json:"readinessProbe,omitempty"`
	Model        string             `json:"model,omitempty"`
	MountPath    string             `json:"modelMountPath,omitempty"`
	Properties   map[string]string  `json:"properties,omitempty"`
	Request      *RequestSettings   `json:"requestSettings,omitempty"`
	Scale        *ScaleSettings     `json:"scaleSettings,omitempty"`

	// Computed, of a deployment whose number of instances follows its load.
	Current    *int `json:"currentInstances,omitempty"`
	ScaledZero bool `json:"scaledToZero,omitempty"`
}

type deployment = arm.Resource[Deployment]

// CodeConfiguration says which script scores.
type CodeConfiguration struct {
	CodeID string `json:"codeId,omitempty"`
	Script string `json:"scoringScript,omitempty"`
}

// Probe says how a container is asked whether it is well; durations are ISO 8601.
type Probe struct {
	Failure int    `json:"failureThreshold,omitempty"`
	Initial string `json:"initialDelay,omitempty"`
	Period  string `json:"period,omitempty"`
	Success int    `json:"successThreshold,omitempty"`
	Timeout string `json:"timeout,omitempty"`
}

// RequestSettings bound requests; durations are ISO 8601.
type RequestSettings struct {
	Concurrent int    `json:"maxConcurrentRequestsPerInstance,omitempty"`
	QueueWait  string `json:"maxQueueWait,omitempty"`
	Timeout    string `json:"requestTimeout,omitempty"`
}

// ScaleSettings say how the number of instances is chosen.
type ScaleSettings struct {
	Type    string `json:"scaleType,omitempty"` // Default or TargetUtilization
	Min     *int   `json:"minInstances,omitempty"`
	Max     *int   `json:"maxInstances,omitempty"`
	Polling string `json:"pollingInterval,omitempty"`
	Target  *int   `json:"targetUtilizationPercentage,omitempty"`
}

// What a deployment keeps in Private, beside uidKey.
const (
	rolledKey = "rolled"   // "true": it was rolled out once
	buildKey  = "buildlog" // of its environment
	faultKey  = "failure"  // why the last rollout came to nothing
)

// Azure's bounds. Source: "CLI (v2) managed online deployment YAML schema".
const (
	maxTimeout    = 180 * time.Second
	maxConcurrent = 1000
	maxQueueWait  = 180 * time.Second
)

// completeDeployment gives next its defaults.
func (s *Service) completeDeployment(ctx context.Context, old, next *deployment) error {
	n := &next.Properties
	if next.Extra["kind"] == nil {
		next.Extra["kind"] = json.RawMessage(`"Managed"`)
	}
	if old == nil {
		next.Private[uidKey] = uuid.NewString()
	} else if next.Extra["sku"] == nil {
		next.Extra["sku"] = old.Extra["sku"]
	}
	parent, err := s.res.Get(ctx, next.ID.Parent())
	if err != nil {
		return err
	}
	if next.Location == "" {
		next.Location = parent.Location
	}
	if next.Location != parent.Location {
		return bad("location", "The deployment's location '%s' is another than its endpoint's, '%s'.", next.Location, parent.Location)
	}
	for _, d := range []struct {
		to *string
		v  string
	}{{&n.ComputeType, "Managed"}, {&n.InstanceType, defaultInstance}, {&n.Egress, "Enabled"}} {
		if *d.to == "" {
			*d.to = d.v
		}
	}
	if t, ok := instanceType(n.InstanceType); ok {
		n.InstanceType = t.Name
	}
	if n.AppInsights == nil {
		n.AppInsights = new(bool)
	}
	if n.Request == nil {
		n.Request = &RequestSettings{}
	}
	n.Request.complete()
	for _, p := range []**Probe{&n.Liveness, &n.Readiness} {
		if *p == nil {
			*p = &Probe{}
		}
		(*p).complete()
	}
	if n.Scale == nil || n.Scale.Type == "" {
		n.Scale = &ScaleSettings{Type: scaleDefault}
	}
	if strings.EqualFold(n.Scale.Type, scaleTarget) {
		n.Scale.complete()
	}
	return completeSKU(next)
}

func (r *RequestSettings) complete() {
	if r.Concurrent == 0 {
		r.Concurrent = 1
	}
	if r.QueueWait == "" {
		r.QueueWait = "PT0.5S"
	}
	if r.Timeout == "" {
		r.Timeout = "PT5S"
	}
}

func (p *Probe) complete() {
	for _, d := range []struct {
		to *string
		v  string
	}{{&p.Initial, "PT10S"}, {&p.Period, "PT10S"}, {&p.Timeout, "PT2S"}} {
		if *d.to == "" {
			*d.to = d.v
		}
	}
	if p.Success == 0 {
		p.Success = 1
	}
	if p.Failure == 0 {
		p.Failure = 30
	}
}

// sku is a deployment's: its capacity is the number of instances.
type sku struct {
	Name     string `json:"name"`
	Tier     string `json:"tier,omitempty"`
	Capacity *int   `json:"capacity"`
}

func skuOf(r *deployment) (sku, error) {
	var k sku
	if raw := r.Extra["sku"]; len(raw) > 0 {
		if err := json.Unmarshal(raw, &k); err != nil {
			return k, bad("sku", "The sku is malformed: it is such as {\"name\":\"Default\",\"capacity\":1}.")
		}
	}
	return k, nil
}

func completeSKU(next *deployment) error {
	k, err := skuOf(next)
	if err != nil {
		return err
	}
	if k.Name == "" {
		k.Name = "Default"
	}
	if k.Capacity == nil {
		one := 1
		k.Capacity = &one
	}
	next.Extra["sku"], err = json.Marshal(k)
	return err
}

// instances is how many a deployment should have.
func instances(r *deployment) int {
	k, err := skuOf(r)
	if err != nil || k.Capacity == nil {
		return 1
	}
	return *k.Capacity
}

// validateDeployment refuses what Azure refuses, and what would promise a
// protection that is not there.
func (s *Service) validateDeployment(ctx context.Context, old, next *deployment) error {
	w, err := s.Assets.Workspace(ctx, next.ID.Parent().Parent())
	if err != nil {
		return err
	}
	if err := s.ready(ctx, next.ID.Parent()); err != nil {
		return err
	}
	n := &next.Properties
	k, err := skuOf(next)
	if err != nil {
		return err
	}
	if err := checkKind(next.Extra["kind"]); err != nil {
		return err
	}
	switch {
	case w.Legacy:
		return apierr.New(apierr.BadRequest, "BadRequest", "The workspace '%s' is in legacy mode (v1LegacyMode is true), in which nothing is deployed to managed online endpoints.", w.ID.Name())
	case !strings.EqualFold(n.ComputeType, "Managed"):
		return bad("properties.endpointComputeType", "The endpointComputeType '%s' is not supported: deployments are 'Managed'.", n.ComputeType)
	case !strings.EqualFold(k.Name, "Default"):
		return bad("sku.name", "The sku '%s' is invalid: the only one is 'Default'.", k.Name)
	case *k.Capacity < 1:
		return bad("sku.capacity", "The number of instances is %d; a deployment has at least one.", *k.Capacity)
	case *k.Capacity > maxInstances:
		return outOfQuota("A deployment has at most %d instances, not %d.", maxInstances, *k.Capacity)
	}
	if _, ok := instanceType(n.InstanceType); !ok {
		return bad("properties.instanceType", "The instanceType '%s' is unknown. Known are: %s.", n.InstanceType, typeNames())
	}
	if err := n.check(); err != nil {
		return err
	}
	if err := n.checkEgress(old, w); err != nil {
		return err
	}
	if old == nil {
		if err := s.roomForDeployment(ctx, next); err != nil {
			return err
		}
	}
	if err := s.checkAssets(ctx, w, next); err != nil {
		return err
	}
	return s.available(ctx)
}

// available refuses where nothing can run.
func (s *Service) available(ctx context.Context) error {
	if s.Runner == nil {
		return apierr.New(apierr.Conflict, "OperationNotAllowed", "This server runs no online deployments: it has no compute.")
	}
	err := s.Runner.Available(ctx)
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*apierr.Error](err); ok {
		return e
	}
	return apierr.New(apierr.Conflict, "OperationNotAllowed", "This machine can't run online deployments: %v", err)
}

func typeNames() string {
	var list []string
	for _, t := range instanceTypes() {
		list = append(list, t.Name)
	}
	return strings.Join(list, ", ")
}

// ready refuses a deployment of an endpoint that is being made or goes away.
func (s *Service) ready(ctx context.Context, id rid.ID) error {
	e, err := s.res.Get(ctx, id)
	if err != nil {
		return err
	}
	switch st := e.State(); st {
	case "Succeeded", "Updating":
		return nil
	default:
		return apierr.New(apierr.Conflict, "ResourceNotReady", "The endpoint '%s' is in the state %s, in which nothing can be deployed to it.", id.Name(), st)
	}
}

// roomForDeployment keeps the limits of deployments.
func (s *Service) roomForDeployment(ctx context.Context, next *deployment) error {
	there, err := s.res.List(ctx, next.ID.Parent(), DeploymentType, "", maxOfEndpoint)
	if err != nil {
		return err
	}
	if len(there) >= maxOfEndpoint {
		return outOfQuota("The endpoint has %d deployments, and may have no more.", len(there))
	}
	if !s.AzureLike {
		return nil
	}
	n, err := s.count(ctx, DeploymentType, &endpoint{ID: next.ID, Location: next.Location})
	if err == nil && n >= maxDeployments {
		err = outOfQuota("The subscription has %d deployments in the region '%s', and may have no more.", n, next.Location)
	}
	return err
}

// deploymentState is Scaling where a PUT changes the number of instances alone.
func deploymentState(old, next *deployment) string {
	if old == nil || instances(old) == instances(next) {
		return ""
	}
	a, err := json.Marshal(old.Properties)
	b, err2 := json.Marshal(next.Properties)
	if err != nil || err2 != nil || string(a) != string(b) {
		return ""
	}
	return "Scaling"
}

// deletable refuses to delete a deployment that has traffic.
func (s *Service) deletable(ctx context.Context, old *deployment) error {
	traffic, mirror, err := s.share(ctx, old.ID)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	name, of := old.ID.Name(), old.ID.Parent().Name()
	switch {
	case traffic > 0:
		return apierr.New(apierr.Conflict, "BadRequest", "The deployment '%s' has %d percent of the traffic of the endpoint '%s', and can be deleted when it has 0: az ml online-endpoint update --name %s --traffic \"%s=0 …\"", name, traffic, of, of, name)
	case mirror > 0:
		return apierr.New(apierr.Conflict, "BadRequest", "%d percent of the traffic of the endpoint '%s' is mirrored to the deployment '%s': it can be deleted when none is.", mirror, of, name)
	}
	return nil
}

// routed is the deployment for the data plane.
func (n *Deployment) routed(r *deployment) *router.Deployment {
	d := &router.Deployment{
		ID: r.ID, Name: r.ID.Name(), UID: r.Private[uidKey], Ready: r.Private[rolledKey] == "true", Instances: instances(r), ScoringPath: r.Private[pathKey],
	}
	d.Insights = n.AppInsights != nil && *n.AppInsights
	if d.ScoringPath == "" {
		d.ScoringPath = "/score"
	}
	if c := n.Scale; c != nil && c.Max != nil {
		d.Instances, d.ToZero = *c.Max, c.toZero() && d.Ready // as many as there may be
	}
	if n.Request != nil {
		d.MaxConcurrent = n.Request.Concurrent
		d.QueueWait, _ = ParseDuration(n.Request.QueueWait) // they were checked before they were stored
		d.QueueWait = max(d.QueueWait, 1)                   // none is not the default
		d.Timeout, _ = ParseDuration(n.Request.Timeout)
	}
	return d
}

// skus is GET …/deployments/{d}/skus. Source: "Online Deployments - List Skus".
func (s *Service) skus(ctx context.Context, r *arm.Request) (*arm.Response, error) {
	id, err := rid.Parse("/subscriptions/" + r.Params["subscriptionId"] + "/resourceGroups/" + r.Params["resourceGroupName"] + "/providers/" +
		assets.WorkspaceType + "/" + r.Params["workspaceName"] + "/onlineEndpoints/" + r.Params["endpointName"] + "/deployments/" + r.Params["deploymentName"])
	if err != nil {
		return nil, bad("", "The path is no resource id: %v.", err)
	}
	if err := arm.Authorise(ctx, DeploymentType+"/skus/read", id); err != nil {
		return nil, err
	}
	if _, err := s.res.Get(ctx, id); errors.Is(err, store.ErrNotFound) {
		return nil, apierr.New(apierr.NotFound, "ResourceNotFound", "The deployment '%s' could not be found.", id)
	} else if err != nil {
		return nil, err
	}
	return &arm.Response{Body: map[string]any{"value": []any{map[string]any{
		"resourceType": DeploymentType, "sku": map[string]any{"name": "Default", "tier": "Standard"},
		"capacity": map[string]any{"minimum": 1, "maximum": maxInstances, "default": 1, "scaleType": "Manual"},
	}}}}, nil
}
