package environment_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"lazurite.dev/internal/environment"
)

// labelled is an image with a label as a registry would give it.
func labelled(t *testing.T, label string) v1.Image {
	t.Helper()
	folder := t.TempDir()
	archive(t, folder, "a.tar", "example/a:v1", label)
	img, err := tarball.ImageFromPath(filepath.Join(folder, "a.tar"), nil)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// registry has one image for all references of acme, and counts who lets go of it.
type registry struct {
	image  v1.Image
	bytes  int64
	err    error
	closed int
}

func (r *registry) pull(_ context.Context, ref string) (*environment.Pulled, error) {
	if !strings.HasPrefix(ref, "acme.azurecr.io/") {
		return nil, nil
	}
	if r.err != nil {
		return nil, r.err
	}
	return &environment.Pulled{Image: r.image, Name: "acme.azurecr.io/serve@sha256:00", Bytes: r.bytes, Close: func() error { r.closed++; return nil }}, nil
}

const serve = "acme.azurecr.io/sklearn-9.9:v1" // a name that promises nothing: it is run as it is

func TestPull_IsKeptUnderItsDigest(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "environments") // which nobody has made
	used := []string{}
	c := catalogueOf(t, environment.Config{}, environment.Built{Folder: dir, Keep: time.Nanosecond, Used: func(context.Context) ([]string, error) { return used, nil }})
	reg := &registry{image: labelled(t, packages), bytes: 1000}
	e := environment.Environment{Name: "e:1", Image: serve, Pull: reg.pull, CondaFile: "dependencies: [python=3.11, numpy=1.24]"}
	r, err := c.Resolve(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	digest, err := reg.image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if r.Image != "lazurite.dev/environments/built:pulled-"+digest.Hex || filepath.Dir(r.Archive) != dir || reg.closed != 1 {
		t.Errorf("got %+v, closed %d times", r, reg.closed)
	}
	for _, want := range []string{"The image " + serve + " is acme.azurecr.io/serve@sha256:00, pulled from its registry: 1000 bytes.", "The image has all of the 2 packages"} {
		if !strings.Contains(r.Log, want) {
			t.Errorf("the log lacks %q:\n%s", want, r.Log)
		}
	}
	e.CondaFile = ""
	again, err := c.Resolve(t.Context(), e)
	if err != nil || again.Image != r.Image || again.Digest != r.Digest || reg.closed != 2 || !strings.Contains(again.Log, "which was pulled before") {
		t.Errorf("again: %+v, %v", again, err)
	}
	used = []string{r.Image}
	if err := c.Collect(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(r.Archive); err != nil {
		t.Error(err)
	}
	used = nil
	if err := c.Collect(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(r.Archive); err == nil {
		t.Error("an image that nothing uses stays")
	}
	e.CondaFile = "dependencies: [numpy=2]"
	var failed *environment.BuildError
	if _, err := c.Resolve(t.Context(), e); !errors.As(err, &failed) || !strings.Contains(failed.Message, "numpy: =2 is asked for, the image has 1.24.2") || failed.Bad {
		t.Errorf("another numpy: %v", err)
	}
}

func TestPull_OfOtherRegistriesAndAtHand(t *testing.T) {
	folder := t.TempDir()
	archive(t, folder, "mine.tar", "acme.azurecr.io/mine:v1", "")
	c := catalogue(t, environment.Config{Archives: []string{folder}, Images: []environment.Row{{Match: "mcr.example/x:*", Image: serve}}})
	reg := &registry{image: labelled(t, "")}
	for image, want := range map[string]string{
		"docker.io/library/python:3": "docker.io/library/python:3", "acme.azurecr.io/mine:v1": "acme.azurecr.io/mine:v1", "mcr.example/x:1": "lazurite.dev/environments/built:pulled-",
	} {
		if r, err := c.Resolve(t.Context(), environment.Environment{Image: image, Pull: reg.pull}); err != nil || !strings.HasPrefix(r.Image, want) {
			t.Errorf("%s: %+v, %v", image, r, err)
		}
	}
}

func TestPull_Refusals(t *testing.T) {
	one := labelled(t, "")
	broken, err := one.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	broken = broken.DeepCopy()
	broken.RootFS.DiffIDs[0].Hex = strings.Repeat("0", 64)
	other, err := mutate.ConfigFile(one, broken)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := mutate.ConfigFile(labelled(t, ""), &v1.ConfigFile{OS: "linux", Architecture: "s390x"})
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		reg       registry
		want      string
		bad, full bool
	}{
		"not to be had":     {registry{err: &environment.PullError{Message: "no role"}}, "Unable to download user container image '" + serve + "': no role", true, false},
		"another machine":   {registry{image: foreign}, "is for linux/s390x", true, false},
		"a malformed label": {registry{image: labelled(t, "{")}, "its label dev.lazurite.packages can't be read", true, false},
		"too large":         {registry{image: labelled(t, ""), bytes: 1 << 40}, "may have 21474836480 bytes together", false, true},
		"other layers":      {registry{image: other}, "layer 1: its content is", true, false},
		"a conda file":      {registry{image: labelled(t, "")}, "nothing is known of those in " + serve, false, false},
	} {
		e := environment.Environment{Image: serve, Pull: tt.reg.pull, CondaFile: "dependencies: [numpy]"}
		_, err := catalogue(t, environment.Config{}).Resolve(t.Context(), e)
		var failed *environment.BuildError
		if !errors.As(err, &failed) || !strings.Contains(failed.Message, tt.want) || failed.Bad != tt.bad || failed.Full != tt.full || !strings.Contains(failed.Log, tt.want) {
			t.Errorf("%s: got %v, want %s", name, err, tt.want)
		}
	}
	fault := &registry{err: errors.New("the disk")}
	var failed *environment.BuildError
	if _, err := catalogue(t, environment.Config{}).Resolve(t.Context(), environment.Environment{Image: serve, Pull: fault.pull}); err == nil || errors.As(err, &failed) {
		t.Errorf("a fault here: %v", err)
	}
	reg := &registry{image: labelled(t, "")}
	if _, err := catalogueOf(t, environment.Config{}, environment.Built{}).Resolve(t.Context(), environment.Environment{Image: serve, Pull: reg.pull}); !errors.As(err, &failed) || reg.closed != 1 {
		t.Errorf("kept nowhere: %v, closed %d times", err, reg.closed)
	}
	small := environment.Built{Folder: t.TempDir(), Most: 100}
	if _, err := catalogueOf(t, environment.Config{}, small).Resolve(t.Context(), environment.Environment{Image: serve, Pull: reg.pull}); !errors.As(err, &failed) || !failed.Full {
		t.Errorf("too large unpacked: %v", err)
	}
	// What it has is not known, and that is a warning.
	r, err := catalogue(t, environment.Config{Mismatch: environment.MismatchWarn}).Resolve(t.Context(), environment.Environment{Image: serve, Pull: reg.pull, CondaFile: "dependencies: [numpy]"})
	if err != nil || !strings.Contains(r.Log, "WARNING: the conda file asks for 1 packages, and nothing is known of those in "+serve) {
		t.Errorf("a warning: %+v, %v", r, err)
	}
}

// TestPull_NobodyAsksForTheCopy: whose an image is was judged when it was pulled;
// who knows the digest has no right by that.
func TestPull_NobodyAsksForTheCopy(t *testing.T) {
	c := catalogue(t, environment.Config{})
	reg := &registry{image: labelled(t, packages)}
	r, err := c.Resolve(t.Context(), environment.Environment{Image: serve, Pull: reg.pull})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range []environment.Environment{{Image: r.Image}, {Build: files("FROM " + r.Image + "\n")}} {
		var failed *environment.BuildError
		if _, err := c.Resolve(t.Context(), e); !errors.As(err, &failed) || !strings.Contains(failed.Message, "is a name of images that were built here") {
			t.Errorf("got %v", err)
		}
	}
}

func TestPull_BeneathADockerfileAndPip(t *testing.T) {
	c := piped(t, environment.Config{})
	reg := &registry{image: labelled(t, packages)}
	r, err := c.Resolve(t.Context(), environment.Environment{Pull: reg.pull, Build: files("FROM " + serve + "\nENV B=2\n")})
	if err != nil {
		t.Fatal(err)
	}
	if _, config := inside(t, r.Archive); !strings.Contains(strings.Join(config.Env, " "), "A=1 B=2") {
		t.Errorf("got %v", config.Env)
	}
	j := &jobs{out: handout(t, "report.json", greeter, "tree/greeter.py", "x")}
	r, err = c.Resolve(t.Context(), environment.Environment{Image: serve, Pull: reg.pull, Run: j.run, CondaFile: "dependencies: [numpy, greeter]"})
	if err != nil || len(j.all) != 1 || !strings.Contains(j.all[0].job.Image, "built:pulled-") || j.all[0].job.Archive == "" || strings.Contains(r.Image, "pulled") {
		t.Errorf("got %+v, %v", r, err)
	}
	reg.err = &environment.PullError{Message: "no role"}
	var failed *environment.BuildError
	if _, err := c.Resolve(t.Context(), environment.Environment{Pull: reg.pull, Build: files("FROM " + serve + "\n")}); !errors.As(err, &failed) || !failed.Bad {
		t.Errorf("FROM what can't be had: %v", err)
	}
}
