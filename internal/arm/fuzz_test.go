package arm_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"lazurite.dev/internal/arm/armtest"
)

// FuzzHandler sends anything: no request may end in a panic or as the
// server's own fault, and every refusal has a code.
func FuzzHandler(f *testing.F) {
	s := &shop{}
	p := armtest.New(f, s.provider, nil)
	quick := p.Group("g") + "/providers/Contoso.Shop/quick/x"
	p.Want(http.StatusCreated, "PUT", quick+version, `{"location":"westus2"}`)
	p.Want(http.StatusCreated, "PUT", quick+"/parts/y"+version, `{}`)
	list := strings.TrimSuffix(quick, "/x")
	for _, seed := range [][4]string{
		{"PUT", quick, "api-version=2024-01-01", `{"location":"westus2","tags":{"a":"b"},"identity":{"type":"SystemAssigned"},"properties":{"size":1,"Size":2,"nested":{"flag":true}}}`},
		{"PATCH", quick, "api-version=2199-01-01", `{"tags":null,"properties":{"nested":null,"x":{"y":[1,2.5e300]}},"identity":{"userAssignedIdentities":{"/a":null}}}`},
		{"PATCH", quick + "/parts/y", "api-version=2024-01-01", `{"properties":{"nested":"no"}}`},
		{"GET", list, "api-version=2024-01-01&$top=1&$skiptoken=L3g&$filter=name eq 'x' and tagName eq 'a'", ""},
		{"GET", armtest.Base + "/resources", "api-version=2024-01-01&$expand=createdTime", ""},
		{"GET", armtest.Base + "/providers/Contoso.Shop/locations/x/operationStatuses/y", "api-version=2024-01-01", ""},
		{"POST", quick + "/go", "api-version=2024-01-01", "{}"},
		{"DELETE", quick, "API-VERSION=2024-01-01", ""},
		{"PUT", quick + "/providers/Contoso.Shop/notes/n", "api-version=2024-01-01", "{}"},
		{"GET", list, "api-version=2024-01-01&$skiptoken=LwE", ""},
		{"GET", armtest.Base + "/resources", "api-version=2024-01-01&$filter=resourceType+eq+%27%01%ff%27", ""},
		{"GET", armtest.Base + "/resourceGroups/\xff\x01", "api-version=2024-01-01", ""},
		{"PUT", quick + strings.Repeat("/providers/Contoso.Shop/notes/"+strings.Repeat("n", 250), 7), "api-version=2024-01-01", "{}"},
		{"HEAD", "/subscriptions/x/resourcegroups/y/providers/z", "api-version=x", ""},
	} {
		f.Add(seed[0], seed[1], seed[2], seed[3])
	}
	f.Fuzz(func(t *testing.T, method, path, query, body string) {
		u := &url.URL{Scheme: "https", Host: "management.azure.com", Path: "/" + strings.TrimPrefix(path, "/"), RawQuery: query}
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "https://management.azure.com/", strings.NewReader(body))
		r.Method, r.URL = strings.ToUpper(method), u
		r.Header.Set("Authorization", "Bearer "+armtest.Owner)
		w := httptest.NewRecorder()
		p.Handler.ServeHTTP(w, r)
		if w.Code >= 500 && w.Code != http.StatusNotImplemented {
			t.Errorf("%s %s?%s %q: %d %s", method, u.Path, query, body, w.Code, w.Body)
		}
		if w.Code >= 400 && r.Method != http.MethodHead && !strings.Contains(w.Body.String(), `"code":"`) {
			t.Errorf("%s %s?%s %q: %d %s has no code", method, u.Path, query, body, w.Code, w.Body)
		}
	})
}
