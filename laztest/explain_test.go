package laztest_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"lazurite.dev/laztest"
)

const (
	cluster    = group + "/providers/Microsoft.ContainerService/managedClusters/c1"
	fic        = identity + "/federatedIdentityCredentials/fic"
	explainURL = "/subscriptions/{sub}/providers/Lazurite.Explain/"
	secretURL  = "https://demo-like.vault.azure.net/secrets/s"
)

// world is a cluster, an identity and a vault, before something is broken.
type world struct {
	*laztest.Cloud
	t                         *testing.T
	issuer, client, principal string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{Cloud: laztest.New(t), t: t}
	w.client, w.principal = setUp(t, w.Cloud)
	code, m := w.ARM(t, "PUT", cluster+"?api-version=2025-02-01", `{"location":"eastus","identity":{"type":"SystemAssigned"},"properties":{"dnsPrefix":"c1",
		"agentPoolProfiles":[{"name":"np1","mode":"System","count":1,"vmSize":"Standard_DS2_v2"}],"oidcIssuerProfile":{"enabled":true}}}`)
	if code >= 300 {
		t.Fatalf("cluster: %d %v", code, m)
	}
	for w.issuer == "" {
		_, m = w.ARM(t, "GET", cluster+"?api-version=2025-02-01", "")
		p, _ := m["properties"].(map[string]any)
		o, _ := p["oidcIssuerProfile"].(map[string]any)
		w.issuer, _ = o["issuerURL"].(string)
	}
	return w
}

func (w *world) trust(issuer, subject, audience string) {
	w.t.Helper()
	code, m := w.ARM(w.t, "PUT", fic+"?api-version=2023-01-31", fmt.Sprintf(`{"properties":{"issuer":%q,"subject":%q,"audiences":[%q]}}`, issuer, subject, audience))
	if code >= 300 {
		w.t.Fatalf("credential: %d %v", code, m)
	}
}

func (w *world) role(scope, name, role, principal string) {
	w.t.Helper()
	code, m := w.ARM(w.t, "PUT", scope+"/providers/Microsoft.Authorization/roleAssignments/"+name+"?api-version=2022-04-01", roleBody(w.Cloud, role, principal))
	if code != 201 {
		w.t.Fatalf("role: %d %v", code, m)
	}
}

// exchange trades a fresh token of default/app for one of the vault's.
func (w *world) exchange() (int, map[string]any) {
	w.t.Helper()
	code, m := w.Admin(w.t, "/v1/serviceaccount-token", `{"namespace":"default","name":"app","cluster":"c1"}`)
	if code != 200 {
		w.t.Fatalf("service account token: %d %v", code, m)
	}
	res, err := w.Client().PostForm("https://login.microsoftonline.com/"+w.Tenant+"/oauth2/v2.0/token", url.Values{
		"client_id": {w.client}, "grant_type": {"client_credentials"}, "scope": {"https://vault.azure.net/.default"},
		"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}, "client_assertion": {fmt.Sprint(m["token"])},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	out := map[string]any{}
	if err := json.NewDecoder(res.Body).Decode(&out); err != nil {
		w.t.Fatal(err)
	}
	return res.StatusCode, out
}

// explain gives the record of a refusal as text.
func (w *world) explain(id string) string {
	w.t.Helper()
	code, m := w.ARM(w.t, "GET", explainURL+"refusals/"+url.PathEscape(id)+"?api-version=2026-01-01", "")
	if code != 200 {
		w.t.Fatalf("explain %s: %d %v", id, code, m)
	}
	return text(m)
}

// ahead asks before anyone tries, and gives whether default/app would be let
// in, and all that was found as text.
func (w *world) ahead(to string) (any, string) {
	w.t.Helper()
	code, m := w.ARM(w.t, "POST", explainURL+"explain?api-version=2026-01-01", fmt.Sprintf(`{"namespace":"default","serviceAccount":"app","cluster":"c1","to":%q}`, strings.ReplaceAll(to, "{sub}", w.Subscription)))
	if code != 200 {
		w.t.Fatalf("explain %s: %d %v", to, code, m)
	}
	return m["allowed"], text(m)
}

func text(v any) string {
	b, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func (w *world) says(what, text string, want ...string) {
	w.t.Helper()
	for _, s := range want {
		if !strings.Contains(text, s) {
			w.t.Errorf("%s: %q is not said:\n%s", what, s, text)
		}
	}
}

// TestExplain_NamesEachMistake breaks one thing after the other, and asks before
// anyone tries and after it was refused.
func TestExplain_NamesEachMistake(t *testing.T) {
	w := newWorld(t)
	const sub, aud = "system:serviceaccount:default:app", "api://AzureADTokenExchange"
	w.role(vaultID, "33333333-3333-3333-3333-333333333333", "4633458b-17de-408a-b874-0445c86b69e6", w.principal)
	for _, c := range []struct {
		what, iss, sub, aud, code string
		want                      []string
	}{
		{"letter case", w.issuer, "system:serviceaccount:default:App", aud, "AADSTS7002138", []string{"differs only in letter case", "federated-credential update"}},
		{"trailing slash", strings.TrimSuffix(w.issuer, "/"), sub, aud, "AADSTS700211", []string{"only in a slash at its end", "federated-credential update"}},
		{"audience", w.issuer, sub, "api://wrong", "AADSTS700212", []string{"the audience differs", "api://wrong", "federated-credential update"}},
		{"subject", w.issuer, "system:serviceaccount:default:other", aud, "AADSTS700213", []string{"the subject differs", "federated-credential create"}},
	} {
		w.trust(c.iss, c.sub, c.aud)
		if allowed, s := w.ahead(secretURL); allowed != false {
			t.Errorf("%s: %v %s", c.what, allowed, s)
		} else {
			w.says(c.what+", ahead", s, c.want...)
		}
		code, m := w.exchange()
		if code != http.StatusUnauthorized || !strings.HasPrefix(fmt.Sprint(m["error_description"]), c.code+":") {
			t.Errorf("%s: exchange: %d %v, want %s", c.what, code, m, c.code)
			continue
		}
		for _, id := range []string{"correlation_id", "trace_id"} { // az and the SDKs print both
			w.says(c.what+", by its "+id, w.explain(fmt.Sprint(m[id])), c.want...)
		}
	}
	w.trust(w.issuer, sub, aud)
	if allowed, s := w.ahead(secretURL); allowed != true {
		t.Errorf("all right: %v %s", allowed, s)
	}
}

func TestExplain_RolesAndFirewall(t *testing.T) {
	w := newWorld(t)
	w.trust(w.issuer, "system:serviceaccount:default:app", "api://AzureADTokenExchange")
	code, m := w.exchange()
	if code != 200 {
		t.Fatalf("exchange: %d %v", code, m)
	}
	tok := fmt.Sprint(m["access_token"])
	refused := func(what, tok string, want ...string) {
		t.Helper()
		if code, m := w.Send(t, tok, "GET", secretURL+"/?api-version=7.4", ""); code != http.StatusForbidden {
			t.Fatalf("%s: %d %v", what, code, m)
		}
		w.says(what, w.explain("last"), want...)
	}
	ahead := func(what, to string, want ...string) {
		t.Helper()
		allowed, s := w.ahead(to)
		if allowed != false {
			t.Errorf("%s: %v", what, allowed)
		}
		w.says(what+", ahead", s, want...)
	}
	const role = "4633458b-17de-408a-b874-0445c86b69e6"
	refused("an owner without data actions", w.OwnerToken(t, "https://vault.azure.net"), "Owner at /subscriptions/", "has no data actions", "Key Vault Secrets User")
	refused("no role", tok, `"who": "app (`+w.principal, "hold no role at all", "az role assignment create")

	code, m = w.ARM(t, "PUT", group+"2?api-version=2021-04-01", `{"location":"eastus"}`)
	if code != 201 {
		t.Fatalf("group: %d %v", code, m)
	}
	w.role(group+"2", "44444444-4444-4444-4444-444444444444", role, w.principal)
	refused("a role on the wrong scope", tok, "Key Vault Secrets User", "/resourceGroups/demo2")
	ahead("a role on the wrong scope", secretURL, "Key Vault Secrets User", "/resourceGroups/demo2")

	w.role(vaultID, "33333333-3333-3333-3333-333333333333", role, w.principal)
	for _, to := range []string{secretURL, vaultID, vaultID + "/secrets/s"} {
		if allowed, s := w.ahead(to); allowed != true {
			t.Errorf("%s: %v %s", to, allowed, s)
		}
	}
	if code, m := w.ARM(t, "PATCH", vaultID+"?api-version=2023-07-01", `{"properties":{"networkAcls":{"defaultAction":"Deny","bypass":"None","ipRules":[]}}}`); code != 200 {
		t.Fatalf("firewall: %d %v", code, m)
	}
	refused("the firewall", tok, "no rule has the client's address", "127.0.0.1", "network-rule add")
	for _, to := range []string{secretURL, vaultID, vaultID + "/secrets/s"} {
		ahead("the firewall of "+to, to, "no rule has the client's address", "network-rule add")
	}
	if code, m := w.ARM(t, "PATCH", vaultID+"?api-version=2023-07-01", `{"properties":{"publicNetworkAccess":"Disabled"}}`); code != 200 {
		t.Fatalf("public access: %d %v", code, m)
	}
	refused("no public access", tok, "public network access is disabled", "publicNetworkAccess=Enabled")
}
