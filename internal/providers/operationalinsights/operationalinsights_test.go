package operationalinsights_test

import (
	"path/filepath"
	"strings"
	"testing"

	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/arm/armtest"
	"lazurite.dev/internal/providers/operationalinsights"
	"lazurite.dev/internal/seal"
	"lazurite.dev/internal/store"
)

const apiv = "?api-version=2022-10-01"

func start(t testing.TB) *armtest.Plane {
	dir := t.TempDir()
	return armtest.New(t, func(s store.Store) []arm.Provider {
		root, err := seal.OpenFileRoot(filepath.Join(dir, "root.key"))
		if err != nil {
			t.Fatal(err)
		}
		return []arm.Provider{operationalinsights.New(seal.NewKeyring(s, root))}
	}, nil)
}

func TestContract(t *testing.T) {
	armtest.Run(t, func(t *testing.T) *armtest.Plane { return start(t) }, armtest.Case{
		Type: "Microsoft.OperationalInsights/workspaces", Path: "{group}/providers/Microsoft.OperationalInsights/workspaces/logs{n}", Body: `{"location":"eastus","properties":{}}`,
		BadNames: []string{"abc", "-abcd", "a_bcd"},
	})
}

func TestWorkspace_Keys(t *testing.T) {
	p := start(t)
	path := p.Group("g") + "/providers/Microsoft.OperationalInsights/workspaces/logs"
	r := p.Want(201, "PUT", path+apiv, `{"location":"eastus","properties":{"sku":{"name":"PerGB2018"}}}`)
	id := r.Text("properties", "customerId")
	if len(id) != 36 || strings.Contains(string(r.Raw), "Shared") {
		t.Errorf("made %s", r.Raw)
	}
	k := p.Want(200, "POST", path+"/sharedKeys"+apiv, "")
	if len(k.Text("primarySharedKey")) != 88 || k.Text("primarySharedKey") == k.Text("secondarySharedKey") {
		t.Error("the keys are no keys")
	}
	if r = p.Want(200, "PUT", path+apiv, `{"location":"eastus","properties":{"retentionInDays":60}}`); r.Text("properties", "customerId") != id {
		t.Errorf("changed %s", r.Raw)
	}
	p.WantError(400, "NotSupported", "POST", path+"/regenerateSharedKey"+apiv, "")
	for _, bad := range []string{`"sku":{"name":"Gold"}`, `"retentionInDays":1000`, `"forceCmkForQuery":true`} {
		p.WantError(400, "BadRequest", "PUT", path+apiv, `{"location":"eastus","properties":{`+bad+`}}`)
	}
	p.Want(200, "DELETE", path+apiv, "")
}
