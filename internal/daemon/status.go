package daemon

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"lazurite.dev/internal/server"
)

const statusUsage = `Show what runs here.

    laz status [-o json]

The exit status is 1 when Lazurite is not running.
`

// statusAnswer is `laz status -o json`.
type statusAnswer struct {
	Running bool   `json:"running"`
	Home    string `json:"home"`
	*server.Status
}

func status(ctx context.Context, args []string, env Env) error {
	fs := flag.NewFlagSet("status", flag.ContinueOnError)
	format := fs.String("o", "", "")
	fs.StringVar(format, "output", "", "")
	rest, err := parse(fs, args, statusUsage, env)
	if err == nil {
		err = noMore(rest)
	}
	if err != nil {
		return err
	}
	if *format != "" && *format != "json" {
		return usage("-o: %q is not json", *format)
	}
	h, err := home(env)
	if err != nil {
		return err
	}
	pid, running, err := h.Running()
	if err != nil {
		return err
	}
	a := statusAnswer{Running: running, Home: string(h)}
	if running {
		a.Status = &server.Status{}
		if err := ask(ctx, h, "/v1/status", nil, a.Status); err != nil {
			return fmt.Errorf("process %d has %s, but does not answer: %w", pid, string(h), err)
		}
	}
	if *format == "json" {
		enc := json.NewEncoder(env.Stdout)
		enc.SetIndent("", "  ")
		err = enc.Encode(a)
	} else {
		err = statusPage(env, a)
	}
	if err == nil && !running {
		return exit{status: exitError}
	}
	return err
}

func statusPage(env Env, a statusAnswer) error {
	s := styleOf(env)
	var b strings.Builder
	if !a.Running {
		fmt.Fprintf(&b, "\n  %s %s\n\n      %s   start it\n\n  %s  %s\n\n", s.red("○"), s.bold("Lazurite is not running"),
			s.bold("laz up -d"), s.dim("state"), stateText(a.Home))
		_, err := io.WriteString(env.Stdout, b.String())
		return err
	}
	fmt.Fprintf(&b, "\n  %s %s  %s\n\n", s.green("●"), s.bold("Lazurite is running"),
		s.dim(fmt.Sprintf("version %s · up %s · pid %d", a.Version, spanText(time.Duration(a.Uptime*float64(time.Second))), a.PID)))
	row := func(k, v string) { fmt.Fprintf(&b, "  %s %s\n", s.dim(fmt.Sprintf("%-9s", k)), v) }
	row("address", addresses(a.Status))
	if a.Names == server.NamesAzure {
		row("names", "Azure's; the same things answer under "+a.Domain+" too")
	} else {
		row("names", "under "+a.Domain)
	}
	if a.Offline {
		row("outside", "refused (--offline)")
	} else {
		row("outside", "passes: what Lazurite does not own goes on to the internet")
	}
	if a.AzureLike {
		row("limits", "Azure's delays, throttles and limits (--azure-like)")
	}
	row("store", storeText(a.Store))
	row("memory", memoryText(a.Memory))
	if t := countsText(a.Counts); t != "" {
		row("holds", t)
	}
	if t := modelsText(a.Models); t != "" {
		row("models", t)
	}
	row("state", tilde(a.Home))
	row("log", tilde(server.Home(a.Home).Log()))
	b.WriteString("\n")
	clusters(&b, s, a.Status)
	surfaces(&b, s, a.Status)
	_, err := io.WriteString(env.Stdout, b.String())
	return err
}

// stateText is where the state is, or would be.
func stateText(home string) string {
	if !server.Home(home).Ours() {
		return tilde(home) + " (nothing there yet)"
	}
	return tilde(home)
}

func addresses(st *server.Status) string {
	switch st.Local {
	case st.Listen:
		return st.Listen
	case "":
		return st.Listen + " (front door)"
	default:
		return st.Listen + " (front door) · " + st.Local + " (proxy)"
	}
}

func storeText(st server.StoreStatus) string {
	if st.Kind == "sqlite" {
		return "SQLite, " + bytesText(st.Bytes)
	}
	return "PostgreSQL"
}

func memoryText(m server.MemoryStatus) string {
	if m.Resident == 0 {
		return bytesText(m.Heap) + " of heap"
	}
	return bytesText(m.Resident)
}

// countLimit is where the server stops counting.
const countLimit = 1000

// countsText says how many there are of what there is, what holds the others
// first.
func countsText(counts map[string]int) string {
	order := []string{"resource groups", "clusters", "identities", "federated credentials", "key vaults", "role assignments"}
	for _, k := range slices.Sorted(maps.Keys(counts)) {
		if !slices.Contains(order, k) {
			order = append(order, k)
		}
	}
	var out []string
	for _, k := range order {
		switch n := counts[k]; {
		case n >= countLimit:
			out = append(out, fmt.Sprintf("%d %s or more", n, k))
		case n > 1:
			out = append(out, fmt.Sprintf("%d %s", n, k))
		case n == 1:
			out = append(out, "1 "+singular(k))
		}
	}
	return strings.Join(out, " · ")
}

func singular(plural string) string {
	if stem, ok := strings.CutSuffix(plural, "ies"); ok {
		return stem + "y"
	}
	return strings.TrimSuffix(plural, "s")
}

// surfaces lists the faces of the system under the names that resources show.
func surfaces(b *strings.Builder, s style, st *server.Status) {
	wide := 0
	for _, f := range st.Surfaces {
		wide = max(wide, width(f.Title))
	}
	for _, f := range st.Surfaces {
		name := f.Own
		if st.Names == server.NamesAzure && len(f.Names) > 0 {
			name = f.Names[0]
		}
		name = strings.Replace(name, "**.", "*.", 1)
		if f.Serving {
			fmt.Fprintf(b, "  %s %-*s  %s\n", s.green("●"), wide, f.Title, name)
		} else {
			fmt.Fprintf(b, "  %s %s\n", s.dim("○"), s.dim(fmt.Sprintf("%-*s  %-34s not served", wide, f.Title, name)))
		}
	}
	b.WriteString("\n")
}
