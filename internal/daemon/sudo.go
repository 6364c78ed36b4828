package daemon

import (
	"context"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// invoker is on whose behalf a command runs: who said sudo, else who runs it.
type invoker struct {
	uid, gid int
	groups   []int
	name     string // "" unless root was given by sudo
	home     string
}

// invoking finds out. Everything these commands do is the invoking user's;
// what needs root is the node agent's, a process of its own.
func invoking() (invoker, error) {
	name := os.Getenv("SUDO_USER")
	if os.Geteuid() != 0 || name == "" || name == "root" {
		return invoker{uid: os.Geteuid(), gid: os.Getegid()}, nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return invoker{}, fmt.Errorf("started by sudo: %w", err)
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return invoker{}, fmt.Errorf("started by sudo: user id %q: %w", u.Uid, err)
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return invoker{}, fmt.Errorf("started by sudo: group id %q: %w", u.Gid, err)
	}
	groups, err := groupIDs(u)
	if err != nil {
		return invoker{}, err
	}
	return invoker{uid, gid, groups, name, u.HomeDir}, os.Setenv("HOME", u.HomeDir)
}

// become gives up root for good when it was given by sudo.
func (u invoker) become() error {
	if u.name == "" {
		return nil
	}
	for _, step := range []func() error{
		func() error { return syscall.Setgroups(u.groups) },
		func() error { return syscall.Setgid(u.gid) },
		func() error { return syscall.Setuid(u.uid) },
	} {
		if err := step(); err != nil {
			return fmt.Errorf("becoming user %s: %w", u.name, err)
		}
	}
	return nil
}

// asInvoker runs f as the invoking user, after first as root, where there is
// root; nil first does nothing. What first returns f finds in its Env.
func asInvoker(ctx context.Context, args []string, env Env, first rootWork, f func(context.Context, []string, Env) error) error {
	u, err := invoking()
	if err != nil {
		return err
	}
	var trouble error
	if first != nil && os.Geteuid() == 0 {
		// Without an agent all else goes on; its reason is told.
		env.agent, trouble = first(ctx, args, env, u)
	}
	if err := u.become(); err != nil {
		return err
	}
	if trouble != nil {
		fmt.Fprintf(env.Stderr, "WARNING: no clusters: %v\n", trouble)
	}
	return f(ctx, args, env)
}

// rootWork is what a command does before it gives up root.
type rootWork func(ctx context.Context, args []string, env Env, u invoker) (*waiting, error)

func groupIDs(u *user.User) ([]int, error) {
	ids, err := u.GroupIds()
	if err != nil {
		return nil, fmt.Errorf("groups of %s: %w", u.Username, err)
	}
	out := make([]int, 0, len(ids))
	for _, s := range ids {
		id, err := strconv.Atoi(s)
		if err != nil {
			return nil, fmt.Errorf("groups of %s: %w", u.Username, err)
		}
		out = append(out, id)
	}
	return out, nil
}
