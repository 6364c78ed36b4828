package machinelearningservices

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
)

// complete gives next its defaults, keeps what a PUT does not speak of, and
// takes over what a deleted workspace had where it is recovered.
func (p *provider) complete(ctx context.Context, old, next *arm.Resource[Properties]) error {
	n := &next.Properties
	if old == nil {
		if err := p.begin(ctx, next); err != nil {
			return err
		}
	} else {
		keepOld(&old.Properties, next)
		for _, k := range []string{"kind", "sku"} {
			if next.Extra[k] == nil {
				next.Extra[k] = old.Extra[k]
			}
		}
	}
	n.Recover = nil
	set := func(s *string, v string) {
		if *s == "" {
			*s = v
		}
	}
	set(&n.Friendly, next.ID.Name())
	set(&n.PublicAccess, "Enabled")
	set(&n.Datastores, "accesskey")
	off := false
	for _, b := range []**bool{&n.V1Legacy, &n.HBI, &n.BehindVNet, &n.HNS} {
		if *b == nil {
			*b = &off
		}
	}
	if n.Network == nil {
		n.Network = &Network{}
	}
	set(&n.Network.Mode, Disabled)
	n.Network.Status, n.Network.Changes, n.Network.ID = nil, nil, ""
	if next.Extra["kind"] == nil {
		next.Extra["kind"] = asJSON("Default")
	}
	if next.Extra["sku"] == nil {
		next.Extra["sku"] = asJSON(map[string]string{"name": "Basic", "tier": "Basic"})
	}
	return nil
}

// begin gives a new workspace its GUID and its addresses.
func (p *provider) begin(ctx context.Context, next *arm.Resource[Properties]) error {
	uid := uuid.NewString()
	if isTrue(next.Properties.Recover) {
		d, err := p.deletedOf(ctx, next.ID)
		if err != nil {
			return err
		}
		if d != nil && !d.due(p.Now()) {
			if err := d.restore(next); err != nil {
				return err
			}
			uid = d.UID
			next.Private[restoreKey] = uid
		}
	}
	n := &next.Properties
	next.Private[uidKey] = uid
	n.WorkspaceID, n.TenantID = uid, p.TenantID
	host := p.API(next.Location)
	n.DiscoveryURL = "https://" + host + "/discovery"
	n.MLFlow = "azureml://" + host + "/mlflow/v1.0" + next.ID.String()
	return nil
}

// keepOld keeps what a PUT that does not speak of it leaves as it is.
func keepOld(o *Properties, next *arm.Resource[Properties]) {
	n := &next.Properties
	for _, s := range []struct{ old, next *string }{
		{&o.Storage, &n.Storage}, {&o.KeyVault, &n.KeyVault}, {&o.Insights, &n.Insights}, {&o.Registry, &n.Registry}, {&o.PublicAccess, &n.PublicAccess},
	} {
		if *s.next == "" {
			*s.next = *s.old
		}
	}
	if n.V1Legacy == nil {
		n.V1Legacy = o.V1Legacy
	}
	switch {
	case n.Network == nil:
		n.Network = o.Network
	case n.Network.Mode == "":
		n.Network.Mode = o.mode()
	}
}

// validate refuses what Azure refuses, and what would promise something that
// is not there.
func (p *provider) validate(ctx context.Context, old, next *arm.Resource[Properties]) error {
	if old == nil {
		if err := p.free(ctx, next); err != nil {
			return err
		}
	}
	if err := checkKind(old, next); err != nil {
		return err
	}
	n := &next.Properties
	if err := n.check(); err != nil {
		return err
	}
	if err := p.checkLinked(ctx, old, next); err != nil {
		return err
	}
	if err := p.checkIdentity(next); err != nil {
		return err
	}
	if err := p.checkIsolation(ctx, old, next); err != nil {
		return err
	}
	if old != nil && n.Legacy() && !old.Properties.Legacy() {
		if some, err := p.has(ctx, next.ID, "onlineEndpoints"); err != nil {
			return err
		} else if some {
			return bad("properties.v1LegacyMode", "The workspace has online endpoints, which there are none of in the v1 legacy mode. Delete them first.")
		}
	}
	return p.checkRules(ctx, next)
}

// Legacy reports whether the properties are those of a workspace in the v1
// legacy mode.
func (n *Properties) Legacy() bool { return isTrue(n.V1Legacy) }

func checkKind(old, next *arm.Resource[Properties]) error {
	kind, err := textOf(next.Extra["kind"], "kind")
	if err != nil {
		return err
	}
	if !strings.EqualFold(kind, "Default") {
		return bad("kind", "Workspaces of the kind '%s' are not supported: this cloud has the kind 'Default' alone.", kind)
	}
	next.Extra["kind"] = asJSON("Default")
	var sku struct {
		Name string `json:"name"`
	}
	if err := json.Unmarshal(next.Extra["sku"], &sku); err != nil || sku.Name == "" {
		return bad("sku", "The 'sku' must be an object with a name, such as {\"name\":\"Basic\"}.")
	}
	if old != nil && !strings.EqualFold(old.Properties.Storage, next.Properties.Storage) {
		return bad("properties.storageAccount", "The storage account of a workspace cannot be changed: it holds what the workspace's assets are made of.")
	}
	if old != nil && !strings.EqualFold(old.Properties.KeyVault, next.Properties.KeyVault) {
		return bad("properties.keyVault", "The key vault of a workspace cannot be changed.")
	}
	return nil
}

// oneOf writes a value as it is documented, or refuses it.
func oneOf(property string, value *string, values ...string) error {
	i := slices.IndexFunc(values, func(v string) bool { return strings.EqualFold(v, *value) })
	if i < 0 {
		return bad("properties."+property, "The value '%s' of %s is none of '%s'.", *value, property, strings.Join(values, "', '"))
	}
	*value = values[i]
	return nil
}

func (n *Properties) check() error {
	if err := oneOf("publicNetworkAccess", &n.PublicAccess, "Enabled", "Disabled"); err != nil {
		return err
	}
	if err := oneOf("systemDatastoresAuthMode", &n.Datastores, "accesskey", "identity"); err != nil {
		return err
	}
	if err := oneOf("managedNetwork.isolationMode", &n.Network.Mode, Disabled, AllowAll, AllowByRules); err != nil {
		return err
	}
	if n.Network.Firewall != "" {
		if err := oneOf("managedNetwork.firewallSku", &n.Network.Firewall, "Standard", "Basic"); err != nil {
			return err
		}
	}
	return n.checkUnsupported()
}

// checkUnsupported refuses what this service does not do.
func (n *Properties) checkUnsupported() error {
	e := n.Encryption
	for _, c := range []struct {
		refused       bool
		property, why string
	}{
		{e != nil && (strings.EqualFold(e.Status, "Enabled") || says(e.Vault)), "encryption", "a key of your own does not encrypt the workspace's data. Its secrets are sealed with this installation's key"},
		{isTrue(n.HBI), "hbiWorkspace", "the disks of this machine are not encrypted for a workspace"},
		{isTrue(n.BehindVNet), "allowPublicAccessWhenBehindVnet", "publicNetworkAccess alone says whether the workspace is reached from outside"},
		{len(n.Shared) > 0, "sharedPrivateLinkResources", "private endpoints of the workspace are rules of its managed network: outboundRules"},
		{says(n.Serverless), "serverlessComputeSettings", "there is no serverless compute"},
		{says(n.Store), "featureStoreSettings", "there are no feature stores"},
		{says(n.Firewall), "networkAcls", "addresses do not let into a workspace. Use a private endpoint"},
		{len(n.Allowlist) > 0, "ipAllowlist", "addresses do not let into a workspace. Use a private endpoint"},
		{n.Hub != "" || says(n.Hubs), "hubResourceId", "there are no hubs"},
		{says(n.Managed), "serviceManagedResourcesSettings", "the workspace has no database of its own"},
	} {
		if c.refused {
			return bad("properties."+c.property, "The property '%s' is not supported: %s.", c.property, c.why)
		}
	}
	return nil
}

// says reports whether JSON says anything: templates send objects whose members
// are empty.
func says(raw json.RawMessage) bool {
	var v any
	if len(raw) == 0 || json.Unmarshal(raw, &v) != nil {
		return len(raw) > 0
	}
	return full(v)
}

func full(v any) bool {
	switch v := v.(type) {
	case map[string]any:
		for _, x := range v {
			if full(x) {
				return true
			}
		}
	case []any:
		return slices.ContainsFunc(v, full)
	case string:
		return v != ""
	case bool:
		return v
	case float64:
		return true
	}
	return false
}

// checkIdentity refuses a primary identity that the workspace does not have.
func (p *provider) checkIdentity(next *arm.Resource[Properties]) error {
	primary := next.Properties.Primary
	identity, err := arm.IdentityOf(next.Extra)
	if err != nil || primary == "" {
		return err
	}
	for id := range identity.UserAssigned {
		if strings.EqualFold(id, primary) {
			return nil
		}
	}
	return bad("properties.primaryUserAssignedIdentity", "The identity '%s' is none of the workspace's.", primary)
}

// has reports whether there is a resource of a type under the workspace.
func (p *provider) has(ctx context.Context, id rid.ID, typ string) (bool, error) {
	list, err := p.res.List(ctx, id, WorkspaceType+"/"+typ, "", 1)
	return len(list) > 0, err
}

// put brings about what belongs to the workspace.
func (p *provider) put(ctx context.Context, _, next *arm.Resource[Properties]) error {
	uid := next.Private[uidKey]
	if next.Private[restoreKey] != "" {
		if err := p.bringBack(ctx, next.ID); err != nil {
			return err
		}
		delete(next.Private, restoreKey)
	}
	ws, err := workspaceOfResource(next)
	if err != nil {
		return err
	}
	if err := p.writeRules(ctx, ws, next.Properties.Network.Rules); err != nil {
		return err
	}
	if err := p.entitle(ctx, ws, next.Private); err != nil {
		return err
	}
	if err := p.furnish(ctx, ws); err != nil {
		return err
	}
	rec, err := p.record(ctx, uid)
	if err != nil {
		return err
	}
	switch {
	case isTrue(next.Properties.ProvisionNow) && ws.Mode() != Disabled:
		err = p.makeNetwork(ctx, ws)
	case rec != nil && rec.Active:
		err = p.settle(ctx, ws)
	}
	if err != nil || p.Regrant == nil {
		return err
	}
	if err := p.Regrant(ctx, ws.ID); err != nil {
		return fmt.Errorf("give the identities of the endpoints their roles: %w", err)
	}
	return nil
}

func workspaceOfResource(r *arm.Resource[Properties]) (*Workspace, error) {
	identity, err := arm.IdentityOf(r.Extra)
	if err != nil {
		return nil, err
	}
	return &Workspace{ID: r.ID, UID: r.Private[uidKey], Location: r.Location, Properties: r.Properties, Principal: identity.PrincipalID}, nil
}

// The roles that a workspace's own identity gets. Source: "Manage access to an
// Azure Machine Learning workspace", system-assigned managed identity.
const (
	roleBlobContributor = "ba92f5b4-2d11-453d-a403-e96b0029c9fe"
	roleAcrPull         = "7f951dda-4ed3-4680-a7ca-43fe172d538d"
)

// entitle gives the workspace's identity its roles, each once: whoever changes
// the workspace later need not be one who may give them, and one that was taken
// away stays away.
func (p *provider) entitle(ctx context.Context, ws *Workspace, private map[string]string) error {
	if ws.Principal == "" || p.Assign == nil {
		return nil
	}
	var given []string
	for _, g := range []struct{ id, role string }{{ws.Properties.Storage, roleBlobContributor}, {ws.Properties.Registry, roleAcrPull}} {
		scope, err := rid.Parse(g.id)
		if g.id == "" || err != nil {
			continue // it was validated
		}
		one := ws.Principal + " " + g.role + " " + scope.Key()
		given = append(given, one)
		if slices.Contains(strings.Split(private[givenKey], "\n"), one) {
			continue
		}
		if err := p.Assign(ctx, scope, g.role, ws.Principal); err != nil {
			return fmt.Errorf("give the workspace's identity its roles: %w", err)
		}
	}
	private[givenKey] = strings.Join(given, "\n")
	return nil
}

// furnish writes the datastores that each workspace has, and makes their containers.
func (p *provider) furnish(ctx context.Context, ws *Workspace) error {
	if err := p.writeDefaults(ctx, ws); err != nil || p.Storage == nil {
		return err
	}
	account, err := rid.Parse(ws.Properties.Storage)
	if err != nil {
		return nil // it was validated
	}
	for _, c := range defaultContainers(ws.UID) {
		if err := p.Storage.EnsureContainer(ctx, account, c.container); err != nil {
			return fmt.Errorf("make the container of the datastore %s: %w", c.name, err)
		}
	}
	return nil
}

// read shows the workspace's network, connections and notebooks.
func (p *provider) read(ctx context.Context, r *arm.Resource[Properties]) (err error) {
	n := &r.Properties
	if n.Connections, err = p.links.Show(ctx, r.ID); err != nil {
		return err
	}
	uid := r.Private[uidKey]
	n.Notebook = &Notebook{ResourceID: strings.ReplaceAll(uid, "-", ""), FQDN: notebookLabel(r.ID.Name(), r.Location, uid) + ".notebooks.azure.net", Private: len(n.Connections) > 0}
	if n.Network == nil {
		return nil
	}
	ws, err := workspaceOfResource(r)
	if err != nil {
		return err
	}
	n.Network.Changes = changeable(ws.Mode())
	if ws.Mode() == Disabled {
		n.Network.Rules = nil
		return nil
	}
	rec, err := p.record(ctx, uid)
	if err != nil {
		return err
	}
	n.Network.ID, n.Network.Status = uid, status(rec)
	list, err := p.list(ctx, ws)
	if err != nil {
		return err
	}
	n.Network.Rules = map[string]*Rule{}
	for _, x := range list {
		shown, err := p.shown(ctx, ws, rec, x)
		if err != nil {
			return err
		}
		n.Network.Rules[x.name] = shown
	}
	return nil
}

func status(rec *Record) *NetworkStatus {
	if rec == nil || !rec.Active {
		return &NetworkStatus{Status: "Inactive"}
	}
	return &NetworkStatus{Status: "Active", Spark: rec.Spark}
}

// delete takes the workspace's network away, and keeps what can be recovered.
func (p *provider) delete(ctx context.Context, old *arm.Resource[Properties]) error {
	uid := old.Private[uidKey]
	if p.Machine != nil {
		if err := p.Machine.RemoveNetwork(ctx, uid); err != nil {
			return apierr.New(apierr.Conflict, "ManagedNetworkNotRemoved", "The managed network of the workspace could not be taken away: %v.", err).WithCause(err)
		}
	}
	if err := p.disconnect(ctx, old.ID, nil); err != nil {
		return err
	}
	if err := p.store.Delete(ctx, networkPrefix+uid, 0); err != nil && !gone(err) {
		return fmt.Errorf("forget the network of a workspace: %w", err)
	}
	return p.bury(ctx, old)
}

func gone(err error) bool {
	return errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrConflict)
}
