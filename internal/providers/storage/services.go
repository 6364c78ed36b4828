package storage

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/store"
)

// ServiceProperties are those of an account's blob service.
type ServiceProperties struct {
	CORS struct {
		Rules []json.RawMessage `json:"corsRules"`
	} `json:"cors"`
	Retention          Retention       `json:"deleteRetentionPolicy"`
	ContainerRetention *Retention      `json:"containerDeleteRetentionPolicy,omitempty"`
	DefaultVersion     string          `json:"defaultServiceVersion,omitempty"`
	Versioning         *bool           `json:"isVersioningEnabled,omitempty"`
	Snapshots          *bool           `json:"automaticSnapshotPolicyEnabled,omitempty"`
	ChangeFeed         *Switch         `json:"changeFeed,omitempty"`
	Restore            *Switch         `json:"restorePolicy,omitempty"`
	LastAccess         *LastAccess     `json:"lastAccessTimeTrackingPolicy,omitempty"`
	Website            json.RawMessage `json:"staticWebsite,omitempty"`
}

// Retention says whether what is deleted is kept.
type Retention struct {
	Enabled   bool `json:"enabled"`
	Days      int  `json:"days,omitempty"`
	Permanent bool `json:"allowPermanentDelete,omitempty"`
}

// Switch is something that is on or off.
type Switch struct {
	Enabled bool `json:"enabled"`
	Days    int  `json:"days,omitempty"`
}

// LastAccess says whether the time of the last access is kept.
type LastAccess struct {
	Enable bool `json:"enable"`
}

// makeService stores the blob service of an account, unless it is there.
func (p *provider) makeService(ctx context.Context, next *arm.Resource[Properties]) error {
	id := next.ID.Child("blobServices", "default")
	res := arm.Resources{Store: p.Store}
	if _, err := res.Get(ctx, id); err == nil || !errors.Is(err, store.ErrNotFound) {
		return err
	}
	e := &arm.Envelope{ID: id.String(), Name: "default", Type: ServiceType, System: next.System, Properties: map[string]any{
		"cors": map[string]any{"corsRules": []any{}}, "deleteRetentionPolicy": map[string]any{"enabled": false},
	}}
	if err := res.Put(ctx, e); err != nil && !conflict(err) {
		return err
	}
	return nil
}

func completeService(_ context.Context, _, next *arm.Resource[ServiceProperties]) error {
	if next.Properties.CORS.Rules == nil {
		next.Properties.CORS.Rules = []json.RawMessage{}
	}
	return nil
}

// validateService refuses what blobs do not have.
func validateService(_ context.Context, _, next *arm.Resource[ServiceProperties]) error {
	n := &next.Properties
	for _, c := range []struct {
		refused       bool
		property, why string
	}{
		{len(n.CORS.Rules) > 0, "cors.corsRules", "no browser of another origin is let in"},
		{n.Retention.Enabled, "deleteRetentionPolicy", "what is deleted is gone"},
		{n.ContainerRetention != nil && n.ContainerRetention.Enabled, "containerDeleteRetentionPolicy", "what is deleted is gone"},
		{is(n.Versioning), "isVersioningEnabled", "a blob that is written over is gone"},
		{is(n.Snapshots), "automaticSnapshotPolicyEnabled", "there are no snapshots"},
		{n.ChangeFeed != nil && n.ChangeFeed.Enabled, "changeFeed", "changes are not kept"},
		{n.Restore != nil && n.Restore.Enabled, "restorePolicy", "what is deleted is gone"},
		{n.LastAccess != nil && n.LastAccess.Enable, "lastAccessTimeTrackingPolicy", "the time of the last access is not kept"},
		{given(n.Website) && strings.Contains(string(n.Website), "true"), "staticWebsite", "there are no websites"},
	} {
		if c.refused {
			return bad("properties."+c.property, "The property '%s' is not supported: %s.", c.property, c.why)
		}
	}
	return nil
}

// keepService refuses to delete the service alone.
func keepService(context.Context, *arm.Resource[ServiceProperties]) error {
	return apierr.New(apierr.MethodNotAllowed, "MethodNotAllowed", "The blob service of a storage account goes with the account alone.")
}
