package keyvault_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/arm/armtest"
	"lazurite.dev/internal/providers/keyvault"
	"lazurite.dev/internal/store"
)

const apiv = "?api-version=2024-11-01"

// world is a management plane with the provider and what it asked to be done.
type world struct {
	*armtest.Plane
	cfg keyvault.Config

	mu        sync.Mutex // guards the rest
	destroyed []string
	rewrapped []string
	ahead     time.Duration
}

func start(t testing.TB) *world {
	w := &world{}
	note := func(list *[]string) func(context.Context, string) error {
		return func(_ context.Context, uid string) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			*list = append(*list, uid)
			return nil
		}
	}
	w.Plane = armtest.New(t, func(s store.Store) []arm.Provider {
		w.cfg = keyvault.Config{
			Store: s, Authorizer: &armtest.Policy{}, TenantID: armtest.Tenant,
			URI:     func(name string) string { return "https://" + name + ".vault.azure.net" },
			Destroy: note(&w.destroyed), Rewrap: note(&w.rewrapped), Rotate: note(&w.rewrapped),
			Now: func() time.Time {
				w.mu.Lock()
				defer w.mu.Unlock()
				return time.Now().Add(w.ahead)
			},
		}
		return []arm.Provider{keyvault.New(w.cfg)}
	}, nil)
	return w
}

func body(props string) string {
	if props != "" {
		props = "," + props
	}
	return `{"location":"westus2","properties":{"tenantId":"` + armtest.Tenant + `","sku":{"family":"A","name":"standard"}` + props + `}}`
}

func vaultPath(group, name string) string {
	return armtest.Base + "/resourceGroups/" + group + "/providers/Microsoft.KeyVault/vaults/" + name
}

const inSub = armtest.Base + "/providers/Microsoft.KeyVault"

func TestContract(t *testing.T) {
	armtest.Run(t, func(t *testing.T) *armtest.Plane { return start(t).Plane }, armtest.Case{
		Type: "Microsoft.KeyVault/vaults", Path: "{group}/providers/Microsoft.KeyVault/vaults/kv-{n}", Body: body(""),
		BadNames: []string{"ab", "1abc", "abc-", "a--b", "abcdefghijklmnopqrstuvwxy", "a_b"},
	})
}

func TestVault_CreateShowUpdate(t *testing.T) {
	w := start(t)
	w.Group("g")
	// As az keyvault create sends it.
	a := w.Want(201, "PUT", vaultPath("g", "MyVault")+"?api-version=2022-07-01", `{"location":"westus2","properties":{"tenantId":"`+armtest.Tenant+`","sku":{"family":"A","name":"standard"},"accessPolicies":[],"enableSoftDelete":true,"softDeleteRetentionInDays":90,"enableRbacAuthorization":true,"enablePurgeProtection":true,"networkAcls":{"bypass":"AzureServices","defaultAction":"Allow"}}}`)
	if got := a.Text("properties", "vaultUri"); got != "https://myvault.vault.azure.net/" {
		t.Errorf("vaultUri %q", got)
	}
	if a.Text("name") != "MyVault" || a.Text("properties", "provisioningState") != "Succeeded" || a.Text("properties", "publicNetworkAccess") != "Enabled" {
		t.Errorf("created %s", a.Raw)
	}
	w.WantError(400, "BadRequest", "PATCH", vaultPath("g", "myvault")+apiv, `{"properties":{"enablePurgeProtection":false}}`)
	w.WantError(400, "BadRequest", "PATCH", vaultPath("g", "myvault")+apiv, `{"properties":{"softDeleteRetentionInDays":7}}`)
	a = w.Want(200, "PATCH", vaultPath("g", "myvault")+apiv, `{"properties":{"publicNetworkAccess":"Disabled","networkAcls":{"defaultAction":"Deny","ipRules":[{"value":"1.2.3.4"}]}}}`)
	rules, _ := a.At("properties", "networkAcls", "ipRules").([]any)
	if len(rules) != 1 || rules[0].(map[string]any)["value"] != "1.2.3.4/32" {
		t.Errorf("rules %v", rules)
	}
}

func TestVault_Refusals(t *testing.T) {
	w := start(t)
	w.Group("g")
	for name, props := range map[string]string{
		"premium":          `"sku":{"family":"A","name":"premium"}`,
		"no soft delete":   `"enableSoftDelete":false`,
		"purge protection": `"enablePurgeProtection":false`,
		"short retention":  `"softDeleteRetentionInDays":6`,
		"other tenant":     `"tenantId":"33333333-3333-3333-3333-333333333333"`,
		"subnets":          `"networkAcls":{"virtualNetworkRules":[{"id":"/subscriptions/x"}]}`,
		"bypass":           `"networkAcls":{"bypass":"Everyone"}`,
		"default action":   `"networkAcls":{"defaultAction":"Maybe"}`,
		"rule":             `"networkAcls":{"ipRules":[{"value":"1.2.3.400"}]}`,
		"public access":    `"publicNetworkAccess":"SecuredByPerimeter"`,
		"create mode":      `"createMode":"clone"`,
		"policy tenant":    `"accessPolicies":[{"tenantId":"x","objectId":"o","permissions":{}}]`,
		"policy object":    `"accessPolicies":[{"tenantId":"` + armtest.Tenant + `","permissions":{}}]`,
		"policy word":      `"accessPolicies":[{"tenantId":"` + armtest.Tenant + `","objectId":"o","permissions":{"secrets":["read"]}}]`,
	} {
		a := w.Do("PUT", vaultPath("g", "v-refused")+apiv, body(props))
		if a.Status != 400 {
			t.Errorf("%s: %d %s", name, a.Status, a.Raw)
		}
	}
	w.Want(404, "GET", vaultPath("g", "v-refused")+apiv, "")
	if a := w.Want(200, "POST", inSub+"/checkNameAvailability"+apiv, `{"name":"v-refused","type":"Microsoft.KeyVault/vaults"}`); a.At("nameAvailable") != true {
		t.Errorf("a refused creation keeps the name: %s", a.Raw)
	}
}

func TestVault_NamesAreUnique(t *testing.T) {
	w := start(t)
	w.Group("g")
	w.Group("h")
	w.Want(201, "PUT", vaultPath("g", "Unique")+apiv, body(""))
	a := w.WantError(409, "VaultAlreadyExists", "PUT", vaultPath("h", "unique")+apiv, body(""))
	if !strings.HasPrefix(a.Text("error", "message"), "The vault name 'unique' is already in use. Vault names are globaly unique so it is possible that the name is already taken.") {
		t.Errorf("message %q", a.Text("error", "message"))
	}
	w.Want(200, "PUT", vaultPath("g", "unique")+apiv, body(""))
	for in, reason := range map[string]string{"UNIQUE": "AlreadyExists", "a--b": "AccountNameInvalid"} {
		a := w.Want(200, "POST", inSub+"/checkNameAvailability"+apiv, `{"name":"`+in+`","type":"Microsoft.KeyVault/vaults"}`)
		if a.At("nameAvailable") != false || a.Text("reason") != reason || !strings.Contains(a.Text("message"), "'"+in+"'") {
			t.Errorf("%s: %s", in, a.Raw)
		}
	}
	w.Want(400, "POST", inSub+"/checkNameAvailability"+apiv, `{"name":"x","type":"Microsoft.Other/things"}`)
}

func TestVault_ConcurrentCreationsOfOneName(t *testing.T) {
	w := start(t)
	w.Group("g")
	w.Group("h")
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for _, g := range []string{"g", "h"} {
		wg.Go(func() {
			if a := w.Do("PUT", vaultPath(g, "raced")+apiv, body("")); a.Status == 201 {
				mu.Lock()
				won++
				mu.Unlock()
			} else if a.Status != 409 {
				t.Errorf("%d %s", a.Status, a.Raw)
			}
		})
	}
	wg.Wait()
	if won != 1 {
		t.Errorf("%d creations won", won)
	}
}

func TestVault_DeleteRecoverPurge(t *testing.T) {
	w := start(t)
	w.Group("g")
	path := vaultPath("g", "gone")
	w.Want(201, "PUT", path+apiv, body(`"enableRbacAuthorization":true,"softDeleteRetentionInDays":30`))
	w.Want(200, "DELETE", path+apiv, "")
	w.Want(404, "GET", path+apiv, "")
	w.WantError(409, "ConflictError", "PUT", path+apiv, body(""))
	list := w.Want(200, "GET", inSub+"/deletedVaults"+apiv, "")
	if v, _ := list.At("value").([]any); len(v) != 1 {
		t.Fatalf("deleted vaults %s", list.Raw)
	}
	at := inSub + "/locations/westus2/deletedVaults/gone"
	a := w.Want(200, "GET", at+apiv, "")
	if !strings.EqualFold(a.Text("properties", "vaultId"), path) {
		t.Errorf("deleted vault %s", a.Raw)
	}
	w.WantError(404, "DeletedVaultNotFound", "GET", inSub+"/locations/eastus/deletedVaults/gone"+apiv, "")

	a = w.Want(201, "PUT", path+apiv, body(`"createMode":"recover"`))
	if a.At("properties", "enableRbacAuthorization") != true || a.At("properties", "createMode") != nil {
		t.Errorf("recovered %s", a.Raw)
	}
	w.WantError(404, "DeletedVaultNotFound", "GET", at+apiv, "")
	w.WantError(404, "DeletedVaultNotFound", "PUT", vaultPath("g", "never")+apiv, body(`"createMode":"recover"`))

	w.Want(200, "DELETE", path+apiv, "")
	w.Want(200, "POST", at+"/purge"+apiv, "")
	if len(w.destroyed) != 1 {
		t.Errorf("destroyed %v", w.destroyed)
	}
	w.WantError(404, "DeletedVaultNotFound", "POST", at+"/purge"+apiv, "")
	w.Want(201, "PUT", path+apiv, body(""))
}

func TestVault_PurgeProtectionAndRetention(t *testing.T) {
	w := start(t)
	w.Group("g")
	path := vaultPath("g", "kept")
	w.Want(201, "PUT", path+apiv, body(`"enablePurgeProtection":true,"softDeleteRetentionInDays":7`))
	w.Want(200, "DELETE", path+apiv, "")
	w.WantError(409, "DeletedVaultPurge", "POST", inSub+"/locations/westus2/deletedVaults/kept/purge"+apiv, "")
	w.mu.Lock()
	w.ahead = 8 * 24 * time.Hour
	w.mu.Unlock()
	if v, _ := w.Want(200, "GET", inSub+"/deletedVaults"+apiv, "").At("value").([]any); len(v) != 0 {
		t.Errorf("still listed after its retention: %v", v)
	}
	w.Want(201, "PUT", path+apiv, body(""))
	if len(w.destroyed) != 1 {
		t.Errorf("the old contents were not destroyed: %v", w.destroyed)
	}
}

func TestSweep_ErasesWhatIsDue(t *testing.T) {
	w := start(t)
	w.Group("g")
	for name, days := range map[string]string{"due": "7", "notdue": "90"} {
		w.Want(201, "PUT", vaultPath("g", name)+apiv, body(`"softDeleteRetentionInDays":`+days))
		w.Want(200, "DELETE", vaultPath("g", name)+apiv, "")
	}
	w.Want(201, "PUT", vaultPath("g", "alive")+apiv, body(""))
	w.mu.Lock()
	w.ahead = 8 * 24 * time.Hour
	w.mu.Unlock()
	if err := keyvault.Sweep(t.Context(), w.cfg); err != nil {
		t.Fatal(err)
	}
	if len(w.destroyed) != 1 {
		t.Errorf("destroyed %v", w.destroyed)
	}
	w.Want(200, "GET", inSub+"/locations/westus2/deletedVaults/notdue"+apiv, "")
	w.Want(200, "GET", vaultPath("g", "alive")+apiv, "")
}

func TestVault_GroupDeletionSoftDeletes(t *testing.T) {
	w := start(t)
	g := w.Group("g")
	w.Want(201, "PUT", vaultPath("g", "inside")+apiv, body(""))
	w.Settle(w.Do("DELETE", g+"?api-version="+armtest.Version, ""))
	w.Want(200, "GET", inSub+"/locations/westus2/deletedVaults/inside"+apiv, "")
}

func TestVault_AccessPolicies(t *testing.T) {
	w := start(t)
	w.Group("g")
	path := vaultPath("g", "policies")
	w.Want(201, "PUT", path+apiv, body(""))
	set := func(op, object, words string) *armtest.Answer {
		return w.Do("PUT", path+"/accessPolicies/"+op+apiv, `{"properties":{"accessPolicies":[{"tenantId":"`+armtest.Tenant+`","objectId":"`+object+`","permissions":{"secrets":[`+words+`]}}]}}`)
	}
	policies := func() []any {
		list, _ := w.Want(200, "GET", path+apiv, "").At("properties", "accessPolicies").([]any)
		return list
	}
	// The Authorizer of the provider refuses everybody but the owner of the plane.
	if a := set("add", "o1", `"get"`); a.Status != 200 {
		t.Fatalf("add: %d %s", a.Status, a.Raw)
	}
	set("add", "o1", `"list"`)
	set("add", "o2", `"get"`)
	if n := len(policies()); n != 2 {
		t.Fatalf("%d policies", n)
	}
	set("remove", "o1", `"get"`)
	set("replace", "o2", `"purge"`)
	for _, p := range policies() {
		words := p.(map[string]any)["permissions"].(map[string]any)["secrets"].([]any)
		want := map[string]string{"o1": "list", "o2": "purge"}[p.(map[string]any)["objectId"].(string)]
		if len(words) != 1 || words[0] != want {
			t.Errorf("policy %v", p)
		}
	}
	set("remove", "o1", `"list"`)
	if n := len(policies()); n != 1 {
		t.Errorf("%d policies after the last word went", n)
	}
	if a := set("sub", "o1", `"get"`); a.Status != 400 {
		t.Errorf("unknown operation: %d", a.Status)
	}
	if a := set("add", "o1", `"read"`); a.Status != 400 {
		t.Errorf("unknown word: %d", a.Status)
	}
	w.WantError(403, "AuthorizationFailed", "PUT", path+"/accessPolicies/add"+apiv, `{"properties":{"accessPolicies":[]}}`, "Authorization", "Bearer "+armtest.Nobody)
	w.Want(404, "PUT", vaultPath("g", "absent")+"/accessPolicies/add"+apiv, `{"properties":{"accessPolicies":[]}}`)
}

func TestVault_Rewrap(t *testing.T) {
	w := start(t)
	w.Group("g")
	path := vaultPath("g", "wrapped")
	w.Want(201, "PUT", path+apiv, body(""))
	w.Want(200, "POST", path+"/rewrap"+apiv, "")
	w.Want(200, "POST", path+"/rewrap"+apiv, `{"newDataKey":true}`)
	w.Want(400, "POST", path+"/rewrap"+apiv, `{"newDataKey":"x"}`)
	w.WantError(403, "AuthorizationFailed", "POST", path+"/rewrap"+apiv, "", "Authorization", "Bearer "+armtest.Nobody)
	if len(w.rewrapped) != 2 {
		t.Errorf("rewrapped %v", w.rewrapped)
	}
}

func FuzzVaultProperties(f *testing.F) {
	f.Add(body(`"networkAcls":{"ipRules":[{"value":"10.0.0.0/8"}]}`))
	f.Add(`{"properties":{"sku":null,"accessPolicies":[null]}}`)
	w := start(f)
	w.Group("g")
	n := 0
	f.Fuzz(func(t *testing.T, b string) {
		n++ // a vault that was made is changed by the next two inputs
		for _, method := range []string{"PUT", "PATCH"} {
			u := "https://management.azure.com" + vaultPath("g", fmt.Sprintf("fuzzed%d", n/3)) + apiv
			r := httptest.NewRequestWithContext(t.Context(), method, u, strings.NewReader(b))
			r.Header.Set("Authorization", "Bearer "+armtest.Owner)
			rec := httptest.NewRecorder()
			w.Handler.ServeHTTP(rec, r)
			if rec.Code >= 500 {
				t.Errorf("%s: %d %s", method, rec.Code, rec.Body)
			}
		}
	})
}
