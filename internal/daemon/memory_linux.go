package daemon

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"syscall"
)

// releaseProgram lets go of the pages of the program's own file: starting
// touches most of them, serving few. Those come back from the page cache,
// where they stay, when they are needed.
func releaseProgram() {
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	maps, err := os.Open("/proc/self/maps")
	if err != nil {
		return
	}
	defer maps.Close()
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		from, to, ok := programPart(lines.Text(), exe)
		if ok {
			_, _, _ = syscall.Syscall(syscall.SYS_MADVISE, from, to-from, syscall.MADV_DONTNEED) // advice: not taken is no harm
		}
	}
}

// programPart reads a line of proc_pid_maps(5): a part of exe that nobody can
// have written to, so that the file has all of it.
func programPart(line, exe string) (from, to uintptr, ok bool) {
	var rights string
	if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &rights); err != nil {
		return 0, 0, false
	}
	return from, to, strings.HasPrefix(rights, "r") && !strings.Contains(rights, "w") && strings.HasSuffix(line, " "+exe)
}
