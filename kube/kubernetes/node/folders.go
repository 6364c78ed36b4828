package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"lazurite.dev/kube/kubernetes/volume"
)

// folders makes and removes the folders of the local volumes of this node.
// Data is removed only for a volume that is being deleted and whose reclaim
// policy says so.
type folders struct {
	Config
	client kubernetes.Interface
	log    *slog.Logger
	pvs    corelisters.PersistentVolumeLister
	pvcs   corelisters.PersistentVolumeClaimLister
	root   *os.Root // a link that a pod planted leads nowhere outside
	wake   chan struct{}
}

func newFolders(c Config, client kubernetes.Interface, factory informers.SharedInformerFactory, log *slog.Logger) (*folders, error) {
	if err := os.MkdirAll(c.Volumes, 0o711); err != nil {
		return nil, fmt.Errorf("making the folder of the volumes: %w", err)
	}
	root, err := os.OpenRoot(c.Volumes)
	if err != nil {
		return nil, fmt.Errorf("opening the folder of the volumes: %w", err)
	}
	f := &folders{Config: c, client: client, log: log, root: root, wake: make(chan struct{}, 1),
		pvs: factory.Core().V1().PersistentVolumes().Lister(), pvcs: factory.Core().V1().PersistentVolumeClaims().Lister()}
	changed := func() {
		select {
		case f.wake <- struct{}{}:
		default: // asked already
		}
	}
	for _, informer := range []cache.SharedIndexInformer{
		factory.Core().V1().PersistentVolumes().Informer(), factory.Core().V1().PersistentVolumeClaims().Informer(),
	} {
		if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    func(any) { changed() },
			UpdateFunc: func(any, any) { changed() },
			DeleteFunc: func(any) { changed() },
		}); err != nil {
			return nil, errors.Join(fmt.Errorf("watching volumes: %w", err), root.Close())
		}
	}
	return f, nil
}

func (f *folders) close() { f.root.Close() }

func (f *folders) run(ctx context.Context) error {
	for {
		if err := f.reconcile(ctx); err != nil {
			f.log.Error("the folders of volumes are not as they should be", "error", err)
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(2 * time.Second):
				continue
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-f.wake:
		}
	}
}

func (f *folders) reconcile(ctx context.Context) error {
	claims, err := f.pvcs.List(labels.Everything())
	if err != nil {
		return fmt.Errorf("listing claims: %w", err)
	}
	pvs, err := f.pvs.List(labels.Everything())
	if err != nil {
		return fmt.Errorf("listing volumes: %w", err)
	}
	var all []error
	needed := map[string]bool{}
	for _, claim := range claims {
		name := volume.Name(claim)
		needed[name] = true
		if claim.Annotations[volume.Selected] == f.Node && claim.Annotations[volume.ProvisionerOf] == volume.Provisioner && claim.Spec.VolumeName == "" {
			all = append(all, f.makeFolder(name))
		}
	}
	for _, pv := range pvs {
		needed[pv.Name] = true
		if volume.NodeOf(pv) != f.Node {
			continue
		}
		if pv.DeletionTimestamp != nil {
			all = append(all, f.remove(ctx, pv))
		} else {
			all = append(all, f.ensure(ctx, pv))
		}
	}
	all = append(all, f.sweep(needed))
	return errors.Join(all...)
}

// volumeName is the form of the names that the controller gives.
var volumeName = regexp.MustCompile(`^pvc-[0-9a-f-]{1,64}$`)

func (f *folders) makeFolder(name string) error {
	if !volumeName.MatchString(name) {
		return fmt.Errorf("a volume named %q is not one of ours", name)
	}
	err := f.root.Mkdir(name, 0o755)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("making the folder of a volume: %w", err)
	}
	if err := f.root.Chmod(name, 0o755); err != nil { // whatever the umask is
		return fmt.Errorf("making the folder of a volume: %w", err)
	}
	f.log.Info("a volume has its folder", "volume", name)
	return nil
}

// ensure makes the folder of a new volume. One that was made before and is
// gone is not made again: an empty folder would pass for the lost data.
func (f *folders) ensure(ctx context.Context, pv *corev1.PersistentVolume) error {
	if pv.Annotations[volume.Made] != "" {
		return nil
	}
	if err := f.makeFolder(pv.Name); err != nil {
		return err
	}
	return f.patch(ctx, pv.Name, map[string]any{"annotations": map[string]string{volume.Made: "true"}})
}

// remove removes the data of a volume that is being deleted, where its reclaim
// policy is Delete, and then lets the object go.
func (f *folders) remove(ctx context.Context, pv *corev1.PersistentVolume) error {
	if !slices.Contains(pv.Finalizers, volume.Finalizer) {
		return nil
	}
	if pv.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimDelete {
		if !volumeName.MatchString(pv.Name) {
			return fmt.Errorf("a volume named %q is not one of ours", pv.Name)
		}
		if err := f.root.RemoveAll(pv.Name); err != nil {
			return fmt.Errorf("removing the data of a volume: %w", err)
		}
		f.log.Info("a volume's data is removed", "volume", pv.Name)
	}
	return f.patch(ctx, pv.Name, map[string]any{"$deleteFromPrimitiveList/finalizers": []string{volume.Finalizer}})
}

// sweep removes empty folders that nothing needs: those of claims that found
// another node. It never removes data.
func (f *folders) sweep(needed map[string]bool) error {
	entries, err := fs.ReadDir(f.root.FS(), ".")
	if err != nil {
		return fmt.Errorf("reading the folder of the volumes: %w", err)
	}
	for _, entry := range entries {
		if entry.IsDir() && volumeName.MatchString(entry.Name()) && !needed[entry.Name()] {
			if err := f.root.Remove(entry.Name()); err == nil {
				f.log.Info("an unused folder is removed", "volume", entry.Name())
			}
		}
	}
	return nil
}

func (f *folders) patch(ctx context.Context, name string, metadata map[string]any) error {
	raw, err := json.Marshal(map[string]any{"metadata": metadata})
	if err != nil {
		return fmt.Errorf("writing a patch: %w", err)
	}
	_, err = f.client.CoreV1().PersistentVolumes().Patch(ctx, name, types.StrategicMergePatchType, raw, metav1.PatchOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("marking a volume: %w", err)
	}
	return nil
}
