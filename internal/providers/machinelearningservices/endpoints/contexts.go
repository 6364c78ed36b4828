package endpoints

import (
	"context"
	"maps"
	"os"
	"slices"

	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/environment"
	"lazurite.dev/internal/providers/machinelearningservices/assets"
	"lazurite.dev/internal/rid"
)

// Contexts copies the files of build contexts.
type Contexts interface {
	// Folder copies the blobs below a folder of a container, in the name of the
	// identity with the object id reader.
	Folder(ctx context.Context, reader string, account rid.ID, container, folder string, into *os.Root) error
}

// resolve finds the image, for a build context with its files at hand.
func (s *Service) resolve(ctx context.Context, w *assets.Workspace, parent *arm.Envelope, p *parts) (environment.Resolved, error) {
	b := p.environmentBuild
	if b == nil {
		return s.Images.Resolve(ctx, p.environment)
	}
	if s.Contexts == nil {
		return environment.Resolved{}, &environment.BuildError{Message: "there is nowhere to read build contexts from"}
	}
	container, folder, err := s.Assets.Context(ctx, w, b.ContextURI)
	if err != nil {
		return environment.Resolved{}, err
	}
	reader, err := reader(parent)
	if err != nil {
		return environment.Resolved{}, err
	}
	e := p.environment
	e.Build = &environment.Build{Dockerfile: b.DockerfilePath, Fetch: func(ctx context.Context, into *os.Root) error {
		return s.Contexts.Folder(ctx, reader, w.Storage, container, folder, into)
	}}
	return s.Images.Resolve(ctx, e)
}

// reader is the object id of the identity by which the pods of an endpoint
// download: what it may not read does not become a part of their image either.
func reader(endpoint *arm.Envelope) (string, error) {
	id, err := arm.IdentityOf(endpoint.Extra)
	if err != nil || id.PrincipalID != "" {
		return id.PrincipalID, err
	}
	for _, name := range slices.Sorted(maps.Keys(id.UserAssigned)) {
		return id.UserAssigned[name].PrincipalID, nil
	}
	return "", nil // who may read nothing
}
