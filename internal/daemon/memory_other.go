//go:build !linux

package daemon

// releaseProgram has nothing to do where the system says nothing of its pages.
func releaseProgram() {}
