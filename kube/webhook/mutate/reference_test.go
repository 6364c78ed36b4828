package mutate_test

import (
	"crypto/sha256"
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// reference is the rules once more, over typed objects and without a thought of
// speed: what the mutation must come to.
func reference(pod *corev1.Pod, account map[string]string, native bool) *corev1.Pod {
	pod = pod.DeepCopy()
	name := pod.Name
	if name == "" {
		name = pod.GenerateName + " (prefix)"
	}
	volume := "azure-workload-identity-reserved-" + fmt.Sprintf("%x", sha256.Sum256([]byte(name)))[:30]
	if _, ok := pod.Annotations["azure.workload.identity/inject-proxy-sidecar"]; ok {
		referenceProxy(pod, native)
	}
	tenant, ok := account["azure.workload.identity/tenant-id"]
	if !ok {
		tenant = "tenant"
	}
	env := []corev1.EnvVar{
		{Name: "AZURE_CLIENT_ID", Value: account["azure.workload.identity/client-id"]},
		{Name: "AZURE_TENANT_ID", Value: tenant},
		{Name: "AZURE_FEDERATED_TOKEN_FILE", Value: "/var/run/secrets/azure/wi/token/azure-identity-token"},
		{Name: "AZURE_AUTHORITY_HOST", Value: "https://login.microsoftonline.com/"},
	}
	mount := corev1.VolumeMount{Name: volume, MountPath: "/var/run/secrets/azure/wi", ReadOnly: true}
	skip := map[string]bool{}
	if s := pod.Annotations["azure.workload.identity/skip-containers"]; s != "" {
		for n := range strings.SplitSeq(s, ";") {
			skip[strings.TrimSpace(n)] = true
		}
	}
	referenceContainers(pod.Spec.InitContainers, skip, env, mount)
	referenceContainers(pod.Spec.Containers, skip, env, mount)
	seconds := int64(3600)
	if s := pod.Annotations["azure.workload.identity/service-account-token-expiration"]; s != "" {
		seconds, _ = strconv.ParseInt(s, 10, 64)
	} else if s := account["azure.workload.identity/service-account-token-expiration"]; s != "" {
		seconds, _ = strconv.ParseInt(s, 10, 64)
	}
	v := corev1.Volume{Name: volume, VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{{
		ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Audience: "api://AzureADTokenExchange", ExpirationSeconds: &seconds, Path: "token/azure-identity-token"},
	}}}}}
	for i := range pod.Spec.Volumes {
		if pod.Spec.Volumes[i].Name == volume {
			pod.Spec.Volumes[i] = v
			return pod
		}
	}
	pod.Spec.Volumes = append(pod.Spec.Volumes, v)
	return pod
}

func referenceContainers(list []corev1.Container, skip map[string]bool, env []corev1.EnvVar, mount corev1.VolumeMount) {
	for i := range list {
		c := &list[i]
		if skip[c.Name] {
			continue
		}
		have := map[string]bool{}
		for _, e := range c.Env {
			have[e.Name] = true
		}
		for _, e := range env {
			if !have[e.Name] && e.Value != "" {
				c.Env = append(c.Env, e)
			}
		}
		found := false
		for j := range c.VolumeMounts {
			if c.VolumeMounts[j].Name == mount.Name && !found {
				c.VolumeMounts[j], found = mount, true
			}
		}
		if !found {
			c.VolumeMounts = append(c.VolumeMounts, mount)
		}
	}
}

func referenceProxy(pod *corev1.Pod, native bool) {
	port := 8000
	if s, ok := pod.Annotations["azure.workload.identity/proxy-sidecar-port"]; ok {
		port, _ = strconv.Atoi(s)
	}
	yes, no, root := true, false, int64(0)
	named := func(list []corev1.Container, name string) bool {
		for _, c := range list {
			if c.Name == name {
				return true
			}
		}
		return false
	}
	if !named(pod.Spec.InitContainers, "azwi-proxy-init") {
		pod.Spec.InitContainers = append(pod.Spec.InitContainers, corev1.Container{
			Name: "azwi-proxy-init", Image: "registry/proxy-init:v1", ImagePullPolicy: corev1.PullIfNotPresent,
			SecurityContext: &corev1.SecurityContext{
				Capabilities: &corev1.Capabilities{Add: []corev1.Capability{"NET_ADMIN"}, Drop: []corev1.Capability{"ALL"}},
				Privileged:   &yes, RunAsNonRoot: &no, RunAsUser: &root,
			},
			Env: []corev1.EnvVar{{Name: "PROXY_PORT", Value: strconv.Itoa(port)}},
		})
	}
	flag := fmt.Sprintf("--proxy-port=%d", port)
	sidecar := corev1.Container{
		Name: "azwi-proxy", Image: "registry/proxy:v1", ImagePullPolicy: corev1.PullIfNotPresent,
		Args:      []string{flag, "--log-level=info"},
		Ports:     []corev1.ContainerPort{{ContainerPort: int32(port)}},
		Lifecycle: &corev1.Lifecycle{PostStart: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"/proxy", flag, "--probe", "--log-level=info"}}}},
		SecurityContext: &corev1.SecurityContext{
			AllowPrivilegeEscalation: &no, Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
			Privileged: &no, ReadOnlyRootFilesystem: &yes, RunAsNonRoot: &yes,
		},
	}
	list := &pod.Spec.Containers
	if native {
		always := corev1.ContainerRestartPolicyAlways
		sidecar.RestartPolicy = &always
		list = &pod.Spec.InitContainers
	}
	if !named(*list, "azwi-proxy") {
		*list = append([]corev1.Container{sidecar}, *list...)
	}
}
