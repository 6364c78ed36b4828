package containerservice

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/cluster"
	"lazurite.dev/internal/rid"
)

func (s *service) actions() map[string]arm.Action[Cluster] {
	noServer := func(_ context.Context, r *resource, _ json.RawMessage) (any, error) { return nil, s.noAPIServer(r.ID) }
	return map[string]arm.Action[Cluster]{
		"listClusterUserCredential":           s.credentials("clusterUser", false),
		"listClusterAdminCredential":          s.credentials("clusterAdmin", true),
		"listClusterMonitoringUserCredential": noServer,
		"rotateClusterCertificates":           noServer,
		"runCommand":                          noServer,
		"rotateServiceAccountSigningKeys":     s.rotate,
		"start":                               s.power(running),
		"stop":                                s.power(stopped),
		"resetServicePrincipalProfile": func(context.Context, *resource, json.RawMessage) (any, error) {
			return nil, apierr.New(apierr.BadRequest, "MSIClusterNotSupported",
				"The cluster has a managed identity: there is no service principal to reset.")
		},
		"resetAADProfile": func(context.Context, *resource, json.RawMessage) (any, error) {
			return nil, s.unsupported("aadProfile", "there is no API server that it could protect")
		},
	}
}

// done answers an action that Azure does in the background: its clients take
// 202 and 204.
func done() *arm.Response { return &arm.Response{Status: http.StatusNoContent} }

// credentials answers with kubeconfigs, where the driver has them.
func (s *service) credentials(name string, admin bool) arm.Action[Cluster] {
	return func(ctx context.Context, r *resource, _ json.RawMessage) (any, error) {
		b, err := s.Driver.Kubeconfig(ctx, r.Private[keyUID], admin)
		if errors.Is(err, cluster.ErrNoAPIServer) {
			return nil, s.noAPIServer(r.ID)
		} else if err != nil {
			return nil, err
		}
		return map[string]any{"kubeconfigs": []any{map[string]string{"name": name, "value": base64.StdEncoding.EncodeToString(b)}}}, nil
	}
}

// noAPIServer says what there is instead.
func (s *service) noAPIServer(id rid.ID) error {
	return apierr.New(apierr.BadRequest, "ClusterHasNoAPIServer",
		"The cluster '%s' has no API server: its driver is '%s', which gives it signing keys, an OIDC issuer and service-account tokens, and starts no Kubernetes. "+
			"To run a program as one of its service accounts: laz run --as NAMESPACE/SERVICEACCOUNT --cluster %s -- COMMAND. "+
			"For an API server use a Kubernetes of your own, and name its service-account issuer in az identity federated-credential create --issuer.",
		id.Name(), s.Driver.Name(), id.Name())
}

// accessProfile is Managed Clusters - Get Access Profile.
func (s *service) accessProfile(ctx context.Context, id rid.ID) (*arm.Resource[struct{}], error) {
	if _, err := s.read(ctx, id.Parent()); err != nil {
		return nil, err
	}
	return nil, s.noAPIServer(id.Parent())
}

// rotate is az aks oidc-issuer rotate-signing-keys.
func (s *service) rotate(ctx context.Context, r *resource, _ json.RawMessage) (any, error) {
	err := s.Issuers.Rotate(ctx, r.Private[keyUID])
	if errors.Is(err, cluster.ErrNotFound) {
		return nil, apierr.New(apierr.BadRequest, "OIDCIssuerNotEnabled",
			"The cluster '%s' has no OIDC issuer whose keys could be rotated. To enable it: az aks update --resource-group %s --name %s --enable-oidc-issuer.",
			r.ID.Name(), r.ID.ResourceGroup(), r.ID.Name())
	} else if err != nil {
		return nil, err
	}
	return done(), nil
}

// power starts or stops the cluster. The issuer of one that is stopped goes on
// publishing its keys, as Azure's does.
func (s *service) power(code string) arm.Action[Cluster] {
	return func(ctx context.Context, r *resource, _ json.RawMessage) (any, error) {
		e, err := s.change(ctx, r.ID, func(e *arm.Envelope) { e.Properties["powerState"] = map[string]any{"code": code} })
		if err != nil {
			return nil, err
		}
		now, err := arm.View[Cluster](e)
		if err != nil {
			return nil, err
		}
		if err := s.Driver.Apply(ctx, spec(now)); err != nil {
			return nil, err
		}
		return done(), nil
	}
}
