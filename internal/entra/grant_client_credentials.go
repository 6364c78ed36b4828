package entra

import (
	"context"
	"slices"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/token"
	"lazurite.dev/internal/trace"
)

// clientCredentials gives a token to an application or managed identity itself
// (RFC 6749 section 4.4).
func (s *Service) clientCredentials(ctx context.Context, r *tokenRequest) (*answer, error) {
	if r.tenant.shared {
		return nil, aad(apierr.BadRequest, "invalid_request", "90019",
			"No tenant-identifying information found in either the request or implied by any provided credentials.")
	}
	reuse, err := s.authenticate(ctx, r)
	if err != nil {
		return nil, err
	}
	if r.client.sp == nil {
		trace.Add(ctx, trace.Hop{Step: "identity", Subject: r.client.id, Found: "the application has no service principal in this tenant", Fix: "az ad sp create --id " + r.client.id})
		return nil, aad(apierr.Unauthorized, "invalid_client", "7000229",
			"The client application %s is missing service principal in the tenant %s. See instructions here: https://go.microsoft.com/fwlink/?linkid=2225119",
			r.client.id, s.tokens.TenantID())
	}
	if r.client.sp.Disabled {
		return nil, aad(apierr.Unauthorized, "unauthorized_client", "7000112", "Application '%s'(%s) is disabled.", r.client.id, r.client.name)
	}
	w, err := s.want(r)
	if err != nil {
		return nil, err
	}
	if r.version == "2.0" && !slices.Equal(w.permissions, []string{".default"}) {
		return nil, aad(apierr.BadRequest, "invalid_scope", "1002012",
			"The provided value for scope %s is not valid. Client credential flows must have a scope value with /.default suffixed to the resource identifier (application ID URI).",
			shorten(r.get("scope")))
	}
	return s.issue(ctx, r, token.Request{
		Resource: w.resource, ObjectID: r.client.sp.ObjectID, MIRID: r.client.resourceID(), ReuseKey: reuse,
	})
}
