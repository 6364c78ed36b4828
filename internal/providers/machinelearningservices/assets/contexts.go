package assets

import (
	"context"
	"strings"

	"lazurite.dev/internal/apierr"
)

// Context finds the folder of a build context. It must lie in the workspace's
// own storage account: the server reads it, and would else read for someone
// what only others may.
func (s *Service) Context(ctx context.Context, w *Workspace, uri string) (container, folder string, err error) {
	refuse := func(format string, args ...any) error {
		return apierr.New(apierr.BadRequest, "BadArgument", "The build context '%s' is invalid: "+format+".", append([]any{uri}, args...)...)
	}
	p, err := s.place(uri)
	if err != nil {
		return "", "", refuse("%v", err)
	}
	if !p.workspace.IsRoot() && !p.workspace.Equal(w.ID) {
		return "", "", refuse("it is in another workspace")
	}
	if p.datastore != "" {
		if p.account, p.container, err = s.datastore(ctx, w.ID, p.datastore); err != nil {
			return "", "", err
		}
	}
	if w.Storage.IsRoot() || !strings.EqualFold(p.account, w.Storage.Name()) {
		return "", "", refuse("it is not in the storage account of the workspace '%s'", w.ID.Name())
	}
	return p.container, p.path, nil
}
