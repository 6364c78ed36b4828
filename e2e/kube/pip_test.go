package kube_test

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lazurite.dev/e2e/live"
)

const (
	indexName    = "index.world"
	indexAddress = "203.0.113.4"
)

// wheel is a package with files (PEP 427): names and contents by turns, where
// INFO and DATA stand for the folders of what is known of it and of what goes elsewhere.
func wheel(t *testing.T, name, version string, content []string, needs ...string) []byte {
	t.Helper()
	folder := strings.ReplaceAll(name, "-", "_") + "-" + version
	info := folder + ".dist-info/"
	metadata := "Metadata-Version: 2.1\nName: " + name + "\nVersion: " + version + "\n"
	for _, n := range needs {
		metadata += "Requires-Dist: " + n + "\n"
	}
	files := [][2]string{{info + "METADATA", metadata}, {info + "WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"}}
	for i := 0; i < len(content); i += 2 {
		files = append(files, [2]string{strings.NewReplacer("INFO", folder+".dist-info", "DATA", folder+".data").Replace(content[i]), content[i+1]})
	}
	var record strings.Builder
	for _, f := range files {
		sum := sha256.Sum256([]byte(f[1]))
		fmt.Fprintf(&record, "%s,sha256=%s,%d\n", f[0], base64.RawURLEncoding.EncodeToString(sum[:]), len(f[1]))
	}
	files = append(files, [2]string{info + "RECORD", record.String() + info + "RECORD,,\n"})
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, f := range files {
		w, err := z.Create(f[0])
		if err == nil {
			_, err = w.Write([]byte(f[1]))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// index is a package index (PEP 503) in the world outside, with two packages; it
// gives the file with its certificate.
func (w *world) index(t *testing.T) (ca string) {
	t.Helper()
	mux := http.NewServeMux()
	offer := func(name, file string, content []byte) {
		sum := sha256.Sum256(content)
		mux.HandleFunc("GET /simple/"+name+"/{$}", func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Type", "text/html")
			_, _ = fmt.Fprintf(rw, `<!DOCTYPE html><html><body><a href="../../files/%[1]s#sha256=%[2]s">%[1]s</a></body></html>`, file, hex.EncodeToString(sum[:]))
		})
		mux.HandleFunc("GET /files/"+file, func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write(content) })
	}
	const server = "azureml-inference-server-http" // as azureml-defaults asks for it
	offer("greeter", "greeter-1.4-py3-none-any.whl", wheel(t, "greeter", "1.4", []string{
		"greeter.py", "import sys\ndef greet(who):\n    return 'hello ' + who\ndef main():\n    print(greet(sys.argv[1]))\n",
		"INFO/entry_points.txt", "[console_scripts]\ngreet = greeter:main\n", "DATA/scripts/greet-too", "#!python\nimport greeter\ngreeter.main()\n", "DATA/data/share/greeter/words.txt", "world\n",
	}, "numpy", server))
	offer(server, "azureml_inference_server_http-9.9-py3-none-any.whl", wheel(t, server, "9.9", []string{
		"azureml_inference_server_http/__init__.py", "raise ImportError('another server')\n", "INFO/entry_points.txt", "[console_scripts]\nazmlinfsrv = azureml_inference_server_http:main\n",
	}))
	certificate := namedHost(t, indexName)
	w.outside(t, func() error {
		ln, err := tls.Listen("tcp", indexAddress+":443", &tls.Config{Certificates: []tls.Certificate{certificate}})
		if err != nil {
			return err
		}
		srv := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
		t.Cleanup(func() { _ = srv.Close() })
		go func() { _ = srv.Serve(ln) }()
		return nil
	})
	ca = filepath.Join(t.TempDir(), "index.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Certificate[0]}), 0o600); err != nil {
		t.Fatal(err)
	}
	return ca
}

const (
	greeterDeployment = `
name: %s
endpoint_name: greets
code_configuration: {code: code, scoring_script: score.py}
environment: {name: greets, version: 1, image: "mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu22.04:latest", conda_file: conda.yml}
instance_type: Standard_F2s_v2
instance_count: 1
`
	greeterConda = "dependencies: [python=3, numpy, pip, {pip: ['greeter>=1,<2', 'azureml-inference-server-http==1.4.0']}]\n"
	greeterScore = `import azureml_inference_server_http.api.aml_request
import greeter
import numpy
import shutil
import subprocess
def init():
    print("numpy", numpy.__version__, greeter.__file__)
def run(data):
    with open("/usr/local/share/greeter/words.txt") as f:
        word = f.read().strip()
    return [subprocess.check_output([command, word], text=True).strip() for command in ("greet", "greet-too")] + [shutil.which("azmlinfsrv")]
`
)

// TestEnvironment_InstalledWithPip: what the image lacks is installed from a
// package index, in the workspace's own network: where that does not lead to the
// index, the build says what would.
func TestEnvironment_InstalledWithPip(t *testing.T) {
	need(t)
	for _, pattern := range []string{"azureml-sklearn.tar", "pip-*-py3-none-any.whl"} {
		found, err := filepath.Glob(filepath.Join(images, pattern))
		live.Need(t, err == nil && len(found) > 0, pattern+" (make images)")
	}
	w, here := inWorld(t, map[string]string{indexName: indexAddress})
	if !here {
		return
	}
	archives, err := filepath.Abs(images)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return file
	}
	config := write("config.yml", fmt.Sprintf("environments: {build: pip, index: 'https://%s/simple', indexCA: %q, archives: [%q]}\n", indexName, w.index(t), archives))
	k := begin(t, live.Options{Up: []string{"--offline=false", "--config", config}})
	write("conda.yml", greeterConda)
	write("code/score.py", greeterScore)
	request := write("request.json", "{}")

	k.az(t, "configure", "--defaults", "group="+group, "workspace=pips")
	k.az(t, "ml", "workspace", "create", "-n", "pips", "-l", "eastus", "-m", "allow_only_approved_outbound")
	k.az(t, "ml", "online-endpoint", "create", "-n", "greets", "--auth-mode", "key")
	const rule = "az ml workspace outbound-rule set --workspace-name pips --resource-group kube --rule allow-index-world --type fqdn --destination index.world"
	_, err = k.Within(5*time.Minute, "ml", "online-deployment", "create", "-f", write("closed.yml", fmt.Sprintf(greeterDeployment, "closed")))
	for _, want := range []string{"ImageBuildFailure", "No matching distribution found for greeter", rule} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("before the index is approved: wanted %q, got %v", want, err)
		}
	}
	k.az(t, strings.Fields(strings.TrimPrefix(rule, "az "))...)
	began := time.Now()
	k.az(t, "ml", "online-deployment", "create", "-f", write("open.yml", fmt.Sprintf(greeterDeployment, "open")), "--all-traffic")
	t.Logf("built and rolled out in %s", time.Since(began).Round(100*time.Millisecond))
	if got := k.az(t, "ml", "online-endpoint", "invoke", "-n", "greets", "-r", request); strings.Count(got, "hello world") != 2 || !strings.Contains(got, "/usr/bin/azmlinfsrv") {
		t.Errorf("the model answers %s", got)
	}
	t.Log(err)
	log := k.az(t, "ml", "online-deployment", "get-logs", "-e", "greets", "-n", "open", "--container", "storage-initializer")
	for _, want := range []string{"pip installs greeter>=1,<2 from https://index.world/simple", "azureml-inference-server-http 9.9 is left out", "Requirement already satisfied: numpy", "Commands: greet, greet-too\n", "; the image's own server stays", "1 packages"} {
		if !strings.Contains(log, want) {
			t.Errorf("the build log lacks %q:\n%s", want, log)
		}
	}
	t.Log(log)
	// The same environment is there, even where nothing is reached any more.
	k.az(t, "ml", "workspace", "outbound-rule", "remove", "-w", "pips", "--rule", "allow-index-world", "--yes")
	k.az(t, "ml", "online-deployment", "create", "-f", write("again.yml", fmt.Sprintf(greeterDeployment, "again")))
	if log := k.az(t, "ml", "online-deployment", "get-logs", "-e", "greets", "-n", "again", "--container", "storage-initializer"); !strings.Contains(log, "was built before") {
		t.Errorf("it was built again:\n%s", log)
	}
}
