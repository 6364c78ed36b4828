package assets

import (
	"context"
	"errors"
	"regexp"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
)

// Reference names an asset, or files that are none. Source: "CLI (v2) core
// YAML syntax", referencing assets.
type Reference struct {
	Workspace rid.ID // zero: the one that asks
	Registry  string // in place of a workspace
	Type      string // "": not said
	Name      string
	Version   string // or Label
	Label     string // "latest"
	URI       string // of files; the rest is empty
}

var errReference = errors.New("it is neither an asset's id, 'azureml:NAME:VERSION', 'azureml:NAME@latest', 'azureml://registries/REGISTRY/…' nor the URI of files")

var registryShape = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9-]{1,62}$`)

// ParseReference reads what a deployment says of its code, model or environment.
func ParseReference(s string) (Reference, error) {
	if len(s) > 2048 {
		return Reference{}, errReference
	}
	rest, short := cutFold(s, "azureml:")
	switch {
	case short && strings.HasPrefix(rest, "//"):
		return parseURI(s, rest[2:])
	case short && !strings.HasPrefix(rest, "/"):
		return parseShort(rest)
	}
	if strings.HasPrefix(rest, "/") {
		return parseID(rest)
	}
	if _, ok := cutFold(s, "https://"); ok {
		return Reference{URI: s}, nil
	}
	return Reference{}, errReference
}

func parseURI(whole, rest string) (Reference, error) {
	segs := strings.Split(rest, "/")
	if strings.EqualFold(segs[0], "registries") {
		if len(segs) != 6 || !registryShape.MatchString(segs[1]) {
			return Reference{}, errReference
		}
		r := Reference{Registry: segs[1], Type: strings.ToLower(segs[2]), Name: segs[3]}
		switch strings.ToLower(segs[4]) {
		case "versions":
			r.Version = segs[5]
		case "labels":
			r.Label = segs[5]
		default:
			return Reference{}, errReference
		}
		return r, r.check()
	}
	return Reference{URI: whole}, nil
}

// parseShort reads NAME:VERSION and NAME@LABEL.
func parseShort(s string) (Reference, error) {
	var r Reference
	var ok bool
	if r.Name, r.Label, ok = strings.Cut(s, "@"); !ok {
		if r.Name, r.Version, ok = strings.Cut(s, ":"); !ok {
			return r, errReference
		}
	}
	return r, r.check()
}

func parseID(s string) (Reference, error) {
	id, err := rid.Parse(s)
	if err != nil || id.Collection || !strings.EqualFold(id.Namespace(), Namespace) || len(id.Types()) != 3 {
		return Reference{}, errReference
	}
	t := id.Types()
	r := Reference{Workspace: workspaceOf(id), Type: strings.ToLower(t[1]), Name: id.Names()[1], Version: id.Name()}
	if !strings.EqualFold(t[0], "workspaces") || !strings.EqualFold(t[2], "versions") {
		return Reference{}, errReference
	}
	return r, r.check()
}

func (r Reference) check() error {
	if checkName(r.Name) != nil || r.Version == "" && r.Label == "" || r.Version != "" && checkName(r.Version) != nil {
		return errReference
	}
	if r.Label != "" && !strings.EqualFold(r.Label, "latest") {
		return errors.New("the only label is 'latest'")
	}
	switch r.Type {
	case "", Codes, Models, Environments, Data:
		return nil
	}
	return errReference
}

// Found is a version that was asked for.
type Found struct {
	ID         rid.ID
	Name       string
	Version    string
	Properties Version
}

// Find reads the asset of a type that ref names, for a workspace. Where there
// is none, the error is a BadRequest with the code BadArgument.
func (s *Service) Find(ctx context.Context, workspace rid.ID, typ string, ref Reference) (*Found, error) {
	if ref.Type != "" && ref.Type != typ {
		return nil, argument("The reference to '%s' is one of %s, and not of %s.", ref.Name, ref.Type, typ)
	}
	if !ref.Workspace.IsRoot() && !ref.Workspace.Equal(workspace) {
		return nil, argument("'%s' is in the workspace '%s', and the deployment in '%s'.", ref.Name, ref.Workspace.Name(), workspace.Name())
	}
	container := workspace.Child(typ, ref.Name)
	version := ref.Version
	if ref.Label != "" {
		all, err := list[Version](ctx, s.res, container, WorkspaceType+"/"+typ+"/versions")
		if err != nil {
			return nil, err
		}
		if len(all) == 0 {
			return nil, argument("The workspace '%s' has no version of '%s' in %s.", workspace.Name(), ref.Name, typ)
		}
		version = newest(all).ID.Name()
	}
	e, err := s.res.Get(ctx, container.Child("versions", version))
	if errors.Is(err, store.ErrNotFound) {
		return nil, argument("The workspace '%s' has no version '%s' of '%s' in %s.", workspace.Name(), version, ref.Name, typ)
	} else if err != nil {
		return nil, err
	}
	v, err := arm.View[Version](e)
	if err != nil {
		return nil, err
	}
	return &Found{ID: v.ID, Name: v.ID.Parent().Name(), Version: v.ID.Name(), Properties: v.Properties}, nil
}

func argument(format string, args ...any) error {
	return apierr.New(apierr.BadRequest, "BadArgument", format, args...)
}
