//go:build !linux

package agent

import (
	"context"
	"errors"
)

// Run says that there is no agent on this system.
func Run(context.Context, Options) error {
	return errors.New("the node agent needs Linux")
}

// Keep says so too.
func Keep(context.Context, []string) error { return Run(context.Background(), Options{}) }

// Exec says so too.
func Exec() error { return errors.New("the node agent needs Linux") }
