package clients_test

import (
	"context"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	ml "github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/machinelearning/armmachinelearning/v4"
)

// done polls an operation to its end.
func done[T any](t *testing.T, p *runtime.Poller[T], err error) T {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return must(p.PollUntilDone(t.Context(), &runtime.PollUntilDoneOptions{Frequency: 1e9}))(t)
}

// mlWorkspace is a workspace made by az with what it needs.
func mlWorkspace(t *testing.T, rg string) string {
	t.Helper()
	name := fresh("ws")
	az(t, "ml", "workspace", "create", "-g", rg, "-n", name, "-l", "eastus")
	return name
}

func TestMachineLearningWorkspaces(t *testing.T) {
	if !cloud.Under(t) {
		return
	}
	ctx, rg := t.Context(), group(t)
	first, name := mlWorkspace(t, rg), fresh("ws")
	clients := must(ml.NewClientFactory(cloud.Vars["SUBSCRIPTION"], owner(t), nil))(t)
	workspaces, rules := clients.NewWorkspacesClient(), clients.NewManagedNetworkSettingsRuleClient()
	its := must(workspaces.Get(ctx, rg, first, nil))(t).Properties
	p, err := workspaces.BeginCreateOrUpdate(ctx, rg, name, ml.Workspace{
		Location: to.Ptr("eastus"), Identity: &ml.ManagedServiceIdentity{Type: to.Ptr(ml.ManagedServiceIdentityTypeSystemAssigned)},
		Properties: &ml.WorkspaceProperties{StorageAccount: its.StorageAccount, KeyVault: its.KeyVault, ApplicationInsights: its.ApplicationInsights, FriendlyName: to.Ptr("mine")},
	}, nil)
	if got := done(t, p, err); *got.Properties.ProvisioningState != ml.ProvisioningStateSucceeded || *got.Properties.WorkspaceID == "" || got.Identity.PrincipalID == nil {
		t.Errorf("made %+v", got.Properties)
	}
	u, err := workspaces.BeginUpdate(ctx, rg, name, ml.WorkspaceUpdateParameters{Tags: map[string]*string{"a": to.Ptr("b")}, Properties: &ml.WorkspacePropertiesUpdateParameters{Description: to.Ptr("new")}}, nil)
	if got := done(t, u, err); *got.Properties.Description != "new" || *got.Tags["a"] != "b" || *got.Properties.FriendlyName != "mine" {
		t.Errorf("updated %+v", got.Properties)
	}
	n := 0
	for pager := workspaces.NewListByResourceGroupPager(rg, nil); pager.More(); {
		n += len(must(pager.NextPage(ctx))(t).Value)
	}
	if n != 2 {
		t.Errorf("%d workspaces in the group", n)
	}
	d, err := workspaces.BeginDiagnose(ctx, rg, name, nil)
	if got := done(t, d, err); got.Value == nil {
		t.Error("nothing was diagnosed")
	}
	for pager := rules.NewListPager(rg, name, nil); pager.More(); {
		must(pager.NextPage(ctx))(t)
	}
	gone, err := workspaces.BeginDelete(ctx, rg, name, &ml.WorkspacesClientBeginDeleteOptions{ForceToPurge: to.Ptr(true)})
	done(t, gone, err)
	_, err = workspaces.Get(ctx, rg, name, nil)
	refused(t, err, 404, "ResourceNotFound")
}

func TestMachineLearningAssets(t *testing.T) {
	if !cloud.Under(t) {
		return
	}
	ctx, rg := t.Context(), group(t)
	ws := mlWorkspace(t, rg)
	clients := must(ml.NewClientFactory(cloud.Vars["SUBSCRIPTION"], owner(t), nil))(t)
	codes, models, environments := clients.NewCodeVersionsClient(), clients.NewModelVersionsClient(), clients.NewEnvironmentVersionsClient()
	pending := must(codes.CreateOrGetStartPendingUpload(ctx, rg, ws, "score", "1", ml.PendingUploadRequestDto{PendingUploadType: to.Ptr(ml.PendingUploadTypeTemporaryBlobReference)}, nil))(t)
	sas, ok := pending.BlobReferenceForConsumption.Credential.(*ml.SASCredentialDto)
	if !ok || *sas.SasURI == "" {
		t.Fatalf("no signature in %+v", pending.BlobReferenceForConsumption)
	}
	uri := *pending.BlobReferenceForConsumption.BlobURI + "/code"
	code := must(codes.CreateOrUpdate(ctx, rg, ws, "score", "1", ml.CodeVersion{Properties: &ml.CodeVersionProperties{CodeURI: &uri}}, nil))(t)
	if *code.Properties.CodeURI != uri {
		t.Errorf("the code is at %s", *code.Properties.CodeURI)
	}
	model := must(models.CreateOrUpdate(ctx, rg, ws, "m", "3", ml.ModelVersion{Properties: &ml.ModelVersionProperties{ModelURI: &uri, ModelType: to.Ptr("custom_model")}}, nil))(t)
	if *model.Name != "3" {
		t.Errorf("made %s", *model.Name)
	}
	must(environments.CreateOrUpdate(ctx, rg, ws, "e", "1", ml.EnvironmentVersion{Properties: &ml.EnvironmentVersionProperties{Image: to.Ptr("lazurite.dev/azureml/sklearn:v1")}}, nil))(t)
	n := 0
	for pager := models.NewListPager(rg, ws, "m", nil); pager.More(); {
		n += len(must(pager.NextPage(ctx))(t).Value)
	}
	if n != 1 {
		t.Errorf("%d versions", n)
	}
	_, err := models.Get(ctx, rg, ws, "m", "9", nil)
	refused(t, err, 404, "ResourceNotFound")
}

func TestMachineLearningEndpoints(t *testing.T) {
	if !cloud.Under(t) {
		return
	}
	ctx, rg, name := t.Context(), group(t), fresh("ep")
	ws := mlWorkspace(t, rg)
	clients := must(ml.NewClientFactory(cloud.Vars["SUBSCRIPTION"], owner(t), nil))(t)
	endpoints := clients.NewOnlineEndpointsClient()
	made := onlineEndpoint(ctx, t, endpoints, rg, ws, name, ml.EndpointAuthModeKey)
	if *made.Properties.ProvisioningState != ml.EndpointProvisioningStateSucceeded || *made.Properties.ScoringURI == "" || made.Properties.Keys != nil {
		t.Errorf("made %+v", made.Properties)
	}
	keys := must(endpoints.ListKeys(ctx, rg, ws, name, nil))(t)
	r, err := endpoints.BeginRegenerateKeys(ctx, rg, ws, name, ml.RegenerateEndpointKeysRequest{KeyType: to.Ptr(ml.KeyTypePrimary)}, nil)
	done(t, r, err)
	if again := must(endpoints.ListKeys(ctx, rg, ws, name, nil))(t); *again.PrimaryKey == *keys.PrimaryKey || *again.SecondaryKey != *keys.SecondaryKey {
		t.Error("the wrong key was replaced")
	}
	u, err := endpoints.BeginUpdate(ctx, rg, ws, name, ml.PartialMinimalTrackedResourceWithIdentity{Tags: map[string]*string{"a": to.Ptr("b")}}, nil)
	if got := done(t, u, err); *got.Tags["a"] != "b" {
		t.Errorf("updated %+v", got.OnlineEndpoint)
	}
	onlineEndpoint(ctx, t, endpoints, rg, ws, name+"t", ml.EndpointAuthModeAMLToken)
	if token := must(endpoints.GetToken(ctx, rg, ws, name+"t", nil))(t); *token.AccessToken == "" || *token.ExpiryTimeUTC == 0 {
		t.Errorf("got %+v", token)
	}
	deployments := clients.NewOnlineDeploymentsClient()
	_, err = deployments.Get(ctx, rg, ws, name, "none", nil)
	refused(t, err, 404, "ResourceNotFound")
	gone, err := endpoints.BeginDelete(ctx, rg, ws, name, nil)
	done(t, gone, err)
	_, err = endpoints.Get(ctx, rg, ws, name, nil)
	refused(t, err, 404, "ResourceNotFound")
}

func onlineEndpoint(ctx context.Context, t *testing.T, endpoints *ml.OnlineEndpointsClient, rg, ws, name string, mode ml.EndpointAuthMode) ml.OnlineEndpoint {
	t.Helper()
	p, err := endpoints.BeginCreateOrUpdate(ctx, rg, ws, name, ml.OnlineEndpoint{
		Location: to.Ptr("eastus"), Identity: &ml.ManagedServiceIdentity{Type: to.Ptr(ml.ManagedServiceIdentityTypeSystemAssigned)},
		Properties: &ml.OnlineEndpointProperties{AuthMode: &mode, PublicNetworkAccess: to.Ptr(ml.PublicNetworkAccessTypeEnabled)},
	}, nil)
	return done(t, p, err).OnlineEndpoint
}
