package vaultdata

import (
	"net/http"
	"regexp"
	"slices"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/gate"
)

// Versions are the api-versions of the data plane that are known, newest first.
func Versions() []string {
	return []string{
		"2026-04-01", "2026-03-01-preview", "2026-01-01-preview", "2025-07-01", "2025-06-01-preview", "7.6", "7.6-preview.2", "7.6-preview.1",
		"7.5", "7.5-preview.1", "7.4", "7.4-preview.1", "7.3", "7.3-preview", "7.2", "7.2-preview", "7.1", "7.1-preview", "7.0", "7.0-preview",
	}
}

var dated = regexp.MustCompile(`^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])(-preview(\.\d{1,3})?)?$`)

// askedVersion is the api-version of a request; the name may be percent-encoded
// and in any letter case.
func askedVersion(r *http.Request) string {
	q := r.URL.Query()
	if v := q.Get("api-version"); v != "" {
		return v
	}
	for k, v := range q {
		if strings.EqualFold(k, "api-version") && len(v) > 0 {
			return v[0]
		}
	}
	return ""
}

// version checks the api-version: a known one is served as itself, a date newer
// than the newest as the newest, everything else is refused with the list.
func (p *plane) version(c *gate.Call) error {
	asked, known := askedVersion(c.Request), Versions()
	if asked == "" {
		return apierr.New(apierr.BadRequest, "BadParameter", "The api-version query parameter is required. Supported are %s.", strings.Join(known, ", "))
	}
	if i := slices.IndexFunc(known, func(k string) bool { return strings.EqualFold(k, asked) }); i >= 0 {
		c.APIVersion = known[i]
		return nil
	}
	if dated.MatchString(asked) && asked[:10] > known[0][:10] {
		c.APIVersion = known[0]
		return nil
	}
	return apierr.New(apierr.BadRequest, "BadParameter", "The specified version (%s) is not recognized. Consider using the latest supported version (%s). Supported are %s.", clip(asked), known[0], strings.Join(known, ", "))
}

// modern reports whether the answer may have what came with dated versions.
func modern(c *gate.Call) bool { return strings.HasPrefix(c.APIVersion, "20") }
