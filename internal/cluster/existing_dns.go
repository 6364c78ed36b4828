package cluster

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"
)

const (
	corednsPath       = "/api/v1/namespaces/kube-system/configmaps/coredns"
	corednsCustomName = "coredns-custom"
	corednsCustomPath = "/api/v1/namespaces/kube-system/configmaps/" + corednsCustomName
	corednsCustomKey  = "lazurite.server"
	corefileKey       = "Corefile"

	dnsTime = 30 * time.Second
)

type configMap struct {
	Metadata struct {
		ResourceVersion string `json:"resourceVersion"`
	} `json:"metadata"`
	Data map[string]string `json:"data"`
}

// resolve makes pods find our names at the address, "" meaning that they
// should not, and says in a few words how, or why not.
func (k *KubeAPI) resolve(ctx context.Context, names []string, address string) (how string, err error) {
	var now configMap
	err = k.Get(ctx, corednsPath, &now)
	if kubeCode(err) == http.StatusNotFound || err == nil && now.Data[corefileKey] == "" {
		return "the cluster has no CoreDNS that is known here: it has to resolve the names by itself", nil
	}
	if err != nil {
		return "", err
	}
	if address == "" {
		return "not changed", k.unresolve(ctx)
	}
	block := corefileBlock(names, address)
	switch {
	case strings.Contains(now.Data[corefileKey], "custom/*.server"):
		_, err := k.Apply(ctx, Object{
			"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": corednsCustomName, "namespace": "kube-system"},
			"data": map[string]any{corednsCustomKey: block},
		})
		return "a server block in " + corednsCustomName, err
	case !reloads.MatchString(now.Data[corefileKey]):
		return "the cluster's CoreDNS does not reload its settings: it has to resolve the names by itself", nil
	}
	return "a server block in the Corefile", k.editCorefile(ctx, func(corefile string) string { return withBlock(corefile, block) })
}

// unresolve takes away what resolve put there.
func (k *KubeAPI) unresolve(ctx context.Context) error {
	if err := k.editCorefile(ctx, withoutBlock); err != nil {
		return err
	}
	var custom configMap
	err := k.Get(ctx, corednsCustomPath, &custom)
	if kubeCode(err) == http.StatusNotFound || err == nil && custom.Data[corednsCustomKey] == "" {
		return nil
	}
	if err != nil {
		return err
	}
	if len(custom.Data) == 1 {
		return k.Delete(ctx, corednsCustomPath)
	}
	return k.Patch(ctx, corednsCustomPath, map[string]any{"data": map[string]any{corednsCustomKey: nil}})
}

// editCorefile changes the Corefile, on the condition that nobody else does.
func (k *KubeAPI) editCorefile(ctx context.Context, edit func(string) string) error {
	err := until(ctx, dnsTime, lookAgain, func(ctx context.Context) (bool, error) {
		var now configMap
		err := k.Get(ctx, corednsPath, &now)
		if kubeCode(err) == http.StatusNotFound {
			return true, nil
		}
		if err != nil {
			return false, err
		}
		next := edit(now.Data[corefileKey])
		if next == now.Data[corefileKey] {
			return true, nil
		}
		err = k.Patch(ctx, corednsPath, map[string]any{
			"metadata": map[string]any{"resourceVersion": now.Metadata.ResourceVersion}, "data": map[string]any{corefileKey: next},
		})
		return err == nil, err
	}, lasting)
	if err != nil {
		return fmt.Errorf("change the Corefile: %w", err)
	}
	return nil
}
