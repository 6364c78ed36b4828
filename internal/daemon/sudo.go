package daemon

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// dropSudo gives up root for good when the command was started by sudo:
// everything these commands do is the invoking user's. What needs root is the
// node agent's, a process of its own.
func dropSudo() error {
	name := os.Getenv("SUDO_USER")
	if os.Geteuid() != 0 || name == "" || name == "root" {
		return nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return fmt.Errorf("started by sudo: %w", err)
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return fmt.Errorf("started by sudo: user id %q: %w", u.Uid, err)
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return fmt.Errorf("started by sudo: group id %q: %w", u.Gid, err)
	}
	groups, err := groupIDs(u)
	if err != nil {
		return err
	}
	for _, step := range []error{syscall.Setgroups(groups), syscall.Setgid(gid), syscall.Setuid(uid), os.Setenv("HOME", u.HomeDir)} {
		if step != nil {
			return fmt.Errorf("becoming user %s: %w", name, step)
		}
	}
	return nil
}

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
