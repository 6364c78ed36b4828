package cli

import "strings"

// networkFields are the options of a new cluster's network, and what they set.
func networkFields() []arg {
	return []arg{
		opt("network-plugin", "Plugin that connects pods.").oneOf("azure", "kubenet", "none"),
		opt("network-plugin-mode", "How the plugin gives addresses.").oneOf("overlay"),
		opt("network-policy", "What enforces network policies; with none they are refused.").oneOf("azure", "calico", "cilium", "none"),
		opt("pod-cidr", "Addresses of pods."), opt("service-cidr", "Addresses of services."), opt("dns-service-ip", "Address of the cluster's DNS."),
		opt("outbound-type", "How pods reach what is outside.").oneOf("loadBalancer", "managedNATGateway", "userAssignedNATGateway", "userDefinedRouting", "none", "block"),
		opt("load-balancer-sku", "Kind of load balancer.").oneOf("basic", "standard"),
	}
}

func (c *call) fillNetwork(props object) {
	network := object{}
	for option, key := range map[string]string{"network-plugin": "networkPlugin", "network-plugin-mode": "networkPluginMode", "network-policy": "networkPolicy",
		"pod-cidr": "podCidr", "service-cidr": "serviceCidr", "dns-service-ip": "dnsServiceIP", "outbound-type": "outboundType", "load-balancer-sku": "loadBalancerSku"} {
		c.setIf(network, key, option)
	}
	if len(network) > 0 {
		props["networkProfile"] = network
	}
}

// firstPoolFields are the options of a new cluster's first pool.
func firstPoolFields() []arg {
	return []arg{
		numberOpt("node-count", "Number of nodes.").or("-c").byDefault("3"),
		opt("node-vm-size", "Size of the nodes.").or("-s").byDefault("Standard_DS2_v2"),
		opt("nodepool-name", "Name of the pool of nodes.").byDefault("nodepool1"),
		pairsOpt("nodepool-labels", "Labels of the nodes, as KEY=VALUE."),
		opt("nodepool-taints", "Taints of the nodes, as KEY=VALUE:EFFECT,…."),
		pairsOpt("nodepool-tags", "Tags of the pool, as KEY=VALUE."),
		numberOpt("max-pods", "Pods on a node at most.").or("-m"),
		opt("vnet-subnet-id", "Id of the subnet of the nodes."),
		listOpt("zones", "Availability zones of the nodes; kept and shown.").or("-z"),
		numberOpt("node-osdisk-size", "Size of the nodes' disks in GiB; kept and shown."),
		opt("os-sku", "Distribution of Linux; kept and shown."),
		flagOpt("enable-cluster-autoscaler", "Let the number of nodes follow the pods."),
		numberOpt("min-count", "Nodes at least, with the autoscaler."), numberOpt("max-count", "Nodes at most, with the autoscaler."),
		flagOpt("enable-node-public-ip", "Give each node a public address."),
		flagOpt("enable-encryption-at-host", "Encrypt the nodes' disks where they run."),
		flagOpt("enable-fips-image", "Nodes with validated cryptography."),
	}
}

func (c *call) firstPool() object {
	pool := object{"name": c.text("nodepool-name"), "count": c.number("node-count"), "vmSize": c.text("node-vm-size"), "mode": "System", "osType": "Linux",
		"type": "VirtualMachineScaleSets", "enableNodePublicIP": c.flag("enable-node-public-ip")}
	for option, key := range map[string]string{"max-pods": "maxPods", "vnet-subnet-id": "vnetSubnetID", "zones": "availabilityZones", "node-osdisk-size": "osDiskSizeGB",
		"os-sku": "osSKU", "min-count": "minCount", "max-count": "maxCount", "nodepool-labels": "nodeLabels", "nodepool-tags": "tags"} {
		c.setIf(pool, key, option)
	}
	for option, key := range map[string]string{"enable-cluster-autoscaler": "enableAutoScaling", "enable-encryption-at-host": "enableEncryptionAtHost", "enable-fips-image": "enableFIPS"} {
		if c.flag(option) {
			pool[key] = true
		}
	}
	if c.given("nodepool-taints") {
		pool["nodeTaints"] = commas(c.text("nodepool-taints"))
	}
	return pool
}

// promiseFields are options that promise what only some clouds keep: the
// server says which it does.
func promiseFields() []arg {
	return []arg{
		listOpt("enable-addons", "Add-ons of Azure's, separated by commas.").or("-a"),
		flagOpt("enable-private-cluster", "An API server with a private address."),
		flagOpt("enable-aad", "Let Entra sign in to the API server."),
		flagOpt("enable-azure-rbac", "Let Azure's roles decide in the cluster; goes with --enable-aad."),
		listOpt("aad-admin-group-object-ids", "Groups of administrators; goes with --enable-aad."),
		flagOpt("enable-defender", "Watch the cluster by Defender."),
		flagOpt("enable-image-cleaner", "Remove images that nobody uses."),
		flagOpt("enable-azure-keyvault-kms", "Encrypt secrets by a vault's key."),
		opt("node-osdisk-diskencryptionset-id", "Encrypt the nodes' disks by this set.").or("-d"),
		opt("service-principal", "Application that the cluster acts as."), opt("client-secret", "The application's secret."),
	}
}

func (c *call) fillPromises(props object) {
	addons := map[string]string{"http_application_routing": "httpApplicationRouting", "monitoring": "omsagent", "virtual-node": "aciConnectorLinux",
		"azure-policy": "azurepolicy", "kube-dashboard": "kubeDashboard", "ingress-appgw": "ingressApplicationGateway", "confcom": "ACCSGXDevicePlugin",
		"open-service-mesh": "openServiceMesh", "azure-keyvault-secrets-provider": "azureKeyvaultSecretsProvider"}
	for _, a := range commas(strings.Join(c.many("enable-addons"), ",")) {
		sub(sub(props, "addonProfiles"), firstNonEmpty(addons[a], a))["enabled"] = true
	}
	if c.flag("enable-private-cluster") {
		sub(props, "apiServerAccessProfile")["enablePrivateCluster"] = true
	}
	if c.flag("enable-aad") {
		aad := sub(props, "aadProfile")
		aad["managed"], aad["enableAzureRBAC"] = true, c.flag("enable-azure-rbac")
		c.setIf(aad, "adminGroupObjectIDs", "aad-admin-group-object-ids")
	}
	for option, path := range map[string][]string{
		"enable-defender": {"defender", "securityMonitoring"}, "enable-image-cleaner": {"imageCleaner"}, "enable-azure-keyvault-kms": {"azureKeyVaultKms"},
	} {
		if !c.flag(option) {
			continue
		}
		o := sub(props, "securityProfile")
		for _, p := range path {
			o = sub(o, p)
		}
		o["enabled"] = true
	}
	c.setIf(props, "diskEncryptionSetID", "node-osdisk-diskencryptionset-id")
	if id := c.text("service-principal"); id != "" {
		props["servicePrincipalProfile"] = object{"clientId": id, "secret": c.text("client-secret")}
	}
}
