package controller

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"lazurite.dev/kube/kubernetes/volume"
)

func claim(change func(*corev1.PersistentVolumeClaim)) *corev1.PersistentVolumeClaim {
	c := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: "data", Namespace: "shop", UID: "0a1b"},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
		},
	}
	if change != nil {
		change(c)
	}
	return c
}

func class() *storagev1.StorageClass {
	return &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "default"}, Provisioner: volume.Provisioner}
}

func TestSupported_SaysWhatAFolderCannotBe(t *testing.T) {
	block := corev1.PersistentVolumeBlock
	for want, c := range map[string]*corev1.PersistentVolumeClaim{
		"ReadWriteMany is not supported": claim(func(c *corev1.PersistentVolumeClaim) {
			c.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce, corev1.ReadWriteMany}
		}),
		"ReadOnlyMany is not supported": claim(func(c *corev1.PersistentVolumeClaim) {
			c.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadOnlyMany}
		}),
		"Block is not supported": claim(func(c *corev1.PersistentVolumeClaim) { c.Spec.VolumeMode = &block }),
		"dataSource": claim(func(c *corev1.PersistentVolumeClaim) {
			c.Spec.DataSource = &corev1.TypedLocalObjectReference{Kind: "VolumeSnapshot"}
		}),
		"selector": claim(func(c *corev1.PersistentVolumeClaim) { c.Spec.Selector = &metav1.LabelSelector{} }),
	} {
		if err := supported(c, class()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	with := class()
	with.Parameters = map[string]string{"skuName": "Premium_LRS", "diskEncryptionSetID": "x"}
	if err := supported(claim(nil), with); err == nil || !strings.Contains(err.Error(), "[diskEncryptionSetID skuName]") {
		t.Errorf("got %v", err)
	}
	with = class()
	with.MountOptions = []string{"ro"}
	if err := supported(claim(nil), with); err == nil {
		t.Error("mount options are taken")
	}
	if err := supported(claim(nil), class()); err != nil {
		t.Error(err)
	}
}

func TestVolumeFor_StaysOnItsNode(t *testing.T) {
	v := &volumes{folder: "/volumes"}
	retain := corev1.PersistentVolumeReclaimRetain
	with := class()
	with.ReclaimPolicy = &retain
	pv, err := v.volumeFor(claim(nil), with, "n1")
	if err != nil {
		t.Fatal(err)
	}
	if got := volume.NodeOf(pv); got != "n1" {
		t.Errorf("the node is %q", got)
	}
	if pv.Name != "pvc-0a1b" || pv.Spec.Local.Path != "/volumes/pvc-0a1b" || pv.Spec.PersistentVolumeReclaimPolicy != retain || pv.Spec.ClaimRef.UID != "0a1b" {
		t.Errorf("got %+v", pv)
	}
	pv.Annotations = nil
	if got := volume.NodeOf(pv); got != "" {
		t.Errorf("another's volume is of the node %q", got)
	}
}
