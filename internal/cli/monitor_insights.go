package cli

import (
	"context"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"
)

const componentType = "Microsoft.Insights/components"

// componentOpt names a component in any of its ways.
func componentOpt() arg {
	return opt("app", "Component of Application Insights: its name, resource id or application id.").or("-a", "--apps")
}

// timeArgs say of which time something is shown.
func timeArgs() []arg {
	return []arg{
		opt("start-time", "From when: 2026-01-31T08:00:00Z."), opt("end-time", "Until when: 2026-01-31T09:00:00Z."),
		opt("offset", "How long before the end: 6h, 3d, 10d2h.").byDefault("1h"),
	}
}

func insightsComponentShow() *command {
	return &command{path: "monitor app-insights component show", short: "Show a component, or all of a group or of the subscription.",
		example: "monitor app-insights component show --app myApp -g myGroup",
		args:    []arg{componentOpt(), groupFilter()},
		table:   "[].{Name:name, ResourceGroup:resourceGroup, Location:location, AppId:appId}",
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			if app := c.text("app"); app != "" {
				path, err := m.componentPath(ctx, app, c.text("resource-group"))
				if err != nil {
					return nil, err
				}
				v, err := m.get(ctx, path, insightsVersion)
				if err != nil {
					return nil, err
				}
				return shownComponent(v), nil
			}
			l, err := m.list(ctx, m.listPath(c.text("resource-group"), componentType), insightsVersion)
			if err != nil {
				return nil, err
			}
			out := []any{}
			for _, v := range l {
				out = append(out, shownComponent(v))
			}
			return out, nil
		})}
}

// shownComponent is a component as az shows it: its properties beside its name.
func shownComponent(v any) any {
	out := object{}
	for k, x := range objectAt(v, "properties") {
		out[camelCase(k)] = x
	}
	for k, x := range objectAt(v) { // its name and id go before properties that are called so
		if k != "properties" {
			out[k] = x
		}
	}
	return out
}

func objectAt(v any, path ...string) object {
	o, _ := at(v, path...).(object)
	return o
}

// camelCase is a property's name as az shows it: Application_Type is applicationType.
func camelCase(s string) string {
	var b strings.Builder
	for i, part := range strings.Split(s, "_") {
		if part == "" {
			continue
		}
		first := strings.ToUpper(part[:1])
		if i == 0 {
			first = strings.ToLower(part[:1])
		}
		b.WriteString(first + part[1:])
	}
	return b.String()
}

// componentPath is the id of the component that is meant.
func (m *management) componentPath(ctx context.Context, app, group string) (string, error) {
	switch {
	case strings.HasPrefix(app, "/"):
		return app, nil
	case group != "":
		return m.resource(group, componentType, app), nil
	}
	return m.findByName(ctx, componentType, app)
}

var guidForm = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)

// insightsAPI asks the query API about the component of --app.
func (c *call) insightsAPI(ctx context.Context, method, path string, body any, query url.Values) (any, error) {
	app := c.text("app")
	if !guidForm.MatchString(app) {
		m, err := c.arm()
		if err != nil {
			return nil, err
		}
		id, err := m.componentPath(ctx, app, c.text("resource-group"))
		if err != nil {
			return nil, err
		}
		v, err := m.get(ctx, id, insightsVersion)
		if err != nil {
			return nil, err
		}
		app = textAt(v, "properties", "AppId")
	}
	cl, err := c.cloud()
	if err != nil {
		return nil, err
	}
	base, err := cl.endpoint("appInsightsResourceId")
	if err != nil {
		return nil, err
	}
	u := strings.TrimRight(base, "/") + "/v1/apps/" + url.PathEscape(app) + path
	if len(query) > 0 {
		u += "?" + query.Encode()
	}
	a, err := c.send(ctx, request{method: method, url: u, body: body, resource: base})
	if err != nil {
		return nil, err
	}
	if a.status >= 400 {
		return nil, readRemote(a, dialectODATA)
	}
	return decode(a.body)
}

// timespan is the time range as the query API takes it.
func (c *call) timespan() (string, error) {
	start, end, err := c.timeRange()
	if err != nil {
		return "", err
	}
	if !c.given("end-time") { // the server's clock may be a little ahead
		end = end.Add(time.Minute)
	}
	return start.UTC().Format(time.RFC3339Nano) + "/" + end.UTC().Format(time.RFC3339Nano), nil
}

func insightsQuery() *command {
	return &command{path: "monitor app-insights query", short: "Run a query on what a component has collected.",
		example: "monitor app-insights query --app myApp -g myGroup --analytics-query 'requests | summarize count() by resultCode' --offset 1h",
		args:    append([]arg{componentOpt().required(), groupFilter(), opt("analytics-query", "Query, in the Kusto query language.").required()}, timeArgs()...),
		run: func(ctx context.Context, c *call) (any, error) {
			span, err := c.timespan()
			if err != nil {
				return nil, err
			}
			return c.insightsAPI(ctx, http.MethodPost, "/query", object{"query": c.text("analytics-query"), "timespan": span}, nil)
		}}
}

func insightsEventsShow() *command {
	return &command{path: "monitor app-insights events show", short: "List the events of a type, or show one.",
		example: "monitor app-insights events show --app myApp -g myGroup --type requests --offset 24h",
		args: append([]arg{componentOpt().required(), groupFilter(),
			opt("type", "Type of events.").required().oneOf("$all", "availabilityResults", "browserTimings", "customEvents", "customMetrics", "dependencies", "exceptions", "pageViews", "performanceCounters", "requests", "traces"),
			opt("event", "Id of the one event to show.")}, timeArgs()...),
		table: "value[].{Time:timestamp, Type:type, Role:cloud.roleName, What:request.name || trace.message, Result:request.resultCode || trace.severityLevel}",
		run: func(ctx context.Context, c *call) (any, error) {
			span, err := c.timespan()
			if err != nil {
				return nil, err
			}
			path := "/events/" + url.PathEscape(c.text("type"))
			if id := c.text("event"); id != "" {
				path += "/" + url.PathEscape(id)
			}
			return c.insightsAPI(ctx, http.MethodGet, path, nil, url.Values{"timespan": {span}})
		}}
}
