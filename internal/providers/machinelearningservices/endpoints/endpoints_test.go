package endpoints_test

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/arm/armtest"
	"lazurite.dev/internal/compute"
	"lazurite.dev/internal/providers/machinelearningservices/router"
	"lazurite.dev/internal/rid"
)

func TestContract(t *testing.T) {
	const (
		ws   = "{group}/providers/Microsoft.MachineLearningServices/workspaces/"
		code = `{"properties":{"codeUri":"https://mlstore.blob.core.windows.net/up-1/a/src"}}`
		env  = `{"properties":{"image":"mcr.microsoft.com/azureml/minimal:latest"}}`
		end  = `{"location":"westus2","identity":{"type":"SystemAssigned"},"properties":{"authMode":"Key"}}`
	)
	parent := []armtest.Step{{Path: ws + "parent", Body: workspaceBody}}
	versions := func(typ, body string) []armtest.Case {
		return []armtest.Case{
			{Type: "Microsoft.MachineLearningServices/workspaces/" + typ, Path: ws + "parent/" + typ + "/a{n}", Body: `{"properties":{}}`, Before: parent, BadNames: []string{"-a"}},
			{Type: "Microsoft.MachineLearningServices/workspaces/" + typ + "/versions", Path: ws + "parent/" + typ + "/a/versions/{n}", Body: body, Before: parent, BadNames: []string{"-a"}, Implied: true},
		}
	}
	list := versions("codes", code)
	list = append(list, versions("models", `{"properties":{"modelUri":"azureml://datastores/workspaceblobstore/paths/a/model"}}`)...)
	list = append(list, versions("environments", env)...)
	list = append(list, versions("data", `{"properties":{"dataUri":"https://mlstore.blob.core.windows.net/up-1/a/data.csv","dataType":"uri_file"}}`)...)
	list = append(list,
		armtest.Case{Type: "Microsoft.MachineLearningServices/workspaces", Path: ws + "ws{n}", Body: workspaceBody},
		armtest.Case{Type: "Microsoft.MachineLearningServices/workspaces/datastores", Path: ws + "parent/datastores/d{n}", Body: `{"properties":{}}`, Before: parent},
		armtest.Case{
			Type: "Microsoft.MachineLearningServices/workspaces/onlineEndpoints", Path: ws + "parent/onlineEndpoints/end{n}{rg}", Body: end, Before: parent,
			BadNames: []string{"ab", "1abc", "a--b", "abc-", "a_bc", strings.Repeat("a", 33)},
		},
		armtest.Case{
			Type: "Microsoft.MachineLearningServices/workspaces/onlineEndpoints/deployments", Path: ws + "parent/onlineEndpoints/{rg}/deployments/d{n}x",
			Body: `{"properties":{"environmentId":"azureml:env:1","codeConfiguration":{"codeId":"azureml:code:1","scoringScript":"score.py"}}}`,
			Before: append(parent, armtest.Step{Path: ws + "parent/codes/code/versions/1", Body: code}, armtest.Step{Path: ws + "parent/environments/env/versions/1", Body: env},
				armtest.Step{Path: ws + "parent/onlineEndpoints/{rg}", Body: end}),
			BadNames: []string{"ab", "1abc", "a--b"},
		})
	armtest.Run(t, func(t *testing.T) *armtest.Plane { return start(t).Plane }, list...)
}

func TestEndpoint_SaysWhereItAnswers(t *testing.T) {
	w := start(t)
	w.workspace()
	got := w.Want(http.StatusOK, "GET", w.endpoint("My-End", "")+v, "")
	for path, want := range map[string]string{
		"scoringUri": "https://my-end.westus2.inference.ml.azure.com/score", "swaggerUri": "https://my-end.westus2.inference.ml.azure.com/swagger.json",
		"publicNetworkAccess": "Enabled", "authMode": "Key",
	} {
		if s := got.Text("properties", path); s != want {
			t.Errorf("%s: got %q, want %q", path, s, want)
		}
	}
	if s := got.Text("properties", "properties", "azureml.onlineendpointid"); s != strings.ToLower(w.ws+"/onlineEndpoints/My-End") {
		t.Errorf("got the id %q", s)
	}
	uri := got.Text("properties", "properties", "AzureAsyncOperationUri")
	if a := w.Want(http.StatusOK, "GET", strings.TrimPrefix(uri, "https://management.azure.com"), ""); a.Text("status") != "Succeeded" {
		t.Errorf("%s: got %s", uri, a.Raw)
	}
	w.Want(http.StatusNotFound, "GET", strings.TrimPrefix(strings.Replace(uri, "oe:", "xx:", 1), "https://management.azure.com"), "")
}

func TestEndpoint_Refusals(t *testing.T) {
	w := start(t)
	w.workspace()
	path := w.ws + "/onlineEndpoints/end1" + v
	for name, body := range map[string]string{
		"no auth mode":      `{"location":"westus2","identity":{"type":"SystemAssigned"},"properties":{}}`,
		"auth mode":         strings.Replace(w.endpointBody(""), "Key", "Password", 1),
		"no identity":       `{"location":"westus2","properties":{"authMode":"Key"}}`,
		"another location":  strings.Replace(w.endpointBody(""), "westus2", "eastus", 1),
		"public":            w.endpointBody(`,"publicNetworkAccess":"Maybe"`),
		"compute":           w.endpointBody(`,"compute":"azureml:k8s"`),
		"kind":              strings.Replace(w.endpointBody(""), `{"location"`, `{"kind":"Kubernetes","location"`, 1),
		"traffic to nobody": w.endpointBody(`,"traffic":{"blue":100}`),
		"a short key":       w.endpointBody(`,"keys":{"primaryKey":"short"}`),
		"keys of tokens":    strings.Replace(w.endpointBody(`,"keys":{"primaryKey":"0123456789abcdef"}`), `"Key"`, `"AMLToken"`, 1),
	} {
		if a := w.Do("PUT", path, body); a.Status != http.StatusBadRequest || a.Code() != "BadArgument" {
			t.Errorf("%s: got %d %s", name, a.Status, a.Raw)
		}
	}
	w.Want(http.StatusOK, "PUT", w.ws+v, strings.Replace(workspaceBody, `"properties":{`, `"properties":{"v1LegacyMode":true,`, 1))
	if a := w.Do("PUT", path, w.endpointBody("")); a.Status != http.StatusBadRequest || !strings.Contains(string(a.Raw), "legacy") {
		t.Errorf("a legacy workspace: got %d %s", a.Status, a.Raw)
	}
}

func TestEndpoint_NameIsOneOfARegion(t *testing.T) {
	w := start(t)
	w.workspace()
	w.endpoint("end1", "")
	other := w.Group("other") + "/providers/Microsoft.MachineLearningServices/workspaces/ws"
	w.Want(http.StatusCreated, "PUT", other+v, workspaceBody)
	east := w.Group("east") + "/providers/Microsoft.MachineLearningServices/workspaces/ws"
	w.Want(http.StatusCreated, "PUT", east+v, strings.Replace(workspaceBody, "westus2", "eastus", 1))
	w.WantError(http.StatusConflict, "NameNotAvailable", "PUT", other+"/onlineEndpoints/END1"+v, w.endpointBody(""))
	w.Settle(w.Want(http.StatusCreated, "PUT", east+"/onlineEndpoints/end1"+v, strings.Replace(w.endpointBody(""), "westus2", "eastus", 1)))
	w.Settle(w.Do("DELETE", w.ws+"/onlineEndpoints/end1"+v, ""))
	w.Settle(w.Want(http.StatusCreated, "PUT", other+"/onlineEndpoints/end1"+v, w.endpointBody("")))
}

func TestEndpoint_NameOfADeletedOneIsReservedLikeAzure(t *testing.T) {
	w := startLike(t, true)
	w.workspace()
	other := w.Group("other") + "/providers/Microsoft.MachineLearningServices/workspaces/ws"
	w.Want(http.StatusCreated, "PUT", other+v, workspaceBody)
	w.Settle(w.Do("DELETE", w.endpoint("end1", "")+v, ""))
	w.WantError(http.StatusConflict, "NameNotAvailable", "PUT", other+"/onlineEndpoints/end1"+v, w.endpointBody(""))
	w.Settle(w.Do("DELETE", w.endpoint("end1", "")+v, "")) // its own workspace may
	w.later(6 * time.Minute)
	w.Settle(w.Want(http.StatusCreated, "PUT", other+"/onlineEndpoints/end1"+v, w.endpointBody("")))
}

func TestKeys_GivenListedAndRegenerated(t *testing.T) {
	w := start(t)
	w.workspace()
	path := w.endpoint("end1", `,"keys":{"primaryKey":"a-key-of-my-own-1"}`)
	got := w.Want(http.StatusOK, "GET", path+v, "")
	if strings.Contains(string(got.Raw), "a-key-of-my-own-1") {
		t.Errorf("the key is shown: %s", got.Raw)
	}
	list := func() (string, string) {
		a := w.Want(http.StatusOK, "POST", path+"/listKeys"+v, "")
		return a.Text("primaryKey"), a.Text("secondaryKey")
	}
	first, second := list()
	if first != "a-key-of-my-own-1" || len(second) < 32 {
		t.Errorf("got the keys %q, %q", first, second)
	}
	w.Want(http.StatusOK, "POST", path+"/regenerateKeys"+v, `{"keyType":"Primary"}`)
	w.Want(http.StatusOK, "POST", path+"/regenerateKeys"+v, `{"keyType":"Secondary","keyValue":"another-key-of-mine"}`)
	if a, b := list(); a == first || len(a) < 32 || b != "another-key-of-mine" {
		t.Errorf("got the keys %q, %q after regeneration", a, b)
	}
	for _, body := range []string{`{"keyType":"Third"}`, `{"keyType":"Primary","keyValue":"short"}`, `{"keyType":"Primary","keyValue":"with a space in it"}`, `[]`} {
		w.Want(http.StatusBadRequest, "POST", path+"/regenerateKeys"+v, body)
	}
	w.WantError(http.StatusBadRequest, "BadRequest", "POST", path+"/token"+v, "")
	w.WantError(http.StatusBadRequest, "BadArgument", "PUT", path+v, w.endpointBody(`,"keys":{"primaryKey":"a-key-of-my-own-2"}`))
	w.Settle(w.Want(http.StatusOK, "PUT", path+v, w.endpointBody(`,"keys":{"secondaryKey":"another-key-of-mine"}`))) // as it has it
	w.WantError(http.StatusBadRequest, "BadArgument", "PUT", path+v, w.endpointBody(`,"keys":{"primaryKey":"another-key-of-mine"}`))

	e, err := w.svc.Find(t.Context(), "end1.westus2.inference.ml.azure.com")
	if err != nil {
		t.Fatal(err)
	}
	if name, ok := e.Key("another-key-of-mine"); name != "secondary" || !ok {
		t.Errorf("got %q %v", name, ok)
	}
	if _, ok := e.Key(first); ok {
		t.Error("the old key is still one")
	}
	if e.Token != nil {
		t.Error("an endpoint with keys takes tokens")
	}
}

func TestToken_CountsForItsEndpointUntilItExpires(t *testing.T) {
	w := start(t)
	w.workspace()
	amlBody := strings.Replace(w.endpointBody(""), `"Key"`, `"amltoken"`, 1)
	var raw []string
	for _, name := range []string{"end1", "end2"} {
		w.Settle(w.Want(http.StatusCreated, "PUT", w.ws+"/onlineEndpoints/"+name+v, amlBody))
		a := w.Want(http.StatusOK, "POST", w.ws+"/onlineEndpoints/"+name+"/token"+v, "")
		raw = append(raw, a.Text("accessToken"))
		if a.Text("tokenType") != "Bearer" || a.At("expiryTimeUtc").(float64) <= a.At("refreshAfterTimeUtc").(float64) {
			t.Errorf("got %s", a.Raw)
		}
		w.WantError(http.StatusBadRequest, "BadRequest", "POST", w.ws+"/onlineEndpoints/"+name+"/listKeys"+v, "")
	}
	e, err := w.svc.Find(t.Context(), "end1.westus2.inference.ml.azure.com")
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Token(t.Context(), raw[0]); err != nil {
		t.Errorf("its own token: %v", err)
	}
	parts := strings.Split(raw[0], ".")
	for name, bad := range map[string]string{
		"another endpoint's": raw[1], "none": "", "no signature": parts[0] + "." + parts[1] + ".", "other claims": parts[0] + "." + strings.Split(raw[1], ".")[1] + "." + parts[2],
	} {
		if e.Token(t.Context(), bad) == nil {
			t.Errorf("%s: it is taken", name)
		}
	}
	w.later(13 * time.Hour)
	if e.Token(t.Context(), raw[0]) == nil {
		t.Error("it is taken after its time")
	}
	w.Settle(w.Want(http.StatusCreated, "PUT", w.ws+"/onlineEndpoints/end3"+v, strings.Replace(amlBody, "amltoken", "AADToken", 1)))
	w.WantError(http.StatusBadRequest, "BadRequest", "POST", w.ws+"/onlineEndpoints/end3/token"+v, "")
}

func TestTraffic(t *testing.T) {
	w := start(t)
	w.workspace()
	path := w.endpoint("end1", "")
	for _, name := range []string{"blue", "green"} {
		w.deployment(path, name)
	}
	for _, c := range []struct {
		traffic string
		status  int
		says    string
	}{
		{`"traffic":{"blue":50,"green":30}`, 400, "100"},
		{`"traffic":{"blue":150,"green":-50}`, 400, "0 to 100"},
		{`"traffic":{"red":100}`, 400, "red"},
		{`"traffic":{"BLUE":100,"red":0}`, 200, ""},
		{`"traffic":{"blue":100},"mirrorTraffic":{"green":60}`, 400, "50"},
		{`"traffic":{"blue":100},"mirrorTraffic":{"blue":10}`, 400, "twice"},
		{`"traffic":{},"mirrorTraffic":{"blue":10,"green":10}`, 400, "one deployment"},
		{`"traffic":{"blue":100},"mirrorTraffic":{"green":10}`, 200, ""},
	} {
		a := w.Do("PUT", path+v, w.endpointBody(","+c.traffic))
		w.Settle(a)
		if a.Status != c.status || !strings.Contains(string(a.Raw), c.says) {
			t.Errorf("%s: got %d %s", c.traffic, a.Status, a.Raw)
		}
	}
	got := w.Want(http.StatusOK, "GET", path+v, "")
	if diff := cmp.Diff(map[string]any{"blue": 100.0}, got.At("properties", "traffic")); diff != "" {
		t.Error(diff)
	}
	for name, says := range map[string]string{"blue": "traffic", "green": "mirrored"} {
		if a := w.Want(http.StatusConflict, "DELETE", path+"/deployments/"+name+v, ""); !strings.Contains(string(a.Raw), says) {
			t.Errorf("delete %s: got %s", name, a.Raw)
		}
	}
	w.Settle(w.Want(http.StatusOK, "PUT", path+v, w.endpointBody("")))
	w.Settle(w.Do("DELETE", path+"/deployments/blue"+v, ""))
	w.Want(http.StatusNotFound, "GET", path+"/deployments/blue"+v, "")
}

func TestIdentity_HasRolesWhileTheEndpointIsThere(t *testing.T) {
	w := start(t)
	w.workspace()
	w.Want(http.StatusOK, "PUT", w.ws+v, strings.Replace(workspaceBody, `"properties":{`, `"properties":{"containerRegistry":"`+strings.Replace(account, "Storage/storageAccounts", "ContainerRegistry/registries", 1)+`",`, 1))
	path := w.endpoint("end1", "")
	if n := w.roles.count(); n != 2 {
		t.Errorf("got %d roles, want 2", n)
	}
	w.Settle(w.Want(http.StatusOK, "PUT", path+v, w.endpointBody("")))
	if n := w.roles.count(); n != 2 {
		t.Errorf("got %d roles after an update, want 2", n)
	}
	// With another registry the role follows.
	other := strings.Replace(strings.Replace(account, "Storage/storageAccounts", "ContainerRegistry/registries", 1), "mlstore", "other", 1)
	w.Want(http.StatusOK, "PUT", w.ws+v, strings.Replace(workspaceBody, `"properties":{`, `"properties":{"containerRegistry":"`+other+`",`, 1))
	if err := w.svc.Regrant(t.Context(), rid.MustParse(w.ws)); err != nil {
		t.Fatal(err)
	}
	w.roles.mu.Lock()
	moved := 0
	for role := range w.roles.has {
		if strings.HasPrefix(role, "other ") {
			moved++
		}
	}
	w.roles.mu.Unlock()
	if n := w.roles.count(); n != 2 || moved != 1 {
		t.Errorf("got %d roles, %d at the other registry, want 2 and 1", n, moved)
	}
	w.Settle(w.Do("DELETE", path+v, ""))
	if n := w.roles.count(); n != 0 {
		t.Errorf("%d roles stayed", n)
	}
}

func TestDeployment_RunsWhatItSays(t *testing.T) {
	w := start(t)
	w.workspace()
	end := w.endpoint("end1", "")
	path := end + "/deployments/blue"
	a := w.Want(http.StatusCreated, "PUT", path+v, w.deploymentBody(func(top, p map[string]any) {
		p["environmentVariables"] = map[string]any{"A": "1"}
		p["requestSettings"] = map[string]any{"requestTimeout": "PT1M30S", "maxConcurrentRequestsPerInstance": 3}
		top["sku"] = map[string]any{"name": "Default", "capacity": 2}
	}))
	w.Settle(a)
	got := w.run.all()
	if len(got) != 1 {
		t.Fatalf("%d deployments run", len(got))
	}
	d := got[0]
	if d.Image != "mcr.microsoft.com/azureml/minimal:latest" || d.Instances != 2 || d.Timeout != 90*time.Second || d.Concurrent != 3 || d.WorkspaceUID != guid || d.CPUMillis != 4000 || d.MemoryMiB != 14<<10 || d.DiskMiB != 28<<10 {
		t.Errorf("got %+v", d)
	}
	if diff := cmp.Diff([]string{end}, d.Identities); diff != "" {
		t.Error(diff)
	}
	want := []compute.Download{
		{URL: "https://mlstore.blob.core.windows.net/up-1/LocalUpload/h/onlinescoring", Path: "/var/azureml-app/onlinescoring"},
		{URL: "https://mlstore.blob.core.windows.net/up-2/LocalUpload/h/model", Path: "/var/azureml-app/azureml-models/model/1/model"},
	}
	if diff := cmp.Diff(want, d.Downloads); diff != "" {
		t.Error(diff)
	}
	env := map[string]string{
		"A": "1", "AML_APP_ROOT": "/var/azureml-app/onlinescoring", "AZUREML_ENTRY_SCRIPT": "score.py",
		"AZUREML_MODEL_DIR": "/var/azureml-app/azureml-models/model/1", "SERVICE_NAME": "end1",
	}
	if diff := cmp.Diff(env, d.Env); diff != "" {
		t.Error(diff)
	}
	shown := w.Want(http.StatusOK, "GET", path+v, "")
	if s := shown.Text("properties", "livenessProbe", "period"); s != "PT10S" {
		t.Errorf("got the period %q", s)
	}
	if s := w.Want(http.StatusOK, "POST", path+"/getLogs"+v, `{"containerType":"StorageInitializer","tail":7}`).Text("content"); s != "took the image\nstorage-initializer 7\n" {
		t.Errorf("got the log %q", s)
	}
	for _, body := range []string{`{"containerType":"Other"}`, `{"tail":0}`} {
		w.WantError(http.StatusBadRequest, "BadArgument", "POST", path+"/getLogs"+v, body)
	}
	if n := len(w.Want(http.StatusOK, "GET", path+"/skus"+v, "").At("value").([]any)); n != 1 {
		t.Errorf("got %d skus", n)
	}
	w.Settle(w.Do("DELETE", end+v, ""))
	if n := len(w.run.all()); n != 0 {
		t.Errorf("%d deployments run on", n)
	}
}

func TestDeployment_Refusals(t *testing.T) {
	w := start(t)
	w.workspace()
	path := w.endpoint("end1", "") + "/deployments/blue" + v
	set := func(key string, value any) func(_, p map[string]any) {
		return func(_, p map[string]any) { p[key] = value }
	}
	for name, change := range map[string]func(top, p map[string]any){
		"instance type":     set("instanceType", "Standard_Huge"),
		"no environment":    set("environmentId", ""),
		"environment":       set("environmentId", "azureml:env:9"),
		"environment's id":  set("environmentId", "env"),
		"model":             set("model", "azureml:model:9"),
		"no code":           set("codeConfiguration", nil),
		"script":            set("codeConfiguration", map[string]any{"codeId": "azureml:code:1", "scoringScript": "../score.py"}),
		"timeout":           set("requestSettings", map[string]any{"requestTimeout": "PT4M"}),
		"no duration":       set("requestSettings", map[string]any{"requestTimeout": "5s"}),
		"concurrency":       set("requestSettings", map[string]any{"maxConcurrentRequestsPerInstance": -1}),
		"probe":             set("livenessProbe", map[string]any{"period": "PT0S"}),
		"threshold":         set("readinessProbe", map[string]any{"failureThreshold": -1}),
		"egress":            set("egressPublicNetworkAccess", "disabled"),
		"collector":         set("dataCollector", map[string]any{"collections": map[string]any{"a": map[string]any{}}}),
		"identity variable": set("environmentVariables", map[string]any{"MSI_SECRET": "x"}),
		"variable":          set("environmentVariables", map[string]any{"a b": "x"}),
		"mount":             set("modelMountPath", "/etc"),
		"least":             set("scaleSettings", map[string]any{"scaleType": "TargetUtilization", "minInstances": -1}),
		"none at most":      set("scaleSettings", map[string]any{"scaleType": "TargetUtilization", "minInstances": 0, "maxInstances": 0}),
		"greatest":          set("scaleSettings", map[string]any{"scaleType": "TargetUtilization", "minInstances": 3, "maxInstances": 2}),
		"target":            set("scaleSettings", map[string]any{"scaleType": "TargetUtilization", "targetUtilizationPercentage": 101}),
		"polling":           set("scaleSettings", map[string]any{"scaleType": "TargetUtilization", "pollingInterval": "PT0.1S"}),
		"bounds of none":    set("scaleSettings", map[string]any{"scaleType": "Default", "maxInstances": 2}),
		"scale":             set("scaleSettings", map[string]any{"scaleType": "Sometimes"}),
		"compute":           set("endpointComputeType", "Kubernetes"),
		"sku":               func(top, _ map[string]any) { top["sku"] = map[string]any{"name": "Big", "capacity": 1} },
	} {
		if a := w.Do("PUT", path, w.deploymentBody(change)); a.Status != http.StatusBadRequest || a.Code() != "BadArgument" {
			t.Errorf("%s: got %d %s", name, a.Status, a.Raw)
		}
	}
	w.WantError(http.StatusConflict, "OutOfQuota", "PUT", path, w.deploymentBody(func(top, _ map[string]any) { top["sku"] = map[string]any{"capacity": 51} }))
	w.WantError(http.StatusConflict, "OutOfQuota", "PUT", path, w.deploymentBody(func(_, p map[string]any) {
		p["scaleSettings"] = map[string]any{"scaleType": "TargetUtilization", "maxInstances": 51}
	}))
	w.run.set(func(r *runner) { r.gone = errors.New("there is no root") })
	if a := w.WantError(http.StatusConflict, "OperationNotAllowed", "PUT", path, w.deploymentBody(nil)); !strings.Contains(string(a.Raw), "there is no root") {
		t.Errorf("got %s", a.Raw)
	}
}

func TestDeployment_FailureIsTheOperations(t *testing.T) {
	w := start(t)
	w.workspace()
	path := w.endpoint("end1", "") + "/deployments/blue"
	w.run.set(func(r *runner) {
		r.fail = &compute.Failure{Code: compute.CodeNotReady, Message: "init() raised.", Log: "Traceback …"}
	})
	a := w.Want(http.StatusCreated, "PUT", path+v, w.deploymentBody(nil))
	op := w.Want(http.StatusOK, "GET", strings.TrimPrefix(a.Header.Get("Azure-AsyncOperation"), "https://management.azure.com"), "")
	if op.Text("status") != "Failed" || op.Text("error", "code") != "ResourceNotReady" || !strings.Contains(string(op.Raw), "Traceback") {
		t.Errorf("got %s", op.Raw)
	}
	if s := w.Want(http.StatusOK, "GET", path+v, "").Text("properties", "provisioningState"); s != "Failed" {
		t.Errorf("got the state %q", s)
	}
	if s := w.Want(http.StatusOK, "POST", path+"/getLogs"+v, `{}`).Text("content"); !strings.Contains(s, "init() raised.") {
		t.Errorf("got the log %q", s)
	}
	e, err := w.svc.Find(t.Context(), "end1.westus2.inference.ml.azure.com")
	if err != nil || e.Deployments["blue"].Ready {
		t.Errorf("got %+v, %v", e, err)
	}
	w.run.set(func(r *runner) { r.fail = nil })
	w.Want(http.StatusCreated, "PUT", w.ws+"/environments/env/versions/2"+v, `{"properties":{"image":"missing"}}`)
	a = w.Want(http.StatusOK, "PUT", path+v, w.deploymentBody(func(_, p map[string]any) { p["environmentId"] = "azureml:env@latest" }))
	op = w.Want(http.StatusOK, "GET", strings.TrimPrefix(a.Header.Get("Azure-AsyncOperation"), "https://management.azure.com"), "")
	if op.Text("error", "code") != "ImageBuildFailure" || !strings.Contains(string(op.Raw), "looked everywhere") {
		t.Errorf("got %s", op.Raw)
	}
	w.Settle(w.Want(http.StatusOK, "PUT", path+v, w.deploymentBody(nil)))
	if e, err = w.svc.Find(t.Context(), "end1.westus2.inference.ml.azure.com"); err != nil || !e.Deployments["blue"].Ready {
		t.Errorf("got %+v, %v", e, err)
	}
}

func TestDeployment_RolloutGoesOnAfterACrash(t *testing.T) {
	w := start(t)
	w.workspace()
	path := w.endpoint("end1", "") + "/deployments/blue"
	hold := make(chan struct{})
	w.run.set(func(r *runner) { r.hold = hold })
	a := w.Want(http.StatusCreated, "PUT", path+v, w.deploymentBody(nil))
	if s := a.Text("properties", "provisioningState"); s != "Creating" {
		t.Errorf("got the state %q", s)
	}
	w.run.set(func(r *runner) { r.gone = errors.New("it starts") })
	w.Restart()
	w.run.set(func(r *runner) { r.hold = nil })
	close(hold)
	w.Want(http.StatusConflict, "POST", path+"/getLogs"+v, "{}")
	w.run.set(func(r *runner) { r.gone = nil })
	if s := w.Settle(a); s != "Succeeded" {
		t.Errorf("got %s", s)
	}
	if n := len(w.run.all()); n != 1 {
		t.Errorf("%d deployments run", n)
	}
}

func TestDeployment_ScalesAndIsDeletedInTheMiddle(t *testing.T) {
	w := start(t)
	w.workspace()
	end := w.endpoint("end1", "")
	path := w.deployment(end, "blue")
	w.run.set(func(r *runner) { r.hold = make(chan struct{}) })
	a := w.Want(http.StatusOK, "PATCH", path+v, `{"sku":{"name":"Default","capacity":3}}`)
	if s := a.Text("properties", "provisioningState"); s != "Scaling" {
		t.Errorf("got the state %q", s)
	}
	w.Settle(w.Do("DELETE", path+v, ""))
	w.Want(http.StatusNotFound, "GET", path+v, "")
	if n := len(w.run.all()); n != 0 {
		t.Errorf("%d deployments run", n)
	}
}

// userAssigned makes an identity and gives the body of an endpoint that has it alone.
func (w *world) userAssigned() (id, body string) {
	w.t.Helper()
	id = w.Group("rg") + "/providers/Microsoft.ManagedIdentity/userAssignedIdentities/me"
	if err := (arm.Resources{Store: w.Store}).Put(w.t.Context(), &arm.Envelope{ID: id, Name: "me", Type: "Microsoft.ManagedIdentity/userAssignedIdentities", Properties: map[string]any{"principalId": armtest.GUID(7)}}); err != nil {
		w.t.Fatal(err)
	}
	return id, strings.Replace(w.endpointBody(""), `{"type":"SystemAssigned"}`, `{"type":"UserAssigned","userAssignedIdentities":{"`+id+`":{}}}`, 1)
}

func TestEndpoint_AnotherIdentityIsGivenToWhatRuns(t *testing.T) {
	w := start(t)
	w.workspace()
	end := w.endpoint("end1", "")
	w.deployment(end, "blue")
	// One whose container does not come up has the identity too.
	w.run.set(func(r *runner) { r.fail = &compute.Failure{Code: compute.CodeNotReady, Message: "init() hangs"} })
	w.Settle(w.Want(http.StatusCreated, "PUT", end+"/deployments/green"+v, w.deploymentBody(nil)))
	// What they are made of is gone: that is no reason to keep an identity.
	w.Settle(w.Do("DELETE", w.ws+"/models/model"+v, ""))
	id, body := w.userAssigned()
	applied := w.run.applied
	if s := w.Settle(w.Want(http.StatusOK, "PUT", end+v, body)); s != "Succeeded" {
		t.Errorf("the endpoint is %s", s)
	}
	if len(w.run.identified) != 2 || w.run.applied != applied {
		t.Errorf("%v, and %d rollouts", w.run.identified, w.run.applied-applied)
	}
	for uid, got := range w.run.identified {
		if diff := cmp.Diff([]string{id}, got); diff != "" {
			t.Errorf("%s: %s", uid, diff)
		}
	}
	if diff := cmp.Diff([]string{id}, w.run.all()[0].Identities); diff != "" {
		t.Error(diff)
	}
	if n := w.roles.count(); n != 0 {
		t.Errorf("an identity that the user made has %d roles", n)
	}
}

func TestEndpoint_AnotherIdentityInTheMiddleOfARollout(t *testing.T) {
	w := start(t)
	w.workspace()
	end := w.endpoint("end1", "")
	hold := make(chan struct{})
	w.run.set(func(r *runner) { r.hold = hold })
	a := w.Want(http.StatusCreated, "PUT", end+"/deployments/blue"+v, w.deploymentBody(nil))
	id, body := w.userAssigned()
	w.Settle(w.Want(http.StatusOK, "PUT", end+v, body))
	close(hold) // the rollout writes down what it began with
	if s := w.Settle(a); s != "Succeeded" {
		t.Errorf("got %s", s)
	}
	if diff := cmp.Diff([]string{id}, w.run.all()[0].Identities); diff != "" {
		t.Error(diff)
	}
}

// TestEndpoint_IdentityTakenAwayInTheMiddleOfARollout: one that was read before
// it was taken away, and given after that, does not stay.
func TestEndpoint_IdentityTakenAwayInTheMiddleOfARollout(t *testing.T) {
	w := start(t)
	w.workspace()
	end := w.endpoint("end1", "")
	w.run.set(func(r *runner) { r.late = []string{"taken away"} })
	w.Settle(w.Want(http.StatusCreated, "PUT", end+"/deployments/blue"+v, w.deploymentBody(nil)))
	if got := w.run.all()[0].Identities; slices.Contains(got, "taken away") || len(got) != 1 {
		t.Errorf("got %v", got)
	}
}

func TestDeployment_LabelsBecomeVersions(t *testing.T) {
	w := start(t)
	w.workspace()
	end := w.endpoint("end1", "")
	path := end + "/deployments/blue"
	body := w.deploymentBody(func(_, p map[string]any) {
		p["environmentId"], p["model"] = "azureml:env@latest", "azureml:model@latest"
		p["codeConfiguration"] = map[string]any{"codeId": "azureml:code@latest", "scoringScript": "score.py"}
	})
	w.Settle(w.Want(http.StatusCreated, "PUT", path+v, body))
	is := func(version string) {
		t.Helper()
		a := w.Want(http.StatusOK, "GET", path+v, "")
		for name, want := range map[string]string{
			a.Text("properties", "environmentId"): "/environments/env/versions/" + version, a.Text("properties", "model"): "/models/model/versions/" + version,
			a.Text("properties", "codeConfiguration", "codeId"): "/codes/code/versions/" + version,
		} {
			if name != w.ws+want {
				t.Errorf("got %s, want %s", name, want)
			}
		}
		if d := w.run.all()[0]; d.Env["AZUREML_MODEL_DIR"] != "/var/azureml-app/azureml-models/model/"+version {
			t.Errorf("it runs %+v", d.Env)
		}
	}
	is("1")
	for typ, p := range map[string]string{"codes/code": `"codeUri":"https://mlstore.blob.core.windows.net/up-3/b"`, "models/model": `"modelUri":"https://mlstore.blob.core.windows.net/up-3/a"`, "environments/env": `"image":"x"`} {
		w.Want(http.StatusCreated, "PUT", w.ws+"/"+typ+"/versions/2"+v, `{"properties":{`+p+`}}`)
	}
	w.Settle(w.Want(http.StatusOK, "PATCH", path+v, `{"sku":{"name":"Default","capacity":2}}`))
	is("1")
	w.Settle(w.Want(http.StatusOK, "PUT", path+v, body))
	is("2")
	w.WantError(http.StatusBadRequest, "BadArgument", "PUT", path+v, w.deploymentBody(func(_, p map[string]any) { p["model"] = "azureml:none@latest" }))
}

func TestLimits(t *testing.T) {
	w := startLike(t, true)
	w.workspace()
	end := w.endpoint("end0", "")
	for i := range 20 {
		w.deployment(end, fmt.Sprintf("blue%d", i))
	}
	w.WantError(http.StatusConflict, "OutOfQuota", "PUT", end+"/deployments/green"+v, w.deploymentBody(nil))
	for i := 1; i < 100; i++ {
		w.endpoint(fmt.Sprintf("end%d", i), "")
	}
	w.WantError(http.StatusConflict, "OutOfQuota", "PUT", w.ws+"/onlineEndpoints/end100"+v, w.endpointBody(""))
	w.Settle(w.Want(http.StatusOK, "PUT", end+v, w.endpointBody(""))) // one that is there can be changed
}

func TestCatalog(t *testing.T) {
	w := start(t)
	w.workspace()
	path := w.endpoint("end1", `,"publicNetworkAccess":"disabled"`)
	const host = "end1.westus2.inference.ml.azure.com"
	first, err := w.svc.Find(t.Context(), host)
	if err != nil || first.Public || first.Workspace.String() != w.ws {
		t.Fatalf("got %+v, %v", first, err)
	}
	if again, err := w.svc.Find(t.Context(), host); err != nil || again != first {
		t.Error("the same endpoint is another one when it is asked for again")
	}
	w.endpoint("end2", "")
	if again, err := w.svc.Find(t.Context(), host); err != nil || again != first {
		t.Error("a change of another endpoint made it another one")
	}
	w.deployment(path, "blue")
	second, err := w.svc.Find(t.Context(), host)
	if err != nil || second == first {
		t.Fatalf("got %+v, %v", second, err)
	}
	d := second.Deployments["blue"]
	if d == nil || !d.Ready || d.Timeout != 5*time.Second || d.QueueWait != 500*time.Millisecond || d.MaxConcurrent != 1 || d.Instances != 1 || d.ScoringPath != "/score" {
		t.Errorf("got %+v", d)
	}
	w.Settle(w.Do("DELETE", path+v, ""))
	for _, gone := range []string{host, "end1.eastus.inference.ml.azure.com", "inference.ml.azure.com", "x"} {
		if _, err := w.svc.Find(t.Context(), gone); !errors.Is(err, router.ErrNotFound) {
			t.Errorf("%s: got %v", gone, err)
		}
	}
}

// A deployment that is deleted has no traffic, and none that goes is given any,
// whoever comes first.
func TestTraffic_OrDeletion(t *testing.T) {
	w := start(t)
	w.workspace()
	end := w.endpoint("end1", "")
	given, deleted := 0, 0
	for n := range 12 {
		name := fmt.Sprintf("blue%d", n)
		path := w.deployment(end, name)
		hold, begun := make(chan struct{}), make(chan struct{})
		w.run.set(func(r *runner) { r.holdRemove = hold })
		put, gone := make(chan int), make(chan int)
		go func() {
			<-begun
			put <- w.Do("PUT", end+v, w.endpointBody(`,"traffic":{"`+name+`":100}`)).Status
		}()
		go func() {
			<-begun
			gone <- w.Do("DELETE", path+v, "").Status
		}()
		close(begun)
		a, b := <-put, <-gone
		switch {
		case a == http.StatusOK && b == http.StatusConflict:
			given++
		case a == http.StatusBadRequest && b == http.StatusAccepted:
			deleted++
		default:
			t.Errorf("traffic was given with %d, and the deployment deleted with %d", a, b)
		}
		close(hold)
		if b != http.StatusConflict {
			w.Eventually(func() error {
				if s := w.Do("GET", path+v, "").Status; s != http.StatusNotFound {
					return fmt.Errorf("got %d", s)
				}
				return nil
			})
		}
		w.Settle(w.Want(http.StatusOK, "PUT", end+v, w.endpointBody("")))
	}
	t.Logf("given %d times, deleted %d times", given, deleted)
}
