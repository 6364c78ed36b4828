package kube

import (
	"path/filepath"
	"slices"

	"lazurite.dev/internal/node"
	"lazurite.dev/internal/node/pull"
)

// viewProviders is the folder with the kubelet's image credential provider: this
// program, under the name that Azure's has.
const viewProviders = "/run/lazurite/providers"

const (
	providersFile = "image-credentials.json"    // what the kubelet reads
	pullFile      = "registry-credentials.json" // what the provider reads
	cloudFile     = "cloud-ca.crt"              // who signs for this cloud's registries
)

// providerFiles are those of the provider. None of them is secret.
func providerFiles(s node.Cluster, n node.Node, server string) map[string][]byte {
	if s.Pull == nil {
		return nil
	}
	return map[string][]byte{
		cloudFile: s.Pull.CA,
		// Source: Kubernetes, CredentialProviderConfig (kubelet.config.k8s.io/v1).
		providersFile: toJSON(obj{
			"apiVersion": "kubelet.config.k8s.io/v1", "kind": "CredentialProviderConfig",
			"providers": []obj{{
				"name": pull.Program, "apiVersion": pull.APIVersion, "matchImages": s.Pull.Registries, "defaultCacheDuration": "0s",
				"args": []string{pull.Command, file(pullFile)},
			}},
		}),
		pullFile: toJSON(pull.Config{
			Registries: s.Pull.Registries, Elsewhere: elsewhere(s.Mirrors), TokenURL: s.Pull.TokenURL, CAFile: file(cloudFile),
			Cluster: s.ResourceID, Node: n.Name,
			API: pull.API{Server: server, CAFile: file("ca.crt"), CertFile: file("kubelet.pem")},
		}),
	}
}

// elsewhere are the registries that have a mirror.
func elsewhere(mirrors map[string]string) []string {
	list := []string{}
	for registry := range mirrors {
		list = append(list, registry) // AllRegistries is the provider's word too
	}
	slices.Sort(list)
	return list
}

// pullFlags are the kubelet's for the provider.
func pullFlags() []string {
	return []string{"--image-credential-provider-config=" + file(providersFile), "--image-credential-provider-bin-dir=" + viewProviders}
}

// pullEnv is what proves the kubelet's identity. The environment of a process
// of root's is read by nobody who may not trace it: a container that may is
// privileged, and root on the machine.
func pullEnv(s node.Cluster) []string { return []string{pull.SecretVariable + "=" + s.Pull.Secret} }

// cloudCA is where containerd finds who signs for this cloud's registries; ""
// where it is not told.
func cloudCA(s node.Cluster) string {
	if s.Pull == nil {
		return ""
	}
	return filepath.Join(ViewFiles, cloudFile)
}
