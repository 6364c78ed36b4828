package environment

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
)

// Limits of a Dockerfile.
const (
	maxDockerfile   = 64 << 10 // bytes
	maxInstructions = 200
	maxExpanded     = 1 << 20 // bytes that variables may bring
)

// Instruction is one of a Dockerfile, with its variables put in.
type Instruction struct {
	Line  int
	Name  string            // in capitals
	Flags map[string]string // --chown=… of COPY
	Args  []string          // words; of RUN, CMD and ENTRYPOINT in the shell form one: the command
	Exec  bool              // RUN, CMD, ENTRYPOINT: Args are the words of the exec form
	Pairs [][2]string       // of ENV and LABEL
}

// Dockerfile is the part of Dockerfiles that is built here: one stage.
type Dockerfile struct {
	From         string
	Instructions []Instruction
}

// dockerfile is the reading of one.
type dockerfile struct {
	Dockerfile
	args map[string]string // of ARG
	env  map[string]string // of ENV, which go before
	used int               // bytes that variables brought
}

// ParseDockerfile reads a Dockerfile
// (https://docs.docker.com/reference/dockerfile/). What isn't built here is an
// error that names the line.
func ParseDockerfile(text string) (Dockerfile, error) {
	d := dockerfile{args: map[string]string{}, env: map[string]string{}}
	if len(text) > maxDockerfile {
		return d.Dockerfile, fmt.Errorf("the Dockerfile has %d bytes, at most %d are read", len(text), maxDockerfile)
	}
	lines, err := logicalLines(text)
	if err != nil {
		return d.Dockerfile, err
	}
	if len(lines) > maxInstructions {
		return d.Dockerfile, fmt.Errorf("the Dockerfile has more than %d instructions", maxInstructions)
	}
	for _, l := range lines {
		if err := d.instruction(l); err != nil {
			return d.Dockerfile, fmt.Errorf("the Dockerfile, line %d: %w", l.number, err)
		}
	}
	if d.From == "" {
		return d.Dockerfile, fmt.Errorf("the Dockerfile has no FROM")
	}
	return d.Dockerfile, nil
}

type logicalLine struct {
	number int
	text   string
}

var (
	directive = regexp.MustCompile(`(?i)^#\s*escape\s*=`)
	heredoc   = regexp.MustCompile(`<<-?\s*["']?[A-Za-z_]`)
)

// logicalLines joins what \ continues and leaves out comments.
func logicalLines(text string) ([]logicalLine, error) {
	var lines []logicalLine
	var joined strings.Builder
	began := 0
	for i, line := range strings.Split(strings.ReplaceAll(text, "\r\n", "\n"), "\n") {
		trimmed := strings.TrimSpace(line)
		if directive.MatchString(trimmed) {
			return nil, fmt.Errorf("the Dockerfile, line %d: another escape character than \\ is not known here", i+1)
		}
		if strings.HasPrefix(trimmed, "#") || trimmed == "" {
			continue
		}
		if began == 0 {
			began = i + 1
		}
		more, continued := strings.CutSuffix(trimmed, "\\")
		joined.WriteString(more)
		if continued {
			joined.WriteByte(' ')
			continue
		}
		lines = append(lines, logicalLine{began, joined.String()})
		joined.Reset()
		began = 0
	}
	if began != 0 {
		lines = append(lines, logicalLine{began, joined.String()})
	}
	return lines, nil
}

// instruction reads one, by its name.
func (d *dockerfile) instruction(l logicalLine) error {
	word, rest, _ := strings.Cut(strings.ReplaceAll(l.text, "\t", " "), " ")
	i := Instruction{Line: l.number, Name: strings.ToUpper(word)}
	rest = strings.TrimSpace(rest)
	if rest == "" {
		return fmt.Errorf("%s says nothing", i.Name)
	}
	if d.From == "" && i.Name != "FROM" && i.Name != "ARG" {
		return fmt.Errorf("%s stands before FROM", i.Name)
	}
	var err error
	switch i.Name {
	case "FROM":
		return d.from(rest)
	case "ARG":
		return d.arg(rest)
	case "RUN", "CMD", "ENTRYPOINT":
		if heredoc.MatchString(rest) {
			return fmt.Errorf("text in line (<<) is not built here")
		}
		i.Args, i.Exec = command(rest)
	case "ENV", "LABEL":
		if i.Pairs, err = d.pairs(rest); i.Name == "ENV" {
			for _, p := range i.Pairs {
				d.env[p[0]] = p[1]
			}
		}
	case "COPY", "ADD":
		err = d.copying(&i, rest)
	case "WORKDIR", "USER", "EXPOSE":
		i.Args, err = d.words(rest)
		if err == nil && i.Name != "EXPOSE" && len(i.Args) != 1 {
			err = fmt.Errorf("%s takes one word", i.Name)
		}
	default:
		err = fmt.Errorf("%s is not built here: FROM, ARG, ENV, LABEL, COPY, ADD (of files), WORKDIR, USER, EXPOSE, CMD, ENTRYPOINT are, and RUN with pip or conda is compared with what the image has", i.Name)
	}
	if err == nil {
		d.Instructions = append(d.Instructions, i)
	}
	return err
}

func (d *dockerfile) from(rest string) error {
	words, err := d.words(rest)
	switch {
	case err != nil:
		return err
	case d.From != "":
		return fmt.Errorf("a second FROM: images of several stages are not built here")
	case len(words) == 3 && strings.EqualFold(words[1], "as"), len(words) == 1:
		if words[0] == "" || strings.HasPrefix(words[0], "-") || words[0] == "scratch" {
			return fmt.Errorf("FROM %s is not built here", words[0])
		}
		d.From = words[0]
		return nil
	}
	return fmt.Errorf("FROM takes an image, and AS with a name")
}

func (d *dockerfile) arg(rest string) error {
	name, value, given := strings.Cut(rest, "=")
	if !variable.MatchString(name) || strings.ContainsAny(value, " ") && !strings.ContainsAny(value, `"'`) {
		return fmt.Errorf("ARG takes NAME or NAME=VALUE")
	}
	if !given {
		d.args[name] = ""
		return nil
	}
	words, err := d.words(value)
	d.args[name] = strings.Join(words, " ")
	return err
}

func (d *dockerfile) pairs(rest string) ([][2]string, error) {
	words, err := d.words(rest)
	if err != nil {
		return nil, err
	}
	if len(words) > 1 && !strings.Contains(words[0], "=") { // ENV NAME VALUE
		name, _, _ := strings.Cut(rest, " ")
		value, err := d.expand(strings.TrimSpace(rest[len(name):]))
		return [][2]string{{words[0], value}}, err
	}
	var pairs [][2]string
	for _, w := range words {
		name, value, ok := strings.Cut(w, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("%.100q is not NAME=VALUE", withoutUser(w))
		}
		pairs = append(pairs, [2]string{name, value})
	}
	return pairs, nil
}

func (d *dockerfile) copying(i *Instruction, rest string) error {
	for strings.HasPrefix(rest, "--") {
		var flag string
		flag, rest, _ = strings.Cut(rest, " ")
		rest = strings.TrimSpace(rest)
		name, value, _ := strings.Cut(flag[2:], "=")
		if name != "chown" && name != "chmod" {
			return fmt.Errorf("%s --%s is not built here", i.Name, name)
		}
		if i.Flags == nil {
			i.Flags = map[string]string{}
		}
		value, err := d.expand(value)
		if err != nil {
			return err
		}
		i.Flags[name] = value
	}
	if heredoc.MatchString(rest) {
		return fmt.Errorf("text in line (<<) is not built here")
	}
	var err error
	if words, exec := command(rest); exec {
		for _, w := range words {
			if w, err = d.expand(w); err != nil {
				return err
			}
			i.Args = append(i.Args, w)
		}
	} else if i.Args, err = d.words(rest); err != nil {
		return err
	}
	if len(i.Args) < 2 {
		return fmt.Errorf("%s takes what to copy, and where to", i.Name)
	}
	return nil
}

// command is a command in the exec form, a JSON list of words, or in the shell form.
func command(rest string) (words []string, exec bool) {
	if strings.HasPrefix(rest, "[") && json.Unmarshal([]byte(rest), &words) == nil && len(words) > 0 {
		return words, true
	}
	return []string{rest}, false
}

var (
	variable  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	reference = regexp.MustCompile(`\\.|\$\{[^}]*\}|\$[A-Za-z_][A-Za-z0-9_]*|\$`)
	inBraces  = regexp.MustCompile(`^\$\{([A-Za-z_][A-Za-z0-9_]*)(?::([-+])([^$]*))?\}$`)
)

// expand puts variables in: $NAME, ${NAME}, ${NAME:-WORD}, ${NAME:+WORD}.
func (d *dockerfile) expand(text string) (string, error) {
	var wrong error
	out := reference.ReplaceAllStringFunc(text, func(ref string) string {
		switch {
		case ref[0] == '\\':
			return ref[1:]
		case ref == "$":
			return ref
		case ref[1] != '{':
			return d.value(ref[1:])
		}
		m := inBraces.FindStringSubmatch(ref)
		if m == nil {
			wrong = fmt.Errorf("%.100q is no variable that can be read here", withoutUser(ref))
			return ""
		}
		v := d.value(m[1])
		if m[2] == "-" && v == "" || m[2] == "+" && v != "" {
			return m[3]
		}
		return v
	})
	if d.used > maxExpanded {
		return "", fmt.Errorf("its variables bring more than %d bytes", maxExpanded)
	}
	return out, wrong
}

func (d *dockerfile) value(name string) string {
	v, ok := d.env[name]
	if !ok {
		v = d.args[name]
	}
	if d.used += len(v); d.used > maxExpanded {
		return ""
	}
	return v
}

// words splits at spaces, with quotes; variables count outside of single quotes.
func (d *dockerfile) words(text string) ([]string, error) {
	var words []string
	var word, piece strings.Builder
	quote, open := byte(0), false
	flush := func() error {
		s, err := piece.String(), error(nil)
		if quote != '\'' {
			s, err = d.expand(s)
		}
		piece.Reset()
		word.WriteString(s)
		return err
	}
	for i := 0; i < len(text); i++ {
		var err error
		switch c := text[i]; {
		case c == '\\' && quote != '\'' && i+1 < len(text):
			piece.WriteString(text[i : i+2])
			i++
		case quote == 0 && (c == '"' || c == '\''):
			err, open = flush(), true
			quote = c
		case quote != 0 && c == quote:
			err = flush()
			quote = 0
		case quote == 0 && c == ' ':
			if err = flush(); open || word.Len() > 0 {
				words = append(words, word.String())
			}
			word.Reset()
			open = false
		default:
			piece.WriteByte(c)
		}
		if err != nil {
			return nil, err
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("a quote is not closed")
	}
	if err := flush(); err != nil {
		return nil, err
	}
	if open || word.Len() > 0 {
		words = append(words, word.String())
	}
	return words, nil
}
