package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// processes are descriptors of the agent at the other end of conn and of the
// keeper that started it, which ends right after it: pidfd_open(2). One that is
// not seen from here is left out, as is one that has ended.
func processes(conn *net.UnixConn) ([]unix.PollFd, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("who the node agent is: %w", err)
	}
	var peer *unix.Ucred
	var asked error
	if err := raw.Control(func(fd uintptr) { peer, asked = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil || asked != nil {
		return nil, fmt.Errorf("who the node agent is: %w", errors.Join(err, asked))
	}
	var all []unix.PollFd
	for _, pid := range []int{int(peer.Pid), keeperOf(int(peer.Pid))} {
		if pid <= 1 {
			continue
		}
		if fd, err := unix.PidfdOpen(pid, 0); err == nil {
			all = append(all, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
		}
	}
	return all, nil
}

// keeperOf is the parent of a process, where that was called by the same
// command; 0 where it wasn't, or nothing is seen of it.
func keeperOf(pid int) int {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:]) // proc_pid_stat(5): its name may hold anything
	if err != nil || len(fields) < 2 {
		return 0
	}
	parent, err := strconv.Atoi(string(fields[1]))
	if err != nil || parent <= 1 || command(pid) == "" || command(parent) != command(pid) {
		return 0
	}
	return parent
}

// command is the first word after a program's name.
func command(pid int) string {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	words := bytes.Split(line, []byte{0})
	if err != nil || len(words) < 2 {
		return ""
	}
	return string(words[1])
}

// whenEnded calls f, which ends the agent, and waits until its processes have
// ended too. An agent that is not there is f's to tell.
func (c *Client) whenEnded(ctx context.Context, f func() error) error {
	conn, err := c.connect(ctx)
	if err != nil {
		return f()
	}
	list, err := processes(conn)
	_ = conn.Close()
	if err != nil {
		return err
	}
	defer func() {
		for _, p := range list {
			_ = unix.Close(int(p.Fd))
		}
	}()
	if err := f(); err != nil {
		return err
	}
	for i := range list {
		const again = 50 // milliseconds, until ctx is looked at
		for n := 0; n == 0; {
			if n, err = unix.Poll(list[i:i+1], again); err != nil && err != unix.EINTR {
				return fmt.Errorf("waiting for the node agent's end: %w", err)
			}
			if n < 0 {
				n = 0
			}
			if n == 0 && ctx.Err() != nil {
				return fmt.Errorf("the node agent has not ended: %w", ctx.Err())
			}
		}
	}
	return nil
}
