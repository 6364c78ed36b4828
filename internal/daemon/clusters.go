package daemon

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"lazurite.dev/internal/node"
	"lazurite.dev/internal/server"
)

// pageWidth is how wide `laz status` and `laz doctor` are at most: what every
// terminal has.
const pageWidth = 80

// clusters shows each cluster: what it is, where it is reached, who runs in it.
func clusters(b *strings.Builder, s style, st *server.Status) {
	if a := st.Agent; a.Err != "" {
		wrapped(b, "  "+s.yellow("!")+" ", 4, "node agent: "+a.Err)
		b.WriteString("\n")
	}
	for _, c := range st.Clusters {
		cluster(b, s, c)
	}
}

func cluster(b *strings.Builder, s style, c server.ClusterState) {
	mark := s.green("●")
	switch {
	case c.State == "stopped":
		mark = s.dim("○")
	case troubled(c):
		mark = s.red("●")
	case c.State != "running":
		mark = s.yellow("●")
	}
	driver, said := c.Driver, c.State
	if c.Driver == "issuer" && c.State == "running" {
		driver, said = "", "issuer and tokens, no Kubernetes running"
	}
	fmt.Fprintf(b, "  %s %s  %s\n", mark, s.bold(c.Name), s.dim(strings.Join(kept80(utf8.RuneCountInString(c.Name)+6,
		"cluster", c.Group, "Kubernetes "+c.Version, driver, said), " · ")))
	row := func(name, text string) {
		wrapped(b, fmt.Sprintf("      %s ", s.dim(fmt.Sprintf("%-14s", name))), 21, text)
	}
	if c.Server != "" {
		row("API server", c.Server)
	}
	if c.LoadBalancers.IsValid() && c.State == "running" {
		text := "at " + c.LoadBalancers.String()
		if !c.Joined {
			text += "; its pods don't reach Lazurite yet"
		}
		row("load balancers", text)
	}
	if line := processes(s, c, ""); line != "" {
		row("control plane", line)
	}
	for _, n := range c.Nodes {
		ready := s.green("ready")
		if !n.Ready {
			ready = s.red("not ready")
		}
		row("node", n.Name+" "+n.Address.String()+" "+ready)
		if line := processes(s, c, n.Name); line != "" {
			row("", line)
		}
	}
	for _, t := range troubles(c) {
		wrapped(b, "      "+s.red("✗")+" ", 8, t)
	}
	b.WriteString("\n")
}

// kept80 leaves out parts from the second on until the line fits.
func kept80(used int, parts ...string) []string {
	parts = slices.DeleteFunc(parts, func(p string) bool { return strings.TrimSpace(p) == "" || p == "Kubernetes " })
	for used+utf8.RuneCountInString(strings.Join(parts, " · ")) > pageWidth && len(parts) > 2 {
		parts = parts[1:]
	}
	return parts
}

// processes are those of a node, or of the control plane, in a line.
func processes(s style, c server.ClusterState, of string) string {
	var out []string
	for _, p := range c.Processes {
		if p.Node != of {
			continue
		}
		name := strings.TrimPrefix(p.Name, "kube-")
		switch p.State {
		case node.StateRunning:
		case node.StateStopped:
			name = s.dim(name)
		case node.StateStarting:
			name = s.yellow(name + " (starting)")
		default:
			name = s.red(name + " (waiting)")
		}
		if p.Restarts > 0 {
			name += s.yellow(fmt.Sprintf(" ↻%d", p.Restarts))
		}
		out = append(out, strings.ReplaceAll(name, " ", "\u00a0"))
	}
	return strings.Join(out, ", ")
}

func troubled(c server.ClusterState) bool { return len(troubles(c)) > 0 }

// troubles says what is wrong with a cluster, a sentence each.
func troubles(c server.ClusterState) []string {
	var out []string
	if c.State == "failed" || c.Err != "" {
		text := "it could not be made as asked"
		if c.Err != "" {
			text += ": " + oneLine(c.Err)
		}
		out = append(out, text)
	}
	if c.State == "stopped" || c.State == "deleting" {
		return out
	}
	if c.Driver == "embedded" && c.Server == "" && c.State == "running" {
		out = append(out, "nothing of it runs: the node agent does not run, or does not know it (sudo laz up)")
	}
	for _, n := range c.Nodes {
		if !n.Ready && c.State == "running" {
			text := "node " + n.Name + " is not ready"
			if n.Message != "" {
				text += ": " + oneLine(n.Message)
			}
			out = append(out, text)
		}
	}
	for _, p := range c.Processes {
		where := p.Name
		if p.Node != "" {
			where += " on " + p.Node
		}
		if p.State == node.StateWaiting {
			text := fmt.Sprintf("%s ended, and waits for its next start (%d so far)", where, p.Restarts)
			if p.Err != "" {
				text += ": " + oneLine(p.Err)
			}
			out = append(out, text)
		}
	}
	return out
}

// oneLine is the beginning of a text, without what a terminal takes for commands.
func oneLine(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.TrimSpace(strings.ToValidUTF8(text, "?")))
	return fitted(strings.Join(strings.Fields(text), " "), 300)
}

// fitted is s, cut to n columns.
func fitted(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}

// wrapped writes head and text, its further lines indented, within pageWidth.
// Escape sequences have no width.
func wrapped(b *strings.Builder, head string, indent int, text string) {
	b.WriteString(head)
	column := max(indent, width(head))
	for i, word := range strings.Split(text, " ") {
		switch {
		case i > 0 && column+1+width(word) > pageWidth:
			b.WriteString("\n" + strings.Repeat(" ", indent))
			column = indent
		case i > 0:
			b.WriteString(" ")
			column++
		}
		b.WriteString(word)
		column += width(word)
	}
	b.WriteString("\n")
}

// width is how many columns s takes on a terminal.
func width(s string) int {
	n, escape := 0, false
	for _, r := range s {
		switch {
		case r == '\x1b':
			escape = true
		case escape:
			escape = r != 'm'
		default:
			n++
		}
	}
	return n
}
