package trace_test

import (
	"context"
	"strings"
	"testing"

	"lazurite.dev/internal/trace"
)

func TestAdd_WithoutALogIsHarmless(t *testing.T) {
	ctx := context.Background()
	trace.Add(ctx, trace.Hop{Step: "role"})
	if got := trace.From(ctx).Hops(); got != nil {
		t.Errorf("hops = %v, want none", got)
	}
}

func TestAdd_KeepsOrderAndLimit(t *testing.T) {
	ctx, log := trace.With(context.Background())
	for range 100 {
		trace.Add(ctx, trace.Hop{Step: "issuer", OK: true})
	}
	if got := log.Hops(); len(got) != 64 || got[0].Step != "issuer" {
		t.Errorf("%d hops, want 64", len(got))
	}
	if trace.From(ctx) != log {
		t.Error("From gives another log")
	}
}

func TestTrimmed_CutsWhatCallersSent(t *testing.T) {
	got := trace.Trace{Who: strings.Repeat("ü", 2000), Hops: []trace.Hop{{Received: "\xff"}}}.Trimmed()
	if len(got.Who) > 1024 || !strings.HasSuffix(got.Who, "ü…") || got.Hops[0].Received != "�" {
		t.Errorf("got %d bytes, %q", len(got.Who), got.Hops[0].Received)
	}
}

func BenchmarkAdd_NobodyAsked(b *testing.B) {
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		trace.Add(ctx, trace.Hop{Step: "role", OK: true})
	}
}
