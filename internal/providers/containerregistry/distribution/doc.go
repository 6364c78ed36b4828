// Package distribution is the data plane of container registries: the OCI
// distribution API under /v2/, Azure's own API under /acr/v1/, and the exchange
// of tokens under /oauth2/.
//
// Blobs are files under their digests; all else is documents. What is
// acknowledged is on disk: files are synced before they are linked.
//
// Source: OCI Distribution Specification 1.1.1; Azure Container Registry REST
// API reference, version 2021-07-01 of the data plane; "Azure Container
// Registry: OAuth2 token documentation" (AAD-OAuth.md).
package distribution
