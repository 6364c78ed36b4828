package graph

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"lazurite.dev/internal/directory"
)

func (h *Handler) spEntity(s directory.ServicePrincipal) entity {
	e := entity{
		"id": s.ObjectID, "appId": s.AppID, "displayName": s.DisplayName, "appDisplayName": s.DisplayName, "servicePrincipalType": s.Type,
		"servicePrincipalNames": strings0(s.Names), "alternativeNames": strings0(s.AlternativeNames), "accountEnabled": !s.Disabled,
		"tags": strings0(s.Tags), "notes": null(s.Notes), "createdDateTime": stamp(s.Created), "deletedDateTime": nil,
		"appOwnerOrganizationId": h.dir.TenantID(), "appRoleAssignmentRequired": false, "appRoles": []any{}, "oauth2PermissionScopes": []any{},
		"passwordCredentials": []entity{}, "keyCredentials": []entity{}, "replyUrls": []string{}, "addIns": []any{}, "signInAudience": nil,
		"homepage": nil, "loginUrl": nil, "logoutUrl": nil, "notificationEmailAddresses": []any{}, "preferredSingleSignOnMode": nil,
	}
	if a, err := h.dir.App(s.AppID); err == nil {
		e["appDisplayName"], e["signInAudience"] = a.DisplayName, a.Audience
		e["passwordCredentials"], e["keyCredentials"] = secretEntities(a.Secrets), certificateEntities(a.Certificates)
		e["replyUrls"] = strings0(append(append([]string{}, a.RedirectURIs.Web...), a.RedirectURIs.Public...))
	}
	return with(e, s.Extra)
}

// sp finds a service principal by object id, or by client id as "appId=x".
func (h *Handler) sp(key string) (directory.ServicePrincipal, error) {
	appID, byAppID := strings.CutPrefix(key, "appId=")
	s, err := h.dir.ServicePrincipal(key)
	if byAppID {
		s, err = h.dir.ServicePrincipalByAppID(appID)
	}
	if errors.Is(err, directory.ErrNotFound) {
		return s, notFound(key)
	}
	return s, err
}

func (h *Handler) listSPs(c *call) error {
	expr, err := c.filter()
	if err != nil {
		return err
	}
	var list []directory.ServicePrincipal
	for _, by := range []struct {
		name string
		find func(string) (directory.ServicePrincipal, error)
	}{{"appId", h.dir.ServicePrincipalByAppID}, {"servicePrincipalNames", h.dir.ServicePrincipalByName}, {"id", h.dir.ServicePrincipal}} {
		v, ok := required(expr, by.name)
		if !ok {
			continue
		}
		all := []entity{}
		if s, err := by.find(v); err == nil {
			all = append(all, h.spEntity(s))
		}
		return c.list("servicePrincipals", all, nil)
	}
	list = h.dir.ServicePrincipals()
	all := make([]entity, 0, len(list))
	for _, s := range list {
		all = append(all, h.spEntity(s))
	}
	return c.list("servicePrincipals", all, nil)
}

func (h *Handler) getSP(c *call) error {
	s, err := h.sp(c.args[0])
	if err != nil {
		return err
	}
	return c.one(http.StatusOK, "servicePrincipals", h.spEntity(s), nil)
}

func fillSP(b *body, s *directory.ServicePrincipal) error {
	take(b, "displayName", &s.DisplayName)
	take(b, "tags", &s.Tags)
	take(b, "notes", &s.Notes)
	take(b, "alternativeNames", &s.AlternativeNames)
	enabled := true
	if take(b, "accountEnabled", &enabled) {
		s.Disabled = !enabled
	}
	var assigned bool
	if take(b, "appRoleAssignmentRequired", &assigned); assigned {
		return badRequest("Request_BadRequest", "appRoleAssignmentRequired is not supported: sign-in is not restricted to assigned users. Send false.")
	}
	for _, no := range []string{"passwordCredentials", "keyCredentials"} {
		var list []json.RawMessage
		if take(b, no, &list); len(list) > 0 {
			return badRequest("Request_BadRequest", "%s of a service principal cannot be written: they are its application's.", no)
		}
	}
	var names []string
	take(b, "servicePrincipalNames", &names) // they follow the application
	return b.err
}

func (h *Handler) createSP(c *call) error {
	b, err := c.body()
	if err != nil {
		return err
	}
	var s directory.ServicePrincipal
	if take(&b, "appId", &s.AppID); s.AppID == "" {
		return badRequest("Request_BadRequest", "The property 'appId' is required.")
	}
	a, err := h.dir.App(s.AppID)
	if err != nil {
		if err := h.mayWriteApp(c, nil); err != nil {
			return err
		}
		return badRequest("Request_BadRequest", "The appId '%s' of the service principal does not reference a valid application object.", s.AppID)
	}
	if err := h.mayWriteApp(c, &a); err != nil {
		return err
	}
	if err := fillSP(&b, &s); err != nil {
		return err
	}
	s.Extra = b.rest(nil)
	if s, err = h.dir.CreateServicePrincipal(c, s); errors.Is(err, directory.ErrTaken) {
		return conflictSP(a.AppID)
	} else if err != nil {
		return err
	}
	return c.one(http.StatusCreated, "servicePrincipals", h.spEntity(s), nil)
}

func conflictSP(appID string) error {
	return badRequest("Request_MultipleObjectsWithSameKeyValue",
		"The service principal cannot be created, updated, or restored because the service principal name %s is already in use.", appID)
}

// writableSP is the service principal in the path, if the caller may write it.
func (h *Handler) writableSP(c *call) (directory.ServicePrincipal, error) {
	s, err := h.sp(c.args[0])
	if err != nil {
		return s, err
	}
	a, err := h.dir.App(s.AppID)
	if err != nil {
		if h.privileged(s.ObjectID) {
			err = h.may(c, "change a service principal that holds a directory role")
		} else {
			err = h.mayWriteApp(c, nil)
		}
	} else {
		err = h.mayWriteApp(c, &a)
	}
	if err == nil && s.Type == directory.SPManagedIdentity {
		err = badRequest("Request_BadRequest", "The service principal of a managed identity is changed through its resource, %s.", s.ResourceID)
	}
	return s, err
}

func (h *Handler) updateSP(c *call) error {
	s, err := h.writableSP(c)
	if err != nil {
		return err
	}
	b, err := c.body()
	if err != nil {
		return err
	}
	delete(b.m, "appId")
	was := s.Disabled
	if err := fillSP(&b, &s); err != nil {
		return err
	}
	if s.Disabled && !was {
		if err := h.cfg.Leave(c, s.ObjectID); err != nil {
			return err
		}
	}
	s.Extra = b.rest(s.Extra)
	if _, err := h.dir.UpdateServicePrincipal(c, s); err != nil {
		return err
	}
	return c.noContent()
}

func (h *Handler) deleteSP(c *call) error {
	s, err := h.writableSP(c)
	if err != nil {
		return err
	}
	if err := h.cfg.Leave(c, s.ObjectID); err != nil {
		return err
	}
	if err := h.dir.DeleteServicePrincipal(c, s.ObjectID); err != nil {
		return err
	}
	return c.noContent()
}

func (h *Handler) listSPOwners(c *call) error {
	s, err := h.sp(c.args[0])
	if err != nil {
		return err
	}
	a, err := h.dir.App(s.AppID)
	if err != nil {
		return h.objects(c, nil)
	}
	return h.objects(c, a.Owners)
}
