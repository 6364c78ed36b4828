//go:build !linux

package daemon

import "errors"

func becomeInside() error { return errors.New("virtual networks need Linux") }
