package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
)

// format changes when the layout of the result does.
const format = "1"

// part is one thing that is built and kept by itself, so that a change to one
// does not build the others.
type part struct {
	name     string            // as progress shows it
	module   string            // folder below kube
	steps    []step            // what is compiled
	image    *container        // what the program becomes, if not a file
	versions map[string]string // what of it versions.json names
	cpu      float64           // seconds of processor that a cold build takes, for the estimate
	key      string
}

// step is one call of go build in the part's module.
type step struct {
	packages []string
	out      string // below the distribution; ends in / for several programs
	cgo      bool
	tags     string
	ldflags  string
}

// container is an image around a program.
type container struct {
	name, tag string
	ports     []string
}

// parts are all parts with their keys.
func parts(ctx context.Context, source string) ([]part, error) {
	v, err := versions(source)
	if err != nil {
		return nil, err
	}
	k8s := strings.TrimPrefix(v["kubernetes"], "v")
	minor := strings.Split(k8s, ".")[1]
	all := []part{
		{name: "Kubernetes " + k8s, module: "kubernetes", cpu: 700, versions: pick(v, "kubernetes", "etcd"), steps: []step{
			{packages: []string{"."}, out: "bin/kubernetes", ldflags: kubernetesVersion(k8s, minor)},
		}},
		{name: "containerd " + v["containerd"], module: "node", cpu: 95, versions: pick(v, "containerd", "runc", "cni"), steps: []step{
			{packages: below("github.com/containerd/containerd/v2/cmd/", "containerd", "containerd-shim-runc-v2", "ctr"), out: "bin/",
				tags:    "no_btrfs no_zfs no_devmapper no_aufs osusergo netgo static_build no_tracing",
				ldflags: "-X github.com/containerd/containerd/v2/version.Version=" + v["containerd"]},
			{packages: []string{"github.com/opencontainers/runc"}, out: "bin/runc", cgo: true, tags: "netgo osusergo seccomp",
				ldflags: "-linkmode external -extldflags -static -X main.version=" + v["runc"]},
			{packages: append(below("github.com/containernetworking/plugins/plugins/", "ipam/host-local", "main/loopback", "main/ptp", "meta/portmap"), "./lazurite-policy"), out: "bin/cni/"},
		}},
		{name: "CoreDNS " + v["coredns"], module: "coredns", cpu: 115, versions: pick(v, "coredns"),
			image: &container{"coredns", "v" + v["coredns"], []string{"53/udp", "53/tcp"}}, steps: []step{
				{packages: []string{"."}, out: "coredns"},
			}},
		{name: "webhook", module: "webhook", cpu: 60, versions: map[string]string{"azure-workload-identity": "1"},
			image: &container{"azure-workload-identity", "v1", nil}, steps: []step{
				{packages: []string{"."}, out: "azure-workload-identity"},
			}},
		{name: "pause", module: "pause", cpu: 2, versions: map[string]string{"pause": "3.10"},
			image: &container{"pause", "3.10", nil}, steps: []step{{packages: []string{"."}, out: "pause"}}},
	}
	goVersion, err := output(ctx, source, "go", "version")
	if err != nil {
		return nil, err
	}
	for i := range all {
		if all[i].key, err = all[i].sum(source, goVersion); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// kubernetesVersion makes every component say its version. The date is fixed:
// the same sources are the same bytes.
func kubernetesVersion(version, minor string) string {
	var b strings.Builder
	for _, pkg := range []string{"k8s.io/component-base/version", "k8s.io/client-go/pkg/version"} {
		fmt.Fprintf(&b, " -X %[1]s.gitVersion=v%[2]s -X %[1]s.gitMajor=1 -X %[1]s.gitMinor=%[3]s -X %[1]s.gitTreeState=clean -X %[1]s.gitCommit=lazurite -X %[1]s.buildDate=2026-01-01T00:00:00Z", pkg, version, minor)
	}
	return b.String()[1:]
}

func below(prefix string, names ...string) []string {
	all := make([]string, len(names))
	for i, n := range names {
		all[i] = prefix + n
	}
	return all
}

func pick(from map[string]string, names ...string) map[string]string {
	some := map[string]string{}
	for _, n := range names {
		some[n] = from[n]
	}
	return some
}

// versions reads from the go.mod files what they pin.
func versions(source string) (map[string]string, error) {
	found := map[string]string{}
	for name, at := range map[string][2]string{
		"kubernetes": {"kubernetes", "k8s.io/kubernetes"}, "etcd": {"kubernetes", "go.etcd.io/etcd/server/v3"},
		"containerd": {"node", "github.com/containerd/containerd/v2"}, "runc": {"node", "github.com/opencontainers/runc"},
		"cni": {"node", "github.com/containernetworking/plugins"}, "coredns": {"coredns", "github.com/coredns/coredns"},
	} {
		file := filepath.Join(source, at[0], "go.mod")
		mod, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		m := regexp.MustCompile(`(?m)^(?:require |\t)` + regexp.QuoteMeta(at[1]) + ` v([0-9]+\.[0-9]+\.[0-9]+)`).FindSubmatch(mod)
		if m == nil {
			return nil, fmt.Errorf("%s does not pin %s", file, at[1])
		}
		found[name] = string(m[1])
	}
	return found, nil
}

// sum is the part's key: everything that its bytes come from.
func (p part) sum(source, goVersion string) (string, error) {
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%s %s/%s\n%+v\n", format, goVersion, runtime.GOOS, runtime.GOARCH, p.steps)
	folders := []string{filepath.Join(source, p.module)}
	if p.image != nil {
		fmt.Fprintf(h, "%+v\n", *p.image)
		folders = append(folders, filepath.Join(source, "..", "internal", "image"))
	}
	for _, folder := range folders {
		if err := sumFolder(h, folder); err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil))[:16], nil
}

// sumFolder adds the names and bytes of what a build reads.
func sumFolder(h io.Writer, folder string) error {
	return filepath.WalkDir(folder, func(file string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(file, "_test.go") || !d.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(folder, file)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(h, "%s %x\n", filepath.ToSlash(relative), sha256.Sum256(content))
		return err
	})
}

// distributionKey is the key of all parts together.
func distributionKey(all []part) string {
	h := sha256.New()
	for _, p := range all {
		fmt.Fprintln(h, p.module, p.key)
	}
	return hex.EncodeToString(h.Sum(nil))[:16]
}

func output(ctx context.Context, dir string, command ...string) (string, error) {
	c := exec.CommandContext(ctx, command[0], command[1:]...)
	var stderr bytes.Buffer
	c.Dir, c.Stderr, c.Env = dir, &stderr, environment(false)
	out, err := c.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w\n%s", strings.Join(command, " "), err, stderr.Bytes())
	}
	return strings.TrimSpace(string(out)), nil
}

// environment is the caller's, without what would change the bytes.
func environment(cgo bool) []string {
	env := slices.DeleteFunc(os.Environ(), func(e string) bool {
		name, _, _ := strings.Cut(e, "=")
		return slices.Contains([]string{"GOFLAGS", "GOOS", "GOARCH", "GOAMD64", "GOARM64", "GOEXPERIMENT", "GOWORK", "GO111MODULE"}, name) ||
			strings.HasPrefix(name, "CGO_")
	})
	enabled := "0"
	if cgo {
		enabled = "1"
	}
	return append(env, "GOFLAGS=-mod=readonly -buildvcs=false -trimpath", "GOWORK=off", "CGO_ENABLED="+enabled)
}
