package containerservice

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/netip"
	"regexp"
	"strings"

	"github.com/google/uuid"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/cluster"
)

const (
	existing = "existing"

	keyAttached = "attached" // how the cluster is reached, sealed
)

// ExistingCluster is existingClusterProfile, which Azure does not have: a
// cluster that somebody else runs is attached, as laz cluster attach does.
type ExistingCluster struct {
	Kubeconfig   string `json:"kubeconfig,omitempty"`   // with everything inline; it is sealed and never shown
	Context      string `json:"context,omitempty"`      // of the kubeconfig; without it the current one
	WebhookImage string `json:"webhookImage,omitempty"` // that the cluster's nodes can pull
	FrontDoor    string `json:"frontDoor,omitempty"`    // address at which its pods reach Lazurite; without it names are left to the cluster
	Server       string `json:"server,omitempty"`       // read only
	IssuerKeys   string `json:"issuerKeys,omitempty"`   // read only: published, served, own
	Forget       bool   `json:"forget,omitempty"`       // a cluster that is gone is deleted without being reached
}

// attaches reports whether the request is about a cluster of somebody else's.
func attaches(old, next *resource) bool {
	if old != nil {
		return driverName(old) == existing
	}
	return next.Properties.ExistingClusterProfile != nil
}

// defaultsAttached looks at the cluster and takes over what it is.
func (s *Service) defaultsAttached(ctx context.Context, old, next *resource) error {
	p := &next.Properties
	if old == nil {
		next.Private[keyUID], next.Private[keyDriver] = uuid.NewString(), existing
	} else {
		keep(&old.Properties, p)
		if p.ExistingClusterProfile == nil {
			p.ExistingClusterProfile = old.Properties.ExistingClusterProfile
		}
	}
	profile := p.ExistingClusterProfile
	if profile.WebhookImage == "" {
		profile.WebhookImage = cluster.WebhookImage
	}
	if profile.Kubeconfig != "" {
		if err := s.look(ctx, next); err != nil {
			return err
		}
	} else if old != nil {
		was := old.Properties.ExistingClusterProfile
		profile.Server, profile.IssuerKeys = was.Server, was.IssuerKeys
		if profile.Context == "" {
			profile.Context = was.Context
		}
		p.CurrentKubernetesVersion = old.Properties.CurrentKubernetesVersion
		p.OIDCIssuerProfile = old.Properties.OIDCIssuerProfile
	}
	p.PowerState = &PowerState{Code: running}
	if p.SecurityProfile == nil {
		p.SecurityProfile = &Security{}
	}
	if p.SecurityProfile.WorkloadIdentity == nil {
		p.SecurityProfile.WorkloadIdentity = &Switch{Enabled: ptr(true)}
	}
	if p.EnableRBAC == nil {
		p.EnableRBAC = ptr(true)
	}
	if next.Extra["sku"] == nil {
		next.Extra["sku"] = json.RawMessage(`{"name":"Base","tier":"Free"}`)
	}
	p.ResourceUID = strings.ReplaceAll(next.Private[keyUID], "-", "")[:24]
	return nil
}

// look reaches the cluster by the kubeconfig that was sent.
func (s *Service) look(ctx context.Context, next *resource) error {
	if s.Existing == nil {
		return unavailable(existing, cluster.Unavailable("this program attaches no clusters"))
	}
	p := &next.Properties
	profile := p.ExistingClusterProfile
	f, err := s.Existing.Look(ctx, next.Private[keyUID], []byte(profile.Kubeconfig), profile.Context)
	if errors.Is(err, cluster.ErrInvalid) {
		return apierr.New(apierr.BadRequest, "ClusterNotAttachable", "The cluster can't be attached: %s.",
			strings.TrimSuffix(strings.TrimPrefix(err.Error(), cluster.ErrInvalid.Error()+": "), ".")).WithTarget("properties.existingClusterProfile.kubeconfig").WithCause(err)
	} else if err != nil {
		return err
	}
	b, err := json.Marshal(f.Attached)
	if err != nil {
		return err
	}
	next.Private[keyAttached] = base64.StdEncoding.EncodeToString(b)
	profile.Context, profile.Server, profile.IssuerKeys = f.Context, f.Server, f.Keys
	p.KubernetesVersion, p.CurrentKubernetesVersion = f.Version, f.Version
	p.OIDCIssuerProfile = &OIDCIssuer{Enabled: ptr(true), IssuerURL: f.Issuer}
	profile.Kubeconfig = ""
	return nil
}

var imageShape = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._:/@-]{0,511}$`)

// validateAttached refuses what only the cluster's owner could keep.
func (s *Service) validateAttached(old, next *resource) error {
	p := &next.Properties
	profile := p.ExistingClusterProfile
	const at = "properties.existingClusterProfile."
	if next.Private[keyAttached] == "" {
		return invalid(at+"kubeconfig", "it is missing: how the cluster is reached has to be said")
	}
	if !imageShape.MatchString(profile.WebhookImage) {
		return invalid(at+"webhookImage", "'%s' is no reference of an image", profile.WebhookImage)
	}
	if profile.FrontDoor != "" {
		if a, err := netip.ParseAddr(profile.FrontDoor); err != nil || !a.Is4() || a.IsLoopback() || a.IsUnspecified() || a.IsMulticast() {
			return invalid(at+"frontDoor", "'%s' is no IPv4 address that pods could reach", profile.FrontDoor)
		}
	}
	if old == nil && len(p.AgentPoolProfiles) > 0 {
		return unsupported(existing, "agentPoolProfiles", notOurs)
	}
	if p.NetworkProfile != nil {
		return unsupported(existing, "networkProfile", notOurs)
	}
	if old != nil && p.KubernetesVersion != old.Properties.KubernetesVersion && p.KubernetesVersion != p.CurrentKubernetesVersion {
		return unsupported(existing, "kubernetesVersion", notOurs)
	}
	if !p.issues() {
		return unsupported(existing, "oidcIssuerProfile.enabled", "the cluster's own issuer is what identities trust")
	}
	if err := checkSKU(next.Extra["sku"]); err != nil {
		return err
	}
	return offer{driver: existing, older: true}.refused(p)
}

// notOurs is why an attached cluster keeps nothing that is asked of it.
const notOurs = "the cluster is run by somebody else: what it is and how it is protected is set there"

// attached is what the driver gets to know.
func attached(r *resource) *cluster.Attached {
	var a cluster.Attached
	b, err := base64.StdEncoding.DecodeString(r.Private[keyAttached])
	if err != nil || json.Unmarshal(b, &a) != nil || r.Properties.ExistingClusterProfile == nil {
		return nil
	}
	a.WebhookImage, a.FrontDoor = r.Properties.ExistingClusterProfile.WebhookImage, r.Properties.ExistingClusterProfile.FrontDoor
	return &a
}

// deleteAttached takes away what was put into the cluster.
func (s *Service) deleteAttached(ctx context.Context, old *resource) error {
	uid := old.Private[keyUID]
	if p := old.Properties.ExistingClusterProfile; p != nil && p.Forget {
		return s.Existing.Forget(ctx, uid)
	}
	if err := s.Existing.Remove(ctx, uid); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		name, group := old.ID.Name(), old.ID.ResourceGroup()
		return apierr.New(apierr.Conflict, "ClusterNotDetached",
			"What Lazurite put into the cluster '%s' could not be taken away: %s. To try again: laz cluster detach %s --resource-group %s. "+
				"Where the cluster is gone for good: laz cluster detach %s --resource-group %s --forget.",
			name, strings.TrimSuffix(err.Error(), "."), name, group, name, group).WithCause(err)
	}
	return nil
}

// notAttached refuses an action that only a cluster of ours can do.
func notAttached(action string, r *resource) error {
	if driverName(r) != existing {
		return nil
	}
	return apierr.New(apierr.BadRequest, "NotSupportedByDriver", "'%s' is not offered for the cluster '%s': %s.", action, r.ID.Name(), notOurs)
}

// notAttachedPool refuses a pool of an attached cluster.
func notAttachedPool(r *resource) error {
	if driverName(r) != existing {
		return nil
	}
	return apierr.New(apierr.BadRequest, "NotSupportedByDriver", "The cluster '%s' has no agent pools: %s.", r.ID.Name(), notOurs)
}
