package inference_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"lazurite.dev/e2e/live"
)

// TestDeployments runs the image in pods of a workspace: a model of MLflow
// without a script, an environment that is built, and one that can't be had; the
// doctor finds nothing, and Microsoft's client for Python deploys and scores.
func TestDeployments(t *testing.T) {
	bin := filepath.Dir(os.Getenv("LAZ_BINARY"))
	for _, file := range []string{"images/azureml-sklearn.tar", "kube/bin/kubernetes"} {
		_, err := os.Stat(filepath.Join(bin, file))
		live.Need(t, os.Getenv("LAZ_BINARY") != "" && err == nil, file+" beside laz: `make images kube`, with LAZ_BINARY naming bin/laz")
	}
	live.Need(t, runtime.GOOS == "linux" && os.Geteuid() == 0, "Linux and root")
	c, err := live.Start(live.Options{Background: true})
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir("testdata")
	az := func(words string) string {
		t.Helper()
		out, err := c.Laz(append([]string{"run", "--", "az"}, strings.Fields(words)...)...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	az("group create -n g -l westus2")
	az("ml workspace create -g g -n wsinf -l westus2")
	az("configure --defaults workspace=wsinf group=g")
	az("ml online-endpoint create -f endpoint.yml")
	_, err = c.Laz("run", "--", "az", "ml", "online-deployment", "create", "-f", "other.yml")
	for _, want := range []string{"ImageBuildFailure", "python: =3.12 is asked for, the image has 3.", "torch: ==2.4 is asked for, the image has none"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("wanted %q, got %v", want, err)
		}
	}
	az("ml online-deployment create -f mlflow.yml --all-traffic")
	az("ml online-deployment create -f built.yml")
	if got := az("ml online-endpoint invoke -n inf-end -r mlflow.json"); !strings.Contains(got, "[101.0, 105.0]") {
		t.Errorf("the model of MLflow answered %s", got)
	}
	if got := az("ml online-endpoint invoke -n inf-end --deployment-name built -r mlflow.json"); !strings.Contains(got, "hello") || !strings.Contains(got, "world") {
		t.Errorf("what was built answered %s", got)
	}
	if got := az("ml online-deployment get-logs -e inf-end -n built --container storage-initializer"); !strings.Contains(got, "The image has all of the 2 packages that the Dockerfile asks for.") {
		t.Errorf("the build log is not in %s", got)
	}
	for name, want := range map[string]string{"mlflow": "POST /score 200 ", "built": "a line of init()"} {
		if got := az("ml online-deployment get-logs -e inf-end -n " + name); !strings.Contains(got, want) {
			t.Errorf("the log of %s lacks %q:\n%s", name, want, got)
		}
	}
	if out, err := c.Laz("run", "--", "laz", "doctor", "endpoint", "inf-end"); err == nil || !strings.Contains(out, "The first step that fails: deployments: other is Failed") {
		t.Errorf("%v\n%s", err, out)
	}
	az("ml online-deployment delete -e inf-end -n other --yes")
	if out, err := c.Laz("run", "--", "laz", "doctor", "endpoint", "inf-end"); err != nil || !strings.Contains(out, "No step fails.") {
		t.Errorf("%v\n%s", err, out)
	}
	t.Run("ScaledToZero", func(t *testing.T) { sleeps(t, az) })
	t.Run("azure-ai-ml", func(t *testing.T) { scoredByPython(t, c, strings.TrimSpace(az("account show --query id -o tsv"))) })
}

// sleeps has a deployment go to zero when nobody asks, and be started by who does.
func sleeps(t *testing.T, az func(words string) string) {
	az("ml online-deployment update -e inf-end -n mlflow --set request_settings.request_timeout_ms=120000 scale_settings.type=target_utilization scale_settings.min_instances=0 scale_settings.max_instances=1")
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	const show = "ml online-deployment show -e inf-end -n mlflow -o tsv --query "
	for end := time.Now().Add(3 * time.Minute); strings.TrimSpace(az(show+"scaled_to_zero")) != "true"; <-tick.C {
		if time.Now().After(end) {
			t.Fatal("it has an instance still: " + az("ml online-deployment show -e inf-end -n mlflow"))
		}
	}
	if got := az(show + "provisioning_state"); strings.TrimSpace(got) != "Succeeded" {
		t.Errorf("its state is %s", got)
	}
	if got := az("ml online-deployment get-logs -e inf-end -n mlflow"); !strings.Contains(got, "The deployment is scaled to zero") {
		t.Errorf("its log is %s", got)
	}
	began := time.Now()
	if got := az("ml online-endpoint invoke -n inf-end -r mlflow.json"); !strings.Contains(got, "[101.0, 105.0]") {
		t.Errorf("from zero it answered %s", got)
	}
	t.Logf("from zero it answered in %s", time.Since(began).Round(10*time.Millisecond))
	if got := az(show + "current_instances"); strings.TrimSpace(got) != "1" {
		t.Errorf("it has %s instances", got)
	}
}

// scoredByPython has Microsoft's client for Python make a deployment and score it.
func scoredByPython(t *testing.T, c *live.Cloud, subscription string) {
	const python = "/usr/bin/python3" // the one that Debian's packages are installed for
	live.Need(t, exec.Command(python, "-c", "import azure.identity, importlib.util as u; assert u.find_spec('azure.ai.ml')").Run() == nil, "Debian's python3-azure: run `make e2e-deps`")
	sample, err := filepath.Abs("../../walkthroughs/sample")
	if err != nil {
		t.Fatal(err)
	}
	cmd := c.Command(t.Context(), c.Bin, "run", "--", python, "-B", "../../python/deployment.py")
	cmd.Env = append(cmd.Env, "SUBSCRIPTION="+subscription, "ML_GROUP=g", "ML_WORKSPACE=wsinf", "ML_SAMPLE="+sample)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
