package fetch

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

const (
	blobVersion = "2021-12-02" // of the blob API
	maxList     = 64 << 20     // bytes of a page
	maxBlobs    = 100_000
)

// identity gets a token of the pod's identity.
func (f *fetcher) identity(ctx context.Context) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.token != "" {
		return f.token, nil
	}
	q := url.Values{"api-version": {"2019-08-01"}, "resource": {storageResource}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.Endpoint+"?"+q.Encode(), nil)
	if err != nil {
		return "", fmt.Errorf("the identity endpoint: %w", err)
	}
	req.Header.Set("X-IDENTITY-HEADER", f.Secret)
	resp, err := f.Client.Do(req)
	if err != nil {
		return "", fmt.Errorf("asking the identity endpoint: %w", err)
	}
	defer resp.Body.Close()
	var answer struct {
		Token   string `json:"access_token"`
		Message string `json:"error_description"`
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return "", fmt.Errorf("asking the identity endpoint: %w", err)
	}
	err = json.Unmarshal(raw, &answer)
	if resp.StatusCode != http.StatusOK || err != nil || answer.Token == "" {
		// Whoever gives out tokens knows a new deployment at once or never: soon.
		return "", &refusal{http.StatusUnauthorized, fmt.Sprintf("the identity endpoint answered %d %s", resp.StatusCode, answer.Message)}
	}
	f.say("INFO", "the pod's identity has a token for %s", storageResource)
	f.token = answer.Token
	return f.token, nil
}

// forget drops a token that was refused.
func (f *fetcher) forget(token string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.token == token {
		f.token = ""
	}
}

// get asks the blob API. The answer has one of the statuses.
func (f *fetcher) get(ctx context.Context, u string, header http.Header, statuses ...int) (*http.Response, error) {
	token, err := f.identity(ctx)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return nil, err
	}
	for k, v := range header {
		req.Header[k] = v
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("X-Ms-Version", blobVersion)
	resp, err := f.Client.Do(req)
	if err != nil {
		return nil, err
	}
	for _, s := range statuses {
		if resp.StatusCode == s {
			return resp, nil
		}
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusUnauthorized {
		f.forget(token)
	}
	return nil, refused(resp)
}

// refused is what the blob API says of a request that it does not answer.
// Source: "Status and error codes" of Azure Storage.
func refused(resp *http.Response) error {
	raw, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10)) // without it the status says enough
	var said struct{ Code, Message string }
	_ = xml.Unmarshal(raw, &said)
	if said.Code == "" {
		said.Code = resp.Header.Get("X-Ms-Error-Code")
	}
	text := fmt.Sprintf("%s answered %d %s", resp.Request.URL.Host, resp.StatusCode, said.Code)
	if first, _, _ := strings.Cut(strings.TrimSpace(said.Message), "\n"); first != "" {
		text += ": " + first
	}
	if resp.StatusCode == http.StatusForbidden && strings.Contains(said.Code, "Authorization") {
		text += " The deployment's identity needs the role 'Storage Blob Data Reader' on the storage account."
	}
	return &refusal{resp.StatusCode, text}
}

// page is a part of a listing.
// Source: Blob service REST API, "List Blobs".
type page struct {
	Blobs struct {
		Blob []struct{ Name string }
	}
	NextMarker string
}

func parsePage(raw []byte) (names []string, next string, err error) {
	var p page
	if err := xml.Unmarshal(raw, &p); err != nil {
		return nil, "", fmt.Errorf("the list of blobs: %w", err)
	}
	for _, b := range p.Blobs.Blob {
		names = append(names, b.Name)
	}
	return names, p.NextMarker, nil
}

// list gives the names of the blobs in a folder.
func (f *fetcher) list(ctx context.Context, p place) ([]string, error) {
	var all []string
	prefix := ""
	if p.name != "" {
		prefix = p.name + "/"
	}
	for marker := ""; ; {
		u := p.base
		u.Path = "/" + p.container
		q := url.Values{"restype": {"container"}, "comp": {"list"}, "prefix": {prefix}}
		if marker != "" {
			q.Set("marker", marker)
		}
		u.RawQuery = q.Encode()
		var names []string
		err := f.again(ctx, "listing "+p.String(), func(ctx context.Context) error {
			resp, err := f.get(ctx, u.String(), nil, http.StatusOK)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			raw, err := io.ReadAll(io.LimitReader(resp.Body, maxList))
			if err == nil {
				names, marker, err = parsePage(raw)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
		for _, n := range names {
			if !strings.HasPrefix(n, prefix) {
				return nil, fmt.Errorf("listing %s: %q is not in the folder", p, n)
			}
		}
		if all = append(all, names...); len(all) > maxBlobs {
			return nil, fmt.Errorf("listing %s: more than %d blobs", p, maxBlobs)
		}
		if marker == "" {
			return all, nil
		}
	}
}

// blob writes a blob to the file rel in folder. A connection that breaks is
// taken up where it broke.
func (f *fetcher) blob(ctx context.Context, u, folder, rel string) (size int64, err error) {
	file, err := create(folder, rel)
	if err != nil {
		return 0, err
	}
	tag := ""
	err = f.again(ctx, "downloading "+u, func(ctx context.Context) error {
		header := http.Header{}
		if size > 0 {
			header.Set("Range", fmt.Sprintf("bytes=%d-", size))
			header.Set("If-Match", tag)
		}
		resp, err := f.get(ctx, u, header, http.StatusOK, http.StatusPartialContent)
		if r, ok := errors.AsType[*refusal](err); ok && r.status == http.StatusPreconditionFailed {
			size = 0 // it was changed meanwhile: from the beginning
			return errors.New("the blob was changed meanwhile")
		}
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			size, tag = 0, resp.Header.Get("Etag")
		}
		n, err := io.Copy(&writerAt{file, size}, resp.Body)
		size += n
		return err
	})
	if err == nil {
		err = file.Truncate(size)
	}
	if closed := file.Close(); err == nil && closed != nil {
		err = fmt.Errorf("%w: %w", errFile, closed)
	}
	return size, err
}

// writerAt writes from a position on; its errors are of this side.
type writerAt struct {
	file *os.File
	at   int64
}

func (w *writerAt) Write(b []byte) (int, error) {
	n, err := w.file.WriteAt(b, w.at)
	w.at += int64(n)
	if err != nil {
		err = fmt.Errorf("%w: %w", errFile, err)
	}
	return n, err
}

// create makes the file rel in folder, never outside of it. The server may run
// as another user, and may write beside what it finds.
func create(folder, rel string) (*os.File, error) {
	fail := func(err error) (*os.File, error) { return nil, fmt.Errorf("%w: %w", errFile, err) }
	if err := os.MkdirAll(folder, 0o777); err != nil {
		return fail(err)
	}
	root, err := os.OpenRoot(folder)
	if err != nil {
		return fail(err)
	}
	defer root.Close()
	_ = root.Chmod(".", 0o777) // a folder that was there is its owner's business
	made := ""
	for part := range strings.SplitSeq(filepath.ToSlash(filepath.Dir(rel)), "/") {
		if made = filepath.Join(made, part); made == "." {
			continue
		}
		if err := root.Mkdir(made, 0o777); err == nil {
			err = root.Chmod(made, 0o777)
			if err != nil {
				return fail(err)
			}
		} else if !errors.Is(err, fs.ErrExist) {
			return fail(err)
		}
	}
	file, err := root.OpenFile(rel, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o666)
	if err != nil {
		return fail(err)
	}
	if err := file.Chmod(0o666); err != nil {
		_ = file.Close()
		return fail(err)
	}
	return file, nil
}
