package cli

import (
	"context"
	"strings"
)

const poolType = clusterType + "/agentPools"

func poolCommands() []*command {
	return []*command{poolAdd(), poolScale(), poolUpdate(), poolDelete(), poolList(), poolShow(), poolWait(), poolUpgrades()}
}

func poolArgs() []arg {
	return []arg{
		opt("name", "Name of the pool.").or("-n", "--nodepool-name").required().idPart("child"),
		opt("cluster-name", "Name of the cluster.").required().idPart("name"),
		groupOpt(),
	}
}

func poolPath(c *call, m *management) string {
	return m.resource(c.text("resource-group"), poolType, c.text("cluster-name"), c.text("name"))
}

// showPool flattens a pool and writes its names as az does.
func showPool(v any) any {
	return withNulls(plainAcronyms(flatten(v)), "availabilityZones", "count", "creationData", "currentOrchestratorVersion", "enableAutoScaling",
		"enableEncryptionAtHost", "enableFips", "enableNodePublicIp", "enableUltraSsd", "gpuInstanceProfile", "hostGroupId", "kubeletConfig", "kubeletDiskType",
		"linuxOsConfig", "maxCount", "maxPods", "minCount", "mode", "nodeImageVersion", "nodeLabels", "nodePublicIpPrefixId", "nodeTaints", "orchestratorVersion",
		"osDiskSizeGb", "osDiskType", "osSku", "osType", "podSubnetId", "powerState", "provisioningState", "proximityPlacementGroupId", "scaleDownMode",
		"scaleSetEvictionPolicy", "scaleSetPriority", "spotMaxPrice", "tags", "typePropertiesType", "upgradeSettings", "vmSize", "vnetSubnetId", "workloadRuntime")
}

func poolTable() string {
	return "{Name:name, OsType:osType, KubernetesVersion:orchestratorVersion, VmSize:vmSize, Count:count, MaxPods:maxPods, ProvisioningState:provisioningState, Mode:mode}"
}

// poolFields are the options that add and update share.
func poolFields() []arg {
	return []arg{
		opt("mode", "Whether the cluster's own pods run there first.").oneOf("System", "User"),
		pairsOpt("labels", "Labels of the nodes, as KEY=VALUE separated by spaces; an empty string clears them."),
		opt("node-taints", "Taints of the nodes, as KEY=VALUE:EFFECT,…; an empty string clears them."),
		flagOpt("enable-cluster-autoscaler", "Let the number of nodes follow the pods.").or("-e"),
		numberOpt("min-count", "Nodes at least, with the autoscaler."), numberOpt("max-count", "Nodes at most, with the autoscaler."),
		tagsOpt(), noWaitOpt(),
	}
}

func (c *call) fillPool(props object) {
	if v := c.text("mode"); v != "" {
		props["mode"] = capital(strings.ToLower(v))
	}
	c.setIf(props, "nodeLabels", "labels")
	if c.given("node-taints") {
		props["nodeTaints"] = commas(c.text("node-taints"))
	}
	if c.flag("enable-cluster-autoscaler") {
		props["enableAutoScaling"] = true
	}
	c.setIf(props, "minCount", "min-count")
	c.setIf(props, "maxCount", "max-count")
	c.setIf(props, "tags", "tags")
}

func poolAdd() *command {
	return &command{path: "aks nodepool add", short: "Add a pool of nodes to a cluster.",
		example: "aks nodepool add --cluster-name myCluster -g myGroup -n pool2 --node-count 1",
		args: append(append(poolArgs(), poolFields()...),
			numberOpt("node-count", "Number of nodes.").or("-c").byDefault("3"),
			opt("node-vm-size", "Size of the nodes.").or("-s").byDefault("Standard_DS2_v2"),
			opt("kubernetes-version", "Version of Kubernetes.").or("-k"),
			opt("os-type", "Operating system of the nodes.").oneOf("Linux", "Windows").byDefault("Linux"),
			numberOpt("max-pods", "Pods on a node at most.").or("-m"),
			opt("priority", "Whether the nodes may be taken away.").oneOf("Regular", "Spot"),
			opt("vnet-subnet-id", "Id of the subnet of the nodes."),
			flagOpt("enable-node-public-ip", "Give each node a public address.")),
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			_, err := m.get(ctx, poolPath(c, m), clusterVersion)
			if err == nil {
				return nil, withHint(failf("Node pool %s already exists, please try a different name, use 'aks nodepool list' to get current list of node pool", c.text("name")), "To change it: az aks nodepool update")
			} else if !isStatus(err, 404) {
				return nil, err
			}
			props := object{"count": c.number("node-count"), "vmSize": c.text("node-vm-size"), "osType": c.text("os-type"), "type": "VirtualMachineScaleSets", "mode": "User"}
			c.setIf(props, "orchestratorVersion", "kubernetes-version")
			c.setIf(props, "maxPods", "max-pods")
			c.setIf(props, "scaleSetPriority", "priority")
			c.setIf(props, "vnetSubnetID", "vnet-subnet-id")
			if c.flag("enable-node-public-ip") {
				props["enableNodePublicIP"] = true
			}
			c.fillPool(props)
			return c.writePool(ctx, m, props)
		})}
}

func (c *call) writePool(ctx context.Context, m *management, props object) (any, error) {
	v, err := m.put(ctx, poolPath(c, m), clusterVersion, object{"properties": props}, c.flag("no-wait"))
	if v == nil {
		return nil, err
	}
	return showPool(v), err
}

// changePool reads a pool, changes it and writes it back.
func changePool(change func(*call, object) error) func(context.Context, *call) (any, error) {
	return manage(func(ctx context.Context, c *call, m *management) (any, error) {
		v, err := m.get(ctx, poolPath(c, m), clusterVersion)
		if err != nil {
			return nil, err
		}
		props, ok := at(v, "properties").(object)
		if !ok {
			return nil, failf("the pool %s has no properties", c.text("name"))
		}
		if err := change(c, props); err != nil {
			return nil, err
		}
		return c.writePool(ctx, m, props)
	})
}

func poolScale() *command {
	return &command{path: "aks nodepool scale", short: "Change the number of nodes of a pool.",
		example: "aks nodepool scale --cluster-name myCluster -g myGroup -n pool2 --node-count 2",
		args:    append(poolArgs(), numberOpt("node-count", "Number of nodes.").or("-c").byDefault("3"), noWaitOpt()),
		run: changePool(func(c *call, props object) error {
			n := c.number("node-count")
			if at(props, "count") != nil && asInt(props["count"]) == n {
				return failf("The new node count is the same as the current node count.")
			}
			props["count"] = n
			return nil
		})}
}

func poolUpdate() *command {
	return &command{path: "aks nodepool update", short: "Change a pool; what isn't given stays.",
		example: "aks nodepool update --cluster-name myCluster -g myGroup -n pool2 --labels team=blue",
		args:    append(poolArgs(), poolFields()...),
		run: changePool(func(c *call, props object) error {
			c.fillPool(props)
			return nil
		})}
}

func poolDelete() *command {
	return &command{path: "aks nodepool delete", short: "Delete a pool and its nodes.", example: "aks nodepool delete --cluster-name myCluster -g myGroup -n pool2",
		args: append(poolArgs(), noWaitOpt(), yesOpt()),
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			if _, err := m.get(ctx, poolPath(c, m), clusterVersion); err != nil {
				return nil, err
			}
			return nil, m.delete(ctx, poolPath(c, m), clusterVersion, c.flag("no-wait"))
		})}
}

func poolList() *command {
	return &command{path: "aks nodepool list", short: "List the pools of a cluster.", example: "aks nodepool list --cluster-name myCluster -g myGroup",
		args: []arg{opt("cluster-name", "Name of the cluster.").required(), groupOpt()}, table: "[]." + poolTable(),
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			l, err := m.list(ctx, m.resource(c.text("resource-group"), clusterType, c.text("cluster-name"))+"/agentPools", clusterVersion)
			return each(l, showPool), err
		})}
}

func poolShow() *command {
	return &command{path: "aks nodepool show", short: "Show a pool.", example: "aks nodepool show --cluster-name myCluster -g myGroup -n nodepool1",
		args: poolArgs(), table: poolTable(),
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			v, err := m.get(ctx, poolPath(c, m), clusterVersion)
			return showPool(v), err
		})}
}

func poolWait() *command {
	return waitCommand("aks nodepool wait", "Wait until a pool is there, gone or in a state.", "aks nodepool wait --cluster-name myCluster -g myGroup -n pool2 --created",
		poolArgs(), func(c *call, m *management) (string, string) { return poolPath(c, m), clusterVersion })
}

func poolUpgrades() *command {
	return &command{path: "aks nodepool get-upgrades", short: "Show to what a pool can be upgraded.", example: "aks nodepool get-upgrades --cluster-name myCluster -g myGroup -n nodepool1",
		args: poolArgs(),
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			v, err := m.get(ctx, poolPath(c, m)+"/upgradeProfiles/default", clusterVersion)
			return flatten(v), err
		})}
}
