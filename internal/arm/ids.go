package arm

import (
	"net/http"
	"net/url"
	"strings"

	"lazurite.dev/internal/rid"
)

// canonicalID is the id that a new resource shows: fixed words and type as
// documented, names as the client wrote them.
func canonicalID(id rid.ID, rt *Route, old *Envelope) string {
	if old != nil {
		return old.ID
	}
	var b strings.Builder
	if id.Namespace() == "" {
		b.WriteString("/subscriptions/" + id.Subscription())
		if id.ResourceGroup() != "" {
			b.WriteString("/resourceGroups/" + id.ResourceGroup())
		}
		return b.String()
	}
	if s := id.Scope(); !s.IsRoot() {
		b.WriteString(canonicalScope(s))
	}
	ns, types, _ := strings.Cut(rt.Type, "/")
	b.WriteString("/providers/" + ns)
	for i, t := range strings.Split(types, "/") {
		b.WriteString("/" + t + "/" + id.Names()[i])
	}
	return b.String()
}

// canonicalScope fixes the words of a plain scope; one that is itself a
// resource stays as written.
func canonicalScope(s rid.ID) string {
	if s.Namespace() != "" {
		return s.String()
	}
	return canonicalID(s, nil, nil)
}

// authorizationURI is where a client gets a token, from the request's own
// family of names.
func authorizationURI(r *http.Request) string {
	host := "login.microsoftonline.com"
	if h, ok := strings.CutPrefix(hostOnly(r.Host), "management."); ok && h != "azure.com" {
		host = "login." + h
	}
	return (&url.URL{Scheme: "https", Host: host, Path: "/organizations"}).String()
}

func hostOnly(h string) string {
	if i := strings.LastIndexByte(h, ':'); i >= 0 {
		return h[:i]
	}
	return h
}
