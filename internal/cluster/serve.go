package cluster

import (
	"errors"
	"net/http"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/web"
)

// discovery is what an issuer says of itself: the least that workload identity
// asks for. Source: azure-workload-identity, "OpenID Connect Discovery".
type discovery struct {
	Issuer        string   `json:"issuer"`
	JWKSURI       string   `json:"jwks_uri"`
	ResponseTypes []string `json:"response_types_supported"`
	SubjectTypes  []string `json:"subject_types_supported"`
	Algorithms    []string `json:"id_token_signing_alg_values_supported"`
}

// cacheFor is for others who check tokens: they ask again for a key that they
// don't know.
const cacheFor = "public, max-age=300"

// jwksPath is where an issuer's key set is, below its URL.
const jwksPath = "openid/v1/jwks"

// ServeHTTP answers under the issuers' host names, without authentication:
//
//	/{tenant}/{uid}/.well-known/openid-configuration
//	/{tenant}/{uid}/openid/v1/jwks
func (s *Issuers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := s.answer(w, r); err != nil {
		web.EventFrom(r.Context()).Fail(err)
		web.WriteError(w, apierr.From(err))
	}
}

func (s *Issuers) answer(w http.ResponseWriter, r *http.Request) error {
	missing := apierr.New(apierr.NotFound, "ResourceNotFound", "There is no issuer's document at '%s%s'.", r.Host, r.URL.Path)
	parts := strings.SplitN(strings.TrimPrefix(r.URL.Path, "/"), "/", 3)
	if len(parts) != 3 || !isUID(parts[1]) || parts[0] != s.cfg.Tenant {
		return missing
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		return apierr.New(apierr.MethodNotAllowed, "MethodNotAllowed", "An issuer's documents are read with GET, not %s.", r.Method)
	}
	is, err := s.get(r.Context(), parts[1])
	if errors.Is(err, ErrNotFound) {
		return missing
	}
	if err != nil {
		return err
	}
	if region, _, _ := strings.Cut(r.Host, "."); !strings.EqualFold(region, is.Region) {
		return missing
	}
	var body any
	switch parts[2] {
	case ".well-known/openid-configuration":
		body = discovery{is.URL, is.URL + jwksPath, []string{"id_token"}, []string{"public"}, []string{"RS256"}}
	case jwksPath:
		body = s.published(is)
	default:
		return missing
	}
	w.Header().Set("Cache-Control", cacheFor)
	web.WriteJSON(w, http.StatusOK, body)
	return nil
}
