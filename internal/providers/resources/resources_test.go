package resources_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/arm/armtest"
	"lazurite.dev/internal/providers/resources"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
)

type things struct {
	Size int `json:"size,omitempty"`
}

// start runs the provider beside one with a type of things.
func start(t *testing.T) *armtest.Plane {
	t.Helper()
	var st store.Store
	return armtest.New(t, func(s store.Store) []arm.Provider {
		st = s
		shop := arm.Provider{Namespace: "Contoso.Shop", Routes: []arm.Route{
			arm.Serve("Contoso.Shop", arm.Kind[things]{Type: "things", APIVersions: []string{"2024-02-01-preview", "2024-01-01"}, Tracked: true}),
			arm.Serve("Contoso.Shop", arm.Kind[things]{Type: "things/parts", APIVersions: []string{"2024-01-01"}}),
		}}
		return []arm.Provider{shop, resources.New(resources.Config{
			Store: s, TenantID: armtest.Tenant, TenantName: "Contoso", Providers: []arm.Provider{shop},
			Sees: func(_ context.Context, oid string, _ rid.ID) (bool, error) { return oid != armtest.Nobody, nil },
		})}
	}, func(c *arm.Config) {
		c.Registered = func(ctx context.Context, sub, ns string) (bool, error) { return resources.Registered(ctx, st, sub, ns) }
	})
}

func TestContract(t *testing.T) {
	armtest.Run(t, start,
		armtest.Case{
			Type: "Microsoft.Resources/resourceGroups", Path: "{sub}/resourceGroups/g{n}", Body: `{"location":"westus2"}`,
			BadNames: []string{"a.", "a*b", "a@b", "a%20b", strings.Repeat("n", 91)},
		},
		armtest.Case{Type: "Contoso.Shop/things", Path: "{group}/providers/Contoso.Shop/things/t{n}", Body: `{"location":"westus2"}`},
		armtest.Case{
			Type: "Contoso.Shop/things/parts", Path: "{group}/providers/Contoso.Shop/things/t/parts/p{n}", Body: `{}`,
			Before: []armtest.Step{{Path: "{group}/providers/Contoso.Shop/things/t", Body: `{"location":"westus2"}`}},
		},
	)
}

const v = "?api-version=2021-04-01"

func TestSubscriptions(t *testing.T) {
	p := start(t)
	ctx := t.Context()
	const second = "33333333-3333-3333-3333-333333333333"
	for range 2 {
		if err := resources.EnsureSubscription(ctx, p.Store, armtest.Tenant, second, "Second"); err != nil {
			t.Fatal(err)
		}
	}
	if err := resources.EnsureSubscription(ctx, p.Store, armtest.Tenant, "a/b", "x"); err == nil {
		t.Error("a malformed id was taken")
	}
	got := p.Want(http.StatusOK, "GET", "/subscriptions/"+second+"?api-version=2019-11-01", "")
	want := map[string]any{
		"id": "/subscriptions/" + second, "subscriptionId": second, "tenantId": armtest.Tenant, "displayName": "Second", "state": "Enabled",
		"authorizationSource": "RoleBased", "managedByTenants": []any{},
		"subscriptionPolicies": map[string]any{"locationPlacementId": "Public_2014-09-01", "quotaId": "PayAsYouGo_2014-09-01", "spendingLimit": "Off"},
	}
	if diff := cmp.Diff(want, got.JSON); diff != "" {
		t.Error(diff)
	}
	list := p.Want(http.StatusOK, "GET", "/subscriptions?api-version=2019-11-01", "")
	if n := len(list.JSON["value"].([]any)); n != 2 {
		t.Errorf("got %d subscriptions", n)
	}
	list = p.Want(http.StatusOK, "GET", "/subscriptions?api-version=2019-11-01", "", "Authorization", "Bearer "+armtest.Nobody)
	if n := len(list.JSON["value"].([]any)); n != 0 {
		t.Errorf("who has no rights sees %d", n)
	}
	p.WantError(http.StatusForbidden, "AuthorizationFailed", "GET", "/subscriptions/"+second+v, "", "Authorization", "Bearer "+armtest.Nobody)
	p.WantError(http.StatusNotFound, "SubscriptionNotFound", "GET", "/subscriptions/absent"+v, "")
	p.WantError(http.StatusMethodNotAllowed, "MethodNotAllowed", "PUT", "/subscriptions/"+second+v, "{}")
	tenants := p.Want(http.StatusOK, "GET", "/tenants?api-version=2019-11-01", "")
	if s := string(tenants.Raw); !strings.Contains(s, `"tenantId":"`+armtest.Tenant) || !strings.Contains(s, `"displayName":"Contoso"`) {
		t.Errorf("got %s", s)
	}
	locations := p.Want(http.StatusOK, "GET", armtest.Base+"/locations?api-version=2022-12-01", "")
	if s := string(locations.Raw); !strings.Contains(s, armtest.Base+`/locations/westeurope"`) || strings.Contains(s, "global") {
		t.Errorf("got %s", s)
	}
}

func TestGroups(t *testing.T) {
	p := start(t)
	low := armtest.Base + "/resourcegroups/RG-1" + v // as az writes it
	a := p.Want(http.StatusCreated, "PUT", low, `{"location":"West US 2","tags":{"a":"1"},"managedBy":"/subscriptions/x"}`)
	want := map[string]any{
		"id": armtest.Base + "/resourceGroups/RG-1", "name": "RG-1", "type": "Microsoft.Resources/resourceGroups", "location": "westus2",
		"tags": map[string]any{"a": "1"}, "managedBy": "/subscriptions/x", "properties": map[string]any{"provisioningState": "Succeeded"},
	}
	if diff := cmp.Diff(want, a.JSON); diff != "" {
		t.Error(diff)
	}
	p.WantError(http.StatusConflict, "InvalidResourceGroupLocation", "PUT", low, `{"location":"eastus"}`)
	p.WantError(http.StatusConflict, "ResourceGroupManagedByMismatch", "PUT", low, `{"location":"westus2","managedBy":"/other"}`)
	p.Want(http.StatusNoContent, "HEAD", low, "")
	p.Want(http.StatusOK, "PATCH", low, `{"tags":{"b":"2"}}`)
	list := p.Want(http.StatusOK, "GET", armtest.Base+"/resourcegroups"+v+"&$filter=tagName+eq+%27b%27+and+tagValue+eq+%272%27", "")
	if n := len(list.JSON["value"].([]any)); n != 1 {
		t.Errorf("got %s", list.Raw)
	}
	p.Want(http.StatusOK, "DELETE", low, "")
	p.WantError(http.StatusNotFound, "ResourceGroupNotFound", "DELETE", low, "")
}

func TestResourceLists(t *testing.T) {
	p := start(t)
	for _, g := range []string{"G1", "g2"} {
		path := p.Group(g) + "/providers/Contoso.Shop/things/t"
		p.Want(http.StatusCreated, "PUT", path+"?api-version=2024-01-01", `{"location":"westus2","tags":{"env":"x"},"properties":{"size":1}}`)
		p.Want(http.StatusCreated, "PUT", path+"/parts/p?api-version=2024-01-01", `{}`)
	}
	rows := []struct {
		path, filter string
		want         int
	}{
		{"/resources", "", 2},
		{"/resourceGroups/g1/resources", "", 1},
		{"/resources", "resourceGroup eq 'g1' and resourceType eq 'contoso.shop/THINGS'", 1},
		{"/resources", "resourceType eq 'Microsoft.KeyVault/vaults'", 0},
		{"/resources", "tagName eq 'env' and tagValue eq 'x'", 2},
		{"/resources", "substringof('t', name)", 2},
		{"/resources", "name eq 'T' or location eq 'eastus'", 2},
		{"/resources", "not startswith(name,'t')", 0},
	}
	for _, r := range rows {
		url := armtest.Base + r.path + v + "&$expand=createdTime,changedTime,provisioningState&$filter=" + strings.ReplaceAll(r.filter, " ", "+")
		got := p.Want(http.StatusOK, "GET", url, "")
		items := got.JSON["value"].([]any)
		if len(items) != r.want {
			t.Errorf("%s %s: got %s", r.path, r.filter, got.Raw)
		}
		for _, it := range items {
			m := it.(map[string]any)
			if m["properties"] != nil || m["createdTime"] == nil || m["changedTime"] == nil || m["provisioningState"] != "Succeeded" {
				t.Errorf("%s %s: got %v", r.path, r.filter, m)
			}
		}
	}
	p.WantError(http.StatusBadRequest, "InvalidFilterInQueryString", "GET", armtest.Base+"/resources"+v+"&$filter=size+eq+1", "")
	p.WantError(http.StatusNotFound, "ResourceGroupNotFound", "GET", armtest.Base+"/resourceGroups/absent/resources"+v, "")
	empty := p.Want(http.StatusOK, "GET", armtest.Base+"/resources"+v, "", "Authorization", "Bearer "+armtest.Nobody)
	if n := len(empty.JSON["value"].([]any)); n != 0 {
		t.Errorf("who has no rights sees %s", empty.Raw)
	}
}

func TestTags(t *testing.T) {
	p := start(t)
	g := p.Group("g")
	thing := g + "/providers/Contoso.Shop/things/t"
	p.Want(http.StatusCreated, "PUT", thing+"?api-version=2024-01-01", `{"location":"westus2","tags":{"A":"1"}}`)
	for _, scope := range []string{armtest.Base, g, thing} {
		tags := scope + "/providers/Microsoft.Resources/tags/default" + v
		steps := []struct {
			method, body string
			want         map[string]any
		}{
			{"PUT", `{"properties":{"tags":{"a":"1","b":"2"}}}`, map[string]any{"a": "1", "b": "2"}},
			{"PATCH", `{"operation":"Merge","properties":{"tags":{"B":"3","c":"4"}}}`, map[string]any{"a": "1", "b": "3", "c": "4"}},
			{"PATCH", `{"operation":"Delete","properties":{"tags":{"A":"","c":"other"}}}`, map[string]any{"b": "3", "c": "4"}},
			{"PATCH", `{"operation":"Replace","properties":{"tags":{"z":"9"}}}`, map[string]any{"z": "9"}},
			{"GET", "", map[string]any{"z": "9"}},
		}
		for _, s := range steps {
			got := p.Want(http.StatusOK, s.method, tags, s.body)
			if diff := cmp.Diff(any(s.want), got.At("properties", "tags")); diff != "" {
				t.Errorf("%s %s: %s", s.method, s.body, diff)
			}
		}
		p.WantError(http.StatusBadRequest, "InvalidTagsPatchOperation", "PATCH", tags, `{"operation":"x","properties":{"tags":{}}}`)
		p.WantError(http.StatusBadRequest, "InvalidRequestContent", "PUT", tags, `{}`)
		p.WantError(http.StatusBadRequest, "InvalidTagNameCharacters", "PUT", tags, `{"properties":{"tags":{"a/b":""}}}`)
		p.WantError(http.StatusForbidden, "AuthorizationFailed", "PUT", tags, `{"properties":{"tags":{}}}`, "Authorization", "Bearer "+armtest.Nobody)
	}
	if got := p.Want(http.StatusOK, "GET", thing+"?api-version=2024-01-01", "").At("tags"); !cmp.Equal(got, any(map[string]any{"z": "9"})) {
		t.Errorf("the resource shows %v", got)
	}
	names := p.Want(http.StatusOK, "GET", armtest.Base+"/tagNames"+v, "")
	if s := string(names.Raw); !strings.Contains(s, `"tagName":"z"`) || !strings.Contains(s, `"value":3`) {
		t.Errorf("got %s", s)
	}
	p.Want(http.StatusOK, "DELETE", thing+"/providers/Microsoft.Resources/tags/default"+v, "")
	p.WantError(http.StatusNotFound, "ResourceNotFound", "GET", thing+"x/providers/Microsoft.Resources/tags/default"+v, "")
	p.Want(http.StatusCreated, "PUT", thing+"/parts/p?api-version=2024-01-01", `{}`)
	p.WantError(http.StatusBadRequest, "TagsNotSupported", "GET", thing+"/parts/p/providers/Microsoft.Resources/tags/default"+v, "")
}

func TestTagNames(t *testing.T) {
	p := start(t)
	one := armtest.Base + "/tagNames/Env"
	p.WantError(http.StatusNotFound, "TagNotFound", "PUT", one+"/tagValues/prod"+v, "")
	p.Want(http.StatusCreated, "PUT", one+v, "")
	p.Want(http.StatusOK, "PUT", one+v, "")
	p.Want(http.StatusCreated, "PUT", one+"/tagValues/prod"+v, "")
	p.WantError(http.StatusConflict, "TagNameInUse", "DELETE", one+v, "")
	p.Want(http.StatusCreated, "PUT", armtest.Base+"/resourceGroups/g"+v, `{"location":"westus2","tags":{"env":"prod"}}`)
	p.WantError(http.StatusConflict, "TagNameInUse", "DELETE", one+"/tagValues/prod"+v, "")
	p.Want(http.StatusOK, "PATCH", armtest.Base+"/resourceGroups/g"+v, `{"tags":{}}`)
	p.Want(http.StatusOK, "DELETE", one+"/tagValues/prod"+v, "")
	p.Want(http.StatusOK, "DELETE", one+v, "")
	p.Want(http.StatusNoContent, "DELETE", one+v, "")
}

func TestProviders(t *testing.T) {
	p := start(t)
	shop := armtest.Base + "/providers/contoso.SHOP"
	got := p.Want(http.StatusOK, "GET", shop+v, "")
	if got.Text("registrationState") != "Registered" || got.Text("namespace") != "Contoso.Shop" || !strings.Contains(string(got.Raw), `"defaultApiVersion":"2024-01-01"`) {
		t.Errorf("got %s", got.Raw)
	}
	list := p.Want(http.StatusOK, "GET", armtest.Base+"/providers"+v, "")
	if n := len(list.JSON["value"].([]any)); n != 2 {
		t.Errorf("got %s", list.Raw)
	}
	p.Want(http.StatusOK, "GET", "/providers/Microsoft.Resources"+v, "")
	if got := p.Want(http.StatusOK, "GET", "/providers/Contoso.Shop/operations?api-version=2024-01-01", ""); !strings.Contains(string(got.Raw), `"Contoso.Shop/things/delete"`) {
		t.Errorf("got %s", got.Raw)
	}
	p.WantError(http.StatusNotFound, "InvalidResourceNamespace", "GET", armtest.Base+"/providers/Contoso.Absent"+v, "")
	all := "/providers/Microsoft.Authorization/providerOperations"
	if got := p.Want(http.StatusOK, "GET", all+"/contoso.shop?api-version=2022-04-01&$expand=resourceTypes", ""); !strings.Contains(string(got.Raw), `"name":"things"`) {
		t.Errorf("got %s", got.Raw)
	}
	if got := p.Want(http.StatusOK, "GET", all+"?api-version=2018-01-01-preview", ""); strings.Contains(string(got.Raw), `"name":"things"`) || !strings.Contains(string(got.Raw), `"Contoso.Shop"`) {
		t.Errorf("without $expand: %s", got.Raw)
	}
	p.WantError(http.StatusNotFound, "InvalidResourceNamespace", "GET", all+"/Contoso.Absent?api-version=2022-04-01", "")

	thing := p.Group("g") + "/providers/Contoso.Shop/things/t?api-version=2024-01-01"
	p.Want(http.StatusCreated, "PUT", thing, `{"location":"westus2"}`)
	p.WantError(http.StatusConflict, "ProviderInUse", "POST", shop+"/unregister"+v, "")
	p.Want(http.StatusOK, "DELETE", thing, "")
	p.WantError(http.StatusForbidden, "AuthorizationFailed", "POST", shop+"/unregister"+v, "", "Authorization", "Bearer "+armtest.Nobody)
	if got := p.Want(http.StatusOK, "POST", shop+"/unregister"+v, ""); got.Text("registrationState") != "Unregistered" {
		t.Errorf("got %s", got.Raw)
	}
	p.WantError(http.StatusConflict, "MissingSubscriptionRegistration", "PUT", thing, `{"location":"westus2"}`)
	p.Want(http.StatusOK, "POST", shop+"/register"+v, "")
	p.Want(http.StatusCreated, "PUT", thing, `{"location":"westus2"}`)
	p.WantError(http.StatusConflict, "ProviderCannotBeUnregistered", "POST", armtest.Base+"/providers/Microsoft.Resources/unregister"+v, "")
}

func TestRefused(t *testing.T) {
	p := start(t)
	g := p.Group("g")
	p.WantError(http.StatusNotImplemented, "TemplateDeploymentNotSupported", "PUT", "/providers/Microsoft.Resources/deployments/d"+v, `{"properties":{}}`)
	p.WantError(http.StatusNotImplemented, "TemplateDeploymentNotSupported", "POST", "/providers/Microsoft.Resources/deployments/d/validate"+v, `{}`)
	p.WantError(http.StatusNotImplemented, "MoveResourcesNotSupported", "POST", g+"/moveResources"+v, `{}`)
	p.WantError(http.StatusBadRequest, "ReservedResourceName", "POST", "/providers/Microsoft.Resources/checkResourceName"+v, `{"name":"MicrosoftX","type":"a/b"}`)
	p.Want(http.StatusOK, "POST", "/providers/Microsoft.Resources/checkResourceName"+v, `{"name":"fine","type":"a/b"}`)
}

func TestMetadata(t *testing.T) {
	get := func(host, version string) (int, []byte) {
		r := httptest.NewRequestWithContext(t.Context(), "GET", "https://"+host+"/metadata/endpoints?api-version="+version, nil)
		w := httptest.NewRecorder()
		resources.Metadata(w, r)
		return w.Code, w.Body.Bytes()
	}
	type auth struct {
		LoginEndpoint string
		Audiences     []string
	}
	var old struct {
		GraphEndpoint  string
		Authentication auth
	}
	_, b := get("management.azure.com", "2015-01-01")
	if err := json.Unmarshal(b, &old); err != nil || old.Authentication.LoginEndpoint != "https://login.microsoftonline.com/" || len(old.Authentication.Audiences) == 0 {
		t.Errorf("2015: %s %v", b, err)
	}
	type cloud struct {
		Name, ResourceManager string
		Authentication        auth
		Suffixes              map[string]string
	}
	var many []cloud
	_, b = get("management.azure.com:443", "2019-05-01")
	if err := json.Unmarshal(b, &many); err != nil || len(many) != 1 || many[0].Name != "AzureCloud" || many[0].Suffixes["keyVaultDns"] != "vault.azure.net" {
		t.Errorf("2019: %s %v", b, err)
	}
	var one cloud
	_, b = get("management.corp.example:8443", "2022-09-01")
	if err := json.Unmarshal(b, &one); err != nil || one.Name != "Lazurite" || one.ResourceManager != "https://management.corp.example:8443/" ||
		one.Authentication.LoginEndpoint != "https://login.corp.example:8443" || one.Suffixes["keyVaultDns"] != "vault.corp.example:8443" {
		t.Errorf("2022: %s %v", b, err)
	}
	for _, bad := range []string{"", "x", "1999-01-01"} {
		if code, b := get("management.azure.com", bad); code != http.StatusBadRequest {
			t.Errorf("version %q: %d %s", bad, code, b)
		}
	}
}
