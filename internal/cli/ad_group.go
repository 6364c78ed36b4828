package cli

import (
	"context"
	"net/url"
	"strings"
)

func directoryGroup() arg {
	return opt("group", "Object id or display name of the group.").or("-g").required()
}

// groupID finds a group by object id or display name.
func (g *graph) groupID(ctx context.Context, name string) (string, error) {
	if isGUID(name) {
		return name, nil
	}
	l, err := g.list(ctx, "/groups", equals("displayName", name))
	switch {
	case err != nil:
		return "", err
	case len(l) == 0:
		return "", notFoundf("No group matches the name of '%s'", name)
	case len(l) > 1:
		return "", failf("More than one group match the name of '%s'", name)
	}
	return textAt(l[0], "id"), nil
}

// grouped makes a run function of one that needs the group's path.
func grouped(f func(ctx context.Context, c *call, g *graph, path string) (any, error)) func(context.Context, *call) (any, error) {
	return directed(func(ctx context.Context, c *call, g *graph) (any, error) {
		id, err := g.groupID(ctx, c.text("group"))
		if err != nil {
			return nil, err
		}
		return f(ctx, c, g, "/groups/"+url.PathEscape(id))
	})
}

func directoryGroupCommands() []*command {
	return append(groupMemberCommands(), groupDirectoryCreate(),
		&command{path: "ad group list", short: "List groups.", example: "ad group list --display-name Team",
			args:  []arg{opt("display-name", "Beginning of the display name."), filterOpt()},
			table: "[].{DisplayName:displayName, Id:id}",
			run: directed(func(ctx context.Context, c *call, g *graph) (any, error) {
				return g.list(ctx, "/groups", c.filters(startsWith("displayName", c.text("display-name"))))
			})},
		&command{path: "ad group show", short: "Show a group.", example: "ad group show --group Team", args: []arg{directoryGroup()},
			run: grouped(func(ctx context.Context, _ *call, g *graph, path string) (any, error) { return g.get(ctx, path) })},
		&command{path: "ad group delete", short: "Delete a group.", example: "ad group delete --group Team", args: []arg{directoryGroup()},
			run: grouped(func(ctx context.Context, _ *call, g *graph, path string) (any, error) {
				return nil, g.delete(ctx, path)
			})},
		&command{path: "ad group get-member-groups", short: "List the groups that a group is in.", example: "ad group get-member-groups --group Team",
			args: []arg{directoryGroup(), boolOpt("security-enabled-only", "Security groups only.")},
			run: grouped(func(ctx context.Context, c *call, g *graph, path string) (any, error) {
				v, err := g.post(ctx, path+"/getMemberGroups", object{"securityEnabledOnly": c.flag("security-enabled-only")})
				return at(v, "value"), err
			})})
}

func groupDirectoryCreate() *command {
	return &command{path: "ad group create", short: "Create a group.", example: "ad group create --display-name Team --mail-nickname team",
		args: []arg{opt("display-name", "Name of the group.").required(), opt("mail-nickname", "Mail alias.").required(), opt("description", "What it is for."),
			boolOpt("force", "Create another one although the name is taken.")},
		run: directed(func(ctx context.Context, c *call, g *graph) (any, error) {
			if !c.flag("force") { // as az: the same group again is the one that is there
				l, err := g.list(ctx, "/groups", equals("displayName", c.text("display-name"))+" and "+equals("mailNickname", c.text("mail-nickname")))
				if err != nil {
					return nil, err
				}
				if len(l) > 0 {
					return l[0], nil
				}
			}
			body := object{"displayName": c.text("display-name"), "mailNickname": c.text("mail-nickname"), "mailEnabled": false, "securityEnabled": true}
			c.setIf(body, "description", "description")
			return g.post(ctx, "/groups", body)
		})}
}

func memberID() arg { return opt("member-id", "Object id of the member.").required() }

func groupMemberCommands() []*command {
	var out []*command
	for _, k := range []struct{ word, path, id string }{{"member", "/members", "member-id"}, {"owner", "/owners", "owner-object-id"}} {
		id := memberID()
		id.name, id.help = k.id, "Object id of the "+k.word+"."
		out = append(out,
			&command{path: "ad group " + k.word + " add", short: "Add a " + k.word + " to a group.",
				example: "ad group " + k.word + " add --group Team --" + k.id + " 00000000-0000-0000-0000-000000000000", args: []arg{directoryGroup(), id},
				run: grouped(func(ctx context.Context, c *call, g *graph, path string) (any, error) {
					_, err := g.post(ctx, path+k.path+"/$ref", object{"@odata.id": g.base + "/directoryObjects/" + c.text(k.id)})
					return nil, err
				})},
			&command{path: "ad group " + k.word + " remove", short: "Remove a " + k.word + " from a group.",
				example: "ad group " + k.word + " remove --group Team --" + k.id + " 00000000-0000-0000-0000-000000000000", args: []arg{directoryGroup(), id},
				run: grouped(func(ctx context.Context, c *call, g *graph, path string) (any, error) {
					return nil, g.delete(ctx, path+k.path+"/"+url.PathEscape(c.text(k.id))+"/$ref")
				})},
			&command{path: "ad group " + k.word + " list", short: "List the " + k.word + "s of a group.", example: "ad group " + k.word + " list --group Team",
				args: []arg{directoryGroup()}, table: "[].{DisplayName:displayName, Id:id}",
				run: grouped(func(ctx context.Context, _ *call, g *graph, path string) (any, error) {
					return g.list(ctx, path+k.path, "")
				})})
	}
	return append(out, &command{path: "ad group member check", short: "Tell whether someone is a member of a group, through other groups too.",
		example: "ad group member check --group Team --member-id 00000000-0000-0000-0000-000000000000", args: []arg{directoryGroup(), memberID()},
		run: grouped(func(ctx context.Context, c *call, g *graph, path string) (any, error) {
			gid := strings.TrimPrefix(path, "/groups/")
			v, err := g.post(ctx, "/directoryObjects/"+url.PathEscape(c.text("member-id"))+"/checkMemberGroups", object{"groupIds": []string{gid}})
			return object{"value": len(items(at(v, "value"))) > 0}, err
		})})
}
