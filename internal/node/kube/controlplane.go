package kube

import (
	"path"
	"strconv"
	"strings"

	"lazurite.dev/internal/node"
)

// Where a process of the control plane finds its things. Its mount namespace
// has the folder of its component at ViewFiles, so that it does not matter
// where the state folder is and who may look into it.
const (
	ViewFiles  = "/run/lazurite/files"
	ViewSocket = "/run/lazurite/etcd" // etcd and the API server alone: a folder with etcd's socket
	ViewBin    = "/run/lazurite/bin"  // the distribution's programs
)

const etcdSocket = ViewSocket + "/etcd.sock"

func file(name string) string { return path.Join(ViewFiles, name) }

// etcdFlags start the one member of etcd. Its socket is for the API server
// alone, which runs as the same user: nothing listens on an address.
func etcdFlags() []string {
	return []string{"--data-dir=" + file("data"), "--listen=unix://" + etcdSocket}
}

// apiServerFlags are for k8s.io/kubernetes 1.37.
func (c *Credentials) apiServerFlags(s node.Cluster) []string {
	address := c.address().String()
	return []string{
		"--etcd-servers=unix://" + etcdSocket,
		"--encryption-provider-config=" + file("encryption.json"),
		"--bind-address=" + address, "--advertise-address=" + address, "--secure-port=6443",
		"--tls-cert-file=" + file("serving.pem"), "--tls-private-key-file=" + file("serving.pem"), "--tls-min-version=VersionTLS12",
		"--client-ca-file=" + file("ca.crt"),
		"--authentication-config=" + file("authentication.json"),
		"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
		"--service-cluster-ip-range=" + s.ServiceCIDR,
		"--service-account-issuer=" + s.Issuer, "--service-account-jwks-uri=" + s.JWKSURI, "--api-audiences=" + s.Issuer,
		"--service-account-signing-key-file=" + file("service-account.key"), "--service-account-key-file=" + file("service-account.pub"),
		"--kubelet-certificate-authority=" + file("ca.crt"), "--kubelet-preferred-address-types=InternalIP",
		"--kubelet-client-certificate=" + file("kubelet-client.pem"), "--kubelet-client-key=" + file("kubelet-client.pem"),
		"--requestheader-client-ca-file=" + file("front-proxy-ca.crt"), "--requestheader-allowed-names=front-proxy-client",
		"--requestheader-username-headers=X-Remote-User", "--requestheader-group-headers=X-Remote-Group", "--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file=" + file("front-proxy-client.pem"), "--proxy-client-key-file=" + file("front-proxy-client.pem"),
		"--enable-aggregator-routing=true", // webhooks and extensions are reached at their pods: no kube-proxy runs here
		"--allow-privileged=true", "--profiling=false", "--event-ttl=1h", "--v=1",
	}
}

// managerFlags are for k8s.io/kubernetes 1.37. Nodes get their pod ranges
// with their objects, from us.
func (c *Credentials) managerFlags(s node.Cluster) []string {
	return append(clientFlags(10257),
		"--service-cluster-ip-range="+s.ServiceCIDR, "--cluster-cidr="+s.PodCIDR, "--allocate-node-cidrs=false",
		"--root-ca-file="+file("ca.crt"), "--cluster-signing-cert-file="+file("ca.crt"), "--cluster-signing-key-file="+file("ca.key"),
		"--service-account-private-key-file="+file("service-account.key"), "--use-service-account-credentials=true",
		"--cluster-name="+strings.ToLower(s.Name), "--kube-api-qps=100", "--kube-api-burst=200")
}

func schedulerFlags() []string {
	return append(clientFlags(10259), "--kube-api-qps=100", "--kube-api-burst=200")
}

// clientFlags are of components that use the API server and serve nothing but
// their own health.
func clientFlags(port int) []string {
	config := file("client.kubeconfig")
	return []string{
		"--kubeconfig=" + config, "--authentication-kubeconfig=" + config, "--authorization-kubeconfig=" + config,
		"--bind-address=127.0.0.1", "--secure-port=" + strconv.Itoa(port), "--leader-elect=false", "--profiling=false", "--v=1",
	}
}

// controllerFlags are of our own controller: load balancers and volumes.
func controllerFlags(loadBalancers string) []string {
	return []string{"--kubeconfig=" + file("client.kubeconfig"), "--address-range=" + loadBalancers}
}
