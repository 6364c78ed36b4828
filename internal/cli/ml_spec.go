package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// mlSpec is what a file, options and --set say, in a description's words.
type mlSpec struct {
	body object
	dir  string // relative paths in it are from here
}

// maxSpec is the most of a description that is read, in bytes.
const maxSpec = 1 << 20

// readSpec reads --file, where it was given.
func (c *call) readSpec() (*mlSpec, error) {
	s := &mlSpec{body: object{}, dir: c.filePath(".")}
	file := c.text("file")
	if file == "" {
		return s, nil
	}
	path := c.filePath(file)
	b, err := readLimited(path, maxSpec)
	if err != nil {
		return nil, failf("No such file or directory: %s", file)
	}
	s.dir = filepath.Dir(path)
	if s.body, err = parseSpec(b); err != nil {
		return nil, failf("%s: %s", file, err)
	}
	return s, nil
}

func readLimited(path string, limit int64) ([]byte, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if st.IsDir() || st.Size() > limit {
		return nil, fmt.Errorf("%s is a folder, or longer than %d bytes", path, limit)
	}
	return os.ReadFile(path)
}

// parseSpec reads a YAML description.
func parseSpec(b []byte) (object, error) {
	var n yaml.Node
	if err := yaml.Unmarshal(b, &n); err != nil {
		return nil, fmt.Errorf("not valid YAML: %w", err)
	}
	if n.Kind == 0 {
		return object{}, nil
	}
	v, err := fromYAML(&n, 0)
	if err != nil {
		return nil, err
	}
	o, ok := v.(object)
	if !ok {
		return nil, fmt.Errorf("not a mapping of names to values")
	}
	return o, nil
}

// maxDepth bounds how deep a description nests.
const maxDepth = 40

// fromYAML makes the values that commands work with. Numbers are kept as
// written; aliases, which could make much of little, are refused.
func fromYAML(n *yaml.Node, depth int) (any, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("line %d: nested too deep", n.Line)
	}
	switch n.Kind {
	case yaml.DocumentNode:
		return fromYAML(n.Content[0], depth+1)
	case yaml.AliasNode:
		return nil, fmt.Errorf("line %d: aliases are not supported", n.Line)
	case yaml.SequenceNode:
		out := []any{}
		for _, e := range n.Content {
			v, err := fromYAML(e, depth+1)
			if err != nil {
				return nil, err
			}
			out = append(out, v)
		}
		return out, nil
	case yaml.MappingNode:
		out := object{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			v, err := fromYAML(n.Content[i+1], depth+1)
			if err != nil {
				return nil, err
			}
			if _, twice := out[n.Content[i].Value]; twice {
				return nil, fmt.Errorf("line %d: %s is there twice", n.Content[i].Line, n.Content[i].Value)
			}
			out[n.Content[i].Value] = v
		}
		return out, nil
	}
	return yamlScalar(n)
}

func yamlScalar(n *yaml.Node) (any, error) {
	switch n.ShortTag() {
	case "!!null":
		return nil, nil
	case "!!bool":
		b, err := strconv.ParseBool(strings.ToLower(n.Value))
		if err != nil {
			return n.Value, nil
		}
		return b, nil
	case "!!int", "!!float":
		if json.Valid([]byte(n.Value)) {
			return json.Number(n.Value), nil
		}
	}
	return n.Value, nil
}

// override sets members by options that were given: option, member, option, member.
func (s *mlSpec) override(c *call, pairs ...string) {
	for i := 0; i+1 < len(pairs); i += 2 {
		if _, ok := c.defs[pairs[i]]; ok {
			c.setIf(s.body, pairs[i+1], pairs[i])
		}
	}
}

// spec reads the file, puts options over it, and --set over all.
func (c *call) spec(pairs ...string) (*mlSpec, error) {
	s, err := c.readSpec()
	if err != nil {
		return nil, err
	}
	s.override(c, pairs...)
	if err := c.applyGeneric(s.body); err != nil {
		return nil, err
	}
	return s, nil
}

// path is where a path of the description leads.
func (s *mlSpec) path(p string) string {
	p = strings.TrimPrefix(p, "file://")
	p = filepath.FromSlash(p)
	if filepath.IsAbs(p) {
		return filepath.Clean(p)
	}
	return filepath.Join(s.dir, p)
}

// named is the name of a description: from --name or the file.
func (s *mlSpec) named(fields mlFields) (string, error) {
	if n := textAt(s.body, "name"); n != "" {
		return n, nil
	}
	return "", fields.missing("name")
}
