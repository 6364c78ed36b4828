package box

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"lazurite.dev/internal/node"
)

// run is one process in the care of a supervisor.
type run struct {
	s    *Supervisor
	p    Process
	out  *logFile
	quit chan struct{} // closed by stop
	done chan struct{} // closed when loop is over

	mu      sync.Mutex // guards what follows
	st      node.ProcessStatus
	failed  int           // ends before it was ready
	changed chan struct{} // closed at each change of what is guarded here
	killed  bool          // by stop: past its time
	quitted bool
}

func newRun(s *Supervisor, p Process) *run {
	return &run{
		s: s, p: p, out: openLogFile(s.Log(p.Name)), quit: make(chan struct{}), done: make(chan struct{}), changed: make(chan struct{}),
		st: node.ProcessStatus{Name: filepath.Base(p.Name), Node: p.Node, State: node.StateStarting, Since: time.Now()},
	}
}

func (r *run) status() node.ProcessStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.st
}

// set changes the status under the lock and wakes who waits for it.
func (r *run) set(f func(st *node.ProcessStatus)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.st.State
	f(&r.st)
	if r.st.State != before {
		r.st.Since = time.Now()
	}
	close(r.changed)
	r.changed = make(chan struct{})
}

// wait returns when the process is ready.
func (r *run) wait(ctx context.Context) error {
	for {
		r.mu.Lock()
		st, failed, changed := r.st, r.failed, r.changed
		r.mu.Unlock()
		switch {
		case st.State == node.StateRunning:
			return nil
		case st.State == node.StateStopped:
			return fmt.Errorf("%s was stopped", r.p.Name)
		case failed >= failures:
			return fmt.Errorf("%s ended %d times before it was ready: %s", r.p.Name, failed, st.Err)
		}
		select {
		case <-ctx.Done():
			if st.Err != "" {
				return fmt.Errorf("waiting for %s: %w (%s)", r.p.Name, ctx.Err(), st.Err)
			}
			return fmt.Errorf("waiting for %s: %w", r.p.Name, ctx.Err())
		case <-changed:
		}
	}
}

// loop starts the process again and again until it is to stop.
func (r *run) loop() {
	defer close(r.done)
	defer func() { _ = r.out.Close() }()
	pause := firstWait
	for {
		began := time.Now()
		err := r.once()
		if r.quitting() {
			r.set(func(st *node.ProcessStatus) { st.State, st.PID = node.StateStopped, 0 })
			return
		}
		if time.Since(began) > goodTime {
			pause = firstWait
		}
		r.s.log.Warn("a process ended", slog.String("process", r.p.Name), slog.String("error", err.Error()), slog.Duration("again in", pause))
		r.set(func(st *node.ProcessStatus) {
			if st.State == node.StateStarting {
				r.failed++
			}
			st.State, st.PID, st.Err = node.StateWaiting, 0, err.Error()
		})
		select {
		case <-r.quit:
		case <-time.After(pause):
		}
		pause = min(2*pause, longestWait)
		if r.quitting() {
			r.set(func(st *node.ProcessStatus) { st.State = node.StateStopped })
			return
		}
		r.set(func(st *node.ProcessStatus) { st.State = node.StateStarting; st.Restarts++ })
	}
}

func (r *run) quitting() bool {
	select {
	case <-r.quit:
		return true
	default:
		return false
	}
}

// once starts the process and returns how it ended.
func (r *run) once() error {
	r.out.forget()
	cmd, read, err := r.start()
	if err != nil {
		return err
	}
	r.set(func(st *node.ProcessStatus) { st.PID = cmd.Process.Pid })
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan struct{})
	probed := make(chan struct{})
	var hung error
	go func() {
		defer close(probed)
		r.probe(ctx)
		if hung = r.watch(ctx); hung != nil {
			_ = cmd.Process.Kill() // it may have ended
		}
	}()
	go r.end(cmd, ended)
	err = cmd.Wait()
	close(ended)
	cancel()
	<-probed
	select {
	case <-read: // its last words too
	case <-time.After(200 * time.Millisecond): // somebody else has the other end
	}
	if err == nil {
		err = errors.New("exit status 0")
	}
	if last := r.out.last(); last != "" {
		err = fmt.Errorf("%w: %s", err, last)
	}
	if hung != nil {
		err = hung // why it was killed says more than its last words
	}
	return err
}

// start starts the process; read is closed when all it printed was read.
func (r *run) start() (cmd *exec.Cmd, read <-chan struct{}, err error) {
	cmd = r.s.starter.command()
	pr, pw, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	cmd.Stdout, cmd.Stderr = pw, pw
	j := job{
		Path: r.p.Path, Args: r.p.Args, Env: append(defaultEnv(), r.p.Env...), Dir: r.p.Dir,
		Mounts: r.p.Mounts, UID: r.p.UID, GID: r.p.GID,
	}
	if r.p.Space != nil {
		j.Space = r.p.Space.dir
	}
	if r.p.Cgroup != nil {
		j.Cgroups = r.p.Cgroup.procs()
	}
	err = r.s.starter.start(cmd, j)
	_ = pw.Close() // the process has its own
	if err != nil {
		return nil, nil, errors.Join(err, pr.Close())
	}
	all := make(chan struct{})
	go func() {
		defer close(all)
		// Until the last one that has the other end is gone: a container's
		// shim may outlive the process, and must not die of a broken pipe.
		_, _ = io.Copy(r.out, pr)
		_ = pr.Close()
	}()
	return cmd, all, nil
}

// probe asks for readiness until it is there.
func (r *run) probe(ctx context.Context) {
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for r.p.Ready != nil {
		ask, cancel := context.WithTimeout(ctx, probeTime)
		err := r.p.Ready(ask)
		cancel()
		if err == nil {
			break
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
	if ctx.Err() == nil {
		r.set(func(st *node.ProcessStatus) { st.State = node.StateRunning; r.failed = 0 })
	}
}

// watch asks a program that was ready whether it does its work still, and
// returns what is wrong when it is to be killed; nil when ctx ends.
func (r *run) watch(ctx context.Context) error {
	l := r.p.Alive.orDefault()
	if l.Ask == nil || ctx.Err() != nil {
		return nil
	}
	tick := time.NewTicker(l.Every)
	defer tick.Stop()
	for failed := 0; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		ask, cancel := context.WithTimeout(ctx, l.Time)
		err := l.Ask(ask)
		cancel()
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			failed = 0
		default:
			failed++
		}
		if failed >= l.Failures {
			return fmt.Errorf("it did not answer %d times and was killed: %w", failed, err)
		}
	}
}

// end asks the process to end when it is to stop, and makes it end when it
// does not.
func (r *run) end(cmd *exec.Cmd, ended <-chan struct{}) {
	select {
	case <-ended:
		return
	case <-r.quit:
	}
	_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	limit := r.p.Stop
	if limit == 0 {
		limit = 10 * time.Second
	}
	select {
	case <-ended:
		return
	case <-time.After(limit):
	case <-r.kill():
	}
	r.s.log.Warn("a process had to be killed", slog.String("process", r.p.Name))
	_ = cmd.Process.Kill()
}

// kill is closed when there is no more time.
func (r *run) kill() <-chan struct{} {
	c := make(chan struct{})
	go func() {
		defer close(c)
		for {
			r.mu.Lock()
			killed, changed := r.killed, r.changed
			r.mu.Unlock()
			if killed {
				return
			}
			select {
			case <-r.done:
				return
			case <-changed:
			}
		}
	}()
	return c
}

// stop returns when the process has ended.
func (r *run) stop(ctx context.Context) error {
	r.mu.Lock()
	if !r.quitted {
		r.quitted = true
		close(r.quit)
	}
	r.mu.Unlock()
	select {
	case <-r.done:
		return nil
	case <-ctx.Done():
	}
	r.set(func(*node.ProcessStatus) { r.killed = true })
	select {
	case <-r.done:
		return nil
	case <-time.After(killTime):
		return fmt.Errorf("%s has been killed and is still there", r.p.Name)
	}
}
