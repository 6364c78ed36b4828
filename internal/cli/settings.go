package cli

import "strings"

// configView reads az's configuration: a variable AZURE_SECTION_KEY goes
// before the file.
type configView struct {
	file   *iniFile
	getenv func(string) string
}

func (v configView) get(section, key string) string {
	if e := v.getenv(configVariable(section, key)); e != "" {
		return e
	}
	return v.file.get(section, key)
}

func configVariable(section, key string) string {
	return "AZURE_" + strings.ToUpper(section+"_"+strings.ReplaceAll(key, "-", "_"))
}
