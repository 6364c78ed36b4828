package cli

import (
	"context"
	"strings"
)

// mlExtensionVersion is the version of az's ml extension whose commands are built in.
const mlExtensionVersion = "2.38.0"

// extensionNoun answers for az's extensions. Those that exist here are built
// in: there is nothing to fetch.
func extensionNoun() noun {
	return noun{name: "extension", short: "Look at az's extensions: ml is built in.", commands: func() []*command {
		return []*command{extensionVerb("add", "Nothing is added: ml is built in."), extensionVerb("update", "Nothing is updated: ml is built in."), extensionList(), extensionShow()}
	}}
}

func builtInExtension() object {
	return object{"experimental": false, "extensionType": "built-in", "name": "ml", "path": nil, "preview": false, "version": mlExtensionVersion}
}

func extensionName() arg { return opt("name", "Name of the extension.").or("-n") }

// knownExtension refuses the name of an extension that isn't here.
func knownExtension(name string) error {
	if strings.EqualFold(name, "ml") {
		return nil
	}
	return withHint(failf("The extension %s is not installed.", name), "Here ml alone exists, built in; nothing is fetched.")
}

func extensionVerb(verb, short string) *command {
	return &command{path: "extension " + verb, short: short, bare: true, example: "extension " + verb + " --name ml",
		args: []arg{extensionName().required(), flagOpt("upgrade", "Kept for scripts.").or("-U"), flagOpt("yes", "Kept for scripts.").or("-y"),
			boolOpt("allow-preview", "Kept for scripts.")},
		run: func(_ context.Context, c *call) (any, error) {
			if err := knownExtension(c.text("name")); err != nil {
				return nil, err
			}
			c.warn("The extension ml is built in (as of %s): there is nothing to %s.", mlExtensionVersion, verb)
			return nil, nil
		}}
}

func extensionList() *command {
	return &command{path: "extension list", short: "List the extensions.", bare: true, example: "extension list",
		run: func(context.Context, *call) (any, error) { return []any{builtInExtension()}, nil }}
}

func extensionShow() *command {
	return &command{path: "extension show", short: "Show an extension.", bare: true, example: "extension show --name ml", args: []arg{extensionName().required()},
		run: func(_ context.Context, c *call) (any, error) {
			if err := knownExtension(c.text("name")); err != nil {
				return nil, err
			}
			return builtInExtension(), nil
		}}
}
