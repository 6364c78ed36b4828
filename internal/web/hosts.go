package web

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"lazurite.dev/internal/apierr"
)

// Match is how a request's host name found its surface.
type Match struct {
	Host    string // lower case, without the port
	Label   string // what the pattern's star stands for: the vault's name; "" for an exact name
	Pattern string // the pattern that fitted
	Surface *Surface
}

// MatchFrom is the match of ctx's request, the zero one when it came without a host.
func MatchFrom(ctx context.Context) Match {
	m, _ := ctx.Value(matchKey).(Match)
	return m
}

func withEvent(ctx context.Context, ev *Event) context.Context {
	return context.WithValue(ctx, eventKey, ev)
}

// Hosts says which names are owned, and by which surface. Fill it before use;
// afterwards it may be read at the same time.
type Hosts struct {
	exact map[string]*Surface
	one   map[string]*Surface // by the part after "*."
	many  map[string]*Surface // by the part after "**."
}

// Add gives pattern to s: a name; "*.SUFFIX", any one label before SUFFIX; or
// "**.SUFFIX", one label or more. An exact name goes before a star, one star
// before two, a longer suffix before a shorter. It fails for a pattern that is
// malformed or taken.
func (h *Hosts) Add(pattern string, s *Surface) error {
	if h.exact == nil {
		h.exact, h.one, h.many = map[string]*Surface{}, map[string]*Surface{}, map[string]*Surface{}
	}
	m, name := h.exact, strings.ToLower(pattern)
	if rest, ok := strings.CutPrefix(name, "**."); ok {
		m, name = h.many, rest
	} else if rest, ok := strings.CutPrefix(name, "*."); ok {
		m, name = h.one, rest
	}
	if name == "" || strings.ContainsAny(name, "*:/ ") || strings.HasPrefix(name, ".") {
		return fmt.Errorf("host pattern %q is malformed", pattern)
	}
	if m[name] != nil {
		return fmt.Errorf("host pattern %q belongs to the surface %q already", pattern, m[name].Name)
	}
	m[name] = s
	return nil
}

// Find gives the surface of host, which may carry a port, and whether the name
// is owned at all.
func (h *Hosts) Find(host string) (Match, bool) {
	name := bareHost(host)
	if !isHostName(name) {
		return Match{}, false
	}
	if s := h.exact[name]; s != nil {
		return Match{Host: name, Pattern: name, Surface: s}, true
	}
	for i, stars := 0, 0; ; stars++ {
		dot := strings.IndexByte(name[i:], '.')
		if dot < 0 {
			return Match{}, false
		}
		i += dot + 1
		suffix := name[i:]
		if s := h.one[suffix]; s != nil && stars == 0 {
			return Match{Host: name, Label: name[:i-1], Pattern: "*." + suffix, Surface: s}, true
		}
		if s := h.many[suffix]; s != nil {
			return Match{Host: name, Label: name[:i-1], Pattern: "**." + suffix, Surface: s}, true
		}
	}
}

// Owns reports whether host, which may carry a port, is owned.
func (h *Hosts) Owns(host string) bool {
	_, ok := h.Find(host)
	return ok
}

// bareHost is host in lower case without port and trailing dot.
func bareHost(host string) string {
	if i := strings.LastIndexByte(host, ':'); i >= 0 {
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// isHostName accepts letters, digits, hyphens and underscores in labels of up
// to 63 bytes, 253 in all (RFC 1123 section 2.1, RFC 2181 section 11).
func isHostName(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	label := 0
	for i := range len(s) {
		switch c := s[i]; {
		case c == '.':
			if label == 0 {
				return false
			}
			label = 0
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_':
			if label++; label > 63 {
				return false
			}
		default:
			return false
		}
	}
	return label > 0
}

// Handler routes by host. other answers requests whose host is not owned;
// with nil they get a plain 404.
func (f *Front) Handler(h *Hosts, other *Surface) http.Handler { return f.route(h, other, 0) }

// NewServer is a server of Handler with NewServer's limits. It limits the time
// of most surfaces' requests itself: cheaper than to ask it to for each.
func (f *Front) NewServer(h *Hosts, other *Surface) *http.Server {
	srv := NewServer(f.route(h, other, defaultTimeout), f.log)
	srv.ReadTimeout, srv.WriteTimeout = defaultTimeout, defaultTimeout
	return srv
}

func (f *Front) route(h *Hosts, other *Surface, limited time.Duration) http.Handler {
	if other == nil {
		other = &Surface{Name: "none"}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		makeRoom(len(r.Host))
		m, ok := h.Find(r.Host)
		if r.TLS != nil && r.TLS.ServerName != "" && !strings.EqualFold(r.TLS.ServerName, r.Host) &&
			bareHost(r.TLS.ServerName) != bareHost(r.Host) && (ok || h.Owns(r.TLS.ServerName)) {
			f.serve(misdirected(r), w, r, limited)
			return
		}
		if !ok {
			f.serve(other, w, r, limited)
			return
		}
		f.serve(m.Surface, w, r.WithContext(context.WithValue(r.Context(), matchKey, m)), limited)
	})
}

// misdirected answers a request whose Host is not the name that the client
// opened the connection for (RFC 9110 section 15.5.20).
func misdirected(r *http.Request) *Surface {
	e := apierr.New(apierr.BadRequest, "MisdirectedRequest",
		"The request is for %q, but its connection was opened for %q. Open another connection.", r.Host, r.TLS.ServerName)
	return &Surface{Name: "none", Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		EventFrom(r.Context()).Fail(e)
		WriteJSON(w, http.StatusMisdirectedRequest, errorBody(e))
	})}
}
