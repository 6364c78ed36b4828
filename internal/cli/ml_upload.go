package cli

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
)

// Uploading files to a container that a signed address opens (Blob service
// REST API: Put Blob, Put Block, Put Block List).

const (
	blobVersion = "2021-08-06"
	blockSize   = 8 << 20 // what is sent at once
	uploaders   = 4       // at the same time
)

// upload is a file or a folder that goes up.
type upload struct {
	base  string // its own name
	hash  string // of names and content, as a GUID
	files []uploadFile
	size  int64
}

type uploadFile struct {
	rel  string // with slashes, "" for a single file
	path string
	size int64
}

// collect finds the files of path and their hash. What the folder's
// .amlignore, or without one its .gitignore, names is left out.
func collect(ctx context.Context, path string) (*upload, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, failf("No such file or directory: %s", path)
	}
	u := &upload{base: filepath.Base(path)}
	if !st.IsDir() {
		u.files = []uploadFile{{path: path, size: st.Size()}}
	} else if err := u.walk(path); err != nil {
		return nil, err
	}
	if len(u.files) == 0 {
		return nil, failf("%s is empty: there is nothing to upload", path)
	}
	return u, u.sum(ctx)
}

func (u *upload) walk(root string) error {
	ignored, err := readIgnore(root)
	if err != nil {
		return err
	}
	err = filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == root {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if ignored.match(rel, d.IsDir()) {
			if d.IsDir() && !ignored.negates {
				return fs.SkipDir
			}
			return nil
		}
		if d.IsDir() {
			return nil
		}
		st, err := os.Stat(p) // a link counts as what it leads to
		if err != nil {
			return err
		}
		if !st.Mode().IsRegular() {
			return failf("%s is no regular file, nor a link to one: it can't be uploaded", p)
		}
		u.files = append(u.files, uploadFile{rel: rel, path: p, size: st.Size()})
		return nil
	})
	if err != nil {
		return fmt.Errorf("read %s: %w", root, err)
	}
	return nil
}

// sum makes the hash: equal names and content give an equal one.
func (u *upload) sum(ctx context.Context) error {
	slices.SortFunc(u.files, func(a, b uploadFile) int { return strings.Compare(a.rel, b.rel) })
	h := sha256.New()
	for _, f := range u.files {
		if err := ctx.Err(); err != nil {
			return err
		}
		fh := sha256.New()
		n, err := copyFile(fh, f.path)
		if err != nil {
			return err
		}
		u.size += n
		fmt.Fprintf(h, "%s\x00%x\n", f.rel, fh.Sum(nil))
	}
	fmt.Fprintf(h, "%s\n", u.base)
	u.hash = asGUID(h.Sum(nil))
	return nil
}

// asGUID writes the beginning of a hash in the form of a GUID.
func asGUID(sum []byte) string {
	s := hex.EncodeToString(sum[:16])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}

func copyFile(w io.Writer, path string) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, fmt.Errorf("read what is uploaded: %w", err)
	}
	defer func() { _ = f.Close() }() // read only
	n, err := io.Copy(w, f)
	if err != nil {
		return n, fmt.Errorf("read what is uploaded: %w", err)
	}
	return n, nil
}

// send uploads all to the container and gives the address of what it is there.
func (u *upload) send(ctx context.Context, s *session, blobURI, sasURI string) (string, error) {
	sas, err := url.Parse(sasURI)
	if err != nil || sas.Scheme != "https" {
		return "", failf("the server gave no valid address for the upload")
	}
	if blobURI == "" {
		blobURI = sas.Scheme + "://" + sas.Host + sas.Path
	}
	root := "LocalUpload/" + u.hash + "/" + u.base
	show := &uploadProgress{s: s, u: u}
	defer show.end()
	put := func(ctx context.Context, f uploadFile) error {
		return show.done(f, putFile(ctx, s, sas, path.Join(root, f.rel), f))
	}
	if err := put(ctx, u.files[0]); err != nil { // alone: it opens the connection
		return "", err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(uploaders)
	for _, f := range u.files[1:] {
		g.Go(func() error { return put(ctx, f) })
	}
	if err := g.Wait(); err != nil {
		return "", err
	}
	return strings.TrimRight(blobURI, "/") + "/" + root, nil
}

// uploadProgress is a line on stderr, on a terminal only.
type uploadProgress struct {
	s    *session
	u    *upload
	mu   sync.Mutex // guards sent
	sent int64
}

func (p *uploadProgress) silent() bool {
	return p.s.quiet || p.s.debug || !p.s.env.IsTerminal(p.s.env.Stderr)
}

func (p *uploadProgress) done(f uploadFile, err error) error {
	if err != nil || p.silent() {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sent += f.size
	fmt.Fprintf(p.s.env.Stderr, "\r\x1b[KUploading %s (%.2f MBs): %3d%%", printable(p.u.base), float64(p.u.size)/1e6, p.sent*100/max(p.u.size, 1))
	return nil
}

func (p *uploadProgress) end() {
	if !p.silent() {
		fmt.Fprintln(p.s.env.Stderr)
	}
}

// putFile writes one blob: at once where it is small, else in blocks.
func putFile(ctx context.Context, s *session, sas *url.URL, name string, f uploadFile) error {
	file, err := os.Open(f.path)
	if err != nil {
		return fmt.Errorf("read what is uploaded: %w", err)
	}
	defer func() { _ = file.Close() }() // read only
	buf := make([]byte, min(f.size+1, blockSize))
	n, err := io.ReadFull(file, buf)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return putBlob(ctx, s, blobAddress(sas, name), buf[:n], http.Header{"X-Ms-Blob-Type": {"BlockBlob"}, "Content-Type": {"application/octet-stream"}})
	}
	var ids []string
	for err == nil || err == io.ErrUnexpectedEOF {
		id := base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "%08d", len(ids)))
		ids = append(ids, id)
		if err := putBlob(ctx, s, blobAddress(sas, name, "comp", "block", "blockid", id), buf[:n], http.Header{}); err != nil {
			return err
		}
		n, err = io.ReadFull(file, buf)
	}
	if err != io.EOF {
		return fmt.Errorf("read what is uploaded: %w", err)
	}
	var list bytes.Buffer
	list.WriteString(xml.Header + "<BlockList>")
	for _, id := range ids {
		list.WriteString("<Latest>" + id + "</Latest>")
	}
	list.WriteString("</BlockList>")
	return putBlob(ctx, s, blobAddress(sas, name, "comp", "blocklist"), list.Bytes(), http.Header{"Content-Type": {"application/xml"}})
}

// blobAddress is a blob of the container that the signature opens.
func blobAddress(sas *url.URL, name string, query ...string) string {
	u := *sas
	u.Path, u.RawPath = strings.TrimRight(sas.Path, "/")+"/"+name, ""
	for i := 0; i+1 < len(query); i += 2 {
		u.RawQuery += "&" + query[i] + "=" + url.QueryEscape(query[i+1])
	}
	return u.String()
}

func putBlob(ctx context.Context, s *session, address string, body []byte, h http.Header) error {
	h.Set("x-ms-version", blobVersion)
	a, err := s.send(ctx, request{method: http.MethodPut, url: address, body: body, header: h})
	if err != nil {
		return err
	}
	if a.status >= 400 {
		return readBlobError(a)
	}
	return nil
}

// readBlobError reads an error as the Blob service writes it.
func readBlobError(a *answer) error {
	e := readRemote(a, dialectODATA)
	var v struct{ Code, Message string }
	if xml.Unmarshal(bytes.TrimPrefix(a.body, []byte("\ufeff")), &v) == nil && v.Code != "" {
		e.err.Code, e.err.Message = v.Code, v.Message
	} else if c := a.header.Get("x-ms-error-code"); c != "" {
		e.err.Code = c
	}
	return e
}
