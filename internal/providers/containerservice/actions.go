package containerservice

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/cluster"
	"lazurite.dev/internal/rid"
)

func (s *Service) actions() map[string]arm.Action[Cluster] {
	return map[string]arm.Action[Cluster]{
		"listClusterUserCredential":  s.credentials("clusterUser"),
		"listClusterAdminCredential": s.credentials("clusterAdmin"),
		"listClusterMonitoringUserCredential": s.cannot("listClusterMonitoringUserCredential",
			"there is no user of that kind; use az aks get-credentials"),
		"rotateClusterCertificates": s.cannot("rotateClusterCertificates", "its certificates are renewed by themselves, long before they end"),
		"runCommand":                s.cannot("runCommand", "its API server is reached directly: az aks get-credentials, then kubectl"),
		"resetServicePrincipalProfile": func(context.Context, *resource, json.RawMessage) (any, error) {
			return nil, apierr.New(apierr.BadRequest, "MSIClusterNotSupported",
				"The cluster has a managed identity: there is no service principal to reset.")
		},
		"resetAADProfile": func(_ context.Context, r *resource, _ json.RawMessage) (any, error) {
			return nil, unsupported(driverName(r), "aadProfile", "Entra does not sign in to its API server")
		},
	}
}

// cannot refuses an action that no driver offers.
func (s *Service) cannot(action, why string) arm.Action[Cluster] {
	return func(_ context.Context, r *resource, _ json.RawMessage) (any, error) {
		if driverName(r) == issuerOnly {
			return nil, noAPIServer(r)
		}
		return nil, apierr.New(apierr.BadRequest, "NotSupportedByDriver", "'%s' is not offered for the cluster '%s': its driver is '%s', and %s.",
			action, r.ID.Name(), driverName(r), why)
	}
}

// credentials answers with kubeconfigs, where the driver has them.
func (s *Service) credentials(name string) arm.Action[Cluster] {
	return func(ctx context.Context, r *resource, _ json.RawMessage) (any, error) {
		b, err := s.kubeconfig(ctx, r, name)
		if err != nil {
			return nil, err
		}
		return map[string]any{"kubeconfigs": []any{map[string]string{"name": name, "value": base64.StdEncoding.EncodeToString(b)}}}, nil
	}
}

// kubeconfig names cluster, context and user as Azure does; az appends
// "-admin" to the administrator's context itself.
func (s *Service) kubeconfig(ctx context.Context, r *resource, name string) ([]byte, error) {
	d, err := s.driver(r)
	if err != nil {
		return nil, err
	}
	a, err := d.Access(ctx, r.Private[keyUID])
	switch {
	case errors.Is(err, cluster.ErrNoAPIServer):
		return nil, noAPIServer(r)
	case errors.Is(err, cluster.ErrNotFound):
		return nil, apierr.New(apierr.Conflict, "ClusterNotReady", "The cluster '%s' has no API server yet. To wait for it: az aks wait --created --name %s --resource-group %s.",
			r.ID.Name(), r.ID.Name(), r.ID.ResourceGroup())
	case err != nil:
		return nil, s.failed(ctx, d, r.ID, "reached", err)
	}
	return a.Kubeconfig(r.ID.Name(), name+"_"+r.ID.ResourceGroup()+"_"+r.ID.Name())
}

// noAPIServer says what there is instead.
func noAPIServer(r *resource) error {
	name := r.ID.Name()
	return apierr.New(apierr.BadRequest, "ClusterHasNoAPIServer",
		"The cluster '%s' has no API server: its driver is '%s', which gives it signing keys, an OIDC issuer and service-account tokens, and starts no Kubernetes. "+
			"To run a program as one of its service accounts: laz run --as NAMESPACE/SERVICEACCOUNT --cluster %s -- COMMAND. "+
			"Real clusters are made where Lazurite was started with 'sudo laz up' on Linux and 'make kube' has built Kubernetes; or adopt one of your own: laz cluster attach.",
		name, driverName(r), name)
}

// accessProfile is the properties of one. Source: Managed Clusters - Get Access Profile.
type accessProfile struct {
	KubeConfig []byte `json:"kubeConfig"`
}

func (s *Service) accessProfile(ctx context.Context, id rid.ID) (*arm.Resource[accessProfile], error) {
	r, err := s.read(ctx, id.Parent())
	if err != nil {
		return nil, err
	}
	if id.Name() != "clusterUser" && id.Name() != "clusterAdmin" {
		return nil, nil
	}
	if driverName(r) == issuerOnly {
		return nil, noAPIServer(r)
	}
	return &arm.Resource[accessProfile]{ID: id}, nil
}

// listCredential is Managed Clusters - Get Access Profile, with the secret.
func (s *Service) listCredential(ctx context.Context, p *arm.Resource[accessProfile], _ json.RawMessage) (any, error) {
	r, err := s.read(ctx, p.ID.Parent())
	if err != nil {
		return nil, err
	}
	if p.Properties.KubeConfig, err = s.kubeconfig(ctx, r, p.ID.Name()); err != nil {
		return nil, err
	}
	return map[string]any{
		"id": p.ID.String(), "name": p.ID.Name(), "type": Namespace + "/managedClusters/accessProfiles", "location": r.Location, "properties": p.Properties,
	}, nil
}

func (s *Service) longActions() map[string]arm.LongAction[Cluster] {
	power := func(verb, state, code string) arm.LongAction[Cluster] {
		return arm.LongAction[Cluster]{State: state, Check: func(ctx context.Context, r *resource, _ json.RawMessage) error {
			if err := notAttached(verb, r); err != nil {
				return err
			}
			return s.idle(ctx, r.ID)
		}, Run: func(ctx context.Context, r *resource, _ json.RawMessage) error {
			r.Properties.PowerState = &PowerState{Code: code}
			return s.apply(ctx, r)
		}}
	}
	return map[string]arm.LongAction[Cluster]{
		// The issuer of a cluster that is stopped goes on publishing its keys, as Azure's does.
		"start": power("start", "Starting", running),
		"stop":  power("stop", "Stopping", stopped),
		// The keys are rotated once, when it is asked for; the API server gets them then, and again after a crash.
		"rotateServiceAccountSigningKeys": {State: "Updating", Check: s.rotate, Run: func(ctx context.Context, r *resource, _ json.RawMessage) error {
			return s.apply(ctx, r)
		}},
	}
}

// rotate is az aks oidc-issuer rotate-signing-keys.
func (s *Service) rotate(ctx context.Context, r *resource, _ json.RawMessage) error {
	if err := notAttached("rotateServiceAccountSigningKeys", r); err != nil {
		return err
	}
	if err := s.idle(ctx, r.ID); err != nil {
		return err
	}
	err := s.Issuers.Rotate(ctx, r.Private[keyUID])
	if errors.Is(err, cluster.ErrNotFound) {
		return apierr.New(apierr.BadRequest, "OIDCIssuerNotEnabled",
			"The cluster '%s' has no OIDC issuer whose keys could be rotated. To enable it: az aks update --resource-group %s --name %s --enable-oidc-issuer.",
			r.ID.Name(), r.ID.ResourceGroup(), r.ID.Name())
	}
	return err
}
