package environment_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lazurite.dev/internal/environment"
)

// stored are the names in the folder of what was built.
func stored(t *testing.T, folder string) string {
	t.Helper()
	all, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range all {
		list = append(list, e.Name())
	}
	return strings.Join(list, " ")
}

func TestCollect_RemovesWhatNothingUses(t *testing.T) {
	folder := t.TempDir()
	var used []string
	b := environment.Built{Folder: folder, Keep: time.Nanosecond, Used: func(context.Context) ([]string, error) { return used, nil }}
	c := catalogueOf(t, environment.Config{}, b)
	first, err := c.Resolve(t.Context(), environment.Environment{Build: files("FROM " + base + "\nENV A=2\n")})
	if err != nil {
		t.Fatal(err)
	}
	second, err := c.Resolve(t.Context(), environment.Environment{Build: files("FROM " + base + "\nENV A=3\n")})
	if err != nil {
		t.Fatal(err)
	}
	// What a server that was killed left.
	for _, name := range []string{".building-12", ".building-layer.tar.gz"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(folder, ".context-7", "src"), 0o700); err != nil {
		t.Fatal(err)
	}
	used = []string{second.Image, "elsewhere.example/x:v1"}
	if err := c.Collect(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := stored(t, folder); got != filepath.Base(second.Archive) {
		t.Errorf("there are %s", got)
	}
	again, err := c.Resolve(t.Context(), environment.Environment{Build: files("FROM " + base + "\nENV A=2\n")})
	if err != nil || again.Image != first.Image || again.Digest != first.Digest {
		t.Errorf("got %+v, %v", again, err)
	}
	broken := errors.New("the store does not answer")
	b.Used = func(context.Context) ([]string, error) { return nil, broken }
	if err := environment.New(environment.Config{}, b).Collect(t.Context()); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	b.Used, b.Keep = func(context.Context) ([]string, error) { return nil, nil }, time.Hour
	c = catalogueOf(t, environment.Config{}, b)
	if _, err := c.Resolve(t.Context(), environment.Environment{Build: files("FROM " + base + "\nENV A=2\n")}); err != nil {
		t.Fatal(err)
	}
	if err := c.Collect(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := stored(t, folder); got != filepath.Base(first.Archive) {
		t.Errorf("of one that was just asked for and one that was not, there are %s", got)
	}
}

func TestResolve_KeepsRoomForOthers(t *testing.T) {
	folder := t.TempDir()
	b := environment.Built{Folder: folder, Keep: time.Nanosecond, Most: 12 << 10}
	c := catalogueOf(t, environment.Config{}, b)
	build := func(content string) (environment.Resolved, error) {
		return c.Resolve(t.Context(), environment.Environment{Build: files("FROM "+base+"\nCOPY big /big\n", "big", content)})
	}
	var failed *environment.BuildError
	if _, err := build(strings.Repeat("x", 8<<10)); !errors.As(err, &failed) || !failed.Full || !strings.Contains(failed.Log, "ERROR: the images that are built here may have 12288 bytes") {
		t.Errorf("got %v", err)
	}
	if got := stored(t, folder); got != "" {
		t.Errorf("left behind: %s", got)
	}
	// One that nothing uses makes room for the next.
	b.Most, b.Used = 16<<10, func(context.Context) ([]string, error) { return nil, nil }
	c = catalogueOf(t, environment.Config{}, b)
	for _, content := range []string{"1", "2", "3", "4"} {
		if _, err := build(content); err != nil {
			t.Errorf("%s: %v", content, err)
		}
	}
}

func TestResolve_BuildsOneAtATime(t *testing.T) {
	c := catalogue(t, environment.Config{})
	var now, most atomic.Int32
	var wg sync.WaitGroup
	hold := make(chan struct{})
	for range 4 {
		wg.Go(func() {
			_, err := c.Resolve(t.Context(), environment.Environment{Build: &environment.Build{Fetch: func(_ context.Context, into *os.Root) error {
				most.Store(max(most.Load(), now.Add(1)))
				<-hold
				now.Add(-1)
				return into.WriteFile("Dockerfile", []byte("FROM "+base), 0o600)
			}}})
			if err != nil {
				t.Error(err)
			}
		})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	hold <- struct{}{} // one builds
	<-ctx.Done()
	if err := c.Collect(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("collected in the middle of a build: %v", err)
	}
	close(hold)
	wg.Wait()
	if most.Load() != 1 {
		t.Errorf("%d were built at once", most.Load())
	}
}

// What builds may hand out before it is an image counts like images.
func TestPip_SpoolsKeepTheBound(t *testing.T) {
	folder := t.TempDir()
	c := pipedIn(t, environment.Config{}, environment.Built{Folder: folder, Most: 5 << 30})
	began, end := make(chan struct{}), make(chan struct{})
	j := &jobs{out: handout(t, "report.json", greeter, "tree/greeter.py", "x")}
	slow := func(ctx context.Context, job environment.Job, out io.Writer) (environment.Report, error) {
		close(began)
		<-end
		return j.run(ctx, job, out)
	}
	first := make(chan error, 1)
	go func() {
		_, err := c.Resolve(context.WithoutCancel(t.Context()), environment.Environment{Image: base, Run: slow, Owner: "one", CondaFile: "dependencies: [greeter]"})
		first <- err
	}()
	<-began
	other := environment.Environment{Image: base, Run: j.run, Owner: "another", CondaFile: "dependencies: [greeter]"}
	_, err := c.Resolve(t.Context(), other)
	var failed *environment.BuildError
	if !errors.As(err, &failed) || !failed.Full || !strings.Contains(failed.Message, "builds that go on may take 4294967296") || !strings.Contains(failed.Message, "try again once other builds have ended") || len(j.all) > 0 {
		t.Errorf("beside a build that goes on: %v, %d more builds", err, len(j.all))
	}
	// Who waits for the computes of one workspace has no room kept, and is not refused.
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := c.Resolve(ctx, environment.Environment{Image: base, Run: j.run, Owner: "one", CondaFile: "dependencies: [greeter, greeter2]"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("in the queue of a workspace: %v", err)
	}
	close(end)
	if err := <-first; err != nil {
		t.Fatal(err)
	}
	if _, err := c.Resolve(t.Context(), other); err != nil {
		t.Errorf("after it: %v", err)
	}
}

// What an environment is built upon stays while it waits, however long that is.
func TestPip_KeepsWhatItIsBuiltUpon(t *testing.T) {
	folder := t.TempDir()
	c := pipedIn(t, environment.Config{}, environment.Built{Folder: folder, Keep: time.Nanosecond, Used: func(context.Context) ([]string, error) { return nil, nil }})
	j := &jobs{out: handout(t, "report.json", greeter, "tree/greeter.py", "x")}
	run := func(ctx context.Context, job environment.Job, out io.Writer) (environment.Report, error) {
		if err := c.Collect(ctx); err != nil {
			t.Error(err)
		}
		if got := stored(t, folder); got != filepath.Base(job.Archive) {
			t.Errorf("while it is built upon %s there are %s", job.Archive, got)
		}
		return j.run(ctx, job, out)
	}
	r, err := c.Resolve(t.Context(), environment.Environment{Run: run, Build: files("FROM " + base + "\nENV A=1\nRUN pip install greeter\n")})
	if err != nil {
		t.Fatal(err)
	}
	if got := stored(t, folder); !strings.Contains(got, filepath.Base(r.Archive)) {
		t.Errorf("there are %s", got)
	}
	if err := c.Collect(t.Context()); err != nil || stored(t, folder) != "" {
		t.Errorf("after it: %v, %s", err, stored(t, folder))
	}
}
