package cognitiveservices_test

import (
	"bytes"
	"fmt"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"lazurite.dev/internal/arm/armtest"
	"lazurite.dev/internal/store"
)

func TestAccount_CreateShowUpdate(t *testing.T) {
	w := start(t)
	w.Group("g")
	// As az cognitiveservices account create sends it.
	a := w.Want(201, "PUT", accountPath("g", "Mine")+"?api-version=2022-12-01", `{"kind":"OpenAI","sku":{"name":"s0"},"location":"eastus","properties":{"customSubDomainName":"MyDomain"}}`)
	if got := a.Text("properties", "endpoint"); got != "https://mydomain.openai.azure.com/" {
		t.Errorf("endpoint %q", got)
	}
	if a.Text("sku", "name") != "S0" || a.Text("kind") != "OpenAI" || a.Text("properties", "publicNetworkAccess") != "Enabled" || a.Text("properties", "internalId") == "" || a.Text("properties", "dateCreated") == "" {
		t.Errorf("created %s", a.Raw)
	}
	path := accountPath("g", "mine")
	// As az cognitiveservices account update sends it: without a kind.
	a = w.Want(200, "PATCH", path+apiv, `{"sku":{"name":"S0"},"properties":{"disableLocalAuth":true},"tags":{"a":"b"}}`)
	if a.Text("kind") != "OpenAI" || a.At("properties", "disableLocalAuth") != true || a.Text("properties", "customSubDomainName") != "MyDomain" {
		t.Errorf("updated %s", a.Raw)
	}
	w.WantError(400, "BadRequest", "PATCH", path+apiv, `{"properties":{"customSubDomainName":"other"}}`)
	w.WantError(400, "BadRequest", "PATCH", path+apiv, `{"kind":"AIServices"}`)
	w.Want(200, "PUT", path+apiv, body("")) // leaves the subdomain alone
	if got := w.Want(200, "GET", path+apiv, "").Text("properties", "customSubDomainName"); got != "MyDomain" {
		t.Errorf("subdomain %q", got)
	}
}

func TestAccount_WithoutSubdomainAnswersInItsRegion(t *testing.T) {
	w := start(t)
	w.Group("g")
	path := accountPath("g", "plain")
	a := w.Want(201, "PUT", path+apiv, body(""))
	if got := a.Text("properties", "endpoint"); got != "https://eastus.api.cognitive.microsoft.com/" {
		t.Errorf("endpoint %q", got)
	}
	w.WantError(400, "CustomSubDomainNameRequired", "PATCH", path+apiv, `{"properties":{"networkAcls":{"defaultAction":"Deny"}}}`)
	a = w.Want(200, "PATCH", path+apiv, `{"properties":{"customSubDomainName":"later"}}`)
	if got := a.Text("properties", "endpoint"); got != "https://later.openai.azure.com/" {
		t.Errorf("endpoint once it has a subdomain: %q", got)
	}
	a = w.Want(201, "PUT", accountPath("g", "services")+apiv, `{"location":"eastus","kind":"aiservices","sku":{"name":"S0"},"properties":{"customSubDomainName":"svc","allowProjectManagement":true}}`)
	if a.Text("properties", "endpoint") != "https://svc.cognitiveservices.azure.com/" || a.Text("properties", "endpoints", "OpenAI Language Model Instance API") != "https://svc.openai.azure.com/" {
		t.Errorf("AIServices: %s", a.Raw)
	}
}

func TestAccount_Refusals(t *testing.T) {
	w := start(t)
	w.Group("g")
	const sub = `"customSubDomainName":"refused",`
	for name, props := range map[string]string{
		"short subdomain":     `"customSubDomainName":"a"`,
		"long subdomain":      `"customSubDomainName":"` + strings.Repeat("a", 64) + `"`,
		"dotted subdomain":    `"customSubDomainName":"a.b"`,
		"dash at the end":     `"customSubDomainName":"ab-"`,
		"public access":       `"publicNetworkAccess":"Maybe"`,
		"subnets":             sub + `"networkAcls":{"defaultAction":"Deny","virtualNetworkRules":[{"id":"/subscriptions/x"}]}`,
		"default action":      sub + `"networkAcls":{"defaultAction":"Maybe"}`,
		"bypass":              sub + `"networkAcls":{"defaultAction":"Deny","bypass":"Everyone"}`,
		"rule":                sub + `"networkAcls":{"ipRules":[{"value":"1.2.3.400"}]}`,
		"own key":             `"encryption":{"keySource":"Microsoft.KeyVault","keyVaultProperties":{"keyName":"k"}}`,
		"outbound":            `"restrictOutboundNetworkAccess":true`,
		"allowed names":       `"allowedFqdnList":["a.example"]`,
		"storage":             `"userOwnedStorage":[{"resourceId":"/x"}]`,
		"api properties":      `"apiProperties":{"statisticsEnabled":true}`,
		"regions":             `"locations":{"regions":[{"name":"westus"}]}`,
		"migration":           `"migrationToken":"x"`,
		"projects":            `"associatedProjects":["p"]`,
		"injections":          `"networkInjections":{"scenario":"agent"}`,
		"monitor":             `"raiMonitorConfig":{"adxStorageResourceId":"/x"}`,
		"workspace":           `"amlWorkspace":{"resourceId":"/x"}`,
		"restore of nothing":  `"restore":true`,
		"local auth is a bit": `"disableLocalAuth":"yes"`,
	} {
		a := w.Do("PUT", accountPath("g", "refused")+apiv, body(props))
		if a.Status != 400 && a.Status != 409 || a.Code() == "" {
			t.Errorf("%s: %d %s", name, a.Status, a.Raw)
		}
	}
	for code, b := range map[string]string{
		"InvalidApiSetId": `{"location":"eastus","kind":"Face","sku":{"name":"S0"}}`,
		"InvalidSkuId":    `{"location":"eastus","kind":"OpenAI","sku":{"name":"F0"}}`,
		"BadRequest":      `{"location":"eastus","kind":"OpenAI"}`,
	} {
		w.WantError(400, code, "PUT", accountPath("g", "refused")+apiv, b)
	}
	w.Want(400, "PUT", accountPath("g", "refused")+apiv, `{"location":"eastus","sku":{"name":"S0"}}`)
	w.Want(400, "PUT", accountPath("g", "refused")+apiv, `{"location":"eastus","kind":7,"sku":"S0"}`)
	w.Want(404, "GET", accountPath("g", "refused")+apiv, "")
	if a := w.Want(200, "POST", inSub+"/checkDomainAvailability"+apiv, `{"subdomainName":"refused","type":"Microsoft.CognitiveServices/accounts"}`); a.At("isSubdomainAvailable") != true {
		t.Errorf("a refused creation keeps the subdomain: %s", a.Raw)
	}
}

func TestAccount_NetworkRules(t *testing.T) {
	w := start(t)
	w.Group("g")
	a := w.Want(201, "PUT", accountPath("g", "net")+apiv, body(`"customSubDomainName":"net","networkAcls":{"ipRules":[{"value":"1.2.3.4"}]}`))
	acls, _ := a.At("properties", "networkAcls").(map[string]any)
	if acls["defaultAction"] != "Deny" || acls["bypass"] != "None" || len(acls["ipRules"].([]any)) != 1 {
		t.Errorf("rules without a default action: %v", acls)
	}
}

func TestAccount_SubdomainsAreUnique(t *testing.T) {
	w := start(t)
	w.Group("g")
	w.Group("h")
	named := body(`"customSubDomainName":"Unique"`)
	w.Want(201, "PUT", accountPath("g", "one")+apiv, named)
	a := w.WantError(409, "CustomDomainInUse", "PUT", accountPath("h", "one")+apiv, body(`"customSubDomainName":"unique"`))
	if !strings.Contains(a.Text("error", "message"), "The subdomain name 'unique' is not available as it's already used by a resource.") {
		t.Errorf("message %q", a.Text("error", "message"))
	}
	w.Want(200, "PUT", accountPath("g", "one")+apiv, named)
	w.Want(201, "PUT", accountPath("h", "one")+apiv, body(""))
	w.WantError(409, "CustomDomainInUse", "PATCH", accountPath("h", "one")+apiv, `{"properties":{"customSubDomainName":"unique"}}`)
	for in, want := range map[string]bool{"UNIQUE": false, "a.b": false, "free": true} {
		a := w.Want(200, "POST", inSub+"/checkDomainAvailability"+apiv, `{"subdomainName":"`+in+`","type":"Microsoft.CognitiveServices/accounts","kind":"OpenAI"}`)
		if a.At("isSubdomainAvailable") != want || a.Text("subdomainName") != in || want != (a.At("reason") == nil) {
			t.Errorf("%s: %s", in, a.Raw)
		}
	}
	w.Want(400, "POST", inSub+"/checkDomainAvailability"+apiv, `{"subdomainName":"x","type":"Microsoft.Other/things"}`)
	w.Want(400, "POST", inSub+"/checkDomainAvailability"+apiv, `{}`)
}

func TestAccount_ConcurrentCreationsOfOneSubdomain(t *testing.T) {
	w := start(t)
	w.Group("g")
	var wg sync.WaitGroup
	won := make([]bool, 4)
	for i := range won {
		wg.Go(func() {
			a := w.Do("PUT", accountPath("g", fmt.Sprint("racer", i))+apiv, body(`"customSubDomainName":"raced"`))
			if won[i] = a.Status == 201 && a.Text("properties", "provisioningState") == "Succeeded"; !won[i] && a.Status != 409 {
				t.Errorf("%d %s", a.Status, a.Raw)
			}
		})
	}
	wg.Wait()
	n := 0
	for _, x := range won {
		if x {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d creations won: %v", n, won)
	}
}

func TestKeys(t *testing.T) {
	w := start(t)
	w.Group("g")
	path := accountPath("g", "keyed")
	w.Want(201, "PUT", path+apiv, body(`"customSubDomainName":"keyed"`))
	first := w.Want(200, "POST", path+"/listKeys"+apiv, "")
	if k1, k2 := first.Text("key1"), first.Text("key2"); len(k1) != 32 || len(k2) != 32 || k1 == k2 {
		t.Fatalf("keys %s", first.Raw)
	}
	a := w.Want(200, "POST", path+"/regenerateKey"+apiv, `{"keyName":"key2"}`)
	if a.Text("key1") != first.Text("key1") || a.Text("key2") == first.Text("key2") {
		t.Errorf("regenerated %s", a.Raw)
	}
	if again := w.Want(200, "POST", path+"/listKeys"+apiv, ""); again.Text("key2") != a.Text("key2") {
		t.Errorf("listed %s", again.Raw)
	}
	w.WantError(400, "BadRequest", "POST", path+"/regenerateKey"+apiv, `{"keyName":"Key3"}`)
	w.WantError(400, "BadRequest", "POST", path+"/regenerateKey"+apiv, `{"keyName":1}`)
	for _, action := range []string{"/listKeys", "/regenerateKey"} {
		w.WantError(403, "AuthorizationFailed", "POST", path+action+apiv, `{"keyName":"Key1"}`, "Authorization", "Bearer "+armtest.Nobody)
	}
	w.Want(200, "PATCH", path+apiv, `{"properties":{"disableLocalAuth":true}}`)
	a = w.WantError(400, "BadRequest", "POST", path+"/listKeys"+apiv, "")
	if a.Text("error", "message") != "Failed to list key. disableLocalAuth is set to be true" {
		t.Errorf("message %s", a.Raw)
	}
	w.WantError(400, "BadRequest", "POST", path+"/regenerateKey"+apiv, `{"keyName":"Key1"}`)
}

func TestKeys_AreSealedAtRest(t *testing.T) {
	w := start(t)
	w.Group("g")
	path := accountPath("g", "sealed")
	w.Want(201, "PUT", path+apiv, body(`"customSubDomainName":"sealed"`))
	k := w.Want(200, "POST", path+"/listKeys"+apiv, "")
	n := 0
	err := store.All(t.Context(), w.Store, store.Query{}, func(d store.Doc) error {
		n++
		for _, key := range []string{k.Text("key1"), k.Text("key2")} {
			if bytes.Contains(d.Value, []byte(key)) {
				t.Errorf("%s has a key", d.Key)
			}
		}
		return nil
	})
	if err != nil || n == 0 {
		t.Errorf("%d documents, %v", n, err)
	}
}

// A creation that is killed before it has keys is finished by the next process.
func TestAccount_CreationSurvivesAKill(t *testing.T) {
	w := start(t)
	w.Group("g")
	path := accountPath("g", "killed")
	w.set(0, true)
	a := w.Plane.Want(201, "PUT", path+apiv, body(`"customSubDomainName":"killed"`))
	if a.Text("properties", "provisioningState") != "Creating" || a.Header.Get("Azure-AsyncOperation") == "" {
		t.Fatalf("held up: %s", a.Raw)
	}
	w.WantError(409, "RequestConflict", "POST", path+"/listKeys"+apiv, "")
	w.WantError(409, "CustomDomainInUse", "PUT", accountPath("g", "thief")+apiv, body(`"customSubDomainName":"killed"`))
	w.set(0, false)
	w.Restart()
	if got := w.Settle(a); got != "Succeeded" {
		t.Fatalf("the operation ended %s", got)
	}
	if got := w.Want(200, "GET", path+apiv, "").Text("properties", "provisioningState"); got != "Succeeded" {
		t.Errorf("state %s", got)
	}
	w.Want(200, "POST", path+"/listKeys"+apiv, "")
}

func FuzzAccountProperties(f *testing.F) {
	f.Add(body(`"networkAcls":{"ipRules":[{"value":"10.0.0.0/8"}]}`))
	f.Add(`{"location":"eastus","kind":null,"sku":null,"properties":{"restore":true}}`)
	w := start(f)
	w.Group("g")
	n := 0
	f.Fuzz(func(t *testing.T, b string) {
		n++ // an account that was made is changed by the next two inputs
		for _, method := range []string{"PUT", "PATCH"} {
			u := "https://management.azure.com" + accountPath("g", fmt.Sprintf("fuzzed%d", n/3)) + apiv
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
