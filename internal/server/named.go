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

// Record takes a refusal; Who is "NAME (OBJECT ID)".
func (n named) Record(t trace.Trace) {
	name, oid, ok := strings.Cut(strings.TrimSuffix(t.Who, ")"), " (")
	if p, err := n.dir.Principal(oid); ok && err == nil && strings.EqualFold(name, p.AppID) && p.DisplayName != "" {
		t.Who = p.DisplayName + " (" + oid + ")"
	}
	n.Recorder.Record(t)
}
