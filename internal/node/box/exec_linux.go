package box

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// ExecCommand is the first argument by which this program is told to be
// [Exec]: a hidden command of the program that uses this package.
const ExecCommand = "node-exec"

const (
	jobFD   = 3 // where the job is read
	readyFD = 4 // of a new space: where readiness is told, and its end awaited
)

// job is what a started helper has to become. It comes from the agent over a
// pipe, never from a command line.
type job struct {
	Space    string // folder of the namespaces to enter; "" stays on the host
	New      bool   // in namespaces made for a new space: hold them until told
	Hostname string // of a new space
	Mounts   []Mount
	Cgroups  []string // cgroup.procs files to enter
	UID, GID int
	Path     string
	Args     []string // without the name
	Env      []string
	Dir      string
	Parent   int
}

// Exec is the helper between the agent and each program: it enters the
// namespaces and cgroups, drops rights, and becomes the program. It returns
// only on errors, or with none when it was there to hold a new space.
func Exec() error {
	runtime.LockOSThread()
	f := os.NewFile(jobFD, "job")
	var j job
	if err := errors.Join(json.NewDecoder(f).Decode(&j), f.Close()); err != nil {
		return fmt.Errorf("reading the job: %w", err)
	}
	trees, err := openTrees(j.Mounts)
	if err != nil {
		return err
	}
	if j.New {
		return j.hold(trees)
	}
	for _, file := range j.Cgroups {
		if err := os.WriteFile(file, []byte("0"), 0); err != nil {
			return fmt.Errorf("entering the cgroup: %w", err)
		}
	}
	if err := j.enter(); err != nil {
		return err
	}
	if len(trees) > 0 {
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return fmt.Errorf("making a mount namespace: %w", err)
		}
		if err := errors.Join(ownMounts(), attach(trees)); err != nil {
			return err
		}
	}
	if err := j.drop(); err != nil {
		return err
	}
	err = syscall.Exec(j.Path, append([]string{filepath.Base(j.Path)}, j.Args...), j.Env)
	return fmt.Errorf("starting %s: %w", j.Path, err)
}

// hold prepares the namespaces in which this process was started and keeps
// them until they are held by mounts.
func (j job) hold(trees []tree) error {
	if err := errors.Join(ownMounts(), attach(trees)); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte(j.Hostname)); err != nil {
		return fmt.Errorf("setting the host name: %w", err)
	}
	pipe := os.NewFile(readyFD, "ready")
	if _, err := pipe.WriteString("r"); err != nil {
		return fmt.Errorf("telling that the namespaces are there: %w", err)
	}
	_, err := io.Copy(io.Discard, os.Stdin) // until the agent closes it, or ends
	return err
}

func (j job) enter() error {
	if j.Space == "" {
		return nil
	}
	// A thread that shares its file system attributes can't change its mount namespace.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("entering %s: %w", j.Space, err)
	}
	var fds []int
	for _, name := range spaceFiles() {
		fd, err := unix.Open(filepath.Join(j.Space, name), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if errors.Is(err, unix.ENOENT) && name == "mnt" {
			continue // a space without mounts of its own
		}
		if err != nil {
			return fmt.Errorf("entering %s: %w", j.Space, err)
		}
		fds = append(fds, fd)
	}
	for _, fd := range fds {
		if err := unix.Setns(fd, 0); err != nil {
			return fmt.Errorf("entering %s: %w", j.Space, err)
		}
	}
	return nil
}

// drop gives up rights and makes this process end with the agent.
func (j job) drop() error {
	dir := j.Dir
	if dir == "" {
		dir = "/"
	}
	if err := os.Chdir(dir); err != nil {
		return err
	}
	if err := openFiles(); err != nil {
		return err
	}
	syscall.Umask(0o077)
	if j.UID == 0 {
		syscall.Umask(0o022)
	}
	if j.UID != 0 {
		if err := errors.Join(syscall.Setgroups(nil), syscall.Setgid(j.GID), syscall.Setuid(j.UID)); err != nil {
			return fmt.Errorf("becoming user %d: %w", j.UID, err)
		}
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return fmt.Errorf("giving up rights: %w", err)
		}
	}
	// After the change of user, which takes it back.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("tying to the agent: %w", err)
	}
	if os.Getppid() != j.Parent {
		return errors.New("the agent (process " + strconv.Itoa(j.Parent) + ") has ended")
	}
	return nil
}

// openFiles lets the program, and the containers that come from it, have as
// many files open as the machine allows: what a shell gives is too few.
func openFiles() error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("limit of open files: %w", err)
	}
	limit.Cur = limit.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("limit of open files: %w", err)
	}
	return nil
}
