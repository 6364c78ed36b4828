package cli

import (
	"context"
	"net/url"
)

func tagNoun() noun {
	return noun{name: "tag", short: "Manage tags.", commands: func() []*command {
		return []*command{tagList(), tagCreate(), tagUpdate(), tagDelete(), tagAddValue(), tagRemoveValue()}
	}}
}

func tagTarget() arg {
	return opt("resource-id", "Id of the resource, group or subscription that carries the tags.")
}

func tagsPath(id string) string { return id + "/providers/Microsoft.Resources/tags/default" }

func tagList() *command {
	return &command{path: "tag list", short: "List the tags of a resource, or the names in the subscription.", example: "tag list --resource-id ID",
		args: []arg{tagTarget()},
		run: func(ctx context.Context, c *call) (any, error) {
			m, err := c.arm()
			if err != nil {
				return nil, err
			}
			if id := c.text("resource-id"); id != "" {
				return m.get(ctx, tagsPath(id), resourcesVersion)
			}
			return m.list(ctx, m.subPath+"/tagNames", resourcesVersion)
		}}
}

func tagCreate() *command {
	return &command{path: "tag create", short: "Set all tags of a resource, or make a name in the subscription.", example: "tag create --resource-id ID --tags team=blue",
		args: []arg{tagTarget(), tagsOpt(), opt("name", "Name of a tag in the subscription.").or("-n")},
		run: func(ctx context.Context, c *call) (any, error) {
			m, err := c.arm()
			if err != nil {
				return nil, err
			}
			switch {
			case c.given("resource-id") && c.given("tags"):
				return m.put(ctx, tagsPath(c.text("resource-id")), resourcesVersion, object{"properties": object{"tags": c.pairs("tags")}}, false)
			case c.given("name"):
				return m.put(ctx, m.subPath+"/tagNames/"+url.PathEscape(c.text("name")), resourcesVersion, nil, false)
			}
			return nil, usagef("(--resource-id --tags | --name) are required")
		}}
}

func tagUpdate() *command {
	return &command{path: "tag update", short: "Change the tags of a resource.", example: "tag update --resource-id ID --operation Merge --tags team=blue",
		args: []arg{tagTarget().required(), tagsOpt().required(), opt("operation", "What is done with the tags.").required().oneOf("Delete", "Merge", "Replace")},
		run: func(ctx context.Context, c *call) (any, error) {
			m, err := c.arm()
			if err != nil {
				return nil, err
			}
			return m.patch(ctx, tagsPath(c.text("resource-id")), resourcesVersion,
				object{"operation": c.text("operation"), "properties": object{"tags": c.pairs("tags")}}, false)
		}}
}

func tagDelete() *command {
	return &command{path: "tag delete", short: "Remove all tags of a resource, or a name of the subscription.", example: "tag delete --resource-id ID --yes",
		args: []arg{tagTarget(), opt("name", "Name of a tag in the subscription.").or("-n"), yesOpt()},
		run: func(ctx context.Context, c *call) (any, error) {
			if err := c.confirm("Are you sure you want to perform this operation?"); err != nil {
				return nil, err
			}
			m, err := c.arm()
			if err != nil {
				return nil, err
			}
			switch {
			case c.given("resource-id"):
				return nil, m.delete(ctx, tagsPath(c.text("resource-id")), resourcesVersion, false)
			case c.given("name"):
				return nil, m.delete(ctx, m.subPath+"/tagNames/"+url.PathEscape(c.text("name")), resourcesVersion, false)
			}
			return nil, usagef("(--resource-id | --name) are required")
		}}
}
