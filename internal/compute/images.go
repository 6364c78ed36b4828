package compute

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"lazurite.dev/internal/durable"
	"lazurite.dev/internal/image"
	"lazurite.dev/internal/store"
)

// programName is the image of this program in clusters, but for its tag.
const programName = "lazurite.dev/laz"

// programImage is the name of the image of this program: of these very bytes,
// so that pods and server speak the same language after an update.
func (c *Compute) programImage() (name string, err error) {
	sum, err := c.programSum()
	if err != nil {
		return "", err
	}
	return programName + ":" + sum, nil
}

// programSum names the program's bytes; it is worked out once.
func (c *Compute) programSum() (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sum != "" {
		return c.sum, nil
	}
	f, err := os.Open(c.cfg.Program)
	if err != nil {
		return "", fmt.Errorf("this program as an image: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("this program as an image: %w", err)
	}
	c.sum = hex.EncodeToString(h.Sum(nil))[:16]
	return c.sum, nil
}

// programArchive is the file with this program's image, which is made when it is
// not there; those of other programs go.
func (c *Compute) programArchive(ctx context.Context) (string, error) {
	name, err := c.programImage()
	if err != nil {
		return "", err
	}
	give, err := c.take(ctx, "program")
	if err != nil {
		return "", err
	}
	defer give()
	file := filepath.Join(c.cfg.Folder, filepath.Base(programName)+"-"+c.sum+".tar")
	if _, err := os.Stat(file); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return file, err
	}
	if err := os.MkdirAll(c.cfg.Folder, 0o700); err != nil {
		return "", err
	}
	old, err := filepath.Glob(filepath.Join(c.cfg.Folder, filepath.Base(programName)+"-*"))
	if err != nil {
		return "", err
	}
	for _, o := range old {
		if err := os.Remove(o); err != nil {
			return "", err
		}
	}
	// Under another name until it is whole.
	f, err := os.OpenFile(file+".part", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return "", err
	}
	err = image.Build(ctx, c.cfg.Program, image.Config{Name: name}, f)
	if err = durable.Finish(f, err); err != nil {
		return "", &Failure{Code: CodeNoSupport, Message: fmt.Sprintf("Deployments can't run here: pods need this program as an image, and it can't be one: %v. It has to be built with CGO_ENABLED=0, as make build does.", err)}
	}
	return file, durable.Rename(file+".part", file)
}

// loadProgram gives a cluster the image of this program.
func (c *Compute) loadProgram(ctx context.Context, workspaceUID string) error {
	file, err := c.programArchive(ctx)
	if err != nil {
		return err
	}
	_, err = c.loadArchive(ctx, workspaceUID, file)
	return err
}

// loadArchive gives a cluster the images of a file that it has not had, and says
// which content it was.
func (c *Compute) loadArchive(ctx context.Context, workspaceUID, file string) (mark string, err error) {
	info, err := os.Stat(file)
	if err != nil {
		return "", fmt.Errorf("an archive of images: %w", err)
	}
	mark = fmt.Sprintf("%d-%d", info.Size(), info.ModTime().UnixNano())
	give, err := c.take(ctx, "archive "+workspaceUID+" "+file)
	if err != nil {
		return "", err
	}
	defer give()
	n, _, err := store.GetJSON[networkDoc](ctx, c.cfg.Store, networkPrefix+workspaceUID)
	if err != nil || n.Loaded[file] == mark {
		return mark, err
	}
	f, err := os.Open(file)
	if err != nil {
		return "", fmt.Errorf("an archive of images: %w", err)
	}
	defer f.Close()
	if _, err := c.cfg.Agent.LoadImage(ctx, ClusterUID(workspaceUID), f); err != nil {
		return "", fmt.Errorf("loading images: %w", err)
	}
	_, err = changeDoc(ctx, c.cfg.Store, networkPrefix+workspaceUID, networkKind, func(n *networkDoc) error {
		if n.Loaded == nil {
			n.Loaded = map[string]string{}
		}
		n.Loaded[file] = mark
		return nil
	})
	return mark, err
}
