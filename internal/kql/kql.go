// Package kql runs a small part of the Kusto query language over one table:
// where, extend, project, summarize, distinct, order, top, take and count.
// What it doesn't know it refuses by name, so that no query means less than it
// says.
//
// Source: Azure Monitor, "Kusto Query Language overview" and the reference of
// each operator, function and aggregation.
package kql

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"
)

// The types of columns.
const (
	String   = "string"
	Long     = "long"
	Real     = "real"
	Bool     = "bool"
	Datetime = "datetime"
	Timespan = "timespan"
	Dynamic  = "dynamic"
)

// The codes of errors.
const (
	SyntaxError   = "SyntaxError"   // the text is no query
	SemanticError = "SemanticError" // it is one, but not over this table
	LimitError    = "QueryLimit"    // it needs more at once than it may have
)

const (
	maxLength = 32 << 10
	maxDepth  = 48
	maxSteps  = 64
)

// Error says what is wrong with a query.
type Error struct {
	Code    string
	Message string
	Line    int // from 1; 0 where no place is meant
	Column  int
}

// Error implements error.
func (e *Error) Error() string {
	if e.Line == 0 {
		return e.Message
	}
	return fmt.Sprintf("%s [line %d, position %d]", e.Message, e.Line, e.Column)
}

// Column is a column of a table.
type Column struct {
	Name string `json:"name"`
	Type string `json:"type"`
}

// Table is what a query gives. Values are nil, string, int64, float64, bool,
// time.Time, time.Duration, or of a dynamic column what JSON has.
type Table struct {
	Columns []Column
	Rows    [][]any
}

// Query is a parsed query.
type Query struct {
	text  string
	table token
	steps []step
}

// step is one operator after a pipe.
type step struct {
	name token
	op   string
	exps []named   // of where (one), project, extend, distinct, by
	aggs []named   // of summarize
	keys []sortKey // of order and top
	n    int       // of take and top
}

type named struct {
	name string // "" is by itself
	at   token
	e    expr
}

type sortKey struct {
	e     expr
	asc   bool
	nulls string // "first", "last"; "" is the default of the direction
}

// operators are those that are known, as errors name them.
const operators = "where, extend, project, summarize, distinct, order by, sort by, top, take, limit, count"

// Parse reads a query. Its errors are of type *Error.
func Parse(text string) (*Query, error) {
	if len(text) > maxLength {
		return nil, &Error{Code: SyntaxError, Message: fmt.Sprintf("The query is longer than %d bytes.", maxLength)}
	}
	toks, err := lex(text)
	if err != nil {
		return nil, err
	}
	p := &parser{text: text, toks: toks}
	return p.query()
}

// Table is the name of the table that the query begins with.
func (q *Query) Table() string { return q.table.text }

// Run gives the query's result over rows, which have the columns, at the time
// now. A query that needs more than the limits at once is a LimitError. Errors
// are of type *Error, those of rows, or ctx's, whose end the query looks at in
// all that it does.
func (q *Query) Run(ctx context.Context, columns []Column, rows iter.Seq2[[]any, error], now time.Time, limits Limits) (*Table, error) {
	b := &budget{limits, ctx, limits.Bytes}
	out := &collect{b: b}
	first, cols, err := q.compile(columns, out, now, b)
	if err != nil {
		return nil, err
	}
	for row, err := range rows {
		if err != nil {
			return nil, err
		}
		if err := b.over(); err != nil {
			return nil, err
		}
		more, err := first.push(row)
		if err != nil {
			return nil, err
		}
		if !more {
			break
		}
	}
	if err := first.end(); err != nil {
		return nil, err
	}
	t := &Table{Columns: cols, Rows: out.rows}
	if t.Rows == nil {
		t.Rows = [][]any{}
	}
	return t, nil
}

// compile chains the stages of the steps, the last of which is out.
func (q *Query) compile(columns []Column, out stage, now time.Time, b *budget) (stage, []Column, error) {
	type made struct {
		make func(next stage) stage
	}
	var all []made
	cols := columns
	for _, s := range q.steps {
		c := &compiler{text: q.text, cols: cols, now: now, b: b}
		mk, next, err := c.step(s)
		if err != nil {
			return nil, nil, err
		}
		if len(next) > mostColumns {
			return nil, nil, c.fail(s.name, "A step gives no more than %d columns, and this one %d.", mostColumns, len(next))
		}
		all, cols = append(all, made{mk}), next
	}
	for _, m := range slices.Backward(all) {
		out = m.make(out)
	}
	return out, cols, nil
}

// place is the line and the position in it of an offset.
func place(text string, at int) (line, column int) {
	before := text[:min(at, len(text))]
	return 1 + strings.Count(before, "\n"), 1 + len(before) - (strings.LastIndexByte(before, '\n') + 1)
}

func fail(text string, at int, code, format string, args ...any) *Error {
	line, col := place(text, at)
	return &Error{Code: code, Message: fmt.Sprintf(format, args...), Line: line, Column: col}
}
