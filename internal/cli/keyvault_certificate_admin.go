package cli

import (
	"context"
	"encoding/base64"
	"encoding/pem"
	"net/http"
	"net/url"
	"os"
	"strings"
)

// certificateAdminCommands are those around certificates: pending ones, who
// issues them, who is told.
func certificateAdminCommands() []*command {
	return append(append(pendingCommands(), issuerCommands()...), contactCommands()...)
}

func pendingCommands() []*command {
	return []*command{
		{path: "keyvault certificate pending show", short: "Show a certificate that is being made.", example: "keyvault certificate pending show --vault-name myVault --name my",
			args: objectArgs("certificate"), run: onObject(http.MethodGet, "certificates", "/pending", false, showPending)},
		{path: "keyvault certificate pending delete", short: "Give a certificate that is being made up.", example: "keyvault certificate pending delete --vault-name myVault --name my",
			args: objectArgs("certificate"), run: onObject(http.MethodDelete, "certificates", "/pending", false, showPending)},
		{path: "keyvault certificate pending merge", short: "Merge a certificate that was signed elsewhere with the key in the vault.",
			example: "keyvault certificate pending merge --vault-name myVault --name my --file signed.pem",
			args: append(objectArgs("certificate"), opt("file", "PEM or DER file of the certificate, and of those that vouch for it.").or("-f").required(),
				boolOpt("disabled", "Whether it may not be used."), tagsOpt()),
			run: inVault(func(ctx context.Context, c *call, v *vault) (any, error) {
				path, err := c.objectPath("certificates", false)
				if err != nil {
					return nil, err
				}
				b, err := os.ReadFile(c.filePath(c.text("file")))
				if err != nil {
					return nil, err
				}
				attrs, err := c.attributes()
				if err != nil {
					return nil, err
				}
				body := withoutNil(object{"x5c": chainOf(b), "attributes": attrs})
				c.setIf(body, "tags", "tags")
				got, err := v.do(ctx, http.MethodPost, path+"/pending/merge", body)
				if err != nil {
					return nil, err
				}
				return showCertificate(got), nil
			})},
	}
}

// chainOf gives the certificates of a PEM or DER file as the vault wants them.
func chainOf(b []byte) []string {
	var out []string
	for p, rest := pem.Decode(b); p != nil; p, rest = pem.Decode(rest) {
		if p.Type == "CERTIFICATE" {
			out = append(out, base64.StdEncoding.EncodeToString(p.Bytes))
		}
	}
	if out == nil {
		out = []string{base64.StdEncoding.EncodeToString(b)}
	}
	return out
}

func issuerCommands() []*command {
	const base = "keyvault certificate issuer "
	name := opt("issuer-name", "Name of the issuer.").required()
	vaultName := opt("vault-name", "Name of the vault.").required().configured("keyvault")
	fields := []arg{opt("provider-name", "Who issues: Self, Test, DigiCert, GlobalSign and so on."), opt("account-id", "Account at the issuer."),
		opt("password", "Password at the issuer."), opt("organization-id", "Organization at the issuer."), boolOpt("disabled", "Whether it may not be used.")}
	path := func(c *call) string { return "/certificates/issuers/" + url.PathEscape(c.text("issuer-name")) }
	simple := func(method string) func(context.Context, *call) (any, error) {
		return inVault(func(ctx context.Context, c *call, v *vault) (any, error) {
			got, err := v.do(ctx, method, path(c), nil)
			return showIssuer(got), err
		})
	}
	write := func(verb, short, method string) *command {
		fields := fields
		if verb == "create" {
			fields = append([]arg{fields[0].required()}, fields[1:]...)
		}
		ex := base + verb + " --vault-name myVault --issuer-name my"
		return &command{path: base + verb, short: short, example: ex + " --provider-name Test", args: append([]arg{vaultName, name}, fields...),
			run: inVault(func(ctx context.Context, c *call, v *vault) (any, error) {
				got, err := v.do(ctx, method, path(c), c.issuerBody())
				return showIssuer(got), err
			})}
	}
	return []*command{
		write("create", "Create an issuer.", http.MethodPut), write("update", "Change an issuer.", http.MethodPatch),
		{path: base + "show", short: "Show an issuer.", example: base + "show --vault-name myVault --issuer-name my", args: []arg{vaultName, name}, run: simple(http.MethodGet)},
		{path: base + "delete", short: "Delete an issuer.", example: base + "delete --vault-name myVault --issuer-name my", args: []arg{vaultName, name}, run: simple(http.MethodDelete)},
		{path: base + "list", short: "List issuers.", example: base + "list --vault-name myVault", args: []arg{vaultName},
			run: listing("certificates/issuers", showIssuer)},
	}
}

func (c *call) issuerBody() object {
	creds, org := object{}, object{}
	c.setIf(creds, "account_id", "account-id")
	c.setIf(creds, "pwd", "password")
	c.setIf(org, "id", "organization-id")
	body := object{}
	c.setIf(body, "provider", "provider-name")
	if len(creds) > 0 {
		body["credentials"] = creds
	}
	if len(org) > 0 {
		body["org_details"] = org
	}
	if c.given("disabled") {
		body["attributes"] = object{"enabled": !c.flag("disabled")}
	}
	return body
}

func showIssuer(v any) any {
	m, ok := v.(object)
	if !ok {
		return v
	}
	showAttributes(v)
	rename(m, map[string]string{"org_details": "organizationDetails"})
	if cr, ok := m["credentials"].(object); ok {
		delete(cr, "pwd")
		rename(cr, map[string]string{"account_id": "accountId"})
	}
	if id := textAt(m, "id"); id != "" {
		m["name"] = lastSegment(id)
	}
	return withNulls(m, "provider")
}

func contactCommands() []*command {
	const base = "keyvault certificate contact "
	vaultName := opt("vault-name", "Name of the vault.").required().configured("keyvault")
	email := opt("email", "Address of the contact.").required()
	change := func(f func(c *call, l []any) ([]any, error)) func(context.Context, *call) (any, error) {
		return inVault(func(ctx context.Context, c *call, v *vault) (any, error) {
			got, err := v.do(ctx, http.MethodGet, "/certificates/contacts", nil)
			if err != nil && !isStatus(err, http.StatusNotFound) {
				return nil, err
			}
			l, err := f(c, items(at(got, "contacts")))
			if err != nil {
				return nil, err
			}
			if len(l) == 0 {
				got, err = v.do(ctx, http.MethodDelete, "/certificates/contacts", nil)
			} else {
				got, err = v.do(ctx, http.MethodPut, "/certificates/contacts", object{"contacts": l})
			}
			return at(got, "contacts"), err
		})
	}
	return []*command{
		{path: base + "list", short: "List who is told of certificates.", example: base + "list --vault-name myVault", args: []arg{vaultName},
			run: inVault(func(ctx context.Context, _ *call, v *vault) (any, error) {
				got, err := v.do(ctx, http.MethodGet, "/certificates/contacts", nil)
				if isStatus(err, http.StatusNotFound) {
					return []any{}, nil
				}
				return orEmpty(at(got, "contacts")), err
			})},
		{path: base + "add", short: "Add someone who is told of certificates.", example: base + "add --vault-name myVault --email me@example.org",
			args: []arg{vaultName, email, opt("name", "Name of the contact.").or("-n"), opt("phone", "Phone number of the contact.")},
			run: change(func(c *call, l []any) ([]any, error) {
				l = withoutContact(l, c.text("email"))
				return append(l, withoutNil(object{"email": c.text("email"), "name": c.text("name"), "phone": c.text("phone")})), nil
			})},
		{path: base + "delete", short: "Remove someone who is told of certificates.", example: base + "delete --vault-name myVault --email me@example.org",
			args: []arg{vaultName, email},
			run: change(func(c *call, l []any) ([]any, error) {
				kept := withoutContact(l, c.text("email"))
				if len(kept) == len(l) {
					return nil, failf("contact '%s' not found in vault '%s'", c.text("email"), c.text("vault-name"))
				}
				return kept, nil
			})},
	}
}

func withoutContact(l []any, email string) []any {
	out := []any{}
	for _, x := range l {
		if !strings.EqualFold(textAt(x, "email"), email) {
			out = append(out, x)
		}
	}
	return out
}
