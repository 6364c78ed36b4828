// Bench measures what users wait for and pay for, each figure beside its limit:
// what the machine itself needs for the part that can't be left out, measured
// in the same run. `make bench` runs it.
//
// CPU is that of the server's process, all threads, as the kernel counts it
// (getrusage for our own process, /proc for the server's): it holds TLS, HTTP,
// JSON, the log, and the garbage collector.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// figure is a row of the table.
type figure struct {
	what  string
	value string
	limit string  // what it is measured against, with its own figure
	ratio float64 // value to limit; 0: none
	goal  string
	met   bool
}

// suite is one run of all benchmarks.
type suite struct {
	laz     string // the binary
	dir     string // scratch
	quick   bool
	figures []figure
	say     io.Writer
}

func main() {
	laz := flag.String("laz", "bin/laz", "the laz binary to measure")
	bare := flag.Bool("bare", false, "be the limit: an idle HTTPS server that does nothing else")
	to := flag.String("to", "", "with -bare, be a reverse proxy in front of this `URL`")
	scoring := flag.Bool("scoring", false, "with -bare and -to, be the router of online endpoints")
	fake := flag.Bool("fake", false, "be a model's server with a fixed answer")
	quick := flag.Bool("quick", false, "less of everything, to see that it runs")
	only := flag.String("only", "", "the `parts` to measure, with commas between: start, requests, openai, router, outbound, policy, million, clusters, deployments, writer (default all)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var err error
	switch {
	case *bare:
		err = serveBare(ctx, *to, *scoring)
	case *fake:
		err = serveFake(ctx)
	default:
		err = run(ctx, *laz, *quick, *only)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, laz string, quick bool, only string) (err error) {
	laz, err = filepath.Abs(laz)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "laz-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	s := &suite{laz: laz, dir: dir, quick: quick, say: os.Stderr}
	began := time.Now()
	for _, part := range []struct {
		name, what string
		run        func(context.Context) error
	}{
		{"start", "start and memory", s.start}, {"requests", "requests", s.requests},
		{"openai", "the gateway to models", s.openai}, {"router", "the router of online endpoints", s.router}, {"outbound", "the way out of managed networks", s.outbound}, {"policy", "policy", s.policy}, {"million", "a million resources", s.million}, {"clusters", "clusters", s.clusters},
		{"deployments", "deployments of models", s.deployments},
		{"writer", "the built-in model", s.writer},
	} {
		if only != "" && !slices.Contains(strings.Split(only, ","), part.name) {
			continue
		}
		fmt.Fprintf(s.say, "measuring: %s\n", part.what)
		if err := part.run(ctx); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	fmt.Fprintf(s.say, "measured in %s\n\n", time.Since(began).Round(time.Second))
	return s.print(os.Stdout)
}

func (s *suite) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "what\tfigure\tlimit, of this run\tratio\tgoal\t")
	for _, f := range s.figures {
		ratio, verdict := "", "met"
		if f.ratio > 0 {
			ratio = fmt.Sprintf("%.2f", f.ratio)
		}
		switch {
		case f.goal == "":
			verdict = ""
		case !f.met:
			verdict = "NOT MET"
		}
		fmt.Fprintln(t, strings.Join([]string{f.what, f.value, f.limit, ratio, f.goal, verdict}, "\t"))
	}
	return t.Flush()
}

// n is how often something is done.
func (s *suite) n(full int) int {
	if s.quick {
		return max(full/20, 2)
	}
	return full
}

func (s *suite) add(f figure) { s.figures = append(s.figures, f) }

func ms(d time.Duration) string { return fmt.Sprintf("%.2f ms", float64(d)/1e6) }
func us(d time.Duration) string { return fmt.Sprintf("%.0f µs", float64(d)/1e3) }
func mib(b int64) string        { return fmt.Sprintf("%.1f MiB", float64(b)/(1<<20)) }
