package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"lazurite.dev/internal/image"
)

// builder makes one part in a folder of its own.
type builder struct {
	ctx    context.Context
	source string
	dir    string // becomes the part
	part   part
	show   *progress
}

// make compiles every step of the part and puts its image around it.
func (p part) make(b *builder) error {
	for _, s := range p.steps {
		if err := b.compile(s); err != nil {
			return err
		}
	}
	if p.image == nil {
		return nil
	}
	return b.image(*p.image)
}

// compile runs go build, which downloads what it needs, and counts the
// packages that it compiles.
func (b *builder) compile(s step) error {
	out := filepath.Join(b.dir, s.out)
	if strings.HasSuffix(s.out, "/") {
		out += "/"
	}
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return err
	}
	module := filepath.Join(b.source, b.part.module)
	tags := []string{"-tags", s.tags}
	b.show.doing("downloading modules")
	listed, err := output(b.ctx, module, append(append([]string{"go", "list", "-deps"}, tags...), s.packages...)...)
	if err != nil {
		return err
	}
	b.show.packages(strings.Count(listed, "\n") + 1)
	command := append([]string{"build", "-v", "-ldflags", "-s -w " + s.ldflags, "-o", out}, append(tags, s.packages...)...)
	c := exec.CommandContext(b.ctx, "go", command...)
	c.Dir, c.Env = module, environment(s.cgo)
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt ends the compilers too
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGTERM) }
	c.WaitDelay = 10 * time.Second
	said, err := c.StderrPipe()
	if err != nil {
		return err
	}
	if err := c.Start(); err != nil {
		return err
	}
	tail := b.count(said)
	if err := c.Wait(); err != nil {
		return fmt.Errorf("go %s: %w\n%s", strings.Join(command, " "), err, strings.Join(tail, "\n"))
	}
	return nil
}

// count counts the packages that go build names and returns the end of what it said.
func (b *builder) count(said io.Reader) []string {
	var tail []string
	lines := bufio.NewScanner(said)
	for lines.Scan() {
		b.show.compiled()
		if tail = append(tail, lines.Text()); len(tail) > 40 {
			tail = tail[1:]
		}
	}
	_, _ = io.Copy(io.Discard, said) // what is no line either: go build must not wait for a reader
	return tail
}

// image puts the compiled program into an archive, and takes it away.
func (b *builder) image(c container) (err error) {
	b.show.doing("writing the image")
	program := filepath.Join(b.dir, c.name)
	if err := os.MkdirAll(filepath.Join(b.dir, "images"), 0o755); err != nil {
		return err
	}
	out, err := os.OpenFile(filepath.Join(b.dir, "images", c.name+".tar"), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	name := "lazurite.dev/" + c.name + ":" + c.tag
	if err := image.Build(b.ctx, program, image.Config{Name: name, Ports: c.ports}, out); err != nil {
		return err
	}
	return os.Remove(program)
}
