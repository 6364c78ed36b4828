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

	"lazurite.dev/internal/durable"
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

// Images are the archives that every cluster gets.
func (h Home) Images() string { return h.path("images") }

// Compute is what deployments of machine learning are made of.
func (h Home) Compute() string { return h.path("compute") }

// Environments are the images that were built for environments.
func (h Home) Environments() string { return h.path("environments") }

// Registries are the blobs of container registries.
func (h Home) Registries() string { return h.path("registries") }

// Blobs are the contents of storage accounts.
func (h Home) Blobs() string { return h.path("blobs") }

// Log is the log file of `laz up`.
func (h Home) Log() string { return h.path("log", "laz.log") }

// Run is the folder of what lives only as long as the server.
func (h Home) Run() string { return h.path("run") }

// Endpoint is the file that says where the running server is.
func (h Home) Endpoint() string { return h.path("run", "endpoint.json") }

// Socket is the admin socket.
func (h Home) Socket() string { return h.path("run", "laz.sock") }

func (h Home) lockFile() string { return h.path("run", "lock") }

// marker is the file by which a folder is known to be Lazurite's own, so that
// nobody's documents are taken for state, or purged with it.
const marker = "lazurite"

// Make creates the folder and those inside it, or takes rights away from
// others where they have any. A folder of another user is refused, and one
// that holds other things.
func (h Home) Make() error {
	if err := private(string(h)); err != nil {
		return fmt.Errorf("preparing the state folder: %w", err)
	}
	if err := h.mark(); err != nil {
		return fmt.Errorf("preparing the state folder: %w", err)
	}
	for _, dir := range []string{h.CA(), h.Data(), h.Keys(), h.Bin(), h.Azure(), filepath.Dir(h.Log()), h.Run()} {
		if err := private(dir); err != nil {
			return fmt.Errorf("preparing the state folder: %w", err)
		}
	}
	return nil
}

func (h Home) mark() error {
	if h.Ours() {
		return nil
	}
	there, err := os.ReadDir(string(h))
	if err != nil {
		return err
	}
	for _, e := range there {
		if e.Name() != filepath.Base(h.Azure()) && e.Name() != filepath.Base(h.Kubeconfig()) { // which clients may have made
			return fmt.Errorf("%s holds other things (%s, …): choose an empty folder as LAZ_HOME", string(h), e.Name())
		}
	}
	if err := os.WriteFile(h.path(marker), []byte("This folder is the state of Lazurite. `laz down --purge` removes it.\n"), 0o600); err != nil {
		return err
	}
	return durable.SyncDir(string(h)) // that it is there says all
}

// Ours reports whether the folder was made by Make.
func (h Home) Ours() bool {
	_, err := os.Stat(h.path(marker))
	return err == nil
}

// Purge removes the folder and everything in it. It refuses while a server has
// it, and when it was not made by Make.
func (h Home) Purge() error {
	if !h.Ours() {
		return fmt.Errorf("%s is no folder of Lazurite's", string(h))
	}
	if err := h.Make(); err != nil {
		return err
	}
	lock, err := h.lock()
	if err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(string(h)), lock.Close())
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

// Endpoint is what other commands must know of a running server.
type Endpoint struct {
	PID     int       `json:"pid"`
	Version string    `json:"version"`
	Started time.Time `json:"started"`
	Listen  string    `json:"listen"`          // of the front door, HOST:PORT as bound
	Local   string    `json:"local,omitempty"` // of the proxy, HOST:PORT as bound; "" when there is none
	Proxy   string    `json:"proxy,omitempty"` // the proxy's URL
	CA      string    `json:"ca"`              // file of all roots to trust: the system's and ours
	OwnCA   string    `json:"ownCA"`           // file of ours alone

	Kubernetes string `json:"kubernetes,omitempty"` // folder of the distribution, where the configuration names one
}

// ReadEndpoint reads where the server on the folder is; os.ErrNotExist when
// none runs. After a crash it may be the dead one's: Running tells.
func (h Home) ReadEndpoint() (Endpoint, error) {
	var e Endpoint
	raw, err := os.ReadFile(h.Endpoint())
	if err != nil {
		return e, err
	}
	if err := json.Unmarshal(raw, &e); err != nil {
		return e, fmt.Errorf("reading %s: %w", h.Endpoint(), err)
	}
	return e, nil
}

func (h Home) writeEndpoint(e Endpoint) error {
	raw, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		return err
	}
	tmp := h.Endpoint() + ".new"
	if err := os.WriteFile(tmp, append(raw, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, h.Endpoint())
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
