package environment

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"regexp"
	"strings"
)

// Catalogue knows the images at hand. It is safe for concurrent use.
type Catalogue struct {
	rows     []Row
	warn     bool
	archives archives
	built    *shelf
	pip      pipConfig
}

// New is a catalogue of what c says, which must be valid, and of the images
// that were built here.
func New(c Config, built Built) *Catalogue {
	folders := append([]string{}, c.Archives...)
	if built.Folder != "" {
		folders = append(folders, built.Folder)
	}
	return &Catalogue{
		rows: append(append([]Row{}, c.Images...), defaultRows()...), warn: c.Mismatch == MismatchWarn,
		archives: archives{folders: folders}, built: newShelf(built),
		pip: pipConfig{on: c.Build == BuildPip && built.Folder != "", index: cmp.Or(c.Index, DefaultIndex), ca: c.IndexCA},
	}
}

// ours is the registry that nobody can be asked at: its images are at hand, or nowhere.
const ours = "lazurite.dev/"

// noScript is the curated environment that Azure takes for a model of MLflow
// without a script and without an environment.
const noScript = "azureml://registries/azureml/environments/mlflow-ubuntu20.04-py38-cpu-inference/labels/latest"

// resolving is one Resolve: its log, and what was found.
type resolving struct {
	*Catalogue
	log     strings.Builder
	pull    Pull            // nil: there are no registries
	bases   map[string]held // by what FROM says: images of registries that are kept here
	install bool            // what the image lacks is installed
	wanted  []Requirement   // where install: all that is asked
	claimed []string        // images built here that it needs
}

// say writes a line of the log, which has no password of an address.
func (r *resolving) say(format string, args ...any) {
	_, _ = fmt.Fprintln(&r.log, withoutUser(fmt.Sprintf(format, args...)))
}

// claim keeps an image built here until all is resolved, however long that waits.
func (r *resolving) claim(name string) {
	r.built.claim(name)
	r.claimed = append(r.claimed, name)
}

// refuse is the end of a build that can't be.
func (r *resolving) refuse(format string, args ...any) error {
	message := withoutUser(fmt.Sprintf(format, args...))
	r.say("ERROR: %s", message)
	return &BuildError{Message: message, Log: r.log.String()}
}

// Resolve finds the image for e. Its error is a *BuildError where there is
// none, or where the image is too different; anything else is a fault here.
func (c *Catalogue) Resolve(ctx context.Context, e Environment) (Resolved, error) {
	r := &resolving{Catalogue: c, pull: e.Pull, install: c.pip.on && e.Run != nil}
	defer func() { c.built.release(r.claimed) }()
	out, err := r.resolve(ctx, e)
	return out, r.full(err)
}

func (r *resolving) resolve(ctx context.Context, e Environment) (Resolved, error) {
	out := Resolved{Routes: ServerRoutes()}
	if e.Inference != nil {
		out.Routes = *e.Inference
	}
	asked, err := r.asked(e)
	if err != nil {
		return out, err
	}
	if e.Build != nil {
		if out.Image, out.Differences, err = r.context(ctx, *e.Build); err != nil {
			return out, err
		}
	} else {
		out.Image = r.image(asked)
	}
	taken := out.Image
	h, err := r.found(ctx, &out)
	if err != nil {
		return out, err
	}
	differ, err := r.compare(e, asked, taken, h.packages)
	if err != nil {
		return out, err
	}
	out.Differences = append(out.Differences, differ...)
	if len(r.wanted) > 0 {
		if err := r.installed(ctx, e, h, &out); err != nil {
			return out, err
		}
	}
	out.Log = r.log.String()
	return out, nil
}

// found finds the image that out names.
func (r *resolving) found(ctx context.Context, out *Resolved) (held, error) {
	h, kept, ok, err := r.atHand(ctx, out.Image)
	switch {
	case err != nil:
		return h, err
	case ok:
		r.say("Image %s is at hand (%s).", out.Image, h.digest)
		out.Image, out.Archive, out.Digest = kept, h.file, h.digest
	case strings.HasPrefix(out.Image, ours):
		return h, r.refuse("the image %s is not at hand: `make images` builds those of Lazurite; others are put as NAME.tar into a folder of environments.archives", out.Image)
	default:
		r.say("Image %s is no image at hand: nodes ask its registry.", out.Image)
	}
	return h, nil
}

// asked is what the environment names, for the table.
func (r *resolving) asked(e Environment) (string, error) {
	r.say("Environment %s", e.Name)
	given := 0
	for _, is := range []bool{e.Image != "", e.Build != nil, e.Curated != ""} {
		if is {
			given++
		}
	}
	switch {
	case given > 1:
		return "", r.refuse("an environment has an image, or a build context, or is a curated one: this one is more than one of them")
	case e.Build != nil && e.CondaFile != "":
		return "", r.refuse("an environment with a build context has no conda file: let the Dockerfile install what it needs")
	case ownName(e.Image):
		return "", r.refuse("%s is a name of images that were built here, which no environment asks for", e.Image)
	case given == 0 && e.MLflow:
		r.say("The model is one of MLflow's and has no environment: %s is taken.", noScript)
		return noScript, nil
	case given == 0:
		return "", r.refuse("the environment names no image")
	}
	return e.Image + e.Curated, nil
}

// image is what the table says for what is asked.
func (r *resolving) image(asked string) string {
	for _, row := range r.rows {
		if match(row.Match, asked) {
			r.say("%s is run as %s (environments.images: %s).", asked, row.Image, row.Match)
			return row.Image
		}
	}
	r.say("%s stands in no row of environments.images.", asked)
	return asked
}

// compare writes down what differs, and refuses it unless that is a warning.
func (r *resolving) compare(e Environment, asked, taken string, has *manifest) ([]Difference, error) {
	if strings.HasPrefix(asked, "azureml://") && taken == asked {
		return nil, r.refuse("there is no image for the curated environment %s: name one in environments.images of the configuration", asked)
	}
	want, from := implied(asked), "the name of the environment"
	if e.CondaFile != "" {
		conda, err := ParseConda(e.CondaFile)
		if err != nil {
			return nil, r.refuse("%s", err)
		}
		want, from = conda.Requirements, "the conda file"
	} else if taken == asked || e.Build != nil || e.MLflow {
		return nil, nil // what was asked for is what is run, or was compared; of a model's image only that it can score
	}
	return r.judge(want, from, taken, has)
}

// judge compares what is wanted with what an image has.
func (r *resolving) judge(want []Requirement, from, taken string, has *manifest) ([]Difference, error) {
	if len(want) == 0 {
		return nil, nil
	}
	if has == nil {
		return nil, r.unknown(from, len(want), taken)
	}
	if r.install {
		r.wanted = append(r.wanted, want...)
	}
	differ := has.differences(want)
	if len(differ) == 0 {
		r.say("The image has all of the %d packages that %s asks for.", len(want), from)
		return nil, nil
	}
	r.say("Of the %d packages that %s asks for, the image has %d otherwise:", len(want), from, len(differ))
	texts := make([]string, len(differ))
	for i, d := range differ {
		texts[i] = d.String()
		r.say("  %s", texts[i])
	}
	if r.install {
		return nil, nil // once all is known
	}
	if !r.warn {
		return differ, r.refuse("%s asks for other packages than the image %s has: %s. Ask for what the image has, map the environment to another image (environments.images), or set environments.mismatch to %q in the configuration",
			from, taken, some(texts), MismatchWarn)
	}
	r.say("WARNING: it is run all the same (environments.mismatch: %s).", MismatchWarn)
	return differ, nil
}

// unknown refuses to compare with an image that does not say what it has, unless
// that is a warning.
func (r *resolving) unknown(from string, n int, taken string) error {
	text := fmt.Sprintf("%s asks for %d packages, and nothing is known of those in %s: an image says it in its label %s, and upon one that does not nothing is installed here", from, n, taken, PackagesLabel)
	if r.warn {
		r.say("WARNING: %s. It is run as it is (environments.mismatch: %s).", text, MismatchWarn)
		return nil
	}
	return r.refuse("%s. Build the image with that label (laz image build --label), leave the packages out where the image has them, or set environments.mismatch to %q in the configuration", text, MismatchWarn)
}

func some(texts []string) string {
	if len(texts) > 8 {
		return strings.Join(texts[:8], "; ") + fmt.Sprintf("; and %d more", len(texts)-8)
	}
	return strings.Join(texts, "; ")
}

// String is "numpy: =2.3.1 is asked for, the image has 1.24.2".
func (d Difference) String() string {
	asked, has := d.Asked, d.Has
	if asked == "" {
		asked = "any version"
	}
	if has == "" {
		has = "none"
	}
	return fmt.Sprintf("%s: %s is asked for, the image has %s", d.Package, asked, has)
}

var (
	sklearnName = regexp.MustCompile(`(?:^|-)sklearn-([0-9]+(?:\.[0-9]+)*)`)
	pythonName  = regexp.MustCompile(`(?:^|-)py([23])\.?([0-9]{1,2})(?:-|$)`)
)

// implied is what the name of a curated environment or of Azure's image
// promises: sklearn-1.5, …-py39-….
func implied(asked string) []Requirement {
	last := asked
	if rest, ok := strings.CutPrefix(asked, "azureml://registries/"); ok {
		parts := strings.Split(rest, "/") // azureml/environments/NAME/…
		if len(parts) > 2 {
			last = parts[2]
		}
	} else {
		last, _, _ = strings.Cut(path.Base(asked), ":")
	}
	var want []Requirement
	if m := sklearnName.FindStringSubmatch(last); m != nil {
		want = append(want, Requirement{Package: "scikit-learn", Asked: "=" + m[1]})
	}
	if m := pythonName.FindStringSubmatch(last); m != nil {
		want = append(want, Requirement{Package: "python", Asked: "=" + m[1] + "." + m[2]})
	}
	return want
}
