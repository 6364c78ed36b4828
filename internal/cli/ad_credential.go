package cli

import (
	"context"
	"time"
)

// credentialCommands manage the secrets of an application ("app") or of a
// service principal ("sp").
func credentialCommands(kind string) []*command {
	base, id := "ad "+kind+" credential ", appID()
	if kind == "sp" {
		id = spID()
	}
	const guid = "00000000-0000-0000-0000-000000000000"
	cert := flagOpt("cert", "Certificates in place of passwords.")
	return []*command{
		{path: base + "list", short: "List the secrets, without their values.", example: base + "list --id " + guid, args: []arg{id, cert},
			run: directed(func(ctx context.Context, c *call, g *graph) (any, error) {
				v, _, err := c.credentialOwner(ctx, g, kind)
				return orEmpty(at(v, credentialKey(c.flag("cert")))), err
			})},
		{path: base + "delete", short: "Delete a secret.", example: base + "delete --id " + guid + " --key-id " + guid,
			args: []arg{id, opt("key-id", "Id of the secret, as list shows it.").required(), cert},
			run: directed(func(ctx context.Context, c *call, g *graph) (any, error) {
				v, path, err := c.credentialOwner(ctx, g, kind)
				if err != nil {
					return nil, err
				}
				if c.flag("cert") {
					return nil, g.patch(ctx, path, object{"keyCredentials": without(items(at(v, "keyCredentials")), c.text("key-id"))})
				}
				_, err = g.post(ctx, path+"/removePassword", object{"keyId": c.text("key-id")})
				return nil, err
			})},
		{path: base + "reset", short: "Make a new secret; the old ones go unless --append.", example: base + "reset --id " + guid + " --append",
			args: append([]arg{id, flagOpt("append", "Keep the secrets that are there."), opt("display-name", "Name of the secret."),
				numberOpt("years", "How long it lives.").byDefault("1"), opt("end-date", "When it ends: 2027-12-31 or a time.")}, certificateArgs()...),
			run: directed(func(ctx context.Context, c *call, g *graph) (any, error) { return runCredentialReset(ctx, c, g, kind) })},
	}
}

func credentialKey(cert bool) string {
	if cert {
		return "keyCredentials"
	}
	return "passwordCredentials"
}

func without(l []any, keyID string) []any {
	out := []any{}
	for _, k := range l {
		if textAt(k, "keyId") != keyID {
			out = append(out, k)
		}
	}
	return out
}

func (c *call) credentialOwner(ctx context.Context, g *graph, kind string) (v any, path string, err error) {
	if kind == "app" {
		v, err = g.app(ctx, c.text("id"))
		return v, "/applications/" + textAt(v, "id"), err
	}
	v, err = g.servicePrincipal(ctx, c.text("id"))
	return v, "/servicePrincipals/" + textAt(v, "id"), err
}

func runCredentialReset(ctx context.Context, c *call, g *graph, kind string) (any, error) {
	v, path, err := c.credentialOwner(ctx, g, kind)
	if err != nil {
		return nil, err
	}
	end := time.Now().AddDate(c.number("years"), 0, 0)
	if d := c.text("end-date"); d != "" {
		if end, err = parseTime(d); err != nil {
			return nil, usagef("argument --end-date: '%s' is not a date", d)
		}
	}
	a, err := c.account()
	if err != nil {
		return nil, err
	}
	out := object{"appId": at(v, "appId"), "tenant": a.TenantID}
	if c.byCertificate() {
		var kept []any
		if c.flag("append") {
			kept = items(at(v, "keyCredentials"))
		}
		file, err := c.setCertificate(ctx, g, path, kept, end)
		out["password"] = nil
		if file != "" {
			out["fileWithCertAndPrivateKey"] = file
		}
		return out, err
	}
	if !c.flag("append") {
		for _, p := range items(at(v, "passwordCredentials")) {
			if _, err := g.post(ctx, path+"/removePassword", object{"keyId": at(p, "keyId")}); err != nil {
				return nil, err
			}
		}
	}
	secret, err := g.addPassword(ctx, path, c.text("display-name"), end)
	if err != nil {
		return nil, err
	}
	out["password"] = textAt(secret, "secretText")
	c.warn("WARNING: The output includes credentials that you must protect. Be sure that you do not include these credentials in your code or check the credentials into your source control. For more information, see https://aka.ms/azadsp-cli")
	return out, nil
}

// parseTime reads a date, or a time with or without zone (UTC).
func parseTime(s string) (time.Time, error) {
	var err error
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02T15:04Z", "2006-01-02T15:04", "2006-01-02 15:04:05", "2006-01-02"} {
		var t time.Time
		if t, err = time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	return time.Time{}, err
}
