package cli

import (
	"context"
	"net/url"
	"strings"
)

func adNoun() noun {
	return noun{name: "ad", short: "Manage the directory: users, groups, applications, service principals.",
		groups: map[string]string{
			"user": "Manage users.", "group": "Manage groups.", "group member": "Manage the members of a group.",
			"group owner": "Manage the owners of a group.",
			"app":         "Manage applications.", "app credential": "Manage the secrets of an application.",
			"app federated-credential": "Manage which tokens of other issuers stand for an application.",
			"sp":                       "Manage service principals.", "sp credential": "Manage the secrets of a service principal.",
			"signed-in-user": "Show who you are.",
		},
		commands: func() []*command {
			cmds := []*command{signedInUser()}
			cmds = append(cmds, userCommands()...)
			cmds = append(cmds, directoryGroupCommands()...)
			cmds = append(cmds, appCommands()...)
			cmds = append(cmds, principalCommands()...)
			cmds = append(cmds, credentialCommands("app")...)
			cmds = append(cmds, credentialCommands("sp")...)
			return append(cmds, appFederatedCommands()...)
		}}
}

func signedInUser() *command {
	return &command{path: "ad signed-in-user show", short: "Show the signed-in user.", example: "ad signed-in-user show --query id -o tsv",
		run: directed(func(ctx context.Context, _ *call, g *graph) (any, error) { return g.get(ctx, "/me") })}
}

func filterOpt() arg { return opt("filter", "OData filter, such as \"startswith(displayName,'A')\".") }

// filters joins the options that narrow a list.
func (c *call) filters(parts ...string) string {
	var f []string
	if v := c.text("filter"); v != "" {
		f = append(f, v)
	}
	for _, p := range parts {
		if p != "" {
			f = append(f, p)
		}
	}
	return strings.Join(f, " and ")
}

// startsWith is the filter that az makes of a display name.
func startsWith(field, v string) string {
	if v == "" {
		return ""
	}
	return "startswith(" + field + "," + quoted(v) + ")"
}

func equals(field, v string) string {
	if v == "" {
		return ""
	}
	return field + " eq " + quoted(v)
}

func userID() arg { return opt("id", "Object id or user principal name.").required() }

func userPath(c *call) string { return "/users/" + url.PathEscape(c.text("id")) }

func userCommands() []*command {
	return []*command{
		{path: "ad user list", short: "List users.", example: "ad user list --upn me@example.org",
			args: []arg{opt("upn", "User principal name."), opt("display-name", "Beginning of the display name."), filterOpt()},
			run: directed(func(ctx context.Context, c *call, g *graph) (any, error) {
				return g.list(ctx, "/users", c.filters(equals("userPrincipalName", c.text("upn")), startsWith("displayName", c.text("display-name"))))
			})},
		{path: "ad user show", short: "Show a user.", example: "ad user show --id me@example.org", args: []arg{userID()},
			run: directed(func(ctx context.Context, c *call, g *graph) (any, error) { return g.get(ctx, userPath(c)) })},
		{path: "ad user delete", short: "Delete a user.", example: "ad user delete --id me@example.org", args: []arg{userID()},
			run: directed(func(ctx context.Context, c *call, g *graph) (any, error) { return nil, g.delete(ctx, userPath(c)) })},
		userCreate(), userUpdate(), userGroups(),
	}
}

func userCreate() *command {
	return &command{path: "ad user create", short: "Create a user.",
		example: "ad user create --display-name Me --user-principal-name me@example.org --password SECRET",
		args: []arg{opt("display-name", "Name for people.").required(), opt("user-principal-name", "Name to sign in by: name@domain.").required(),
			opt("password", "First password. @FILE reads it from a file.").required(), opt("mail-nickname", "Mail alias."), opt("immutable-id", "Id in a directory on premises."),
			boolOpt("force-change-password-next-sign-in", "Ask for another password at the first sign-in.")},
		run: directed(func(ctx context.Context, c *call, g *graph) (any, error) {
			upn := c.text("user-principal-name")
			nick, _, _ := strings.Cut(upn, "@")
			body := object{"accountEnabled": true, "displayName": c.text("display-name"), "userPrincipalName": upn,
				"mailNickname":    firstNonEmpty(c.text("mail-nickname"), nick),
				"passwordProfile": object{"password": c.text("password"), "forceChangePasswordNextSignIn": c.flag("force-change-password-next-sign-in")}}
			c.setIf(body, "onPremisesImmutableId", "immutable-id")
			return g.post(ctx, "/users", body)
		})}
}

func userUpdate() *command {
	return &command{path: "ad user update", short: "Change a user.", example: "ad user update --id me@example.org --display-name Myself",
		args: []arg{userID(), boolOpt("account-enabled", "Whether the user may sign in."), opt("display-name", "Name for people."),
			opt("mail-nickname", "Mail alias."), opt("password", "New password."), boolOpt("force-change-password-next-sign-in", "Ask for another password at the next sign-in.")},
		run: directed(func(ctx context.Context, c *call, g *graph) (any, error) {
			body, pass := object{}, object{}
			c.setIf(body, "accountEnabled", "account-enabled")
			c.setIf(body, "displayName", "display-name")
			c.setIf(body, "mailNickname", "mail-nickname")
			c.setIf(pass, "password", "password")
			c.setIf(pass, "forceChangePasswordNextSignIn", "force-change-password-next-sign-in")
			if len(pass) > 0 {
				body["passwordProfile"] = pass
			}
			return nil, g.patch(ctx, userPath(c), body)
		})}
}

func userGroups() *command {
	return &command{path: "ad user get-member-groups", short: "List the groups that a user is in.", example: "ad user get-member-groups --id me@example.org",
		args: []arg{userID(), boolOpt("security-enabled-only", "Security groups only.")},
		run: directed(func(ctx context.Context, c *call, g *graph) (any, error) {
			v, err := g.post(ctx, userPath(c)+"/getMemberGroups", object{"securityEnabledOnly": c.flag("security-enabled-only")})
			return at(v, "value"), err
		})}
}
