// Package storage is Microsoft.Storage's management plane: storage accounts,
// their keys and signatures, and containers. What is in containers is in the
// sub-package blob.
//
// An account has a document beside the resource that the pipeline keeps, under
// its name, which one account in the world has. It holds the sealed keys and
// all that the data plane has to read. Containers are resources, whichever
// plane they were made through.
//
// Source: Microsoft.Storage, stable 2023-05-01; "Authorize with Shared Key" and
// "Delegate access with shared access signatures" of the Blob service's REST
// API reference.
package storage
