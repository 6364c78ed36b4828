package environment

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
)

// Config is the `environments:` setting. The zero Config works.
type Config struct {
	// Images says which image stands for which: the first row that fits counts,
	// the default rows come last.
	Images []Row `yaml:"images"`

	// Mismatch says what comes of an environment whose conda file asks for other
	// versions than the image has: "fail" (ImageBuildFailure) or "warn" (the build
	// log has the differences, and the deployment goes on). Default: "fail".
	Mismatch string `yaml:"mismatch"`

	// Archives are folders of docker archives (NAME.tar), whose images are brought
	// to the clusters of workspaces that need them. Default: images in the state
	// folder, and images beside laz, which `make images` fills.
	Archives []string `yaml:"archives"`

	// Build says what comes of packages that an environment asks for and the image
	// lacks: "none" (they are differences) or "pip" (they are installed from Index,
	// in the computes of the workspace, whose network decides what is reached).
	// Default: "none".
	Build string `yaml:"build"`

	// Index is a package index (PEP 503), https without credentials. Default:
	// https://pypi.org/simple.
	Index string `yaml:"index"`

	// IndexCA is a file of certificates (PEM) that are trusted for the index beside
	// those of the system; "" is none.
	IndexCA string `yaml:"indexCA"`
}

// Row maps what an environment names to an image at hand.
type Row struct {
	// Match is a reference of an image or of a curated environment
	// (azureml://registries/…), with * for any characters.
	Match string `yaml:"match"`

	// Image is what is run instead.
	Image string `yaml:"image"`
}

// The values of Config.Mismatch.
const (
	MismatchFail = "fail"
	MismatchWarn = "warn"
)

// The values of Config.Build.
const (
	BuildNone = "none"
	BuildPip  = "pip"
)

// DefaultIndex is the package index where the configuration names none.
const DefaultIndex = "https://pypi.org/simple"

// SklearnImage is the image for scikit-learn that `make images` builds.
const SklearnImage = "lazurite.dev/azureml/sklearn:v1"

// defaultRows stand for Azure's images in which there is no more than Python,
// or scikit-learn.
func defaultRows() []Row {
	var rows []Row
	for _, match := range []string{
		"mcr.microsoft.com/azureml/openmpi*", "mcr.microsoft.com/azureml/minimal-*", "mcr.microsoft.com/azureml/inference-base-*",
		"mcr.microsoft.com/azureml/sklearn-*", "mcr.microsoft.com/azureml/curated/sklearn-*", "mcr.microsoft.com/azureml/mlflow-*",
		"azureml://registries/azureml/environments/sklearn-*", "azureml://registries/azureml/environments/AzureML-sklearn-*",
		"azureml://registries/azureml/environments/minimal-*", "azureml://registries/azureml/environments/mlflow-*",
	} {
		rows = append(rows, Row{match, SklearnImage})
	}
	return rows
}

// Validate says everything that is wrong with c.
func (c Config) Validate() error {
	var errs []error
	if c.Mismatch != "" && c.Mismatch != MismatchFail && c.Mismatch != MismatchWarn {
		errs = append(errs, fmt.Errorf("environments: mismatch: %q is neither %q nor %q", c.Mismatch, MismatchFail, MismatchWarn))
	}
	if c.Build != "" && c.Build != BuildNone && c.Build != BuildPip {
		errs = append(errs, fmt.Errorf("environments: build: %q is neither %q nor %q", c.Build, BuildNone, BuildPip))
	}
	if u, err := url.Parse(c.Index); c.Index != "" && (err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "") {
		errs = append(errs, errors.New("environments: index: is to be https://HOST/PATH, without credentials, query and fragment"))
	}
	if c.IndexCA != "" && !filepath.IsAbs(c.IndexCA) {
		errs = append(errs, fmt.Errorf("environments: indexCA: %q is not an absolute path", c.IndexCA))
	}
	for i, r := range c.Images {
		if r.Match == "" {
			errs = append(errs, fmt.Errorf("environments: images[%d]: match is needed", i))
		}
		if _, err := name.ParseReference(r.Image); err != nil {
			errs = append(errs, fmt.Errorf("environments: images[%d]: image: %w", i, err))
		}
	}
	for i, a := range c.Archives {
		if !filepath.IsAbs(a) {
			errs = append(errs, fmt.Errorf("environments: archives[%d]: %q is not an absolute path", i, a))
		}
	}
	return errors.Join(errs...)
}

// match reports whether text fits pattern, in which * is any characters; letter
// case does not count, as it does not in names of registries and of assets.
func match(pattern, text string) bool {
	pattern, text = strings.ToLower(pattern), strings.ToLower(text)
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == text
	}
	rest, ok := strings.CutPrefix(text, parts[0])
	if !ok {
		return false
	}
	last := parts[len(parts)-1]
	for _, p := range parts[1 : len(parts)-1] {
		i := strings.Index(rest, p)
		if i < 0 {
			return false
		}
		rest = rest[i+len(p):]
	}
	return strings.HasSuffix(rest, last)
}
