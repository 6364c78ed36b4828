//go:build !linux

package vnet

import (
	"errors"
	"net"
	"net/netip"
)

func originalDestination(net.Conn) (netip.AddrPort, error) {
	return netip.AddrPort{}, errors.New("only Linux redirects connections")
}
