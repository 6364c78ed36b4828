package environment

import (
	"context"
	"fmt"
	"strings"
)

// Catalogue knows the images at hand.
type Catalogue struct {
	rows     []Row
	warn     bool
	archives []string
}

// New is a catalogue of what c says; c must be valid.
func New(c Config) *Catalogue {
	return &Catalogue{rows: append(append([]Row{}, c.Images...), defaultRows()...), warn: c.Mismatch == MismatchWarn, archives: c.Archives}
}

// Resolve finds the image for e. Its error is a *BuildError where there is
// none, or where the image is too different; anything else is a fault here.
func (c *Catalogue) Resolve(ctx context.Context, e Environment) (Resolved, error) {
	var log strings.Builder
	asked := e.Image
	if asked == "" {
		asked = e.Curated
	}
	_, _ = fmt.Fprintf(&log, "Environment %s: %s\n", e.Name, asked)
	r := Resolved{Image: asked, Routes: ServerRoutes()}
	if e.Inference != nil {
		r.Routes = *e.Inference
	}
	for _, row := range c.rows {
		if match(row.Match, asked) {
			r.Image = row.Image
			break
		}
	}
	r.Log = log.String()
	return r, ctx.Err()
}
