package clients_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/resources/armresources"
)

// deploymentTemplate makes an identity and a credential of it.
func deploymentTemplate(location string) map[string]any {
	return map[string]any{
		"$schema": "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#", "contentVersion": "1.0.0.0",
		"parameters": map[string]any{"name": map[string]any{"type": "string"}, "secret": map[string]any{"type": "securestring", "defaultValue": "none"}},
		"resources": []any{
			map[string]any{"type": "Microsoft.ManagedIdentity/userAssignedIdentities", "apiVersion": "2023-01-31", "name": "[parameters('name')]", "location": location},
			map[string]any{
				"type": "Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials", "apiVersion": "2023-01-31",
				"name": "[concat(parameters('name'), '/fic')]", "dependsOn": []any{"[parameters('name')]"},
				"properties": map[string]any{"issuer": "https://token.example.org", "subject": "s", "audiences": []any{"api://AzureADTokenExchange"}},
			},
		},
		"outputs": map[string]any{"client": map[string]any{"type": "string", "value": "[reference(parameters('name')).clientId]"}},
	}
}

func value(v any) map[string]any { return map[string]any{"value": v} }

func deployment(location string, params map[string]any) armresources.Deployment {
	return armresources.Deployment{Properties: &armresources.DeploymentProperties{
		Mode: to.Ptr(armresources.DeploymentModeIncremental), Template: deploymentTemplate(location), Parameters: params,
	}}
}

func TestDeployments(t *testing.T) {
	if !cloud.Under(t) {
		return
	}
	ctx, rg := t.Context(), group(t)
	clients := must(armresources.NewClientFactory(cloud.Vars["SUBSCRIPTION"], owner(t), nil))(t)
	client, operations := clients.NewDeploymentsClient(), clients.NewDeploymentOperationsClient()
	params := map[string]any{"name": value("deployed"), "secret": value("not shown")}
	good := deployment("[resourceGroup().location]", params)

	valid := must(must(client.BeginValidate(ctx, rg, "d", good, nil))(t).PollUntilDone(ctx, nil))(t)
	if valid.Error != nil || *valid.Properties.ProvisioningState != armresources.ProvisioningStateSucceeded {
		t.Errorf("validate: %+v", valid.DeploymentValidateResult)
	}
	what := must(must(client.BeginWhatIf(ctx, rg, "d", armresources.DeploymentWhatIf{Properties: &armresources.DeploymentWhatIfProperties{
		Mode: to.Ptr(armresources.DeploymentModeIncremental), Template: good.Properties.Template, Parameters: params,
	}}, nil))(t).PollUntilDone(ctx, nil))(t)
	if len(what.Properties.Changes) != 2 || *what.Properties.Changes[0].ChangeType != armresources.ChangeTypeCreate {
		t.Errorf("whatIf: %+v", what.Properties)
	}
	made := must(must(client.BeginCreateOrUpdate(ctx, rg, "d", good, nil))(t).PollUntilDone(ctx, nil))(t)
	if *made.Properties.ProvisioningState != armresources.ProvisioningStateSucceeded || len(made.Properties.OutputResources) != 2 || made.Properties.CorrelationID == nil {
		t.Errorf("made: %+v", made.Properties)
	}
	if out := fmt.Sprint(made.Properties.Outputs); !strings.Contains(out, "client") {
		t.Errorf("outputs: %s", out)
	}
	if shown := fmt.Sprint(made.Properties.Parameters); strings.Contains(shown, "not shown") {
		t.Errorf("parameters: %s", shown)
	}
	if at := must(client.CheckExistence(ctx, rg, "d", nil))(t); !at.Success {
		t.Error("the deployment is not there")
	}
	n := 0
	for pager := operations.NewListPager(rg, "d", nil); pager.More(); {
		for _, op := range must(pager.NextPage(ctx))(t).Value {
			n++
			must(operations.Get(ctx, rg, "d", *op.OperationID, nil))(t)
		}
	}
	if n != 2 {
		t.Errorf("%d operations, want 2", n)
	}
	exported := must(client.ExportTemplate(ctx, rg, "d", nil))(t)
	hash := must(client.CalculateTemplateHash(ctx, exported.Template, nil))(t)
	if *hash.TemplateHash != *made.Properties.TemplateHash {
		t.Errorf("hashes %s and %s", *hash.TemplateHash, *made.Properties.TemplateHash)
	}
	must(must(client.BeginDelete(ctx, rg, "d", nil))(t).PollUntilDone(ctx, nil))(t)
}

func TestDeployments_Fail(t *testing.T) {
	if !cloud.Under(t) {
		return
	}
	ctx, rg := t.Context(), group(t)
	client := must(armresources.NewDeploymentsClient(cloud.Vars["SUBSCRIPTION"], owner(t), nil))(t)
	_, err := client.BeginCreateOrUpdate(ctx, rg, "d", deployment("mars", map[string]any{"name": value("marvin")}), nil)
	refused(t, err, 400, "InvalidTemplateDeployment")
	_, err = client.BeginCreateOrUpdate(ctx, rg, "d", deployment("eastus", nil), nil)
	refused(t, err, 400, "InvalidTemplate")
	// Two credentials with one subject: the second is refused when it is made.
	bad := deploymentTemplate("eastus")
	second := map[string]any{
		"type": "Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials", "apiVersion": "2023-01-31", "name": "twice/second", "dependsOn": []any{"twice/fic"},
		"properties": map[string]any{"issuer": "https://token.example.org", "subject": "s", "audiences": []any{"api://AzureADTokenExchange"}},
	}
	bad["resources"] = append(bad["resources"].([]any), second)
	poller := must(client.BeginCreateOrUpdate(ctx, rg, "d", armresources.Deployment{Properties: &armresources.DeploymentProperties{
		Mode: to.Ptr(armresources.DeploymentModeIncremental), Template: bad, Parameters: map[string]any{"name": value("twice")},
	}}, nil))(t)
	if _, err = poller.PollUntilDone(ctx, nil); err == nil || !strings.Contains(err.Error(), "DeploymentFailed") {
		t.Errorf("got %v", err)
	}
	if got := must(client.Get(ctx, rg, "d", nil))(t); *got.Properties.ProvisioningState != armresources.ProvisioningStateFailed || len(got.Properties.Error.Details) != 1 {
		t.Errorf("got %+v", got.Properties)
	}
}
