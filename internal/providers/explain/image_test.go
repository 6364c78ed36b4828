package explain_test

import (
	"context"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/providers/explain"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store/sqlstore"
)

const kubeletOID = "cccccccc-0000-0000-0000-000000000001"

// imageHops explains a pod that waits for an image, and gives what is said of
// the image, and all that is said to do.
func imageHops(t *testing.T, image, status string, allowed allows, profile map[string]any) (found []string, fixes string) {
	t.Helper()
	s, err := sqlstore.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "db"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	res := arm.Resources{Store: s}
	for id, props := range map[string]map[string]any{
		group + "/providers/Microsoft.ContainerService/managedClusters/c":   {"identityProfile": profile},
		group + "/providers/Microsoft.ContainerRegistry/registries/Reg1234": {},
	} {
		r := rid.MustParse(id)
		if err := res.Put(t.Context(), &arm.Envelope{ID: id, Name: r.Name(), Type: r.Type(), Properties: props}); err != nil {
			t.Fatal(err)
		}
	}
	kube := objects{podPath: `{"metadata":{"name":"app","namespace":"default"},"spec":{"nodeName":"n0","initContainers":[{"name":"first","image":"ghcr.io/a/b"}],
		"containers":[{"name":"main","image":"` + image + `"},{"name":"fine","image":"reg1234.azurecr.io/fine"}]},
		"status":{"phase":"Pending","containerStatuses":[{"name":"main","state":{"waiting":{"reason":"` + status + `","message":"m"}}},{"name":"fine","state":{}}]}}`}
	p := explain.New(explain.Config{
		Resources: res, NotFound: errNone, Policy: allowed, Refusals: past{}, MayRead: func(context.Context, *arm.Envelope) error { return nil },
		Owns: func(host string) bool { return strings.HasSuffix(host, ".azurecr.io") },
		Open: func(context.Context, *arm.Envelope) (explain.Objects, func(), error) { return kube, func() {}, nil },
	})
	r, err := p.Endpoints[2].Handle(t.Context(), &arm.Request{Params: map[string]string{"subscriptionId": strings.TrimPrefix(sub, "/subscriptions/")}, Body: json.RawMessage(podQuestion)})
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range r.Body.(explain.Answer).Hops {
		if h.Step == "image" {
			found = append(found, h.Subject+": "+h.Found)
		}
		fixes += h.Fix + "\n"
	}
	return found, fixes
}

func TestPod_ImageOfARegistry(t *testing.T) {
	kubelet := map[string]any{"kubeletidentity": map[string]any{"objectId": kubeletOID}}
	for name, tt := range map[string]struct {
		image, status string
		allowed       allows
		profile       map[string]any
		found, fix    string
	}{
		"no role": {"reg1234.azurecr.io/app:v1", "ErrImagePull", "", kubelet,
			"reg1234.azurecr.io/app:v1: the kubelet's identity " + kubeletOID + " has no role (AcrPull)", "az aks update --name c --resource-group g --attach-acr Reg1234"},
		"a role":      {"reg1234.azurecr.io/app:v1", "ImagePullBackOff", kubeletOID, kubelet, "may pull from Reg1234", "az acr repository show-tags --name Reg1234"},
		"no registry": {"other.azurecr.io/app", "ErrImagePull", kubeletOID, kubelet, "there is no registry 'other'", "az acr list"},
		"no identity": {"reg1234.azurecr.io/app", "ErrImagePull", kubeletOID, nil, "no kubelet identity", "docker-registry NAME --docker-server reg1234.azurecr.io"},
	} {
		found, fixes := imageHops(t, tt.image, tt.status, tt.allowed, tt.profile)
		if len(found) != 1 || !strings.Contains(found[0], tt.found) || !strings.Contains(fixes, tt.fix) || strings.Contains(fixes, "laz image load") {
			t.Errorf("%s: %q, %s", name, found, fixes)
		}
	}
	for name, image := range map[string]string{"ErrImagePull": "docker.io/library/x", "ImagePullBackOff": "busybox", "CrashLoopBackOff": "reg1234.azurecr.io/app"} {
		if found, _ := imageHops(t, image, name, "", kubelet); len(found) > 0 {
			t.Errorf("%s, %s: %q", name, image, found)
		}
	}
}
