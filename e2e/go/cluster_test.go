package clients_test

import (
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerservice/armcontainerservice/v6"

	"lazurite.dev/e2e/live"
)

// What one does with a cluster that is there: pools, power, keys, versions.
func TestManagedClusters_Day2(t *testing.T) {
	if !cloud.Under(t) {
		return
	}
	ctx := t.Context()
	clients := must(armcontainerservice.NewClientFactory(cloud.Vars["SUBSCRIPTION"], owner(t), nil))(t)
	clusters, pools := clients.NewManagedClustersClient(), clients.NewAgentPoolsClient()

	pool := armcontainerservice.AgentPool{Properties: &armcontainerservice.ManagedClusterAgentPoolProfileProperties{Count: to.Ptr(int32(2))}}
	making := must(pools.BeginCreateOrUpdate(ctx, live.Group, live.Cluster, "day2", pool, nil))(t)
	if made := must(making.PollUntilDone(ctx, nil))(t); *made.Properties.Count != 2 || *made.Properties.Mode != armcontainerservice.AgentPoolModeUser {
		t.Errorf("got a pool of %d in mode %s", *made.Properties.Count, *made.Properties.Mode)
	}
	if got := must(clusters.Get(ctx, live.Group, live.Cluster, nil))(t); len(got.Properties.AgentPoolProfiles) != 2 {
		t.Errorf("the cluster shows %d pools", len(got.Properties.AgentPoolProfiles))
	}
	removing := must(pools.BeginDelete(ctx, live.Group, live.Cluster, "day2", nil))(t)
	must(removing.PollUntilDone(ctx, nil))(t)
	must(pools.GetAvailableAgentPoolVersions(ctx, live.Group, live.Cluster, nil))(t)
	must(pools.GetUpgradeProfile(ctx, live.Group, live.Cluster, "nodepool1", nil))(t)

	stopping := must(clusters.BeginStop(ctx, live.Group, live.Cluster, nil))(t)
	must(stopping.PollUntilDone(ctx, nil))(t)
	if got := must(clusters.Get(ctx, live.Group, live.Cluster, nil))(t); *got.Properties.PowerState.Code != armcontainerservice.CodeStopped {
		t.Errorf("a stopped cluster is %s", *got.Properties.PowerState.Code)
	}
	starting := must(clusters.BeginStart(ctx, live.Group, live.Cluster, nil))(t)
	must(starting.PollUntilDone(ctx, nil))(t)
	rotating := must(clusters.BeginRotateServiceAccountSigningKeys(ctx, live.Group, live.Cluster, nil))(t)
	must(rotating.PollUntilDone(ctx, nil))(t)

	if got := must(clusters.GetUpgradeProfile(ctx, live.Group, live.Cluster, nil))(t); *got.Properties.ControlPlaneProfile.KubernetesVersion == "" {
		t.Error("the upgrade profile names no version")
	}
	if got := must(clusters.ListKubernetesVersions(ctx, "eastus", nil))(t); len(got.Values) == 0 {
		t.Error("there are no versions of Kubernetes")
	}
	_, err := clusters.GetAccessProfile(ctx, live.Group, live.Cluster, "clusterAdmin", nil)
	refused(t, err, 400, "ClusterHasNoAPIServer")
}
