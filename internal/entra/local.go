package entra

import (
	"context"
	"net/http"
	"strings"

	"lazurite.dev/internal/arrival"
)

// localKey marks requests for Pages.
type localKey struct{}

// Pages are the pages that people see, for an address on loopback that browsers
// of this machine reach without the login hosts' names and certificates, which
// they know as Microsoft's. It has /device and /TENANT/oauth2/v2.0/authorize;
// the caller sees to it that requests name a loopback host.
func (s *Service) Pages() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/device" && !strings.HasSuffix(r.URL.Path, "/oauth2/v2.0/authorize") {
			http.NotFound(w, r)
			return
		}
		s.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), localKey{}, true)))
	})
}

func isLocal(r *http.Request) bool { return r.Context().Value(localKey{}) != nil }

// devicePageURL is where the person who sits before a client goes: on this
// machine to the local address, where there is one.
func (s *Service) devicePageURL(r *http.Request) string {
	if s.cfg.LocalPages != "" && arrival.From(r.Context()).Client.Unmap().IsLoopback() {
		return s.cfg.LocalPages + "/device"
	}
	return "https://" + r.Host + "/device"
}
