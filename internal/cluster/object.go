package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Object is an object of Kubernetes as in a manifest.
type Object map[string]any

func (o Object) text(path ...string) string {
	var v any = map[string]any(o)
	for _, p := range path {
		m, ok := v.(map[string]any)
		if !ok {
			return ""
		}
		v = m[p]
	}
	s, _ := v.(string)
	return s
}

func (o Object) number(path ...string) int {
	var v any = map[string]any(o)
	for _, p := range path {
		m, ok := v.(map[string]any)
		if !ok {
			return 0
		}
		v = m[p]
	}
	switch n := v.(type) {
	case float64:
		return int(n)
	case int:
		return n
	}
	return 0
}

// Kind is the object's kind.
func (o Object) Kind() string { return o.text("kind") }

// Name is metadata.name.
func (o Object) Name() string { return o.text("metadata", "name") }

// Namespace is metadata.namespace.
func (o Object) Namespace() string { return o.text("metadata", "namespace") }

// String is "deployment kube-system/coredns".
func (o Object) String() string {
	name := o.Name()
	if ns := o.Namespace(); ns != "" {
		name = ns + "/" + name
	}
	return strings.ToLower(o.Kind()) + " " + name
}

// form is how objects of a kind are addressed.
type form struct {
	plural     string
	namespaced bool
}

// forms are the kinds that add-ons are made of. Each further one needs a line.
func forms() map[string]form {
	return map[string]form{
		"Namespace": {"namespaces", false}, "Node": {"nodes", false}, "ServiceAccount": {"serviceaccounts", true}, "ConfigMap": {"configmaps", true},
		"Secret": {"secrets", true}, "Service": {"services", true}, "Pod": {"pods", true}, "PersistentVolume": {"persistentvolumes", false},
		"Deployment": {"deployments", true}, "DaemonSet": {"daemonsets", true}, "StatefulSet": {"statefulsets", true}, "Job": {"jobs", true},
		"ClusterRole": {"clusterroles", false}, "ClusterRoleBinding": {"clusterrolebindings", false}, "Role": {"roles", true}, "RoleBinding": {"rolebindings", true},
		"StorageClass": {"storageclasses", false}, "CSIDriver": {"csidrivers", false}, "PriorityClass": {"priorityclasses", false},
		"PodDisruptionBudget": {"poddisruptionbudgets", true}, "NetworkPolicy": {"networkpolicies", true}, "IngressClass": {"ingressclasses", false},
		"MutatingWebhookConfiguration":     {"mutatingwebhookconfigurations", false},
		"ValidatingWebhookConfiguration":   {"validatingwebhookconfigurations", false},
		"ValidatingAdmissionPolicy":        {"validatingadmissionpolicies", false},
		"ValidatingAdmissionPolicyBinding": {"validatingadmissionpolicybindings", false},
		"CustomResourceDefinition":         {"customresourcedefinitions", false},
		"RuntimeClass":                     {"runtimeclasses", false},
		"Lease":                            {"leases", true},
	}
}

// Path is where the API server has the object.
// Source: Kubernetes API concepts, "Resource URIs".
func (o Object) Path() (string, error) {
	f, ok := forms()[o.Kind()]
	version := o.text("apiVersion")
	switch {
	case !ok:
		return "", fmt.Errorf("%s: how objects of the kind %q are addressed is not known here", o, o.Kind())
	case version == "" || o.Name() == "":
		return "", fmt.Errorf("%s: an object needs apiVersion, kind and metadata.name", o)
	case f.namespaced && o.Namespace() == "":
		return "", fmt.Errorf("%s: it needs metadata.namespace", o)
	}
	root := "/apis/" + version
	if version == "v1" {
		root = "/api/v1"
	}
	if f.namespaced {
		root += "/namespaces/" + o.Namespace()
	}
	return root + "/" + f.plural + "/" + o.Name(), nil
}

// ReadObjects reads the documents of a manifest; empty ones are passed over.
func ReadObjects(manifest []byte) ([]Object, error) {
	var out []Object
	d := yaml.NewDecoder(bytes.NewReader(manifest))
	for {
		var o map[string]any // not an Object: maps inside would be Objects too
		err := d.Decode(&o)
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read a manifest: %w", err)
		}
		if len(o) == 0 {
			continue
		}
		if _, err := Object(o).Path(); err != nil {
			return nil, err
		}
		out = append(out, o)
	}
}
