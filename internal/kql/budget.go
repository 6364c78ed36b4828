package kql

import (
	"context"
	"fmt"
)

// Limits bound what one run keeps at once.
type Limits struct {
	Rows  int // of one step
	Bytes int // of all steps together, about
}

// mostColumns is how many columns a step may give.
const mostColumns = 200

// budget is what a run may still keep.
type budget struct {
	Limits
	ctx  context.Context // of the run
	left int             // bytes
}

// over is why the run has to end.
func (b *budget) over() error { return b.ctx.Err() }

// keep takes bytes, or gives them back where they are fewer than none.
func (b *budget) keep(bytes int) error {
	if b.left -= bytes; b.left < 0 {
		return &Error{Code: LimitError, Message: fmt.Sprintf("The query keeps more than %d MiB at once. Ask for less: a shorter timespan, where, take, fewer columns, summarize.", b.Bytes>>20)}
	}
	return nil
}

// room refuses one row more than may be.
func (b *budget) room(rows int) error {
	if rows < b.Rows {
		return nil
	}
	return &Error{Code: LimitError, Message: fmt.Sprintf("The query needs more than %d rows at once. Ask for less: a shorter timespan, where, take, summarize.", b.Rows)}
}

// sizeOf is about how many bytes values need.
func sizeOf(row []any) int {
	n := 24
	for _, v := range row {
		n += size(v)
	}
	return n
}

func size(v any) int {
	n := 16 // what points to it
	switch x := v.(type) {
	case nil, bool:
	case string:
		n += 16 + len(x)
	case map[string]string:
		for k, s := range x {
			n += 48 + len(k) + len(s)
		}
	case map[string]any:
		for k, one := range x {
			n += 48 + len(k) + size(one)
		}
	case []any:
		n += sizeOf(x)
	default: // a number, a time
		n += 24
	}
	return n
}
