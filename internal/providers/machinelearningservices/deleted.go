package machinelearningservices

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
)

// retention is how long a deleted workspace can be recovered. Source: "Recover
// workspace data while soft deleted".
const retention = 14 * 24 * time.Hour

const (
	deletedPrefix = "machinelearning/deleted"       // and the id
	itemsPrefix   = "machinelearning/deleted-items" // and the GUID, and the key of what was under it
	deletedKind   = "machinelearning.deleted"
)

// deleted is what is kept of a deleted workspace. At is zero while it is being
// deleted.
type deleted struct {
	UID      string        `json:"uid"`
	At       time.Time     `json:"at"`
	PurgeAt  time.Time     `json:"purgeAt"`
	Envelope *arm.Envelope `json:"workspace"`

	rev int64
}

func (d *deleted) due(now time.Time) bool { return d.At.IsZero() || !now.Before(d.PurgeAt) }

func decodeDeleted(d store.Doc) (*deleted, error) {
	x := &deleted{rev: d.Rev}
	if err := json.Unmarshal(d.Value, x); err != nil {
		return nil, fmt.Errorf("decode %q: %w", d.Key, err)
	}
	if x.Envelope == nil {
		return nil, fmt.Errorf("decode %q: there is no workspace in it", d.Key)
	}
	return x, nil
}

func (p *provider) deletedOf(ctx context.Context, id rid.ID) (*deleted, error) {
	d, err := p.store.Get(ctx, deletedPrefix+id.Key())
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("read a deleted workspace: %w", err)
	}
	return decodeDeleted(d)
}

// kept are the types under a workspace that come back with it; endpoints and
// their deployments do not.
func kept(typ string) bool {
	word, _, _ := strings.Cut(strings.TrimPrefix(lower(typ), lower(WorkspaceType)+"/"), "/")
	return slices.Contains([]string{lower(ruleWord), "datastores", "codes", "models", "environments", "data", "components"}, word)
}

// deletable keeps what is under the workspace, which goes first.
func (p *provider) deletable(ctx context.Context, old *arm.Resource[Properties]) error {
	uid := old.Private[uidKey]
	if err := store.DeletePrefix(ctx, p.store, itemsPrefix+"/"+uid+"/"); err != nil {
		return fmt.Errorf("forget what was deleted: %w", err)
	}
	q := store.Query{Prefix: arm.ResourceKey(old.ID) + "/"}
	return store.All(ctx, p.store, q, func(d store.Doc) error {
		e, err := arm.DecodeEnvelope(d)
		if err != nil || !kept(e.Type) {
			return err
		}
		_, err = p.store.Put(ctx, store.Doc{Key: itemsPrefix + "/" + uid + "/" + strings.TrimPrefix(d.Key, arm.KeyPrefix+"/"), Kind: d.Kind, Value: d.Value})
		return err
	})
}

// bury keeps the workspace for a while, or forgets it at once where that was
// asked for, or where its group goes.
func (p *provider) bury(ctx context.Context, old *arm.Resource[Properties]) error {
	uid := old.Private[uidKey]
	purge := strings.EqualFold(arm.DeleteQuery(ctx, old.ID).Get("forceToPurge"), "true") ||
		old.Properties.SoftDelete != nil && !*old.Properties.SoftDelete || arm.DeleteQuery(ctx, old.ID) == nil
	e, err := p.get(ctx, old.ID)
	if err != nil {
		return err
	}
	if purge || e == nil {
		return p.erase(ctx, old.ID, uid)
	}
	d, err := p.deletedOf(ctx, old.ID)
	if err != nil {
		return err
	}
	var rev int64
	if d != nil {
		if d.UID == uid && !d.At.IsZero() {
			return nil // done before a crash
		}
		rev = d.rev
	}
	now := p.Now().UTC().Truncate(time.Second)
	_, err = store.PutJSON(ctx, p.store, deletedPrefix+old.ID.Key(), deletedKind, rev, deleted{UID: uid, At: now, PurgeAt: now.Add(retention), Envelope: e})
	return err
}

// erase forgets a deleted workspace.
func (p *provider) erase(ctx context.Context, id rid.ID, uid string) error {
	if err := store.DeletePrefix(ctx, p.store, itemsPrefix+"/"+uid+"/"); err != nil {
		return fmt.Errorf("forget what was deleted: %w", err)
	}
	d, err := p.deletedOf(ctx, id)
	if err != nil || d == nil || d.UID != uid {
		return err
	}
	if err := p.store.Delete(ctx, deletedPrefix+id.Key(), d.rev); err != nil && !gone(err) {
		return fmt.Errorf("forget a deleted workspace: %w", err)
	}
	return nil
}

// free refuses a new workspace whose id a deleted one has, unless it is to be
// recovered.
func (p *provider) free(ctx context.Context, next *arm.Resource[Properties]) error {
	d, err := p.deletedOf(ctx, next.ID)
	switch {
	case err != nil || d == nil || next.Private[restoreKey] == d.UID:
		return err
	case d.due(p.Now()):
		return p.erase(ctx, next.ID, d.UID)
	}
	return apierr.New(apierr.Conflict, "SoftDeletedWorkspaceExists",
		"A soft-deleted workspace with the name '%s' exists in the resource group '%s'. Recover it by setting 'allowRecoverSoftDeletedWorkspace' to true, or purge it: DELETE %s.", next.ID.Name(), next.ID.ResourceGroup(), deletedID(d))
}

// restore gives next what the deleted workspace had and the request does not
// speak of.
func (d *deleted) restore(next *arm.Resource[Properties]) error {
	old, err := arm.View[Properties](d.Envelope)
	if err != nil {
		return err
	}
	if old.Location != next.Location {
		return bad("location", "The deleted workspace '%s' is in the location '%s' and can only be recovered there.", next.ID.Name(), old.Location)
	}
	if next.Properties.Network != nil && next.Properties.Network.Mode != "" && old.Properties.mode() != Disabled && !slices.Contains(changeable(old.Properties.mode()), next.Properties.Network.Mode) {
		return bad("properties.managedNetwork.isolationMode", "The isolation mode of the deleted workspace is '%s': isolation is not loosened when it is recovered.", old.Properties.mode())
	}
	sent := asJSON(next.Properties)
	props := old.Properties
	if err := json.Unmarshal(sent, &props); err != nil {
		return fmt.Errorf("decode properties of %s: %w", next.ID, err)
	}
	next.Properties = props
	if next.Tags == nil {
		next.Tags = old.Tags
	}
	return nil
}

// bringBack puts back what was under a deleted workspace.
func (p *provider) bringBack(ctx context.Context, id rid.ID) error {
	d, err := p.deletedOf(ctx, id)
	if err != nil || d == nil {
		return err
	}
	prefix := itemsPrefix + "/" + d.UID + "/"
	err = store.All(ctx, p.store, store.Query{Prefix: prefix}, func(doc store.Doc) error {
		_, err := p.store.Put(ctx, store.Doc{Key: arm.KeyPrefix + "/" + strings.TrimPrefix(doc.Key, prefix), Kind: doc.Kind, Value: doc.Value})
		if errors.Is(err, store.ErrConflict) {
			return nil // it is back already
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("bring back what was under a workspace: %w", err)
	}
	if err := store.DeletePrefix(ctx, p.store, prefix); err != nil {
		return err
	}
	if err := p.store.Delete(ctx, deletedPrefix+id.Key(), d.rev); err != nil && !gone(err) {
		return err
	}
	return nil
}

// Sweep erases the deleted workspaces whose retention has ended.
func Sweep(ctx context.Context, c Config) error {
	p := newProvider(c)
	return store.All(ctx, p.store, store.Query{Prefix: deletedPrefix + "/", Kind: deletedKind}, func(doc store.Doc) error {
		d, err := decodeDeleted(doc)
		if err != nil || !d.due(p.Now()) {
			return err
		}
		return p.erase(ctx, d.Envelope.RID(), d.UID)
	})
}

func deletedID(d *deleted) string {
	id := d.Envelope.RID()
	return "/subscriptions/" + id.Subscription() + "/providers/" + Namespace + "/locations/" + d.Envelope.Location + "/resourceGroups/" + id.ResourceGroup() + "/deletedWorkspaces/" + id.Name()
}

func showDeleted(d *deleted) map[string]any {
	props := map[string]any{}
	for k, v := range d.Envelope.Properties {
		props[k] = v
	}
	props["provisioningState"] = "SoftDeleted"
	props["softDeletedAt"], props["scheduledPurgeDate"] = d.At.Format(time.RFC3339), d.PurgeAt.Format(time.RFC3339)
	return map[string]any{
		"id": deletedID(d), "name": d.Envelope.Name, "type": Namespace + "/locations/resourceGroups/deletedWorkspaces", "location": d.Envelope.Location,
		"tags": d.Envelope.Tags, "properties": props,
	}
}

// endpoints are what is no resource.
func (p *provider) endpoints() []arm.Endpoint {
	const (
		sub = "/subscriptions/{subscriptionId}/providers/" + Namespace
		one = sub + "/locations/{location}/resourceGroups/{deletedFrom}/deletedWorkspaces/{workspaceName}"
	)
	at := func(method, path, action string, handle func(context.Context, *arm.Request) (*arm.Response, error)) arm.Endpoint {
		return arm.Endpoint{Method: method, Path: path, Action: action, APIVersions: apiVersions(), Handle: handle}
	}
	return []arm.Endpoint{
		at(http.MethodGet, sub+"/deletedWorkspaces", Namespace+"/deletedWorkspaces/read", p.listDeleted),
		at(http.MethodGet, sub+"/locations/{location}/deletedWorkspaces", Namespace+"/locations/deletedWorkspaces/read", p.listDeleted),
		at(http.MethodGet, one, Namespace+"/locations/deletedWorkspaces/read", func(ctx context.Context, r *arm.Request) (*arm.Response, error) {
			d, err := p.findDeleted(ctx, r)
			if err != nil {
				return nil, err
			}
			return &arm.Response{Body: showDeleted(d)}, nil
		}),
		at(http.MethodDelete, one, Namespace+"/locations/deletedWorkspaces/delete", func(ctx context.Context, r *arm.Request) (*arm.Response, error) {
			d, err := p.findDeleted(ctx, r)
			if err != nil {
				return nil, err
			}
			return &arm.Response{}, p.erase(context.WithoutCancel(ctx), d.Envelope.RID(), d.UID)
		}),
	}
}

func (p *provider) listDeleted(ctx context.Context, r *arm.Request) (*arm.Response, error) {
	value := []any{}
	prefix := deletedPrefix + "/subscriptions/" + lower(r.Params["subscriptionId"]) + "/"
	err := store.All(ctx, p.store, store.Query{Prefix: prefix, Kind: deletedKind}, func(doc store.Doc) error {
		d, err := decodeDeleted(doc)
		if err != nil || d.due(p.Now()) {
			return err
		}
		if l := r.Params["location"]; l == "" || arm.NormalizeLocation(l) == d.Envelope.Location {
			value = append(value, showDeleted(d))
		}
		return nil
	})
	return &arm.Response{Body: map[string]any{"value": value}}, err
}

// findDeleted finds the deleted workspace that a path names.
func (p *provider) findDeleted(ctx context.Context, r *arm.Request) (*deleted, error) {
	name, group := r.Params["workspaceName"], r.Params["deletedFrom"]
	none := apierr.New(apierr.NotFound, "ResourceNotFound", "The deleted workspace '%s' of the resource group '%s' does not exist in the location '%s'.", name, group, r.Params["location"])
	id, err := rid.Parse("/subscriptions/" + r.Params["subscriptionId"] + "/resourceGroups/" + group + "/providers/" + WorkspaceType + "/" + name)
	if err != nil {
		return nil, none
	}
	d, err := p.deletedOf(ctx, id)
	if err != nil {
		return nil, err
	}
	if d == nil || d.due(p.Now()) || arm.NormalizeLocation(r.Params["location"]) != d.Envelope.Location {
		return nil, none
	}
	return d, nil
}
