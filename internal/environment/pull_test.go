package environment_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
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

// registry has one image for all references of acme, and counts who opens it and
// lets go of it.
type registry struct {
	image v1.Image
	bytes int64
	err   error

	opened, closed atomic.Int32
	judging        func() // is called before an image is opened
}

// held is how many have the image open.
func (r *registry) held() int32 { return r.opened.Load() - r.closed.Load() }

func (r *registry) pull(_ context.Context, ref string) (*environment.Pulled, error) {
	if !strings.HasPrefix(ref, "acme.azurecr.io/") {
		return nil, nil
	}
	if r.judging != nil {
		r.judging()
	}
	if r.err != nil {
		return nil, r.err
	}
	r.opened.Add(1)
	return &environment.Pulled{Image: r.image, Name: "acme.azurecr.io/serve@sha256:00", Bytes: r.bytes, Close: func() error { r.closed.Add(1); return nil }}, nil
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
	if r.Image != "lazurite.dev/environments/built:pulled-"+digest.Hex || filepath.Dir(r.Archive) != dir || reg.opened.Load() == 0 || reg.held() != 0 {
		t.Errorf("got %+v, %d are open", r, reg.held())
	}
	for _, want := range []string{"The image " + serve + " is acme.azurecr.io/serve@sha256:00, pulled from its registry: 1000 bytes.", "The image has all of the 2 packages"} {
		if !strings.Contains(r.Log, want) {
			t.Errorf("the log lacks %q:\n%s", want, r.Log)
		}
	}
	e.CondaFile = ""
	again, err := c.Resolve(t.Context(), e)
	if err != nil || again.Image != r.Image || again.Digest != r.Digest || reg.held() != 0 || !strings.Contains(again.Log, "which was pulled before") {
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
		reg       *registry
		want      string
		bad, full bool
	}{
		"not to be had":     {&registry{err: &environment.PullError{Message: "no role"}}, "Unable to download user container image '" + serve + "': no role", true, false},
		"another machine":   {&registry{image: foreign}, "is for linux/s390x", true, false},
		"a malformed label": {&registry{image: labelled(t, "{")}, "its label dev.lazurite.packages can't be read", true, false},
		"too large":         {&registry{image: labelled(t, ""), bytes: 1 << 40}, "may have 21474836480 bytes together", false, true},
		"other layers":      {&registry{image: other}, "layer 1: its content is", true, false},
		"a conda file":      {&registry{image: labelled(t, "")}, "nothing is known of those in " + serve, false, false},
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
	if _, err := catalogueOf(t, environment.Config{}, environment.Built{}).Resolve(t.Context(), environment.Environment{Image: serve, Pull: reg.pull}); !errors.As(err, &failed) || reg.held() != 0 {
		t.Errorf("kept nowhere: %v, %d are open", err, reg.held())
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

// slow is an image whose layers tell when they are read.
type slow struct {
	v1.Image
	reads func()
}

// Layers implements v1.Image.
func (s *slow) Layers() ([]v1.Layer, error) {
	s.reads()
	return s.Image.Layers()
}

// TestPull_LetsOthersBuild: neither while an image is judged, for which a network
// may be made, nor while it is read through, also where it is the base of a
// Dockerfile.
func TestPull_LetsOthersBuild(t *testing.T) {
	for name, e := range map[string]environment.Environment{"by itself": {Image: serve}, "as a base": {Build: files("FROM " + serve + "\nENV A=2\n")}} {
		c := catalogue(t, environment.Config{})
		others := func() {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			if err := c.Collect(ctx); err != nil { // which takes the turn
				t.Errorf("%s: %v", name, err)
			}
		}
		var read sync.Once // and then it is written down
		reg := &registry{judging: others}
		reg.image = &slow{labelled(t, packages), func() { read.Do(others) }}
		e.Pull = reg.pull
		r, err := c.Resolve(t.Context(), e)
		if err != nil || r.Archive == "" || reg.opened.Load() == 0 || reg.held() != 0 {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
		if strings.Count(r.Log, "stands in no row") > 1 {
			t.Errorf("%s: it is said twice:\n%s", name, r.Log)
		}
	}
}

// TestPull_WaitsWithNothingOpen: an image is up to hundreds of open files.
func TestPull_WaitsWithNothingOpen(t *testing.T) {
	c := catalogue(t, environment.Config{})
	const many = 8
	reading, on := make(chan struct{}, 2), make(chan struct{})
	var asked atomic.Int32
	reg := &registry{judging: func() { asked.Add(1) }}
	reg.image = &slow{labelled(t, packages), func() {
		select {
		case reading <- struct{}{}:
		default: // it is written down
		}
		<-on
	}}
	var all sync.WaitGroup
	for range many {
		all.Go(func() {
			if _, err := c.Resolve(t.Context(), environment.Environment{Image: serve, Pull: reg.pull}); err != nil {
				t.Error(err)
			}
		})
	}
	for range 2 {
		select {
		case <-reading:
		case <-time.After(10 * time.Second):
			t.Error("fewer than two images are read at once")
		}
	}
	for end := time.Now().Add(10 * time.Second); (asked.Load() < many+2 || reg.held() > 2) && time.Now().Before(end); {
		runtime.Gosched()
	}
	if n := reg.held(); n != 2 {
		t.Errorf("%d have the image open", n)
	}
	close(on)
	all.Wait()
	if n := reg.held(); n != 0 {
		t.Errorf("%d have the image open in the end", n)
	}
}

// TestPull_OfAContextThatChanges: what FROM says when the image is pulled is what
// it has to say when it is built upon.
func TestPull_OfAContextThatChanges(t *testing.T) {
	reg := &registry{image: labelled(t, packages)}
	n := 0
	b := &environment.Build{Fetch: func(ctx context.Context, into *os.Root) error {
		n++
		return files(fmt.Sprintf("FROM acme.azurecr.io/serve:v%d\n", n)).Fetch(ctx, into)
	}}
	var failed *environment.BuildError
	if _, err := catalogue(t, environment.Config{}).Resolve(t.Context(), environment.Environment{Build: b, Pull: reg.pull}); !errors.As(err, &failed) || !strings.Contains(failed.Message, "the build context changes") || n != 2 {
		t.Errorf("got %v after %d copies", err, n)
	}
}

// brimming is an image that is there to be read, and not to be written down.
type brimming struct {
	v1.Image
	wrong error
	read  bool
}

// Layers implements v1.Image.
func (b *brimming) Layers() ([]v1.Layer, error) {
	if b.read {
		return nil, fmt.Errorf("write to disk: %w", &os.PathError{Op: "write", Path: "/secret/folder", Err: b.wrong})
	}
	b.read = true
	return b.Image.Layers()
}

// TestPull_OnAFullDisk: who asks for an image can mend that as little as a quota.
func TestPull_OnAFullDisk(t *testing.T) {
	for _, wrong := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EIO} {
		full := wrong != syscall.EIO
		reg := &registry{image: &brimming{Image: labelled(t, packages), wrong: wrong}}
		b := &environment.Build{Fetch: func(context.Context, *os.Root) error {
			return &os.PathError{Op: "write", Path: "/secret/folder", Err: wrong}
		}}
		for _, e := range []environment.Environment{{Image: serve, Pull: reg.pull}, {Build: b}} {
			_, err := catalogue(t, environment.Config{}).Resolve(t.Context(), e)
			failed, ok := errors.AsType[*environment.BuildError](err)
			if err == nil || ok != full || ok && (!failed.Full || strings.Contains(failed.Message+failed.Log, "/secret") || !strings.Contains(failed.Log, "ERROR: the disk of this machine")) {
				t.Errorf("%v: got %v", wrong, err)
			}
		}
	}
}
