package vnet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
)

const soOriginalDst = 80 // SO_ORIGINAL_DST, linux/netfilter_ipv4.h

// originalDestination asks the kernel where a connection was going before
// netfilter redirected it. Networks of ours have IPv4 alone.
func originalDestination(conn net.Conn) (netip.AddrPort, error) {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return netip.AddrPort{}, errors.New("it is no socket")
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return netip.AddrPort{}, err
	}
	var sa *syscall.IPv6Mreq // of the same size as a sockaddr_in, and readable by package syscall
	var optErr error
	if err := raw.Control(func(fd uintptr) {
		sa, optErr = syscall.GetsockoptIPv6Mreq(int(fd), syscall.IPPROTO_IP, soOriginalDst)
	}); err != nil {
		return netip.AddrPort{}, err
	}
	if optErr != nil {
		return netip.AddrPort{}, fmt.Errorf("asking for the original destination: %w", optErr)
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(sa.Multiaddr[4:8])), binary.BigEndian.Uint16(sa.Multiaddr[2:4])), nil
}
