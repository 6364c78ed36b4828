package graph_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/directory"
	"lazurite.dev/internal/graph"
	"lazurite.dev/internal/store/sqlstore"
	"lazurite.dev/internal/token"
	"lazurite.dev/internal/trace"
)

const tenant = "00000000-aaaa-0000-0000-000000000001"

// verifier takes an object id for a token, when it is for Graph.
type verifier struct{ d *directory.Directory }

func (v verifier) Verify(_ context.Context, raw string, audiences ...string) (*token.Claims, error) {
	if raw == "bad" || !strings.Contains(strings.Join(audiences, " "), "https://graph.microsoft.com") {
		return nil, apierr.New(apierr.Unauthorized, "expired", "Lifetime validation failed, the token is expired.")
	}
	p, _ := v.d.Principal(raw)
	return &token.Claims{ObjectID: raw, UPN: p.UPN, TenantID: tenant}, nil
}

type recorder struct{ got []trace.Trace }

func (r *recorder) Record(t trace.Trace) { r.got = append(r.got, t) }

type world struct {
	t          testing.TB
	d          *directory.Directory
	h          http.Handler
	rec        *recorder
	owner, ada string
	mi         string
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func start(t testing.TB) *world {
	t.Helper()
	ctx := t.Context()
	st, err := sqlstore.OpenSQLite(ctx, filepath.Join(t.TempDir(), "laz.db"))
	check(t, err)
	d, err := directory.Open(ctx, st, tenant)
	check(t, err)
	t.Cleanup(func() {
		d.Close()
		check(t, st.Close())
	})
	w := &world{t: t, d: d, rec: &recorder{}, mi: "00000000-bbbb-0000-0000-000000000001"}
	check(t, d.SetTenant(ctx, directory.Tenant{DisplayName: "Contoso", Domains: []string{"contoso.example"}}))
	for upn, oid := range map[string]*string{"owner@contoso.example": &w.owner, "ada@contoso.example": &w.ada} {
		u, err := d.CreateUser(ctx, directory.User{UPN: upn}, "")
		check(t, err)
		*oid = u.ObjectID
	}
	_, err = d.AssignRole(ctx, w.owner, directory.GlobalAdministrator)
	check(t, err)
	check(t, d.EnsureManagedIdentity(ctx, directory.ManagedIdentity{ResourceID: "/subscriptions/s/x/mi", ClientID: "00000000-cccc-0000-0000-000000000001",
		PrincipalID: w.mi, TenantID: tenant, Name: "mi"}))
	w.h = graph.New(graph.Config{Directory: d, Verifier: verifier{d}, Recorder: w.rec})
	return w
}

// Whoever must stay is neither deleted nor disabled.
func TestLeave(t *testing.T) {
	w := start(t)
	app := w.do(w.owner, "POST", "/applications", object{"displayName": "app"}, 201)
	sp := str(w.do(w.owner, "POST", "/servicePrincipals", object{"appId": str(app, "appId")}, 201), "id")
	group := str(w.do(w.owner, "POST", "/groups", object{"displayName": "g", "mailEnabled": false, "mailNickname": "g", "securityEnabled": true}, 201), "id")
	stays := map[string]bool{sp: true, group: true, w.ada: true}
	w.h = graph.New(graph.Config{Directory: w.d, Verifier: verifier{w.d}, Leave: func(_ context.Context, oid string) error {
		if stays[oid] {
			return apierr.New(apierr.BadRequest, "Request_BadRequest", "It stays.")
		}
		return nil
	}})
	w.refused(w.owner, "DELETE", "/users/"+w.ada, nil, 400, "Request_BadRequest")
	w.refused(w.owner, "PATCH", "/users/"+w.ada, object{"accountEnabled": false}, 400, "Request_BadRequest")
	w.refused(w.owner, "DELETE", "/servicePrincipals/"+sp, nil, 400, "Request_BadRequest")
	w.refused(w.owner, "PATCH", "/servicePrincipals/"+sp, object{"accountEnabled": false}, 400, "Request_BadRequest")
	w.refused(w.owner, "DELETE", "/applications/"+str(app, "id"), nil, 400, "Request_BadRequest")
	w.refused(w.owner, "DELETE", "/groups/"+group, nil, 400, "Request_BadRequest")
	w.do(w.owner, "PATCH", "/users/"+w.ada, object{"accountEnabled": true, "jobTitle": "x"}, 204)
	clear(stays)
	w.do(w.owner, "PATCH", "/servicePrincipals/"+sp, object{"accountEnabled": false}, 204)
	w.do(w.owner, "DELETE", "/applications/"+str(app, "id"), nil, 204)
	w.do(w.owner, "DELETE", "/groups/"+group, nil, 204)
	w.do(w.owner, "DELETE", "/users/"+w.ada, nil, 204)
}

type object = map[string]any

// do sends a request as oid and demands the status.
func (w *world) do(oid, method, path string, body any, status int) object {
	w.t.Helper()
	var b []byte
	if body != nil {
		var err error
		b, err = json.Marshal(body)
		check(w.t, err)
	}
	path, query, _ := strings.Cut(strings.TrimPrefix(path, "https://graph.microsoft.com/v1.0"), "?")
	if query != "" {
		q, err := url.ParseQuery(query)
		check(w.t, err)
		query = "?" + q.Encode()
	}
	r := httptest.NewRequestWithContext(w.t.Context(), method, "https://graph.microsoft.com/v1.0"+strings.ReplaceAll(path, " ", "%20")+query, bytes.NewReader(b))
	r.Header.Set("Authorization", "Bearer "+oid)
	rec := httptest.NewRecorder()
	w.h.ServeHTTP(rec, r)
	var out object
	if rec.Body.Len() > 0 {
		check(w.t, json.Unmarshal(rec.Body.Bytes(), &out))
	}
	if rec.Code != status {
		w.t.Fatalf("%s %s: %d, want %d: %v", method, path, rec.Code, status, out)
	}
	return out
}

// refused demands status and code.
func (w *world) refused(oid, method, path string, body any, status int, code string) {
	w.t.Helper()
	out := w.do(oid, method, path, body, status)
	e, _ := out["error"].(object)
	if inner, ok := e["innerError"].(object); e["code"] != code || !ok || inner["date"] == nil {
		w.t.Errorf("%s %s: %v, want %s", method, path, out, code)
	}
}

func values(o object) []object {
	var out []object
	list, _ := o["value"].([]any)
	for _, v := range list {
		m, _ := v.(object)
		out = append(out, m)
	}
	return out
}

func str(o object, name string) string { s, _ := o[name].(string); return s }

func TestAuthentication(t *testing.T) {
	w := start(t)
	w.refused("", "GET", "/users", nil, 401, "InvalidAuthenticationToken")
	w.refused("bad", "GET", "/users", nil, 401, "InvalidAuthenticationToken")
	w.refused(tenant, "GET", "/users", nil, 401, "InvalidAuthenticationToken")
	w.refused(w.mi, "GET", "/me", nil, 400, "BadRequest")
	w.refused(w.owner, "GET", "/nonsense", nil, 400, "BadRequest")
	w.refused(w.owner, "PUT", "/users", nil, 405, "Request_BadRequest")
	if me := w.do(w.ada, "GET", "/me", nil, 200); me["id"] != w.ada || me["userPrincipalName"] != "ada@contoso.example" {
		t.Errorf("me: %v", me)
	}
	r := httptest.NewRequestWithContext(t.Context(), "GET", "https://graph.microsoft.com/oidc/userinfo", nil)
	r.Header.Set("Authorization", "Bearer "+w.ada)
	rec := httptest.NewRecorder()
	if w.h.ServeHTTP(rec, r); rec.Code != 200 || !strings.Contains(rec.Body.String(), w.ada) {
		t.Errorf("userinfo: %d %s", rec.Code, rec.Body)
	}
	if len(w.rec.got) != 3 || w.rec.got[0].Surface != "graph" {
		t.Errorf("recorded: %v", w.rec.got)
	}
}

func TestUsers(t *testing.T) {
	w := start(t)
	next := object{"userPrincipalName": "new@contoso.example", "displayName": "New", "mailNickname": "new", "accountEnabled": true,
		"passwordProfile": object{"password": "Correct-horse1", "forceChangePasswordNextSignIn": false}, "department": "R&D"}
	w.refused(w.ada, "POST", "/users", next, 403, "Authorization_RequestDenied")
	u := w.do(w.owner, "POST", "/users", next, 201)
	id := str(u, "id")
	if _, err := w.d.CheckPassword(t.Context(), "new@contoso.example", "Correct-horse1"); err != nil {
		t.Error(err)
	}
	w.refused(w.owner, "POST", "/users", next, 400, "Request_BadRequest")
	for _, bad := range []object{
		{"userPrincipalName": "x@contoso.example", "displayName": "x"},
		{"userPrincipalName": "x@contoso.example", "displayName": "x", "passwordProfile": object{"password": "Correct-horse1", "forceChangePasswordNextSignIn": true}},
		{"userPrincipalName": "x@contoso.example", "displayName": "x", "passwordProfile": object{"password": "short"}},
		{"userPrincipalName": "x", "displayName": "x", "passwordProfile": object{"password": "Correct-horse1"}},
		{"userPrincipalName": "x@contoso.example", "displayName": 7, "passwordProfile": object{"password": "Correct-horse1"}},
	} {
		w.refused(w.owner, "POST", "/users", bad, 400, "Request_BadRequest")
	}
	if got := w.do(w.ada, "GET", "/users/NEW@contoso.example", nil, 200); got["id"] != id || got["accountEnabled"] != nil {
		t.Errorf("by name: %v", got)
	}
	if got := w.do(w.ada, "GET", "/users/"+id+"?$select=accountEnabled,department", nil, 200); got["accountEnabled"] != true || got["department"] != "R&D" || got["displayName"] != nil {
		t.Errorf("selected: %v", got)
	}
	for q, want := range map[string]int{
		"": 3,
		"?$filter=userPrincipalName eq 'NEW@contoso.example'":      1,
		"?$filter=startswith(displayName,'ne')":                    1,
		"?$filter=startswith(userPrincipalName,'zz')":              0,
		"?$filter=accountEnabled eq true and displayName ne 'New'": 2,
	} {
		if got := values(w.do(w.ada, "GET", "/users"+q, nil, 200)); len(got) != want {
			t.Errorf("%s: %d users, want %d", q, len(got), want)
		}
	}
	w.refused(w.ada, "GET", "/users?$filter=foo(", nil, 400, "Request_UnsupportedQuery")
	w.refused(w.ada, "GET", "/users?$search=x", nil, 400, "Request_UnsupportedQuery")
	w.refused(w.ada, "GET", "/users?$top=0", nil, 400, "Request_BadRequest")
	w.refused(w.ada, "GET", "/users?$skiptoken=zzz", nil, 400, "Directory_ExpiredPageToken")
	page := w.do(w.ada, "GET", "/users?$top=2&$count=true&$orderby=displayName desc", nil, 200)
	rest := w.do(w.ada, "GET", str(page, "@odata.nextLink"), nil, 200)
	if len(values(page)) != 2 || len(values(rest)) != 1 || page["@odata.count"] != 3.0 || rest["@odata.nextLink"] != nil || values(rest)[0]["displayName"] != "ada" {
		t.Errorf("pages: %v %v", page, rest)
	}
	w.do(w.owner, "PATCH", "/users/"+id, object{"jobTitle": "Engineer", "accountEnabled": false, "passwordProfile": object{"password": "Another-horse1"}}, 204)
	if got, err := w.d.User(id); err != nil || got.JobTitle != "Engineer" || !got.Disabled || got.DisplayName != "New" {
		t.Errorf("patched: %+v %v", got, err)
	}
	w.do(w.owner, "DELETE", "/users/"+id, nil, 204)
	w.refused(w.owner, "GET", "/users/"+id, nil, 404, "Request_ResourceNotFound")
	w.refused(w.owner, "DELETE", "/users/"+w.owner, nil, 400, "Request_BadRequest") // the last administrator
	w.refused(w.owner, "PATCH", "/users/"+w.owner, object{"accountEnabled": false}, 400, "Request_BadRequest")
	w.refused(w.ada, "POST", "/users/"+w.owner+"/changePassword", object{}, 403, "Authorization_RequestDenied")
}

func TestGroups(t *testing.T) {
	w := start(t)
	mk := func(name string) string {
		return str(w.do(w.owner, "POST", "/groups", object{"displayName": name, "mailEnabled": false, "mailNickname": name, "securityEnabled": true}, 201), "id")
	}
	g, outer := mk("g"), mk("outer")
	ref := func(oid string) object {
		return object{"@odata.id": "https://graph.microsoft.com/v1.0/directoryObjects/" + oid}
	}
	w.refused(w.ada, "POST", "/groups/"+g+"/members/$ref", ref(w.ada), 403, "Authorization_RequestDenied")
	w.do(w.owner, "POST", "/groups/"+g+"/members/$ref", ref(w.ada), 204)
	w.do(w.owner, "POST", "/groups/"+outer+"/members/$ref", ref(g), 204)
	w.refused(w.owner, "POST", "/groups/"+g+"/members/$ref", ref(w.ada), 400, "Request_BadRequest")
	w.refused(w.owner, "POST", "/groups/"+g+"/members/$ref", ref(tenant), 404, "Request_ResourceNotFound")
	w.refused(w.owner, "POST", "/groups/"+g+"/members/$ref", object{}, 400, "Request_BadRequest")
	if m := values(w.do(w.ada, "GET", "/groups/"+g+"/members", nil, 200)); len(m) != 1 || m[0]["@odata.type"] != "#microsoft.graph.user" {
		t.Errorf("members: %v", m)
	}
	if m := values(w.do(w.ada, "GET", "/groups/"+outer+"/transitiveMembers", nil, 200)); len(m) != 2 {
		t.Errorf("transitive members: %v", m)
	}
	for path, want := range map[string]int{"/me/memberOf": 1, "/me/transitiveMemberOf": 2, "/users/" + w.ada + "/memberOf": 1} {
		if m := values(w.do(w.ada, "GET", path, nil, 200)); len(m) != want {
			t.Errorf("%s: %v", path, m)
		}
	}
	for path, body := range map[string]object{
		"/me/getMemberGroups":                               {"securityEnabledOnly": true},
		"/me/checkMemberGroups":                             {"groupIds": []string{g, strings.ToUpper(outer), tenant}},
		"/directoryObjects/" + w.ada + "/checkMemberGroups": {"groupIds": []string{g, outer}},
	} {
		if list, _ := w.do(w.ada, "POST", path, body, 200)["value"].([]any); len(list) != 2 {
			t.Errorf("%s: %v", path, list)
		}
	}
	w.do(w.owner, "POST", "/groups/"+g+"/owners/$ref", ref(w.ada), 204)
	w.do(w.ada, "PATCH", "/groups/"+g, object{"description": "mine"}, 204) // as its owner
	w.do(w.ada, "DELETE", "/groups/"+g+"/members/"+w.ada+"/$ref", nil, 204)
	w.refused(w.ada, "DELETE", "/groups/"+g+"/members/"+w.ada+"/$ref", nil, 404, "Request_ResourceNotFound")
	if got := w.do(w.ada, "GET", "/groups/"+g, nil, 200); got["displayName"] != "g" || got["description"] != "mine" {
		t.Errorf("patched: %v", got)
	}
	if got := values(w.do(w.ada, "GET", "/groups?$filter=displayName eq 'outer'", nil, 200)); len(got) != 1 {
		t.Errorf("filter: %v", got)
	}
	for _, bad := range []object{{"displayName": "x", "mailEnabled": true}, {"displayName": "x", "securityEnabled": false}, {"displayName": "x", "groupTypes": []string{"Unified"}}, {}} {
		w.refused(w.owner, "POST", "/groups", bad, 400, "Request_BadRequest")
	}
	w.do(w.owner, "DELETE", "/groups/"+outer, nil, 204)
}

func TestApplications(t *testing.T) {
	w := start(t)
	w.refused(w.ada, "POST", "/applications", object{"displayName": "app"}, 403, "Authorization_RequestDenied")
	a := w.do(w.owner, "POST", "/applications", object{"displayName": "app", "identifierUris": []string{"api://app"},
		"web": object{"redirectUris": []string{"https://x/"}, "homePageUrl": "https://home/"}, "api": object{"requestedAccessTokenVersion": 2}}, 201)
	id, appID := str(a, "id"), str(a, "appId")
	if web, _ := a["web"].(object); web["homePageUrl"] != "https://home/" || fmt.Sprint(web["redirectUris"]) != "[https://x/]" {
		t.Errorf("web: %v", a["web"])
	}
	for _, q := range []string{"/applications?$filter=appId eq '" + appID + "'", "/applications?$filter=identifierUris/any(s:s eq 'api://app')", "/applications?$filter=displayName eq 'app'"} {
		if got := values(w.do(w.ada, "GET", q, nil, 200)); len(got) != 1 || got[0]["id"] != id {
			t.Errorf("%s: %v", q, got)
		}
	}
	w.do(w.ada, "GET", "/applications(appId='"+appID+"')", nil, 200)
	sp := w.do(w.owner, "POST", "/servicePrincipals", object{"appId": appID, "accountEnabled": true}, 201)
	w.refused(w.owner, "POST", "/servicePrincipals", object{"appId": appID}, 400, "Request_MultipleObjectsWithSameKeyValue")
	w.refused(w.owner, "POST", "/servicePrincipals", object{"appId": tenant}, 400, "Request_BadRequest")
	for _, q := range []string{"servicePrincipalNames/any(c:c eq 'api://app')", "servicePrincipalNames/any(c:c eq '" + appID + "')", "appId eq '" + appID + "'", "displayName eq 'app'"} {
		if got := values(w.do(w.ada, "GET", "/servicePrincipals?$filter="+q, nil, 200)); len(got) != 1 || got[0]["id"] != sp["id"] {
			t.Errorf("%s: %v", q, got)
		}
	}
	pw := w.do(w.owner, "POST", "/applications/"+id+"/addPassword", object{"passwordCredential": object{"displayName": "ci", "endDateTime": "2099-01-01T00:00:00Z"}}, 200)
	check(t, w.d.CheckSecret(t.Context(), appID, str(pw, "secretText")))
	again := w.do(w.owner, "POST", "/servicePrincipals/"+str(sp, "id")+"/addPassword", nil, 200)
	check(t, w.d.CheckSecret(t.Context(), appID, str(again, "secretText")))
	got, err := json.Marshal(w.do(w.ada, "GET", "/applications/"+id, nil, 200))
	check(t, err)
	if strings.Contains(string(got), str(pw, "secretText")) || !strings.Contains(string(got), str(pw, "keyId")) {
		t.Errorf("application: %s", got)
	}
	w.do(w.owner, "POST", "/applications/"+id+"/removePassword", object{"keyId": pw["keyId"]}, 204)
	w.refused(w.owner, "POST", "/applications/"+id+"/removePassword", object{"keyId": pw["keyId"]}, 400, "Request_BadRequest")
	w.refused(w.ada, "POST", "/applications/"+id+"/addPassword", object{}, 403, "Authorization_RequestDenied")
	w.refused(w.owner, "POST", "/applications/"+id+"/addKey", object{}, 400, "Request_BadRequest")
	w.do(w.owner, "POST", "/applications/"+id+"/owners/$ref", object{"@odata.id": "https://graph.microsoft.com/v1.0/directoryObjects/" + w.ada}, 204)
	w.do(w.ada, "PATCH", "/applications/"+id, object{"displayName": "renamed"}, 204)
	if app, err := w.d.App(appID); err != nil || app.DisplayName != "renamed" || app.TokenVersion != 2 || len(app.RedirectURIs.Web) != 1 || len(app.Secrets) != 1 {
		t.Errorf("patched: %+v %v", app, err)
	}
	if own := values(w.do(w.ada, "GET", "/me/ownedObjects", nil, 200)); len(own) != 1 {
		t.Errorf("owned: %v", own)
	}
	for _, bad := range []object{{"signInAudience": "x"}, {"passwordCredentials": []any{object{"displayName": "x"}}}, {"displayName": ""},
		{"keyCredentials": []any{object{"type": "AsymmetricX509Cert", "usage": "Verify", "key": "AAAA"}}}, {"keyCredentials": []any{object{"type": "Symmetric", "usage": "Sign"}}}} {
		w.refused(w.ada, "PATCH", "/applications/"+id, bad, 400, "Request_BadRequest")
	}
	w.refused(w.owner, "PATCH", "/servicePrincipals/"+w.mi, object{"displayName": "x"}, 400, "Request_BadRequest")
	w.refused(w.owner, "POST", "/servicePrincipals/"+w.mi+"/addPassword", object{}, 400, "Request_BadRequest")
	w.refused(w.owner, "PATCH", "/servicePrincipals/"+str(sp, "id"), object{"appRoleAssignmentRequired": true}, 400, "Request_BadRequest")
	w.do(w.owner, "PATCH", "/servicePrincipals/"+str(sp, "id"), object{"accountEnabled": false}, 204)
	w.do(w.owner, "DELETE", "/applications/"+id, nil, 204)
	w.refused(w.owner, "GET", "/servicePrincipals/"+str(sp, "id"), nil, 404, "Request_ResourceNotFound")
}

func TestApplications_Certificates(t *testing.T) {
	w := start(t)
	id := str(w.do(w.owner, "POST", "/applications", object{"displayName": "app"}, 201), "id")
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	check(t, err)
	cred := object{"type": "AsymmetricX509Cert", "usage": "Verify", "key": der}
	w.do(w.owner, "PATCH", "/applications/"+id, object{"keyCredentials": []any{cred}}, 204)
	list, _ := w.do(w.owner, "GET", "/applications/"+id, nil, 200)["keyCredentials"].([]any)
	if len(list) != 1 {
		t.Fatalf("keyCredentials: %v", list)
	}
	w.do(w.owner, "PATCH", "/applications/"+id, object{"keyCredentials": append(list, cred)}, 204) // the first without its key
	if a, err := w.d.AppByObjectID(id); err != nil || len(a.Certificates) != 2 || !bytes.Equal(a.Certificates[0].DER, der) {
		t.Errorf("certificates: %+v %v", a.Certificates, err)
	}
}

func TestFederatedCredentials(t *testing.T) {
	w := start(t)
	a := w.do(w.owner, "POST", "/applications", object{"displayName": "app"}, 201)
	base := "/applications/" + str(a, "id") + "/federatedIdentityCredentials"
	f := object{"name": "gh", "issuer": "https://token.actions.githubusercontent.com", "subject": "repo:o/r:ref:refs/heads/main", "audiences": []string{"api://AzureADTokenExchange"}}
	w.refused(w.ada, "POST", base, f, 403, "Authorization_RequestDenied")
	made := w.do(w.owner, "POST", base, f, 201)
	w.refused(w.owner, "POST", base, f, 409, "Request_MultipleObjectsWithSameKeyValue")
	f["name"] = "again"
	w.refused(w.owner, "POST", base, f, 409, "Request_MultipleObjectsWithSameKeyValue")
	w.refused(w.owner, "POST", base, object{"name": "x", "issuer": "i", "subject": "s"}, 400, "Request_BadRequest")
	w.refused(w.owner, "POST", base, object{"name": "x", "issuer": "i", "subject": "s", "audiences": []string{"a"}, "foo": 1}, 400, "Request_BadRequest")
	w.do(w.owner, "PATCH", base+"/"+str(made, "id"), object{"subject": "repo:o/r:environment:prod"}, 204)
	if got := w.do(w.ada, "GET", base+"/gh", nil, 200); got["subject"] != "repo:o/r:environment:prod" || got["id"] != made["id"] {
		t.Errorf("patched: %v", got)
	}
	if got := values(w.do(w.ada, "GET", "/applications(appId='"+str(a, "appId")+"')/federatedIdentityCredentials", nil, 200)); len(got) != 1 {
		t.Errorf("list: %v", got)
	}
	w.do(w.owner, "DELETE", base+"/"+str(made, "id"), nil, 204)
	w.refused(w.owner, "GET", base+"/gh", nil, 404, "Request_ResourceNotFound")
}

func TestObjectsAndRoles(t *testing.T) {
	w := start(t)
	got := values(w.do(w.ada, "POST", "/directoryObjects/getByIds", object{"ids": []string{w.ada, w.mi, tenant}, "types": []string{"user", "servicePrincipal", "directoryObjectPartnerReference"}}, 200))
	if len(got) != 2 || got[0]["@odata.type"] != "#microsoft.graph.user" || got[1]["servicePrincipalType"] != "ManagedIdentity" {
		t.Errorf("getByIds: %v", got)
	}
	if got := w.do(w.ada, "GET", "/directoryObjects/"+w.mi, nil, 200); got["@odata.type"] != "#microsoft.graph.servicePrincipal" {
		t.Errorf("object: %v", got)
	}
	if got := values(w.do(w.ada, "GET", "/organization", nil, 200)); len(got) != 1 || got[0]["id"] != tenant || got[0]["displayName"] != "Contoso" {
		t.Errorf("organization: %v", got)
	}
	if got := values(w.do(w.ada, "GET", "/domains", nil, 200)); len(got) != 1 || got[0]["id"] != "contoso.example" {
		t.Errorf("domains: %v", got)
	}
	give := object{"principalId": w.ada, "roleDefinitionId": directory.UserAdministrator, "directoryScopeId": "/"}
	w.refused(w.ada, "POST", "/roleManagement/directory/roleAssignments", give, 403, "Authorization_RequestDenied")
	r := w.do(w.owner, "POST", "/roleManagement/directory/roleAssignments", give, 201)
	if got := values(w.do(w.ada, "GET", "/roleManagement/directory/roleAssignments?$filter=principalId eq '"+w.ada+"'", nil, 200)); len(got) != 1 {
		t.Errorf("assignments: %v", got)
	}
	if got := values(w.do(w.ada, "GET", "/directoryRoles(roleTemplateId='"+directory.UserAdministrator+"')/members", nil, 200)); len(got) != 1 || got[0]["id"] != w.ada {
		t.Errorf("members: %v", got)
	}
	// A user administrator may write users, but none who holds a role.
	w.do(w.ada, "POST", "/users", object{"userPrincipalName": "x@contoso.example", "displayName": "x", "passwordProfile": object{"password": "Correct-horse1"}}, 201)
	w.refused(w.ada, "PATCH", "/users/"+w.owner, object{"passwordProfile": object{"password": "Correct-horse1"}}, 403, "Authorization_RequestDenied")
	give["directoryScopeId"] = "/administrativeUnits/x"
	w.refused(w.owner, "POST", "/roleManagement/directory/roleAssignments", give, 400, "Request_BadRequest")
	w.do(w.owner, "DELETE", "/roleManagement/directory/roleAssignments/"+str(r, "id"), nil, 204)
	w.refused(w.owner, "DELETE", "/directoryRoles/"+directory.GlobalAdministrator+"/members/"+w.owner+"/$ref", nil, 400, "Request_BadRequest")
}

func FuzzPathAndBody(f *testing.F) {
	w := start(f)
	f.Add("GET", "/v1.0/users?$filter=startswith(displayName,'a')", "")
	f.Add("POST", "/v1.0/applications(appId='x')/addPassword", `{"passwordCredential":{}}`)
	f.Add("POST", "/v1.0/groups", `{"displayName":null,"members@odata.bind":["x"]}`)
	f.Fuzz(func(t *testing.T, method, target, body string) {
		u, err := url.ParseRequestURI(target)
		if err != nil || u.Host != "" {
			return
		}
		r, err := http.NewRequestWithContext(t.Context(), method, "https://graph.microsoft.com/", strings.NewReader(body))
		if err != nil {
			return
		}
		u.Scheme, u.Host = "https", "graph.microsoft.com"
		r.URL = u
		r.Header.Set("Authorization", "Bearer "+w.owner)
		rec := httptest.NewRecorder()
		w.h.ServeHTTP(rec, r)
		if rec.Code >= 500 {
			t.Errorf("%s %s: %d %s", method, target, rec.Code, rec.Body)
		}
	})
}
