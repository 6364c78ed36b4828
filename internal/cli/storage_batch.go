package cli

import (
	"context"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
)

func blobBatchCommands() []*command {
	return []*command{
		{path: "storage blob upload-batch", short: "Upload the files of a folder.", example: "storage blob upload-batch --account-name mystore --destination mycontainer --source ./folder --auth-mode login",
			args: append(append(planeArgs(), contentArgs()...), opt("source", "Folder.").or("-s").required(), opt("destination", "Container, or its address.").or("-d").required(),
				opt("destination-path", "What the blobs' names begin with."), opt("pattern", "Which files, such as *.txt."), flagOpt("dryrun", "Only say what would be done.")),
			run: inAccount(uploadBatch)},
		{path: "storage blob download-batch", short: "Download the blobs of a container into a folder.", example: "storage blob download-batch --account-name mystore --source mycontainer --destination ./folder --auth-mode login",
			args: append(planeArgs(), opt("source", "Container, or its address.").or("-s").required(), opt("destination", "Folder.").or("-d").required(), opt("pattern", "Which blobs, such as models/*."),
				boolOpt("overwrite", "Write over files that are there."), flagOpt("dryrun", "Only say what would be done."), flagOpt("no-progress", "Show no progress; there is none.")),
			run: inAccount(downloadBatch)},
	}
}

// containerOf is the container that a name or an address of it means.
func (b *blobs) containerOf(s string) (string, error) {
	if !strings.Contains(s, "/") {
		return s, nil
	}
	u, err := url.Parse(s)
	if err != nil || !strings.HasPrefix(strings.ToLower(s), strings.ToLower(b.base)+"/") {
		return "", usagef("'%s' is no container of the account %s", s, b.account)
	}
	name, rest, _ := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	if rest != "" {
		return "", usagef("'%s' is an address of more than a container", s)
	}
	return name, nil
}

// fits reports whether a name is of a pattern; a star stands for slashes, too.
func fits(pattern, name string) bool {
	if pattern == "" {
		return true
	}
	ok, err := path.Match(strings.ReplaceAll(pattern, "/", "\x01"), strings.ReplaceAll(name, "/", "\x01"))
	return err == nil && ok
}

func uploadBatch(ctx context.Context, c *call, b *blobs) (any, error) {
	container, err := b.containerOf(c.text("destination"))
	if err != nil {
		return nil, err
	}
	root := c.filePath(c.text("source"))
	if info, err := os.Stat(root); err != nil || !info.IsDir() {
		return nil, usagef("incorrect usage: source must be an existing directory")
	}
	out := []any{}
	err = filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if !fits(c.text("pattern"), rel) {
			return nil
		}
		name := path.Join(c.text("destination-path"), rel)
		if c.flag("dryrun") {
			out = append(out, object{"File": p, "Blob": name})
			return nil
		}
		a, err := b.upload(ctx, container, name, p, c.putHeaders(p))
		if isCode(err, "BlobAlreadyExists") {
			c.warn("WARNING: %s is there already. Give --overwrite to write over it.", name)
			return nil
		}
		if err != nil {
			return err
		}
		out = append(out, object{"Blob": b.url(nil, container, name), "Last Modified": pythonTime(a.header.Get("Last-Modified")), "Type": textOf(c.putHeaders(p)), "eTag": a.header.Get("ETag")})
		return nil
	})
	return out, err
}

func textOf(h http.Header) string { return h.Get("X-Ms-Blob-Content-Type") }

func downloadBatch(ctx context.Context, c *call, b *blobs) (any, error) {
	container, err := b.containerOf(c.text("source"))
	if err != nil {
		return nil, err
	}
	dir := c.filePath(c.text("destination"))
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return nil, usagef("incorrect usage: destination must be an existing directory")
	}
	list, err := b.list(ctx, container, "", "", 0)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, failf("cannot open the folder: %v", err)
	}
	defer func() { _ = root.Close() }()
	out := []any{}
	for _, x := range list {
		name := textAt(x, "name")
		if !fits(c.text("pattern"), name) || strings.HasSuffix(name, "/") {
			continue
		}
		if !filepath.IsLocal(filepath.FromSlash(name)) { // "../x" is a blob's name like any other
			return nil, failf("the name of the blob '%s' leads out of the folder", printable(name))
		}
		if _, err := root.Stat(filepath.FromSlash(name)); err == nil && !c.flag("overwrite") {
			return nil, failf("The file '%s' is there already. Give --overwrite to write over it.", printable(name))
		}
		out = append(out, name)
		if c.flag("dryrun") {
			continue
		}
		if err := root.MkdirAll(filepath.Dir(filepath.FromSlash(name)), 0o755); err != nil {
			return nil, failf("cannot make a folder: %v", err)
		}
		if _, err := b.download(ctx, container, name, filepath.Join(dir, filepath.FromSlash(name))); err != nil {
			return nil, err
		}
	}
	return out, nil
}
