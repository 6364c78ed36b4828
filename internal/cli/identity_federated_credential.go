package cli

import (
	"context"
)

// flexibleVersion is the api-version that knows claimsMatchingExpression.
const flexibleVersion = "2025-01-31-preview"

func federatedCommands() []*command {
	return []*command{federatedWrite("create", "Create a federated credential."), federatedShow(), federatedList(),
		federatedWrite("update", "Change a federated credential; what isn't given stays."), federatedDelete()}
}

func federatedArgs() []arg {
	return []arg{
		opt("name", "Name of the federated credential.").or("-n").required().idPart("child"),
		opt("identity-name", "Name of the identity.").required().idPart("name"),
		groupOpt(),
	}
}

func federatedPath(c *call, m *management) string {
	return m.resource(c.text("resource-group"), identityType+"/federatedIdentityCredentials", c.text("identity-name"), c.text("name"))
}

func showFederated(v any) any { return flatten(v, "audiences", "issuer", "subject", "systemData") }

func federatedWrite(verb, short string) *command {
	return &command{path: "identity federated-credential " + verb, short: short,
		example: "identity federated-credential " + verb + " -n myCredential --identity-name myIdentity -g myGroup --issuer https://issuer.example.org --subject system:serviceaccount:ns:sa",
		args: append(federatedArgs(),
			opt("issuer", "The issuer, exactly as the token's iss claim says it."),
			opt("subject", "The subject, exactly as the token's sub claim says it: system:serviceaccount:NAMESPACE:NAME."),
			listOpt("audiences", "The audiences, of which the token's aud claim must be one. Default: api://AzureADTokenExchange."),
			opt("claims-matching-expression-value", "Expression over the token's claims in place of the subject.").or("--cme-value"),
			numberOpt("claims-matching-expression-version", "Version of the language of the expression.").or("--cme-version")),
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			props := object{}
			if verb == "update" {
				v, err := m.get(ctx, federatedPath(c, m), flexibleVersion)
				if err != nil {
					return nil, err
				}
				if old, ok := at(v, "properties").(object); ok {
					props = old
				}
			}
			return c.writeFederated(ctx, m, props)
		})}
}

func (c *call) writeFederated(ctx context.Context, m *management, props object) (any, error) {
	c.setIf(props, "issuer", "issuer")
	c.setIf(props, "audiences", "audiences")
	if props["audiences"] == nil {
		props["audiences"] = []string{"api://AzureADTokenExchange"}
	}
	version := identityVersion
	switch {
	case c.given("subject") && c.given("claims-matching-expression-value"):
		return nil, usagef("usage error: --subject | --claims-matching-expression-value, not both")
	case c.given("subject"):
		props["subject"] = c.text("subject")
		delete(props, "claimsMatchingExpression")
	case c.given("claims-matching-expression-value"):
		lang := 1
		if c.given("claims-matching-expression-version") {
			lang = c.number("claims-matching-expression-version")
		}
		props["claimsMatchingExpression"] = object{"value": c.text("claims-matching-expression-value"), "languageVersion": lang}
		delete(props, "subject")
	}
	if props["claimsMatchingExpression"] != nil {
		version = flexibleVersion
	}
	if props["issuer"] == nil || props["subject"] == nil && props["claimsMatchingExpression"] == nil {
		return nil, usagef("usage error: --issuer and one of --subject, --claims-matching-expression-value are required")
	}
	v, err := m.put(ctx, federatedPath(c, m), version, object{"properties": props}, false)
	return showFederated(v), err
}

func federatedShow() *command {
	return &command{path: "identity federated-credential show", short: "Show a federated credential.",
		example: "identity federated-credential show -n myCredential --identity-name myIdentity -g myGroup", args: federatedArgs(),
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			v, err := m.get(ctx, federatedPath(c, m), flexibleVersion)
			return showFederated(v), err
		})}
}

func federatedList() *command {
	return &command{path: "identity federated-credential list", short: "List the federated credentials of an identity.",
		example: "identity federated-credential list --identity-name myIdentity -g myGroup", args: federatedArgs()[1:],
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			path := m.resource(c.text("resource-group"), identityType+"/federatedIdentityCredentials", c.text("identity-name"))
			l, err := m.list(ctx, path, flexibleVersion)
			return each(l, showFederated), err
		})}
}

func federatedDelete() *command {
	return &command{path: "identity federated-credential delete", short: "Delete a federated credential.",
		example: "identity federated-credential delete -n myCredential --identity-name myIdentity -g myGroup --yes",
		args:    append(federatedArgs(), yesOpt()),
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			if err := c.confirm("Are you sure you want to perform this operation?"); err != nil {
				return nil, err
			}
			return nil, m.delete(ctx, federatedPath(c, m), identityVersion, false)
		})}
}
