package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func writeAll(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		file := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPartsOfThisTree: what is pinned is found, under the names that nodes use.
func TestPartsOfThisTree(t *testing.T) {
	all, err := parts(t.Context(), "..")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, p := range all {
		if len(p.key) != 16 {
			t.Errorf("%s: key %q", p.name, p.key)
		}
		for name, version := range p.versions {
			if version == "" {
				t.Errorf("%s has no version", name)
			}
			got[name] = true
		}
	}
	for _, want := range []string{"kubernetes", "etcd", "containerd", "runc", "cni", "coredns", "pause", "azure-workload-identity"} {
		if !got[want] {
			t.Errorf("%s is not in the distribution", want)
		}
	}
}

func TestSum_WhatCounts(t *testing.T) {
	source := t.TempDir()
	writeAll(t, source, map[string]string{"m/go.mod": "module m", "m/go.sum": "", "m/main.go": "package main", "other/main.go": "package other"})
	p := part{module: "m", steps: []step{{packages: []string{"."}, out: "bin/m"}}}
	sum := func(p part, goVersion string) string {
		t.Helper()
		s, err := p.sum(source, goVersion)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	first := sum(p, "go1")
	for _, unrelated := range []map[string]string{{"other/main.go": "package changed"}, {"m/main_test.go": "package main"}} {
		writeAll(t, source, unrelated)
		if sum(p, "go1") != first {
			t.Errorf("%v changed the key", unrelated)
		}
	}
	seen := map[string]bool{first: true}
	other := p
	other.steps = []step{{packages: []string{"."}, out: "bin/m", tags: "x"}}
	keys := []string{sum(p, "go2"), sum(other, "go1")}
	for _, changed := range []map[string]string{{"m/go.sum": "x v1"}, {"m/deep/er.go": "package er"}, {"m/main.go": "package main // 2"}} {
		writeAll(t, source, changed)
		keys = append(keys, sum(p, "go1"))
	}
	for i, key := range keys {
		if seen[key] {
			t.Errorf("change %d left the key as it was", i)
		}
		seen[key] = true
	}
}

func TestCache(t *testing.T) {
	c := cache{t.TempDir()}
	unlock, err := c.lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	p := part{module: "m", key: "0123456789abcdef", versions: map[string]string{"m": "1.2.3"}}
	broken := errors.New("broken")
	if err := c.makePart(p, func(string) error { return broken }); !errors.Is(err, broken) {
		t.Fatal(err)
	}
	if c.hasPart(p) {
		t.Error("half a part counts as one")
	}
	fill := func(dir string) error {
		writeAll(t, dir, map[string]string{"bin/m": p.key})
		return nil
	}
	var last string
	for _, key := range []string{"aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb", "cccccccccccccccc", "dddddddddddddddd", "aaaaaaaaaaaaaaaa"} {
		p.key, last = strings.Repeat(key[:1], 16), key
		if err := c.makePart(p, fill); err != nil {
			t.Fatal(err)
		}
		if err := c.assemble([]part{p}, key, false); err != nil {
			t.Fatal(err)
		}
		if !c.isCurrent(key) {
			t.Errorf("%s is not current", key)
		}
	}
	got, err := os.ReadFile(filepath.Join(c.dir, "current", "bin", "m"))
	if err != nil || string(got) != last {
		t.Errorf("current has %q, %v; want %q", got, err, last)
	}
	text, err := os.ReadFile(filepath.Join(c.dir, "current", "versions.json"))
	if err != nil {
		t.Fatal(err)
	}
	var versions map[string]string
	if err := json.Unmarshal(text, &versions); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(p.versions, versions); diff != "" {
		t.Error(diff)
	}
	if left, err := filepath.Glob(filepath.Join(c.dir, "parts", "*")); err != nil || len(left) != kept {
		t.Errorf("%d parts are kept (%v), want %d", len(left), err, kept)
	}
}

func TestCache_Lock(t *testing.T) {
	c := cache{t.TempDir()}
	unlock, err := c.lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.lock(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a second build: %v", err)
	}
	unlock()
	if unlock, err = c.lock(t.Context()); err != nil {
		t.Fatal(err)
	}
	unlock()
}

// TestBuild_ABrokenSource: the compiler's own words come out, and nothing becomes current.
func TestBuild_ABrokenSource(t *testing.T) {
	source, c := t.TempDir(), cache{t.TempDir()}
	writeAll(t, source, map[string]string{"m/go.mod": "module example.org/m\n\ngo 1.26.0\n", "m/main.go": "package main\n\nfunc main() { missing() }\n"})
	p := part{name: "m", module: "m", key: "0123456789abcdef", steps: []step{{packages: []string{"."}, out: "bin/m"}}}
	if err := os.MkdirAll(filepath.Join(c.dir, "parts"), 0o755); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	show := newProgress(log, []part{p}, c, false)
	show.start(p)
	err = c.makePart(p, func(dir string) error {
		return p.make(&builder{ctx: t.Context(), source: source, dir: dir, part: p, show: show})
	})
	show.line()
	show.end()
	if err == nil || !strings.Contains(err.Error(), "undefined: missing") {
		t.Errorf("got %v", err)
	}
	said, err := os.ReadFile(log.Name())
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(said), "kube: 1/1 m: ") || strings.Contains(string(said), "\x1b") {
		t.Errorf("progress: %q", said)
	}
}
