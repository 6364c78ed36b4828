package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
)

func monitorNoun() noun {
	return noun{name: "monitor", short: "See what happened.",
		groups: map[string]string{
			"activity-log": "See who changed what.", "app-insights": "See what Application Insights has collected.",
			"app-insights component": "See components of Application Insights.", "app-insights events": "See events of a component.",
		},
		commands: func() []*command {
			return []*command{activityLogList(), activityLogCategories(), insightsComponentShow(), insightsQuery(), insightsEventsShow()}
		}}
}

func activityLogList() *command {
	return &command{path: "monitor activity-log list", short: "List the events of the management plane.",
		example: "monitor activity-log list --resource-group myGroup --offset 1h",
		args: []arg{
			groupFilter(), opt("resource-id", "Only of this resource."), opt("namespace", "Only of this provider.").or("--resource-provider"),
			opt("correlation-id", "Only of this correlation id."), opt("caller", "Only of this caller."), opt("status", "Only of this status."),
			opt("start-time", "From when: 2026-01-31T08:00:00Z."), opt("end-time", "Until when: 2026-01-31T09:00:00Z."),
			opt("offset", "How long before the end: 6h, 3d, 10d2h.").byDefault("6h"),
			numberOpt("max-events", "How many at most.").byDefault("50"), listOpt("select", "Only these members of each event."),
		},
		table: "[].{Time:eventTimestamp, Operation:operationName.localizedValue || operationName.value, Status:status.value, Caller:caller, Resource:resourceId}",
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			filter, err := c.activityFilter()
			if err != nil {
				return nil, err
			}
			q := []string{"$filter", filter}
			if c.given("select") {
				q = append(q, "$select", strings.Join(c.many("select"), ","))
			}
			return c.someEvents(ctx, m, q)
		})}
}

func activityLogCategories() *command {
	return &command{path: "monitor activity-log list-categories", short: "List the categories of events.", example: "monitor activity-log list-categories",
		run: manage(func(ctx context.Context, _ *call, m *management) (any, error) {
			return m.list(ctx, "/providers/Microsoft.Insights/eventcategories", "2015-04-01")
		})}
}

// someEvents reads pages until there are enough.
func (c *call) someEvents(ctx context.Context, m *management, q []string) (any, error) {
	path, version, all := m.subPath+"/providers/Microsoft.Insights/eventtypes/management/values", "2015-04-01", []any{}
	for path != "" && len(all) < c.number("max-events") {
		v, err := m.get(ctx, path, version, q...)
		if err != nil {
			return nil, err
		}
		all = append(all, items(at(v, "value"))...)
		path, version, q = textAt(v, "nextLink"), "", nil
	}
	return all[:min(len(all), c.number("max-events"))], nil
}

// timeRange is what --start-time, --end-time and --offset say: the offset counts
// back from the end where there is no start.
func (c *call) timeRange() (start, end time.Time, err error) {
	end = time.Now().UTC()
	if s := c.text("end-time"); s != "" {
		if end, err = parseTime(s); err != nil {
			return start, end, usagef("argument --end-time: '%s' is not a time", s)
		}
	}
	offset, err := parseOffset(c.text("offset"))
	if err != nil {
		return start, end, err
	}
	start = end.Add(-offset)
	if s := c.text("start-time"); s != "" {
		if start, err = parseTime(s); err != nil {
			return start, end, usagef("argument --start-time: '%s' is not a time", s)
		}
	}
	return start, end, nil
}

func (c *call) activityFilter() (string, error) {
	start, end, err := c.timeRange()
	if err != nil {
		return "", err
	}
	f := fmt.Sprintf("eventTimestamp ge '%s' and eventTimestamp le '%s'", start.UTC().Format(time.RFC3339Nano), end.UTC().Format(time.RFC3339Nano))
	for _, o := range []struct{ option, field string }{{"resource-group", "resourceGroupName"}, {"resource-id", "resourceUri"},
		{"namespace", "resourceProvider"}, {"correlation-id", "correlationId"}, {"caller", "caller"}, {"status", "status"}} {
		if v := c.text(o.option); v != "" {
			f += " and " + o.field + " eq " + quoted(v)
		}
	}
	return f, nil
}

// parseOffset reads "10d2h30m": days, hours, minutes.
func parseOffset(s string) (time.Duration, error) {
	var d time.Duration
	rest := s
	for rest != "" {
		i := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
		if i <= 0 {
			return 0, usagef("argument --offset: '%s' is not a duration like 6h or 10d2h", s)
		}
		n, err := strconv.Atoi(rest[:i])
		unit, ok := map[byte]time.Duration{'d': 24 * time.Hour, 'h': time.Hour, 'm': time.Minute}[rest[i]]
		if err != nil || !ok || n > 100_000 {
			return 0, usagef("argument --offset: '%s' is not a duration like 6h or 10d2h", s)
		}
		d += time.Duration(n) * unit
		rest = rest[i+1:]
	}
	return d, nil
}
