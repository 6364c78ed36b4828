package environment

import (
	"context"
	"crypto/sha256"
	_ "embed" // install.py
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"lazurite.dev/internal/image"
)

//go:embed install.py
var installScript []byte

// pipConfig is how packages are installed.
type pipConfig struct {
	on        bool
	index, ca string
}

const (
	// maxInstalled is how many bytes may be installed upon an image.
	maxInstalled = 4 << 30

	// ownFolder is where what was installed goes in images whose own Python has
	// something in its first folder already.
	ownFolder = "/usr/local/lib/lazurite/python"

	serverPackage = "azureml-inference-server-http"
)

// errorLines are how many of pip's errors stand in a message.
const errorLines = 3

// order is what pip is asked for, and what it is to leave as it is.
type order struct {
	ask, keep []string
	left      []Difference // what pip can't do
	why       []string     // by left
	builds    []string     // of conda, which wheels do not have: numpy=1.24.2=py311_0
	server    []Difference // versions of the server that are asked for where the image's own stays
}

// constraint matches what may be a line of pip's file of constraints: neither
// extras nor markers, and nothing that ends a line or begins an option.
var constraint = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*(?:(?:===|~=|==|!=|<=|>=|<|>)[0-9A-Za-z][0-9A-Za-z.!+_*]*,?)+$`)

// orderOf sorts what is wanted: what the image has is kept so, the rest is
// pip's, or nobody's.
func orderOf(wanted []Requirement, has *manifest) order {
	var o order
	for _, w := range wanted {
		text, reason := w.forPip()
		name := normal(w.Package)
		differ := has.differences([]Requirement{w})
		if reason == "" && w.build() {
			o.builds = append(o.builds, w.Package+w.Asked)
		}
		switch {
		case len(differ) == 0:
			if w.Extras != "" && name != serverPackage { // of which the image says nothing
				o.ask = append(o.ask, text)
			}
			if line := strings.Replace(text, w.Extras, "", 1); reason == "" && w.Asked != "" && name != serverPackage && constraint.MatchString(line) {
				o.keep = append(o.keep, line)
			}
		case name == serverPackage && has.serves():
			o.server = append(o.server, differ...)
		case reason != "":
			o.left, o.why = append(o.left, differ...), append(o.why, reason)
		default:
			o.ask = append(o.ask, text)
		}
	}
	slices.Sort(o.ask)
	slices.Sort(o.keep)
	o.ask, o.keep = slices.Compact(o.ask), slices.Compact(o.keep)
	return o
}

// serves reports whether the image has the inference server of Lazurite, which
// another of the name would hide.
func (m *manifest) serves() bool { return strings.HasSuffix(m.Packages[serverPackage], "+lazurite") }

// name is that of the image that o makes of a base, in the computes of owner.
func (o order) name(owner, base, index string) string {
	made := sha256.New()
	_, _ = fmt.Fprintf(made, "pip %q %q %q %q %q %x", owner, base, index, o.ask, o.keep, sha256.Sum256(installScript))
	return builtName + hex.EncodeToString(made.Sum(nil))[:32]
}

// installed makes out be an image that has what is wanted.
func (r *resolving) installed(ctx context.Context, e Environment, base held, out *Resolved) error {
	o := orderOf(r.wanted, base.packages)
	for _, d := range o.server {
		r.say("WARNING: %s; the image's own server stays, whatever version is asked for.", d)
	}
	if len(o.builds) > 0 {
		r.say("Builds of conda are not looked at, only versions: %s.", some(o.builds))
	}
	out.Differences = append(out.Differences, o.server...)
	if err := r.leave(o, out); err != nil || len(o.ask) == 0 {
		return err
	}
	name := o.name(e.Owner, base.digest, r.pip.index)
	give, err := r.built.alone(ctx, name)
	if err != nil {
		return err
	}
	defer give()
	r.claim(name)
	h, there, _ := r.archives.find(name)
	if there {
		r.say("The image %s, with %s of %s, was built before.", name, strings.Join(o.ask, ", "), r.pip.index)
	} else {
		if err := r.runPip(ctx, e, o, base, Job{Image: out.Image, Archive: out.Archive}, name); err != nil {
			return err
		}
		if h, there, _ = r.archives.find(name); !there {
			return fmt.Errorf("the image %s was built, and is not there", name)
		}
	}
	out.Image, out.Archive, out.Digest = name, h.file, h.digest
	return nil
}

// leave refuses what can't be installed, unless that is a warning.
func (r *resolving) leave(o order, out *Resolved) error {
	if len(o.left) == 0 {
		return nil
	}
	var all []string
	for i, d := range o.left {
		all = append(all, fmt.Sprintf("%s (%s)", d, o.why[i]))
	}
	if !r.warn {
		return r.refuse("pip can't install everything that is asked for upon %s: %s. Ask for what the image has, map the environment to another image (environments.images), or set environments.mismatch to %q in the configuration",
			out.Image, some(all), MismatchWarn)
	}
	r.say("WARNING: it is run without what pip can't install (environments.mismatch: %s): %s", MismatchWarn, some(all))
	out.Differences = append(out.Differences, o.left...)
	return nil
}

// runPip has pip run in the base image, and lays what it installed upon that.
func (r *resolving) runPip(ctx context.Context, e Environment, o order, base held, j Job, name string) error {
	var err error
	if j.Files, err = r.pipFiles(o, base.packages); err != nil {
		return err
	}
	j.Command, j.Most = []string{"python3", "-u", JobFolder + "/install.py"}, maxInstalled
	if err := os.MkdirAll(r.built.Folder, 0o700); err != nil {
		return err
	}
	give, err := r.built.alone(ctx, "pip "+e.Owner) // no room is kept for what waits for the computes' turn
	if err != nil {
		return err
	}
	defer give()
	shrink, free, err := r.built.reserve(ctx, maxInstalled)
	if err != nil {
		return err
	}
	defer free()
	f, err := os.CreateTemp(r.built.Folder, buildingPrefix)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if err := os.Remove(f.Name()); err != nil && !errors.Is(err, fs.ErrNotExist) { // it goes with this process, whatever happens; Collect may have been first
		return err
	}
	r.say("pip installs %s from %s, in the computes of the workspace.", strings.Join(o.ask, ", "), r.pip.index)
	report, err := e.Run(ctx, j, f)
	for line := range strings.Lines(report.Log) {
		r.say("  %s", strings.TrimRight(strings.ToValidUTF8(line, "?"), "\r\n"))
	}
	for _, text := range report.Refused {
		r.say("The network of the workspace refused it: %s", text)
	}
	if failed, ok := errors.AsType[*JobError](err); ok {
		return r.pipFailed(failed, report, base.packages.Python)
	}
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	shrink(info.Size())
	t, err := readTree(f)
	if err != nil {
		return r.refuse("what pip installed can't be taken: %s", err)
	}
	return r.lay(ctx, base, t, name)
}

// pipFailed is the end of a build whose pip failed.
func (r *resolving) pipFailed(failed *JobError, report Report, python string) error {
	var lines []string
	none := false
	for line := range strings.Lines(report.Log) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "ERROR:") {
			lines = append(lines, strings.TrimSpace(strings.TrimPrefix(line, "ERROR:")))
			none = none || strings.Contains(line, "No matching distribution found")
		}
	}
	text := failed.Message
	if len(lines) > 0 {
		text += ": " + strings.ToValidUTF8(strings.Join(lines[max(0, len(lines)-errorLines):], "; "), "?")
	}
	if none && len(report.Refused) == 0 {
		text += fmt.Sprintf(". Only wheels for Python %s are taken from %s, and no source: ask for a version that has one, or put one there", python, r.pip.index)
	}
	if len(report.Refused) > 0 {
		text += ". The network of the workspace refused it: " + some(report.Refused)
	}
	err := r.refuse("pip could not install what is asked for: %s", text)
	if e, ok := errors.AsType[*BuildError](err); ok {
		e.Full = failed.Full
	}
	return err
}

// pipFiles are what install.py reads.
func (r *resolving) pipFiles(o order, has *manifest) (map[string][]byte, error) {
	wheel, ok := r.archives.pip()
	if !ok {
		return nil, r.refuse("pip is not at hand: `make images` gets it; or put pip-VERSION-py3-none-any.whl into a folder of environments.archives")
	}
	content, err := os.ReadFile(wheel)
	if err != nil {
		return nil, err
	}
	leave := []string{}
	if has.serves() {
		leave = append(leave, serverPackage) // azureml-defaults asks for Microsoft's
	}
	request, err := json.Marshal(map[string]any{
		"pip": filepath.Base(wheel), "index": r.pip.index, "requirements": o.ask, "constraints": append([]string{}, o.keep...), "site": ownFolder, "leave": leave,
	})
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{"install.py": installScript, "request.json": request, filepath.Base(wheel): content}
	if r.pip.ca != "" {
		if files["index.pem"], err = os.ReadFile(r.pip.ca); err != nil {
			return nil, fmt.Errorf("environments.indexCA: %w", err)
		}
	}
	return files, nil
}

// lay writes the image of a base and what was installed.
func (r *resolving) lay(ctx context.Context, h held, t tree, name string) error {
	give, err := r.built.take(ctx)
	if err != nil {
		return err
	}
	defer give()
	base, err := h.open()
	if err != nil {
		return err
	}
	defer func() { _ = base.archive.Close() }()
	label, err := h.packages.with(t.packages)
	if err != nil {
		return err
	}
	err = r.write(ctx, base, written{name: name, bytes: t.bytes, change: image.Change{
		Entries: t.entries, Comment: "pip", Config: func(c *v1.Config) {
			labels := map[string]string{}
			for k, v := range c.Labels {
				labels[k] = v
			}
			labels[PackagesLabel] = label
			c.Labels = labels
			if t.site == ownFolder {
				c.Env = withPythonPath(c.Env)
			}
		},
	}})
	if err == nil {
		r.say("Built %s: %d packages, %d files and folders, %d bytes in %s.", name, len(t.packages), len(t.entries), t.bytes, t.site)
	}
	return err
}

// withPythonPath has Python look into ownFolder first.
func withPythonPath(env []string) []string {
	out := append([]string{}, env...)
	for i, e := range out {
		if value, ok := strings.CutPrefix(e, "PYTHONPATH="); ok && value != "" {
			out[i] = "PYTHONPATH=" + ownFolder + ":" + value
			return out
		}
	}
	return append(out, "PYTHONPATH="+ownFolder)
}

// with is the label of an image that has more packages.
func (m *manifest) with(more map[string]string) (string, error) {
	all := manifest{Python: m.Python, Packages: map[string]string{}}
	for name, v := range m.Packages {
		all.Packages[name] = v
	}
	for name, v := range more {
		all.Packages[normal(name)] = v
	}
	raw, err := json.Marshal(all)
	return string(raw), err
}
