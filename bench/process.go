package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"lazurite.dev/internal/server"
)

// cloud is a laz with a state folder of its own.
type cloud struct {
	laz  string
	home server.Home
	env  []string
}

func (s *suite) cloud(name string) *cloud {
	home := filepath.Join(s.dir, name)
	env := []string{"LAZ_HOME=" + home, "HOME=" + s.dir, "PATH=" + os.Getenv("PATH")}
	return &cloud{laz: s.laz, home: server.Home(home), env: env}
}

// exec runs laz with args for its standard output.
func (c *cloud) exec(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, c.laz, args...)
	cmd.Env = c.env
	out, err := cmd.Output()
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		err = fmt.Errorf("laz %s: %w: %s", strings.Join(args, " "), err, failed.Stderr)
	}
	return strings.TrimSpace(string(out)), err
}

// process is a running server whose costs are counted.
type process struct {
	pid  int
	took time.Duration // from exec to the first answer
	stop func() error
}

// up starts the server in the foreground and waits until it answers.
func (c *cloud) up(ctx context.Context, words ...string) (*process, error) {
	cmd := exec.CommandContext(ctx, c.laz, append([]string{"up", "--offline", "--port", "0"}, words...)...)
	cmd.Env = c.env
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	// It prints its page when it answers.
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if strings.Contains(lines.Text(), "Ready") {
			took := time.Since(began)
			go func() {
				for lines.Scan() {
				}
			}()
			stop := func() error {
				if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
					return err
				}
				return cmd.Wait()
			}
			return &process{pid: cmd.Process.Pid, took: took, stop: stop}, nil
		}
	}
	return nil, fmt.Errorf("laz up: %w: %s", cmd.Wait(), stderr.String())
}

// cpu is what a process has used, with a resolution of one tick of the kernel or better.
func cpu(pid int) (time.Duration, error) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(tasks) == 0 {
		return 0, fmt.Errorf("process %d is gone: %w", pid, errors.Join(err, os.ErrNotExist))
	}
	var sum time.Duration
	for _, task := range tasks {
		raw, err := os.ReadFile(task)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue
		}
		if err != nil {
			return 0, err
		}
		ns, err := strconv.ParseInt(strings.Fields(string(raw))[0], 10, 64)
		if err != nil {
			return 0, err
		}
		sum += time.Duration(ns)
	}
	return sum, nil
}

// ownCPU is what this process has used.
func ownCPU() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// memory is a process's resident and proportional set.
func memory(pid int) (rss, pss int64, err error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(raw)) {
		f := strings.Fields(line)
		if len(f) != 3 || f[2] != "kB" {
			continue
		}
		n, err := strconv.ParseInt(f[1], 10, 64)
		if err != nil {
			return 0, 0, err
		}
		switch f[0] {
		case "Rss:":
			rss = n << 10
		case "Pss:":
			pss = n << 10
		}
	}
	return rss, pss, nil
}

// start measures how long `laz up` takes and what it holds when idle.
func (s *suite) start(ctx context.Context) error {
	var first, again []time.Duration
	for i := range s.n(20) {
		c := s.cloud("start" + strconv.Itoa(i))
		for _, list := range []*[]time.Duration{&first, &again} {
			p, err := c.up(ctx)
			if err != nil {
				return err
			}
			*list = append(*list, p.took)
			if err := p.stop(); err != nil {
				return err
			}
		}
	}
	var version []time.Duration
	for range s.n(40) {
		began := time.Now()
		if _, err := s.cloud("start0").exec(ctx, "version"); err != nil {
			return err
		}
		version = append(version, time.Since(began))
	}
	limit := median(version)
	row := func(what string, d time.Duration) {
		s.add(figure{what, ms(d), "the process alone (laz version) " + ms(limit), float64(d) / float64(limit), "< 50 ms", d < 50*time.Millisecond})
	}
	row("laz up, from exec to ready", median(again))
	row("laz up, the first time ever", median(first))
	return s.idle(ctx)
}

func (s *suite) idle(ctx context.Context) (err error) {
	c := s.cloud("idle")
	p, err := c.up(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	bare, err := startBare(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bare.stop()) }()
	wait(ctx, 2*time.Second)
	rss, pss, err := memory(p.pid)
	if err != nil {
		return err
	}
	bareRSS, barePSS, err := memory(bare.pid)
	if err != nil {
		return err
	}
	row := func(what string, got, limit int64) {
		s.add(figure{what, mib(got), "an idle Go HTTPS server " + mib(limit), float64(got) / float64(limit), "< 30 MB", got < 30e6})
	}
	row("laz up, idle, resident (RSS)", rss, bareRSS)
	row("laz up, idle, proportional (PSS)", pss, barePSS)
	return nil
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func median[T int64 | time.Duration](list []T) T {
	list = slices.Sorted(slices.Values(list))
	return list[len(list)/2]
}
