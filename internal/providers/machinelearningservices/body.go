package machinelearningservices

import (
	"encoding/json"
	"slices"
	"strings"

	"lazurite.dev/internal/web"
)

// switches are the properties that are true or false.
func switches() []string {
	return []string{
		"hbiWorkspace", "softDeleteEnabled", "allowRecoverSoftDeletedWorkspace", "v1LegacyMode", "allowPublicAccessWhenBehindVnet", "provisionNetworkNow",
	}
}

// readBody takes "true" and "false" for the same without quotation marks, as
// Azure does: the SDK's template sends them so.
func readBody(raw []byte) ([]byte, error) {
	var m, props map[string]json.RawMessage
	if web.ParseJSON(raw, &m) != nil {
		return raw, nil // the pipeline says what is wrong
	}
	for k, v := range m {
		if !strings.EqualFold(k, "properties") || json.Unmarshal(v, &props) != nil || props == nil {
			continue
		}
		changed := false
		for name, value := range props {
			if !slices.ContainsFunc(switches(), func(s string) bool { return strings.EqualFold(s, name) }) {
				continue
			}
			switch text := strings.ToLower(string(value)); text {
			case `"true"`, `"false"`:
				props[name], changed = json.RawMessage(strings.Trim(text, `"`)), true
			}
		}
		if !changed {
			return raw, nil
		}
		b, err := json.Marshal(props)
		if err != nil {
			return nil, err
		}
		m[k] = b
		return json.Marshal(m)
	}
	return raw, nil
}
