package machinelearningservices

import (
	"context"
	"encoding/json"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/rid"
)

// storageKey is the key of the workspace's storage account.
func (p *provider) storageKey(ctx context.Context, n *Properties) (rid.ID, string, error) {
	account, err := rid.Parse(n.Storage)
	if err != nil {
		return account, "", bad("", "The workspace has no storage account.")
	}
	if p.Storage == nil {
		return account, "", apierr.New(apierr.NotImplemented, "StorageNotAvailable", "This server keeps no storage accounts.")
	}
	key, err := p.Storage.Key(ctx, account)
	return account, key, err
}

// listKeys is POST …/listKeys: the keys of what belongs to the workspace. Who
// asks has the right to them at the workspace, as in Azure. A registry's are
// asked of the registry.
func (p *provider) listKeys(ctx context.Context, r *arm.Resource[Properties], _ json.RawMessage) (any, error) {
	account, key, err := p.storageKey(ctx, &r.Properties)
	if err != nil {
		return nil, err
	}
	out := map[string]any{"userStorageKey": key, "userStorageResourceId": account.String(), "userStorageArmId": account.String()}
	if id, err := rid.Parse(r.Properties.Insights); err == nil {
		e, err := p.get(ctx, id)
		if err != nil {
			return nil, err
		}
		if e != nil {
			out["appInsightsInstrumentationKey"] = e.Properties["InstrumentationKey"]
		}
	}
	return out, nil
}

// listStorageKeys is POST …/listStorageAccountKeys.
func (p *provider) listStorageKeys(ctx context.Context, r *arm.Resource[Properties], _ json.RawMessage) (any, error) {
	_, key, err := p.storageKey(ctx, &r.Properties)
	if err != nil {
		return nil, err
	}
	return map[string]any{"userStorageKey": key}, nil
}

// resyncKeys is POST …/resyncKeys. Keys are asked of their resources each
// time: there are none to be brought up to date.
func (p *provider) resyncKeys(context.Context, *arm.Resource[Properties], json.RawMessage) (any, error) {
	return nil, nil
}

// noNotebooks refuses what is about notebooks.
func noNotebooks(context.Context, *arm.Resource[Properties], json.RawMessage) (any, error) {
	return nil, apierr.New(apierr.BadRequest, "NotebooksNotSupported", "Workspaces of this cloud have no notebooks, and no keys to them.")
}
