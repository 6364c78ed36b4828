package server

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/arm/armtest"
	"lazurite.dev/internal/arm/privatelink"
	"lazurite.dev/internal/gate"
	"lazurite.dev/internal/providers/containerregistry"
	"lazurite.dev/internal/providers/containerregistry/distribution"
	"lazurite.dev/internal/providers/machinelearningservices"
	"lazurite.dev/internal/rbac"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/seal"
	"lazurite.dev/internal/store"
)

const (
	pullRegistry  = armtest.Base + "/resourceGroups/g/providers/Microsoft.ContainerRegistry/registries/Serving"
	pullWorkspace = armtest.Base + "/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/work"
)

// pulling is a plane of registries and the workspaces that pull from them.
type pulling struct {
	*armtest.Plane
	images registryImages
	links  *privatelink.Links
}

// Check lets the reader alone pull, and everybody else approve.
func (*pulling) Check(_ context.Context, oid, action string, _ bool, _ rid.ID) (rbac.Decision, error) {
	return rbac.Decision{Allowed: (oid == "reader") == strings.HasSuffix(action, "pull/read")}, nil
}

// Available implements machinelearningservices.Machine.
func (*pulling) Available(context.Context) error { return nil }

// Network implements machinelearningservices.Machine.
func (*pulling) Network(context.Context, *machinelearningservices.Workspace) error { return nil }

// RemoveNetwork implements machinelearningservices.Machine.
func (*pulling) RemoveNetwork(context.Context, string) error { return nil }

// EnsureContainer implements machinelearningservices.Storage.
func (*pulling) EnsureContainer(context.Context, rid.ID, string) error { return nil }

// Key implements machinelearningservices.Storage.
func (*pulling) Key(context.Context, rid.ID) (string, error) { return "key", nil }

func newPulling(t *testing.T) *pulling {
	p, dir := &pulling{}, t.TempDir()
	host := func(name string) string { return name + ".azurecr.io" }
	p.Plane = armtest.New(t, func(s store.Store) []arm.Provider {
		root, err := seal.OpenFileRoot(filepath.Join(dir, "root.key"))
		if err != nil {
			t.Fatal(err)
		}
		ring := seal.NewKeyring(s, root)
		registries, err := containerregistry.Open(t.Context(), s, ring)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(registries.Close)
		if p.links, err = privatelink.Open(t.Context(), s, containerregistry.PrivateLink(host)); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.links.Close)
		workspaces, err := machinelearningservices.Open(t.Context(), s, p.links)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(workspaces.Close)
		p.images.plane = distribution.New(distribution.Config{
			Gate: gate.Config{Authorizer: p}, Registries: registries, Store: s, Links: p.links, Dir: filepath.Join(dir, "registries"), Suffixes: []string{".azurecr.io"},
		})
		p.images.learning = machinelearningservices.Config{
			Workspaces: workspaces, Authorizer: p, TenantID: armtest.Tenant, Machine: p, Storage: p,
			Assign: func(context.Context, rid.ID, string, string) error { return nil }, API: func(region string) string { return region },
		}
		return []arm.Provider{
			containerregistry.New(containerregistry.Config{Store: s, Sealer: ring, Links: p.links, Server: host, Erase: p.images.plane.Erase, Used: p.images.plane.Used}),
			machinelearningservices.New(p.images.learning, func(label string) string { return label }),
		}
	}, nil)
	group := p.Group("g") + "/providers/"
	of := map[string]string{}
	for name, typ := range map[string]string{"storageAccount": "Microsoft.Storage/storageAccounts", "keyVault": "Microsoft.KeyVault/vaults", "applicationInsights": "Microsoft.Insights/components"} {
		of[name] = group + typ + "/own1"
		if err := (arm.Resources{Store: p.Store}).Put(t.Context(), &arm.Envelope{ID: of[name], Name: "own1", Type: typ, Location: "eastus", Properties: map[string]any{}}); err != nil {
			t.Fatal(err)
		}
	}
	p.registry(t, true)
	p.Want(200, "PUT", pullWorkspace+mlAPI, fmt.Sprintf(`{"location":"eastus","properties":{"storageAccount":%q,"keyVault":%q,"applicationInsights":%q,
		"managedNetwork":{"isolationMode":"AllowOnlyApprovedOutbound"}}}`, of["storageAccount"], of["keyVault"], of["applicationInsights"]))
	return p
}

const mlAPI = "?api-version=2024-04-01"

// registry makes the registry, or changes it.
func (p *pulling) registry(t *testing.T, public bool) {
	t.Helper()
	access := "Disabled"
	if public {
		access = "Enabled"
	}
	a := p.Do("PUT", pullRegistry+"?api-version=2023-07-01", `{"location":"eastus","sku":{"name":"Premium"},"properties":{"adminUserEnabled":true,"publicNetworkAccess":"`+access+`"}}`)
	if a.Status/100 != 2 {
		t.Fatalf("the registry: %d %s", a.Status, a.Raw)
	}
}

// push puts an image for this machine into the registry and gives its digest.
func (p *pulling) push(t *testing.T, tag string) string {
	t.Helper()
	got := p.Want(200, "POST", pullRegistry+"/listCredentials?api-version=2023-07-01", "")
	passwords, _ := got.At("passwords").([]any)
	if len(passwords) == 0 {
		t.Fatalf("no password: %s", got.Raw)
	}
	first, _ := passwords[0].(map[string]any)
	password, _ := first["value"].(string)
	send := func(method, path, media, content string) string {
		t.Helper()
		r := httptest.NewRequestWithContext(t.Context(), method, "https://serving.azurecr.io"+path, strings.NewReader(content))
		r.Header.Set("Content-Type", media)
		r.SetBasicAuth(got.Text("username"), password)
		w := httptest.NewRecorder()
		if p.images.plane.ServeHTTP(w, r); w.Code != http.StatusCreated {
			t.Fatalf("%s %s: %d %s", method, path, w.Code, w.Body)
		}
		return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(content)))
	}
	config, layer := fmt.Sprintf(`{"os":"linux","architecture":%q}`, runtime.GOARCH), "a layer"
	descriptor := func(media, content string) string {
		d := fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(content)))
		send("POST", "/v2/team/serve/blobs/uploads/?digest="+d, "application/octet-stream", content)
		return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, media, d, len(content))
	}
	const manifest = "application/vnd.oci.image.manifest.v1+json"
	return send("PUT", "/v2/team/serve/manifests/"+tag, manifest, fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":%s,"layers":[%s]}`, manifest,
		descriptor("application/vnd.oci.image.config.v1+json", config), descriptor("application/vnd.oci.image.layer.v1.tar", layer)))
}

// TestRegistryImages: a reference leads to its registry by what the workspace
// lets out to the host, to the surface or by a private endpoint to the group, and
// the image comes as it was pushed.
func TestRegistryImages(t *testing.T) {
	p := newPulling(t)
	digest := p.push(t, "v1")
	pull := func(what, reference, refused string) {
		t.Helper()
		got, err := p.images.Image(t.Context(), "reader", rid.MustParse(pullWorkspace), reference)
		if refused != "" {
			if got != nil || !apierr.Is(err, apierr.Forbidden) || !strings.Contains(err.Error(), refused) {
				t.Errorf("%s: got %+v, %v, want %q", what, got, err, refused)
			}
			return
		}
		if err != nil {
			t.Errorf("%s: %v", what, err)
			return
		}
		layers, err := got.Image.Layers()
		if err != nil || len(layers) != 1 || !strings.HasSuffix(got.Name, "/team/serve@"+digest) || got.Bytes == 0 {
			t.Fatalf("%s: got %+v, %v", what, got, err)
		}
		r, err := layers[0].Compressed()
		if err != nil {
			t.Fatal(err)
		}
		if raw, err := io.ReadAll(r); err != nil || string(raw) != "a layer" {
			t.Errorf("%s: got %q, %v", what, raw, err)
		}
		if err := got.Close(); err != nil {
			t.Error(err)
		}
		if raw, err := io.ReadAll(r); err == nil && len(raw) > 0 {
			t.Errorf("%s: closed, it gives %q", what, raw)
		}
	}
	const reference = "SERVING.azurecr.io:8443/team/serve:v1"
	rule := pullWorkspace + "/outboundRules/rule" + mlAPI
	pull("without a rule", reference, "--rule allow-serving --type fqdn --destination serving.azurecr.io")
	for what, is := range map[string]string{"by its host": `"type":"FQDN","destination":"serving.azurecr.io"`, "by its surface": `"type":"ServiceTag","destination":{"serviceTag":"AzureContainerRegistry","protocol":"TCP","portRanges":"443"}`} {
		p.Want(200, "PUT", rule, `{"properties":{`+is+`}}`)
		pull(what, reference, "")
		p.Do("DELETE", rule, "")
	}
	p.registry(t, false)
	pull("a private registry", reference, "--type private_endpoint")
	p.Want(200, "PUT", rule, `{"properties":{"type":"PrivateEndpoint","destination":{"serviceResourceId":"`+pullRegistry+`","subresourceTarget":"registry"}}}`)
	pull("by a private endpoint", reference, "")
	if got, err := p.images.Image(t.Context(), "somebody", rid.MustParse(pullWorkspace), reference); got != nil || err == nil || !strings.Contains(err.Error(), "--assignee-object-id somebody") {
		t.Errorf("without a role: %v, %v", got, err)
	}
	if got, err := p.images.Image(t.Context(), "reader", rid.MustParse(pullWorkspace), "mcr.microsoft.com/team/serve:v1"); got != nil || err != nil {
		t.Errorf("of no registry of this cloud: %v, %v", got, err)
	}
}
