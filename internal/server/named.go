package server

import (
	"strings"

	"lazurite.dev/internal/directory"
	"lazurite.dev/internal/trace"
	"lazurite.dev/internal/trace/refusals"
)

// named records refusals with the names that people know principals by: the
// token of a managed identity or an application names it by an id alone.
type named struct {
	*refusals.Recorder
	dir *directory.Directory
}

func (s *system) recorder() named { return named{s.refusals, s.dir} }

// Record takes a refusal.
func (n named) Record(t trace.Trace) {
	if p, err := n.dir.Principal(t.Principal); err == nil && p.DisplayName != "" && p.AppID != "" && strings.HasPrefix(t.Who, p.AppID+" ") {
		t.By(p.DisplayName, t.Principal)
	}
	n.Recorder.Record(t)
}
