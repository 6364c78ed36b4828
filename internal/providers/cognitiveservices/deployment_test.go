package cognitiveservices_test

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"lazurite.dev/internal/arm/armtest"
)

// Want is armtest's, and waits for what a change has begun: on a busy machine it
// is still under way when it is answered.
func (w *world) Want(status int, method, path, body string, headers ...string) *armtest.Answer {
	a := w.Plane.Want(status, method, path, body, headers...)
	if a.Status < 300 {
		w.Settle(a)
	}
	return a
}

// account makes one and gives its path.
func (w *world) account(t testing.TB, name string) string {
	t.Helper()
	w.Group("g")
	path := accountPath("g", name)
	w.Want(201, "PUT", path+apiv, body(`"customSubDomainName":"`+name+`"`))
	return path
}

func model(name, version string) string {
	return `"model":{"format":"OpenAI","name":"` + name + `","version":"` + version + `"}`
}

func TestDeployment_BothForms(t *testing.T) {
	w := start(t)
	acc := w.account(t, "forms")
	a := w.Want(201, "PUT", deploymentPath(acc, "chat")+apiv, `{"sku":{"name":"standard","capacity":10},"properties":{`+model("GPT-4o-mini", "2024-07-18")+`}}`)
	limits, _ := a.At("properties", "rateLimits").([]any)
	if fmt.Sprint(limits) != "[map[count:10 key:request renewalPeriod:10] map[count:10000 key:token renewalPeriod:60]]" {
		t.Errorf("limits %v", limits)
	}
	if a.Text("sku", "name") != "Standard" || a.Text("properties", "model", "name") != "gpt-4o-mini" || a.Text("properties", "versionUpgradeOption") != "OnceNewDefaultVersionAvailable" ||
		a.Text("properties", "capabilities", "chatCompletion") != "true" || a.Text("properties", "provisioningState") != "Succeeded" {
		t.Errorf("created %s", a.Raw)
	}
	// As Debian's az sends it.
	old := deploymentPath(acc, "old")
	a = w.Want(201, "PUT", old+"?api-version=2022-12-01", `{"properties":{`+model("gpt-35-turbo", "")+`,"scaleSettings":{"scaleType":"Standard","capacity":3}}}`)
	if a.Text("sku", "name") != "Standard" || fmt.Sprint(a.At("sku", "capacity")) != "3" || a.Text("properties", "model", "version") != "0125" {
		t.Errorf("older form: %s", a.Raw)
	}
	a = w.Want(200, "PATCH", old+apiv, `{"sku":{"name":"Standard","capacity":7}}`)
	if fmt.Sprint(a.At("properties", "scaleSettings", "capacity")) != "7" {
		t.Errorf("the older form does not follow: %s", a.Raw)
	}
	a = w.Want(200, "PUT", old+"?api-version=2022-12-01", `{"properties":{`+model("gpt-35-turbo", "0125")+`,"scaleSettings":{"scaleType":"Standard","capacity":2}}}`)
	if fmt.Sprint(a.At("sku", "capacity")) != "2" {
		t.Errorf("the sku does not follow: %s", a.Raw)
	}
	// A PATCH with tags alone leaves capacity and model alone.
	a = w.Want(200, "PATCH", deploymentPath(acc, "CHAT")+apiv, `{"tags":{"team":"a"}}`)
	if fmt.Sprint(a.At("sku", "capacity")) != "10" || a.Text("tags", "team") != "a" {
		t.Errorf("tagged %s", a.Raw)
	}
	list, _ := w.Want(200, "GET", acc+"/deployments"+apiv, "").At("value").([]any)
	if len(list) != 2 {
		t.Errorf("%d deployments", len(list))
	}
}

func TestDeployment_Refusals(t *testing.T) {
	w := start(t)
	acc := w.account(t, "refusals")
	known := model("gpt-4o-mini", "2024-07-18")
	for name, c := range map[string]struct{ body, code string }{
		"no model":        {`{"sku":{"name":"Standard","capacity":1},"properties":{}}`, "InvalidResourceProperties"},
		"unknown model":   {`{"properties":{` + model("no-such", "1") + `}}`, "DeploymentModelNotSupported"},
		"unknown version": {`{"properties":{` + model("gpt-4o-mini", "1999-01-01") + `}}`, "DeploymentModelNotSupported"},
		"other format":    {`{"properties":{"model":{"format":"Meta","name":"gpt-4o-mini","version":"2024-07-18"}}}`, "DeploymentModelNotSupported"},
		"provisioned":     {`{"sku":{"name":"ProvisionedManaged","capacity":100},"properties":{` + known + `}}`, "InvalidResourceProperties"},
		"no capacity":     {`{"sku":{"name":"Standard","capacity":0},"properties":{` + known + `}}`, "InvalidResourceProperties"},
		"much capacity":   {`{"sku":{"name":"Standard","capacity":10001},"properties":{` + known + `}}`, "InvalidResourceProperties"},
		"upgrade option":  {`{"properties":{` + known + `,"versionUpgradeOption":"Sometimes"}}`, "InvalidResourceProperties"},
		"own policy":      {`{"properties":{` + known + `,"raiPolicyName":"mine"}}`, "InvalidResourceProperties"},
		"spillover":       {`{"properties":{` + known + `,"spilloverDeploymentName":"x"}}`, "InvalidResourceProperties"},
		"source":          {`{"properties":{"model":{"format":"OpenAI","name":"gpt-4o-mini","version":"2024-07-18","sourceAccount":"/x"}}}`, "InvalidResourceProperties"},
		"malformed sku":   {`{"sku":"Standard","properties":{` + known + `}}`, "BadRequest"},
	} {
		if a := w.Do("PUT", deploymentPath(acc, "refused")+apiv, c.body); a.Status != 400 || a.Code() != c.code {
			t.Errorf("%s: %d %s", name, a.Status, a.Raw)
		}
	}
	a := w.Do("PUT", deploymentPath(acc, "refused")+apiv, `{"properties":{`+model("no-such", "1")+`}}`)
	if !strings.Contains(a.Text("error", "message"), "`models:`") {
		t.Errorf("the message does not name the setting: %s", a.Raw)
	}
	w.Want(201, "PUT", deploymentPath(acc, "default")+apiv, `{"properties":{`+known+`,"raiPolicyName":"Microsoft.DefaultV2"}}`)
}

func TestDeployment_Quota(t *testing.T) {
	w := start(t)
	acc := w.account(t, "quota")
	put := func(name string, capacity int) *armtest.Answer {
		return w.Do("PUT", deploymentPath(acc, name)+apiv, fmt.Sprintf(`{"sku":{"name":"Standard","capacity":%d},"properties":{%s}}`, capacity, model("gpt-4o-mini", "2024-07-18")))
	}
	if a := put("one", 9000); a.Status != 201 {
		t.Fatalf("%d %s", a.Status, a.Raw)
	}
	a := put("two", 1001)
	if a.Status != 400 || a.Code() != "InsufficientQuota" || !strings.Contains(a.Text("error", "message"), "current available capacity 1000.") {
		t.Errorf("over the quota: %d %s", a.Status, a.Raw)
	}
	if a := put("two", 1000); a.Status != 201 {
		t.Errorf("%d %s", a.Status, a.Raw)
	}
	if a := put("one", 9001); a.Code() != "InsufficientQuota" {
		t.Errorf("a larger one over the quota: %d %s", a.Status, a.Raw)
	}
	if a := put("one", 10); a.Status != 200 {
		t.Errorf("a smaller one: %d %s", a.Status, a.Raw)
	}
	current := func() string {
		list, _ := w.Want(200, "GET", inSub+"/locations/eastus/usages"+apiv, "").At("value").([]any)
		for _, v := range list {
			if m := v.(map[string]any); m["name"].(map[string]any)["value"] == "OpenAI.Standard.gpt-4o-mini" {
				return fmt.Sprint(m["currentValue"])
			}
		}
		return "none"
	}
	if got := current(); got != "1010" {
		t.Errorf("usage %s", got)
	}
	w.Settle(w.Do("DELETE", deploymentPath(acc, "two")+apiv, ""))
	if got := current(); got != "10" {
		t.Errorf("usage after a deletion %s", got)
	}
	left, _ := w.Want(200, "GET", inSub+"/locations/eastus/modelCapacities"+apiv+"&modelFormat=OpenAI&modelName=gpt-4o-mini&modelVersion=2024-07-18", "").At("value").([]any)
	if len(left) != 3 || fmt.Sprint(left[0].(map[string]any)["properties"].(map[string]any)["availableCapacity"]) != "9990" {
		t.Errorf("capacities %v", left)
	}
	w.Want(400, "GET", inSub+"/modelCapacities"+apiv, "")
}

func TestAzureLike_LimitsNumbers(t *testing.T) {
	w := startLike(t, true)
	acc := w.account(t, "many")
	for i := range 32 {
		w.Want(201, "PUT", deploymentPath(acc, fmt.Sprint("d", i+10))+apiv, deployment)
	}
	w.WantError(400, "DeploymentLimitReached", "PUT", deploymentPath(acc, "more")+apiv, deployment)
	w.Want(200, "PUT", deploymentPath(acc, "d10")+apiv, deployment)
	for i := range 29 {
		w.Want(201, "PUT", accountPath("g", fmt.Sprint("n", i))+apiv, body(""))
	}
	w.WantError(400, "SubscriptionIsOverQuotaForSku", "PUT", accountPath("g", "n30")+apiv, body(""))
}

func TestListings(t *testing.T) {
	w := start(t)
	acc := w.account(t, "listings")
	w.Want(201, "PUT", deploymentPath(acc, "chat")+apiv, deployment)
	for path, want := range map[string]int{
		acc + "/models":                       3,
		acc + "/skus":                         1,
		acc + "/usages":                       1,
		acc + "/privateLinkResources":         1,
		acc + "/deployments/chat/skus":        3,
		inSub + "/locations/eastus/models":    6,
		inSub + "/locations/East%20US/usages": 9,
		inSub + "/deletedAccounts":            0,
	} {
		list, _ := w.Want(200, "GET", path+apiv, "").At("value").([]any)
		if len(list) != want {
			t.Errorf("%s: %d, want %d", path, len(list), want)
		}
		w.WantError(403, "AuthorizationFailed", "GET", path+apiv, "", "Authorization", "Bearer "+armtest.Nobody)
	}
	if list, _ := w.Want(200, "GET", inSub+"/skus"+apiv, "").At("value").([]any); len(list) < 50 {
		t.Errorf("%d skus", len(list))
	}
	models, _ := w.Want(200, "GET", acc+"/models"+apiv, "").At("value").([]any)
	if by := models[0].(map[string]any)["capabilities"].(map[string]any)["servedBy"]; by != "builtin/tiny-writer" {
		t.Errorf("served by %v", by)
	}
	w.WantError(404, "ResourceNotFound", "GET", accountPath("g", "absent")+"/models"+apiv, "")
	w.WantError(404, "ResourceNotFound", "GET", acc+"/deployments/absent/skus"+apiv, "")
	w.WantError(400, "InvalidLocation", "GET", inSub+"/locations/moon/models"+apiv, "")
	a := w.Want(200, "POST", inSub+"/locations/eastus/checkSkuAvailability"+apiv, `{"skus":["S0","F0"],"kind":"OpenAI","type":"Microsoft.CognitiveServices/accounts"}`)
	v, _ := a.At("value").([]any)
	if len(v) != 2 || v[0].(map[string]any)["skuAvailable"] != true || v[1].(map[string]any)["skuAvailable"] != false {
		t.Errorf("skus %s", a.Raw)
	}
	w.Want(400, "POST", inSub+"/locations/eastus/checkSkuAvailability"+apiv, `{}`)
}

func FuzzDeploymentProperties(f *testing.F) {
	f.Add(deployment)
	f.Add(`{"sku":null,"properties":{"model":null,"scaleSettings":{"capacity":-1}}}`)
	w := start(f)
	acc := w.account(f, "fuzz")
	n := 0
	f.Fuzz(func(t *testing.T, b string) {
		n++
		for _, method := range []string{"PUT", "PATCH"} {
			u := "https://management.azure.com" + deploymentPath(acc, fmt.Sprintf("fuzzed%d", n/3)) + apiv
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
