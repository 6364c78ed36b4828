package box

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// mountPoint is a line of mountinfo, proc_pid_mountinfo(5).
type mountPoint struct{ target, kind string }

// mountsOf reads the mounts that a process sees, in their order.
func mountsOf(pid string) ([]mountPoint, error) {
	f, err := os.Open("/proc/" + pid + "/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("reading mounts: %w", err)
	}
	defer f.Close()
	var all []mountPoint
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		left, right, ok := strings.Cut(lines.Text(), " - ")
		l, r := strings.Fields(left), strings.Fields(right)
		if !ok || len(l) < 6 || len(r) < 1 {
			continue
		}
		all = append(all, mountPoint{target: unescape(l[4]), kind: r[0]})
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("reading mounts: %w", err)
	}
	return all, nil
}

// unescape undoes mountinfo's octal escapes.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

func isMount(dir string) (bool, error) {
	all, err := mountsOf("self")
	return slices.ContainsFunc(all, func(m mountPoint) bool { return m.target == dir }), err
}

// unmountUnder takes away every mount at dir and below, the last one first.
func unmountUnder(dir string) error {
	all, err := mountsOf("self")
	if err != nil {
		return err
	}
	var errs []error
	for _, m := range slices.Backward(all) {
		if m.target != dir && !strings.HasPrefix(m.target, dir+"/") {
			continue
		}
		if err := unix.Unmount(m.target, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) {
			errs = append(errs, fmt.Errorf("unmounting %s: %w", m.target, err))
		}
	}
	return errors.Join(errs...)
}

// Mount is one in a private mount namespace. Targets are made where missing:
// put a tmpfs at /run first, so that nothing is made on the host. A bind at /
// makes a tree of its own: nothing of the host's is seen in it but what the
// mounts after it bring.
type Mount struct {
	Source   string // on the host, for a bind; "" for a new tmpfs
	Target   string
	ReadOnly bool
	Shared   bool   // what is mounted below later is seen by the containers' namespaces: the kubelet's folder
	Options  string // of a tmpfs: "mode=0755,size=64m"
}

// tree is a mount's source, taken out of the host's namespace before that is left.
type tree struct {
	Mount
	fd     int // -1: none
	folder bool
}

func openTrees(mounts []Mount) ([]tree, error) {
	var out []tree
	for _, m := range mounts {
		t := tree{Mount: m, fd: -1, folder: true}
		if m.Source != "" {
			fi, err := os.Stat(m.Source)
			if err != nil {
				return nil, err
			}
			t.folder = fi.IsDir()
			if t.fd, err = unix.OpenTree(unix.AT_FDCWD, m.Source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE); err != nil {
				return nil, fmt.Errorf("taking %s: %w", m.Source, err)
			}
		}
		out = append(out, t)
	}
	return out, nil
}

// attach puts the mounts in place, in the mount namespace of this thread.
func attach(trees []tree) error {
	for _, t := range trees {
		if err := t.attach(); err != nil {
			return fmt.Errorf("mounting %s: %w", t.Target, err)
		}
	}
	return nil
}

func (t tree) attach() error {
	if t.Target == "/" {
		return t.root()
	}
	if err := makeTarget(t.Target, t.folder); err != nil {
		return err
	}
	if t.fd < 0 {
		options := t.Options
		if options == "" {
			options = "mode=0755"
		}
		return unix.Mount("tmpfs", t.Target, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, options)
	}
	defer func() { _ = unix.Close(t.fd) }()
	if err := t.move(t.Target); err != nil {
		return err
	}
	if t.ReadOnly {
		if err := unix.Mount("", t.Target, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
			return err
		}
	}
	if t.Shared {
		return unix.Mount("", t.Target, "", unix.MS_SHARED|unix.MS_REC, "")
	}
	return nil
}

// move puts the tree at target, and cuts the ties that it has with the host's:
// where the host's mounts are shared, as systemd makes them, the copy is their
// peer. What is mounted in it would be mounted on the host too, and it could
// not be a root, pivot_root(2).
func (t tree) move(target string) error {
	if err := unix.MoveMount(t.fd, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return err
	}
	return unix.Mount("", target, "", unix.MS_PRIVATE|unix.MS_REC, "")
}

// staging is a folder that every system has; for a moment the new root is there.
const staging = "/run"

// root makes the tree the root of this mount namespace and lets go of the old
// one, pivot_root(2), "pivot_root(".", ".")".
func (t tree) root() error {
	if t.fd < 0 {
		return errors.New("a new root needs a source")
	}
	defer func() { _ = unix.Close(t.fd) }()
	if err := t.move(staging); err != nil {
		return err
	}
	if err := os.Chdir(staging); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("changing the root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("letting go of the old root: %w", err)
	}
	return os.Chdir("/")
}

func makeTarget(path string, folder bool) error {
	if folder {
		return os.MkdirAll(path, 0o755)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// ownMounts makes this thread's mount namespace one in which nothing goes out
// or comes in, and lets go of what other clusters hold by mounts (namespaces,
// state folders): else what they give up would live on here.
func ownMounts() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	all, err := mountsOf("thread-self")
	if err != nil {
		return err
	}
	for _, m := range slices.Backward(all) {
		if m.kind != "nsfs" && !strings.HasPrefix(m.target, "/run/lazurite-") {
			continue
		}
		// One whose file has been removed meanwhile, elsewhere, is gone here too.
		if err := unix.Unmount(m.target, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("letting go of %s: %w", m.target, err)
		}
	}
	return nil
}
