package cli

import (
	"context"
	"strings"
)

func configNoun() noun {
	return noun{name: "config", short: "Read and write the configuration file.", commands: func() []*command {
		return []*command{configGet(), configSet(), configUnset()}
	}}
}

func configureNoun() noun {
	return noun{name: "configure", short: "Set defaults for options.", commands: func() []*command {
		return []*command{{
			path: "configure", short: "Set or list the defaults of options.", bare: true,
			example: "configure --defaults group=myGroup location=eastus",
			args: []arg{pairsOpt("defaults", "Defaults as KEY=VALUE, separated by spaces: group, location, workspace, vault…; an empty value removes one.").or("-d"),
				flagOpt("list-defaults", "List the defaults.").or("-l"),
				flagOpt("scope", "Only the file of this folder.")},
			run: runConfigure,
		}}
	}}
}

func runConfigure(_ context.Context, c *call) (any, error) {
	switch {
	case c.given("defaults"):
		for _, kv := range c.many("defaults") {
			k, v, _ := strings.Cut(kv, "=")
			c.setConfig("defaults", strings.ToLower(k), v)
		}
		return nil, c.ini.save()
	case c.flag("list-defaults"):
		return configEntries(c.ini, "defaults"), nil
	}
	return nil, usagef("usage error: --defaults KEY=VALUE... | --list-defaults")
}

func (c *call) setConfig(section, key, value string) {
	if value == "" {
		c.ini.unset(section, key)
		return
	}
	c.ini.set(section, key, value)
}

func configEntries(f *iniFile, section string) []any {
	out := []any{}
	if s := f.section(section, false); s != nil {
		for _, k := range s.keys {
			out = append(out, object{"name": k, "source": f.path, "value": s.vals[k]})
		}
	}
	return out
}

// configFile is the file that the command works on.
func (c *call) configFile() (*iniFile, error) {
	if !c.flag("local") {
		return c.ini, nil
	}
	return readINI(c.filePath(".azure/config"))
}

func localOpt() arg {
	return flagOpt("local", "The configuration of the current folder, .azure/config.")
}

func configGet() *command {
	return &command{path: "config get", short: "Show the configuration, a section of it or one value.", bare: true,
		example: "config get defaults.group",
		args:    []arg{{name: "key", help: "SECTION or SECTION.NAME; without it, everything.", pos: true}, localOpt()},
		run: func(_ context.Context, c *call) (any, error) {
			f, err := c.configFile()
			if err != nil {
				return nil, err
			}
			section, key, hasKey := strings.Cut(c.text("key"), ".")
			if section == "" {
				out := object{}
				for _, s := range f.sections {
					out[s.name] = configEntries(f, s.name)
				}
				return out, nil
			}
			if f.section(section, false) == nil {
				return nil, failf("Section '%s' is not in the configuration.", section)
			}
			if !hasKey {
				return configEntries(f, section), nil
			}
			for _, e := range configEntries(f, section) {
				if textAt(e, "name") == strings.ToLower(key) {
					return e, nil
				}
			}
			return nil, failf("No option '%s' in section: '%s'", key, section)
		}}
}

func configSet() *command {
	return &command{path: "config set", short: "Set values.", bare: true, example: "config set defaults.group=myGroup core.output=table",
		args: []arg{positional("key_value", "SECTION.NAME=VALUE, one or more.").required(), localOpt()},
		run: func(_ context.Context, c *call) (any, error) {
			f, err := c.configFile()
			if err != nil {
				return nil, err
			}
			for _, kv := range c.many("key_value") {
				name, v, ok := strings.Cut(kv, "=")
				section, key, dotted := strings.Cut(name, ".")
				if !ok || !dotted || key == "" {
					return nil, usagef("Please provide a section name and key: SECTION.NAME=VALUE, not '%s'", kv)
				}
				f.set(section, strings.ToLower(key), v)
			}
			return nil, f.save()
		}}
}

func configUnset() *command {
	return &command{path: "config unset", short: "Remove values.", bare: true, example: "config unset defaults.group",
		args: []arg{positional("key", "SECTION.NAME, one or more.").required(), localOpt()},
		run: func(_ context.Context, c *call) (any, error) {
			f, err := c.configFile()
			if err != nil {
				return nil, err
			}
			for _, name := range c.many("key") {
				section, key, dotted := strings.Cut(name, ".")
				if !dotted {
					return nil, usagef("Please provide a section name and key: SECTION.NAME, not '%s'", name)
				}
				f.unset(section, strings.ToLower(key))
			}
			return nil, f.save()
		}}
}
