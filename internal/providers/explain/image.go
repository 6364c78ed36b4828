package explain

import (
	"fmt"
	"strings"

	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/trace"
)

const (
	registryType = "Microsoft.ContainerRegistry/registries"
	actionPull   = registryType + "/pull/read"
)

// unpulled are the containers whose image can't be pulled.
func (p *pod) unpulled() []container {
	waiting := map[string]bool{}
	for _, list := range [][]containerStatus{p.Status.InitContainerStatuses, p.Status.ContainerStatuses} {
		for _, s := range list {
			if w := s.State.Waiting; w != nil && (w.Reason == "ErrImagePull" || w.Reason == "ImagePullBackOff") {
				waiting[s.Name] = true
			}
		}
	}
	var out []container
	for _, list := range [][]container{p.Spec.InitContainers, p.Spec.Containers} {
		for _, one := range list {
			if waiting[one.Name] {
				out = append(out, one)
			}
		}
	}
	return out
}

// pulling says of each image that can't be pulled from a registry of this cloud
// whether the nodes may; none for other images.
func (c *chain) pulling(e *arm.Envelope, p *pod) ([]trace.Hop, error) {
	var hops []trace.Hop
	for _, one := range p.unpulled() {
		host, _, _ := strings.Cut(one.Image, "/")
		name, _, ok := strings.Cut(host, ".")
		if c.p.cfg.Owns == nil || !ok || !c.p.cfg.Owns(host) {
			continue
		}
		h, err := c.pull(e, one.Image, name)
		if err != nil {
			return nil, err
		}
		hops = append(hops, h)
	}
	return hops, nil
}

// pull judges one pull from the registry called name by the cluster's kubelets.
func (c *chain) pull(e *arm.Envelope, image, name string) (trace.Hop, error) {
	h := trace.Hop{Step: "image", Subject: image}
	all, err := c.p.cfg.Resources.List(c.ctx, c.sub, registryType, "", 1000)
	if err != nil {
		return h, err
	}
	var registry *arm.Envelope
	for _, r := range all {
		if strings.EqualFold(r.Name, name) {
			registry = r
		}
	}
	profile, _ := e.Properties["identityProfile"].(map[string]any)
	kubelet, _ := profile["kubeletidentity"].(map[string]any)
	oid, _ := kubelet["objectId"].(string)
	switch {
	case registry == nil:
		h.Found, h.Fix = "there is no registry '"+name+"' in this subscription", "az acr list --output table"
		return h, nil
	case oid == "":
		h.Found, h.Fix = "the cluster has no kubelet identity to pull with", fix("kubectl --namespace %s create secret docker-registry NAME --docker-server %s", c.q.Namespace, strings.SplitN(image, "/", 2)[0])
		return h, nil
	}
	d, err := c.p.cfg.Policy.Check(trace.Without(c.ctx), oid, actionPull, false, registry.RID())
	switch {
	case err != nil:
		return h, err
	case d.Allowed:
		h.Found = fmt.Sprintf("the kubelet's identity %s may pull from %s, so it is not that: kubectl describe pod says what the node was told", oid, registry.Name)
		h.Fix = fix("az acr repository show-tags --name %s --repository REPOSITORY", registry.Name)
	default:
		h.Found = fmt.Sprintf("the kubelet's identity %s has no role (AcrPull) at the registry %s", oid, registry.Name)
		h.Fix = fix("az aks update --name %s --resource-group %s --attach-acr %s", e.Name, e.RID().ResourceGroup(), registry.Name)
	}
	return h, nil
}
