package kube

import (
	"fmt"
	"net/netip"
	"path"
	"runtime"
	"strconv"
	"strings"

	"lazurite.dev/internal/node"
)

// Where the parts of a node find their things, in the node's own tree. These
// are the usual places: what is installed in a cluster relies on them.
const (
	viewKubelet    = "/var/lib/kubelet"
	viewContainerd = "/var/lib/containerd"
	viewCNI        = "/var/lib/cni"
	viewLogs       = "/var/log/pods"
	viewVolumes    = "/var/lib/lazurite/volumes"
	viewIPAM       = "/run/lazurite/cni" // gone when the node's namespaces are, and the pods with them
	containerdSock = "/run/containerd/containerd.sock"
)

// The images that a node can't do without, by the names that the distribution gives them.
const pauseImage = "lazurite.dev/pause:3.10"

// NodePlace is what this machine gave a node.
type NodePlace struct {
	Address   netip.Addr   // of the node
	PodCIDR   netip.Prefix // of its pods
	Cgroup    string       // path of its cgroup: "/lazurite-INSTANCE/CLUSTER-NODE"
	HostCPUs  int          // processors of the machine
	HostMiB   int          // memory of the machine
	Policies  bool         // the distribution enforces network policies
	Snapshots string       // how layers of images are laid over each other: containerd's name of it
	Provider  bool         // the kubelet has an image credential provider
}

// nodeFiles are the configuration files of a node's parts, which they see in
// ViewFiles.
func nodeFiles(s node.Cluster, n node.Node, p NodePlace) map[string][]byte {
	return map[string][]byte{
		"containerd.toml":  []byte(containerdConfig(p)),
		"kubelet.json":     toJSON(kubeletConfig(s, n, p)),
		"kube-proxy.json":  toJSON(proxyConfig(s, n, p)),
		"10-pods.conflist": toJSON(networkConfig(p)),
	}
}

// networkConfig is the chain of CNI plugins that gives a pod its network.
func networkConfig(p NodePlace) obj {
	plugins := []obj{
		// A routed link for each pod: every packet crosses the node's forward
		// hook, where network policies are. Sources stay as they are; the
		// node's own rules hide them to the outside.
		{"type": "ptp", "ipMasq": false, "ipam": obj{
			"type": "host-local", "dataDir": viewIPAM,
			"ranges": [][]obj{{{"subnet": p.PodCIDR.String()}}}, "routes": []obj{{"dst": "0.0.0.0/0"}},
		}},
		{"type": "portmap", "backend": "nftables", "capabilities": obj{"portMappings": true}},
	}
	if p.Policies { // last: no container starts before the pod's rules stand
		plugins = append(plugins, obj{"type": "lazurite-policy"})
	}
	return obj{"cniVersion": "1.0.0", "name": "pods", "plugins": plugins}
}

// kubeletConfig is a KubeletConfiguration of Kubernetes 1.37, for cgroup v1
// and v2.
func kubeletConfig(s node.Cluster, n node.Node, p NodePlace) obj {
	reserved := obj{}
	if spare := p.HostCPUs*1000 - n.CPUMillis; spare > 0 {
		reserved["cpu"] = strconv.Itoa(spare) + "m"
	}
	if spare := p.HostMiB - n.MemoryMiB - evictMiB; spare > 0 {
		reserved["memory"] = strconv.Itoa(spare) + "Mi"
	}
	return obj{
		"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
		"address": p.Address.String(), "healthzBindAddress": "127.0.0.1", "readOnlyPort": 0,
		"tlsCertFile": file("kubelet-serving.pem"), "tlsPrivateKeyFile": file("kubelet-serving.pem"), "tlsMinVersion": "VersionTLS12",
		"authentication": obj{
			"anonymous": obj{"enabled": false}, "webhook": obj{"enabled": true}, "x509": obj{"clientCAFile": file("ca.crt")},
		},
		"authorization":            obj{"mode": "Webhook"},
		"containerRuntimeEndpoint": "unix://" + containerdSock,
		"cgroupDriver":             "cgroupfs", "cgroupRoot": p.Cgroup, "failCgroupV1": false,
		"enforceNodeAllocatable": []string{"pods"}, "systemReserved": reserved,
		"failSwapOn": false, "makeIPTablesUtilChains": false,
		"clusterDomain": "cluster.local", "clusterDNS": []string{s.DNSServiceIP}, "resolvConf": "/etc/resolv.conf",
		"rotateCertificates": false, "maxPods": n.MaxPods, "podPidsLimit": podProcesses, "podLogsDir": viewLogs,
		"serializeImagePulls": false, "kubeAPIQPS": 100, "kubeAPIBurst": 200,
		"evictionHard": obj{
			"memory.available": strconv.Itoa(evictMiB) + "Mi",
			"nodefs.available": "100Mi", "nodefs.inodesFree": "1%", "imagefs.available": "100Mi",
		},
		// A node takes pods again soon after there is room: the default waits
		// five minutes.
		"evictionPressureTransitionPeriod": "30s",
		// Images came in as files and can't be had again from a registry.
		"imageGCHighThresholdPercent": 100,
		"volumePluginDir":             path.Join(viewKubelet, "volumeplugins"),
	}
}

// evictMiB is the memory that the kubelet keeps free: it takes it off what
// pods are given, so it comes on top of a node's size.
const evictMiB = 100

// podProcesses is how many processes a pod can have: the machine's number is
// shared by all nodes and by the machine itself.
const podProcesses = 8192

// kubeletFlags are for what has no field in the file.
func kubeletFlags(n node.Node, p NodePlace) []string {
	flags := []string{
		"--config=" + file("kubelet.json"), "--kubeconfig=" + file("kubelet.kubeconfig"), "--hostname-override=" + n.Name,
		"--node-ip=" + p.Address.String(), "--root-dir=" + viewKubelet, "--cert-dir=" + path.Join(viewKubelet, "pki"), "--v=1",
	}
	if p.Provider {
		flags = append(flags, pullFlags()...)
	}
	return flags
}

// proxyConfig is a KubeProxyConfiguration of Kubernetes 1.37.
func proxyConfig(s node.Cluster, n node.Node, p NodePlace) obj {
	return obj{
		"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration",
		"mode": "nftables", "hostnameOverride": n.Name, "clusterCIDR": s.PodCIDR, "detectLocalMode": "ClusterCIDR",
		"bindAddress": p.Address.String(), "healthzBindAddress": "127.0.0.1:10256", "metricsBindAddress": "127.0.0.1:10249",
		"nodePortAddresses": []string{p.Address.String() + "/32"},
		"clientConnection":  obj{"kubeconfig": file("kube-proxy.kubeconfig"), "qps": 100, "burst": 200},
		"conntrack":         obj{"maxPerCore": 0, "min": 0},
	}
}

func proxyFlags() []string { return []string{"--config=" + file("kube-proxy.json"), "--v=1"} }

func nodeAgentFlags(n node.Node) []string {
	return []string{"--kubeconfig=" + file("lazurite-node.kubeconfig"), "--node=" + n.Name, "--volumes=" + viewVolumes}
}

func containerdFlags() []string {
	return []string{"--config", file("containerd.toml"), "--log-level", "warn"}
}

// containerdConfig is for containerd 2.
func containerdConfig(p NodePlace) string {
	off := []string{
		"io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper",
		"io.containerd.snapshotter.v1.blockfile", "io.containerd.snapshotter.v1.erofs",
		"io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing", "io.containerd.nri.v1.nri",
	}
	quoted := make([]string, len(off))
	for i, p := range off {
		quoted[i] = strconv.Quote(p)
	}
	return fmt.Sprintf(`version = 3
root = %q
state = "/run/containerd"
disabled_plugins = [%s]
[grpc]
  address = %q
[[plugins."io.containerd.transfer.v1.local".unpack_config]]
  platform = %q
  snapshotter = %q
  differ = "walking"
[plugins."io.containerd.cri.v1.images"]
  snapshotter = %q
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = %q
[plugins."io.containerd.cri.v1.images".registry]
  config_path = %q
[plugins."io.containerd.cri.v1.runtime"]
  disable_apparmor = true
  restrict_oom_score_adj = true
  tolerate_missing_hugetlb_controller = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = [%q]
    conf_dir = %q
  [plugins."io.containerd.cri.v1.runtime".containerd]
    default_runtime_name = "runc"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
        BinaryName = %q
        SystemdCgroup = false
`, viewContainerd, strings.Join(quoted, ", "), containerdSock, "linux/"+runtime.GOARCH, p.Snapshots, p.Snapshots, pauseImage, file(registriesFolder), path.Join(ViewBin, "cni"), ViewFiles, path.Join(ViewBin, "runc"))
}
