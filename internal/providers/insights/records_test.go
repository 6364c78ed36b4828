package insights_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"

	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/arm/armtest"
	"lazurite.dev/internal/providers/insights"
	"lazurite.dev/internal/rbac"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
)

// records are those of tests: a query's answer is what was asked of which
// component.
type records struct{}

func (records) Erase(context.Context, string) error { return nil }

func (records) Query(_ context.Context, id rid.ID, ask insights.Ask) (any, error) {
	if id.Name() == "none" {
		return nil, store.ErrNotFound
	}
	return map[string]any{"of": id.Name(), "query": ask.Query, "timespan": ask.Timespan}, nil
}

// readers may read one component.
type readers struct {
	arm.Authorizer
	scope string
}

func (r readers) Check(ctx context.Context, oid, action string, data bool, scope rid.ID) (rbac.Decision, error) {
	if oid == armtest.Nobody {
		return rbac.Decision{Allowed: action == insights.ActionQuery && !data && strings.EqualFold(scope.String(), r.scope)}, nil
	}
	return r.Authorizer.Check(ctx, oid, action, data, scope)
}

// The management plane's way to the records asks for the same right, at the
// component that is named.
func TestQuery_AsksForARole(t *testing.T) {
	const version = "?api-version=2018-04-20"
	mine := armtest.Base + "/resourceGroups/g/providers/Microsoft.Insights/components/mine"
	p := armtest.New(t, func(s store.Store) []arm.Provider {
		return []arm.Provider{insights.New(s, slog.New(slog.DiscardHandler), records{}).Provider()}
	}, func(c *arm.Config) { c.Authorizer = readers{c.Authorizer, mine} })
	reader := []string{"Authorization", "Bearer " + armtest.Nobody}
	group := p.Group("g")
	for _, one := range []struct{ method, query, body string }{{"POST", "", `{"query":"requests","timespan":"PT1H"}`}, {"GET", "&query=requests&timespan=PT1H", ""}} {
		at := func(name string) string {
			return group + "/providers/Microsoft.Insights/components/" + name + "/query" + version + one.query
		}
		if r := p.Want(200, one.method, at("mine"), one.body, reader...); r.Text("of") != "mine" || r.Text("query") != "requests" || r.Text("timespan") != "PT1H" {
			t.Errorf("%s: %s", one.method, r.Raw)
		}
		for _, name := range []string{"other", "none"} {
			if r := p.WantError(403, "AuthorizationFailed", one.method, at(name), one.body, reader...); !strings.Contains(r.Text("error", "message"), insights.ActionQuery) {
				t.Errorf("%s of %s: %s", one.method, name, r.Raw)
			}
		}
		p.Want(404, one.method, at("none"), one.body)
		p.Want(401, one.method, at("mine"), one.body, "Authorization", "")
	}
	p.WantError(400, "BadArgumentError", "POST", mine+"/query"+version, `[]`, reader...)
}
