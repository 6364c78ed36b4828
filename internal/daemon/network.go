package daemon

import (
	"context"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"

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
	if verb == "show" && name == "" {
		return usage("which network? laz network show VNET; those that there are: laz network list")
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
	if i < 0 {
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
