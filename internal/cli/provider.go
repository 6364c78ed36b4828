package cli

import (
	"context"
	"net/url"
	"time"
)

func providerNoun() noun {
	return noun{name: "provider", short: "Manage resource providers.", groups: map[string]string{"operation": "See what providers can do."},
		commands: func() []*command {
			return []*command{providerList(), providerShow(), providerRegister(), providerUnregister(), providerOperationList(), providerOperationShow()}
		}}
}

func providerName() arg {
	return opt("namespace", "Namespace of the provider, such as Microsoft.KeyVault.").or("-n").required()
}

func providerList() *command {
	return &command{path: "provider list", short: "List the providers.", example: "provider list --output table",
		args:  []arg{opt("expand", "Further members of the answer.")},
		table: "[].{Namespace:namespace, RegistrationPolicy:registrationPolicy, RegistrationState:registrationState}",
		run: func(ctx context.Context, c *call) (any, error) {
			m, err := c.arm()
			if err != nil {
				return nil, err
			}
			var q []string
			if e := c.text("expand"); e != "" {
				q = []string{"$expand", e}
			}
			return m.list(ctx, m.subPath+"/providers", resourcesVersion, q...)
		}}
}

func providerShow() *command {
	return &command{path: "provider show", short: "Show a provider.", example: "provider show --namespace Microsoft.KeyVault",
		args:  []arg{providerName(), opt("expand", "Further members of the answer.")},
		table: "{Namespace:namespace, RegistrationPolicy:registrationPolicy, RegistrationState:registrationState}",
		run: func(ctx context.Context, c *call) (any, error) {
			m, err := c.arm()
			if err != nil {
				return nil, err
			}
			var q []string
			if e := c.text("expand"); e != "" {
				q = []string{"$expand", e}
			}
			return m.get(ctx, m.subPath+"/providers/"+url.PathEscape(c.text("namespace")), resourcesVersion, q...)
		}}
}

func providerRegister() *command {
	return &command{path: "provider register", short: "Register a provider with the subscription.", example: "provider register --namespace Microsoft.KeyVault --wait",
		args: []arg{providerName(), flagOpt("wait", "Wait until it is registered.")},
		run: func(ctx context.Context, c *call) (any, error) {
			m, err := c.arm()
			if err != nil {
				return nil, err
			}
			if c.flag("wait") {
				return nil, m.register(ctx, c.text("namespace"))
			}
			_, err = m.post(ctx, m.subPath+"/providers/"+url.PathEscape(c.text("namespace"))+"/register", resourcesVersion, nil)
			return nil, err
		}}
}

func providerUnregister() *command {
	return &command{path: "provider unregister", short: "Unregister a provider from the subscription.", example: "provider unregister --namespace Microsoft.Network",
		args: []arg{providerName(), flagOpt("wait", "Wait until it is unregistered.")},
		run: func(ctx context.Context, c *call) (any, error) {
			m, err := c.arm()
			if err != nil {
				return nil, err
			}
			path := m.subPath + "/providers/" + url.PathEscape(c.text("namespace"))
			v, err := m.post(ctx, path+"/unregister", resourcesVersion, nil)
			for err == nil && c.flag("wait") && textAt(v, "registrationState") == "Unregistering" {
				if err = pause(ctx, 2*time.Second); err == nil {
					v, err = m.get(ctx, path, resourcesVersion)
				}
			}
			return nil, err
		}}
}
