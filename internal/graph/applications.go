package graph

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"lazurite.dev/internal/directory"
	"lazurite.dev/internal/store"
)

func (h *Handler) appEntity(a directory.App) entity {
	version := any(nil)
	if a.TokenVersion != 0 {
		version = a.TokenVersion
	}
	publisher := any(nil)
	if t, err := h.dir.Tenant(); err == nil && len(t.Domains) > 0 {
		publisher = t.Domains[0]
	}
	access := a.RequiredAccess
	if access == nil {
		access = []map[string]any{}
	}
	return with(entity{
		"id": a.ObjectID, "appId": a.AppID, "displayName": a.DisplayName, "signInAudience": a.Audience,
		"identifierUris": strings0(a.IdentifierURIs), "tags": strings0(a.Tags), "notes": null(a.Notes), "description": nil,
		"createdDateTime": stamp(a.Created), "deletedDateTime": nil, "publisherDomain": publisher, "applicationTemplateId": nil,
		"groupMembershipClaims": null(a.GroupMembership), "isFallbackPublicClient": a.FallbackPublic, "isDeviceOnlyAuthSupported": nil,
		"passwordCredentials": secretEntities(a.Secrets), "keyCredentials": certificateEntities(a.Certificates),
		"requiredResourceAccess": access, "addIns": []any{}, "appRoles": []any{}, "optionalClaims": nil, "tokenEncryptionKeyId": nil,
		"api": entity{"requestedAccessTokenVersion": version, "acceptMappedClaims": nil, "knownClientApplications": []any{},
			"oauth2PermissionScopes": []any{}, "preAuthorizedApplications": []any{}},
		"web": entity{"redirectUris": strings0(a.RedirectURIs.Web), "homePageUrl": nil, "logoutUrl": nil,
			"implicitGrantSettings": entity{"enableAccessTokenIssuance": false, "enableIdTokenIssuance": false}},
		"spa":          entity{"redirectUris": strings0(a.RedirectURIs.SPA)},
		"publicClient": entity{"redirectUris": strings0(a.RedirectURIs.Public)},
	}, a.Extra)
}

func secretEntities(list []directory.Secret) []entity {
	out := []entity{}
	for _, s := range list {
		out = append(out, entity{"keyId": s.KeyID, "displayName": null(s.DisplayName), "hint": s.Hint, "secretText": nil,
			"customKeyIdentifier": nil, "startDateTime": stamp(s.Start), "endDateTime": stamp(s.End)})
	}
	return out
}

func certificateEntities(list []directory.Certificate) []entity {
	out := []entity{}
	for _, c := range list {
		out = append(out, entity{"keyId": c.KeyID, "displayName": null(c.DisplayName), "type": "AsymmetricX509Cert", "usage": "Verify",
			"customKeyIdentifier": c.SHA1, "key": nil, "startDateTime": stamp(c.Start), "endDateTime": stamp(c.End)})
	}
	return out
}

// app finds an application by object id, or by client id as "appId=x".
func (h *Handler) app(key string) (directory.App, error) {
	appID, byAppID := strings.CutPrefix(key, "appId=")
	a, err := h.dir.AppByObjectID(key)
	if byAppID {
		a, err = h.dir.App(appID)
	}
	if errors.Is(err, directory.ErrNotFound) {
		return a, notFound(key)
	}
	return a, err
}

func (h *Handler) listApps(c *call) error {
	expr, err := c.filter()
	if err != nil {
		return err
	}
	var apps []directory.App
	if id, ok := required(expr, "appId"); ok {
		if a, err := h.dir.App(id); err == nil {
			apps = append(apps, a)
		}
	} else {
		apps = h.dir.Apps()
	}
	all := make([]entity, 0, len(apps))
	for _, a := range apps {
		all = append(all, h.appEntity(a))
	}
	return c.list("applications", all, nil)
}

func (h *Handler) getApp(c *call) error {
	a, err := h.app(c.args[0])
	if err != nil {
		return err
	}
	return c.one(http.StatusOK, "applications", h.appEntity(a), nil)
}

// fillApp moves what b says into a.
func fillApp(b *body, a *directory.App) error {
	take(b, "displayName", &a.DisplayName)
	take(b, "identifierUris", &a.IdentifierURIs)
	take(b, "tags", &a.Tags)
	take(b, "notes", &a.Notes)
	take(b, "groupMembershipClaims", &a.GroupMembership)
	take(b, "isFallbackPublicClient", &a.FallbackPublic)
	take(b, "requiredResourceAccess", &a.RequiredAccess)
	if take(b, "signInAudience", &a.Audience); a.Audience == "" {
		a.Audience = "AzureADMyOrg"
	}
	if !slices.Contains([]string{"AzureADMyOrg", "AzureADMultipleOrgs", "AzureADandPersonalMicrosoftAccount", "PersonalMicrosoftAccount"}, a.Audience) {
		return badRequest("Request_BadRequest", "Invalid value specified for property 'signInAudience' of resource 'Application'.")
	}
	for name, uris := range map[string]*[]string{"web": &a.RedirectURIs.Web, "spa": &a.RedirectURIs.SPA, "publicClient": &a.RedirectURIs.Public} {
		nested(b, name, "redirectUris", uris)
	}
	nested(b, "api", "requestedAccessTokenVersion", &a.TokenVersion)
	if a.TokenVersion < 0 || a.TokenVersion > 2 {
		return badRequest("Request_BadRequest", "Invalid value specified for property 'requestedAccessTokenVersion' of resource 'Application'.")
	}
	if err := fillCertificates(b, a); err != nil {
		return err
	}
	var secrets []json.RawMessage
	if take(b, "passwordCredentials", &secrets); len(secrets) > 0 {
		return badRequest("Request_BadRequest", "passwordCredentials cannot be written: use addPassword and removePassword.")
	}
	delete(b.m, "appId")
	delete(b.m, "publisherDomain")
	if a.DisplayName == "" {
		return badRequest("Request_BadRequest", "A value is required for property 'displayName' of resource 'Application'.")
	}
	return b.err
}

// nested takes one property out of an object property; the others stay.
func nested[T any](b *body, outer, name string, v *T) {
	var in map[string]json.RawMessage
	if raw, ok := b.m[outer]; !ok || json.Unmarshal(raw, &in) != nil || in == nil {
		return
	}
	sub := body{m: in}
	take(&sub, name, v)
	if sub.err != nil && b.err == nil {
		b.err = sub.err
	}
	if len(sub.m) == 0 {
		delete(b.m, outer)
	} else if raw, err := json.Marshal(sub.m); err == nil {
		b.m[outer] = raw
	}
}

// fillCertificates replaces the certificates by those of the body. One that is
// there already is sent by its keyId, without the key.
func fillCertificates(b *body, a *directory.App) error {
	var keys []struct {
		KeyID       string `json:"keyId"`
		DisplayName string `json:"displayName"`
		Type        string `json:"type"`
		Usage       string `json:"usage"`
		Key         []byte `json:"key"`
	}
	if !take(b, "keyCredentials", &keys) || b.err != nil {
		return b.err
	}
	var next []directory.Certificate
	for _, k := range keys {
		i := slices.IndexFunc(a.Certificates, func(c directory.Certificate) bool { return k.KeyID != "" && strings.EqualFold(c.KeyID, k.KeyID) })
		if i >= 0 && len(k.Key) == 0 {
			next = append(next, a.Certificates[i])
			continue
		}
		if k.Type != "AsymmetricX509Cert" || k.Usage != "Verify" {
			return badRequest("Request_BadRequest", "A keyCredential must have the type 'AsymmetricX509Cert' and the usage 'Verify'.")
		}
		c, err := directory.NewCertificate(k.Key, k.DisplayName)
		if err != nil {
			return badRequest("Request_BadRequest", "The key of a keyCredential is no certificate in DER, base64-encoded.")
		}
		if k.KeyID != "" {
			c.KeyID = k.KeyID
		}
		next = append(next, c)
	}
	a.Certificates = next
	return nil
}

func (h *Handler) createApp(c *call) error {
	if err := h.mayWriteApp(c, nil); err != nil {
		return err
	}
	b, err := c.body()
	if err != nil {
		return err
	}
	a := directory.App{Owners: bound(&b, "owners")}
	if c.caller.UPN != "" {
		a.Owners = append(a.Owners, c.caller.ObjectID)
	}
	if err := fillApp(&b, &a); err != nil {
		return err
	}
	a.Extra = b.rest(nil)
	if a, err = h.dir.CreateApp(c, a); err != nil {
		return err
	}
	return c.one(http.StatusCreated, "applications", h.appEntity(a), nil)
}

// changeApp applies change to the application in the path and writes it, again
// if another request came between.
func (h *Handler) changeApp(c *call, change func(*directory.App) error) error {
	for try := 0; ; try++ {
		a, err := h.writableApp(c)
		if err != nil {
			return err
		}
		if err := change(&a); err != nil {
			return err
		}
		if _, err = h.dir.UpdateApp(c, a); err == nil {
			return c.noContent()
		}
		if !errors.Is(err, store.ErrConflict) || try == 5 {
			return err
		}
	}
}

// writableApp is the application in the path, if the caller may write it.
func (h *Handler) writableApp(c *call) (directory.App, error) {
	a, err := h.app(c.args[0])
	if err != nil {
		return a, err
	}
	return a, h.mayWriteApp(c, &a)
}

func (h *Handler) updateApp(c *call) error {
	b, err := c.body()
	if err != nil {
		return err
	}
	return h.changeApp(c, func(a *directory.App) error {
		again := body{m: map[string]json.RawMessage{}}
		for k, v := range b.m {
			again.m[k] = v
		}
		if err := fillApp(&again, a); err != nil {
			return err
		}
		a.Extra = again.rest(a.Extra)
		return nil
	})
}

func (h *Handler) deleteApp(c *call) error {
	a, err := h.writableApp(c)
	if err != nil {
		return err
	}
	if sp, err := h.dir.ServicePrincipalByAppID(a.AppID); err == nil {
		if err := h.cfg.Leave(c, sp.ObjectID); err != nil {
			return err
		}
	}
	if err := h.dir.DeleteApp(c, a.ObjectID); err != nil {
		return err
	}
	return c.noContent()
}

func (h *Handler) listAppOwners(c *call) error {
	a, err := h.app(c.args[0])
	if err != nil {
		return err
	}
	return h.objects(c, a.Owners)
}

func (h *Handler) addAppOwner(c *call) error {
	oid, err := c.reference()
	if err != nil {
		return err
	}
	if _, err := h.dir.Principal(oid); err != nil {
		return notFound(oid)
	}
	return h.changeApp(c, func(a *directory.App) error {
		if slices.Contains(a.Owners, strings.ToLower(oid)) {
			return badRequest("Request_BadRequest", "One or more added object references already exist for the following modified properties: 'owners'.")
		}
		a.Owners = append(a.Owners, oid)
		return nil
	})
}

func (h *Handler) removeAppOwner(c *call) error {
	return h.changeApp(c, func(a *directory.App) error {
		n := len(a.Owners)
		if a.Owners = slices.DeleteFunc(a.Owners, func(o string) bool { return strings.EqualFold(o, c.args[1]) }); len(a.Owners) == n {
			return notFound(c.args[1])
		}
		return nil
	})
}

// addPassword makes a client secret; its text is in this answer and nowhere else.
func (h *Handler) addPassword(c *call) error {
	a, err := h.writableApp(c)
	if err != nil {
		return err
	}
	b, err := c.body()
	if err != nil {
		return err
	}
	var in struct {
		DisplayName string    `json:"displayName"`
		Start       time.Time `json:"startDateTime"`
		End         time.Time `json:"endDateTime"`
	}
	if take(&b, "passwordCredential", &in); b.err != nil {
		return b.err
	}
	text, s, err := h.dir.AddSecret(c, a.ObjectID, in.DisplayName, in.Start, in.End)
	if err != nil {
		return err
	}
	e := secretEntities([]directory.Secret{s})[0]
	e["secretText"] = text
	e["@odata.context"] = c.base + "/$metadata#microsoft.graph.passwordCredential"
	return c.json(http.StatusOK, e)
}

func (h *Handler) removePassword(c *call) error {
	a, err := h.writableApp(c)
	if err != nil {
		return err
	}
	b, err := c.body()
	if err != nil {
		return err
	}
	var id string
	if take(&b, "keyId", &id); b.err != nil || id == "" {
		return badRequest("Request_BadRequest", "The property 'keyId' is required.")
	}
	if err := h.dir.RemoveSecret(c, a.ObjectID, id); errors.Is(err, directory.ErrNotFound) {
		return badRequest("Request_BadRequest", "No password credential found with keyId.")
	} else if err != nil {
		return err
	}
	return c.noContent()
}

// addKey wants a proof of possession of an older key; PATCH does without.
func (h *Handler) addKey(*call) error {
	return badRequest("Request_BadRequest", "addKey and removeKey are not supported: write keyCredentials by PATCH.")
}

// ofServicePrincipal lets a handler for applications serve the service
// principal in the path: they share their secrets.
func (h *Handler) ofServicePrincipal(handle func(*call) error) func(*call) error {
	return func(c *call) error {
		s, err := h.sp(c.args[0])
		if err != nil {
			return err
		}
		if s.Type != directory.SPApplication {
			return badRequest("Request_BadRequest", "A managed identity has no secrets or keys of its own.")
		}
		c.args[0] = "appId=" + s.AppID
		return handle(c)
	}
}
