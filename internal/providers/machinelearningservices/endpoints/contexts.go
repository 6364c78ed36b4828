package endpoints

import (
	"context"
	"errors"
	"fmt"
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
func (s *Service) resolve(ctx context.Context, w *assets.Workspace, p *parts) (out environment.Resolved, err error) {
	b := p.environmentBuild
	if b == nil {
		return s.Images.Resolve(ctx, p.environment)
	}
	if s.Contexts == nil {
		return out, &environment.BuildError{Message: "there is nowhere to read build contexts from"}
	}
	container, folder, err := s.Assets.Context(ctx, w, b.ContextURI)
	if err != nil {
		return out, err
	}
	dir, err := os.MkdirTemp("", "laz-context-")
	if err != nil {
		return out, fmt.Errorf("a folder for the build context: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	root, err := os.OpenRoot(dir)
	if err != nil {
		return out, fmt.Errorf("a folder for the build context: %w", err)
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	if err := s.Contexts.Folder(ctx, w.Storage, container, folder, root); err != nil {
		return out, err
	}
	e := p.environment
	e.Build = &environment.Build{Context: root.FS(), Dockerfile: b.DockerfilePath}
	return s.Images.Resolve(ctx, e)
}
