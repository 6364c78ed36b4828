package cli

import (
	"context"
	"net/http"
	"net/url"
)

func groupNoun() noun {
	return noun{name: "group", short: "Manage resource groups.", commands: func() []*command {
		return []*command{groupCreate(), groupList(), groupShow(), groupDelete(), groupExists(), groupUpdate(), groupWait()}
	}}
}

// groupName is the group as the thing itself, which az also calls --name.
func groupName() arg {
	return opt("name", "Name of the resource group.").or("-n", "--resource-group", "-g").required().configured("group")
}

func showGroup(v any) any { return withNulls(v, "managedBy", "tags") }

func groupCreate() *command {
	return &command{path: "group create", short: "Create a resource group.",
		example: "group create --name myGroup --location eastus",
		args: []arg{groupName(), locationOpt().required(), tagsOpt(),
			opt("managed-by", "Id of the resource that manages the group.")},
		run: func(ctx context.Context, c *call) (any, error) {
			m, err := c.arm()
			if err != nil {
				return nil, err
			}
			body := object{"location": plainLocation(c.text("location"))}
			c.setIf(body, "tags", "tags")
			c.setIf(body, "managedBy", "managed-by")
			v, err := m.put(ctx, m.subPath+"/resourcegroups/"+url.PathEscape(c.text("name")), resourcesVersion, body, false)
			return showGroup(v), err
		}}
}

func groupList() *command {
	return &command{path: "group list", short: "List the resource groups.", example: "group list --tag team=blue",
		args:  []arg{opt("tag", "Only the groups with the tag: KEY or KEY=VALUE.")},
		table: "[].{Name:name, Location:location, Status:properties.provisioningState}",
		run: func(ctx context.Context, c *call) (any, error) {
			m, err := c.arm()
			if err != nil {
				return nil, err
			}
			l, err := m.list(ctx, m.subPath+"/resourcegroups", resourcesVersion, tagFilter(c.text("tag"))...)
			if err != nil {
				return nil, err
			}
			return each(l, showGroup), nil
		}}
}

func groupShow() *command {
	return &command{path: "group show", short: "Show a resource group.", example: "group show --name myGroup",
		args: []arg{groupName()},
		run: func(ctx context.Context, c *call) (any, error) {
			m, err := c.arm()
			if err != nil {
				return nil, err
			}
			v, err := m.get(ctx, m.groupPath(c.text("name")), resourcesVersion)
			return showGroup(v), err
		}}
}

func groupDelete() *command {
	return &command{path: "group delete", short: "Delete a resource group and all that is in it.",
		example: "group delete --name myGroup --yes --no-wait",
		args:    []arg{groupName(), yesOpt(), noWaitOpt()},
		run: func(ctx context.Context, c *call) (any, error) {
			if err := c.confirm("Are you sure you want to perform this operation?"); err != nil {
				return nil, err
			}
			m, err := c.arm()
			if err != nil {
				return nil, err
			}
			return nil, m.delete(ctx, m.groupPath(c.text("name")), resourcesVersion, c.flag("no-wait"))
		}}
}

func groupExists() *command {
	return &command{path: "group exists", short: "Tell whether a resource group exists.", example: "group exists --name myGroup",
		args: []arg{groupName()},
		run: func(ctx context.Context, c *call) (any, error) {
			m, err := c.arm()
			if err != nil {
				return nil, err
			}
			_, err = m.do(ctx, http.MethodHead, m.groupPath(c.text("name")), resourcesVersion, nil)
			if isStatus(err, http.StatusNotFound) {
				return false, nil
			}
			if err != nil {
				return nil, err
			}
			return true, nil
		}}
}

func groupUpdate() *command {
	return &command{path: "group update", short: "Change the tags of a resource group.", generic: true,
		example: "group update --name myGroup --set tags.team=blue",
		args:    []arg{groupName(), tagsOpt()},
		run: func(ctx context.Context, c *call) (any, error) {
			m, err := c.arm()
			if err != nil {
				return nil, err
			}
			path := m.groupPath(c.text("name"))
			v, err := m.get(ctx, path, resourcesVersion)
			if err != nil {
				return nil, err
			}
			body := v.(object)
			c.setIf(body, "tags", "tags")
			if err := c.applyGeneric(body); err != nil {
				return nil, err
			}
			delete(body, "properties")
			v, err = m.put(ctx, path, resourcesVersion, body, false)
			return showGroup(v), err
		}}
}

func groupWait() *command {
	return waitCommand("group wait", "Wait until a resource group is there, gone or in a state.", "group wait --name myGroup --deleted",
		[]arg{groupName()}, func(c *call, m *management) (string, string) { return m.groupPath(c.text("name")), resourcesVersion })
}
