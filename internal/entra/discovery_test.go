package entra_test

import (
	"context"
	"net/url"
	"strings"
	"testing"

	"lazurite.dev/internal/store"
)

func contextFor(t testing.TB) (context.Context, context.CancelFunc) {
	return context.WithCancel(t.Context())
}

func (l *lab) count(prefix string) int {
	l.t.Helper()
	docs, err := l.store.List(l.t.Context(), store.Query{Prefix: prefix})
	must(l.t, err)
	return len(docs)
}

func TestDiscovery(t *testing.T) {
	l := newLab(t, nil)
	for _, tc := range []struct{ host, tenant, version, issuer, tokenEndpoint string }{
		{ours, tenant, "v2.0/", "https://" + ours + "/" + tenant + "/v2.0", "https://" + ours + "/" + tenant + "/oauth2/v2.0/token"},
		{ours, "contoso.example", "v2.0/", "https://" + ours + "/" + tenant + "/v2.0", "https://" + ours + "/" + tenant + "/oauth2/v2.0/token"},
		{ours, "organizations", "v2.0/", "https://" + ours + "/{tenantid}/v2.0", "https://" + ours + "/organizations/oauth2/v2.0/token"},
		{ours, tenant, "", "https://sts.windows.net/" + tenant + "/", "https://" + ours + "/" + tenant + "/oauth2/token"},
		{"login.lab.test", tenant, "v2.0/", "https://login.lab.test/" + tenant + "/v2.0", "https://login.lab.test/" + tenant + "/oauth2/v2.0/token"},
		{"westus2.login.microsoft.com", tenant, "v2.0/", "https://" + ours + "/" + tenant + "/v2.0", "https://westus2.login.microsoft.com/" + tenant + "/oauth2/v2.0/token"},
	} {
		status, b := l.do("GET", "https://"+tc.host+"/"+tc.tenant+"/"+tc.version+".well-known/openid-configuration?", nil)
		if status != 200 || b["issuer"] != tc.issuer || b["token_endpoint"] != tc.tokenEndpoint {
			t.Errorf("%s %s %q: %d issuer %v, token_endpoint %v", tc.host, tc.tenant, tc.version, status, b["issuer"], b["token_endpoint"])
		}
		_, keys := l.do("GET", b["jwks_uri"].(string), nil)
		if len(keys["keys"].([]any)) != 1 {
			t.Errorf("keys %v", keys)
		}
	}
	status, b := l.do("GET", "https://"+ours+"/nope/v2.0/.well-known/openid-configuration", nil)
	l.refused(status, b, 400, "invalid_request", "90002")
	status, b = l.do("GET", "https://"+ours+"/"+tenant+"/nothing/here", nil)
	l.refused(status, b, 404, "invalid_request", "90093")
}

func TestInstanceDiscovery(t *testing.T) {
	l := newLab(t, nil)
	ask := func(endpoint string) (int, map[string]any) {
		return l.do("GET", "https://"+ours+"/common/discovery/instance?api-version=1.1&authorization_endpoint="+url.QueryEscape(endpoint), nil)
	}
	for _, host := range []string{ours, "login.lab.test", "login.microsoft.com"} {
		status, b := ask("https://" + host + "/" + tenant + "/oauth2/v2.0/authorize")
		if status != 200 || b["tenant_discovery_endpoint"] != "https://"+host+"/"+tenant+"/v2.0/.well-known/openid-configuration" || len(b["metadata"].([]any)) != 2 {
			t.Errorf("%s: %d %v", host, status, b)
		}
	}
	for _, bad := range []string{"https://evil.example/" + tenant + "/oauth2/v2.0/authorize", "http://" + ours + "/" + tenant, "nonsense", ""} {
		status, b := ask(bad)
		l.refused(status, b, 400, "invalid_instance", "50049")
	}
}

func TestUserRealm(t *testing.T) {
	l := newLab(t, nil)
	for path, want := range map[string]string{
		"common/userrealm/ada@contoso.example?api-version=1.0":      "account_type=Managed",
		"common/UserRealm/ada@contoso.example?api-version=1.0":      "account_type=Managed", // as MSAL for Go asks
		"common/userrealm/ada%40contoso.example?api-version=1.0":    "account_type=Managed",
		"common/userrealm/ada@other.example?api-version=1.0":        "account_type=Unknown",
		"common/userrealm?user=ada@contoso.example&api-version=2.0": "NameSpaceType=Managed",
	} {
		name, value, _ := strings.Cut(want, "=")
		if status, b := l.do("GET", "https://"+ours+"/"+path, nil); status != 200 || b[name] != value || b["cloud_audience_urn"] == "" {
			t.Errorf("%s: %d %v", path, status, b)
		}
	}
}
