package graph

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"lazurite.dev/internal/directory"
	"lazurite.dev/internal/odata"
)

// required is the value that the filter demands of a property.
func required(expr *odata.Expr, name string) (string, bool) {
	if expr == nil {
		return "", false
	}
	return expr.Required(name)
}

// object is a directory object of any kind, marked with what it is.
func (h *Handler) object(oid string) (entity, error) {
	if u, err := h.dir.User(oid); err == nil {
		return typed(selected(userEntity(u), "", userDefaults()), "user"), nil
	}
	if g, err := h.dir.Group(oid); err == nil {
		return typed(groupEntity(g), "group"), nil
	}
	if s, err := h.dir.ServicePrincipal(oid); err == nil {
		return typed(h.spEntity(s), "servicePrincipal"), nil
	}
	if a, err := h.dir.AppByObjectID(oid); err == nil {
		return typed(h.appEntity(a), "application"), nil
	}
	return nil, notFound(oid)
}

// objects lists directory objects by their ids; those that are gone are left out.
func (h *Handler) objects(c *call, oids []string) error {
	all := []entity{}
	for _, oid := range oids {
		if e, err := h.object(oid); err == nil {
			all = append(all, e)
		}
	}
	return c.list("directoryObjects", all, nil)
}

func (h *Handler) getObject(c *call) error {
	e, err := h.object(c.args[0])
	if err != nil {
		return err
	}
	return c.one(http.StatusOK, "directoryObjects", e, nil)
}

const maxIDs = 1000

func (h *Handler) getByIDs(c *call) error {
	b, err := c.body()
	if err != nil {
		return err
	}
	var ids, types []string
	take(&b, "ids", &ids)
	take(&b, "types", &types)
	if b.err != nil {
		return b.err
	}
	if len(ids) > maxIDs {
		return badRequest("Request_BadRequest", "At most %d ids can be asked for at once.", maxIDs)
	}
	value := []entity{}
	for _, oid := range ids {
		e, err := h.object(oid)
		if err != nil {
			continue
		}
		kind, _ := e["@odata.type"].(string)
		kind = strings.TrimPrefix(kind, "#microsoft.graph.")
		if len(types) == 0 || slices.ContainsFunc(types, func(t string) bool { return strings.EqualFold(t, kind) || t == "directoryObject" }) {
			value = append(value, e)
		}
	}
	return c.json(http.StatusOK, entity{"@odata.context": c.base + "/$metadata#directoryObjects", "value": value})
}

// subject finds the principal in the path, by object id or UPN.
func (h *Handler) subject(key string) (string, error) {
	p, err := h.dir.Principal(key)
	if err == nil {
		return p.ObjectID, nil
	}
	if appID, ok := strings.CutPrefix(key, "appId="); ok {
		if s, err := h.dir.ServicePrincipalByAppID(appID); err == nil {
			return s.ObjectID, nil
		}
	}
	u, err := h.user(key)
	return u.ObjectID, err
}

func (h *Handler) memberOf(transitive bool) func(*call) error {
	return func(c *call) error {
		oid, err := h.subject(c.args[0])
		if err != nil {
			return err
		}
		var groups []string
		if transitive {
			groups = h.dir.Principals(oid)[1:]
		} else {
			for _, g := range h.dir.MemberOf(oid) {
				groups = append(groups, g.ObjectID)
			}
		}
		all := []entity{}
		for _, g := range groups {
			if e, err := h.object(g); err == nil {
				all = append(all, e)
			}
		}
		principals := []string{strings.ToLower(oid)}
		if transitive {
			principals = h.dir.Principals(oid)
		}
		for _, r := range h.dir.RoleAssignments() {
			if slices.Contains(principals, r.Principal) {
				all = append(all, typed(roleEntity(r.Role), "directoryRole"))
			}
		}
		return c.list("directoryObjects", all, nil)
	}
}

// memberGroups serves checkMemberGroups and getMemberGroups.
func (h *Handler) memberGroups(check bool) func(*call) error {
	return func(c *call) error {
		oid, err := h.subject(c.args[0])
		if err != nil {
			return err
		}
		b, err := c.body()
		if err != nil {
			return err
		}
		in := []string{}
		if p := h.dir.Principals(oid); len(p) > 1 {
			in = p[1:]
		}
		if check {
			var asked []string
			if take(&b, "groupIds", &asked); b.err != nil || len(asked) == 0 {
				return badRequest("Request_BadRequest", "The property 'groupIds' is required.")
			}
			in = slices.DeleteFunc(slices.Clone(in), func(g string) bool {
				return !slices.ContainsFunc(asked, func(a string) bool { return strings.EqualFold(a, g) })
			})
		}
		return c.json(http.StatusOK, entity{"@odata.context": c.base + "/$metadata#Collection(Edm.String)", "value": in})
	}
}

func (h *Handler) ownedObjects(c *call) error {
	oid, err := h.subject(c.args[0])
	if err != nil {
		return err
	}
	oid = strings.ToLower(oid)
	var owned []string
	for _, a := range h.dir.Apps() {
		if slices.Contains(a.Owners, oid) {
			owned = append(owned, a.ObjectID)
		}
	}
	for _, g := range h.dir.Groups() {
		if slices.Contains(g.Owners, oid) {
			owned = append(owned, g.ObjectID)
		}
	}
	return h.objects(c, owned)
}

func (h *Handler) organization(c *call) error {
	t, err := h.dir.Tenant()
	if err != nil && !errors.Is(err, directory.ErrNotFound) {
		return err
	}
	domains := []entity{}
	for i, d := range t.Domains {
		domains = append(domains, entity{"name": d, "isDefault": i == 0, "isInitial": i == 0, "type": "Managed", "capabilities": "Email, OfficeCommunicationsOnline"})
	}
	return c.list("organization", []entity{{
		"id": h.dir.TenantID(), "displayName": t.DisplayName, "tenantType": "AAD", "createdDateTime": stamp(t.Created),
		"verifiedDomains": domains, "businessPhones": []any{}, "technicalNotificationMails": []any{}, "assignedPlans": []any{},
		"provisionedPlans": []any{}, "countryLetterCode": nil, "deletedDateTime": nil,
	}}, nil)
}

func (h *Handler) domains(c *call) error {
	t, err := h.dir.Tenant()
	if err != nil && !errors.Is(err, directory.ErrNotFound) {
		return err
	}
	all := []entity{}
	for i, d := range t.Domains {
		all = append(all, entity{"id": d, "isDefault": i == 0, "isInitial": i == 0, "isRoot": true, "isVerified": true, "isAdminManaged": true,
			"authenticationType": "Managed", "supportedServices": []any{}, "state": nil, "passwordValidityPeriodInDays": 2147483647})
	}
	return c.list("domains", all, nil)
}
