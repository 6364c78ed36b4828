package telemetry

import (
	"strings"
	"testing"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/kql"
)

// What a query keeps may be larger as JSON: the answer has a bound of its own.
func TestAnswersAreBounded(t *testing.T) {
	text := strings.Repeat("\x01", 1<<20) // six bytes each as JSON
	table := func(rows int) *kql.Table {
		out := &kql.Table{Columns: []kql.Column{{Name: "message", Type: kql.String}}}
		for range rows {
			out.Rows = append(out.Rows, []any{text})
		}
		return out
	}
	if _, err := answer(table(5)); err != nil {
		t.Error(err)
	}
	if _, err := answer(table(6)); apierr.From(err).Kind != apierr.BadRequest || apierr.From(err).Inner != kql.LimitError {
		t.Errorf("got %v", err)
	}
}
