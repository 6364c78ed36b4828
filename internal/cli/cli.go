// Package cli is the client tower: the command line of laz, which speaks az's
// grammar and is also called as az.
//
// A command is a value in a list, one file a noun. Its run function returns a
// value and prints nothing; output.go alone prints. The package talks to the
// server over HTTPS only, so the same commands work against the public cloud.
package cli

import (
	"context"
	"io"
	"maps"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
)

// Env is the world as a command sees it. Stdin, Stdout, Stderr and Getenv are
// required; the rest may be zero.
type Env struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Getenv         func(string) string

	// Dir is the folder that relative paths are taken from; empty: the
	// process's.
	Dir string

	// IsTerminal reports whether w is a terminal; nil: nothing is.
	IsTerminal func(w io.Writer) bool

	// Columns is how wide the terminal w is, 0 when unknown; nil: always.
	Columns func(w io.Writer) int

	// Program is the name by which the binary was called: "az" or "laz".
	// Empty: "laz".
	Program string

	// Version is the product's version; empty: the one of the build.
	Version string

	// Product are the commands that stand beside az's, by name. They are
	// tried first, and get the arguments after their name as typed. The
	// names of [Main]'s own commands are not overridden by an absent one.
	Product map[string]Product
}

// Product is a command that does not follow az's grammar, such as "up".
type Product struct {
	Short string // one line of help
	Usage string // what help prints for the command; it names each option and gives an example
	Run   func(ctx context.Context, args []string, env Env) int
	Verbs []string // the first arguments that are its own, where az has the word too; nil: all
}

// takes reports whether the product command is meant, and not az's of the name.
func (p Product) takes(args []string) bool {
	return p.Verbs == nil || len(args) > 0 && slices.Contains(p.Verbs, args[0])
}

// Exit statuses, as az gives them.
const (
	exitOK       = 0
	exitError    = 1
	exitUsage    = 2
	exitNotFound = 3
)

// Main runs the command that args (without the program's name) ask for and
// returns the exit status: 0, 1 for a failure, 2 for wrong usage, 3 for a
// resource that isn't there.
func Main(ctx context.Context, args []string, env Env) int {
	env = env.complete()
	args = asked(args)
	if len(args) > 0 {
		if p, ok := env.Product[args[0]]; ok && p.takes(args[1:]) && !grammatical(args) {
			if len(args) > 1 && (args[1] == "--help" || args[1] == "-h") {
				writeProductHelp(env, args[0], p)
				return exitOK
			}
			return p.Run(ctx, args[1:], env)
		}
		if args[0] == "__complete" {
			return completeWords(env, args[1:])
		}
	}
	return dispatch(ctx, args, env)
}

// grammatical reports whether two words name a command of this package, such as
// "doctor endpoint", under a name that a product command has too.
func grammatical(args []string) bool {
	if len(args) < 2 || strings.HasPrefix(args[1], "-") {
		return false
	}
	cmd, used, _ := findCommand(args[:2])
	return cmd != nil && used == 2
}

// asked writes "help X" as "X --help", and "--version" as az means it.
func asked(args []string) []string {
	switch {
	case len(args) == 0:
	case args[0] == "help":
		return append(slices.Clone(args[1:]), "--help")
	case len(args) == 1 && (args[0] == "--version" || args[0] == "-v"):
		return []string{"version"}
	}
	return args
}

func (env Env) complete() Env {
	if env.Program == "" {
		env.Program = "laz"
	}
	env.Program = strings.TrimSuffix(filepath.Base(env.Program), ".exe")
	if env.Version == "" {
		env.Version = buildVersion()
	}
	if env.IsTerminal == nil {
		env.IsTerminal = func(io.Writer) bool { return false }
	}
	return env
}

func buildVersion() string {
	if b, ok := debug.ReadBuildInfo(); ok && b.Main.Version != "" && b.Main.Version != "(devel)" {
		return strings.TrimPrefix(b.Main.Version, "v")
	}
	return "0.0.0-dev"
}

// isAz reports whether the program was called by az's name.
func (env Env) isAz() bool { return env.Program == "az" }

// dispatch finds the command, parses its arguments and runs it.
func dispatch(ctx context.Context, args []string, env Env) int {
	words, rest := splitWords(args)
	cmd, used, err := findCommand(words)
	if cmd == nil {
		return withoutCommand(env, words, used, rest, err)
	}
	rest = append(slices.Clone(words[used:]), rest...)
	c, err := newCall(env, cmd, rest)
	if err != nil {
		return fail(env, err)
	}
	if c.help {
		writeCommandHelp(env, cmd)
		return exitOK
	}
	return c.execute(ctx)
}

// splitWords gives the leading arguments that aren't options, and the rest.
func splitWords(args []string) (words, rest []string) {
	for i, a := range args {
		if strings.HasPrefix(a, "-") {
			return args[:i], args[i:]
		}
	}
	return args, nil
}

// withoutCommand answers when words name no command: help for a group, else
// the error that az gives, with what was likely meant.
func withoutCommand(env Env, words []string, used int, rest []string, err error) int {
	wantsHelp := slices.ContainsFunc(rest, func(a string) bool { return a == "--help" || a == "-h" })
	if used < len(words) {
		if used == 0 { // up, down, … may be meant as well
			err = unknownNoun(words[0], slices.Sorted(maps.Keys(env.Product))...)
		}
		return fail(env, err)
	}
	if !wantsHelp && len(rest) > 0 && len(words) == 0 {
		return fail(env, usagef("unrecognized arguments: %s", strings.Join(rest, " ")))
	}
	if wantsHelp || len(words) == 0 {
		writeGroupHelp(env, words)
		return exitOK
	}
	return fail(env, withHint(usagef("the following arguments are required: _subcommand"), "See what there is: %s %s --help", env.Program, strings.Join(words, " ")))
}
