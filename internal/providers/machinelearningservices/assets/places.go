package assets

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path"
	"regexp"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
)

// Workspace is what assets and endpoints have to know of a workspace.
type Workspace struct {
	ID       rid.ID
	GUID     string // workspaceId, lower case
	Location string
	Storage  rid.ID // of the default storage account
	Registry rid.ID // zero: there is none
	Legacy   bool   // v1LegacyMode
	Public   bool   // publicNetworkAccess is not Disabled
	Mode     string // managedNetwork.isolationMode: Disabled, AllowInternetOutbound or AllowOnlyApprovedOutbound
	State    string // provisioningState
}

// Workspace reads a workspace. Where there is none the error is a NotFound.
func (s *Service) Workspace(ctx context.Context, id rid.ID) (*Workspace, error) {
	e, err := s.res.Get(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return nil, apierr.New(apierr.NotFound, "ParentResourceNotFound", "The workspace '%s' could not be found.", id)
	} else if err != nil {
		return nil, err
	}
	return WorkspaceOf(e)
}

// WorkspaceOf reads a workspace's document.
func WorkspaceOf(e *arm.Envelope) (*Workspace, error) {
	v, err := arm.View[struct {
		GUID     string `json:"workspaceId"`
		Storage  string `json:"storageAccount"`
		Registry string `json:"containerRegistry"`
		Legacy   bool   `json:"v1LegacyMode"`
		Public   string `json:"publicNetworkAccess"`
		Network  *struct {
			Mode string `json:"isolationMode"`
		} `json:"managedNetwork"`
	}](e)
	if err != nil {
		return nil, err
	}
	p := &v.Properties
	w := &Workspace{ID: v.ID, GUID: strings.ToLower(p.GUID), Location: v.Location, Legacy: p.Legacy, Public: !strings.EqualFold(p.Public, "Disabled"), Mode: "Disabled", State: e.State()}
	if p.Network != nil && p.Network.Mode != "" {
		w.Mode = p.Network.Mode
	}
	for _, one := range []struct {
		text string
		to   *rid.ID
	}{{p.Storage, &w.Storage}, {p.Registry, &w.Registry}} {
		if one.text == "" {
			continue
		}
		if *one.to, err = rid.Parse(one.text); err != nil {
			return nil, fmt.Errorf("read the workspace %s: %w", e.ID, err)
		}
	}
	return w, nil
}

// storage is the workspace that id is in, which has to have a storage account.
func (s *Service) storage(ctx context.Context, id rid.ID) (*Workspace, rid.ID, error) {
	w, err := s.Workspace(ctx, workspaceOf(id))
	if err != nil {
		return nil, rid.ID{}, err
	}
	if s.Storage == nil || w.Storage.IsRoot() {
		return nil, rid.ID{}, apierr.New(apierr.Conflict, "UserError", "The workspace '%s' has no storage account to which files could be uploaded.", w.ID.Name())
	}
	return w, w.Storage, nil
}

// workspaceOf is the workspace that an id is in.
func workspaceOf(id rid.ID) rid.ID {
	for len(id.Types()) > 1 {
		id = id.Parent()
	}
	return id
}

// place is where files are, by a URI that was given.
type place struct {
	workspace rid.ID // of the datastore; zero: the one that asks
	datastore string // "": url says it

	account, container string // of a URL
	path               string // in the container, without slashes at its ends
}

var (
	errURI      = errors.New("it is neither a blob's URL nor 'azureml://datastores/NAME/paths/PATH'")
	storeShape  = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,255}$`)
	accountSafe = regexp.MustCompile(`^[a-z0-9]{3,24}$`)
	holderShape = regexp.MustCompile(`^(\$web|\$root|[a-z0-9][a-z0-9-]{2,62})$`)
)

// place reads the URI of files: https of a blob, or of a datastore,
// azureml://[subscriptions/S/resourcegroups/R/workspaces/W/]datastores/D/paths/P.
func (s *Service) place(uri string) (place, error) {
	if len(uri) > 2048 || strings.ContainsAny(uri, "\x00\r\n\t\\") {
		return place{}, errors.New("it is longer than 2048 bytes or holds characters that no URI has")
	}
	if rest, ok := cutFold(uri, "azureml://"); ok {
		return datastorePlace(rest)
	}
	u, err := url.Parse(uri)
	if err != nil {
		return place{}, errURI
	}
	if !strings.EqualFold(u.Scheme, "https") || u.User != nil || u.Opaque != "" || s.Storage == nil {
		return place{}, errURI
	}
	if u.RawQuery != "" || u.Fragment != "" {
		return place{}, errors.New("it has a query: a signature does not belong in what is kept")
	}
	account, ok := s.Storage.IsBlobHost(u.Host)
	if !ok || !accountSafe.MatchString(account) {
		return place{}, fmt.Errorf("the host '%s' is no storage account's", u.Host)
	}
	container, rest, _ := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	if !holderShape.MatchString(container) {
		return place{}, fmt.Errorf("'%s' is no container's name", container)
	}
	p := place{account: account, container: container}
	p.path, err = cleanPath(rest)
	return p, err
}

func datastorePlace(rest string) (place, error) {
	var p place
	segs := strings.Split(rest, "/")
	if len(segs) > 6 && strings.EqualFold(segs[0], "subscriptions") && strings.EqualFold(segs[2], "resourcegroups") && strings.EqualFold(segs[4], "workspaces") {
		id, err := rid.Parse("/subscriptions/" + segs[1] + "/resourceGroups/" + segs[3] + "/providers/" + WorkspaceType + "/" + segs[5])
		if err != nil {
			return p, errURI
		}
		p.workspace, segs = id, segs[6:]
	}
	if len(segs) < 3 || !strings.EqualFold(segs[0], "datastores") || !strings.EqualFold(segs[2], "paths") || !storeShape.MatchString(segs[1]) {
		return p, errURI
	}
	var err error
	p.datastore = segs[1]
	p.path, err = cleanPath(strings.Join(segs[3:], "/"))
	return p, err
}

// cleanPath refuses paths that lead elsewhere than they seem to.
func cleanPath(p string) (string, error) {
	p = strings.Trim(p, "/")
	for seg := range strings.SplitSeq(p, "/") {
		if p != "" && (seg == "" || seg == "." || seg == "..") {
			return "", fmt.Errorf("the path '%s' has empty segments, or dots alone", p)
		}
	}
	if strings.ContainsAny(p, "\x00\r\n\t\\") {
		return "", errors.New("the path holds characters that no file has")
	}
	return p, nil
}

func cutFold(s, prefix string) (string, bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return s, false
	}
	return s[len(prefix):], true
}

// Location is where the files of an asset are.
type Location struct {
	URL  string // https://ACCOUNT.blob…/CONTAINER/PATH, without a signature
	Base string // the last segment of the path: what the files are called where they are mounted
}

// Locate finds where a URI's files are, for a workspace.
func (s *Service) Locate(ctx context.Context, workspace rid.ID, uri string) (Location, error) {
	p, err := s.place(uri)
	if err != nil {
		return Location{}, apierr.New(apierr.BadRequest, "BadArgument", "The URI '%s' is invalid: %v.", uri, err)
	}
	if !p.workspace.IsRoot() && !p.workspace.Equal(workspace) {
		return Location{}, apierr.New(apierr.BadRequest, "BadArgument", "The URI '%s' is in another workspace than the deployment.", uri)
	}
	if p.datastore != "" {
		if p.account, p.container, err = s.datastore(ctx, workspace, p.datastore); err != nil {
			return Location{}, err
		}
	}
	base := path.Base(p.path)
	if p.path == "" {
		base = p.container
	}
	return Location{URL: s.Storage.BlobURL(p.account, p.container, p.path), Base: base}, nil
}

// datastore is the account and container of a workspace's datastore.
func (s *Service) datastore(ctx context.Context, workspace rid.ID, name string) (account, container string, err error) {
	e, err := s.res.Get(ctx, workspace.Child("datastores", name))
	if errors.Is(err, store.ErrNotFound) {
		return "", "", apierr.New(apierr.BadRequest, "BadArgument", "The workspace '%s' has no datastore '%s'.", workspace.Name(), name)
	} else if err != nil {
		return "", "", err
	}
	account, _ = e.Properties["accountName"].(string)
	container, _ = e.Properties["containerName"].(string)
	if !accountSafe.MatchString(account) || !holderShape.MatchString(container) || s.Storage == nil {
		return "", "", apierr.New(apierr.BadRequest, "BadArgument", "The datastore '%s' is no container of blobs.", name)
	}
	return account, container, nil
}
