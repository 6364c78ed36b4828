package authorization_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/directory"
	"lazurite.dev/internal/ops"
	"lazurite.dev/internal/providers/authorization"
	"lazurite.dev/internal/rbac"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
	"lazurite.dev/internal/store/sqlstore"
	"lazurite.dev/internal/token"
	"lazurite.dev/internal/trace"
)

const (
	tenant = "00000000-aaaa-0000-0000-000000000001"
	sub    = "/subscriptions/00000000-0000-0000-0000-00000000000a"
	rg     = sub + "/resourceGroups/rg"
	vault  = rg + "/providers/Microsoft.KeyVault/vaults/v"
	auth   = "/providers/Microsoft.Authorization"

	secretsUser = "4633458b-17de-408a-b874-0445c86b69e6"
	getSecret   = "Microsoft.KeyVault/vaults/secrets/getSecret/action"
	writeGroup  = "Microsoft.Resources/subscriptions/resourceGroups/write"
)

// verifier takes an object id for a token.
type verifier struct{}

func (verifier) Verify(_ context.Context, raw string, _ ...string) (*token.Claims, error) {
	return &token.Claims{ObjectID: raw, UPN: raw, TenantID: tenant}, nil
}

type world struct {
	t          *testing.T
	st         store.Store
	dir        *directory.Directory
	a          *authorization.Authorizer
	h          http.Handler
	owner, ada string
	mi         string
}

func start(t *testing.T) *world {
	t.Helper()
	return startLimited(t, authorization.Limits{}, time.Now)
}

func startLimited(t *testing.T, limits authorization.Limits, clock func() time.Time) *world {
	t.Helper()
	ctx := t.Context()
	st, err := sqlstore.OpenSQLite(ctx, filepath.Join(t.TempDir(), "laz.db"))
	check(t, err)
	dir, err := directory.Open(ctx, st, tenant)
	check(t, err)
	a, err := authorization.OpenLimited(ctx, st, dir, limits, clock)
	check(t, err)
	t.Cleanup(func() {
		a.Close()
		dir.Close()
		check(t, st.Close())
	})
	w := &world{t: t, st: st, dir: dir, a: a, mi: "00000000-bbbb-0000-0000-000000000001"}
	for upn, oid := range map[string]*string{"owner@contoso.example": &w.owner, "ada@contoso.example": &w.ada} {
		u, err := dir.CreateUser(ctx, directory.User{UPN: upn}, "")
		check(t, err)
		*oid = u.ObjectID
	}
	check(t, dir.EnsureManagedIdentity(ctx, directory.ManagedIdentity{
		ResourceID: rg + "/providers/Microsoft.ManagedIdentity/userAssignedIdentities/mi", ClientID: "00000000-cccc-0000-0000-000000000001",
		PrincipalID: w.mi, TenantID: tenant, Name: "mi",
	}))
	res := arm.Resources{Store: st}
	for id, typ := range map[string]string{sub: rid.TypeSubscription, rg: rid.TypeResourceGroup, vault: "Microsoft.KeyVault/vaults"} {
		check(t, res.Put(ctx, &arm.Envelope{ID: id, Name: rid.MustParse(id).Name(), Type: typ}))
	}
	for range 2 { // again changes nothing
		check(t, a.Assign(ctx, rid.MustParse(sub), rbac.Owner, w.owner))
	}
	w.h, err = arm.New(arm.Config{
		Store: st, Ops: ops.New(st, slog.New(slog.DiscardHandler), true), Verifier: verifier{}, Authorizer: a,
		Providers: []arm.Provider{a.Provider()}, TenantID: tenant, Log: slog.New(slog.DiscardHandler),
	})
	check(t, err)
	return w
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// do sends a request as oid and gives status and body.
func (w *world) do(oid, method, path string, body any) (int, map[string]any) {
	w.t.Helper()
	b, err := json.Marshal(body)
	check(w.t, err)
	if body == nil {
		b = nil
	}
	path, query, _ := strings.Cut(path, "?")
	q, err := url.ParseQuery(query)
	check(w.t, err)
	if !q.Has("api-version") {
		q.Set("api-version", "2022-04-01")
	}
	r := httptest.NewRequestWithContext(w.t.Context(), method, "https://management.azure.com"+path+"?"+q.Encode(), bytes.NewReader(b))
	r.Header.Set("Authorization", "Bearer "+oid)
	r.Header.Set("Content-Type", "application/json")
	rec := httptest.NewRecorder()
	w.h.ServeHTTP(rec, r)
	var out map[string]any
	if rec.Body.Len() > 0 {
		var v any
		check(w.t, json.Unmarshal(rec.Body.Bytes(), &v))
		if m, ok := v.(map[string]any); ok {
			out = m
		} else {
			out = map[string]any{"value": v}
		}
	}
	return rec.Code, out
}

func (w *world) refused(what string, status int, body map[string]any, wantStatus int, wantCode string) {
	w.t.Helper()
	e, _ := body["error"].(map[string]any)
	if status != wantStatus || e["code"] != wantCode {
		w.t.Errorf("%s: got %d %v, want %d %s", what, status, body, wantStatus, wantCode)
	}
}

func props(body map[string]any) map[string]any {
	p, _ := body["properties"].(map[string]any)
	return p
}

func values(body map[string]any) []map[string]any {
	var out []map[string]any
	list, _ := body["value"].([]any)
	for _, v := range list {
		m, _ := v.(map[string]any)
		out = append(out, m)
	}
	return out
}

func assignment(role, principal string, more ...string) map[string]any {
	p := map[string]any{"roleDefinitionId": sub + auth + "/roleDefinitions/" + role, "principalId": principal}
	for i := 0; i+1 < len(more); i += 2 {
		p[more[i]] = more[i+1]
	}
	return map[string]any{"properties": p}
}

func name(n int) string { return fmt.Sprintf("00000000-dddd-0000-0000-%012d", n) }

func (w *world) may(oid, action string, data bool, scope string) bool {
	w.t.Helper()
	d, err := w.a.Check(w.t.Context(), oid, action, data, rid.MustParse(scope))
	check(w.t, err)
	return d.Allowed
}

func TestRoleAssignments_LifeOfOne(t *testing.T) {
	w := start(t)
	path := vault + auth + "/roleAssignments/" + name(1)
	if w.may(w.mi, getSecret, true, vault+"/secrets/s") {
		t.Fatal("allowed before it is assigned")
	}
	status, body := w.do(w.owner, "PUT", path, assignment(secretsUser, w.mi, "principalType", "ServicePrincipal"))
	if p := props(body); status != 201 || p["scope"] != vault || p["principalType"] != "ServicePrincipal" || p["createdBy"] != w.owner ||
		p["condition"] != nil || body["name"] != name(1) || body["type"] != "Microsoft.Authorization/roleAssignments" {
		t.Fatalf("created: %d %v", status, body)
	}
	if !w.may(w.mi, getSecret, true, vault+"/secrets/s") || w.may(w.mi, getSecret, true, rg) {
		t.Error("the assignment is not in effect, or too wide")
	}
	if status, body = w.do(w.owner, "PUT", path, assignment(secretsUser, w.mi)); status != 200 && status != 201 {
		t.Errorf("the same again: %d %v", status, body)
	}
	status, body = w.do(w.owner, "PUT", vault+auth+"/roleAssignments/"+name(2), assignment(strings.ToUpper(secretsUser), strings.ToUpper(w.mi)))
	w.refused("the same under another name", status, body, 409, "RoleAssignmentExists")
	if m, _ := body["error"].(map[string]any)["message"].(string); !strings.HasSuffix(m, strings.ReplaceAll(name(1), "-", "")+".") {
		t.Errorf("message: %s", m)
	}
	status, body = w.do(w.owner, "PUT", path, assignment(rbac.Reader, w.mi))
	w.refused("another role", status, body, 400, "RoleAssignmentUpdateNotPermitted")
	if status, body = w.do(w.owner, "GET", path, nil); status != 200 || props(body)["principalId"] != w.mi {
		t.Errorf("read: %d %v", status, body)
	}
	if status, body = w.do(w.owner, "DELETE", path, nil); status != 200 || body["name"] != name(1) {
		t.Errorf("deleted: %d %v", status, body)
	}
	if w.may(w.mi, getSecret, true, vault+"/secrets/s") {
		t.Error("still allowed after the deletion")
	}
	if status, _ = w.do(w.owner, "DELETE", path, nil); status != 204 {
		t.Errorf("deleted twice: %d", status)
	}
}

func TestRoleAssignments_Refusals(t *testing.T) {
	w := start(t)
	at := func(n string) string { return rg + auth + "/roleAssignments/" + n }
	cond := assignment(secretsUser, w.mi, "condition", "@Resource[x] StringEquals 'y'", "conditionVersion", "2.0")
	for _, c := range []struct {
		what, path string
		body       map[string]any
		status     int
		code       string
	}{
		{"unknown principal", at(name(1)), assignment(secretsUser, name(99)), 400, "PrincipalNotFound"},
		{"wrong type", at(name(1)), assignment(secretsUser, w.mi, "principalType", "User"), 400, "UnmatchedPrincipalType"},
		{"unknown role", at(name(1)), assignment(name(98), w.mi), 400, "RoleDefinitionDoesNotExist"},
		{"no role", at(name(1)), map[string]any{"properties": map[string]any{"principalId": w.mi}}, 400, "MissingRequiredProperty"},
		{"principal is no GUID", at(name(1)), assignment(secretsUser, "mi"), 400, "InvalidPrincipalId"},
		{"name is no GUID", at("x"), assignment(secretsUser, w.mi), 400, "InvalidRoleAssignmentId"},
		{"condition", at(name(1)), cond, 400, "ConditionNotSupported"},
		{"conditional role", at(name(1)), assignment("8b54135c-b56d-4d72-a534-26097cfdc8d8", w.mi), 400, "ConditionNotSupported"},
		{"delegated", at(name(1)), assignment(secretsUser, w.mi, "delegatedManagedIdentityResourceId", "/x"), 400, "DelegatedManagedIdentityNotSupported"},
		{"no such group", sub + "/resourceGroups/none" + auth + "/roleAssignments/" + name(1), assignment(secretsUser, w.mi), 404, "ResourceGroupNotFound"},
	} {
		status, body := w.do(w.owner, "PUT", c.path, c.body)
		w.refused(c.what, status, body, c.status, c.code)
	}
	status, body := w.do(w.ada, "PUT", at(name(1)), assignment(rbac.Owner, w.ada))
	w.refused("one without a role", status, body, 403, "AuthorizationFailed")
	check(t, w.a.Assign(t.Context(), rid.MustParse(sub), rbac.Contributor, w.ada))
	status, body = w.do(w.ada, "PUT", at(name(1)), assignment(rbac.Owner, w.ada))
	w.refused("a contributor", status, body, 403, "AuthorizationFailed")
	check(t, w.a.Unassign(t.Context(), rid.MustParse(sub), rbac.Contributor, w.ada))
	check(t, w.a.Unassign(t.Context(), rid.MustParse(sub), rbac.Contributor, w.ada)) // gone already
	if w.may(w.ada, writeGroup, false, rg) {
		t.Error("a role that was taken away counts")
	}
}

func TestRoleAssignments_LastOwnerStays(t *testing.T) {
	w := start(t)
	_, body := w.do(w.owner, "GET", sub+auth+"/roleAssignments?$filter=atScope()", nil)
	list := values(body)
	if len(list) != 1 {
		t.Fatalf("assignments: %v", body)
	}
	first, _ := list[0]["id"].(string)
	status, body := w.do(w.owner, "DELETE", first, nil)
	w.refused("the last owner", status, body, 409, "LastRbacAdminAssignmentDeletionNotAllowed")
	check(t, w.a.Assign(t.Context(), rid.MustParse(rg), rbac.Owner, w.ada)) // of a group only
	status, body = w.do(w.owner, "DELETE", first, nil)
	w.refused("the last owner of the subscription", status, body, 409, "LastRbacAdminAssignmentDeletionNotAllowed")
	check(t, w.a.Assign(t.Context(), rid.MustParse(sub), rbac.Owner, w.ada))
	if status, body = w.do(w.owner, "DELETE", first, nil); status != 200 {
		t.Errorf("one of two owners: %d %v", status, body)
	}
	if w.may(w.owner, writeGroup, false, rg) {
		t.Error("the removed owner is owner still")
	}
}

func TestLeavePrincipal_TheLastOwnerWhoCanActStays(t *testing.T) {
	w := start(t)
	ctx := t.Context()
	leave := func(what, oid string, may bool) {
		t.Helper()
		err := w.a.LeavePrincipal(ctx, oid)
		if may && err != nil || !may && (!apierr.Is(err, apierr.BadRequest) || !strings.Contains(err.Error(), "Nobody else owns the subscription")) {
			t.Errorf("%s: %v", what, err)
		}
	}
	assign := func(scope, oid string) { check(t, w.a.Assign(ctx, rid.MustParse(scope), rbac.Owner, oid)) }
	leave("the only owner", strings.ToUpper(w.owner), false)
	leave("who owns nothing", w.ada, true)
	assign(rg, w.ada)
	leave("beside the owner of a group", w.owner, false)
	asleep, err := w.dir.CreateUser(ctx, directory.User{UPN: "asleep@contoso.example", Disabled: true}, "")
	check(t, err)
	assign(sub, asleep.ObjectID)
	leave("beside an owner who is disabled", w.owner, false)
	_, body := w.do(w.owner, "GET", sub+auth+"/roleAssignments?$filter=principalId%20eq%20'"+w.owner+"'", nil)
	first, _ := values(body)[0]["id"].(string)
	status, body := w.do(w.owner, "DELETE", first, nil)
	w.refused("the assignment beside an owner who is disabled", status, body, 409, "LastRbacAdminAssignmentDeletionNotAllowed")
	group, err := w.dir.CreateGroup(ctx, directory.Group{DisplayName: "owners", Members: []string{asleep.ObjectID, w.owner}})
	check(t, err)
	assign(sub, group.ObjectID)
	leave("beside a group of its own", w.owner, false)
	leave("a group beside an owner", group.ObjectID, true)
	group.Members = append(group.Members, w.mi)
	_, err = w.dir.UpdateGroup(ctx, group)
	check(t, err)
	leave("beside a group that is leaving", w.owner, false)
}

func TestLeavePrincipal_OwnersWhoLeaveAtOnce(t *testing.T) {
	w := start(t)
	check(t, w.a.Assign(t.Context(), rid.MustParse(sub), rbac.Owner, w.ada))
	errs := make(chan error, 2)
	for _, oid := range []string{w.owner, w.ada} {
		go func() { errs <- w.a.LeavePrincipal(t.Context(), oid) }()
	}
	if a, b := <-errs, <-errs; (a == nil) == (b == nil) {
		t.Errorf("of two owners, both or neither may leave: %v, %v", a, b)
	}
}

func TestRoleAssignments_OwnersWhoRemoveEachOtherAtOnce(t *testing.T) {
	w := start(t)
	check(t, w.a.Assign(t.Context(), rid.MustParse(sub), rbac.Owner, w.ada))
	other, err := authorization.Open(t.Context(), w.st, w.dir) // another replica
	check(t, err)
	defer other.Close()
	h, err := arm.New(arm.Config{
		Store: w.st, Ops: ops.New(w.st, slog.New(slog.DiscardHandler), true), Verifier: verifier{}, Authorizer: other,
		Providers: []arm.Provider{other.Provider()}, TenantID: tenant, Log: slog.New(slog.DiscardHandler),
	})
	check(t, err)
	v := *w
	v.h = h
	_, body := w.do(w.owner, "GET", sub+auth+"/roleAssignments?$filter=atScope()", nil)
	var paths []string
	for _, a := range values(body) {
		id, _ := a["id"].(string)
		paths = append(paths, id)
	}
	if len(paths) != 2 {
		t.Fatalf("assignments: %v", body)
	}
	var wg sync.WaitGroup
	for i, at := range []*world{w, &v} {
		wg.Go(func() { at.do(w.owner, "DELETE", paths[i], nil) })
	}
	wg.Wait()
	docs, err := w.st.List(t.Context(), store.Query{Prefix: arm.KeyPrefix + rid.MustParse(sub).Key() + "/providers/microsoft.authorization/"})
	check(t, err)
	if len(docs) != 1 {
		t.Errorf("%d owners are left, want one", len(docs))
	}
}

func TestRoleDefinitions_BelongToTheTenant(t *testing.T) {
	w := start(t)
	narrow, other := rg+auth+"/roleDefinitions/"+name(1), sub+"/resourceGroups/other"
	check(t, (arm.Resources{Store: w.st}).Put(t.Context(), &arm.Envelope{ID: other, Name: "other", Type: rid.TypeResourceGroup}))
	check(t, w.a.Assign(t.Context(), rid.MustParse(other), rbac.Owner, w.ada))
	const action = "Microsoft.KeyVault/vaults/read"
	if status, body := w.do(w.owner, "PUT", narrow, definition("lister", []string{sub}, action)); status != 201 || body["id"] != sub+auth+"/roleDefinitions/"+name(1) {
		t.Fatalf("made under a group: %d %v", status, body)
	}
	check(t, w.a.Assign(t.Context(), rid.MustParse(sub+"/resourceGroups/other"), name(1), w.mi))

	// Who is owner of one group addresses the role there.
	there := other + auth + "/roleDefinitions/" + name(1)
	status, body := w.do(w.ada, "PUT", there, definition("lister", []string{other}, "*"))
	w.refused("taken over", status, body, 403, "LinkedAuthorizationFailed")
	status, body = w.do(w.ada, "DELETE", there, nil)
	w.refused("deleted from a group", status, body, 403, "LinkedAuthorizationFailed")
	status, body = w.do(w.owner, "DELETE", sub+auth+"/roleDefinitions/"+name(1), nil)
	w.refused("deleted while in use", status, body, 400, "RoleDefinitionHasAssignments")
	if status, body = w.do(w.owner, "GET", there, nil); status != 200 || props(body)["roleName"] != "lister" {
		t.Errorf("read under a group: %d %v", status, body)
	}

	// It does not go with the group under which it was made, nor its assignments elsewhere.
	if status, body = w.do(w.owner, "DELETE", rg+"?api-version=2021-04-01", nil); status >= 400 && status != 404 {
		t.Errorf("the group's deletion: %d %v", status, body)
	}
	if !w.may(w.mi, action, false, other) {
		t.Error("the role went with a group")
	}
	_, body = w.do(w.owner, "GET", other+auth+"/roleAssignments?$filter=principalId eq '"+w.mi+"'", nil)
	for _, a := range values(body) {
		id, _ := a["id"].(string)
		if status, body = w.do(w.owner, "DELETE", id, nil); status != 200 {
			t.Fatalf("unassigned: %d %v", status, body)
		}
	}
	if status, body = w.do(w.owner, "DELETE", other+auth+"/roleDefinitions/"+name(1), nil); status != 200 {
		t.Errorf("deleted at another scope than it was made: %d %v", status, body)
	}
	if status, _ = w.do(w.owner, "GET", narrow, nil); status != 404 {
		t.Errorf("it is still there: %d", status)
	}
}

func TestRoleAssignments_Lists(t *testing.T) {
	w := start(t)
	ctx := t.Context()
	g, err := w.dir.CreateGroup(ctx, directory.Group{DisplayName: "g", Members: []string{w.ada}})
	check(t, err)
	check(t, w.a.Assign(ctx, rid.ID{}, rbac.Reader, w.ada))
	check(t, w.a.Assign(ctx, rid.MustParse(rg), rbac.Contributor, g.ObjectID))
	check(t, w.a.Assign(ctx, rid.MustParse(vault), secretsUser, w.mi))
	for q, want := range map[string]int{
		rg + auth + "/roleAssignments":                                                                  4,
		rg + auth + "/roleAssignments?$filter=atScope()":                                                3,
		sub + auth + "/roleAssignments?$filter=atScope()":                                               2,
		auth + "/roleAssignments":                                                                       -1,
		rg + auth + "/roleAssignments?$filter=principalId eq '" + w.mi + "'":                            1,
		rg + auth + "/roleAssignments?$filter=principalId eq '" + strings.ToUpper(w.mi) + "'":           1,
		sub + auth + "/roleAssignments?$filter=assignedTo('" + w.ada + "')":                             2,
		rg + auth + "/roleAssignments?$filter=atScope() and assignedTo('" + w.mi + "')":                 0,
		vault + auth + "/roleAssignments?$filter=atScope() and principalId eq '" + w.mi + "'":           1,
		rg + auth + "/roleAssignments?$filter=nonsense eq 'x'":                                          -2,
		rg + auth + "/roleAssignments?$filter=principalId eq":                                           -2,
		sub + auth + "/roleAssignments?api-version=2020-04-01-preview&$filter=principalType eq 'Group'": 1,
	} {
		status, body := w.do(w.owner, "GET", q, nil)
		switch want {
		case -1:
			w.refused(q, status, body, 403, "AuthorizationFailed")
		case -2:
			w.refused(q, status, body, 400, "InvalidFilterInQueryString")
		default:
			if got := values(body); status != 200 || len(got) != want {
				t.Errorf("%s: %d, %d values, want %d", q, status, len(got), want)
			}
		}
	}
	_, page := w.do(w.owner, "GET", rg+auth+"/roleAssignments?$top=3", nil)
	next, _ := page["nextLink"].(string)
	_, rest := w.do(w.owner, "GET", strings.TrimPrefix(next, "https://management.azure.com"), nil)
	if len(values(page)) != 3 || len(values(rest)) != 1 || rest["nextLink"] != nil {
		t.Errorf("pages: %v, %v", page, rest)
	}
}

func definition(roleName string, scopes []string, actions ...string) map[string]any {
	return map[string]any{"properties": map[string]any{
		"roleName": roleName, "description": "d", "type": "CustomRole", "assignableScopes": scopes,
		"permissions": []any{map[string]any{"actions": actions}},
	}}
}

func TestRoleDefinitions(t *testing.T) {
	w := start(t)
	status, body := w.do(w.owner, "GET", rg+auth+"/roleDefinitions?api-version=2018-01-01-preview&$filter=roleName eq 'key vault secrets user'", nil)
	list := values(body)
	if status != 200 || len(list) != 1 || list[0]["id"] != sub+auth+"/roleDefinitions/"+secretsUser || props(list[0])["type"] != "BuiltInRole" {
		t.Fatalf("built in: %d %v", status, body)
	}
	path := sub + auth + "/roleDefinitions/" + name(1)
	if status, body = w.do(w.owner, "PUT", path, definition("vault lister", []string{sub}, "Microsoft.KeyVault/vaults/read")); status != 201 {
		t.Fatalf("custom: %d %v", status, body)
	}
	check(t, w.a.Assign(t.Context(), rid.MustParse(rg), name(1), w.ada))
	if !w.may(w.ada, "Microsoft.KeyVault/vaults/read", false, vault) || w.may(w.ada, "Microsoft.KeyVault/vaults/write", false, vault) {
		t.Error("the custom role is not in effect, or too wide")
	}
	if status, body = w.do(w.owner, "PUT", path, definition("vault writer", []string{sub}, "Microsoft.KeyVault/vaults/write")); status != 200 {
		t.Fatalf("changed: %d %v", status, body)
	}
	if w.may(w.ada, "Microsoft.KeyVault/vaults/read", false, vault) || !w.may(w.ada, "Microsoft.KeyVault/vaults/write", false, vault) {
		t.Error("the changed role is not in effect")
	}
	for _, q := range []string{"?$filter=type eq 'CustomRole'", "?$filter=roleName eq 'Vault Writer'"} {
		if _, body = w.do(w.owner, "GET", rg+auth+"/roleDefinitions"+q, nil); len(values(body)) != 1 {
			t.Errorf("%s: %v", q, body)
		}
	}
	if status, body = w.do(w.owner, "GET", rg+auth+"/roleDefinitions/"+name(1), nil); status != 200 || props(body)["roleName"] != "vault writer" {
		t.Errorf("at another scope: %d %v", status, body)
	}
	status, body = w.do(w.owner, "DELETE", path, nil)
	w.refused("in use", status, body, 400, "RoleDefinitionHasAssignments")
	for _, c := range []struct {
		what, path string
		body       map[string]any
		status     int
		code       string
	}{
		{"built in", sub + auth + "/roleDefinitions/" + rbac.Reader, definition("x", []string{sub}, "*"), 403, "RoleDefinitionIsBuiltIn"},
		{"name of a built-in role", sub + auth + "/roleDefinitions/" + name(2), definition("OWNER", []string{sub}, "*"), 409, "RoleDefinitionWithSameNameExists"},
		{"bad action", sub + auth + "/roleDefinitions/" + name(2), definition("x", []string{sub}, "read"), 400, "InvalidActionOrNotAction"},
		{"root", sub + auth + "/roleDefinitions/" + name(2), definition("x", []string{"/"}, "*"), 400, "InvalidAssignableScope"},
		{"other scope", sub + auth + "/roleDefinitions/" + name(2), definition("x", []string{sub + "1"}, "*"), 403, "LinkedAuthorizationFailed"},
		{"no scope", sub + auth + "/roleDefinitions/" + name(2), definition("x", nil, "*"), 400, "AssignableScopeNotUnderSubscriptionScope"},
	} {
		status, body := w.do(w.owner, "PUT", c.path, c.body)
		w.refused(c.what, status, body, c.status, c.code)
	}
	narrow := sub + auth + "/roleDefinitions/" + name(3)
	if status, body = w.do(w.owner, "PUT", narrow, definition("only rg", []string{rg}, "*")); status != 201 {
		t.Fatalf("narrow: %d %v", status, body)
	}
	status, body = w.do(w.owner, "PUT", sub+auth+"/roleAssignments/"+name(4), assignment(name(3), w.ada))
	w.refused("assigned beyond its scopes", status, body, 400, "RoleDefinitionScopeNotAssignable")
	if status, body = w.do(w.owner, "DELETE", narrow, nil); status != 200 {
		t.Errorf("deleted: %d %v", status, body)
	}
	status, body = w.do(w.owner, "GET", narrow, nil)
	w.refused("gone", status, body, 404, "RoleDefinitionDoesNotExist")
}

func TestCheckAccessAndPermissions(t *testing.T) {
	w := start(t)
	check(t, w.a.Assign(t.Context(), rid.MustParse(vault), secretsUser, w.mi))
	ask := func(oid, principal string, data bool) (int, map[string]any) {
		return w.do(oid, "POST", vault+auth+"/checkAccess?api-version=2021-06-01-preview", map[string]any{
			"Subject":  map[string]any{"Attributes": map[string]any{"ObjectId": principal}},
			"Actions":  []any{map[string]any{"Id": getSecret, "IsDataAction": data}},
			"Resource": map[string]any{"Id": vault + "/secrets/s"},
		})
	}
	if status, body := ask(w.owner, w.mi, true); status != 200 || values(body)[0]["accessDecision"] != "Allowed" {
		t.Errorf("identity: %d %v", status, body)
	}
	status, body := ask(w.owner, w.owner, true)
	got := values(body)[0]
	reason, _ := got["reason"].(string)
	fix, _ := got["fix"].(string)
	if status != 200 || got["accessDecision"] != "NotAllowed" || !strings.Contains(reason, "no data actions") || !strings.HasSuffix(fix, `--role "Key Vault Secrets User" --scope `+vault) {
		t.Errorf("an owner without data actions: %d %v", status, body)
	}
	status, body = ask(w.ada, w.ada, true)
	w.refused("one without a role", status, body, 403, "AuthorizationFailed")
	if status, body = w.do(w.owner, "GET", rg+auth+"/permissions", nil); status != 200 || len(values(body)) != 1 || fmt.Sprint(values(body)[0]["actions"]) != "[*]" {
		t.Errorf("permissions: %d %v", status, body)
	}
	if status, body = w.do(w.owner, "GET", rg+auth+"/denyAssignments?$filter=atScope()", nil); status != 200 || len(values(body)) != 0 {
		t.Errorf("deny assignments: %d %v", status, body)
	}
	status, body = w.do(w.owner, "PUT", rg+auth+"/denyAssignments/"+name(1), map[string]any{})
	w.refused("written by a client", status, body, 405, "MethodNotAllowed")
}

func TestCheck_DenyAssignmentsAndTrace(t *testing.T) {
	w := start(t)
	e := &arm.Envelope{
		ID: rg + auth + "/denyAssignments/" + name(1), Name: name(1), Type: "Microsoft.Authorization/denyAssignments",
		Properties: map[string]any{"denyAssignmentName": "stack", "principals": []any{map[string]any{"id": rbac.Everyone, "type": "SystemDefined"}},
			"permissions": []any{map[string]any{"actions": []any{"*/write"}}}},
	}
	check(t, arm.Resources{Store: w.st}.Put(t.Context(), e))
	ctx, log := trace.With(t.Context())
	d, err := w.a.Check(ctx, w.owner, writeGroup, false, rid.MustParse(rg))
	if err != nil || d.Allowed || d.Deny == "" {
		t.Errorf("denied: %+v, %v", d, err)
	}
	if hops := log.Hops(); len(hops) != 1 || hops[0].OK || !strings.Contains(hops[0].Found, `"stack"`) || hops[0].Fix != "" {
		t.Errorf("hops: %+v", hops)
	}
}

func TestCheck_FailsClosed(t *testing.T) {
	w := start(t)
	w.a.Close()
	_, err := w.a.Check(t.Context(), w.owner, writeGroup, false, rid.MustParse(rg))
	if !apierr.Is(err, apierr.Unavailable) {
		t.Errorf("with a mirror that follows no more: %v", err)
	}
	if status, _ := w.do(w.owner, "GET", rg+auth+"/roleAssignments", nil); status != 503 {
		t.Errorf("status = %d", status)
	}
}

func TestCheck_GonePrincipalHoldsNothing(t *testing.T) {
	w := start(t)
	check(t, w.a.Assign(t.Context(), rid.MustParse(vault), secretsUser, w.mi))
	check(t, w.dir.RemoveManagedIdentity(t.Context(), w.mi))
	if w.may(w.mi, getSecret, true, vault) {
		t.Error("the role of a removed identity still allows")
	}
}

func BenchmarkCheck(b *testing.B) {
	ctx := b.Context()
	st, err := sqlstore.OpenSQLite(ctx, filepath.Join(b.TempDir(), "laz.db"))
	if err != nil {
		b.Fatal(err)
	}
	dir, err := directory.Open(ctx, st, tenant)
	if err != nil {
		b.Fatal(err)
	}
	a, err := authorization.Open(ctx, st, dir)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { a.Close(); dir.Close(); _ = st.Close() })
	u, err := dir.CreateUser(ctx, directory.User{UPN: "ada@contoso.example"}, "")
	if err != nil {
		b.Fatal(err)
	}
	if err := a.Assign(ctx, rid.MustParse(rg), secretsUser, u.ObjectID); err != nil {
		b.Fatal(err)
	}
	id := rid.MustParse(vault + "/secrets/s")
	b.ReportAllocs()
	for b.Loop() {
		if d, err := a.Check(ctx, u.ObjectID, getSecret, true, id); err != nil || !d.Allowed {
			b.Fatal(d, err)
		}
	}
}
