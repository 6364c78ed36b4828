package environment_test

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lazurite.dev/internal/environment"
)

func files(dockerfile string, more ...string) *environment.Build {
	return &environment.Build{Fetch: func(_ context.Context, into *os.Root) error {
		if dockerfile == "" {
			return nil
		}
		err := into.WriteFile("Dockerfile", []byte(dockerfile), 0o644)
		for i := 0; i < len(more); i += 2 {
			err = errors.Join(err, into.MkdirAll(filepath.Dir(more[i]), 0o755), into.WriteFile(more[i], []byte(more[i+1]), 0o755))
		}
		return err
	}}
}

// inside reads the last layer and the configuration of an archive.
func inside(t *testing.T, archive string) (layer map[string]tar.Header, config struct {
	User, WorkingDir string
	Env, Entrypoint  []string
	Cmd              []string
	Labels           map[string]string
	ExposedPorts     map[string]struct{}
}) {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if err == io.EOF {
			return layer, config
		}
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(h.Name, ".tar.gz") {
			zipped, err := gzip.NewReader(r)
			if err != nil {
				t.Fatal(err)
			}
			layer = map[string]tar.Header{}
			for l := tar.NewReader(zipped); ; {
				h, err := l.Next()
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				layer[h.Name] = tar.Header{Mode: h.Mode, Uid: h.Uid, Gid: h.Gid, Size: h.Size}
			}
		} else if h.Name != "manifest.json" {
			var file struct{ Config any }
			file.Config = &config
			if err := json.NewDecoder(r).Decode(&file); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestResolve_BuildsUponAnImageAtHand(t *testing.T) {
	c := catalogue(t, environment.Config{})
	b := files("FROM "+base+"\nENV A=2 B=3\nWORKDIR app\nCOPY src .\nCOPY --chown=7 --chmod=640 *.txt one /data/\nRUN pip install --no-cache-dir -r /data/r.txt numpy && conda install -y -c conda-forge joblib\nUSER 1000:1000\nEXPOSE 8080\nLABEL who=me\nENTRYPOINT [\"/app/run\"]\n",
		"src/run", "#!", "src/deep/x", "x", "r.txt", "scikit-learn>=1.2 # why\n\n", "one", "1")
	r, err := c.Resolve(t.Context(), environment.Environment{Name: "e", Build: b, Inference: &environment.Routes{}})
	if err != nil {
		t.Fatal(err)
	}
	layer, config := inside(t, r.Archive)
	want := map[string]tar.Header{
		"app/": {Mode: 0o755}, "app/run": {Mode: 0o755, Size: 2}, "app/deep/": {Mode: 0o755}, "app/deep/x": {Mode: 0o755, Size: 1},
		"data/r.txt": {Mode: 0o640, Uid: 7, Gid: 7, Size: 25}, "data/one": {Mode: 0o640, Uid: 7, Gid: 7, Size: 1},
	}
	if d := cmp.Diff(want, layer); d != "" {
		t.Error(d)
	}
	if config.User != "1000:1000" || config.WorkingDir != "/app" || strings.Join(config.Env[1:], " ") != "A=2 B=3" || strings.Join(config.Entrypoint, " ") != "/app/run" || config.Labels["who"] != "me" || config.Labels[environment.PackagesLabel] != packages {
		t.Errorf("got %+v", config)
	}
	if _, exposed := config.ExposedPorts["8080/tcp"]; !exposed || !strings.Contains(r.Log, "The image has all of the 2 packages") || !strings.Contains(r.Log, "Built "+r.Image) {
		t.Errorf("got %+v\n%s", config, r.Log)
	}
	again, err := c.Resolve(t.Context(), environment.Environment{Name: "e", Build: b, Inference: &environment.Routes{}})
	if err != nil || again.Image != r.Image || !strings.Contains(again.Log, "was built before") {
		t.Errorf("got %+v, %v", again, err)
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(r.Archive), ".*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	other, err := c.Resolve(t.Context(), environment.Environment{Build: files("FROM " + base + "\nENV A=2\n")})
	if err != nil || other.Image == r.Image {
		t.Errorf("got %+v, %v", other, err)
	}
}

// What commonly stands behind an installation: files that were copied for it go,
// with what they hid of the base.
func TestResolve_TidiesAfterAnInstallation(t *testing.T) {
	b := files("FROM "+base+"\nWORKDIR /app\nCOPY requirements.txt .\nCOPY src src\nCOPY keep.txt .\nRUN pip install --no-cache-dir -q -r requirements.txt && rm -f requirements.txt && pip cache purge\nRUN rm -rf src && conda clean -afy\n",
		"requirements.txt", "\ufeffnumpy \\\n  >=1\t# why\njoblib\n", "src/a/b", "x", "keep.txt", "1")
	r, err := catalogue(t, environment.Config{}).Resolve(t.Context(), environment.Environment{Build: b})
	if err != nil {
		t.Fatal(err)
	}
	layer, _ := inside(t, r.Archive)
	want := map[string]tar.Header{"app/": {Mode: 0o755}, "app/keep.txt": {Mode: 0o755, Size: 1}, "app/.wh.requirements.txt": {Mode: 0o644}, "app/.wh.src": {Mode: 0o644}}
	if d := cmp.Diff(want, layer); d != "" || !strings.Contains(r.Log, "has all of the 2 packages") {
		t.Errorf("%s\n%s", d, r.Log)
	}
}

func TestResolve_WhatADockerfileInstallsIsCompared(t *testing.T) {
	b := files("FROM "+base+"\nCOPY . /ctx/\nRUN conda env create -n x -f /ctx/conda.yaml && python -m pip install 'numpy==2.0'", "conda.yaml", conda)
	var failed *environment.BuildError
	if _, err := catalogue(t, environment.Config{}).Resolve(t.Context(), environment.Environment{Build: b}); !errors.As(err, &failed) || !strings.Contains(failed.Message, "numpy: =2.3.1 is asked for") {
		t.Errorf("got %v", err)
	}
	r, err := catalogue(t, environment.Config{Mismatch: environment.MismatchWarn}).Resolve(t.Context(), environment.Environment{Build: b})
	if err != nil || len(r.Differences) != 4 {
		t.Errorf("got %+v, %v", r, err)
	}
}

func TestResolve_DockerfilesThatAreRefused(t *testing.T) {
	c := catalogue(t, environment.Config{})
	from := "FROM " + base + "\n"
	for text, b := range map[string]*environment.Build{
		"the Dockerfile can't be read":          files(""),
		"is not at hand":                        files("FROM docker.io/library/python:3.12"),
		".dockerignore":                         files(from, ".dockerignore", "x"),
		"nothing runs while an image is built":  files(from + "RUN curl https://me:secret@example.org/x"),
		"only plain calls of pip and conda":     files(from + "RUN pip install -i https://me:secret@example.org numpy | tee log"),
		"pip: --index-url: packages come from":  files(from + "RUN pip install --index-url https://me:secret@example.org numpy"),
		"an option that is not known here":      files(from + "RUN pip install --pre numpy"),
		"r.txt: --extra-index-url: packages":    files(from+"COPY r.txt /\nRUN pip install -r /r.txt", "r.txt", "--extra-index-url https://me:secret@example.org\nnumpy"),
		"r.txt: numpy: hashes are not compared": files(from+"COPY r.txt /\nRUN pip install -r/r.txt", "r.txt", "numpy==1.24.2 \\\n    --hash=sha256:abc\n"),
		"an address, of a repository or a file": files(from + "RUN pip install git+https://me:secret@example.org/a"),
		"copy its modules into the folder":      files(from + "RUN pip install ."),
		"rm: /r.txt was not copied":             files(from + "RUN rm r.txt"),
		"rm: /src is a folder":                  files(from+"COPY src /src\nRUN rm -f /src", "src/x", ""),
		"is no option that is known here":       files(from + "RUN rm --no-preserve-root /"),
		"rm: / was not copied":                  files(from+"COPY src /src\nRUN rm -rf /", "src/x", ""),
		"RUN pip cache dir: nothing runs":       files(from + "RUN pip cache dir"),
		"was not copied":                        files(from+"RUN pip install -r r.txt", "r.txt", "numpy"),
		"is not in the build context":           files(from + "COPY ../../etc/passwd /x"),
		"nothing is fetched or unpacked":        files(from + "ADD https://example.org/x /x"),
		"only numbers are known":                files(from+"COPY --chown=www-data x /x", "x", ""),
		"is no mode in octal":                   files(from+"COPY --chmod=u+x x /x", "x", ""),
		"let /x end in /":                       files(from+"COPY a b /x", "a", "", "b", ""),
		"is no port":                            files(from + "EXPOSE 99999"),
		"can't be changed by a Dockerfile":      files(from + "LABEL " + environment.PackagesLabel + "={}"),
		"the Dockerfile, line 2: VOLUME is not": files(from + "VOLUME /x"),
	} {
		_, err := c.Resolve(t.Context(), environment.Environment{Build: b})
		var failed *environment.BuildError
		if !errors.As(err, &failed) || !strings.Contains(failed.Message, text) || strings.Contains(failed.Log, "secret") {
			t.Errorf("wanted %q, got %v", text, err)
		}
	}
	none := environment.New(environment.Config{}, environment.Built{})
	if _, err := none.Resolve(t.Context(), environment.Environment{Build: files(from)}); err == nil {
		t.Error("built without a folder for it")
	}
}

// TestResolve_NamesNoPasswordOfAnAddress: neither to who reads the refusal, nor
// in the log, wherever the address stands and however long the password is.
func TestResolve_NamesNoPasswordOfAnAddress(t *testing.T) {
	c := catalogue(t, environment.Config{})
	const secret = "S3CRETTOKEN"
	for _, address := range []string{"https://me:" + secret + "@h", "https://me:" + secret + "/" + secret + "@h", "https://me:" + secret + strings.Repeat("x", 300) + "@h", "https://me:" + secret + "=x@h"} {
		var all []environment.Environment
		for _, line := range []string{
			"RUN pip install -i" + address + "/simple x", "RUN pip install -r " + address + "/r.txt", "RUN pip install -r" + address + "/r.txt", "RUN pip install -i " + address + " x | tee log",
			"RUN pip install --pre=" + address, "RUN pip install x==" + address, "RUN pip install --pre:" + address, "RUN pip install x@" + address + " --hash=sha256:0", "RUN pip install -x" + address,
			"RUN conda install " + address + "/p.tar.bz2", "RUN conda install --channel=" + address + " x", "RUN conda env create -f " + address, "RUN conda env create --file=" + address,
			"ADD " + address + "/f /x", "COPY " + address + "/f /x", "RUN rm " + address, "RUN rm -x=" + address, "RUN curl " + address, `RUN ["curl", "` + address + `"]`,
			"LABEL " + strings.ReplaceAll(address, "=", ""), "ENV A=${" + address + "}", "EXPOSE " + address, "COPY --chown=" + address + " a /x", "COPY --chmod=" + address + " a /x", "VOLUME " + address,
		} {
			all = append(all, environment.Environment{Build: files("FROM " + base + "\n" + line)})
		}
		for _, line := range []string{"{pip: ['-i" + address + "']}", "{pip: ['--pre=" + address + "']}", "{pip: ['x @ " + address + " --hash=sha256:0']}", "'" + address + "::x y z'"} {
			all = append(all, environment.Environment{Image: base, CondaFile: "dependencies: [" + line + "]"})
		}
		for _, e := range all {
			_, err := c.Resolve(t.Context(), e)
			failed, ok := errors.AsType[*environment.BuildError](err)
			if !ok {
				t.Errorf("got %v", err)
			} else if said := failed.Message + failed.Log; strings.Contains(said, secret) {
				t.Errorf("it says %s", said)
			}
		}
	}
}
