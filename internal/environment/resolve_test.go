package environment_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lazurite.dev/internal/environment"
	"lazurite.dev/internal/image"
)

const packages = `{"python":"3.11.2","packages":{"numpy":"1.24.2","Scikit_Learn":"1.2.1","joblib":"1.2.0"}}`

// archive writes the image of a folder of archives.
func archive(t *testing.T, folder, file, name, label string) {
	t.Helper()
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "hello"), []byte("hello"), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(folder, file))
	if err != nil {
		t.Fatal(err)
	}
	c := image.Config{Name: name, Entrypoint: []string{"/hello"}, Env: []string{"A=1"}}
	if label != "" {
		c.Labels = map[string]string{environment.PackagesLabel: label}
	}
	if err := errors.Join(image.Build(t.Context(), root, c, f), f.Close()); err != nil {
		t.Fatal(err)
	}
}

func catalogue(t *testing.T, c environment.Config) *environment.Catalogue {
	t.Helper()
	return catalogueOf(t, c, environment.Built{Folder: t.TempDir()})
}

func catalogueOf(t *testing.T, c environment.Config, b environment.Built) *environment.Catalogue {
	t.Helper()
	folder := t.TempDir()
	archive(t, folder, "sklearn.tar", environment.SklearnImage, packages)
	archive(t, folder, "plain.tar", "lazurite.dev/plain:v1", "")
	c.Archives = append(c.Archives, folder)
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	return environment.New(c, b)
}

const conda = "dependencies:\n- python=3.12\n- numpy=2.3.1\n- scikit-learn>=1.2\n- pip:\n  - joblib\n  - inference-schema[numpy-support]\n"

const base = "mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu22.04:latest"

func TestResolve_DifferencesFailUnlessTheyAreWarnings(t *testing.T) {
	want := []environment.Difference{
		{Package: "python", Asked: "=3.12", Has: "3.11.2"},
		{Package: "numpy", Asked: "=2.3.1", Has: "1.24.2"},
		{Package: "inference-schema", Asked: "", Has: ""},
	}
	asked := environment.Environment{Name: "e:1", Image: base, CondaFile: conda}
	r, err := catalogue(t, environment.Config{Mismatch: environment.MismatchWarn}).Resolve(t.Context(), asked)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, r.Differences); d != "" {
		t.Error(d)
	}
	if r.Image != environment.SklearnImage || filepath.Base(r.Archive) != "sklearn.tar" || !strings.HasPrefix(r.Digest, "sha256:") || r.Routes != environment.ServerRoutes() {
		t.Errorf("got %+v", r)
	}
	for _, line := range []string{base + " is run as " + environment.SklearnImage, "numpy: =2.3.1 is asked for, the image has 1.24.2", "inference-schema: any version is asked for, the image has none", "WARNING: it is run all the same"} {
		if !strings.Contains(r.Log, line) {
			t.Errorf("the log lacks %q:\n%s", line, r.Log)
		}
	}
	_, err = catalogue(t, environment.Config{}).Resolve(t.Context(), asked)
	var failed *environment.BuildError
	if !errors.As(err, &failed) || !strings.Contains(failed.Message, "numpy: =2.3.1 is asked for") || !strings.Contains(failed.Message, "environments.mismatch") || !strings.Contains(failed.Log, "has 3 otherwise") {
		t.Errorf("got %v", err)
	}
}

func TestResolve_WhatIsAtHandIsTaken(t *testing.T) {
	own := &environment.Routes{Liveness: environment.Route{Path: "/l", Port: 80}, Readiness: environment.Route{Path: "/r", Port: 80}, Scoring: environment.Route{Path: "/s", Port: 80}}
	c := catalogue(t, environment.Config{Images: []environment.Row{{Match: "registry.example/*", Image: "lazurite.dev/plain:v1"}}})
	for name, tt := range map[string]struct {
		e           environment.Environment
		image, file string
	}{
		"by name":     {environment.Environment{Image: "lazurite.dev/plain:v1", Inference: own}, "lazurite.dev/plain:v1", "plain.tar"},
		"own row":     {environment.Environment{Image: "registry.example/team/app@sha256:0"}, "lazurite.dev/plain:v1", "plain.tar"},
		"a registry":  {environment.Environment{Image: "acr1.azurecr.io/app:v3"}, "acr1.azurecr.io/app:v3", ""},
		"what it has": {environment.Environment{Image: base, CondaFile: "dependencies: [python=3.11, numpy, {pip: [joblib==1.2]}]"}, environment.SklearnImage, "sklearn.tar"},
		"curated":     {environment.Environment{Curated: "azureml://registries/azureml/environments/sklearn-1.2/labels/latest"}, environment.SklearnImage, "sklearn.tar"},
		"no script":   {environment.Environment{MLflow: true, CondaFile: "dependencies: [python=3.11, {pip: [scikit-learn<1.3]}]"}, environment.SklearnImage, "sklearn.tar"},
		"base alone":  {environment.Environment{Image: base}, environment.SklearnImage, "sklearn.tar"},
	} {
		r, err := c.Resolve(t.Context(), tt.e)
		file := ""
		if r.Archive != "" {
			file = filepath.Base(r.Archive)
		}
		if err != nil || r.Image != tt.image || file != tt.file || len(r.Differences) > 0 {
			t.Errorf("%s: got %+v, %v", name, r, err)
		}
		if tt.e.Inference != nil && r.Routes != *own {
			t.Errorf("%s: got the routes %+v", name, r.Routes)
		}
	}
}

func TestResolve_Refusals(t *testing.T) {
	c := catalogue(t, environment.Config{})
	for text, e := range map[string]environment.Environment{
		"names no image":                                {},
		"more than one of them":                         {Image: base, Curated: "azureml://registries/azureml/environments/sklearn-1.2/labels/latest"},
		"`make images` builds":                          {Image: "lazurite.dev/other:v1"},
		"there is no image for the curated environment": {Curated: "azureml://registries/azureml/environments/acpt-pytorch-2.2-cuda12.1/versions/3"},
		"scikit-learn: =1.5 is asked for":               {Curated: "azureml://registries/azureml/environments/sklearn-1.5/labels/latest"},
		"is not YAML of a conda environment":            {Image: base, CondaFile: "dependencies: 7"},
		"nothing is known of those in":                  {Image: "lazurite.dev/plain:v1", CondaFile: conda},
		"has no conda file":                             {Build: &environment.Build{}, CondaFile: conda},
	} {
		_, err := c.Resolve(t.Context(), e)
		var failed *environment.BuildError
		if !errors.As(err, &failed) || !strings.Contains(failed.Message, text) || !strings.Contains(failed.Log, "ERROR: ") {
			t.Errorf("wanted %q, got %v", text, err)
		}
	}
}

func TestResolve_AnArchiveThatChangedIsReadAgain(t *testing.T) {
	folder := t.TempDir()
	c := environment.New(environment.Config{Archives: []string{folder, filepath.Join(folder, "missing")}}, environment.Built{})
	e := environment.Environment{Image: "lazurite.dev/a:v1"}
	if _, err := c.Resolve(t.Context(), e); err == nil {
		t.Fatal("found in an empty folder")
	}
	archive(t, folder, "a.tar", "lazurite.dev/a:v1", "")
	first, err := c.Resolve(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	archive(t, folder, "a.tar", "lazurite.dev/a:v1", packages)
	second, err := c.Resolve(t.Context(), e)
	if err != nil || first.Digest == second.Digest {
		t.Errorf("got %+v, then %+v, %v", first, second, err)
	}
	if err := os.WriteFile(filepath.Join(folder, "a.tar"), []byte("no archive"), 0o644); err != nil {
		t.Fatal(err)
	}
	var failed *environment.BuildError
	if _, err := c.Resolve(t.Context(), e); !errors.As(err, &failed) || !strings.Contains(failed.Log, "is left out") {
		t.Errorf("got %v", err)
	}
}

func TestConfig_Validate(t *testing.T) {
	err := environment.Config{Mismatch: "ignore", Images: []environment.Row{{Match: "", Image: "UPPER"}}, Archives: []string{"relative"}}.Validate()
	for _, text := range []string{"mismatch", "match is needed", "images[0]: image", "archives[0]"} {
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("wanted %q in %v", text, err)
		}
	}
}
