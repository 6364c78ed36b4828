package containerservice_test

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/arm/armtest"
	"lazurite.dev/internal/cluster"
	"lazurite.dev/internal/directory"
	"lazurite.dev/internal/providers/containerservice"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/seal"
	"lazurite.dev/internal/store"
)

// world is a plane and what stands behind its clusters.
type world struct {
	*armtest.Plane
	dir     *directory.Directory
	issuers *cluster.Issuers
	service *containerservice.Service
}

func start(t *testing.T) *world {
	t.Helper()
	return startWith(t, &cluster.Drivers{List: []cluster.Driver{cluster.IssuerOnly{}}})
}

func startWith(t *testing.T, drivers *cluster.Drivers) *world {
	t.Helper()
	w := &world{}
	root, err := seal.OpenFileRoot(filepath.Join(t.TempDir(), "root.json"))
	if err != nil {
		t.Fatal(err)
	}
	w.Plane = armtest.New(t, func(s store.Store) []arm.Provider {
		if w.dir != nil {
			w.dir.Close()
		}
		if w.dir, err = directory.Open(context.Background(), s, armtest.Tenant); err != nil {
			t.Fatal(err)
		}
		w.issuers = cluster.New(cluster.Config{
			Store: s, Seal: seal.NewKeyring(s, root), Tenant: armtest.Tenant,
			URL: func(region string) string { return "https://" + region + ".oic.prod-aks.azure.com" },
		})
		existing := cluster.NewExisting(cluster.ExistingConfig{
			Store: s, Seal: seal.NewKeyring(s, root), Issuers: w.issuers, Names: func() []string { return nil },
			Settings: func() (cluster.Values, error) { return cluster.Values{TenantID: armtest.Tenant, CABundle: "PEM"}, nil },
		})
		all := &cluster.Drivers{Mode: drivers.Mode, List: append(slices.Clone(drivers.List), existing)}
		w.service = containerservice.Open(containerservice.Config{
			Store: s, Directory: w.dir, Issuers: w.issuers, Drivers: all, Existing: existing, TenantID: armtest.Tenant,
		})
		return []arm.Provider{w.service.Provider()}
	}, func(c *arm.Config) { c.Principals = w.dir })
	t.Cleanup(func() { w.dir.Close() })
	return w
}

const (
	v       = "?api-version=2025-02-01"
	body    = `{"location":"eastus","identity":{"type":"SystemAssigned"},"properties":{"agentPoolProfiles":[{"name":"nodepool1"}]}}`
	typ     = "Microsoft.ContainerService/managedClusters"
	poolTyp = typ + "/agentPools"
)

func TestContract(t *testing.T) {
	armtest.Run(t, func(t *testing.T) *armtest.Plane { return start(t).Plane },
		armtest.Case{
			Type: typ, Path: "{group}/providers/" + typ + "/c{n}", Body: strings.Replace(body, "eastus", "westus2", 1),
			BadNames: []string{"-a", "a-", "a.b", "_a", "a%20b", strings.Repeat("n", 64)},
		},
		armtest.Case{
			Type: poolTyp, Path: "{group}/providers/" + poolTyp[:len(typ)] + "/c/agentPools/p{n}", Body: `{"properties":{"count":2}}`,
			Before:   []armtest.Step{{Path: "{group}/providers/" + typ + "/c", Body: strings.Replace(body, "eastus", "westus2", 1)}},
			BadNames: []string{"A", "1a", "a-b", strings.Repeat("n", 13)},
		},
	)
}

func mustRID(t *testing.T, s string) rid.ID {
	t.Helper()
	id, err := rid.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return id
}
