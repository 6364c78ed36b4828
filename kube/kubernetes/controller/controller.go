// Package controller is the program lazurite-controller: one for each cluster,
// without root, in the cluster's network. It gives load balancers their
// addresses and makes local volumes for claims.
//
//	lazurite-controller --kubeconfig F --address-range 198.18.0.128/25
package controller

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os/signal"
	"path"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/workqueue"
)

// Config says what the controller has to give.
type Config struct {
	Kubeconfig string       // file; its certificates are read again when they change
	Addresses  netip.Prefix // of load balancers; its first and last one are not given
	Volumes    string       // folder of local volumes, as every node sees it
}

// Main runs lazurite-controller until it is told to stop, and returns its exit
// status.
func Main(args []string, stderr io.Writer) int {
	var c Config
	flags := flag.NewFlagSet("lazurite-controller", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&c.Kubeconfig, "kubeconfig", "", "`file` that says where the API server is, and who this is")
	flags.TextVar(&c.Addresses, "address-range", netip.Prefix{}, "addresses of load balancers, as a `CIDR`")
	flags.StringVar(&c.Volumes, "volumes", "/var/lib/lazurite/volumes", "`folder` of local volumes, as every node sees it")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return 0
	} else if err != nil {
		return 2
	}
	if flags.NArg() > 0 || c.Kubeconfig == "" || !c.Addresses.IsValid() || !c.Addresses.Addr().Is4() || !path.IsAbs(c.Volumes) {
		fmt.Fprintln(stderr, "usage: lazurite-controller --kubeconfig FILE --address-range CIDR [--volumes FOLDER]")
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	log := slog.New(slog.NewTextHandler(stderr, nil))
	if err := Run(ctx, c, log); err != nil && !errors.Is(err, context.Canceled) {
		log.Error("lazurite-controller ends", "error", err)
		return 1
	}
	return 0
}

// Run works until ctx ends or something fails that a restart may repair.
func Run(ctx context.Context, c Config, log *slog.Logger) error {
	config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig)
	if err != nil {
		return fmt.Errorf("reading the kubeconfig: %w", err)
	}
	config.UserAgent = "lazurite-controller"
	config.QPS, config.Burst = 100, 200
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("making a client: %w", err)
	}
	return run(ctx, c, client, log)
}

func run(ctx context.Context, c Config, client kubernetes.Interface, log *slog.Logger) error {
	broadcaster := record.NewBroadcaster(record.WithContext(ctx))
	defer broadcaster.Shutdown()
	broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: client.CoreV1().Events("")})
	events := broadcaster.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "lazurite-controller"})

	factory := informers.NewSharedInformerFactoryWithOptions(client, 10*time.Minute, informers.WithTransform(slim))
	balancers, err := newBalancers(c, client, factory, events, log)
	if err != nil {
		return err
	}
	volumes, err := newVolumes(c, client, factory, events, log)
	if err != nil {
		return err
	}
	factory.StartWithContext(ctx)
	defer factory.Shutdown()
	if sync := factory.WaitForCacheSyncWithContext(ctx); sync.Err != nil {
		return fmt.Errorf("reading the cluster: %w", sync.Err)
	}
	balancers.recall()
	log.Info("the cluster is known", "addresses", c.Addresses)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return work(ctx, balancers.queue, balancers.reconcile, log) })
	group.Go(func() error { return work(ctx, volumes.claims, volumes.provision, log) })
	group.Go(func() error { return work(ctx, volumes.volumes, volumes.reclaim, log) })
	return group.Wait()
}

// slim takes from objects what is never read here.
func slim(object any) (any, error) {
	if o, ok := object.(metav1.Object); ok {
		o.SetManagedFields(nil)
	}
	return object, nil
}

type queue = workqueue.TypedRateLimitingInterface[string]

func newQueue() queue {
	return workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[string](100*time.Millisecond, time.Minute))
}

// work takes keys from a queue, one at a time; what fails comes again, later
// each time.
func work(ctx context.Context, q queue, do func(context.Context, string) error, log *slog.Logger) error {
	stop := context.AfterFunc(ctx, q.ShutDown)
	defer stop()
	for {
		key, shutdown := q.Get()
		if shutdown {
			return ctx.Err()
		}
		if err := do(ctx, key); err != nil {
			if ctx.Err() == nil {
				log.Warn("will be tried again", "key", key, "error", err)
			}
			q.AddRateLimited(key)
		} else {
			q.Forget(key)
		}
		q.Done(key)
	}
}

// watch puts the key of every object that changes into a queue.
func watch(informer cache.SharedIndexInformer, put func(key string)) error {
	add := func(object any) {
		if key, err := cache.DeletionHandlingMetaNamespaceKeyFunc(object); err == nil {
			put(key)
		}
	}
	if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: add, UpdateFunc: func(_, object any) { add(object) }, DeleteFunc: add,
	}); err != nil {
		return fmt.Errorf("watching the cluster: %w", err)
	}
	return nil
}
