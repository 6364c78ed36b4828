package box

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"lazurite.dev/internal/node"
)

// stateFolder is the agent's own inside the state folder of the user.
const stateFolder = "node"

// Root is what one agent has on the machine.
type Root struct {
	Instance string
	Run      string // /run/lazurite-INSTANCE, of root; gone after a restart of the machine
	State    string // short path to the agent's folder in the state folder: root's, 0700, kept
}

// RootOf names what the agent of a state folder has, without making anything.
func RootOf(home string) (Root, error) {
	instance, err := node.Instance(home)
	if err != nil {
		return Root{}, err
	}
	run := node.RunFolder(instance)
	return Root{Instance: instance, Run: run, State: filepath.Join(run, "state")}, nil
}

// Open makes the folders and mounts of the state folder home, or finds those
// of an agent before.
func Open(home string) (Root, error) {
	r, err := RootOf(home)
	if err != nil {
		return r, err
	}
	_, there := os.Lstat(r.Run)
	if err := r.open(home); err != nil {
		if errors.Is(there, os.ErrNotExist) { // what can't begin leaves nothing
			err = errors.Join(err, r.Close())
		}
		return r, err
	}
	return r, nil
}

func (r Root) open(home string) error {
	for _, dir := range []string{r.Run, r.spaces(), r.State} {
		if err := rootFolder(dir); err != nil {
			return err
		}
	}
	if err := r.holdSpaces(); err != nil {
		return err
	}
	return r.bindState(home)
}

// rootFolder makes dir, which lies in a folder of root's.
func rootFolder(dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("preparing the node agent: %w", err)
	}
	fi, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("preparing the node agent: %w", err)
	}
	if st, ok := fi.Sys().(*syscall.Stat_t); !fi.IsDir() || !ok || st.Uid != 0 {
		return fmt.Errorf("preparing the node agent: %s is no folder of root's", dir)
	}
	return nil
}

func (r Root) spaces() string { return filepath.Join(r.Run, "ns") }

// holdSpaces makes the folder of namespaces a mount of its own that is not
// shared: a mount namespace can be held nowhere else.
func (r Root) holdSpaces() error {
	if mounted, err := isMount(r.spaces()); err != nil || mounted {
		return err
	}
	if err := unix.Mount(r.spaces(), r.spaces(), "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("holding namespaces: %w", err)
	}
	if err := unix.Mount("", r.spaces(), "", unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("holding namespaces: %w", err)
	}
	return nil
}

// bindState makes node/ in the state folder and binds it at State. The state
// folder is the user's, who could replace node/ with a link to anything: so it
// is opened without following links, must be root's, and is afterwards reached
// only through the mount.
func (r Root) bindState(home string) error {
	if mounted, err := isMount(r.State); err != nil || mounted {
		return err
	}
	dir, err := unix.Open(home, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening the state folder: %w", err)
	}
	defer func() { _ = unix.Close(dir) }()
	if err := unix.Mkdirat(dir, stateFolder, 0o700); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("making the node agent's folder: %w", err)
	}
	own, err := unix.Openat(dir, stateFolder, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening the node agent's folder: %w", err)
	}
	defer func() { _ = unix.Close(own) }()
	var st unix.Stat_t
	if err := unix.Fstat(own, &st); err != nil {
		return fmt.Errorf("opening the node agent's folder: %w", err)
	}
	if st.Uid != 0 || st.Mode&0o077 != 0 {
		return fmt.Errorf("%s is not root's alone: remove it", filepath.Join(home, stateFolder))
	}
	if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", own), r.State, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("binding the node agent's folder: %w", err)
	}
	return nil
}

// Close takes the mounts and folders in Run away; what is in the state folder
// stays. Spaces must be gone.
func (r Root) Close() error {
	err := unmountUnder(r.Run)
	// Nothing is mounted there any more, so this removes folders of root's only.
	return errors.Join(err, os.RemoveAll(r.Run))
}

// Erase removes the agent's folder from the state folder home, after Close.
// Links in it are not followed.
func Erase(home string) error {
	dir, err := os.OpenRoot(home)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("opening the state folder: %w", err)
	}
	return errors.Join(dir.RemoveAll(stateFolder), dir.Close())
}
