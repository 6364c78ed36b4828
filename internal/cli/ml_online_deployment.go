package cli

import (
	"context"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"
)

func odFields() mlFields {
	probe := nested(mlFields{name: "ProbeSettingsSchema", fields: []mlField{
		{yaml: "failure_threshold", wire: "failureThreshold", conv: intConv()}, {yaml: "success_threshold", wire: "successThreshold", conv: intConv()},
		{yaml: "timeout", wire: "timeout", conv: durationConv(time.Second)}, {yaml: "period", wire: "period", conv: durationConv(time.Second)},
		{yaml: "initial_delay", wire: "initialDelay", conv: durationConv(time.Second)}}})
	requests := nested(mlFields{name: "OnlineRequestSettingsSchema", fields: []mlField{
		{yaml: "max_concurrent_requests_per_instance", wire: "maxConcurrentRequestsPerInstance", conv: intConv()},
		{yaml: "max_queue_wait_ms", wire: "maxQueueWait", conv: durationConv(time.Millisecond)},
		{yaml: "request_timeout_ms", wire: "requestTimeout", conv: durationConv(time.Millisecond)}}})
	scale := nested(mlFields{name: "OnlineScaleSettingsSchema", fields: []mlField{
		{yaml: "type", wire: "scaleType", conv: enum("default", "Default", "target_utilization", "TargetUtilization")},
		{yaml: "min_instances", wire: "minInstances", conv: intConv()}, {yaml: "max_instances", wire: "maxInstances", conv: intConv()},
		{yaml: "polling_interval", wire: "pollingInterval", conv: durationConv(time.Second)},
		{yaml: "target_utilization_percentage", wire: "targetUtilizationPercentage", conv: intConv()}}})
	return mlFields{name: "ManagedOnlineDeploymentSchema",
		also: []string{"name", "endpoint_name", "location", "tags", "id", "model", "environment", "code_configuration", "instance_count", "resourceGroup", "resource_group"},
		fields: []mlField{
			{yaml: "app_insights_enabled", wire: "appInsightsEnabled", conv: boolConv()},
			{yaml: "current_instances", wire: "currentInstances", shown: true}, // where it follows the load
			{yaml: "data_collector", wire: "dataCollector"},
			{yaml: "description", wire: "description", conv: textConv()},
			{yaml: "egress_public_network_access", wire: "egressPublicNetworkAccess", conv: onOff()},
			{yaml: "environment_variables", wire: "environmentVariables", conv: textMap()},
			{yaml: "instance_type", wire: "instanceType", conv: textConv()},
			{yaml: "liveness_probe", wire: "livenessProbe", conv: probe},
			{yaml: "model_mount_path", wire: "modelMountPath", conv: textConv()},
			{yaml: "properties", wire: "properties", conv: textMap()},
			{yaml: "provisioning_state", wire: "provisioningState", shown: true},
			{yaml: "readiness_probe", wire: "readinessProbe", conv: probe},
			{yaml: "request_settings", wire: "requestSettings", conv: requests},
			{yaml: "scale_settings", wire: "scaleSettings", conv: scale},
			{yaml: "scaled_to_zero", wire: "scaledToZero", shown: true},
			{yaml: "type", wire: "endpointComputeType", conv: enum("managed", "Managed")},
		}}
}

// showOnlineDeployment is a deployment as descriptions have it.
func showOnlineDeployment(v any) any {
	if v == nil {
		return nil
	}
	props := at(v, "properties")
	out := odFields().show(props)
	for _, k := range []string{"id", "name", "location"} {
		out[k] = at(v, k)
	}
	out["tags"] = objectOr(at(v, "tags"))
	for _, k := range []string{"properties", "environment_variables"} {
		out[k] = objectOr(out[k])
	}
	if parts := strings.Split(textAt(v, "id"), "/"); len(parts) > 3 {
		out["endpoint_name"] = parts[len(parts)-3]
	}
	if s := textAt(props, "model"); s != "" {
		out["model"] = s
	}
	if s := textAt(props, "environmentId"); s != "" {
		out["environment"] = s
	}
	if code := at(props, "codeConfiguration"); code != nil {
		out["code_configuration"] = withoutNil(object{"code": textAt(code, "codeId"), "scoring_script": textAt(code, "scoringScript")})
	}
	if n := at(v, "sku", "capacity"); n != nil {
		out["instance_count"] = n
	}
	return out
}

func odArgs(more ...arg) []arg {
	return inWorkspace(append([]arg{opt("name", "Name of the deployment.").or("-n"), opt("endpoint-name", "Name of the endpoint.").or("-e")}, more...)...)
}

func oneDeployment(more ...arg) []arg {
	args := odArgs(more...)
	for i := range args {
		if args[i].name == "name" || args[i].name == "endpoint-name" {
			args[i] = args[i].required()
		}
	}
	return args
}

func onlineDeploymentCommands() []*command {
	return []*command{odCreate(), odShow(), odList(), odUpdate(), odDelete(), odLogs()}
}

func (w *workspace) deployment(endpoint, name string) string {
	return w.under(onlineEndpoints, endpoint, "deployments", name)
}

func skipScriptOpt() arg {
	return flagOpt("skip-script-validation", "Do not look whether the scoring script has init() and run().")
}

func odCreate() *command {
	return &command{path: "ml online-deployment create", short: "Create a deployment under an online endpoint.",
		example: "ml online-deployment create -g myGroup -w myWorkspace -n blue --endpoint-name myEndpoint -f blue-deployment.yml --all-traffic",
		args: odArgs(fileOpt("deployment"), setOpt(), flagOpt("all-traffic", "Give it all the traffic of the endpoint once it runs."),
			skipScriptOpt(), localEndpointOpt(), flagOpt("package-model", "Not supported."), noWaitOpt()),
		run: workspaced(func(ctx context.Context, c *call, w *workspace) (any, error) {
			s, err := c.deploymentSpec()
			if err != nil {
				return nil, err
			}
			v, err := w.deploy(ctx, c, s)
			if err != nil || v == nil || !c.flag("all-traffic") {
				return showOnlineDeployment(v), err
			}
			return showOnlineDeployment(v), w.allTraffic(ctx, textAt(s.body, "endpoint_name"), textAt(s.body, "name"))
		})}
}

// deploymentSpec is the description that file, options and --set give.
func (c *call) deploymentSpec() (*mlSpec, error) {
	if err := c.notLocal(); err != nil {
		return nil, err
	}
	if c.flag("package-model") {
		return nil, usagef("--package-model is not supported: images are not packed with their models here.")
	}
	if c.flag("all-traffic") && c.flag("no-wait") {
		return nil, usagef("--all-traffic can't be used with --no-wait: traffic is given once the deployment runs.")
	}
	s, err := c.spec("name", "name", "endpoint-name", "endpoint_name")
	if err != nil {
		return nil, err
	}
	for _, k := range []string{"name", "endpoint_name"} {
		if textAt(s.body, k) == "" {
			return nil, odFields().missing(k)
		}
	}
	return s, nil
}

// deploy uploads what a description names and puts the deployment.
func (w *workspace) deploy(ctx context.Context, c *call, s *mlSpec) (any, error) {
	endpoint, err := w.get(ctx, onlineEndpoints, textAt(s.body, "endpoint_name"))
	if err != nil {
		return nil, err
	}
	body, err := deploymentBody(s.body)
	if err != nil {
		return nil, err
	}
	if size := textAt(s.body, "instance_type"); strings.EqualFold(size, "Standard_DS1_v2") || strings.EqualFold(size, "Standard_DS2_v2") {
		w.m.s.warn("Instance type %s may be too small for compute resources. Minimum recommended compute SKU is Standard_DS3_v2 for general purpose endpoints. "+
			"Learn more about SKUs here: https://learn.microsoft.com/azure/machine-learning/reference-managed-online-endpoints-vm-sku-list", size)
	}
	if err := w.parts(ctx, c, s, body["properties"].(object)); err != nil {
		return nil, err
	}
	body["location"] = at(endpoint, "location")
	return w.m.put(ctx, w.deployment(textAt(s.body, "endpoint_name"), textAt(s.body, "name")), mlVersion, body, c.flag("no-wait"))
}

// deploymentBody is the wire's form of a description but for its parts.
func deploymentBody(spec object) (object, error) {
	f := odFields()
	props, err := f.wire(spec)
	if err != nil {
		return nil, err
	}
	if props["instanceType"] == nil {
		return nil, f.missing("instance_type")
	}
	props["endpointComputeType"] = "Managed"
	if props["scaleSettings"] == nil {
		props["scaleSettings"] = object{"scaleType": "Default"}
	}
	count := 1
	if v := spec["instance_count"]; v != nil {
		if count, err = strconv.Atoi(scalar(v, "", "", "")); err != nil || count < 0 {
			return nil, f.invalid(object{"instance_count": []any{"Not a valid integer."}})
		}
	}
	out := object{"properties": props, "sku": object{"name": "Default", "capacity": count}, "tags": object{}}
	if t := spec["tags"]; t != nil {
		if out["tags"], err = textMap().to(t); err != nil {
			return nil, f.invalid(object{"tags": wrong(err)})
		}
	}
	return out, nil
}

// parts puts ids of code, model and environment in props, after uploading
// what is local.
func (w *workspace) parts(ctx context.Context, c *call, s *mlSpec, props object) error {
	if err := w.codePart(ctx, c, s, props); err != nil {
		return err
	}
	if v := s.body["model"]; v != nil {
		id, err := w.part(ctx, modelKind(), s, v, w.register)
		if err != nil {
			return err
		}
		props["model"] = id
	}
	if v := s.body["environment"]; v != nil {
		register := func(ctx context.Context, _ assetKind, spec *mlSpec) (any, error) {
			return w.registerEnvironment(ctx, spec)
		}
		id, err := w.part(ctx, environmentKind(), s, v, register)
		if err != nil {
			return err
		}
		props["environmentId"] = id
	}
	return nil
}

// part is the id of an asset that a description names, or describes.
func (w *workspace) part(ctx context.Context, k assetKind, s *mlSpec, v any, register func(context.Context, assetKind, *mlSpec) (any, error)) (string, error) {
	switch t := v.(type) {
	case string:
		return w.reference(ctx, k, t)
	case object:
		made, err := register(ctx, k, &mlSpec{body: maps.Clone(t), dir: s.dir})
		return textAt(made, "id"), err
	}
	return "", odFields().invalid(object{k.word: []any{"Invalid input type."}})
}

func (w *workspace) codePart(ctx context.Context, c *call, s *mlSpec, props object) error {
	code, ok := s.body["code_configuration"].(object)
	if !ok {
		if s.body["code_configuration"] != nil {
			return odFields().invalid(object{"code_configuration": []any{"Invalid input type."}})
		}
		return nil
	}
	fields := mlFields{name: "CodeConfigurationSchema", also: []string{"code"}, fields: []mlField{{yaml: "scoring_script", wire: "scoringScript", conv: textConv()}}}
	out, err := fields.wire(code)
	if err != nil {
		return err
	}
	path := textAt(code, "code")
	if path == "" {
		return fields.missing("code")
	}
	if out["scoringScript"] == nil {
		return fields.missing("scoring_script")
	}
	props["codeConfiguration"] = out
	if !isLocal(path) || strings.HasPrefix(path, "/subscriptions/") {
		out["codeId"], err = w.reference(ctx, codeKind(), path)
		return err
	}
	if !c.flag("skip-script-validation") {
		if err := checkScript(textAt(s.body, "name"), s.path(path), textAt(out, "scoringScript")); err != nil {
			return err
		}
	}
	made, err := w.register(ctx, codeKind(), &mlSpec{body: object{"path": path}, dir: s.dir})
	out["codeId"] = textAt(made, "id")
	return err
}

// allTraffic gives a deployment all requests of its endpoint.
func (w *workspace) allTraffic(ctx context.Context, endpoint, name string) error {
	v, err := w.get(ctx, onlineEndpoints, endpoint)
	if err != nil {
		return err
	}
	spec := showEndpoint(v, nil).(object)
	spec["traffic"] = object{name: 100}
	spec["mirror_traffic"] = withoutKey(objectOr(spec["mirror_traffic"]), name)
	_, err = w.putEndpoint(ctx, w.c, v, spec)
	return err
}

func withoutKey(o object, key string) object {
	for k := range o {
		if strings.EqualFold(k, key) {
			delete(o, k)
		}
	}
	return o
}

func odShow() *command {
	return &command{path: "ml online-deployment show", short: "Show a deployment.", example: "ml online-deployment show -g myGroup -w myWorkspace -n blue -e myEndpoint", args: oneDeployment(localEndpointOpt()),
		run: workspaced(func(ctx context.Context, c *call, w *workspace) (any, error) {
			if err := c.notLocal(); err != nil {
				return nil, err
			}
			v, err := w.m.get(ctx, w.deployment(c.text("endpoint-name"), c.text("name")), mlVersion)
			return showOnlineDeployment(v), err
		})}
}

func odList() *command {
	return &command{path: "ml online-deployment list", short: "List the deployments of an endpoint.", example: "ml online-deployment list -g myGroup -w myWorkspace -e myEndpoint",
		args:  inWorkspace(opt("endpoint-name", "Name of the endpoint.").or("-e").required(), localEndpointOpt()),
		table: "[].{Name:name, State:provisioning_state, InstanceType:instance_type, Instances:instance_count, Running:current_instances}",
		run: workspaced(func(ctx context.Context, c *call, w *workspace) (any, error) {
			if err := c.notLocal(); err != nil {
				return nil, err
			}
			l, err := w.list(ctx, onlineEndpoints, c.text("endpoint-name"), "deployments")
			return each(l, showOnlineDeployment), err
		})}
}

func odUpdate() *command {
	return &command{path: "ml online-deployment update", short: "Change a deployment.", generic: true,
		example: "ml online-deployment update -g myGroup -w myWorkspace -n blue -e myEndpoint --set instance_count=2",
		args:    odArgs(fileOpt("deployment"), skipScriptOpt(), localEndpointOpt(), noWaitOpt()),
		run: workspaced(func(ctx context.Context, c *call, w *workspace) (any, error) {
			if err := c.notLocal(); err != nil {
				return nil, err
			}
			s, err := c.readSpec()
			if err != nil {
				return nil, err
			}
			s.override(c, "name", "name", "endpoint-name", "endpoint_name")
			name, endpoint := textAt(s.body, "name"), textAt(s.body, "endpoint_name")
			if name == "" || endpoint == "" {
				return nil, usagef("the following arguments are required: --name/-n, --endpoint-name/-e")
			}
			v, err := w.m.get(ctx, w.deployment(endpoint, name), mlVersion)
			if err != nil {
				return nil, err
			}
			if c.text("file") == "" {
				s.body = showOnlineDeployment(v).(object)
				s.keepIDs()
			}
			if err := c.applyGeneric(s.body); err != nil {
				return nil, err
			}
			v, err = w.deploy(ctx, c, s)
			return showOnlineDeployment(v), err
		})}
}

// keepIDs marks the parts of a deployment that was read as ids.
func (s *mlSpec) keepIDs() {
	if code, ok := s.body["code_configuration"].(object); ok && textAt(code, "code") != "" {
		code["code"] = "azureml:" + strings.TrimPrefix(textAt(code, "code"), "azureml:")
	}
}

func odDelete() *command {
	return &command{path: "ml online-deployment delete", short: "Delete a deployment that has no traffic.", example: "ml online-deployment delete -g myGroup -w myWorkspace -n blue -e myEndpoint --yes",
		args: oneDeployment(yesOpt(), localEndpointOpt(), noWaitOpt()),
		run: workspaced(func(ctx context.Context, c *call, w *workspace) (any, error) {
			if err := c.notLocal(); err != nil {
				return nil, err
			}
			if err := c.confirm("Are you sure you want to perform this operation?"); err != nil {
				return nil, err
			}
			path := w.deployment(c.text("endpoint-name"), c.text("name"))
			if _, err := w.m.get(ctx, path, mlVersion); err != nil {
				return nil, err
			}
			return nil, w.m.delete(ctx, path, mlVersion, c.flag("no-wait"))
		})}
}

func odLogs() *command {
	return &command{path: "ml online-deployment get-logs", short: "Show the log of a deployment's containers.", example: "ml online-deployment get-logs -g myGroup -w myWorkspace -n blue -e myEndpoint --lines 100",
		args: oneDeployment(opt("container", "Which container.").or("-c").oneOf("inference-server", "storage-initializer").byDefault("inference-server"),
			numberOpt("lines", "Most lines, from the end. Default: 5000.").or("-l"), localEndpointOpt()),
		text: func(_ *call, v any) string { return strings.TrimRight(scalarText(v), "\n") + "\n" },
		run: workspaced(func(ctx context.Context, c *call, w *workspace) (any, error) {
			if err := c.notLocal(); err != nil {
				return nil, err
			}
			lines := 5000
			if c.given("lines") {
				lines = c.number("lines")
			}
			kind := map[string]string{"inference-server": "InferenceServer", "storage-initializer": "StorageInitializer"}[c.text("container")]
			a, err := w.m.do(ctx, http.MethodPost, w.deployment(c.text("endpoint-name"), c.text("name"))+"/getLogs", mlVersion, object{"containerType": kind, "tail": lines})
			if err != nil {
				return nil, err
			}
			v, err := decode(a.body)
			return textAt(v, "content"), err
		})}
}
