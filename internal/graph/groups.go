package graph

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"lazurite.dev/internal/directory"
	"lazurite.dev/internal/store"
)

func groupEntity(g directory.Group) entity {
	return with(entity{
		"id": g.ObjectID, "displayName": g.DisplayName, "description": null(g.Description), "mailNickname": null(g.MailNickname),
		"mail": nil, "mailEnabled": false, "securityEnabled": true, "groupTypes": []any{}, "createdDateTime": stamp(g.Created),
		"deletedDateTime": nil, "visibility": nil, "membershipRule": nil, "isAssignableToRole": nil, "classification": nil,
		"expirationDateTime": nil, "onPremisesSyncEnabled": nil, "proxyAddresses": []any{},
	}, g.Extra)
}

func (h *Handler) group(key string) (directory.Group, error) {
	g, err := h.dir.Group(key)
	if errors.Is(err, directory.ErrNotFound) {
		return g, notFound(key)
	}
	return g, err
}

func (h *Handler) listGroups(c *call) error {
	all := []entity{}
	for _, g := range h.dir.Groups() {
		all = append(all, groupEntity(g))
	}
	return c.list("groups", all, nil)
}

func (h *Handler) getGroup(c *call) error {
	g, err := h.group(c.args[0])
	if err != nil {
		return err
	}
	return c.one(http.StatusOK, "groups", groupEntity(g), nil)
}

// fillGroup moves what b says into g. Groups other than security groups with
// assigned members are refused: nothing would keep them.
func fillGroup(b *body, g *directory.Group) error {
	take(b, "displayName", &g.DisplayName)
	take(b, "description", &g.Description)
	take(b, "mailNickname", &g.MailNickname)
	var mail bool
	var types []string
	security := true
	if take(b, "mailEnabled", &mail); mail {
		return badRequest("Request_BadRequest", "Groups with mail are not supported: send mailEnabled false.")
	}
	if take(b, "securityEnabled", &security); !security {
		return badRequest("Request_BadRequest", "Only security groups are supported: send securityEnabled true.")
	}
	if take(b, "groupTypes", &types); len(types) > 0 {
		return badRequest("Request_BadRequest", "Groups of the type '%s' are not supported: send no groupTypes.", types[0])
	}
	var rule string
	if take(b, "membershipRule", &rule); rule != "" {
		return badRequest("Request_BadRequest", "Dynamic membership is not supported.")
	}
	if g.DisplayName == "" {
		return badRequest("Request_BadRequest", "A value is required for property 'displayName' of resource 'Group'.")
	}
	return b.err
}

// bound takes the object ids of "members@odata.bind" and its like.
func bound(b *body, name string) []string {
	var refs, out []string
	take(b, name+"@odata.bind", &refs)
	for _, r := range refs {
		out = append(out, refID(r))
	}
	return out
}

// refID is the object id at the end of a reference's URL.
func refID(ref string) string {
	ref = strings.TrimRight(ref, "/")
	ref = ref[strings.LastIndexByte(ref, '/')+1:]
	if _, key, ok := strings.Cut(ref, "('"); ok {
		ref = strings.TrimSuffix(key, "')")
	}
	return ref
}

func (h *Handler) createGroup(c *call) error {
	if err := h.mayWriteGroup(c, nil); err != nil {
		return err
	}
	b, err := c.body()
	if err != nil {
		return err
	}
	g := directory.Group{Members: bound(&b, "members"), Owners: bound(&b, "owners")}
	if err := fillGroup(&b, &g); err != nil {
		return err
	}
	g.Extra = b.rest(nil)
	if g, err = h.dir.CreateGroup(c, g); err != nil {
		return err
	}
	return c.one(http.StatusCreated, "groups", groupEntity(g), nil)
}

// changeGroup applies change to the group in the path and writes it, again if
// another request came between.
func (h *Handler) changeGroup(c *call, change func(*directory.Group) error) error {
	for try := 0; ; try++ {
		g, err := h.group(c.args[0])
		if err != nil {
			return err
		}
		if err := h.mayWriteGroup(c, &g); err != nil {
			return err
		}
		if err := change(&g); err != nil {
			return err
		}
		if _, err = h.dir.UpdateGroup(c, g); err == nil {
			return c.noContent()
		}
		if !errors.Is(err, store.ErrConflict) || try == 5 {
			return err
		}
	}
}

func (h *Handler) updateGroup(c *call) error {
	b, err := c.body()
	if err != nil {
		return err
	}
	members, owners := bound(&b, "members"), bound(&b, "owners")
	var patch directory.Group
	patch.DisplayName = "unchanged"
	_, renamed := b.m["displayName"]
	_, described := b.m["description"]
	_, nick := b.m["mailNickname"]
	if err := fillGroup(&b, &patch); err != nil {
		return err
	}
	return h.changeGroup(c, func(g *directory.Group) error {
		if renamed {
			g.DisplayName = patch.DisplayName
		}
		if described {
			g.Description = patch.Description
		}
		if nick {
			g.MailNickname = patch.MailNickname
		}
		g.Members, g.Owners = append(g.Members, members...), append(g.Owners, owners...)
		g.Extra = b.rest(g.Extra)
		return nil
	})
}

func (h *Handler) deleteGroup(c *call) error {
	g, err := h.group(c.args[0])
	if err != nil {
		return err
	}
	if err := h.mayWriteGroup(c, &g); err != nil {
		return err
	}
	if err := h.cfg.Leave(c, g.ObjectID); err != nil {
		return err
	}
	if err := h.dir.DeleteGroup(c, g.ObjectID); err != nil {
		return err
	}
	return c.noContent()
}

// reference reads the body of POST …/$ref.
func (c *call) reference() (string, error) {
	b, err := c.body()
	if err != nil {
		return "", err
	}
	var ref string
	if take(&b, "@odata.id", &ref); b.err != nil || ref == "" {
		return "", badRequest("Request_BadRequest", "The property '@odata.id' is required: the URL of a directory object.")
	}
	return refID(ref), nil
}

func members(g *directory.Group) *[]string { return &g.Members }
func owners(g *directory.Group) *[]string  { return &g.Owners }

func (h *Handler) addRef(list func(*directory.Group) *[]string, what string) func(*call) error {
	return func(c *call) error {
		oid, err := c.reference()
		if err != nil {
			return err
		}
		if _, err := h.dir.Principal(oid); err != nil {
			return notFound(oid)
		}
		return h.changeGroup(c, func(g *directory.Group) error {
			l := list(g)
			if slices.Contains(*l, strings.ToLower(oid)) {
				return badRequest("Request_BadRequest", "One or more added object references already exist for the following modified properties: '%s'.", what)
			}
			*l = append(*l, oid)
			return nil
		})
	}
}

func (h *Handler) removeRef(list func(*directory.Group) *[]string) func(*call) error {
	return func(c *call) error {
		return h.changeGroup(c, func(g *directory.Group) error {
			l, oid := list(g), strings.ToLower(c.args[1])
			n := len(*l)
			if *l = slices.DeleteFunc(*l, func(s string) bool { return s == oid }); len(*l) == n {
				return notFound(c.args[1])
			}
			return nil
		})
	}
}

func (h *Handler) listRefs(list func(*directory.Group) *[]string) func(*call) error {
	return func(c *call) error {
		g, err := h.group(c.args[0])
		if err != nil {
			return err
		}
		return h.objects(c, *list(&g))
	}
}

// transitiveMembers are the members of the group and of the groups in it.
func (h *Handler) transitiveMembers(c *call) error {
	g, err := h.group(c.args[0])
	if err != nil {
		return err
	}
	seen := map[string]bool{strings.ToLower(g.ObjectID): true}
	var out []string
	todo := slices.Clone(g.Members)
	for len(todo) > 0 {
		oid := todo[0]
		todo = todo[1:]
		if seen[oid] {
			continue
		}
		seen[oid] = true
		out = append(out, oid)
		if inner, err := h.dir.Group(oid); err == nil {
			todo = append(todo, inner.Members...)
		}
	}
	slices.Sort(out)
	return h.objects(c, out)
}
