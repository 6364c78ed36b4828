// Package openai_test runs OpenAI's and Microsoft's clients against laz,
// unmodified, and the store in a browser. Behind the gateway is a server on
// OpenAI's API that says what it is asked; the store's model is the built-in one.
package openai_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"lazurite.dev/e2e/live"
)

var cloud live.Cloud

const (
	group   = "ai"
	cluster = "myAKSCluster"
	user    = "default/ai-service-account" // its identity may call
	other   = "default/other-account"      // its identity manages the account
	late    = "default/late-account"       // its identity has no role
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if live.Inside() {
		return live.Main(m, &cloud, nil)
	}
	server := httptest.NewServer((&fake{}).handler())
	defer server.Close()
	dir, err := os.MkdirTemp("", "laz-models-")
	if err == nil {
		defer func() { _ = os.RemoveAll(dir) }()
		err = os.WriteFile(filepath.Join(dir, "laz.yaml"), fmt.Appendf(nil, `models:
- name: parrot
  version: ["1", "2"]
  capabilities: {chat: true, tools: true}
  backends: [{url: %[1]q}]
- name: vectors
  capabilities: {embeddings: true}
  backends: [{url: %[1]q}]
`, server.URL), 0o600)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	options := live.Options{Up: append([]string{"--config", filepath.Join(dir, "laz.yaml")}, live.IssuersOnly.Up...)}
	return live.MainWith(m, &cloud, options, func(c *live.Cloud) error {
		c.Vars["FAKE"] = server.URL
		return world(c)
	})
}

// world is what docs/openai.md types, with more deployments, and a second account.
func world(c *live.Cloud) error {
	v := c.Vars
	v["AOAI_NAME"] = fmt.Sprintf("store%08x", rand.Uint32())
	v["OTHER_NAME"] = fmt.Sprintf("other%08x", rand.Uint32())
	w := steps{c: c}
	w.do("SUBSCRIPTION", "account", "show", "--query", "id")
	w.do("TENANT", "account", "show", "--query", "tenantId")
	w.do("", "group", "create", "--name", group, "--location", "eastus")
	w.do("ISSUER", "aks", "create", "--resource-group", group, "--name", cluster, "--enable-oidc-issuer", "--enable-workload-identity",
		"--generate-ssh-keys", "--query", "oidcIssuerProfile.issuerUrl")
	for _, name := range []string{"AOAI", "OTHER"} {
		w.do(name+"_ID", "cognitiveservices", "account", "create", "--resource-group", group, "--name", v[name+"_NAME"], "--location", "eastus",
			"--kind", "OpenAI", "--sku", "s0", "--custom-domain", v[name+"_NAME"], "--query", "id")
		w.do(name+"_ENDPOINT", "cognitiveservices", "account", "show", "--resource-group", group, "--name", v[name+"_NAME"], "--query", "properties.endpoint")
		w.do(name+"_KEY", "cognitiveservices", "account", "keys", "list", "--resource-group", group, "--name", v[name+"_NAME"], "--query", "key1")
		w.deploy(v[name+"_NAME"], "chat", "parrot", "1", 1000)
	}
	w.deploy(v["AOAI_NAME"], "vectors", "vectors", "1", 100)
	w.deploy(v["AOAI_NAME"], "tight", "parrot", "2", 1)
	w.deploy(v["AOAI_NAME"], "description", "tiny-writer", "1", 100)
	for account, name := range map[string]string{user: "aiIdentity", other: "manager", late: "late"} {
		w.do(name, "identity", "create", "--name", name, "--resource-group", group, "--query", "principalId")
		w.do("", "identity", "federated-credential", "create", "--name", "fed", "--identity-name", name, "--resource-group", group,
			"--issuer", v["ISSUER"], "--subject", "system:serviceaccount:"+subject(account))
	}
	w.role("aiIdentity", "Cognitive Services OpenAI User", v["AOAI_ID"])
	w.role("manager", "Cognitive Services Contributor", v["AOAI_ID"])
	return w.err
}

func subject(account string) string { return strings.Replace(account, "/", ":", 1) }

// steps are commands of which the first that fails ends all.
type steps struct {
	c   *live.Cloud
	err error
}

// do runs a command; its answer goes into a variable.
func (s *steps) do(into string, args ...string) {
	if s.err != nil {
		return
	}
	out, err := s.c.TSV(args...)
	if s.err = err; into != "" {
		s.c.Vars[into] = out
	}
}

func (s *steps) deploy(account, name, model, version string, capacity int) {
	s.do("", "cognitiveservices", "account", "deployment", "create", "--resource-group", group, "--name", account, "--deployment-name", name,
		"--model-name", model, "--model-version", version, "--model-format", "OpenAI", "--sku-name", "Standard", "--sku-capacity", fmt.Sprint(capacity))
}

func (s *steps) role(identity, role, scope string) {
	s.do("", "role", "assignment", "create", "--assignee-object-id", s.c.Vars[identity], "--assignee-principal-type", "ServicePrincipal", "--role", role, "--scope", scope)
}

// must is v, or the end of the test.
func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// az runs a command as the owner, whichever identity the test has.
func az(t *testing.T, args ...string) string {
	t.Helper()
	return must(cloud.TSV(args...))(t)
}

// as runs the test under laz run as a service account, and says whether this is that run.
func as(t *testing.T, account string) bool {
	t.Helper()
	return cloud.Under(t, "--as", account, "--cluster", cluster)
}

func credential(t *testing.T) azcore.TokenCredential {
	t.Helper()
	return must(azidentity.NewDefaultAzureCredential(nil))(t)
}

// body is v as JSON, for `az rest`.
func body(t *testing.T, v any) string {
	t.Helper()
	return string(must(json.Marshal(v))(t))
}
