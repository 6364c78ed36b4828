package server_test

import (
	"fmt"
	"strings"
	"testing"
)

// application makes an application with a service principal and a client secret.
func (c *target) application(name string) (oid, appID, secret string) {
	c.t.Helper()
	post := func(path, body string) map[string]any {
		c.t.Helper()
		status, m := c.Send(c.t, c.OwnerToken(c.t, graphURL), "POST", graphURL+"/v1.0/"+path, body)
		if status >= 300 {
			c.t.Fatalf("%s: %d %v", path, status, m)
		}
		return m
	}
	app := post("applications", `{"displayName":"`+name+`"}`)
	appID = fmt.Sprint(app["appId"])
	oid = fmt.Sprint(post("servicePrincipals", `{"appId":"`+appID+`"}`)["id"])
	secret = fmt.Sprint(post("applications/"+fmt.Sprint(app["id"])+"/addPassword", `{}`)["secretText"])
	return oid, appID, secret
}

func TestSecurity_ADisabledAccountsTokensCountForNothing(t *testing.T) {
	c := newTarget(t)
	c.must("PUT", secGroup+groupVersion, `{"location":"eastus"}`)
	c.must("PUT", secVault+vaultVersion, c.vaultBody(`,"enableRbacAuthorization":true`))
	c.must("PUT", strings.ReplaceAll(secVault, "/seckv", "/seckv2")+vaultVersion, c.vaultBody(""))
	p := c.person("sleeper")
	sp, appID, secret := c.application("sleeper")
	grant := func(resource string) string {
		status, m := c.form("https://login.microsoftonline.com/"+c.Tenant+"/oauth2/v2.0/token",
			"grant_type", "client_credentials", "client_id", appID, "client_secret", secret, "scope", resource+"/.default")
		if status != 200 {
			t.Fatalf("token of the application: %d %v", status, m)
		}
		return fmt.Sprint(m["access_token"])
	}
	for _, account := range []struct {
		name, oid, path, fix string
		tokens               map[string]string
	}{
		{"user", p.oid, "users/", "az ad user update --id " + p.upn + " --account-enabled true",
			map[string]string{armURL: c.token(p, armURL), vaultURL: c.token(p, vaultURL), graphURL: c.token(p, graphURL)}},
		{"service principal", sp, "servicePrincipals/", "az rest --method patch --url https://graph.microsoft.com/v1.0/servicePrincipals/" + sp + ` --body '{"accountEnabled":true}'`,
			map[string]string{armURL: grant(armURL), vaultURL: grant(vaultURL), graphURL: grant(graphURL)}},
	} {
		c.assign(secGroup, roleReader, account.oid)
		c.assign(secGroup, roleSecretsOfficer, account.oid)
		c.must("PUT", strings.ReplaceAll(secVault, "/seckv", "/seckv2/accessPolicies/add")+vaultVersion,
			`{"properties":{"accessPolicies":[{"tenantId":"`+c.Tenant+`","objectId":"`+account.oid+`","permissions":{"secrets":["list"]}}]}}`)
		meet := func(when string, allowed bool) {
			t.Helper()
			for _, q := range []struct {
				resource, url string
				refused       int
			}{
				{armURL, armURL + strings.ReplaceAll(secGroup, "{sub}", c.Subscription) + groupVersion, 403},
				{vaultURL, "https://seckv.vault.azure.net/secrets?api-version=7.4", 403},
				{vaultURL, "https://seckv2.vault.azure.net/secrets?api-version=7.4", 403}, // by its access policy
				{graphURL, graphURL + "/v1.0/users", 401},
			} {
				want := 200
				if !allowed {
					want = q.refused
				}
				if status, m := c.Send(t, account.tokens[q.resource], "GET", q.url, ""); status != want {
					t.Errorf("%s, %s: %s: %d %v, want %d", account.name, when, q.url, status, m, want)
				}
			}
		}
		enabled := func(yes string) {
			t.Helper()
			if status, m := c.Send(t, c.OwnerToken(t, graphURL), "PATCH", graphURL+"/v1.0/"+account.path+account.oid, `{"accountEnabled":`+yes+`}`); status != 204 {
				t.Fatalf("%s: enabled %s: %d %v", account.name, yes, status, m)
			}
		}
		meet("before", true)
		enabled("false")
		meet("disabled", false)
		if _, m := c.as(account.tokens[armURL], "GET", "/subscriptions/{sub}/resourcegroups?api-version=2021-04-01", ""); len(m["value"].([]any)) > 0 {
			t.Errorf("%s, disabled: sees %v", account.name, m)
		}
		c.as(account.tokens[armURL], "GET", secGroup+groupVersion, "")
		m := c.must("GET", "/subscriptions/{sub}/providers/Lazurite.Explain/refusals/last?api-version=2026-01-01", "")
		if s := fmt.Sprint(m["hops"]); !strings.Contains(s, "its account is disabled") || !strings.Contains(s, account.fix) {
			t.Errorf("%s: explained as %v, want the fix %s", account.name, m, account.fix)
		}
		enabled("true")
		meet("enabled again", true)
	}
}
