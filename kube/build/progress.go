package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"time"
)

// progress shows what is built, for how long, and how long it may still take:
// one line that is rewritten on a terminal, a line every half minute elsewhere.
type progress struct {
	w        io.Writer
	terminal bool
	count    int           // parts to build
	estimate time.Duration // of all of them
	begun    time.Time
	stop     chan struct{}
	done     sync.WaitGroup

	mu      sync.Mutex
	number  int // of the part that is built
	part    part
	started time.Time
	what    string
	total   int     // packages of the step
	n       int     // of them, compiled
	spent   float64 // processor seconds of the estimate that lie behind
	all     float64
}

func newProgress(w *os.File, all []part, c cache, force bool) *progress {
	info, err := w.Stat()
	p := &progress{w: w, terminal: err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb", begun: time.Now(), stop: make(chan struct{})}
	for _, one := range all {
		if force || !c.hasPart(one) {
			p.count++
			p.all += one.cpu
		}
	}
	p.estimate = time.Duration(p.all/float64(runtime.NumCPU())) * time.Second
	if p.count > 0 {
		fmt.Fprintf(w, "kube: building %d of %d parts of the distribution; the first time this takes about %s with %d processors, later only what changed\n",
			p.count, len(all), minutes(p.estimate), runtime.NumCPU())
	}
	every := 30 * time.Second
	if p.terminal {
		every = time.Second
	}
	p.done.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-p.stop:
				return
			case <-tick.C:
				p.line()
			}
		}
	})
	return p
}

func (p *progress) start(one part) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.number++
	p.part, p.started, p.what, p.total, p.n = one, time.Now(), "", 0, 0
}

func (p *progress) doing(what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.what = what
}

func (p *progress) packages(total int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.what, p.total, p.n = "", total, 0
}

func (p *progress) compiled() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.n++
}

func (p *progress) finish(one part) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.spent += one.cpu
	clear := ""
	if p.terminal {
		clear = "\r\x1b[K"
	}
	fmt.Fprintf(p.w, "%skube: %d/%d %s: done in %s\n", clear, p.number, p.count, one.name, time.Since(p.started).Round(time.Second))
}

// end stops the line; it may be called once.
func (p *progress) end() {
	close(p.stop)
	p.done.Wait()
	if p.terminal {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}

// line shows where the build is. What is left is what the estimate says, less
// the share of packages that are compiled.
func (p *progress) line() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.number == 0 {
		return
	}
	what, share := p.what, 0.0
	if what == "" && p.total > 0 {
		what, share = fmt.Sprintf("package %d of %d", p.n, p.total), float64(p.n)/float64(p.total)
	}
	elapsed := time.Since(p.begun)
	left := time.Duration((p.all - p.spent - share*p.part.cpu) / p.all * float64(p.estimate))
	if behind := (p.spent + share*p.part.cpu) / p.all; behind > 0.2 { // enough to go by this machine's own pace
		left = time.Duration(float64(elapsed) * (1 - behind) / behind)
	}
	text := fmt.Sprintf("kube: %d/%d %s: %s, %s, about %s left", p.number, p.count, p.part.name, what, elapsed.Round(time.Second), minutes(left))
	if p.terminal {
		fmt.Fprintf(p.w, "\r\x1b[K%.79s", text) // a longer one would leave lines behind on a narrow terminal
	} else {
		fmt.Fprintln(p.w, text)
	}
}

func minutes(d time.Duration) string {
	if d < time.Minute {
		return "a minute"
	}
	return fmt.Sprintf("%d minutes", int(d.Round(time.Minute).Minutes()))
}
