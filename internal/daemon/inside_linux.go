package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// becomeInside enters the network that file descriptor 4 is, with a resolv.conf
// of its own, gives up root, and becomes the program of the job at 3. It
// returns only when that came to nothing.
func becomeInside() error {
	runtime.LockOSThread()
	f := os.NewFile(insideJobFD, "job")
	var j insideJob
	if err := json.NewDecoder(f).Decode(&j); err != nil {
		return nil // there was nothing to become
	}
	_ = f.Close()
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("making a mount namespace: %w", err)
	}
	if err := unix.Setns(insideSpaceFD, unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("entering the network: %w", err)
	}
	_ = unix.Close(insideSpaceFD)
	if err := ownResolver(j.Resolver); err != nil {
		return fmt.Errorf("setting the resolver: %w", err)
	}
	if err := os.Chdir(j.Dir); err != nil {
		return err
	}
	if j.Drop {
		err := errors.Join(syscall.Setgroups(j.Groups), syscall.Setgid(j.GID), syscall.Setuid(j.UID))
		if err != nil {
			return fmt.Errorf("becoming user %d: %w", j.UID, err)
		}
	}
	if err := syscall.Exec(j.Path, j.Args, j.Env); err != nil {
		return exit{exitNotExecutable, fmt.Sprintf("%s: %v", j.Path, err)}
	}
	return nil
}

// ownResolver makes the machine's resolv.conf the network's, for this process
// and those it starts, and hides the services that would ask the machine's
// resolvers in its place.
func ownResolver(address string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return err
	}
	const conf = "/etc/resolv.conf"
	target, err := filepath.EvalSymlinks(conf)
	if err != nil {
		target = conf
	}
	hidden := false // target is in a folder that nobody else sees
	for _, dir := range []string{"/run/systemd/resolve", "/run/nscd", "/var/run/nscd"} {
		real, err := filepath.EvalSymlinks(dir)
		if err != nil {
			continue
		}
		if err := unix.Mount("tmpfs", real, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0755,size=64k"); err != nil {
			return err
		}
		hidden = hidden || strings.HasPrefix(target, real+"/")
	}
	text := []byte("# of a virtual network of Lazurite's\nnameserver " + address + "\n")
	if hidden {
		return os.WriteFile(target, text, 0o644)
	}
	if _, err := os.Stat(target); err != nil { // a file made here would be the machine's
		return fmt.Errorf("%s is needed, for another to lie over it: %w", conf, err)
	}
	file, err := os.CreateTemp("", "laz-resolv-")
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	err = errors.Join(err, file.Chmod(0o644), file.Close())
	if err == nil {
		err = unix.Mount(file.Name(), target, "", unix.MS_BIND, "")
	}
	return errors.Join(err, os.Remove(file.Name())) // the mount keeps it
}
