package environment

import (
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"lazurite.dev/internal/image"
)

// run reads a RUN. What pip and conda would install is compared with what the
// base has; anything else would have to run, and is refused.
func (g *building) run(i Instruction) error {
	commands := [][]string{i.Args}
	if !i.Exec {
		commands = nil
		for one := range strings.SplitSeq(i.Args[0], "&&") {
			if strings.ContainsAny(one, "|;<>`$()&") {
				return fmt.Errorf("RUN %.200s: nothing runs while an image is built here, so that only plain calls of pip and conda are read", withoutUser(i.Args[0]))
			}
			d := dockerfile{}
			words, err := d.words(strings.TrimSpace(one))
			if err != nil {
				return err
			}
			commands = append(commands, words)
		}
	}
	for _, words := range commands {
		tidied, err := g.tidies(words)
		if err != nil {
			return err
		}
		if tidied {
			continue
		}
		asked, err := g.installs(words)
		if err != nil {
			return err
		}
		differ, err := g.judge(asked, "the Dockerfile", g.base, g.packages)
		if err != nil {
			return err
		}
		g.differ = append(g.differ, differ...)
	}
	return nil
}

// tidies does what commonly follows an installation: rm of files that were
// copied; of the caches of pip and conda there is nothing.
func (g *building) tidies(words []string) (bool, error) {
	if len(words) < 2 {
		return false, nil
	}
	switch path.Base(words[0]) + " " + words[1] {
	case "pip cache", "pip3 cache":
		return len(words) == 3 && (words[2] == "purge" || words[2] == "list"), nil
	case "conda clean", "mamba clean":
		return true, nil
	}
	if path.Base(words[0]) != "rm" {
		return false, nil
	}
	recursive := false
	for _, w := range words[1:] {
		switch w {
		case "-f", "--force", "-v":
			continue
		case "-r", "-R", "-rf", "-fr", "-Rf", "--recursive":
			recursive = true
			continue
		}
		if strings.HasPrefix(w, "-") {
			return false, fmt.Errorf("rm: %.100q is no option that is known here", withoutUser(w))
		}
		if err := g.remove(g.absolute(w), recursive); err != nil {
			return false, err
		}
	}
	return true, nil
}

// remove takes away what was copied, and what it hid of the base.
// Source: OCI image specification, "Representing Changes": whiteouts.
func (g *building) remove(at string, recursive bool) error {
	found, folder := false, false
	kept := make([]image.Entry, 0, len(g.entries)+1)
	for _, e := range g.entries {
		if e.Path != at && !strings.HasPrefix(e.Path, at+"/") {
			kept = append(kept, e)
			continue
		}
		found, folder = true, folder || e.Folder || e.Path != at
	}
	switch {
	case !found:
		return fmt.Errorf("rm: %s was not copied from the build context, and nothing else is removed here", at)
	case folder && !recursive:
		return fmt.Errorf("rm: %s is a folder", at)
	}
	nothing := func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("")), nil }
	g.entries = append(kept, image.Entry{Path: path.Join(path.Dir(at), ".wh."+path.Base(at)), Open: nothing})
	return nil
}

// installs is what a call of pip or conda asks for.
func (g *building) installs(words []string) ([]Requirement, error) {
	line := strings.Join(words, " ")
	if len(words) > 3 && strings.HasPrefix(path.Base(words[0]), "python") && words[1] == "-m" {
		words = words[2:]
	}
	program := ""
	if len(words) > 2 {
		program = path.Base(words[0]) + " " + words[1]
	}
	switch program {
	case "pip install", "pip3 install":
		return g.pip(words[2:])
	case "conda install", "mamba install":
		return condaInstall(words[2:])
	case "conda env", "mamba env":
		if words[2] == "create" || words[2] == "update" {
			return g.condaFile(words[3:])
		}
	}
	return nil, fmt.Errorf("RUN %.200s: nothing runs while an image is built here; `pip install` and `conda install|env create|env update` are compared with what the base has", withoutUser(line))
}

func (g *building) pip(words []string) ([]Requirement, error) {
	var asked []Requirement
	for n := 0; n < len(words); n++ {
		file := ""
		switch w := words[n]; {
		case w == "-r" || w == "--requirement":
			if n++; n == len(words) {
				return nil, fmt.Errorf("pip: %s names no file", w)
			}
			file = words[n]
		case strings.HasPrefix(w, "--requirement="):
			file = strings.TrimPrefix(w, "--requirement=")
		case strings.HasPrefix(w, "-r") && len(w) > 2:
			file = strings.TrimPrefix(w, "-r")
		case idle(w):
			continue
		default:
			r, err := pipRequirement(w)
			if err != nil {
				return nil, fmt.Errorf("pip: %w", err)
			}
			asked = append(asked, r)
			continue
		}
		more, err := g.requirements(file)
		if err != nil {
			return nil, err
		}
		asked = append(asked, more...)
	}
	return asked, nil
}

// idle reports whether an option of `pip install` changes nothing of what is
// installed here.
func idle(option string) bool {
	switch option {
	case "--no-cache-dir", "--no-cache", "--upgrade", "-U", "--quiet", "-q", "-qq", "--verbose", "-v", "--user", "--no-input", "--disable-pip-version-check", "--no-compile", "--compile",
		"--no-warn-script-location", "--root-user-action=ignore", "--progress-bar=off", "--break-system-packages", "--prefer-binary", "--only-binary=:all:":
		return true
	}
	return false
}

// inContext reads a file that was copied, or that lies in the context.
func (g *building) inContext(name string) ([]byte, error) {
	at := g.absolute(name)
	for n := len(g.entries) - 1; n >= 0; n-- {
		if e := g.entries[n]; e.Path == at && !e.Folder && e.Size <= maxCondaFile {
			return readEntry(e)
		}
	}
	return nil, fmt.Errorf("%s was not copied from the build context, or has more than %d bytes", name, maxCondaFile)
}

func readEntry(e image.Entry) (text []byte, err error) {
	f, err := e.Open()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return io.ReadAll(io.LimitReader(f, e.Size))
}

func (g *building) requirements(file string) ([]Requirement, error) {
	text, err := g.inContext(file)
	if err != nil {
		return nil, err
	}
	var asked []Requirement
	joined := strings.NewReplacer("\\\r\n", " ", "\\\n", " ").Replace(strings.TrimPrefix(string(text), "\ufeff"))
	for line := range strings.Lines(joined) {
		if before, _, comment := strings.Cut(strings.ReplaceAll(line, "\t", " "), " #"); comment {
			line = before
		}
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		r, err := pipRequirement(line)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if asked = append(asked, r); len(asked) > maxRequirements {
			return nil, fmt.Errorf("%s asks for more than %d packages", file, maxRequirements)
		}
	}
	return asked, nil
}

func condaInstall(words []string) ([]Requirement, error) {
	var asked []Requirement
	for n := 0; n < len(words); n++ {
		switch w := words[n]; w {
		case "-y", "--yes", "-q", "--quiet":
		case "-c", "--channel", "-n", "--name":
			n++
		default:
			r, err := condaRequirement(w)
			if err != nil || strings.HasPrefix(w, "-") {
				return nil, fmt.Errorf("conda: %.100q is neither a package nor an option that is known here", withoutUser(w))
			}
			asked = append(asked, r)
		}
	}
	return asked, nil
}

func (g *building) condaFile(words []string) ([]Requirement, error) {
	file := ""
	for n := 0; n < len(words); n++ {
		switch w := words[n]; w {
		case "-q", "--quiet", "--prune", "-y", "--yes":
		case "-n", "--name", "-p", "--prefix":
			n++
		case "-f", "--file":
			if n++; n < len(words) {
				file = words[n]
			}
		default:
			return nil, fmt.Errorf("conda: %.100q is no option that is known here", withoutUser(w))
		}
	}
	text, err := g.inContext(file)
	if err != nil {
		return nil, err
	}
	conda, err := ParseConda(string(text))
	return conda.Requirements, err
}
