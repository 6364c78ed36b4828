package cli_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lazurite.dev/internal/cli"
)

// A profile that was signed in as a managed identity must not make a later
// command ask the address itself while a server runs here.
func TestManagedIdentity_AsksTheLocalCloudAndNobodyElse(t *testing.T) {
	var asked []string
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Method+" "+r.URL.Scheme+"://"+r.URL.Host+r.URL.Path+" "+r.Header.Get("Metadata")+" "+r.Header.Get("Proxy-Authorization"))
		_ = json.NewEncoder(w).Encode(map[string]string{"access_token": "a.b.c", "expires_on": "4102444800", "token_type": "Bearer"})
	}))
	defer proxy.Close()
	home := t.TempDir()
	write := func(path, text string) {
		t.Helper()
		path = filepath.Join(home, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("run/endpoint.json", `{"proxy":"`+proxy.URL+`"}`)
	write("azure/azureProfile.json", `{"subscriptions":[{"id":"s","name":"s","state":"Enabled","isDefault":true,"tenantId":"t","environmentName":"AzureCloud",
		"user":{"name":"systemAssignedIdentity","type":"servicePrincipal","assignedIdentityInfo":"MSI"}}]}`)
	for name, env := range map[string]map[string]string{
		"plain":        {},
		"another":      {"HTTP_PROXY": "http://proxy.invalid:3128"},
		"of a run":     {"HTTP_PROXY": strings.Replace(proxy.URL, "http://", "http://laz:s3cret@", 1)},
		"no proxy for": {"NO_PROXY": "169.254.169.254,127.0.0.1"},
	} {
		asked = nil
		env["LAZ_HOME"], env["HOME"] = home, home
		var out, errs bytes.Buffer
		code := cli.Main(t.Context(), []string{"account", "get-access-token", "--resource", "https://" + strings.ReplaceAll(name, " ", "-") + ".example"}, cli.Env{
			Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs, Getenv: func(k string) string { return env[k] },
		})
		want := "GET http://169.254.169.254/metadata/identity/oauth2/token true "
		if name == "of a run" {
			want += "Basic bGF6OnMzY3JldA=="
		}
		if code != 0 || len(asked) != 1 || asked[0] != want {
			t.Errorf("%s: exit %d, the proxy was asked %q, want %q\n%s%s", name, code, asked, want, out.String(), errs.String())
		}
	}
}
