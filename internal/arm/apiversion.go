package arm

import (
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"lazurite.dev/internal/apierr"
)

var versionShape = regexp.MustCompile(`^\d{4}-\d{2}-\d{2}(-[a-zA-Z0-9.-]{1,40})?$`)

// NewerVersionHeader tells a client that its api-version is newer than any
// that this program knows, and which one it was served.
const NewerVersionHeader = "x-laz-served-api-version"

// apiVersion reads the query's api-version and says which known one serves
// it. A version newer than the newest known is served as the newest; newer
// reports that. known is newest first.
func apiVersion(q url.Values, typ string, known []string) (served string, newer bool, err error) {
	v := queryFold(q, "api-version")
	if v == "" {
		return "", false, apierr.New(apierr.BadRequest, "MissingApiVersionParameter",
			"The api-version query parameter (?api-version=) is required for all requests.")
	}
	if !versionShape.MatchString(v) || !realDate(v[:10]) {
		return "", false, apierr.New(apierr.BadRequest, "InvalidApiVersionParameter",
			"The api-version '%s' is invalid. The supported versions are '%s'.", v, strings.Join(known, ","))
	}
	if len(known) == 0 { // a path that is the same in every version
		return v, false, nil
	}
	if i := slices.IndexFunc(known, func(k string) bool { return strings.EqualFold(k, v) }); i >= 0 {
		return known[i], false, nil
	}
	if v[:10] > known[0][:10] {
		return known[0], true, nil
	}
	return "", false, apierr.New(apierr.BadRequest, "NoRegisteredProviderFound",
		"No registered resource provider found for location '' and API version '%s' for type '%s'. The supported api-versions are '%s'. The supported locations are ''.",
		v, typ, strings.Join(known, ", "))
}

func realDate(s string) bool {
	_, err := time.Parse(time.DateOnly, s)
	return err == nil
}

// queryFold gives a query parameter whose name is compared without case.
func queryFold(q url.Values, name string) string {
	if v := q.Get(name); v != "" {
		return v
	}
	for k, vs := range q {
		if strings.EqualFold(k, name) && len(vs) > 0 {
			return vs[0]
		}
	}
	return ""
}
