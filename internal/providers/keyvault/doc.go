// Package keyvault is Microsoft.KeyVault's management plane: vaults, deleted
// vaults and their names. The data plane is in the sub-package vaultdata.
//
// A vault has two documents: the resource that the pipeline keeps, and a
// record under the vault's name, which holds the name for one vault in the
// world, survives its deletion, and is all that the data plane has to read.
//
// Source: Microsoft.KeyVault, stable 2024-11-01.
package keyvault
