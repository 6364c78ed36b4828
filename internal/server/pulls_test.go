package server

import (
	"context"
	"strings"
	"testing"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/gate"
	"lazurite.dev/internal/providers/machinelearningservices"
	"lazurite.dev/internal/rid"
)

// TestPulls_WhatComputesReach: an image is pulled where the network of the
// workspace leads to its registry and the registry lets that in, and else the
// refusal says what mends it.
func TestPulls_WhatComputesReach(t *testing.T) {
	const group = "/subscriptions/s/resourceGroups/g/providers/"
	ws := rid.MustParse(group + "Microsoft.MachineLearningServices/workspaces/ws")
	registry := rid.MustParse(group + "Microsoft.ContainerRegistry/registries/Acme")
	endpoint := ws.Child("outboundRules", "acme")
	other := ws.Child("outboundRules", "other")
	approved := func(is bool) func(context.Context, string) (bool, error) {
		return func(_ context.Context, e string) (bool, error) { return is && e == endpoint.String(), nil }
	}
	public, ruled, private := gate.Network{Public: true, DefaultAllow: true}, gate.Network{Public: true}, gate.Network{Trusted: true}
	private.Approved = approved(true)
	waits := gate.Network{Public: true, DefaultAllow: true, Approved: approved(false)}
	const (
		off, all, some = machinelearningservices.Disabled, machinelearningservices.AllowAll, machinelearningservices.AllowByRules
		id             = "$(az acr show -n Acme --query id -o tsv)"
		rule           = "az ml workspace outbound-rule set --workspace-name ws --resource-group g --rule allow-acme --type "
	)
	for name, tt := range map[string]struct {
		way  machinelearningservices.Way
		n    gate.Network
		want string
	}{
		"no isolation, public":             {machinelearningservices.Way{Mode: off, Out: true}, public, ""},
		"no isolation, private":            {machinelearningservices.Way{Mode: off, Out: true}, private, "az acr update -n Acme --public-network-enabled true"},
		"no isolation, addresses":          {machinelearningservices.Way{Mode: off, Out: true}, ruled, "--default-action Allow"},
		"the internet, public":             {machinelearningservices.Way{Mode: all, Out: true}, public, ""},
		"the internet, private":            {machinelearningservices.Way{Mode: all, Out: true}, private, rule + "private_endpoint --service-resource-id " + id + " --subresource-target registry"},
		"the internet, an endpoint":        {machinelearningservices.Way{Mode: all, Out: true, Endpoints: []rid.ID{endpoint}}, private, ""},
		"an endpoint that waits":           {machinelearningservices.Way{Mode: all, Out: true, Endpoints: []rid.ID{endpoint}}, waits, "az network private-endpoint-connection list --id " + id},
		"the first of two endpoints":       {machinelearningservices.Way{Mode: some, Endpoints: []rid.ID{endpoint, other}}, private, ""},
		"the second of two endpoints":      {machinelearningservices.Way{Mode: some, Endpoints: []rid.ID{other, endpoint}}, private, ""},
		"two endpoints that wait":          {machinelearningservices.Way{Mode: some, Endpoints: []rid.ID{other, endpoint}}, waits, other.String() + " or " + endpoint.String() + " has no approved connection"},
		"approved, an endpoint":            {machinelearningservices.Way{Mode: some, Endpoints: []rid.ID{endpoint}}, private, ""},
		"approved, by name":                {machinelearningservices.Way{Mode: some, Out: true}, public, ""},
		"approved, by name but private":    {machinelearningservices.Way{Mode: some, Out: true}, private, rule + "private_endpoint"},
		"approved, neither name nor point": {machinelearningservices.Way{Mode: some}, public, rule + "fqdn --destination acme.azurecr.io"},
	} {
		err := reaches(t.Context(), tt.way, ws, registry, "acme.azurecr.io", tt.n)
		if tt.want == "" && err != nil || tt.want != "" && (!apierr.Is(err, apierr.Forbidden) || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), registry.String())) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
	}
}
