package telemetry

import (
	"regexp"
	"strings"
	"time"

	"lazurite.dev/internal/kql"
	"lazurite.dev/internal/rid"
)

// The tables that something is collected in.
const (
	Requests = "requests"
	Traces   = "traces"
)

// Source is the deployment that a record is of.
type Source struct {
	Workspace            rid.ID
	Endpoint, Deployment string
	Instance             string // pod; "" where none had a part
}

// Request is one scored request. It has nothing of its body or its query.
type Request struct {
	Source
	ID          string // of the request, as its answer's headers have it
	Time        time.Time
	Duration    time.Duration
	Method      string
	Host, Path  string
	Status      int
	ModelStatus int // what the container answered; 0: nothing
}

// Line is one line that a container printed.
type Line struct {
	Source
	UID  string // of the deployment
	Time time.Time
	Text string
}

// record is what is kept.
type record struct {
	Table      string            `json:"table"`
	Time       time.Time         `json:"time"`
	ID         string            `json:"id"`
	Operation  string            `json:"operation,omitempty"`
	Name       string            `json:"name,omitempty"`
	URL        string            `json:"url,omitempty"`
	Code       string            `json:"code,omitempty"`
	OK         bool              `json:"ok,omitempty"`
	MS         float64           `json:"ms,omitempty"`
	Message    string            `json:"message,omitempty"`
	Severity   int64             `json:"severity,omitempty"`
	Role       string            `json:"role,omitempty"`
	Instance   string            `json:"instance,omitempty"`
	Dimensions map[string]string `json:"dimensions,omitempty"`
}

const (
	maxMessage = 32 << 10 // bytes. Source: "Application Insights telemetry data model", trace
	maxURL     = 2 << 10
)

func clip(s string, most int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most-3], "") + "…"
}

func (q *Source) dimensions() map[string]string {
	return map[string]string{"endpoint": q.Endpoint, "deployment": q.Deployment, "workspace": q.Workspace.Name()}
}

func (q *Request) record(id string) record {
	url := clip("https://"+q.Host+q.Path, maxURL)
	r := record{
		Table: Requests, Time: q.Time.UTC(), ID: id, Operation: q.ID, Name: clip(q.Method+" "+q.Path, 1<<10), URL: url, Code: itoa(q.Status),
		OK: q.Status > 0 && q.Status < 400, MS: float64(q.Duration.Microseconds()) / 1000, Role: q.Deployment, Instance: q.Instance, Dimensions: q.dimensions(),
	}
	if q.ModelStatus != 0 {
		r.Dimensions["modelStatus"] = itoa(q.ModelStatus)
	}
	return r
}

// logged is how the inference server begins its lines.
// Source: azureml-inference-server-http, "%(asctime)s %(levelname).1s [%(process)d] %(name)s - %(message)s".
var logged = regexp.MustCompile(`^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} ([DIWEC]) \[\d{1,10}\] ([^ ]{1,200}) - `)

// severity is the level and the logger that a line says it has: what is printed
// without one is information.
// Source: "Application Insights telemetry data model", SeverityLevel.
func severity(line string) (level int64, logger string) {
	m := logged.FindStringSubmatch(line)
	if m == nil {
		return 1, ""
	}
	return int64(strings.IndexByte("DIWEC", m[1][0])), m[2]
}

func (l *Line) record(id string) record {
	level, logger := severity(l.Text)
	r := record{Table: Traces, Time: l.Time.UTC(), ID: id, Message: clip(l.Text, maxMessage), Severity: level, Role: l.Deployment, Instance: l.Instance, Dimensions: l.dimensions()}
	if logger != "" {
		r.Dimensions["logger"] = logger
	}
	return r
}

// tables says whether there is a table of the name; those without columns of
// their own are always empty here.
func tables(name string) bool {
	switch name {
	case Requests, Traces, "dependencies", "exceptions", "customEvents", "customMetrics", "pageViews", "browserTimings", "availabilityResults", "performanceCounters":
		return true
	}
	return false
}

// field is a column: what a record has there.
type field struct {
	name, typ string
	get       func(r *record, c *component) any
}

func always(v any) func(*record, *component) any {
	return func(*record, *component) any { return v }
}

// fields are the columns of a table, in Azure's order.
// Source: "Azure Monitor Logs reference", AppRequests and AppTraces, with the
// names that Application Insights gives them.
func fields(table string) []field {
	out := []field{{"timestamp", kql.Datetime, func(r *record, _ *component) any { return r.Time }}}
	switch table {
	case Requests:
		out = append(out,
			field{"id", kql.String, func(r *record, _ *component) any { return r.ID }}, field{"source", kql.String, always("")},
			field{"name", kql.String, func(r *record, _ *component) any { return r.Name }}, field{"url", kql.String, func(r *record, _ *component) any { return r.URL }},
			field{"success", kql.String, func(r *record, _ *component) any { return truth(r.OK) }}, field{"resultCode", kql.String, func(r *record, _ *component) any { return r.Code }},
			field{"duration", kql.Real, func(r *record, _ *component) any { return r.MS }}, field{"performanceBucket", kql.String, func(r *record, _ *component) any { return bucket(r.MS) }})
	case Traces:
		out = append(out, field{"message", kql.String, func(r *record, _ *component) any { return r.Message }}, field{"severityLevel", kql.Long, func(r *record, _ *component) any { return r.Severity }})
	}
	out = append(out,
		field{"itemType", kql.String, func(r *record, _ *component) any { return strings.TrimSuffix(r.Table, "s") }},
		field{"customDimensions", kql.Dynamic, func(r *record, _ *component) any { return r.Dimensions }}, field{"customMeasurements", kql.Dynamic, always(nil)},
		field{"operation_Name", kql.String, func(r *record, _ *component) any { return r.Name }}, field{"operation_Id", kql.String, func(r *record, _ *component) any { return r.Operation }},
		field{"operation_ParentId", kql.String, func(r *record, _ *component) any { return r.Operation }})
	for _, name := range []string{"operation_SyntheticSource", "session_Id", "user_Id", "user_AuthenticatedId", "user_AccountId", "application_Version", "client_Type",
		"client_Model", "client_OS", "client_IP", "client_City", "client_StateOrProvince", "client_CountryOrRegion", "client_Browser"} {
		out = append(out, field{name, kql.String, always("")})
	}
	return append(out,
		field{"cloud_RoleName", kql.String, func(r *record, _ *component) any { return r.Role }}, field{"cloud_RoleInstance", kql.String, func(r *record, _ *component) any { return r.Instance }},
		field{"appId", kql.String, func(_ *record, c *component) any { return c.App }}, field{"appName", kql.String, func(_ *record, c *component) any { return c.ID.Name() }},
		field{"sdkVersion", kql.String, always("lazurite")}, field{"itemId", kql.String, func(r *record, _ *component) any { return r.ID }},
		field{"itemCount", kql.Long, always(int64(1))}, field{"_ResourceId", kql.String, func(_ *record, c *component) any { return strings.ToLower(c.ID.String()) }})
}

// truth is a truth value as Application Insights shows it.
func truth(b bool) string {
	if b {
		return "True"
	}
	return "False"
}

// bucket is a request's performanceBucket, by milliseconds.
func bucket(ms float64) string {
	for _, b := range []struct {
		below float64
		name  string
	}{{250, "<250ms"}, {500, "250ms-500ms"}, {1000, "500ms-1sec"}, {3000, "1sec-3sec"}, {7000, "3sec-7sec"}, {15000, "7sec-15sec"}, {30000, "15sec-30sec"}, {60000, "30sec-1min"}, {120000, "1min-2min"}, {300000, "2min-5min"}} {
		if ms < b.below {
			return b.name
		}
	}
	return ">=5min"
}
