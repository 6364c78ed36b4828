// Package node is the program lazurite-node, which runs once on each node, as
// root in the node's namespaces. It enforces network policies and it makes
// and removes the folders of local volumes.
//
//	lazurite-node --kubeconfig F --node NAME --volumes DIR
//
// A pod gets its network only when its rules stand: the CNI plugin
// lazurite-policy, last in the chain, asks here over a unix socket and the
// pod's containers are not started before the answer. Without an answer the
// pod is not started; the kubelet says why and tries again.
package node

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os/signal"
	"syscall"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/record"
)

// Config says which node this is.
type Config struct {
	Kubeconfig string // file; its certificates are read again when they change
	Node       string // name
	Volumes    string // folder of the local volumes
	Socket     string // unix socket for the CNI plugin; a file with what it attached lies beside it
}

// Main runs lazurite-node until it is told to stop, and returns its exit status.
func Main(args []string, stderr io.Writer) int {
	var c Config
	flags := flag.NewFlagSet("lazurite-node", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&c.Kubeconfig, "kubeconfig", "", "`file` that says where the API server is, and who this is")
	flags.StringVar(&c.Node, "node", "", "`name` of this node")
	flags.StringVar(&c.Volumes, "volumes", "/var/lib/lazurite/volumes", "`folder` of the local volumes")
	flags.StringVar(&c.Socket, "socket", "/run/lazurite/policy.sock", "unix `socket` for the CNI plugin")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return 0
	} else if err != nil {
		return 2
	}
	if flags.NArg() > 0 || c.Kubeconfig == "" || c.Node == "" {
		fmt.Fprintln(stderr, "usage: lazurite-node --kubeconfig FILE --node NAME [--volumes FOLDER] [--socket FILE]")
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	log := slog.New(slog.NewTextHandler(stderr, nil))
	if err := Run(ctx, c, log); err != nil && !errors.Is(err, context.Canceled) {
		log.Error("lazurite-node ends", "error", err)
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
	config.UserAgent = "lazurite-node"
	config.QPS, config.Burst = 100, 200
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("making a client: %w", err)
	}
	broadcaster := record.NewBroadcaster(record.WithContext(ctx))
	defer broadcaster.Shutdown()
	broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: client.CoreV1().Events("")})
	events := broadcaster.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "lazurite-node", Host: c.Node})

	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithTransform(slim))
	enforcer, err := newEnforcer(c, client, factory, events, log)
	if err != nil {
		return err
	}
	folders, err := newFolders(c, client, factory, log)
	if err != nil {
		return err
	}
	defer folders.close()
	factory.StartWithContext(ctx)
	defer factory.Shutdown()
	if sync := factory.WaitForCacheSyncWithContext(ctx); sync.Err != nil {
		return fmt.Errorf("reading the cluster: %w", sync.Err)
	}
	log.Info("the cluster is known", "node", c.Node)
	if err := enforcer.recall(); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return enforcer.run(ctx) })
	group.Go(func() error { return enforcer.report(ctx) })
	group.Go(func() error { return enforcer.serve(ctx) })
	group.Go(func() error { return folders.run(ctx) })
	return group.Wait()
}

// slim takes from objects what is never read here, so that a large cluster
// costs little memory.
func slim(object any) (any, error) {
	if o, ok := object.(metav1.Object); ok {
		o.SetManagedFields(nil)
	}
	if pod, ok := object.(*corev1.Pod); ok {
		pod.Annotations = nil
		pod.Spec.Volumes = nil
		pod.Status.Conditions = nil
		pod.Status.ContainerStatuses = nil
		for _, list := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
			for i := range list {
				list[i] = corev1.Container{Name: list[i].Name, Ports: list[i].Ports, RestartPolicy: list[i].RestartPolicy}
			}
		}
	}
	return object, nil
}
