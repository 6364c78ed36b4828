package machinelearningservices_test

import (
	"testing"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/providers/machinelearningservices"
	"lazurite.dev/internal/rid"
)

func TestWayTo(t *testing.T) {
	w := start(t)
	w.Group("g")
	to := func(name, target, host string) machinelearningservices.Way {
		t.Helper()
		way, err := machinelearningservices.WayTo(t.Context(), w.config, rid.MustParse(path("g", name)), rid.MustParse(target), "vault", host, "keyvault")
		if err != nil {
			t.Fatal(err)
		}
		return way
	}
	w.Want(200, "PUT", path("g", "off")+apiv, body(""))
	if way := to("off", namesake, "x.example"); way.Mode != machinelearningservices.Disabled || !way.Out || len(way.Endpoints) != 0 || len(w.made) != 0 {
		t.Errorf("no isolation: %+v, made %v", way, w.made)
	}
	w.Want(200, "PUT", path("g", "all")+apiv, isolated("AllowInternetOutbound"))
	if way := to("all", namesake, "x.example"); !way.Out || len(way.Endpoints) != 0 || len(w.made) != 1 {
		t.Errorf("the internet: %+v, made %v", way, w.made)
	}
	w.Want(200, "PUT", path("g", "some")+apiv, isolated("AllowOnlyApprovedOutbound"))
	if way := to("some", vaultID, "vault1.vault.azure.net"); way.Out || len(way.Endpoints) != 1 {
		t.Errorf("the workspace's own: %+v", way)
	}
	if way := to("some", namesake, "vault2.vault.azure.net"); way.Out || len(way.Endpoints) != 0 {
		t.Errorf("what no rule has: %+v", way)
	}
	some := path("g", "some") + "/outboundRules/"
	for rule, is := range map[string]bool{
		`"type":"FQDN","destination":"*.vault.azure.net"`:                                                                          true,
		`"type":"FQDN","destination":"vault3.vault.azure.net"`:                                                                     false,
		`"type":"ServiceTag","destination":{"serviceTag":"AzureKeyVault","protocol":"TCP","portRanges":"80, 440-8000"}`:            true,
		`"type":"ServiceTag","destination":{"serviceTag":"AzureKeyVault","protocol":"TCP","portRanges":"80,444-8000"}`:             false,
		`"type":"ServiceTag","destination":{"serviceTag":"AzureKeyVault.eastus","protocol":"*","portRanges":"*"}`:                  true,
		`"type":"ServiceTag","destination":{"serviceTag":"Storage","protocol":"TCP","portRanges":"443"}`:                           false,
		`"type":"ServiceTag","destination":{"addressPrefixes":["203.0.113.0/24"],"protocol":"TCP","portRanges":"443"}`:             false,
		`"type":"ServiceTag","destination":{"serviceTag":"AzureKeyVault","protocol":"TCP","portRanges":"1-442, 10000-65535, 443"}`: true,
	} {
		w.Want(200, "PUT", some+"rule"+apiv, `{"properties":{`+rule+`}}`)
		if way := to("some", namesake, "VAULT2.vault.azure.net"); way.Out != is || len(way.Endpoints) != 0 {
			t.Errorf("%s: %+v", rule, way)
		}
		w.Do("DELETE", some+"rule"+apiv, "")
	}
	w.Want(200, "PUT", some+"rule"+apiv, endpointRule(namesake, "vault"))
	if way := to("some", namesake, "x"); way.Out || len(way.Endpoints) != 1 || way.Endpoints[0].Name() != "rule" {
		t.Errorf("a private endpoint: %+v", way)
	}
	// A registry may become the workspace's own after a rule was made for it: there are two then.
	w.document(t, some+"second", map[string]any{"type": "PrivateEndpoint", "destination": map[string]any{"serviceResourceId": namesake, "subresourceTarget": "vault"}})
	if way := to("some", namesake, "x"); len(way.Endpoints) != 2 || way.Endpoints[0].Equal(way.Endpoints[1]) {
		t.Errorf("two private endpoints: %+v", way)
	}
	if _, err := machinelearningservices.WayTo(t.Context(), w.config, rid.MustParse(path("g", "none")), rid.MustParse(namesake), "vault", "x", "keyvault"); !apierr.Is(err, apierr.NotFound) {
		t.Errorf("of no workspace: %v", err)
	}
}
