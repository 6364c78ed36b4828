// Package kube starts real Kubernetes on this machine: the control plane of a
// cluster as processes without root, and nodes as processes in namespaces of
// their own. It holds what they are told: certificates and their renewal
// ([Credentials]), flags and files. [Cluster] is the order in which it all
// comes up and goes away; namespaces and links it is given.
//
// Everything is idempotent: what runs as it should is left alone, what a crash
// left half done is finished.
package kube
