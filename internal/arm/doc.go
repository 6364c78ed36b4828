// Package arm is the management plane: Azure Resource Manager's protocol over
// documents. A provider is a table of types with hooks ([Kind]); the pipeline
// in pipeline.go does everything else, and a provider cannot skip a step.
//
// Sources: the Azure Resource Manager RPC contract (resource-api-reference,
// async-api-reference, common-api-details) and the ARM REST API reference.
package arm
