package box

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
)

// LinkPrefix begins the names of the instance's links on the host.
func (r Root) LinkPrefix() string { return "lz" + r.Instance + "-" }

// Sweep takes away everything of the instance but what it keeps in the state
// folder: processes, namespaces, links with their routes, cgroups, mounts,
// folders. It works from the names alone, also after a crash.
func (r Root) Sweep(ctx context.Context) error {
	var errs []error
	errs = append(errs, r.sweepCgroups(ctx))
	names, err := r.Spaces()
	errs = append(errs, err)
	for _, name := range names {
		sp := r.FindSpace(nil, name)
		if sp != nil {
			errs = append(errs, sp.Remove(ctx))
		}
	}
	errs = append(errs, r.sweepLinks(), r.Close())
	return errors.Join(errs...)
}

func (r Root) sweepCgroups(ctx context.Context) error {
	c, err := r.FindCgroup("")
	if err != nil {
		return err
	}
	return c.Remove(ctx)
}

func (r Root) sweepLinks() error {
	links, err := Listed(netlink.LinkList)
	if err != nil {
		return fmt.Errorf("listing links: %w", err)
	}
	var errs []error
	for _, l := range links {
		if name := l.Attrs().Name; strings.HasPrefix(name, r.LinkPrefix()) {
			errs = append(errs, RemoveLink(name))
		}
	}
	return errors.Join(errs...)
}

// RemoveLink removes a link of the namespace that the thread is in. Gone
// already is no error, also when it goes at the same moment, as links do with
// the namespace of their other end.
func RemoveLink(name string) error {
	link, err := netlink.LinkByName(name)
	if err == nil {
		err = netlink.LinkDel(link)
	}
	if err == nil || errors.As(err, new(netlink.LinkNotFoundError)) || errors.Is(err, syscall.ENODEV) {
		return nil
	}
	return fmt.Errorf("removing link %s: %w", name, err)
}

// Listed is what a listing of the kernel's gives. One that was interrupted by a
// change, of anybody's links or routes, is asked for again: it may lack what
// has been there all along.
func Listed[T any](list func() ([]T, error)) ([]T, error) {
	for range 50 {
		all, err := list()
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			return all, err
		}
	}
	return list()
}
