// Build makes the distribution of Kubernetes that clusters run: it compiles
// the modules beside it into a cache keyed by everything that goes in, and
// points the cache's link "current" at the result. What is there already is
// not made again; the same input gives the same bytes.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "kube:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("kube/build", flag.ContinueOnError)
	source := flags.String("source", "kube", "folder of the modules")
	cache := flags.String("cache", "", "where the result is kept (default: lazurite/kube in the user's cache folder)")
	printPath := flags.Bool("print", false, "print the path of the cache's current distribution and do nothing")
	force := flags.Bool("force", false, "build again what is there already")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *cache == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return err
		}
		*cache = filepath.Join(user, "lazurite", "kube")
	}
	if *printPath {
		_, err := fmt.Println(filepath.Join(*cache, "current"))
		return err
	}
	abs, err := filepath.Abs(*source)
	if err != nil {
		return err
	}
	return build(ctx, abs, *cache, *force)
}

// build brings the cache to the state of the sources.
func build(ctx context.Context, source, cacheDir string, force bool) error {
	all, err := parts(ctx, source)
	if err != nil {
		return err
	}
	c := cache{cacheDir}
	whole := distributionKey(all)
	if c.isCurrent(whole) && !force {
		return nil
	}
	unlock, err := c.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	show := newProgress(os.Stderr, all, c, force)
	started := time.Now()
	for _, p := range all {
		if c.hasPart(p) && !force {
			continue
		}
		if err := c.makePart(p, func(dir string) error {
			b := builder{ctx: ctx, source: source, dir: dir, part: p, show: show}
			show.start(p)
			return p.make(&b)
		}); err != nil {
			show.end()
			if ctx.Err() != nil {
				return errors.New("interrupted; what is done is kept")
			}
			return fmt.Errorf("%s: %w", p.name, err)
		}
		show.finish(p)
	}
	show.end()
	if err := c.assemble(all, whole, force); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "kube: ready after %s in %s\n", time.Since(started).Round(time.Second), filepath.Join(cacheDir, "current"))
	return nil
}
