package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/rid"
)

// Limits of Folder.
const (
	maxFolderFiles = 10_000
	maxFolderBytes = 2 << 30
)

// Folder copies the blobs below a folder of a container into a folder of this
// machine: for the server's own use, in the name of reader, an object id,
// whose role is asked for. A folder without blobs is a NotFound; names that are
// no paths here, and more than 10,000 blobs or 2 GiB, are refused.
func (p *Plane) Folder(ctx context.Context, reader string, account rid.ID, container, folder string, into *os.Root) error {
	scope := account.Child("blobServices", "default").Child("containers", container)
	d, err := p.Gate.Authorizer.Check(ctx, reader, readBlobs, true, scope)
	if err != nil {
		return err
	}
	if !d.Allowed {
		return apierr.New(apierr.Forbidden, "AuthorizationPermissionMismatch",
			"The identity with the object id '%s' may not read the blobs of the container '%s' in the storage account '%s' (%s). Give it the role: az role assignment create --assignee-object-id %s --assignee-principal-type ServicePrincipal --role \"Storage Blob Data Reader\" --scope %s",
			reader, container, account.Name(), readBlobs, reader, scope)
	}
	acc, err := p.Accounts.ByID(ctx, account)
	if err != nil {
		return err
	}
	c, err := p.Accounts.Container(ctx, acc, container)
	if err != nil {
		return err
	}
	prefix := strings.Trim(folder, "/")
	if prefix != "" {
		prefix += "/"
	}
	at := place{acc.UID, c.UID}
	items, more, err := p.list(ctx, at, prefix, "", "", maxFolderFiles)
	switch {
	case err != nil:
		return fmt.Errorf("list the blobs of a folder: %w", err)
	case len(items) == 0:
		return apierr.New(apierr.NotFound, "BlobNotFound", "There are no blobs in '%s' of the container '%s'.", folder, container)
	case more:
		return apierr.New(apierr.BadRequest, "BadArgument", "The folder '%s' holds more than %d blobs.", folder, maxFolderFiles)
	}
	var sum int64
	for _, x := range items {
		name := strings.TrimPrefix(x.name, prefix)
		if sum += x.doc.Size; sum > maxFolderBytes {
			return apierr.New(apierr.BadRequest, "BadArgument", "The folder '%s' holds more than %d bytes.", folder, int64(maxFolderBytes))
		}
		if strings.HasSuffix(name, "/") {
			continue // stands for a folder
		}
		if !filepath.IsLocal(name) || path.Clean(name) != name {
			return apierr.New(apierr.BadRequest, "BadArgument", "The blob '%s' has a name that no file can have.", x.name)
		}
		if err := p.save(at, x.doc.File, into, name); err != nil {
			return fmt.Errorf("copy the blob %s: %w", x.name, errors.Join(err, ctx.Err()))
		}
	}
	return nil
}

func (p *Plane) save(at place, id string, into *os.Root, name string) (err error) {
	if err := into.MkdirAll(path.Dir(name), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	from, err := os.Open(p.files.content(at, id))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	to, err := into.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	return errors.Join(err, to.Close())
}
