package insights_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/providers/insights"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store/sqlstore"
	"lazurite.dev/internal/token"
)

const sub = "11111111-1111-1111-1111-111111111111"

func setup(t *testing.T) (l *insights.Log, list func(query string) (map[string]any, error)) {
	t.Helper()
	s, err := sqlstore.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "db"))
	if err != nil {
		t.Fatal(err)
	}
	l = insights.New(s, slog.New(slog.DiscardHandler), records{})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-done
		s.Close()
	})
	ep := l.Provider().Endpoints[0]
	return l, func(query string) (map[string]any, error) {
		r := httptest.NewRequest(http.MethodGet, "/subscriptions/"+sub+"/x?"+query, nil)
		res, err := ep.Handle(t.Context(), &arm.Request{HTTP: r, Params: map[string]string{"subscriptionId": sub}, BaseURL: "https://h"})
		if err != nil {
			return nil, err
		}
		b, err := json.Marshal(res.Body)
		if err != nil {
			return nil, err
		}
		m := map[string]any{}
		return m, json.Unmarshal(b, &m)
	}
}

func event(n int, group string, status int) arm.Event {
	return arm.Event{
		Time: time.Date(2026, 1, 1, 0, 0, n, 0, time.UTC), Caller: &token.Claims{UPN: "a@b", ObjectID: "o"}, Correlation: "c", Action: "M.T/x/write",
		Scope: rid.MustParse("/subscriptions/" + sub + "/resourceGroups/" + group), Status: status, Method: "PUT",
	}
}

func TestList_NewestFirstFilteredAndPaged(t *testing.T) {
	l, list := setup(t)
	for i := range 250 {
		l.Record(t.Context(), event(i, map[bool]string{true: "a", false: "b"}[i == 7], 200))
	}
	since := "$filter=" + url.QueryEscape("eventTimestamp ge '2026-01-01T00:00:00Z'")
	got, err := list(since)
	if err != nil {
		t.Fatal(err)
	}
	page := got["value"].([]any)
	if len(page) != 200 || page[0].(map[string]any)["eventTimestamp"] != "2026-01-01T00:04:09Z" {
		t.Fatalf("first page: %d, %v", len(page), page[0])
	}
	next, err := url.Parse(got["nextLink"].(string))
	if err != nil {
		t.Fatal(err)
	}
	if got, err = list(next.RawQuery); err != nil || len(got["value"].([]any)) != 50 || got["nextLink"] != nil {
		t.Fatalf("second page: %v %v", len(got["value"].([]any)), err)
	}
	got, err = list("$filter=" + url.QueryEscape("eventTimestamp ge '2026-01-01' and resourceGroupName eq 'A'") + "&$select=caller,status")
	if err != nil || len(got["value"].([]any)) != 1 || len(got["value"].([]any)[0].(map[string]any)) != 2 {
		t.Fatalf("filtered: %v %v", got, err)
	}
}

func TestList_RefusesBadFilters(t *testing.T) {
	_, list := setup(t)
	for _, f := range []string{"", "resourceGroupName eq 'a'", "eventTimestamp ge 'yesterday'", "eventTimestamp ge '2026-01-01' and secret eq 'x'", "eventTimestamp"} {
		if _, err := list("$filter=" + url.QueryEscape(f)); err == nil || !strings.Contains(err.Error(), "BadRequest") {
			t.Errorf("%q: %v", f, err)
		}
	}
	if _, err := list("$skipToken=eHg&$filter=" + url.QueryEscape("eventTimestamp ge '2026-01-01'")); err == nil {
		t.Error("a foreign skip token was taken")
	}
}

func TestRecord_WhoMayNothingCannotFillTheDatabase(t *testing.T) {
	l, list := setup(t)
	for range 1000 {
		l.Record(t.Context(), event(0, "refused", 403))
	}
	l.Record(t.Context(), event(0, "done", 200))
	for group, most := range map[string]int{"refused": 300, "done": 1} {
		got, err := list("$filter=" + url.QueryEscape("eventTimestamp ge '2026-01-01' and resourceGroupName eq '"+group+"'"))
		if err != nil {
			t.Fatal(err)
		}
		n := len(got["value"].([]any))
		if got["nextLink"] != nil {
			next, err := url.Parse(got["nextLink"].(string))
			if err != nil {
				t.Fatal(err)
			}
			if got, err = list(next.RawQuery); err != nil {
				t.Fatal(err)
			}
			n += len(got["value"].([]any))
		}
		if n != most {
			t.Errorf("%s: %d events are kept, want %d", group, n, most)
		}
	}
}
