package kql_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lazurite.dev/internal/kql"
)

var columns = []kql.Column{
	{Name: "timestamp", Type: kql.Datetime}, {Name: "name", Type: kql.String}, {Name: "resultCode", Type: kql.String},
	{Name: "duration", Type: kql.Real}, {Name: "itemCount", Type: kql.Long}, {Name: "customDimensions", Type: kql.Dynamic},
}

func at(minute int) time.Time { return time.Date(2026, 1, 31, 8, minute, 0, 0, time.UTC) }

func rows() iter.Seq2[[]any, error] {
	all := [][]any{
		{at(0), "POST /score", "200", 10.5, int64(1), map[string]string{"deployment": "blue"}},
		{at(1), "POST /score", "424", 90.0, int64(1), map[string]string{"deployment": "blue"}},
		{at(7), "POST /score", "200", 20.0, int64(1), map[string]string{"deployment": "green", "n": "7"}},
		{at(9), "GET /health-check", "200", nil, int64(3), map[string]any{"deployment": "green", "list": []any{"a", "b"}}},
	}
	return func(yield func([]any, error) bool) {
		for _, r := range all {
			if !yield(r, nil) {
				return
			}
		}
	}
}

func run(t *testing.T, text string) (*kql.Table, error) {
	t.Helper()
	q, err := kql.Parse(text)
	if err != nil {
		return nil, err
	}
	return q.Run(t.Context(), columns, rows(), at(10), kql.Limits{Rows: 1000, Bytes: 1 << 20})
}

func TestRun(t *testing.T) {
	for text, want := range map[string][][]any{
		`requests | count`: {{int64(4)}},
		`requests | where resultCode == "200" | count`:                                                                                                      {{int64(3)}},
		`requests | where not(resultCode == '200') | project resultCode`:                                                                                    {{"424"}},
		"requests\n| where duration > 15 and resultCode != '424' // slow\n| project duration":                                                               {{20.0}},
		`requests | where timestamp > ago(5m) | project name, itemCount`:                                                                                    {{"POST /score", int64(1)}, {"GET /health-check", int64(3)}},
		`requests | where timestamp between (datetime(2026-01-31T08:01:00Z) .. datetime(2026-01-31 08:07)) | count`:                                         {{int64(2)}},
		`requests | where name has "health" and name !has "heal" | count`:                                                                                   {{int64(1)}},
		`requests | where name contains "SCORE" and name startswith "post" and name !contains_cs "SCORE" | count`:                                           {{int64(3)}},
		`requests | where resultCode in ("424", "500") or name =~ "get /HEALTH-check" | count`:                                                              {{int64(2)}},
		`requests | where customDimensions.deployment == "green" and customDimensions["n"] == "7" | count`:                                                  {{int64(1)}},
		`requests | where customDimensions.n != "7" | count`:                                                                                                {{int64(3)}},
		`requests | where customDimensions.n == "7" | count`:                                                                                                {{int64(1)}},
		`requests | where customDimensions.n !in ("7") | count`:                                                                                             {{int64(3)}},
		`requests | where customDimensions.n !~ "7" | count`:                                                                                                {{int64(3)}},
		`requests | where not(customDimensions.n == "7") | count`:                                                                                           {{int64(3)}},
		`requests | where duration != 20 | count`:                                                                                                           {{int64(3)}},
		`requests | where customDimensions.n != customDimensions.other | count`:                                                                             {{int64(1)}},
		`requests | where customDimensions.n < "8" | count`:                                                                                                 {{int64(1)}},
		`requests | take 1 | project bin(datetime(2300-01-01), 1h), bin(datetime(1600-01-01), 1h), bin(datetime(2261-12-31T23:59:59Z), 1d)`:                 {{nil, nil, time.Date(2261, 12, 31, 0, 0, 0, 0, time.UTC)}},
		`requests | take 1 | project bin(5, 9223372036854775807), bin(-5, 9223372036854775807), bin(-9223372036854775807, 9223372036854775806), bin(-7, 5)`: {{int64(0), int64(-math.MaxInt64), nil, int64(-10)}},
		`requests | where customDimensions.list[1] == "b" | count`:                                                                                          {{int64(1)}},
		`requests | summarize count() by tostring(customDimensions.deployment) | order by count_ desc, customDimensions_deployment asc`:                     {{"blue", int64(2)}, {"green", int64(2)}},
		`requests | summarize n=count(), avg(duration), max(duration), sum(itemCount), dcount(resultCode) by bin(timestamp, 5m) | order by timestamp asc`: {
			{at(0), int64(2), 50.25, 90.0, int64(2), int64(2)}, {at(5), int64(2), 20.0, 20.0, int64(4), int64(1)}},
		`requests | summarize percentile(duration, 50), countif(resultCode == "200"), min(timestamp)`:                {{20.0, int64(3), at(0)}},
		`requests | top 2 by duration | project duration`:                                                            {{90.0}, {20.0}},
		`requests | sort by duration asc | take 2 | project duration`:                                                {{nil}, {10.5}},
		`requests | order by duration asc nulls last | limit 1 | project duration`:                                   {{10.5}},
		`requests | distinct resultCode`:                                                                             {{"200"}, {"424"}},
		`requests | extend slow = duration >= 20, code = toint(resultCode) + 1 | where slow | project code`:          {{int64(425)}, {int64(201)}},
		`requests | where isnull(duration) | extend d = iff(itemCount > 1, "many", "one") | project d, strlen(name)`: {{"many", int64(17)}},
		`requests | where name == "none" | summarize count(), sum(duration), avg(duration)`:                          {{int64(0), 0.0, nil}},
		`requests | where name == "none" | summarize count() by name`:                                                {},
		`requests | take 1 | project now() - timestamp, -itemCount, 7 / 2, 7 % 4 * 2`:                                {{10 * time.Minute, int64(-1), int64(3), int64(6)}},
		`requests | where resultCode == "200" or resultCode == "424" and duration < 1 | count`:                       {{int64(3)}},
		`requests | where (resultCode == "200" or resultCode == "424") and duration < 1 | count`:                     {{int64(0)}},
	} {
		got, err := run(t, text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if d := cmp.Diff(want, got.Rows); d != "" {
			t.Errorf("%s (-want +got):\n%s", text, d)
		}
	}
}

func TestColumns(t *testing.T) {
	got, err := run(t, `requests | summarize count(), avg(duration), percentile(duration, 95) by bin(timestamp, 1h), tostring(customDimensions.deployment)`)
	if err != nil {
		t.Fatal(err)
	}
	want := []kql.Column{{"timestamp", kql.Datetime}, {"customDimensions_deployment", kql.String}, {"count_", kql.Long}, {"avg_duration", kql.Real}, {"percentile_duration_95", kql.Real}}
	if d := cmp.Diff(want, got.Columns); d != "" {
		t.Error(d)
	}
}

func TestRefusals(t *testing.T) {
	for text, want := range map[string]string{
		``:                             "begins with the name of a table",
		`requests | render timechart`:  "operator 'render' is not known here",
		`requests | project-away name`: "operator 'project-away'",
		`requests | join kind=inner (traces) on name`:          "operator 'join'",
		`union requests, traces`:                               "'union requests' is not known here",
		`let x = 1; requests`:                                  "'let x' is not known",
		`requests | where name matches regex "a"`:              "operator 'matches' is not known",
		`requests | where strcat(name, "a") == "b"`:            "function 'strcat' is not known here",
		`requests | where colour == "red"`:                     "no column 'colour'",
		`requests | where duration == "red"`:                   "real and a string cannot be compared",
		`requests | where name = "red"`:                        "compared with '=='",
		`requests | where name == "red`:                        "not closed",
		`requests | where name`:                                "takes a condition",
		`requests | where name == "a" extra`:                   "where a '|' or the end",
		`requests | take many`:                                 "number of rows",
		`requests | summarize make_list(name)`:                 "aggregations",
		`requests | summarize count() by customDimensions.x`:   "grouped by a dynamic value",
		`requests | order by customDimensions.x`:               "ordered by a dynamic value",
		`requests | where count() > 1`:                         "is an aggregation",
		`requests | where timestamp > ago("x")`:                "takes a timespan",
		`requests | where timestamp > datetime(now)`:           "no datetime",
		`requests | project a = name, a = name`:                "two columns",
		`requests |`:                                           "where an operator is expected",
		`requests | where name has 5`:                          "compares strings",
		`requests | summarize percentile(duration, 200)`:       "from 0 to 100",
		`requests ? 1`:                                         "no meaning",
		`requests | where ` + strings.Repeat("(", 100):         "too deeply",
		`requests | where ` + strings.Repeat("-", 1000):        "too deeply",
		`requests | where 1 == 1` + strings.Repeat("+1", 1000): "too long",
		strings.Repeat("a", 40_000):                            "longer than",
		`requests | project ` + wide(201):                      "no more than 200 columns",
		`requests | extend ` + wide(200):                       "no more than 200 columns",
		`requests | distinct ` + wide(201):                     "no more than 200 columns",
	} {
		_, err := run(t, text)
		e, ok := errors.AsType[*kql.Error](err)
		if !ok || !strings.Contains(e.Error(), want) {
			t.Errorf("%.80s: %v, want %q", text, err, want)
		}
	}
}

func TestRowLimit(t *testing.T) {
	q, err := kql.Parse("requests | order by duration asc")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := q.Run(t.Context(), columns, rows(), at(10), kql.Limits{Rows: 3, Bytes: 1 << 20}); err == nil {
		t.Error("four rows were kept where three are the most")
	}
	e := errors.New("broken")
	if _, err := q.Run(t.Context(), columns, func(yield func([]any, error) bool) { yield(nil, e) }, at(10), kql.Limits{Rows: 3, Bytes: 1 << 20}); !errors.Is(err, e) {
		t.Errorf("got %v", err)
	}
	if got, want := kql.FormatSpan(26*time.Hour+1500*time.Millisecond), "1.02:00:01.5000000"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// wide are so many columns, each with the name again.
func wide(n int) string {
	var list []string
	for i := range n {
		list = append(list, fmt.Sprintf("c%d = toupper(name)", i))
	}
	return strings.Join(list, ", ")
}

// No query keeps more than its budget, whatever it keeps it in; and what it
// keeps no longer doesn't count.
func TestBudget(t *testing.T) {
	many := func(yield func([]any, error) bool) {
		for i := range 2000 {
			if !yield([]any{at(0), fmt.Sprintf("%04d", i) + strings.Repeat("x", 200), "200", float64(i), int64(i), map[string]string{"k": strings.Repeat("y", 200)}}, nil) {
				return
			}
		}
	}
	for text, fits := range map[string]bool{
		"requests":                       false,
		"requests | project " + wide(40): false,
		"requests | project name | order by name asc":                 false,
		"requests | project customDimensions":                         false,
		"requests | distinct name":                                    false,
		"requests | summarize count() by name":                        false,
		"requests | summarize dcount(name)":                           false,
		"requests | summarize min(timestamp), max(name) by itemCount": false,
		"requests | project " + wide(9) + " | top 900 by c1":          false,
		"requests | summarize percentile(duration, 50), percentile(duration, 51), percentile(duration, 52), percentile(duration, 53), percentile(duration, 54)": false,
		"requests | summarize percentile(duration, 50)": true,
		"requests | take 500":                           true,
		"requests | top 10 by name":                     true,
		"requests | project itemCount | order by itemCount desc | order by itemCount asc | where itemCount < 1000": true,
		"requests | summarize max(name), count(), sum(duration)":                                                   true,
		"requests | count": true,
	} {
		q, err := kql.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		bytes := 320 << 10
		if strings.Contains(text, "top 10 ") || strings.Contains(text, "take 500") {
			bytes = 1 << 20
		}
		_, err = q.Run(t.Context(), columns, many, at(10), kql.Limits{Rows: 5000, Bytes: bytes})
		if e, ok := errors.AsType[*kql.Error](err); fits && err != nil || !fits && (!ok || e.Code != kql.LimitError) {
			t.Errorf("%.80s: %v, fits %v", text, err, fits)
		}
	}
}

// A query ends with its context wherever it is: between rows, in an order, and
// while groups go on.
func TestRunEnds(t *testing.T) {
	for text, after := range map[string]int{
		"requests":                                      2,
		"requests | where name == 'none'":               2,
		"requests | order by name asc":                  4,
		"requests | summarize count() by name":          4,
		"requests | distinct name | order by name desc": 4,
	} {
		q, err := kql.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		_, err = q.Run(ctx, columns, func(yield func([]any, error) bool) {
			n := 0
			for row, err := range rows() {
				if n == after {
					cancel()
				}
				if n++; !yield(row, err) {
					return
				}
			}
			cancel()
		}, at(10), kql.Limits{Rows: 100, Bytes: 1 << 20})
		cancel()
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func FuzzRun(f *testing.F) {
	for _, s := range []string{
		`requests | where timestamp > ago(1h) and customDimensions.deployment == "blue" | summarize count(), avg(duration) by bin(timestamp, 5m) | order by timestamp desc`,
		`requests | top 3 by duration asc nulls last | extend x = iff(1 == 1, @"a""b", 'c\n') | distinct x`, `traces | where a !in~ (1, 2.5, 1.5h) | count`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		q, err := kql.Parse(text)
		if err == nil {
			_, err = q.Run(t.Context(), columns, rows(), at(10), kql.Limits{Rows: 100, Bytes: 1 << 20})
		}
		if _, ok := errors.AsType[*kql.Error](err); err != nil && !ok {
			t.Errorf("%q: %v", text, err)
		}
	})
}
