package environment_test

import (
	"context"
	"errors"
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
