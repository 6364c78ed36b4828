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
			run: runVersion,
		}}
	}}
}

func runVersion(_ context.Context, c *call) (any, error) {
	if !c.env.isAz() && !c.given("output") && !c.given("query") {
		_, err := fmt.Fprintf(c.env.Stdout, "laz %s (speaks az %s; %s %s/%s)\n", c.env.Version, azVersion, runtime.Version(), runtime.GOOS, runtime.GOARCH)
		return nil, err
	}
	return object{
		"azure-cli": azVersion, "azure-cli-core": azVersion, "azure-cli-telemetry": "1.1.0",
		"extensions": object{}, "lazurite": c.env.Version,
	}, nil
}
