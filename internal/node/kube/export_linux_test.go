package kube

import (
	"context"
	"os"
	"path"
	"strings"

	"lazurite.dev/internal/node"
	"lazurite.dev/internal/node/box"
)

// AlonePort is where the kubelet of a node alone says which pods it has.
const AlonePort = 10255

// Alone brings a node up without a control plane: containerd, and a kubelet
// with the configuration that nodes have, but for pods, which come from the
// folder that is returned.
func (c *Cluster) Alone(ctx context.Context, s node.Cluster, n node.Node) (Place, string, error) {
	place, err := c.place(ctx, s, n)
	if err != nil {
		return Place{}, "", err
	}
	run := func(name, program string, flags []string, ready func(context.Context) error) error {
		return c.cfg.Supervisor.Run(ctx, box.Process{
			Name: n.Name + "/" + name, Node: n.Name, Path: ViewBin + "/" + program, Args: flags, Space: place.Space, Cgroup: place.cgroup, Ready: ready,
		})
	}
	if err := run("containerd", "containerd", containerdFlags(), c.containerdReady(n.Name)); err != nil {
		return Place{}, "", err
	}
	if err := c.importAll(ctx, n.Name, place.Space); err != nil {
		return Place{}, "", err
	}
	config := kubeletConfig(s, n, place.NodePlace)
	config["staticPodPath"], config["readOnlyPort"] = path.Join(viewKubelet, "static"), AlonePort
	config["authentication"] = obj{"anonymous": obj{"enabled": false}, "webhook": obj{"enabled": false}}
	config["authorization"] = obj{"mode": "AlwaysAllow"}
	pods := c.nodeFolder(n.Name, "kubelet", "static")
	if err := os.Mkdir(pods, 0o700); err != nil {
		return Place{}, "", err
	}
	if err := os.WriteFile(c.nodeFolder(n.Name, "kubelet", "alone.json"), toJSON(config), 0o600); err != nil {
		return Place{}, "", err
	}
	flags := []string{"kubelet", "--config=" + path.Join(viewKubelet, "alone.json")}
	for _, f := range kubeletFlags(n, place.NodePlace) {
		if !strings.HasPrefix(f, "--config=") && !strings.HasPrefix(f, "--kubeconfig=") {
			flags = append(flags, f)
		}
	}
	return place.Place, pods, run("kubelet", "kubernetes", flags, kubeletReady(place.Space))
}
