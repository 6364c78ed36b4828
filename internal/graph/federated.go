package graph

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/directory"
)

func credentialEntity(f directory.FederatedCredential) entity {
	e := entity{"id": f.ID, "name": f.Name, "issuer": f.Issuer, "subject": null(f.Subject), "description": null(f.Description), "audiences": strings0(f.Audiences)}
	if f.ClaimsMatchingExpression != nil {
		e["claimsMatchingExpression"] = entity{"value": f.ClaimsMatchingExpression.Value, "languageVersion": f.ClaimsMatchingExpression.LanguageVersion}
	}
	return e
}

const credentialSet = "applications/federatedIdentityCredentials"

func (h *Handler) credential(appID, key string) (directory.FederatedCredential, error) {
	key = strings.TrimPrefix(key, "name=")
	for _, f := range h.dir.Credentials(appID) {
		if strings.EqualFold(f.ID, key) || strings.EqualFold(f.Name, key) {
			return f, nil
		}
	}
	return directory.FederatedCredential{}, notFound(key)
}

func (h *Handler) listCredentials(c *call) error {
	a, err := h.app(c.args[0])
	if err != nil {
		return err
	}
	all := []entity{}
	for _, f := range h.dir.Credentials(a.AppID) {
		all = append(all, credentialEntity(f))
	}
	return c.list(credentialSet, all, nil)
}

func (h *Handler) getCredential(c *call) error {
	a, err := h.app(c.args[0])
	if err != nil {
		return err
	}
	f, err := h.credential(a.AppID, c.args[1])
	if err != nil {
		return err
	}
	return c.one(http.StatusOK, credentialSet, credentialEntity(f), nil)
}

func fillCredential(b *body, f *directory.FederatedCredential) error {
	take(b, "issuer", &f.Issuer)
	take(b, "subject", &f.Subject)
	take(b, "description", &f.Description)
	take(b, "audiences", &f.Audiences)
	take(b, "claimsMatchingExpression", &f.ClaimsMatchingExpression)
	for k := range b.m {
		if !slices.Contains([]string{"id", "name", "trustedIssuer"}, k) && !strings.HasPrefix(k, "@") {
			return badRequest("Request_BadRequest", "The property '%s' of a federatedIdentityCredential is not known.", k)
		}
	}
	return b.err
}

func (h *Handler) createCredential(c *call) error {
	a, err := h.writableApp(c)
	if err != nil {
		return err
	}
	b, err := c.body()
	if err != nil {
		return err
	}
	var f directory.FederatedCredential
	take(&b, "name", &f.Name)
	if err := fillCredential(&b, &f); err != nil {
		return err
	}
	if _, err := h.credential(a.AppID, f.Name); err == nil {
		return apierr.New(apierr.Conflict, "Request_MultipleObjectsWithSameKeyValue", "FederatedIdentityCredential with name %s already exists.", f.Name)
	}
	if f, err = h.dir.SetCredential(c, a.AppID, f); err != nil {
		return err
	}
	return c.one(http.StatusCreated, credentialSet, credentialEntity(f), nil)
}

// updateCredential changes one, or makes it when the path names it and the
// client prefers so.
func (h *Handler) updateCredential(c *call) error {
	a, err := h.writableApp(c)
	if err != nil {
		return err
	}
	b, err := c.body()
	if err != nil {
		return err
	}
	f, err := h.credential(a.AppID, c.args[1])
	name, named := strings.CutPrefix(c.args[1], "name=")
	create := err != nil && named && strings.Contains(c.r.Header.Get("Prefer"), "create-if-missing")
	if err != nil && !create {
		return err
	}
	if create {
		f.Name = name
	}
	if err := fillCredential(&b, &f); err != nil {
		return err
	}
	if f, err = h.dir.SetCredential(c, a.AppID, f); err != nil {
		return err
	}
	if create {
		return c.one(http.StatusCreated, credentialSet, credentialEntity(f), nil)
	}
	return c.noContent()
}

func (h *Handler) deleteCredential(c *call) error {
	a, err := h.writableApp(c)
	if err != nil {
		return err
	}
	err = h.dir.RemoveCredential(c, a.AppID, strings.TrimPrefix(c.args[1], "name="))
	if errors.Is(err, directory.ErrNotFound) {
		return notFound(c.args[1])
	}
	if err != nil {
		return err
	}
	return c.noContent()
}
