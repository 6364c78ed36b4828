package entra

import (
	"context"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/directory"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/token"
	"lazurite.dev/internal/trace"
)

const (
	checkYours = "Check your federated identity credential Subject, Audience and Issuer against the presented assertion. " +
		"https://learn.microsoft.com/entra/workload-id/workload-identity-federation"
	noRecord = "No matching federated identity record found for presented assertion"
)

// federated finds the credential of the client that accepts an assertion of
// another issuer. The issuer is compared before its keys are fetched, so that
// nobody can send us to an address that no credential names. Source: facts of
// the AADSTS7002xx family; letter case counts.
func (s *Service) federated(ctx context.Context, c *client, a *token.Assertion) (directory.FederatedCredential, error) {
	list := s.credentials(c)
	trusts := func(a *token.Assertion) error {
		if len(list) == 0 {
			trace.Add(ctx, trace.Hop{Step: "credential", Subject: c.name, Found: "it has no federated credential", Fix: fixCreate(c, a)})
			return aad(apierr.BadRequest, "invalid_request", "70021", "%s. Assertion Issuer: '%s'. Assertion Subject: '%s'. Assertion Audience: '%s'. "+
				"https://learn.microsoft.com/entra/workload-id/workload-identity-federation", noRecord,
				shorten(a.Issuer), shorten(a.Subject), shorten(strings.Join(a.Audiences, "', '")))
		}
		for _, f := range list {
			if f.Issuer == a.Issuer {
				return nil
			}
		}
		return s.mismatch(ctx, c, list, a)
	}
	if err := s.cfg.Federation.VerifyAssertion(ctx, a, trusts); err != nil {
		return directory.FederatedCredential{}, err
	}
	found, _, ok := directory.FindCredential(list, asAssertion(a))
	if !ok {
		return found, s.mismatch(ctx, c, list, a)
	}
	trace.Add(ctx, trace.Hop{Step: "credential", Subject: c.name, Found: "federated credential " + found.Name + " accepts the assertion", Received: a.Subject, OK: true})
	return found, nil
}

// credentials of the client, without those too young to be seen.
func (s *Service) credentials(c *client) []directory.FederatedCredential {
	list := s.dir.Credentials(c.id)
	if s.cfg.CredentialDelay == 0 {
		return list
	}
	var old []directory.FederatedCredential
	for _, f := range list {
		if s.now().Sub(f.Changed) >= s.cfg.CredentialDelay {
			old = append(old, f)
		}
	}
	return old
}

func asAssertion(a *token.Assertion) directory.Assertion {
	return directory.Assertion{Issuer: a.Issuer, Subject: a.Subject, Audiences: a.Audiences, Claims: a.All}
}

// mismatch explains by the nearest credential why none accepts a: first the
// issuer, then the subject, then the audience.
func (s *Service) mismatch(ctx context.Context, c *client, list []directory.FederatedCredential, a *token.Assertion) error {
	// A credential of the same issuer is nearer than any of another.
	var same []directory.FederatedCredential
	for _, f := range list {
		if f.Issuer == a.Issuer {
			same = append(same, f)
		}
	}
	if len(same) > 0 {
		list = same
	}
	near, differs, _ := directory.FindCredential(list, asAssertion(a))
	for _, m := range differs {
		trace.Add(ctx, trace.Hop{Step: m.Field, Subject: "federated credential " + near.Name, Expected: m.Expected, Received: m.Received,
			Found: difference(m), Fix: fixFor(c, near, m, a)})
	}
	m := first(differs)
	text := func(what, value string) string {
		return noRecord + " " + what + " '" + shorten(value) + "'. "
	}
	tail := " Nearest is the credential '" + near.Name + "': expected '" + shorten(m.Expected) + "', received '" + shorten(m.Received) + "'" + hint(m) + "."
	switch {
	case m.Field == "issuer":
		return aad(apierr.Unauthorized, "invalid_client", "700211", "%s", text("issuer", a.Issuer)+checkYours+tail)
	case m.Field == "audience":
		return aad(apierr.Unauthorized, "invalid_client", token.AADAudience, "%s", text("audience", strings.Join(a.Audiences, "', '"))+checkYours+tail)
	case m.Field == "subject" && m.CaseOnly:
		return aad(apierr.Unauthorized, "invalid_client", "7002138", "%s", text("subject", a.Subject)+
			"The subject matches with case-insensitive comparison, but not with case-sensitive comparison. "+checkYours+tail)
	}
	return aad(apierr.Unauthorized, "invalid_client", "700213", "%s", text("subject", a.Subject)+checkYours+tail)
}

// first is the difference to name: issuer before subject before audience.
func first(list []directory.Mismatch) directory.Mismatch {
	for _, field := range []string{"issuer", "subject", "claims", "audience"} {
		for _, m := range list {
			if m.Field == field {
				return m
			}
		}
	}
	return directory.Mismatch{}
}

func hint(m directory.Mismatch) string {
	switch {
	case m.CaseOnly:
		return " (they differ in letter case only)"
	case m.SlashOnly:
		return " (they differ in a slash at the end only)"
	}
	return ""
}

// difference says it as a sentence.
func difference(m directory.Mismatch) string {
	switch {
	case m.CaseOnly:
		return "the " + m.Field + " differs only in letter case"
	case m.SlashOnly:
		return "the " + m.Field + " differs only in a slash at its end"
	}
	return "the " + m.Field + " differs"
}

// fixFor mends a slip where it is. A credential that trusts somebody else keeps on
// doing so, and another is made beside it.
func fixFor(c *client, f directory.FederatedCredential, m directory.Mismatch, a *token.Assertion) string {
	if m.CaseOnly || m.SlashOnly || m.Field == "audience" {
		return fixUpdate(c, f, m)
	}
	return fixCreate(c, a)
}

// fixUpdate is the command that would make the credential accept what came.
func fixUpdate(c *client, f directory.FederatedCredential, m directory.Mismatch) string {
	flag := map[string]string{"issuer": "--issuer", "subject": "--subject", "audience": "--audiences"}[m.Field]
	id, err := rid.Parse(c.resourceID())
	if flag == "" || err != nil {
		return "az ad app federated-credential update --id " + c.id + " --federated-credential-id " + f.Name + " --parameters @credential.json"
	}
	return "az identity federated-credential update --name " + f.Name + " --identity-name " + id.Name() + " --resource-group " + id.ResourceGroup() +
		" " + flag + " " + quote(m.Received)
}

func fixCreate(c *client, a *token.Assertion) string {
	id, err := rid.Parse(c.resourceID())
	if err != nil {
		return "az ad app federated-credential create --id " + c.id + " --parameters @credential.json"
	}
	return "az identity federated-credential create --name " + credentialName(a.Subject) + " --identity-name " + id.Name() + " --resource-group " + id.ResourceGroup() +
		" --issuer " + quote(a.Issuer) + " --subject " + quote(a.Subject) + " --audiences " + quote(strings.Join(a.Audiences, " "))
}

// credentialName is a name for a credential that a subject suggests: its last
// part, as far as names of credentials allow.
func credentialName(subject string) string {
	name := strings.Map(func(c rune) rune {
		if c == '-' || c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' {
			return c
		}
		return -1
	}, subject[strings.LastIndexAny(subject, ":/")+1:])
	if name = strings.TrimLeft(name, "-_"); len(name) < 3 || len(name) > 120 { // Microsoft.ManagedIdentity's rule
		return "NAME"
	}
	return name
}

// quote makes a word of a command line of what a stranger wrote.
func quote(s string) string { return "'" + strings.ReplaceAll(shorten(s), "'", `'\''`) + "'" }
