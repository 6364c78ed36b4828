package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"

	"lazurite.dev/internal/apierr"
)

// Long operations (Azure REST guidelines, "Long-running operations"): the
// answer names where to ask in Azure-AsyncOperation, Location or
// Operation-Location; else the resource's provisioningState tells.

// finish waits until the operation that first began has ended and gives the
// resource, or the action's result.
func (m *management) finish(ctx context.Context, method, path, version string, first *answer) (*answer, error) {
	where, async := first.header.Get("Azure-AsyncOperation"), true
	if where == "" {
		where = first.header.Get("Operation-Location")
	}
	if where == "" {
		where, async = first.header.Get("Location"), false
	}
	body, err := decode(first.body)
	if err != nil {
		body = nil
	}
	state := textAt(body, "properties", "provisioningState")
	pending := first.status == http.StatusAccepted || first.status == http.StatusCreated ||
		first.status == http.StatusOK && (async && first.header.Get("Azure-AsyncOperation") != "" || state != "" && !terminal(state))
	if !pending || where == "" && (state == "" || terminal(state)) {
		return first, stateError(state, body)
	}
	p := &progress{s: m.s}
	defer p.end()
	switch {
	case where == "":
		return m.pollState(ctx, path, version, first, p)
	case async:
		return m.pollOperation(ctx, method, path, version, where, first, p)
	default:
		return m.pollLocation(ctx, method, path, version, where, first, p)
	}
}

func terminal(state string) bool {
	switch strings.ToLower(state) {
	case "succeeded", "completed", "failed", "canceled", "cancelled":
		return true
	}
	return false
}

// stateError is the error of an operation that ended badly; v is the body
// that says so.
func stateError(state string, v any) error {
	switch strings.ToLower(state) {
	case "failed", "canceled", "cancelled":
	default:
		return nil
	}
	code, msg := textAt(v, "error", "code"), textAt(v, "error", "message")
	if len(items(at(v, "error", "details"))) > 0 {
		if raw, err := json.Marshal(at(v, "error")); err == nil {
			e := &remoteError{status: http.StatusOK}
			e.readODATA(raw)
			return e
		}
	}
	return &remoteError{status: http.StatusOK, err: apierr.Error{
		Kind:    apierr.Internal,
		Code:    firstNonEmpty(code, capital(state)),
		Message: firstNonEmpty(msg, "The operation ended as "+state+"."),
	}}
}

// poll asks where until done says that the answer is the last one.
func (m *management) poll(ctx context.Context, where, version string, first *answer, p *progress, done func(*answer, any) bool) (*answer, any, error) {
	delay := retryAfter(first, time.Second/4)
	for {
		p.tick()
		if err := pause(ctx, delay); err != nil {
			return nil, nil, err
		}
		a, err := m.do(ctx, http.MethodGet, where, version, nil)
		if err != nil {
			return nil, nil, err
		}
		v, err := decode(a.body)
		if err != nil {
			return nil, nil, err
		}
		p.see(v)
		if done(a, v) {
			return a, v, nil
		}
		delay = retryAfter(a, min(delay*2, 5*time.Second))
	}
}

func (m *management) pollOperation(ctx context.Context, method, path, version, where string, first *answer, p *progress) (*answer, error) {
	_, v, err := m.poll(ctx, where, "", first, p, func(_ *answer, v any) bool { return terminal(textAt(v, "status")) })
	if err != nil {
		return nil, err
	}
	if err := stateError(textAt(v, "status"), v); err != nil {
		return nil, err
	}
	switch method {
	case http.MethodPut, http.MethodPatch:
		return m.do(ctx, http.MethodGet, path, version, nil)
	case http.MethodPost:
		if l := first.header.Get("Location"); l != "" {
			return m.do(ctx, http.MethodGet, l, "", nil)
		}
	}
	return &answer{status: http.StatusOK, header: first.header}, nil
}

func (m *management) pollLocation(ctx context.Context, method, path, version, where string, first *answer, p *progress) (*answer, error) {
	a, _, err := m.poll(ctx, where, "", first, p, func(a *answer, _ any) bool { return a.status != http.StatusAccepted })
	if method == http.MethodDelete && isStatus(err, http.StatusNotFound) {
		return first, nil
	}
	if err != nil {
		return nil, err
	}
	if method == http.MethodPut || method == http.MethodPatch {
		return m.do(ctx, http.MethodGet, path, version, nil)
	}
	return a, nil
}

func (m *management) pollState(ctx context.Context, path, version string, first *answer, p *progress) (*answer, error) {
	a, v, err := m.poll(ctx, path, version, first, p, func(_ *answer, v any) bool {
		s := textAt(v, "properties", "provisioningState")
		return s == "" || terminal(s)
	})
	if err != nil {
		return nil, err
	}
	return a, stateError(textAt(v, "properties", "provisioningState"), v)
}

// progress turns a wheel on stderr while one waits, on a terminal only. Where
// the operation says its phases, those that are done are lines above it.
type progress struct {
	s    *session
	n    int
	done map[string]bool // phases that have been shown
	now  string          // what is going on
}

func (p *progress) silent() bool {
	return p.s.quiet || p.s.debug || !p.s.env.IsTerminal(p.s.env.Stderr)
}

func (p *progress) tick() {
	if p.silent() {
		return
	}
	fmt.Fprintf(p.s.env.Stderr, "\r\x1b[K %c %s ..", `|/-\`[p.n%4], firstNonEmpty(p.now, "Running"))
	p.n++
}

// see reads an operation's status.
func (p *progress) see(v any) {
	phases := items(at(v, "properties", "phases"))
	if len(phases) == 0 || p.silent() {
		return
	}
	if p.done == nil {
		p.done = map[string]bool{}
	}
	var now []string
	for _, ph := range phases {
		name := printable(textAt(ph, "name"))
		switch {
		case at(ph, "done") != true:
			if d := printable(textAt(ph, "detail")); d != "" {
				name += " (" + d + ")"
			}
			now = append(now, name)
		case !p.done[name]:
			p.done[name] = true
			fmt.Fprintf(p.s.env.Stderr, "\r\x1b[K   %-40s %6.1f s%s\n", name, seconds(at(ph, "took")), prefixed(": ", printable(textAt(ph, "error"))))
			p.n = max(p.n, 1)
		}
	}
	p.now = strings.Join(now, ", ")
	if len(p.now) > 60 {
		p.now = p.now[:60] + "…"
	}
	if percent := at(v, "percentComplete"); percent != nil && p.now != "" {
		p.now = fmt.Sprintf("%v %% %s", percent, p.now)
	}
}

// printable is s without what would move a terminal's cursor.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
}

// seconds reads nanoseconds.
func seconds(v any) float64 {
	n, err := strconv.ParseFloat(fmt.Sprint(v), 64)
	if err != nil {
		return 0
	}
	return n / 1e9
}

func prefixed(prefix, s string) string {
	if s == "" {
		return ""
	}
	return prefix + s
}

func (p *progress) end() {
	if p.n > 0 {
		fmt.Fprint(p.s.env.Stderr, "\r\x1b[K")
	}
}
