package serve

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/cache"

	"lazurite.dev/kube/webhook/mutate"
)

const (
	fieldManager     = "azure-workload-identity"
	annotationSHA256 = "lazurite.dev/bundle-sha256"
	bundleTime       = 8 * time.Second // less than the API server waits for a review
)

// bundles copies the ConfigMap with the certificates, of the webhook's own
// namespace, into each namespace whose pods mount it, and keeps the copies equal.
type bundles struct {
	home     string // the webhook's namespace
	api      dynamic.NamespaceableResourceInterface
	informer cache.SharedIndexInformer
	log      *slog.Logger
	changed  chan string // namespaces whose ConfigMap is another than it was

	mu     sync.Mutex
	sum    string            // of the certificates, in hexadecimal
	pem    string            // they
	copies map[string]string // namespace → sum of its copy
	making map[string]*making
}

// making is a copy that is being made; others wait for it.
type making struct {
	done chan struct{}
	err  error
}

func newBundles(home string, api dynamic.Interface, meta metadata.Interface, log *slog.Logger) (*bundles, error) {
	informer, err := metadataOf(meta, configMaps, "", mutate.BundleName, func(key string) bool { return key == annotationSHA256 })
	if err != nil {
		return nil, err
	}
	b := &bundles{
		home: home, api: api.Resource(configMaps), informer: informer, log: log, changed: make(chan string, 64),
		copies: map[string]string{}, making: map[string]*making{},
	}
	_, err = informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { b.seen(o, false) },
		UpdateFunc: func(_, o any) { b.seen(o, false) },
		DeleteFunc: func(o any) { b.seen(o, true) },
	})
	if err != nil {
		return nil, fmt.Errorf("watch certificates: %w", err)
	}
	return b, nil
}

func (b *bundles) seen(o any, gone bool) {
	if last, ok := o.(cache.DeletedFinalStateUnknown); ok {
		o = last.Obj
	}
	m, ok := o.(*metav1.PartialObjectMetadata)
	if !ok {
		return
	}
	b.mu.Lock()
	if m.Namespace != b.home {
		b.copies[m.Namespace] = m.Annotations[annotationSHA256]
		if gone {
			b.copies[m.Namespace] = ""
		}
	}
	stale := m.Namespace == b.home || b.sum != "" && b.copies[m.Namespace] != b.sum
	b.mu.Unlock()
	if stale {
		b.changed <- m.Namespace
	}
}

// run reads the certificates when they change, and then renews the copies,
// until ctx ends.
func (b *bundles) run(ctx context.Context) {
	again := time.NewTicker(time.Minute)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case namespace := <-b.changed:
			if namespace != b.home {
				b.renew(ctx, namespace)
				continue
			}
		case <-again.C:
		}
		if err := b.load(ctx); err != nil {
			b.log.Error("read certificates", "error", err.Error())
			continue
		}
		for _, namespace := range b.stale() {
			b.renew(ctx, namespace)
		}
	}
}

func (b *bundles) stale() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var list []string
	for namespace, sum := range b.copies {
		if sum != b.sum {
			list = append(list, namespace)
		}
	}
	return list
}

func (b *bundles) renew(ctx context.Context, namespace string) {
	ctx, cancel := context.WithTimeout(ctx, bundleTime)
	defer cancel()
	err := b.Ensure(ctx, namespace)
	if apierrors.IsForbidden(err) || apierrors.IsNotFound(err) { // the namespace ends
		b.mu.Lock()
		delete(b.copies, namespace)
		b.mu.Unlock()
		return
	}
	if err != nil {
		b.log.Error("renew certificates", "namespace", namespace, "error", err.Error())
	}
}

// load reads the certificates.
func (b *bundles) load(ctx context.Context) error {
	o, err := b.api.Namespace(b.home).Get(ctx, mutate.BundleName, metav1.GetOptions{})
	if err != nil {
		return err
	}
	pem, _, _ := unstructured.NestedString(o.Object, "data", mutate.BundleKey)
	if pem == "" {
		return fmt.Errorf("the ConfigMap %s/%s has no %s", b.home, mutate.BundleName, mutate.BundleKey)
	}
	sum := sha256.Sum256([]byte(pem))
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pem, b.sum = pem, hex.EncodeToString(sum[:])
	return nil
}

// Ensure implements [Bundles]: where the namespace has the copy already it asks
// nobody, and of many pods at once one makes it.
func (b *bundles) Ensure(ctx context.Context, namespace string) error {
	b.mu.Lock()
	if namespace == b.home || b.sum != "" && b.copies[namespace] == b.sum {
		b.mu.Unlock()
		return nil
	}
	if m := b.making[namespace]; m != nil {
		b.mu.Unlock()
		select {
		case <-m.done:
			return m.err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	m := &making{done: make(chan struct{})}
	b.making[namespace] = m
	b.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), bundleTime)
	defer cancel()
	m.err = b.copy(ctx, namespace)
	b.mu.Lock()
	delete(b.making, namespace)
	b.mu.Unlock()
	close(m.done)
	return m.err
}

func (b *bundles) copy(ctx context.Context, namespace string) error {
	b.mu.Lock()
	pem, sum := b.pem, b.sum
	b.mu.Unlock()
	if sum == "" {
		if err := b.load(ctx); err != nil {
			return err
		}
		b.mu.Lock()
		pem, sum = b.pem, b.sum
		b.mu.Unlock()
	}
	o := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap",
		"metadata": map[string]any{
			"name": mutate.BundleName, "namespace": namespace,
			"annotations": map[string]any{annotationSHA256: sum},
			"labels":      map[string]any{"app.kubernetes.io/managed-by": fieldManager},
		},
		"data": map[string]any{mutate.BundleKey: pem},
	}}
	if _, err := b.api.Namespace(namespace).Apply(ctx, mutate.BundleName, o, metav1.ApplyOptions{FieldManager: fieldManager, Force: true}); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.copies[namespace] = sum
	return nil
}

// ready says why pods can't be given certificates yet.
func (b *bundles) ready() error {
	if !b.informer.HasSynced() {
		return errors.New("the copies of the certificates are not known yet")
	}
	return nil
}
