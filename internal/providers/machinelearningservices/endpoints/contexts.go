package endpoints

import (
	"context"
	"os"

	"lazurite.dev/internal/environment"
	"lazurite.dev/internal/providers/machinelearningservices/assets"
	"lazurite.dev/internal/rid"
)

// Contexts copies the files of build contexts.
type Contexts interface {
	// Folder copies the blobs below a folder of a container.
	Folder(ctx context.Context, account rid.ID, container, folder string, into *os.Root) error
}

// resolve finds the image, for a build context with its files at hand.
func (s *Service) resolve(ctx context.Context, w *assets.Workspace, p *parts) (environment.Resolved, error) {
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
	e := p.environment
	e.Build = &environment.Build{Dockerfile: b.DockerfilePath, Fetch: func(ctx context.Context, into *os.Root) error {
		return s.Contexts.Folder(ctx, w.Storage, container, folder, into)
	}}
	return s.Images.Resolve(ctx, e)
}
