package containerregistry_test

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/arm/armtest"
	"lazurite.dev/internal/providers/containerregistry"
	"lazurite.dev/internal/seal"
	"lazurite.dev/internal/store"
)

const apiv = "?api-version=2023-07-01"

type world struct {
	*armtest.Plane
	refuse bool
	erased []string
}

func start(t testing.TB) *world {
	w := &world{}
	dir := t.TempDir()
	w.Plane = armtest.New(t, func(s store.Store) []arm.Provider {
		root, err := seal.OpenFileRoot(filepath.Join(dir, "root.key"))
		if err != nil {
			t.Fatal(err)
		}
		return []arm.Provider{containerregistry.New(containerregistry.Config{
			Store: s, Sealer: seal.NewKeyring(s, root), Server: func(name string) string { return name + ".azurecr.io" },
			Refuse: func() error {
				if w.refuse {
					return apierr.New(apierr.Conflict, "RegistriesNotConfigured", "no folder")
				}
				return nil
			},
			Erase: func(_ context.Context, uid string) error {
				w.erased = append(w.erased, uid)
				return nil
			},
			Used: func(context.Context, string) (int64, error) { return 7, nil },
		})}
	}, nil)
	return w
}

func path(group, name string) string {
	return armtest.Base + "/resourceGroups/" + group + "/providers/Microsoft.ContainerRegistry/registries/" + name
}

func body(sku, props string) string {
	return `{"location":"eastus","sku":{"name":"` + sku + `"},"properties":{` + props + `}}`
}

func TestContract(t *testing.T) {
	armtest.Run(t, func(t *testing.T) *armtest.Plane { return start(t).Plane }, armtest.Case{
		Type: "Microsoft.ContainerRegistry/registries", Path: "{group}/providers/Microsoft.ContainerRegistry/registries/registry{n}", Body: body("Basic", ""),
		BadNames: []string{"abcd", "with-dash", "a~bcde"},
	})
}

func TestRegistry_CreateShowUpdateDelete(t *testing.T) {
	w := start(t)
	w.Group("g")
	r := w.Want(201, "PUT", path("g", "MyRegistry")+apiv, body("premium", ""))
	if r.Text("properties", "loginServer") != "myregistry.azurecr.io" || r.Text("sku", "name") != "Premium" || r.Text("sku", "tier") != "Premium" ||
		r.At("properties", "adminUserEnabled") != false || r.Text("properties", "publicNetworkAccess") != "Enabled" {
		t.Errorf("created %s", r.Raw)
	}
	if d, err := w.Store.Get(t.Context(), "registry/names/myregistry"); err != nil || d.Kind != "registry.record" || !strings.Contains(string(d.Value), `"location":"eastus","properties":{`) {
		t.Errorf("the record is not as it always was: %v, of kind %s: %s", err, d.Kind, d.Value)
	}
	w.WantError(409, "AlreadyInUse", "PUT", path(w.group("other"), "myregistry")+apiv, body("Basic", ""))
	r = w.Want(200, "PATCH", path("g", "myregistry")+apiv, `{"properties":{"adminUserEnabled":true,"networkRuleSet":{"defaultAction":"Deny","ipRules":[{"value":"192.0.2.1"}]}}}`)
	if r.At("properties", "adminUserEnabled") != true || r.Text("properties", "networkRuleSet", "defaultAction") != "Deny" || r.Text("sku", "name") != "Premium" {
		t.Errorf("updated %s", r.Raw)
	}
	check := armtest.Base + "/providers/Microsoft.ContainerRegistry/checkNameAvailability" + apiv
	for name, reason := range map[string]string{"myregistry": "AlreadyExists", "ab": "Invalid", "newname": ""} {
		a := w.Want(200, "POST", check, `{"name":"`+name+`","type":"Microsoft.ContainerRegistry/registries"}`)
		if a.At("nameAvailable") != (reason == "") || reason != "" && a.Text("reason") != reason {
			t.Errorf("%s: %s", name, a.Raw)
		}
	}
	if got := w.Want(200, "GET", path("g", "myregistry")+"/privateEndpointConnections"+apiv, "").At("value"); len(got.([]any)) != 0 {
		t.Errorf("connections %v", got)
	}
	if got := w.Want(200, "GET", path("g", "myregistry")+"/listUsages"+apiv, "").At("value").([]any)[0].(map[string]any)["currentValue"]; got != 7.0 {
		t.Errorf("used %v", got)
	}
	w.Want(204, "DELETE", path("g", "myregistry")+apiv, "")
	if len(w.erased) != 1 {
		t.Errorf("erased %v", w.erased)
	}
	w.Want(201, "PUT", path("other", "myregistry")+apiv, body("Basic", ""))
}

func (w *world) group(name string) string {
	w.Group(name)
	return name
}

func TestRegistry_Credentials(t *testing.T) {
	w := start(t)
	w.Group("g")
	p := path("g", "registry1")
	w.Want(201, "PUT", p+apiv, body("Basic", ""))
	w.WantError(400, "UnAuthorizedForCredentialOperations", "POST", p+"/listCredentials"+apiv, "")
	w.WantError(400, "UnAuthorizedForCredentialOperations", "POST", p+"/regenerateCredential"+apiv, `{"name":"password"}`)
	w.Want(200, "PATCH", p+apiv, `{"properties":{"adminUserEnabled":true}}`)
	passwords := func(a *armtest.Answer) (one, two string) {
		l := a.At("passwords").([]any)
		return l[0].(map[string]any)["value"].(string), l[1].(map[string]any)["value"].(string)
	}
	one, two := passwords(w.Want(200, "POST", p+"/listCredentials"+apiv, ""))
	a, b := passwords(w.Want(200, "POST", p+"/regenerateCredential"+apiv, `{"name":"password2"}`))
	if a != one || b == two || len(one) < 40 || one == two {
		t.Error("the wrong password was replaced, or they are weak")
	}
	w.WantError(400, "InvalidRequest", "POST", p+"/regenerateCredential"+apiv, `{"name":"password3"}`)
}

func TestRegistry_Refusals(t *testing.T) {
	w := start(t)
	w.Group("g")
	for name, b := range map[string]string{
		"sku":         `{"location":"eastus","sku":{"name":"Classic"}}`,
		"no sku":      `{"location":"eastus"}`,
		"access":      body("Premium", `"publicNetworkAccess":"Maybe"`),
		"basic net":   body("Basic", `"publicNetworkAccess":"Disabled"`),
		"basic rules": body("Standard", `"networkRuleSet":{"defaultAction":"Deny"}`),
		"vnet":        body("Premium", `"networkRuleSet":{"defaultAction":"Deny","virtualNetworkRules":[{"id":"x"}]}`),
		"ip":          body("Premium", `"networkRuleSet":{"defaultAction":"Deny","ipRules":[{"value":"nowhere"}]}`),
		"deny rule":   body("Premium", `"networkRuleSet":{"defaultAction":"Deny","ipRules":[{"action":"Deny","value":"192.0.2.1"}]}`),
		"encryption":  body("Premium", `"encryption":{"status":"enabled"}`),
		"anonymous":   body("Standard", `"anonymousPullEnabled":true`),
		"trust":       body("Premium", `"policies":{"trustPolicy":{"status":"enabled"}}`),
		"quarantine":  body("Premium", `"policies":{"quarantinePolicy":{"status":"enabled"}}`),
		"retention":   body("Premium", `"policies":{"retentionPolicy":{"status":"enabled","days":3}}`),
		"export":      body("Premium", `"policies":{"exportPolicy":{"status":"disabled"}}`),
		"soft delete": body("Premium", `"policies":{"softDeletePolicy":{"status":"enabled"}}`),
		"zones":       body("Premium", `"zoneRedundancy":"Enabled"`),
		"abac":        body("Premium", `"roleAssignmentMode":"AbacRepositoryPermissions"`),
	} {
		t.Run(name, func(t *testing.T) { w.WantError(400, "InvalidRequest", "PUT", path("g", "registry1")+apiv, b) })
	}
	w.refuse = true
	w.WantError(409, "RegistriesNotConfigured", "PUT", path("g", "registry1")+apiv, body("Basic", ""))
}
