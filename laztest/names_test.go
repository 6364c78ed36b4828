package laztest_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"lazurite.dev/laztest"
)

// TestOwnNames goes the way of a client that knows nothing but the manager's
// name, and meets no name of Azure's.
func TestOwnNames(t *testing.T) {
	c := laztest.New(t, laztest.OwnNames("cloud.lab.test"))
	_, port, _ := strings.Cut(strings.TrimPrefix(c.Proxy, "http://"), ":")
	host := func(name string) string { return name + ".cloud.lab.test:" + port }
	_, m := c.Send(t, "", "GET", "https://"+host("management")+"/metadata/endpoints?api-version=2022-09-01", "")
	auth, _ := m["authentication"].(map[string]any)
	suffixes, _ := m["suffixes"].(map[string]any)
	if auth["loginEndpoint"] != "https://"+host("login") || suffixes["keyVaultDns"] != host("vault") || m["resourceManager"] != "https://"+host("management")+"/" {
		t.Fatalf("metadata: %v", m)
	}
	for _, asked := range []string{host("login"), "login.cloud.lab.test"} { // MSAL for Python leaves the port out
		code, m := c.Send(t, "", "GET", "https://login.microsoftonline.com/common/discovery/instance?api-version=1.1&authorization_endpoint="+
			url.QueryEscape("https://"+asked+"/"+c.Tenant+"/oauth2/v2.0/authorize"), "")
		if want := "https://" + host("login") + "/" + c.Tenant + "/v2.0/.well-known/openid-configuration"; code != 200 || m["tenant_discovery_endpoint"] != want {
			t.Errorf("discovery of %s: %d %v", asked, code, m)
		}
	}
	_, m = c.Send(t, "", "GET", "https://"+host("login")+"/"+c.Tenant+"/v2.0/.well-known/openid-configuration", "")
	if m["issuer"] != "https://"+host("login")+"/"+c.Tenant+"/v2.0" || m["token_endpoint"] != "https://"+host("login")+"/"+c.Tenant+"/oauth2/v2.0/token" {
		t.Errorf("openid-configuration: %v", m)
	}

	setUp(t, c)
	officer(t, c, secretsOfficer)
	_, m = c.ARM(t, "GET", vaultID+"?api-version=2023-07-01", "")
	props, _ := m["properties"].(map[string]any)
	if got := fmt.Sprint(props["vaultUri"]); got != "https://demo-like."+host("vault")+"/" {
		t.Errorf("vaultUri %s", got)
	}
	for _, resource := range []string{"https://" + host("vault"), "https://vault.cloud.lab.test", "https://vault.azure.net"} {
		code, m := c.Send(t, c.OwnerToken(t, resource), "PUT", "https://demo-like."+host("vault")+"/secrets/s?api-version=7.4", `{"value":"v"}`)
		if code != 200 || !strings.HasPrefix(fmt.Sprint(m["id"]), "https://demo-like."+host("vault")+"/secrets/s/") {
			t.Errorf("with a token for %s: %d %v", resource, code, m)
		}
	}
}
