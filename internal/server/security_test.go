package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"lazurite.dev/laztest"
)

// Attacks on the whole system, each from where an attacker would stand: a
// caller with fewer rights than what is tried needs. None may get through.

const (
	armURL   = "https://management.azure.com"
	vaultURL = "https://vault.azure.net"
	graphURL = "https://graph.microsoft.com"

	secGroup    = "/subscriptions/{sub}/resourceGroups/sec"
	secVault    = secGroup + "/providers/Microsoft.KeyVault/vaults/seckv"
	secIdentity = secGroup + "/providers/Microsoft.ManagedIdentity/userAssignedIdentities/id1"

	groupVersion    = "?api-version=2021-04-01"
	vaultVersion    = "?api-version=2023-07-01"
	roleVersion     = "?api-version=2022-04-01"
	identityVersion = "?api-version=2023-01-31"

	roleOwner          = "8e3af657-a8ff-443c-a75c-2fe8c4bcb635"
	roleContributor    = "b24988ac-6180-42a0-ab88-20f7382dd24c"
	roleReader         = "acdd72a7-3385-48ef-bd42-f606fba81ae7"
	roleUserAccess     = "18d7d88d-d35e-4fb5-a5c3-7773c20a72d9"
	roleVaultContrib   = "f25e0fa2-a7c8-4377-a976-54943a77a395"
	roleSecretsOfficer = "b86a8fe4-44ce-4948-aee5-eccb2c155cd7"
)

// target is a Cloud with what attacks need.
type target struct {
	*laztest.Cloud
	t    *testing.T
	next int
}

func newTarget(t *testing.T, opts ...laztest.Option) *target {
	t.Helper()
	return &target{Cloud: laztest.New(t, opts...), t: t}
}

// person is a user of the tenant.
type person struct{ oid, upn, password string }

// person makes a user.
func (c *target) person(name string) person {
	c.t.Helper()
	p := person{upn: name + "@lazurite.onmicrosoft.com", password: "Very-Secret-" + name + "-1"}
	code, m := c.Send(c.t, c.OwnerToken(c.t, graphURL), "POST", graphURL+"/v1.0/users", fmt.Sprintf(
		`{"accountEnabled":true,"displayName":%q,"mailNickname":%q,"userPrincipalName":%q,"passwordProfile":{"password":%q,"forceChangePasswordNextSignIn":false}}`,
		name, name, p.upn, p.password))
	if code != 201 {
		c.t.Fatalf("user %s: %d %v", name, code, m)
	}
	p.oid, _ = m["id"].(string)
	return p
}

// token is p's access token for a resource.
func (c *target) token(p person, resource string) string {
	c.t.Helper()
	res, err := c.Client().PostForm("https://login.microsoftonline.com/"+c.Tenant+"/oauth2/v2.0/token", url.Values{
		"grant_type": {"password"}, "client_id": {"04b07795-8ddb-461a-bbee-02f9e1bf7b46"}, "username": {p.upn}, "password": {p.password}, "scope": {resource + "/.default"},
	})
	if err != nil {
		c.t.Fatal(err)
	}
	defer res.Body.Close()
	var ans struct {
		AccessToken string `json:"access_token"`
		Description string `json:"error_description"`
	}
	if err := json.NewDecoder(res.Body).Decode(&ans); err != nil || ans.AccessToken == "" {
		c.t.Fatalf("token of %s: %d %v %s", p.upn, res.StatusCode, err, ans.Description)
	}
	return ans.AccessToken
}

// as sends a request to management with a token.
func (c *target) as(token, method, path, body string) (int, map[string]any) {
	c.t.Helper()
	return c.Send(c.t, token, method, armURL+strings.ReplaceAll(path, "{sub}", c.Subscription), body)
}

// must sends a request as the owner, which has to succeed.
func (c *target) must(method, path, body string) map[string]any {
	c.t.Helper()
	code, m := c.ARM(c.t, method, path, strings.ReplaceAll(body, "{sub}", c.Subscription))
	if code >= 300 {
		c.t.Fatalf("%s %s: %d %v", method, path, code, m)
	}
	return m
}

// assign gives a role to a principal at a scope, and gives the assignment's path.
func (c *target) assign(scope, role, oid string) string {
	c.t.Helper()
	c.next++
	path := fmt.Sprintf("%s/providers/Microsoft.Authorization/roleAssignments/00000000-0000-0000-0000-%012d%s", scope, c.next, roleVersion)
	c.must("PUT", path, roleBody(role, oid))
	return path
}

func roleBody(role, oid string) string {
	return `{"properties":{"principalId":"` + oid + `","roleDefinitionId":"/subscriptions/{sub}/providers/Microsoft.Authorization/roleDefinitions/` + role + `"}}`
}

func (c *target) vaultBody(more string) string {
	return `{"location":"eastus","properties":{"tenantId":"` + c.Tenant + `","sku":{"family":"A","name":"standard"}` + more + `}}`
}

func code(m map[string]any) string {
	e, _ := m["error"].(map[string]any)
	s, _ := e["code"].(string)
	return s
}

func TestSecurity_WhatIsThereCannotBeToldFromWhatIsNot(t *testing.T) {
	c := newTarget(t)
	c.must("PUT", secGroup+groupVersion, `{"location":"eastus"}`)
	c.must("PUT", secVault+vaultVersion, c.vaultBody(`,"enableRbacAuthorization":true`))
	tok := c.token(c.person("nobody"), armURL)
	missing := strings.ReplaceAll(secGroup, "/sec", "/none")
	for _, q := range []struct{ method, there, absent, body string }{
		{"GET", secGroup + groupVersion, missing + groupVersion, ""},
		{"HEAD", secGroup + groupVersion, missing + groupVersion, ""},
		{"DELETE", secGroup + groupVersion, missing + groupVersion, ""},
		{"GET", secVault + vaultVersion, strings.ReplaceAll(secVault, "/seckv", "/nonekv") + vaultVersion, ""},
		{"GET", secVault + vaultVersion, missing + "/providers/Microsoft.KeyVault/vaults/seckv" + vaultVersion, ""},
		{"PUT", secVault + vaultVersion, missing + "/providers/Microsoft.KeyVault/vaults/seckv" + vaultVersion, "{}"},
		{"GET", secGroup + "/providers/Microsoft.KeyVault/vaults" + vaultVersion, missing + "/providers/Microsoft.KeyVault/vaults" + vaultVersion, ""},
		{"GET", secGroup + "/resources" + groupVersion, missing + "/resources" + groupVersion, ""},
		{"GET", secVault + "/providers/Microsoft.Resources/tags/default" + groupVersion, strings.ReplaceAll(secVault, "/seckv", "/nonekv") + "/providers/Microsoft.Resources/tags/default" + groupVersion, ""},
		{"GET", secVault + "/providers/Microsoft.Authorization/roleAssignments" + roleVersion, strings.ReplaceAll(secVault, "/seckv", "/nonekv") + "/providers/Microsoft.Authorization/roleAssignments" + roleVersion, ""},
		{"POST", secVault + "/providers/Microsoft.Authorization/checkAccess?api-version=2018-09-01-preview", missing + "/providers/Microsoft.Authorization/checkAccess?api-version=2018-09-01-preview", "{}"},
		{"PUT", secVault + "/accessPolicies/add" + vaultVersion, missing + "/providers/Microsoft.KeyVault/vaults/seckv/accessPolicies/add" + vaultVersion, `{"properties":{"accessPolicies":[]}}`},
		{"POST", secVault + "/rewrap" + vaultVersion, strings.ReplaceAll(secVault, "/seckv", "/nonekv") + "/rewrap" + vaultVersion, "{}"},
	} {
		have, m1 := c.as(tok, q.method, q.there, q.body)
		lack, m2 := c.as(tok, q.method, q.absent, q.body)
		if have != lack || code(m1) != code(m2) || have < 300 && have != 200 {
			t.Errorf("%s %s: %d %s, but of what is not there %d %s", q.method, q.there, have, code(m1), lack, code(m2))
		}
	}
	if status, m := c.as(tok, "GET", secGroup+groupVersion, ""); status != http.StatusForbidden {
		t.Errorf("a stranger reads a group: %d %v", status, m)
	}
}

func TestSecurity_RolesReachResourceGroupsByTheirAzureActions(t *testing.T) {
	c := newTarget(t)
	c.must("PUT", secGroup+groupVersion, `{"location":"eastus"}`)
	p := c.person("kv")
	c.assign(secGroup, roleVaultContrib, p.oid)
	if status, m := c.as(c.token(p, armURL), "GET", secGroup+groupVersion, ""); status != 200 {
		t.Errorf("Key Vault Contributor holds Microsoft.Resources/subscriptions/resourceGroups/read: %d %v", status, m)
	}
	if status, m := c.as(c.token(p, armURL), "PUT", secGroup+groupVersion, `{"location":"eastus"}`); status != 403 {
		t.Errorf("and not write: %d %v", status, m)
	}
}

func TestSecurity_ADeletedVaultIsRecoveredOnlyWhereItWas(t *testing.T) {
	c := newTarget(t)
	other := strings.ReplaceAll(secGroup, "/sec", "/other")
	for _, g := range []string{secGroup, other} {
		c.must("PUT", g+groupVersion, `{"location":"eastus"}`)
	}
	c.must("PUT", secVault+vaultVersion, c.vaultBody(`,"accessPolicies":[{"tenantId":"`+c.Tenant+`","objectId":"`+c.OwnerID(t)+`","permissions":{"secrets":["set"]}}]`))
	if status, m := c.Send(t, c.OwnerToken(t, vaultURL), "PUT", "https://seckv.vault.azure.net/secrets/s?api-version=7.4", `{"value":"v"}`); status != 200 {
		t.Fatalf("set: %d %v", status, m)
	}
	c.must("DELETE", secVault+vaultVersion, "")
	p := c.person("neighbour")
	c.assign(other, roleOwner, p.oid)
	path := strings.ReplaceAll(secVault, "/sec/", "/other/") + vaultVersion
	for _, mode := range []string{"recover", "Recover", "default"} {
		if status, m := c.as(c.token(p, armURL), "PUT", path, c.vaultBody(`,"createMode":"`+mode+`"`)); status < 400 {
			t.Errorf("%s in a group of the neighbour's: %d %v", mode, status, m)
		}
	}
	c.must("PUT", secVault+vaultVersion, c.vaultBody(`,"createMode":"recover"`))
}

func TestSecurity_AccessPoliciesEndWithThePrincipal(t *testing.T) {
	c := newTarget(t)
	c.must("PUT", secGroup+groupVersion, `{"location":"eastus"}`)
	p := c.person("leaver")
	status, g := c.Send(t, c.OwnerToken(t, graphURL), "POST", graphURL+"/v1.0/groups",
		`{"displayName":"readers","mailEnabled":false,"mailNickname":"readers","securityEnabled":true,"members@odata.bind":["`+graphURL+`/v1.0/users/`+p.oid+`"]}`)
	if status != 201 {
		t.Fatalf("group: %d %v", status, g)
	}
	group, _ := g["id"].(string)
	c.must("PUT", secVault+vaultVersion, c.vaultBody(`,"accessPolicies":[{"tenantId":"`+c.Tenant+`","objectId":"`+p.oid+`","permissions":{"secrets":["list"]}},{"tenantId":"`+c.Tenant+`","objectId":"`+group+`","permissions":{"keys":["list"]}}]`))
	tok := c.token(p, vaultURL)
	list := func(what string, want int) {
		t.Helper()
		if status, m := c.Send(t, tok, "GET", "https://seckv.vault.azure.net/"+what+"?api-version=7.4", ""); status != want {
			t.Errorf("%s: %d %v, want %d", what, status, m, want)
		}
	}
	list("secrets", 200)
	list("keys", 200)
	if status, m := c.Send(t, c.OwnerToken(t, graphURL), "DELETE", graphURL+"/v1.0/groups/"+group+"/members/"+p.oid+"/$ref", ""); status != 204 {
		t.Fatalf("leave the group: %d %v", status, m)
	}
	list("keys", 403)
	if status, m := c.Send(t, c.OwnerToken(t, graphURL), "DELETE", graphURL+"/v1.0/users/"+p.oid, ""); status != 204 {
		t.Fatalf("delete the user: %d %v", status, m)
	}
	list("secrets", 403)
}

func TestSecurity_WhoMayNotAssignRolesMayNotChangeWhoDecidesAboutAVault(t *testing.T) {
	c := newTarget(t)
	c.must("PUT", secGroup+groupVersion, `{"location":"eastus"}`)
	c.must("PUT", secVault+vaultVersion, c.vaultBody(`,"enableRbacAuthorization":true`))
	p := c.person("contributor")
	c.assign(secGroup, roleContributor, p.oid)
	tok := c.token(p, armURL)
	for name, q := range map[string][2]string{
		"put":         {"PUT", c.vaultBody(`,"enableRbacAuthorization":false`)},
		"patch":       {"PATCH", `{"properties":{"enableRbacAuthorization":false}}`},
		"patch null":  {"PATCH", `{"properties":{"enableRbacAuthorization":null}}`},
		"other case":  {"PATCH", `{"properties":{"EnableRbacAuthorization":false}}`},
		"left out":    {"PUT", c.vaultBody("")},
		"Unicode":     {"PATCH", `{"properties":{"enableRbacAuthori\u017aation":false}}`},
		"new tags":    {"PATCH", `{"tags":{"a":"b"}}`},
		"null at all": {"PATCH", `{"properties":null}`},
	} {
		_, _ = c.as(tok, q[0], secVault+vaultVersion, q[1])
		if props, _ := c.must("GET", secVault+vaultVersion, "")["properties"].(map[string]any); props["enableRbacAuthorization"] != true {
			t.Fatalf("%s: a contributor switched the vault to access policies: %v", name, props)
		}
	}
	if status, m := c.as(tok, "PATCH", secVault+vaultVersion, `{"tags":{"c":"d"}}`); status != 200 {
		t.Errorf("a contributor's other changes: %d %v", status, m)
	}
	c.must("PATCH", secVault+vaultVersion, `{"properties":{"enableRbacAuthorization":false}}`)
}
