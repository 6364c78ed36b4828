package cli

import (
	"context"
	"regexp"
	"strings"
)

const (
	clusterType    = "Microsoft.ContainerService/managedClusters"
	clusterVersion = "2025-02-01"
)

func aksNoun() noun {
	return noun{name: "aks", short: "Manage Kubernetes clusters.",
		groups: map[string]string{"oidc-issuer": "Manage the issuer of service-account tokens.", "nodepool": "Manage the pools of nodes of a cluster."},
		commands: func() []*command {
			return append(poolCommands(), aksScale(), aksVersions(), aksUpgrade(), aksUpgrades(), aksInstallCLI(), aksCreate(), aksUpdate(), aksShow(), aksList(), aksDelete(), aksWait(), aksCredentials(), aksRotateIssuer(),
				aksPower("start", "Start a stopped cluster."), aksPower("stop", "Stop a cluster; its settings are kept."))
		}}
}

func clusterPath(c *call, m *management) string {
	return m.resource(c.text("resource-group"), clusterType, c.text("name"))
}

// showCluster flattens a cluster and writes its names as az does.
func showCluster(v any) any {
	out, ok := plainAcronyms(flatten(v)).(object)
	if !ok {
		return v
	}
	for _, p := range items(out["agentPoolProfiles"]) {
		withNulls(p, "availabilityZones", "creationData", "enableEncryptionAtHost", "enableUltraSsd", "gpuInstanceProfile", "hostGroupId", "kubeletConfig",
			"linuxOsConfig", "maxCount", "minCount", "nodeImageVersion", "nodeLabels", "nodePublicIpPrefixId", "nodeTaints", "podSubnetId",
			"proximityPlacementGroupId", "scaleSetEvictionPolicy", "scaleSetPriority", "spotMaxPrice", "tags", "upgradeSettings", "vnetSubnetId", "workloadRuntime")
	}
	withNulls(out["identity"], "userAssignedIdentities")
	withNulls(out["networkProfile"], "loadBalancerProfile", "natGatewayProfile", "networkMode", "networkPolicy")
	withNulls(out["securityProfile"], "azureKeyVaultKms", "defender")
	pythonTimes(out["systemData"], "createdAt", "lastModifiedAt")
	return withNulls(out, "aadProfile", "addonProfiles", "agentPoolProfiles", "apiServerAccessProfile", "autoScalerProfile", "autoUpgradeProfile",
		"azurePortalFqdn", "currentKubernetesVersion", "disableLocalAccounts", "diskEncryptionSetId", "dnsPrefix", "enableRbac", "extendedLocation",
		"fqdn", "fqdnSubdomain", "httpProxyConfig", "identity", "identityProfile", "kubernetesVersion", "linuxProfile", "networkProfile",
		"nodeResourceGroup", "oidcIssuerProfile", "podIdentityProfile", "powerState", "privateFqdn", "privateLinkResources", "provisioningState",
		"publicNetworkAccess", "securityProfile", "servicePrincipalProfile", "sku", "storageProfile", "supportPlan", "systemData", "tags", "windowsProfile")
}

// plainAcronyms writes member names as az's model of clusters does: issuerURL
// is issuerUrl, linuxOSConfig is linuxOsConfig. Maps whose keys users choose
// stay as they are.
func plainAcronyms(v any) any {
	switch t := v.(type) {
	case []any:
		return each(t, plainAcronyms)
	case object:
		out := make(object, len(t))
		for k, x := range t {
			switch k {
			case "tags", "nodeLabels", "userAssignedIdentities", "config":
				out[k] = x
			default:
				out[plainName(k)] = plainAcronyms(x)
			}
		}
		return out
	}
	return v
}

func plainName(s string) string {
	upper := func(i int) bool { return i >= 0 && i < len(s) && s[i] >= 'A' && s[i] <= 'Z' }
	b := []byte(s)
	for i := range b {
		if upper(i) && upper(i-1) && (upper(i+1) || i == len(b)-1) {
			b[i] += 'a' - 'A'
		}
	}
	return string(b)
}

// clusterFields are the options that create and update share.
func clusterFields() []arg {
	return []arg{
		flagOpt("enable-oidc-issuer", "Publish the keys that sign service-account tokens, so that identities can trust them."),
		flagOpt("enable-workload-identity", "Give pods that ask for it the token and the settings of an identity."),
		opt("kubernetes-version", "Version of Kubernetes.").or("-k"),
		boolOpt("disable-local-accounts", "Whether only directory users may reach the API server."),
		listOpt("api-server-authorized-ip-ranges", "Addresses that may reach the API server."),
		opt("tier", "Tier of the control plane.").oneOf("free", "premium", "standard"),
		tagsOpt(), noWaitOpt(), yesOpt(),
	}
}

// commas splits a list that is typed with commas.
func commas(s string) []string {
	list := []string{}
	for _, x := range strings.Split(s, ",") {
		if x = strings.TrimSpace(x); x != "" {
			list = append(list, x)
		}
	}
	return list
}

func (c *call) fillCluster(body object) {
	props := sub(body, "properties")
	if c.flag("enable-oidc-issuer") {
		sub(props, "oidcIssuerProfile")["enabled"] = true
	}
	if c.flag("enable-workload-identity") {
		sub(sub(props, "securityProfile"), "workloadIdentity")["enabled"] = true
	}
	c.setIf(props, "kubernetesVersion", "kubernetes-version")
	c.setIf(props, "disableLocalAccounts", "disable-local-accounts")
	if c.given("api-server-authorized-ip-ranges") {
		sub(props, "apiServerAccessProfile")["authorizedIPRanges"] = commas(strings.Join(c.many("api-server-authorized-ip-ranges"), ","))
	}
	if t := c.text("tier"); t != "" {
		body["sku"] = object{"name": "Base", "tier": capital(t)}
	}
	c.setIf(body, "tags", "tags")
}

func aksCreate() *command {
	args := append([]arg{nameOpt("Name of the cluster."), groupOpt(), locationOpt()}, clusterFields()...)
	args = append(append(append(args, firstPoolFields()...), networkFields()...), promiseFields()...)
	return &command{path: "aks create", short: "Create a Kubernetes cluster.",
		example: "aks create --name myCluster --resource-group myGroup --enable-oidc-issuer --enable-workload-identity --generate-ssh-keys",
		args: append(args,
			opt("dns-name-prefix", "Beginning of the host name of the API server.").or("-p"),
			opt("node-resource-group", "Group of the resources that belong to the nodes."),
			opt("attach-acr", "Registry, by name or id, from which the nodes may pull: its role AcrPull for the kubelet's identity."),
			opt("assign-identity", "Id of the identity of the control plane; without it the cluster gets one of its own."),
			flagOpt("enable-managed-identity", "Give the cluster an identity; it always gets one."),
			opt("admin-username", "User on the nodes.").or("-u").byDefault("azureuser"),
			opt("ssh-key-value", "Public key for the nodes, or its file.").byDefault("~/.ssh/id_rsa.pub"),
			flagOpt("generate-ssh-keys", "Make a key pair in ~/.ssh where there is none."),
			flagOpt("no-ssh-key", "No key for the nodes.").or("-x")),
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			loc, err := m.locationOf(ctx, c)
			if err != nil {
				return nil, err
			}
			body, err := c.newCluster(m, loc)
			if err != nil {
				return nil, err
			}
			registry, err := c.attached(ctx, m, "attach-acr")
			if err != nil {
				return nil, err
			}
			v, err := m.put(ctx, clusterPath(c, m), clusterVersion, body, c.flag("no-wait"))
			if v == nil || err != nil {
				return nil, err
			}
			if registry != "" {
				err = m.attach(ctx, v, registry)
			}
			return showCluster(v), err
		})}
}

func (c *call) newCluster(m *management, location string) (object, error) {
	props := object{"dnsPrefix": firstNonEmpty(c.text("dns-name-prefix"), dnsPrefix(c.text("name"), c.text("resource-group"), m.acct.ID)),
		"agentPoolProfiles": []any{c.firstPool()}, "enableRBAC": true, "kubernetesVersion": ""}
	c.setIf(props, "nodeResourceGroup", "node-resource-group")
	if !c.flag("no-ssh-key") {
		key, err := c.sshKey()
		if err != nil {
			return nil, err
		}
		props["linuxProfile"] = object{"adminUsername": c.text("admin-username"), "ssh": object{"publicKeys": []any{object{"keyData": key}}}}
	}
	c.fillNetwork(props)
	c.fillPromises(props)
	identity := object{"type": "SystemAssigned"}
	if id := c.text("assign-identity"); id != "" {
		identity = object{"type": "UserAssigned", "userAssignedIdentities": object{id: object{}}}
	}
	body := object{"location": location, "identity": identity, "properties": props}
	c.fillCluster(body)
	if props["kubernetesVersion"] == "" {
		delete(props, "kubernetesVersion")
	}
	return body, nil
}

// dnsPrefix is az's: ten characters of the name, sixteen of the group, six of
// the subscription.
func dnsPrefix(name, group, subscription string) string {
	clean := func(s string, n int) string {
		s = regexp.MustCompile(`[^A-Za-z0-9-]`).ReplaceAllString(s, "")
		return s[:min(len(s), n)]
	}
	p := clean(name, 10)
	if p == "" || p[0] >= '0' && p[0] <= '9' {
		p = "a" + p
	}
	return p + "-" + clean(group, 16) + "-" + subscription[:min(len(subscription), 6)]
}

func aksUpdate() *command {
	args := append([]arg{nameOpt("Name of the cluster."), groupOpt()}, clusterFields()...)
	return &command{path: "aks update", short: "Change a cluster.",
		example: "aks update --name myCluster --resource-group myGroup --enable-oidc-issuer --enable-workload-identity",
		args: append(args, flagOpt("disable-workload-identity", "Stop giving pods the token and the settings of an identity."),
			opt("attach-acr", "Registry, by name or id, from which the nodes may pull: its role AcrPull for the kubelet's identity."),
			opt("detach-acr", "Registry, by name or id, from which the nodes may pull no longer."),
			opt("network-policy", "What enforces network policies; with none they are refused.").oneOf("azure", "calico", "cilium", "none"),
			pairsOpt("nodepool-labels", "Labels of the nodes of all pools, as KEY=VALUE."), opt("nodepool-taints", "Taints of the nodes of all pools, as KEY=VALUE:EFFECT,….")),
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			if c.flag("enable-workload-identity") && c.flag("disable-workload-identity") {
				return nil, failf("Cannot specify --enable-workload-identity and --disable-workload-identity at the same time.")
			}
			v, err := m.get(ctx, clusterPath(c, m), clusterVersion)
			if err != nil {
				return nil, err
			}
			if changed, err := c.attachOrDetach(ctx, m, v); err != nil {
				return nil, err
			} else if changed && !c.changesCluster() {
				return showCluster(v), nil
			}
			body := v.(object)
			c.fillCluster(body)
			if c.flag("disable-workload-identity") {
				sub(sub(sub(body, "properties"), "securityProfile"), "workloadIdentity")["enabled"] = false
			}
			c.fillUpdate(sub(body, "properties"))
			delete(body, "systemData")
			v, err = m.put(ctx, clusterPath(c, m), clusterVersion, body, c.flag("no-wait"))
			if v == nil {
				return nil, err
			}
			return showCluster(v), err
		})}
}

// fillUpdate sets what update alone changes of a cluster that is there.
func (c *call) fillUpdate(props object) {
	if c.given("network-policy") {
		sub(props, "networkProfile")["networkPolicy"] = c.text("network-policy")
	}
	for _, p := range items(props["agentPoolProfiles"]) {
		c.setIf(asObject(p), "nodeLabels", "nodepool-labels")
		if c.given("nodepool-taints") {
			asObject(p)["nodeTaints"] = commas(c.text("nodepool-taints"))
		}
	}
}

func clusterTable() string {
	return "{Name:name, Location:location, ResourceGroup:resourceGroup, KubernetesVersion:kubernetesVersion, " +
		"CurrentKubernetesVersion:currentKubernetesVersion, ProvisioningState:provisioningState, Fqdn:fqdn}"
}

func aksShow() *command {
	return &command{path: "aks show", short: "Show a cluster.", example: "aks show -n myCluster -g myGroup --query oidcIssuerProfile.issuerUrl -o tsv",
		args: []arg{nameOpt("Name of the cluster."), groupOpt()}, table: clusterTable(),
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			v, err := m.get(ctx, clusterPath(c, m), clusterVersion)
			return showCluster(v), err
		})}
}

func aksList() *command {
	return &command{path: "aks list", short: "List clusters.", example: "aks list --resource-group myGroup", args: []arg{groupFilter()}, table: "[]." + clusterTable(),
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			l, err := m.list(ctx, m.listPath(c.text("resource-group"), clusterType), clusterVersion)
			return each(l, showCluster), err
		})}
}

func aksDelete() *command {
	return &command{path: "aks delete", short: "Delete a cluster and all that runs in it.", example: "aks delete -n myCluster -g myGroup --yes",
		args: []arg{nameOpt("Name of the cluster."), groupOpt(), yesOpt(), noWaitOpt()},
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			if err := c.confirm("Are you sure you want to perform this operation?"); err != nil {
				return nil, err
			}
			return nil, m.delete(ctx, clusterPath(c, m), clusterVersion, c.flag("no-wait"))
		})}
}

func aksWait() *command {
	return waitCommand("aks wait", "Wait until a cluster is there, gone or in a state.", "aks wait -n myCluster -g myGroup --created",
		[]arg{nameOpt("Name of the cluster."), groupOpt()}, func(c *call, m *management) (string, string) { return clusterPath(c, m), clusterVersion })
}

func aksPower(verb, short string) *command {
	return &command{path: "aks " + verb, short: short, example: "aks " + verb + " -n myCluster -g myGroup",
		args: []arg{nameOpt("Name of the cluster."), groupOpt(), noWaitOpt()}, run: aksAction(verb)}
}

func aksAction(action string) func(context.Context, *call) (any, error) {
	return manage(func(ctx context.Context, c *call, m *management) (any, error) {
		path := clusterPath(c, m) + "/" + action
		if c.flag("no-wait") {
			_, err := m.change(ctx, "POST", path, clusterVersion, []byte{})
			return nil, err
		}
		_, err := m.post(ctx, path, clusterVersion, nil)
		return nil, err
	})
}

func aksRotateIssuer() *command {
	return &command{path: "aks oidc-issuer rotate-signing-keys", short: "Renew the keys that sign service-account tokens.",
		example: "aks oidc-issuer rotate-signing-keys -n myCluster -g myGroup --yes",
		args:    []arg{nameOpt("Name of the cluster."), groupOpt(), yesOpt(), noWaitOpt()},
		run: func(ctx context.Context, c *call) (any, error) {
			if err := c.confirm("Be careful that rotate oidc issuer signing keys twice within short period will invalidate service accounts token immediately. Are you sure?"); err != nil {
				return nil, err
			}
			return aksAction("rotateServiceAccountSigningKeys")(ctx, c)
		}}
}
