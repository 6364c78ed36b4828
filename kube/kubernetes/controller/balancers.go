package controller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
)

// Class is the load balancer class that means this controller, as no class
// does.
const Class = "lazurite.dev/load-balancer"

// AddressAnnotation asks for an address as on AKS; it wins over
// spec.loadBalancerIP.
const AddressAnnotation = "service.beta.kubernetes.io/azure-load-balancer-ipv4"

// refusedAnnotations restrict who reaches a load balancer on AKS. What is not
// enforced is not taken: a service with one gets no address.
func refusedAnnotations() []string {
	return []string{
		"service.beta.kubernetes.io/azure-allowed-ip-ranges",
		"service.beta.kubernetes.io/azure-allowed-service-tags",
		"service.beta.kubernetes.io/azure-pls-create",
	}
}

// balancers gives services of the type LoadBalancer their addresses. kube-proxy
// on every node does the rest. What is given is written in the services'
// status and nowhere else.
type balancers struct {
	client   kubernetes.Interface
	services corelisters.ServiceLister
	events   record.EventRecorder
	log      *slog.Logger
	queue    queue
	pool     *pool           // used by recall, and then by reconcile alone
	waiting  map[string]bool // services that found no address
}

func newBalancers(c Config, client kubernetes.Interface, factory informers.SharedInformerFactory, events record.EventRecorder, log *slog.Logger) (*balancers, error) {
	b := &balancers{
		client: client, services: factory.Core().V1().Services().Lister(), events: events, log: log,
		queue: newQueue(), pool: newPool(c.Addresses), waiting: map[string]bool{},
	}
	return b, watch(factory.Core().V1().Services().Informer(), b.queue.Add)
}

// ours says whether a service is this controller's.
func ours(s *corev1.Service) bool {
	return s.DeletionTimestamp == nil && s.Spec.Type == corev1.ServiceTypeLoadBalancer &&
		(s.Spec.LoadBalancerClass == nil || *s.Spec.LoadBalancerClass == Class)
}

// recall learns what was given before, the oldest service first: one address
// that two services show is the older one's.
func (b *balancers) recall() {
	all, err := b.services.List(labels.Everything())
	if err != nil {
		b.log.Error("listing services", "error", err)
	}
	slices.SortFunc(all, func(x, y *corev1.Service) int {
		return cmp.Or(x.CreationTimestamp.Compare(y.CreationTimestamp.Time), cmp.Compare(x.Namespace+"/"+x.Name, y.Namespace+"/"+y.Name))
	})
	for _, s := range all {
		if given, ok := b.given(s); ok && ours(s) {
			if err := b.pool.take(given, s.Namespace+"/"+s.Name); err != nil {
				b.log.Warn("a service keeps no address", "service", s.Namespace+"/"+s.Name, "error", err)
			}
		}
	}
}

// given is the address of the range in a service's status.
func (b *balancers) given(s *corev1.Service) (netip.Addr, bool) {
	for _, ingress := range s.Status.LoadBalancer.Ingress {
		if a, err := netip.ParseAddr(ingress.IP); err == nil && b.pool.usable(a) {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// reconcile gives a service what it should have, or takes it back.
func (b *balancers) reconcile(ctx context.Context, key string) error {
	namespace, name, err := cache.SplitMetaNamespaceKey(key)
	if err != nil {
		return nil // no key of a service
	}
	s, err := b.services.Services(namespace).Get(name)
	if apierrors.IsNotFound(err) {
		b.release(key)
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading a service: %w", err)
	}
	if !ours(s) {
		if _, had := b.given(s); had && (s.Spec.Type != corev1.ServiceTypeLoadBalancer || b.owns(key)) {
			if err := b.write(ctx, s, nil); err != nil {
				return err
			}
		}
		b.release(key)
		return nil
	}
	a, err := b.choose(s, key)
	if err != nil {
		if !b.waiting[key] || !errors.Is(err, errExhausted) {
			b.events.Event(s, corev1.EventTypeWarning, "AllocationFailed", sentence(err))
		}
		b.waiting[key] = true
		b.pool.free(key, netip.Addr{})
		if len(s.Status.LoadBalancer.Ingress) > 0 {
			return b.write(ctx, s, nil)
		}
		return nil // a change of the service, or an address that is freed, brings it back
	}
	delete(b.waiting, key)
	if b.pool.free(key, a) {
		defer b.retry()
	}
	mode := corev1.LoadBalancerIPModeVIP
	want := []corev1.LoadBalancerIngress{{IP: a.String(), IPMode: &mode}}
	if same(s.Status.LoadBalancer.Ingress, want) {
		return nil
	}
	if err := b.write(ctx, s, want); err != nil {
		return err
	}
	b.events.Eventf(s, corev1.EventTypeNormal, "EnsuredLoadBalancer", "The address is %s", a)
	b.log.Info("a load balancer has its address", "service", key, "address", a)
	return nil
}

// choose takes the address that a service asks for, or the one that it has, or
// any.
func (b *balancers) choose(s *corev1.Service, key string) (netip.Addr, error) {
	for _, annotation := range refusedAnnotations() {
		if s.Annotations[annotation] != "" {
			return netip.Addr{}, fmt.Errorf("the annotation %s is not supported: the service gets no address, "+
				"because it would be open wider than it asks for; spec.loadBalancerSourceRanges is enforced", annotation)
		}
	}
	if wish := cmp.Or(s.Annotations[AddressAnnotation], s.Spec.LoadBalancerIP); wish != "" {
		a, err := netip.ParseAddr(wish)
		if err != nil {
			return a, fmt.Errorf("the address %q that the service asks for is none", wish)
		}
		return a, b.pool.take(a, key)
	}
	if a, ok := b.pool.of(key); ok {
		return a, nil
	}
	if a, ok := b.given(s); ok && b.pool.take(a, key) == nil {
		return a, nil
	}
	return b.pool.any(key)
}

func (b *balancers) owns(key string) bool {
	_, ok := b.pool.of(key)
	return ok
}

// release takes a service's address back; those that wait try again.
func (b *balancers) release(key string) {
	delete(b.waiting, key)
	if b.pool.free(key, netip.Addr{}) {
		b.log.Info("a load balancer's address is free", "service", key)
		b.retry()
	}
}

func (b *balancers) retry() {
	for key := range b.waiting {
		b.queue.Add(key)
	}
}

func (b *balancers) write(ctx context.Context, s *corev1.Service, ingress []corev1.LoadBalancerIngress) error {
	s = s.DeepCopy()
	s.Status.LoadBalancer.Ingress = ingress
	_, err := b.client.CoreV1().Services(s.Namespace).UpdateStatus(ctx, s, metav1.UpdateOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("writing a service's address: %w", err)
	}
	return nil
}

func same(a, b []corev1.LoadBalancerIngress) bool {
	return slices.EqualFunc(a, b, func(x, y corev1.LoadBalancerIngress) bool {
		return x.IP == y.IP && x.Hostname == y.Hostname && x.IPMode != nil && *x.IPMode == *y.IPMode
	})
}

// sentence makes an error the text of an event.
func sentence(err error) string {
	text := err.Error()
	return strings.ToUpper(text[:1]) + text[1:]
}
