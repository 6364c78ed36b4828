package cli

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"lazurite.dev/internal/rid"
)

func resourceNoun() noun {
	return noun{name: "resource", short: "Manage resources of any type.", commands: func() []*command {
		return []*command{resourceList(), resourceShow(), resourceCreate(), resourceUpdate(), resourceDelete(), resourceTag(), resourceInvokeAction(), resourceWait()}
	}}
}

// resourceArgs name a resource by id, or by group, type and name.
func resourceArgs() []arg {
	return []arg{
		groupFilter(), opt("name", "Name of the resource.").or("-n"),
		opt("resource-type", "Type: Microsoft.X/type, or the type alone with --namespace."),
		opt("namespace", "Provider namespace."), opt("parent", "Parent: type/name."),
		opt("api-version", "Api-version; without it, the newest that is not a preview."),
		listOpt("ids", "One or more resource ids, in place of the name, group and type."),
	}
}

// resourceIDs are those of --ids, or the one that the other options name.
func (c *call) resourceIDs(m *management) ([]string, error) {
	if c.given("ids") {
		return strings.Fields(strings.Join(c.many("ids"), " ")), nil
	}
	typ := c.text("resource-type")
	if c.text("name") == "" || typ == "" {
		return nil, usagef("(--ids | --resource-group --name --resource-type) are required")
	}
	if ns := c.text("namespace"); ns != "" {
		typ = ns + "/" + typ
	}
	ns, rest, ok := strings.Cut(typ, "/")
	if !ok {
		return nil, usagef("--resource-type must be Microsoft.X/type, or come with --namespace")
	}
	scope := m.subPath
	if g := c.text("resource-group"); g != "" {
		scope = m.groupPath(g)
	}
	id := scope + "/providers/" + ns
	if p := c.text("parent"); p != "" {
		id += "/" + strings.Trim(p, "/")
	}
	names := strings.Split(c.text("name"), "/")
	for i, t := range strings.Split(rest, "/") {
		id += "/" + t
		if i < len(names) {
			id += "/" + url.PathEscape(names[i])
		}
	}
	return []string{id}, nil
}

// versionFor is --api-version, else the newest stable one of the type.
func (c *call) versionFor(ctx context.Context, m *management, id string) (string, error) {
	if v := c.text("api-version"); v != "" {
		return v, nil
	}
	r, err := rid.Parse(id)
	if err != nil {
		return "", usagef("invalid resource ID: %s", id)
	}
	if r.Namespace() == "" {
		return resourcesVersion, nil
	}
	p, err := m.get(ctx, m.subPath+"/providers/"+r.Namespace(), resourcesVersion)
	if err != nil {
		return "", err
	}
	want := strings.Join(r.Types(), "/")
	for _, t := range items(at(p, "resourceTypes")) {
		if !strings.EqualFold(textAt(t, "resourceType"), want) {
			continue
		}
		versions := items(at(t, "apiVersions"))
		for _, v := range versions {
			if s := scalar(v, "", "", ""); !strings.Contains(s, "preview") {
				return s, nil
			}
		}
		if len(versions) > 0 {
			return scalar(versions[0], "", "", ""), nil
		}
	}
	return "", failf("Resource type %s not found.", want)
}

// eachResource does f for every resource that was named.
func (c *call) eachResource(ctx context.Context, f func(m *management, id, version string) (any, error)) (any, error) {
	m, err := c.arm()
	if err != nil {
		return nil, err
	}
	ids, err := c.resourceIDs(m)
	if err != nil {
		return nil, err
	}
	var out []any
	for _, id := range ids {
		v, err := c.versionFor(ctx, m, id)
		if err != nil {
			return nil, err
		}
		r, err := f(m, id, v)
		if err != nil {
			return nil, err
		}
		if r != nil {
			out = append(out, r)
		}
	}
	if len(out) == 0 {
		return nil, nil
	}
	if len(out) == 1 {
		return out[0], nil
	}
	return out, nil
}

func showResource(v any) any {
	return withNulls(v, "extendedLocation", "identity", "kind", "managedBy", "plan", "properties", "sku", "tags")
}

func resourceList() *command {
	return &command{path: "resource list", short: "List resources.",
		example: "resource list --resource-group myGroup --resource-type Microsoft.KeyVault/vaults --query \"[0].name\" -o tsv",
		args: []arg{groupFilter(), opt("resource-type", "Only of this type."), opt("namespace", "Provider namespace of --resource-type."),
			opt("name", "Only of this name.").or("-n"), locationOpt(), opt("tag", "Only with the tag: KEY or KEY=VALUE.")},
		table: "[].{Name:name, ResourceGroup:resourceGroup, Location:location, Type:type, Status:provisioningState}",
		run: func(ctx context.Context, c *call) (any, error) {
			m, err := c.arm()
			if err != nil {
				return nil, err
			}
			q := append(c.resourceFilter(), "$expand", "createdTime,changedTime,provisioningState")
			l, err := m.list(ctx, m.subPath+"/resources", resourcesVersion, q...)
			if err != nil {
				return nil, err
			}
			return each(l, func(v any) any {
				withNulls(at(v, "sku"), "capacity", "family", "model", "size", "tier")
				withNulls(at(v, "identity"), "userAssignedIdentities")
				return pythonTimes(withNulls(showResource(v), "changedTime", "createdTime", "provisioningState"), "changedTime", "createdTime")
			}), nil
		}}
}

// resourceFilter is the $filter of the options; the server filters.
func (c *call) resourceFilter() []string {
	if t := c.text("tag"); t != "" {
		return tagFilter(t)
	}
	typ := c.text("resource-type")
	if ns := c.text("namespace"); ns != "" && typ != "" {
		typ = ns + "/" + typ
	}
	var f []string
	for _, p := range [][2]string{{"name", c.text("name")}, {"resourceGroup", c.text("resource-group")},
		{"resourceType", typ}, {"location", plainLocation(c.text("location"))}} {
		if p[1] != "" {
			f = append(f, fmt.Sprintf("%s eq '%s'", p[0], strings.ReplaceAll(p[1], "'", "''")))
		}
	}
	if len(f) == 0 {
		return nil
	}
	return []string{"$filter", strings.Join(f, " and ")}
}

func tagFilter(tag string) []string {
	if tag == "" {
		return nil
	}
	k, v, ok := strings.Cut(tag, "=")
	f := fmt.Sprintf("tagName eq '%s'", strings.ReplaceAll(k, "'", "''"))
	if ok {
		f += fmt.Sprintf(" and tagValue eq '%s'", strings.ReplaceAll(v, "'", "''"))
	}
	return []string{"$filter", f}
}

func resourceShow() *command {
	return &command{path: "resource show", short: "Show a resource.", example: "resource show --ids ID",
		args: append(resourceArgs(), flagOpt("include-response-body", "Also the answer as it came.")),
		run: func(ctx context.Context, c *call) (any, error) {
			return c.eachResource(ctx, func(m *management, id, version string) (any, error) {
				v, err := m.get(ctx, id, version)
				return showResource(v), err
			})
		}}
}

func resourceCreate() *command {
	return &command{path: "resource create", short: "Create a resource of any type.",
		example: "resource create -g myGroup -n myVault --resource-type Microsoft.KeyVault/vaults --properties @vault.json",
		args: append(resourceArgs(), locationOpt(), opt("properties", "The properties as JSON. @FILE reads a file.").or("-p").required(),
			flagOpt("is-full-object", "--properties is the whole resource, with location, tags and the like.")),
		run: func(ctx context.Context, c *call) (any, error) {
			v, err := decode([]byte(c.text("properties")))
			props, ok := v.(object)
			if err != nil || !ok {
				return nil, usagef("argument --properties/-p: not a JSON object")
			}
			return c.eachResource(ctx, func(m *management, id, version string) (any, error) {
				body := props
				if !c.flag("is-full-object") {
					body = object{"properties": props}
					if c.text("location") != "" || c.text("resource-group") != "" {
						if body["location"], err = m.locationOf(ctx, c); err != nil {
							return nil, err
						}
					}
				}
				v, err := m.put(ctx, id, version, body, false)
				return showResource(v), err
			})
		}}
}

func resourceUpdate() *command {
	return &command{path: "resource update", short: "Change a resource by the paths of its properties.", generic: true,
		example: "resource update --ids ID --set properties.publicNetworkAccess=Disabled",
		args:    resourceArgs(),
		run: func(ctx context.Context, c *call) (any, error) {
			return c.eachResource(ctx, func(m *management, id, version string) (any, error) {
				v, err := m.get(ctx, id, version)
				if err != nil {
					return nil, err
				}
				body, ok := v.(object)
				if !ok {
					return nil, failf("%s is not an object", id)
				}
				if err := c.applyGeneric(body); err != nil {
					return nil, err
				}
				v, err = m.put(ctx, id, version, body, false)
				return showResource(v), err
			})
		}}
}

func resourceDelete() *command {
	return &command{path: "resource delete", short: "Delete resources.", example: "resource delete --ids ID",
		args: append(resourceArgs(), noWaitOpt()),
		run: func(ctx context.Context, c *call) (any, error) {
			return c.eachResource(ctx, func(m *management, id, version string) (any, error) {
				return nil, m.delete(ctx, id, version, c.flag("no-wait"))
			})
		}}
}

func resourceTag() *command {
	return &command{path: "resource tag", short: "Tag a resource.", example: "resource tag --ids ID --tags team=blue",
		args: append(resourceArgs(), tagsOpt().required(), flagOpt("is-incremental", "Add to the tags that are there.").or("-i")),
		run: func(ctx context.Context, c *call) (any, error) {
			return c.eachResource(ctx, func(m *management, id, version string) (any, error) {
				tags := c.pairs("tags")
				if c.flag("is-incremental") {
					v, err := m.get(ctx, id, version)
					if err != nil {
						return nil, err
					}
					old, _ := at(v, "tags").(object)
					for k, x := range old {
						if _, ok := tags[k]; !ok {
							tags[k] = x
						}
					}
				}
				v, err := m.patch(ctx, id, version, object{"tags": tags}, false)
				return showResource(v), err
			})
		}}
}
