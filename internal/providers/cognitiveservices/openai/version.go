package openai

import (
	"net/http"
	"regexp"
	"slices"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/gate"
	"lazurite.dev/internal/web"
)

// Versions are the api-versions of the data plane that are known, newest first.
// Source: "Azure OpenAI in Azure AI Foundry Models API lifecycle" and the
// specifications of the inference API.
func Versions() []string {
	return []string{
		"2025-04-01-preview", "2025-03-01-preview", "2025-02-01-preview", "2025-01-01-preview",
		"2024-12-01-preview", "2024-10-21", "2024-10-01-preview", "2024-09-01-preview", "2024-08-01-preview", "2024-07-01-preview", "2024-06-01",
		"2024-05-01-preview", "2024-04-01-preview", "2024-03-01-preview", "2024-02-15-preview", "2024-02-01",
		"2023-12-01-preview", "2023-10-01-preview", "2023-09-01-preview", "2023-08-01-preview", "2023-07-01-preview", "2023-06-01-preview",
		"2023-05-15", "2023-03-15-preview", "2022-12-01",
	}
}

// servedHeader tells a client that its api-version is newer than any that is
// known, and which one it was served.
const servedHeader = "X-Laz-Served-Api-Version"

var dated = regexp.MustCompile(`^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])(-preview(\.\d{1,3})?)?$`)

// askedVersion is the api-version of a request; the name may be in any letter case.
func askedVersion(r *http.Request) string {
	if !strings.Contains(strings.ToLower(r.URL.RawQuery), "version") {
		return ""
	}
	for k, v := range r.URL.Query() {
		if strings.EqualFold(k, "api-version") && len(v) > 0 {
			return v[0]
		}
	}
	return ""
}

// version checks the api-version: a known one is served as itself where the
// operation is in it, a date newer than the newest as the newest; everything
// else is no resource, as Azure says. Under /openai/v1 there is none.
func (p *plane) version(c *gate.Call) error {
	asked, op := askedVersion(c.Request), rowOf(c)
	if op.v1 {
		c.APIVersion = "v1"
		switch strings.ToLower(asked) {
		case "", "v1", "latest", "preview":
			return nil
		}
		return apierr.New(apierr.BadRequest, "BadRequest", "api-version query parameter is not allowed when using /v1 path")
	}
	known := Versions()
	if i := slices.IndexFunc(known, func(k string) bool { return strings.EqualFold(k, asked) }); i >= 0 {
		c.APIVersion = known[i]
	} else if dated.MatchString(asked) && asked[:10] > known[0][:10] {
		c.APIVersion = known[0]
	} else {
		return notFound()
	}
	if c.APIVersion[:10] < op.since || op.until != "" && c.APIVersion[:10] > op.until {
		return notFound()
	}
	return nil
}

func requestID(c *gate.Call) string { return web.RequestID(c.Context) }
