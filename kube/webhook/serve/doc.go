// Package serve answers the admission reviews of an API server over TLS: the
// mutations of package mutate, the service accounts and certificates that they
// need, metrics and health.
package serve
