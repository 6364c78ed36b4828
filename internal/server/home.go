package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Home is a state folder and knows what lies where in it.
type Home string

// The paths inside a Home.
func (h Home) path(elem ...string) string {
	return filepath.Join(append([]string{string(h)}, elem...)...)
}

// CA is the folder of the certificate authority.
func (h Home) CA() string { return h.path("ca") }

// Data is the folder of the database.
func (h Home) Data() string { return h.path("data") }

// Keys is the folder of the root key.
func (h Home) Keys() string { return h.path("keys") }

// Bin is the folder for the front of the PATH; it holds az and laz.
func (h Home) Bin() string { return h.path("bin") }

// Azure is the AZURE_CONFIG_DIR of clients.
func (h Home) Azure() string { return h.path("azure") }

// Kubeconfig is the KUBECONFIG of clients.
func (h Home) Kubeconfig() string { return h.path("kubeconfig") }

// Log is the log file of `laz up`.
func (h Home) Log() string { return h.path("log", "laz.log") }

// Run is the folder of what lives only as long as the server.
func (h Home) Run() string { return h.path("run") }

// State is the file that says where the running server is.
func (h Home) State() string { return h.path("run", "state.json") }

// Socket is the admin socket.
func (h Home) Socket() string { return h.path("run", "laz.sock") }

func (h Home) lockFile() string { return h.path("run", "lock") }

// Make creates the folder and those inside it, or takes rights away from
// others where they have any. A folder of another user is refused.
func (h Home) Make() error {
	for _, dir := range []string{string(h), h.CA(), h.Data(), h.Keys(), h.Bin(), h.Azure(), filepath.Dir(h.Log()), h.Run()} {
		if err := private(dir); err != nil {
			return fmt.Errorf("preparing the state folder: %w", err)
		}
	}
	return nil
}

func private(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	fi, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("%s belongs to user %d, not to you", dir, st.Uid)
	}
	if fi.Mode().Perm()&0o077 != 0 {
		return os.Chmod(dir, 0o700)
	}
	return nil
}

// RunningError says that another server has the state folder.
type RunningError struct {
	Home Home
	PID  int // 0 when unknown
}

// Error says where and who.
func (e *RunningError) Error() string {
	return fmt.Sprintf("Lazurite is running on %s already (pid %d)", string(e.Home), e.PID)
}

// lock takes the folder for this process until the file is closed or the
// process ends, however it ends.
func (h Home) lock() (*os.File, error) {
	f, err := os.OpenFile(h.lockFile(), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	// Whoever only looks holds the lock for an instant: try for a while.
	for range 20 {
		if err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); !errors.Is(err, syscall.EWOULDBLOCK) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if errors.Is(err, syscall.EWOULDBLOCK) {
		pid := readPID(f)
		return nil, errors.Join(&RunningError{Home: h, PID: pid}, f.Close())
	}
	if err == nil {
		err = errors.Join(f.Truncate(0), writeAt(f, strconv.Itoa(os.Getpid())+"\n"))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("locking the state folder: %w", err), f.Close())
	}
	return f, nil
}

func writeAt(f *os.File, s string) error {
	_, err := f.WriteAt([]byte(s), 0)
	return err
}

func readPID(f *os.File) int {
	raw, _ := io.ReadAll(io.NewSectionReader(f, 0, 32))
	pid, _ := strconv.Atoi(strings.TrimSpace(string(raw)))
	return pid
}

// Running says whether a server has the folder, and its process id.
func (h Home) Running() (pid int, running bool, err error) {
	f, err := os.OpenFile(h.lockFile(), os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	defer f.Close()
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return readPID(f), true, nil
	}
	return 0, false, err
}

// State is what other commands must know of a running server.
type State struct {
	PID     int       `json:"pid"`
	Version string    `json:"version"`
	Started time.Time `json:"started"`
	Listen  string    `json:"listen"` // HOST:PORT as bound
	Local   string    `json:"local"`  // HOST:PORT as bound, "" when there is none
}

// ReadState reads the state of the last server on the folder, which may be
// gone; os.ErrNotExist when there was none.
func (h Home) ReadState() (State, error) {
	var s State
	raw, err := os.ReadFile(h.State())
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(raw, &s); err != nil {
		return s, fmt.Errorf("reading %s: %w", h.State(), err)
	}
	return s, nil
}

func (h Home) writeState(s State) error {
	raw, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	tmp := h.State() + ".new"
	if err := os.WriteFile(tmp, append(raw, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, h.State())
}

// maxSocketPath is the shortest limit of the systems we run on, less the zero byte.
const maxSocketPath = 103

// SocketPath is a path for connecting to or binding the admin socket: Socket
// itself, or where that is too long for the kernel a short one to the same
// file, good until done is called.
func (h Home) SocketPath() (path string, done func(), err error) {
	if len(h.Socket()) <= maxSocketPath {
		return h.Socket(), func() {}, nil
	}
	if runtime.GOOS != "linux" {
		return "", nil, fmt.Errorf("%s is too long for a socket: choose a shorter LAZ_HOME", h.Socket())
	}
	dir, err := os.Open(h.Run())
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(h.Socket())), func() { _ = dir.Close() }, nil
}
