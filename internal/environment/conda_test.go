package environment_test

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lazurite.dev/internal/environment"
)

func TestParseConda(t *testing.T) {
	got, err := environment.ParseConda(`name: model-env
channels: [conda-forge]
dependencies:
  - python=3.12
  - conda-forge::numpy 1.8* py27_0
  - scikit-learn >=1.7,<2
  - scipy==1.16.0
  - blas=1.0=mkl
  - pip
  - pip:
    - azureml-inference-server-http==1.4.1
    - inference-schema[numpy-support]
    - azureml-core ~= 1.3 ; python_version < "3.9"
    - joblib
`)
	if err != nil {
		t.Fatal(err)
	}
	want := environment.Conda{Name: "model-env", Channels: []string{"conda-forge"}, Requirements: []environment.Requirement{
		{Package: "python", Asked: "=3.12"}, {Package: "numpy", Asked: "==1.8*"}, {Package: "scikit-learn", Asked: ">=1.7,<2"}, {Package: "scipy", Asked: "==1.16.0"}, {Package: "blas", Asked: "=1.0=mkl"}, {Package: "pip"},
		{Package: "azureml-inference-server-http", Asked: "==1.4.1", Pip: true}, {Package: "inference-schema", Extras: "[numpy-support]", Pip: true},
		{Package: "azureml-core", Asked: "~=1.3", Marker: `python_version < "3.9"`, Pip: true}, {Package: "joblib", Pip: true},
	}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestParseConda_WhatCannotBeReadIsAnError(t *testing.T) {
	for _, text := range []string{
		"dependencies: [numpy[version='>=1']]", "dependencies: [{npm: [a]}]", "dependencies: ['numpy|scipy']", "dependencies: ['numpy scipy']", "dependencies: ['https://example.org/numpy.conda']", "dependencies: [{pip: [-r requirements.txt]}]",
		"dependencies: [{pip: ['a @ https://example.org/a.whl']}]", "dependencies: [{pip: ['git+https://example.org/a']}]", "dependencies: [{pip: ['--index-url https://example.org']}]",
		"variables: {A: b}", "dependencies: [[a]]", "- a", "dependencies: ['']", strings.Repeat("#", 300<<10),
	} {
		if got, err := environment.ParseConda(text); err == nil {
			t.Errorf("%.60q: got %+v", text, got)
		}
	}
}

// What pip has and is not taken here is refused with what to do, and what may be
// a secret in it is not repeated.
func TestParseConda_WhatPipCanAndWeDoNot(t *testing.T) {
	for line, want := range map[string]string{
		"-r requirements.txt": "write the packages of the file", "-e .": "nothing is installed from source", "--editable=.": "nothing is installed from source",
		"--extra-index-url https://me:secret@example.org": "environments.index", "--find-links=https://me:secret@example.org": "environments.index", "--pre": "an option that is not known",
		"a @ https://me:secret@example.org/a.whl": "put a wheel of it there", "git+https://secret@example.org/a#egg=a": "put a wheel of it there", "git+ssh://git@example.org/secret": "put a wheel of it there",
		"./a.whl": "copy its modules", "dist/a-1.0.tar.gz": "copy its modules", "a==1 --hash=sha256:x": "hashes are not compared", "a b": "no package with versions",
	} {
		_, err := environment.ParseConda("dependencies:\n- pip:\n  - '" + line + "'\n")
		if err == nil || !strings.Contains(err.Error(), "the conda file, line 2, pip: ") || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: got %v", line, err)
		}
	}
}

func TestParseConda_KeepsPasswordsOfChannels(t *testing.T) {
	_, err := environment.ParseConda("dependencies: ['https://me:secret@example.org/c::numpy']")
	if err == nil || !strings.Contains(err.Error(), "example.org") || strings.Contains(err.Error(), "secret") {
		t.Errorf("got %v", err)
	}
}

func TestDifferences_VersionsAsPipAndCondaCompareThem(t *testing.T) {
	c := catalogue(t, environment.Config{Mismatch: environment.MismatchWarn})
	for asked, same := range map[string]bool{
		"numpy": true, "numpy=1.24": true, "numpy=1.24.2": true, "numpy==1.24.2": true, "numpy 1.24.*": true, "numpy>=1.20,<2": true, "numpy=1.23|1.24.*": true, "numpy=1.24.2=py311_0": true, "numpy!=1.24.1": true,
		"numpy==1.24": false, "numpy=1.2": false, "numpy>1.24.2": false, "numpy<1.24.2": false, "numpy=2": false, "numpy!=1.24.*": false, "numpy=1.24.2rc1": false, "numpy>=1.24.2rc1": true, "numpy=banana": false,
		"{pip: [numpy==1.24.2.0]}": true, "{pip: [numpy~=1.24]}": true, "{pip: [numpy~=1.24.3]}": false, "{pip: [numpy~=1]}": false, "{pip: ['numpy==1.*']}": true, "{pip: ['numpy (>=1, !=1.24.2)']}": false, "{pip: [NumPy===1.24.2]}": true,
		"{pip: [python==3.11]}": false,
	} {
		if !strings.HasPrefix(asked, "{") {
			asked = "'" + asked + "'"
		}
		r, err := c.Resolve(t.Context(), environment.Environment{Image: base, CondaFile: "dependencies: [" + asked + "]"})
		if err != nil || (len(r.Differences) == 0) != same {
			t.Errorf("%s: got %v, %v", asked, r.Differences, err)
		}
	}
}

func FuzzParseConda(f *testing.F) {
	for _, seed := range []string{conda, "dependencies: [a=1.2, {pip: ['b[c]>=1,<2; x']}]", "name: &a [*a]", "dependencies: ['a::b 1!2.0rc1*|3 x']"} {
		f.Add(seed)
	}
	folder := f.TempDir()
	if err := os.MkdirAll(folder, 0o755); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := environment.ParseConda(text)
		if err != nil {
			return
		}
		for _, r := range c.Requirements {
			if r.Package == "" || strings.ContainsAny(r.Package+r.Asked, " \n\t") {
				t.Errorf("%q gave %+v", text, r)
			}
			environment.Meets("1.24.2", r)
			if text, reason := r.ForPip(); (text == "") == (reason == "") || strings.HasPrefix(text, "-") || !r.Pip && strings.ContainsAny(text, " \n;@") {
				t.Errorf("%+v is %q (%s)", r, text, reason)
			}
		}
	})
}
