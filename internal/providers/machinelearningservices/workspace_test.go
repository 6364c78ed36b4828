package machinelearningservices_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/arm/armtest"
	"lazurite.dev/internal/arm/privatelink"
	"lazurite.dev/internal/directory"
	"lazurite.dev/internal/providers/keyvault"
	"lazurite.dev/internal/providers/machinelearningservices"
	"lazurite.dev/internal/rbac"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
)

const (
	apiv = "?api-version=2024-04-01"
	deps = armtest.Base + "/resourceGroups/deps/providers/"

	storageID  = deps + "Microsoft.Storage/storageAccounts/account1"
	vaultID    = deps + "Microsoft.KeyVault/vaults/vault1"
	insightsID = deps + "Microsoft.Insights/components/insights1"
	namesake   = armtest.Base + "/resourceGroups/deps/providers/Microsoft.KeyVault/vaults/vault2"
)

type world struct {
	*armtest.Plane
	workspaces *machinelearningservices.Workspaces
	links      *privatelink.Links
	config     machinelearningservices.Config

	mu      sync.Mutex // guards what follows
	why     error      // no network can be made
	made    []string
	removed []string
	roles   []string
	regiven []string // workspaces whose endpoints' roles were looked at
	unable  error    // the roles can't be given
	now     time.Time
}

func (w *world) Available(context.Context) error { return w.why }

func (w *world) Network(_ context.Context, ws *machinelearningservices.Workspace) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.made = append(w.made, ws.UID)
	return nil
}

func (w *world) RemoveNetwork(_ context.Context, uid string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.removed = append(w.removed, uid)
	return nil
}

func (w *world) EnsureContainer(context.Context, rid.ID, string) error { return nil }

func (w *world) Key(context.Context, rid.ID) (string, error) { return "thekey", nil }

func (w *world) assign(_ context.Context, scope rid.ID, role, principal string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.roles = append(w.roles, scope.Name()+" "+role+" "+principal)
	return nil
}

func (w *world) regrant(_ context.Context, workspace rid.ID) error {
	e, err := (arm.Resources{Store: w.Store}).Get(context.Background(), workspace)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	registry, _ := e.Properties["containerRegistry"].(string)
	w.regiven = append(w.regiven, workspace.Name()+" "+registry)
	return w.unable
}

func scoring(label string) string { return label + ".inference.example.test" }

func start(t testing.TB) *world {
	w := &world{now: time.Now()}
	w.Plane = armtest.New(t, func(s store.Store) []arm.Provider {
		var err error
		vaults := keyvault.PrivateLink(func(name string) string { return "https://" + name + ".vault.azure.net" })
		if w.links, err = privatelink.Open(t.Context(), s, vaults, machinelearningservices.PrivateLink(scoring)); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(w.links.Close)
		if w.workspaces, err = machinelearningservices.Open(t.Context(), s, w.links); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(w.workspaces.Close)
		w.config = machinelearningservices.Config{
			Workspaces: w.workspaces, TenantID: armtest.Tenant, Machine: w, Storage: w, Assign: w.assign, Regrant: w.regrant, API: func(region string) string { return region + ".api.azureml.ms" }, Authorizer: w.policy(),
			Now: func() time.Time { return w.now },
		}
		return []arm.Provider{machinelearningservices.New(w.config, scoring)}
	}, func(c *arm.Config) { c.Principals = principals{} })
	w.Group("deps")
	for _, id := range []string{storageID, vaultID, insightsID, namesake} {
		w.document(t, id, map[string]any{"vaultUri": "https://x", "InstrumentationKey": "ikey"})
	}
	return w
}

// principals makes accounts that nobody asks for.
type principals struct{}

func (principals) EnsureManagedIdentity(context.Context, directory.ManagedIdentity) error { return nil }
func (principals) RemoveManagedIdentity(context.Context, string) error                    { return nil }

// late is the plane's policy, which is made after the provider.
type late struct{ w *world }

func (l late) Check(ctx context.Context, oid, action string, data bool, scope rid.ID) (rbac.Decision, error) {
	return l.w.Policy.Check(ctx, oid, action, data, scope)
}

func (w *world) policy() arm.Authorizer { return late{w} }

// document stores a resource of a provider that is not here.
func (w *world) document(t testing.TB, id string, props map[string]any) {
	t.Helper()
	r := rid.MustParse(id)
	e := &arm.Envelope{ID: id, Name: r.Name(), Type: r.Type(), Location: "eastus", Properties: props}
	if err := (arm.Resources{Store: w.Store}).Put(t.Context(), e); err != nil {
		t.Fatal(err)
	}
}

func path(group, name string) string {
	return armtest.Base + "/resourceGroups/" + group + "/providers/Microsoft.MachineLearningServices/workspaces/" + name
}

func body(more string) string {
	return fmt.Sprintf(`{"location":"eastus","properties":{"storageAccount":%q,"keyVault":%q,"applicationInsights":%q%s}}`, storageID, vaultID, insightsID, more)
}

func isolated(mode string) string { return body(`,"managedNetwork":{"isolationMode":"` + mode + `"}`) }

func TestContract(t *testing.T) {
	ws := "{group}/providers/Microsoft.MachineLearningServices/workspaces/"
	armtest.Run(t, func(t *testing.T) *armtest.Plane { return start(t).Plane },
		armtest.Case{Type: machinelearningservices.WorkspaceType, Path: ws + "work{n}", Body: body(""), BadNames: []string{"ab", "-abc", strings.Repeat("a", 40)}, Kept: true},
		armtest.Case{
			Type: machinelearningservices.RuleType, Path: ws + "isolated/outboundRules/rule{n}", Body: `{"properties":{"type":"FQDN","destination":"pypi.org"}}`,
			Before: []armtest.Step{{Path: ws + "isolated", Body: isolated("AllowOnlyApprovedOutbound")}}, BadNames: []string{"__SYS_x", "-a"},
			Kept: true,
		},
		armtest.Case{
			Type: machinelearningservices.WorkspaceType + "/datastores", Path: ws + "work/datastores/store{n}",
			Body:   `{"properties":{"datastoreType":"AzureBlob","accountName":"a","containerName":"c"}}`,
			Before: []armtest.Step{{Path: ws + "work", Body: body("")}}, BadNames: []string{"a-b", "workspaceblobstore"}, Kept: true,
		})
}

func TestWorkspace_CreateShowDelete(t *testing.T) {
	w := start(t)
	w.Group("g")
	r := w.Want(200, "PUT", path("g", "work")+apiv, body(""))
	uid := r.Text("properties", "workspaceId")
	if len(uid) != 36 || r.Text("properties", "publicNetworkAccess") != "Enabled" || r.At("properties", "v1LegacyMode") != false ||
		r.Text("properties", "discoveryUrl") != "https://eastus.api.azureml.ms/discovery" || !strings.HasPrefix(r.Text("properties", "mlFlowTrackingUri"), "azureml://eastus.api.azureml.ms/") ||
		r.Text("properties", "managedNetwork", "isolationMode") != "Disabled" || r.Text("kind") != "Default" || !strings.Contains(r.Text("properties", "notebookInfo", "fqdn"), uid) {
		t.Errorf("created %s", r.Raw)
	}
	if who := r.Text("identity", "principalId"); who == "" || len(w.roles) != 1 || w.roles[0] != "account1 ba92f5b4-2d11-453d-a403-e96b0029c9fe "+who {
		t.Errorf("%s has the roles %v", who, w.roles)
	}
	ws, err := w.workspaces.Get(t.Context(), rid.MustParse(path("g", "work")))
	if err != nil || ws == nil || ws.UID != uid {
		t.Errorf("got %v %v", ws, err)
	}
	if ws, err = w.workspaces.ByUID(t.Context(), uid); err != nil || ws == nil || !ws.Public() || ws.Legacy() {
		t.Errorf("got %v %v", ws, err)
	}
	w.Want(200, "PATCH", path("g", "work")+apiv, `{"properties":{"friendlyName":"f","publicNetworkAccess":"disabled"}}`)
	r = w.Want(200, "PUT", path("g", "work")+apiv, `{"location":"eastus","properties":{"description":"d"}}`)
	if r.Text("properties", "publicNetworkAccess") != "Disabled" || r.Text("properties", "workspaceId") != uid || r.Text("properties", "storageAccount") != storageID {
		t.Errorf("changed %s", r.Raw)
	}
	keys := w.Want(200, "POST", path("g", "work")+"/listKeys"+apiv, "")
	if keys.Text("userStorageKey") != "thekey" || keys.Text("appInsightsInstrumentationKey") != "ikey" {
		t.Errorf("keys %s", keys.Raw)
	}
	w.Want(200, "POST", path("g", "work")+"/resyncKeys"+apiv, "")
	w.WantError(400, "NotebooksNotSupported", "POST", path("g", "work")+"/listNotebookKeys"+apiv, "")
	if d := w.Want(200, "POST", path("g", "work")+"/diagnose"+apiv, `{"value":{}}`); d.At("value", "storageAccountResults") == nil {
		t.Errorf("diagnosis %s", d.Raw)
	}
}

func TestWorkspace_Refusals(t *testing.T) {
	w := start(t)
	w.Group("g")
	put := func(code, body string) {
		t.Helper()
		w.WantError(400, code, "PUT", path("g", "work")+apiv, body)
	}
	put("ValidationError", `{"location":"eastus","properties":{}}`)
	put("ValidationError", strings.Replace(body(""), "account1", "none", 1))
	put("ValidationError", strings.Replace(body(""), "vaults/vault1", "secrets/vault1", 1))
	put("BadRequest", body(`,"hbiWorkspace":true`))
	put("BadRequest", body(`,"encryption":{"status":"Enabled","keyVaultProperties":{}}`))
	put("BadRequest", body(`,"ipAllowlist":["192.0.2.1"]`))
	put("BadRequest", body(`,"publicNetworkAccess":"Maybe"`))
	put("BadRequest", isolated("Half"))
	put("BadRequest", strings.Replace(body(""), `"properties"`, `"kind":"Hub","properties"`, 1))
	put("ManagedNetworkNotEnabled", body(`,"managedNetwork":{"outboundRules":{"a":{"type":"FQDN","destination":"pypi.org"}}}` + "}")[:len(body(""))+len(`,"managedNetwork":{"outboundRules":{"a":{"type":"FQDN","destination":"pypi.org"}}}`)])
	w.document(t, deps+"Microsoft.Storage/storageAccounts/lake", map[string]any{"isHnsEnabled": true})
	put("ValidationError", strings.Replace(body(""), "account1", "lake", 1))
	// Templates send what says nothing.
	put("BadRequest", body(`,"hbiWorkspace":"true"`))
	put("InvalidRequestContent", body(`,"hbiWorkspace":"perhaps"`))
	r := w.Want(200, "PUT", path("g", "texts")+apiv, body(`,"hbiWorkspace":"false","softDeleteEnabled":"False","allowRecoverSoftDeletedWorkspace":"true"`))
	if r.At("properties", "hbiWorkspace") != false || r.At("properties", "softDeleteEnabled") != false {
		t.Errorf("made %s", r.Raw)
	}
	w.Want(204, "DELETE", path("g", "texts")+apiv, "") // for good: it was not to be kept
	w.Want(200, "PUT", path("g", "texts")+apiv, body(""))
	w.Want(200, "PUT", path("g", "work")+apiv, body(`,"encryption":{"status":"Disabled","keyVaultProperties":{"keyVaultArmId":"","keyIdentifier":""},"cosmosDbArmId":""},"serverlessComputeSettings":null`))
	w.Policy.Allow("cccccccc-0000-4000-8000-00000000000c", "Microsoft.MachineLearningServices/workspaces/write")
	w.Policy.Allow("cccccccc-0000-4000-8000-00000000000c", "Microsoft.MachineLearningServices/workspaces/read")
	w.WantError(403, "LinkedAuthorizationFailed", "PUT", path("g", "work2")+apiv, body(""), "Authorization", "Bearer cccccccc-0000-4000-8000-00000000000c")
	// Who may write the account but not list its keys would get them from the workspace.
	for _, action := range []string{"Microsoft.Storage/storageAccounts/write", "Microsoft.KeyVault/vaults/write", "Microsoft.Insights/components/write"} {
		w.Policy.Allow("cccccccc-0000-4000-8000-00000000000c", action)
	}
	w.WantError(403, "LinkedAuthorizationFailed", "PUT", path("g", "work2")+apiv, body(""), "Authorization", "Bearer cccccccc-0000-4000-8000-00000000000c")
	w.Policy.Allow("cccccccc-0000-4000-8000-00000000000c", "Microsoft.Storage/storageAccounts/listKeys/action")
	w.Want(200, "PUT", path("g", "work2")+apiv, body(""), "Authorization", "Bearer cccccccc-0000-4000-8000-00000000000c")
}

func TestWorkspace_IsolationIsRefusedWhereNothingKeepsIt(t *testing.T) {
	w := start(t)
	w.Group("g")
	w.why = errors.New("there is no node agent")
	for _, mode := range []string{"AllowInternetOutbound", "AllowOnlyApprovedOutbound"} {
		if a := w.WantError(409, "IsolationNotEnforceable", "PUT", path("g", "work")+apiv, isolated(mode)); !strings.Contains(a.Text("error", "message"), "no node agent") {
			t.Errorf("said %s", a.Raw)
		}
	}
	w.Want(200, "PUT", path("g", "work")+apiv, body(""))
}

func TestWorkspace_IsolationIsNotLoosened(t *testing.T) {
	w := start(t)
	w.Group("g")
	p := path("g", "work") + apiv
	w.Want(200, "PUT", p, body(""))
	set := func(mode string) *armtest.Answer {
		return w.Do("PATCH", p, `{"properties":{"managedNetwork":{"isolationMode":"`+mode+`"}}}`)
	}
	for _, step := range []struct {
		mode   string
		status int
	}{
		{"AllowInternetOutbound", 200}, {"Disabled", 400}, {"allowOnlyApprovedOutbound", 200}, {"AllowInternetOutbound", 400}, {"Disabled", 400}, {"AllowOnlyApprovedOutbound", 200},
	} {
		a := set(step.mode)
		if a.Status != step.status || step.status == 400 && a.Code() != "IsolationModeChangeNotSupported" {
			t.Errorf("%s: %d %s", step.mode, a.Status, a.Raw)
		}
	}
	if a := w.Want(200, "PUT", p, body("")); a.Text("properties", "managedNetwork", "isolationMode") != "AllowOnlyApprovedOutbound" {
		t.Errorf("a PUT that does not speak of it: %s", a.Raw)
	}
	w.Want(200, "PUT", path("g", "other")+apiv, body(""))
	w.document(t, path("g", "other")+"/onlineEndpoints/e", nil)
	w.document(t, path("g", "other")+"/onlineEndpoints/e/deployments/d", nil)
	w.WantError(400, "ComputeExists", "PATCH", path("g", "other")+apiv, `{"properties":{"managedNetwork":{"isolationMode":"AllowInternetOutbound"}}}`)
	w.WantError(400, "BadRequest", "PATCH", path("g", "other")+apiv, `{"properties":{"v1LegacyMode":true}}`)
}

func TestWorkspace_RecoverAndPurge(t *testing.T) {
	w := start(t)
	w.Group("g")
	p := path("g", "work")
	uid := w.Want(200, "PUT", p+apiv, isolated("AllowOnlyApprovedOutbound")).Text("properties", "workspaceId")
	w.Want(200, "PUT", p+"/outboundRules/pypi"+apiv, `{"properties":{"type":"FQDN","destination":"pypi.org"}}`)
	w.Want(201, "PUT", p+"/datastores/mine"+apiv, `{"properties":{"datastoreType":"AzureBlob","accountName":"a","containerName":"c"}}`)
	w.Want(204, "DELETE", p+apiv, "")
	if len(w.removed) != 1 || w.removed[0] != uid {
		t.Errorf("removed %v", w.removed)
	}
	list := armtest.Base + "/providers/Microsoft.MachineLearningServices/deletedWorkspaces" + apiv
	if l := w.Want(200, "GET", list, "").At("value").([]any); len(l) != 1 {
		t.Errorf("deleted %v", l)
	}
	w.WantError(409, "SoftDeletedWorkspaceExists", "PUT", p+apiv, body(""))
	w.WantError(400, "BadRequest", "PUT", p+apiv, body(`,"allowRecoverSoftDeletedWorkspace":true,"managedNetwork":{"isolationMode":"Disabled"}`))
	r := w.Want(200, "PUT", p+apiv, body(`,"allowRecoverSoftDeletedWorkspace":true`))
	if r.Text("properties", "workspaceId") != uid || r.Text("properties", "managedNetwork", "isolationMode") != "AllowOnlyApprovedOutbound" ||
		r.Text("properties", "managedNetwork", "outboundRules", "pypi", "destination") != "pypi.org" || r.At("properties", "allowRecoverSoftDeletedWorkspace") != nil {
		t.Errorf("recovered %s", r.Raw)
	}
	w.Want(200, "GET", p+"/datastores/mine"+apiv, "")
	if l := w.Want(200, "GET", list, "").At("value").([]any); len(l) != 0 {
		t.Errorf("deleted %v", l)
	}
	w.Want(204, "DELETE", p+"?api-version=2024-04-01&forceToPurge=true", "")
	if r = w.Want(200, "PUT", p+apiv, body("")); r.Text("properties", "workspaceId") == uid {
		t.Error("a purged workspace came back")
	}
	w.Want(204, "DELETE", p+apiv, "")
	one := armtest.Base + "/providers/Microsoft.MachineLearningServices/locations/eastus/resourceGroups/g/deletedWorkspaces/work" + apiv
	if d := w.Want(200, "GET", one, ""); d.Text("properties", "provisioningState") != "SoftDeleted" {
		t.Errorf("deleted %s", d.Raw)
	}
	w.now = w.now.Add(15 * 24 * time.Hour)
	if err := machinelearningservices.Sweep(t.Context(), w.config); err != nil {
		t.Fatal(err)
	}
	w.WantError(404, "ResourceNotFound", "GET", one, "")
	w.Want(200, "PUT", p+apiv, body(""))
	if a := w.Do("DELETE", armtest.Base+"/resourceGroups/g?api-version="+armtest.Version, ""); w.Settle(a) != "Succeeded" {
		t.Error("the group stays")
	}
	w.Group("g")
	w.Want(200, "PUT", p+apiv, body("")) // with its group a workspace goes for good
}

func TestDatastores(t *testing.T) {
	w := start(t)
	w.Group("g")
	p := path("g", "work")
	uid := w.Want(200, "PUT", p+apiv, body("")).Text("properties", "workspaceId")
	d := w.Want(200, "GET", p+"/datastores/workspaceblobstore"+apiv, "")
	if d.Text("properties", "containerName") != "azureml-blobstore-"+uid || d.Text("properties", "accountName") != "account1" || d.At("properties", "isDefault") != true {
		t.Errorf("default %s", d.Raw)
	}
	if s := w.Want(200, "POST", p+"/datastores/workspaceblobstore/listSecrets"+apiv, ""); s.Text("key") != "thekey" || s.Text("secretsType") != "AccountKey" {
		t.Errorf("secrets %s", s.Raw)
	}
	w.WantError(400, "BadRequest", "DELETE", p+"/datastores/workspaceblobstore"+apiv, "")
	w.WantError(400, "BadRequest", "PUT", p+"/datastores/files"+apiv, `{"properties":{"datastoreType":"AzureFile"}}`)
	mine := func(more string) string {
		return `{"properties":{"datastoreType":"AzureBlob","accountName":"a","containerName":"c"` + more + `}}`
	}
	for _, more := range []string{
		`,"credentials":{"credentialsType":"Sas","secrets":{"secretsType":"Sas","sasToken":"sig=s3cret"}}`, `,"credentials":{"credentialsType":"AccountKey"}`,
		`,"credentials":{"credentialsType":"AccountKey","secrets":{"secretsType":"AccountKey","key":"s3cret"}}`, `,"credentials":{"credentialsType":"None","secrets":{"key":"s3cret"}}`,
		`,"serviceDataAccessAuthIdentity":"Anybody"`,
	} {
		if a := w.WantError(400, "BadRequest", "PUT", p+"/datastores/mine"+apiv, mine(more)); strings.Contains(string(a.Raw), "s3cret") {
			t.Errorf("a secret is shown: %s", a.Raw)
		}
	}
	for _, more := range []string{"", `,"credentials":{"credentialsType":"none"},"serviceDataAccessAuthIdentity":"workspacesystemassignedidentity"`} {
		w.Do("PUT", p+"/datastores/mine"+apiv, mine(more))
	}
	a := w.Want(200, "GET", p+"/datastores/mine"+apiv, "")
	if a.Text("properties", "credentials", "credentialsType") != "None" || a.Text("properties", "serviceDataAccessAuthIdentity") != "WorkspaceSystemAssignedIdentity" {
		t.Errorf("got %s", a.Raw)
	}
	if s := w.Want(200, "POST", p+"/datastores/mine/listSecrets"+apiv, ""); s.Text("secretsType") != "None" || s.Text("key") != "" {
		t.Errorf("secrets %s", s.Raw)
	}
	if l := w.Want(200, "GET", p+"/datastores"+apiv, "").At("value").([]any); len(l) != 3 {
		t.Errorf("listed %v", l)
	}
}

// TestRegistry_RolesOfEndpointsFollow: when the roles of endpoints are looked
// at, the workspace has what it was changed to.
func TestRegistry_RolesOfEndpointsFollow(t *testing.T) {
	w := start(t)
	w.Group("g")
	const registryID = deps + "Microsoft.ContainerRegistry/registries/reg1"
	w.document(t, registryID, nil)
	w.Want(200, "PUT", path("g", "work")+apiv, body(""))
	w.Want(200, "PATCH", path("g", "work")+apiv, `{"properties":{"containerRegistry":"`+registryID+`"}}`)
	if got := strings.Join(w.regiven, ","); got != "work ,work "+registryID {
		t.Errorf("got %q", got)
	}
}

// TestRegistry_RoleIsGivenOnce: a role that somebody took away doesn't come back
// with a change of something else, by one who may not give it.
func TestRegistry_RoleIsGivenOnce(t *testing.T) {
	w := start(t)
	w.Group("g")
	const one, two = deps + "Microsoft.ContainerRegistry/registries/reg1", deps + "Microsoft.ContainerRegistry/registries/reg2"
	w.document(t, one, nil)
	w.document(t, two, nil)
	w.Want(200, "PUT", path("g", "work")+apiv, body(""))
	for _, c := range []struct {
		change string
		given  int
	}{
		{`{"tags":{"a":"b"}}`, 1},
		{`{"properties":{"containerRegistry":"` + one + `"}}`, 2},
		{`{"properties":{"friendlyName":"f"}}`, 2},
		{`{"properties":{"containerRegistry":"` + two + `"}}`, 3},
		{`{"properties":{"containerRegistry":"` + one + `"}}`, 4},
	} {
		if w.Want(200, "PATCH", path("g", "work")+apiv, c.change); len(w.roles) != c.given {
			t.Errorf("%s: got %v", c.change, w.roles)
		}
	}
}

// TestNetwork_WithoutRolesOfEndpoints: a role that can't be given keeps no
// network from being made.
func TestNetwork_WithoutRolesOfEndpoints(t *testing.T) {
	w := start(t)
	w.Group("g")
	w.unable = errors.New("not now")
	if w.Do("PUT", path("g", "work")+apiv, body(`,"managedNetwork":{"isolationMode":"AllowInternetOutbound"},"provisionNetworkNow":true`)); len(w.made) != 1 || len(w.regiven) != 1 {
		t.Errorf("made %v, looked at %v", w.made, w.regiven)
	}
}
