package arm_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/arm/armtest"
	"lazurite.dev/internal/directory"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
)

// oven has long actions with results, and sees by which query its things go.
type oven struct {
	hold chan struct{} // baking waits for it; nil: it doesn't

	mu   sync.Mutex // guards what follows
	gone []string
}

func (o *oven) provider(store.Store) []arm.Provider {
	return []arm.Provider{{Namespace: ns, Routes: []arm.Route{arm.Serve(ns, arm.Kind[thing]{
		Type: "ovens", APIVersions: []string{"2024-01-01"}, Tracked: true, Async: true, Identity: true, OwnID: true,
		Delete: func(ctx context.Context, old *arm.Resource[thing]) error {
			o.mu.Lock()
			defer o.mu.Unlock()
			o.gone = append(o.gone, arm.DeleteQuery(ctx, old.ID).Get("cold"))
			return nil
		},
		LongActions: map[string]arm.LongAction[thing]{"bake": {
			State: "Baking",
			Run: func(ctx context.Context, r *arm.Resource[thing], body json.RawMessage) error {
				if o.hold != nil {
					select {
					case <-o.hold:
					case <-ctx.Done():
						return ctx.Err()
					}
				}
				if strings.Contains(string(body), "burn") {
					return apierr.New(apierr.Conflict, "Burnt", "It is black.")
				}
				r.Properties.Size++
				return nil
			},
			Result: func(_ context.Context, r *arm.Resource[thing]) (any, error) {
				return map[string]any{"loaves": r.Properties.Size}, nil
			},
		}},
		Get: func(_ context.Context, id rid.ID) (*arm.Resource[thing], error) {
			if id.Name() == "builtin" {
				return &arm.Resource[thing]{ID: id}, nil
			}
			return nil, nil
		},
		Deletable: func(_ context.Context, old *arm.Resource[thing]) error {
			if old.ID.Name() == "builtin" {
				return apierr.New(apierr.BadRequest, "BuiltIn", "It stays.")
			}
			return nil
		},
	})}}}
}

type principals struct{}

func (principals) EnsureManagedIdentity(context.Context, directory.ManagedIdentity) error { return nil }
func (principals) RemoveManagedIdentity(context.Context, string) error                    { return nil }

func startOven(t *testing.T, o *oven) (*armtest.Plane, string) {
	p := armtest.New(t, o.provider, func(c *arm.Config) { c.Principals = principals{} })
	return p, p.Group("g") + "/providers/" + ns + "/ovens/"
}

const ovenVersion = "?api-version=2024-01-01"

func TestLongAction_GivesItsResult(t *testing.T) {
	o := &oven{}
	p, at := startOven(t, o)
	p.Want(http.StatusCreated, "PUT", at+"a"+ovenVersion, `{"location":"eastus","properties":{"size":1}}`)
	if a := p.Want(http.StatusOK, "POST", at+"a/bake"+ovenVersion, ""); a.At("loaves") != 2.0 {
		t.Errorf("at once: %s", a.Raw)
	}
	o.hold = make(chan struct{})
	a := p.Want(http.StatusAccepted, "POST", at+"a/bake"+ovenVersion, "")
	where := strings.TrimPrefix(a.Header.Get("Location"), "https://management.azure.com")
	p.Want(http.StatusAccepted, "GET", where, "")
	close(o.hold)
	if s := p.Settle(a); s != "Succeeded" {
		t.Fatal(s)
	}
	if r := p.Want(http.StatusOK, "GET", where, ""); r.At("loaves") != 3.0 {
		t.Errorf("in the end: %s", r.Raw)
	}
	p.WantError(http.StatusConflict, "Burnt", "POST", at+"a/bake"+ovenVersion, `{"how":"burn"}`)
}

func TestDelete_HooksSeeTheQuery(t *testing.T) {
	o := &oven{}
	p, at := startOven(t, o)
	for _, query := range []string{"&cold=yes", ""} {
		p.Want(http.StatusCreated, "PUT", at+"a"+ovenVersion, `{"location":"eastus"}`)
		p.Want(http.StatusNoContent, "DELETE", at+"a"+ovenVersion+query, "")
	}
	p.Want(http.StatusCreated, "PUT", at+"a"+ovenVersion, `{"location":"eastus"}`)
	p.Settle(p.Do("DELETE", armtest.Base+"/resourceGroups/g?cold=yes&api-version="+armtest.Version, "")) // the group's, not its own
	o.mu.Lock()
	defer o.mu.Unlock()
	if got := strings.Join(o.gone, ","); got != "yes,," {
		t.Errorf("got %q", got)
	}
}

func TestDelete_WhatIsBuiltInSaysNo(t *testing.T) {
	p, at := startOven(t, &oven{})
	p.WantError(http.StatusBadRequest, "BuiltIn", "DELETE", at+"builtin"+ovenVersion, "")
	p.Want(http.StatusNoContent, "DELETE", at+"none"+ovenVersion, "")
}

func TestIdentity_OfItsOwnWithoutAsking(t *testing.T) {
	p, at := startOven(t, &oven{})
	a := p.Want(http.StatusCreated, "PUT", at+"a"+ovenVersion, `{"location":"eastus"}`)
	id := a.Text("identity", "principalId")
	if a.Text("identity", "type") != "SystemAssigned" || id == "" {
		t.Errorf("got %s", a.Raw)
	}
	if a = p.Want(http.StatusOK, "PUT", at+"a"+ovenVersion, `{"location":"eastus"}`); a.Text("identity", "principalId") != id {
		t.Errorf("again: %s", a.Raw)
	}
	if a = p.Want(http.StatusCreated, "PUT", at+"b"+ovenVersion, `{"location":"eastus","identity":{"type":"None"}}`); a.Text("identity", "type") != "None" {
		t.Errorf("none: %s", a.Raw)
	}
}
