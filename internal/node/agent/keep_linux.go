package agent

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Times of a keeper.
const (
	firstPause   = 200 * time.Millisecond // before a killed agent is started again; doubled each time
	longestPause = 30 * time.Second
	longLife     = time.Minute // of an agent, after which its end counts as the first
)

// Keep runs this program with the arguments, an agent, and runs it again when
// it dies of a signal or a panic. An agent that ends by itself has done what
// it was asked to, or has said why it can't. With ctx at its end it is asked to
// end. Nothing is begun before the byte at GoFD has come, where there is such a
// descriptor.
func Keep(ctx context.Context, args []string) error {
	link, err := awaitGo()
	if err != nil || link == nil && linked() {
		return err
	}
	pause := firstPause
	for {
		began := time.Now()
		cmd := exec.Command("/proc/self/exe", args...) // it is asked to end, not killed
		cmd.Args[0] = "laz"
		cmd.Stderr = os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if link != nil {
			cmd.ExtraFiles = []*os.File{link} // the first one tells that it answers
		}
		if err := cmd.Start(); err != nil {
			return err
		}
		if link != nil {
			_ = link.Close() // the agent has its own
			link = nil
		}
		// Its stderr is where we were started until it has its log; ours has no use.
		quiet := silence()
		stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(syscall.SIGTERM) })
		err := errors.Join(cmd.Wait(), quiet)
		stop()
		const panicked = 2 // the status of a Go program that panics
		if err == nil || ctx.Err() != nil {
			return err
		}
		if e, ok := errors.AsType[*exec.ExitError](err); !ok || e.Exited() && e.ExitCode() != panicked {
			return errors.New("it ended")
		}
		if time.Since(began) > longLife {
			pause = firstPause
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		pause = min(2*pause, longestPause)
	}
}

// linked reports whether somebody is at the other end of GoFD.
func linked() bool {
	var st unix.Stat_t
	return unix.Fstat(GoFD, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFSOCK
}

// awaitGo waits for the byte at GoFD, where there is such a descriptor; nil
// when there is none, or when no byte came.
func awaitGo() (*os.File, error) {
	if !linked() {
		return nil, nil
	}
	link := os.NewFile(GoFD, "go")
	_, err := link.Read(make([]byte, 1))
	if errors.Is(err, io.EOF) {
		return nil, nil
	}
	return link, err
}

// tellReady tells who started the agent that it answers now.
func tellReady() {
	if !linked() {
		return
	}
	link := os.NewFile(GoFD, "ready")
	_, _ = link.Write([]byte{1}) // who went away needs not know
	_ = link.Close()
}
