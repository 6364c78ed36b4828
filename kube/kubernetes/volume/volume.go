// Package volume is what lazurite-controller and lazurite-node agree on about
// local volumes.
//
//	claim with a chosen node      → node makes the folder, controller makes the volume
//	volume without mark           → node makes the folder where it is missing, and marks the volume
//	volume released, policy Delete → controller deletes the volume, which its finalizer holds
//	volume being deleted          → node removes the data (policy Delete) and then the finalizer
//	… whose node is gone          → controller removes the finalizer: the data went with the node
package volume

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// Names that both sides, and the manifests of storage classes, use.
const (
	Provisioner = "lazurite.dev/local-volume"
	Finalizer   = "lazurite.dev/local-volume"
	Made        = "lazurite.dev/folder-made" // annotation of a volume: its folder was made once
)

// Annotations of Kubernetes (kubernetes.io/docs/reference/labels-annotations-taints).
const (
	Selected      = "volume.kubernetes.io/selected-node"       // of a claim: the scheduler's choice
	ProvisionerOf = "volume.kubernetes.io/storage-provisioner" // of a claim: who is asked
	ProvisionedBy = "pv.kubernetes.io/provisioned-by"          // of a volume
)

// Name returns the name of the volume, and of its folder, for a claim.
func Name(claim *corev1.PersistentVolumeClaim) string { return "pvc-" + string(claim.UID) }

// NodeOf returns the name of the node that holds a volume of ours, or "" for
// another's volume.
func NodeOf(pv *corev1.PersistentVolume) string {
	if pv.Annotations[ProvisionedBy] != Provisioner || pv.Spec.Local == nil || pv.Spec.NodeAffinity == nil || pv.Spec.NodeAffinity.Required == nil {
		return ""
	}
	terms := pv.Spec.NodeAffinity.Required.NodeSelectorTerms
	if len(terms) != 1 {
		return ""
	}
	i := slices.IndexFunc(terms[0].MatchExpressions, func(r corev1.NodeSelectorRequirement) bool {
		return r.Key == corev1.LabelHostname && r.Operator == corev1.NodeSelectorOpIn && len(r.Values) == 1
	})
	if i < 0 {
		return ""
	}
	return terms[0].MatchExpressions[i].Values[0]
}
