package containerservice_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/arm/armtest"
	"lazurite.dev/internal/cluster"
	"lazurite.dev/internal/directory"
)

// what az 2.45 sends for aks create --enable-oidc-issuer, and what a newer one adds.
const azBody = `{"location":"eastus","identity":{"type":"SystemAssigned"},"properties":{"kubernetesVersion":"","dnsPrefix":"c-rg-222222",
	"agentPoolProfiles":[{"count":3,"vmSize":"Standard_DS2_v2","osType":"Linux","type":"VirtualMachineScaleSets","mode":"System","enableNodePublicIP":false,
		"scaleSetPriority":"Regular","scaleSetEvictionPolicy":"Delete","nodeTaints":[],"enableEncryptionAtHost":false,"enableUltraSSD":false,"enableFIPS":false,"name":"nodepool1"}],
	"linuxProfile":{"adminUsername":"azureuser","ssh":{"publicKeys":[{"keyData":"ssh-rsa AAAA"}]}},"addonProfiles":{},"enableRBAC":true,
	"networkProfile":{"networkPlugin":"kubenet","podCidr":"10.244.0.0/16","serviceCidr":"10.0.0.0/16","dnsServiceIP":"10.0.0.10","dockerBridgeCidr":"172.17.0.1/16","outboundType":"loadBalancer","loadBalancerSku":"standard"},
	"disableLocalAccounts":false,"storageProfile":{},"oidcIssuerProfile":{"enabled":true},"securityProfile":{"workloadIdentity":{"enabled":true}}}}`

// with merges a patch (RFC 7396, lists replaced) into a body.
func with(t *testing.T, body, patch string) string {
	t.Helper()
	var b, p map[string]any
	if err := errors.Join(json.Unmarshal([]byte(body), &b), json.Unmarshal([]byte(patch), &p)); err != nil {
		t.Fatal(err)
	}
	merge(b, p)
	out, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func merge(dst, patch map[string]any) {
	for k, v := range patch {
		sub, ok1 := v.(map[string]any)
		old, ok2 := dst[k].(map[string]any)
		switch {
		case v == nil:
			delete(dst, k)
		case ok1 && ok2:
			merge(old, sub)
		default:
			dst[k] = v
		}
	}
}

func (w *world) make(t *testing.T, path, body string) *armtest.Answer {
	t.Helper()
	a := w.Do("PUT", path+v, body)
	if a.Status/100 != 2 || w.Settle(a) != "Succeeded" {
		t.Fatalf("PUT %s: %d %s", path, a.Status, a.Raw)
	}
	return w.Want(http.StatusOK, "GET", path+v, "")
}

func at(t *testing.T, a *armtest.Answer) string {
	t.Helper()
	return a.Text("properties", "oidcIssuerProfile", "issuerURL")
}

func TestCreate(t *testing.T) {
	w := start(t)
	path := w.Group("rg") + "/providers/" + typ + "/c"
	got := w.make(t, path, azBody)
	p := got.JSON["properties"].(map[string]any)
	issuer := at(t, got)
	if !strings.HasPrefix(issuer, "https://eastus.oic.prod-aks.azure.com/"+armtest.Tenant+"/") || !strings.HasSuffix(issuer, "/") {
		t.Errorf("got the issuer %q", issuer)
	}
	for key, want := range map[string]any{
		"nodeResourceGroup": "MC_rg_c_eastus", "provisioningState": "Succeeded", "powerState": map[string]any{"code": "Running"}, "kubernetesVersion": "1.37.2",
		"currentKubernetesVersion": "1.37.2", "servicePrincipalProfile": map[string]any{"clientId": "msi"}, "maxAgentPools": 100.0, "supportPlan": "KubernetesOfficial",
		"enableRBAC": true, "dnsPrefix": "c-rg-222222", "securityProfile": map[string]any{"workloadIdentity": map[string]any{"enabled": true}},
		"linuxProfile": map[string]any{"adminUsername": "azureuser", "ssh": map[string]any{"publicKeys": []any{map[string]any{"keyData": "ssh-rsa AAAA"}}}},
	} {
		if diff := cmp.Diff(want, p[key]); diff != "" {
			t.Errorf("%s:\n%s", key, diff)
		}
	}
	if f := got.Text("properties", "fqdn"); !strings.HasPrefix(f, "c-rg-222222-") || !strings.HasSuffix(f, ".hcp.eastus.azmk8s.io") {
		t.Errorf("got the FQDN %q", f)
	}
	if got.Text("properties", "networkProfile", "dockerBridgeCidr") != "172.17.0.1/16" || got.Text("sku", "tier") != "Free" {
		t.Errorf("got %s", got.Raw)
	}
	pool := p["agentPoolProfiles"].([]any)[0].(map[string]any)
	if pool["name"] != "nodepool1" || pool["count"] != 3.0 || pool["orchestratorVersion"] != "1.37.2" || pool["provisioningState"] != "Succeeded" || pool["scaleSetPriority"] != "Regular" {
		t.Errorf("got %v", pool)
	}
	own, err := w.dir.ServicePrincipalByResource(got.Text("id"))
	if err != nil || own.ObjectID != got.Text("identity", "principalId") || own.DisplayName != "c" || got.Text("identity", "tenantId") != armtest.Tenant {
		t.Errorf("got the principal %+v, %v, and %s", own, err, got.Raw)
	}
	k, err := w.dir.ServicePrincipal(got.Text("properties", "identityProfile", "kubeletidentity", "objectId"))
	if err != nil || k.AppID != got.Text("properties", "identityProfile", "kubeletidentity", "clientId") || !strings.HasSuffix(k.ResourceID, "/MC_rg_c_eastus/providers/Microsoft.ManagedIdentity/userAssignedIdentities/c-agentpool") {
		t.Errorf("got the kubelet's principal %+v, %v", k, err)
	}
	if _, ok, err := w.issuers.Keys(t.Context(), issuer); !ok || err != nil {
		t.Errorf("the issuer: %v, %v", ok, err)
	}
	// az aks update reads the whole and writes it back.
	again := w.make(t, path, string(got.Raw))
	if diff := cmp.Diff(got.JSON["properties"], again.JSON["properties"]); diff != "" {
		t.Errorf("what was read, written back:\n%s", diff)
	}
	if diff := cmp.Diff(got.JSON["identity"], again.JSON["identity"]); diff != "" {
		t.Errorf("the identity, written back:\n%s", diff)
	}
}

func TestDelete(t *testing.T) {
	w := start(t)
	path := w.Group("rg") + "/providers/" + typ + "/c"
	got := w.make(t, path, azBody)
	issuer := at(t, got)
	tok, err := w.issuers.Token(t.Context(), cluster.Request{Cluster: got.Text("id"), Namespace: "default", ServiceAccount: "sa"})
	if err != nil || tok.Issuer != issuer {
		t.Fatal(tok, err)
	}
	a := w.Do("DELETE", path+v, "")
	if a.Status != http.StatusNoContent && a.Status != http.StatusAccepted || w.Settle(a) != "Succeeded" {
		t.Errorf("got %d %s", a.Status, a.Raw) // 200 is an error to armcontainerservice
	}
	if _, _, err := w.issuers.Keys(t.Context(), issuer); !errors.Is(err, cluster.ErrNotFound) {
		t.Errorf("the issuer of a deleted cluster: %v", err)
	}
	for _, oid := range []string{got.Text("identity", "principalId"), got.Text("properties", "identityProfile", "kubeletidentity", "objectId")} {
		if _, err := w.dir.ServicePrincipal(oid); !errors.Is(err, directory.ErrNotFound) {
			t.Errorf("a principal of a deleted cluster: %v", err)
		}
	}
	again := w.make(t, path, azBody)
	if at(t, again) == issuer || again.Text("identity", "principalId") == got.Text("identity", "principalId") {
		t.Errorf("a new cluster is as the old one was: %s", again.Raw)
	}
}

func TestIssuerLater(t *testing.T) {
	w := start(t)
	path := w.Group("rg") + "/providers/" + typ + "/c"
	got := w.make(t, path, body)
	if at(t, got) != "" {
		t.Errorf("got %s", got.Raw)
	}
	w.WantError(http.StatusBadRequest, "OIDCIssuerNotEnabled", "POST", path+"/rotateServiceAccountSigningKeys"+v, "")
	forged := with(t, body, `{"properties":{"oidcIssuerProfile":{"issuerURL":"https://evil.example/"}}}`)
	if got = w.make(t, path, forged); at(t, got) != "" {
		t.Errorf("an issuer was taken from a client: %s", got.Raw)
	}
	enabled := with(t, body, `{"properties":{"oidcIssuerProfile":{"enabled":true}}}`)
	issuer := at(t, w.make(t, path, enabled))
	if issuer == "" || at(t, w.make(t, path, body)) != issuer || at(t, w.make(t, path, forged)) != issuer {
		t.Errorf("the issuer %q did not stay", issuer)
	}
	off := `{"properties":{"oidcIssuerProfile":{"enabled":false}}}`
	w.WantError(http.StatusBadRequest, "OIDCIssuerFeatureCannotBeDisabled", "PUT", path+v, with(t, body, off))
	w.WantError(http.StatusBadRequest, "OIDCIssuerFeatureCannotBeDisabled", "PATCH", path+v, off)
	w.WantError(http.StatusBadRequest, "OIDCIssuerFeatureCannotBeDisabled", "PATCH", path+v, `{"properties":{"OidcIssuerProfile":{"Enabled":false}}}`)
	a := w.Want(http.StatusOK, "PATCH", path+v, `{"properties":{"oidcIssuerProfile":null}}`)
	w.Settle(a)
	before, _, err := w.issuers.Keys(t.Context(), issuer)
	if err != nil {
		t.Fatal(err)
	}
	w.Want(http.StatusNoContent, "POST", path+"/rotateServiceAccountSigningKeys"+v, "")
	after, _, err := w.issuers.Keys(t.Context(), issuer)
	if err != nil || len(after.Keys) != len(before.Keys)+1 {
		t.Errorf("%d keys became %d, %v", len(before.Keys), len(after.Keys), err)
	}
}

func TestRefusals(t *testing.T) {
	w := start(t)
	path := w.Group("rg") + "/providers/" + typ + "/c"
	big := make([]string, 101)
	for i := range big {
		big[i] = fmt.Sprintf(`{"name":"p%d"}`, i)
	}
	pools := func(s string) string { return `{"properties":{"agentPoolProfiles":[` + s + `]}}` }
	props := func(s string) string { return `{"properties":{` + s + `}}` }
	for _, c := range []struct{ patch, code string }{
		{`{"identity":null}`, "InvalidParameter"},
		{`{"identity":{"type":"None"}}`, "InvalidParameter"},
		{`{"identity":{"type":"Robot"}}`, "InvalidIdentity"},
		{`{"identity":{"type":"UserAssigned"}}`, "InvalidIdentity"},
		{`{"sku":{"name":"Automatic","tier":"Standard"}}`, "InvalidParameter"},
		{`{"sku":{"name":"Base","tier":"Gold"}}`, "InvalidParameter"},
		{`{"sku":{"name":"Deluxe"}}`, "InvalidParameter"},
		{`{"sku":"Base"}`, "InvalidParameter"},
		{props(`"kubernetesVersion":"2.0"`), "K8sVersionNotSupported"},
		{props(`"kubernetesVersion":"1.99.0"`), "K8sVersionNotSupported"},
		{props(`"kubernetesVersion":"latest"`), "K8sVersionNotSupported"},
		{props(`"dnsPrefix":"a.b"`), "InvalidParameter"},
		{props(`"supportPlan":"Gold"`), "InvalidParameter"},
		{props(`"securityProfile":{"workloadIdentity":{"enabled":true}}`), "InvalidParameter"},
		{props(`"identityProfile":{"other":{"resourceId":"x"}}`), "InvalidParameter"},
		{props(`"identityProfile":{"kubeletidentity":{"resourceId":"/subscriptions/s/x"}}`), "CustomKubeletIdentityOnlySupportedOnUserAssignedMSICluster"},
		{props(`"servicePrincipalProfile":{"clientId":"11111111-0000-0000-0000-000000000000","secret":"s3cret"}`), "NotSupportedByDriver"},
		{props(`"servicePrincipalProfile":{"clientId":"msi","secret":"s3cret"}`), "NotSupportedByDriver"},
		{props(`"agentPoolProfiles":null`), "InvalidParameter"},
		{pools(``), "InvalidParameter"},
		{pools(`null`), "InvalidParameter"},
		{pools(`{"name":"A"}`), "InvalidParameter"},
		{pools(`{"name":"a"},{"name":"a"}`), "InvalidParameter"},
		{pools(`{"name":"a","Name":"b"}`), "InvalidParameter"},
		{pools(`{"name":"a","mode":"User"}`), "OperationNotAllowed"},
		{pools(`{"name":"a","mode":"Other"}`), "InvalidParameter"},
		{pools(`{"name":"a","count":-1}`), "InvalidParameter"},
		{pools(`{"name":"a","count":"3"}`), "InvalidParameter"},
		{pools(`{"name":"a","count":1.5}`), "InvalidParameter"},
		{pools(`{"name":"a","osType":"Windows","mode":"System"}`), "InvalidParameter"},
		{pools(`{"name":"a","orchestratorVersion":"x"}`), "K8sVersionNotSupported"},
	} {
		a := w.WantError(http.StatusBadRequest, c.code, "PUT", path+v, with(t, body, c.patch))
		if strings.Contains(string(a.Raw), "s3cret") {
			t.Errorf("an error shows a secret: %s", a.Raw)
		}
	}
	w.Want(http.StatusNotFound, "GET", path+v, "")
}

// TestUnsupported has everything that would change security and does nothing.
func TestUnsupported(t *testing.T) {
	w := start(t)
	path := w.Group("rg") + "/providers/" + typ + "/c"
	for _, p := range []string{
		`"apiServerAccessProfile":{"authorizedIPRanges":["10.0.0.0/8"]}`, `"apiServerAccessProfile":{"enablePrivateCluster":true}`,
		`"ApiServerAccessProfile":{"EnablePrivateCluster":true}`, `"apiServerAccessProfile":{"enableVnetIntegration":true}`,
		`"apiServerAccessProfile":{"subnetId":"/x"}`, `"apiServerAccessProfile":{"privateDNSZone":"system"}`, `"publicNetworkAccess":"Disabled"`,
		`"aadProfile":{"managed":true}`, `"aadProfile":{}`, `"disableLocalAccounts":true`, `"DISABLELOCALACCOUNTS":true`, `"enableRBAC":false`,
		`"diskEncryptionSetID":"/x"`, `"httpProxyConfig":{"httpProxy":"http://p"}`, `"windowsProfile":{"adminUsername":"a","adminPassword":"s3cret"}`,
		`"windowsProfile":{"gmsaProfile":{"enabled":true}}`, `"networkProfile":{"outboundType":"userDefinedRouting"}`, `"networkProfile":{"outboundType":"none"}`,
		`"networkProfile":{"outboundType":"block"}`, `"nodeResourceGroupProfile":{"restrictionLevel":"ReadOnly"}`, `"bootstrapProfile":{"artifactSource":"Cache"}`,
		`"securityProfile":{"azureKeyVaultKms":{"enabled":true}}`, `"securityProfile":{"nodeRestriction":{"enabled":true}}`,
		`"securityProfile":{"customCATrustCertificates":["QQ=="]}`, `"securityProfile":{"defender":{"securityMonitoring":{"enabled":true}}}`,
		`"securityProfile":{"defender":{"securityGating":{"enabled":true}}}`, `"securityProfile":{"imageCleaner":{"enabled":true,"intervalHours":24}}`,
		`"securityProfile":{"imageIntegrity":{"enabled":true}}`, `"networkProfile":{"networkPolicy":"calico"}`, `"networkProfile":{"networkPolicy":"azure"}`,
		`"networkProfile":{"networkPolicy":"cilium"}`, `"networkProfile":{"advancedNetworking":{"enabled":true,"security":{"enabled":true}}}`,
		`"podIdentityProfile":{"enabled":true}`, `"serviceMeshProfile":{"mode":"Istio"}`, `"enablePodSecurityPolicy":true`, `"safeguardsProfile":{"level":"Enforcement"}`,
		`"addonProfiles":{"azurepolicy":{"enabled":true}}`, `"addonProfiles":{"azureKeyvaultSecretsProvider":{"Enabled":true}}`, `"addonProfiles":{"x":{"enabled":"yes"}}`,
		`"enableNamespaceResources":true`,
	} {
		a := w.WantError(http.StatusBadRequest, "NotSupportedByDriver", "PUT", path+v, with(t, body, `{"properties":{`+p+`}}`))
		if !strings.Contains(string(a.Raw), "'issuer'") || strings.Contains(string(a.Raw), "s3cret") {
			t.Errorf("%s: got %s", p, a.Raw)
		}
	}
	for _, p := range []string{
		`"enableEncryptionAtHost":true`, `"enableFIPS":true`, `"EnableFIPS":true`, `"vnetSubnetID":"/x"`, `"podSubnetID":"/x"`, `"hostGroupID":"/x"`, `"nodePublicIPPrefixID":"/x"`,
		`"workloadRuntime":"KataMshvVmIsolation"`, `"networkProfile":{"allowedHostPorts":[{"portStart":1}]}`, `"networkProfile":{"applicationSecurityGroups":["/x"]}`,
		`"securityProfile":{"enableSecureBoot":true}`, `"securityProfile":{"enableVTPM":true}`, `"securityProfile":{"sshAccess":"Disabled","enableVTPM":true}`,
	} {
		w.WantError(http.StatusBadRequest, "NotSupportedByDriver", "PUT", path+v, with(t, body, `{"properties":{"agentPoolProfiles":[{"name":"a",`+p+`}]}}`))
	}
	// The same, off, is what clients send by themselves.
	w.make(t, path, with(t, body, `{"properties":{"apiServerAccessProfile":{"enablePrivateCluster":false,"authorizedIPRanges":[]},"publicNetworkAccess":"Enabled",
		"disableLocalAccounts":false,"networkProfile":{"networkPolicy":"none"},"podIdentityProfile":{"enabled":false},"addonProfiles":{"azurepolicy":{"enabled":false}},
		"securityProfile":{"imageCleaner":{"enabled":false},"defender":{"securityMonitoring":{"enabled":false}}},"autoUpgradeProfile":{"upgradeChannel":"patch"},
		"agentPoolProfiles":[{"name":"a","enableFIPS":false,"networkProfile":{},"securityProfile":{"enableVTPM":false},"workloadRuntime":"OCIContainer"}]}}`))
	for _, p := range []string{`"disableLocalAccounts":true`, `"networkProfile":{"networkPolicy":"calico"}`} {
		w.WantError(http.StatusBadRequest, "NotSupportedByDriver", "PATCH", path+v, `{"properties":{`+p+`}}`)
	}
}

func TestUnchangeable(t *testing.T) {
	w := start(t)
	path := w.Group("rg") + "/providers/" + typ + "/c"
	w.make(t, path, with(t, body, `{"properties":{"dnsPrefix":"abc","kubernetesVersion":"1.36"}}`))
	for _, c := range []struct{ patch, code string }{
		{`{"properties":{"dnsPrefix":"xyz"}}`, "PropertyChangeNotAllowed"},
		{`{"properties":{"nodeResourceGroup":"other"}}`, "PropertyChangeNotAllowed"},
		{`{"properties":{"fqdnSubdomain":"other"}}`, "PropertyChangeNotAllowed"},
		{`{"properties":{"kubernetesVersion":"1.35"}}`, "OperationNotAllowed"},
		{`{"properties":{"kubernetesVersion":"1.36.1"}}`, "OperationNotAllowed"},
		{`{"properties":{"agentPoolProfiles":[{"name":"nodepool1","vmSize":"Standard_D8s_v5"}]}}`, "PropertyChangeNotAllowed"},
		{`{"properties":{"agentPoolProfiles":[{"name":"other","mode":"System"}]}}`, "OperationNotAllowed"},
	} {
		w.WantError(http.StatusBadRequest, c.code, "PUT", path+v, with(t, body, c.patch))
	}
	got := w.make(t, path, with(t, body, `{"properties":{"kubernetesVersion":"1.37","agentPoolProfiles":[{"name":"nodepool1","count":5}]}}`))
	if got.Text("properties", "currentKubernetesVersion") != "1.37.2" || got.Text("properties", "dnsPrefix") != "abc" {
		t.Errorf("got %s", got.Raw)
	}
	other := strings.TrimSuffix(w.Group("rg2"), "/") + "/providers/" + typ + "/c"
	w.WantError(http.StatusConflict, "NodeResourceGroupAlreadyExists", "PUT", other+v, with(t, body, `{"properties":{"nodeResourceGroup":"MC_rg_c_eastus"}}`))
}

func TestActions(t *testing.T) {
	w := start(t)
	path := w.Group("rg") + "/providers/" + typ + "/c"
	w.make(t, path, azBody)
	for _, name := range []string{
		"listClusterUserCredential", "listClusterAdminCredential", "listClusterMonitoringUserCredential", "runCommand", "rotateClusterCertificates",
		"accessProfiles/clusterUser/listCredential",
	} {
		a := w.WantError(http.StatusBadRequest, "ClusterHasNoAPIServer", "POST", path+"/"+name+v, "")
		if m := a.Text("error", "message"); !strings.Contains(m, "laz run --as") || !strings.Contains(m, "--cluster c ") {
			t.Errorf("got %q", m)
		}
	}
	w.WantError(http.StatusBadRequest, "ClusterHasNoAPIServer", "GET", path+"/accessProfiles/clusterAdmin"+v, "")
	w.WantError(http.StatusBadRequest, "MSIClusterNotSupported", "POST", path+"/resetServicePrincipalProfile"+v, `{"clientId":"x","secret":"y"}`)
	w.WantError(http.StatusBadRequest, "NotSupportedByDriver", "POST", path+"/resetAADProfile"+v, `{}`)
	w.Want(http.StatusForbidden, "POST", path+"/listClusterUserCredential"+v, "", "Authorization", "Bearer "+armtest.Nobody)
	w.Want(http.StatusNotFound, "POST", path+"x/listClusterUserCredential"+v, "")
	for _, step := range []struct{ name, want string }{{"stop", "Stopped"}, {"stop", "Stopped"}, {"start", "Running"}} {
		w.Want(http.StatusNoContent, "POST", path+"/"+step.name+v, "")
		if got := w.Want(http.StatusOK, "GET", path+v, ""); got.Text("properties", "powerState", "code") != step.want || got.Text("properties", "provisioningState") != "Succeeded" {
			t.Errorf("%s: got %s", step.name, got.Raw)
		}
	}
	w.Want(http.StatusNoContent, "POST", path+"/stop"+v, "")
	if got := w.make(t, path, azBody); got.Text("properties", "powerState", "code") != "Stopped" {
		t.Errorf("a PUT started a stopped cluster: %s", got.Raw)
	}
}

func TestVersions(t *testing.T) {
	w := start(t)
	path := w.Group("rg") + "/providers/" + typ + "/c"
	w.make(t, path, with(t, body, `{"properties":{"kubernetesVersion":"1.36.0"}}`))
	up := w.Want(http.StatusOK, "GET", path+"/upgradeProfiles/default"+v, "")
	want := map[string]any{"kubernetesVersion": "1.36.0", "osType": "Linux", "upgrades": []any{map[string]any{"kubernetesVersion": "1.37.2"}, map[string]any{"kubernetesVersion": "1.36.5"}}}
	if diff := cmp.Diff(any(want), up.At("properties", "controlPlaneProfile")); diff != "" {
		t.Error(diff)
	}
	if pools, _ := up.At("properties", "agentPoolProfiles").([]any); len(pools) != 1 {
		t.Errorf("got %s", up.Raw)
	}
	w.Want(http.StatusOK, "GET", path+"/agentPools/nodepool1/upgradeProfiles/default"+v, "")
	w.Want(http.StatusNotFound, "GET", path+"/upgradeProfiles/other"+v, "")
	w.Want(http.StatusNotFound, "GET", path+"/agentPools/nodepool1/upgradeProfiles/other"+v, "")
	w.Want(http.StatusNotFound, "GET", path+"x/upgradeProfiles/default"+v, "")
	avail := w.Want(http.StatusOK, "GET", path+"/availableAgentPoolVersions"+v, "")
	if list, _ := avail.At("properties", "agentPoolVersions").([]any); len(list) != 3 {
		t.Errorf("got %s", avail.Raw)
	}
	at := armtest.Base + "/providers/Microsoft.ContainerService/locations/"
	list := w.Want(http.StatusOK, "GET", at+"eastus/kubernetesVersions"+v, "")
	if vs, _ := list.At("values").([]any); len(vs) != 3 || vs[0].(map[string]any)["version"] != "1.37" || vs[0].(map[string]any)["isDefault"] != true {
		t.Errorf("got %s", list.Raw)
	}
	old := w.Want(http.StatusOK, "GET", at+"eastus/orchestrators?api-version=2019-04-01&resource-type=managedClusters", "")
	if o, _ := old.At("properties", "orchestrators").([]any); len(o) != 3 {
		t.Errorf("got %s", old.Raw)
	}
	w.Want(http.StatusBadRequest, "GET", at+"atlantis/kubernetesVersions"+v, "")
	w.Want(http.StatusBadRequest, "GET", at+"atlantis/orchestrators?api-version=2019-04-01", "")
	w.Want(http.StatusForbidden, "GET", at+"eastus/kubernetesVersions"+v, "", "Authorization", "Bearer "+armtest.Nobody)
}

func TestAgentPools(t *testing.T) {
	w := start(t)
	path := w.Group("rg") + "/providers/" + typ + "/c"
	w.make(t, path, body)
	names := func() (out []string) {
		t.Helper()
		got := w.Want(http.StatusOK, "GET", path+v, "")
		list, _ := got.At("properties", "agentPoolProfiles").([]any)
		for _, p := range list {
			m := p.(map[string]any)
			out = append(out, fmt.Sprint(m["name"], " ", m["mode"], " ", m["count"]))
		}
		return out
	}
	if got := w.make(t, path+"/agentPools/user1", `{"properties":{"Count":2,"xTra":{"a":1}}}`); got.At("properties", "count") != 2.0 || got.At("properties", "xTra", "a") != 1.0 || got.Text("properties", "mode") != "User" {
		t.Errorf("got %s", got.Raw)
	}
	if diff := cmp.Diff([]string{"nodepool1 System 1", "user1 User 2"}, names()); diff != "" {
		t.Error(diff)
	}
	list := w.Want(http.StatusOK, "GET", path+"/agentPools"+v, "")
	if l, _ := list.At("value").([]any); len(l) != 2 {
		t.Errorf("got %s", list.Raw)
	}
	w.WantError(http.StatusBadRequest, "OperationNotAllowed", "PUT", path+v, body) // user1 is missing
	w.WantError(http.StatusBadRequest, "OperationNotAllowed", "PUT", path+"/agentPools/nodepool1"+v, `{"properties":{"mode":"User"}}`)
	w.WantError(http.StatusBadRequest, "PropertyChangeNotAllowed", "PUT", path+"/agentPools/user1"+v, `{"properties":{"osDiskSizeGB":30}}`)
	w.WantError(http.StatusBadRequest, "NotSupportedByDriver", "PUT", path+"/agentPools/user1"+v, `{"properties":{"EnableFips":true}}`)
	w.WantError(http.StatusBadRequest, "InvalidParameter", "PUT", path+"/agentPools/user1"+v, `{"properties":{"count":5,"COUNT":6}}`)
	if a := w.Do("DELETE", path+"/agentPools/nodepool1"+v, ""); a.Code() != "OperationNotAllowed" {
		t.Errorf("delete of the last system pool: %d %s", a.Status, a.Raw)
	}
	w.make(t, path+"/agentPools/user1", `{"properties":{"mode":"System"}}`)
	if a := w.Do("DELETE", path+"/agentPools/nodepool1"+v, ""); a.Status != http.StatusNoContent && a.Status != http.StatusAccepted || w.Settle(a) != "Succeeded" {
		t.Errorf("got %d %s", a.Status, a.Raw)
	}
	if diff := cmp.Diff([]string{"user1 System 2"}, names()); diff != "" {
		t.Error(diff)
	}
	// By the cluster's PUT, the pools change and new ones come.
	w.make(t, path, with(t, body, `{"properties":{"agentPoolProfiles":[{"name":"user1","count":7},{"name":"more"}]}}`))
	if diff := cmp.Diff([]string{"more User 1", "user1 System 7"}, names()); diff != "" {
		t.Error(diff)
	}
	w.Settle(w.Do("DELETE", path+v, ""))
	w.Eventually(func() error {
		if a := w.Do("GET", path+v, ""); a.Status != http.StatusNotFound {
			return fmt.Errorf("the cluster is still there: %d", a.Status)
		}
		return nil
	})
	if l, err := (arm.Resources{Store: w.Store}).List(t.Context(), mustRID(t, armtest.Base), "", "", 0); err != nil || len(l) != 1 {
		t.Errorf("%d resources are left, %v", len(l), err)
	}
}

func TestIdentities(t *testing.T) {
	w := start(t)
	group := w.Group("rg")
	path := group + "/providers/" + typ + "/c"
	user := func(name string) (id, principal string) {
		t.Helper()
		id = group + "/providers/Microsoft.ManagedIdentity/userAssignedIdentities/" + name
		principal = "principal-of-" + name
		e := &arm.Envelope{ID: id, Name: name, Type: "Microsoft.ManagedIdentity/userAssignedIdentities", System: arm.SystemData{CreatedAt: time.Now()},
			Properties: map[string]any{"clientId": "client-of-" + name, "principalId": principal}}
		if err := (arm.Resources{Store: w.Store}).Put(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		return id, principal
	}
	own, principal := user("own")
	kubelet, kubeletPrincipal := user("kubelet")
	given := with(t, body, `{"identity":{"type":"UserAssigned","userAssignedIdentities":{"`+own+`":{}}},"properties":{"identityProfile":{"kubeletidentity":{"resourceId":"`+kubelet+`"}}}}`)

	w.Policy.Allow("writer", typ+"/write")
	w.Policy.Allow("writer", "Microsoft.ManagedIdentity/userAssignedIdentities/assign/action")
	w.Policy.Allow("poor", typ+"/write")
	if a := w.Do("PUT", path+v, given, "Authorization", "Bearer poor"); a.Status != http.StatusForbidden {
		t.Errorf("who may not assign identities: %d %s", a.Status, a.Raw)
	}
	w.WantError(http.StatusNotFound, "FailedIdentityOperation", "PUT", path+v, strings.ReplaceAll(given, "/kubelet\"", "/absent\""))
	w.WantError(http.StatusBadRequest, "InvalidParameter", "PUT", path+v, strings.ReplaceAll(given, kubelet, path))
	a := w.Do("PUT", path+v, given, "Authorization", "Bearer writer")
	if a.Status != http.StatusCreated || w.Settle(a) != "Succeeded" {
		t.Fatalf("got %d %s", a.Status, a.Raw)
	}
	got := w.Want(http.StatusOK, "GET", path+v, "")
	if got.Text("identity", "userAssignedIdentities", own, "principalId") != principal || got.Text("identity", "principalId") != "" ||
		got.Text("properties", "identityProfile", "kubeletidentity", "objectId") != kubeletPrincipal {
		t.Errorf("got %s", got.Raw)
	}
	// Who may write the cluster needs no right to identities that it has.
	if a := w.Do("PUT", path+v, string(got.Raw), "Authorization", "Bearer poor"); a.Status != http.StatusOK || w.Settle(a) != "Succeeded" {
		t.Errorf("got %d %s", a.Status, a.Raw)
	}
	system := w.make(t, path, with(t, body, `{"properties":{"identityProfile":{"kubeletidentity":{"resourceId":""}}}}`))
	for _, oid := range []string{system.Text("identity", "principalId"), system.Text("properties", "identityProfile", "kubeletidentity", "objectId")} {
		if _, err := w.dir.ServicePrincipal(oid); err != nil {
			t.Errorf("the identity %q: %v", oid, err)
		}
	}
	w.make(t, path, given)
	for _, oid := range []string{system.Text("identity", "principalId"), system.Text("properties", "identityProfile", "kubeletidentity", "objectId")} {
		if _, err := w.dir.ServicePrincipal(oid); !errors.Is(err, directory.ErrNotFound) {
			t.Errorf("an identity that the cluster has no more: %v", err)
		}
	}
}
