package daemon

import (
	"io"
	"os"
	"syscall"
	"unsafe"
)

// inForeground reports whether this process is in the foreground of a
// terminal, which sends the signals of its keys to the whole group.
func inForeground() bool {
	tty, err := os.OpenFile("/dev/tty", os.O_RDONLY|syscall.O_NOCTTY, 0)
	if err != nil {
		return false
	}
	defer tty.Close()
	group, ok := foregroundGroup(tty)
	return ok && group == syscall.Getpgrp()
}

// IsTerminal reports whether w is the terminal that controls this process.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, ok = foregroundGroup(f)
	return ok
}

// Columns is how wide the terminal w is, 0 when it is none or does not say.
func Columns(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok {
		return 0
	}
	var size struct{ rows, columns, x, y uint16 }
	// unsafe: the kernel writes the size into the variable, ioctl_tty(2).
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), syscall.TIOCGWINSZ, uintptr(unsafe.Pointer(&size)))
	if errno != 0 {
		return 0
	}
	return int(size.columns)
}

// foregroundGroup is the process group that tty's keys go to; false when tty
// is no terminal.
func foregroundGroup(tty *os.File) (int, bool) {
	var group int32
	// unsafe: the kernel writes the group into the variable, ioctl_tty(2).
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, tty.Fd(), syscall.TIOCGPGRP, uintptr(unsafe.Pointer(&group)))
	return int(group), errno == 0
}
