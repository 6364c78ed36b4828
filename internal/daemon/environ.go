package daemon

import (
	"context"
	"flag"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"lazurite.dev/internal/server"
)

const envUsage = `Print the environment that programs need to reach Lazurite.

    eval "$(laz env)"                                   sh, bash, zsh
    laz env --shell fish | source                       fish
    laz env --shell powershell | Out-String | iex       PowerShell

    laz env [--shell bash|zsh|fish|powershell] [--real-az] [--unset]

    --real-az  leave the PATH alone: az is Microsoft's own
    --unset    put things back as they were
`

// variable is one of the environment; in the order in which they are shown.
type variable struct{ name, value string }

// kept is the prefix under which a shell's own values wait for --unset.
const kept = "LAZ_KEPT_"

// variables are those that lead a program into Lazurite.
func variables(h server.Home, e server.Endpoint) []variable {
	const direct = "localhost,127.0.0.1,::1," + server.NetworkRange
	return []variable{
		{"HTTPS_PROXY", e.Proxy}, {"https_proxy", e.Proxy},
		{"HTTP_PROXY", e.Proxy}, {"http_proxy", e.Proxy}, // for the instance metadata service
		{"NO_PROXY", direct}, {"no_proxy", direct},
		{"SSL_CERT_FILE", e.CA}, {"REQUESTS_CA_BUNDLE", e.CA}, {"CURL_CA_BUNDLE", e.CA},
		{"NODE_EXTRA_CA_CERTS", e.OwnCA}, {"NODE_USE_ENV_PROXY", "1"},
		{"KUBECONFIG", h.Kubeconfig()},
		{"AZURE_CONFIG_DIR", h.Azure()},
		{"LAZ_HOME", string(h)},
	}
}

func environment(_ context.Context, args []string, env Env) error {
	fs := flag.NewFlagSet("env", flag.ContinueOnError)
	shell := fs.String("shell", "bash", "")
	realAz, unset := fs.Bool("real-az", false, ""), fs.Bool("unset", false, "")
	rest, err := parse(fs, args, envUsage, env)
	if err == nil {
		err = noMore(rest)
	}
	if err != nil {
		return err
	}
	d, ok := dialects()[*shell]
	if !ok {
		return usage("--shell: %q is none of bash, zsh, fish, powershell", *shell)
	}
	h, err := home(env)
	if err != nil {
		return err
	}
	var b strings.Builder
	if *unset {
		unsetAll(&b, d, h, env)
	} else {
		e, err := endpoint(h)
		if err != nil {
			return err
		}
		if err := links(h, env); err != nil {
			return err
		}
		setAll(&b, d, h, e, *realAz, env)
	}
	if env.IsTerminal(env.Stdout) { // nobody evaluates it: say how
		b.WriteString("\n# These lines are for a shell: " + d.use + "\n")
	}
	_, err = io.WriteString(env.Stdout, b.String())
	return err
}

func setAll(b *strings.Builder, d dialect, h server.Home, e server.Endpoint, realAz bool, env Env) {
	for _, v := range variables(h, e) {
		keep(b, d, v, env)
		b.WriteString(d.set(v.name, v.value))
	}
	b.WriteString(d.set(kept+"SET", "1"))
	if p := pathWith(env.Getenv("PATH"), h, !realAz); p != env.Getenv("PATH") {
		b.WriteString(d.set("PATH", p))
	}
}

// keep puts the shell's own value of v aside, once: a value that an earlier
// `laz env` set is not the shell's own. LAZ_KEPT_SET tells.
func keep(b *strings.Builder, d dialect, v variable, env Env) {
	own := env.Getenv(v.name)
	if own == "" || own == v.value || env.Getenv(kept+"SET") != "" {
		return
	}
	b.WriteString(d.set(kept+v.name, own))
}

func unsetAll(b *strings.Builder, d dialect, h server.Home, env Env) {
	for _, v := range variables(h, server.Endpoint{}) {
		if old := env.Getenv(kept + v.name); old != "" {
			b.WriteString(d.set(v.name, old))
			b.WriteString(d.unset(kept + v.name))
		} else {
			b.WriteString(d.unset(v.name))
		}
	}
	b.WriteString(d.unset(kept + "SET"))
	if p := pathWith(env.Getenv("PATH"), h, false); p != env.Getenv("PATH") {
		b.WriteString(d.set("PATH", p))
	}
}

// pathWith is path with our folder in front, or without it.
func pathWith(path string, h server.Home, with bool) string {
	parts := slices.DeleteFunc(filepath.SplitList(path), func(p string) bool { return p == h.Bin() })
	if with {
		parts = append([]string{h.Bin()}, parts...)
	}
	return strings.Join(parts, string(filepath.ListSeparator))
}

// dialect is how a shell sets and unsets a variable, one line each.
type dialect struct {
	use   string // how a shell takes in what is printed
	set   func(name, value string) string
	unset func(name string) string
}

func dialects() map[string]dialect {
	posix := dialect{
		use: `eval "$(laz env)"        undo: eval "$(laz env --unset)"`,
		set: func(n, v string) string {
			return fmt.Sprintf("export %s='%s'\n", n, strings.ReplaceAll(v, "'", `'\''`))
		},
		unset: func(n string) string { return "unset " + n + "\n" },
	}
	fish := dialect{
		use: "laz env --shell fish | source        undo: laz env --shell fish --unset | source",
		set: func(n, v string) string {
			q := strings.NewReplacer(`\`, `\\`, `'`, `\'`)
			if n == "PATH" { // a list in fish
				var parts []string
				for _, p := range filepath.SplitList(v) {
					parts = append(parts, "'"+q.Replace(p)+"'")
				}
				return "set -gx PATH " + strings.Join(parts, " ") + "\n"
			}
			return fmt.Sprintf("set -gx %s '%s'\n", n, q.Replace(v))
		},
		unset: func(n string) string { return "set -e " + n + "\n" },
	}
	powershell := dialect{
		use: "laz env --shell powershell | Out-String | iex",
		set: func(n, v string) string {
			return fmt.Sprintf("$env:%s = '%s'\n", n, strings.ReplaceAll(v, "'", "''"))
		},
		unset: func(n string) string { return fmt.Sprintf("Remove-Item Env:%s -ErrorAction SilentlyContinue\n", n) },
	}
	return map[string]dialect{"bash": posix, "zsh": posix, "sh": posix, "fish": fish, "powershell": powershell, "pwsh": powershell}
}
