package network_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/arm/armtest"
	"lazurite.dev/internal/token"
)

// A preview of a network's PUT keeps of its subnets what is computed, and shows
// what would go.
func TestNetworks_PreviewOfSubnets(t *testing.T) {
	p := start(t)
	path := p.Group("g") + "/providers/Microsoft.Network/virtualNetworks/v"
	const head = `{"location":"eastus","properties":{"addressSpace":{"addressPrefixes":["10.0.0.0/16"]}`
	const with = `{"name":"z","properties":{"addressPrefix":"10.0.0.0/24","serviceEndpoints":[{"service":"Microsoft.KeyVault"}]}},{"name":"a","properties":{"addressPrefix":"10.0.1.0/24","defaultOutboundAccess":false}}`
	p.Want(201, "PUT", path+"?api-version=2023-05-01", head+`,"subnets":[`+with+`]}}`)
	for name, c := range map[string]struct {
		body string
		want func(z, a map[string]any) []any // of subnets as they are shown now
	}{
		"the same":              {head + `,"subnets":[` + with + `]}}`, func(z, a map[string]any) []any { return []any{a, z} }},
		"no subnets: they stay": {head + `}}`, func(z, a map[string]any) []any { return []any{a, z} }},
		"one goes":              {head + `,"subnets":[{"name":"a","properties":{"addressPrefix":"10.0.1.0/24","defaultOutboundAccess":false}}]}}`, func(_, a map[string]any) []any { return []any{a} }},
		"properties go": {head + `,"subnets":[{"name":"z","properties":{"addressPrefix":"10.0.0.0/24"}},{"name":"a","properties":{"addressPrefix":"10.0.1.0/24"}}]}}`, func(z, a map[string]any) []any {
			delete(z["properties"].(map[string]any), "serviceEndpoints")
			delete(a["properties"].(map[string]any), "defaultOutboundAccess")
			return []any{a, z}
		}},
	} {
		told, err := p.Handler.Do(t.Context(), arm.Ask{Caller: &token.Claims{ObjectID: armtest.Owner}, Method: "PUT", Path: path, Version: "2023-05-01", Body: json.RawMessage(c.body), Dry: true})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got := told.Body["properties"].(map[string]any)["subnets"]
		now := told.Old["properties"].(map[string]any)["subnets"].([]any)
		if d := cmp.Diff(c.want(now[1].(map[string]any), now[0].(map[string]any)), got); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
}
