package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// cabinet keeps what is put under resource ids, as the manager would, and
// blobs of a container: the commands of ml are tried against it.
type cabinet struct {
	*standIn
	env  Env
	mu   sync.Mutex // guards what follows
	docs map[string]object
	puts []string // in order, the api-version left out
	blob map[string]string
}

const mlRoot = "/subscriptions/sub/resourceGroups/rg/providers/Microsoft.MachineLearningServices/workspaces/ws"

func newCabinet(t *testing.T) *cabinet {
	t.Helper()
	s, sess := newStandIn(t)
	c := &cabinet{standIn: s, env: sess.env, docs: map[string]object{}, blob: map[string]string{}}
	c.env.Dir = t.TempDir()
	c.docs[mlRoot] = object{"id": mlRoot, "name": "ws", "location": "westcentralus", "properties": object{}}
	s.answer("/subscriptions/", c.manage)
	s.answer("PUT /box/", func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		c.mu.Lock()
		defer c.mu.Unlock()
		if r.URL.Query().Get("sig") != "secret" || r.Header.Get("Authorization") != "" || r.Header.Get("x-ms-version") == "" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		switch r.URL.Query().Get("comp") {
		case "block":
			c.blob[r.URL.Path+"#"+r.URL.Query().Get("blockid")] = string(b)
		case "blocklist":
			c.blob[r.URL.Path] = fmt.Sprintf("%d blocks", strings.Count(string(b), "<Latest>"))
		default:
			c.blob[r.URL.Path] = string(b)
		}
		w.WriteHeader(http.StatusCreated)
	})
	return c
}

func (c *cabinet) manage(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b, _ := io.ReadAll(r.Body)
	path := r.URL.Path
	switch {
	case r.Method == http.MethodPost && strings.HasSuffix(path, "/startPendingUpload"):
		fmt.Fprintf(w, `{"blobReferenceForConsumption":{"blobUri":"%[1]s/box","credential":{"credentialType":"SAS","sasUri":"%[1]s/box?sv=1&sig=secret"}}}`, c.URL)
	case r.Method == http.MethodPost && strings.HasSuffix(path, "/listKeys"):
		fmt.Fprint(w, `{"primaryKey":"first","secondaryKey":"second"}`)
	case r.Method == http.MethodPost && strings.HasSuffix(path, "/getLogs"):
		fmt.Fprintf(w, `{"content":"one\ntwo\n%s"}`, strings.ReplaceAll(string(b), `"`, ``))
	case r.Method == http.MethodPut || r.Method == http.MethodPatch:
		c.puts = append(c.puts, path)
		var o object
		if json.Unmarshal(b, &o) != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		o["id"], o["name"] = path, lastOf(path)
		sub(o, "properties")["provisioningState"] = "Succeeded"
		c.docs[path] = o
		_ = json.NewEncoder(w).Encode(o)
	case r.Method == http.MethodGet && c.docs[path] != nil:
		_ = json.NewEncoder(w).Encode(c.docs[path])
	case r.Method == http.MethodGet && (strings.HasSuffix(path, "/deployments") || strings.HasSuffix(path, "/onlineEndpoints")):
		l := []any{}
		for _, k := range slices.Sorted(maps.Keys(c.docs)) {
			if rest, ok := strings.CutPrefix(k, path+"/"); ok && !strings.Contains(rest, "/") {
				l = append(l, c.docs[k])
			}
		}
		_ = json.NewEncoder(w).Encode(object{"value": l})
	case r.Method == http.MethodDelete:
		delete(c.docs, path)
	default:
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"error":{"code":"ResourceNotFound","message":"The Resource was not found."}}`)
	}
}

// write makes files of NAME, TEXT pairs.
func (c *cabinet) write(t *testing.T, pairs ...string) {
	t.Helper()
	for i := 0; i+1 < len(pairs); i += 2 {
		p := filepath.Join(c.env.Dir, pairs[i])
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(pairs[i+1]), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// az runs a command in workspace ws of group rg.
func (c *cabinet) az(t *testing.T, line ...string) (status int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	env := c.env
	env.Program, env.Stdout, env.Stderr = "az", &o, &e
	getenv := env.Getenv
	env.Getenv = func(k string) string {
		return map[string]string{"AZURE_DEFAULTS_GROUP": "rg", "AZURE_DEFAULTS_WORKSPACE": "ws"}[k] + getenv(k)
	}
	status = Main(t.Context(), line, env)
	return status, o.String(), e.String()
}

func (c *cabinet) ok(t *testing.T, line ...string) string {
	t.Helper()
	status, out, errs := c.az(t, line...)
	if status != exitOK {
		t.Fatalf("az %s: status %d: %s", strings.Join(line, " "), status, errs)
	}
	return out
}

// refused runs a command that must fail with a status and words.
func (c *cabinet) refused(t *testing.T, want int, words string, line ...string) {
	t.Helper()
	status, _, errs := c.az(t, line...)
	if status != want || !strings.Contains(errs, words) {
		t.Errorf("az %s: status %d, %q; want %d and %q", strings.Join(line, " "), status, errs, want, words)
	}
}

const blueYAML = `$schema: https://azuremlschemas.azureedge.net/latest/managedOnlineDeployment.schema.json
name: blue
endpoint_name: my-endpoint
model:
  path: ../model-1/model/
code_configuration:
  code: ../model-1/onlinescoring/
  scoring_script: score.py
environment:
  conda_file: ../model-1/conda.yaml
  image: mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu22.04:latest
instance_type: Standard_DS3_v2
instance_count: 1
request_settings:
  request_timeout_ms: 3000
liveness_probe:
  initial_delay: 5
`

func (c *cabinet) sample(t *testing.T) {
	t.Helper()
	c.write(t, "sample/endpoint.yml", "name: my-endpoint\nauth_mode: key\n", "sample/blue.yml", blueYAML,
		"model-1/model/m.pkl", "pickle", "model-1/onlinescoring/score.py", "def init():\n    pass\n\ndef run(data):\n    return data\n",
		"model-1/onlinescoring/.amlignore", "*.log\nnotes/\n", "model-1/onlinescoring/x.log", "no", "model-1/onlinescoring/notes/n.txt", "no",
		"model-1/conda.yaml", "name: e\ndependencies:\n  - python=3.12\n")
}

func TestML_EndpointAndDeployment(t *testing.T) {
	c := newCabinet(t)
	c.sample(t)
	c.ok(t, "ml", "online-endpoint", "create", "--name", "ep", "-f", "sample/endpoint.yml", "--set", "public_network_access=disabled")
	want := object{"location": "westcentralus", "kind": "Managed", "identity": object{"type": "SystemAssigned"}, "tags": object{}, "id": mlRoot + "/onlineEndpoints/ep", "name": "ep",
		"properties": object{"authMode": "Key", "publicNetworkAccess": "Disabled", "provisioningState": "Succeeded"}}
	if diff := cmp.Diff(want, c.docs[mlRoot+"/onlineEndpoints/ep"]); diff != "" {
		t.Error(diff)
	}
	c.ok(t, "ml", "online-deployment", "create", "--name", "blue", "--endpoint", "ep", "-f", "sample/blue.yml", "--all-traffic")
	d := c.docs[mlRoot+"/onlineEndpoints/ep/deployments/blue"]
	props := objectOr(d["properties"])
	if got := textAt(props, "codeConfiguration", "codeId"); c.docs[got] == nil || !strings.HasSuffix(textAt(c.docs[got], "properties", "codeUri"), "/onlinescoring") {
		t.Errorf("the code is %q: %v", got, c.docs[got])
	}
	if got := textAt(props, "model"); textAt(c.docs[got], "properties", "modelType") != "custom_model" || at(c.docs[got], "properties", "isAnonymous") != true {
		t.Errorf("the model is %q: %v", got, c.docs[got])
	}
	if got := textAt(c.docs[textAt(props, "environmentId")], "properties", "condaFile"); !strings.Contains(got, "python=3.12") {
		t.Errorf("the conda file is %q", got)
	}
	if got, want := []any{at(d, "sku", "capacity"), at(props, "requestSettings", "requestTimeout"), at(props, "livenessProbe", "initialDelay"), props["instanceType"]},
		[]any{1.0, "PT3S", "PT5S", "Standard_DS3_v2"}; !cmp.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	var names []string
	for k := range c.blob {
		names = append(names, k[strings.Index(k[len("/box/LocalUpload/"):], "/")+len("/box/LocalUpload/")+1:])
	}
	slices.Sort(names)
	if want := []string{"model/m.pkl", "onlinescoring/.amlignore", "onlinescoring/score.py"}; !slices.Equal(names, want) {
		t.Errorf("uploaded %q, want %q", names, want)
	}
	if got := at(c.docs[mlRoot+"/onlineEndpoints/ep"], "properties", "traffic", "blue"); got != 100.0 {
		t.Errorf("blue has %v %% of the traffic, want 100", got)
	}
	before := len(c.puts)
	c.ok(t, "ml", "online-deployment", "create", "--name", "green", "--endpoint", "ep", "-f", "sample/blue.yml")
	if got := c.puts[before:]; len(got) != 1 {
		t.Errorf("the same files went up again: %q", got)
	}
	out := c.ok(t, "ml", "online-endpoint", "show", "-n", "ep", "--query", "[provisioning_state, public_network_access, auth_mode, traffic.blue, traffic.green]", "-o", "tsv")
	if want := "Succeeded\ndisabled\nkey\n100\n0\n"; out != want {
		t.Errorf("got %q, want %q", out, want)
	}
	out = c.ok(t, "ml", "online-deployment", "show", "-e", "ep", "-n", "blue", "--query", "{name:name,state:provisioning_state,delay:liveness_probe.initial_delay,ms:request_settings.request_timeout_ms,n:instance_count,t:type}", "-o", "tsv")
	if want := "blue\tSucceeded\t5\t3000\t1\tmanaged\n"; out != want {
		t.Errorf("got %q, want %q", out, want)
	}
	c.ok(t, "ml", "online-deployment", "update", "-e", "ep", "-n", "blue", "--set", "instance_count=3", "request_settings.max_queue_wait_ms=250")
	d = c.docs[mlRoot+"/onlineEndpoints/ep/deployments/blue"]
	if got := []any{at(d, "sku", "capacity"), at(d, "properties", "requestSettings", "maxQueueWait"), at(d, "properties", "model")}; !cmp.Equal(got, []any{3.0, "PT0.25S", props["model"]}) {
		t.Errorf("after the update: %v", got)
	}
	if got := c.ok(t, "ml", "online-deployment", "get-logs", "-e", "ep", "-n", "blue", "-l", "7"); got != "one\ntwo\n{containerType:InferenceServer,tail:7}\n" {
		t.Errorf("the log is %q", got)
	}
	if got := c.ok(t, "ml", "online-endpoint", "get-credentials", "-n", "ep", "--query", "primaryKey", "-o", "tsv"); got != "first\n" {
		t.Errorf("the key is %q", got)
	}
	c.ok(t, "ml", "online-endpoint", "update", "-n", "ep", "--traffic", "blue=60 Green=40", "--mirror-traffic", "green=10")
	if got := at(c.docs[mlRoot+"/onlineEndpoints/ep"], "properties"); at(got, "traffic", "green") != 40.0 || at(got, "mirrorTraffic", "green") != 10.0 || at(got, "publicNetworkAccess") != "Disabled" {
		t.Errorf("after the update: %v", got)
	}
}

func TestML_Invoke(t *testing.T) {
	c := newCabinet(t)
	c.docs[mlRoot+"/onlineEndpoints/ep"] = object{"id": "x", "name": "ep", "properties": object{"authMode": "Key", "scoringUri": c.URL + "/score"}}
	c.docs[mlRoot+"/onlineEndpoints/ep/deployments/blue"] = object{"name": "blue"}
	c.answer("POST /score", func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		if r.Header.Get("azureml-model-deployment") == "blue" {
			w.Header().Set("ms-azureml-model-error-statuscode", "500")
			w.Header().Set("ms-azureml-model-error-reason", "model_error")
			w.WriteHeader(http.StatusFailedDependency)
			fmt.Fprint(w, "it broke")
			return
		}
		fmt.Fprintf(w, "[%q, %q]", r.Header.Get("Authorization"), b)
	})
	c.write(t, "r.json", "{\"data\": [ 1, 2.50 ]}", "bad.json", "{")
	if got, want := c.ok(t, "ml", "online-endpoint", "invoke", "-n", "ep", "--request-file", "r.json"), `"[\"Bearer first\", \"{\\\"data\\\":[1,2.50]}\"]"`+"\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	c.refused(t, 1, "The model answered 500 model_error\nContent: it broke", "ml", "online-endpoint", "invoke", "-n", "ep", "--request-file", "r.json", "--deployment-name", "blue")
	c.refused(t, 1, "Deployment red not found for this endpoint. Its deployments: blue", "ml", "online-endpoint", "invoke", "-n", "ep", "--request-file", "r.json", "-d", "red")
	c.refused(t, 1, "not valid JSON", "ml", "online-endpoint", "invoke", "-n", "ep", "--request-file", "bad.json")
	c.refused(t, 3, "(ResourceNotFound)", "ml", "online-endpoint", "invoke", "-n", "none", "--request-file", "r.json")
}

func TestML_Refusals(t *testing.T) {
	c := newCabinet(t)
	c.sample(t)
	c.docs[mlRoot+"/onlineEndpoints/ep"] = object{"name": "ep", "location": "x", "properties": object{}}
	create := []string{"ml", "online-deployment", "create", "-n", "blue", "-e", "ep", "-f"}
	c.refused(t, 3, "(ResourceNotFound)", "ml", "online-deployment", "create", "-n", "blue", "-e", "none", "-f", "sample/blue.yml")
	c.refused(t, 2, "--local is not supported", append(create, "sample/blue.yml", "--local")...)
	c.refused(t, 1, "Unknown field.", append(create, "sample/blue.yml", "--set", "instance_typo=x")...)
	c.refused(t, 1, `"max_queue_wait_ms"`, append(create, "sample/blue.yml", "--set", "request_settings.max_queue_wait_ms=soon")...)
	c.refused(t, 1, "ManagedOnlineDeploymentSchema", append(create, "sample/blue.yml", "--set", "type=kubernetes")...)
	c.refused(t, 1, "No such file or directory: none.yml", append(create, "none.yml")...)
	c.refused(t, 1, "No such file or directory", append(create, "sample/blue.yml", "--set", "model.path=../nowhere")...)
	c.refused(t, 1, "no scoring script other.py", append(create, "sample/blue.yml", "--set", "code_configuration.scoring_script=other.py")...)
	c.refused(t, 1, "use azureml:NAME:VERSION", append(create, "sample/blue.yml", "--set", "model=my-model:1")...)
	c.refused(t, 3, "(ResourceNotFound)", append(create, "sample/blue.yml", "--set", "model=azureml:my-model:1")...)
	c.refused(t, 2, "--no-wait", append(create, "sample/blue.yml", "--all-traffic", "--no-wait")...)
	c.write(t, "model-1/onlinescoring/score.py", "'''\ndef init():\n'''\ndef run(x):\n  pass\n")
	c.refused(t, 1, "score.py defines no init()", append(create, "sample/blue.yml")...)
	c.ok(t, append(create, "sample/blue.yml", "--skip-script-validation")...)
	c.refused(t, 1, "traffic", "ml", "online-endpoint", "update", "-n", "ep", "--traffic", "blue")
	c.refused(t, 1, "Use --yes", "ml", "online-endpoint", "delete", "-n", "ep")
	c.refused(t, 1, "is not installed", "extension", "update", "-n", "other")
	if _, _, errs := c.az(t, "extension", "update", "-n", "ml"); !strings.Contains(errs, "built in") {
		t.Errorf("got %q", errs)
	}
}

func TestML_DebugShowsNoSignature(t *testing.T) {
	c := newCabinet(t)
	c.write(t, "m.bin", "x")
	status, _, errs := c.az(t, "ml", "model", "create", "-n", "m", "-v", "1", "--path", "m.bin", "--debug")
	if status != exitOK || strings.Contains(errs, "secret") || !strings.Contains(errs, "sig=%2A") {
		t.Errorf("status %d: %s", status, errs)
	}
}

func TestML_LargeFilesGoInBlocks(t *testing.T) {
	c := newCabinet(t)
	c.write(t, "big.bin", strings.Repeat("x", blockSize+5), "even.bin", strings.Repeat("y", 2*blockSize))
	for _, name := range []string{"big.bin", "even.bin"} {
		c.ok(t, "ml", "model", "create", "-n", "m", "-v", "1", "--path", name)
	}
	sizes := map[string]int{}
	for k, v := range c.blob {
		sizes[k[strings.LastIndexByte(k, '/')+1:]] = len(v)
	}
	want := map[string]int{"big.bin": 8, "big.bin#MDAwMDAwMDA=": blockSize, "big.bin#MDAwMDAwMDE=": 5,
		"even.bin": 8, "even.bin#MDAwMDAwMDA=": blockSize, "even.bin#MDAwMDAwMDE=": blockSize}
	if diff := cmp.Diff(want, sizes); diff != "" {
		t.Error(diff)
	}
}

func TestML_Assets(t *testing.T) {
	c := newCabinet(t)
	c.docs[mlRoot+"/models/m"] = object{"properties": object{"latestVersion": "4"}}
	c.write(t, "m.pkl", "x", "env.yml", "name: e\nversion: 3\nimage: i:1\ninference_config:\n  scoring_route:\n    path: /score\n    port: 5001\n", "ctx/Dockerfile", "FROM x")
	if got := c.ok(t, "ml", "model", "create", "-n", "m", "--path", "m.pkl", "--query", "version", "-o", "tsv"); got != "5\n" {
		t.Errorf("the version is %q", got)
	}
	c.ok(t, "ml", "environment", "create", "-f", "env.yml")
	if got := at(c.docs[mlRoot+"/environments/e/versions/3"], "properties"); at(got, "inferenceConfig", "scoringRoute", "port") != 5001.0 || at(got, "osType") != "Linux" {
		t.Errorf("got %v", got)
	}
	c.ok(t, "ml", "environment", "create", "-n", "b", "-v", "1", "--build-context", "ctx")
	if got := textAt(c.docs[mlRoot+"/environments/b/versions/1"], "properties", "build", "contextUri"); !strings.HasSuffix(got, "/ctx") {
		t.Errorf("the context is %q", got)
	}
	uri := textAt(c.docs[mlRoot+"/environments/b/versions/1"], "properties", "build", "contextUri")
	known := false // so that the same files have the same address when they are named again
	for id, doc := range c.docs {
		known = known || strings.HasPrefix(id, mlRoot+"/codes/") && textAt(doc, "properties", "codeUri") == uri
	}
	if !known {
		t.Errorf("the build context %s is no code of the workspace", uri)
	}
	c.refused(t, 1, "not both", "ml", "environment", "create", "-n", "b", "-v", "1", "--build-context", "ctx", "--image", "x")
	c.refused(t, 1, "Must provide either version or label", "ml", "model", "show", "-n", "m")
	if got := c.ok(t, "ml", "model", "show", "-n", "m", "--version", "5", "--query", "[name,version,type]", "-o", "tsv"); got != "m\n5\ncustom_model\n" {
		t.Errorf("got %q", got)
	}
}

func TestML_WorkspaceIsMadeByATemplate(t *testing.T) {
	c := newCabinet(t)
	c.docs["/subscriptions/sub/resourceGroups/rg"] = object{"location": "westcentralus"}
	c.az(t, "ml", "workspace", "create", "-n", "new", "-m", "allow_only_approved_outbound", "--set", "v1_legacy_mode=true", "--tags", "a=b")
	if len(c.puts) != 1 || !strings.Contains(c.puts[0], "/providers/Microsoft.Resources/deployments/new-") {
		t.Fatalf("put %q", c.puts)
	}
	p := at(c.docs[c.puts[0]], "properties", "parameters")
	props := at(p, "workspaceProperties", "value")
	if at(props, "managedNetwork", "isolationMode") != "AllowOnlyApprovedOutbound" || at(props, "v1LegacyMode") != true || at(p, "tags", "value", "a") != "b" {
		t.Errorf("the parameters are %v", p)
	}
	if n := textAt(p, "storageAccountName", "value"); len(n) != 24 || !strings.HasPrefix(n, "newstorage") {
		t.Errorf("the storage account is called %q", n)
	}
	c.ok(t, "ml", "workspace", "create", "-n", "ws", "--set", "description=x")
	if got := c.puts[1]; got != mlRoot {
		t.Errorf("a workspace that exists was not changed, but %q", got)
	}
	c.refused(t, 1, "Unknown field.", "ml", "workspace", "update", "-n", "ws", "--set", "colour=red")
	c.refused(t, 1, "--update-dependent-resources", "ml", "workspace", "update", "-n", "ws", "--container-registry", "/x")
}

func TestML_OutboundRules(t *testing.T) {
	c := newCabinet(t)
	c.ok(t, "ml", "workspace", "outbound-rule", "set", "--rule", "pypi", "--type", "fqdn", "--destination", "*.pypi.org")
	c.ok(t, "ml", "workspace", "outbound-rule", "set", "--rule", "kv", "--type", "private_endpoint", "--service-resource-id", "/x", "--subresource-target", "vault")
	c.ok(t, "ml", "workspace", "outbound-rule", "set", "--rule", "tag", "--type", "service_tag", "--service-tag", "AzureMonitor", "--protocol", "TCP", "--port-ranges", "443")
	c.ok(t, "ml", "workspace", "outbound-rule", "set", "--rule", "range", "--type", "service_tag", "--address-prefixes", "203.0.113.0/24", "2001:db8::/32", "--protocol", "TCP", "--port-ranges", "443")
	for rule, want := range map[string]object{
		"range": {"type": "ServiceTag", "category": "UserDefined", "destination": object{"addressPrefixes": []any{"203.0.113.0/24", "2001:db8::/32"}, "protocol": "TCP", "portRanges": "443"}},
		"pypi":  {"type": "FQDN", "category": "UserDefined", "destination": "*.pypi.org"},
		"kv":    {"type": "PrivateEndpoint", "category": "UserDefined", "destination": object{"serviceResourceId": "/x", "subresourceTarget": "vault", "sparkEnabled": false}},
		"tag":   {"type": "ServiceTag", "category": "UserDefined", "destination": object{"serviceTag": "AzureMonitor", "protocol": "TCP", "portRanges": "443"}},
	} {
		want["provisioningState"] = "Succeeded"
		if diff := cmp.Diff(want, c.docs[mlRoot+"/outboundRules/"+rule]["properties"]); diff != "" {
			t.Errorf("%s: %s", rule, diff)
		}
	}
	if got := c.ok(t, "ml", "workspace", "outbound-rule", "show", "--rule", "kv", "--query", "[type, category, destination.subresource_target]", "-o", "tsv"); got != "private_endpoint\nuser_defined\nvault\n" {
		t.Errorf("got %q", got)
	}
	c.refused(t, 2, "--destination is required", "ml", "workspace", "outbound-rule", "set", "--rule", "x", "--type", "fqdn")
	c.refused(t, 3, "ResourceNotFound", "ml", "workspace", "outbound-rule", "remove", "--rule", "none", "--yes")
}

func TestIgnore(t *testing.T) {
	r := parseIgnore("# comment\n*.log\n!keep.log\n/top\nbuild/\na/**/z\ndoc/*.txt\n[ab].c\n\\#x\n")
	for name, want := range map[string]bool{"x.log": true, "d/x.log": true, "keep.log": false, "top": true, "d/top": false, "build/x": true, "d/build/x": true,
		"a/z": true, "a/b/c/z": true, "doc/x.txt": true, "doc/d/x.txt": false, "b.c": true, "c.c": false, "#x": true, "build": false} {
		if got := r.match(name, false); got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}

func TestDefinesFunction(t *testing.T) {
	for text, want := range map[string]bool{
		"def init():": true, "async def init( a):": true, "init = x": true, "from lib import init, run": true, "from lib import *": true,
		"  def init():": false, "# def init():": false, "x = 1 # '''\ndef init():": true, "def initial():": false,
		`"""` + "\ndef init():\n" + `"""`: false, `s = "'''"` + "\ndef init():": true, "": false,
	} {
		if got := definesFunction(text, "init"); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}

func TestISODurations(t *testing.T) {
	for text, want := range map[string]string{"PT5S": "PT5S", "PT1M30S": "PT90S", "PT0.5S": "PT0.5S", "P1DT1H": "PT90000S"} {
		d, ok := parseISODuration(text)
		if got := isoDuration(d); !ok || got != want {
			t.Errorf("%s: %s, %v; want %s", text, got, ok, want)
		}
	}
	for _, text := range []string{"", "P", "5S", "PT", "PTS", "PT5", "PT1e5S", "P5M"} {
		if d, ok := parseISODuration(text); ok && text != "PT" {
			t.Errorf("%q: read as %s", text, d)
		}
	}
}

func TestML_ScaleToZero(t *testing.T) {
	spec, err := parseSpec([]byte("instance_type: Standard_DS3_v2\nscale_settings: {type: target_utilization, min_instances: 0, max_instances: 3, polling_interval: 5}\n"))
	if err != nil {
		t.Fatal(err)
	}
	body, err := deploymentBody(spec)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"maxInstances":3,"minInstances":0,"pollingInterval":"PT5S","scaleType":"TargetUtilization"}`
	if got, err := json.Marshal(at(body, "properties", "scaleSettings")); err != nil || string(got) != want {
		t.Errorf("got %s, %v, want %s", got, err, want)
	}
	props := at(body, "properties").(object)
	props["currentInstances"], props["scaledToZero"] = 0, true
	shown := showOnlineDeployment(body).(object)
	if shown["current_instances"] != 0 || shown["scaled_to_zero"] != true || at(shown, "scale_settings", "min_instances") != 0 {
		t.Errorf("got %v", shown)
	}
	if again, err := deploymentBody(shown); err != nil || at(again, "properties", "scaledToZero") != nil || at(again, "properties", "currentInstances") != nil {
		t.Errorf("what is computed is sent: %v, %v", again, err)
	}
	if _, err := odFields().wire(object{"scale_settings": object{"type": "target_utilization", "min_instances": "none"}}); err == nil {
		t.Error("a number that is none was taken")
	}
}

func FuzzSpec(f *testing.F) {
	for _, s := range []string{blueYAML, "a: [1, {b: 2.5}]\n", "a: &x [*x]\n", "- 1", "", "a: 1\na: 2", "{", "a: 0x10\nb: .inf\nc: ~"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := parseSpec(b)
		if err != nil {
			return
		}
		if _, err := json.Marshal(o); err != nil {
			t.Fatalf("%q: no JSON: %v", b, err)
		}
		for _, s := range []mlFields{odFields(), endpointFields(), workspaceFields(), environmentKind().fields} {
			if wire, err := s.wire(o); err == nil {
				s.show(wire)
			}
		}
	})
}

func FuzzIgnore(f *testing.F) {
	for _, s := range []string{"*.log", "[a", "[!a]x/", "**", "a/**/b", "\\", "!", "[]]", "/"} {
		f.Add(s, "a/b.log")
	}
	f.Fuzz(func(_ *testing.T, text, name string) { parseIgnore(text).match(name, true) })
}

func FuzzScript(f *testing.F) {
	for _, s := range []string{"def init():\n", `"""` + "\n", `'\`, `"""\`, "#", "from a import (\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if !definesFunction("def init():\n"+text, "init") {
			t.Fatalf("%q: init is not found", text)
		}
	})
}

func TestDoctorEndpoint(t *testing.T) {
	c := newCabinet(t)
	c.docs["/vault"] = object{"name": "kv", "properties": object{"networkAcls": object{"bypass": "None"}}}
	c.answer("GET /vault", func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(c.docs["/vault"]) })
	c.docs[mlRoot]["properties"] = object{"provisioningState": "Succeeded", "keyVault": "/vault", "workspaceId": "0A", "managedNetwork": object{"isolationMode": "AllowOnlyApprovedOutbound"}}
	c.docs[mlRoot+"/outboundRules"] = object{"value": []any{}}
	examine := func(want int, words ...string) {
		t.Helper()
		status, out, errs := c.az(t, "doctor", "endpoint", "ep")
		if status != want {
			t.Errorf("status %d, want %d: %s%s", status, want, out, errs)
		}
		for _, w := range words {
			if !strings.Contains(out, w) {
				t.Errorf("%q is not in\n%s", w, out)
			}
		}
	}
	examine(1, "there is no endpoint ep", "bypass is None", "az keyvault update -n kv --bypass AzureServices", "az ml workspace provision-network -g rg -n ws", "The first step that fails: endpoint:")
	c.docs[mlRoot+"/onlineEndpoints/ep"] = object{"name": "ep", "properties": object{"provisioningState": "Succeeded", "authMode": "Key", "publicNetworkAccess": "Disabled", "scoringUri": "https://ep.invalid/score"}}
	c.docs[mlRoot+"/onlineEndpoints/ep/deployments/blue"] = object{"name": "blue", "properties": object{"provisioningState": "Failed"}}
	examine(1, "The first step that fails: key vault:", "nobody can reach it", "blue is Failed", "--traffic blue=100", "look from inside one")
	sub(c.docs["/vault"], "properties")["networkAcls"] = object{"bypass": "AzureServices"}
	sub(sub(c.docs[mlRoot], "properties"), "managedNetwork")["status"] = object{"status": "Active"}
	sub(c.docs[mlRoot], "properties")["privateEndpointConnections"] = []any{object{"name": "pe", "properties": object{"privateLinkServiceConnectionState": object{"status": "Approved"}}}}
	zone := "/subscriptions/sub/providers/Microsoft.Network/privateDnsZones"
	c.docs[zone] = object{"value": []any{object{"name": mlZone, "id": zone + "/z"}}}
	c.docs[zone+"/z/ALL"] = object{"value": []any{object{"name": "*.0a.inference.westcentralus"}}}
	c.docs[zone+"/z/virtualNetworkLinks"] = object{"value": []any{}}
	examine(1, "The first step that fails: names:", "is linked to no virtual network")
	c.docs[zone+"/z/virtualNetworkLinks"] = object{"value": []any{object{}}}
	sub(c.docs[mlRoot+"/onlineEndpoints/ep/deployments/blue"], "properties")["provisioningState"] = "Updating"
	sub(c.docs[mlRoot+"/onlineEndpoints/ep"], "properties")["traffic"] = object{"blue": 100}
	examine(0, "No step fails.", "blue is Updating: its rollout goes on", "get-logs")
	sub(c.docs[mlRoot+"/onlineEndpoints/ep/deployments/blue"], "properties")["provisioningState"] = "Succeeded"
	examine(0, "No step fails.", "blue=100")
	sub(c.docs[mlRoot+"/onlineEndpoints/ep/deployments/blue"], "properties")["scaledToZero"] = true
	examine(0, "No step fails.", "blue (scaled to zero: the next request starts it): Succeeded")
	sub(c.docs[mlRoot], "properties")["containerRegistry"] = "/subscriptions/sub/reg"
	sub(c.docs[mlRoot], "properties")["managedNetwork"] = object{"isolationMode": "Disabled"}
	sub(c.docs[mlRoot+"/onlineEndpoints/ep/deployments/blue"], "properties")["egressPublicNetworkAccess"] = "Enabled"
	c.docs["/subscriptions/sub/reg"] = object{"name": "reg", "properties": object{"publicNetworkAccess": "Disabled"}}
	examine(1, "The first step that fails: registry:", "az acr update -n reg --public-network-enabled true")
}

func TestApprove_ByTheNameAlone(t *testing.T) {
	c := newCabinet(t)
	registry := "/subscriptions/sub/resourceGroups/rg/providers/Microsoft.ContainerRegistry/registries/r"
	pec := registry + "/privateEndpointConnections/pe.1"
	c.docs["/subscriptions/sub/resources"] = object{"value": []any{object{"id": registry, "type": "Microsoft.ContainerRegistry/registries"}, object{"id": "/x", "type": "Microsoft.Network/virtualNetworks"}}}
	c.docs[registry+"/privateEndpointConnections"] = object{"value": []any{object{"id": pec, "name": "pe.1"}}}
	c.docs[pec] = object{"id": pec, "properties": object{"privateLinkServiceConnectionState": object{"status": "Pending"}}}
	c.ok(t, "network", "private-endpoint-connection", "approve", "-n", "pe.1")
	if got := textAt(c.docs[pec], "properties", "privateLinkServiceConnectionState", "status"); got != "Approved" {
		t.Errorf("the connection is %s", got)
	}
	c.refused(t, 3, "No private endpoint connection 'pe.2'", "network", "private-endpoint-connection", "approve", "-n", "pe.2")
	c.docs[registry+"/privateEndpointConnections"] = object{"value": []any{object{"id": pec, "name": "pe.1"}, object{"id": pec + "b", "name": "PE.1"}}}
	c.refused(t, 2, "name one with --id", "network", "private-endpoint-connection", "approve", "-n", "pe.1")
}

func TestRegistryConnections(t *testing.T) {
	c := newCabinet(t)
	registry := "/subscriptions/sub/resourceGroups/rg/providers/Microsoft.ContainerRegistry/registries/r"
	pec := registry + "/privateEndpointConnections/pe.1"
	c.docs["/subscriptions/sub/resources"] = object{"value": []any{object{"id": registry, "name": "r", "type": "Microsoft.ContainerRegistry/registries"}}}
	c.docs[pec] = object{"id": pec, "name": "pe.1", "properties": object{"privateLinkServiceConnectionState": object{"status": "Pending"}}}
	state := func() string {
		return textAt(c.docs[pec], "properties", "privateLinkServiceConnectionState", "status") + " " + textAt(c.docs[pec], "properties", "privateLinkServiceConnectionState", "description")
	}
	c.ok(t, "acr", "private-endpoint-connection", "approve", "-r", "r", "-n", "pe.1", "--description", "why not")
	if got := state(); got != "Approved why not" {
		t.Errorf("the connection is %s", got)
	}
	if got := c.ok(t, "acr", "private-endpoint-connection", "show", "-r", "r", "-g", "rg", "-n", "pe.1", "--query", "privateLinkServiceConnectionState.status", "-o", "tsv"); strings.TrimSpace(got) != "Approved" {
		t.Errorf("show: %q", got)
	}
	c.ok(t, "acr", "private-endpoint-connection", "reject", "-r", "r", "-n", "pe.1")
	if got := state(); got != "Rejected why not" {
		t.Errorf("the connection is %s", got)
	}
	c.refused(t, 3, "was not found", "acr", "private-endpoint-connection", "show", "-r", "r", "-n", "pe.2")
	c.refused(t, 2, "--name", "acr", "private-endpoint-connection", "delete", "-r", "r")
	c.ok(t, "acr", "private-endpoint-connection", "delete", "-r", "r", "-n", "pe.1")
	if c.docs[pec] != nil {
		t.Error("the connection is still there")
	}
}

func TestOutboundRules_Table(t *testing.T) {
	c := newCabinet(t)
	rule := func(name, kind string, destination any) object {
		return object{"name": name, "properties": object{"type": kind, "category": "UserDefined", "status": "Active", "destination": destination}}
	}
	c.docs[mlRoot+"/outboundRules"] = object{"value": []any{
		rule("a", "FQDN", "pypi.org"),
		rule("b", "PrivateEndpoint", object{"serviceResourceId": "/subscriptions/s/providers/Microsoft.KeyVault/vaults/kv", "subresourceTarget": "vault"}),
		rule("c", "ServiceTag", object{"serviceTag": "Storage", "protocol": "TCP", "portRanges": "443"}),
		rule("d", "ServiceTag", object{"addressPrefixes": []any{"203.0.113.0/24", "198.51.100.1/32"}, "protocol": "TCP", "portRanges": "80, 443"}),
		rule("e", "ServiceTag", object{"protocol": "TCP", "portRanges": "1"}),
	}}
	out := c.ok(t, "ml", "workspace", "outbound-rule", "list", "-o", "table")
	for _, want := range []string{"pypi.org", "kv vault", "Storage TCP 443", "203.0.113.0/24,198.51.100.1/32 TCP 80, 443", " TCP 1"} {
		if !strings.Contains(out, want+"\n") {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}
