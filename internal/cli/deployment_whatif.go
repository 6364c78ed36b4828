package cli

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"lazurite.dev/internal/rid"
)

// withoutChanges leaves changes of some types out.
func withoutChanges(v any, types []string) any {
	if len(types) == 0 {
		return v
	}
	types = strings.Fields(strings.Join(types, " "))
	props, ok := at(v, "properties").(object)
	if !ok {
		return v
	}
	kept := []any{}
	for _, c := range items(props["changes"]) {
		if !slices.ContainsFunc(types, func(t string) bool { return strings.EqualFold(t, textAt(c, "changeType")) }) {
			kept = append(kept, c)
		}
	}
	props["changes"] = kept
	return v
}

// whatIfAnswer is the text of what-if's answer.
func whatIfAnswer(c *call, v any) string { return whatIfText(lookOf(c.env, c.env.Stdout), v) }

// confirmChanges shows what would change and asks whether to go on.
func (c *call) confirmChanges(v any) error {
	nothing := !slices.ContainsFunc(items(at(v, "properties", "changes")), func(x any) bool {
		t := textAt(x, "changeType")
		return t != "NoChange" && t != "Ignore"
	})
	fmt.Fprintln(c.env.Stderr, whatIfText(lookOf(c.env, c.env.Stderr), v))
	if nothing && c.flag("proceed-if-no-change") {
		return nil
	}
	return c.confirm("Are you sure you want to execute the deployment?")
}

// changeKind is a kind of change as it is shown.
type changeKind struct{ name, symbol, colour, phrase string }

// changeKinds are in the order of the text.
func changeKinds() []changeKind {
	return []changeKind{
		{"Delete", "-", "38;5;208", "to delete"}, {"Create", "+", "32", "to create"}, {"Deploy", "!", "34", "to deploy"}, {"Modify", "~", "35", "to modify"},
		{"Unsupported", "x", "90", "unsupported"}, {"NoChange", "=", "", "no change"}, {"Ignore", "*", "90", "to ignore"},
	}
}

// whatIfText is what az prints: the scopes, in each the changes, and how many
// there are.
func whatIfText(l look, v any) string {
	changes := items(at(v, "properties", "changes"))
	var b strings.Builder
	counts := map[string]int{}
	scopes := map[string][]any{}
	for _, c := range changes {
		counts[textAt(c, "changeType")]++
		scope, _ := changePlace(textAt(c, "resourceId"))
		scopes[scope] = append(scopes[scope], c)
	}
	b.WriteString("Resource and property changes are indicated with these symbols:\n")
	var sums []string
	for _, k := range changeKinds() {
		if n := counts[k.name]; n > 0 {
			fmt.Fprintf(&b, "  %s %s\n", l.paint(k.colour, k.symbol), k.name)
			sums = append(sums, fmt.Sprintf("%d %s", n, k.phrase))
		}
	}
	if len(changes) > 0 {
		fmt.Fprintf(&b, "\nThe deployment will update the following scope%s:\n", map[bool]string{true: "s"}[len(scopes) > 1])
	}
	for _, scope := range slices.Sorted(maps.Keys(scopes)) {
		fmt.Fprintf(&b, "\nScope: %s\n", scope)
		for _, k := range changeKinds() {
			for _, c := range scopes[scope] {
				if textAt(c, "changeType") == k.name {
					writeChange(&b, l, k, c)
				}
			}
		}
	}
	if len(sums) == 0 {
		sums = []string{"no change"}
	}
	fmt.Fprintf(&b, "\nResource changes: %s.\n", strings.Join(sums, ", "))
	return b.String()
}

// changePlace splits an id into its scope and what is left.
func changePlace(id string) (scope, rest string) {
	at, err := rid.Parse(id)
	if err != nil || at.Namespace() == "" {
		i := strings.LastIndex(strings.ToLower(id), "/resourcegroups/")
		if i < 0 {
			return id, id
		}
		return id[:i], id[i+1:]
	}
	if g, ok := at.Group(); ok {
		return g.String(), strings.TrimPrefix(id[len(g.String()):], "/providers/")
	}
	i := strings.Index(strings.ToLower(id), "/providers/")
	return id[:i], id[i+len("/providers/"):]
}

func writeChange(b *strings.Builder, l look, k changeKind, c any) {
	_, rest := changePlace(textAt(c, "resourceId"))
	version := firstNonEmpty(textAt(c, "after", "apiVersion"), textAt(c, "before", "apiVersion"))
	if version != "" {
		version = " [" + version + "]"
	}
	b.WriteString("\n  " + l.paint(k.colour, printable(k.symbol+" "+rest+version)) + "\n")
	switch k.name {
	case "Create":
		writeMembers(b, l, k, "      ", at(c, "after"))
	case "Modify":
		writeDeltas(b, l, "    ", items(at(c, "delta")))
	case "Unsupported":
		fmt.Fprintf(b, "      %s\n", printable(textAt(c, "unsupportedReason")))
	}
}

// writeMembers lists what a new resource has, a line for each value.
func writeMembers(b *strings.Builder, l look, k changeKind, indent string, v any) {
	flat := map[string]any{}
	flattened(flat, "", v)
	keys := sortedKeys(flat)
	width := 0
	for _, key := range keys {
		width = max(width, len(key))
	}
	if len(keys) > 0 {
		b.WriteByte('\n')
	}
	for _, key := range keys {
		b.WriteString(indent + l.paint(k.colour, fmt.Sprintf("%-*s %s", width+1, printable(key)+":", shownValue(flat[key], indent))) + "\n")
	}
}

func flattened(out map[string]any, prefix string, v any) {
	m, ok := v.(object)
	if !ok || len(m) == 0 {
		if prefix != "" {
			out[prefix] = v
		}
		return
	}
	for k, x := range m {
		if prefix != "" {
			k = prefix + "." + k
		}
		flattened(out, k, x)
	}
}

// shownValue is a value as JSON, its further lines indented.
func shownValue(v any, indent string) string {
	return strings.ReplaceAll(strings.TrimSuffix(jsonText(v), "\n"), "\n", "\n"+indent)
}

func writeDeltas(b *strings.Builder, l look, indent string, deltas []any) {
	for _, d := range deltas {
		path := printable(textAt(d, "path"))
		switch textAt(d, "propertyChangeType") {
		case "Create":
			b.WriteString(indent + l.paint("32", "+ "+path+": "+shownValue(at(d, "after"), indent)) + "\n")
		case "Delete":
			b.WriteString(indent + l.paint("38;5;208", "- "+path+": "+shownValue(at(d, "before"), indent)) + "\n")
		case "Array":
			b.WriteString(indent + l.paint("35", "~ "+path+": [") + "\n")
			writeDeltas(b, l, indent+"  ", items(at(d, "children")))
			b.WriteString(indent + "  ]\n")
		default:
			if sub := items(at(d, "children")); len(sub) > 0 {
				b.WriteString(indent + l.paint("35", "~ "+path+":") + "\n")
				writeDeltas(b, l, indent+"  ", sub)
				continue
			}
			b.WriteString(indent + l.paint("35", "~ "+path+": ") + l.paint("38;5;208", shownValue(at(d, "before"), indent)) + " => " + l.paint("32", shownValue(at(d, "after"), indent)) + "\n")
		}
	}
}
