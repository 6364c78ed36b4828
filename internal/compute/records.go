package compute

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
)

const (
	networkPrefix    = "compute/networks/"    // by the workspace's UID
	deploymentPrefix = "compute/deployments/" // by UID
	networkKind      = "compute.network"
	deploymentKind   = "compute.deployment"
)

// networkDoc is a workspace's cluster as it is stored.
type networkDoc struct {
	Workspace
	ID       string            `json:"resource"`
	Loaded   map[string]string `json:"loaded,omitempty"` // archives of images that it has had: file to mark
	Removing bool              `json:"removing,omitempty"`

	// Space is the network that was last seen, and Since when it was made: no
	// container is older that runs in it.
	Space uint64    `json:"space,omitempty"`
	Since time.Time `json:"since,omitzero"`
}

func (n networkDoc) workspace() (Workspace, error) {
	id, err := rid.Parse(n.ID)
	n.Workspace.ID = id
	return n.Workspace, err
}

// deploymentDoc is a deployment as it is stored: what has to run.
type deploymentDoc struct {
	Deployment  Deployment `json:"deployment"`
	ID          string     `json:"id"`
	WorkspaceID string     `json:"workspace"`
	Secret      []byte     `json:"secret,omitempty"` // sealed: of the identity endpoint
	Removing    bool       `json:"removing,omitempty"`
}

func (d deploymentDoc) deployment() (Deployment, error) {
	id, err1 := rid.Parse(d.ID)
	ws, err2 := rid.Parse(d.WorkspaceID)
	d.Deployment.ID, d.Deployment.Workspace = id, ws
	return d.Deployment, errors.Join(err1, err2)
}

// changeDoc changes a document, which is made where it is not there.
func changeDoc[T any](ctx context.Context, s store.Store, key, kind string, change func(*T) error) (T, error) {
	for {
		doc, rev, err := store.GetJSON[T](ctx, s, key)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return doc, fmt.Errorf("read %s: %w", key, err)
		}
		if err := change(&doc); err != nil {
			return doc, err
		}
		_, err = store.PutJSON(ctx, s, key, kind, rev, doc)
		if errors.Is(err, store.ErrConflict) && ctx.Err() == nil {
			continue
		}
		if err != nil {
			return doc, fmt.Errorf("write %s: %w", key, err)
		}
		return doc, nil
	}
}

// networks are all workspaces' clusters.
func (c *Compute) networks(ctx context.Context) ([]networkDoc, error) {
	var out []networkDoc
	err := store.All(ctx, c.cfg.Store, store.Query{Prefix: networkPrefix, Kind: networkKind}, func(d store.Doc) error {
		var n networkDoc
		if err := json.Unmarshal(d.Value, &n); err != nil {
			return fmt.Errorf("decode %s: %w", d.Key, err)
		}
		n.UID = strings.TrimPrefix(d.Key, networkPrefix)
		out = append(out, n)
		return nil
	})
	return out, err
}

// deployments are those of a workspace.
func (c *Compute) deployments(ctx context.Context, workspaceUID string) ([]deploymentDoc, error) {
	all, err := c.every(ctx)
	return slices.DeleteFunc(all, func(d deploymentDoc) bool { return d.Deployment.WorkspaceUID != workspaceUID }), err
}

// every is each deployment that is stored.
func (c *Compute) every(ctx context.Context) ([]deploymentDoc, error) {
	var out []deploymentDoc
	err := store.All(ctx, c.cfg.Store, store.Query{Prefix: deploymentPrefix, Kind: deploymentKind}, func(d store.Doc) error {
		var one deploymentDoc
		if err := json.Unmarshal(d.Value, &one); err != nil {
			return fmt.Errorf("decode %s: %w", d.Key, err)
		}
		out = append(out, one)
		return nil
	})
	return out, err
}

// Images are the names of the images of all deployments that are stored.
func (c *Compute) Images(ctx context.Context) ([]string, error) {
	all, err := c.every(ctx)
	var names []string
	for _, d := range all {
		names = append(names, d.Deployment.Image)
	}
	return names, err
}

// deployment reads one; ok is false when there is none, or it is being taken away.
func (c *Compute) deployment(ctx context.Context, uid string) (doc deploymentDoc, ok bool, err error) {
	doc, _, err = store.GetJSON[deploymentDoc](ctx, c.cfg.Store, deploymentPrefix+uid)
	if errors.Is(err, store.ErrNotFound) {
		return doc, false, nil
	}
	return doc, err == nil && !doc.Removing, err
}

// drop deletes a document; gone already is no error.
func (c *Compute) drop(ctx context.Context, key string) error {
	if err := c.cfg.Store.Delete(ctx, key, 0); err != nil && !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	return nil
}
