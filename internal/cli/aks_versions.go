package cli

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
)

// asInt is a whole number of a decoded answer, -1 where it is none.
func asInt(v any) int {
	switch v := v.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return int(n)
		}
	case float64:
		return int(v)
	case int:
		return v
	}
	return -1
}

func aksScale() *command {
	return &command{path: "aks scale", short: "Change the number of nodes of a cluster.", example: "aks scale -n myCluster -g myGroup --node-count 2",
		args: []arg{nameOpt("Name of the cluster."), groupOpt(), numberOpt("node-count", "Number of nodes.").or("-c").required(),
			opt("nodepool-name", "Name of the pool; needed where there are several."), noWaitOpt()},
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			v, err := m.get(ctx, clusterPath(c, m), clusterVersion)
			if err != nil {
				return nil, err
			}
			body, ok := v.(object)
			pools, pool := items(at(v, "properties", "agentPoolProfiles")), c.text("nodepool-name")
			if !ok || len(pools) > 1 && pool == "" {
				return nil, failf("There are more than one node pool in the cluster. Please specify nodepool name or use az aks nodepool command to scale node pool")
			}
			for _, p := range pools {
				if pool != "" && textAt(p, "name") != pool {
					continue
				}
				if at(p, "enableAutoScaling") == true {
					return nil, failf("Cannot scale cluster autoscaler enabled node pool.")
				}
				asObject(p)["count"] = c.number("node-count")
				delete(body, "systemData")
				v, err = m.put(ctx, clusterPath(c, m), clusterVersion, body, c.flag("no-wait"))
				if v == nil {
					return nil, err
				}
				return showCluster(v), err
			}
			return nil, failf(`The nodepool "%s" was not found.`, pool)
		})}
}

func aksVersions() *command {
	return &command{path: "aks get-versions", short: "List the versions of Kubernetes that clusters can have.", example: "aks get-versions --location eastus",
		args:  []arg{locationOpt().required()},
		table: "values[].{KubernetesVersion:version, IsDefault:isDefault, SupportPlan:join(', ', capabilities.supportPlan)}",
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			return m.get(ctx, m.subPath+"/providers/Microsoft.ContainerService/locations/"+plainLocation(c.text("location"))+"/kubernetesVersions", clusterVersion)
		})}
}

func aksUpgrades() *command {
	return &command{path: "aks get-upgrades", short: "Show to what a cluster can be upgraded.", example: "aks get-upgrades -n myCluster -g myGroup",
		args:  []arg{nameOpt("Name of the cluster."), groupOpt()},
		table: "{Name:name, ResourceGroup:resourceGroup, MasterVersion:controlPlaneProfile.kubernetesVersion, Upgrades:join(', ', controlPlaneProfile.upgrades[].kubernetesVersion || ['None available'])}",
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			v, err := m.get(ctx, clusterPath(c, m)+"/upgradeProfiles/default", clusterVersion)
			return flatten(v), err
		})}
}

func aksUpgrade() *command {
	return &command{path: "aks upgrade", short: "Upgrade a cluster to a newer version of Kubernetes.", example: "aks upgrade -n myCluster -g myGroup --kubernetes-version 1.37.2 --yes",
		args: []arg{nameOpt("Name of the cluster."), groupOpt(), opt("kubernetes-version", "Version of Kubernetes.").or("-k"),
			flagOpt("control-plane-only", "Not the nodes."), flagOpt("node-image-only", "Only what nodes are made of."), noWaitOpt(), yesOpt()},
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			if c.flag("control-plane-only") || c.flag("node-image-only") {
				return nil, failf("control plane and nodes are of one distribution here and can't be upgraded apart: leave out --control-plane-only and --node-image-only")
			}
			v, err := m.get(ctx, clusterPath(c, m), clusterVersion)
			if err != nil {
				return nil, err
			}
			if c.text("kubernetes-version") == "" {
				return nil, withHint(usagef("the following arguments are required: --kubernetes-version/-k"), "To see which there are: az aks get-upgrades")
			}
			if err := c.confirm("Kubernetes may be unavailable during cluster upgrades.\n Are you sure you want to perform this operation?"); err != nil {
				return nil, err
			}
			body, ok := v.(object)
			if !ok {
				return nil, failf("the answer is no cluster")
			}
			props := sub(body, "properties")
			props["kubernetesVersion"] = c.text("kubernetes-version")
			for _, p := range items(props["agentPoolProfiles"]) {
				asObject(p)["orchestratorVersion"] = c.text("kubernetes-version")
			}
			delete(body, "systemData")
			v, err = m.put(ctx, clusterPath(c, m), clusterVersion, body, c.flag("no-wait"))
			if v == nil {
				return nil, err
			}
			return showCluster(v), err
		})}
}

// aksInstallCLI installs nothing: kubectl is part of the distribution.
func aksInstallCLI() *command {
	return &command{path: "aks install-cli", short: "Say where kubectl is; nothing is downloaded.", example: "aks install-cli", bare: true,
		args: []arg{opt("client-version", "Version; taken and not needed."), opt("install-location", "Taken and not needed.")},
		run: func(_ context.Context, c *call) (any, error) {
			for _, dir := range filepath.SplitList(c.env.Getenv("PATH")) {
				path := filepath.Join(dir, "kubectl")
				if info, err := os.Stat(path); err == nil && !info.IsDir() && info.Mode()&0o111 != 0 {
					c.warn("kubectl is at %s already; nothing was installed.", path)
					return nil, nil
				}
			}
			return nil, withHint(failf("there is no kubectl on the PATH, and none is downloaded."),
				"`laz kubectl` is the one that `make kube` builds, and `laz env` puts it on the PATH; or install your system's.")
		}}
}
