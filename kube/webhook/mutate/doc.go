// Package mutate decides what is injected into a pod: its workload identity,
// and the certificates that it trusts. It is pure: a review in JSON goes in, a
// JSON patch (RFC 6902) or a refusal comes out. It reads in place and keeps
// only what the decision needs, since it stands in the way of every such pod.
package mutate
