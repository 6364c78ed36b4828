package rbac

const ml = "Microsoft.MachineLearningServices/workspaces/"

func learningRoles() []Definition {
	return []Definition{
		builtin("f6c7c914-8db3-469d-8ca1-694a8f32e121", "AzureML Data Scientist",
			"Can perform all actions within an Azure Machine Learning workspace, except for creating or deleting compute resources and modifying the workspace itself.",
			Permission{
				Actions: under(ml, "*/read */action */delete */write"),
				NotActions: under(ml, `delete write computes/*/write computes/*/delete computes/listKeys/action listKeys/action
					hubs/write hubs/delete featurestores/write featurestores/delete`),
			}),
		builtin("e503ece1-11d0-4e8e-8e2c-7a6c3bf38815", "AzureML Compute Operator",
			"Can access and perform CRUD operations on Machine Learning Services managed compute resources (including Notebook VMs).",
			Permission{Actions: under(ml, "computes/* notebooks/vm/*")}),
		builtin("635dd51f-9968-44d3-b7fb-6d9a6bd613ae", "AzureML Metrics Writer (preview)", "Lets you write metrics to AzureML workspace",
			Permission{Actions: under(ml, "metrics/*/write")}),
		builtin("1823dd4f-9b8c-4ab6-ab4e-7397a3684615", "AzureML Registry User",
			"Can perform all actions on Machine Learning Services Registry assets as well as get Registry resources.",
			Permission{Actions: under("Microsoft.MachineLearningServices/registries/", "read assets/*")}),
		builtin("ea01e6af-a1c1-4350-9563-ad00f8c72ec5", "Azure Machine Learning Workspace Connection Secrets Reader",
			"Can list workspace connection secrets", Permission{Actions: under(ml, "connections/listsecrets/action metadata/secrets/read")}),
		builtin("b78c5d69-af96-48a3-bf8d-a8b4d589de94", "Azure AI Administrator",
			"A Built-In Role that has all control plane permissions to work with Azure AI and its dependencies.",
			Permission{Actions: usual(under("Microsoft.", `CognitiveServices/* ContainerRegistry/registries/* Insights/components/* Insights/diagnosticSettings/*
				Insights/logDefinitions/read Insights/metricdefinitions/read Insights/metrics/read KeyVault/* MachineLearningServices/workspaces/*
				Network/virtualNetworks/subnets/joinViaServiceEndpoint/action OperationalInsights/workspaces/* ResourceHealth/availabilityStatuses/read
				Resources/subscriptions/operationresults/read Resources/subscriptions/read Resources/subscriptions/resourceGroups/write
				Storage/storageAccounts/*`)...)}),
	}
}

func storageRoles() []Definition {
	const st, blobs = "Microsoft.Storage/storageAccounts/blobServices/", "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/"
	return []Definition{
		builtin("2a2b9908-6ea1-4ae2-8e65-a410df84e7d1", "Storage Blob Data Reader",
			"Allows for read access to Azure Storage blob containers and data",
			Permission{Actions: under(st, "containers/read generateUserDelegationKey/action"), DataActions: under(blobs, "read")}),
		builtin("ba92f5b4-2d11-453d-a403-e96b0029c9fe", "Storage Blob Data Contributor",
			"Allows for read, write and delete access to Azure Storage blob containers and data",
			Permission{
				Actions:     under(st, "containers/delete containers/read containers/write generateUserDelegationKey/action"),
				DataActions: under(blobs, "delete read write move/action add/action"),
			}),
		builtin("b7e6dc6d-f1e8-4753-8033-0f276bb0955b", "Storage Blob Data Owner",
			"Allows for full access to Azure Storage blob containers and data, including assigning POSIX access control.",
			Permission{Actions: under(st, "containers/* generateUserDelegationKey/action"), DataActions: under(blobs, "*")}),
		builtin("db58b8e5-c6ad-4a2a-8342-4190687cbf4a", "Storage Blob Delegator",
			"Allows for generation of a user delegation key which can be used to sign SAS tokens",
			Permission{Actions: under(st, "generateUserDelegationKey/action")}),
	}
}

func networkRoles() []Definition {
	return []Definition{
		builtin("4d97b98b-1d4f-4787-a291-c67834d212e7", "Network Contributor", "Lets you manage networks, but not access to them.",
			Permission{Actions: usual("Microsoft.Network/*", "Microsoft.ResourceHealth/availabilityStatuses/read")}),
		builtin("b12aa53e-6015-4669-85d0-8515ebb3ae7f", "Private DNS Zone Contributor",
			"Lets you manage private DNS zone resources, but not the virtual networks they are linked to.",
			Permission{Actions: usual(under("Microsoft.Network/", `privateDnsZones/* privateDnsOperationResults/* privateDnsOperationStatuses/*
				virtualNetworks/read virtualNetworks/join/action`)...)}),
	}
}

func monitorRoles() []Definition {
	return []Definition{
		builtin("3913510d-42f4-4e42-8a64-420c390055eb", "Monitoring Metrics Publisher", "Enables publishing metrics against Azure resources",
			Permission{
				Actions:     usual("Microsoft.Insights/Register/Action"),
				DataActions: under("Microsoft.Insights/", "Metrics/Write Telemetry/Write"),
			}),
		builtin("43d0d8ad-25c7-4714-9337-8ba259a9fe05", "Monitoring Reader", "Can read all monitoring data.",
			Permission{Actions: []string{"*/read", "Microsoft.OperationalInsights/workspaces/search/action", "Microsoft.Support/*"}}),
		builtin("73c42c96-874c-492b-b04d-ab87d138a893", "Log Analytics Reader",
			"Log Analytics Reader can view and search all monitoring data as well as and view monitoring settings, including viewing the configuration of Azure diagnostics on all Azure resources.",
			Permission{
				Actions:    append([]string{"*/read"}, under("Microsoft.", "OperationalInsights/workspaces/analytics/query/action OperationalInsights/workspaces/search/action Support/*")...),
				NotActions: []string{"Microsoft.OperationalInsights/workspaces/sharedKeys/read"},
			}),
		builtin("ae349356-3a1b-4a5e-921d-050484c6347e", "Application Insights Component Contributor", "Can manage Application Insights components",
			Permission{Actions: usual(under("Microsoft.", `Insights/generateLiveToken/read Insights/metricAlerts/* Insights/components/*
				Insights/scheduledqueryrules/* Insights/topology/read Insights/transactions/read Insights/webtests/*
				ResourceHealth/availabilityStatuses/read`)...)}),
	}
}

func kubernetesRoles() []Definition {
	const mc = "Microsoft.ContainerService/managedClusters/"
	objects := under("Microsoft.", `Authorization/*/read Insights/alertRules/* Resources/deployments/write
		Resources/subscriptions/operationresults/read Resources/subscriptions/read Resources/subscriptions/resourceGroups/read
		Support/* ContainerService/managedClusters/listClusterUserCredential/action`)
	return []Definition{
		builtin("0ab0b1a8-8aac-4efd-b8c2-3ee1fb270be8", "Azure Kubernetes Service Cluster Admin Role", "List cluster admin credential action.",
			Permission{Actions: under(mc, "listClusterAdminCredential/action accessProfiles/listCredential/action read runcommand/action")}),
		builtin("4abbcc35-e782-43d8-92c5-2d3f1bd2253f", "Azure Kubernetes Service Cluster User Role", "List cluster user credential action.",
			Permission{Actions: under(mc, "listClusterUserCredential/action read")}),
		builtin("ed7f3fbd-7b88-4dd4-9017-9adb7ce333f8", "Azure Kubernetes Service Contributor Role",
			"Grants access to read and write Azure Kubernetes Service clusters",
			Permission{Actions: append(under(mc, "read write"), "Microsoft.Resources/deployments/*")}),
		builtin("3498e952-d568-435e-9b2c-8d77e338d7f7", "Azure Kubernetes Service RBAC Admin",
			"Lets you manage all resources under cluster/namespace, except update or delete resource quotas and namespaces.",
			Permission{
				Actions: objects, DataActions: under(mc, "*"),
				NotDataActions: under(mc, "resourcequotas/write resourcequotas/delete namespaces/write namespaces/delete"),
			}),
		builtin("b1ff04bb-8a4e-4dc4-8eb5-8693973ce19b", "Azure Kubernetes Service RBAC Cluster Admin",
			"Lets you manage all resources in the cluster.", Permission{Actions: objects, DataActions: under(mc, "*")}),
	}
}
