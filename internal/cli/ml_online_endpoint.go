package cli

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

const onlineEndpoints = "onlineEndpoints"

func endpointFields() mlFields {
	return mlFields{name: "ManagedOnlineEndpointSchema", also: []string{"name", "location", "tags", "identity", "kind", "id", "resourceGroup", "resource_group"},
		fields: []mlField{
			{yaml: "auth_mode", wire: "authMode", conv: authModes()},
			{yaml: "description", wire: "description", conv: textConv()},
			{yaml: "mirror_traffic", wire: "mirrorTraffic", conv: trafficConv()},
			{yaml: "openapi_uri", wire: "swaggerUri", shown: true},
			{yaml: "properties", wire: "properties", conv: textMap()},
			{yaml: "provisioning_state", wire: "provisioningState", shown: true},
			{yaml: "public_network_access", wire: "publicNetworkAccess", conv: onOff()},
			{yaml: "scoring_uri", wire: "scoringUri", shown: true},
			{yaml: "traffic", wire: "traffic", conv: trafficConv()},
		}}
}

func authModes() conv {
	return enum("key", "Key", "aml_token", "AMLToken", "aad_token", "AADToken")
}

func onOff() conv { return enum("enabled", "Enabled", "disabled", "Disabled") }

// trafficConv are percentages by deployment: a mapping, or text such as
// "blue=90 green=10". Names are lower case on the wire, and zeros left out.
func trafficConv() conv {
	return conv{to: func(v any) (any, error) {
		in, err := trafficOf(v)
		if err != nil {
			return nil, err
		}
		out := object{}
		for name, n := range in {
			if n != 0 {
				out[strings.ToLower(name)] = n
			}
		}
		return out, nil
	}}
}

func trafficOf(v any) (map[string]int, error) {
	out := map[string]int{}
	add := func(name, percent string) error {
		n, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(percent), "%"))
		if name = strings.TrimSpace(name); err != nil || name == "" {
			return usagef("%q is no share of the traffic: write DEPLOYMENT=PERCENT", name+"="+percent)
		}
		out[name] = n
		return nil
	}
	if m, ok := v.(object); ok {
		for k, n := range m {
			if err := add(k, scalar(n, "", "", "")); err != nil {
				return nil, err
			}
		}
		return out, nil
	}
	text := strings.TrimSpace(scalarText(v))
	if strings.HasPrefix(text, "{") {
		j, err := decode([]byte(text))
		if err != nil {
			return nil, usagef("%q is not JSON", text)
		}
		return trafficOf(j)
	}
	for _, part := range strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || r == ',' }) {
		k, n, ok := strings.Cut(part, "=")
		if !ok {
			return nil, usagef("%q is no share of the traffic: write DEPLOYMENT=PERCENT", part)
		}
		if err := add(k, n); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// showEndpoint is an endpoint as descriptions have it. Deployments without
// traffic are shown with 0.
func showEndpoint(v any, deployments []any) any {
	if v == nil {
		return nil
	}
	out := endpointFields().show(at(v, "properties"))
	for _, k := range []string{"id", "name", "location"} {
		out[k] = at(v, k)
	}
	out["kind"] = firstNonEmpty(textAt(v, "kind"), "Managed")
	for _, k := range []string{"tags"} {
		out[k] = objectOr(at(v, k))
	}
	for _, k := range []string{"traffic", "mirror_traffic", "properties"} {
		out[k] = objectOr(out[k])
	}
	traffic := out["traffic"].(object)
	for _, d := range deployments {
		if n := textAt(d, "name"); traffic[n] == nil && traffic[strings.ToLower(n)] == nil {
			traffic[n] = json.Number("0")
		}
	}
	if id := at(v, "identity"); id != nil {
		out["identity"] = identityFromWire(id)
	}
	return out
}

func endpointName() arg { return opt("name", "Name of the endpoint.").or("-n") }

func trafficOpts() []arg {
	return []arg{listOpt("traffic", "Shares of the requests: \"blue=90 green=10\". They sum to 0 or 100.").or("-r"),
		listOpt("mirror-traffic", "Share of the requests that a deployment gets as copies: blue=10.")}
}

func onlineEndpointCommands() []*command {
	return []*command{endpointCreate(), endpointShow(), endpointList(), endpointUpdate(), endpointDelete(), endpointInvoke(), endpointCredentials(), endpointRegenerate()}
}

// endpointSpec is the description that file, options and --set give.
func (c *call) endpointSpec() (*mlSpec, error) {
	s, err := c.readSpec()
	if err != nil {
		return nil, err
	}
	return s, c.overEndpoint(s)
}

func (c *call) overEndpoint(s *mlSpec) error {
	s.override(c, "name", "name", "auth-mode", "auth_mode", "tags", "tags", "description", "description")
	for option, key := range map[string]string{"traffic": "traffic", "mirror-traffic": "mirror_traffic"} {
		if _, ok := c.defs[option]; ok && c.given(option) {
			s.body[key] = strings.Join(c.many(option), " ")
		}
	}
	return c.applyGeneric(s.body)
}

// endpointBody is the wire's form of a description.
func endpointBody(spec object, location string) (object, error) {
	f := endpointFields()
	props, err := f.wire(spec)
	if err != nil {
		return nil, err
	}
	if props["authMode"] == nil {
		props["authMode"] = "Key"
	}
	if props["publicNetworkAccess"] == nil {
		props["publicNetworkAccess"] = "Enabled"
	}
	out := object{"location": location, "kind": "Managed", "identity": object{"type": "SystemAssigned"}, "properties": props, "tags": object{}}
	if id := spec["identity"]; id != nil {
		if out["identity"], err = identityToWire(id); err != nil {
			return nil, f.invalid(object{"identity": wrong(err)})
		}
	}
	if t := spec["tags"]; t != nil {
		if out["tags"], err = textMap().to(t); err != nil {
			return nil, f.invalid(object{"tags": wrong(err)})
		}
	}
	return out, nil
}

func endpointCreate() *command {
	return &command{path: "ml online-endpoint create", short: "Create an online endpoint.", example: "ml online-endpoint create -g myGroup -w myWorkspace -n myEndpoint -f endpoint.yml --set public_network_access=disabled",
		args: inWorkspace(endpointName(), fileOpt("endpoint"), setOpt(), opt("auth-mode", "How callers show who they are.").oneOf("key", "aml_token", "aad_token"),
			localEndpointOpt(), noWaitOpt()),
		run: workspaced(func(ctx context.Context, c *call, w *workspace) (any, error) {
			if err := c.notLocal(); err != nil {
				return nil, err
			}
			s, err := c.endpointSpec()
			if err != nil {
				return nil, err
			}
			name, err := s.named(endpointFields())
			if err != nil {
				return nil, err
			}
			loc, err := w.location(ctx)
			if err != nil {
				return nil, err
			}
			body, err := endpointBody(s.body, loc)
			if err != nil {
				return nil, err
			}
			v, err := w.m.put(ctx, w.under(onlineEndpoints, name), mlVersion, body, c.flag("no-wait"))
			return showEndpoint(v, nil), err
		})}
}

// endpoint reads an endpoint and its deployments.
func (w *workspace) endpoint(ctx context.Context, name string) (v any, deployments []any, err error) {
	if v, err = w.get(ctx, onlineEndpoints, name); err != nil {
		return nil, nil, err
	}
	deployments, err = w.list(ctx, onlineEndpoints, name, "deployments")
	return v, deployments, err
}

func endpointShow() *command {
	return &command{path: "ml online-endpoint show", short: "Show an online endpoint.", example: "ml online-endpoint show -g myGroup -w myWorkspace -n myEndpoint --query scoring_uri -o tsv",
		args: inWorkspace(endpointName().required(), localEndpointOpt()),
		run: workspaced(func(ctx context.Context, c *call, w *workspace) (any, error) {
			if err := c.notLocal(); err != nil {
				return nil, err
			}
			v, d, err := w.endpoint(ctx, c.text("name"))
			return showEndpoint(v, d), err
		})}
}

func endpointList() *command {
	return &command{path: "ml online-endpoint list", short: "List the online endpoints of a workspace.", example: "ml online-endpoint list -g myGroup -w myWorkspace",
		args: inWorkspace(localEndpointOpt()), table: "[].{Name:name, AuthMode:auth_mode, State:provisioning_state, Public:public_network_access, ScoringUri:scoring_uri}",
		run: workspaced(func(ctx context.Context, c *call, w *workspace) (any, error) {
			if err := c.notLocal(); err != nil {
				return nil, err
			}
			l, err := w.list(ctx, onlineEndpoints)
			return each(l, func(v any) any { return showEndpoint(v, nil) }), err
		})}
}

func endpointUpdate() *command {
	args := inWorkspace(endpointName().required(), fileOpt("endpoint"), tagsOpt(), opt("description", "Description."), localEndpointOpt(), noWaitOpt())
	return &command{path: "ml online-endpoint update", short: "Change an online endpoint, its traffic above all.", generic: true,
		example: "ml online-endpoint update -g myGroup -w myWorkspace -n myEndpoint --traffic \"blue=90 green=10\"", args: append(args, trafficOpts()...),
		run: workspaced(func(ctx context.Context, c *call, w *workspace) (any, error) {
			if err := c.notLocal(); err != nil {
				return nil, err
			}
			name := c.text("name")
			file, err := c.readSpec()
			if err != nil {
				return nil, err
			}
			v, err := w.get(ctx, onlineEndpoints, name)
			if err != nil {
				return nil, err
			}
			s := &mlSpec{body: showEndpoint(v, nil).(object), dir: file.dir}
			maps.Copy(s.body, file.body)
			if err := c.overEndpoint(s); err != nil {
				return nil, err
			}
			return w.putEndpoint(ctx, c, v, s.body)
		})}
}

// putEndpoint writes an endpoint that was read as v and is to be as spec says.
func (w *workspace) putEndpoint(ctx context.Context, c *call, v any, spec object) (any, error) {
	body, err := endpointBody(spec, textAt(v, "location"))
	if err != nil {
		return nil, err
	}
	for k := range objectOr(at(body, "properties", "properties")) {
		if strings.HasPrefix(strings.ToLower(k), "azureml.") || k == "AzureAsyncOperationUri" {
			delete(at(body, "properties", "properties").(object), k) // the service's own
		}
	}
	name := textAt(v, "name")
	out, err := w.m.put(ctx, w.under(onlineEndpoints, name), mlVersion, body, c.flag("no-wait"))
	if err != nil || out == nil {
		return nil, err
	}
	d, err := w.list(ctx, onlineEndpoints, name, "deployments")
	return showEndpoint(out, d), err
}

func endpointDelete() *command {
	return &command{path: "ml online-endpoint delete", short: "Delete an online endpoint with its deployments.", example: "ml online-endpoint delete -g myGroup -w myWorkspace -n myEndpoint --yes --no-wait",
		args: inWorkspace(endpointName().required(), yesOpt(), localEndpointOpt(), noWaitOpt()),
		run: workspaced(func(ctx context.Context, c *call, w *workspace) (any, error) {
			if err := c.notLocal(); err != nil {
				return nil, err
			}
			if err := c.confirm("Are you sure you want to perform this operation?"); err != nil {
				return nil, err
			}
			if _, err := w.get(ctx, onlineEndpoints, c.text("name")); err != nil {
				return nil, err
			}
			return nil, w.m.delete(ctx, w.under(onlineEndpoints, c.text("name")), mlVersion, c.flag("no-wait"))
		})}
}

func endpointCredentials() *command {
	return &command{path: "ml online-endpoint get-credentials", short: "Show the keys of an online endpoint, or a token for it.",
		example: "ml online-endpoint get-credentials -g myGroup -w myWorkspace -n myEndpoint --query primaryKey -o tsv", args: inWorkspace(endpointName().required()),
		run: workspaced(func(ctx context.Context, c *call, w *workspace) (any, error) {
			v, err := w.get(ctx, onlineEndpoints, c.text("name"))
			if err != nil {
				return nil, err
			}
			return w.credentials(ctx, v)
		})}
}

// credentials are what callers of an endpoint show.
func (w *workspace) credentials(ctx context.Context, endpoint any) (any, error) {
	path := w.under(onlineEndpoints, textAt(endpoint, "name"))
	switch mode := textAt(endpoint, "properties", "authMode"); strings.ToLower(mode) {
	case "key":
		return w.m.post(ctx, path+"/listKeys", mlVersion, nil)
	case "amltoken":
		return w.m.post(ctx, path+"/token", mlVersion, nil)
	default:
		t, err := w.m.s.token(ctx, request{resource: mlAudience})
		if err != nil {
			return nil, err
		}
		return object{"accessToken": t, "tokenType": "Bearer"}, nil
	}
}

// mlAudience is what tokens for endpoints of the mode aad_token are for.
const mlAudience = "https://ml.azure.com"

func endpointRegenerate() *command {
	return &command{path: "ml online-endpoint regenerate-keys", short: "Replace a key of an online endpoint.",
		example: "ml online-endpoint regenerate-keys -g myGroup -w myWorkspace -n myEndpoint --key-type primary --yes",
		args:    inWorkspace(endpointName().required(), opt("key-type", "Which key.").oneOf("primary", "secondary").byDefault("primary"), yesOpt(), noWaitOpt()),
		run: workspaced(func(ctx context.Context, c *call, w *workspace) (any, error) {
			if err := c.confirm("Are you sure you want to perform this operation?"); err != nil {
				return nil, err
			}
			v, err := w.get(ctx, onlineEndpoints, c.text("name"))
			if err != nil {
				return nil, err
			}
			if mode := textAt(v, "properties", "authMode"); !strings.EqualFold(mode, "key") {
				return nil, failf("Endpoint '%s' does not have keys: its auth_mode is %s.", c.text("name"), authModes().from(mode))
			}
			_, err = w.m.write(ctx, http.MethodPost, w.under(onlineEndpoints, c.text("name"))+"/regenerateKeys", mlVersion, object{"keyType": capital(c.text("key-type"))}, c.flag("no-wait"))
			return nil, err
		})}
}

// deploymentNames are the names of deployments, in order.
func deploymentNames(l []any) []string {
	var out []string
	for _, d := range l {
		out = append(out, textAt(d, "name"))
	}
	slices.Sort(out)
	return out
}
