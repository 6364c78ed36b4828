package environment

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Limits of a conda file: what people write is a hundredth of it.
const (
	maxCondaFile    = 256 << 10 // bytes
	maxRequirements = 2000
)

// Requirement is one package that a conda file asks for.
type Requirement struct {
	Package string // as it is written, without extras: scikit-learn
	Asked   string // as it is written: =1.7.0, ==1.4.1, >=1,<2; "" is any version
	Pip     bool   // from the pip section: PEP 508 instead of conda's match specification
	Extras  string // of pip: [numpy-support]; "" is none
	Marker  string // of pip: python_version < "3.9"; "" is none. What is asked is compared as if it held
}

// plainPip reports whether it is conda's package pip in any version, which
// stands in conda files so that there can be a pip section.
func (r Requirement) plainPip() bool { return !r.Pip && r.Asked == "" && normal(r.Package) == "pip" }

// Conda is what counts of a conda environment file.
type Conda struct {
	Name         string
	Channels     []string
	Requirements []Requirement
}

// ParseConda reads a conda environment file
// (https://docs.conda.io/projects/conda/en/stable/user-guide/tasks/manage-environments.html#create-env-file-manually).
// What it can't read whole is an error: a package that is overlooked would be
// one that is missing.
func ParseConda(text string) (Conda, error) {
	var c Conda
	if len(text) > maxCondaFile {
		return c, fmt.Errorf("the conda file has %d bytes, at most %d are read", len(text), maxCondaFile)
	}
	var file struct {
		Name         string            `yaml:"name"`
		Channels     []string          `yaml:"channels"`
		Dependencies []yaml.Node       `yaml:"dependencies"`
		Prefix       string            `yaml:"prefix"`
		Variables    map[string]string `yaml:"variables"`
	}
	if err := yaml.Unmarshal([]byte(text), &file); err != nil {
		return c, fmt.Errorf("the conda file is not YAML of a conda environment: %w", err)
	}
	if len(file.Variables) > 0 {
		return c, errors.New("the conda file has variables: give them as environment variables of the deployment")
	}
	c.Name, c.Channels = file.Name, file.Channels
	for _, d := range file.Dependencies {
		if err := c.dependency(&d); err != nil {
			return c, err
		}
		if len(c.Requirements) > maxRequirements {
			return c, fmt.Errorf("the conda file asks for more than %d packages", maxRequirements)
		}
	}
	return c, nil
}

func (c *Conda) dependency(d *yaml.Node) error {
	if d.Kind == yaml.ScalarNode {
		r, err := condaRequirement(d.Value)
		if err == nil {
			c.Requirements = append(c.Requirements, r)
		}
		return err
	}
	var sections map[string][]string
	if err := d.Decode(&sections); err != nil {
		return fmt.Errorf("the conda file, line %d: neither a package nor pip with a list of packages", d.Line)
	}
	for section, packages := range sections {
		if section != "pip" {
			return fmt.Errorf("the conda file, line %d: packages of %q are not known here", d.Line, section)
		}
		for _, p := range packages {
			r, err := pipRequirement(p)
			if err != nil {
				return fmt.Errorf("the conda file, line %d, pip: %w", d.Line, err)
			}
			c.Requirements = append(c.Requirements, r)
		}
	}
	return nil
}

var (
	// NAME, NAME SPEC [BUILD], NAME=SPEC[=BUILD], with CHANNEL:: before it.
	condaPattern = regexp.MustCompile(`^(?:[A-Za-z0-9_./:-]+::)?([A-Za-z0-9_][A-Za-z0-9_.-]*)\s*((?:[=<>!~]|\s[0-9*])[^\[\]#@]*)?$`)
	// An option's name without its value: -i of -ihttps://…
	pipOption = regexp.MustCompile(`^(?:--[a-z-]*|-[A-Za-z]?)`)
	// PEP 508, without markers and addresses.
	pipPattern = regexp.MustCompile(`^([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*(\[[A-Za-z0-9._, -]*\])?\s*\(?\s*((?:(?:===|~=|==|!=|<=|>=|<|>)\s*[^\s,;()]+\s*,?\s*)*)\)?\s*(?:;(.*))?$`)
)

func condaRequirement(text string) (Requirement, error) {
	text = strings.TrimSpace(text)
	m := condaPattern.FindStringSubmatch(text)
	if m == nil || len(text) > 500 {
		return Requirement{}, fmt.Errorf("the conda file: %.100q is no package that can be read", withoutUser(text))
	}
	asked := strings.TrimSpace(m[2])
	if asked != "" && asked[0] >= '0' && asked[0] <= '9' || strings.HasPrefix(asked, "*") {
		asked, _, _ = strings.Cut(asked, " ") // NAME VERSION BUILD
		asked = "==" + asked
	}
	return Requirement{Package: m[1], Asked: strings.ReplaceAll(asked, " ", "")}, nil
}

// pipRequirement reads NAME with extras, versions and a marker (PEP 508). Its
// error says why something else can't be had.
func pipRequirement(text string) (Requirement, error) {
	text = strings.TrimSpace(text)
	m := pipPattern.FindStringSubmatch(text)
	if m == nil || len(text) > 500 {
		return Requirement{}, notPip(text)
	}
	return Requirement{
		Package: m[1], Extras: strings.ReplaceAll(m[2], " ", ""), Asked: strings.TrimSuffix(strings.Join(strings.Fields(m[3]), ""), ","),
		Marker: strings.TrimSpace(m[4]), Pip: true,
	}, nil
}

// notPip says why pip's line is nothing that is installed here. Addresses may
// have credentials in them, and are not repeated.
func notPip(text string) error {
	word, _, _ := strings.Cut(strings.ReplaceAll(text, "=", " "), " ")
	if option := pipOption.FindString(word); option != "" { // -ihttps://…
		word = option
	}
	switch word {
	case "-e", "--editable":
		return fmt.Errorf("%s: nothing is installed from source here: put a wheel of it into the package index", word)
	case "-r", "--requirement", "-c", "--constraint":
		return fmt.Errorf("%s: files are not read from here: write the packages of the file in its place", word)
	case "-i", "--index-url", "--extra-index-url", "-f", "--find-links", "--trusted-host", "--no-index":
		return fmt.Errorf("%s: packages come from the index that environments.index of the configuration names, and from no other: put them there", word)
	}
	switch {
	case strings.HasPrefix(word, "-"):
		return fmt.Errorf("%.40s is an option that is not known here", word)
	case strings.Contains(text, "://") || strings.Contains(text, "@"):
		return fmt.Errorf("an address, of a repository or a file: packages come from the index alone: put a wheel of it there, and ask for its name")
	case strings.Contains(text, "--hash"):
		return fmt.Errorf("%.100s: hashes are not compared here: ask for the version alone", word)
	case strings.HasPrefix(text, ".") || strings.HasPrefix(text, "/") || strings.HasSuffix(text, ".whl") || strings.HasSuffix(text, ".gz") || strings.HasSuffix(text, ".zip"):
		return fmt.Errorf("%.100q is a file: packages come from the index alone: put a wheel of it there, or copy its modules into the folder of the code", text)
	}
	return fmt.Errorf("%.100q is no package with versions", text)
}

// One slash is what is left of two where an address is taken for a path.
var userOfURL = regexp.MustCompile(`(:/{1,2})\S*@`)

// withoutUser leaves out of addresses who asks, and with which password. It comes
// before a text is cut: what is cut may lack the end of the password.
func withoutUser(text string) string { return userOfURL.ReplaceAllString(text, "$1") }

var separators = regexp.MustCompile(`[-_.]+`)

// normal is a package's name as PEP 503 compares it.
func normal(name string) string {
	return separators.ReplaceAllString(strings.ToLower(name), "-")
}
