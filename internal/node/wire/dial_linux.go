package wire

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"lazurite.dev/internal/node"
)

// dialTime is how long a pod may take to accept: it is on this machine.
const dialTime = 5 * time.Second

// Dial connects from the cluster's namespace to a pod of a node that is linked.
func (n *Network) Dial(ctx context.Context, at netip.AddrPort) (*os.File, error) {
	if !n.podPort(at) {
		return nil, fmt.Errorf("%w: %s is no port of a pod of this cluster", node.ErrInvalid, at)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var f *os.File
	err := n.space.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err == nil {
			f = os.NewFile(uintptr(fd), "pod")
		}
		return err
	})
	if err == nil {
		err = connect(ctx, f, at)
	}
	if err != nil {
		if f != nil {
			_ = f.Close()
		}
		return nil, fmt.Errorf("connecting to pod %s: %w", at, err)
	}
	return f, nil
}

// podPort reports whether at is in the range of pods of a linked node.
func (n *Network) podPort(at netip.AddrPort) bool {
	if !node.PodPort(at) || !n.Pods.Contains(at.Addr()) {
		return false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for slot := range n.slots {
		// The first address is the node's, at which the kubelet listens.
		if r := n.PodCIDR(slot); r.Contains(at.Addr()) {
			return at.Addr() != r.Addr() && at.Addr() != r.Addr().Next()
		}
	}
	return false
}

// connect connects a socket that does not block, outside of its namespace: a
// socket stays in the one where it was made.
func connect(ctx context.Context, f *os.File, at netip.AddrPort) error {
	deadline := time.Now().Add(dialTime)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	if err := f.SetDeadline(deadline); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = f.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	begun, failed := false, error(nil)
	err = raw.Write(func(fd uintptr) bool {
		if !begun {
			begun = true
			failed = unix.Connect(int(fd), &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()})
			if errors.Is(failed, unix.EINPROGRESS) {
				failed = nil
				return false // until it can be written to
			}
			return true
		}
		code, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		if failed = err; err == nil && code != 0 {
			failed = syscall.Errno(code)
		}
		return true
	})
	if err == nil {
		err = failed
	}
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}
