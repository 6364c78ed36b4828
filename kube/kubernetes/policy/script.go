package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Table is the name of the node's table, of the family ip.
const Table = "lazurite-policy"

// refusedSet are the properties of the sets that count refusals: bounded, and
// each entry is forgotten ten minutes after its last packet.
const refusedSet = "{ type ipv4_addr . ipv4_addr . inet_proto . inet_service; size 4096; flags dynamic,timeout; timeout 10m; counter; }"

// Whole writes the transaction that replaces the table by the rules.
func Whole(r *Rules) string {
	var b strings.Builder
	fmt.Fprintf(&b, "add table ip %[1]s\ndelete table ip %[1]s\nadd table ip %[1]s\n", Table)
	for _, set := range []string{"refused-in", "refused-out"} {
		fmt.Fprintf(&b, "add set ip %s %s %s\n", Table, set, refusedSet)
	}
	b.WriteString(Change(&Rules{}, r))
	return b.String()
}

// Change writes the transaction that turns one set of rules into another, ""
// where they are the same. What doesn't change keeps its counters.
func Change(old, next *Rules) string {
	c := change{old: old, next: next}
	for _, name := range sorted(next.Chains) {
		c.declareChain(name)
	}
	for _, name := range sorted(next.Sets) {
		c.declareSet(name)
	}
	for _, name := range sorted(old.Chains) {
		if _, kept := next.Chains[name]; !kept || c.differs(name) {
			c.line("flush chain ip %s %s", Table, name)
		}
	}
	for _, name := range sorted(next.Sets) {
		c.elements("delete", name, without(old.Sets[name].Elements, next.Sets[name].Elements))
		c.elements("add", name, without(next.Sets[name].Elements, old.Sets[name].Elements))
	}
	for _, name := range sorted(next.Chains) {
		if c.differs(name) {
			c.rules(name)
		}
	}
	for _, name := range sorted(old.Chains) {
		if _, kept := next.Chains[name]; !kept {
			c.line("delete chain ip %s %s", Table, name)
		}
	}
	for _, name := range sorted(old.Sets) {
		if _, kept := next.Sets[name]; !kept {
			c.line("delete set ip %s %s", Table, name)
		}
	}
	return c.out.String()
}

type change struct {
	old, next *Rules
	out       strings.Builder
}

func (c *change) line(format string, a ...any) { fmt.Fprintf(&c.out, format+"\n", a...) }

// differs says whether a chain of the next rules is new or has other rules.
func (c *change) differs(name string) bool {
	had, ok := c.old.Chains[name]
	return !ok || !slices.Equal(had, c.next.Chains[name])
}

func (c *change) declareChain(name string) {
	if _, had := c.old.Chains[name]; had {
		return
	}
	if base, _ := split(c.next.Chains[name]); base != "" {
		c.line("add chain ip %s %s { %s }", Table, name, base)
		return
	}
	c.line("add chain ip %s %s", Table, name)
}

func (c *change) declareSet(name string) {
	if _, had := c.old.Sets[name]; had {
		return
	}
	set := c.next.Sets[name]
	kind := "set"
	if set.isMap() {
		kind = "map"
	}
	c.line("add %s ip %s %s { type %s; }", kind, Table, name, set.Type)
}

func (c *change) elements(verb, set string, elements []string) {
	const most = 500 // a line; keeps the lines readable, and the parser quick
	for part := range slices.Chunk(elements, most) {
		c.line("%s element ip %s %s { %s }", verb, Table, set, strings.Join(part, ", "))
	}
}

func (c *change) rules(name string) {
	_, rules := split(c.next.Chains[name])
	for _, rule := range rules {
		c.line("add rule ip %s %s %s", Table, name, rule)
	}
}

// split separates the line that makes a chain a base chain from its rules.
func split(chain []string) (base string, rules []string) {
	if len(chain) > 0 && strings.HasPrefix(chain[0], "type ") {
		return chain[0], chain[1:]
	}
	return "", chain
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// without returns the elements of a that b lacks; both are sorted.
func without(a, b []string) []string {
	var out []string
	for _, element := range a {
		if _, found := slices.BinarySearch(b, element); !found {
			out = append(out, element)
		}
	}
	return out
}
