package kube

// roles are who may do what beyond Kubernetes' own roles: whoever has no name
// may learn how tokens are verified, and our own components do their work and
// nothing else.
func roles() map[string]obj {
	read := []string{"get", "list", "watch"}
	rule := func(group string, verbs []string, resources ...string) obj {
		return obj{"apiGroups": []string{group}, "resources": resources, "verbs": verbs}
	}
	events := rule("", []string{"create", "patch", "update"}, "events")
	out := map[string]obj{}
	role := func(name string, subject obj, rules ...obj) {
		out["clusterroles/"+name] = obj{"kind": "ClusterRole", "metadata": obj{"name": name}, "rules": rules}
		out["clusterrolebindings/"+name] = binding(name, name, subject)
	}
	role("lazurite:node", obj{"kind": "Group", "name": NodesGroup},
		rule("", read, "pods", "namespaces", "nodes", "persistentvolumes", "persistentvolumeclaims"),
		rule("networking.k8s.io", read, "networkpolicies"),
		rule("", []string{"patch"}, "persistentvolumes"), events)
	role("lazurite:controller", obj{"kind": "User", "name": ControllerUser},
		rule("", read, "services", "nodes", "pods", "namespaces", "persistentvolumes", "persistentvolumeclaims"),
		rule("discovery.k8s.io", read, "endpointslices"),
		rule("storage.k8s.io", read, "storageclasses"),
		rule("networking.k8s.io", read, "networkpolicies"),
		rule("", []string{"patch", "update"}, "services", "services/status", "persistentvolumeclaims"),
		rule("", []string{"create", "patch", "update", "delete"}, "persistentvolumes"),
		rule("", []string{"patch", "update"}, "persistentvolumes/status"), events)
	out["clusterrolebindings/lazurite:issuer-discovery"] = binding("lazurite:issuer-discovery", "system:service-account-issuer-discovery",
		obj{"kind": "Group", "name": "system:unauthenticated"})
	for _, o := range out {
		o["apiVersion"] = "rbac.authorization.k8s.io/v1"
	}
	return out
}

func binding(name, role string, subject obj) obj {
	subject["apiGroup"] = "rbac.authorization.k8s.io"
	return obj{
		"kind": "ClusterRoleBinding", "metadata": obj{"name": name}, "subjects": []obj{subject},
		"roleRef": obj{"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
	}
}
