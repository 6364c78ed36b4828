package telemetry

import (
	"bytes"
	"encoding/json"

	"lazurite.dev/internal/kql"
)

const (
	mostKept   = 64 << 20 // bytes that one query keeps at once, about
	mostAnswer = 32 << 20 // bytes of one answer
)

// answering writes the parts of an answer until they are too much.
type answering struct{ left int }

func (a *answering) part(v any) (json.RawMessage, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	if a.left -= b.Len(); a.left < 0 {
		return nil, bad(kql.LimitError, "The answer has more than %d MiB. Ask for less: a shorter timespan, fewer properties or rows, summarize.", mostAnswer>>20)
	}
	return bytes.Clone(b.Bytes()), nil
}

// answer is a result as the API shows it.
func answer(t *kql.Table) (any, error) {
	rows, a := make([]json.RawMessage, len(t.Rows)), answering{mostAnswer}
	for i, row := range t.Rows {
		cells := make([]any, len(row))
		for k, v := range row {
			cells[k] = cell(v, t.Columns[k].Type)
		}
		var err error
		if rows[i], err = a.part(cells); err != nil {
			return nil, err
		}
		t.Rows[i] = nil
	}
	return map[string]any{"tables": []any{struct {
		Name    string            `json:"name"`
		Columns []kql.Column      `json:"columns"`
		Rows    []json.RawMessage `json:"rows"`
	}{"PrimaryResult", t.Columns, rows}}}, nil
}

// cell is a value of a row: a dynamic one is JSON in a string.
func cell(v any, typ string) any {
	if v == nil {
		return nil
	}
	if typ == kql.Dynamic {
		if s, ok := v.(string); ok {
			return s
		}
		b, err := json.Marshal(v)
		if err != nil {
			return nil
		}
		return string(b)
	}
	return kql.JSON(v)
}

// size is about how many bytes a record needs.
func (r *record) size() int {
	n := 400 + len(r.ID) + len(r.Operation) + len(r.Name) + len(r.URL) + len(r.Code) + len(r.Message) + len(r.Role) + len(r.Instance)
	for k, v := range r.Dimensions {
		n += 48 + len(k) + len(v)
	}
	return n
}
