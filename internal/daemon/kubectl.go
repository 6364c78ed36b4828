package daemon

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"lazurite.dev/internal/server"
)

// links puts what programs of ours find on their PATH into the folder for it.
func links(h server.Home, env Env) error {
	return errors.Join(link(h), linkKubectl(h, env))
}

// linkKubectl puts the distribution's kubectl into the folder for the PATH
// where the machine has none of its own, and takes it away where it has.
func linkKubectl(h server.Home, env Env) error {
	link := filepath.Join(h.Bin(), "kubectl")
	target := ""
	if _, err := lookPath("kubectl", pathWith(env.Getenv("PATH"), h, false)); err != nil {
		self, err := os.Executable()
		if err != nil {
			return err
		}
		for _, dir := range kubeFolders(self, env) {
			// One program for all of Kubernetes, which goes by the name it is called by.
			if file := filepath.Join(dir, "bin", "kubernetes"); executable(file) == nil {
				target = file
				break
			}
		}
	}
	old, err := os.Readlink(link)
	if err != nil && !errors.Is(err, fs.ErrNotExist) || old == target {
		return nil // what is there is not ours, or as it should be
	}
	if target == "" {
		if filepath.Base(old) != "kubernetes" {
			return nil
		}
		return os.Remove(link)
	}
	return symlink(target, link)
}

// symlink makes a link, or replaces one, in one step.
func symlink(target, link string) error {
	tmp := link + ".new"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(target, tmp); err != nil {
		return err
	}
	return os.Rename(tmp, link)
}
