package daemon

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"lazurite.dev/internal/node"
	"lazurite.dev/internal/server"
)

// branch is a line of a drawing, with the lines below it.
type branch struct {
	text  string
	below []string
}

// drawTree draws branches below a trunk that begins two columns in.
func drawTree(b *strings.Builder, branches []branch) {
	b.WriteString("  │\n")
	for i, br := range branches {
		joint, trunk := "├─", "│ "
		if i == len(branches)-1 {
			joint, trunk = "└─", "  "
		}
		fmt.Fprintf(b, "  %s %s\n", joint, br.text)
		for _, l := range br.below {
			fmt.Fprintf(b, "  %s   %s\n", trunk, l)
		}
	}
	b.WriteString("\n")
}

// leaves are lines that hang on a branch.
func leaves(lines []string) []string {
	for i := range lines {
		lines[i] = map[bool]string{true: "└─ ", false: "├─ "}[i == len(lines)-1] + lines[i]
	}
	return lines
}

// drawNetwork draws a network as text.
func drawNetwork(n server.NetworkState) string {
	if n.Managed != nil {
		return drawManaged(n)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\n  %s   %s\n", n.Name, joined(n.Space))
	if !n.Real {
		fmt.Fprintf(&b, "  only written down: %s\n", n.Why)
	}
	all := []branch{{text: fmt.Sprintf("%s   resolver, public side, way out   %d open, %d in all", n.Resolver, n.Public.Open, n.Public.Total)}}
	for _, s := range n.Subnets {
		all = append(all, subnetBranch(n, s))
	}
	for _, c := range n.Clusters {
		all = append(all, branch{text: fmt.Sprintf("cluster %s   its nodes are in %s", lastPart(c.ID), c.Subnet)})
	}
	for _, p := range n.Peers {
		state := "joined"
		if !p.Joined {
			state = "not joined yet"
		}
		all = append(all, branch{text: fmt.Sprintf("◀▶ %s   %s   %s", lastPart(p.ID), joined(p.Space), state)})
	}
	for _, z := range n.Zones {
		one := branch{text: "zone " + z.Name}
		for _, r := range z.Records {
			if r = strings.ReplaceAll(r, "\t", " "); !strings.Contains(r, " IN SOA ") { // each zone has one, and nobody wrote it
				one.below = append(one.below, r)
			}
		}
		leaves(one.below)
		all = append(all, one)
	}
	all = append(all, branch{text: fmt.Sprintf("refused packets: %d from a false address, %d to what is closed, %d to where nothing leads", n.Refused["forged"], n.Refused["inward"], n.Refused["between"])})
	drawTree(&b, all)
	return b.String()
}

// subnetBranch is a subnet with who has an address of it.
func subnetBranch(n server.NetworkState, s server.SubnetState) branch {
	one := branch{text: s.Name + "   " + joined(s.Ranges)}
	if len(s.Services) > 0 {
		one.text += "   service endpoints: " + strings.Join(s.Services, ", ")
	}
	if s.Closed {
		one.text += "   no way out"
	}
	for _, e := range n.Endpoints {
		if slices.ContainsFunc(s.Ranges, func(r netip.Prefix) bool { return r.Contains(e.Address) }) {
			one.below = append(one.below, fmt.Sprintf("%-15s %s ──▶ %s   %s   %d open, %d in all", e.Address, lastPart(e.ID), lastPart(e.Target), e.Status, e.Open, e.Total))
		}
	}
	for _, m := range slices.DeleteFunc(slices.Clone(n.Programs), func(m node.Member) bool { return !strings.EqualFold(m.Subnet, s.Name) }) {
		one.below = append(one.below, fmt.Sprintf("%-15s a program (laz run)", m.Address))
	}
	leaves(one.below)
	return one
}

func lastPart(id string) string { return id[strings.LastIndexByte(id, '/')+1:] }

// managedWords say how a managed network is.
func managedWords(n server.NetworkState) string {
	words := n.Managed.Isolation
	if n.Why != "" {
		words += ", " + n.Why
	}
	return words
}

// drawManaged draws the managed network of a workspace as text.
func drawManaged(n server.NetworkState) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n  %s   managed network, %s\n", n.Name, managedWords(n))
	all := []branch{}
	for _, e := range n.Endpoints {
		all = append(all, branch{text: fmt.Sprintf("%-15s %s ──▶ %s   %s", e.Address, lastPart(e.ID), lastPart(e.Target), e.Status)})
	}
	for _, r := range n.Managed.Rules {
		to := r.To
		if strings.HasPrefix(to, "/") { // a resource, and its part
			to = lastPart(to)
		}
		all = append(all, branch{text: fmt.Sprintf("%s (%s, %s)   %s", r.Name, r.Type, r.Category, to)})
	}
	flows := branch{text: fmt.Sprintf("refused of late: %d", len(n.Managed.Flows))}
	for _, f := range n.Managed.Flows[:min(len(n.Managed.Flows), 20)] {
		who := f.Who
		if who == "" {
			who = f.Client.String()
		}
		to := f.Name
		if to == "" {
			to = f.Address.String()
		}
		if f.Port != 0 {
			to += fmt.Sprintf(":%d", f.Port)
		}
		flows.below = append(flows.below, fmt.Sprintf("%s  %s ──▶ %s   %s", f.Time.Format("15:04:05"), who, to, f.Why))
		if f.Fix != "" {
			flows.below = append(flows.below, "          "+f.Fix)
		}
	}
	drawTree(&b, append(all, flows))
	return b.String()
}
