package insights_test

import (
	"log/slog"
	"strings"
	"testing"

	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/arm/armtest"
	"lazurite.dev/internal/providers/insights"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
)

const componentVersion = "?api-version=2020-02-02"

func plane(t testing.TB) *armtest.Plane {
	return armtest.New(t, func(s store.Store) []arm.Provider {
		return []arm.Provider{insights.New(s, slog.New(slog.DiscardHandler), records{}).Provider()}
	}, nil)
}

func TestComponents_Contract(t *testing.T) {
	armtest.Run(t, func(t *testing.T) *armtest.Plane { return plane(t) }, armtest.Case{
		Type: "Microsoft.Insights/components", Path: "{group}/providers/Microsoft.Insights/components/app{n}", Body: `{"location":"eastus","kind":"web","properties":{"Application_Type":"web"}}`,
		BadNames: []string{"a."},
	})
}

func TestComponents_KeyAndSink(t *testing.T) {
	p := plane(t)
	group := p.Group("g")
	path := group + "/providers/Microsoft.Insights/components/app"
	r := p.Want(201, "PUT", path+componentVersion, `{"location":"eastus","properties":{}}`)
	key := r.Text("properties", "InstrumentationKey")
	if len(key) != 36 || !strings.HasPrefix(r.Text("properties", "ConnectionString"), "InstrumentationKey="+key+";") || r.Text("properties", "IngestionMode") != "ApplicationInsights" {
		t.Errorf("made %s", r.Raw)
	}
	if r = p.Want(200, "PUT", path+componentVersion, `{"location":"eastus","properties":{"InstrumentationKey":"mine"}}`); r.Text("properties", "InstrumentationKey") != key {
		t.Errorf("changed %s", r.Raw)
	}
	sink := group + "/providers/Microsoft.OperationalInsights/workspaces/logs"
	for _, bad := range []string{`"WorkspaceResourceId":"` + sink + `"`, `"WorkspaceResourceId":"x"`, `"publicNetworkAccessForQuery":"x"`, `"ForceCustomerStorageForProfiler":true`} {
		p.WantError(400, "BadRequest", "PUT", path+componentVersion, `{"location":"eastus","properties":{`+bad+`}}`)
	}
	p.Want(200, "DELETE", path+componentVersion, "")
}

// A component that was kept for 40 days by a release that took any number can
// be changed still; what is new is one of Azure's numbers.
func TestComponents_Retention(t *testing.T) {
	p := plane(t)
	path := p.Group("g") + "/providers/Microsoft.Insights/components/app"
	body := func(days string) string {
		return `{"location":"eastus","properties":{"RetentionInDays":` + days + `}}`
	}
	p.Want(201, "PUT", path+componentVersion, body("30"))
	res := arm.Resources{Store: p.Store}
	e, err := res.Get(t.Context(), rid.MustParse(path))
	if err != nil {
		t.Fatal(err)
	}
	e.Properties["RetentionInDays"] = 40
	if err := res.Put(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	p.Want(200, "PUT", path+componentVersion, body("40"))
	p.WantError(400, "BadRequest", "PUT", path+componentVersion, body("41"))
	p.Want(200, "PUT", path+componentVersion, body("60"))
	p.WantError(400, "BadRequest", "PUT", path+componentVersion, body("40"))
}
