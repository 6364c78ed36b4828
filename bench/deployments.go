package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

const (
	learningGroup     = "benchml"
	learningWorkspace = "wsbench"
	learningEndpoint  = "bench-endpoint"
)

// deployments measures what who deploys a model waits for: from `az ml
// online-deployment create` to the first score, of the first deployment of a
// workspace, which makes its cluster, and of the second. The limits are a pod that
// does nothing, from the making of its cluster on, and on a node that is there.
func (s *suite) deployments(ctx context.Context) (err error) {
	bin := filepath.Dir(s.laz)
	lacks := func(file string) bool {
		_, err := os.Stat(filepath.Join(bin, filepath.FromSlash(file)))
		return err != nil
	}
	const not = "online deployments are not measured: that needs "
	switch {
	case runtime.GOOS != "linux" || os.Geteuid() != 0:
		fmt.Fprintln(s.say, not+"root, on Linux: sudo make bench")
		return nil
	case lacks("kube/bin/kubernetes"):
		fmt.Fprintln(s.say, not+"Kubernetes in "+filepath.Join(bin, "kube")+": make kube")
		return nil
	case lacks("images/azureml-sklearn.tar"):
		fmt.Fprintln(s.say, not+"the image of the sample's environment, images/azureml-sklearn.tar in "+bin+": make images")
		return nil
	}
	c := s.cloud("deployments")
	c.env = append(c.env, "LAZ_KUBE="+filepath.Join(bin, "kube"))
	p, err := c.up(ctx, "--clusters", "embedded", "--config", filepath.Join("e2e", "walkthroughs", "endpoints.yaml"))
	if err != nil {
		return err
	}
	defer func() {
		_, purge := c.exec(context.WithoutCancel(ctx), "down", "--purge", "--yes")
		err = errors.Join(err, purge)
		_ = p.stop() // it has ended with that
	}()
	born, second, err := c.idlePods(ctx)
	if err != nil {
		return fmt.Errorf("the pods that do nothing: %w", err)
	}
	az := func(words ...string) error {
		_, err := c.exec(ctx, append([]string{"run", "--", "az"}, words...)...)
		return err
	}
	in := []string{"-g", learningGroup, "-w", learningWorkspace}
	const online = "e2e/walkthroughs/sample/endpoints/online/"
	for _, words := range [][]string{
		{"group", "create", "-n", learningGroup, "-l", "eastus"},
		{"ml", "workspace", "create", "-g", learningGroup, "-n", learningWorkspace, "-l", "eastus"},
		append([]string{"ml", "online-endpoint", "create", "-n", learningEndpoint, "-f", online + "managed/sample/endpoint.yml"}, in...),
	} {
		if err := az(words...); err != nil {
			return err
		}
	}
	for _, d := range []struct {
		name, what, limit string
		least             time.Duration
	}{
		{"blue", "first deployment of a workspace, from az ml online-deployment create to a score", "a new cluster's first pod Running ", born},
		{"green", "second deployment, from az ml online-deployment create to a score", "a pod that does nothing, Running ", second},
	} {
		began := time.Now()
		if err := az(append([]string{"ml", "online-deployment", "create", "-n", d.name, "-e", learningEndpoint, "-f", online + "managed/sample/blue-deployment.yml"}, in...)...); err != nil {
			return err
		}
		if err := az(append([]string{"ml", "online-endpoint", "invoke", "-n", learningEndpoint, "--deployment-name", d.name, "--request-file", online + "model-1/sample-request.json"}, in...)...); err != nil {
			return err
		}
		took := time.Since(began)
		s.add(figure{what: d.what, value: secs(took), limit: d.limit + secs(d.least), ratio: took.Seconds() / d.least.Seconds()})
	}
	return nil
}

// idlePods is how long pods of one container that does nothing take to run: one
// in a new cluster, from its making on, and another one after it. The cluster is
// gone after that.
func (c *cloud) idlePods(ctx context.Context) (born, second time.Duration, err error) {
	if _, err := c.exec(ctx, "group", "create", "--name", clusterGroup, "--location", "eastus", "--output", "none"); err != nil {
		return 0, 0, err
	}
	began := time.Now()
	created := make(chan error, 1)
	go func() {
		_, err := c.exec(ctx, "aks", "create", "--resource-group", clusterGroup, "--name", clusterName, "--node-count", "1", "--no-ssh-key", "--output", "none")
		created <- err
	}()
	var k *kubeAPI
	err = until(ctx, 3*time.Minute, "the API server is ready", func() bool { k = c.ready(ctx); return k != nil })
	if err == nil {
		err = k.runPod(ctx, "first")
		born = time.Since(began)
	}
	if err = errors.Join(err, <-created); err != nil {
		return 0, 0, err
	}
	began = time.Now()
	if err := k.runPod(ctx, "second"); err != nil {
		return 0, 0, err
	}
	second = time.Since(began)
	_, err = c.exec(ctx, "aks", "delete", "--resource-group", clusterGroup, "--name", clusterName, "--yes", "--output", "none")
	return born, second, err
}

// runPod makes a pod, as soon as it is taken, and waits until it runs.
func (k *kubeAPI) runPod(ctx context.Context, name string) error {
	return until(ctx, 3*time.Minute, "the pod "+name+" runs", func() bool {
		if phase := k.phase(ctx, name); phase != "" {
			return phase == "Running"
		}
		_ = k.do(ctx, http.MethodPost, "/api/v1/namespaces/default/pods", podOf(name, ""), nil) // until its service account is there
		return false
	})
}
