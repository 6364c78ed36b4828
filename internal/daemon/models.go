package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"lazurite.dev/internal/inference"
	"lazurite.dev/internal/server"
)

const modelsUsage = `Show and test the models and their servers.

    laz models list [-o json]
    laz models test [NAME] [--version V] [-o json]

    list       each model that can be deployed, the servers that answer for it, and
               how they do: state, calls, time to the first byte, last error
    test       sends each server of a model one small request and shows what came
               back. Without NAME: of all configured models and Ollama's
    --version  of the model; default: its default version

The exit status of test is 1 when a server did not answer well.

Without "models:" in the configuration the built-in model answers under the usual
names; it drafts product descriptions and does nothing else. Servers are configured
in the file of laz up --config FILE, as docs/models.md says.

Examples:
    laz models list
    laz models test gpt-4o-mini
`

func models(ctx context.Context, args []string, env Env) error {
	fs := flag.NewFlagSet("models", flag.ContinueOnError)
	var format string
	var q server.ModelTest
	fs.StringVar(&format, "o", "", "")
	fs.StringVar(&format, "output", "", "")
	fs.StringVar(&q.Version, "version", "", "")
	rest, err := parseMixed(fs, args, modelsUsage, env)
	if err != nil {
		return err
	}
	if format != "" && format != "json" {
		return usage("-o: %q is not json", format)
	}
	if len(rest) == 0 {
		return usage("say what: laz models list, or laz models test")
	}
	h, err := home(env)
	if err != nil {
		return err
	}
	if _, running, err := h.Running(); err != nil || !running {
		if err == nil {
			err = errNotRunning(h)
		}
		return err
	}
	switch what, rest := rest[0], rest[1:]; {
	case what == "list" && len(rest) == 0 && q.Version == "":
		return modelsList(ctx, h, format, env)
	case what == "test" && len(rest) <= 1:
		if q.Name = strings.Join(rest, ""); q.Name == "" && q.Version != "" {
			return usage("--version is of a model: say its NAME")
		}
		return modelsTest(ctx, h, q, format, env)
	case what == "list":
		return usage("laz models list takes -o alone")
	case what == "test":
		return usage("unexpected argument %q", rest[1])
	default:
		return usage("there is no laz models %s; see laz models --help", what)
	}
}

func printJSON(env Env, v any) error {
	enc := json.NewEncoder(env.Stdout)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

func modelsList(ctx context.Context, h server.Home, format string, env Env) error {
	all := []inference.ModelStatus{}
	if err := ask(ctx, h, "/v1/models", nil, &all); err != nil {
		return err
	}
	if format == "json" {
		return printJSON(env, all)
	}
	s := styleOf(env)
	var b strings.Builder
	b.WriteString("\n")
	usual := 0
	for _, m := range all {
		if m.Source == inference.SourceBuiltin && m.Name != inference.TinyWriter {
			usual++
		}
		fmt.Fprintf(&b, "  %s  %s\n", s.bold(m.Name), s.dim(strings.Join(m.Versions, ", ")+" · "+m.Source+" · "+capabilities(m.Capabilities)))
		if m.Source == inference.SourceBuiltin {
			continue // one row a name; there is nothing to know of it
		}
		for _, k := range m.Backends {
			backendRow(&b, s, k)
		}
	}
	if usual > 0 {
		b.WriteString("\n")
		wrapped(&b, "  ", 2, "The built-in model answers under these names: it drafts product descriptions and does nothing else. "+
			"Real models: models: in the file of laz up --config FILE (docs/models.md), or an Ollama on this machine.")
	}
	b.WriteString("\n")
	_, err := io.WriteString(env.Stdout, b.String())
	return err
}

// capabilities is what a model can do, in words.
func capabilities(c inference.Capabilities) string {
	var out []string
	for _, k := range []struct {
		has  bool
		name string
	}{{c.Chat, "chat"}, {c.Completions, "completions"}, {c.Embeddings, "embeddings"}, {c.Responses, "responses"}, {c.Images, "images"}, {c.Tools, "tools"}} {
		if k.has {
			out = append(out, k.name)
		}
	}
	return strings.Join(out, ", ")
}

func backendRow(b *strings.Builder, s style, k inference.BackendStatus) {
	mark, state := s.green("●"), k.State
	switch k.State {
	case inference.StateOut:
		mark, state = s.red("●"), "out, tried again at "+k.Until.Local().Format("15:04:05")
	case inference.StateOutForOne:
		mark, state = s.yellow("●"), "out for the one caller whose calls failed, tried again at "+k.Until.Local().Format("15:04:05")
	case inference.StateLimited:
		mark, state = s.yellow("●"), "wants no calls until "+k.Until.Local().Format("15:04:05")
	case inference.StateFailing:
		mark = s.yellow("●")
	}
	at := k.URL
	if at == "" {
		at = "in this program"
	}
	fmt.Fprintf(b, "    %s %s  %s\n", mark, k.Name, s.dim(at+" · "+k.Model))
	row := func(text string) { wrapped(b, "        ", 8, text) }
	parts := []string{state}
	if k.Weight == 0 {
		parts = append(parts, "a reserve")
	}
	if k.Calls > 0 {
		parts = append(parts, fmt.Sprintf("%d calls, %d failed", k.Calls, k.Failed))
	}
	if k.InFlight > 0 {
		parts = append(parts, fmt.Sprintf("%d now", k.InFlight))
	}
	if k.FirstByte > 0 {
		parts = append(parts, fmt.Sprintf("first byte %.0f ms", k.FirstByte))
	}
	row(strings.Join(parts, " · "))
	if k.LastError != "" && k.LastErrorAt != nil {
		row("last error at " + k.LastErrorAt.Local().Format("15:04:05") + ": " + k.LastError)
	}
}

// tested is `laz models test -o json`: one model.
type tested struct {
	Name     string                 `json:"name"`
	Backends []inference.TestResult `json:"backends"`
}

// testLimit bounds a test of one model: the server's own is a minute for each backend.
const testLimit = 10 * time.Minute

func modelsTest(ctx context.Context, h server.Home, q server.ModelTest, format string, env Env) error {
	names := []string{q.Name}
	if q.Name == "" {
		var all []inference.ModelStatus
		if err := ask(ctx, h, "/v1/models", nil, &all); err != nil {
			return err
		}
		names = nil
		for _, m := range all {
			if m.Source != inference.SourceBuiltin || m.Name == inference.TinyWriter {
				names = append(names, m.Name)
			}
		}
	}
	var out []tested
	good := true
	for _, name := range names {
		raw, err := json.Marshal(server.ModelTest{Name: name, Version: q.Version})
		if err != nil {
			return err
		}
		t := tested{Name: name}
		limited, cancel := context.WithTimeout(ctx, testLimit)
		err = send(limited, h, http.MethodPost, "/v1/models/test", bytes.NewReader(raw), &t.Backends)
		cancel()
		if err != nil {
			return err
		}
		out = append(out, t)
		for _, r := range t.Backends {
			good = good && r.OK
		}
	}
	if format == "json" {
		if err := printJSON(env, out); err != nil {
			return err
		}
	} else if err := testPage(env, out); err != nil {
		return err
	}
	if !good {
		return exit{status: exitError}
	}
	return nil
}

func testPage(env Env, all []tested) error {
	s := styleOf(env)
	var b strings.Builder
	for _, t := range all {
		for _, r := range t.Backends {
			mark, text := s.green("●"), fmt.Sprintf("%q", r.Text)
			if !r.OK {
				mark, text = s.red("●"), r.Error
			}
			fmt.Fprintf(&b, "  %s %s  %s\n", mark, s.bold(t.Name), s.dim(fmt.Sprintf("%s · %.0f ms", r.Backend, r.Millis)))
			wrapped(&b, "    ", 4, text)
		}
	}
	_, err := io.WriteString(env.Stdout, b.String())
	return err
}

// modelsText is the models in one line, for `laz status`.
func modelsText(all []inference.ModelStatus) string {
	var configured, found, names, broken int
	for _, m := range all {
		switch m.Source {
		case inference.SourceConfig:
			configured++
		case inference.SourceOllama:
			found++
		default:
			names++
		}
		for _, b := range m.Backends {
			if b.State == inference.StateOut {
				broken++
			}
		}
	}
	var parts []string
	if configured > 0 {
		parts = append(parts, fmt.Sprintf("%d configured", configured))
	}
	if found > 0 {
		parts = append(parts, fmt.Sprintf("%d of Ollama's", found))
	}
	switch {
	case names == 1:
		parts = append(parts, inference.SourceBuiltin)
	case names > 1:
		parts = append(parts, fmt.Sprintf("%d names that %s answers for", names, inference.SourceBuiltin))
	}
	if broken > 0 {
		parts = append(parts, fmt.Sprintf("servers that are out: %d (laz models list)", broken))
	}
	return strings.Join(parts, " · ")
}
