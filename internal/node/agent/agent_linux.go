package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"lazurite.dev/internal/node"
	"lazurite.dev/internal/node/box"
	"lazurite.dev/internal/node/wire"
)

// stopTime is how long clusters may take to stop in order.
const stopTime = 2 * time.Minute

// Exec is the helper through which the agent starts programs.
func Exec() error { return box.Exec() }

// Run is the agent, until it is told to stop, or ctx ends: then clusters are
// stopped in order too.
func Run(ctx context.Context, o Options) error {
	if err := wire.CheckRange(o.Range); err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("the node agent needs root")
	}
	lock, err := lockInstance(ctx, o.Home)
	if err != nil {
		return err
	}
	defer lock.Close()
	root, err := box.Open(o.Home)
	if err != nil {
		return err
	}
	out := box.OpenLog(filepath.Join(root.State, "log", "agent.log"))
	defer out.Close()
	log := slog.New(slog.NewJSONHandler(out, nil))
	m := newMachine(o, root, log)
	defer m.starter.Close()
	// The socket first: who was told that there is an agent finds it, and waits.
	listener, err := listen(root, o.Owner)
	if err != nil {
		return err
	}
	tellReady()
	if err := silence(); err != nil {
		return err
	}
	err = serve(ctx, m, listener)
	log.Info("ended", slog.Bool("erased", m.erase))
	return err
}

// lockTime is how long an agent that was killed may take to be gone.
const lockTime = 3 * time.Second

// errLocked is that another agent has the state folder.
var errLocked = errors.New("a node agent runs for this state folder already")

// lockInstance makes this process the only agent of the state folder. One that
// was killed a moment ago holds the lock until the kernel has taken it apart.
func lockInstance(ctx context.Context, home string) (*os.File, error) {
	ctx, cancel := context.WithTimeout(ctx, lockTime)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		lock, err := tryLock(home)
		if lock != nil || err != nil && !errors.Is(err, errLocked) {
			return lock, err
		}
		select {
		case <-ctx.Done():
			if err == nil {
				err = errors.New("the node agent's folder does not stay")
			}
			return nil, err
		case <-tick.C:
		}
	}
}

// tryLock is one try; nil and no error is that the folder, which goes with an
// agent that ends, was another one meanwhile.
func tryLock(home string) (*os.File, error) {
	root, err := box.Open(home)
	if err != nil {
		return nil, err
	}
	dir, err := os.Open(root.Run)
	if err != nil {
		return nil, fmt.Errorf("locking the node agent: %w", err)
	}
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = errLocked
		}
		return nil, errors.Join(fmt.Errorf("locking the node agent: %w", err), dir.Close())
	}
	ours, err := dir.Stat()
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	if now, err := os.Stat(root.Run); err == nil && os.SameFile(ours, now) {
		return dir, nil
	}
	return nil, dir.Close()
}

// listen opens the socket, for the owner alone.
func listen(root box.Root, owner int) (net.Listener, error) {
	path := node.Socket(root.Instance)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	before := syscall.Umask(0o177)
	l, err := net.Listen("unix", path)
	syscall.Umask(before)
	if err != nil {
		return nil, fmt.Errorf("opening the node agent's socket: %w", err)
	}
	if err := os.Chown(path, owner, 0); err != nil {
		return nil, errors.Join(fmt.Errorf("opening the node agent's socket: %w", err), l.Close())
	}
	return l, nil
}

// silence lets go of the terminal: from now on there is the log.
func silence() error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	for fd := range 3 {
		if err := unix.Dup3(int(null.Fd()), fd, 0); err != nil {
			return fmt.Errorf("leaving the terminal: %w", err)
		}
	}
	return nil
}

// serve answers until the machine has ended.
func serve(ctx context.Context, m *machine, l net.Listener) error {
	srv := newServer(m)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	var background sync.WaitGroup
	work, stopWork := context.WithCancel(context.WithoutCancel(ctx))
	err := m.load(ctx)
	if err != nil { // what could not be taken away does not keep clusters from running
		m.log.Error("taking over what was left", slog.String("error", err.Error()))
	}
	close(m.loaded)
	m.log.Info("ready", slog.String("instance", m.root.Instance), slog.Int("clusters", len(m.all())))
	if !m.opt.Idle {
		background.Go(func() { m.care(work) })
	}
	err = nil
	select {
	case <-ctx.Done():
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
		err = m.end(stop, false)
		cancel()
	case <-m.ended: // it was asked to, and the answer is on its way
	case err = <-served:
	}
	stopWork()
	background.Wait()
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return errors.Join(err, srv.Shutdown(end))
}
