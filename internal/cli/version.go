package cli

import (
	"context"
	"fmt"
	"runtime"
)

// azVersion is the release of az whose grammar and shapes we follow.
const azVersion = "2.80.0"

func versionNoun() noun {
	return noun{name: "version", short: "Show the version.", commands: func() []*command {
		return []*command{{
			path: "version", short: "Show the version of the program and of the az that it speaks as.",
			example: "version --output json", bare: true,
			run: runVersion, text: versionText, azJSON: true,
		}}
	}}
}

func runVersion(_ context.Context, c *call) (any, error) {
	return object{
		"azure-cli": azVersion, "azure-cli-core": azVersion, "azure-cli-telemetry": "1.1.0",
		"extensions": object{"ml": mlExtensionVersion}, "lazurite": c.env.Version,
	}, nil
}

// versionText is what laz prints; az prints JSON.
func versionText(_ *call, v any) string {
	return fmt.Sprintf("laz %s (speaks az %s; %s %s/%s)\n", textAt(v, "lazurite"), azVersion, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
