package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	corelisters "k8s.io/client-go/listers/core/v1"
	storagelisters "k8s.io/client-go/listers/storage/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/tools/reference"

	"lazurite.dev/kube/kubernetes/volume"
)

// volumes makes a volume for each claim of a class of ours once the scheduler
// has chosen a node, and lets it go when its claim is gone. Package volume says
// who does what.
type volumes struct {
	folder  string
	client  kubernetes.Interface
	pvcs    corelisters.PersistentVolumeClaimLister
	pvs     corelisters.PersistentVolumeLister
	nodes   corelisters.NodeLister
	classes storagelisters.StorageClassLister
	events  record.EventRecorder
	log     *slog.Logger
	claims  queue // namespace/name
	volumes queue // name
}

func newVolumes(c Config, client kubernetes.Interface, factory informers.SharedInformerFactory, events record.EventRecorder, log *slog.Logger) (*volumes, error) {
	core := factory.Core().V1()
	v := &volumes{
		folder: c.Volumes, client: client, events: events, log: log, claims: newQueue(), volumes: newQueue(),
		pvcs: core.PersistentVolumeClaims().Lister(), pvs: core.PersistentVolumes().Lister(), nodes: core.Nodes().Lister(),
		classes: factory.Storage().V1().StorageClasses().Lister(),
	}
	everyVolume := func(any) {
		all, err := v.pvs.List(labels.Everything())
		if err != nil {
			log.Error("listing volumes", "error", err)
		}
		for _, pv := range all {
			v.volumes.Add(pv.Name)
		}
	}
	_, err := core.Nodes().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{DeleteFunc: everyVolume})
	return v, errors.Join(err,
		watch(core.PersistentVolumeClaims().Informer(), v.claims.Add),
		watch(core.PersistentVolumes().Informer(), v.volumes.Add))
}

// provision makes the volume of a claim.
func (v *volumes) provision(ctx context.Context, key string) error {
	namespace, name, err := cache.SplitMetaNamespaceKey(key)
	if err != nil {
		return nil // no key of a claim
	}
	claim, err := v.pvcs.PersistentVolumeClaims(namespace).Get(name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading a claim: %w", err)
	}
	if claim.DeletionTimestamp != nil || claim.Spec.VolumeName != "" || claim.Spec.StorageClassName == nil {
		return nil // nothing to do
	}
	class, err := v.classes.Get(*claim.Spec.StorageClassName)
	if err != nil || class.Provisioner != volume.Provisioner {
		return nil // another's
	}
	node := claim.Annotations[volume.Selected]
	if err := supported(claim, class); err != nil {
		v.events.Event(claim, corev1.EventTypeWarning, "ProvisioningFailed", sentence(err))
		if node == "" {
			return nil
		}
		return v.reschedule(ctx, claim) // the pod's events say it too
	}
	if node == "" || claim.Annotations[volume.ProvisionerOf] != volume.Provisioner {
		return nil // the scheduler comes first, and then the one who asks us
	}
	if _, err := v.nodes.Get(node); apierrors.IsNotFound(err) {
		return v.reschedule(ctx, claim)
	} else if err != nil {
		return fmt.Errorf("reading a node: %w", err)
	}
	pv, err := v.volumeFor(claim, class, node)
	if err != nil {
		return err
	}
	_, err = v.client.CoreV1().PersistentVolumes().Create(ctx, pv, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("making a volume: %w", err)
	}
	v.events.Eventf(claim, corev1.EventTypeNormal, "ProvisioningSucceeded", "Successfully provisioned volume %s on node %s", pv.Name, node)
	v.log.Info("a claim has its volume", "claim", key, "volume", pv.Name, "node", node)
	return nil
}

// reschedule tells the scheduler that its choice can't be had: it takes the
// choice away, as every provisioner does.
func (v *volumes) reschedule(ctx context.Context, claim *corev1.PersistentVolumeClaim) error {
	claim = claim.DeepCopy()
	delete(claim.Annotations, volume.Selected)
	_, err := v.client.CoreV1().PersistentVolumeClaims(claim.Namespace).Update(ctx, claim, metav1.UpdateOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("giving a claim back to the scheduler: %w", err)
	}
	return nil
}

// supported says what of a claim or its class a folder on one node can't be.
func supported(claim *corev1.PersistentVolumeClaim, class *storagev1.StorageClass) error {
	for _, mode := range claim.Spec.AccessModes {
		if mode != corev1.ReadWriteOnce && mode != corev1.ReadWriteOncePod {
			return fmt.Errorf("the access mode %s is not supported by the storage class %s: its volumes are folders of one node; ReadWriteOnce and ReadWriteOncePod are", mode, class.Name)
		}
	}
	if claim.Spec.VolumeMode != nil && *claim.Spec.VolumeMode == corev1.PersistentVolumeBlock {
		return fmt.Errorf("the volume mode Block is not supported by the storage class %s: its volumes are folders", class.Name)
	}
	if claim.Spec.DataSource != nil || claim.Spec.DataSourceRef != nil {
		return errors.New("a volume can't be made from a snapshot or another volume here: spec.dataSource is not supported")
	}
	if claim.Spec.Selector != nil {
		return errors.New("a claim with a selector is not provisioned: it asks for a volume that exists")
	}
	if len(class.Parameters) > 0 {
		return fmt.Errorf("the storage class %s has parameters that are not known here: %v; none are", class.Name, slices.Sorted(maps.Keys(class.Parameters)))
	}
	if len(class.MountOptions) > 0 {
		return fmt.Errorf("the storage class %s has mount options: a folder is not mounted with any", class.Name)
	}
	return nil
}

// volumeFor is the volume of a claim on a node.
func (v *volumes) volumeFor(claim *corev1.PersistentVolumeClaim, class *storagev1.StorageClass, node string) (*corev1.PersistentVolume, error) {
	ref, err := reference.GetReference(scheme.Scheme, claim)
	if err != nil {
		return nil, fmt.Errorf("referring to a claim: %w", err)
	}
	reclaim := corev1.PersistentVolumeReclaimDelete
	if class.ReclaimPolicy != nil {
		reclaim = *class.ReclaimPolicy
	}
	name, mode := volume.Name(claim), corev1.PersistentVolumeFilesystem
	return &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{
			Name:        name,
			Finalizers:  []string{volume.Finalizer},
			Annotations: map[string]string{volume.ProvisionedBy: volume.Provisioner},
		},
		Spec: corev1.PersistentVolumeSpec{
			Capacity:                      corev1.ResourceList{corev1.ResourceStorage: claim.Spec.Resources.Requests[corev1.ResourceStorage]},
			PersistentVolumeSource:        corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: path.Join(v.folder, name)}},
			AccessModes:                   claim.Spec.AccessModes,
			ClaimRef:                      ref,
			PersistentVolumeReclaimPolicy: reclaim,
			StorageClassName:              class.Name,
			VolumeMode:                    &mode,
			NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
				MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{node}}},
			}}}},
		},
	}, nil
}

// reclaim deletes a volume of ours whose claim is gone, where its policy says
// so, and lets one go whose node is gone: the data went with the node.
func (v *volumes) reclaim(ctx context.Context, name string) error {
	pv, err := v.pvs.Get(name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading a volume: %w", err)
	}
	node := volume.NodeOf(pv)
	if node == "" {
		return nil // another's
	}
	if pv.DeletionTimestamp == nil {
		if pv.Status.Phase != corev1.VolumeReleased || pv.Spec.PersistentVolumeReclaimPolicy != corev1.PersistentVolumeReclaimDelete {
			return nil
		}
		if err := v.client.CoreV1().PersistentVolumes().Delete(ctx, name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &pv.UID}}); err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("deleting a volume: %w", err)
		}
		return nil
	}
	if _, err := v.nodes.Get(node); !apierrors.IsNotFound(err) || !slices.Contains(pv.Finalizers, volume.Finalizer) {
		return nil // its node removes the data and then the finalizer
	}
	pv = pv.DeepCopy()
	pv.Finalizers = slices.DeleteFunc(pv.Finalizers, func(f string) bool { return f == volume.Finalizer })
	if _, err := v.client.CoreV1().PersistentVolumes().Update(ctx, pv, metav1.UpdateOptions{}); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("letting a volume go: %w", err)
	}
	v.log.Info("a volume went with its node", "volume", name, "node", node)
	return nil
}
