package telemetry

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/gate"
	"lazurite.dev/internal/kql"
	"lazurite.dev/internal/odata"
)

const (
	defaultTop = 500
	mostTop    = 10_000
)

// eventType is a table that a path names; $all is "".
func eventType(c *gate.Call) (string, error) {
	name := c.Params["type"]
	if name == "$all" {
		return "", nil
	}
	if !tables(name) {
		return "", bad("InvalidArgument", "There are no events of the type '%.100s'. There are requests and traces, $all for both, and others of which there are none here.", name)
	}
	return name, nil
}

// event is GET …/events/{type}/{id}.
func (p *Plane) event(c *gate.Call) (any, error) {
	table, err := eventType(c)
	if err != nil {
		return nil, err
	}
	in, err := parseTimespan(c.Request.URL.Query().Get("timespan"), p.s.cfg.Now())
	if err != nil {
		return nil, err
	}
	return p.within(c, func(ctx context.Context, comp component) (any, error) {
		p.s.settle(ctx)
		for r, err := range p.s.records(ctx, comp, table, in) {
			if err != nil {
				return nil, err
			}
			if strings.EqualFold(r.ID, c.Params["id"]) {
				return results(c, []any{r.event(&comp)}), nil
			}
		}
		return nil, apierr.New(apierr.NotFound, codePath, "There is no event '%.100s' in the timespan.", c.Params["id"])
	})
}

func results(c *gate.Call, list []any) map[string]any {
	return map[string]any{"@odata.context": "https://" + c.Request.Host + "/v1/apps/" + c.Params["app"] + "/events/$metadata#" + c.Params["type"], "@ai.messages": []any{}, "value": list}
}

// listing is what a request for events asks for.
type listing struct {
	table     string
	in        span
	filter    *odata.Expr
	order     []ordering
	selected  [][]string
	top, skip int
	count     bool
}

type ordering struct {
	path string
	desc bool
}

// events is GET …/events/{type}.
func (p *Plane) events(c *gate.Call) (any, error) {
	l, err := p.listing(c)
	if err != nil {
		return nil, err
	}
	return p.within(c, func(ctx context.Context, comp component) (any, error) { return p.found(ctx, c, comp, l) })
}

// found are the events that a listing asks for.
func (p *Plane) found(ctx context.Context, c *gate.Call, comp component, l *listing) (any, error) {
	p.s.settle(ctx)
	var found []*record
	left := mostKept
	for r, err := range p.s.records(ctx, comp, l.table, l.in) {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return nil, err
		}
		if l.filter != nil {
			ok, err := l.filter.Eval(func(path string) []string { v, _ := r.value(path, &comp); return []string{v} })
			if err != nil {
				return nil, bad("InvalidArgument", "The $filter is invalid: %v.", err)
			}
			if !ok {
				continue
			}
		}
		one := *r // without the rest of its batch
		if found = append(found, &one); len(found) > mostRows {
			return nil, bad(kql.LimitError, "More than %d events fit. Ask for a shorter timespan or less by $filter.", mostRows)
		}
		if left -= one.size(); left < 0 {
			return nil, bad(kql.LimitError, "More than %d MiB of events fit. Ask for a shorter timespan or less by $filter.", mostKept>>20)
		}
	}
	slices.SortStableFunc(found, l.compare(ctx, &comp))
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	out := results(c, []any{})
	if l.count {
		out["@odata.count"] = len(found)
	}
	list, a := []any{}, answering{mostAnswer}
	for _, r := range found[min(l.skip, len(found)):min(l.skip+l.top, len(found))] {
		one, err := a.part(l.pick(r.event(&comp)))
		if err != nil {
			return nil, err
		}
		list = append(list, one)
	}
	out["value"] = list
	return out, nil
}

// listing reads the query options.
func (p *Plane) listing(c *gate.Call) (*listing, error) {
	l := &listing{top: defaultTop}
	var err error
	if l.table, err = eventType(c); err != nil {
		return nil, err
	}
	q := c.Request.URL.Query()
	if l.in, err = parseTimespan(q.Get("timespan"), p.s.cfg.Now()); err != nil {
		return nil, err
	}
	for name := range q {
		switch name {
		case "timespan", "$filter", "$top", "$skip", "$orderby", "$select", "$count", "$format", "api-version":
		default:
			return nil, bad("InvalidArgument", "The option '%.100s' is not known here. Those that are: timespan, $filter, $orderby, $select, $top, $skip, $count.", name)
		}
	}
	if f := q.Get("$format"); f != "" && f != "json" && !strings.HasPrefix(f, "application/json") {
		return nil, bad("InvalidArgument", "Events are given as JSON alone, not as '%.100s'.", f)
	}
	if l.top, err = whole(q.Get("$top"), "$top", defaultTop, mostTop); err != nil {
		return nil, err
	}
	if l.skip, err = whole(q.Get("$skip"), "$skip", 0, mostRows); err != nil {
		return nil, err
	}
	if s := q.Get("$count"); s != "" {
		if l.count, err = strconv.ParseBool(s); err != nil {
			return nil, bad("InvalidArgument", "$count is true or false, not '%.100s'.", s)
		}
	}
	if l.filter, err = parseFilter(q.Get("$filter")); err != nil {
		return nil, err
	}
	return l, l.parseLists(q.Get("$orderby"), q.Get("$select"))
}

func whole(s, name string, otherwise, most int) (int, error) {
	if s == "" {
		return otherwise, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 || n > most {
		return 0, bad("InvalidArgument", "%s is a number from 0 to %d, not '%.100s'.", name, most, s)
	}
	return n, nil
}

// parseLists reads $orderby and $select.
func (l *listing) parseLists(order, selected string) error {
	for one := range strings.SplitSeq(order, ",") {
		words := strings.Fields(one)
		if len(words) == 0 {
			continue
		}
		if !known(words[0]) || len(words) > 2 || len(words) == 2 && words[1] != "asc" && words[1] != "desc" {
			return bad("InvalidArgument", "$orderby takes properties of events, each with asc or desc behind it: not '%.100s'.", one)
		}
		l.order = append(l.order, ordering{words[0], len(words) == 2 && words[1] == "desc"})
	}
	if len(l.order) == 0 {
		l.order = []ordering{{"timestamp", true}}
	}
	for one := range strings.SplitSeq(selected, ",") {
		if one = strings.TrimSpace(one); one == "" {
			continue
		}
		if !known(one) && !group(one) {
			return bad("InvalidArgument", "$select takes properties of events: '%.100s' is none.", one)
		}
		if i := slices.IndexFunc(properties(), func(s string) bool { return strings.EqualFold(s, one) }); i >= 0 {
			one = properties()[i] // as events have it
		}
		l.selected = append(l.selected, strings.Split(one, "/"))
	}
	return nil
}

// parseFilter reads $filter, and makes numbers and times in it comparable as text.
func parseFilter(s string) (*odata.Expr, error) {
	if strings.TrimSpace(s) == "" {
		return nil, nil
	}
	e, err := odata.Parse(s)
	if err != nil {
		return nil, bad("InvalidArgument", "The $filter is invalid: %v.", err)
	}
	for _, n := range e.Names() {
		if !known(n) {
			return nil, bad("InvalidArgument", "The $filter is invalid: '%.100s' is no property of events. Some are timestamp, request/resultCode, trace/message, customDimensions/deployment.", n)
		}
	}
	return e, normalize(e)
}

func normalize(e *odata.Expr) error {
	for i, a := range e.Args {
		if e.Op == "call" {
			break
		}
		v, err := sortText(e.Name, a)
		if err != nil {
			return bad("InvalidArgument", "The $filter is invalid: %v.", err)
		}
		e.Args[i] = v
	}
	for _, s := range e.Sub {
		if err := normalize(s); err != nil {
			return err
		}
	}
	return nil
}

// sortText is a value as text that sorts as the value does.
func sortText(path, v string) (string, error) {
	switch strings.ToLower(path) {
	case "timestamp":
		t, ok := kql.ParseTime(v)
		if !ok {
			return "", fmt.Errorf("'%.100s' is no time", v)
		}
		return t.Format(sortable), nil
	case "request/duration", "trace/severitylevel", "count":
		f, err := strconv.ParseFloat(v, 64)
		if err != nil || f < 0 || f > 1e15 {
			return "", fmt.Errorf("'%.100s' is no number from 0", v)
		}
		return fmt.Sprintf("%024.6f", f), nil
	}
	return v, nil
}

const sortable = "2006-01-02T15:04:05.000000000Z"

// properties are those of an event that are one value; customDimensions/… are
// beside them.
func properties() []string {
	return []string{"timestamp", "id", "type", "count", "operation/id", "operation/name", "operation/parentId", "cloud/roleName", "cloud/roleInstance", "ai/appId", "ai/appName",
		"request/id", "request/name", "request/url", "request/success", "request/resultCode", "request/duration", "request/performanceBucket", "trace/message", "trace/severityLevel"}
}

func known(path string) bool {
	return strings.HasPrefix(path, "customDimensions/") || slices.ContainsFunc(properties(), func(s string) bool { return strings.EqualFold(s, path) })
}

// group says whether a name is that of several properties together.
func group(name string) bool {
	return slices.Contains([]string{"request", "trace", "operation", "cloud", "ai", "customDimensions", "customMeasurements"}, name)
}

// value is one property of a record, as text that sorts.
func (r *record) value(path string, c *component) (string, bool) {
	if name, ok := strings.CutPrefix(path, "customDimensions/"); ok {
		v, ok := r.Dimensions[name]
		return v, ok
	}
	kind, _, _ := strings.Cut(strings.ToLower(path), "/")
	if kind == "request" && r.Table != Requests || kind == "trace" && r.Table != Traces {
		return "", false
	}
	v := ""
	switch strings.ToLower(path) {
	case "timestamp":
		return r.Time.UTC().Format(sortable), true
	case "id", "request/id":
		v = r.ID
	case "type":
		v = strings.TrimSuffix(r.Table, "s")
	case "count":
		v, _ = sortText("count", "1")
	case "operation/id", "operation/parentid":
		v = r.Operation
	case "operation/name", "request/name":
		v = r.Name
	case "cloud/rolename":
		v = r.Role
	case "cloud/roleinstance":
		v = r.Instance
	case "ai/appid":
		v = c.App
	case "ai/appname":
		v = c.ID.Name()
	case "request/url":
		v = r.URL
	case "request/success":
		v = truth(r.OK)
	case "request/resultcode":
		v = r.Code
	case "request/duration":
		v, _ = sortText(path, strconv.FormatFloat(r.MS, 'f', -1, 64))
	case "request/performancebucket":
		v = bucket(r.MS)
	case "trace/message":
		v = r.Message
	case "trace/severitylevel":
		v, _ = sortText(path, strconv.FormatInt(r.Severity, 10))
	}
	return v, true
}

// compare orders by $orderby, until ctx ends.
func (l *listing) compare(ctx context.Context, c *component) func(a, b *record) int {
	return func(a, b *record) int {
		if ctx.Err() != nil {
			return 0
		}
		for _, o := range l.order {
			x, _ := a.value(o.path, c)
			y, _ := b.value(o.path, c)
			if n := cmp.Compare(x, y); n != 0 && o.desc {
				return -n
			} else if n != 0 {
				return n
			}
		}
		return 0
	}
}

// event is a record as the API shows it.
// Source: Application Insights REST API, eventsRequestResult and eventsTraceResult.
func (r *record) event(c *component) map[string]any {
	type values = map[string]any
	m := values{
		"id": r.ID, "type": strings.TrimSuffix(r.Table, "s"), "count": 1, "timestamp": r.Time.UTC().Format(time.RFC3339Nano),
		"customDimensions": r.Dimensions, "customMeasurements": nil,
		"operation":   values{"name": r.Name, "id": r.Operation, "parentId": r.Operation, "syntheticSource": ""},
		"session":     values{"id": ""},
		"user":        values{"id": "", "accountId": "", "authenticatedId": ""},
		"cloud":       values{"roleName": r.Role, "roleInstance": r.Instance},
		"ai":          values{"iKey": "", "appName": c.ID.Name(), "appId": c.App, "sdkVersion": "lazurite"},
		"application": values{"version": ""},
		"client":      values{"type": "", "model": "", "os": "", "ip": "", "city": "", "stateOrProvince": "", "countryOrRegion": "", "browser": ""},
	}
	if r.Table == Requests {
		m["request"] = values{"id": r.ID, "source": "", "name": r.Name, "url": r.URL, "success": truth(r.OK), "resultCode": r.Code, "duration": r.MS, "performanceBucket": bucket(r.MS)}
	} else {
		m["trace"] = values{"message": r.Message, "severityLevel": r.Severity}
	}
	return m
}

// pick is $select: the named properties alone.
func (l *listing) pick(m map[string]any) any {
	if len(l.selected) == 0 {
		return m
	}
	out := map[string]any{"id": m["id"], "type": m["type"]}
	for _, path := range l.selected {
		at, to := m, out
		for i, name := range path {
			v, ok := at[name]
			if !ok {
				if d, ok := m["customDimensions"].(map[string]string); ok && i == 1 && path[0] == "customDimensions" {
					to[name] = d[name]
				}
				break
			}
			below, deep := v.(map[string]any)
			if i == len(path)-1 || !deep && name != "customDimensions" {
				to[name] = v
				break
			}
			next, _ := to[name].(map[string]any)
			if next == nil {
				next = map[string]any{}
				to[name] = next
			}
			at, to = below, next
		}
	}
	return out
}
