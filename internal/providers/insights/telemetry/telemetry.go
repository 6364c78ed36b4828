// Package telemetry is what components of Application Insights collect and
// answer: one record for each scored request of an online deployment and one
// for each line that its server prints, kept in batches, read by queries.
//
// Source: Application Insights REST API, "Query" and "Events"; Azure Monitor,
// "Application Insights telemetry data model".
package telemetry

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
)

const (
	prefix     = "telemetry/records/" // and the application id, the time of the newest record, the table, an id
	cursorsKey = "telemetry/cursors"
	batchKind  = "telemetry.batch"
	maxStale   = 10 * time.Second

	componentType = "microsoft.insights/components"
	workspaceType = "microsoft.machinelearningservices/workspaces"
)

// DefaultMiB is how much a component keeps where nothing else is configured.
const DefaultMiB = 64

// Config is what Open needs.
type Config struct {
	Store   store.Store
	Log     *slog.Logger
	MiB     int                   // of records that a component keeps; 0 is DefaultMiB
	Metrics prometheus.Registerer // nil: none
	Now     func() time.Time      // nil means time.Now

	// Queue is how many records of each kind may wait to be written; 0 is 8192.
	Queue int
	// Every is how often what waits is written; 0 is a second.
	Every time.Duration
	// Look is how often Collect looks what there is to collect; 0 is a second.
	Look time.Duration
}

// Service takes records, keeps them and gives them.
type Service struct {
	cfg   Config
	docs  *store.Mirror[*arm.Envelope] // components and workspaces
	meter meter
	turns turns
	index index

	requests chan Request
	lines    chan Line
	flush    chan chan struct{}
	intake   intake
	losses   losses

	mu      sync.Mutex           // guards what follows, and is never held over the store
	sizes   map[string]*kept     // by application id
	cursors map[string]time.Time // newest line that is written, by pod
	rev     int64                // of the cursors' document; -1 before it was read
}

type meter struct {
	records *prometheus.CounterVec
}

// Open makes a Service; Run writes what it takes, and Close ends it.
func Open(ctx context.Context, c Config) (*Service, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.MiB == 0 {
		c.MiB = DefaultMiB
	}
	if c.Queue == 0 {
		c.Queue = 8192
	}
	if c.Every == 0 {
		c.Every = time.Second
	}
	if c.Look == 0 {
		c.Look = time.Second
	}
	s := &Service{
		cfg: c, requests: make(chan Request, c.Queue), lines: make(chan Line, c.Queue), flush: make(chan chan struct{}),
		intake: intake{buckets: map[string]bucketOf{}},
		losses: losses{by: map[string]lost{}}, sizes: map[string]*kept{}, cursors: map[string]time.Time{}, rev: -1,
		meter: meter{prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "laz_telemetry_records_total", Help: "Records for components of Application Insights, by table and by what became of them.",
		}, []string{"table", "result"})},
	}
	if c.Metrics != nil {
		if err := c.Metrics.Register(s.meter.records); err != nil {
			return nil, err
		}
	}
	var err error
	s.docs, err = store.NewMirror(ctx, c.Store, arm.KeyPrefix+"/", arm.DecodeEnvelope, maxStale, componentType, workspaceType)
	if err != nil {
		return nil, err
	}
	s.index.follow(s.docs)
	return s, nil
}

// Close ends what Open began.
func (s *Service) Close() { s.docs.Close() }

// component is one that collects.
type component struct {
	ID        rid.ID
	App       string // application id
	Location  string
	Retention time.Duration
	Public    bool // publicNetworkAccessForQuery
}

func componentOf(e *arm.Envelope) (component, bool) {
	text := func(name string) string { v, _ := e.Properties[name].(string); return v }
	id, err := rid.Parse(e.ID)
	c := component{ID: id, App: strings.ToLower(text("AppId")), Location: e.Location, Retention: days(e.Properties["RetentionInDays"]), Public: !strings.EqualFold(text("publicNetworkAccessForQuery"), "Disabled")}
	return c, err == nil && c.App != ""
}

// days is RetentionInDays, 90 where it is not said.
func days(v any) time.Duration {
	n := int64(90)
	switch x := v.(type) {
	case json.Number:
		if i, err := x.Int64(); err == nil {
			n = i
		}
	case float64:
		n = int64(x)
	}
	return time.Duration(max(1, min(n, 730))) * 24 * time.Hour
}

// of is the component of a workspace of Machine Learning; ok is false where it
// has none, or one that is gone.
func (s *Service) of(workspace rid.ID) (component, bool) {
	ws, ok := s.docs.Get(arm.ResourceKey(workspace))
	if !ok {
		return component{}, false
	}
	name, _ := ws.Properties["applicationInsights"].(string)
	id, err := rid.Parse(name)
	if err != nil {
		return component{}, false
	}
	return s.at(id)
}

// at is the component with a resource id.
func (s *Service) at(id rid.ID) (component, bool) {
	e, ok := s.docs.Get(arm.ResourceKey(id))
	if !ok || !strings.EqualFold(e.Type, componentType) {
		return component{}, false
	}
	return componentOf(e)
}

// apps are all components, by application id.
func (s *Service) apps() map[string]component {
	all := map[string]component{}
	s.docs.Range(func(_ string, e *arm.Envelope) bool {
		if strings.EqualFold(e.Type, componentType) {
			if c, ok := componentOf(e); ok {
				all[c.App] = c
			}
		}
		return true
	})
	return all
}
