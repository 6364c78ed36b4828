package machinelearningservices

import (
	"context"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/rid"
)

// linked is a resource that belongs to a workspace.
type linked struct {
	property, typ string
	id            func(*Properties) *string
	needed        bool
}

func linkedResources() []linked {
	return []linked{
		{"storageAccount", "Microsoft.Storage/storageAccounts", func(n *Properties) *string { return &n.Storage }, true},
		{"keyVault", "Microsoft.KeyVault/vaults", func(n *Properties) *string { return &n.KeyVault }, true},
		{"applicationInsights", "Microsoft.Insights/components", func(n *Properties) *string { return &n.Insights }, true},
		{"containerRegistry", "Microsoft.ContainerRegistry/registries", func(n *Properties) *string { return &n.Registry }, false},
	}
}

// checkLinked refuses a workspace whose resources are not there, or are not
// the caller's to give.
func (p *provider) checkLinked(ctx context.Context, old, next *arm.Resource[Properties]) error {
	var missing []string
	for _, l := range linkedResources() {
		if l.needed && *l.id(&next.Properties) == "" {
			missing = append(missing, l.property)
		}
	}
	if len(missing) > 0 {
		return apierr.New(apierr.BadRequest, "ValidationError", "Missing dependent resources in workspace json: %s.", strings.Join(missing, ", ")).WithTarget("properties." + missing[0])
	}
	for _, l := range linkedResources() {
		if old != nil && strings.EqualFold(*l.id(&old.Properties), *l.id(&next.Properties)) {
			continue
		}
		if err := p.checkOne(ctx, l, l.id(&next.Properties)); err != nil {
			return err
		}
	}
	return nil
}

func (p *provider) checkOne(ctx context.Context, l linked, text *string) error {
	if *text == "" {
		return nil
	}
	at := "properties." + l.property
	id, err := rid.Parse(*text)
	if err != nil || id.Collection || !strings.EqualFold(id.Type(), l.typ) {
		return apierr.New(apierr.BadRequest, "ValidationError", "The %s '%s' is not the id of a resource of the type %s.", l.property, *text, l.typ).WithTarget(at)
	}
	if err := arm.Authorise(ctx, l.typ+"/write", id); err != nil {
		return apierr.New(apierr.Forbidden, "LinkedAuthorizationFailed", "The workspace was to be given '%s', which the caller may not write: %s", id, apierr.From(err).Message).WithTarget(at).WithCause(err)
	}
	if l.property == "storageAccount" { // whoever may list the workspace's keys gets the account's
		if err := arm.Authorise(ctx, l.typ+"/listKeys/action", id); err != nil {
			return apierr.New(apierr.Forbidden, "LinkedAuthorizationFailed", "The workspace was to be given '%s', whose keys the caller may not list: %s", id, apierr.From(err).Message).WithTarget(at).WithCause(err)
		}
	}
	e, err := p.get(ctx, id)
	if err != nil {
		return err
	}
	if e == nil {
		return apierr.New(apierr.BadRequest, "ValidationError", "The %s of the workspace does not exist: %s", l.property, arm.NotFound(id).Error()).WithTarget(at)
	}
	if hns, _ := e.Properties["isHnsEnabled"].(bool); hns {
		return apierr.New(apierr.BadRequest, "ValidationError", "The storage account '%s' has a hierarchical namespace, which the storage account of a workspace must not have.", id.Name()).WithTarget(at)
	}
	*text = e.ID
	return nil
}
