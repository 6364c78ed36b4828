// Package blob is the data plane of storage accounts: containers and block
// blobs over the Blob service's REST API.
//
// Contents are files that are never changed once they are written; all else is
// documents, and the document of a blob decides: it names the file that counts.
// What is acknowledged is on disk, since files and their folders are synced
// before the document is written.
//
// Source: "Blob Storage REST API", versions up to 2026-04-06; "Status and error
// codes" for Blob Storage.
package blob
