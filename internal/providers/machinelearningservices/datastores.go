package machinelearningservices

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/rid"
)

// Datastore is where assets of a workspace lie. Source: "Datastores - Create
// Or Update", AzureBlobDatastore.
type Datastore struct {
	Type         string            `json:"datastoreType,omitempty"`
	Account      string            `json:"accountName,omitempty"`
	Container    string            `json:"containerName,omitempty"`
	Endpoint     string            `json:"endpoint,omitempty"`
	Protocol     string            `json:"protocol,omitempty"`
	Description  string            `json:"description,omitempty"`
	IsDefault    bool              `json:"isDefault"`
	Credentials  *Credentials      `json:"credentials,omitempty"`
	Access       string            `json:"serviceDataAccessAuthIdentity,omitempty"`
	Subscription string            `json:"subscriptionId,omitempty"`
	Group        string            `json:"resourceGroup,omitempty"`
	Labels       map[string]string `json:"tags,omitempty"`
	Values       map[string]string `json:"properties,omitempty"`
}

// Credentials say how a datastore is opened.
type Credentials struct {
	Type    string   `json:"credentialsType,omitempty"`
	Secrets *Secrets `json:"secrets,omitempty"` // refused, never stored
}

// Secrets are those of a datastore.
type Secrets struct {
	Type string `json:"secretsType,omitempty"`
	Key  string `json:"key,omitempty"`
}

// The types of credentials.
const (
	credNone = "None"
	credKey  = "AccountKey" // of the default ones alone
)

type defaultContainer struct{ name, container string }

// defaultContainers are the datastores of every workspace; the first is the
// one that is meant where none is named. Source: "Create datastores".
func defaultContainers(uid string) []defaultContainer {
	return []defaultContainer{
		{"workspaceblobstore", "azureml-blobstore-" + uid}, {"workspaceartifactstore", "azureml"},
	}
}

var datastoreName = regexp.MustCompile(`^[a-zA-Z0-9_]{1,255}$`)

func (p *provider) datastores() arm.Kind[Datastore] {
	return arm.Kind[Datastore]{
		Type: "workspaces/datastores", APIVersions: apiVersions(), NoState: true, NoPatch: true,
		Name: func(name string) error {
			if !datastoreName.MatchString(name) {
				return bad("name", "The datastore name '%s' is invalid: it must have 1 to 255 letters, digits and underscores.", name)
			}
			return nil
		},
		Validate: p.validateDatastore,
		Read: func(_ context.Context, r *arm.Resource[Datastore]) error {
			if c := r.Properties.Credentials; c != nil {
				c.Secrets = nil
			}
			return nil
		},
		Deletable: func(_ context.Context, old *arm.Resource[Datastore]) error {
			if p.isDefault(old.ID.Name()) {
				return bad("", "The datastore '%s' belongs to every workspace and cannot be deleted.", old.ID.Name())
			}
			return nil
		},
		Actions: map[string]arm.Action[Datastore]{"listSecrets": p.listSecrets},
	}
}

func (p *provider) isDefault(name string) bool {
	return slices.ContainsFunc(defaultContainers(""), func(c defaultContainer) bool { return strings.EqualFold(c.name, name) })
}

// validateDatastore takes blob containers.
func (p *provider) validateDatastore(ctx context.Context, _, next *arm.Resource[Datastore]) error {
	n := &next.Properties
	if p.isDefault(next.ID.Name()) {
		return bad("name", "The datastore '%s' belongs to every workspace and cannot be changed.", next.ID.Name())
	}
	if !strings.EqualFold(n.Type, "AzureBlob") {
		return bad("properties.datastoreType", "Datastores of the type '%s' are not supported: this cloud has blob containers, 'AzureBlob'.", n.Type)
	}
	n.Type = "AzureBlob"
	if n.Account == "" || n.Container == "" {
		return bad("properties", "The datastore needs an accountName and a containerName.")
	}
	if n.Endpoint == "" {
		n.Endpoint = "core.windows.net"
	}
	if n.Protocol == "" {
		n.Protocol = "https"
	}
	if n.Protocol != "https" {
		return bad("properties.protocol", "The protocol '%s' is not supported: storage is reached by https.", n.Protocol)
	}
	if n.Access == "" {
		n.Access = credNone
	}
	if err := oneOf("serviceDataAccessAuthIdentity", &n.Access, credNone, "WorkspaceSystemAssignedIdentity", "WorkspaceUserAssignedIdentity"); err != nil {
		return err
	}
	if n.IsDefault {
		return bad("properties.isDefault", "The default datastore of a workspace is 'workspaceblobstore'; another is not supported.")
	}
	if err := n.Credentials.check(); err != nil {
		return err
	}
	n.Credentials = &Credentials{Type: credNone}
	_, err := p.uidOf(ctx, next.ID.Parent())
	return err
}

// check refuses credentials: deployments would not open the datastore with them.
func (c *Credentials) check() error {
	if c == nil || (c.Type == "" || strings.EqualFold(c.Type, credNone)) && (c.Secrets == nil || c.Secrets.Key == "") {
		return nil
	}
	return bad("properties.credentials", "Credentials of datastores are not supported, only 'None': deployments download with the identity of their endpoint. Give it the role 'Storage Blob Data Reader' at the container.")
}

// uidOf is the GUID of a workspace.
func (p *provider) uidOf(ctx context.Context, id rid.ID) (string, error) {
	e, err := p.get(ctx, id)
	if err != nil {
		return "", err
	}
	if e == nil {
		return "", arm.NotFound(id)
	}
	return e.Private[uidKey], nil
}

// listLimit is how many resources of a kind a workspace lists.
const listLimit = 1000

// writeDefaults makes the datastores of every workspace.
func (p *provider) writeDefaults(ctx context.Context, ws *Workspace) error {
	account, err := rid.Parse(ws.Properties.Storage)
	if err != nil {
		return nil // it was validated
	}
	credentials := credKey
	if ws.Properties.Datastores == "identity" {
		credentials = credNone
	}
	for i, c := range defaultContainers(ws.UID) {
		props, err := asMap(Datastore{
			Type: "AzureBlob", Account: account.Name(), Container: c.container, Endpoint: "core.windows.net", Protocol: "https", IsDefault: i == 0,
			Credentials: &Credentials{Type: credentials}, Access: credNone, Subscription: account.Subscription(), Group: account.ResourceGroup(),
		})
		if err != nil {
			return err
		}
		id := ws.ID.Child("datastores", c.name)
		e, err := p.get(ctx, id)
		if err != nil {
			return err
		}
		if e == nil {
			e = &arm.Envelope{ID: id.String(), Name: c.name, Type: id.Type()}
			e.System.CreatedAt = p.Now().UTC()
		}
		e.Properties = props
		if err := p.res.Put(ctx, e); err != nil {
			return fmt.Errorf("make the datastore %s: %w", c.name, err)
		}
	}
	return nil
}

// listSecrets is POST …/listSecrets.
func (p *provider) listSecrets(ctx context.Context, r *arm.Resource[Datastore], _ json.RawMessage) (any, error) {
	c := r.Properties.Credentials
	if c == nil || c.Type == credNone {
		return Secrets{Type: credNone}, nil
	}
	ws, err := p.fresh(ctx, r.ID.Parent())
	if err != nil {
		return nil, err
	}
	if ws == nil {
		return nil, arm.NotFound(r.ID.Parent())
	}
	_, key, err := p.storageKey(ctx, &ws.Properties)
	return Secrets{Type: credKey, Key: key}, err
}
