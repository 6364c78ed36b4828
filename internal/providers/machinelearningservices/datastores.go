package machinelearningservices

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"lazurite.dev/internal/apierr"
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
	Secrets *Secrets `json:"secrets,omitempty"` // sealed, never shown
}

// Secrets are those of a datastore.
type Secrets struct {
	Type string `json:"secretsType,omitempty"`
	Key  string `json:"key,omitempty"`
	SAS  string `json:"sasToken,omitempty"`
}

// The types of credentials.
const (
	credNone = "None"
	credKey  = "AccountKey"
	credSAS  = "Sas"
)

// secretKey is in Private of a datastore: its sealed secrets.
const secretKey = "secrets"

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

// validateDatastore takes blob containers, and seals the secrets.
func (p *provider) validateDatastore(ctx context.Context, old, next *arm.Resource[Datastore]) error {
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
	if n.IsDefault {
		return bad("properties.isDefault", "The default datastore of a workspace is 'workspaceblobstore'; another is not supported.")
	}
	if n.Credentials == nil {
		n.Credentials = &Credentials{Type: credNone}
	}
	c := n.Credentials
	if err := oneOf("credentials.credentialsType", &c.Type, credNone, credKey, credSAS); err != nil {
		return err
	}
	uid, err := p.uidOf(ctx, next.ID.Parent())
	if err != nil {
		return err
	}
	if c.Secrets == nil && old != nil && old.Properties.Credentials != nil && old.Properties.Credentials.Type == c.Type {
		return nil // what was sealed stays
	}
	delete(next.Private, secretKey)
	if c.Type == credNone {
		c.Secrets = nil
		return nil
	}
	if c.Secrets == nil || c.Type == credKey && c.Secrets.Key == "" || c.Type == credSAS && c.Secrets.SAS == "" {
		return bad("properties.credentials.secrets", "Credentials of the type %s need secrets: a key, or a sasToken.", c.Type)
	}
	if p.Sealer == nil {
		return apierr.New(apierr.NotImplemented, "SecretsNotSealed", "This server seals no secrets.")
	}
	c.Secrets.Type = c.Type
	sealed, err := p.Sealer.Seal(ctx, sealScope(uid), asJSON(c.Secrets), []byte(next.ID.Key()))
	if err != nil {
		return fmt.Errorf("seal the secrets of a datastore: %w", err)
	}
	next.Private[secretKey] = base64.StdEncoding.EncodeToString(sealed)
	c.Secrets = nil
	return nil
}

// sealScope is the scope under which the workspace's secrets are sealed.
func sealScope(uid string) string { return "machinelearningservices/" + uid }

// uidOf is the GUID of a workspace.
func (p *provider) uidOf(ctx context.Context, id rid.ID) (string, error) {
	e, err := p.get(ctx, id)
	if err != nil {
		return "", err
	}
	if e == nil {
		return "", notFound(id)
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
		return nil, notFound(r.ID.Parent())
	}
	if p.isDefault(r.ID.Name()) {
		_, key, err := p.storageKey(ctx, &ws.Properties)
		return Secrets{Type: credKey, Key: key}, err
	}
	raw, err := base64.StdEncoding.DecodeString(r.Private[secretKey])
	if err != nil || len(raw) == 0 {
		return nil, bad("", "The datastore '%s' has no secrets.", r.ID.Name())
	}
	plain, err := p.Sealer.Open(ctx, sealScope(ws.UID), raw, []byte(r.ID.Key()))
	if err != nil {
		return nil, fmt.Errorf("open the secrets of a datastore: %w", err)
	}
	var s Secrets
	if err := json.Unmarshal(plain, &s); err != nil {
		return nil, fmt.Errorf("decode the secrets of a datastore: %w", err)
	}
	return s, nil
}
