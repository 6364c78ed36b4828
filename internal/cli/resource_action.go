package cli

import (
	"context"
	"net/url"
	"strings"
)

func resourceInvokeAction() *command {
	return &command{path: "resource invoke-action", short: "Call an action of a resource.",
		example: "resource invoke-action --action rewrap --ids ID",
		args: append(resourceArgs(), opt("action", "Name of the action, such as listKeys.").required(),
			opt("request-body", "The body as JSON. @FILE reads a file."), noWaitOpt()),
		run: func(ctx context.Context, c *call) (any, error) {
			var body any
			if c.given("request-body") {
				var err error
				if body, err = decode([]byte(c.text("request-body"))); err != nil {
					return nil, usagef("argument --request-body: not JSON")
				}
			}
			return c.eachResource(ctx, func(m *management, id, version string) (any, error) {
				if c.flag("no-wait") {
					_, err := m.do(ctx, "POST", id+"/"+url.PathEscape(c.text("action")), version, body)
					return nil, err
				}
				return m.post(ctx, id+"/"+url.PathEscape(c.text("action")), version, body)
			})
		}}
}

func resourceWait() *command {
	cmd := waitCommand("resource wait", "Wait until a resource is there, gone or in a state.", "resource wait --ids ID --created", resourceArgs(), nil)
	cmd.run = func(ctx context.Context, c *call) (any, error) {
		return c.eachResource(ctx, func(m *management, id, version string) (any, error) {
			return nil, c.await(ctx, func() (any, error) { return m.get(ctx, id, version) })
		})
	}
	return cmd
}

func tagAddValue() *command {
	return tagValue("tag add-value", "Add a value to a tag name of the subscription.",
		func(ctx context.Context, m *management, path string) (any, error) {
			return m.put(ctx, path, resourcesVersion, nil, false)
		})
}

func tagRemoveValue() *command {
	return tagValue("tag remove-value", "Remove a value from a tag name of the subscription.",
		func(ctx context.Context, m *management, path string) (any, error) {
			return nil, m.delete(ctx, path, resourcesVersion, false)
		})
}

func tagValue(path, short string, do func(ctx context.Context, m *management, path string) (any, error)) *command {
	return &command{path: path, short: short, example: path + " --name team --value blue",
		args: []arg{opt("name", "Name of the tag.").or("-n").required(), opt("value", "The value.").required()},
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			return do(ctx, m, m.subPath+"/tagNames/"+url.PathEscape(c.text("name"))+"/tagValues/"+url.PathEscape(c.text("value")))
		})}
}

func providerOperationList() *command {
	return &command{path: "provider operation list", short: "List the operations of all providers, by type.", example: "provider operation list --query [].name",
		args: []arg{opt("api-version", "Api-version.")},
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			return m.list(ctx, "/providers/Microsoft.Authorization/providerOperations", c.operationsVersion(), "$expand", "resourceTypes")
		})}
}

func providerOperationShow() *command {
	return &command{path: "provider operation show", short: "Show the operations of a provider, by type.",
		example: "provider operation show --namespace Microsoft.KeyVault",
		args:    []arg{providerName(), opt("api-version", "Api-version.")},
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			return m.get(ctx, "/providers/Microsoft.Authorization/providerOperations/"+url.PathEscape(c.text("namespace")), c.operationsVersion(), "$expand", "resourceTypes")
		})}
}

func (c *call) operationsVersion() string {
	return firstNonEmpty(strings.TrimSpace(c.text("api-version")), "2018-01-01-preview")
}
