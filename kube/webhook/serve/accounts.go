package serve

import (
	"context"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/cache"

	"lazurite.dev/kube/webhook/mutate"
)

// cachedAccounts knows all service accounts of the cluster by watching them.
type cachedAccounts struct {
	informer cache.SharedIndexInformer
	direct   metadata.Getter
}

func newAccounts(client metadata.Interface) (*cachedAccounts, error) {
	informer, err := metadataOf(client, serviceAccounts, "", "", func(key string) bool {
		return strings.HasPrefix(key, "azure.workload.identity/")
	})
	if err != nil {
		return nil, err
	}
	return &cachedAccounts{informer, client.Resource(serviceAccounts)}, nil
}

// Account implements [Accounts]. The watch may lag behind: an account that it
// does not show, or shows without an identity, is read from the API server, so
// that "create the account, annotate it, create the pod" holds at any speed.
func (a *cachedAccounts) Account(ctx context.Context, namespace, name string) (mutate.Account, error) {
	if o, ok, err := a.informer.GetStore().GetByKey(namespace + "/" + name); err == nil && ok {
		m, _ := o.(*metav1.PartialObjectMetadata)
		if account := mutate.AccountOf(m.GetAnnotations()); account.ClientID != "" {
			return account, nil
		}
	}
	m, err := a.direct.Namespace(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return mutate.Account{}, err
	}
	return mutate.AccountOf(m.Annotations), nil
}
