package kube_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"lazurite.dev/e2e/live"
)

const scorer = `
$schema: https://azuremlschemas.azureedge.net/latest/managedOnlineDeployment.schema.json
name: blue
endpoint_name: scorer
environment:
  name: scorer
  version: 1
  image: lazurite.dev/toybox:v1
  inference_config:
    liveness_route: {path: /, port: 5001}
    readiness_route: {path: /, port: 5001}
    scoring_route: {path: /score, port: 5001}
environment_variables: {TOYBOX: "score 5001 %s"}
app_insights_enabled: true
instance_type: Standard_F2s_v2
instance_count: 2
request_settings: {max_concurrent_requests_per_instance: 10, max_queue_wait_ms: 5000, request_timeout_ms: 10000}
liveness_probe: {initial_delay: 1, period: 1}
readiness_probe: {initial_delay: 1, period: 1}
`

// loaded asks an endpoint without a pause while something is done, and gives
// how often it was answered what.
func (k *kube) loaded(t *testing.T, uri, key string, do func()) map[string]int {
	t.Helper()
	cmd := k.Command(t.Context(), k.Bin, "run", "--", filepath.Join(k.Dir, "toybox"), "load", uri, key, "8")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	do()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v: %s", err, errs.String())
	}
	answers := map[string]int{}
	for line := range strings.Lines(out.String()) {
		n, what, _ := strings.Cut(strings.TrimSpace(line), "\t")
		answers[what], _ = strconv.Atoi(n)
	}
	t.Logf("answers: %v", answers)
	return answers
}

// scorers are the processes of the deployment's instances.
func (k *kube) scorers(t *testing.T) (pids []int) {
	t.Helper()
	list, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range list {
		environ, _ := os.ReadFile(file) // it may have ended
		cgroup, _ := os.ReadFile(filepath.Join(filepath.Dir(file), "cgroup"))
		if bytes.Contains(environ, []byte("TOYBOX=score")) && bytes.Contains(cgroup, []byte("lazurite-"+k.instance())) {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
		}
	}
	return pids
}

// TestScoring_UnderLoad: a rolling update of a deployment loses no request; of an
// instance that is killed only those that were with it, and they say why.
func TestScoring_UnderLoad(t *testing.T) {
	k := begin(t, live.Options{}) // beside no other test: it counts what is lost under its own load
	defer func() {
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(k.Home(), "log", "laz.log"))
			for line := range strings.Lines(string(log)) {
				if strings.Contains(line, `"level":"ERROR"`) || strings.Contains(line, "level=ERROR") {
					t.Log(line)
				}
			}
		}
	}()
	dir := t.TempDir()
	file := filepath.Join(dir, "blue.yml")
	write := func(name string) {
		t.Helper()
		if err := os.WriteFile(file, fmt.Appendf(nil, scorer, name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	k.az(t, "configure", "--defaults", "group="+group, "workspace=busy")
	k.az(t, "ml", "workspace", "create", "-n", "busy", "-l", "eastus")
	k.az(t, "ml", "online-endpoint", "create", "-n", "scorer", "--auth-mode", "key")
	write("one")
	k.az(t, "ml", "online-deployment", "create", "-f", file, "--all-traffic")
	uri := k.az(t, "ml", "online-endpoint", "show", "-n", "scorer", "--query", "scoring_uri", "-o", "tsv")
	key := k.az(t, "ml", "online-endpoint", "get-credentials", "-n", "scorer", "--query", "primaryKey", "-o", "tsv")
	write("two")
	answers := k.loaded(t, uri, key, func() { k.az(t, "ml", "online-deployment", "update", "-f", file) })
	if answers["200 one"] == 0 || answers["200 two"] == 0 || len(answers) != 2 {
		t.Errorf("a rolling update: %v", answers)
	}
	k.observed(t)
	answers = k.loaded(t, uri, key, func() {
		var pids []int
		if !live.Until(time.Minute, func() bool { pids = k.scorers(t); return len(pids) == 2 }) {
			t.Fatalf("instances: %v, want two", pids)
		}
		timer := time.NewTimer(2 * time.Second)
		defer timer.Stop()
		<-timer.C
		if err := syscall.Kill(pids[0], syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if !live.Until(time.Minute, func() bool { return len(k.scorers(t)) == 2 }) {
			t.Error("the instance did not come back")
		}
	})
	failed := 0
	for what, n := range answers {
		if what == "200 two" {
			continue
		}
		if failed += n; !strings.HasPrefix(what, "502 model_gone: ") && !strings.HasPrefix(what, "424 model_not_ready: ") {
			t.Errorf("a killed instance: %d times %q", n, what)
		}
	}
	if failed > 8 || answers["200 two"] == 0 {
		t.Errorf("a killed instance: %d requests failed, at most 8 were with it", failed)
	}
	k.scorerOfARegistry(t, dir)
}

const (
	scorerEnvironment = `
name: pulled
version: "%s"
image: %s
inference_config:
  liveness_route: {path: /, port: 5001}
  readiness_route: {path: /, port: 5001}
  scoring_route: {path: /score, port: 5001}
`
	pulledScorer = `
name: green
endpoint_name: scorer
environment: azureml:pulled:%s
environment_variables: {TOYBOX: "score 5001 pulled"}
instance_type: Standard_F2s_v2
instance_count: 1
liveness_probe: {initial_delay: 1, period: 1}
readiness_probe: {initial_delay: 1, period: 1}
`
)

// scorerOfARegistry deploys an image of a registry of this cloud to the endpoint
// scorer of the workspace busy: not before its identity may pull, which it may
// once the registry is the workspace's.
func (k *kube) scorerOfARegistry(t *testing.T, dir string) {
	t.Helper()
	const registry, image = "busypulls", "busypulls.azurecr.io/team/scorer"
	id := k.az(t, "acr", "create", "--resource-group", group, "--name", registry, "--sku", "Basic", "--query", "id", "-o", "tsv")
	k.push(t, registry, image+":v1")
	write := func(name, format string, args ...any) string {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, fmt.Appendf(nil, format, args...), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	deploy := func(version string) (string, error) {
		return k.Within(3*time.Minute, "ml", "online-deployment", "create", "-f", write("green.yml", pulledScorer, version))
	}
	k.az(t, "ml", "environment", "create", "-f", write("environment.yml", scorerEnvironment, "1", image+":v1"))
	if got := k.az(t, "ml", "environment", "show", "-n", "pulled", "--version", "1", "--query", "image", "-o", "tsv"); got != image+":v1" {
		t.Errorf("the environment has the image %s", got)
	}
	principal := k.az(t, "ml", "online-endpoint", "show", "-n", "scorer", "--query", "identity.principal_id", "-o", "tsv")
	_, err := deploy("1")
	for _, want := range []string{"BadArgument", "Unable to download user container image '" + image + ":v1'",
		"az role assignment create --assignee-object-id " + principal + " --assignee-principal-type ServicePrincipal --role AcrPull --scope $(az acr show -n " + registry + " --query id -o tsv)"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("without the role: wanted %q, got %v", want, err)
		}
	}
	k.az(t, "ml", "workspace", "update", "-n", "busy", "--container-registry", id, "--update-dependent-resources")
	k.az(t, "ml", "environment", "create", "-f", write("environment.yml", scorerEnvironment, "2", image+":v2"))
	if _, err := deploy("2"); err == nil || !strings.Contains(err.Error(), "BadArgument") || !strings.Contains(err.Error(), `manifest tagged by "v2" is not found`) {
		t.Errorf("a tag that is not there: %v", err)
	}
	if _, err := deploy("1"); err != nil {
		t.Fatal(err)
	}
	if got := k.az(t, "ml", "online-endpoint", "invoke", "-n", "scorer", "--deployment-name", "green", "-r", write("request.json", "{}")); !strings.Contains(got, "pulled") {
		t.Errorf("the image of the registry answers %s", got)
	}
	if log := k.az(t, "ml", "online-deployment", "get-logs", "-e", "scorer", "-n", "green", "--container", "storage-initializer"); !strings.Contains(log, image+"@sha256:") {
		t.Errorf("the build log does not say what was pulled:\n%s", log)
	}
}

// observed: what was scored and what the servers printed come out of the
// workspace's Application Insights.
func (k *kube) observed(t *testing.T) {
	t.Helper()
	app := k.az(t, "ml", "workspace", "show", "-n", "busy", "--query", "application_insights", "-o", "tsv")
	ask := func(query string) string {
		return k.az(t, "monitor", "app-insights", "query", "--app", app, "--analytics-query", query, "--query", "tables[0].rows[0][0]", "-o", "tsv")
	}
	const scored = `requests | where name == "POST /score" and success == "True" and cloud_RoleName == "blue" and customDimensions.endpoint == "scorer" | summarize dcount(operation_Id)`
	if n, err := strconv.Atoi(ask(scored)); err != nil || n < 2 {
		t.Errorf("%d scored requests are recorded, %v", n, err)
	}
	if !live.Until(time.Minute, func() bool {
		n, err := strconv.Atoi(ask(`traces | where message == "scoring on 5001" and customDimensions.deployment == "blue" | summarize dcount(cloud_RoleInstance)`))
		return err == nil && n >= 2
	}) {
		t.Errorf("the lines of the instances are not recorded: %s", ask("traces | count"))
	}
}
