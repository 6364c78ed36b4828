package telemetry_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/providers/insights"
	"lazurite.dev/internal/providers/insights/telemetry"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
)

func TestQuery(t *testing.T) {
	w := newWorld(t)
	w.score("req-1", 200, 12*time.Millisecond)
	w.score("req-2", 424, 800*time.Millisecond)
	w.line("2026-01-31 08:00:00,123 W [12] azmlinfsrv.user_script - careful")
	w.line("hello from init")
	got := w.ask(`requests | where success == "False" | project name, url, resultCode, duration, operation_Id, cloud_RoleName, cloud_RoleInstance, performanceBucket, tostring(customDimensions.endpoint), tostring(customDimensions.workspace), customDimensions`)
	want := []any{[]any{"POST /score", "https://ep.eastus.inference.ml.azure.com/score", "424", 800.0, "req-2", "blue", "pod-1", "500ms-1sec", "ep", "ws",
		`{"deployment":"blue","endpoint":"ep","modelStatus":"200","workspace":"ws"}`}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	got = w.ask("traces | order by severityLevel desc | project severityLevel, tostring(customDimensions.logger), message, timestamp")
	want = []any{[]any{2.0, "azmlinfsrv.user_script", "2026-01-31 08:00:00,123 W [12] azmlinfsrv.user_script - careful", "2026-01-31T08:00:00Z"}, []any{1.0, "", "hello from init", "2026-01-31T08:00:00Z"}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if got := w.ask("dependencies | count"); cmp.Diff([]any{[]any{0.0}}, got) != "" {
		t.Errorf("dependencies: %v", got)
	}
	r := w.do("reader", "POST", "/v1/apps/"+appID+"/query", `{"query":"requests | summarize count() by bin(timestamp, 1h)","timespan":"PT12H","applications":["`+strings.ToUpper(appID)+`"]}`)
	if want := `{"tables":[{"name":"PrimaryResult","columns":[{"name":"timestamp","type":"datetime"},{"name":"count_","type":"long"}],"rows":[["2026-01-31T08:00:00Z",2]]}]}`; strings.TrimSpace(r.text) != want {
		t.Errorf("got %s\nwant %s", r.text, want)
	}
	r = w.do("reader", "POST", "/v1/apps/"+appID+"/query", `{"query":"requests | count","timespan":"2026-01-31T09:00:00Z/PT1H"}`)
	if !strings.Contains(r.text, `"rows":[[0]]`) {
		t.Errorf("an hour later: %s", r.text)
	}
}

func TestRefusals(t *testing.T) {
	w := newWorld(t)
	query := "/v1/apps/" + appID + "/query"
	for _, c := range []struct {
		as, method, path, body string
		status                 int
		code, text             string
	}{
		{"", "GET", query + "?query=requests", "", 401, "AuthorizationRequiredError", "missing"},
		{"foreign", "GET", query + "?query=requests", "", 401, "InvalidTokenError", "another resource"},
		{"stranger", "GET", query + "?query=requests", "", 403, "InsufficientAccessError", insights.ActionQuery},
		{"stranger", "GET", "/v1/apps/" + appID + "/events/requests", "", 403, "InsufficientAccessError", insights.ActionEvents},
		{"reader", "GET", "/v1/apps/" + appID[:35] + "5/query?query=requests", "", 404, "PathNotFoundError", "no component"},
		{"reader", "GET", "/v2/apps", "", 404, "PathNotFoundError", "/v1/apps/{appId}/query"},
		{"reader", "GET", "/v1/apps/" + appID + "/metrics/requests", "", 404, "PathNotFoundError", "no operation"},
		{"reader", "DELETE", query, "", 405, "MethodNotAllowed", "DELETE"},
		{"reader", "GET", query, "", 400, "BadArgumentError", "begins with"},
		{"reader", "GET", query + "?query=requests|render+pie", "", 400, "BadArgumentError", "operator 'render' is not known"},
		{"reader", "GET", query + "?query=customers", "", 400, "BadArgumentError", "no table 'customers'"},
		{"reader", "GET", query + "?query=requests&timespan=P1Y", "", 400, "BadArgumentError", "timespan"},
		{"reader", "POST", query, `{"query":`, 400, "BadArgumentError", ""},
		{"reader", "POST", query, `{"query":"requests","applications":["other"]}`, 400, "BadArgumentError", "one component"},
		{"reader", "POST", query, `{"query":"` + strings.Repeat("a", telemetry.MaxBody) + `"}`, 413, "BadArgumentError", ""},
		{"reader", "GET", "/v1/apps/" + appID + "/events/cats", "", 400, "BadArgumentError", "type 'cats'"},
		{"reader", "GET", "/v1/apps/" + appID + "/events/requests/none", "", 404, "PathNotFoundError", "no event"},
		{"reader", "GET", "/v1/apps/" + appID + "/events/requests?$apply=x", "", 400, "BadArgumentError", "$apply"},
		{"reader", "GET", "/v1/apps/" + appID + "/events/requests?$top=-1", "", 400, "BadArgumentError", "$top"},
		{"reader", "GET", "/v1/apps/" + appID + "/events/requests?$count=perhaps", "", 400, "BadArgumentError", "$count"},
		{"reader", "GET", "/v1/apps/" + appID + "/events/requests?$format=xml", "", 400, "BadArgumentError", "JSON alone"},
		{"reader", "GET", "/v1/apps/" + appID + "/events/requests?$orderby=colour", "", 400, "BadArgumentError", "$orderby"},
		{"reader", "GET", "/v1/apps/" + appID + "/events/requests?$select=colour", "", 400, "BadArgumentError", "$select"},
		{"reader", "GET", "/v1/apps/" + appID + "/events/requests?$filter=colour+eq+'red'", "", 400, "BadArgumentError", "'colour' is no property"},
		{"reader", "GET", "/v1/apps/" + appID + "/events/requests?$filter=request/duration+gt+x", "", 400, "BadArgumentError", "no number"},
		{"reader", "GET", "/v1/apps/" + appID + "/events/requests?$filter=timestamp+gt+x", "", 400, "BadArgumentError", "no time"},
		{"reader", "GET", "/v1/apps/" + appID + "/events/requests?$filter=cats()", "", 400, "BadArgumentError", "'cats()' is no property"},
		{"reader", "GET", "/v1/apps/" + appID + "/events/requests?$filter=)", "", 400, "BadArgumentError", "filter"},
	} {
		r := w.do(c.as, c.method, c.path, c.body)
		e, _ := r.json["error"].(map[string]any)
		if r.status != c.status || e["code"] != c.code || !strings.Contains(fmt.Sprint(e["message"]), c.text) {
			t.Errorf("%s %s as %q: %d %s, want %d %s %q", c.method, c.path, c.as, r.status, r.text, c.status, c.code, c.text)
		}
	}
	if r := w.do("stranger", "GET", query+"?query=requests", ""); strings.Contains(r.text, "app1") || strings.Contains(r.text, "11111111-2222") || !strings.Contains(r.text, appID) {
		t.Errorf("who has no role is told whose it is: %s", r.text)
	}
	w.resource(componentID, map[string]any{"AppId": appID, "publicNetworkAccessForQuery": "Disabled"})
	for _, as := range []string{"", "stranger", "reader"} {
		if r := w.do(as, "GET", query+"?query=requests", ""); r.status != 403 || !strings.Contains(r.text, "publicNetworkAccessForQuery=Enabled") || strings.Contains(r.text, "app1") || strings.Contains(r.text, "11111111-2222") {
			t.Errorf("closed, as %q: %d %s", as, r.status, r.text)
		}
	}
	if _, err := w.s.Query(t.Context(), rid.MustParse(componentID), insights.Ask{Query: "requests"}); err == nil {
		t.Error("the management plane's path is open where the component is closed")
	}
}

// A component is found by the application id that it has now, in any case.
func TestIndex(t *testing.T) {
	w := newWorld(t)
	status := func(app string) int {
		return w.do("reader", "GET", "/v1/apps/"+app+"/query?query=requests", "").status
	}
	other := appID[:35] + "5"
	if a, b := status(strings.ToUpper(appID)), status(other); a != 200 || b != 404 {
		t.Errorf("%d, %d", a, b)
	}
	w.resource(componentID, map[string]any{"AppId": other})
	if a, b := status(appID), status(other); a != 404 || b != 200 {
		t.Errorf("changed: %d, %d", a, b)
	}
	if err := w.store.Delete(t.Context(), arm.ResourceKey(rid.MustParse(componentID)), 0); err != nil {
		t.Fatal(err)
	}
	if got := status(other); got != 404 {
		t.Errorf("deleted: %d", got)
	}
}

func TestEvents(t *testing.T) {
	w := newWorld(t)
	w.score("req-1", 200, 9*time.Millisecond)
	w.later(time.Minute)
	w.score("req-2", 500, 100*time.Millisecond)
	w.line("hello")
	base := "/v1/apps/" + appID + "/events/"
	ids := func(path string) (out []string) {
		t.Helper()
		r := w.do("reader", "GET", base+path, "")
		if r.status != http.StatusOK {
			t.Fatalf("%s: %d %s", path, r.status, r.text)
		}
		for _, v := range r.json["value"].([]any) {
			op, _ := v.(map[string]any)["operation"].(map[string]any)
			out = append(out, fmt.Sprint(v.(map[string]any)["type"], " ", op["id"]))
		}
		return out
	}
	for path, want := range map[string][]string{
		"requests": {"request req-2", "request req-1"}, "traces": {"trace "}, "exceptions": nil,
		"$all?$orderby=timestamp,type":                                                        {"request req-1", "request req-2", "trace "},
		"requests?$filter=request/duration%20gt%2020":                                         {"request req-2"},
		"requests?$filter=request/duration%20lt%2020.5%20and%20request/success%20eq%20'True'": {"request req-1"},
		"requests?$filter=timestamp%20ge%202026-01-31T08:00:30Z":                              {"request req-2"},
		"requests?$filter=customDimensions/deployment%20eq%20'green'":                         nil,
		"requests?$filter=startswith(request/name,'post')&$top=1&$skip=1":                     {"request req-1"},
		"$all?$filter=contains(trace/message,'ell')":                                          {"trace "},
		"requests?timespan=PT30S":                                                             {"request req-2"},
		"requests?timespan=2026-01-31T08:00:00Z/2026-01-31T08:00:30Z":                         {"request req-1"},
	} {
		if d := cmp.Diff(want, ids(path)); d != "" {
			t.Errorf("%s (-want +got):\n%s", path, d)
		}
	}
	r := w.do("reader", "GET", base+"requests?$count=true&$top=1&$select=Timestamp,request/ResultCode,customDimensions/endpoint", "")
	v := r.json["value"].([]any)[0].(map[string]any)
	want := map[string]any{"id": v["id"], "type": "request", "timestamp": "2026-01-31T08:01:00Z", "request": map[string]any{"resultCode": "500"}, "customDimensions": map[string]any{"endpoint": "ep"}}
	if d := cmp.Diff(want, v); d != "" || r.json["@odata.count"] != 2.0 {
		t.Errorf("%v %s", r.json["@odata.count"], d)
	}
	one := w.do("reader", "GET", base+"requests/"+v["id"].(string), "")
	if got := one.json["value"].([]any)[0].(map[string]any)["request"].(map[string]any)["duration"]; got != 100.0 {
		t.Errorf("one event: %s", one.text)
	}
}

func TestNothingIsKeptOfOthers(t *testing.T) {
	w := newWorld(t)
	s := source()
	s.Workspace = rid.MustParse(workspaceID + "2")
	w.s.Request(telemetry.Request{Source: s, ID: "x", Time: w.clock(), Status: 200})
	if got := w.ask("requests | count"); cmp.Diff([]any{[]any{0.0}}, got) != "" || w.counted("unowned") != 1 {
		t.Errorf("got %v, %v unowned", got, w.counted("unowned"))
	}
	w.resource(workspaceID+"2", map[string]any{"applicationInsights": componentID + "2"}) // which isn't there
	w.s.Request(telemetry.Request{Source: s, ID: "x", Time: w.clock(), Status: 200})
	if got := w.ask("requests | count"); cmp.Diff([]any{[]any{0.0}}, got) != "" || w.counted("unowned") != 2 {
		t.Errorf("got %v, %v unowned", got, w.counted("unowned"))
	}
}

// What comes faster than it is written is dropped, counted and told; nobody waits.
func TestDropped(t *testing.T) {
	w := newWorld(t, func(c *telemetry.Config) { c.Queue = 3 })
	for range 5 {
		w.score("r", 200, time.Millisecond)
		w.line("l")
	}
	if w.counted("dropped") != 4 {
		t.Errorf("%v dropped, want 4", w.counted("dropped"))
	}
	got := w.ask(`traces | where customDimensions.droppedRequests == "2" and customDimensions.droppedLines == "2" and message has "not recorded" | count`)
	if cmp.Diff([]any{[]any{1.0}}, got) != "" {
		t.Errorf("no trace tells of it: %v", w.ask("traces"))
	}
	if got := w.ask("requests | count"); cmp.Diff([]any{[]any{3.0}}, got) != "" {
		t.Errorf("got %v", got)
	}
}

// stalled is a store whose writes of one document wait, as those of a database
// that stalls do.
type stalled struct {
	store.Store
	key          string
	waits, again chan struct{}
	once         sync.Once
}

func (s *stalled) Put(ctx context.Context, d store.Doc) (int64, error) {
	if d.Key == s.key {
		s.once.Do(func() { close(s.waits) })
		<-s.again
	}
	return s.Store.Put(ctx, d)
}

// Who scores and who reads what pods print waits for no database.
func TestDropped_WhileTheDatabaseStalls(t *testing.T) {
	st := &stalled{key: "telemetry/cursors", waits: make(chan struct{}), again: make(chan struct{})}
	w := newWorld(t, func(c *telemetry.Config) { c.Queue, c.Every, st.Store, c.Store = 1, time.Millisecond, c.Store, st })
	w.line("l")
	<-st.waits
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 3 {
			w.score("r", 200, time.Millisecond)
			w.line("l")
		}
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Error("scoring waits for the database")
	}
	close(st.again)
	<-done
	if got := w.counted("dropped"); got != 4 {
		t.Errorf("%v are dropped, want 4", got)
	}
}

func (w *world) batches() int {
	w.t.Helper()
	docs, err := w.store.List(context.Background(), store.Query{Prefix: "telemetry/records/"})
	if err != nil {
		w.t.Fatal(err)
	}
	return len(docs)
}

func TestRetention_ByAge(t *testing.T) {
	w := newWorld(t)
	w.score("old", 200, time.Millisecond)
	if n := w.ask("requests | count"); cmp.Diff([]any{[]any{1.0}}, n) != "" {
		t.Fatal(n)
	}
	w.later(31 * 24 * time.Hour)
	if n := w.ask("requests | count"); cmp.Diff([]any{[]any{0.0}}, n) != "" {
		t.Errorf("what is over is shown before it is swept: %v", n)
	}
	w.score("new", 200, time.Millisecond)
	w.ask("requests | count")
	if err := w.s.Sweep(t.Context()); err != nil || w.batches() != 1 {
		t.Errorf("%d batches, %v", w.batches(), err)
	}
}

func TestRetention_BySize(t *testing.T) {
	w := newWorld(t, func(c *telemetry.Config) { c.MiB = 1 })
	for i := range 80 {
		w.later(time.Second)
		w.line(fmt.Sprintf("%02d", i) + strings.Repeat("x", 31<<10))
		w.ask("requests | take 0") // writes it
	}
	docs, err := w.store.List(t.Context(), store.Query{Prefix: "telemetry/records/"})
	total := 0
	for _, d := range docs {
		total += len(d.Value)
	}
	if err != nil || total > 768<<10 || total < 640<<10 {
		t.Errorf("%d bytes are kept, %v", total, err)
	}
	if got := w.ask(`traces | where message startswith "79" or message startswith "00" | count`); cmp.Diff([]any{[]any{1.0}}, got) != "" {
		t.Errorf("got %v of the oldest and the newest", got)
	}
	if err := w.s.Sweep(t.Context()); err != nil || w.batches() != len(docs) {
		t.Errorf("a sweep left %d of %d, %v", w.batches(), len(docs), err)
	}
}

// Whatever is printed, a quarter stays for requests.
func TestRetention_RequestsBesideLines(t *testing.T) {
	w := newWorld(t, func(c *telemetry.Config) { c.MiB = 1 })
	w.score("first", 200, time.Millisecond)
	for range 40 {
		w.later(time.Second)
		w.line(strings.Repeat("x", 31<<10))
		w.ask("requests | take 0") // writes it
	}
	if err := w.s.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := w.ask("requests | count"); cmp.Diff([]any{[]any{1.0}}, got) != "" {
		t.Errorf("%v requests are left beside the lines, want 1", got)
	}
}

// A deployment that prints in a loop has what it is over the rate dropped and
// told; others' lines are taken.
func TestLine_Rate(t *testing.T) {
	w := newWorld(t)
	other := source()
	other.Workspace = rid.MustParse(workspaceID + "2")
	w.resource(workspaceID+"2", map[string]any{"applicationInsights": componentID})
	for range 8192 {
		w.line(strings.Repeat("x", 64<<10))
	}
	w.s.Line(telemetry.Line{Source: other, UID: "other", Time: w.clock(), Text: "hello"})
	taken := 8192 - w.counted("dropped")
	if taken < 16 || taken > 32 {
		t.Errorf("%v lines of 64 KiB are taken at once, want about 1 MiB of 32 KiB each", taken)
	}
	if !w.says("hello", 1) {
		t.Error("a line of another workspace is lost")
	}
	if got := w.ask(`traces | where customDimensions.workspace == "ws" and message has "not recorded" | count`); cmp.Diff([]any{[]any{1.0}}, got) != "" {
		t.Errorf("no trace tells of it: %v", got)
	}
	w.later(time.Second)
	for range 100 {
		w.line(strings.Repeat("x", 64<<10))
	}
	if got := 8292 - taken - w.counted("dropped"); got < 4 || got > 8 {
		t.Errorf("%v lines of 32 KiB are taken in a second, want about 256 KiB", got)
	}
}

func TestErase(t *testing.T) {
	w := newWorld(t)
	w.score("r", 200, time.Millisecond)
	if err := w.s.Erase(t.Context(), strings.ToUpper(appID)); err != nil || w.batches() != 0 {
		t.Errorf("%d batches are left, %v", w.batches(), err)
	}
	w.score("r", 200, time.Millisecond)
	w.ask("requests")
	if err := w.store.Delete(t.Context(), arm.ResourceKey(rid.MustParse(componentID)), 0); err != nil {
		t.Fatal(err)
	}
	if err := w.s.Sweep(t.Context()); err != nil || w.batches() != 0 {
		t.Errorf("%d batches of a component that is gone are left, %v", w.batches(), err)
	}
}

// late makes something when batches are listed.
type late struct {
	store.Store
	make func()
}

func (l *late) List(ctx context.Context, q store.Query) ([]store.Doc, error) {
	if l.make != nil && q.Prefix == "telemetry/records/" {
		l.make()
	}
	return l.Store.List(ctx, q)
}

// A component that is made while old records are looked for keeps its own.
func TestSweep_BesideACreation(t *testing.T) {
	st := &late{}
	w := newWorld(t, func(c *telemetry.Config) { st.Store, c.Store = c.Store, st })
	eventually(t, "the writer runs", func() bool { w.score("r", 200, 1); w.ask("requests"); return w.batches() > 0 })
	before := w.batches()
	const app = "0bbbbbbb-1111-2222-3333-444444444444"
	st.make = sync.OnceFunc(func() {
		w.resource(componentID+"2", map[string]any{"AppId": app})
		key := fmt.Sprintf("telemetry/records/%s/%019d/requests/x", app, w.clock().UnixNano())
		if _, err := w.store.Put(t.Context(), store.Doc{Key: key, Kind: "telemetry.batch", Value: []byte(`{"records":[]}`)}); err != nil {
			t.Error(err)
		}
	})
	if err := w.s.Sweep(t.Context()); err != nil || w.batches() != before+1 {
		t.Errorf("%d batches, %v, want %d", w.batches(), err, before+1)
	}
}

// What was acknowledged before a stop is there after it: Run writes what waits.
func TestStop(t *testing.T) {
	w := newWorld(t)
	w.score("r", 200, time.Millisecond)
	w.line("l")
	eventually(t, "the writer runs", func() bool { w.score("r", 200, 1); w.ask("requests"); return w.batches() > 0 })
	before := w.batches()
	w.line("last")
	w.stop()
	if w.batches() != before+1 {
		t.Errorf("%d batches, want %d", w.batches(), before+1)
	}
}
