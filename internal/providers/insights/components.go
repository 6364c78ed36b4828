package insights

import (
	"context"
	"encoding/json"
	"errors"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
)

const (
	namespace = "Microsoft.Insights"

	// sinkType is that of the workspaces into which components write.
	sinkType = "Microsoft.OperationalInsights/workspaces"
)

// Component is an Application Insights resource: a name by which clients say
// whose telemetry they send. Source: "Components - Create Or Update".
type Component struct {
	AppID          string `json:"AppId,omitempty"`
	ApplicationID  string `json:"ApplicationId,omitempty"`
	Name           string `json:"Name,omitempty"`
	AppType        string `json:"Application_Type,omitempty"`
	FlowType       string `json:"Flow_Type,omitempty"`
	Source         string `json:"Request_Source,omitempty"`
	Key            string `json:"InstrumentationKey,omitempty"`
	Connection     string `json:"ConnectionString,omitempty"`
	TenantID       string `json:"TenantId,omitempty"`
	Created        string `json:"CreationDate,omitempty"`
	Ingestion      string `json:"IngestionMode,omitempty"`
	Workspace      string `json:"WorkspaceResourceId,omitempty"`
	Retention      *int   `json:"RetentionInDays,omitempty"`
	Ingest         string `json:"publicNetworkAccessForIngestion,omitempty"`
	Query          string `json:"publicNetworkAccessForQuery,omitempty"`
	NoLocalAuth    *bool  `json:"DisableLocalAuth,omitempty"`
	OwnStorage     *bool  `json:"ForceCustomerStorageForProfiler,omitempty"`
	DisableMasking *bool  `json:"DisableIpMasking,omitempty"`
}

// keyOf is where a component keeps its instrumentation key.
const keyOf = "key"

var componentName = regexp.MustCompile(`^[^<>%&\\?/\x00-\x1f]{0,259}[^<>%&\\?/. \x00-\x1f]$`)

func (l *Log) components() arm.Kind[Component] {
	return arm.Kind[Component]{
		Type: "components", APIVersions: []string{"2020-02-02", "2020-02-02-preview", "2018-05-01-preview", "2015-05-01", "2014-04-01"}, Tracked: true,
		Name: func(name string) error {
			if !componentName.MatchString(name) {
				return apierr.New(apierr.BadRequest, "InvalidResourceName", "The component name '%s' is invalid.", name)
			}
			return nil
		},
		ReadOnly: []string{"AppId", "ApplicationId", "Name", "InstrumentationKey", "ConnectionString", "TenantId", "CreationDate", "HockeyAppToken", "PrivateLinkScopedResources", "LaMigrationDate"},
		Default: func(_ context.Context, old, next *arm.Resource[Component]) error {
			n := &next.Properties
			if old == nil {
				next.Private[keyOf] = uuid.NewString()
				n.AppID, n.Created = uuid.NewString(), time.Now().UTC().Format(time.RFC3339Nano)
			}
			complete(n, old)
			if next.Extra["kind"] == nil {
				next.Extra["kind"] = json.RawMessage(`"web"`)
			}
			n.ApplicationID, n.Name, n.Key = next.ID.Name(), next.ID.Name(), next.Private[keyOf]
			n.Connection = "InstrumentationKey=" + n.Key + ";IngestionEndpoint=https://" + next.Location + "-0.in.applicationinsights.azure.com/;LiveEndpoint=https://" + next.Location + ".livediagnostics.monitor.azure.com/;ApplicationId=" + n.AppID
			return nil
		},
		Validate: l.validateComponent,
		Delete: func(ctx context.Context, old *arm.Resource[Component]) error {
			return l.kept.Erase(ctx, old.Properties.AppID)
		},
	}
}

// complete gives a component its defaults.
func complete(n *Component, old *arm.Resource[Component]) {
	for _, d := range []struct {
		at *string
		v  string
	}{{&n.AppType, "web"}, {&n.FlowType, "Bluefield"}, {&n.Source, "rest"}, {&n.Ingest, "Enabled"}, {&n.Query, "Enabled"}} {
		if *d.at == "" {
			*d.at = d.v
		}
	}
	if n.Workspace == "" && old != nil {
		n.Workspace = old.Properties.Workspace
	}
	n.Ingestion = "ApplicationInsights"
	if n.Workspace != "" {
		n.Ingestion = "LogAnalytics"
	}
	if n.Retention == nil {
		days := 90
		n.Retention = &days
	}
}

// validateComponent refuses what would promise something that is not there.
func (l *Log) validateComponent(ctx context.Context, old, next *arm.Resource[Component]) error {
	n := &next.Properties
	bad := func(property, format string, args ...any) error {
		return apierr.New(apierr.BadRequest, "BadRequest", format, args...).WithTarget("properties." + property)
	}
	for name, v := range map[string]string{"publicNetworkAccessForIngestion": n.Ingest, "publicNetworkAccessForQuery": n.Query} {
		if !strings.EqualFold(v, "Enabled") && !strings.EqualFold(v, "Disabled") {
			return bad(name, "The value '%s' of %s is neither 'Enabled' nor 'Disabled'.", v, name)
		}
	}
	same := old != nil && old.Properties.Retention != nil && *old.Properties.Retention == *n.Retention
	if !same && !slices.Contains([]int{30, 60, 90, 120, 180, 270, 365, 550, 730}, *n.Retention) {
		return bad("RetentionInDays", "RetentionInDays is 30, 60, 90, 120, 180, 270, 365, 550 or 730, not %d.", *n.Retention)
	}
	if n.OwnStorage != nil && *n.OwnStorage {
		return bad("ForceCustomerStorageForProfiler", "The property 'ForceCustomerStorageForProfiler' is not supported: there is no profiler.")
	}
	if n.Workspace == "" {
		return nil
	}
	id, err := rid.Parse(n.Workspace)
	if err != nil || !strings.EqualFold(id.Type(), sinkType) {
		return bad("WorkspaceResourceId", "'%s' is not the id of a Log Analytics workspace, a resource of the type %s.", n.Workspace, sinkType)
	}
	if err := arm.Authorise(ctx, sinkType+"/read", id); err != nil {
		return err
	}
	_, err = arm.Resources{Store: l.store}.Get(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return bad("WorkspaceResourceId", "The Log Analytics workspace '%s' was not found.", n.Workspace)
	}
	return err
}
