package box

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"lazurite.dev/internal/node"
)

// Process is a program that is to run, and to run again whenever it ends.
type Process struct {
	Name string // unique in its supervisor: "etcd"; on a node "NODE/kubelet"
	Node string // "" for the control plane's

	Path string // inside its mounts
	Args []string
	Env  []string // "NAME=VALUE"; nothing else but a PATH is there
	Dir  string   // "" is /
	// Stamp changes when what the program reads at its start has changed (a
	// hash of its files): the next Run starts it anew then.
	Stamp string

	Space    *Space  // nil stays in the host's namespaces
	Mounts   []Mount // in a mount namespace of its own, on top of the space's
	Cgroup   *Cgroup // nil stays in the agent's
	UID, GID int     // 0 keeps root; others lose all rights for good

	// Ready reports that the program does its work; nil is ready when started.
	// It is asked again and again, each time with some seconds.
	Ready func(ctx context.Context) error
	// Alive reports that the program, which was ready, does its work still; nil
	// is never asked. One that hangs is killed, and started again.
	Alive Liveness
	// Stop is how long it may take to end by itself; 0 is 10 seconds.
	Stop time.Duration
}

// Liveness is how a program that was ready is watched. The zero Every, Time
// and Failures are those of kubeadm's static pods: 10 s, 15 s and 8.
type Liveness struct {
	Ask      func(ctx context.Context) error
	Every    time.Duration // between two questions
	Time     time.Duration // for an answer
	Failures int           // in a row, after which it is killed
}

func (l Liveness) orDefault() Liveness {
	if l.Every == 0 {
		l.Every = 10 * time.Second
	}
	if l.Time == 0 {
		l.Time = 15 * time.Second
	}
	if l.Failures == 0 {
		l.Failures = 8
	}
	return l
}

// key is what a change of means that the process must be started anew.
func (p Process) key() string {
	raw, _ := json.Marshal([]any{p.Path, p.Args, p.Env, p.Dir, p.Stamp, p.Mounts, p.UID, p.GID}) // plain data
	return string(raw)
}

// Times of a supervisor.
const (
	firstWait   = 500 * time.Millisecond // before a process that ended starts again; doubled each time
	longestWait = 20 * time.Second
	goodTime    = 30 * time.Second // after which an end counts as the first
	probeEvery  = 50 * time.Millisecond
	probeTime   = 5 * time.Second
	failures    = 4 // ends before it was ready after which Run gives up waiting
)

// Supervisor keeps the processes of one cluster running.
type Supervisor struct {
	starter *Starter
	logs    string // folder
	log     *slog.Logger

	mu   sync.Mutex // guards what follows
	runs []*run     // in the order of their start
}

// NewSupervisor makes one that writes the processes' output to the folder logs.
func NewSupervisor(s *Starter, logs string, log *slog.Logger) *Supervisor {
	return &Supervisor{starter: s, logs: logs, log: log}
}

// Log is the file that the process called name prints to; the older half is
// beside it with .1 at its end.
func (s *Supervisor) Log(name string) string {
	return filepath.Join(s.logs, filepath.Base(filepath.Dir("/"+name))+"-"+filepath.Base(name)+".log")
}

// Run starts p and returns when it is ready. One that runs already as p says
// is left alone, one that runs otherwise is started anew. On an error (ctx
// ended, or it ended several times before it was ready) it is tried on.
func (s *Supervisor) Run(ctx context.Context, p Process) error {
	s.mu.Lock()
	i := slices.IndexFunc(s.runs, func(r *run) bool { return r.p.Name == p.Name })
	var old *run
	if i >= 0 {
		old = s.runs[i]
		if old.p.key() == p.key() && old.p.Space.same(p.Space) {
			s.mu.Unlock()
			return old.wait(ctx)
		}
	}
	s.mu.Unlock()
	if old != nil {
		if err := old.stop(ctx); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(s.logs, 0o700); err != nil {
		return fmt.Errorf("preparing the logs: %w", err)
	}
	r := newRun(s, p)
	s.mu.Lock()
	if i := slices.IndexFunc(s.runs, func(r *run) bool { return r.p.Name == p.Name }); i >= 0 {
		s.runs[i] = r
	} else {
		s.runs = append(s.runs, r)
	}
	s.mu.Unlock()
	go r.loop()
	return r.wait(ctx)
}

// Stop stops the processes for which which is true (nil: all), the last one
// started first, each after the one before has ended, and forgets them. With
// ctx at its end they are killed at once.
func (s *Supervisor) Stop(ctx context.Context, which func(Process) bool) error {
	s.mu.Lock()
	runs := slices.Clone(s.runs)
	s.mu.Unlock()
	var errs []error
	for _, r := range slices.Backward(runs) {
		if which != nil && !which(r.p) {
			continue
		}
		errs = append(errs, r.stop(ctx))
		s.mu.Lock()
		s.runs = slices.DeleteFunc(s.runs, func(x *run) bool { return x == r })
		s.mu.Unlock()
	}
	return errors.Join(errs...)
}

// Status is the state of all processes in the order of their start.
func (s *Supervisor) Status() []node.ProcessStatus {
	s.mu.Lock()
	runs := slices.Clone(s.runs)
	s.mu.Unlock()
	var out []node.ProcessStatus
	for _, r := range runs {
		out = append(out, r.status())
	}
	return out
}
