package cli

import (
	"context"
	"net/http"
	"os/exec"
	"strings"
)

const (
	registryType    = "Microsoft.ContainerRegistry/registries"
	registryVersion = "2023-07-01"
)

func acrNoun() noun {
	return noun{name: "acr", short: "Manage container registries and what is in them.",
		groups: map[string]string{
			"credential": "Manage the passwords of a registry's administrator.", "network-rule": "Manage from where a registry may be reached.", "repository": "Manage repositories.",
			"private-endpoint-connection": "Approve, reject and remove private endpoint connections of a registry.",
		},
		commands: func() []*command {
			cmds := []*command{acrCreate(), acrShow(), acrList(), acrUpdate(), acrDelete(), acrCheckName(), acrLogin(), acrUsage()}
			cmds = append(cmds, acrCredentialCommands()...)
			cmds = append(cmds, registryConnectionCommands()...)
			cmds = append(cmds, acrRuleCommands()...)
			return append(cmds, acrRepositoryCommands()...)
		}}
}

// acrArgs name a registry; the group is found where it isn't given.
func acrArgs() []arg {
	g := groupOpt()
	g.need = false
	return []arg{opt("name", "Name of the registry.").or("-n").required().configured("acr").idPart("name"), g}
}

func showRegistry(v any) any {
	withNulls(v, "identity", "systemData", "tags")
	pythonTimes(at(v, "systemData"), "createdAt", "lastModifiedAt")
	return flatten(v, "networkRuleSet", "privateEndpointConnections", "status")
}

// registered makes a run function of one that needs the registry's id.
func registered(f func(ctx context.Context, c *call, m *management, path string) (any, error)) func(context.Context, *call) (any, error) {
	return manage(func(ctx context.Context, c *call, m *management) (any, error) {
		name := c.text("name")
		if g := c.text("resource-group"); g != "" {
			return f(ctx, c, m, m.resource(g, registryType, name))
		}
		path, err := m.findByName(ctx, registryType, name)
		if err != nil {
			return nil, err
		}
		return f(ctx, c, m, path)
	})
}

// acrFields are the options that create and update share.
func acrFields() []arg {
	return []arg{
		boolOpt("admin-enabled", "Let the registry's administrator sign in with a password."),
		boolOpt("public-network-enabled", "Let the registry be reached over the public network."),
		opt("default-action", "What holds for addresses without a rule.").oneOf("Allow", "Deny"),
		tagsOpt(),
	}
}

func (c *call) fillRegistry(body object) {
	props := sub(body, "properties")
	c.setIf(props, "adminUserEnabled", "admin-enabled")
	if c.given("public-network-enabled") {
		props["publicNetworkAccess"] = map[bool]string{true: "Enabled", false: "Disabled"}[c.flag("public-network-enabled")]
	}
	if c.given("default-action") {
		sub(props, "networkRuleSet")["defaultAction"] = c.text("default-action")
	}
	c.setIf(body, "tags", "tags")
	if c.given("sku") {
		body["sku"] = object{"name": c.text("sku")}
	}
}

func acrCreate() *command {
	args := []arg{nameOpt("Name of the registry: 5 to 50 letters and digits."), groupOpt(), locationOpt(),
		opt("sku", "Kind of price.").required().oneOf("Basic", "Standard", "Premium")}
	return &command{path: "acr create", short: "Create a container registry.",
		example: "acr create --name myregistry --resource-group myGroup --sku Basic", args: append(args, acrFields()...),
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			loc, err := m.locationOf(ctx, c)
			if err != nil {
				return nil, err
			}
			body := object{"location": loc, "properties": object{"adminUserEnabled": false}}
			c.fillRegistry(body)
			v, err := m.put(ctx, m.resource(c.text("resource-group"), registryType, c.text("name")), registryVersion, body, false)
			return showRegistry(v), err
		})}
}

func acrShow() *command {
	return &command{path: "acr show", short: "Show a container registry.", example: "acr show --name myregistry --query loginServer --output tsv", args: acrArgs(),
		run: registered(func(ctx context.Context, _ *call, m *management, path string) (any, error) {
			v, err := m.get(ctx, path, registryVersion)
			return showRegistry(v), err
		})}
}

func acrList() *command {
	return &command{path: "acr list", short: "List container registries.", example: "acr list --resource-group myGroup", args: []arg{groupFilter()},
		table: "[].{NAME:name, RESOURCE_GROUP:resourceGroup, LOCATION:location, SKU:sku.name, LOGIN_SERVER:loginServer}",
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			l, err := m.list(ctx, m.listPath(c.text("resource-group"), registryType), registryVersion)
			return each(l, showRegistry), err
		})}
}

func acrUpdate() *command {
	args := append(acrArgs(), opt("sku", "Kind of price.").oneOf("Basic", "Standard", "Premium"))
	return &command{path: "acr update", short: "Change a container registry.", example: "acr update --name myregistry --admin-enabled true",
		args: append(args, acrFields()...),
		run: registered(func(ctx context.Context, c *call, m *management, path string) (any, error) {
			body := object{"properties": object{}}
			c.fillRegistry(body)
			v, err := m.patch(ctx, path, registryVersion, body, false)
			return showRegistry(v), err
		})}
}

func acrDelete() *command {
	return &command{path: "acr delete", short: "Delete a container registry with all that is in it.", example: "acr delete --name myregistry --yes",
		args: append(acrArgs(), flagOpt("yes", "Do not ask.").or("-y")),
		run: registered(func(ctx context.Context, c *call, m *management, path string) (any, error) {
			if err := c.confirm("Are you sure you want to delete the registry '" + c.text("name") + "'?"); err != nil {
				return nil, err
			}
			return nil, m.delete(ctx, path, registryVersion, false)
		})}
}

func acrCheckName() *command {
	return &command{path: "acr check-name", short: "Ask whether a name is free.", example: "acr check-name --name myregistry",
		args: []arg{opt("name", "Name of the registry.").or("-n").required()},
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			v, err := m.post(ctx, m.subPath+"/providers/Microsoft.ContainerRegistry/checkNameAvailability", registryVersion, object{"name": c.text("name"), "type": registryType})
			return withNulls(v, "message", "reason"), err
		})}
}

func acrUsage() *command {
	return &command{path: "acr show-usage", short: "Show what a container registry uses.", example: "acr show-usage --name myregistry", args: acrArgs(),
		run: registered(func(ctx context.Context, _ *call, m *management, path string) (any, error) {
			return m.get(ctx, path+"/listUsages", registryVersion)
		})}
}

func acrCredentialCommands() []*command {
	return []*command{
		{path: "acr credential show", short: "Show the passwords of a registry's administrator.", example: "acr credential show --name myregistry", args: acrArgs(),
			run: registered(func(ctx context.Context, _ *call, m *management, path string) (any, error) {
				return m.post(ctx, path+"/listCredentials", registryVersion, nil)
			})},
		{path: "acr credential renew", short: "Replace a password of a registry's administrator.",
			example: "acr credential renew --name myregistry --password-name password",
			args:    append(acrArgs(), opt("password-name", "Which password.").required().oneOf("password", "password2")),
			run: registered(func(ctx context.Context, c *call, m *management, path string) (any, error) {
				return m.post(ctx, path+"/regenerateCredential", registryVersion, object{"name": c.text("password-name")})
			})},
	}
}

func acrLogin() *command {
	return &command{path: "acr login", short: "Sign in to a container registry: docker, or whoever takes the token.",
		example: "acr login --name myregistry --expose-token --query accessToken --output tsv",
		args:    append(acrArgs(), flagOpt("expose-token", "Print the token and do not call docker.").or("-t")),
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			r, err := c.registryAt(ctx, m, c.text("name"))
			if err != nil {
				return nil, err
			}
			refresh, err := r.refreshToken(ctx)
			if err != nil {
				return nil, err
			}
			if c.flag("expose-token") {
				c.warn("You can perform manual login using the provided access token below, for example: 'docker login loginServer -u %s -p accessToken'", nobody)
				return object{"loginServer": r.server, "username": nobody, "accessToken": refresh, "refreshToken": refresh}, nil
			}
			docker, err := exec.LookPath("docker")
			if err != nil {
				return nil, failf("You may want to use 'az acr login -n %s --expose-token' to get an access token, which does not require Docker to be installed.", c.text("name"))
			}
			cmd := exec.CommandContext(ctx, docker, "login", r.server, "--username", nobody, "--password-stdin")
			cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(refresh), c.env.Stdout, c.env.Stderr
			if err := cmd.Run(); err != nil {
				return nil, failf("docker login: %v", err)
			}
			return nil, nil
		})}
}

func acrRepositoryCommands() []*command {
	name := func() arg { return opt("name", "Name of the registry.").or("-n").required().configured("acr") }
	repo := func() arg { return opt("repository", "Name of the repository.") }
	image := func() arg { return opt("image", "Image, as NAME:TAG or NAME@DIGEST.").or("-t") }
	return []*command{
		{path: "acr repository list", short: "List the repositories of a registry.", example: "acr repository list --name myregistry", args: []arg{name()},
			run: inRegistry(func(ctx context.Context, _ *call, r *registry) (any, error) {
				return r.pages(ctx, "registry:catalog:*", "/acr/v1/_catalog", "repositories", func(v any) string { s, _ := v.(string); return s })
			})},
		{path: "acr repository show", short: "Show a repository, or an image in it.", example: "acr repository show --name myregistry --repository hello",
			args: []arg{name(), repo(), image()},
			run: inRegistry(func(ctx context.Context, c *call, r *registry) (any, error) {
				return r.show(ctx, c)
			})},
		{path: "acr repository show-tags", short: "List the tags of a repository.", example: "acr repository show-tags --name myregistry --repository hello",
			args: []arg{name(), repo().required(), flagOpt("detail", "Show more than names."), opt("orderby", "In which order.").oneOf("time_asc", "time_desc")},
			run: inRegistry(func(ctx context.Context, c *call, r *registry) (any, error) {
				l, err := r.pages(ctx, "repository:"+c.text("repository")+":metadata_read", "/acr/v1/"+c.text("repository")+"/_tags?orderby="+c.text("orderby"), "tags",
					func(v any) string { return textAt(v, "name") })
				if err != nil || c.flag("detail") {
					return l, err
				}
				return each(l, func(v any) any { return textAt(v, "name") }), nil
			})},
		{path: "acr repository delete", short: "Delete a repository, or an image in it.", example: "acr repository delete --name myregistry --image hello:v1 --yes",
			args: []arg{name(), repo(), image(), flagOpt("yes", "Do not ask.").or("-y")},
			run: inRegistry(func(ctx context.Context, c *call, r *registry) (any, error) {
				return r.remove(ctx, c)
			})},
		{path: "acr repository untag", short: "Remove a tag and leave its image.", example: "acr repository untag --name myregistry --image hello:v1",
			args: []arg{name(), image().required()},
			run: inRegistry(func(ctx context.Context, c *call, r *registry) (any, error) {
				repo, tag, _ := splitImage(c.text("image"))
				_, err := r.do(ctx, "repository:"+repo+":delete", http.MethodDelete, "/acr/v1/"+repo+"/_tags/"+tag)
				return nil, err
			})},
	}
}
