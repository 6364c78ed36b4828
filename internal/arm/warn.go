package arm

import (
	"context"
	"net/http"
	"strings"
)

// WarningHeader carries what a client should tell its user beside an answer
// that is a success. There may be several.
const WarningHeader = "x-laz-warning"

// maxWarning is the longest warning, in bytes.
const maxWarning = 1000

// Warn adds a warning to the answer to the request that ctx is of, in one
// line. Outside of a request it does nothing.
func Warn(ctx context.Context, text string) {
	h, ok := ctx.Value(headerKey).(http.Header)
	if !ok {
		return
	}
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return ' '
		}
		return r
	}, text)
	h.Add(WarningHeader, text[:min(len(text), maxWarning)])
}
