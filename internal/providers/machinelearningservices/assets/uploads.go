package assets

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/rid"
)

// The files of a version that clients upload are in a container of their own.
// It takes files until a version names it: then it is sealed, so that the
// signature by which they came changes nothing any more; and whoever uploads a
// version of that id again, after it was deleted, gets another container.

const (
	uploadTime = time.Hour // that a client may take
	maxUploads = 1000      // containers of one id
)

// upload gives the container for the files of a version that is to be made, the
// same each time until it is sealed, and its address with a signature.
func (s *Service) upload(ctx context.Context, ws *Workspace, account, id rid.ID) (container, signed string, err error) {
	space, err := uuid.Parse(ws.GUID)
	if err != nil {
		return "", "", fmt.Errorf("the id of the workspace %s: %w", ws.ID, err)
	}
	for n := range maxUploads {
		name := id.Key()
		if n > 0 {
			name += "?" + strconv.Itoa(n) // which no id has
		}
		container = uploadPrefix(space) + uuid.NewSHA1(space, []byte(name)).String()
		signed, err = s.Storage.SignContainer(ctx, account, container, "racwl", s.Now().Add(uploadTime).UTC())
		if !errors.Is(err, ErrSealed) {
			return container, signed, err
		}
	}
	return "", "", apierr.New(apierr.Conflict, "UserError", "The version '%s' of '%s' was uploaded and deleted %d times: choose another one.", id.Name(), id.Parent().Name(), maxUploads)
}

// uploadPrefix begins the names of the containers for a workspace's uploads.
func uploadPrefix(space uuid.UUID) string { return space.String()[:8] + "-" }

// seal ends the upload of the files that a version names.
func (s *Service) seal(ctx context.Context, v *arm.Resource[Version]) error {
	n := &v.Properties
	uris := []string{n.CodeURI, n.ModelURI, n.DataURI}
	if n.Build != nil {
		uris = append(uris, n.Build.ContextURI)
	}
	for _, uri := range uris {
		p, err := s.place(uri)
		if err != nil || p.container == "" {
			continue // none, or in a datastore
		}
		ws, account, err := s.storage(ctx, v.ID)
		if err != nil {
			return err
		}
		space, err := uuid.Parse(ws.GUID)
		if err != nil {
			return fmt.Errorf("the id of the workspace %s: %w", ws.ID, err)
		}
		rest, ours := strings.CutPrefix(p.container, uploadPrefix(space))
		if _, err := uuid.Parse(rest); !ours || err != nil || len(rest) != 36 || !strings.EqualFold(p.account, account.Name()) {
			continue
		}
		if err := s.Storage.SealContainer(ctx, account, p.container); err != nil {
			return fmt.Errorf("end the upload of %s: %w", v.ID, err)
		}
	}
	return nil
}
