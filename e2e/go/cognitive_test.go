package clients_test

import (
	"slices"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/cognitiveservices/armcognitiveservices"
)

// openAIAccount is an account with a subdomain of its own.
func openAIAccount(subdomain string) armcognitiveservices.Account {
	return armcognitiveservices.Account{
		Location: to.Ptr("eastus"), Kind: to.Ptr("OpenAI"), SKU: &armcognitiveservices.SKU{Name: to.Ptr("S0")},
		Properties: &armcognitiveservices.AccountProperties{CustomSubDomainName: to.Ptr(subdomain)},
	}
}

func TestCognitiveAccounts(t *testing.T) {
	if !cloud.Under(t) {
		return
	}
	ctx, rg, name := t.Context(), group(t), fresh("ai")
	clients := must(armcognitiveservices.NewClientFactory(cloud.Vars["SUBSCRIPTION"], owner(t), nil))(t)
	accounts, manage := clients.NewAccountsClient(), clients.NewManagementClient()
	domain := armcognitiveservices.CheckDomainAvailabilityParameter{SubdomainName: &name, Type: to.Ptr("Microsoft.CognitiveServices/accounts")}
	if got := must(manage.CheckDomainAvailability(ctx, domain, nil))(t); !*got.IsSubdomainAvailable {
		t.Errorf("a new subdomain is taken: %s", *got.Reason)
	}
	poller := must(accounts.BeginCreate(ctx, rg, name, openAIAccount(name), nil))(t)
	made := must(poller.PollUntilDone(ctx, nil))(t)
	if *made.Properties.Endpoint != "https://"+name+".openai.azure.com/" || *made.Properties.ProvisioningState != armcognitiveservices.ProvisioningStateSucceeded || *made.SKU.Name != "S0" {
		t.Errorf("made %+v", made.Properties)
	}
	if got := must(manage.CheckDomainAvailability(ctx, domain, nil))(t); *got.IsSubdomainAvailable {
		t.Error("a subdomain that is used is free")
	}
	_, err := accounts.BeginCreate(ctx, rg, name+"-2", openAIAccount(name), nil)
	refused(t, err, 409, "CustomDomainInUse")

	keys := must(accounts.ListKeys(ctx, rg, name, nil))(t)
	again := must(accounts.RegenerateKey(ctx, rg, name, armcognitiveservices.RegenerateKeyParameters{KeyName: to.Ptr(armcognitiveservices.KeyNameKey1)}, nil))(t)
	if *again.Key1 == *keys.Key1 || *again.Key2 != *keys.Key2 {
		t.Error("the wrong key was replaced")
	}
	update := must(accounts.BeginUpdate(ctx, rg, name, armcognitiveservices.Account{
		Tags:       map[string]*string{"team": to.Ptr("blue")},
		Properties: &armcognitiveservices.AccountProperties{DisableLocalAuth: to.Ptr(true)},
	}, nil))(t)
	if got := must(update.PollUntilDone(ctx, nil))(t); !*got.Properties.DisableLocalAuth || *got.Tags["team"] != "blue" || *got.Kind != "OpenAI" {
		t.Errorf("updated %+v", got.Account)
	}
	_, err = accounts.ListKeys(ctx, rg, name, nil)
	refused(t, err, 400, "BadRequest")

	n := 0
	for pager := accounts.NewListByResourceGroupPager(rg, nil); pager.More(); {
		n += len(must(pager.NextPage(ctx))(t).Value)
	}
	if n != 1 {
		t.Errorf("%d accounts in the group", n)
	}
	softDelete(t, clients, rg, name)
}

// softDelete deletes an account, brings it back, and removes it for good.
func softDelete(t *testing.T, clients *armcognitiveservices.ClientFactory, rg, name string) {
	ctx, accounts, deleted := t.Context(), clients.NewAccountsClient(), clients.NewDeletedAccountsClient()
	gone := must(accounts.BeginDelete(ctx, rg, name, nil))(t)
	must(gone.PollUntilDone(ctx, nil))(t)
	_, err := accounts.BeginCreate(ctx, rg, name, openAIAccount(name), nil)
	refused(t, err, 409, "FlagMustBeSetForRestore")
	if got := must(deleted.Get(ctx, "eastus", rg, name, nil))(t); *got.Name != name || got.Properties.ScheduledPurgeDate == nil {
		t.Errorf("deleted %+v", got.Account)
	}
	back := must(accounts.BeginCreate(ctx, rg, name, armcognitiveservices.Account{
		Location: to.Ptr("eastus"), Properties: &armcognitiveservices.AccountProperties{Restore: to.Ptr(true)},
	}, nil))(t)
	if got := must(back.PollUntilDone(ctx, nil))(t); *got.Tags["team"] != "blue" || !*got.Properties.DisableLocalAuth {
		t.Errorf("restored %+v", got.Account)
	}
	gone = must(accounts.BeginDelete(ctx, rg, name, nil))(t)
	must(gone.PollUntilDone(ctx, nil))(t)
	purge := must(deleted.BeginPurge(ctx, "eastus", rg, name, nil))(t)
	must(purge.PollUntilDone(ctx, nil))(t)
	for pager := deleted.NewListPager(nil); pager.More(); {
		for _, a := range must(pager.NextPage(ctx))(t).Value {
			if *a.Name == name {
				t.Error("a purged account is still there")
			}
		}
	}
}

func TestCognitiveDeployments(t *testing.T) {
	if !cloud.Under(t) {
		return
	}
	ctx, rg, name := t.Context(), group(t), fresh("dep")
	clients := must(armcognitiveservices.NewClientFactory(cloud.Vars["SUBSCRIPTION"], owner(t), nil))(t)
	accounts, deployments := clients.NewAccountsClient(), clients.NewDeploymentsClient()
	must(must(accounts.BeginCreate(ctx, rg, name, openAIAccount(name), nil))(t).PollUntilDone(ctx, nil))(t)
	var model *armcognitiveservices.AccountModel
	for pager := accounts.NewListModelsPager(rg, name, nil); pager.More(); {
		for _, m := range must(pager.NextPage(ctx))(t).Value {
			if *m.Name == "gpt-4o-mini" {
				model = m
			}
		}
	}
	if model == nil || model.Capabilities["chatCompletion"] == nil {
		t.Fatalf("the model is %+v", model)
	}
	wanted := armcognitiveservices.Deployment{
		SKU: &armcognitiveservices.SKU{Name: to.Ptr("Standard"), Capacity: to.Ptr(int32(2))},
		Properties: &armcognitiveservices.DeploymentProperties{
			Model: &armcognitiveservices.DeploymentModel{Format: model.Format, Name: model.Name, Version: model.Version},
		},
	}
	poller := must(deployments.BeginCreateOrUpdate(ctx, rg, name, "chat", wanted, nil))(t)
	made := must(poller.PollUntilDone(ctx, nil))(t)
	if *made.Properties.ProvisioningState != armcognitiveservices.DeploymentProvisioningStateSucceeded || len(made.Properties.RateLimits) != 2 || *made.Properties.RateLimits[1].Count != 2000 {
		t.Errorf("made %+v", made.Properties)
	}
	larger := must(deployments.BeginUpdate(ctx, rg, name, "chat", armcognitiveservices.PatchResourceTagsAndSKU{
		SKU: &armcognitiveservices.SKU{Name: to.Ptr("Standard"), Capacity: to.Ptr(int32(5))},
	}, nil))(t)
	if got := must(larger.PollUntilDone(ctx, nil))(t); *got.SKU.Capacity != 5 || *got.Properties.Model.Name != "gpt-4o-mini" {
		t.Errorf("updated %+v", got.Deployment)
	}
	var used float64
	for pager := clients.NewUsagesClient().NewListPager("eastus", nil); pager.More(); {
		for _, u := range must(pager.NextPage(ctx))(t).Value {
			if *u.Name.Value == "OpenAI.Standard.gpt-4o-mini" {
				used = *u.CurrentValue
			}
		}
	}
	if used < 5 {
		t.Errorf("usage %v", used)
	}
	wanted.Properties.Model.Name = to.Ptr("no-such-model")
	_, err := deployments.BeginCreateOrUpdate(ctx, rg, name, "none", wanted, nil)
	refused(t, err, 400, "DeploymentModelNotSupported")
	must(must(deployments.BeginDelete(ctx, rg, name, "chat", nil))(t).PollUntilDone(ctx, nil))(t)
	_, err = deployments.Get(ctx, rg, name, "chat", nil)
	refused(t, err, 404, "ResourceNotFound")
}

func TestCognitiveCatalogue(t *testing.T) {
	if !cloud.Under(t) {
		return
	}
	ctx := t.Context()
	clients := must(armcognitiveservices.NewClientFactory(cloud.Vars["SUBSCRIPTION"], owner(t), nil))(t)
	var kinds []string
	for pager := clients.NewResourceSKUsClient().NewListPager(nil); pager.More(); {
		for _, s := range must(pager.NextPage(ctx))(t).Value {
			if *s.Locations[0] == "EASTUS" {
				kinds = append(kinds, *s.Kind+" "+*s.Name)
			}
		}
	}
	if !slices.Equal(kinds, []string{"AIServices S0", "OpenAI S0"}) {
		t.Errorf("skus %q", kinds)
	}
	n := 0
	for pager := clients.NewModelsClient().NewListPager("eastus", nil); pager.More(); {
		n += len(must(pager.NextPage(ctx))(t).Value)
	}
	if n == 0 {
		t.Error("there are no models")
	}
	sku := must(clients.NewManagementClient().CheckSKUAvailability(ctx, "eastus", armcognitiveservices.CheckSKUAvailabilityParameter{
		Kind: to.Ptr("OpenAI"), SKUs: []*string{to.Ptr("S0")}, Type: to.Ptr("Microsoft.CognitiveServices/accounts"),
	}, nil))(t)
	if len(sku.Value) != 1 || !*sku.Value[0].SKUAvailable {
		t.Errorf("skus %+v", sku.Value)
	}
	ops := 0
	for pager := clients.NewOperationsClient().NewListPager(nil); pager.More(); {
		ops += len(must(pager.NextPage(ctx))(t).Value)
	}
	if ops == 0 {
		t.Error("there are no operations")
	}
}
