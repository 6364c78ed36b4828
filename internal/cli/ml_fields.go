package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The descriptions of az ml are written with snake_case words, and the wire
// has its own. A table of fields says how one becomes the other.

// conv turns a value of a description into the wire's, and back. A nil
// function leaves the value.
type conv struct {
	to   func(v any) (any, error)
	from func(v any) any
}

// mlField is one member of a description.
type mlField struct {
	yaml, wire string
	conv       conv
	shown      bool // shown and never sent
}

// mlFields describe a thing. name is what errors call its schema.
type mlFields struct {
	name   string
	fields []mlField
	also   []string // members that are read from a description by other means
}

// wire makes the wire's object of a description. Members that no field knows
// are refused: what is misspelt must not be ignored.
func (s mlFields) wire(body object) (object, error) {
	bad := object{}
	out := object{}
	known := map[string]bool{"$schema": true}
	for _, k := range s.also {
		known[k] = true
	}
	for _, f := range s.fields {
		known[f.yaml] = true
		v, ok := body[f.yaml]
		if !ok || v == nil || f.shown {
			continue
		}
		if f.conv.to != nil {
			x, err := f.conv.to(v)
			if err != nil {
				bad[f.yaml] = wrong(err)
				continue
			}
			v = x
		}
		out[f.wire] = v
	}
	for _, k := range slices.Sorted(maps.Keys(body)) {
		if !known[k] {
			bad[k] = []any{"Unknown field."}
		}
	}
	return out, s.invalid(bad)
}

// invalid is the error for members that are wrong, as the extension words it.
func (s mlFields) invalid(bad object) error {
	if len(bad) == 0 {
		return nil
	}
	return &invalidSpec{schema: s.name, bad: bad}
}

// invalidSpec is the error of a description: what is wrong, by member.
type invalidSpec struct {
	schema string
	bad    object
}

// Error words it as the extension does.
func (e *invalidSpec) Error() string {
	return "Validation for " + e.schema + " failed:\n\n" + strings.TrimSpace(jsonText(e.bad))
}

// wrong is what an error says of a member.
func wrong(err error) any {
	if e, ok := errors.AsType[*invalidSpec](err); ok {
		return e.bad
	}
	return []any{err.Error()}
}

func (s mlFields) missing(key string) error {
	return s.invalid(object{key: []any{"Missing data for required field."}})
}

// show makes a description of the wire's object; what is null there is left out.
func (s mlFields) show(props any) object {
	out := object{}
	for _, f := range s.fields {
		v := at(props, f.wire)
		if v == nil {
			continue
		}
		if f.conv.from != nil {
			v = f.conv.from(v)
		}
		if v != nil {
			out[f.yaml] = v
		}
	}
	return out
}

// enum are words: snake_case in descriptions, the wire's after it.
func enum(pairs ...string) conv {
	return conv{
		to: func(v any) (any, error) {
			s := scalar(v, "", "true", "false")
			var words []string
			for i := 0; i < len(pairs); i += 2 {
				if strings.EqualFold(strings.ReplaceAll(s, "_", ""), strings.ReplaceAll(pairs[i], "_", "")) || strings.EqualFold(s, pairs[i+1]) {
					return pairs[i+1], nil
				}
				words = append(words, pairs[i])
			}
			return nil, fmt.Errorf("%q is not one of: %s", s, strings.Join(words, ", "))
		},
		from: func(v any) any {
			s := scalar(v, "", "true", "false")
			for i := 0; i < len(pairs); i += 2 {
				if strings.EqualFold(s, pairs[i+1]) {
					return pairs[i]
				}
			}
			return snakeCase(s)
		},
	}
}

// snakeCase is "UserDefined" as "user_defined".
func snakeCase(s string) string {
	var b strings.Builder
	for i, r := range s {
		if 'A' <= r && r <= 'Z' {
			if i > 0 && (s[i-1] < 'A' || s[i-1] > 'Z') && s[i-1] != '_' && s[i-1] != '-' {
				b.WriteByte('_')
			}
			r += 'a' - 'A'
		}
		b.WriteRune(r)
	}
	return b.String()
}

func textConv() conv {
	return conv{to: func(v any) (any, error) {
		if isComplex(v) {
			return nil, fmt.Errorf("not a valid string")
		}
		return scalar(v, "", "true", "false"), nil
	}}
}

func intConv() conv {
	return conv{to: func(v any) (any, error) {
		n, err := strconv.Atoi(scalar(v, "", "", ""))
		if err != nil || isComplex(v) {
			return nil, fmt.Errorf("not a valid integer")
		}
		return n, nil
	}}
}

func boolConv() conv {
	return conv{to: func(v any) (any, error) {
		b, ok := parseBool(scalar(v, "", "true", "false"))
		if !ok || isComplex(v) {
			return nil, fmt.Errorf("not a valid boolean")
		}
		return b, nil
	}}
}

// textMap are names with a text each: tags, environment variables.
func textMap() conv {
	return conv{to: func(v any) (any, error) {
		m, ok := v.(object)
		if !ok {
			return nil, fmt.Errorf("not a valid mapping type")
		}
		out := object{}
		for k, x := range m {
			if isComplex(x) {
				return nil, fmt.Errorf("%s: not a valid string", k)
			}
			out[k] = scalar(x, "", "true", "false")
		}
		return out, nil
	}}
}

// nested are members with fields of their own.
func nested(s mlFields) conv {
	return conv{
		to: func(v any) (any, error) {
			m, ok := v.(object)
			if !ok {
				return nil, fmt.Errorf("invalid input type")
			}
			return s.wire(m)
		},
		from: func(v any) any {
			if _, ok := v.(object); !ok {
				return v
			}
			return s.show(v)
		},
	}
}

// durationConv is a number of units in descriptions and ISO 8601 on the wire.
func durationConv(unit time.Duration) conv {
	return conv{
		to: func(v any) (any, error) {
			n, err := strconv.ParseFloat(scalar(v, "", "", ""), 64)
			if err != nil || n < 0 || n > 1e9 || isComplex(v) {
				return nil, fmt.Errorf("not a valid integer")
			}
			return isoDuration(time.Duration(n * float64(unit))), nil
		},
		from: func(v any) any {
			d, ok := parseISODuration(scalar(v, "", "", ""))
			if !ok {
				return v
			}
			return json.Number(strconv.FormatFloat(float64(d)/float64(unit), 'f', -1, 64))
		},
	}
}

// isoDuration writes d as ISO 8601: PT5S, PT0.5S.
func isoDuration(d time.Duration) string {
	return "PT" + strconv.FormatFloat(d.Seconds(), 'f', -1, 64) + "S"
}

// parseISODuration reads days, hours, minutes and seconds of ISO 8601.
func parseISODuration(s string) (time.Duration, bool) {
	rest, ok := strings.CutPrefix(strings.ToUpper(s), "P")
	if !ok || rest == "" {
		return 0, false
	}
	units := map[byte]time.Duration{'D': 24 * time.Hour}
	var total time.Duration
	for rest != "" {
		if rest[0] == 'T' {
			units, rest = map[byte]time.Duration{'H': time.Hour, 'M': time.Minute, 'S': time.Second}, rest[1:]
			continue
		}
		i := strings.IndexFunc(rest, func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
		if i <= 0 || units[rest[i]] == 0 {
			return 0, false
		}
		n, err := strconv.ParseFloat(rest[:i], 64)
		if err != nil || n > 1e8 {
			return 0, false
		}
		total += time.Duration(n * float64(units[rest[i]]))
		rest = rest[i+1:]
	}
	return total, true
}

// identityToWire makes the wire's identity of a description's.
func identityToWire(v any) (any, error) {
	m, ok := v.(object)
	if !ok {
		return nil, fmt.Errorf("invalid input type")
	}
	ids := object{}
	for _, u := range items(m["user_assigned_identities"]) {
		id := firstNonEmpty(textAt(u, "resource_id"), scalarText(u))
		if id == "" {
			return nil, fmt.Errorf("user_assigned_identities: resource_id is missing")
		}
		ids[id] = object{}
	}
	kinds := map[string]string{"none": "None", "systemassigned": "SystemAssigned", "userassigned": "UserAssigned", "systemassigned,userassigned": "SystemAssigned,UserAssigned"}
	kind := kinds[strings.ToLower(strings.NewReplacer("_", "", " ", "").Replace(textAt(m, "type")))]
	if kind == "" {
		return nil, fmt.Errorf("type: must be one of: system_assigned, user_assigned, system_assigned,user_assigned, none")
	}
	out := object{"type": kind}
	if len(ids) > 0 {
		out["userAssignedIdentities"] = ids
	}
	return out, nil
}

func scalarText(v any) string {
	s, _ := v.(string)
	return s
}

func identityFromWire(v any) any {
	out := object{"type": strings.ReplaceAll(snakeCase(strings.ReplaceAll(textAt(v, "type"), " ", "")), ",_", ",")}
	for _, k := range [][2]string{{"principal_id", "principalId"}, {"tenant_id", "tenantId"}} {
		if s := textAt(v, k[1]); s != "" {
			out[k[0]] = s
		}
	}
	ids, _ := at(v, "userAssignedIdentities").(object)
	var list []any
	for _, id := range slices.Sorted(maps.Keys(ids)) {
		list = append(list, withoutNil(object{"resource_id": id, "client_id": at(ids[id], "clientId"), "principal_id": at(ids[id], "principalId")}))
	}
	if len(list) > 0 {
		out["user_assigned_identities"] = list
	}
	return out
}

// creation is who made what when.
func creation() conv {
	s := mlFields{fields: []mlField{{yaml: "created_at", wire: "createdAt"}, {yaml: "created_by", wire: "createdBy"}, {yaml: "created_by_type", wire: "createdByType"},
		{yaml: "last_modified_at", wire: "lastModifiedAt"}, {yaml: "last_modified_by", wire: "lastModifiedBy"}, {yaml: "last_modified_by_type", wire: "lastModifiedByType"}}}
	return conv{from: func(v any) any { return s.show(v) }}
}
