// Package insights serves the activity log of Microsoft.Insights: who wrote,
// deleted or called what, refused attempts included, for the last 90 days.
// Source: Azure Monitor REST API, "Activity Logs - List".
package insights

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/odata"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
)

const (
	prefix   = "activity/"
	kept     = 90 * 24 * time.Hour
	pageSize = 200
	queue    = 1024
)

// Records are what components collect; telemetry.Service has them.
type Records interface {
	// Erase forgets all of an application id's.
	Erase(ctx context.Context, app string) error
	// Query runs a query on a component.
	Query(ctx context.Context, id rid.ID, ask Ask) (any, error)
}

// Log keeps the activity log in the store.
type Log struct {
	store store.Store
	kept  Records
	log   *slog.Logger
	in    chan arm.Event
	flush chan chan struct{}

	refusals arm.Rates
}

// New makes a Log beside components with records. Run writes what Record takes.
func New(s store.Store, log *slog.Logger, records Records) *Log {
	return &Log{store: s, log: log, kept: records, in: make(chan arm.Event, queue), flush: make(chan chan struct{})}
}

// What a caller is refused is kept this often, or whoever may do nothing at all
// could fill the database. The server's log has every refusal.
const (
	refusalsPerSecond = 1
	refusalsAtOnce    = 300
)

// Record takes an event. It waits for the database only when a thousand
// events are waiting already: none is dropped while ctx lasts, but refusals of
// one caller that come too fast.
func (l *Log) Record(ctx context.Context, ev arm.Event) {
	if ev.Status >= http.StatusBadRequest {
		if _, wait := l.refusals.Take(ev.Caller.ObjectID, refusalsPerSecond, refusalsAtOnce, ev.Time); wait > 0 {
			return
		}
	}
	select {
	case l.in <- ev:
	case <-ctx.Done():
		l.log.Error("an event is missing from the activity log", "request", ev.Request, "action", ev.Action)
	}
}

// Run writes events until ctx ends, then those that wait, and drops those that
// are older than 90 days.
func (l *Log) Run(ctx context.Context) error {
	hourly := time.NewTicker(time.Hour)
	defer hourly.Stop()
	for {
		select {
		case ev := <-l.in:
			l.write(ctx, ev)
		case done := <-l.flush:
			l.drain(ctx)
			close(done)
		case <-hourly.C:
			if err := l.prune(ctx); err != nil {
				l.log.Error("prune the activity log", "error", err)
			}
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			l.drain(last)
			return nil
		}
	}
}

func (l *Log) drain(ctx context.Context) {
	for {
		select {
		case ev := <-l.in:
			l.write(ctx, ev)
		default:
			return
		}
	}
}

// settle waits until what was recorded before is written.
func (l *Log) settle(ctx context.Context) {
	done := make(chan struct{})
	select {
	case l.flush <- done:
	case <-ctx.Done():
		return
	}
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// entry is an event as the API shows it.
type entry struct {
	Authorization        map[string]string `json:"authorization"`
	Caller               string            `json:"caller"`
	Channels             string            `json:"channels"`
	Claims               map[string]string `json:"claims"`
	CorrelationID        string            `json:"correlationId"`
	Description          string            `json:"description"`
	EventDataID          string            `json:"eventDataId"`
	EventName            localizable       `json:"eventName"`
	Category             localizable       `json:"category"`
	HTTPRequest          map[string]string `json:"httpRequest"`
	ID                   string            `json:"id"`
	Level                string            `json:"level"`
	ResourceGroupName    string            `json:"resourceGroupName"`
	ResourceProviderName localizable       `json:"resourceProviderName"`
	ResourceID           string            `json:"resourceId"`
	ResourceType         localizable       `json:"resourceType"`
	OperationID          string            `json:"operationId"`
	OperationName        localizable       `json:"operationName"`
	Properties           map[string]string `json:"properties"`
	Status               localizable       `json:"status"`
	SubStatus            localizable       `json:"subStatus"`
	EventTimestamp       time.Time         `json:"eventTimestamp"`
	SubmissionTimestamp  time.Time         `json:"submissionTimestamp"`
	SubscriptionID       string            `json:"subscriptionId"`
	TenantID             string            `json:"tenantId"`
}

type localizable struct {
	Value          string `json:"value"`
	LocalizedValue string `json:"localizedValue"`
}

func say(s string) localizable { return localizable{s, s} }

func (l *Log) write(ctx context.Context, ev arm.Event) {
	sub := strings.ToLower(ev.Scope.Subscription())
	if sub == "" {
		return // the activity log is a subscription's
	}
	e := describe(ev)
	b, err := json.Marshal(e)
	if err == nil {
		_, err = l.store.Put(ctx, store.Doc{Key: key(sub, ev.Time, e.EventDataID), Kind: "activity", Value: b})
	}
	if err != nil {
		l.log.Error("an event is missing from the activity log", "request", ev.Request, "action", ev.Action, "error", err)
	}
}

// key sorts the newest first.
func key(sub string, t time.Time, id string) string {
	return fmt.Sprintf("%s%s/%019d/%s", prefix, sub, (1<<62)-t.UnixNano(), id)
}

func describe(ev arm.Event) entry {
	status, level := "Succeeded", "Informational"
	if ev.Status >= 400 {
		status, level = "Failed", "Error"
	}
	id, ns := uuid.NewString(), ev.Scope.Namespace()
	if ns == "" {
		ns = "Microsoft.Resources"
	}
	e := entry{
		Authorization: map[string]string{"action": ev.Action, "scope": ev.Scope.String()},
		Caller:        ev.Caller.Display(), Channels: "Operation",
		Claims:        map[string]string{"oid": ev.Caller.ObjectID, "appid": ev.Caller.AppID, "ipaddr": ev.ClientIP, "ver": ev.Caller.Version},
		CorrelationID: ev.Correlation, EventDataID: id, EventName: localizable{"EndRequest", "End request"},
		Category:    say("Administrative"),
		HTTPRequest: map[string]string{"clientRequestId": ev.Request, "clientIpAddress": ev.ClientIP, "method": ev.Method},
		Level:       level, ResourceGroupName: ev.Scope.ResourceGroup(), ResourceProviderName: say(ns),
		ResourceID: ev.Scope.String(), ResourceType: say(ev.Scope.Type()), OperationID: ev.Correlation, OperationName: say(ev.Action),
		Properties: map[string]string{"statusCode": http.StatusText(ev.Status), "entity": ev.Scope.String(), "message": ev.Action},
		Status:     say(status), SubStatus: localizable{ev.Code, ev.Code}, EventTimestamp: ev.Time, SubmissionTimestamp: ev.Time,
		SubscriptionID: ev.Scope.Subscription(), TenantID: ev.Caller.TenantID,
	}
	e.ID = fmt.Sprintf("%s/events/%s/ticks/%d", strings.TrimSuffix(ev.Scope.String(), "/"), id, ticks(ev.Time))
	return e
}

// ticks are .NET's: 100 ns since the year 1.
func ticks(t time.Time) int64 { return t.UnixNano()/100 + 621355968000000000 }

func (l *Log) prune(ctx context.Context) error {
	docs, err := l.store.List(ctx, store.Query{Prefix: prefix, Kind: "activity"})
	after := ""
	for err == nil && len(docs) > 0 {
		for _, d := range docs {
			after = d.Key
			var e entry
			if json.Unmarshal(d.Value, &e) == nil && time.Since(e.EventTimestamp) > kept {
				if derr := l.store.Delete(ctx, d.Key, 0); derr != nil && !errors.Is(derr, store.ErrNotFound) {
					return derr
				}
			}
		}
		docs, err = l.store.List(ctx, store.Query{Prefix: prefix, Kind: "activity", After: after})
	}
	return err
}

// Provider serves the log, and components.
func (l *Log) Provider() arm.Provider {
	const ns = namespace
	return arm.Provider{Namespace: ns, Routes: []arm.Route{arm.Serve(ns, l.components())}, Endpoints: append([]arm.Endpoint{{
		Method: http.MethodGet, Path: "/subscriptions/{subscriptionId}/providers/Microsoft.Insights/eventtypes/management/values",
		Action: ns + "/eventtypes/management/values/Read", APIVersions: []string{"2015-04-01", "2014-04-01"}, Handle: l.list,
	}, {
		Method: http.MethodGet, Path: "/providers/Microsoft.Insights/eventcategories",
		APIVersions: []string{"2015-04-01"}, Handle: func(context.Context, *arm.Request) (*arm.Response, error) {
			return &arm.Response{Body: map[string]any{"value": []localizable{say("Administrative")}}}, nil
		},
	}}, l.queries()...)}
}

func (l *Log) list(ctx context.Context, r *arm.Request) (*arm.Response, error) {
	q := r.HTTP.URL.Query()
	want, err := filter(q.Get("$filter"))
	if err != nil {
		return nil, err
	}
	keep := fields(q.Get("$select"))
	l.settle(ctx)
	base := prefix + strings.ToLower(r.Params["subscriptionId"]) + "/"
	after := ""
	if s := q.Get("$skipToken"); s != "" {
		b, err := base64.RawURLEncoding.DecodeString(s)
		if err != nil || !strings.HasPrefix(string(b), base) {
			return nil, apierr.New(apierr.BadRequest, "BadRequest", "The query parameter '$skipToken' is none that this service gave.")
		}
		after = string(b)
	}
	out, next, err := l.page(ctx, base, after, want, keep)
	if err != nil {
		return nil, err
	}
	body := map[string]any{"value": out}
	if next != "" {
		q.Set("$skipToken", base64.RawURLEncoding.EncodeToString([]byte(next)))
		body["nextLink"] = r.BaseURL + (&url.URL{Path: r.HTTP.URL.Path}).EscapedPath() + "?" + q.Encode()
	}
	return &arm.Response{Body: body}, nil
}

func (l *Log) page(ctx context.Context, base, after string, want func(*entry) bool, keep func(entry) any) (out []any, next string, err error) {
	out = []any{}
	for {
		docs, err := l.store.List(ctx, store.Query{Prefix: base, After: after, Limit: pageSize})
		if err != nil {
			return nil, "", err
		}
		for _, d := range docs {
			var e entry
			if err := json.Unmarshal(d.Value, &e); err != nil {
				return nil, "", fmt.Errorf("decode %s: %w", d.Key, err)
			}
			if want(&e) {
				if len(out) == pageSize {
					return out, after, nil
				}
				out = append(out, keep(e))
			}
			after = d.Key
		}
		if len(docs) < pageSize {
			return out, "", nil
		}
	}
}

// filter understands what the API documents: a time range, and one of
// resourceGroupName, resourceUri, resourceProvider, correlationId, plus
// caller, status and the like, joined by and.
func filter(s string) (func(*entry) bool, error) {
	bad := func(format string, args ...any) error {
		return apierr.New(apierr.BadRequest, "BadRequest", "The $filter '%s' is invalid: "+format, append([]any{s}, args...)...)
	}
	if strings.TrimSpace(s) == "" {
		return nil, bad("a time range is required, such as eventTimestamp ge '2026-01-01T00:00:00Z'.")
	}
	expr, err := odata.Parse(s)
	if err != nil {
		return nil, bad("%v.", err)
	}
	timed := false
	for _, n := range expr.Names() {
		switch strings.ToLower(n) {
		case "eventtimestamp":
			timed = true
		case "resourcegroupname", "resourceuri", "resourceid", "resourceprovider", "correlationid", "caller", "status", "levels", "level", "resourcetype", "operations", "eventchannels":
		default:
			return nil, bad("'%s' cannot be filtered on.", n)
		}
	}
	if !timed {
		return nil, bad("a time range is required, such as eventTimestamp ge '2026-01-01T00:00:00Z'.")
	}
	if err := normalizeTimes(expr); err != nil {
		return nil, bad("%v.", err)
	}
	return func(e *entry) bool {
		ok, err := expr.Eval(func(n string) []string { return values(e, n) })
		return ok && err == nil
	}, nil
}

// normalizeTimes makes times comparable as text.
func normalizeTimes(e *odata.Expr) error {
	if strings.EqualFold(e.Name, "eventTimestamp") {
		t, err := parseTime(e.Args[0])
		if err != nil {
			return err
		}
		e.Args[0] = t.UTC().Format(textTime)
	}
	for _, s := range e.Sub {
		if err := normalizeTimes(s); err != nil {
			return err
		}
	}
	return nil
}

const textTime = "2006-01-02T15:04:05.000000000Z"

func parseTime(s string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05", time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("'%s' is no time", s)
}

func values(e *entry, name string) []string {
	switch strings.ToLower(name) {
	case "eventtimestamp":
		return []string{e.EventTimestamp.UTC().Format(textTime)}
	case "resourcegroupname":
		return []string{e.ResourceGroupName}
	case "resourceuri", "resourceid":
		return []string{e.ResourceID}
	case "resourceprovider":
		return []string{e.ResourceProviderName.Value}
	case "resourcetype":
		return []string{e.ResourceType.Value}
	case "correlationid":
		return []string{e.CorrelationID}
	case "caller":
		return []string{e.Caller}
	case "status":
		return []string{e.Status.Value}
	case "level", "levels":
		return []string{e.Level}
	case "operations":
		return []string{e.OperationName.Value}
	default: // eventChannels: all are Operation
		return []string{"Operation", "Admin, Operation"}
	}
}

// fields is $select: the named members alone.
func fields(sel string) func(entry) any {
	if strings.TrimSpace(sel) == "" {
		return func(e entry) any { return e }
	}
	var names []string
	for n := range strings.SplitSeq(sel, ",") {
		names = append(names, strings.ToLower(strings.TrimSpace(n)))
	}
	return func(e entry) any {
		b, err := json.Marshal(e)
		if err != nil {
			return e
		}
		m := map[string]any{}
		if err := json.Unmarshal(b, &m); err != nil {
			return e
		}
		for k := range m {
			if !slices.Contains(names, strings.ToLower(k)) {
				delete(m, k)
			}
		}
		return m
	}
}
