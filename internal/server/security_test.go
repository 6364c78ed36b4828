package server_test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"lazurite.dev/internal/server"
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

func TestSecurity_AClusterLeavesOthersIdentitiesAlone(t *testing.T) {
	c := newTarget(t)
	mine := strings.ReplaceAll(secGroup, "/sec", "/mine")
	c.must("PUT", mine+groupVersion, `{"location":"eastus"}`)
	p := c.person("mallory")
	c.assign(mine, roleOwner, p.oid)
	tok := c.token(p, armURL)
	const version = "?api-version=2024-09-01"
	own := c.must("PUT", mine+"/providers/Microsoft.ManagedIdentity/userAssignedIdentities/own"+identityVersion, `{"location":"eastus"}`)
	body := func(more string) string {
		return `{"location":"eastus","identity":{"type":"UserAssigned","userAssignedIdentities":{"` + fmt.Sprint(own["id"]) + `":{}}},` +
			`"properties":{"dnsPrefix":"x","agentPoolProfiles":[{"name":"a","count":1,"mode":"System","vmSize":"Standard_D2s_v3"}]` + more + `}}`
	}
	path := mine + "/providers/Microsoft.ContainerService/managedClusters/"
	// Its nodes' group does not exist yet; then somebody makes one of that name, and an identity in it.
	c.as(tok, "PUT", path+"x"+version, body(`,"nodeResourceGroup":"sec"`))
	c.must("PUT", secGroup+groupVersion, `{"location":"eastus"}`)
	victim := func(name string) (path, oid string) {
		path = secGroup + "/providers/Microsoft.ManagedIdentity/userAssignedIdentities/" + name + identityVersion
		m := c.must("PUT", path, `{"location":"eastus"}`)
		props, _ := m["properties"].(map[string]any)
		return path, fmt.Sprint(props["principalId"])
	}
	_, oid := victim("y-agentpool")
	kubelet := `,"identityProfile":{"kubeletidentity":{"resourceId":"` + fmt.Sprint(own["id"]) + `"}}`
	for _, group := range []string{"sec", "SEC", "sec/providers/Microsoft.ManagedIdentity/userAssignedIdentities/a/providers/x/y", "..", "sec."} {
		for _, more := range []string{`,"nodeResourceGroup":"` + group + `"`, `,"nodeResourceGroup":"` + group + `"` + kubelet} {
			if status, m := c.as(tok, "PUT", path+"y"+version, body(more)); status < 400 {
				t.Errorf("nodes in %s: %d %v", group, status, m)
			}
		}
	}
	c.as(tok, "PUT", path+"x"+version, body(`,"nodeResourceGroup":"sec"`+kubelet))
	c.as(tok, "DELETE", path+"x"+version, "")
	c.as(tok, "DELETE", path+"y"+version, "")
	if status, m := c.Send(t, c.OwnerToken(t, graphURL), "GET", graphURL+"/v1.0/servicePrincipals/"+oid, ""); status != 200 {
		t.Errorf("the identity's principal is gone: %d %v", status, m)
	}
}

// logInto keeps the server's log, all of it.
func logInto(b *buffer) laztest.Option {
	return func(c *server.Config) {
		c.Log = slog.New(slog.NewJSONHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
}

func (c *target) form(u string, pairs ...string) (int, map[string]any) {
	c.t.Helper()
	v := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		v.Set(pairs[i], pairs[i+1])
	}
	res, err := c.Client().PostForm(u, v)
	if err != nil {
		c.t.Fatal(err)
	}
	defer res.Body.Close()
	m := map[string]any{}
	if err := json.NewDecoder(res.Body).Decode(&m); err != nil {
		c.t.Fatalf("%s: %v", u, err)
	}
	return res.StatusCode, m
}

// secretsOf uses the system, with everything that people get wrong, and gives
// each secret that it then knows.
func (c *target) secretsOf() map[string]string {
	t := c.t
	t.Helper()
	const marked = "Tr0ub4dor-and-3-"
	secrets := map[string]string{"the owner's password": c.Password, "a vault's secret": marked + "vault", "a wrong password": marked + "wrong"}
	graph := c.OwnerToken(t, graphURL)
	secrets["an access token"] = graph
	p := c.person("holder")
	secrets["a user's password"] = p.password
	tokenURL := "https://login.microsoftonline.com/" + c.Tenant + "/oauth2/v2.0/token"
	cli := []string{"grant_type", "password", "client_id", "04b07795-8ddb-461a-bbee-02f9e1bf7b46", "scope", vaultURL + "/.default offline_access", "username", p.upn}
	_, m := c.form(tokenURL, append(cli, "password", p.password)...)
	secrets["a refresh token"], _ = m["refresh_token"].(string)
	c.form(tokenURL, append(cli, "password", secrets["a wrong password"])...)
	c.form(tokenURL+"?password="+url.QueryEscape(secrets["a wrong password"]), append(cli, "grant_type", "nonsense")...)
	c.form(tokenURL, "grant_type", "refresh_token", "client_id", p.oid, "refresh_token", secrets["a refresh token"])

	_, app := c.Send(t, graph, "POST", graphURL+"/v1.0/applications", `{"displayName":"app"}`)
	_, pw := c.Send(t, graph, "POST", graphURL+"/v1.0/applications/"+fmt.Sprint(app["id"])+"/addPassword", `{"passwordCredential":{"displayName":"s"}}`)
	secrets["a client secret"], _ = pw["secretText"].(string)
	c.form(tokenURL, "grant_type", "client_credentials", "client_id", fmt.Sprint(app["appId"]), "client_secret", secrets["a client secret"], "scope", vaultURL+"/.default")
	c.Send(t, graph, "POST", graphURL+"/v1.0/users", `{"userPrincipalName":"x","passwordProfile":{"password":["`+secrets["a wrong password"]+`"]}}`)

	_, d := c.form("https://login.microsoftonline.com/"+c.Tenant+"/oauth2/v2.0/devicecode", "client_id", "04b07795-8ddb-461a-bbee-02f9e1bf7b46", "scope", vaultURL+"/.default")
	secrets["a device code"], _ = d["device_code"].(string)
	secrets["a user code"], _ = d["user_code"].(string)

	c.must("PUT", secGroup+groupVersion, `{"location":"eastus"}`)
	c.must("PUT", secVault+vaultVersion, c.vaultBody(`,"enableRbacAuthorization":true`))
	vault := c.OwnerToken(t, vaultURL)
	const s = "https://seckv.vault.azure.net/secrets/s?api-version=7.4"
	value := `{"value":"` + secrets["a vault's secret"] + `"}`
	c.Send(t, vault, "PUT", s, value)
	c.assign(secVault, roleSecretsOfficer, c.OwnerID(t))
	for _, body := range []string{value, value[:len(value)-1], `{"value":["` + secrets["a vault's secret"] + `"]}`, `{"` + secrets["a vault's secret"] + `":1}`, `{"value":"` + secrets["a vault's secret"] + "\x01\"}"} {
		c.Send(t, vault, "PUT", s, body)
	}
	if status, m := c.Send(t, vault, "GET", s, ""); status != 200 || m["value"] != secrets["a vault's secret"] {
		t.Fatalf("the secret: %d %v", status, m)
	}
	c.Send(t, vault+"x", "GET", s, "")
	c.learning()
	secrets["a given key of an endpoint"] = "Tr0ub4dor-and-3-endpoint"
	secrets["a key of an endpoint"], _ = c.must("POST", mlEnd+"/listKeys"+mlVersion, "")["secondaryKey"].(string)
	c.as(c.OwnerToken(t, armURL), "POST", mlEnd+"/regenerateKeys"+mlVersion, `{"keyType":"Third","keyValue":"`+secrets["a given key of an endpoint"]+`"}`)
	c.as(c.OwnerToken(t, armURL), "PUT", mlEnd+mlVersion, `{"location":"westus2","properties":{"authMode":"Key","keys":["`+secrets["a given key of an endpoint"]+`"]}}`)
	c.Send(t, vault, "GET", armURL+"/subscriptions?api-version=2020-01-01", "")
	for what, s := range secrets {
		if len(s) < 8 {
			t.Fatalf("%s is %q", what, s)
		}
	}
	return secrets
}

func TestSecurity_SecretsAreInNoLogTraceOrFile(t *testing.T) {
	log := &buffer{}
	c := newTarget(t, logInto(log))
	secrets := c.secretsOf()
	_, refusals := c.ARM(t, "GET", "/subscriptions/{sub}/providers/Lazurite.Explain/refusals?api-version=2026-01-01", "")
	_, events := c.ARM(t, "GET", "/subscriptions/{sub}/providers/Microsoft.Insights/eventtypes/management/values?api-version=2015-04-01&$filter="+
		url.QueryEscape("eventTimestamp ge '2020-01-01T00:00:00Z'"), "")
	if len(fmt.Sprint(refusals)) < 500 || len(fmt.Sprint(events)) < 500 {
		t.Fatalf("nothing was recorded: %v %v", refusals, events)
	}
	for what, s := range secrets {
		for where, text := range map[string]string{"the log": log.String(), "the traces": fmt.Sprint(refusals), "the activity log": fmt.Sprint(events)} {
			if i := strings.Index(text, s); i >= 0 {
				t.Errorf("%s is in %s: …%s…", what, where, text[max(0, i-200):i])
			}
		}
	}
	err := filepath.WalkDir(c.Home, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		public := strings.HasPrefix(d.Name(), "ca") && strings.HasSuffix(path, ".pem") // certificates, which clients of any kind read
		if m := info.Mode(); m.Perm()&0o077 != 0 && m&os.ModeSymlink == 0 && !public {
			t.Errorf("%s can be used by others: %v", path, m)
		}
		if !info.Mode().IsRegular() {
			return nil
		}
		raw, err := os.ReadFile(path)
		for what, s := range secrets {
			if strings.Contains(string(raw), s) {
				t.Errorf("%s is in %s", what, path)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// raw sends a request as it is written: Go's client would tidy up its path.
func (c *target) raw(host, token, request string) (int, string) {
	c.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(c.Proxy, "http://"))
	if err != nil {
		c.t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "CONNECT %s:443 HTTP/1.1\r\nHost: %s\r\n\r\n", host, host)
	if res, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || res.StatusCode != 200 {
		c.t.Fatalf("CONNECT: %v %v", res, err)
	}
	pem, err := os.ReadFile(c.CA)
	if err != nil {
		c.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	secure := tls.Client(conn, &tls.Config{ServerName: host, RootCAs: roots})
	line, headers, _ := strings.Cut(request, "\n")
	if !strings.Contains(headers, "Host:") {
		headers = "Host: " + host + "\n" + headers
	}
	if token != "" {
		headers += "Authorization: Bearer " + token + "\n"
	}
	fmt.Fprintf(secure, "%s HTTP/1.1\r\n%sConnection: close\r\n\r\n", line, strings.ReplaceAll(headers, "\n", "\r\n"))
	res, err := http.ReadResponse(bufio.NewReader(secure), &http.Request{Method: strings.Fields(line)[0]})
	if err != nil {
		c.t.Fatalf("%q: %v", request, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		c.t.Fatalf("%q: %v", request, err)
	}
	return res.StatusCode, string(body)
}

func TestSecurity_NoPathGoesRoundThePolicy(t *testing.T) {
	c := newTarget(t)
	mine := strings.ReplaceAll(secGroup, "/sec", "/mine")
	for _, g := range []string{secGroup, mine} {
		c.must("PUT", g+groupVersion, `{"location":"eastus"}`)
	}
	c.must("PUT", secVault+vaultVersion, c.vaultBody(`,"enableRbacAuthorization":true`))
	p := c.person("mallory")
	c.assign(mine, roleOwner, p.oid)
	tok := c.token(p, armURL)
	sub := func(s string) string { return strings.ReplaceAll(s, "{sub}", c.Subscription) }
	group, vault, own := sub(secGroup), sub(secVault), sub(mine)
	const v = "?api-version=2021-04-01"
	for _, r := range []string{
		"GET " + vault + v, "GET " + vault + "/" + v, "GET /" + vault + v, "GET " + strings.ToUpper(vault) + v,
		"GET " + own + "/../sec/providers/Microsoft.KeyVault/vaults/seckv" + v,
		"GET " + own + "/%2e%2e/sec/providers/Microsoft.KeyVault/vaults/seckv" + v,
		"GET " + own + "/..%2fsec%2fproviders/Microsoft.KeyVault/vaults/seckv" + v,
		"GET " + own + "%2f..%2fsec/providers/Microsoft.KeyVault/vaults/seckv" + v,
		"GET " + own + "/./../sec" + v, "GET " + own + "\\..\\sec" + v, "GET " + own + "/;/../sec" + v, "GET " + own + "/%00/../sec" + v,
		"GET " + own + "//../sec" + v, "GET " + strings.ReplaceAll(group, "/", "//") + v,
		"GET https://management.azure.com" + vault + v,
		"GET " + group + v + "&api-version=2021-04-01", "GET " + group + v + "&resourceGroupName=mine",
		"HEAD " + group + v, "DELETE " + group + v, "DELETE " + own + "/../sec" + v, "TRACE " + group + v, "OPTIONS " + group + v, "PROPFIND " + group + v,
		"POST " + group + v + "\nX-HTTP-Method-Override: DELETE\nX-HTTP-Method: DELETE\nX-Method-Override: DELETE\nContent-Length: 0",
		"GET " + group + v + "\nX-Original-URL: " + own + "\nX-Rewrite-URL: " + own + "\nX-Forwarded-For: 127.0.0.1",
		"GET " + own + v + "\nHost: management.azure.com\nX-Forwarded-Host: x\nX-Original-URL: " + group, // their own: for the control below
		"GET " + vault + "/providers/Microsoft.Authorization/roleAssignments" + v,
		"GET " + vault + "/providers/Microsoft.Authorization/permissions" + v,
		"GET " + vault + "/providers/Microsoft.Resources/tags/default" + v,
		"GET " + own + "/providers/Microsoft.Resources/tags/../../../sec/providers/Microsoft.Resources/tags/default" + v,
		"POST " + vault + "/rewrap" + v + "\nContent-Length: 0",
		"POST " + sub("/subscriptions/{sub}/providers/Microsoft.KeyVault/register") + v + "\nContent-Length: 0",
		"GET " + sub("/subscriptions/{sub}/tagNames") + v,
		"POST " + sub("/subscriptions/{sub}/providers/Lazurite.Explain/explain?api-version=2026-01-01") + "\nContent-Length: 0",
		"GET " + sub("/subscriptions/{sub}/providers/Microsoft.KeyVault/deletedVaults") + v,
	} {
		r += "\n"
		status, text := c.raw("management.azure.com", tok, r)
		if strings.HasPrefix(r, "GET "+own+v) {
			if status != 200 {
				t.Errorf("their own group: %d %s", status, text)
			}
			continue
		}
		if status < 400 || strings.Contains(text, "eastus") {
			t.Errorf("%s: %d %s", r, status, text)
		}
	}
	if status, _ := c.ARM(t, "GET", secVault+vaultVersion, ""); status != 200 {
		t.Errorf("the vault is gone: %d", status)
	}
}

func TestSecurity_WhoOwnsOneGroupIsNothingElsewhere(t *testing.T) {
	c := newTarget(t)
	mine := strings.ReplaceAll(secGroup, "/sec", "/mine")
	for _, g := range []string{secGroup, mine} {
		c.must("PUT", g+groupVersion, `{"location":"eastus"}`)
	}
	c.must("PUT", secVault+vaultVersion, c.vaultBody(`,"enableRbacAuthorization":true`))
	p := c.person("mallory")
	c.assign(mine, roleOwner, p.oid)
	tok := c.token(p, armURL)
	sub := func(s string) string { return strings.ReplaceAll(s, "{sub}", c.Subscription) }
	group, own := sub(secGroup), sub(mine)
	assignment := "/providers/Microsoft.Authorization/roleAssignments/11111111-1111-1111-1111-111111111111" + roleVersion
	definition := "/providers/Microsoft.Authorization/roleDefinitions/22222222-2222-2222-2222-222222222222" + roleVersion
	role := func(scopes string) string {
		return `{"properties":{"roleName":"mine","type":"CustomRole","permissions":[{"actions":["*"],"dataActions":["*"]}],"assignableScopes":[` + sub(scopes) + `]}}`
	}
	for name, q := range map[string][2]string{
		"a role at the subscription":    {"/subscriptions/{sub}" + assignment, sub(roleBody(roleReader, p.oid))},
		"a role at the root":            {assignment, sub(roleBody(roleReader, p.oid))},
		"a role at another group":       {secGroup + assignment, sub(roleBody(roleReader, p.oid))},
		"a role at another's vault":     {secVault + assignment, sub(roleBody(roleReader, p.oid))},
		"scope in the body":             {secGroup + assignment, `{"properties":{"scope":"` + own + `","principalId":"` + p.oid + `","roleDefinitionId":"` + roleReader + `"}}`},
		"a custom role for all":         {mine + definition, role(`"/subscriptions/{sub}"`)},
		"a custom role for all, too":    {mine + definition, role(`"` + own + `","/subscriptions/{sub}"`)},
		"a custom role for the root":    {mine + definition, role(`"/"`)},
		"a custom role for a neighbour": {mine + definition, role(`"` + group + `"`)},
		"a built-in role":               {mine + strings.Replace(definition, "22222222-2222-2222-2222-222222222222", roleReader, 1), role(`"` + own + `"`)},
		"a deny assignment":             {mine + strings.Replace(definition, "roleDefinitions", "denyAssignments", 1), `{"properties":{}}`},
	} {
		if status, m := c.as(tok, "PUT", q[0], q[1]); status < 400 {
			t.Errorf("%s: %d %v", name, status, m)
		}
	}
	// The body's scope says nothing: the path decides.
	if status, m := c.as(tok, "PUT", mine+assignment, `{"properties":{"\u017fcope":"/subscriptions/`+c.Subscription+`","principalId":"`+p.oid+`","roleDefinitionId":"`+roleReader+`"}}`); status != 201 {
		t.Errorf("their own: %d %v", status, m)
	}
	if status, m := c.as(tok, "GET", "/subscriptions/{sub}/providers/Microsoft.Authorization/roleAssignments"+roleVersion, ""); status != 403 {
		t.Errorf("the body's scope counted: %d %v", status, m)
	}
}

func TestSecurity_ATokenIsForOnePlane(t *testing.T) {
	c := newTarget(t)
	c.must("PUT", secGroup+groupVersion, `{"location":"eastus"}`)
	c.must("PUT", secVault+vaultVersion, c.vaultBody(`,"enableRbacAuthorization":true`))
	c.assign(secVault, roleSecretsOfficer, c.OwnerID(t))
	planes := map[string]string{
		armURL: armURL + "/subscriptions" + groupVersion, vaultURL: "https://seckv.vault.azure.net/secrets?api-version=7.4", graphURL: graphURL + "/v1.0/me",
	}
	for of := range planes {
		for at, u := range planes {
			status, m := c.Send(t, c.OwnerToken(t, of), "GET", u, "")
			if want := map[bool]int{true: 200, false: 401}[of == at]; status != want {
				t.Errorf("a token for %s at %s: %d %v, want %d", of, at, status, m, want)
			}
		}
	}
}

func TestSecurity_HostsOfVaults(t *testing.T) {
	c := newTarget(t)
	c.must("PUT", secGroup+groupVersion, `{"location":"eastus"}`)
	c.must("PUT", secVault+vaultVersion, c.vaultBody(`,"enableRbacAuthorization":true,"networkAcls":{"defaultAction":"Deny","ipRules":[{"value":"203.0.113.0/24"}]}`))
	c.assign(secVault, roleSecretsOfficer, c.OwnerID(t))
	tok := c.OwnerToken(t, vaultURL)
	const open = "GET /secrets?api-version=7.4\n"
	for name, q := range map[string]struct {
		host, request string
		want          int
	}{
		"the client's address":      {"seckv.vault.azure.net", open, 403},
		"another's address":         {"seckv.vault.azure.net", open + "X-Forwarded-For: 203.0.113.7\nForwarded: for=203.0.113.7\nX-Real-IP: 203.0.113.7\nX-Azure-ClientIP: 203.0.113.7\n", 403},
		"upper case":                {"seckv.vault.azure.net", open + "Host: SECKV.VAULT.AZURE.NET\n", 403},
		"with a port":               {"seckv.vault.azure.net", open + "Host: seckv.vault.azure.net:443\n", 403},
		"with a dot":                {"seckv.vault.azure.net", open + "Host: seckv.vault.azure.net.\n", 0},
		"the other family":          {"seckv.vault.lazurite.test", open, 403},
		"another name's connection": {"other.vault.azure.net", open + "Host: seckv.vault.azure.net\n", 421},
		"another plane's":           {"management.azure.com", open + "Host: seckv.vault.azure.net\n", 421},
		"the vault's connection":    {"seckv.vault.azure.net", "GET /subscriptions?api-version=2021-04-01\nHost: management.azure.com\n", 421},
		"in the request line":       {"other.vault.azure.net", "GET https://seckv.vault.azure.net/secrets?api-version=7.4\n", 421},
		"no vault":                  {"none.vault.azure.net", open, 404},
	} {
		status, body := c.raw(q.host, tok, q.request)
		if status != q.want && (q.want != 0 || status < 400) || strings.Contains(body, `"value"`) {
			t.Errorf("%s: %d %s, want %d", name, status, body, q.want)
		}
	}
}

// Roles, vaults and groups come and go at once; whatever the order was, nobody
// has more in the end than what is assigned in the end.
func TestSecurity_ManyChangesAtOnceLeaveNoRight(t *testing.T) {
	c := newTarget(t)
	c.must("PUT", secGroup+groupVersion, `{"location":"eastus"}`)
	p := c.person("racer")
	tok, vaultTok, owner := c.token(p, armURL), c.token(p, vaultURL), c.OwnerToken(t, armURL)
	body, role := c.vaultBody(`,"enableRbacAuthorization":true`), strings.ReplaceAll(roleBody(roleSecretsOfficer, p.oid), "{sub}", c.Subscription)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			at := fmt.Sprintf("%s/providers/Microsoft.Authorization/roleAssignments/33333333-3333-3333-3333-%012d%s", secVault, i, roleVersion)
			for range 3 {
				c.as(owner, "PUT", secVault+vaultVersion, body)
				c.as(owner, "PUT", at, role)
				c.Send(t, vaultTok, "GET", "https://seckv.vault.azure.net/secrets?api-version=7.4", "")
				c.as(tok, "GET", secVault+vaultVersion, "")
				switch i {
				case 0:
					c.as(owner, "DELETE", secVault+vaultVersion, "")
					c.as(owner, "PUT", secVault+vaultVersion, c.vaultBody(`,"createMode":"recover"`))
				case 1:
					c.as(owner, "DELETE", secGroup+groupVersion, "")
					c.as(owner, "PUT", secGroup+groupVersion, `{"location":"eastus"}`)
				default:
					c.as(owner, "DELETE", at, "")
				}
			}
		})
	}
	wg.Wait()
	c.settle("DELETE", secVault+vaultVersion, "")
	c.settle("PUT", secGroup+groupVersion, `{"location":"eastus"}`)
	_, list := c.ARM(t, "GET", "/subscriptions/{sub}/providers/Microsoft.Authorization/roleAssignments"+roleVersion+"&$filter="+url.QueryEscape("principalId eq '"+p.oid+"'"), "")
	if left, _ := list["value"].([]any); len(left) > 0 {
		t.Errorf("assignments outlived the vault: %v", left)
	}
	c.settle("PUT", secVault+vaultVersion, c.vaultBody(`,"createMode":"recover"`))
	if status, m := c.Send(t, vaultTok, "GET", "https://seckv.vault.azure.net/secrets?api-version=7.4", ""); status != 403 {
		t.Errorf("the vault made again lets them in: %d %v", status, m)
	}
}

// settle repeats a request of the owner's until what it has to wait for is over.
func (c *target) settle(method, path, body string) {
	c.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; {
		status, m := c.ARM(c.t, method, path, body)
		if status < 400 {
			return
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("%s %s: %d %v", method, path, status, m)
		}
		<-time.After(50 * time.Millisecond)
	}
}
