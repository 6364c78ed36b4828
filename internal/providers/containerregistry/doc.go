// Package containerregistry is Microsoft.ContainerRegistry's management plane:
// registries, the credentials of their administrator, and names. What is in
// registries is in the sub-package distribution.
//
// A registry has a document beside the resource that the pipeline keeps, under
// its name, which one registry in the world has. It holds the sealed passwords
// and the key of the registry's tokens, and all that the data plane has to read.
//
// Source: Microsoft.ContainerRegistry, stable 2023-07-01.
package containerregistry
