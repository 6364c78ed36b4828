package daemon

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"lazurite.dev/internal/server"
)

// pageConfig is what the start page says of the configuration.
type pageConfig struct {
	Home      string `json:"home"`
	Log       string `json:"log"`
	Names     string `json:"names"`
	Domain    string `json:"domain"`
	Offline   bool   `json:"offline"`
	AzureLike bool   `json:"azureLike"`

	Clusters []string `json:"clusters,omitempty"`
}

func pageOf(c server.Config) pageConfig {
	return pageConfig{Home: c.Home, Log: server.Home(c.Home).Log(), Names: c.Names, Domain: c.Domain, Offline: c.Offline, AzureLike: c.AzureLike}
}

// style is how a terminal shows emphasis; the zero style shows none.
type style struct{ on bool }

func styleOf(env Env) style {
	return style{env.IsTerminal(env.Stdout) && env.Getenv("NO_COLOR") == "" && env.Getenv("TERM") != "dumb"}
}

func (s style) wrap(code, text string) string {
	if !s.on {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (s style) bold(t string) string   { return s.wrap("1", t) }
func (s style) dim(t string) string    { return s.wrap("2", t) }
func (s style) green(t string) string  { return s.wrap("32", t) }
func (s style) red(t string) string    { return s.wrap("31", t) }
func (s style) yellow(t string) string { return s.wrap("33", t) }

// startPage is what `laz up` prints.
func startPage(env Env, r report, background bool) error {
	s := styleOf(env)
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("")
	line("  %s  %s", s.bold("Lazurite"), s.dim("a private cloud that speaks Azure's APIs"))
	line("")
	if w := r.Welcome; w != nil {
		line("  This was the first start. The password is shown once:")
		line("")
		line("      owner         %s", s.bold(w.Owner))
		line("      password      %s", s.bold(w.Password))
		line("      tenant        %s", w.Tenant)
		line("      subscription  %s", w.Subscription)
		line("")
	}
	line("  %s at %s in %s%s", s.green("Ready"), r.Endpoint.Local, millis(r.Took), s.dim(modes(r.Config)))
	line("")
	me := program(r.Config.Home)
	how := func(command, what string) {
		pad := max(len(me)+len(" run -- COMMAND")+3-len(command), 2)
		line("      %s%s%s", s.bold(command), strings.Repeat(" ", pad), what)
	}
	how(fmt.Sprintf(`eval "$(%s env)"`, me), "az and SDKs in this shell reach Lazurite")
	how(me+" run -- COMMAND", "or one command alone")
	how(me+" status", "what runs here")
	if background {
		how(me+" down", "stop it")
	} else {
		how("Ctrl-C", "stop it")
	}
	line("")
	pad := 5
	if len(r.Config.Clusters) > 0 {
		pad = len("clusters")
		line("  %s  %s", s.dim("clusters"), strings.Join(r.Config.Clusters, ", "))
	}
	line("  %s  %s", s.dim(fmt.Sprintf("%-*s", pad, "state")), tilde(r.Config.Home))
	line("  %s  %s   %s", s.dim(fmt.Sprintf("%-*s", pad, "log")), tilde(r.Config.Log), s.dim(me+" logs -f"))
	line("")
	_, err := io.WriteString(env.Stdout, b.String())
	return err
}

// program is what to type for this program: its name where the shell finds it
// by that, else a path that does not move.
func program(home string) string {
	self, err := os.Executable()
	if err != nil {
		return "laz"
	}
	found, err := exec.LookPath("laz")
	if err != nil {
		return tilde(filepath.Join(server.Home(home).Bin(), "laz"))
	}
	a, errA := os.Stat(self)
	b, errB := os.Stat(found)
	if errA != nil || errB != nil || !os.SameFile(a, b) {
		return tilde(filepath.Join(server.Home(home).Bin(), "laz"))
	}
	return "laz"
}

// modes says what differs from a plain start.
func modes(c pageConfig) string {
	var m []string
	if c.Names == server.NamesOwn {
		m = append(m, "names under "+c.Domain)
	}
	if c.Offline {
		m = append(m, "offline")
	}
	if c.AzureLike {
		m = append(m, "with Azure's delays and limits")
	}
	if len(m) == 0 {
		return ""
	}
	return " · " + strings.Join(m, " · ")
}

// millis is d in milliseconds, with two digits that matter at least.
func millis(d time.Duration) string {
	ms := float64(d) / float64(time.Millisecond)
	if ms < 10 {
		return fmt.Sprintf("%.1f ms", ms)
	}
	return fmt.Sprintf("%.0f ms", ms)
}

// tilde shortens a path inside the user's home folder.
func tilde(path string) string {
	h, err := os.UserHomeDir()
	if err != nil || h == "/" {
		return path
	}
	if rest, ok := strings.CutPrefix(path, h+string(filepath.Separator)); ok {
		return filepath.Join("~", rest)
	}
	return path
}

// bytesText is n in the largest binary unit that leaves at least one.
func bytesText(n int64) string {
	f, unit := float64(n), 0
	for ; f >= 1024 && unit < 4; unit++ {
		f /= 1024
	}
	name := []string{"B", "KiB", "MiB", "GiB", "TiB"}[unit]
	if unit == 0 || f >= 10 {
		return fmt.Sprintf("%.0f %s", f, name)
	}
	return fmt.Sprintf("%.1f %s", f, name)
}

// spanText is d in its two largest units.
func spanText(d time.Duration) string {
	d = d.Round(time.Second)
	day := 24 * time.Hour
	switch {
	case d >= day:
		return fmt.Sprintf("%d d %d h", d/day, d%day/time.Hour)
	case d >= time.Hour:
		return fmt.Sprintf("%d h %d min", d/time.Hour, d%time.Hour/time.Minute)
	case d >= time.Minute:
		return fmt.Sprintf("%d min %d s", d/time.Minute, d%time.Minute/time.Second)
	default:
		return fmt.Sprintf("%d s", d/time.Second)
	}
}
