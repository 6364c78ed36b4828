package cli

import (
	"context"
	_ "embed"
	"strings"

	"github.com/google/uuid"
)

const (
	storageVersion  = "2022-09-01"
	insightsVersion = "2020-02-02"
)

// workspaceTemplate makes a workspace and what it needs, as the template of
// Microsoft's SDK does.
//
//go:embed ml_workspace_template.json
var workspaceTemplate []byte

// dependentName is a name for what a workspace brings, by the SDK's recipe:
// letters of the workspace's name, the kind, and chance.
func dependentName(workspace, kind string) string {
	plain := strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' || '0' <= r && r <= '9' {
			return r
		}
		return -1
	}, strings.ToLower(workspace))
	if plain = plain[:min(len(plain), 8)]; plain == "" || plain[0] <= '9' {
		plain = "w" + plain[:min(len(plain), 7)]
	}
	name := plain + kind[:min(len(kind), 8)] + strings.ReplaceAll(uuid.NewString(), "-", "")
	return name[:24]
}

// deployWorkspace submits the template and gives the workspace that it made.
func (c *call) deployWorkspace(ctx context.Context, m *management, name string, spec object) (any, error) {
	group := c.text("resource-group")
	body, err := workspaceBody(spec)
	if err != nil {
		return nil, err
	}
	loc := plainLocation(textAt(spec, "location"))
	if loc == "" {
		if loc, err = m.locationOf(ctx, c); err != nil {
			return nil, err
		}
	}
	template, err := decode(workspaceTemplate)
	if err != nil {
		return nil, err
	}
	props := body["properties"].(object)
	tags := objectOr(body["tags"])
	tags["createdByToolkit"] = "cli-v2-2.38.0"
	identity := body["identity"]
	if identity == nil {
		identity = object{"type": "SystemAssigned"}
	}
	params := object{"workspaceName": name, "location": loc, "tags": tags, "identity": identity}
	brings := []struct{ member, option, name, kind string }{
		{"storageAccount", "storageAccount", "storageAccountName", "storage"}, {"keyVault", "keyVault", "keyVaultName", "keyvault"},
		{"applicationInsights", "applicationInsights", "applicationInsightsName", "insights"}}
	for _, b := range brings {
		params[b.name] = dependentName(name, b.kind)
		if id := textAt(props, b.member); id != "" {
			params[b.option+"Id"] = id
		}
		delete(props, b.member)
	}
	params["logAnalyticsName"] = dependentName(name, "logalytics")
	if props["publicNetworkAccess"] == nil {
		props["publicNetworkAccess"] = "Enabled"
	}
	if props["friendlyName"] == nil {
		props["friendlyName"] = name
	}
	params["workspaceProperties"] = props
	values := object{}
	for k, v := range params {
		values[k] = object{"value": v}
	}
	path := m.groupPath(group) + deploymentType + "/" + name + "-" + uuid.NewString()[:7]
	request := object{"properties": object{"mode": "Incremental", "template": template, "parameters": values}}
	if v, err := m.put(ctx, path, deploymentsVersion, request, c.flag("no-wait")); err != nil || v == nil {
		return nil, err
	}
	return m.get(ctx, m.resource(group, mlType, name), mlVersion)
}
