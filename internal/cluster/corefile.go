package cluster

import (
	"fmt"
	"regexp"
	"strings"
)

// What a Corefile says between these lines is ours, and nothing else of it.
const (
	corefileBegin = "# lazurite: begin"
	corefileEnd   = "# lazurite: end"
)

// corefileBlock answers the patterns of names ("NAME", "*.SUFFIX" one label
// before it, "**.SUFFIX" one or more) with the address, and leaves other names
// of the same zones to the resolvers of the node.
func corefileBlock(patterns []string, address string) string {
	var zones, names []string
	seen := map[string]bool{}
	for _, p := range patterns {
		shape, zone := "^", p
		if rest, ok := strings.CutPrefix(p, "**."); ok {
			shape, zone = `^([^.]+\.)+`, rest
		} else if rest, ok := strings.CutPrefix(p, "*."); ok {
			shape, zone = `^[^.]+\.`, rest
		}
		if !seen[zone] {
			zones = append(zones, zone+":53")
		}
		seen[zone] = true
		names = append(names, shape+regexp.QuoteMeta(zone)+`\.$`)
	}
	match := "        match " + strings.Join(names, "\n        match ") + "\n"
	return fmt.Sprintf(`%s
%s {
    errors
    template IN A {
%s        answer "{{ .Name }} 30 IN A %s"
        fallthrough
    }
    template IN AAAA {
%s        rcode NOERROR
        fallthrough
    }
    forward . /etc/resolv.conf
}
%s
`, corefileBegin, strings.Join(zones, " "), match, address, match, corefileEnd)
}

// withoutBlock is the Corefile as it is without us.
func withoutBlock(corefile string) string {
	for {
		from := strings.Index(corefile, corefileBegin)
		if from < 0 {
			return corefile
		}
		to := strings.Index(corefile[from:], corefileEnd)
		if to < 0 {
			return corefile // somebody took our last line away: what is ours can't be told any more
		}
		rest := strings.TrimPrefix(corefile[from+to+len(corefileEnd):], "\n")
		corefile = corefile[:from] + rest
	}
}

// withBlock is the Corefile with our block at its end.
func withBlock(corefile, block string) string {
	corefile = withoutBlock(corefile)
	if corefile != "" && !strings.HasSuffix(corefile, "\n") {
		corefile += "\n"
	}
	return corefile + block
}

var reloads = regexp.MustCompile(`(?m)^\s*reload(\s|$)`)
