package clients_test

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerregistry/armcontainerregistry"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/crane"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

func TestContainerRegistry(t *testing.T) {
	if !cloud.Under(t) {
		return
	}
	ctx, rg, name := t.Context(), group(t), fmt.Sprintf("e2e%08x", rand.Uint32())
	clients := must(armcontainerregistry.NewClientFactory(cloud.Vars["SUBSCRIPTION"], owner(t), nil))(t)
	registries := clients.NewRegistriesClient()
	poller := must(registries.BeginCreate(ctx, rg, name, armcontainerregistry.Registry{
		Location: to.Ptr("eastus"), SKU: &armcontainerregistry.SKU{Name: to.Ptr(armcontainerregistry.SKUNameStandard)},
	}, nil))(t)
	made := must(poller.PollUntilDone(ctx, nil))(t)
	if *made.Properties.LoginServer != name+".azurecr.io" || *made.Properties.ProvisioningState != armcontainerregistry.ProvisioningStateSucceeded || *made.Properties.AdminUserEnabled {
		t.Errorf("made %+v", made.Properties)
	}
	check := armcontainerregistry.RegistryNameCheckRequest{Name: &name, Type: to.Ptr("Microsoft.ContainerRegistry/registries")}
	if got := must(registries.CheckNameAvailability(ctx, check, nil))(t); *got.NameAvailable {
		t.Error("a name that is used is free")
	}
	_, err := registries.ListCredentials(ctx, rg, name, nil)
	refused(t, err, 400, "UnAuthorizedForCredentialOperations")
	update := must(registries.BeginUpdate(ctx, rg, name, armcontainerregistry.RegistryUpdateParameters{
		Properties: &armcontainerregistry.RegistryPropertiesUpdateParameters{AdminUserEnabled: to.Ptr(true)},
	}, nil))(t)
	must(update.PollUntilDone(ctx, nil))(t)
	keys := must(registries.ListCredentials(ctx, rg, name, nil))(t)
	again := must(registries.RegenerateCredential(ctx, rg, name, armcontainerregistry.RegenerateCredentialParameters{Name: to.Ptr(armcontainerregistry.PasswordNamePassword)}, nil))(t)
	if *again.Passwords[0].Value == *keys.Passwords[0].Value || *again.Passwords[1].Value != *keys.Passwords[1].Value {
		t.Error("the wrong password was replaced")
	}
	images(t, name, *keys.Passwords[0].Value, *again.Passwords[0].Value)
	gone := must(registries.BeginDelete(ctx, rg, name, nil))(t)
	must(gone.PollUntilDone(ctx, nil))(t)
}

// images pushes, pulls and copies with crane: by the token that az gives, and
// by the password of the administrator.
func images(t *testing.T, name, stale, password string) {
	server := name + ".azurecr.io"
	token := az(t, "acr", "login", "--name", name, "--expose-token", "--query", "accessToken")
	as := func(user, password string) crane.Option {
		return crane.WithAuth(&authn.Basic{Username: user, Password: password})
	}
	me, admin := as("00000000-0000-0000-0000-000000000000", token), as(name, password)
	img := must(random.Image(1<<20, 3))(t)
	if err := crane.Push(img, server+"/team/app:v1", me); err != nil {
		t.Fatal(err)
	}
	if err := crane.Copy(server+"/team/app:v1", server+"/copy/app:v2", admin); err != nil {
		t.Fatal(err)
	}
	got := must(crane.Pull(server+"/copy/app:v2", me))(t)
	if must(got.Digest())(t) != must(img.Digest())(t) {
		t.Error("another image came back")
	}
	for _, l := range must(got.Layers())(t) {
		r := must(l.Compressed())(t)
		must(io.Copy(io.Discard, r))(t)
		_ = r.Close()
	}
	if tags := must(crane.ListTags(server+"/team/app", me))(t); fmt.Sprint(tags) != "[v1]" {
		t.Errorf("tags %v", tags)
	}
	if list := must(crane.Catalog(server, me))(t); fmt.Sprint(list) != "[copy/app team/app]" {
		t.Errorf("catalog %v", list)
	}
	digest := must(crane.Digest(server+"/copy/app:v2", me))(t)
	if err := crane.Delete(server+"/copy/app@"+digest, me); err != nil {
		t.Error(err)
	}
	err := crane.Push(img, server+"/team/app:v2", as(name, stale))
	var refusal *transport.Error
	if !errors.As(err, &refusal) || refusal.StatusCode != 401 {
		t.Errorf("a password that was replaced: %v", err)
	}
}
