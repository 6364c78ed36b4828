package box

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
)

// Starter starts processes from one thread that never ends while the starter
// is open: the kernel's parent-death signal is the thread's, not the process's.
type Starter struct {
	self  string
	calls chan func()
}

// NewStarter starts the thread; Close ends it, and with it every process that
// it started.
func NewStarter() *Starter {
	s := &Starter{self: "/proc/self/exe", calls: make(chan func())}
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		for f := range s.calls {
			f()
		}
	}()
	return s
}

// Close kills what was started and still runs.
func (s *Starter) Close() { close(s.calls) }

// start starts the helper for j. The caller waits for the command.
func (s *Starter) start(cmd *exec.Cmd, j job) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	j.Parent = os.Getpid()
	cmd.ExtraFiles = append([]*os.File{r}, cmd.ExtraFiles...)
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	cmd.SysProcAttr.Setsid = true // no terminal, and no signal of its keys
	done := make(chan error)
	s.calls <- func() { done <- cmd.Start() }
	if err := <-done; err != nil {
		return errors.Join(fmt.Errorf("starting %s: %w", j.Path, err), w.Close())
	}
	// A job is longer than a pipe can hold only if the other side reads.
	if err := errors.Join(json.NewEncoder(w).Encode(j), w.Close()); err != nil {
		return errors.Join(fmt.Errorf("starting %s: %w", j.Path, err), cmd.Process.Kill(), wait(cmd))
	}
	return nil
}

func wait(cmd *exec.Cmd) error {
	_ = cmd.Wait() // it was killed
	return nil
}

// command is a helper that is yet to be started.
func (s *Starter) command() *exec.Cmd {
	return &exec.Cmd{Path: s.self, Args: []string{"laz", ExecCommand}, Dir: "/", Env: []string{}}
}
