package cli

import (
	"context"
	"strings"
)

// command is one verb: what is typed, what help says, and what it does.
type command struct {
	path    string // "identity federated-credential create"
	short   string // one sentence
	example string // one line as typed, without the program's name
	args    []arg
	run     func(ctx context.Context, c *call) (any, error)
	table   string                      // JMESPath that shapes the value for -o table; empty: every scalar
	text    func(c *call, v any) string // what is printed where no format is asked for; nil: JSON
	azJSON  bool                        // called as az it prints JSON all the same
	generic bool                        // takes --set, --add and --remove
	bare    bool                        // no --subscription
}

// noun is a top-level word with its commands. They are built when the word is
// typed: starting up costs nothing for the others.
type noun struct {
	name, short string
	groups      map[string]string // "federated-credential" → one line
	commands    func() []*command
}

// kind is how an argument takes values.
type kind int

const (
	text    kind = iota // one value
	flag                // none
	boolean             // none, or true|false
	number              // one integer
	list                // one or more
	pairs               // none or more key=value
	repeat              // one or more, and may come again
)

// arg is one option of a command.
type arg struct {
	name    string   // long name, without dashes; what call's accessors take
	also    []string // further spellings, with dashes: "-n"
	help    string
	kind    kind
	need    bool
	pos     bool // positional
	value   string
	setting string   // key under [defaults] of the configuration
	choices []string // compared without case
	part    string   // what of an --ids id fills it: "group", "name", "child"
}

func (a arg) or(spellings ...string) arg { a.also = append(a.also, spellings...); return a }
func (a arg) required() arg              { a.need = true; return a }
func (a arg) byDefault(v string) arg     { a.value = v; return a }
func (a arg) oneOf(c ...string) arg      { a.choices = c; return a }
func (a arg) idPart(p string) arg        { a.part = p; return a }
func (a arg) configured(key string) arg  { a.setting = key; return a }

// title is how errors and help name it: "--name/-n".
func (a arg) title() string {
	if a.pos {
		return strings.ToUpper(a.name)
	}
	return strings.Join(a.spellings(), "/")
}

func (a arg) spellings() []string { return append([]string{"--" + a.name}, a.also...) }

func opt(name, help string) arg        { return arg{name: name, help: help} }
func flagOpt(name, help string) arg    { return arg{name: name, help: help, kind: flag} }
func boolOpt(name, help string) arg    { return arg{name: name, help: help, kind: boolean} }
func numberOpt(name, help string) arg  { return arg{name: name, help: help, kind: number} }
func listOpt(name, help string) arg    { return arg{name: name, help: help, kind: list} }
func pairsOpt(name, help string) arg   { return arg{name: name, help: help, kind: pairs} }
func repeatOpt(name, help string) arg  { return arg{name: name, help: help, kind: repeat} }
func positional(name, help string) arg { return arg{name: name, help: help, kind: list, pos: true} }

func nameOpt(help string) arg { return opt("name", help).or("-n").required().idPart("name") }

func groupOpt() arg {
	return opt("resource-group", "Name of the resource group. Can be set once with `az configure --defaults group=NAME`.").
		or("-g").required().configured("group").idPart("group")
}

// groupFilter is the group of a list command, where it narrows and is optional.
func groupFilter() arg {
	g := groupOpt()
	g.need, g.part = false, ""
	return g
}

func locationOpt() arg {
	return opt("location", "Region, such as eastus. Without it, the group's. Can be set once with `az configure --defaults location=NAME`.").
		or("-l").configured("location")
}

func tagsOpt() arg {
	return pairsOpt("tags", "Tags as KEY=VALUE, separated by spaces; an empty string clears them.")
}
func noWaitOpt() arg { return flagOpt("no-wait", "Do not wait for the long operation to end.") }
func yesOpt() arg    { return flagOpt("yes", "Do not ask for confirmation.").or("-y") }

func idsOpt() arg {
	return listOpt("ids", "One or more resource ids, in place of the name, group and subscription.")
}

// globals are the options of every command.
func globals(cmd *command) []arg {
	g := []arg{
		flagOpt("debug", "Show every request and answer on stderr, without secrets."),
		flagOpt("help", "Show this help.").or("-h"),
		flagOpt("only-show-errors", "Show errors only, no warnings."),
		opt("output", "Format of the answer.").or("-o").oneOf("json", "jsonc", "yaml", "yamlc", "table", "tsv", "none"),
		opt("query", "JMESPath expression that picks from the answer. See http://jmespath.org/"),
		flagOpt("verbose", "Show more of what is done on stderr."),
	}
	if !cmd.bare {
		g = append(g, opt("subscription", "Name or id of the subscription."))
	}
	return g
}

func genericOpts() []arg {
	return []arg{
		repeatOpt("set", "Set a property by its path: --set properties.x=VALUE tags.team=blue."),
		repeatOpt("add", "Add to a list by its path: --add properties.list VALUE, or key=value for an object."),
		repeatOpt("remove", "Remove a property, or an index of a list: --remove tags.team, --remove properties.list 0."),
		flagOpt("force-string", "Keep the values of --set as text instead of reading them as JSON."),
	}
}

// options are all that cmd takes.
func (cmd *command) options() []arg {
	out := append([]arg(nil), cmd.args...)
	if cmd.takesIDs() {
		out = append(out, idsOpt())
	}
	if cmd.generic {
		out = append(out, genericOpts()...)
	}
	return append(out, globals(cmd)...)
}

func (cmd *command) takesIDs() bool {
	for _, a := range cmd.args {
		if a.part == "name" {
			return true
		}
	}
	return false
}

// findCommand gives the command that words begin with and how many words it
// took. Where there is none, used is how many words name existing groups, and
// err says what is wrong with the next one.
func findCommand(words []string) (cmd *command, used int, err error) {
	if len(words) == 0 {
		return nil, 0, nil
	}
	n, ok := findNoun(words[0])
	if !ok {
		return nil, 0, unknownNoun(words[0])
	}
	cmds := n.commands()
	for _, cmd := range cmds {
		if p := strings.Fields(cmd.path); len(p) <= len(words) && strings.Join(words[:len(p)], " ") == cmd.path && len(p) > used {
			return cmd, len(p), nil
		}
	}
	for used = 1; used < len(words); used++ {
		if !isGroup(cmds, strings.Join(words[:used+1], " ")) {
			return nil, used, unknownVerb(cmds, words, used)
		}
	}
	return nil, used, nil
}

func isGroup(cmds []*command, path string) bool {
	for _, c := range cmds {
		if strings.HasPrefix(c.path, path+" ") {
			return true
		}
	}
	return false
}

func findNoun(name string) (noun, bool) {
	for _, n := range nouns() {
		if n.name == name {
			return n, true
		}
	}
	return noun{}, false
}
