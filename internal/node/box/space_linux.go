package box

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Space is a set of namespaces (network, host name, and mounts where it has
// its own), held by mounts: it lives until Remove, whoever ends.
type Space struct {
	Name    string
	dir     string
	starter *Starter
	inode   uint64 // of the network namespace: another one under the same name is another space
}

// SpaceSpec is what a new space is made with.
type SpaceSpec struct {
	Hostname string
	// Mounts, when not nil, give the space a mount namespace of its own with
	// these in it: the host's tree, private, and on top of it what is listed.
	Mounts []Mount
}

func spaceFiles() []string { return []string{"uts", "net", "mnt"} } // mnt last: it changes what paths mean

// Space makes the space called name, or finds it: then made is false, and what
// is inside is as it was left.
func (r Root) Space(s *Starter, name string, spec SpaceSpec) (space *Space, made bool, err error) {
	sp := &Space{Name: name, dir: filepath.Join(r.spaces(), name), starter: s}
	if sp.whole(spec.Mounts != nil) {
		return sp, false, sp.identify()
	}
	if err := sp.release(); err != nil { // half of one
		return nil, false, err
	}
	err = sp.make(spec)
	for range holdTries {
		if !errors.Is(err, errNotHeld) {
			break
		}
		err = sp.make(spec)
	}
	if err != nil {
		return nil, false, err
	}
	return sp, true, sp.identify()
}

// errNotHeld is of a mount namespace that the kernel takes for one older than
// the agent's, which it lets nobody hold there. Linux 6.18 counts namespaces
// for each processor by itself, so outside the machine's first mount namespace
// (in a container, or a service with mounts of its own) that is how a new one
// may look, until one comes from another processor.
var errNotHeld = errors.New("holding the mnt namespace")

// holdTries is how often a space is made again for errNotHeld.
const holdTries = 100

func (sp *Space) identify() error {
	var st unix.Stat_t
	if err := unix.Stat(sp.NetPath(), &st); err != nil {
		return fmt.Errorf("looking at space %s: %w", sp.Name, err)
	}
	sp.inode = st.Ino
	return nil
}

// same reports whether both are the host's namespaces, or the same space.
func (sp *Space) same(other *Space) bool {
	if sp == nil || other == nil {
		return sp == other
	}
	return sp.dir == other.dir && sp.inode == other.inode
}

// FindSpace is the space called name, or nil when there is none.
func (r Root) FindSpace(s *Starter, name string) *Space {
	sp := &Space{Name: name, dir: filepath.Join(r.spaces(), name), starter: s}
	if _, err := os.Stat(sp.dir); err != nil {
		return nil
	}
	return sp
}

// Spaces are the names of all that are there.
func (r Root) Spaces() ([]string, error) {
	entries, err := os.ReadDir(r.spaces())
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, err
}

func (sp *Space) file(name string) string { return filepath.Join(sp.dir, name) }

// NetPath is the file that holds the network namespace.
func (sp *Space) NetPath() string { return sp.file("net") }

// ID is another number for each space that there ever was under the name: when
// it was made. The kernel's own numbers are given again.
func (sp *Space) ID() uint64 {
	fi, err := os.Stat(sp.dir)
	if err != nil {
		return 0
	}
	return uint64(fi.ModTime().UnixNano()) // nothing in it changes after that
}

func (sp *Space) whole(mounts bool) bool {
	for _, name := range spaceFiles() {
		if name == "mnt" && !mounts {
			continue
		}
		var st unix.Statfs_t
		if err := unix.Statfs(sp.file(name), &st); err != nil || st.Type != unix.NSFS_MAGIC {
			return false
		}
	}
	return true
}

// make starts a helper in new namespaces, binds those, and lets it end.
func (sp *Space) make(spec SpaceSpec) (err error) {
	flags, names := uintptr(unix.CLONE_NEWNET|unix.CLONE_NEWUTS|unix.CLONE_NEWNS), spaceFiles()
	if spec.Mounts == nil {
		names = names[:2] // the mount namespace is made all the same and ends with the helper
	}
	cmd := sp.starter.command()
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
	var said bytes.Buffer
	cmd.Stderr = &said
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	cmd.ExtraFiles = []*os.File{w}
	err = sp.starter.start(cmd, job{New: true, Path: "a space", Hostname: spec.Hostname, Mounts: spec.Mounts})
	_ = w.Close() // the helper has its own
	if err != nil {
		return err
	}
	_, err = io.ReadFull(r, make([]byte, 1))
	if err == nil {
		err = sp.bind(cmd.Process.Pid, names)
	}
	_ = stdin.Close()
	if ended := cmd.Wait(); err != nil || ended != nil {
		return errors.Join(fmt.Errorf("making space %s: %w: %s", sp.Name, errors.Join(err, ended), strings.TrimSpace(said.String())), sp.release())
	}
	return nil
}

func (sp *Space) bind(pid int, names []string) error {
	if err := os.MkdirAll(sp.dir, 0o700); err != nil {
		return err
	}
	for _, name := range names {
		f, err := os.OpenFile(sp.file(name), os.O_CREATE|os.O_RDONLY, 0o400)
		if err != nil {
			return err
		}
		_ = f.Close()
		err = unix.Mount(fmt.Sprintf("/proc/%d/ns/%s", pid, name), sp.file(name), "", unix.MS_BIND, "")
		if name == "mnt" && errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("%w: %w", errNotHeld, err)
		}
		if err != nil {
			return fmt.Errorf("holding the %s namespace: %w", name, err)
		}
	}
	return nil
}

// release lets the namespaces go; they end with the last process inside.
func (sp *Space) release() error {
	if err := unmountUnder(sp.dir); err != nil {
		return err
	}
	return os.RemoveAll(sp.dir)
}

// Do calls f on a thread that is in the space's network. f must not start
// goroutines that rely on it; what it opens (sockets, netlink) stays in it.
func (sp *Space) Do(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread can't be used for anything else afterwards
		done <- func() error {
			fd, err := unix.Open(sp.NetPath(), unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				return fmt.Errorf("entering the network of %s: %w", sp.Name, err)
			}
			err = unix.Setns(fd, unix.CLONE_NEWNET)
			_ = unix.Close(fd)
			if err != nil {
				return fmt.Errorf("entering the network of %s: %w", sp.Name, err)
			}
			return f()
		}()
	}()
	return <-done
}

// Output runs a program inside the space, as root, to its end: its standard
// output, and what it said on the other one in the error. stdin may be nil.
// When ctx ends, it is killed.
func (sp *Space) Output(ctx context.Context, stdin io.Reader, path string, args ...string) ([]byte, error) {
	var out, said bytes.Buffer
	cmd := sp.starter.command()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &out, &said
	cmd.WaitDelay = time.Second
	if err := sp.starter.start(cmd, job{Space: sp.dir, Path: path, Args: args, Env: defaultEnv()}); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()
	if err := cmd.Wait(); err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		return out.Bytes(), fmt.Errorf("%s: %w: %s", filepath.Base(path), errors.Join(err, ctx.Err()), lastLine(said.Bytes()))
	}
	return out.Bytes(), nil
}

func defaultEnv() []string { return []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"} }

// lastLine is the last line that says something, at most 500 bytes of it.
func lastLine(b []byte) string {
	lines := bytes.Split(bytes.TrimSpace(b), []byte("\n"))
	last := lines[len(lines)-1]
	return string(last[:min(len(last), 500)])
}

// Remove kills every process in the space's namespaces and lets them go.
func (sp *Space) Remove(ctx context.Context) error {
	return errors.Join(sp.Kill(ctx), sp.release())
}

// Kill kills every process in the space's namespaces, and returns when they
// are gone.
func (sp *Space) Kill(ctx context.Context) error {
	return killAll(ctx, "space "+sp.Name, func() ([]int, error) { return sp.processes() })
}

// Busy reports whether a process is in the space's namespaces.
func (sp *Space) Busy() (bool, error) {
	pids, err := sp.processes()
	return len(pids) > 0, err
}

// processes are those in a namespace of the space.
func (sp *Space) processes() ([]int, error) {
	held := map[uint64]bool{}
	for _, name := range spaceFiles() {
		var fs unix.Statfs_t
		var st unix.Stat_t
		if unix.Statfs(sp.file(name), &fs) == nil && fs.Type == unix.NSFS_MAGIC && unix.Stat(sp.file(name), &st) == nil {
			held[st.Ino] = true
		}
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, e := range entries {
		pid, ok := number(e.Name())
		if !ok || pid == os.Getpid() {
			continue
		}
		for _, name := range spaceFiles() {
			var st unix.Stat_t
			if unix.Stat(fmt.Sprintf("/proc/%d/ns/%s", pid, name), &st) == nil && held[st.Ino] {
				pids = append(pids, pid)
				break
			}
		}
	}
	return pids, nil
}
