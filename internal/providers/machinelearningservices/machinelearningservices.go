package machinelearningservices

import (
	"context"
	"errors"
	"regexp"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/arm/privatelink"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
)

// Machine makes managed networks real.
type Machine interface {
	// Available is nil where networks can be made and their rules enforced; else
	// the reason, a sentence.
	Available(ctx context.Context) error
	// Network brings the network of the workspace about, and returns when what
	// leaves it is judged by its plan.
	Network(ctx context.Context, ws *Workspace) error
	// RemoveNetwork takes that of the workspace with the GUID away with all that is in it; one that is not there
	// is no error.
	RemoveNetwork(ctx context.Context, uid string) error
}

// Storage is what is asked of the accounts that belong to workspaces.
type Storage interface {
	EnsureContainer(ctx context.Context, account rid.ID, container string) error
	Key(ctx context.Context, account rid.ID) (string, error)
}

// Config is what New needs.
type Config struct {
	Workspaces *Workspaces
	Authorizer arm.Authorizer // who may approve private endpoints
	TenantID   string
	API        func(region string) string // host at which the workspaces of a region answer

	// Assign gives a principal a role (a GUID) at a scope, unless it has it.
	Assign func(ctx context.Context, scope rid.ID, role, principal string) error

	// Regrant gives the identities of a workspace's endpoints their roles at what
	// the workspace has now. nil: there are no endpoints.
	Regrant func(ctx context.Context, workspace rid.ID) error

	Machine Machine          // nil: no network can be made
	Storage Storage          // nil: there are no storage accounts
	Now     func() time.Time // nil means time.Now
}

type provider struct {
	Config
	w     *Workspaces
	store store.Store
	links *privatelink.Links
	res   arm.Resources
}

func newProvider(c Config) *provider {
	if c.Now == nil {
		c.Now = time.Now
	}
	return &provider{Config: c, w: c.Workspaces, store: c.Workspaces.store, links: c.Workspaces.links, res: arm.Resources{Store: c.Workspaces.store}}
}

// New makes the provider. scoring is as for PrivateLink.
func New(c Config, scoring func(label string) string) arm.Provider {
	p := newProvider(c)
	return arm.Provider{
		Namespace: Namespace,
		Routes: append(PrivateLink(scoring).Routes(),
			arm.Serve(Namespace, p.workspaces()), arm.Serve(Namespace, p.rules()), arm.Serve(Namespace, p.datastores()),
		),
		Endpoints: p.endpoints(),
	}
}

func (p *provider) workspaces() arm.Kind[Properties] {
	return arm.Kind[Properties]{
		Type: "workspaces", APIVersions: apiVersions(), Tracked: true, Async: true, Plain: true, Identity: true, OwnID: true,
		Name:     checkName,
		Body:     readBody,
		ReadOnly: readOnly(),
		WriteOnly: []string{
			"managedNetwork.outboundRules", "allowRecoverSoftDeletedWorkspace", "provisionNetworkNow",
		},
		Default: p.complete, Validate: p.validate, Put: p.put, Delete: p.delete, Deletable: p.deletable, Read: p.read,
		Actions: map[string]arm.Action[Properties]{
			"listKeys": p.listKeys, "resyncKeys": p.resyncKeys, "listStorageAccountKeys": p.listStorageKeys, "diagnose": p.diagnose,
			"listNotebookKeys": noNotebooks, "listNotebookAccessToken": noNotebooks, "prepareNotebook": noNotebooks,
		},
		LongActions: map[string]arm.LongAction[Properties]{"provisionManagedNetwork": {
			State: "Updating", Check: p.checkProvision, Run: p.provision, Result: p.provisioned,
		}},
	}
}

// GroupID is the group of a workspace that private endpoints reach.
const GroupID = "amlworkspace"

// Keys of what a workspace's Private holds.
const (
	uidKey     = "uid"     // its GUID
	restoreKey = "restore" // the GUID of the deleted workspace that is taken back
	givenKey   = "given"   // the roles that its own identity was given, in lines
)

// nameRule is that of workspaces. Source: "Workspaces - Create Or Update", workspaceName.
var nameRule = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_-]{2,32}$`)

func checkName(name string) error {
	if !nameRule.MatchString(name) {
		return apierr.New(apierr.BadRequest, "InvalidWorkspaceName", "The workspace name '%s' is invalid: it must have 3 to 33 letters, digits, dashes and underscores, and begin with a letter or a digit.", name)
	}
	return nil
}

// get gives a resource; nil where there is none.
func (p *provider) get(ctx context.Context, id rid.ID) (*arm.Envelope, error) {
	e, err := p.res.Get(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	return e, err
}

// fresh reads a workspace from the store; nil where there is none.
func (p *provider) fresh(ctx context.Context, id rid.ID) (*Workspace, error) {
	e, err := p.get(ctx, id)
	if err != nil || e == nil {
		return nil, err
	}
	return workspaceOf(e)
}

// may reports whether a principal may do the action at the scope.
func (p *provider) may(ctx context.Context, oid, action string, scope rid.ID) (bool, error) {
	if oid == "" || p.Authorizer == nil {
		return false, nil
	}
	d, err := p.Authorizer.Check(ctx, oid, action, false, scope)
	return d.Allowed, err
}

// PrivateLink is what private endpoints reach of a workspace. scoring is the
// host at which "ENDPOINT.REGION" is scored, perhaps with a port.
func PrivateLink(scoring func(label string) string) privatelink.Service {
	const zone = ".privatelink.api.azureml.ms"
	region := func(e *arm.Envelope) (uid, location string) { return e.Private[uidKey], e.Location }
	inference := func(target *arm.Envelope, label string) []privatelink.Name {
		uid, location := region(target)
		return privatelink.NamesOf("inference", label+"."+uid+".inference."+location+zone,
			label+"."+location+".inference.ml.azure.com", scoring(label+"."+location))
	}
	return privatelink.Service{
		Type: WorkspaceType, APIVersions: apiVersions(),
		Groups: []privatelink.Group{{
			ID: GroupID, Members: []string{"default", "notebook", "inference"}, Zone: "privatelink.api.azureml.ms", MoreZones: []string{"privatelink.notebooks.azure.net"},
		}},
		Names: func(target *arm.Envelope, _ string) []privatelink.Name {
			uid, location := region(target)
			if uid == "" {
				return nil
			}
			api := uid + ".workspace." + location
			out := privatelink.NamesOf("default", api+zone, api+".api.azureml.ms")
			out = append(out, privatelink.NamesOf("default", api+".cert"+zone, api+".cert.api.azureml.ms")...)
			book := notebookLabel(target.Name, location, uid)
			out = append(out, privatelink.NamesOf("notebook", book+".privatelink.notebooks.azure.net", book+".notebooks.azure.net")...)
			return append(out, inference(target, "*")...)
		},
		Children: "onlineEndpoints",
		ChildNames: func(target *arm.Envelope, _, child string) []privatelink.Name {
			return inference(target, lower(child))
		},
	}
}

// notebookLabel begins the name of a workspace's notebooks.
func notebookLabel(name, location, uid string) string {
	return lower("ml-" + name + "-" + location + "-" + uid + "." + location)
}

// readOnly are the properties that clients cannot set.
func readOnly() []string {
	return []string{
		"workspaceId", "discoveryUrl", "mlFlowTrackingUri", "tenantId", "notebookInfo", "privateEndpointConnections", "storageHnsEnabled",
		"serviceProvisionedResourceGroup", "privateLinkCount", "associatedWorkspaces", "softDeletedAt", "scheduledPurgeDate",
		"managedNetwork.networkId", "managedNetwork.status", "managedNetwork.changeableIsolationModes",
	}
}
