package clients_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/authorization/armauthorization/v2"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerservice/armcontainerservice/v6"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/keyvault/armkeyvault"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/msi/armmsi"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/resources/armresources"
	"github.com/google/uuid"

	"lazurite.dev/e2e/live"
)

// group makes a resource group of the test's own and deletes it at the end.
func group(t *testing.T) string {
	t.Helper()
	client := must(armresources.NewResourceGroupsClient(cloud.Vars["SUBSCRIPTION"], owner(t), nil))(t)
	name := "rg-" + uuid.NewString()[:8]
	must(client.CreateOrUpdate(t.Context(), name, armresources.ResourceGroup{Location: to.Ptr("eastus")}, nil))(t)
	t.Cleanup(func() { az(t, "group", "delete", "--name", name, "--yes") })
	return name
}

func TestResourceGroups(t *testing.T) {
	if !cloud.Under(t) {
		return
	}
	ctx := t.Context()
	client := must(armresources.NewResourceGroupsClient(cloud.Vars["SUBSCRIPTION"], owner(t), nil))(t)
	made := must(client.CreateOrUpdate(ctx, "Go-Group", armresources.ResourceGroup{
		Location: to.Ptr("eastus"), Tags: map[string]*string{"team": to.Ptr("blue")},
	}, nil))(t)
	if *made.Name != "Go-Group" || *made.Properties.ProvisioningState != "Succeeded" || *made.Location != "eastus" {
		t.Errorf("made %+v", made.ResourceGroup)
	}
	if got := must(client.Get(ctx, "go-GROUP", nil))(t); *got.Name != "Go-Group" {
		t.Errorf("found as %s, want the casing of its maker", *got.Name)
	}
	if !must(client.CheckExistence(ctx, "Go-Group", nil))(t).Success || must(client.CheckExistence(ctx, "nothing", nil))(t).Success {
		t.Error("existence is wrong")
	}
	must(client.Update(ctx, "Go-Group", armresources.ResourceGroupPatchable{Tags: map[string]*string{"team": to.Ptr("red")}}, nil))(t)
	filter := "tagName eq 'team' and tagValue eq 'red'"
	var names []string
	for pager := client.NewListPager(&armresources.ResourceGroupsClientListOptions{Filter: &filter, Top: to.Ptr(int32(1))}); pager.More(); {
		for _, g := range must(pager.NextPage(ctx))(t).Value {
			names = append(names, *g.Name)
		}
	}
	if !slices.Equal(names, []string{"Go-Group"}) {
		t.Errorf("the filter finds %q", names)
	}
	poller := must(client.BeginDelete(ctx, "Go-Group", nil))(t)
	must(poller.PollUntilDone(ctx, nil))(t)
	_, err := client.Get(ctx, "Go-Group", nil)
	refused(t, err, 404, "ResourceGroupNotFound")
}

func TestResources(t *testing.T) {
	if !cloud.Under(t) {
		return
	}
	ctx, rg := t.Context(), group(t)
	client := must(armresources.NewClient(cloud.Vars["SUBSCRIPTION"], owner(t), nil))(t)
	id := "/subscriptions/" + cloud.Vars["SUBSCRIPTION"] + "/resourceGroups/" + rg + "/providers/Microsoft.ManagedIdentity/userAssignedIdentities/generic"
	poller := must(client.BeginCreateOrUpdateByID(ctx, id, "2023-01-31", armresources.GenericResource{Location: to.Ptr("eastus")}, nil))(t)
	made := must(poller.PollUntilDone(ctx, nil))(t)
	if !strings.EqualFold(*made.ID, id) {
		t.Errorf("made %s, want %s", *made.ID, id)
	}
	must(client.GetByID(ctx, id, "2023-01-31", nil))(t)
	filter := "resourceType eq 'Microsoft.ManagedIdentity/userAssignedIdentities'"
	n := 0
	for pager := client.NewListByResourceGroupPager(rg, &armresources.ClientListByResourceGroupOptions{Filter: &filter}); pager.More(); {
		n += len(must(pager.NextPage(ctx))(t).Value)
	}
	if n != 1 {
		t.Errorf("%d resources in the group, want 1", n)
	}
	_, err := client.GetByID(ctx, id, "2001-01-01", nil)
	refused(t, err, 400, "NoRegisteredProviderFound")
	gone := must(client.BeginDeleteByID(ctx, id, "2023-01-31", nil))(t)
	must(gone.PollUntilDone(ctx, nil))(t)
	_, err = client.GetByID(ctx, id, "2023-01-31", nil)
	refused(t, err, 404, "ResourceNotFound")
}

func TestTagsAndProviders(t *testing.T) {
	if !cloud.Under(t) {
		return
	}
	ctx, rg := t.Context(), group(t)
	scope := "/subscriptions/" + cloud.Vars["SUBSCRIPTION"] + "/resourceGroups/" + rg
	tags := must(armresources.NewTagsClient(cloud.Vars["SUBSCRIPTION"], owner(t), nil))(t)
	set := armresources.TagsPatchResource{
		Operation: to.Ptr(armresources.TagsPatchOperationMerge), Properties: &armresources.Tags{Tags: map[string]*string{"a": to.Ptr("1")}},
	}
	must(tags.UpdateAtScope(ctx, scope, set, nil))(t)
	if got := must(tags.GetAtScope(ctx, scope, nil))(t); got.Properties.Tags["a"] == nil || *got.Properties.Tags["a"] != "1" {
		t.Errorf("tags are %v", got.Properties.Tags)
	}
	providers := must(armresources.NewProvidersClient(cloud.Vars["SUBSCRIPTION"], owner(t), nil))(t)
	p := must(providers.Register(ctx, "Microsoft.KeyVault", nil))(t)
	if *p.Namespace != "Microsoft.KeyVault" || len(p.ResourceTypes) == 0 {
		t.Errorf("the provider is %+v", p.Provider)
	}
}

func TestManagedIdentities(t *testing.T) {
	if !cloud.Under(t) {
		return
	}
	ctx, rg := t.Context(), group(t)
	clients := must(armmsi.NewClientFactory(cloud.Vars["SUBSCRIPTION"], owner(t), nil))(t)
	ids, feds := clients.NewUserAssignedIdentitiesClient(), clients.NewFederatedIdentityCredentialsClient()
	made := must(ids.CreateOrUpdate(ctx, rg, "id1", armmsi.Identity{Location: to.Ptr("eastus")}, nil))(t)
	if _, err := uuid.Parse(*made.Properties.ClientID); err != nil {
		t.Error(err)
	}
	again := must(ids.CreateOrUpdate(ctx, rg, "id1", armmsi.Identity{Location: to.Ptr("eastus")}, nil))(t)
	if *again.Properties.PrincipalID != *made.Properties.PrincipalID {
		t.Error("the principal changed")
	}
	credential := func(subject, audience string) armmsi.FederatedIdentityCredential {
		return armmsi.FederatedIdentityCredential{Properties: &armmsi.FederatedIdentityCredentialProperties{
			Issuer: to.Ptr("https://issuer.example/"), Subject: to.Ptr(subject), Audiences: []*string{to.Ptr(audience)},
		}}
	}
	must(feds.CreateOrUpdate(ctx, rg, "id1", "fed1", credential("repo:a", "api://AzureADTokenExchange"), nil))(t)
	_, err := feds.CreateOrUpdate(ctx, rg, "id1", "fed2", credential("repo:a", "api://AzureADTokenExchange"), nil)
	if err == nil || !strings.Contains(err.Error(), "Issuer and subject combination already exists") {
		t.Errorf("the same subject twice: %v", err)
	}
	two := credential("repo:b", "api://AzureADTokenExchange")
	two.Properties.Audiences = append(two.Properties.Audiences, to.Ptr("another"))
	if _, err = feds.CreateOrUpdate(ctx, rg, "id1", "fed3", two, nil); err == nil {
		t.Error("two audiences were accepted")
	}
	n := 0
	for pager := feds.NewListPager(rg, "id1", nil); pager.More(); {
		n += len(must(pager.NextPage(ctx))(t).Value)
	}
	if n != 1 {
		t.Errorf("%d credentials, want 1", n)
	}
	must(feds.Delete(ctx, rg, "id1", "fed1", nil))(t)
	must(ids.Delete(ctx, rg, "id1", nil))(t)
	_, err = ids.Get(ctx, rg, "id1", nil)
	refused(t, err, 404, "ResourceNotFound")
}

func TestAuthorization(t *testing.T) {
	if !cloud.Under(t) {
		return
	}
	ctx, rg := t.Context(), group(t)
	sub := "/subscriptions/" + cloud.Vars["SUBSCRIPTION"]
	scope := sub + "/resourceGroups/" + rg
	clients := must(armauthorization.NewClientFactory(cloud.Vars["SUBSCRIPTION"], owner(t), nil))(t)
	defs, assigns := clients.NewRoleDefinitionsClient(), clients.NewRoleAssignmentsClient()
	filter := "roleName eq 'Reader'"
	page := must(defs.NewListPager(sub, &armauthorization.RoleDefinitionsClientListOptions{Filter: &filter}).NextPage(ctx))(t)
	if len(page.Value) != 1 || *page.Value[0].Name != "acdd72a7-3385-48ef-bd42-f606fba81ae7" {
		t.Fatalf("Reader is %+v", page.Value)
	}
	reader := *page.Value[0].ID
	ask := func(principal string) armauthorization.RoleAssignmentCreateParameters {
		return armauthorization.RoleAssignmentCreateParameters{Properties: &armauthorization.RoleAssignmentProperties{
			RoleDefinitionID: &reader, PrincipalID: &principal, PrincipalType: to.Ptr(armauthorization.PrincipalTypeServicePrincipal),
		}}
	}
	name := uuid.NewString()
	made := must(assigns.Create(ctx, scope, name, ask(cloud.Vars["PRINCIPAL_ID"]), nil))(t)
	if !strings.EqualFold(*made.Properties.Scope, scope) {
		t.Errorf("the scope is %s", *made.Properties.Scope)
	}
	_, err := assigns.Create(ctx, scope, uuid.NewString(), ask(cloud.Vars["PRINCIPAL_ID"]), nil)
	refused(t, err, 409, "RoleAssignmentExists")
	_, err = assigns.Create(ctx, scope, uuid.NewString(), ask(uuid.NewString()), nil)
	refused(t, err, 400, "PrincipalNotFound")
	n := 0
	at := "principalId eq '" + cloud.Vars["PRINCIPAL_ID"] + "'"
	for pager := assigns.NewListForScopePager(scope, &armauthorization.RoleAssignmentsClientListForScopeOptions{Filter: &at}); pager.More(); {
		n += len(must(pager.NextPage(ctx))(t).Value)
	}
	if n != 1 {
		t.Errorf("%d assignments, want 1", n)
	}
	must(assigns.Delete(ctx, scope, name, nil))(t)
	customRole(t, defs, scope)
}

func customRole(t *testing.T, defs *armauthorization.RoleDefinitionsClient, scope string) {
	t.Helper()
	name := uuid.NewString()
	role := armauthorization.RoleDefinition{Properties: &armauthorization.RoleDefinitionProperties{
		RoleName: to.Ptr("Secret lister " + name[:8]), Description: to.Ptr("lists secrets"), RoleType: to.Ptr("CustomRole"),
		Permissions:      []*armauthorization.Permission{{DataActions: []*string{to.Ptr("Microsoft.KeyVault/vaults/secrets/readMetadata/action")}}},
		AssignableScopes: []*string{&scope},
	}}
	must(defs.CreateOrUpdate(t.Context(), scope, name, role, nil))(t)
	got := must(defs.Get(t.Context(), scope, name, nil))(t)
	if *got.Properties.RoleType != "CustomRole" || len(got.Properties.Permissions[0].DataActions) != 1 {
		t.Errorf("the role is %+v", got.Properties)
	}
	must(defs.Delete(t.Context(), scope, name, nil))(t)
}

func TestVaults(t *testing.T) {
	if !cloud.Under(t) {
		return
	}
	ctx, rg, name := t.Context(), group(t), "v-"+uuid.NewString()[:8]
	clients := must(armkeyvault.NewClientFactory(cloud.Vars["SUBSCRIPTION"], owner(t), nil))(t)
	vaults := clients.NewVaultsClient()
	available := func() bool {
		t.Helper()
		got := must(vaults.CheckNameAvailability(ctx, armkeyvault.VaultCheckNameAvailabilityParameters{
			Name: &name, Type: to.Ptr("Microsoft.KeyVault/vaults"),
		}, nil))(t)
		return *got.NameAvailable
	}
	if !available() {
		t.Error("a name that nobody has is taken")
	}
	ask := armkeyvault.VaultCreateOrUpdateParameters{Location: to.Ptr("eastus"), Properties: &armkeyvault.VaultProperties{
		TenantID: to.Ptr(cloud.Vars["TENANT"]), EnableRbacAuthorization: to.Ptr(true), SoftDeleteRetentionInDays: to.Ptr(int32(7)),
		SKU: &armkeyvault.SKU{Family: to.Ptr(armkeyvault.SKUFamilyA), Name: to.Ptr(armkeyvault.SKUNameStandard)},
	}}
	poller := must(vaults.BeginCreateOrUpdate(ctx, rg, name, ask, nil))(t)
	made := must(poller.PollUntilDone(ctx, nil))(t)
	if *made.Properties.VaultURI != "https://"+name+".vault.azure.net/" {
		t.Errorf("the vault is at %s", *made.Properties.VaultURI)
	}
	if available() {
		t.Error("the name is still free")
	}
	must(vaults.Update(ctx, rg, name, armkeyvault.VaultPatchParameters{Tags: map[string]*string{"x": to.Ptr("y")}}, nil))(t)
	must(vaults.Delete(ctx, rg, name, nil))(t)
	must(vaults.GetDeleted(ctx, name, "eastus", nil))(t)
	if _, err := vaults.BeginCreateOrUpdate(ctx, rg, name, ask, nil); err == nil {
		t.Error("the name of a deleted vault was given again")
	} else {
		refused(t, err, 409, "ConflictError")
	}
	gone := must(vaults.BeginPurgeDeleted(ctx, name, "eastus", nil))(t)
	must(gone.PollUntilDone(ctx, nil))(t)
	if !available() {
		t.Error("the name of a purged vault is taken")
	}
}

func TestManagedClusters(t *testing.T) {
	if !cloud.Under(t) {
		return
	}
	ctx, rg := t.Context(), group(t)
	clients := must(armcontainerservice.NewClientFactory(cloud.Vars["SUBSCRIPTION"], owner(t), nil))(t)
	clusters := clients.NewManagedClustersClient()
	ask := armcontainerservice.ManagedCluster{
		Location: to.Ptr("eastus"), Identity: &armcontainerservice.ManagedClusterIdentity{Type: to.Ptr(armcontainerservice.ResourceIdentityTypeSystemAssigned)},
		Properties: &armcontainerservice.ManagedClusterProperties{
			DNSPrefix: to.Ptr("c1"), OidcIssuerProfile: &armcontainerservice.ManagedClusterOIDCIssuerProfile{Enabled: to.Ptr(true)},
			SecurityProfile: &armcontainerservice.ManagedClusterSecurityProfile{
				WorkloadIdentity: &armcontainerservice.ManagedClusterSecurityProfileWorkloadIdentity{Enabled: to.Ptr(true)},
			},
			AgentPoolProfiles: []*armcontainerservice.ManagedClusterAgentPoolProfile{{
				Name: to.Ptr("nodepool1"), Count: to.Ptr(int32(1)), VMSize: to.Ptr("Standard_DS2_v2"), Mode: to.Ptr(armcontainerservice.AgentPoolModeSystem),
			}},
		},
	}
	poller := must(clusters.BeginCreateOrUpdate(ctx, rg, "c1", ask, nil))(t)
	made := must(poller.PollUntilDone(ctx, nil))(t)
	issuer := *made.Properties.OidcIssuerProfile.IssuerURL
	if !strings.HasPrefix(issuer, "https://eastus.oic.prod-aks.azure.com/"+cloud.Vars["TENANT"]+"/") || !strings.HasSuffix(issuer, "/") {
		t.Errorf("the issuer is %s", issuer)
	}
	n := 0
	for pager := clusters.NewListByResourceGroupPager(rg, nil); pager.More(); {
		n += len(must(pager.NextPage(ctx))(t).Value)
	}
	if n != 1 {
		t.Errorf("%d clusters, want 1", n)
	}
	tagger := must(clusters.BeginUpdateTags(ctx, rg, "c1", armcontainerservice.TagsObject{Tags: map[string]*string{"a": to.Ptr("b")}}, nil))(t)
	must(tagger.PollUntilDone(ctx, nil))(t)
	if _, err := clusters.ListClusterUserCredentials(ctx, rg, "c1", nil); err == nil || !strings.Contains(err.Error(), "API server") {
		t.Errorf("credentials of a cluster with no API server: %v", err)
	}
	gone := must(clusters.BeginDelete(ctx, rg, "c1", nil))(t)
	must(gone.PollUntilDone(ctx, nil))(t)
	_, err := clusters.Get(ctx, rg, "c1", nil)
	refused(t, err, 404, "ResourceNotFound")
}

// An identity with no role on the group is told so by ARM.
func TestManagementWithoutARole(t *testing.T) {
	if !cloud.Under(t, "--as", live.As, "--cluster", live.Cluster) {
		return
	}
	client := must(armresources.NewResourceGroupsClient(cloud.Vars["SUBSCRIPTION"], owner(t), nil))(t)
	_, err := client.CreateOrUpdate(t.Context(), "mine", armresources.ResourceGroup{Location: to.Ptr("eastus")}, nil)
	refused(t, err, 403, "AuthorizationFailed")
}
