package daemon

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"lazurite.dev/internal/inference"
	"lazurite.dev/internal/server"
)

const doctorUsage = `Look for what is wrong: on this machine, in Lazurite, in its clusters.

    laz doctor [-o json]
    laz doctor endpoint NAME    why an online endpoint can't be made, found or scored

It looks at the server, the node agent and what clusters need of the machine
(distribution, cgroups, nftables, room on the disk), at the clock, names and
this shell's environment; and in each cluster at its nodes and processes, and
for pods that run without the identity that they should have.

The exit status is 1 when something is wrong; what is only worth knowing (!)
does not count.
`

// The outcomes of a check.
const (
	fine  = "ok"
	known = "notice" // worth knowing
	wrong = "wrong"
)

// finding is what a check found.
type finding struct {
	About  string `json:"about"` // "server", "disk", "cluster demo", …
	Result string `json:"result"`
	Text   string `json:"text"`
	Fix    string `json:"fix,omitempty"` // a command
}

// doctorTime is how long the server may take to answer.
const doctorTime = 25 * time.Second

// patient is what checks look at.
type patient struct {
	env      Env
	h        server.Home
	running  bool
	e        server.Endpoint
	status   *server.Status       // nil: the server does not run or answer
	health   *server.DoctorAnswer // likewise
	findings []finding
}

func (p *patient) say(about, result, text, fix string) {
	p.findings = append(p.findings, finding{about, result, text, fix})
}

func doctor(ctx context.Context, args []string, env Env) error {
	fs := flag.NewFlagSet("doctor", flag.ContinueOnError)
	format := fs.String("o", "", "")
	fs.StringVar(format, "output", "", "")
	rest, err := parse(fs, args, doctorUsage, env)
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
	p := &patient{env: env, h: h}
	p.server(ctx)
	p.machine(ctx)
	p.models()
	p.clusters()
	if *format == "json" {
		enc := json.NewEncoder(env.Stdout)
		enc.SetIndent("", "  ")
		err = enc.Encode(p.findings)
	} else {
		_, err = io.WriteString(env.Stdout, doctorPage(styleOf(env), env.IsTerminal(env.Stdout), p.findings))
	}
	if err == nil && slices.ContainsFunc(p.findings, func(f finding) bool { return f.Result == wrong }) {
		return exit{status: exitError}
	}
	return err
}

// server looks at the server, and asks it for what only it knows.
func (p *patient) server(ctx context.Context) {
	pid, running, err := p.h.Running()
	switch {
	case err != nil:
		p.say("server", wrong, "the state folder can't be looked at: "+oneLine(err.Error()), "")
		return
	case !running:
		p.say("server", known, "it does not run (state folder "+stateText(string(p.h))+")", "laz up -d")
		return
	}
	p.running = true
	if p.e, err = p.h.ReadEndpoint(); err != nil {
		p.say("server", wrong, fmt.Sprintf("process %d has the state folder, and does not say where it is: it starts or stops", pid), "")
		return
	}
	st := &server.Status{}
	if err := ask(ctx, p.h, "/v1/status", nil, st); err != nil {
		p.say("server", wrong, fmt.Sprintf("process %d has the state folder, and does not answer: %s", pid, oneLine(err.Error())), "")
		return
	}
	p.status = st
	p.say("server", fine, fmt.Sprintf("version %s, up %s, at %s", st.Version, spanText(time.Duration(st.Uptime*float64(time.Second))), addresses(st)), "")
	if st.Version != server.Version() {
		p.say("server", known, fmt.Sprintf("it is of version %s, and this program of %s", st.Version, server.Version()), "laz down && laz up -d")
	}
	ctx, cancel := context.WithTimeout(ctx, doctorTime)
	defer cancel()
	health := &server.DoctorAnswer{}
	if err := send(ctx, p.h, http.MethodGet, "/v1/doctor", nil, health); err != nil {
		p.say("clusters", wrong, "the server can't look at them: "+oneLine(err.Error()), "")
		return
	}
	p.health = health
}

// models looks at the servers of models.
func (p *patient) models() {
	if p.status == nil {
		return
	}
	servers, before := 0, len(p.findings)
	for _, m := range p.status.Models {
		for _, b := range m.Backends {
			if b.URL == "" { // it is in the server's own process
				continue
			}
			servers++
			text := fmt.Sprintf("%s's server %s: %s", m.Name, b.Name, oneLine(b.LastError))
			switch b.State {
			case inference.StateOut:
				p.say("models", wrong, text, "laz models test "+m.Name)
			case inference.StateFailing, inference.StateOutForOne, inference.StateLimited:
				p.say("models", known, text, "laz models list")
			}
		}
	}
	if servers > 0 && len(p.findings) == before {
		p.say("models", fine, fmt.Sprintf("no server of theirs fails (%d)", servers), "")
	}
}

// clusters looks at each cluster.
func (p *patient) clusters() {
	if p.health == nil {
		return
	}
	for _, c := range p.health.Clusters {
		p.cluster(c)
	}
}

const shownPods = 20 // of one cluster

func (p *patient) cluster(c server.ClusterHealth) {
	about, before := "cluster "+c.Name, len(p.findings)
	for _, t := range troubles(c.ClusterState) {
		p.say(about, wrong, t, "")
	}
	real := c.Driver != "issuer" && c.State != "stopped" && c.State != "deleting" && c.State != "creating"
	if c.Unreachable != "" {
		p.say(about, wrong, "its API server does not answer: "+oneLine(c.Unreachable), "")
	}
	if c.Driver == "embedded" && real && c.Server != "" && !c.Joined {
		p.say(about, wrong, "its pods don't reach Lazurite: the server does not serve the cluster's network", "")
	}
	for _, w := range c.Waiting {
		p.say(about, wrong, w, "")
	}
	for i, u := range c.Pods {
		if i == shownPods {
			p.say(about, wrong, fmt.Sprintf("and %d more pods", len(c.Pods)-shownPods), "")
			break
		}
		p.say(about, wrong, fmt.Sprintf("pod %s/%s: %s", u.Namespace, u.Name, oneLine(u.Why)), u.Fix)
	}
	if len(p.findings) > before {
		return
	}
	switch {
	case c.Driver == "issuer":
		p.say(about, fine, "an issuer and its tokens; no Kubernetes runs for it", "")
	case !real:
		p.say(about, fine, c.State, "")
	case c.Driver != "embedded":
		p.say(about, fine, "its API server answers, every pod has the identity that it asks for", "")
	default:
		p.say(about, fine, fmt.Sprintf("%d %s ready, %d processes run, every pod has the identity that it asks for",
			len(c.Nodes), map[bool]string{true: "node", false: "nodes"}[len(c.Nodes) == 1], len(c.Processes)), "")
	}
}

// doctorPage shows the findings, and the commands that mend them whole.
func doctorPage(s style, terminal bool, all []finding) string {
	var b strings.Builder
	width, bad, notices := 0, 0, 0
	for _, f := range all {
		width = max(width, len([]rune(f.About)))
	}
	width = min(width, 22)
	b.WriteString("\n")
	before := ""
	for _, f := range all {
		mark := map[string]string{fine: s.green("✓"), known: s.yellow("!"), wrong: s.red("✗")}[f.Result]
		if !terminal {
			mark = map[string]string{fine: "ok  ", known: "note", wrong: "no  "}[f.Result]
		}
		bad += map[bool]int{true: 1}[f.Result == wrong]
		notices += map[bool]int{true: 1}[f.Result == known]
		about := f.About
		if about == before {
			about = ""
		}
		before = f.About
		head := fmt.Sprintf("  %s %-*s  ", mark, width, about)
		wrapped(&b, head, len([]rune(plain(head))), f.Text)
		if f.Fix != "" {
			fmt.Fprintf(&b, "%s%s\n", strings.Repeat(" ", len([]rune(plain(head)))), s.bold(f.Fix))
		}
	}
	switch {
	case bad == 1:
		fmt.Fprintf(&b, "\n  %s\n\n", s.red("One thing is wrong."))
	case bad > 1:
		fmt.Fprintf(&b, "\n  %s\n\n", s.red(fmt.Sprintf("%d things are wrong.", bad)))
	case notices > 0:
		fmt.Fprintf(&b, "\n  Nothing is wrong.\n\n")
	default:
		fmt.Fprintf(&b, "\n  %s\n\n", s.green("All is well."))
	}
	return b.String()
}

// plain is s without escape sequences.
func plain(s string) string {
	var b strings.Builder
	escape := false
	for _, r := range s {
		switch {
		case r == '\x1b':
			escape = true
		case escape:
			escape = r != 'm'
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
