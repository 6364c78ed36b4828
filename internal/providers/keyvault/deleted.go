package keyvault

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/store"
)

// checkName answers whether a vault may have a name.
func (p *provider) checkName(ctx context.Context, r *arm.Request) (*arm.Response, error) {
	var in struct {
		Name string `json:"name"`
		Type string `json:"type"`
	}
	if err := json.Unmarshal(r.Body, &in); err != nil || in.Name == "" {
		return nil, bad("name", "The body must name the vault and the type Microsoft.KeyVault/vaults.")
	}
	if !strings.EqualFold(in.Type, Namespace+"/vaults") {
		return nil, bad("type", "The type '%s' is not Microsoft.KeyVault/vaults.", in.Type)
	}
	no := func(reason, message string) (*arm.Response, error) {
		return &arm.Response{Body: map[string]any{"nameAvailable": false, "reason": reason, "message": message}}, nil
	}
	if err := checkVaultName(in.Name); err != nil {
		return no("AccountNameInvalid", apierr.From(err).Message)
	}
	rec, err := p.names.fresh(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	err = p.free(ctx, rec, &arm.Resource[Properties]{})
	if e := apierr.From(err); apierr.Is(err, apierr.Conflict) {
		if e.Code == "VaultAlreadyExists" { // it does not know the name that is asked for
			e = apierr.From(taken(in.Name))
		}
		return no("AlreadyExists", e.Message)
	}
	if err != nil && !errors.Is(err, store.ErrConflict) {
		return nil, err
	}
	return &arm.Response{Body: map[string]any{"nameAvailable": true}}, nil
}

func deletedID(r *Record) string {
	return "/subscriptions/" + r.SubscriptionID() + "/providers/" + Namespace + "/locations/" + r.Location + "/deletedVaults/" + r.Name
}

func showDeleted(r *Record) map[string]any {
	props := map[string]any{
		"vaultId": r.ID, "location": r.Location, "tags": r.Tags,
		"deletionDate":       r.Deleted.At.Format(time.RFC3339),
		"scheduledPurgeDate": r.Deleted.PurgeAt.Format(time.RFC3339),
	}
	if r.Tags == nil {
		props["tags"] = map[string]string{}
	}
	if b := r.Properties.PurgeProtection; b != nil {
		props["purgeProtectionEnabled"] = *b
	}
	return map[string]any{"id": deletedID(r), "name": r.Name, "type": Namespace + "/deletedVaults", "properties": props}
}

// listDeleted lists the deleted vaults of a subscription.
func (p *provider) listDeleted(ctx context.Context, r *arm.Request) (*arm.Response, error) {
	list, err := p.deletedIn(ctx, r.Params["subscriptionId"])
	if err != nil {
		return nil, err
	}
	value := []any{}
	for _, rec := range list {
		value = append(value, showDeleted(rec))
	}
	return &arm.Response{Body: map[string]any{"value": value}}, nil
}

// deletedVault finds the deleted vault that a path names.
func (p *provider) deletedVault(ctx context.Context, r *arm.Request) (*Record, error) {
	name := r.Params["vaultName"]
	rec, err := p.names.fresh(ctx, name)
	if err != nil {
		return nil, err
	}
	if rec == nil || rec.Deleted == nil || rec.Purging || !p.Now().Before(rec.Deleted.PurgeAt) ||
		!strings.EqualFold(rec.SubscriptionID(), r.Params["subscriptionId"]) ||
		arm.NormalizeLocation(r.Params["location"]) != rec.Location {
		return nil, apierr.New(apierr.NotFound, "DeletedVaultNotFound",
			"The specified deleted vault '%s' does not exist.", name)
	}
	return rec, nil
}

func (p *provider) getDeleted(ctx context.Context, r *arm.Request) (*arm.Response, error) {
	rec, err := p.deletedVault(ctx, r)
	if err != nil {
		return nil, err
	}
	return &arm.Response{Body: showDeleted(rec)}, nil
}

// purge erases a deleted vault at once, which Azure does in a long operation.
func (p *provider) purge(ctx context.Context, r *arm.Request) (*arm.Response, error) {
	rec, err := p.deletedVault(ctx, r)
	if err != nil {
		return nil, err
	}
	if b := rec.Properties.PurgeProtection; b != nil && *b {
		return nil, apierr.New(apierr.Conflict, "DeletedVaultPurge", "Operation 'DeletedVaultPurge' is not allowed: the vault '%s' has purge protection and is purged on %s.", rec.Name, rec.Deleted.PurgeAt.Format(time.RFC3339)).
			WithTarget("enablePurgeProtection")
	}
	err = p.erase(context.WithoutCancel(ctx), rec)
	if errors.Is(err, store.ErrConflict) {
		return nil, apierr.New(apierr.Conflict, "Conflict", "The vault '%s' was changed by another request at the same time.", rec.Name)
	}
	if err != nil {
		return nil, err
	}
	return &arm.Response{}, nil
}
