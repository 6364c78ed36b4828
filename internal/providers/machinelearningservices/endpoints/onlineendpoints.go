package endpoints

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"github.com/google/uuid"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/providers/machinelearningservices/assets"
	"lazurite.dev/internal/providers/machinelearningservices/router"
	"lazurite.dev/internal/rid"
)

// Endpoint are the properties of an online endpoint.
type Endpoint struct {
	AuthMode    string            `json:"authMode,omitempty"`
	Compute     string            `json:"compute,omitempty"`
	Description string            `json:"description,omitempty"`
	Keys        *Keys             `json:"keys,omitempty"` // given; never shown
	Properties  map[string]string `json:"properties,omitempty"`
	Public      string            `json:"publicNetworkAccess,omitempty"`
	Traffic     map[string]int    `json:"traffic"`
	Mirror      map[string]int    `json:"mirrorTraffic"`
	ScoringURI  string            `json:"scoringUri,omitempty"` // computed
	SwaggerURI  string            `json:"swaggerUri,omitempty"` // computed
}

type endpoint = arm.Resource[Endpoint]

// What an endpoint keeps in Private.
const (
	uidKey     = "uid"           // of this endpoint, or deployment, alone, for ever
	givenKey   = "keys"          // those that the request gave, sealed, until they are in the claim
	opKey      = "operation"     // the guid in AzureAsyncOperationUri
	granteeKey = "grants"        // of endpoints of before: principal that has the roles of an endpoint's identity
	grantedKey = "grants.scopes" // likewise: where, in JSON: scope → role
)

// nameRule is that of endpoints and deployments. Source: "Manage and increase
// quotas", and the SDK's endpoint schema.
var nameRule = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9]*(-[a-zA-Z0-9]+)*$`)

func checkEndpointName(name string) error   { return checkNameOf("endpoint", name) }
func checkDeploymentName(name string) error { return checkNameOf("deployment", name) }

func checkNameOf(what, name string) error {
	if len(name) < 3 || len(name) > 32 || !nameRule.MatchString(name) {
		return bad("name", "The %s name '%s' is invalid: it must have 3 to 32 letters, digits and single dashes, begin with a letter and not end with a dash.", what, name)
	}
	return nil
}

func bad(target, format string, args ...any) error {
	return apierr.New(apierr.BadRequest, "BadArgument", format, args...).WithTarget(target)
}

func lower(s string) string { return strings.ToLower(s) }

// completeEndpoint gives next its defaults.
func (s *Service) completeEndpoint(ctx context.Context, old, next *endpoint) error {
	n := &next.Properties
	if next.Extra["kind"] == nil {
		next.Extra["kind"] = json.RawMessage(`"Managed"`)
	}
	if old == nil {
		next.Private[uidKey], next.Private[opKey] = uuid.NewString(), uuid.NewString()
	} else if n.AuthMode == "" {
		n.AuthMode = old.Properties.AuthMode
	}
	for _, mode := range []string{router.AuthKey, router.AuthAML, router.AuthAAD} {
		if strings.EqualFold(n.AuthMode, mode) {
			n.AuthMode = mode
		}
	}
	if n.Public == "" {
		n.Public = "Enabled"
	}
	for _, v := range []string{"Enabled", "Disabled"} {
		if strings.EqualFold(n.Public, v) {
			n.Public = v
		}
	}
	w, err := s.Assets.Workspace(ctx, next.ID.Parent())
	if err != nil {
		return err
	}
	props := map[string]string{}
	for k, v := range n.Properties {
		props[k] = v
	}
	props["azureml.onlineendpointid"] = lower(next.ID.String())
	props["AzureAsyncOperationUri"] = s.Management + "/subscriptions/" + next.ID.Subscription() + "/providers/" + assets.Namespace +
		"/locations/" + next.Location + "/mfeOperationsStatus/oe:" + w.GUID + ":" + next.Private[opKey] + "?api-version=2022-02-01-preview"
	n.Properties = props
	label := lower(next.ID.Name()) + "." + next.Location
	n.ScoringURI, n.SwaggerURI = s.URL(label)+"/score", s.URL(label)+"/swagger.json"
	return nil
}

// validateEndpoint refuses what Azure refuses.
func (s *Service) validateEndpoint(ctx context.Context, old, next *endpoint) error {
	w, err := s.Assets.Workspace(ctx, next.ID.Parent())
	if err != nil {
		return err
	}
	n := &next.Properties
	switch {
	case w.Legacy:
		return apierr.New(apierr.BadRequest, "BadRequest",
			"The workspace '%s' is in legacy mode (v1LegacyMode is true), in which it has no managed online endpoints. Turn it off: az ml workspace update -n %s --set v1_legacy_mode=false", w.ID.Name(), w.ID.Name())
	case next.Location != w.Location:
		return bad("location", "The endpoint's location '%s' is another than its workspace's, '%s'.", next.Location, w.Location)
	case n.AuthMode == "":
		return bad("properties.authMode", "The authMode is missing: it is Key, AMLToken or AADToken.")
	case n.AuthMode != router.AuthKey && n.AuthMode != router.AuthAML && n.AuthMode != router.AuthAAD:
		return bad("properties.authMode", "The authMode '%s' is none of Key, AMLToken and AADToken.", n.AuthMode)
	case n.Public != "Enabled" && n.Public != "Disabled":
		return bad("properties.publicNetworkAccess", "The value '%s' of publicNetworkAccess is neither 'Enabled' nor 'Disabled'.", n.Public)
	case n.Compute != "":
		return bad("properties.compute", "The endpoint names the compute '%s': this cloud has managed endpoints, which have none of their own.", n.Compute)
	}
	id, err := arm.IdentityOf(next.Extra)
	if err != nil {
		return err
	}
	if id.Type == "" || strings.EqualFold(id.Type, "None") {
		return bad("identity", "An online endpoint has an identity: SystemAssigned, or UserAssigned.")
	}
	if err := checkKind(next.Extra["kind"]); err != nil {
		return err
	}
	if err := s.checkTraffic(ctx, old, next); err != nil {
		return err
	}
	if err := s.nameFree(ctx, next); err != nil {
		return err
	}
	if old == nil {
		if err := s.roomForEndpoint(ctx, next); err != nil {
			return err
		}
	}
	return s.takeKeys(ctx, old, next)
}

func checkKind(raw json.RawMessage) error {
	if len(raw) == 0 {
		return nil
	}
	var kind string
	if err := json.Unmarshal(raw, &kind); err != nil || kind != "" && !strings.EqualFold(kind, "Managed") {
		return bad("kind", "The kind %s is not supported: endpoints and deployments are 'Managed'.", raw)
	}
	return nil
}

// Azure's limits. Source: "Manage and increase quotas".
const (
	maxEndpoints   = 100 // of a subscription in a region
	maxDeployments = 500 // likewise
	maxOfEndpoint  = 20
	maxInstances   = 50
)

func outOfQuota(format string, args ...any) error {
	return apierr.New(apierr.Conflict, "OutOfQuota", format, args...)
}

// roomForEndpoint keeps the limit of endpoints.
func (s *Service) roomForEndpoint(ctx context.Context, next *endpoint) error {
	if !s.AzureLike {
		return nil
	}
	n, err := s.count(ctx, EndpointType, next)
	if err == nil && n >= maxEndpoints {
		err = outOfQuota("The subscription has %d online endpoints in the region '%s', and may have no more.", n, next.Location)
	}
	return err
}

// count is how many resources of a type the subscription of next has in its region.
func (s *Service) count(ctx context.Context, typ string, next *endpoint) (int, error) {
	n := 0
	for after := ""; ; {
		page, err := s.res.List(ctx, rid.MustParse("/subscriptions/"+next.ID.Subscription()), typ, after, 1000)
		if err != nil {
			return 0, err
		}
		for _, e := range page {
			if e.Location == next.Location {
				n++
			}
		}
		if len(page) < 1000 {
			return n, nil
		}
		after = page[len(page)-1].ID
	}
}

// putEndpoint claims the name, keeps the keys and gives the identity its roles.
func (s *Service) putEndpoint(ctx context.Context, old, next *endpoint) error {
	if err := s.claim(ctx, next); err != nil {
		return err
	}
	delete(next.Private, givenKey)
	if old != nil {
		if err := s.identify(ctx, next); err != nil {
			return err
		}
	}
	return s.grant(ctx, next)
}

// identify gives all deployments of an endpoint the identities that it has
// now: what was taken away from it counts no longer, also for those that never
// answered. What they run is not looked at.
func (s *Service) identify(ctx context.Context, next *endpoint) error {
	list, err := identities(next.ID.String(), next.Extra)
	if err != nil || s.Runner == nil {
		return err
	}
	all, err := s.res.List(ctx, next.ID, DeploymentType, "", 1000)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range all {
		errs = append(errs, s.Runner.Identify(ctx, endpointUID(e.Private[uidKey]), list))
	}
	return errors.Join(errs...)
}

// deleteEndpoint lets go of everything that the endpoint had; its deployments
// have gone before.
func (s *Service) deleteEndpoint(ctx context.Context, old *endpoint) error {
	w, err := s.Assets.Workspace(ctx, old.ID.Parent())
	if err != nil && !apierr.Is(err, apierr.NotFound) {
		return err
	}
	if s.Runner != nil && w != nil {
		if err := s.Runner.RemoveEndpoint(ctx, w.GUID, endpointUID(old.Private[uidKey])); err != nil {
			return fmt.Errorf("remove what ran for the endpoint %s: %w", old.ID, err)
		}
	}
	if err := s.revoke(ctx, old); err != nil {
		return err
	}
	if err := s.release(ctx, old); err != nil {
		return err
	}
	return s.Sealer.Destroy(ctx, sealScope(old.Private[uidKey]))
}

// showEndpoint hides what is for the service alone.
func (s *Service) showEndpoint(_ context.Context, r *endpoint) error {
	r.Properties.Keys = nil
	return nil
}

// operation is GET …/mfeOperationsStatus/oe:WORKSPACE:GUID, the address in an
// endpoint's AzureAsyncOperationUri.
func (s *Service) operation(ctx context.Context, r *arm.Request) (*arm.Response, error) {
	none := apierr.New(apierr.NotFound, "OperationNotFound", "The operation '%s' could not be found.", r.Params["operation"])
	parts := strings.Split(r.Params["operation"], ":")
	if len(parts) != 3 || parts[0] != "oe" {
		return nil, none
	}
	var found *arm.Envelope
	s.docs.Range(func(_ string, e *arm.Envelope) bool {
		if e.Private[opKey] == parts[2] && strings.EqualFold(e.RID().Subscription(), r.Params["subscriptionId"]) {
			found = e
		}
		return found == nil
	})
	if found == nil {
		return nil, none
	}
	if err := arm.Authorise(ctx, EndpointType+"/read", found.RID()); err != nil {
		return nil, err
	}
	status := found.State()
	if status != "Succeeded" && status != "Failed" && status != "Canceled" {
		status = "InProgress"
	}
	return &arm.Response{Status: http.StatusOK, Body: map[string]any{"id": r.HTTP.URL.Path, "name": parts[2], "status": status}}, nil
}
