package deployments

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/ops"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
	"lazurite.dev/internal/template"
)

// operation is what was done for one resource of a deployment.
type operation struct {
	What      string          `json:"provisioningOperation"`
	State     string          `json:"provisioningState"`
	Timestamp time.Time       `json:"timestamp"`
	Duration  string          `json:"duration"`
	Request   string          `json:"serviceRequestId,omitempty"`
	Status    string          `json:"statusCode,omitempty"`
	Message   json.RawMessage `json:"statusMessage,omitempty"`
	Target    *target         `json:"targetResource,omitempty"`
}

type target struct {
	ID   string `json:"id"`
	Type string `json:"resourceType"`
	Name string `json:"resourceName"`
}

// recorded is an operation as it is kept.
type recorded struct {
	operation
	ID      string    `json:"id"`
	Of      string    `json:"of"`  // the deployment
	Run     string    `json:"run"` // of it
	Started time.Time `json:"started"`
	Made    []string  `json:"made,omitempty"` // by a nested deployment
	rev     int64
}

const operationKind = "deployment-operation"

func operationPrefix(id rid.ID) string { return "deployment-operation" + id.Key() + "/" }

// operations are those of a deployment, by their keys.
func (s *Service) operations(ctx context.Context, id rid.ID) (map[string]*recorded, error) {
	out := map[string]*recorded{}
	err := store.All(ctx, s.cfg.Store, store.Query{Prefix: operationPrefix(id), Kind: operationKind}, func(doc store.Doc) error {
		op := &recorded{rev: doc.Rev}
		if err := json.Unmarshal(doc.Value, op); err != nil {
			return fmt.Errorf("decode %s: %w", doc.Key, err)
		}
		out[doc.Key] = op
		return nil
	})
	return out, err
}

// begin makes the operation of a resource.
func (x *execution) begin(r *template.Resource) *recorded {
	sum := sha256.Sum256([]byte(x.ref + strings.ToLower(r.ID)))
	now := time.Now().UTC()
	return &recorded{
		ID: strings.ToUpper(hex.EncodeToString(sum[:8])), Of: x.id.String(), Run: x.ref, Started: now,
		operation: operation{What: "Create", State: "Running", Timestamp: now, Duration: "PT0S", Target: &target{r.ID, r.Type, r.Name}},
	}
}

func (op *recorded) end(told *arm.Told, err error, o *order) {
	op.Timestamp, op.Duration = time.Now().UTC(), duration(&op.Started)
	if err == nil {
		op.State, op.Status = ops.Succeeded, strings.ReplaceAll(http.StatusText(told.Status), " ", "")
		return
	}
	e := o.masked(apierr.From(err))
	op.State, op.Status = ops.Failed, strings.ReplaceAll(http.StatusText(e.Kind.Status()), " ", "")
	op.Message = compact(map[string]any{"status": "Failed", "error": fault(e)})
}

// record writes the operation down.
func (x *execution) record(ctx context.Context, op *recorded) error {
	b, err := json.Marshal(op)
	if err != nil {
		return fmt.Errorf("encode operation: %w", err)
	}
	key := operationPrefix(x.id) + strings.ToLower(op.ID)
	if op.rev == 0 { // an earlier life may have begun it
		if old, err := x.cfg.Store.Get(ctx, key); err == nil {
			op.rev = old.Rev
		} else if !errors.Is(err, store.ErrNotFound) {
			return err
		}
	}
	op.rev, err = x.cfg.Store.Put(ctx, store.Doc{Key: key, Rev: op.rev, Kind: operationKind, Value: b})
	return err
}

func (op *recorded) resource() *arm.Resource[operation] {
	return &arm.Resource[operation]{
		ID:         rid.MustParse(op.Of + "/operations/" + op.ID),
		Extra:      map[string]json.RawMessage{"operationId": compact(op.ID)},
		Properties: op.operation,
	}
}

// operationPaths are the operations of a group's deployments as clients ask for
// them: without the provider. Source: Deployment Operations - List.
func (s *Service) operationPaths() []arm.Endpoint {
	const base = "/subscriptions/{subscriptionId}/resourceGroups/{resourceGroupName}/deployments/{deploymentName}/operations"
	end := func(path string, handle func(context.Context, rid.ID, string) (any, error)) arm.Endpoint {
		return arm.Endpoint{
			Method: http.MethodGet, Path: path, Action: "Microsoft.Resources/deployments/operations/read", APIVersions: s.cfg.Versions,
			Handle: func(ctx context.Context, r *arm.Request) (*arm.Response, error) {
				id, err := rid.Parse("/subscriptions/" + r.Params["subscriptionId"] + "/resourceGroups/" + r.Params["resourceGroupName"] + "/providers/Microsoft.Resources/deployments/" + r.Params["deploymentName"])
				if err != nil {
					return nil, bad("InvalidResourceId", "The deployment's name is not valid: %v.", err)
				}
				e, err := s.res.Get(ctx, id)
				if errors.Is(err, store.ErrNotFound) {
					return nil, apierr.New(apierr.NotFound, "DeploymentNotFound", "Deployment '%s' could not be found.", id.Name())
				} else if err != nil {
					return nil, err
				}
				body, err := handle(ctx, e.RID(), r.Params["operationId"])
				return &arm.Response{Body: body}, err
			},
		}
	}
	return []arm.Endpoint{
		end(base, func(ctx context.Context, id rid.ID, _ string) (any, error) {
			list, err := s.listOperations(ctx, id, "")
			out := []any{}
			for _, op := range list {
				out = append(out, shownOperation(op))
			}
			return map[string]any{"value": out}, err
		}),
		end(base+"/{operationId}", func(ctx context.Context, id rid.ID, name string) (any, error) {
			at, err := rid.Parse(id.String() + "/operations/" + name)
			if err != nil {
				return nil, bad("InvalidResourceId", "The operation's id is not valid: %v.", err)
			}
			op, err := s.getOperation(ctx, at)
			if err != nil {
				return nil, err
			}
			return shownOperation(op), nil
		}),
	}
}

func shownOperation(op *arm.Resource[operation]) map[string]any {
	return map[string]any{"id": op.ID.String(), "operationId": op.ID.Name(), "properties": op.Properties}
}

func (s *Service) getOperation(ctx context.Context, id rid.ID) (*arm.Resource[operation], error) {
	doc, err := s.cfg.Store.Get(ctx, operationPrefix(id.Parent())+strings.ToLower(id.Name()))
	if errors.Is(err, store.ErrNotFound) {
		return nil, apierr.New(apierr.NotFound, "DeploymentOperationNotFound", "Deployment operation '%s' could not be found.", id.Name())
	} else if err != nil {
		return nil, err
	}
	op := &recorded{}
	if err := json.Unmarshal(doc.Value, op); err != nil {
		return nil, fmt.Errorf("decode %s: %w", doc.Key, err)
	}
	return op.resource(), nil
}

func (s *Service) listOperations(ctx context.Context, scope rid.ID, _ string) ([]*arm.Resource[operation], error) {
	docs, err := s.operations(ctx, scope)
	if err != nil {
		return nil, err
	}
	var list []*recorded
	for _, op := range docs {
		list = append(list, op)
	}
	slices.SortFunc(list, func(a, b *recorded) int { return b.Started.Compare(a.Started) })
	out := make([]*arm.Resource[operation], len(list))
	for i, op := range list {
		out[i] = op.resource()
	}
	return out, nil
}
