package storage

import (
	"crypto/hmac"
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

func equal(a, b []byte) bool { return hmac.Equal(a, b) }

// KeyOf says which of the account's keys signed a request: "key1" or "key2", ""
// for neither. ok is false where the header names another account or is
// malformed. header is the Authorization's part after "SharedKey ". Source:
// "Authorize with Shared Key", blob service, 2009-09-19 and later.
func (a *Account) KeyOf(r *http.Request, header string) (key string, ok bool) {
	name, sig, found := strings.Cut(strings.TrimSpace(header), ":")
	if !found || !strings.EqualFold(name, a.Name) {
		return "", false
	}
	raw, err := base64.StdEncoding.DecodeString(sig)
	if err != nil || len(raw) != 32 {
		return "", false
	}
	for n, list := range r.URL.Query() { // it would be more lines of what is signed
		if strings.ContainsAny(n+strings.Join(list, ""), "\n\r") {
			return "", false
		}
	}
	for _, byCulture := range []bool{false, true} { // clients differ in how they sort
		if k := a.Signed(sharedKeyText(r, name, byCulture), raw); k != "" {
			return k, true
		}
	}
	return "", true
}

// sharedKeyText is the string that is signed.
func sharedKeyText(r *http.Request, account string, byCulture bool) string {
	h := r.Header
	length := ""
	if r.ContentLength > 0 {
		length = strconv.FormatInt(r.ContentLength, 10)
	}
	date := h.Get("Date")
	if h.Get("x-ms-date") != "" {
		date = ""
	}
	return strings.Join([]string{
		r.Method, h.Get("Content-Encoding"), h.Get("Content-Language"), length, h.Get("Content-MD5"), h.Get("Content-Type"), date,
		h.Get("If-Modified-Since"), h.Get("If-Match"), h.Get("If-None-Match"), h.Get("If-Unmodified-Since"), h.Get("Range"), "",
	}, "\n") + canonicalHeaders(h, byCulture) + canonicalResource(r.URL, account)
}

func canonicalHeaders(h http.Header, byCulture bool) string {
	type one struct{ name, order string }
	var list []one
	for k := range h {
		n := strings.ToLower(k)
		if !strings.HasPrefix(n, "x-ms-") {
			continue
		}
		order := n
		if byCulture { // dashes count for nothing, and underscores come first
			order = strings.ReplaceAll(strings.ReplaceAll(n, "-", ""), "_", "!")
		}
		list = append(list, one{n, order})
	}
	slices.SortFunc(list, func(a, b one) int { return strings.Compare(a.order, b.order) })
	var b strings.Builder
	for _, o := range list {
		b.WriteString(o.name + ":" + strings.TrimSpace(strings.Join(h[http.CanonicalHeaderKey(o.name)], ",")) + "\n")
	}
	return b.String()
}

func canonicalResource(u *url.URL, account string) string {
	path := u.EscapedPath()
	if path == "" {
		path = "/"
	}
	values := map[string][]string{}
	var names []string
	for k, v := range u.Query() {
		n := strings.ToLower(k)
		if _, ok := values[n]; !ok {
			names = append(names, n)
		}
		values[n] = append(values[n], v...)
	}
	slices.Sort(names)
	var b strings.Builder
	b.WriteString("/" + account + path)
	for _, n := range names {
		slices.Sort(values[n])
		b.WriteString("\n" + n + ":" + strings.Join(values[n], ","))
	}
	return b.String()
}
