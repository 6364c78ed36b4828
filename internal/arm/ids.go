package arm

import (
	"net/http"
	"net/url"
	"strings"
)

// canonicalID is the id that a resource shows: the fixed words and the type as
// documented, its parents as they were made, its own name as it was first written.
func canonicalID(c *call) string {
	if c.old != nil {
		return c.old.ID
	}
	id := c.id
	if id.Namespace() == "" {
		b := "/subscriptions/" + id.Subscription()
		if id.ResourceGroup() != "" {
			b += "/resourceGroups/" + id.ResourceGroup()
		}
		return b
	}
	ns, types, _ := strings.Cut(c.route.Type, "/")
	words := strings.Split(types, "/")
	if c.parent != nil && len(words) > 1 {
		return c.parent.ID + "/" + words[len(words)-1] + "/" + id.Name()
	}
	b := ""
	if c.parent != nil {
		b = c.parent.ID
	} else if s := id.Scope(); !s.IsRoot() {
		b = s.String()
	}
	b += "/providers/" + ns
	for i, w := range words {
		b += "/" + w + "/" + id.Names()[i]
	}
	return b
}

// subscriptionOf is the subscription that a path begins with, in lower case.
func subscriptionOf(path string) string {
	parts := strings.SplitN(strings.ToLower(path), "/", 4)
	if len(parts) < 3 || parts[1] != "subscriptions" {
		return ""
	}
	return parts[2]
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
