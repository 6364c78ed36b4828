package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

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
		var err error
		if target, err = kubernetes(env); err != nil {
			return err
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

// kubernetes is the distribution's program, one for all of Kubernetes, which
// goes by the name that it is called by; "" where there is no distribution.
func kubernetes(env Env) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	for _, dir := range kubeFolders(self, configuredKubernetes(env), env) {
		if file := filepath.Join(dir, "bin", "kubernetes"); executable(file) == nil {
			return file, nil
		}
	}
	return "", nil
}

// configuredKubernetes is the distribution's folder in the configuration of the
// server that runs, or ran last; "" where it names none.
func configuredKubernetes(env Env) string {
	h, err := home(env)
	if err != nil {
		return ""
	}
	e, err := h.ReadEndpoint()
	if err != nil {
		return ""
	}
	return e.Kubernetes
}

const kubectlUsage = `Run the kubectl of Lazurite's Kubernetes, in the environment of laz env.

    laz kubectl ARGUMENT…

It is the one that make kube built, of the same version as the clusters, and its
kubeconfig is the state folder's, which az aks get-credentials writes to.

Example:
    az aks get-credentials --name myCluster --resource-group myGroup && laz kubectl get pods -A
`

// kubectl becomes the distribution's kubectl.
func kubectl(_ context.Context, args []string, env Env) error {
	h, err := home(env)
	if err != nil {
		return err
	}
	e, err := endpoint(h)
	if err != nil {
		return err
	}
	file, err := kubernetes(env)
	if err != nil {
		return err
	}
	if file == "" {
		return exit{exitNoCommand, "there is no distribution of Kubernetes on this machine, and kubectl is a part of it: build it with `make kube`, or install your system's kubectl and use it under `laz run`"}
	}
	vars := append(variables(h, e), variable{"PATH", pathWith(env.Getenv("PATH"), h, true)})
	err = syscall.Exec(file, append([]string{"kubectl"}, args...), withVariables(env.Environ(), vars, nil))
	return exit{exitNotExecutable, fmt.Sprintf("%s: %v", file, err)}
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
