package cli

import (
	"context"
	"encoding/base64"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"
)

// attachedGroup is where attached clusters are unless another group is named.
const (
	attachedGroup    = "clusters"
	attachedLocation = "eastus"
)

// clusterNoun is the product's own: clusters that somebody else runs.
func clusterNoun() noun {
	return noun{name: "cluster", short: "Use Kubernetes clusters that somebody else runs.", commands: func() []*command {
		return []*command{clusterAttach(), clusterDetach(), clusterList(), clusterShow()}
	}}
}

func attachedName() arg {
	return arg{name: "name", help: "Name of the cluster here.", pos: true, need: true}
}

func attachedGroupOpt() arg {
	return opt("resource-group", "Name of the resource group.").or("-g").configured("group")
}

func clusterAttach() *command {
	return &command{path: "cluster attach", short: "Let pods of an existing cluster have identities: it is reached by a kubeconfig, and gets the webhook.",
		example: "cluster attach mine --kubeconfig ~/.kube/config --context kind-mine --webhook-image registry.example/azure-workload-identity:v1",
		args: []arg{
			attachedName(), opt("kubeconfig", "File with an administrator's access; it is kept sealed.").required(),
			opt("context", "Context of the kubeconfig. Without it, the current one."), attachedGroupOpt(), locationOpt(),
			opt("webhook-image", "Image of the webhook that the cluster's nodes can pull; `make kube` builds it."),
			opt("front-door", "IPv4 address at which the cluster's pods reach Lazurite on port 443. Its names then lead there, by the cluster's CoreDNS."),
		},
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			kc, err := c.flatKubeconfig()
			if err != nil {
				return nil, err
			}
			group, err := m.attachedHome(ctx, c)
			if err != nil {
				return nil, err
			}
			profile := object{"kubeconfig": string(kc)}
			c.setIf(profile, "webhookImage", "webhook-image")
			c.setIf(profile, "frontDoor", "front-door")
			v, err := m.get(ctx, m.groupPath(group), resourcesVersion)
			if err != nil {
				return nil, err
			}
			location := firstNonEmpty(plainLocation(c.text("location")), textAt(v, "location"))
			body := object{"location": location, "properties": object{"existingClusterProfile": profile}}
			v, err = m.put(ctx, m.resource(group, clusterType, c.text("name")), clusterVersion, body, false)
			if v == nil {
				return nil, err
			}
			return showCluster(v), err
		})}
}

// attachedHome is the group for a new one, made where none was named.
func (m *management) attachedHome(ctx context.Context, c *call) (string, error) {
	if g := c.text("resource-group"); g != "" {
		return g, nil
	}
	_, err := m.get(ctx, m.groupPath(attachedGroup), resourcesVersion)
	if err == nil {
		return attachedGroup, nil
	}
	body := object{"location": firstNonEmpty(plainLocation(c.text("location")), attachedLocation)}
	_, err = m.put(ctx, m.subPath+"/resourcegroups/"+url.PathEscape(attachedGroup), resourcesVersion, body, false)
	return attachedGroup, err
}

// attachedPath is the id of an attached cluster, found by its name where no
// group is named.
func (m *management) attachedPath(ctx context.Context, c *call) (string, error) {
	if g := c.text("resource-group"); g != "" {
		return m.resource(g, clusterType, c.text("name")), nil
	}
	all, err := m.attached(ctx, "")
	if err != nil {
		return "", err
	}
	var found []string
	for _, v := range all {
		if strings.EqualFold(textAt(v, "name"), c.text("name")) {
			found = append(found, textAt(v, "id"))
		}
	}
	switch len(found) {
	case 0:
		return "", notFoundf("No attached cluster has the name '%s'. To see them: laz cluster list", c.text("name"))
	case 1:
		return found[0], nil
	}
	return "", failf("%d attached clusters have the name '%s': say which by --resource-group.", len(found), c.text("name"))
}

func (m *management) attached(ctx context.Context, group string) ([]any, error) {
	all, err := m.list(ctx, m.listPath(group, clusterType), clusterVersion)
	if err != nil {
		return nil, err
	}
	list := []any{}
	for _, v := range all {
		if at(v, "properties", "existingClusterProfile") != nil {
			list = append(list, v)
		}
	}
	return list, nil
}

func clusterDetach() *command {
	return &command{path: "cluster detach", short: "Take away what attaching put into a cluster, and forget it.", example: "cluster detach mine",
		args: []arg{attachedName(), attachedGroupOpt(), flagOpt("forget", "The cluster is gone for good: don't reach for it."), yesOpt()},
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			path, err := m.attachedPath(ctx, c)
			if err != nil {
				return nil, err
			}
			v, err := m.get(ctx, path, clusterVersion)
			if err != nil {
				return nil, err
			}
			if at(v, "properties", "existingClusterProfile") == nil {
				return nil, failf("The cluster '%s' was made here and is not attached. To delete it: az aks delete", c.text("name"))
			}
			if c.flag("forget") {
				body := v.(object)
				sub(sub(body, "properties"), "existingClusterProfile")["forget"] = true
				delete(body, "systemData")
				if _, err := m.put(ctx, path, clusterVersion, body, false); err != nil {
					c.warn("%v", err) // it can't be reached: that is why it is forgotten
				}
			}
			return nil, m.delete(ctx, path, clusterVersion, false)
		})}
}

func attachedTable() string {
	return "{Name:name, ResourceGroup:resourceGroup, KubernetesVersion:kubernetesVersion, Server:existingClusterProfile.server, Issuer:oidcIssuerProfile.issuerUrl, ProvisioningState:provisioningState}"
}

func clusterList() *command {
	return &command{path: "cluster list", short: "List the attached clusters.", example: "cluster list -o table", args: []arg{groupFilter()}, table: "[]." + attachedTable(),
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			l, err := m.attached(ctx, c.text("resource-group"))
			return each(l, showCluster), err
		})}
}

func clusterShow() *command {
	return &command{path: "cluster show", short: "Show an attached cluster.", example: "cluster show mine", args: []arg{attachedName(), attachedGroupOpt()}, table: attachedTable(),
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			path, err := m.attachedPath(ctx, c)
			if err != nil {
				return nil, err
			}
			v, err := m.get(ctx, path, clusterVersion)
			return showCluster(v), err
		})}
}

// flatKubeconfig is the one context of the kubeconfig, with the contents of the
// files that it names in place of their names: nothing else is sent.
func (c *call) flatKubeconfig() ([]byte, error) {
	path := c.filePath(c.text("kubeconfig"))
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, failf("The kubeconfig can't be read: %v", err)
	}
	var kc object
	if err := yaml.Unmarshal(b, &kc); err != nil {
		return nil, failf("%s can't be read as a kubeconfig.", path)
	}
	context := firstNonEmpty(c.text("context"), textAt(kc, "current-context"))
	one := named(kc["contexts"], context)
	if one == nil {
		return nil, failf("%s has no context '%s'.", path, context)
	}
	cluster, user := named(kc["clusters"], textAt(one, "context", "cluster")), named(kc["users"], textAt(one, "context", "user"))
	if cluster == nil || user == nil {
		return nil, failf("The context '%s' of %s names a cluster or a user that is not there.", context, path)
	}
	for _, f := range []struct {
		in       object
		key, raw string
		b64      bool
	}{
		{asObject(cluster["cluster"]), "certificate-authority", "certificate-authority-data", true},
		{asObject(user["user"]), "client-certificate", "client-certificate-data", true},
		{asObject(user["user"]), "client-key", "client-key-data", true},
		{asObject(user["user"]), "tokenFile", "token", false},
	} {
		if err := inline(filepath.Dir(path), f.in, f.key, f.raw, f.b64); err != nil {
			return nil, failf("A file that the kubeconfig names can't be read: %v", err)
		}
	}
	return yaml.Marshal(object{
		"apiVersion": "v1", "kind": "Config", "current-context": context, "contexts": []any{one}, "clusters": []any{cluster}, "users": []any{user},
	})
}

// named is the entry of a kubeconfig's list with that name.
func named(list any, name string) object {
	for _, v := range items(list) {
		if textAt(v, "name") == name {
			return asObject(v)
		}
	}
	return nil
}

// inline puts the contents of the file that in[key] names into in[raw].
func inline(dir string, in object, key, raw string, b64 bool) error {
	name := textAt(in, key)
	if name == "" {
		return nil
	}
	if !filepath.IsAbs(name) {
		name = filepath.Join(dir, name)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	if len(b) == 0 {
		return errors.New(name + " is empty")
	}
	delete(in, key)
	if b64 {
		in[raw] = base64.StdEncoding.EncodeToString(b)
	} else {
		in[raw] = strings.TrimSpace(string(b))
	}
	return nil
}
