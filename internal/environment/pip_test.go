package environment_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lazurite.dev/internal/environment"
)

// handout is an archive of a build: names and contents by turns.
func handout(t testing.TB, words ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := 0; i < len(words); i += 2 {
		if err := w.WriteHeader(&tar.Header{Name: words[i], Mode: 0o600, Size: int64(len(words[i+1]))}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, words[i+1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

const (
	debianSite = "/usr/local/lib/python3.11/dist-packages"
	greeter    = `{"site":"` + debianSite + `","packages":{"Greeter":"1.4"}}`
)

// jobs are what builds were asked for, and how they end.
type jobs struct {
	mu   sync.Mutex // guards asked
	all  []asked
	out  []byte
	said environment.Report
	err  error
}

type asked struct {
	Pip, Index                string
	Requirements, Constraints []string
	job                       environment.Job
}

func (j *jobs) run(_ context.Context, job environment.Job, out io.Writer) (environment.Report, error) {
	var one asked
	if err := json.Unmarshal(job.Files["request.json"], &one); err != nil {
		return environment.Report{}, err
	}
	one.job = job
	j.mu.Lock()
	j.all = append(j.all, one)
	j.mu.Unlock()
	_, err := out.Write(j.out)
	return j.said, errors.Join(j.err, err)
}

// piped is a catalogue that installs, with a pip at hand.
func piped(t *testing.T, c environment.Config) *environment.Catalogue {
	t.Helper()
	return pipedIn(t, c, environment.Built{Folder: t.TempDir()})
}

func pipedIn(t *testing.T, c environment.Config, b environment.Built) *environment.Catalogue {
	t.Helper()
	folder := t.TempDir()
	for _, name := range []string{"pip-9.0.1-py3-none-any.whl", "pip-23.0.1-py3-none-any.whl"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c.Build, c.Archives = environment.BuildPip, append(c.Archives, folder)
	return catalogueOf(t, c, b)
}

func TestPip_InstallsWhatTheImageLacks(t *testing.T) {
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, []byte("PEM"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := piped(t, environment.Config{Index: "https://index.example/simple", IndexCA: ca})
	j := &jobs{out: handout(t, "report.json", greeter, "tree/greeter/__init__.py", "x = 1\n", "tree/greeter-1.4.dist-info/METADATA", "m"), said: environment.Report{Log: "Successfully installed greeter-1.4\n"}}
	e := environment.Environment{Name: "e:1", Image: base, Run: j.run, CondaFile: `dependencies: [python=3.11, pip, numpy=1.24, "pytorch>=2", pytorch=2.0.1=py3.11_cpu_0, {pip: ["greeter[x]>=1 ; python_version > '3'", joblib==1.2.0, "scikit-learn==1.2.1 ; python_version > '3'", "numpy[x]==1.24.2", "joblib<2\u2028--index-url"]}]`}
	r, err := c.Resolve(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	got := j.all[0]
	want := asked{Pip: "pip-23.0.1-py3-none-any.whl", Index: "https://index.example/simple", Requirements: []string{"greeter[x]>=1; python_version > '3'", "numpy[x]==1.24.2", "torch==2.0.1", "torch>=2"}, Constraints: []string{"joblib==1.2.0", "numpy==1.24.*", "numpy==1.24.2"}}
	if d := cmp.Diff(want, got, cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".job" }, cmp.Ignore()), cmp.AllowUnexported(asked{})); d != "" {
		t.Error(d)
	}
	if got.job.Image != environment.SklearnImage || filepath.Base(got.job.Archive) != "sklearn.tar" || string(got.job.Files["index.pem"]) != "PEM" || string(got.job.Files[want.Pip]) != want.Pip || got.job.Most == 0 {
		t.Errorf("got %+v", got.job)
	}
	if !strings.HasPrefix(r.Image, "lazurite.dev/environments/built:") || len(r.Differences) > 0 || !strings.Contains(r.Log, "\n  Successfully installed greeter-1.4\n") || !strings.Contains(r.Log, "only versions: pytorch=2.0.1=py3.11_cpu_0.") {
		t.Errorf("got %+v", r)
	}
	layer, config := inside(t, r.Archive)
	if layer[debianSite[1:]+"/greeter/__init__.py"].Size != 6 || layer[debianSite[1:]+"/greeter/"].Mode != 0o755 || len(layer) != 5 {
		t.Errorf("the layer has %v", layer)
	}
	if label := config.Labels[environment.PackagesLabel]; !strings.Contains(label, `"greeter":"1.4"`) || !strings.Contains(label, `"numpy":"1.24.2"`) || !strings.Contains(label, `"python":"3.11.2"`) {
		t.Errorf("the label is %s", label)
	}
	again, err := c.Resolve(t.Context(), e)
	if err != nil || again.Image != r.Image || again.Digest != r.Digest || len(j.all) != 1 || !strings.Contains(again.Log, "was built before") {
		t.Errorf("again: %+v, %v, %d builds", again, err, len(j.all))
	}
	e.Owner = "another"
	if other, err := c.Resolve(t.Context(), e); err != nil || other.Image == r.Image || len(j.all) != 2 {
		t.Errorf("what one owner's computes made is another's too: %+v, %v, %d builds", other, err, len(j.all))
	}
	e.Owner, j.all = "", j.all[:1]
	e.CondaFile = "dependencies: [{pip: [greeter==2]}]"
	if other, err := c.Resolve(t.Context(), e); err != nil || other.Image == r.Image {
		t.Errorf("another: %+v, %v", other, err)
	}
	if raw := string(j.all[0].job.Files["request.json"]); !strings.Contains(raw, `"leave":[]`) {
		t.Errorf("an image without the server: %s", raw)
	}
	// Nothing is lacking, and nothing runs.
	e.CondaFile = "dependencies: [python=3.11, pip, numpy]"
	if same, err := c.Resolve(t.Context(), e); err != nil || same.Image != environment.SklearnImage || len(j.all) != 2 {
		t.Errorf("nothing lacks: %+v, %v", same, err)
	}
}

func TestPip_OfABuildContext(t *testing.T) {
	c := piped(t, environment.Config{})
	j := &jobs{out: handout(t, "report.json", `{"site":"/usr/local/lib/lazurite/python","packages":{"greeter":"1.4"}}`, "tree/greeter.py", "x")}
	e := environment.Environment{Run: j.run, Build: files("FROM "+base+"\nENV PYTHONPATH=/app\nCOPY requirements.txt /r.txt\nRUN pip install -r /r.txt\nRUN pip install joblib\n", "requirements.txt", "greeter==1.4\n")}
	r, err := c.Resolve(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	if len(j.all) != 1 || j.all[0].Index != environment.DefaultIndex || j.all[0].Requirements[0] != "greeter==1.4" || !strings.HasPrefix(j.all[0].job.Image, "lazurite.dev/environments/built:") {
		t.Errorf("got %+v", j.all)
	}
	layer, config := inside(t, r.Archive)
	if layer["usr/local/lib/lazurite/python/greeter.py"].Size != 1 || !strings.Contains(strings.Join(config.Env, " "), "PYTHONPATH=/usr/local/lib/lazurite/python:/app") {
		t.Errorf("got %v, %v", layer, config.Env)
	}
}

func TestPip_BuildsTheSameOnce(t *testing.T) {
	c := piped(t, environment.Config{})
	j := &jobs{out: handout(t, "report.json", greeter, "tree/greeter.py", "x")}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if _, err := c.Resolve(t.Context(), environment.Environment{Image: base, Run: j.run, CondaFile: "dependencies: [greeter]"}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if len(j.all) != 1 {
		t.Errorf("%d builds", len(j.all))
	}
}

func TestPip_Refusals(t *testing.T) {
	good := handout(t, "report.json", greeter)
	for name, tt := range map[string]struct {
		conda string
		jobs  *jobs
		words []string
		full  bool
	}{
		"another Python":   {"dependencies: [python=3.12, greeter]", &jobs{out: good}, []string{"python: =3.12 is asked for, the image has 3.11.2 (the image's Python stays)", "environments.mismatch"}, false},
		"no Python at all": {"dependencies: [cudatoolkit=11]", &jobs{out: good}, []string{"cudatoolkit: =11 is asked for, the image has none (a package of conda that pip does not have)"}, false},
		"a choice":         {"dependencies: [greeter=1.4|1.5]", &jobs{out: good}, []string{"a version that pip has no words for"}, false},
		"no wheel": {"dependencies: [greeter]", &jobs{said: environment.Report{Log: "ERROR: No matching distribution found for greeter\n"}, err: &environment.JobError{Message: "exit code 1"}},
			[]string{"Only wheels for Python 3.11.2 are taken from https://pypi.org/simple, and no source: ask for a version that has one, or put one there"}, false},
		"pip fails": {"dependencies: [greeter]", &jobs{said: environment.Report{Log: "Looking\nERROR: No matching distribution found for greeter\n", Refused: []string{"pypi.org: no rule. To allow it: az ml x"}}, err: &environment.JobError{Message: "exit code 1"}},
			[]string{"exit code 1: No matching distribution found for greeter", "The network of the workspace refused it: pypi.org: no rule. To allow it: az ml x"}, false},
		"no room":     {"dependencies: [greeter]", &jobs{err: &environment.JobError{Message: "not enough memory", Full: true}}, []string{"not enough memory"}, true},
		"a bad tree":  {"dependencies: [greeter]", &jobs{out: handout(t, "report.json", greeter, "tree/../../etc/passwd", "x")}, []string{"what pip installed can't be taken", "no name of a file of a package"}, false},
		"no report":   {"dependencies: [greeter]", &jobs{out: handout(t, "tree/a", "x")}, []string{"is no report"}, false},
		"another way": {"dependencies: [greeter]", &jobs{out: handout(t, "report.json", `{"site":"/etc"}`)}, []string{"is no folder of packages"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := piped(t, environment.Config{}).Resolve(t.Context(), environment.Environment{Image: base, CondaFile: tt.conda, Run: tt.jobs.run})
			var failed *environment.BuildError
			if !errors.As(err, &failed) || failed.Full != tt.full {
				t.Fatalf("got %v", err)
			}
			for _, w := range tt.words {
				if !strings.Contains(failed.Message, w) || !strings.Contains(failed.Log, w) {
					t.Errorf("no %q in %q, or not in\n%s", w, failed.Message, failed.Log)
				}
			}
		})
	}
	fault := errors.New("the store does not answer")
	j := &jobs{err: fault}
	if _, err := piped(t, environment.Config{}).Resolve(t.Context(), environment.Environment{Image: base, CondaFile: "dependencies: [greeter]", Run: j.run}); !errors.Is(err, fault) {
		t.Errorf("a fault here: %v", err)
	}
	for name, c := range map[string]*environment.Catalogue{
		"`make images` gets it":                    catalogue(t, environment.Config{Build: environment.BuildPip}),
		"greeter: any version is asked for":        catalogue(t, environment.Config{Build: environment.BuildNone}),
		"greeter: any version is asked for, the i": catalogueOf(t, environment.Config{Build: environment.BuildPip}, environment.Built{}),
	} {
		j := &jobs{out: good}
		if _, err := c.Resolve(t.Context(), environment.Environment{Image: base, CondaFile: "dependencies: [greeter]", Run: j.run}); err == nil || !strings.Contains(err.Error(), name) || len(j.all) > 0 {
			t.Errorf("%s: got %v, %d builds", name, err, len(j.all))
		}
	}
}

// The certificates of the index are read for each build.
func TestPip_CertificatesThatCannotBeRead(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ca.pem")
	c := piped(t, environment.Config{IndexCA: file})
	j := &jobs{out: handout(t, "report.json", greeter)}
	e := environment.Environment{Image: base, CondaFile: "dependencies: [greeter]", Run: j.run}
	if _, err := c.Resolve(t.Context(), e); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "environments.indexCA: ") || len(j.all) > 0 {
		t.Errorf("got %v, %d builds", err, len(j.all))
	}
	if err := os.WriteFile(file, []byte("PEM"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Resolve(t.Context(), e); err != nil || len(j.all) != 1 {
		t.Errorf("once it is there: %v", err)
	}
}

func TestPip_WhatIsLeftIsAWarning(t *testing.T) {
	j := &jobs{out: handout(t, "report.json", greeter)}
	r, err := piped(t, environment.Config{Mismatch: environment.MismatchWarn}).Resolve(t.Context(), environment.Environment{Image: base, CondaFile: "dependencies: [python=3.12, mkl, greeter]", Run: j.run})
	want := []environment.Difference{{Package: "python", Asked: "=3.12", Has: "3.11.2"}, {Package: "mkl"}}
	if d := cmp.Diff(want, r.Differences); err != nil || d != "" || len(j.all) != 1 || !strings.Contains(r.Log, "WARNING: it is run without what pip can't install") {
		t.Errorf("got %v, %s\n%s", err, d, r.Log)
	}
}

func TestForPip(t *testing.T) {
	for line, want := range map[string]string{
		"numpy": "numpy", "numpy=1.24": "numpy==1.24.*", "numpy=1.24.*": "numpy==1.24.*", "numpy==1.24.2": "numpy==1.24.2", "numpy 1.24*": "numpy==1.24.*", "numpy>=1.20,<2": "numpy>=1.20,<2",
		"numpy!=1.24.*": "numpy!=1.24.*", "numpy>=1.20.*": "numpy>=1.20", "numpy~=1.3": "numpy~=1.3", "conda-forge::PyTorch=2.1": "torch==2.1.*", "numpy=1.2|1.3": "", "numpy=1.2=py_0": "numpy==1.2", "numpy==1.2=py_0": "numpy==1.2", "numpy=*=py_0": "numpy", "numpy=1.2=py_0|2": "", "numpy>=1.2=py_0": "",
		"numpy=banana;x": "", "libgcc": "", "r-base": "", "_openmp_mutex": "", "gxx_linux-64": "", "python=3.11": "", "cudatoolkit": "", "cxx-compiler": "", "cloudpickle": "cloudpickle", "ray": "ray",
		"scikit-learn=0.22.2.post1": "scikit-learn==0.22.2.post1", "numpy=2.0rc1.*": "", "numpy=1!2": "numpy==1!2.*", "cpuonly": "", "pytorch-cuda=11.8": "", "pytorch::pytorch=2.1.*=*cpu": "torch==2.1.*", "wget": "", "zstd": "", "psycopg2": "psycopg2-binary", "tensorflow-gpu>=2": "tensorflow>=2", "python-dateutil": "python-dateutil",
		"conda-forge/linux-64::scikit-learn >=1.2, <1.4": "scikit-learn>=1.2,<1.4", "https://conda.anaconda.org/conda-forge::numpy=1.24": "numpy==1.24.*", "typing_extensions": "typing_extensions",
	} {
		c, err := environment.ParseConda("dependencies: ['" + line + "']")
		if err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		if got, reason := c.Requirements[0].ForPip(); got != want || (reason == "") != (want != "") {
			t.Errorf("%s: got %q (%s), want %q", line, got, reason, want)
		}
	}
}

func TestConfig_Build(t *testing.T) {
	for text, c := range map[string]environment.Config{
		"build:":   {Build: "conda"},
		"index:":   {Index: "http://index.example/simple"},
		" index:":  {Index: "https://me:secret@index.example/simple"},
		"  index:": {Index: "https:///simple"},
		"indexCA:": {IndexCA: "ca.pem"},
	} {
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), strings.TrimSpace(text)) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%+v: got %v", c, err)
		}
	}
	if err := (environment.Config{Build: environment.BuildPip, Index: environment.DefaultIndex, IndexCA: "/etc/ca.pem"}).Validate(); err != nil {
		t.Error(err)
	}
}

// sparseFile is a file of an archive that is larger than it is: its header says
// so, which archive/tar reads and does not write.
func sparseFile(t testing.TB) []byte {
	t.Helper()
	record := func(s string) string { return fmt.Sprintf("%d %s\n", len(s)+4, s) } // for lengths of two digits
	said := record("GNU.sparse.major=1") + record("GNU.sparse.minor=0") + record("GNU.sparse.realsize=9223372036854775807") + record("GNU.sparse.name=tree/zzz.py")
	raw := handout(t, "x", said, "tree/zzz.py", "1\n0\n1\n"+strings.Repeat("\x00", 507))
	raw[156] = 'x' // the first header is that of a PAX record
	sum := 0
	for i, b := range raw[:512] {
		if i >= 148 && i < 156 {
			b = ' '
		}
		sum += int(b)
	}
	copy(raw[148:156], fmt.Sprintf("%06o\x00 ", sum))
	return raw
}

func TestReadTree_FilesThatSayMoreThanTheyAre(t *testing.T) {
	report := handout(t, "report.json", greeter)
	raw := append(report[:len(report)-1024], sparseFile(t)...) // without the end of the first
	if _, err := environment.ReadTree(raw); err == nil || !strings.Contains(err.Error(), "is no file") {
		t.Errorf("got %v", err)
	}
}

// What packages have outside of their folder goes below the prefix that the
// folder is of, and no folder of the image is made anew.
func TestReadTree_WhatIsBesideThePackages(t *testing.T) {
	for site, prefix := range map[string]string{
		debianSite: "/usr/local", "/usr/local/lib/lazurite/python": "/usr/local", "/opt/miniconda/envs/e/lib/python3.9/site-packages": "/opt/miniconda/envs/e",
		"/usr/lib/python3/dist-packages": "/usr/local", "/usr/local/lib64/python3.12/site-packages": "/usr/local",
	} {
		got, err := environment.ReadTree(handout(t, "report.json", `{"site":"`+site+`"}`, "tree/a/b.py", "x", "beside/bin/greet", "#!", "beside/share/greeter/words", "w"))
		want := []string{site, site + "/a", site + "/a/b.py", prefix + "/bin/greet", prefix + "/share/greeter/words"}
		if d := cmp.Diff(want, got); err != nil || d != "" {
			t.Errorf("%s: %v\n%s", site, err, d)
		}
	}
}

func TestReadTree_Refusals(t *testing.T) {
	long := "tree/" + strings.Repeat("a/", 500) + "b"
	for want, archive := range map[string][]byte{
		"there is no report":           handout(t),
		"the report: ":                 handout(t, "report.json", `{"site":`),
		"the report: json: cannot":     handout(t, "report.json", `{"site":"`+debianSite+`","packages":["a"]}`),
		"is no report":                 handout(t, "report.json", strings.Repeat(" ", 1<<20)+greeter),
		"is no folder of packages":     handout(t, "report.json", `{"site":"/usr/lib/../../etc/site-packages"}`),
		`"../../etc/passwd" is no`:     handout(t, "report.json", greeter, "../../etc/passwd", "x"),
		`"beside/../../etc/x" is no`:   handout(t, "report.json", greeter, "beside/../../etc/x", "x"),
		`"beside/bin/.wh.python3" is`:  handout(t, "report.json", greeter, "beside/bin/.wh.python3", ""),
		`is no name of a file of a pa`: handout(t, "report.json", greeter, long, "x"),
		"unexpected EOF":               handout(t, "report.json", greeter, "tree/a", "xx")[:1500],
	} {
		if _, err := environment.ReadTree(archive); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("wanted %q, got %v", want, err)
		}
	}
}

func TestReadTree_TooLarge(t *testing.T) {
	many := []string{"report.json", greeter}
	for i := range 20 {
		many = append(many, fmt.Sprintf("tree/%d/a", i), "x")
	}
	if got, err := environment.ReadTreeOf(handout(t, many...), 41, 20); err != nil || len(got) != 41 {
		t.Errorf("as large as it may be: %d, %v", len(got), err)
	}
	for name, most := range map[string][2]int64{"files": {40, 20}, "bytes": {41, 19}} {
		want := fmt.Sprintf("it has more than %d files or %d bytes", most[0], most[1])
		if _, err := environment.ReadTreeOf(handout(t, many...), int(most[0]), most[1]); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: wanted %q, got %v", name, want, err)
		}
	}
}

func FuzzReadTree(f *testing.F) {
	f.Add(handout(f, "report.json", greeter, "tree/a/b.py", "x", "tree/a/c.py", "yy"))
	f.Add(handout(f, "report.json", greeter, "tree/.wh.a", ""))
	f.Add(handout(f, "report.json", greeter, "beside/bin/greet", "#!", "beside/share/x", "y"))
	f.Fuzz(func(t *testing.T, archive []byte) {
		paths, err := environment.ReadTree(archive)
		if err != nil {
			return
		}
		for _, p := range paths {
			if p != paths[0] && !strings.HasPrefix(p, paths[0]+"/") && !strings.HasPrefix(p, "/usr/local/") && !strings.HasPrefix(p, "/opt/") || filepath.Clean(p) != p || strings.Contains(p, "/.wh.") {
				t.Errorf("%q is taken", p)
			}
		}
	})
}

func TestPip_TheServerOfTheImageStays(t *testing.T) {
	folder := t.TempDir()
	archive(t, folder, "served.tar", "lazurite.dev/served:v1", `{"python":"3.11.2","packages":{"azureml-inference-server-http":"1.5.1+lazurite"}}`)
	c := piped(t, environment.Config{Archives: []string{folder}})
	j := &jobs{out: handout(t, "report.json", greeter)}
	e := environment.Environment{Image: "lazurite.dev/served:v1", Run: j.run, CondaFile: "dependencies: [{pip: [azureml-defaults, azureml-inference-server-http>=1]}]"}
	if _, err := c.Resolve(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	if raw := string(j.all[0].job.Files["request.json"]); !strings.Contains(raw, `"leave":["azureml-inference-server-http"]`) || !strings.Contains(raw, `"requirements":["azureml-defaults"]`) || !strings.Contains(raw, `"constraints":[]`) {
		t.Errorf("got %s", raw)
	}
	e.CondaFile = "dependencies: [{pip: [azureml-inference-server-http==1.4.1]}]"
	r, err := c.Resolve(t.Context(), e)
	want := []environment.Difference{{Package: "azureml-inference-server-http", Asked: "==1.4.1", Has: "1.5.1+lazurite"}}
	if d := cmp.Diff(want, r.Differences); err != nil || d != "" || r.Image != "lazurite.dev/served:v1" || len(j.all) != 1 || !strings.Contains(r.Log, "the image has 1.5.1+lazurite; the image's own server stays") {
		t.Errorf("another server: %v, %s\n%s", err, d, r.Log)
	}
}

// A conda file's pip is there for its section of pip; in a version it is a
// package like others.
func TestPip_OfCondaItself(t *testing.T) {
	plain := environment.Environment{Image: base, CondaFile: "dependencies: [pip, {pip: [joblib]}]"}
	if r, err := catalogue(t, environment.Config{}).Resolve(t.Context(), plain); err != nil || len(r.Differences) > 0 {
		t.Errorf("any pip, and nothing is installed: %v, %v", r.Differences, err)
	}
	e := environment.Environment{Image: base, CondaFile: "dependencies: [pip=22.3.1]"}
	if _, err := catalogue(t, environment.Config{}).Resolve(t.Context(), e); err == nil || !strings.Contains(err.Error(), "pip: =22.3.1 is asked for, the image has none") {
		t.Errorf("a version of pip, and nothing is installed: %v", err)
	}
	j := &jobs{out: handout(t, "report.json", greeter)}
	e.Run = j.run
	if _, err := piped(t, environment.Config{}).Resolve(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"pip==22.3.1.*"}, j.all[0].Requirements); d != "" {
		t.Error(d)
	}
	if j.all[0].Pip != "pip-23.0.1-py3-none-any.whl" {
		t.Errorf("it is installed by %s", j.all[0].Pip)
	}
}
