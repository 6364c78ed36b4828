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
				return fmt.Errorf("RUN %.200s: nothing runs while an image is built here, so that only plain calls of pip and conda are read", i.Args[0])
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
	return nil, fmt.Errorf("RUN %.200s: nothing runs while an image is built here; `pip install` and `conda install|env create|env update` are compared with what the base has", line)
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
		case w == "--no-cache-dir" || w == "--upgrade" || w == "-U" || w == "--quiet" || w == "-q" || w == "--user" || w == "--no-input" || w == "--disable-pip-version-check":
			continue
		default:
			r, err := pipRequirement(w)
			if err != nil {
				return nil, fmt.Errorf("pip: %.100q is neither a package with versions nor an option that is known here", w)
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
	for line := range strings.Lines(string(text)) {
		if before, _, comment := strings.Cut(line, " #"); comment {
			line = before
		}
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		r, err := pipRequirement(line)
		if err != nil {
			return nil, fmt.Errorf("%s: %.100q is no package with versions", file, line)
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
				return nil, fmt.Errorf("conda: %.100q is neither a package nor an option that is known here", w)
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
			return nil, fmt.Errorf("conda: %.100q is no option that is known here", w)
		}
	}
	text, err := g.inContext(file)
	if err != nil {
		return nil, err
	}
	conda, err := ParseConda(string(text))
	return conda.Requirements, err
}
