package telemetry

import (
	"net/url"
	"testing"
	"time"

	"lazurite.dev/internal/rid"
)

func TestSeverity(t *testing.T) {
	for line, want := range map[string]struct {
		level  int64
		logger string
	}{
		"2026-01-31 08:00:00,123 D [1] root - x":                             {0, "root"},
		"2026-01-31 08:00:00,123 I [1] azmlinfsrv - POST /score 200 1.2ms 4": {1, "azmlinfsrv"},
		"2026-01-31 08:00:00,123 E [12] a.b - x":                             {3, "a.b"},
		"2026-01-31 08:00:00,123 C [12] a - x":                               {4, "a"},
		"2026-01-31 08:00:00,123 X [12] a - x":                               {1, ""},
		"Traceback (most recent call last):":                                 {1, ""},
		"":                                                                   {1, ""},
	} {
		if level, logger := severity(line); level != want.level || logger != want.logger {
			t.Errorf("%q: %d %q, want %d %q", line, level, logger, want.level, want.logger)
		}
	}
}

func TestParseTimespan(t *testing.T) {
	now := time.Date(2026, 1, 31, 8, 0, 0, 0, time.UTC)
	h := func(n int) time.Time { return now.Add(time.Duration(n) * time.Hour) }
	for s, want := range map[string]span{
		"": {}, "PT12H": {from: h(-12)}, "P1DT2H": {from: h(-26)}, "P1W": {from: h(-168)}, "PT30M": {from: now.Add(-30 * time.Minute)}, "PT0.5S": {from: now.Add(-time.Second / 2)},
		"2026-01-31T07:00:00Z/2026-01-31T08:00:00Z": {h(-1), now}, "2026-01-31T07:00:00/PT1H": {h(-1), now}, "PT1H/2026-01-31T08:00:00.000Z": {h(-1), now},
	} {
		if got, err := parseTimespan(s, now); err != nil || got != want {
			t.Errorf("%q: %v %v, want %v", s, got, err, want)
		}
	}
	for _, s := range []string{"P", "PT", "P1Y", "P1M", "1h", "PT1D", "PT1H1H", "PT1", "P-1D", "x/y", "PT1H/PT1H", "2026-01-31T08:00:00Z/2026-01-31T07:00:00Z", "2026-01-31/", "P99999999999999999D", "PTT1H"} {
		if got, err := parseTimespan(s, now); err == nil {
			t.Errorf("%q is taken as %v", s, got)
		}
	}
}

func FuzzTimespan(f *testing.F) {
	f.Add("P1DT2H3M4.5S")
	f.Add("2026-01-31T07:00:00Z/PT1H")
	f.Fuzz(func(t *testing.T, s string) {
		now := time.Date(2026, 1, 31, 8, 0, 0, 0, time.UTC)
		if p, err := parseTimespan(s, now); err == nil && !p.to.IsZero() && p.to.Before(p.from) {
			t.Errorf("%q: %v", s, p)
		}
	})
}

func FuzzFilter(f *testing.F) {
	f.Add("request/duration gt 20 and contains(trace/message,'x')")
	f.Add("timestamp ge 2026-01-31T08:00:00Z or not (customDimensions/a in ('b'))")
	f.Fuzz(func(t *testing.T, s string) {
		e, err := parseFilter(s)
		if err != nil || e == nil {
			return
		}
		r := (&Request{Status: 200}).record("id")
		if _, err := e.Eval(func(path string) []string { v, _ := r.value(path, &component{}); return []string{v} }); err != nil {
			t.Errorf("%q: %v", s, err)
		}
	})
}

func FuzzLine(f *testing.F) {
	f.Add("2026-01-31 08:00:00,123 W [12] a - x")
	f.Fuzz(func(t *testing.T, s string) {
		l := Line{Text: s, Source: Source{Workspace: rid.MustParse("/subscriptions/a/resourceGroups/b/providers/M.A/workspaces/c")}}
		if r := l.record("id"); r.Severity < 0 || r.Severity > 4 || len(r.Message) > maxMessage {
			t.Errorf("%q: %d, %d bytes", s, r.Severity, len(r.Message))
		}
		q := Request{Host: "h", Path: (&url.URL{Path: "/" + s}).EscapedPath(), Source: l.Source}
		if r := q.record("id"); len(r.URL) > maxURL {
			t.Errorf("a URL of %d bytes", len(r.URL))
		}
	})
}
