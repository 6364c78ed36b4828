package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"lazurite.dev/internal/rid"
)

// call is one run of a command: what was typed, and the way to the server.
type call struct {
	*session
	cmd    *command
	args   *parsed
	help   bool
	format string
	query  *query
	defs   map[string]arg
}

// newCall parses tokens for cmd. It does no network and reads no state but
// the configuration.
func newCall(env Env, cmd *command, tokens []string) (*call, error) {
	opts := cmd.options()
	p, err := parseArgs(opts, tokens)
	c := &call{cmd: cmd, args: p, defs: make(map[string]arg, len(opts))}
	if p != nil && p.set["help"] {
		c.help = true
		return c, nil
	}
	if err != nil {
		if f, ok := errors.AsType[*failure](err); ok && f.ofCommand {
			f.msg = "az " + cmd.path + ": " + f.msg
		}
		return nil, withHint(err, "Usage: %s %s --help", env.Program, cmd.path)
	}
	for _, a := range opts {
		c.defs[a.name] = a
	}
	c.session = newSession(env)
	p.expandFiles(c.readArgFile)
	if err := c.fillDefaults(opts); err != nil {
		return nil, err
	}
	c.debug, c.quiet = p.set["debug"], p.set["only-show-errors"]
	c.format = firstNonEmpty(c.text("output"), strings.ToLower(c.config().get("core", "output")), "json")
	if q := c.text("query"); q != "" {
		if c.query, err = compileQuery(q); err != nil {
			return nil, usagef("argument --query: invalid jmespath_type value: '%s'", q)
		}
	}
	c.subscriptionName = c.text("subscription")
	return c, nil
}

// fillDefaults takes from the configuration what wasn't typed and checks that
// nothing is missing.
func (c *call) fillDefaults(opts []arg) error {
	byID := c.cmd.takesIDs() && c.args.set["ids"]
	for _, a := range opts {
		if c.args.set[a.name] || byID && a.part != "" {
			continue
		}
		v := a.value
		if a.setting != "" {
			v = firstNonEmpty(c.config().get("defaults", a.setting), v)
		}
		if v != "" {
			c.args.values[a.name] = []string{v}
			c.args.set[a.name] = c.args.set[a.name] || a.setting != ""
		}
	}
	if byID {
		return nil
	}
	return withHint(c.args.missing(opts), "Usage: %s %s --help", c.env.Program, c.cmd.path)
}

// readArgFile reads the file of an @ argument; "-" is stdin.
func (c *call) readArgFile(path string) ([]byte, error) {
	if path == "-" {
		return io.ReadAll(c.env.Stdin)
	}
	return os.ReadFile(c.filePath(path))
}

// filePath is where a path that was typed leads: "~/" is the home folder, and
// others are taken from Env.Dir.
func (s *session) filePath(path string) string {
	if rest, ok := strings.CutPrefix(path, "~/"); ok {
		return filepath.Join(s.env.Getenv("HOME"), rest)
	}
	if filepath.IsAbs(path) || path == "" {
		return path
	}
	return filepath.Join(s.env.Dir, path)
}

// execute runs the command, once for each of --ids, and prints its value.
func (c *call) execute(ctx context.Context) int {
	v, err := c.value(ctx)
	if err != nil && !errors.Is(err, errVerdict) {
		return fail(c.env, err)
	}
	if e := c.print(v); e != nil {
		return fail(c.env, e)
	}
	if err != nil {
		return exitError
	}
	return exitOK
}

func (c *call) value(ctx context.Context) (any, error) {
	ids := c.many("ids")
	if !c.cmd.takesIDs() || !c.given("ids") {
		return c.cmd.run(ctx, c)
	}
	var all []any
	for _, id := range strings.Fields(strings.Join(ids, " ")) {
		if err := c.useID(id); err != nil {
			return nil, err
		}
		v, err := c.cmd.run(ctx, c)
		if err != nil {
			return nil, err
		}
		if v != nil {
			all = append(all, v)
		}
	}
	switch len(all) {
	case 0:
		return nil, nil
	case 1:
		return all[0], nil
	}
	return all, nil
}

// useID fills the parts of the command's name from a resource id.
func (c *call) useID(s string) error {
	id, err := rid.Parse(s)
	if err != nil || id.Subscription() == "" {
		return usagef("invalid resource ID: %s", s)
	}
	names := id.Names()
	if id.Namespace() == "" && id.ResourceGroup() != "" {
		names = []string{id.ResourceGroup()}
	}
	for name, a := range c.defs {
		var v string
		switch a.part {
		case "group":
			v = id.ResourceGroup()
		case "name":
			if len(names) > 0 {
				v = names[0]
			}
		case "child":
			if len(names) > 1 {
				v = names[1]
			}
		default:
			continue
		}
		if v == "" && a.need {
			return usagef("invalid resource ID: %s: it has no part for %s", s, a.title())
		}
		if v != "" {
			c.args.values[name], c.args.set[name] = []string{v}, true
		}
	}
	c.subscriptionName = id.Subscription()
	return nil
}

// given reports whether the option was typed, or configured by a default.
func (c *call) given(name string) bool { return c.args.set[name] }

// text is the option's value, "" when it wasn't given and has no default.
func (c *call) text(name string) string {
	if v := c.args.values[name]; len(v) > 0 {
		return v[len(v)-1]
	}
	return ""
}

// flag reports whether a flag was given, or a boolean option is true.
func (c *call) flag(name string) bool {
	if v, ok := c.args.values[name]; ok && c.defs[name].kind == boolean {
		return len(v) > 0 && v[0] == "true"
	}
	return c.args.set[name]
}

func (c *call) many(name string) []string { return c.args.values[name] }

func (c *call) number(name string) int {
	n, _ := strconv.Atoi(c.text(name)) // checked when it was parsed
	return n
}

// pairs are KEY=VALUE arguments; a key without a value has "". nil when not given.
func (c *call) pairs(name string) object {
	if !c.given(name) {
		return nil
	}
	out := object{}
	for _, p := range c.many(name) {
		if p == "" {
			continue
		}
		k, v, _ := strings.Cut(p, "=")
		out[k] = v
	}
	return out
}

// warn prints to stderr unless --only-show-errors was given.
func (s *session) warn(format string, args ...any) {
	if !s.quiet {
		fmt.Fprintf(s.env.Stderr, format+"\n", args...)
	}
}

// confirm asks before what can't be undone, unless --yes was given.
func (c *call) confirm(question string) error {
	if c.flag("yes") {
		return nil
	}
	if !c.stdinIsTerminal() {
		return c.nobodyToAsk()
	}
	fmt.Fprintf(c.env.Stderr, "%s (y/n): ", question)
	line, err := bufio.NewReader(c.env.Stdin).ReadString('\n')
	if err != nil && line == "" { // /dev/null is a device too
		fmt.Fprintln(c.env.Stderr)
		return c.nobodyToAsk()
	}
	if yes, ok := parseBool(strings.TrimSpace(line)); !ok || !yes {
		return failf("Operation cancelled.")
	}
	return nil
}

func (s *session) nobodyToAsk() error {
	s.warn("WARNING: Unable to prompt for confirmation as no tty available. Use --yes.")
	return failf("Operation cancelled.")
}

func (s *session) stdinIsTerminal() bool {
	f, ok := s.env.Stdin.(*os.File)
	if !ok {
		return false
	}
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0
}
