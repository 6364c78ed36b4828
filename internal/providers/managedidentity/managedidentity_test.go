package managedidentity_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/arm/armtest"
	"lazurite.dev/internal/directory"
	"lazurite.dev/internal/providers/managedidentity"
	"lazurite.dev/internal/store"
)

const (
	types = "{group}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/"
	fic   = `{"properties":{"issuer":"https://issuer.example/{n}","subject":"system:serviceaccount:ns:sa","audiences":["api://AzureADTokenExchange"]}}`
	v     = "?api-version=2023-01-31"
)

type plane struct {
	*armtest.Plane
	dir   *directory.Directory
	now   time.Time
	azure bool
}

func start(t *testing.T, azureLike bool) *plane {
	t.Helper()
	p := &plane{now: time.Now(), azure: azureLike}
	p.Plane = armtest.New(t, func(s store.Store) []arm.Provider {
		if p.dir == nil {
			d, err := directory.Open(t.Context(), s, armtest.Tenant)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(d.Close)
			p.dir = d
		}
		things := arm.Serve("Contoso.Shop", arm.Kind[struct{}]{Type: "things", APIVersions: []string{"2024-01-01"}, Tracked: true, Identity: true})
		return []arm.Provider{
			managedidentity.New(managedidentity.Config{Store: s, Directory: p.dir, AzureLike: azureLike, Clock: func() time.Time { return p.now }}),
			{Namespace: "Contoso.Shop", Routes: []arm.Route{things}},
		}
	}, func(c *arm.Config) { c.Principals = p.dir })
	return p
}

func (p *plane) identity(t *testing.T, group, name string) (path string, got *armtest.Answer) {
	t.Helper()
	path = p.Group(group) + "/providers/Microsoft.ManagedIdentity/userAssignedIdentities/" + name
	return path, p.Want(http.StatusCreated, "PUT", path+v, `{"location":"westus2"}`)
}

func TestContract(t *testing.T) {
	armtest.Run(t, func(t *testing.T) *armtest.Plane { return start(t, false).Plane },
		armtest.Case{Type: "Microsoft.ManagedIdentity/userAssignedIdentities", Path: types + "id{n}xx", Body: `{"location":"westus2"}`, BadNames: []string{"a", "-abc", "a.b.c", "a%20b"}},
		armtest.Case{
			Type: "Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials", Path: types + "id0/federatedIdentityCredentials/fic{n}", Body: fic,
			Before: []armtest.Step{{Path: types + "id0", Body: `{"location":"westus2"}`}}, BadNames: []string{"a", "_ab", "a.b.c", strings.Repeat("n", 121)},
		},
		armtest.Case{Type: "Contoso.Shop/things", Path: "{group}/providers/Contoso.Shop/things/t{n}", Body: `{"location":"westus2","identity":{"type":"SystemAssigned"}}`},
	)
}

func TestIdentity_ItsPrincipalIsInTheDirectory(t *testing.T) {
	p := start(t, false)
	path, got := p.identity(t, "g", "one")
	client, principal := got.Text("properties", "clientId"), got.Text("properties", "principalId")
	if got.Text("properties", "tenantId") != armtest.Tenant || client == "" || principal == "" {
		t.Fatalf("got %s", got.Raw)
	}
	sp, err := p.dir.ServicePrincipal(principal)
	if err != nil || sp.AppID != client || sp.DisplayName != "one" {
		t.Errorf("got %+v %v", sp, err)
	}
	again := p.Want(http.StatusOK, "PUT", path+v, `{"location":"westus2","properties":{"principalId":"x","CLIENTID":"y"},"tags":{"a":"b"}}`)
	if diff := cmp.Diff(got.JSON["properties"], again.JSON["properties"]); diff != "" {
		t.Error(diff)
	}
	p.Want(http.StatusCreated, "PUT", path+"/federatedIdentityCredentials/abc"+v, strings.ReplaceAll(fic, "{n}", "1"))
	if n := len(p.dir.Credentials(client)); n != 1 {
		t.Errorf("the directory has %d credentials", n)
	}
	p.Want(http.StatusOK, "DELETE", path+v, "")
	if _, err := p.dir.ServicePrincipal(principal); err == nil || len(p.dir.Credentials(client)) != 0 {
		t.Error("the principal or its credentials outlive the identity")
	}
	p.WantError(http.StatusBadRequest, "IsolationScopeNotSupported", "PUT", path+v, `{"location":"westus2","properties":{"isolationScope":"Regional"}}`)
}

func TestCredential_Rules(t *testing.T) {
	p := start(t, false)
	path, got := p.identity(t, "g", "one")
	put := func(name, properties string) *armtest.Answer {
		return p.Do("PUT", path+"/federatedIdentityCredentials/"+name+v, `{"properties":`+properties+`}`)
	}
	const ok = `{"issuer":"https://i/","subject":"s","audiences":["a"]}`
	if a := put("abc", ok); a.Status != http.StatusCreated {
		t.Fatalf("got %d %s", a.Status, a.Raw)
	}
	long := strings.Repeat("x", 601)
	rows := []struct{ name, properties, want string }{
		{"a", ok, "Federated Identity Credential name 'a' is invalid."},
		{"xyz", `{}`, "Federated Identity Credential from HTTP body has empty properties"},
		{"xyz", `{"issuer":"https://i/","subject":"s"}`, "Federated identity credentials must have exactly one audience."},
		{"xyz", `{"issuer":"https://i/","subject":"s","audiences":["a","b"]}`, "Federated identity credentials must have exactly one audience."},
		{"xyz", ok, "Issuer and subject combination already exists for this Managed Identity."},
		{"xyz", `{"issuer":"` + long + `","subject":"s","audiences":["a"]}`, "issuer"},
		{"xyz", `{"issuer":"i","subject":"` + long + `","audiences":["a"]}`, "subject"},
		{"xyz", `{"issuer":"i","audiences":["a"]}`, "subject"},
		{"xyz", `{"subject":"i","audiences":["a"]}`, "issuer"},
		{"xyz", `{"issuer":"i","subject":"s","audiences":["a"],"claimsMatchingExpression":{"value":"claims['sub'] eq 's'","languageVersion":1}}`, "exclude"},
		{"xyz", `{"issuer":"i","audiences":["a"],"claimsMatchingExpression":{"value":"claims['sub'] eq","languageVersion":1}}`, "invalid"},
		{"xyz", `{"issuer":"i","audiences":["a"],"claimsMatchingExpression":{"value":"claims['sub'] eq 's'","languageVersion":2}}`, "version"},
	}
	for _, r := range rows {
		if a := put(r.name, r.properties); a.Status != http.StatusBadRequest || !strings.Contains(a.Text("error", "message"), r.want) {
			t.Errorf("%s %.120s: got %d %s, want %q", r.name, r.properties, a.Status, a.Raw, r.want)
		}
	}
	for name, properties := range map[string]string{
		"upper": `{"issuer":"https://i/","subject":"S","audiences":["a"]}`, // exact: another letter case is another subject
		"slash": `{"issuer":"https://i","subject":"s","audiences":["a"]}`,
		"flex":  `{"issuer":"https://i/","audiences":["a"],"claimsMatchingExpression":{"value":"claims['sub'] matches 'repo:org/*'","languageVersion":1}}`,
	} {
		if a := put(name, properties); a.Status != http.StatusCreated {
			t.Errorf("%s: got %d %s", name, a.Status, a.Raw)
		}
	}
	if n := len(p.dir.Credentials(got.Text("properties", "clientId"))); n != 4 {
		t.Errorf("the directory has %d credentials", n)
	}
	if a := put("abc", `{"issuer":"https://j/","subject":"s","audiences":["a"]}`); a.Status != http.StatusOK {
		t.Errorf("an update: %d %s", a.Status, a.Raw)
	}
	p.WantError(http.StatusNotFound, "ParentResourceNotFound", "PUT", path+"x/federatedIdentityCredentials/abc"+v, `{"properties":`+ok+`}`)
}

func TestCredential_ConcurrentWritesUnderOneIdentity(t *testing.T) {
	p := start(t, false)
	path, _ := p.identity(t, "g", "one")
	var wg sync.WaitGroup
	codes := make([]*armtest.Answer, 12)
	for i := range codes {
		wg.Go(func() {
			body := fmt.Sprintf(`{"properties":{"issuer":"https://i/","subject":"s%d","audiences":["a"]}}`, i/2) // pairs claim the same subject
			codes[i] = p.Do("PUT", fmt.Sprintf("%s/federatedIdentityCredentials/f%02d%s", path, i, v), body)
		})
	}
	wg.Wait()
	made := 0
	for _, a := range codes {
		switch a.Status {
		case http.StatusCreated:
			made++
		case http.StatusConflict, http.StatusBadRequest:
		default:
			t.Errorf("got %d %s", a.Status, a.Raw)
		}
	}
	list := p.Want(http.StatusOK, "GET", path+"/federatedIdentityCredentials"+v, "")
	seen := map[string]bool{}
	for _, it := range list.JSON["value"].([]any) {
		s := it.(map[string]any)["properties"].(map[string]any)["subject"].(string)
		if seen[s] {
			t.Errorf("the subject %s is there twice", s)
		}
		seen[s] = true
	}
	if made == 0 || made != len(seen) {
		t.Errorf("%d were acknowledged, %d are there", made, len(seen))
	}
}

func TestCredential_Limits(t *testing.T) {
	for _, azure := range []bool{false, true} {
		p := start(t, azure)
		path, _ := p.identity(t, "g", "one")
		put := func(i int) *armtest.Answer {
			p.now = p.now.Add(time.Minute)
			return p.Do("PUT", fmt.Sprintf("%s/federatedIdentityCredentials/fic%d%s", path, i, v), strings.ReplaceAll(fic, "{n}", fmt.Sprint(i)))
		}
		for i := range 20 {
			if a := put(i); a.Status != http.StatusCreated {
				t.Fatalf("credential %d: %d %s", i, a.Status, a.Raw)
			}
		}
		want := map[bool]int{false: http.StatusCreated, true: http.StatusBadRequest}[azure]
		if a := put(20); a.Status != want {
			t.Errorf("the 21st: %d %s", a.Status, a.Raw)
		}
		var slow *armtest.Answer
		for range 10 {
			if a := p.Do("GET", path+v, ""); a.Status == http.StatusTooManyRequests {
				slow = a
			}
		}
		if (slow != nil) != azure {
			t.Errorf("azure-like %v: throttled: %v", azure, slow)
		}
		if slow != nil && slow.Header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
	}
}

func TestResourceIdentity(t *testing.T) {
	p := start(t, false)
	id, _ := p.identity(t, "g", "one")
	thing := strings.TrimSuffix(id, "/providers/Microsoft.ManagedIdentity/userAssignedIdentities/one") + "/providers/Contoso.Shop/things/t"
	const tv = "?api-version=2024-01-01"
	got := p.Want(http.StatusCreated, "PUT", thing+tv, `{"location":"westus2","identity":{"type":"systemassigned","principalId":"forged"}}`)
	principal := got.Text("identity", "principalId")
	if sp, err := p.dir.ServicePrincipal(principal); err != nil || sp.DisplayName != "t" || got.Text("identity", "tenantId") != armtest.Tenant {
		t.Fatalf("got %s %v", got.Raw, err)
	}
	shown := p.Want(http.StatusOK, "GET", thing+"/providers/Microsoft.ManagedIdentity/identities/default"+v, "")
	if shown.Text("properties", "principalId") != principal || shown.Text("properties", "clientId") == "" {
		t.Errorf("got %s", shown.Raw)
	}
	both := p.Want(http.StatusOK, "PATCH", thing+tv, `{"identity":{"type":"SystemAssigned,UserAssigned","userAssignedIdentities":{"`+strings.ToUpper(id)+`":{}}}}`)
	ua, _ := both.At("identity", "userAssignedIdentities", id).(map[string]any)
	if both.Text("identity", "principalId") != principal || ua["clientId"] == nil {
		t.Errorf("got %s", both.Raw)
	}
	list := p.Want(http.StatusOK, "POST", id+"/listAssociatedResources?api-version=2022-01-31-preview", "")
	if !strings.Contains(string(list.Raw), thing) {
		t.Errorf("got %s", list.Raw)
	}
	one := p.Want(http.StatusOK, "PATCH", thing+tv, `{"identity":{"type":"UserAssigned"}}`)
	if _, err := p.dir.ServicePrincipal(principal); err == nil || one.Text("identity", "principalId") != "" {
		t.Errorf("its own identity is still there: %s", one.Raw)
	}
	p.WantError(http.StatusNotFound, "ResourceNotFound", "GET", thing+"/providers/Microsoft.ManagedIdentity/identities/default"+v, "")
	if a := p.Want(http.StatusOK, "PATCH", thing+tv, `{"identity":{"type":"None"}}`); a.Text("identity", "type") != "None" {
		t.Errorf("got %s", a.Raw)
	}
	for _, body := range []string{
		`{"type":"Magic"}`, `{"type":"UserAssigned"}`, `{"type":"SystemAssigned","userAssignedIdentities":{"` + id + `":{}}}`, `"x"`, `{"type":"None","userAssignedIdentities":{"` + id + `":{}}}`,
		`{"type":"UserAssigned","userAssignedIdentities":{"` + id + `x":{}}}`, `{"type":"UserAssigned","userAssignedIdentities":{"` + thing + `":{}}}`,
	} {
		if a := p.Do("PUT", thing+tv, `{"location":"westus2","identity":`+body+`}`); a.Status != http.StatusBadRequest {
			t.Errorf("%s: got %d %s", body, a.Status, a.Raw)
		}
	}
	p.Policy.Allow(armtest.Nobody, "Contoso.Shop/things/write")
	p.WantError(http.StatusForbidden, "LinkedAuthorizationFailed", "PUT", thing+"2"+tv,
		`{"location":"westus2","identity":{"type":"UserAssigned","userAssignedIdentities":{"`+id+`":{}}}}`, "Authorization", "Bearer "+armtest.Nobody)
	p.WantError(http.StatusBadRequest, "ResourceIdentityNotSupported", "PUT", id+"2"+v, `{"location":"westus2","identity":{"type":"SystemAssigned"}}`)
	again := p.Want(http.StatusOK, "PATCH", thing+tv, `{"identity":{"type":"SystemAssigned"}}`)
	p.Want(http.StatusOK, "DELETE", thing+tv, "")
	if _, err := p.dir.ServicePrincipal(again.Text("identity", "principalId")); err == nil {
		t.Error("the principal outlives its resource")
	}
}
