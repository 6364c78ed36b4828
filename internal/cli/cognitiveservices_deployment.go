package cli

import "context"

func showDeployment(v any) any {
	withNulls(v, "etag", "sku", "systemData", "tags")
	pythonTimes(at(v, "systemData"), "createdAt", "lastModifiedAt")
	withNulls(at(v, "sku"), "family", "size", "tier")
	props := withNulls(at(v, "properties"), "callRateLimit", "capabilities", "dynamicThrottlingEnabled", "raiPolicyName", "rateLimits", "scaleSettings", "versionUpgradeOption")
	withNulls(at(props, "model"), "callRateLimit", "source")
	return v
}

func deploymentArgs() []arg {
	return append(aiAccountArgs(), opt("deployment-name", "Name of the deployment.").required().idPart("child"))
}

func deploymentCommands() []*command {
	const base = "cognitiveservices account deployment "
	one := func(c *call, m *management) string {
		return c.aiAccountPath(m, "deployments", c.text("deployment-name"))
	}
	in := " --name myAccount --resource-group myGroup"
	return []*command{
		{path: base + "create", short: "Deploy a model, or change a deployment.",
			example: base + "create" + in + " --deployment-name chat --model-name gpt-4o-mini --model-version 2024-07-18 --model-format OpenAI --sku-name Standard --sku-capacity 1",
			args:    append(deploymentArgs(), deploymentFields()...),
			run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
				v, err := m.put(ctx, one(c, m), cognitiveVersion, c.deploymentBody(), false)
				return showDeployment(v), err
			})},
		{path: base + "show", short: "Show a deployment.", example: base + "show" + in + " --deployment-name chat", args: deploymentArgs(),
			run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
				v, err := m.get(ctx, one(c, m), cognitiveVersion)
				return showDeployment(v), err
			})},
		{path: base + "list", short: "List the deployments of an account.", example: base + "list" + in + " --query \"[0].name\" --output tsv", args: aiAccountArgs(),
			table: "[].{Name:name, ResourceGroup:resourceGroup}",
			run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
				l, err := m.list(ctx, c.aiAccountPath(m)+"/deployments", cognitiveVersion)
				return each(l, showDeployment), err
			})},
		{path: base + "delete", short: "Delete a deployment.", example: base + "delete" + in + " --deployment-name chat", args: deploymentArgs(),
			run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
				return nil, m.delete(ctx, one(c, m), cognitiveVersion, false)
			})},
	}
}

func deploymentFields() []arg {
	return []arg{
		opt("model-name", "Name of the model.").required(), opt("model-version", "Version of the model.").required(),
		opt("model-format", "Format of the model: OpenAI.").required(), opt("model-source", "Resource id of the account that has the model."),
		opt("sku-name", "Kind of the deployment.").or("--sku"),
		numberOpt("sku-capacity", "Capacity: thousands of tokens a minute.").or("--capacity"),
		opt("scale-settings-scale-type", "Kind of the deployment, in its older form.").or("--scale-type").oneOf("Manual", "Standard"),
		numberOpt("scale-settings-capacity", "Capacity, in its older form.").or("--scale-capacity"),
	}
}

// deploymentBody is the deployment of the options: with a sku, or, as older
// clients send it, with scale settings.
func (c *call) deploymentBody() object {
	model := object{"format": c.text("model-format"), "name": c.text("model-name"), "version": c.text("model-version")}
	c.setIf(model, "source", "model-source")
	props := object{"model": model}
	body := object{"properties": props}
	if c.given("sku-name") || c.given("sku-capacity") {
		sku := sub(body, "sku")
		sku["name"] = firstNonEmpty(c.text("sku-name"), "Standard")
		c.setIf(sku, "capacity", "sku-capacity")
	}
	if c.given("scale-settings-scale-type") || c.given("scale-settings-capacity") {
		scale := sub(props, "scaleSettings")
		c.setIf(scale, "scaleType", "scale-settings-scale-type")
		c.setIf(scale, "capacity", "scale-settings-capacity")
	}
	return body
}
