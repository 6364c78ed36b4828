package daemon

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"

	"lazurite.dev/internal/node"
	"lazurite.dev/internal/server"
)

const networkUsage = `Show the virtual networks of this machine.

    laz network list [-o json]
    laz network show VNET [-o json]

VNET is NETWORK, GROUP/NETWORK or a resource id. To put a program into one: laz run --network VNET -- COMMAND.
What makes and changes networks is az's: laz network vnet create, laz network private-endpoint create, …
`

func networkCommand(ctx context.Context, args []string, env Env) error {
	verb := ""
	if len(args) > 0 {
		verb, args = args[0], args[1:]
	}
	if verb != "list" && verb != "show" {
		fmt.Fprint(env.Stdout, networkUsage)
		return exit{status: exitUsage}
	}
	fs := flag.NewFlagSet("network", flag.ContinueOnError)
	format := fs.String("o", "", "")
	name := ""
	if verb == "show" && len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		name, args = args[0], args[1:]
	}
	rest, err := parse(fs, args, networkUsage, env)
	if err == nil && verb == "show" && name == "" && len(rest) == 1 {
		name, rest = rest[0], nil
	}
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
	if _, err := endpoint(h); err != nil {
		return err
	}
	all := []server.NetworkState{}
	if err := ask(ctx, h, "/v1/networks", nil, &all); err != nil {
		return err
	}
	if verb == "list" {
		return listNetworks(env, all, *format)
	}
	i := slices.IndexFunc(all, func(n server.NetworkState) bool {
		return strings.EqualFold(n.ID, name) || strings.EqualFold(n.Name, name) || strings.HasSuffix(strings.ToLower(n.Name), "/"+strings.ToLower(name))
	})
	if name == "" || i < 0 {
		return exit{exitError, fmt.Sprintf("there is no virtual network %q. Those that there are: laz network list", name)}
	}
	if *format == "json" {
		return printJSON(env, all[i])
	}
	_, err = io.WriteString(env.Stdout, drawNetwork(all[i]))
	return err
}

func listNetworks(env Env, all []server.NetworkState, format string) error {
	if format == "json" {
		return printJSON(env, all)
	}
	if len(all) == 0 {
		_, err := fmt.Fprintln(env.Stdout, "There is no virtual network. Make one: laz network vnet create -g GROUP -n NAME")
		return err
	}
	for _, n := range all {
		state := "real"
		if n.Managed != nil {
			fmt.Fprintf(env.Stdout, "%-30s %-20s %2d endpoints  %2d rules     %s\n", n.Name, joined(n.Space), len(n.Endpoints), len(n.Managed.Rules), managedWords(n))
			continue
		}
		if !n.Real {
			state = "only written down: " + n.Why
		}
		fmt.Fprintf(env.Stdout, "%-30s %-20s %2d endpoints  %2d programs  %s\n", n.Name, joined(n.Space), len(n.Endpoints), len(n.Programs), state)
	}
	return nil
}

func joined[T fmt.Stringer](list []T) string {
	var out []string
	for _, x := range list {
		out = append(out, x.String())
	}
	return strings.Join(out, " ")
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
	fmt.Fprintf(&b, "  │\n  ├─ %s   resolver, public side, way out   %d open, %d in all\n", n.Resolver, n.Public.Open, n.Public.Total)
	for _, s := range n.Subnets {
		more := ""
		if len(s.Services) > 0 {
			more += "   service endpoints: " + strings.Join(s.Services, ", ")
		}
		if s.Closed {
			more += "   no way out"
		}
		fmt.Fprintf(&b, "  ├─ %s   %s%s\n", s.Name, joined(s.Ranges), more)
		in := func(text string) bool {
			return slices.ContainsFunc(n.Programs, func(m node.Member) bool { return m.Address.String() == text && strings.EqualFold(m.Subnet, s.Name) })
		}
		for _, e := range n.Endpoints {
			if slices.ContainsFunc(s.Ranges, func(r netip.Prefix) bool { return r.Contains(e.Address) }) {
				fmt.Fprintf(&b, "  │    ├─ %-15s %s ──▶ %s   %s   %d open, %d in all\n", e.Address, lastPart(e.ID), lastPart(e.Target), e.Status, e.Open, e.Total)
			}
		}
		for _, m := range n.Programs {
			if in(m.Address.String()) {
				fmt.Fprintf(&b, "  │    ├─ %-15s a program (laz run)\n", m.Address)
			}
		}
	}
	for _, c := range n.Clusters {
		fmt.Fprintf(&b, "  ├─ cluster %s   its nodes are in %s\n", lastPart(c.ID), c.Subnet)
	}
	for _, p := range n.Peers {
		state := "joined"
		if !p.Joined {
			state = "not joined yet"
		}
		fmt.Fprintf(&b, "  ├─ ◀▶ %s   %s   %s\n", lastPart(p.ID), joined(p.Space), state)
	}
	for _, z := range n.Zones {
		fmt.Fprintf(&b, "  ├─ zone %s\n", z.Name)
		for _, r := range z.Records {
			fmt.Fprintf(&b, "  │    %s\n", strings.ReplaceAll(r, "\t", " "))
		}
	}
	fmt.Fprintf(&b, "  └─ refused packets: %d from a false address, %d to what is closed, %d to where nothing leads\n\n", n.Refused["forged"], n.Refused["inward"], n.Refused["between"])
	return b.String()
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
	fmt.Fprintf(&b, "\n  %s   managed network, %s\n  │\n", n.Name, managedWords(n))
	for _, e := range n.Endpoints {
		fmt.Fprintf(&b, "  ├─ %-15s %s ──▶ %s   %s\n", e.Address, lastPart(e.ID), lastPart(e.Target), e.Status)
	}
	for _, r := range n.Managed.Rules {
		fmt.Fprintf(&b, "  ├─ %s (%s, %s)   %s\n", r.Name, r.Type, r.Category, r.To)
	}
	fmt.Fprintf(&b, "  └─ refused of late: %d\n", len(n.Managed.Flows))
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
		fmt.Fprintf(&b, "       %s  %s ──▶ %s   %s\n", f.Time.Format("15:04:05"), who, to, f.Why)
		if f.Fix != "" {
			fmt.Fprintf(&b, "                 %s\n", f.Fix)
		}
	}
	b.WriteString("\n")
	return b.String()
}
