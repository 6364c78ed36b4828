package kube_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lazurite.dev/e2e/live"
)

// TestStoreInTheDemosManifests runs examples/store in manifests of the shape of
// aks-store-demo's, whose limits, probes and variables are another service's: at
// first its model is asked with a key, then with an identity, then that has no
// role any more.
func TestStoreInTheDemosManifests(t *testing.T) {
	k := shared(t)
	for _, service := range []string{"ai-service", "product-service", "store-admin"} {
		archive := filepath.Join(images, service+".tar")
		live.Need(t, there(archive), "the store's images (make images)")
		k.az(t, "image", "load", archive)
	}
	ns := k.space(t, "c1", "pets")
	k.kubectl(t, "c1", "label", "namespace", ns, "lazurite.dev/ca-bundle=enabled") // a pod with a key has no identity, whose label would say it
	s := k.storeWorld(t, ns)

	s.apply(t, "store.yaml")
	for _, d := range []string{"order-service", "product-service", "store-admin", "ai-service"} {
		s.rolledOut(t, d)
	}
	waited := k.kubectl(t, "c1", "-n", ns, "get", "pods", "--selector", "app=order-service", "-o", "jsonpath={.items[0].status.initContainerStatuses[0].state.terminated.reason}")
	if waited != "Completed" {
		t.Errorf("the container that waits for the queue: %q", waited)
	}
	s.page(t)
	s.describes(t, "with a key")

	s.apply(t, "ai-service.yaml")
	s.rolledOut(t, "ai-service")
	until(t, time.Minute, "no pod with a key is left", func() (string, error) {
		return k.tryKubectl("c1", "", "-n", ns, "get", "pods", "--selector", "app=ai-service", "-o", "jsonpath={.items[*].spec.containers[*].env[*].name}")
	}, func(names string) bool {
		return strings.Contains(names, "AZURE_FEDERATED_TOKEN_FILE") && !strings.Contains(names, "API_KEY")
	})
	if log := k.kubectl(t, "c1", "-n", ns, "logs", "--selector", "app=ai-service", "--tail=-1"); !strings.Contains(log, ":5001") {
		t.Errorf("its log does not say that it listens on port 5001:\n%s", log)
	}
	s.describes(t, "with an identity")

	k.az(t, "role", "assignment", "delete", "--assignee", s.vars["PRINCIPAL"], "--role", "Cognitive Services OpenAI User", "--scope", s.vars["ACCOUNT"])
	if status, body, err := s.describe(); err != nil || status != http.StatusInternalServerError || !strings.Contains(body, "PermissionDenied") {
		t.Errorf("without the role: %d %s %v", status, body, err)
	}
	s.unharmed(t)
}

// demoStore is a store in a namespace of the shared cluster.
type demoStore struct {
	k    *kube
	ns   string
	vars map[string]string // what manifests name
	at   string            // the page's URL
}

// storeWorld is a deployment of a model, and an identity that may call it and
// trusts the namespace's ai-service-account.
func (k *kube) storeWorld(t *testing.T, ns string) *demoStore {
	t.Helper()
	name := fmt.Sprintf("pets%d", time.Now().UnixNano()%1e6)
	tsv := func(args ...string) string { t.Helper(); return k.az(t, append(args, "-o", "tsv")...) }
	s := &demoStore{k: k, ns: ns, vars: map[string]string{"TOYBOX": Toybox, "DEPLOYMENT": "description"}}
	s.vars["ACCOUNT"] = tsv("cognitiveservices", "account", "create", "-g", group, "-n", name, "-l", "eastus", "--kind", "OpenAI", "--sku", "S0", "--custom-domain", name, "--query", "id")
	s.vars["ENDPOINT"] = tsv("cognitiveservices", "account", "show", "-g", group, "-n", name, "--query", "properties.endpoint")
	s.vars["KEY"] = tsv("cognitiveservices", "account", "keys", "list", "-g", group, "-n", name, "--query", "key1")
	tsv("cognitiveservices", "account", "deployment", "create", "-g", group, "-n", name, "--deployment-name", s.vars["DEPLOYMENT"],
		"--model-name", "gpt-4o-mini", "--model-version", "2024-07-18", "--model-format", "OpenAI", "--sku-name", "Standard", "--sku-capacity", "10")
	s.vars["CLIENT_ID"] = tsv("identity", "create", "-g", group, "-n", name, "-l", "eastus", "--query", "clientId")
	s.vars["PRINCIPAL"] = tsv("identity", "show", "-g", group, "-n", name, "--query", "principalId")
	issuer := tsv("aks", "show", "-g", group, "-n", "c1", "--query", "oidcIssuerProfile.issuerUrl")
	tsv("identity", "federated-credential", "create", "-g", group, "--identity-name", name, "-n", "fed", "--issuer", issuer, "--subject", "system:serviceaccount:"+ns+":ai-service-account")
	tsv("role", "assignment", "create", "--assignee-object-id", s.vars["PRINCIPAL"], "--assignee-principal-type", "ServicePrincipal",
		"--role", "Cognitive Services OpenAI User", "--scope", s.vars["ACCOUNT"])
	return s
}

// apply applies a manifest of testdata, filled in.
func (s *demoStore) apply(t *testing.T, file string) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	manifest := os.Expand(string(raw), func(name string) string {
		if s.vars[name] == "" {
			t.Fatalf("%s wants %s", file, name)
		}
		return s.vars[name]
	})
	if _, err := s.k.tryKubectl("c1", manifest, "-n", s.ns, "apply", "-f", "-"); err != nil {
		t.Fatal(err)
	}
}

// rolledOut waits until all of a deployment's pods are of its newest template,
// and ready.
func (s *demoStore) rolledOut(t *testing.T, deployment string) {
	t.Helper()
	until(t, 3*time.Minute, deployment+" is rolled out", func() (string, error) {
		return s.k.tryKubectl("c1", "", "-n", s.ns, "rollout", "status", "deployment/"+deployment, "--timeout=10s")
	}, func(out string) bool { return strings.Contains(out, "successfully rolled out") })
}

// page waits for the address of the page and opens it.
func (s *demoStore) page(t *testing.T) {
	t.Helper()
	s.at = "http://" + until(t, time.Minute, "store-admin has an address", func() (string, error) {
		return s.k.tryKubectl("c1", "", "-n", s.ns, "get", "service", "store-admin", "-o", "jsonpath={.status.loadBalancer.ingress[0].ip}")
	}, func(ip string) bool { return ip != "" })
	for path, want := range map[string]string{"/": "<html", "/health": `"ok"`, "/api/products": `"price"`, "/api/ai/health": `"description"`} {
		until(t, time.Minute, s.at+path+" says "+want, func() (string, error) { return hostGets(s.at + path) }, func(body string) bool { return strings.Contains(body, want) })
	}
}

// describe asks for a description as the page does.
func (s *demoStore) describe() (int, string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.at+"/api/ai/generate/description", strings.NewReader(`{"name":"Salty Sailor rope","tags":["dog","toy"]}`))
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return res.StatusCode, string(body), err
}

// describes waits for a description of the product that has its name and tags.
func (s *demoStore) describes(t *testing.T, how string) {
	t.Helper()
	until(t, time.Minute, "a description, "+how, func() (string, error) {
		status, body, err := s.describe()
		var text struct{ Description string }
		if err == nil && status == http.StatusOK {
			err = json.Unmarshal([]byte(body), &text)
		} else if err == nil {
			err = fmt.Errorf("%d %s", status, body)
		}
		return strings.ToLower(text.Description), err
	}, func(text string) bool {
		return strings.Contains(text, "rope") && strings.Contains(text, "dog") && strings.Contains(text, "toy")
	})
}

// unharmed says which pod was started again: its limits or probes are too tight
// for it.
func (s *demoStore) unharmed(t *testing.T) {
	t.Helper()
	out := s.k.kubectl(t, "c1", "-n", s.ns, "get", "pods", "-o",
		`jsonpath={range .items[*]}{.metadata.name} {.status.containerStatuses[*].restartCount} {.status.containerStatuses[*].lastState}{"\n"}{end}`)
	for line := range strings.Lines(out) {
		pod, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		if restarts, why, _ := strings.Cut(rest, " "); pod != "" && restarts != "0" {
			t.Errorf("%s was started again %s times: %s", pod, restarts, why)
		}
	}
}
