package containerservice_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/arm/armtest"
	"lazurite.dev/internal/cluster"
)

// recorder is a driver that runs nothing and remembers what it was asked for.
type recorder struct {
	mu      sync.Mutex // guards what follows
	specs   map[string]cluster.Spec
	applied int
	removed []string
	err     error // of Apply
	gone    error // of Offer
	hold    chan struct{}
}

func (d *recorder) Name() string { return "embedded" }

func (d *recorder) Offer(context.Context) ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return []string{"1.37.2"}, d.gone
}

func (d *recorder) Apply(ctx context.Context, s cluster.Spec, tell func(cluster.Phase)) error {
	d.mu.Lock()
	d.applied++
	hold := d.hold
	d.mu.Unlock()
	tell(cluster.Phase{Name: "network", Done: true})
	tell(cluster.Phase{Name: "api server"})
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.specs[s.Name] = s
	return d.err
}

func (d *recorder) Remove(_ context.Context, uid string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.removed = append(d.removed, uid)
	for name, s := range d.specs {
		if s.UID == uid {
			delete(d.specs, name)
		}
	}
	return nil
}

func (d *recorder) Access(context.Context, string) (cluster.Access, error) {
	return cluster.Access{Server: "https://198.18.0.2:6443", CA: []byte("ca"), Cert: []byte("cert"), Key: []byte("key")}, nil
}

func (d *recorder) set(change func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change()
}

func (d *recorder) spec(name string) cluster.Spec {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.specs[name]
}

func (d *recorder) nodes(name string) (out []string) {
	for _, n := range d.spec(name).Nodes {
		out = append(out, n.Pool+n.Name[strings.Index(n.Name, "-vmss"):])
	}
	return out
}

func real(t *testing.T, mode string) (*world, *recorder) {
	t.Helper()
	d := &recorder{specs: map[string]cluster.Spec{}}
	return startWith(t, &cluster.Drivers{Mode: mode, List: []cluster.Driver{cluster.IssuerOnly{}, d}}), d
}

func TestRealCluster(t *testing.T) {
	w, d := real(t, cluster.Auto)
	path := w.Group("rg") + "/providers/" + typ + "/c"
	got := w.make(t, path, azBody)
	s := d.spec("c")
	if s.ResourceID != got.Text("id") || s.Version != "1.37.2" || !s.Running || !s.Published || !s.WorkloadIdentity || !s.NetworkPolicy ||
		s.PodCIDR != "10.244.0.0/16" || s.ServiceCIDR != "10.0.0.0/16" || s.DNSServiceIP != "10.0.0.10" || s.FQDN != got.Text("properties", "fqdn") {
		t.Errorf("got %+v", s)
	}
	if kubelet := got.Text("properties", "identityProfile", "kubeletidentity", "resourceId"); s.Kubelet != kubelet || kubelet == "" {
		t.Errorf("nodes pull as %q, the cluster shows %q", s.Kubelet, kubelet)
	}
	if diff := cmp.Diff([]string{"nodepool1-vmss000000", "nodepool1-vmss000001", "nodepool1-vmss000002"}, d.nodes("c")); diff != "" {
		t.Error(diff)
	}
	n := s.Nodes[0]
	if n.CPUMillis != 2000 || n.MemoryMiB != 7<<10 || n.MaxPods != 110 || n.Labels["agentpool"] != "nodepool1" || n.Labels["node.kubernetes.io/instance-type"] != "Standard_DS2_v2" {
		t.Errorf("got %+v", n)
	}
	pool := `{"properties":{"count":2,"vmSize":"standard_b2s","maxPods":30,"nodeLabels":{"team":"blue"},"nodeTaints":["only=this:NoSchedule"]}}`
	w.make(t, path+"/agentPools/more", pool)
	if n := d.spec("c").Nodes[1]; len(d.nodes("c")) != 5 || n.Pool != "more" || n.CPUMillis != 2000 || n.MemoryMiB != 4<<10 || n.MaxPods != 30 || n.Labels["team"] != "blue" || n.Taints[0] != "only=this:NoSchedule" {
		t.Errorf("got %v, %+v", d.nodes("c"), n)
	}
	w.make(t, path+"/agentPools/more", `{"properties":{"count":0}}`)
	w.Settle(w.Do("DELETE", path+"/agentPools/more"+v, ""))
	if got := d.nodes("c"); len(got) != 3 {
		t.Errorf("got %v", got)
	}
	uid := d.spec("c").UID
	if _, keys, err := w.issuers.Signing(t.Context(), uid); err != nil || len(keys) != 1 {
		t.Errorf("got %v, %v", keys, err)
	}
	for _, step := range []struct {
		name    string
		running bool
	}{{"stop", false}, {"start", true}} {
		w.Want(http.StatusNoContent, "POST", path+"/"+step.name+v, "")
		if d.spec("c").Running != step.running {
			t.Errorf("%s: got %+v", step.name, d.spec("c"))
		}
		shown := w.Want(http.StatusOK, "GET", path+v, "")
		w.make(t, path, string(shown.Raw))
		pool := w.Want(http.StatusOK, "GET", path+v, "").At("properties", "agentPoolProfiles").([]any)[0].(map[string]any)
		if got := pool["powerState"].(map[string]any)["code"] == "Running"; got != step.running {
			t.Errorf("%s: the pool is %v", step.name, pool["powerState"])
		}
	}
	w.make(t, path, with(t, azBody, `{"properties":{"securityProfile":{"workloadIdentity":{"enabled":false}}}}`))
	if d.spec("c").WorkloadIdentity {
		t.Error("workload identity is still on")
	}
	before := d.applied
	w.Want(http.StatusNoContent, "POST", path+"/rotateServiceAccountSigningKeys"+v, "")
	if _, keys, err := w.issuers.Signing(t.Context(), uid); err != nil || len(keys) != 2 || d.applied != before+1 || !keys[0].Until.IsZero() || keys[1].Until.IsZero() {
		t.Errorf("got %v, %v after %d", keys, err, d.applied-before)
	}
	w.Settle(w.Do("DELETE", path+v, ""))
	if len(d.removed) != 1 || d.removed[0] != uid || len(d.nodes("c")) != 0 {
		t.Errorf("got %v", d.removed)
	}
}

func TestRealCredentials(t *testing.T) {
	w, _ := real(t, "embedded")
	path := w.Group("rg") + "/providers/" + typ + "/c"
	w.make(t, path, body)
	for action, user := range map[string]string{"listClusterUserCredential": "clusterUser_rg_c", "listClusterAdminCredential": "clusterAdmin_rg_c"} {
		a := w.Want(http.StatusOK, "POST", path+"/"+action+v, "")
		raw, err := base64.StdEncoding.DecodeString(a.At("kubeconfigs").([]any)[0].(map[string]any)["value"].(string))
		if err != nil || !strings.Contains(string(raw), "user: "+user) || !strings.Contains(string(raw), "current-context: c\n") || !strings.Contains(string(raw), "server: https://198.18.0.2:6443") {
			t.Errorf("%s: %v\n%s", action, err, raw)
		}
		w.Want(http.StatusForbidden, "POST", path+"/"+action+v, "", "Authorization", "Bearer "+armtest.Nobody)
	}
	if a := w.Want(http.StatusOK, "POST", path+"/accessProfiles/clusterAdmin/listCredential"+v, ""); a.Text("properties", "kubeConfig") == "" {
		t.Errorf("got %s", a.Raw)
	}
	if a := w.Want(http.StatusOK, "GET", path+"/accessProfiles/clusterUser"+v, ""); a.Text("properties", "kubeConfig") != "" {
		t.Errorf("a reader sees %s", a.Raw)
	}
	w.WantError(http.StatusBadRequest, "NotSupportedByDriver", "POST", path+"/runCommand"+v, `{"command":"true"}`)
}

func TestRealRefusals(t *testing.T) {
	w, d := real(t, "embedded")
	path := w.Group("rg") + "/providers/" + typ + "/c"
	props := func(s string) string { return `{"properties":{` + s + `}}` }
	pool := func(s string) string { return props(`"agentPoolProfiles":[{"name":"a",` + s + `}]`) }
	for _, c := range []struct{ patch, code string }{
		{props(`"kubernetesVersion":"1.36.5"`), "K8sVersionNotSupported"},
		{props(`"kubernetesVersion":"1.37.1"`), "K8sVersionNotSupported"},
		{props(`"networkProfile":{"networkPlugin":"none"}`), "InvalidParameter"},
		{props(`"networkProfile":{"networkPolicy":"other"}`), "InvalidParameter"},
		{props(`"networkProfile":{"podCidr":"198.18.0.0/16"}`), "InvalidParameter"},
		{props(`"networkProfile":{"podCidr":"10.0.0.0/16"}`), "InvalidParameter"},
		{props(`"networkProfile":{"podCidr":"10.244.0.0/24"}`), "InvalidParameter"},
		{props(`"networkProfile":{"podCidr":"fd00::/16"}`), "InvalidParameter"},
		{props(`"networkProfile":{"dnsServiceIP":"10.1.0.10"}`), "InvalidParameter"},
		{props(`"networkProfile":{"dnsServiceIP":"10.0.0.1"}`), "InvalidParameter"},
		{props(`"networkProfile":{"ipFamilies":["IPv6"]}`), "InvalidParameter"},
		{props(`"networkProfile":{"outboundType":"none"}`), "NotSupportedByDriver"},
		{props(`"apiServerAccessProfile":{"enablePrivateCluster":true}`), "NotSupportedByDriver"},
		{props(`"disableLocalAccounts":true`), "NotSupportedByDriver"},
		{props(`"addonProfiles":{"azurepolicy":{"enabled":true}}`), "NotSupportedByDriver"},
		{pool(`"enableAutoScaling":true,"minCount":1,"maxCount":3`), "NotSupportedByDriver"},
		{pool(`"scaleSetPriority":"Spot"`), "NotSupportedByDriver"},
		{pool(`"kubeletConfig":{"cpuManagerPolicy":"static"}`), "NotSupportedByDriver"},
		{pool(`"vnetSubnetID":"/x"`), "InvalidParameter"},
		{pool(`"vnetSubnetID":"/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/rg/providers/Microsoft.Network/virtualNetworks/v/subnets/none"`), "SubnetNotFound"},
		{pool(`"enableNodePublicIP":true`), "NotSupportedByDriver"},
		{pool(`"vmSize":"Standard_M416ms_v2"`), "VMSizeNotSupported"},
		{pool(`"count":101`), "InvalidParameter"},
		{pool(`"count":0`), "InvalidParameter"},
		{pool(`"maxPods":5`), "InvalidParameter"},
		{pool(`"nodeLabels":{"kubernetes.io/os":"x"}`), "InvalidParameter"},
		{pool(`"nodeLabels":{"a b":"x"}`), "InvalidParameter"},
		{pool(`"nodeTaints":["x"]`), "InvalidParameter"},
		{pool(`"nodeTaints":["x=y:Never"]`), "InvalidParameter"},
	} {
		a := w.WantError(http.StatusBadRequest, c.code, "PUT", path+v, with(t, body, c.patch))
		if strings.Contains(string(a.Raw), "there are no") || strings.Contains(string(a.Raw), "there is no API server") {
			t.Errorf("the reason is another driver's: %s", a.Raw)
		}
	}
	w.make(t, path, with(t, body, props(`"networkProfile":{"networkPolicy":"none"}`)))
	if d.spec("c").NetworkPolicy {
		t.Errorf("got %+v", d.spec("c"))
	}
	w.WantError(http.StatusBadRequest, "NotSupportedByDriver", "PUT", path+"/agentPools/more"+v, props(`"powerState":{"code":"Stopped"}`))
	w.WantError(http.StatusBadRequest, "PropertyChangeNotAllowed", "PATCH", path+v, props(`"networkProfile":{"podCidr":"10.128.0.0/16"}`))
	if list := w.Want(http.StatusOK, "GET", armtest.Base+"/providers/Microsoft.ContainerService/locations/eastus/kubernetesVersions"+v, ""); len(list.At("values").([]any)) != 1 {
		t.Errorf("got %s", list.Raw)
	}
}

// TestSubnetOfNodes: the subnet that nodes are to be in is there, the caller may
// join it, its network is not in the way, and it stays the cluster's one.
func TestSubnetOfNodes(t *testing.T) {
	w, d := real(t, cluster.Auto)
	const networks = "/providers/Microsoft.Network/virtualNetworks/"
	group := w.Group("rg")
	path := group + "/providers/" + typ + "/"
	put := func(network, space, subnet, prefix string) string {
		t.Helper()
		id := group + networks + network
		for of, properties := range map[string]map[string]any{
			id: {"addressSpace": map[string]any{"addressPrefixes": []any{space}}}, id + "/subnets/" + subnet: {"addressPrefix": prefix},
		} {
			e := &arm.Envelope{ID: of, Name: mustRID(t, of).Name(), Type: mustRID(t, of).Type(), Properties: properties}
			if err := (arm.Resources{Store: w.Store}).Put(t.Context(), e); err != nil {
				t.Fatal(err)
			}
		}
		return id + "/subnets/" + subnet
	}
	fits := put("fits", "10.77.0.0/16", "nodes", "10.77.1.0/24")
	second := put("second", "10.78.0.0/16", "more", "10.78.2.0/24")
	in := func(subnet string) string {
		return with(t, body, `{"properties":{"agentPoolProfiles":[{"name":"nodepool1","vnetSubnetID":"`+subnet+`"}]}}`)
	}
	for what, c := range map[string]struct{ subnet, code, says string }{
		"in the way of the services": {put("services", "10.0.0.0/8", "s", "10.9.0.0/16"), "ServiceCidrOverlapExistingSubnetsCidr", "serviceCidr"},
		"in the way of the pods":     {put("pods", "10.244.128.0/17", "s", "10.244.200.0/24"), "ServiceCidrOverlapExistingSubnetsCidr", "--pod-cidr"},
		"no such subnet":             {fits + "2", "SubnetNotFound", "nodes2"},
		"no such network":            {strings.Replace(fits, "/fits/", "/gone/", 1), "SubnetNotFound", "gone"},
		"a network":                  {group + networks + "fits", "InvalidParameter", "not the id of a subnet"},
		"a list":                     {group + networks + "fits/subnets", "InvalidParameter", "not the id of a subnet"},
	} {
		a := w.WantError(http.StatusBadRequest, c.code, "PUT", path+"c"+v, in(c.subnet))
		if !strings.Contains(string(a.Raw), c.says) {
			t.Errorf("%s: got %s", what, a.Raw)
		}
	}
	stranger := []string{"Authorization", "Bearer " + armtest.Nobody}
	w.Policy.Allow(armtest.Nobody, typ+"/write")
	a := w.WantError(http.StatusForbidden, "AuthorizationFailed", "PUT", path+"c"+v, in(fits), stranger...)
	if !strings.Contains(string(a.Raw), "subnets/join/action") {
		t.Errorf("it does not say what lacks: %s", a.Raw)
	}
	if d.applied != 0 {
		t.Errorf("%d were made", d.applied)
	}
	w.make(t, path+"c", in(fits))
	w.WantError(http.StatusBadRequest, "InvalidParameter", "PUT", path+"c/agentPools/more"+v, `{"properties":{"vnetSubnetID":"`+second+`"}}`)
	w.WantError(http.StatusBadRequest, "InvalidParameter", "PUT", path+"c/agentPools/more"+v, `{"properties":{}}`)
	w.make(t, path+"c/agentPools/more", `{"properties":{"vnetSubnetID":"`+fits+`"}}`)
	w.WantError(http.StatusBadRequest, "PropertyChangeNotAllowed", "PUT", path+"c/agentPools/more"+v, `{"properties":{"vnetSubnetID":"`+second+`"}}`)
	w.Policy.Allow(armtest.Nobody, "Microsoft.Network/virtualNetworks/subnets/join/action")
	w.Want(http.StatusCreated, "PUT", path+"d"+v, in(fits), stranger...)
}

func TestDriverChoice(t *testing.T) {
	w, d := real(t, cluster.Auto)
	d.gone = cluster.Unavailable("no node agent runs")
	path := w.Group("rg") + "/providers/" + typ + "/"
	a := w.Want(http.StatusCreated, "PUT", path+"c"+v, body)
	if got := a.Header.Get(arm.WarningHeader); !strings.Contains(got, "no node agent runs") || !strings.Contains(got, "sudo laz up") || !strings.Contains(got, "make kube") {
		t.Errorf("got the warning %q", got)
	}
	w.Settle(a)
	d.set(func() { d.gone = nil })
	w.make(t, path+"c", body) // what it was made as, it stays
	if d.applied != 0 {
		t.Errorf("%d applied", d.applied)
	}
	if a := w.Want(http.StatusCreated, "PUT", path+"d"+v, body); a.Header.Get(arm.WarningHeader) != "" || w.Settle(a) != "Succeeded" || d.applied != 1 {
		t.Errorf("got %v, %d applied", a.Header, d.applied)
	}
	d.set(func() { d.gone = cluster.Unavailable("it went away") })
	a = w.WantError(http.StatusConflict, "DriverUnavailable", "PUT", path+"d"+v, body)
	if !strings.Contains(string(a.Raw), "it went away") {
		t.Errorf("got %s", a.Raw)
	}
	forced, d := real(t, "embedded")
	d.gone = cluster.Unavailable("no node agent runs")
	forced.WantError(http.StatusConflict, "DriverUnavailable", "PUT", forced.Group("rg")+"/providers/"+typ+"/c"+v, body)
}

func TestFailedCreation(t *testing.T) {
	w, d := real(t, "embedded")
	d.err = errors.New("etcd has no room")
	path := w.Group("rg") + "/providers/" + typ + "/c"
	a := w.Do("PUT", path+v, body)
	if w.Settle(a) != "Succeeded" { // it took longer than a request waits
		a = w.Want(http.StatusOK, "GET", strings.TrimPrefix(a.Header.Get("Azure-AsyncOperation"), "https://management.azure.com"), "")
	}
	if m := a.Text("error", "message"); a.Code() != "ClusterOperationFailed" || !strings.Contains(m, "etcd has no room") || !strings.Contains(m, "az aks delete --name c --resource-group rg") {
		t.Errorf("got %d %s", a.Status, a.Raw)
	}
	if got := w.Want(http.StatusOK, "GET", path+v, ""); got.Text("properties", "provisioningState") != "Failed" {
		t.Errorf("got %s", got.Raw)
	}
	if err := w.service.Resume(t.Context(), slog.New(slog.DiscardHandler)); err != nil {
		t.Error(err)
	}
	if got := w.Want(http.StatusOK, "GET", path+v, ""); got.Text("properties", "provisioningState") != "Failed" {
		t.Errorf("got %s", got.Raw)
	}
	d.set(func() { d.err = nil })
	if err := w.service.Resume(t.Context(), slog.New(slog.DiscardHandler)); err != nil {
		t.Error(err)
	}
	if got := w.Want(http.StatusOK, "GET", path+v, ""); got.Text("properties", "provisioningState") != "Succeeded" {
		t.Errorf("what failed and then worked: got %s", got.Raw)
	}
	w.make(t, path, body)
	d.set(func() { d.err = errors.New("again") })
	w.Settle(w.Do("PUT", path+v, body))
	w.Settle(w.Do("DELETE", path+v, ""))
	w.Want(http.StatusNotFound, "GET", path+v, "")
	if len(d.removed) != 1 {
		t.Errorf("removed %v", d.removed)
	}
}

func TestDeleteWhileCreating(t *testing.T) {
	w, d := real(t, "embedded")
	d.hold = make(chan struct{})
	path := w.Group("rg") + "/providers/" + typ + "/"
	made := w.Want(http.StatusCreated, "PUT", path+"c"+v, body)
	other := w.Want(http.StatusCreated, "PUT", path+"d"+v, body)
	w.WantError(http.StatusConflict, "AnotherOperationInProgress", "PUT", path+"c"+v, body)
	w.Eventually(func() error {
		st := w.Want(http.StatusOK, "GET", strings.TrimPrefix(made.Header.Get("Azure-AsyncOperation"), "https://management.azure.com"), "")
		if phases, _ := st.At("properties", "phases").([]any); len(phases) != 2 || fmt.Sprint(st.At("percentComplete")) == "0" {
			return fmt.Errorf("got %s", st.Raw)
		}
		return nil
	})
	if got := w.Settle(w.Do("DELETE", path+"c"+v, "")); got != "Succeeded" {
		t.Errorf("got %s", got)
	}
	if got := w.Settle(made); got != "Canceled" {
		t.Errorf("the creation ended as %s", got)
	}
	w.Want(http.StatusNotFound, "GET", path+"c"+v, "")
	close(d.hold)
	if w.Settle(other) != "Succeeded" || len(d.removed) != 1 || len(d.nodes("d")) == 0 || len(d.nodes("c")) != 0 {
		t.Errorf("removed %v, nodes of d %v", d.removed, d.nodes("d"))
	}
}

func TestPoolInProgress(t *testing.T) {
	w, d := real(t, "embedded")
	path := w.Group("rg") + "/providers/" + typ + "/c"
	w.make(t, path, body)
	d.set(func() { d.hold = make(chan struct{}) })
	a := w.Want(http.StatusCreated, "PUT", path+"/agentPools/more"+v, `{"properties":{}}`)
	w.WantError(http.StatusConflict, "OperationNotAllowed", "PUT", path+v, with(t, body, `{"properties":{"agentPoolProfiles":[{"name":"nodepool1"},{"name":"more"}]}}`))
	w.WantError(http.StatusConflict, "OperationNotAllowed", "POST", path+"/stop"+v, "")
	w.WantError(http.StatusConflict, "OperationNotAllowed", "POST", path+"/rotateServiceAccountSigningKeys"+v, "")
	d.set(func() { close(d.hold); d.hold = nil })
	if w.Settle(a) != "Succeeded" || len(d.nodes("c")) != 2 {
		t.Errorf("got %v", d.nodes("c"))
	}
	// An action that goes on is not disturbed, and is finished after a restart.
	d.set(func() { d.hold = make(chan struct{}) })
	stop := w.Want(http.StatusAccepted, "POST", path+"/stop"+v, "")
	if got := w.Want(http.StatusOK, "GET", path+v, ""); got.Text("properties", "provisioningState") != "Stopping" {
		t.Errorf("got %s", got.Raw)
	}
	w.WantError(http.StatusConflict, "AnotherOperationInProgress", "POST", path+"/start"+v, "")
	w.WantError(http.StatusConflict, "OperationNotAllowed", "PUT", path+"/agentPools/other"+v, `{"properties":{}}`)
	w.Restart()
	d.set(func() { close(d.hold); d.hold = nil })
	if w.Settle(stop) != "Succeeded" || d.spec("c").Running {
		t.Errorf("got %+v", d.spec("c"))
	}
	if got := w.Want(http.StatusOK, "GET", path+v, ""); got.Text("properties", "provisioningState") != "Succeeded" || got.Text("properties", "powerState", "code") != "Stopped" {
		t.Errorf("got %s", got.Raw)
	}
	d.set(func() { d.err = errors.New("no room") })
	if a := w.Do("POST", path+"/start"+v, ""); a.Code() != "ClusterOperationFailed" {
		t.Errorf("got %d %s", a.Status, a.Raw)
	}
}

func TestRestartWhileCreating(t *testing.T) {
	w, d := real(t, "embedded")
	d.hold = make(chan struct{})
	path := w.Group("rg") + "/providers/" + typ + "/c"
	made := w.Want(http.StatusCreated, "PUT", path+v, body)
	w.Restart()
	close(d.hold)
	if w.Settle(made) != "Succeeded" || len(d.nodes("c")) != 1 {
		t.Errorf("got %v", d.nodes("c"))
	}
	// Once it is there, a start of the server applies it again, unless it is stopped.
	before := d.applied
	for _, want := range []int{before + 1, before + 2} { // the stop counts as well
		if err := w.service.Resume(t.Context(), slog.New(slog.DiscardHandler)); err != nil || d.applied != want {
			t.Errorf("%d applied, want %d; %v", d.applied, want, err)
		}
		if want == before+1 {
			w.Want(http.StatusNoContent, "POST", path+"/stop"+v, "")
		}
	}
}
