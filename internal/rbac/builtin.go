package rbac

import "strings"

// The roles that other packages name.
const (
	Owner                   = "8e3af657-a8ff-443c-a75c-2fe8c4bcb635"
	Contributor             = "b24988ac-6180-42a0-ab88-20f7382dd24c"
	Reader                  = "acdd72a7-3385-48ef-bd42-f606fba81ae7"
	UserAccessAdministrator = "18d7d88d-d35e-4fb5-a5c3-7773c20a72d9"
)

// BuiltIn gives Azure's built-in roles, as far as Lazurite has services for
// them, with Azure's GUIDs and actions. Source: Azure documentation, "Azure
// built-in roles".
func BuiltIn() []Definition {
	var out []Definition
	for _, part := range [][]Definition{
		generalRoles(), cognitiveRoles(), vaultRoles(), registryRoles(), identityRoles(),
		learningRoles(), storageRoles(), networkRoles(), monitorRoles(), kubernetesRoles(),
	} {
		out = append(out, part...)
	}
	return out
}

// builtin makes a definition of one permission block.
func builtin(id, name, description string, p Permission) Definition {
	return Definition{
		ID: id, Name: name, Description: description,
		Permissions: []Permission{p}, AssignableScopes: []string{"/"},
	}
}

// under gives each of the space-separated actions its prefix.
func under(prefix, actions string) []string {
	var out []string
	for _, a := range strings.Fields(actions) {
		out = append(out, prefix+a)
	}
	return out
}

// usual are the actions that most narrow roles carry beside their own, and own.
func usual(own ...string) []string {
	return append([]string{
		"Microsoft.Authorization/*/read", "Microsoft.Insights/alertRules/*", "Microsoft.Resources/deployments/*",
		"Microsoft.Resources/subscriptions/resourceGroups/read", "Microsoft.Support/*",
	}, own...)
}

func generalRoles() []Definition {
	return []Definition{
		builtin(Owner, "Owner", "Grants full access to manage all resources, including the ability to assign roles in Azure RBAC.",
			Permission{Actions: []string{"*"}}),
		builtin(Contributor, "Contributor",
			"Grants full access to manage all resources, but does not allow you to assign roles in Azure RBAC, manage assignments in Azure Blueprints, or share image galleries.",
			Permission{Actions: []string{"*"}, NotActions: []string{
				"Microsoft.Authorization/*/Delete", "Microsoft.Authorization/*/Write", "Microsoft.Authorization/elevateAccess/Action",
				"Microsoft.Blueprint/blueprintAssignments/write", "Microsoft.Blueprint/blueprintAssignments/delete",
				"Microsoft.Compute/galleries/share/action", "Microsoft.Purview/consents/write", "Microsoft.Purview/consents/delete",
				"Microsoft.Resources/deploymentStacks/manageDenySetting/action",
				"Microsoft.Subscription/cancel/action", "Microsoft.Subscription/enable/action",
			}}),
		builtin(Reader, "Reader", "View all resources, but does not allow you to make any changes.",
			Permission{Actions: []string{"*/read"}}),
		builtin(UserAccessAdministrator, "User Access Administrator", "Lets you manage user access to Azure resources.",
			Permission{Actions: []string{"*/read", "Microsoft.Authorization/*", "Microsoft.Support/*"}}),
		builtin("f58310d9-a9f6-439a-9e8d-f62e7b41a168", "Role Based Access Control Administrator",
			"Manage access to Azure resources by assigning roles using Azure RBAC. This role does not allow you to manage access using other ways, such as Azure Policy.",
			Permission{Actions: []string{
				"Microsoft.Authorization/roleAssignments/write", "Microsoft.Authorization/roleAssignments/delete", "*/read", "Microsoft.Support/*",
			}}),
	}
}

func cognitiveRoles() []Definition {
	const cs, openAI = "Microsoft.CognitiveServices/", "Microsoft.CognitiveServices/accounts/OpenAI/"
	reads := []string{cs + "*/read", "Microsoft.Authorization/roleAssignments/read", "Microsoft.Authorization/roleDefinitions/read"}
	return []Definition{
		builtin("5e0bd9bd-7b93-4f28-af87-19fc36ad61bd", "Cognitive Services OpenAI User",
			"Ability to view files, models, deployments. Readers can't make any changes They can inference and create images",
			Permission{
				Actions: reads,
				DataActions: under(openAI, `*/read engines/completions/action engines/search/action engines/generate/action
					deployments/audio/action deployments/search/action deployments/completions/action deployments/chat/completions/action
					deployments/extensions/chat/completions/action deployments/embeddings/action deployments/realtime/action
					images/generations/action video/generations/*/action video/generations/*/delete assistants/* responses/*`),
				NotDataActions: under(openAI, "stored-completions/read"),
			}),
		builtin("a001fd3d-188f-4b5d-821b-7da978bf7442", "Cognitive Services OpenAI Contributor",
			"Full access including the ability to fine-tune, deploy and generate text",
			Permission{
				Actions: append(under(cs, `*/read accounts/deployments/write accounts/deployments/delete
					accounts/raiPolicies/read accounts/raiPolicies/write accounts/raiPolicies/delete
					accounts/commitmentplans/read accounts/commitmentplans/write accounts/commitmentplans/delete`), reads[1:]...),
				DataActions: []string{openAI + "*"},
			}),
		builtin("25fbc0a9-bd7c-42a3-aa1a-3b75d497ee68", "Cognitive Services Contributor",
			"Lets you create, read, update, delete and manage keys of Cognitive Services.",
			Permission{
				Actions: usual(under("Microsoft.", `CognitiveServices/* Features/features/read Features/providers/features/read
					Features/providers/features/register/action Insights/diagnosticSettings/* Insights/logDefinitions/read
					Insights/metricdefinitions/read Insights/metrics/read ResourceHealth/availabilityStatuses/read
					Resources/deployments/operations/read Resources/subscriptions/operationresults/read Resources/subscriptions/read
					Resources/subscriptions/resourcegroups/deployments/*`)...),
				NotActions: under(cs, "accounts/raiPolicies/write accounts/raiPolicies/delete"),
			}),
		builtin("a97b65f3-24c7-4388-baec-2e87135dc908", "Cognitive Services User", "Lets you read and list keys of Cognitive Services.",
			Permission{
				Actions: under("Microsoft.", `CognitiveServices/*/read CognitiveServices/accounts/listkeys/action
					Insights/alertRules/read Insights/diagnosticSettings/read Insights/logDefinitions/read Insights/metricdefinitions/read
					Insights/metrics/read ResourceHealth/availabilityStatuses/read Resources/deployments/operations/read
					Resources/subscriptions/operationresults/read Resources/subscriptions/read
					Resources/subscriptions/resourceGroups/read Support/*`),
				DataActions: []string{cs + "*"},
			}),
		builtin("64702f94-c441-49e6-a78b-ef80e0188fee", "Azure AI Developer",
			"Can perform all actions within an Azure AI resource besides managing the resource itself.",
			Permission{
				Actions: under("Microsoft.", `MachineLearningServices/workspaces/*/read MachineLearningServices/workspaces/*/action
					MachineLearningServices/workspaces/*/delete MachineLearningServices/workspaces/*/write
					MachineLearningServices/locations/*/read Authorization/*/read Resources/deployments/*
					Resources/subscriptions/resourceGroups/read`),
				NotActions:  under(ml, `delete write listKeys/action hubs/write hubs/delete featurestores/write featurestores/delete`),
				DataActions: under(cs+"accounts/", "OpenAI/* SpeechServices/* ContentSafety/* MaaS/*"),
			}),
		builtin("b556d68e-0be0-4f35-a333-ad7ee1ce17ea", "Azure AI Enterprise Network Connection Approver",
			"Can approve private endpoint connections to Azure AI common dependency resources", Permission{Actions: approvals()}),
	}
}

// approvals are the actions on private endpoint connections of the resources
// that a workspace depends on, of the services that exist here.
func approvals() []string {
	var out []string
	for _, typ := range strings.Fields(`ContainerRegistry/registries CognitiveServices/accounts KeyVault/vaults
		MachineLearningServices/registries MachineLearningServices/workspaces Storage/storageAccounts Network/privateLinkServices`) {
		out = append(out, under("Microsoft."+typ+"/", `read privateEndpointConnections/read privateEndpointConnections/write
			privateEndpointConnectionsApproval/action privateLinkResources/read`)...)
	}
	return out
}

func vaultRoles() []Definition {
	const kv = "Microsoft.KeyVault/vaults/"
	reads := usual(under("Microsoft.KeyVault/", "checkNameAvailability/read deletedVaults/read locations/*/read vaults/*/read operations/read")...)
	role := func(id, name, description string, actions []string, data string) Definition {
		return builtin(id, name, description, Permission{Actions: actions, DataActions: under(kv, data)})
	}
	const onlyRBAC = "Only works for key vaults that use the 'Azure role-based access control' permission model."
	list := []Definition{
		role("00482a5a-887f-4fb3-b363-3b7fe8e74483", "Key Vault Administrator",
			"Perform all data plane operations on a key vault and all objects in it, including certificates, keys, and secrets. Cannot manage key vault resources or manage role assignments. "+onlyRBAC, reads, "*"),
		role("21090545-7ca7-4776-b22c-e363652d74d2", "Key Vault Reader",
			"Read metadata of key vaults and its certificates, keys, and secrets. Cannot read sensitive values such as secret contents or key material. "+onlyRBAC, reads, "*/read secrets/readMetadata/action"),
		role("b86a8fe4-44ce-4948-aee5-eccb2c155cd7", "Key Vault Secrets Officer",
			"Perform any action on the secrets of a key vault, except manage permissions. "+onlyRBAC, reads, "secrets/*"),
		role("4633458b-17de-408a-b874-0445c86b69e6", "Key Vault Secrets User",
			"Read secret contents. "+onlyRBAC, nil, "secrets/getSecret/action secrets/readMetadata/action"),
		role("14b46e9e-c2b7-41b4-b07b-48a6ebf60603", "Key Vault Crypto Officer",
			"Perform any action on the keys of a key vault, except manage permissions. "+onlyRBAC, reads, "keys/* keyrotationpolicies/*"),
		role("12338af0-0e69-4776-bea7-57ae8d297424", "Key Vault Crypto User",
			"Perform cryptographic operations using keys. "+onlyRBAC, nil,
			"keys/read keys/update/action keys/backup/action keys/encrypt/action keys/decrypt/action keys/wrap/action keys/unwrap/action keys/sign/action keys/verify/action"),
		role("e147488a-f6f5-4113-8e2d-b22465e65bf6", "Key Vault Crypto Service Encryption User",
			"Read metadata of keys and perform wrap/unwrap operations. "+onlyRBAC,
			under("Microsoft.EventGrid/eventSubscriptions/", "write read delete"), "keys/read keys/wrap/action keys/unwrap/action"),
		role("08bbd89e-9f13-488c-ac41-acfcb10c90ab", "Key Vault Crypto Service Release User",
			"Release keys. "+onlyRBAC, nil, "keys/release/action"),
		role("a4417e6f-fecd-4de8-b567-7b0420556985", "Key Vault Certificates Officer",
			"Perform any action on the certificates of a key vault, except manage permissions. "+onlyRBAC, reads, "certificatecas/* certificates/* certificatecontacts/write"),
		role("db79e9a7-68ee-4b58-9aeb-b90e7c24fcba", "Key Vault Certificate User",
			"Read certificate contents. "+onlyRBAC, nil, "certificates/read secrets/getSecret/action secrets/readMetadata/action keys/read"),
		builtin("f25e0fa2-a7c8-4377-a976-54943a77a395", "Key Vault Contributor",
			"Lets you manage key vaults, but not access to them.",
			Permission{
				Actions:    usual("Microsoft.KeyVault/*"),
				NotActions: under("Microsoft.KeyVault/", "locations/deletedVaults/purge/action hsmPools/* managedHsms/*"),
			}),
	}
	return append(list, dataAccessAdministrator(list))
}

// dataAccessAdministrator may assign the data roles of Key Vault, and no other,
// which Azure says by a condition: that block grants nothing here.
func dataAccessAdministrator(roles []Definition) Definition {
	var ids []string
	for _, r := range roles[:10] {
		ids = append(ids, r.ID)
	}
	within := "{" + strings.Join(ids, ", ") + "}"
	d := builtin("8b54135c-b56d-4d72-a534-26097cfdc8d8", "Key Vault Data Access Administrator",
		"Manage access to Azure Key Vault by adding or removing role assignments for the Key Vault Administrator, Key Vault Certificates Officer, Key Vault Crypto Officer, Key Vault Crypto Service Encryption User, Key Vault Crypto User, Key Vault Reader, Key Vault Secrets Officer, or Key Vault Secrets User roles. Includes an ABAC condition to constrain role assignments.",
		Permission{Actions: under("Microsoft.", `Authorization/*/read Resources/deployments/* Resources/subscriptions/read
			Resources/subscriptions/resourceGroups/read Management/managementGroups/read Support/* KeyVault/vaults/*/read`)})
	d.Permissions = append(d.Permissions, Permission{
		Actions: under("Microsoft.Authorization/roleAssignments/", "write delete"),
		Condition: "((!(ActionMatches{'Microsoft.Authorization/roleAssignments/write'})) OR (@Request[Microsoft.Authorization/roleAssignments:RoleDefinitionId] ForAnyOfAnyValues:GuidEquals" + within +
			")) AND ((!(ActionMatches{'Microsoft.Authorization/roleAssignments/delete'})) OR (@Resource[Microsoft.Authorization/roleAssignments:RoleDefinitionId] ForAnyOfAnyValues:GuidEquals" + within + "))",
		ConditionVersion: "2.0",
	})
	return d
}

func registryRoles() []Definition {
	const cr = "Microsoft.ContainerRegistry/registries/"
	return []Definition{
		builtin("7f951dda-4ed3-4680-a7ca-43fe172d538d", "AcrPull", "acr pull", Permission{Actions: under(cr, "pull/read")}),
		builtin("8311e382-0749-4cb8-b61a-304f252e45ec", "AcrPush", "acr push", Permission{Actions: under(cr, "pull/read push/write")}),
		builtin("c2f4ef07-c644-48eb-af81-4b1b4947fb11", "AcrDelete", "acr delete", Permission{Actions: under(cr, "artifacts/delete")}),
		builtin("6cef56e8-d556-48e5-a04f-b8e64114680f", "AcrImageSigner", "acr image signer",
			Permission{Actions: under(cr, "sign/write"), DataActions: under(cr, "trustedCollections/write")}),
		builtin("b93aa761-3e63-49ed-ac28-beffa264f7ac", "Container Registry Repository Reader",
			"Allows for read access to Azure Container Registry repositories, but excluding catalog listing.",
			Permission{DataActions: under(cr, "repositories/metadata/read repositories/content/read")}),
		builtin("2a1e307c-b015-4ebd-883e-5b7698a07328", "Container Registry Repository Writer",
			"Allows for read and write access to Azure Container Registry repositories, but excluding catalog listing.",
			Permission{DataActions: under(cr, "repositories/metadata/read repositories/content/read repositories/metadata/write repositories/content/write")}),
	}
}

func identityRoles() []Definition {
	const mi = "Microsoft.ManagedIdentity/userAssignedIdentities/"
	return []Definition{
		builtin("f1a07417-d97a-45cb-824c-7a7467783830", "Managed Identity Operator", "Read and Assign User Assigned Identity",
			Permission{Actions: usual(under(mi, "*/read */assign/action")...)}),
		builtin("e40ec5ca-96e0-45a2-b4ff-59039f2c2b59", "Managed Identity Contributor", "Create, Read, Update, and Delete User Assigned Identity",
			Permission{Actions: usual(under(mi, `read write delete federatedIdentityCredentials/read federatedIdentityCredentials/write
				federatedIdentityCredentials/delete revokeTokens/action`)...)}),
	}
}
