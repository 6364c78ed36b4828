package endpoints

import (
	"context"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/environment"
	"lazurite.dev/internal/providers/machinelearningservices/assets"
	"lazurite.dev/internal/rid"
)

// Registries opens images of the container registries of this cloud.
type Registries interface {
	// Image opens the image that a reference names, in the name of the identity with
	// the object id reader, as the network of the workspace's computes reaches the
	// registry; nil where the reference is of none. An *apierr.Error says
	// why the image can't be had.
	Image(ctx context.Context, reader string, workspace rid.ID, reference string) (*environment.Pulled, error)
}

// pull has images of registries opened by the identity with which the pods of
// an endpoint download.
func (s *Service) pull(w *assets.Workspace, parent *arm.Envelope) environment.Pull {
	if s.Registries == nil {
		return nil
	}
	return func(ctx context.Context, reference string) (*environment.Pulled, error) {
		reader, err := reader(parent)
		if err != nil {
			return nil, err
		}
		p, err := s.Registries.Image(ctx, reader, w.ID, reference)
		if apierr.Is(err, apierr.Forbidden) || apierr.Is(err, apierr.NotFound) || apierr.Is(err, apierr.BadRequest) {
			return nil, &environment.PullError{Message: apierr.From(err).Message}
		}
		return p, err
	}
}
