package cli

import (
	"fmt"
	"slices"
	"sort"
	"strings"
	"text/tabwriter"
)

func writeProductHelp(env Env, name string, p Product) {
	if p.Usage == "" {
		fmt.Fprintf(env.Stdout, "%s %s : %s\n", env.Program, name, p.Short)
		return
	}
	fmt.Fprintln(env.Stdout, strings.TrimRight(p.Usage, "\n"))
}

// writeGroupHelp shows what stands under words; none is the whole program.
func writeGroupHelp(env Env, words []string) {
	if len(words) == 0 {
		writeRootHelp(env)
		return
	}
	n, _ := findNoun(words[0])
	path := strings.Join(words, " ")
	short := n.short
	if len(words) > 1 {
		short = n.groups[strings.Join(words[1:], " ")]
	}
	fmt.Fprintf(env.Stdout, "\nGroup\n    %s %s : %s\n", env.Program, path, short)
	groups, verbs := map[string]string{}, map[string]string{}
	for _, c := range n.commands() {
		rest, ok := strings.CutPrefix(c.path, path+" ")
		if !ok {
			continue
		}
		head, tail, nested := strings.Cut(rest, " ")
		if nested && tail != "" {
			groups[head] = n.groups[strings.TrimPrefix(strings.TrimPrefix(path+" "+head, n.name), " ")]
		} else {
			verbs[head] = c.short
		}
	}
	if p := env.Product[path]; len(p.Verbs) > 0 {
		fmt.Fprintf(env.Stdout, "\n%s:\n    %s %s %s : %s\n", lazurite, env.Program, path, strings.Join(p.Verbs, "|"), p.Short)
	}
	writeEntries(env, "Subgroups", groups)
	writeEntries(env, "Commands", verbs)
	fmt.Fprintf(env.Stdout, "\nMore of one command: %s %s COMMAND --help\n", env.Program, path)
}

const startHere = `
laz is Lazurite, a private cloud that speaks Azure's APIs, and speaks az itself.

Start here:
    laz up -d
    eval "$(laz env)"
    az group create --name demo --location eastus
`

// ofLife are the product's commands in the order in which people meet them.
func ofLife() []string {
	return []string{"up", "status", "env", "run", "network", "kubectl", "image", "models", "explain", "doctor", "logs", "rotate", "down", "serve"}
}

func writeRootHelp(env Env) {
	if env.isAz() {
		fmt.Fprint(env.Stdout, "\nThis az is Lazurite's: the same commands, options, output and exit statuses.\n")
	} else {
		fmt.Fprint(env.Stdout, startHere)
	}
	products := map[string]string{}
	for name, p := range env.Product {
		products[name] = p.Short
	}
	groups, verbs := map[string]string{}, map[string]string{}
	for _, n := range nouns() {
		cmds := n.commands()
		if n.name == "explain" || n.name == "doctor" && products[n.name] == "" {
			products[n.name] = n.short
		} else if len(cmds) == 1 && cmds[0].path == n.name {
			verbs[n.name] = n.short
		} else if products[n.name] == "" || n.name == "network" {
			groups[n.name] = n.short
		}
	}
	writeEntries(env, lazurite, products)
	writeEntries(env, "Groups", groups)
	writeEntries(env, "Commands", verbs)
	fmt.Fprintf(env.Stdout, "\nMore: %s GROUP --help, %s GROUP COMMAND --help\n", env.Program, env.Program)
}

const lazurite = "Lazurite"

// met is when people meet a command; those unknown here come last.
func met(command string) int {
	if i := slices.Index(ofLife(), command); i >= 0 {
		return i
	}
	return len(ofLife())
}

func writeEntries(env Env, title string, m map[string]string) {
	if len(m) == 0 {
		return
	}
	fmt.Fprintf(env.Stdout, "\n%s:\n", title)
	names := make([]string, 0, len(m))
	for n := range m {
		names = append(names, n)
	}
	sort.Strings(names)
	if title == lazurite {
		slices.SortStableFunc(names, func(a, b string) int { return met(a) - met(b) })
	}
	w := tabwriter.NewWriter(env.Stdout, 0, 4, 1, ' ', 0)
	for _, n := range names {
		fmt.Fprintf(w, "    %s\t: %s\n", n, m[n])
	}
	_ = w.Flush() // stdout: nothing to do about it
}

func writeCommandHelp(env Env, cmd *command) {
	fmt.Fprintf(env.Stdout, "\nCommand\n    %s %s : %s\n", env.Program, cmd.path, cmd.short)
	own := len(cmd.options()) - len(globals(cmd))
	writeArgs(env, "Arguments", cmd.options()[:own])
	writeArgs(env, "Global Arguments", cmd.options()[own:])
	fmt.Fprintf(env.Stdout, "\nExamples\n    %s %s\n", env.Program, cmd.example)
}

func writeArgs(env Env, title string, args []arg) {
	if len(args) == 0 {
		return
	}
	fmt.Fprintf(env.Stdout, "\n%s\n", title)
	w := tabwriter.NewWriter(env.Stdout, 0, 4, 1, ' ', 0)
	for _, a := range args {
		name, need, help := strings.Join(a.spellings(), " "), "", a.help
		if a.pos {
			name = a.title()
		}
		if a.need {
			need = "[Required]"
		}
		if len(a.choices) > 0 {
			help += "  Allowed values: " + strings.Join(a.choices, ", ") + "."
		}
		if a.value != "" {
			help += "  Default: " + a.value + "."
		}
		fmt.Fprintf(w, "    %s\t%s\t: %s\n", name, need, help)
	}
	_ = w.Flush() // stdout: nothing to do about it
}
