package server

import "runtime/debug"

// Version is this build's: the module's version, or "dev" for a build from a
// working tree.
func Version() string {
	if bi, ok := debug.ReadBuildInfo(); ok && bi.Main.Version != "" && bi.Main.Version != "(devel)" {
		return bi.Main.Version
	}
	return "dev"
}
