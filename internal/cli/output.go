package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"sort"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// This file alone prints answers. stdout is the answer; stderr is the rest.
//
//	json   indent 2, keys sorted, text unescaped but for what JSON demands
//	tsv    a line for each item; objects in key order, projections as written
//	table  a row for each item; null answers print nothing in any format

// print shapes v by the query and writes it in the call's format.
func (c *call) print(v any) error {
	v, err := normal(v)
	if err != nil {
		return err
	}
	v = addGroups(v)
	if c.query != nil {
		if v, err = c.query.run(v); err != nil {
			return err
		}
	}
	if v == nil || c.format == "none" {
		return nil
	}
	var b bytes.Buffer
	format := c.format
	if c.cmd.text != nil && c.query == nil && !c.given("output") && !(c.cmd.azJSON && c.env.isAz()) {
		format = "text"
	}
	switch format {
	case "text":
		b.WriteString(c.cmd.text(c, v))
	case "tsv":
		writeTSV(&b, v)
	case "table":
		err = c.writeTable(&b, v)
	case "yaml", "yamlc":
		err = writeYAML(&b, plain(v))
	case "json", "jsonc":
		writeJSON(&b, plain(v), 0, c.format == "jsonc" && c.env.IsTerminal(c.env.Stdout))
		b.WriteByte('\n')
	default:
		return usagef("'%s' is not a valid value for '--output'. Allowed values: json, jsonc, yaml, yamlc, table, tsv, none.", c.format)
	}
	if err != nil {
		return err
	}
	if _, err := c.env.Stdout.Write(b.Bytes()); err != nil {
		return fmt.Errorf("write the answer: %w", err)
	}
	return nil
}

// jsonText is v as JSON with its last line break.
func jsonText(v any) string {
	var b bytes.Buffer
	writeJSON(&b, plain(v), 0, false)
	b.WriteByte('\n')
	return b.String()
}

// writeJSON writes v as Python's json.dumps(indent=2, sort_keys=True,
// ensure_ascii=False) does.
func writeJSON(b *bytes.Buffer, v any, depth int, color bool) {
	switch t := v.(type) {
	case object:
		writeJSONObject(b, t, depth, color)
	case []any:
		if len(t) == 0 {
			b.WriteString("[]")
			return
		}
		b.WriteByte('[')
		for i, e := range t {
			newItem(b, i, depth+1)
			writeJSON(b, e, depth+1, color)
		}
		b.WriteString("\n" + strings.Repeat("  ", depth) + "]")
	case string:
		paint(b, color, "\x1b[32m", quoteJSON(t))
	case nil:
		paint(b, color, "\x1b[90m", "null")
	default:
		paint(b, color, "\x1b[36m", scalar(t, "null", "true", "false"))
	}
}

func writeJSONObject(b *bytes.Buffer, t object, depth int, color bool) {
	if len(t) == 0 {
		b.WriteString("{}")
		return
	}
	b.WriteByte('{')
	for i, k := range sortedKeys(t) {
		newItem(b, i, depth+1)
		paint(b, color, "\x1b[34m", quoteJSON(k))
		b.WriteString(": ")
		writeJSON(b, t[k], depth+1, color)
	}
	b.WriteString("\n" + strings.Repeat("  ", depth) + "}")
}

func newItem(b *bytes.Buffer, i, depth int) {
	if i > 0 {
		b.WriteByte(',')
	}
	b.WriteString("\n" + strings.Repeat("  ", depth))
}

func paint(b *bytes.Buffer, color bool, code, s string) {
	if color {
		s = code + s + "\x1b[0m"
	}
	b.WriteString(s)
}

func quoteJSON(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch r {
		case '"':
			b.WriteString(`\"`)
		case '\\':
			b.WriteString(`\\`)
		case '\n':
			b.WriteString(`\n`)
		case '\r':
			b.WriteString(`\r`)
		case '\t':
			b.WriteString(`\t`)
		case '\b':
			b.WriteString(`\b`)
		case '\f':
			b.WriteString(`\f`)
		default:
			if r < 0x20 {
				fmt.Fprintf(&b, `\u%04x`, r)
			} else {
				b.WriteRune(r)
			}
		}
	}
	b.WriteByte('"')
	return b.String()
}

// scalar is v as text, with the words for null, true and false.
func scalar(v any, null, yes, no string) string {
	switch t := v.(type) {
	case nil:
		return null
	case string:
		return t
	case bool:
		if t {
			return yes
		}
		return no
	case json.Number:
		return t.String()
	case float64:
		if t == float64(int64(t)) && t > -1e15 && t < 1e15 {
			return strconv.FormatInt(int64(t), 10)
		}
		return strconv.FormatFloat(t, 'g', -1, 64)
	}
	return fmt.Sprint(v)
}

// rows makes a list of what is not one.
func rows(v any) []any {
	if l, ok := v.([]any); ok {
		return l
	}
	return []any{v}
}

// writeTSV writes one line for each item (knack, TsvOutput).
func writeTSV(w io.StringWriter, v any) {
	line := func(s string) { _, _ = w.WriteString(s + "\n") } // a buffer: it can't fail
	for _, row := range rows(v) {
		switch t := row.(type) {
		case *ordered:
			var cells []string
			for _, k := range t.keys {
				cells = append(cells, tsvCell(t.values[k]))
			}
			line(strings.Join(cells, "\t"))
		case object:
			var cells []string
			for _, k := range sortedKeys(t) {
				cells = append(cells, tsvCell(t[k]))
			}
			line(strings.Join(cells, "\t"))
		case []any:
			var cells []string
			for _, e := range t {
				cells = append(cells, tsvCell(e))
			}
			line(strings.Join(cells, "\t"))
		default:
			line(scalar(row, "None", "true", "false"))
		}
	}
}

func tsvCell(v any) string {
	switch t := v.(type) {
	case []any:
		return strconv.Itoa(len(t))
	case object, *ordered:
		return ""
	default:
		return scalar(t, "None", "True", "False")
	}
}

// writeTable writes aligned columns under a header (knack, TableOutput).
func (c *call) writeTable(b *bytes.Buffer, v any) error {
	if c.query == nil && c.cmd.table != "" {
		q, err := compileQuery(c.cmd.table)
		if err != nil {
			return err
		}
		expr := v
		if !strings.HasPrefix(c.cmd.table, "[]") {
			if v, err = q.run(expr); err != nil {
				return err
			}
		} else if v, err = q.run(rows(expr)); err != nil {
			return err
		}
	}
	var header []string
	var lines []map[string]string
	for _, row := range rows(v) {
		keys, cells := tableRow(row)
		for _, k := range keys {
			if !contains(header, k) {
				header = append(header, k)
			}
		}
		lines = append(lines, cells)
	}
	if len(header) == 0 {
		b.WriteByte('\n')
		return nil
	}
	writeColumns(b, header, lines)
	return nil
}

func contains(l []string, s string) bool {
	for _, e := range l {
		if e == s {
			return true
		}
	}
	return false
}

func tableRow(row any) (keys []string, cells map[string]string) {
	cells = map[string]string{}
	add := func(k string, v any) {
		if isComplex(v) || v == nil {
			return
		}
		keys = append(keys, k)
		cells[k] = scalar(v, "", "True", "False")
	}
	switch t := row.(type) {
	case *ordered:
		for _, k := range t.keys {
			add(capital(k), t.values[k])
		}
	case object:
		for _, k := range sortedKeys(t) {
			if k != "id" && k != "type" && k != "etag" && k != "revision" {
				add(capital(k), t[k])
			}
		}
	case []any:
		for i, e := range t {
			add("Column"+strconv.Itoa(i+1), e)
		}
	default:
		add("Result", row)
	}
	return keys, cells
}

func isComplex(v any) bool {
	switch v.(type) {
	case object, []any, *ordered:
		return true
	}
	return false
}

func capital(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

func writeColumns(b *bytes.Buffer, header []string, lines []map[string]string) {
	width := make([]int, len(header))
	for i, h := range header {
		width[i] = utf8.RuneCountInString(h) + 2 // as Python's tabulate
		for _, l := range lines {
			width[i] = max(width[i], utf8.RuneCountInString(l[h]))
		}
	}
	put := func(cell func(i int) string) {
		var parts []string
		for i := range header {
			s := cell(i)
			parts = append(parts, s+strings.Repeat(" ", width[i]-utf8.RuneCountInString(s)))
		}
		b.WriteString(strings.TrimRight(strings.Join(parts, "  "), " ") + "\n")
	}
	put(func(i int) string { return header[i] })
	put(func(i int) string { return strings.Repeat("-", width[i]) })
	for _, l := range lines {
		put(func(i int) string { return l[header[i]] })
	}
}

func writeYAML(b *bytes.Buffer, v any) error {
	e := yaml.NewEncoder(b)
	e.SetIndent(2)
	e.CompactSeqIndent()
	if err := e.Encode(yamlNode(v)); err != nil {
		return fmt.Errorf("render yaml: %w", err)
	}
	return e.Close()
}

// yamlNode keeps numbers as written and keys sorted byte by byte.
func yamlNode(v any) *yaml.Node {
	switch t := v.(type) {
	case object:
		n := &yaml.Node{Kind: yaml.MappingNode}
		keys := sortedKeys(t)
		sort.Strings(keys)
		for _, k := range keys {
			n.Content = append(n.Content, yamlNode(k), yamlNode(t[k]))
		}
		return n
	case []any:
		n := &yaml.Node{Kind: yaml.SequenceNode}
		for _, e := range t {
			n.Content = append(n.Content, yamlNode(e))
		}
		return n
	case string:
		return yamlText(t)
	case nil:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Value: "null"}
	case bool:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: strconv.FormatBool(t)}
	}
	return &yaml.Node{Kind: yaml.ScalarNode, Value: scalar(v, "null", "true", "false")}
}

// yamlText quotes text as PyYAML does: with single quotes where plain text
// would be read as something else.
func yamlText(t string) *yaml.Node {
	n := &yaml.Node{}
	n.SetString(t)
	if n.Style == 0 {
		if b, err := yaml.Marshal(t); err == nil && b[0] == '"' && strings.IndexFunc(t, unicode.IsControl) < 0 {
			n.Style = yaml.SingleQuotedStyle
		}
	}
	return n
}
