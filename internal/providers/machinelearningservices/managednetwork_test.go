package machinelearningservices_test

import (
	"bytes"
	"errors"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/arm/armtest"
	"lazurite.dev/internal/providers/machinelearningservices"
	"lazurite.dev/internal/rid"
)

func endpointRule(target, group string) string {
	return `{"properties":{"type":"PrivateEndpoint","destination":{"serviceResourceId":"` + target + `","subresourceTarget":"` + group + `"}}}`
}

func TestManagedNetwork_ProvisionAndRules(t *testing.T) {
	w := start(t)
	w.Group("g")
	p := path("g", "work")
	r := w.Want(200, "PUT", p+apiv, body(`,"managedNetwork":{"isolationMode":"AllowOnlyApprovedOutbound","outboundRules":{"pypi":{"type":"FQDN","destination":"*.PyPI.org"}}}`))
	uid := r.Text("properties", "workspaceId")
	if r.Text("properties", "managedNetwork", "status", "status") != "Inactive" || r.Text("properties", "managedNetwork", "outboundRules", "pypi", "status") != "Inactive" {
		t.Errorf("created %s", r.Raw)
	}
	plan, ok := w.workspaces.Plan(uid)
	if !ok || plan.Active || len(plan.Endpoints) != 0 {
		t.Errorf("plan %+v", plan)
	}
	changes := 0
	w.workspaces.OnChange(func() { changes++ })
	a := w.Want(200, "POST", p+"/provisionManagedNetwork"+apiv, `{"includeSpark":false}`)
	if a.Text("status") != "Active" || a.At("sparkReady") != false || len(w.made) != 1 || changes == 0 {
		t.Errorf("provisioned %s; made %v; %d changes", a.Raw, w.made, changes)
	}
	w.WantError(400, "BadRequest", "POST", p+"/provisionManagedNetwork"+apiv, `{"includeSpark":true}`)
	plan, _ = w.workspaces.Plan(uid)
	if !plan.Active || plan.Mode != machinelearningservices.AllowByRules || len(plan.Endpoints) != 2 {
		t.Fatalf("plan %+v", plan)
	}
	seen := map[netip.Addr]bool{}
	for _, e := range plan.Endpoints {
		if !e.Approved || !netip.MustParsePrefix("100.64.0.0/16").Contains(e.Address) || seen[e.Address] {
			t.Errorf("endpoint %+v", e)
		}
		seen[e.Address] = true
		if ok, err := w.links.Approved(t.Context(), e.Target, e.ID.String()); !ok || err != nil {
			t.Errorf("%s is not connected to %s", e.ID, e.Target)
		}
	}
	i := slices.IndexFunc(plan.Rules, func(r machinelearningservices.PlannedRule) bool { return r.Name == "pypi" })
	if i < 0 || plan.Rules[i].Destination != "*.pypi.org" || plan.Rules[i].Category != machinelearningservices.UserDefined {
		t.Errorf("rules %+v", plan.Rules)
	}
	tags := slices.ContainsFunc(plan.Rules, func(r machinelearningservices.PlannedRule) bool {
		return r.Type == machinelearningservices.RuleServiceTag && r.Tag == "AzureActiveDirectory" && r.Category == machinelearningservices.Required && r.Protocol == "TCP"
	})
	if !tags {
		t.Errorf("no required tags in %+v", plan.Rules)
	}
	w.Want(200, "PUT", p+"/outboundRules/vault2"+apiv, endpointRule(namesake, "vault"))
	if r := w.Want(200, "GET", p+"/outboundRules/vault2"+apiv, ""); r.Text("properties", "status") != "Active" || r.Text("properties", "category") != "UserDefined" {
		t.Errorf("rule %s", r.Raw)
	}
	again, _ := w.workspaces.Plan(uid)
	for _, e := range plan.Endpoints {
		if !slices.ContainsFunc(again.Endpoints, func(x machinelearningservices.PlannedEndpoint) bool {
			return x.ID.Equal(e.ID) && x.Address == e.Address
		}) {
			t.Errorf("%s lost its address", e.ID)
		}
	}
	if len(again.Endpoints) != 3 {
		t.Errorf("endpoints %+v", again.Endpoints)
	}
	w.Want(204, "DELETE", p+"/outboundRules/vault2"+apiv, "")
	if list, err := w.links.Of(t.Context(), rid.MustParse(namesake)); err != nil || len(list) != 0 {
		t.Errorf("left %v %v", list, err)
	}
	list := w.Want(200, "GET", p+"/outboundRules"+apiv, "").At("value").([]any)
	if len(list) != 6 { // two endpoints, three tags, one name
		t.Errorf("listed %v", list)
	}
	for _, x := range list {
		m := x.(map[string]any)
		if strings.HasPrefix(m["name"].(string), "__SYS_") {
			w.WantError(400, "BadRequest", "DELETE", m["id"].(string)+apiv, "")
			w.Want(200, "GET", m["id"].(string)+apiv, "")
		}
	}
	// As clients send back what they were shown.
	w.Want(200, "PATCH", p+apiv, `{"properties":{"managedNetwork":{"outboundRules":{"__SYS_ST_AzureActiveDirectory_TCP":{"type":"ServiceTag","category":"Required"},"pypi":{"type":"FQDN","destination":"pypi.org"}}}}}`)
	if r := w.Want(200, "GET", p+"/outboundRules/pypi"+apiv, ""); r.Text("properties", "destination") != "pypi.org" || r.Text("properties", "status") != "Active" {
		t.Errorf("rule %s", r.Raw)
	}
	w.Want(204, "DELETE", p+apiv, "")
	if list, err := w.links.Of(t.Context(), rid.MustParse(vaultID)); err != nil || len(list) != 0 {
		t.Errorf("left %v %v", list, err)
	}
	if _, ok := w.workspaces.Plan(uid); ok {
		t.Error("there is a plan for what is gone")
	}
}

func TestManagedNetwork_EndpointWaitsForApproval(t *testing.T) {
	w := start(t)
	w.Group("g")
	p := path("g", "work")
	uid := w.Want(200, "PUT", p+apiv, isolated("AllowInternetOutbound")).Text("properties", "workspaceId")
	const who = "dddddddd-0000-4000-8000-00000000000d"
	for _, action := range []string{"Microsoft.MachineLearningServices/workspaces/outboundRules/write", "Microsoft.MachineLearningServices/workspaces/provisionManagedNetwork/action", "Microsoft.KeyVault/vaults/read"} {
		w.Policy.Allow(who, action)
	}
	as := []string{"Authorization", "Bearer " + who}
	w.Want(200, "POST", p+"/provisionManagedNetwork"+apiv, "", as...)
	w.Want(200, "PUT", p+"/outboundRules/vault2"+apiv, endpointRule(namesake, "vault"), as...)
	state := func() (status string, approved bool) {
		plan, _ := w.workspaces.Plan(uid)
		i := slices.IndexFunc(plan.Endpoints, func(e machinelearningservices.PlannedEndpoint) bool { return e.Rule == "vault2" })
		return w.Want(200, "GET", p+"/outboundRules/vault2"+apiv, "").Text("properties", "status"), i >= 0 && plan.Endpoints[i].Approved
	}
	if status, ok := state(); status != "Inactive" || ok {
		t.Errorf("before: %s %v", status, ok)
	}
	list, err := w.links.Of(t.Context(), rid.MustParse(namesake))
	if err != nil || len(list) != 1 || list[0].State.Status != "Pending" {
		t.Fatalf("connections %v %v", list, err)
	}
	d := w.Want(200, "POST", p+"/diagnose"+apiv, "")
	if !strings.Contains(string(d.Raw), "ConnectionNotApproved") {
		t.Errorf("diagnosis %s", d.Raw)
	}
	res := arm.Resources{Store: w.Store}
	e, err := res.Get(t.Context(), list[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	e.Properties["privateLinkServiceConnectionState"] = map[string]any{"status": "Approved"}
	if err := res.Put(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	if status, ok := state(); status != "Active" || !ok {
		t.Errorf("after: %s %v", status, ok)
	}
	// One who may approve what he reaches needs nobody's word.
	w.Policy.Allow(who, "Microsoft.KeyVault/vaults/privateEndpointConnectionsApproval/action")
	w.Want(204, "DELETE", p+"/outboundRules/vault2"+apiv, "")
	w.Want(200, "PUT", p+"/outboundRules/vault2"+apiv, endpointRule(namesake, "vault"), as...)
	if status, ok := state(); status != "Active" || !ok {
		t.Errorf("by one who may: %s %v", status, ok)
	}
}

// TestManagedNetwork_ApprovalIsAskedWhenItCounts: a right that is withdrawn before
// the network is there approves nothing, and that of who made a rule stays where
// another writes the same rule again.
func TestManagedNetwork_ApprovalIsAskedWhenItCounts(t *testing.T) {
	const who, other = "dddddddd-0000-4000-8000-00000000000d", "eeeeeeee-0000-4000-8000-00000000000e"
	const approve = "Microsoft.KeyVault/vaults/privateEndpointConnectionsApproval/action"
	for _, c := range []struct {
		what, again, want string
		withdrawn         bool
	}{
		{"the right stays", "", "Approved", false},
		{"the right is withdrawn", "", "Pending", true},
		{"the same rule by another", endpointRule(namesake, "vault"), "Approved", false},
		{"the same rule by another, then the right is withdrawn", endpointRule(namesake, "vault"), "Pending", true},
	} {
		w := start(t)
		w.Group("g")
		p := path("g", "work")
		w.Want(200, "PUT", p+apiv, isolated("AllowInternetOutbound"))
		for _, oid := range []string{who, other} {
			for _, action := range []string{"Microsoft.MachineLearningServices/workspaces/outboundRules/write", "Microsoft.MachineLearningServices/workspaces/provisionManagedNetwork/action", "Microsoft.KeyVault/vaults/read"} {
				w.Policy.Allow(oid, action)
			}
		}
		as := []string{"Authorization", "Bearer " + other}
		w.Policy.Allow(who, approve)
		w.Want(200, "PUT", p+"/outboundRules/vault2"+apiv, endpointRule(namesake, "vault"), "Authorization", "Bearer "+who)
		if c.again != "" {
			w.Want(200, "PUT", p+"/outboundRules/vault2"+apiv, c.again, as...)
		}
		if c.withdrawn {
			w.Policy.Withdraw(who, approve)
		}
		w.Want(200, "POST", p+"/provisionManagedNetwork"+apiv, "", as...)
		list, err := w.links.Of(t.Context(), rid.MustParse(namesake))
		if err != nil || len(list) != 1 || list[0].State.Status != c.want {
			t.Errorf("%s: connections %v %v, want one that is %s", c.what, list, err, c.want)
		}
	}
}

func TestOutboundRules_Refusals(t *testing.T) {
	w := start(t)
	w.Group("g")
	w.Want(200, "PUT", path("g", "open")+apiv, isolated("AllowInternetOutbound"))
	w.Want(200, "PUT", path("g", "shut")+apiv, isolated("AllowOnlyApprovedOutbound"))
	w.Want(200, "PUT", path("g", "none")+apiv, body(""))
	name := `{"properties":{"type":"FQDN","destination":"pypi.org"}}`
	tag := func(s string) string { return `{"properties":{"type":"ServiceTag","destination":{` + s + `}}}` }
	fqdn := func(s string) string { return `{"properties":{"type":"FQDN","destination":"` + s + `"}}` }
	for _, row := range []struct{ ws, code, body string }{
		{"none", "ManagedNetworkNotEnabled", name},
		{"open", "OutboundRuleNotSupported", name},
		{"open", "OutboundRuleNotSupported", tag(`"serviceTag":"Storage","protocol":"TCP","portRanges":"443"`)},
		{"shut", "ServiceTagNotSupported", tag(`"serviceTag":"DataFactory","protocol":"TCP","portRanges":"443"`)},
		{"shut", "ServiceTagNotSupported", tag(`"serviceTag":"Storage.nowhere","protocol":"TCP","portRanges":"443"`)},
		{"shut", "BadRequest", tag(`"serviceTag":"Storage","protocol":"UDP","portRanges":"443"`)},
		{"shut", "BadRequest", tag(`"serviceTag":"Storage","protocol":"TCP","portRanges":"0"`)},
		{"shut", "BadRequest", tag(`"serviceTag":"Storage","protocol":"TCP","portRanges":"443","action":"Deny"`)},
		{"shut", "BadRequest", tag(`"protocol":"TCP","portRanges":"443","addressPrefixes":["10.0.0.0/8"]`)},
		{"shut", "BadRequest", tag(`"protocol":"TCP","portRanges":"443","addressPrefixes":["0.0.0.0/0"]`)},
		{"shut", "BadRequest", tag(`"protocol":"TCP","portRanges":"443","addressPrefixes":["2001:db8::/32"]`)},
		{"shut", "BadRequest", fqdn("*")},
		{"shut", "BadRequest", fqdn("*.com")},
		{"shut", "BadRequest", fqdn("a.*.com")},
		{"shut", "BadRequest", fqdn("https://pypi.org/")},
		{"shut", "BadRequest", fqdn("pypi.org:443")},
		{"shut", "BadRequest", fqdn("192.0.2.1")},
		{"shut", "BadRequest", fqdn("localhost")},
		{"shut", "BadRequest", `{"properties":{"type":"Other","destination":"x.y"}}`},
		{"shut", "BadRequest", `{"properties":{"type":"FQDN","category":"Required","destination":"pypi.org"}}`},
		{"shut", "BadRequest", endpointRule(namesake, "blob")},
		{"shut", "BadRequest", endpointRule(vaultID, "vault")}, // required already
		{"shut", "BadRequest", endpointRule(storageID, "blob")},
		{"shut", "BadRequest", endpointRule(vaultID+"none", "vault")},
		{"shut", "BadRequest", endpointRule("vault", "vault")},
	} {
		w.WantError(400, row.code, "PUT", path("g", row.ws)+"/outboundRules/r"+apiv, row.body)
	}
	w.Want(200, "PUT", path("g", "shut")+"/outboundRules/storage"+apiv, tag(`"serviceTag":"storage.EastUS","protocol":"tcp","portRanges":"443, 8000-8100"`))
	r := w.Want(200, "GET", path("g", "shut")+"/outboundRules/storage"+apiv, "")
	if r.Text("properties", "destination", "serviceTag") != "Storage.eastus" || r.Text("properties", "destination", "portRanges") != "443,8000-8100" {
		t.Errorf("rule %s", r.Raw)
	}
	w.Want(200, "PUT", path("g", "shut")+"/outboundRules/range"+apiv, tag(`"protocol":"TCP","portRanges":"*","addressPrefixes":["203.0.113.0/24","198.51.100.7"]`))
	for _, row := range []struct{ body, code string }{
		{`{"properties":{"managedNetwork":{"outboundRules":{"r":{"type":"FQDN","destination":"*"}}}}}`, "BadRequest"},
		{`{"properties":{"managedNetwork":{"outboundRules":{"-r":{"type":"FQDN","destination":"pypi.org"}}}}}`, "BadRequest"},
	} {
		w.WantError(400, row.code, "PATCH", path("g", "shut")+apiv, row.body)
	}
	w.WantError(400, "ManagedNetworkNotEnabled", "POST", path("g", "none")+"/provisionManagedNetwork"+apiv, "")
	w.why = errors.New("there is no node agent")
	w.WantError(409, "IsolationNotEnforceable", "POST", path("g", "shut")+"/provisionManagedNetwork"+apiv, "")
}

func TestPrivateLink_NamesOfWorkspaceAndEndpoints(t *testing.T) {
	w := start(t)
	w.Group("g")
	uid := w.Want(200, "PUT", path("g", "work")+apiv, body("")).Text("properties", "workspaceId")
	id := rid.MustParse(path("g", "work"))
	names, err := w.links.Names(t.Context(), id, []string{"amlworkspace"})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, n := range names {
		got[n.Public] = n.Private
	}
	want := map[string]string{
		uid + ".workspace.eastus.api.azureml.ms":                uid + ".workspace.eastus.privatelink.api.azureml.ms",
		uid + ".workspace.eastus.cert.api.azureml.ms":           uid + ".workspace.eastus.cert.privatelink.api.azureml.ms",
		"ml-work-eastus-" + uid + ".eastus.notebooks.azure.net": "ml-work-eastus-" + uid + ".eastus.privatelink.notebooks.azure.net",
		"*.eastus.inference.ml.azure.com":                       "*." + uid + ".inference.eastus.privatelink.api.azureml.ms",
		"*.eastus.inference.example.test":                       "*." + uid + ".inference.eastus.privatelink.api.azureml.ms",
	}
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%s: got %q, want %q", k, got[k], v)
		}
	}
	changes := 0
	w.links.OnChange(func() { changes++ })
	w.document(t, id.String()+"/onlineEndpoints/Mine", nil)
	aliases, err := w.links.Aliases(t.Context(), id, []string{"amlworkspace"})
	if err != nil || changes == 0 {
		t.Fatal(err, changes)
	}
	got = map[string]string{}
	for _, n := range aliases {
		got[n.Public] = n.Private
	}
	if got["mine.eastus.inference.ml.azure.com"] != "mine."+uid+".inference.eastus.privatelink.api.azureml.ms" || got["*.eastus.inference.ml.azure.com"] != "" {
		t.Errorf("aliases %v", got)
	}
	groups := w.Want(200, "GET", id.String()+"/privateLinkResources"+apiv, "")
	if !strings.Contains(string(groups.Raw), "privatelink.notebooks.azure.net") {
		t.Errorf("groups %s", groups.Raw)
	}
}

func FuzzRule(f *testing.F) {
	w := start(f)
	w.Group("g")
	w.Want(200, "PUT", path("g", "shut")+apiv, isolated("AllowOnlyApprovedOutbound"))
	for _, s := range []string{`"pypi.org"`, `{"serviceTag":"Storage","portRanges":"1-2,*"}`, `{"addressPrefixes":["1.2.3.4/33"]}`, `{"serviceResourceId":"/"}`, `[]`, `7`} {
		for _, typ := range []string{"FQDN", "ServiceTag", "PrivateEndpoint"} {
			f.Add(typ, s)
		}
	}
	f.Fuzz(func(t *testing.T, typ, destination string) {
		r := httptest.NewRequestWithContext(t.Context(), "PUT", "https://management.azure.com"+path("g", "shut")+"/outboundRules/r"+apiv,
			strings.NewReader(`{"properties":{"type":"`+typ+`","destination":`+destination+`}}`))
		r.Header.Set("Authorization", "Bearer "+armtest.Owner)
		r.Header.Set("Content-Type", "application/json")
		a := httptest.NewRecorder()
		w.Handler.ServeHTTP(a, r)
		if a.Code >= 500 {
			t.Fatalf("%s %s: %d %s", typ, destination, a.Code, a.Body)
		}
		if plan := w.workspaces.Plans(); len(plan) != 1 {
			t.Fatalf("plans %v", plan)
		}
	})
}

func FuzzBody(f *testing.F) {
	for _, s := range []string{`{"properties":{"hbiWorkspace":"true"}}`, `{"Properties":null}`, `{"properties":[]}`, `[`, `{"properties":{"v1legacymode":"FALSE","x":1}}`} {
		f.Add([]byte(s))
	}
	w := start(f)
	w.Group("g")
	f.Fuzz(func(t *testing.T, raw []byte) {
		r := httptest.NewRequestWithContext(t.Context(), "PUT", "https://management.azure.com"+path("g", "work")+apiv, bytes.NewReader(raw))
		r.Header.Set("Authorization", "Bearer "+armtest.Owner)
		a := httptest.NewRecorder()
		w.Handler.ServeHTTP(a, r)
		if a.Code >= 500 {
			t.Fatalf("%q: %d %s", raw, a.Code, a.Body)
		}
	})
}
