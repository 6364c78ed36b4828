package cli

import (
	"context"
	"net/url"
	"slices"
	"strings"
)

const (
	cognitiveType    = "Microsoft.CognitiveServices/accounts"
	cognitiveVersion = "2024-10-01"
)

func cognitiveNoun() noun {
	return noun{name: "cognitiveservices", short: "Manage Azure OpenAI accounts and their deployments.",
		groups: map[string]string{
			"account": "Manage accounts.", "account keys": "Manage the keys of an account.", "account deployment": "Manage the deployments of models.",
			"account network-rule": "Manage from where an account may be reached.", "account identity": "Manage the identity of an account.",
			"model": "Look at models that can be deployed.", "usage": "Look at what is used in a region.",
		},
		commands: func() []*command {
			cmds := []*command{aiAccountCreate(), aiAccountShow(), aiAccountList("cognitiveservices account list"), aiAccountUpdate(), aiAccountDelete(),
				aiAccountListSkus(), aiAccountListKinds(), aiAccountListModels(), aiAccountListUsage(), aiAccountList("cognitiveservices list"),
				regionModels(), regionUsage()}
			cmds = append(cmds, deletedAccountCommands()...)
			cmds = append(cmds, aiAccountKeyCommands()...)
			cmds = append(cmds, aiAccountRuleCommands()...)
			cmds = append(cmds, aiAccountIdentityCommands()...)
			return append(cmds, deploymentCommands()...)
		}}
}

// aiAccountArgs name an account.
func aiAccountArgs() []arg { return []arg{nameOpt("Name of the account."), groupOpt()} }

func (c *call) aiAccountPath(m *management, under ...string) string {
	typ, names := cognitiveType, []string{c.text("name")}
	for i := 0; i < len(under); i += 2 {
		typ += "/" + under[i]
		names = append(names, under[i+1:min(i+2, len(under))]...)
	}
	return m.resource(c.text("resource-group"), typ, names...)
}

func showCognitive(v any) any {
	withNulls(v, "etag", "identity", "kind", "sku", "systemData", "tags")
	pythonTimes(at(v, "systemData"), "createdAt", "lastModifiedAt")
	withNulls(at(v, "sku"), "capacity", "family", "size", "tier")
	withNulls(at(v, "properties"), "allowedFqdnList", "apiProperties", "callRateLimit", "capabilities", "customSubDomainName", "dateCreated",
		"deletionDate", "disableLocalAuth", "dynamicThrottlingEnabled", "encryption", "endpoint", "endpoints", "internalId", "isMigrated",
		"migrationToken", "networkAcls", "privateEndpointConnections", "provisioningState", "publicNetworkAccess", "quotaLimit", "restore",
		"restrictOutboundNetworkAccess", "scheduledPurgeDate", "skuChangeInfo", "userOwnedStorage")
	return v
}

// aiAccountFields are the options that create and update share.
func aiAccountFields() []arg {
	return []arg{
		opt("custom-domain", "Subdomain of the account: its part of the host name. It cannot be changed once it is set."),
		tagsOpt(),
		listOpt("api-properties", "Properties of special kinds of accounts, as JSON or KEY=VALUE."),
		opt("storage", "Storage accounts of your own, as a JSON array."),
		opt("encryption", "With whose key the data is encrypted, as JSON."),
	}
}

// fillAccount sets what was given.
func (c *call) fillAccount(body object) error {
	props := sub(body, "properties")
	c.setIf(props, "customSubDomainName", "custom-domain")
	c.setIf(body, "tags", "tags")
	for option, key := range map[string]string{"storage": "userOwnedStorage", "encryption": "encryption"} {
		if !c.given(option) {
			continue
		}
		v, err := decode([]byte(c.text(option)))
		if err != nil {
			return usagef("argument --%s: not JSON", option)
		}
		props[key] = v
	}
	if c.given("api-properties") {
		v, err := c.apiProperties()
		if err != nil {
			return err
		}
		props["apiProperties"] = v
	}
	return nil
}

func (c *call) apiProperties() (any, error) {
	words := c.many("api-properties")
	if len(words) == 1 && strings.HasPrefix(strings.TrimSpace(words[0]), "{") {
		v, err := decode([]byte(words[0]))
		if err != nil {
			return nil, usagef("argument --api-properties: not JSON")
		}
		return v, nil
	}
	out := object{}
	for _, w := range words {
		k, v, _ := strings.Cut(w, "=")
		out[k] = v
	}
	return out, nil
}

func aiAccountSKU() arg {
	return opt("sku", "Kind of price: S0.").or("--sku-name")
}

func aiAccountCreate() *command {
	args := append(aiAccountArgs(), locationOpt(), aiAccountSKU().required(), opt("kind", "What the account does: OpenAI or AIServices.").required())
	return &command{path: "cognitiveservices account create", short: "Create an account.",
		example: "cognitiveservices account create --name myAccount --resource-group myGroup --location eastus --kind OpenAI --sku S0 --custom-domain mydomain",
		args: append(append(args, aiAccountFields()...), flagOpt("assign-identity", "Give the account an identity of its own."),
			boolOpt("allow-project-management", "Let the account hold projects."), flagOpt("yes", "Do not ask to agree to terms.")),
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			loc, err := m.locationOf(ctx, c)
			if err != nil {
				return nil, err
			}
			body := object{"kind": c.text("kind"), "sku": object{"name": c.text("sku")}, "location": loc, "properties": object{}}
			if err := c.fillAccount(body); err != nil {
				return nil, err
			}
			if c.flag("assign-identity") {
				body["identity"] = object{"type": "SystemAssigned"}
			}
			c.setIf(sub(body, "properties"), "allowProjectManagement", "allow-project-management")
			v, err := m.put(ctx, c.aiAccountPath(m), cognitiveVersion, body, false)
			return showCognitive(v), err
		})}
}

func aiAccountShow() *command {
	return &command{path: "cognitiveservices account show", short: "Show an account.",
		example: "cognitiveservices account show --name myAccount --resource-group myGroup --query properties.endpoint --output tsv", args: aiAccountArgs(),
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			v, err := m.get(ctx, c.aiAccountPath(m), cognitiveVersion)
			return showCognitive(v), err
		})}
}

func aiAccountList(path string) *command {
	return &command{path: path, short: "List accounts.", example: path + " --resource-group myGroup", args: []arg{groupFilter()},
		table: "[].{Kind:kind, Location:location, Name:name, ResourceGroup:resourceGroup}",
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			l, err := m.list(ctx, m.listPath(c.text("resource-group"), cognitiveType), cognitiveVersion)
			return each(l, showCognitive), err
		})}
}

func aiAccountUpdate() *command {
	return &command{path: "cognitiveservices account update", short: "Change an account.",
		example: "cognitiveservices account update --name myAccount --resource-group myGroup --custom-domain mydomain",
		args:    append(append(aiAccountArgs(), aiAccountSKU()), aiAccountFields()...),
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			body := object{"properties": object{}}
			if c.given("sku") {
				body["sku"] = object{"name": c.text("sku")}
			}
			if err := c.fillAccount(body); err != nil {
				return nil, err
			}
			return c.patchAIAccount(ctx, m, body)
		})}
}

func (c *call) patchAIAccount(ctx context.Context, m *management, body object) (any, error) {
	v, err := m.patch(ctx, c.aiAccountPath(m), cognitiveVersion, body, false)
	return showCognitive(v), err
}

func aiAccountDelete() *command {
	return &command{path: "cognitiveservices account delete", short: "Delete an account; it can be recovered for two days.",
		example: "cognitiveservices account delete --name myAccount --resource-group myGroup", args: aiAccountArgs(),
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			return nil, m.delete(ctx, c.aiAccountPath(m), cognitiveVersion, false)
		})}
}

func (m *management) cognitivePath(rest string) string {
	return m.subPath + "/providers/Microsoft.CognitiveServices" + rest
}

func aiAccountListSkus() *command {
	name, group := opt("name", "Name of an account, to list those that it may change to.").or("-n"), groupFilter()
	return &command{path: "cognitiveservices account list-skus", short: "List the skus of accounts.",
		example: "cognitiveservices account list-skus --kind OpenAI --location eastus",
		args:    []arg{name, group, opt("kind", "Only of this kind."), opt("location", "Only of this region.").or("-l").configured("location")},
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			if c.text("name") != "" {
				if c.text("resource-group") == "" {
					return nil, usagef("--resource-group is required when --name is specified.")
				}
				return m.get(ctx, c.aiAccountPath(m)+"/skus", cognitiveVersion)
			}
			l, err := m.list(ctx, m.cognitivePath("/skus"), cognitiveVersion)
			return slices.DeleteFunc(l, func(v any) bool {
				region := c.text("location") == "" || slices.ContainsFunc(items(at(v, "locations")), func(x any) bool {
					return strings.EqualFold(scalar(x, "", "", ""), plainLocation(c.text("location")))
				})
				return !region || c.text("kind") != "" && textAt(v, "kind") != c.text("kind")
			}), err
		})}
}

func aiAccountListKinds() *command {
	return &command{path: "cognitiveservices account list-kinds", short: "List the kinds of accounts.", example: "cognitiveservices account list-kinds",
		run: manage(func(ctx context.Context, _ *call, m *management) (any, error) {
			l, err := m.list(ctx, m.cognitivePath("/skus"), cognitiveVersion)
			seen := []string{}
			for _, v := range l {
				if k := textAt(v, "kind"); !slices.Contains(seen, k) {
					seen = append(seen, k)
				}
			}
			slices.Sort(seen)
			out := []any{}
			for _, k := range seen {
				out = append(out, k)
			}
			return out, err
		})}
}

func showModel(v any) any {
	return withNulls(v, "baseModel", "callRateLimit", "capabilities", "deprecation", "finetuneCapabilities", "isDefaultVersion", "lifecycleStatus",
		"maxCapacity", "skus", "source", "systemData")
}

func aiAccountListModels() *command {
	return &command{path: "cognitiveservices account list-models", short: "List the models that an account can deploy.",
		example: "cognitiveservices account list-models --name myAccount --resource-group myGroup --query \"[].name\"", args: aiAccountArgs(),
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			l, err := m.list(ctx, c.aiAccountPath(m)+"/models", cognitiveVersion)
			return each(l, showModel), err
		})}
}

func aiAccountListUsage() *command {
	return &command{path: "cognitiveservices account list-usage", short: "List what an account uses.",
		example: "cognitiveservices account list-usage --name myAccount --resource-group myGroup", args: aiAccountArgs(),
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			v, err := m.get(ctx, c.aiAccountPath(m)+"/usages", cognitiveVersion)
			return at(v, "value"), err
		})}
}

func regionOpt() arg {
	return opt("location", "Region, such as eastus.").or("-l").required().configured("location")
}

func (m *management) regional(c *call, what string) string {
	return m.cognitivePath("/locations/" + url.PathEscape(plainLocation(c.text("location"))) + "/" + what)
}

func regionModels() *command {
	return &command{path: "cognitiveservices model list", short: "List the models that can be deployed in a region.",
		example: "cognitiveservices model list --location eastus", args: []arg{regionOpt()},
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			l, err := m.list(ctx, m.regional(c, "models"), cognitiveVersion)
			return each(l, func(v any) any {
				showModel(at(v, "model"))
				return v
			}), err
		})}
}

func regionUsage() *command {
	return &command{path: "cognitiveservices usage list", short: "List what the deployments of a region use.",
		example: "cognitiveservices usage list --location eastus", args: []arg{regionOpt()},
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			return m.list(ctx, m.regional(c, "usages"), cognitiveVersion)
		})}
}
