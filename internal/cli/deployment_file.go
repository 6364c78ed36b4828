package cli

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// templateFile reads --template-file and gives the name of a deployment after it.
func (c *call) templateFile() (object, string, error) {
	if c.given("template-uri") || c.given("template-spec") {
		return nil, "", usagef("--template-uri and --template-spec are not supported: nothing is fetched. Give the template itself with --template-file")
	}
	path := c.text("template-file")
	if path == "" {
		return nil, "", usagef("the following arguments are required: --template-file/-f")
	}
	if err := notBicep(path); err != nil {
		return nil, "", err
	}
	b, err := os.ReadFile(c.filePath(path))
	if err != nil {
		return nil, "", failf("Unable to read the template: %v", err)
	}
	m, err := commented(b)
	if err != nil {
		return nil, "", failf("Failed to parse '%s', please check whether it is a valid JSON format: %v", path, err)
	}
	base := filepath.Base(path)
	return m, strings.TrimSuffix(base, filepath.Ext(base)), nil
}

// notBicep refuses what a compiler must see first.
func notBicep(path string) error {
	switch strings.ToLower(filepath.Ext(path)) {
	case ".bicep":
		return failf("%s is a Bicep file, and Bicep's compiler is not part of this program. Run `bicep build %s` and give the .json file that it writes.", path, path)
	case ".bicepparam":
		return failf("%s is a Bicep parameters file, and Bicep's compiler is not part of this program. Run `bicep build-params %s` and give the .json file that it writes.", path, path)
	}
	return nil
}

// commented reads a JSON object that may have comments, as templates do.
func commented(b []byte) (object, error) {
	v, err := decode(uncommented(b))
	if err != nil {
		return nil, errors.Unwrap(err) // it is no answer of a server's
	}
	m, ok := v.(object)
	if !ok {
		return nil, failf("a JSON object is expected")
	}
	return m, nil
}

// uncommented blanks // and /* */ outside of strings.
func uncommented(b []byte) []byte {
	out := slices.Clone(b)
	for i := 0; i < len(out); i++ {
		switch {
		case out[i] == '"':
			for i++; i < len(out) && out[i] != '"'; i++ {
				if out[i] == '\\' {
					i++
				}
			}
		case out[i] == '/' && i+1 < len(out) && out[i+1] == '/':
			for ; i < len(out) && out[i] != '\n'; i++ {
				out[i] = ' '
			}
		case out[i] == '/' && i+1 < len(out) && out[i+1] == '*':
			for ; i < len(out); i++ {
				if out[i] == '*' && i+1 < len(out) && out[i+1] == '/' {
					out[i], out[i+1] = ' ', ' '
					i++
					break
				}
				if out[i] != '\n' {
					out[i] = ' '
				}
			}
		}
	}
	return out
}

// templateParameters reads --parameters; what comes later counts.
func (c *call) templateParameters(template object) (object, error) {
	out := object{}
	declared, _ := lookUp(template, "parameters").(object)
	for _, p := range c.many("parameters") {
		if p = strings.TrimSpace(p); p == "" {
			continue
		}
		m, err := c.parameterObject(p)
		if err != nil {
			return nil, err
		}
		if m == nil {
			if m, err = parameterPair(p, declared); err != nil {
				return nil, err
			}
		}
		for k, v := range m {
			for old := range out {
				if strings.EqualFold(old, k) {
					delete(out, old)
				}
			}
			out[k] = v
		}
	}
	return out, nil
}

// parameterObject reads JSON, or a file of it; nil when p is neither.
func (c *call) parameterObject(p string) (object, error) {
	text := []byte(p)
	if p[0] != '{' && p[0] != '/' || fileAt(c.filePath(p)) {
		if err := notBicep(strings.TrimPrefix(p, "@")); err != nil && !strings.Contains(p, "=") {
			return nil, err
		}
		if p[0] == '@' { // it could not be read before
			return nil, failf("Unable to parse parameter: %s: there is no such file.", p)
		}
		if !fileAt(c.filePath(p)) {
			return nil, nil
		}
		b, err := os.ReadFile(c.filePath(p))
		if err != nil {
			return nil, failf("Unable to read the parameters: %v", err)
		}
		text = b
	}
	m, err := commented(text)
	if err != nil {
		return nil, failf("Unable to parse the parameters, please check whether they are valid JSON: %v", err)
	}
	if inner, ok := lookUp(m, "parameters").(object); ok && (m["$schema"] != nil || m["contentVersion"] != nil) {
		return inner, nil
	}
	return m, nil
}

func fileAt(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().IsRegular()
}

// parameterPair reads KEY=VALUE by the type that the template declares.
func parameterPair(p string, declared object) (object, error) {
	key, value, ok := strings.Cut(p, "=")
	if !ok {
		return nil, usagef("Unable to parse parameter: %s", p)
	}
	for name, d := range declared {
		if !strings.EqualFold(name, key) {
			continue
		}
		v, err := typedValue(value, textAt(d, "type"))
		if err != nil {
			return nil, usagef("the value of the parameter '%s' is not of the type %s: %s", key, textAt(d, "type"), err)
		}
		return object{name: object{"value": v}}, nil
	}
	return nil, usagef("unrecognized template parameter '%s'. Allowed parameters: %s", key, strings.Join(sortedKeys(declared), ", "))
}

func typedValue(value, typ string) (any, error) {
	switch strings.ToLower(typ) {
	case "string", "securestring", "":
		return value, nil
	case "bool":
		value = strings.ToLower(value)
	}
	if !json.Valid([]byte(value)) {
		return nil, failf("it is not valid JSON")
	}
	return decode([]byte(value))
}

// lookUp is a member of an object without regard to case.
func lookUp(m object, name string) any {
	for k, v := range m {
		if strings.EqualFold(k, name) {
			return v
		}
	}
	return nil
}
