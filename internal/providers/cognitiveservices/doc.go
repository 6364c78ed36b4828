// Package cognitiveservices is Microsoft.CognitiveServices' management plane:
// accounts of the kinds OpenAI and AIServices, their keys and deployments,
// deleted accounts, and what there is to deploy. The data plane is in the
// sub-package openai.
//
// An account has two documents beside the resource that the pipeline keeps: a
// record under its id, which survives its deletion and holds the sealed keys
// and all that the data plane has to read, and a claim of its subdomain, which
// one account in the world has.
//
// Source: Microsoft.CognitiveServices, stable 2025-06-01.
package cognitiveservices
