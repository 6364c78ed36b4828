package directory

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"lazurite.dev/internal/store"
)

// Group is a security group. Its members hold the roles that it holds.
type Group struct {
	ObjectID     string                     `json:"id"`
	DisplayName  string                     `json:"displayName"`
	Description  string                     `json:"description,omitempty"`
	MailNickname string                     `json:"mailNickname,omitempty"`
	Members      []string                   `json:"members,omitempty"` // object ids, groups too
	Owners       []string                   `json:"owners,omitempty"`  // object ids
	Extra        map[string]json.RawMessage `json:"extra,omitempty"`   // properties that mean nothing here, kept as sent
	Created      time.Time                  `json:"created"`
	Rev          int64                      `json:"-"`
}

func (g *Group) place() (kind, oid string) { return "group", g.ObjectID }
func (g *Group) setRev(rev int64)          { g.Rev = rev }

// MaxMembers is how many direct members a group can have.
const MaxMembers = 50_000

// Group gives the group with the object id; ErrNotFound if there is none.
func (d *Directory) Group(oid string) (Group, error) {
	d.ix.mu.RLock()
	defer d.ix.mu.RUnlock()
	if g := d.ix.groups[strings.ToLower(oid)]; g != nil {
		return g.clone(), nil
	}
	return Group{}, fmt.Errorf("group %s: %w", oid, ErrNotFound)
}

func (g *Group) clone() Group {
	c := *g
	c.Members, c.Owners = slices.Clone(g.Members), slices.Clone(g.Owners)
	return c
}

// Groups gives all groups, by display name.
func (d *Directory) Groups() []Group {
	d.ix.mu.RLock()
	defer d.ix.mu.RUnlock()
	out := make([]Group, 0, len(d.ix.groups))
	for _, g := range d.ix.groups {
		out = append(out, g.clone())
	}
	return sorted(out, func(g Group) string { return strings.ToLower(g.DisplayName) + "\x00" + g.ObjectID })
}

// MemberOf gives the groups that oid is a direct member of.
func (d *Directory) MemberOf(oid string) []Group {
	d.ix.mu.RLock()
	defer d.ix.mu.RUnlock()
	var out []Group
	for id := range d.ix.memberOf[strings.ToLower(oid)] {
		out = append(out, d.ix.groups[id].clone())
	}
	return sorted(out, func(g Group) string { return g.ObjectID })
}

// CreateGroup adds a group; an empty ObjectID becomes a new one.
func (d *Directory) CreateGroup(ctx context.Context, g Group) (Group, error) {
	if g.ObjectID == "" {
		g.ObjectID = uuid.NewString()
	}
	g.Created = time.Now().UTC()
	return d.putGroup(ctx, g, 0)
}

// UpdateGroup replaces the group whose ObjectID and Rev g has.
// store.ErrConflict when it changed meanwhile.
func (d *Directory) UpdateGroup(ctx context.Context, g Group) (Group, error) {
	return d.putGroup(ctx, g, g.Rev)
}

func (d *Directory) putGroup(ctx context.Context, g Group, rev int64) (Group, error) {
	if g.DisplayName == "" {
		return Group{}, fmt.Errorf("a group without a display name: %w", ErrInvalid)
	}
	for _, list := range []*[]string{&g.Members, &g.Owners} {
		if len(*list) > MaxMembers {
			return Group{}, fmt.Errorf("more than %d members: %w", MaxMembers, ErrInvalid)
		}
		for _, oid := range *list {
			if _, err := d.Principal(oid); err != nil {
				return Group{}, err
			}
		}
		*list = lowered(*list)
	}
	var err error
	if g.Rev, err = d.put(ctx, &g, rev); err != nil {
		return Group{}, fmt.Errorf("writing group %q: %w", g.DisplayName, err)
	}
	return g, nil
}

// lowered is list in lower case, sorted, each once.
func lowered(list []string) []string {
	var out []string
	for _, s := range list {
		out = append(out, strings.ToLower(s))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// DeleteGroup removes the group, its own memberships and directory roles.
func (d *Directory) DeleteGroup(ctx context.Context, oid string) error {
	if _, err := d.Group(oid); err != nil {
		return err
	}
	if err := d.forget(ctx, oid); err != nil {
		return err
	}
	return d.remove(ctx, "group", oid, 0)
}

// forget takes oid out of all groups, out of the owners of applications, and
// from directory roles. The last Global Administrator stays: ErrInvalid.
func (d *Directory) forget(ctx context.Context, oid string) error {
	oid = strings.ToLower(oid)
	if err := d.spare(oid); err != nil {
		return err
	}
	for _, g := range d.Groups() {
		if !slices.Contains(g.Members, oid) && !slices.Contains(g.Owners, oid) {
			continue
		}
		g.Members = slices.DeleteFunc(g.Members, func(s string) bool { return s == oid })
		g.Owners = slices.DeleteFunc(g.Owners, func(s string) bool { return s == oid })
		if _, err := d.put(ctx, &g, g.Rev); err != nil {
			return fmt.Errorf("leaving group %q: %w", g.DisplayName, err)
		}
	}
	for _, a := range d.Apps() {
		if !slices.Contains(a.Owners, oid) {
			continue
		}
		s, err := d.storedApp(a.ObjectID)
		if err != nil {
			return err
		}
		s.Owners = slices.DeleteFunc(slices.Clone(s.Owners), func(o string) bool { return o == oid })
		if _, err := d.put(ctx, &s, s.Rev); err != nil {
			return fmt.Errorf("leaving application %q: %w", a.DisplayName, err)
		}
	}
	for _, r := range d.RoleAssignments() {
		if r.Principal == oid {
			if err := d.remove(ctx, "role", r.ID, 0); err != nil && !errors.Is(err, ErrNotFound) {
				return err
			}
		}
	}
	return nil
}

// RoleAssignment gives a principal a directory role in the whole tenant.
type RoleAssignment struct {
	ID        string `json:"id"`
	Principal string `json:"principalId"`
	Role      string `json:"roleTemplateId"`
	Rev       int64  `json:"-"`
}

func (r *RoleAssignment) place() (kind, oid string) { return "role", r.ID }
func (r *RoleAssignment) setRev(rev int64)          { r.Rev = rev }

// DirectoryRole is a role over the directory itself, not over resources.
type DirectoryRole struct{ TemplateID, Name, Description string }

// GlobalAdministrator is the template of the role that may write everything.
const GlobalAdministrator = "62e90394-69f5-4237-9190-012177145e10"

// The templates of the other directory roles that writes ask for.
const (
	PrivilegedRoleAdministrator   = "e8611ab8-c189-46e8-94e1-60213ab1f814"
	UserAdministrator             = "fe930be7-5e62-47db-91af-98c3a49a38b1"
	GroupsAdministrator           = "fdd7a751-b60b-444a-984c-02652fe8fa1c"
	ApplicationAdministrator      = "9b895d92-2cd3-44c7-9d02-a6ac2d5ea5c3"
	CloudApplicationAdministrator = "158c047a-c907-4556-b7ef-446551a6b5f7"
)

// DirectoryRoles gives the directory roles that exist. Source: Microsoft Entra
// documentation, "Microsoft Entra built-in roles".
func DirectoryRoles() []DirectoryRole {
	return []DirectoryRole{
		{GlobalAdministrator, "Global Administrator", "Can manage all aspects of Microsoft Entra ID and Microsoft services that use Microsoft Entra identities."},
		{PrivilegedRoleAdministrator, "Privileged Role Administrator", "Can manage role assignments in Microsoft Entra ID, and all aspects of Privileged Identity Management."},
		{UserAdministrator, "User Administrator", "Can manage all aspects of users and groups, including resetting passwords for limited admins."},
		{GroupsAdministrator, "Groups Administrator", "Members of this role can create/manage groups, create/manage groups settings like naming and expiration policies, and view groups activity and audit reports."},
		{ApplicationAdministrator, "Application Administrator", "Can create and manage all aspects of app registrations and enterprise apps."},
		{CloudApplicationAdministrator, "Cloud Application Administrator", "Can create and manage all aspects of app registrations and enterprise apps except App Proxy."},
	}
}

// RoleAssignments gives all assignments of directory roles, by id.
func (d *Directory) RoleAssignments() []RoleAssignment {
	d.ix.mu.RLock()
	defer d.ix.mu.RUnlock()
	var out []RoleAssignment
	for _, r := range d.ix.roles {
		out = append(out, *r)
	}
	return sorted(out, func(r RoleAssignment) string { return r.ID })
}

// HasRole reports whether oid, or a group that it belongs to, holds one of the
// directory roles.
func (d *Directory) HasRole(oid string, templates ...string) bool {
	principals := d.Acting(oid)
	d.ix.mu.RLock()
	defer d.ix.mu.RUnlock()
	for _, r := range d.ix.roles {
		if slices.Contains(templates, r.Role) && slices.Contains(principals, r.Principal) {
			return true
		}
	}
	return false
}

// AssignRole gives a principal a directory role. Doing it again changes nothing.
func (d *Directory) AssignRole(ctx context.Context, principal, template string) (RoleAssignment, error) {
	template = strings.ToLower(template)
	if !slices.ContainsFunc(DirectoryRoles(), func(r DirectoryRole) bool { return r.TemplateID == template }) {
		return RoleAssignment{}, fmt.Errorf("directory role %s: %w", template, ErrNotFound)
	}
	p, err := d.Principal(principal)
	if err != nil {
		return RoleAssignment{}, err
	}
	id := uuid.NewSHA1(uuid.NameSpaceOID, []byte(strings.ToLower(p.ObjectID)+template)).String()
	r := &RoleAssignment{ID: id, Principal: strings.ToLower(p.ObjectID), Role: template}
	if r.Rev, err = d.put(ctx, r, 0); err != nil && !errors.Is(err, store.ErrConflict) {
		return RoleAssignment{}, err
	}
	return *r, nil
}

// UnassignRole takes a directory role away. That of the last Global
// Administrator is refused with ErrInvalid: nobody could give it back.
func (d *Directory) UnassignRole(ctx context.Context, id string) error {
	all := d.RoleAssignments()
	i := slices.IndexFunc(all, func(r RoleAssignment) bool { return strings.EqualFold(r.ID, id) })
	if i < 0 {
		return fmt.Errorf("role assignment %s: %w", id, ErrNotFound)
	}
	if all[i].Role == GlobalAdministrator && !d.administered(func(r RoleAssignment, _ string) bool { return r.ID != all[i].ID }) {
		return errLastAdministrator()
	}
	return d.remove(ctx, "role", id, 0)
}

// administered reports whether somebody acts as Global Administrator by one of
// the assignments, and as one of the accounts, that count.
func (d *Directory) administered(counts func(r RoleAssignment, account string) bool) bool {
	for _, r := range d.RoleAssignments() {
		if r.Role == GlobalAdministrator && slices.ContainsFunc(d.Accounts(r.Principal), func(account string) bool { return counts(r, account) }) {
			return true
		}
	}
	return false
}

// spare refuses to take oid, an account or a group, away from the Global
// Administrators if nobody else is one.
func (d *Directory) spare(oid string) error {
	oid = strings.ToLower(oid)
	one := d.administered(func(RoleAssignment, string) bool { return true })
	if one && !d.administered(func(r RoleAssignment, account string) bool { return r.Principal != oid && account != oid }) {
		return errLastAdministrator()
	}
	return nil
}

func errLastAdministrator() error {
	return fmt.Errorf("this is the last Global Administrator: %w", ErrInvalid)
}
