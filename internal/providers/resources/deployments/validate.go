package deployments

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
	"lazurite.dev/internal/strictjson"
	"lazurite.dev/internal/template"
	"lazurite.dev/internal/web"
)

// maxHistory is how many deployments a group or subscription keeps. Source:
// "Azure subscription limits", deployment history.
const maxHistory = 800

// hash is a template's: equal for templates that say the same. Azure's own
// algorithm is not documented.
func hash(t []byte) (string, error) {
	b, err := template.Canonical(t)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(b)
	return strconv.FormatUint(binary.BigEndian.Uint64(sum[:8]), 10), nil
}

// Endpoints are those that are no resources.
func (s *Service) Endpoints() []arm.Endpoint {
	return append(s.operationPaths(), arm.Endpoint{
		Method: http.MethodPost, Path: "/providers/Microsoft.Resources/calculateTemplateHash", APIVersions: s.cfg.Versions,
		Handle: func(_ context.Context, r *arm.Request) (*arm.Response, error) {
			body, err := template.Relaxed(r.Body)
			if err != nil {
				return nil, err
			}
			h, err := hash(body)
			if err != nil {
				return nil, err
			}
			b, err := template.Canonical(body)
			return &arm.Response{Body: map[string]any{"minifiedTemplate": string(b), "templateHash": h}}, err
		},
	})
}

// unknown is the Runtime before a deployment.
type unknown struct{}

func (unknown) Reference(string, string, bool) (any, error)   { return nil, template.ErrUnknown }
func (unknown) List(string, string, string, any) (any, error) { return nil, template.ErrUnknown }

// preflight asks of every resource whether it would be taken, before the first
// one is made.
func (s *Service) preflight(ctx context.Context, o *order) error {
	var faults []apierr.Error
	if strings.EqualFold(o.level, "Template") {
		return nil
	}
	err := s.each(ctx, o, nil, false, func(p preview) error {
		if p.err != nil {
			if ctx.Err() != nil || apierr.From(p.err).Kind == apierr.Internal {
				return p.err
			}
			e := *o.masked(apierr.From(p.err))
			e.Cause = nil
			if e.Target == "" {
				e.Target = p.r.ID
			}
			faults = append(faults, e)
		}
		return nil
	})
	if err != nil || len(faults) == 0 {
		return err
	}
	kind := apierr.BadRequest
	if slices.ContainsFunc(faults, func(e apierr.Error) bool { return e.Kind == apierr.Forbidden }) {
		kind = apierr.Forbidden
	}
	e := apierr.New(kind, "InvalidTemplateDeployment",
		"The template deployment '%s' is not valid according to the validation procedure. The tracking id is '%s'. See inner errors for details.", o.id.Name(), web.CorrelationID(ctx))
	if kind == apierr.Forbidden {
		e.Message = fmt.Sprintf("Deployment failed with multiple errors: '%s'", "Authorization failed for template resource '"+faults[0].Target+"'. "+faults[0].Message)
	}
	e.Details = faults
	return e
}

// preview is what one resource of a template would come to.
type preview struct {
	r     *template.Resource
	body  map[string]any // as the template says; some of it not evaluated when open
	open  bool
	told  *arm.Told // nil when open, or when its scope is not there yet
	old   map[string]any
	fresh bool // its scope is still to be made

	unsupported string // why nothing can be said of it
	err         error
}

// each previews every resource of the order, those in nested deployments too.
// planned are the ids that will be there by then; waits says that all of them
// come after something that is still to be made.
func (s *Service) each(ctx context.Context, o *order, planned map[string]bool, waits bool, fn func(preview) error) error {
	all := map[string]bool{}
	for id := range planned {
		all[id] = true
	}
	for _, r := range o.plan.Resources {
		if !r.Skipped {
			all[strings.ToLower(r.ID)] = true
		}
	}
	for _, r := range o.plan.Resources {
		if r.Skipped || r.Existing {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		late, err := s.late(ctx, o, r)
		if err != nil {
			return err
		}
		late = late || waits
		p := s.preview(ctx, o, r, all, late)
		if r.Nested == nil {
			if err := fn(p); err != nil {
				return err
			}
			continue
		}
		if p.err != nil {
			if err := fn(p); err != nil {
				return err
			}
			continue
		}
		if p.open && r.Nested.Inner {
			if err := fn(preview{r: r, unsupported: "The nested deployment's parameters depend on resources that are not there yet."}); err != nil {
				return err
			}
			continue
		}
		inner, err := s.inner(ctx, o, r, p.body)
		if err != nil {
			if err := fn(preview{r: r, err: err}); err != nil {
				return err
			}
			continue
		}
		inner.outer = o
		for at := o; at != nil; at = at.outer { // whoever shows something of it hides its secrets too
			at.secrets = longestFirst(append(at.secrets, inner.secrets...))
		}
		if err := s.each(ctx, inner, all, late, fn); err != nil {
			return err
		}
	}
	return nil
}

// inner is the order of a nested deployment.
func (s *Service) inner(ctx context.Context, o *order, r *template.Resource, body map[string]any) (*order, error) {
	var p properties
	b, err := json.Marshal(body["properties"])
	if err != nil {
		return nil, fmt.Errorf("encode nested deployment: %w", err)
	}
	if err := json.Unmarshal(b, &p); err != nil {
		return nil, bad("InvalidDeployment", "The nested deployment '%s' is malformed: %v.", r.ID, err)
	}
	var outer *template.Deployment
	if !r.Nested.Inner {
		outer = o.d
	}
	location, _ := body["location"].(string)
	return s.order(withOuter(ctx, outer), rid.MustParse(r.ID), location, &p)
}

// late says whether something that the resource depends on is still to be made:
// then nothing but the caller's rights can be checked.
func (s *Service) late(ctx context.Context, o *order, r *template.Resource) (bool, error) {
	for _, i := range r.DependsOn {
		if o.plan.Resources[i].Nested != nil {
			return true, nil // who knows what it makes
		}
		_, err := s.res.Get(ctx, rid.MustParse(o.plan.Resources[i].ID))
		if errors.Is(err, store.ErrNotFound) {
			return true, nil
		} else if err != nil {
			return false, err
		}
	}
	return false, nil
}

func (s *Service) preview(ctx context.Context, o *order, r *template.Resource, planned map[string]bool, late bool) preview {
	p := preview{r: r}
	if p.body, p.err = o.d.Body(r, unknown{}, true); p.err != nil {
		return p
	}
	p.open = unevaluated(p.body, r) || late && r.Nested == nil
	ask := arm.Ask{
		Caller: arm.Caller(ctx), Correlation: web.CorrelationID(ctx), Method: http.MethodPut, Path: r.ID, Version: r.APIVersion,
		Body: p.body, Dry: true, Rights: p.open || r.Nested != nil,
	}
	p.told, p.err = s.plane.Load().Do(ctx, ask)
	if p.err != nil && apierr.Is(p.err, apierr.NotFound) && s.coming(ctx, rid.MustParse(r.ID), planned) {
		p.err, p.fresh = nil, true
		return p
	}
	if p.err == nil && p.told != nil {
		p.old = p.told.Old
	}
	return p
}

// coming says whether something above the id is still to be made by the template.
func (s *Service) coming(ctx context.Context, id rid.ID, planned map[string]bool) bool {
	for at := id.Parent(); !at.IsRoot(); at = at.Parent() {
		if !planned[at.Key()] {
			continue
		}
		if _, err := s.res.Get(ctx, at); errors.Is(err, store.ErrNotFound) {
			return true
		}
	}
	return false
}

// unevaluated says whether expressions are left in a body.
func unevaluated(v any, r *template.Resource) bool {
	switch v := v.(type) {
	case string:
		return len(v) > 2 && v[0] == '[' && v[1] != '[' && v[len(v)-1] == ']'
	case []any:
		return slices.ContainsFunc(v, func(x any) bool { return unevaluated(x, r) })
	case map[string]any:
		for k, x := range v {
			if k == "template" && r.Nested != nil {
				continue
			}
			if unevaluated(x, r) {
				return true
			}
		}
	}
	return false
}

// request is the body of validate and whatIf.
type request struct {
	Location   string     `json:"location"`
	Properties properties `json:"properties"`
}

func readRequest(body json.RawMessage) (*request, error) {
	if _, err := strictjson.Object(body, 1000); err != nil {
		return nil, bad("InvalidRequestContent", "The request content was invalid and could not be deserialized: %v.", err)
	}
	in := &request{}
	if err := json.Unmarshal(body, in); err != nil {
		return nil, bad("InvalidRequestContent", "The request content was invalid and could not be deserialized: %v.", err)
	}
	return in, nil
}

// validate is Deployments - Validate.
func (s *Service) validate(ctx context.Context, r *arm.Resource[properties], body json.RawMessage) (any, error) {
	in, err := readRequest(body)
	if err != nil {
		return nil, err
	}
	o, err := s.order(ctx, r.ID, in.Location, &in.Properties)
	if err != nil {
		return nil, err
	}
	if err := s.preflight(ctx, o); err != nil {
		return nil, err
	}
	p := o.shown(web.CorrelationID(ctx), time.Now().UTC())
	b, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("encode deployment: %w", err)
	}
	shown := map[string]any{}
	if err := json.Unmarshal(b, &shown); err != nil {
		return nil, fmt.Errorf("decode deployment: %w", err)
	}
	ids := []idOf{}
	for _, r := range o.plan.Resources {
		if !r.Skipped && !r.Existing {
			ids = append(ids, idOf{r.ID})
		}
	}
	shown["provisioningState"], shown["validatedResources"] = "Succeeded", ids
	out := map[string]any{"id": r.ID.String(), "name": r.ID.Name(), "type": "Microsoft.Resources/deployments", "properties": shown}
	if in.Location != "" {
		out["location"] = in.Location
	}
	return out, nil
}

// makeRoom deletes the oldest deployments where there are as many as can be.
func (s *Service) makeRoom(ctx context.Context, id rid.ID) error {
	all, err := s.deployments(ctx, id.Parent())
	if err != nil {
		return err
	}
	var ended []*arm.Envelope
	n := 0
	for _, e := range all {
		if n++; e.State() != "Running" {
			ended = append(ended, e)
		}
	}
	slices.SortFunc(ended, func(a, b *arm.Envelope) int { return a.System.LastModifiedAt.Compare(b.System.LastModifiedAt) })
	for _, e := range ended {
		if n < maxHistory {
			return nil
		}
		v, err := arm.View[properties](e)
		if err != nil {
			return err
		}
		if err := errors.Join(s.forget(ctx, v), s.res.Delete(ctx, e.RID())); err != nil {
			return err
		}
		n--
	}
	return nil
}
