package cli

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// workspaceFields are the members of a workspace's description that lie in its
// properties.
func workspaceFields() mlFields {
	return mlFields{name: "WorkspaceSchema", also: []string{"name", "location", "tags", "identity", "resource_group", "workspace_id", "id"},
		fields: []mlField{
			{yaml: "application_insights", wire: "applicationInsights", conv: textConv()},
			{yaml: "container_registry", wire: "containerRegistry", conv: textConv()},
			{yaml: "description", wire: "description", conv: textConv()},
			{yaml: "discovery_url", wire: "discoveryUrl", shown: true},
			{yaml: "display_name", wire: "friendlyName", conv: textConv()},
			{yaml: "hbi_workspace", wire: "hbiWorkspace", conv: boolConv()},
			{yaml: "image_build_compute", wire: "imageBuildCompute", conv: textConv()},
			{yaml: "key_vault", wire: "keyVault", conv: textConv()},
			{yaml: "managed_network", wire: "managedNetwork", conv: managedNetwork()},
			{yaml: "mlflow_tracking_uri", wire: "mlFlowTrackingUri", shown: true},
			{yaml: "primary_user_assigned_identity", wire: "primaryUserAssignedIdentity", conv: textConv()},
			{yaml: "provisioning_state", wire: "provisioningState", shown: true},
			{yaml: "public_network_access", wire: "publicNetworkAccess", conv: conv{to: enum("enabled", "Enabled", "disabled", "Disabled").to}},
			{yaml: "storage_account", wire: "storageAccount", conv: textConv()},
			{yaml: "system_datastores_auth_mode", wire: "systemDatastoresAuthMode", conv: textConv()},
			{yaml: "v1_legacy_mode", wire: "v1LegacyMode", conv: boolConv()},
			{yaml: "workspace_id", wire: "workspaceId", shown: true},
		}}
}

func isolationModes() conv {
	return enum("disabled", "Disabled", "allow_internet_outbound", "AllowInternetOutbound", "allow_only_approved_outbound", "AllowOnlyApprovedOutbound")
}

// managedNetwork is a mode, or a mode with rules.
func managedNetwork() conv {
	return conv{
		to: func(v any) (any, error) {
			if s, ok := v.(string); ok {
				v = object{"isolation_mode": s}
			}
			return managedNetworkFields().wire(objectOr(v))
		},
		from: func(v any) any { return managedNetworkFields().show(v) },
	}
}

// objectOr is v, or an empty object where it is none.
func objectOr(v any) object {
	o, _ := v.(object)
	if o == nil {
		o = object{}
	}
	return o
}

func managedNetworkFields() mlFields {
	status := mlFields{fields: []mlField{{yaml: "spark_ready", wire: "sparkReady"}, {yaml: "status", wire: "status"}}}
	return mlFields{name: "ManagedNetworkSchema", fields: []mlField{
		{yaml: "isolation_mode", wire: "isolationMode", conv: isolationModes()},
		{yaml: "network_id", wire: "networkId", shown: true},
		{yaml: "outbound_rules", wire: "outboundRules", conv: conv{to: rulesToWire, from: rulesFromWire}},
		{yaml: "status", wire: "status", conv: conv{from: func(v any) any { return status.show(v) }}, shown: true},
	}}
}

func rulesToWire(v any) (any, error) {
	out := object{}
	for _, r := range items(v) {
		m := objectOr(r)
		wire, err := ruleToWire(m)
		if err != nil {
			return nil, err
		}
		out[textAt(m, "name")] = wire
	}
	return out, nil
}

func rulesFromWire(v any) any {
	rules, _ := v.(object)
	out := []any{}
	for _, name := range slices.Sorted(maps.Keys(rules)) {
		out = append(out, showRule(name, rules[name]))
	}
	return out
}

// showWorkspace is a workspace as descriptions have it.
func showWorkspace(v any) any {
	if v == nil {
		return nil
	}
	out := workspaceFields().show(at(v, "properties"))
	for _, k := range []string{"id", "name", "location"} {
		out[k] = at(v, k)
	}
	out["tags"] = objectOr(at(v, "tags"))
	if id := at(v, "identity"); id != nil {
		out["identity"] = identityFromWire(id)
	}
	if m := groupInID().FindStringSubmatch(textAt(v, "id")); m != nil {
		out["resource_group"] = m[1]
	}
	return out
}

func workspaceName() arg {
	return opt("name", "Name of the workspace. Can be set once with `az configure --defaults workspace=NAME`.").
		or("-n", "--workspace-name", "-w").required().configured("workspace").idPart("name")
}

// workspaceOptions are the options that create and update share, with the
// members that they set.
func workspaceOptions() []arg {
	return []arg{
		opt("display-name", "Name to show."), opt("description", "Description."), tagsOpt(),
		opt("application-insights", "Id of the application insights that deployments log to."),
		opt("container-registry", "Id of the registry of images."),
		opt("image-build-compute", "Compute that builds images.").or("-i"),
		opt("public-network-access", "Whether it is reached over the public network.").oneOf("Enabled", "Disabled"),
		opt("managed-network", "How isolated the managed network is.").or("-m").oneOf("disabled", "allow_internet_outbound", "allow_only_approved_outbound"),
		opt("primary-user-assigned-identity", "Id of the identity that the workspace acts as.").or("-p"),
		opt("system-datastores-auth-mode", "How its own stores are read.").oneOf("accesskey", "identity"),
		noWaitOpt(),
	}
}

// workspaceSpec is the description that file, options and --set give.
func (c *call) workspaceSpec() (*mlSpec, error) {
	s, err := c.readSpec()
	if err != nil {
		return nil, err
	}
	s.override(c, "name", "name", "location", "location", "display-name", "display_name", "description", "description", "tags", "tags",
		"application-insights", "application_insights", "container-registry", "container_registry", "key-vault", "key_vault", "storage-account", "storage_account",
		"image-build-compute", "image_build_compute", "public-network-access", "public_network_access",
		"primary-user-assigned-identity", "primary_user_assigned_identity", "system-datastores-auth-mode", "system_datastores_auth_mode")
	if c.given("managed-network") {
		if _, isMap := s.body["managed_network"].(object); !isMap {
			s.body["managed_network"] = object{}
		}
		s.body["managed_network"].(object)["isolation_mode"] = c.text("managed-network")
	}
	return s, c.applyGeneric(s.body)
}

func mlWorkspaceCommands() []*command {
	return []*command{workspaceCreate(), workspaceShow(), workspaceList(), workspaceUpdate(), workspaceDelete(), workspaceProvision(), workspaceDiagnose()}
}

func workspaceCreate() *command {
	name := workspaceName()
	name.need, name.part = false, ""
	args := append([]arg{name, groupOpt(), locationOpt(), fileOpt("workspace"), setOpt(),
		opt("key-vault", "Id of the key vault. Without it, a new one."), opt("storage-account", "Id of the storage account. Without it, a new one."),
		flagOpt("provision-network-now", "Start the managed network at once."),
		flagOpt("update-dependent-resources", "Change the registry or insights of a workspace that exists.").or("-u")}, workspaceOptions()...)
	return &command{path: "ml workspace create", short: "Create a workspace with the resources that it needs, or change one.",
		example: "ml workspace create -g myGroup -n myWorkspace -m allow_only_approved_outbound", args: args, table: workspaceTable(""),
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			s, err := c.workspaceSpec()
			if err != nil {
				return nil, err
			}
			n, err := s.named(workspaceFields())
			if err != nil {
				return nil, err
			}
			path := m.resource(c.text("resource-group"), mlType, n)
			_, err = m.get(ctx, path, mlVersion)
			switch {
			case err == nil:
				return c.patchWorkspace(ctx, m, path, s.body)
			case !isStatus(err, http.StatusNotFound):
				return nil, err
			}
			v, err := c.deployWorkspace(ctx, m, n, s.body)
			if err != nil || v == nil || !c.flag("provision-network-now") {
				return showWorkspace(v), err
			}
			if _, err := m.post(ctx, path+"/provisionManagedNetwork", mlVersion, object{"includeSpark": false}); err != nil {
				return nil, err
			}
			v, err = m.get(ctx, path, mlVersion)
			return showWorkspace(v), err
		})}
}

// workspacePath is the id that the options name.
func workspacePath(c *call, m *management) string {
	return m.resource(c.text("resource-group"), mlType, c.text("name"))
}

func workspaceShow() *command {
	return &command{path: "ml workspace show", short: "Show a workspace.", example: "ml workspace show -g myGroup -n myWorkspace --query managed_network",
		args: []arg{workspaceName(), groupOpt()}, table: workspaceTable(""),
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			v, err := m.get(ctx, workspacePath(c, m), mlVersion)
			return showWorkspace(v), err
		})}
}

func workspaceTable(of string) string {
	return of + "{Name:name, Location:location, ResourceGroup:resourceGroup, Isolation:managed_network.isolation_mode, Network:managed_network.status.status}"
}

func workspaceList() *command {
	return &command{path: "ml workspace list", short: "List workspaces.", example: "ml workspace list -g myGroup", args: []arg{groupFilter()},
		table: workspaceTable("[]."),
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			l, err := m.list(ctx, m.listPath(c.text("resource-group"), mlType), mlVersion)
			return each(l, showWorkspace), err
		})}
}

func workspaceUpdate() *command {
	args := append([]arg{workspaceName(), groupOpt(), fileOpt("workspace"),
		flagOpt("update-dependent-resources", "Change the registry or insights too.").or("-u")}, workspaceOptions()...)
	return &command{path: "ml workspace update", short: "Change a workspace.", generic: true,
		example: "ml workspace update -g myGroup -n myWorkspace -m allow_only_approved_outbound", args: args, table: workspaceTable(""),
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			s, err := c.workspaceSpec()
			if err != nil {
				return nil, err
			}
			return c.patchWorkspace(ctx, m, workspacePath(c, m), s.body)
		})}
}

// workspaceBody is the wire's form of a description.
func workspaceBody(body object) (object, error) {
	props, err := workspaceFields().wire(body)
	if err != nil {
		return nil, err
	}
	out := object{"properties": props}
	if t := body["tags"]; t != nil {
		tags, err := textMap().to(t)
		if err != nil {
			return nil, workspaceFields().invalid(object{"tags": wrong(err)})
		}
		out["tags"] = tags
	}
	if id := body["identity"]; id != nil {
		wire, err := identityToWire(id)
		if err != nil {
			return nil, workspaceFields().invalid(object{"identity": wrong(err)})
		}
		out["identity"] = wire
	}
	return out, nil
}

func (c *call) patchWorkspace(ctx context.Context, m *management, path string, spec object) (any, error) {
	body, err := workspaceBody(spec)
	if err != nil {
		return nil, err
	}
	props := body["properties"].(object)
	for _, k := range []string{"containerRegistry", "applicationInsights"} {
		if props[k] != nil && !c.flag("update-dependent-resources") {
			return nil, failf("Updating the Application Insights or Container Registry of a workspace may break lineage of existing jobs, deployed inference endpoints, " +
				"and/or your ability to rerun earlier jobs in this workspace. If you still want to proceed, please use the --update-dependent-resources/-u flag.")
		}
	}
	for _, k := range []string{"keyVault", "storageAccount"} {
		if props[k] != nil {
			return nil, failf("The %s of a workspace can't be changed.", strings.ReplaceAll(snakeCase(k), "_", " "))
		}
	}
	v, err := m.patch(ctx, path, mlVersion, body, c.flag("no-wait"))
	return showWorkspace(v), err
}

func workspaceDelete() *command {
	return &command{path: "ml workspace delete", short: "Delete a workspace; what it brought stays, but with --all-resources.",
		example: "ml workspace delete -g myGroup -n myWorkspace --yes",
		args: []arg{workspaceName(), groupOpt(), yesOpt(), noWaitOpt(), flagOpt("all-resources", "Delete the storage account, vault and insights too."),
			flagOpt("permanently-delete", "Keep nothing that it could be recovered from.").or("-p")},
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			if err := c.confirm("Are you sure you want to perform this operation?"); err != nil {
				return nil, err
			}
			path := workspacePath(c, m)
			v, err := m.get(ctx, path, mlVersion)
			if err != nil {
				return nil, err
			}
			var query []string
			if c.flag("permanently-delete") {
				query = []string{"forceToPurge", "true"}
			}
			if err := m.delete(ctx, path, mlVersion, c.flag("no-wait") && !c.flag("all-resources"), query...); err != nil || !c.flag("all-resources") {
				return nil, err
			}
			for _, d := range []struct{ member, version string }{{"storageAccount", storageVersion}, {"keyVault", vaultVersion}, {"applicationInsights", insightsVersion}} {
				if id := textAt(v, "properties", d.member); id != "" {
					if err := m.delete(ctx, id, d.version, false); err != nil {
						return nil, err
					}
				}
			}
			return nil, nil
		})}
}

func workspaceProvision() *command {
	return &command{path: "ml workspace provision-network", short: "Start the managed network of a workspace.", example: "ml workspace provision-network -g myGroup -n myWorkspace",
		args: []arg{workspaceName(), groupOpt(), flagOpt("include-spark", "Not supported: there is no Spark."), noWaitOpt()},
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			path := workspacePath(c, m) + "/provisionManagedNetwork"
			v, err := m.write(ctx, http.MethodPost, path, mlVersion, object{"includeSpark": c.flag("include-spark")}, c.flag("no-wait"))
			if err != nil || v == nil {
				return nil, err
			}
			return object{"spark_ready": at(v, "sparkReady"), "status": at(v, "status")}, nil
		})}
}

func workspaceDiagnose() *command {
	return &command{path: "ml workspace diagnose", short: "Look for what is wrong with a workspace.", example: "ml workspace diagnose -g myGroup -n myWorkspace",
		args: []arg{workspaceName(), groupOpt()},
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			v, err := m.post(ctx, workspacePath(c, m)+"/diagnose", mlVersion, object{"value": object{}})
			if err != nil {
				return nil, err
			}
			return snakeKeys(firstNonNil(at(v, "value"), v)), nil
		})}
}

func firstNonNil(vals ...any) any {
	for _, v := range vals {
		if v != nil {
			return v
		}
	}
	return nil
}

// snakeKeys writes the names of members with snake_case, at any depth.
func snakeKeys(v any) any {
	switch t := v.(type) {
	case []any:
		for i := range t {
			t[i] = snakeKeys(t[i])
		}
	case object:
		out := make(object, len(t))
		for k := range t {
			out[snakeCase(k)] = snakeKeys(t[k])
		}
		return out
	}
	return v
}
