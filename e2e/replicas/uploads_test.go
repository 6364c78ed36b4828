package replicas_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// store is somewhere that contents are put.
type store struct {
	name string
	put  func(ctx context.Context, c *http.Client, id string, content []byte) (status int, err error)
	get  func(ctx context.Context, c *http.Client, id string, content []byte) (status int, got []byte, err error)
}

func send(ctx context.Context, c *http.Client, method, url string, body []byte, header map[string]string) (int, []byte, error) {
	r, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	for k, v := range header {
		r.Header.Set(k, v)
	}
	resp, err := c.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	return resp.StatusCode, raw, err
}

// blobStore is a container, reached by a signature.
func blobStore(r *replica) store {
	r.laz("group", "create", "--name", "uploads", "--location", "eastus")
	r.laz("storage", "account", "create", "--name", "killedstore", "--resource-group", "uploads", "--sku", "Standard_LRS")
	r.laz("storage", "container", "create", "--name", "things", "--account-name", "killedstore", "--auth-mode", "key")
	sas := r.laz("storage", "container", "generate-sas", "--name", "things", "--account-name", "killedstore", "--permissions", "rcw", "--expiry", "2099-01-01T00:00Z", "--auth-mode", "key")
	at := func(id string) string { return "https://killedstore.blob.core.windows.net/things/" + id + "?" + sas }
	return store{"blobs",
		func(ctx context.Context, c *http.Client, id string, content []byte) (int, error) {
			status, _, err := send(ctx, c, http.MethodPut, at(id), content, map[string]string{"x-ms-blob-type": "BlockBlob", "x-ms-version": "2022-11-02"})
			return status, err
		},
		func(ctx context.Context, c *http.Client, id string, _ []byte) (int, []byte, error) {
			return send(ctx, c, http.MethodGet, at(id), nil, map[string]string{"x-ms-version": "2022-11-02"})
		},
	}
}

// layerStore is a repository of a registry, reached by the administrator's password.
func layerStore(r *replica) store {
	r.laz("acr", "create", "--name", "killedregistry", "--resource-group", "uploads", "--sku", "Basic", "--admin-enabled", "true")
	password := r.laz("acr", "credential", "show", "--name", "killedregistry", "--query", "passwords[0].value")
	base := "https://killedregistry.azurecr.io/v2/things/blobs/"
	digest := func(content []byte) string {
		sum := sha256.Sum256(content)
		return "sha256:" + hex.EncodeToString(sum[:])
	}
	auth := func() map[string]string {
		r, _ := http.NewRequest(http.MethodGet, base, nil) //nolint:noctx // for its header alone
		r.SetBasicAuth("killedregistry", password)
		return map[string]string{"Authorization": r.Header.Get("Authorization"), "Content-Type": "application/octet-stream"}
	}
	return store{"layers",
		func(ctx context.Context, c *http.Client, _ string, content []byte) (int, error) {
			status, _, err := send(ctx, c, http.MethodPost, base+"uploads/?digest="+digest(content), content, auth())
			return status, err
		},
		func(ctx context.Context, c *http.Client, _ string, content []byte) (int, []byte, error) {
			return send(ctx, c, http.MethodGet, base+digest(content), nil, auth())
		},
	}
}

// laz up is killed while blobs and layers are put: what was acknowledged is
// there, whole, and what was not is there whole or not at all.
func TestKillUploads(t *testing.T) {
	r := &replica{t: t, bin: binary, home: filepath.Join(t.TempDir(), "laz"), args: []string{"up", "--offline", "--port", "0", "--clusters", "issuer"}}
	r.start()
	t.Cleanup(r.kill)
	stores := []store{blobStore(r), layerStore(r)}
	for round := range 2 {
		for _, s := range stores {
			killUpload(t, r, s, round)
		}
	}
}

type upload struct {
	id      string
	content []byte
	done    bool // it was acknowledged
}

func killUpload(t *testing.T, r *replica, s store, round int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	client := r.client()
	var mu sync.Mutex // guards all
	var all []upload
	enough := make(chan struct{})
	var once sync.Once
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				id := fmt.Sprintf("%s-%d-%d-%d", s.name, round, w, n)
				content := bytes.Repeat([]byte(id+"\n"), 4000)
				status, err := s.put(ctx, client, id, content)
				mu.Lock()
				all = append(all, upload{id, content, err == nil && status == http.StatusCreated})
				if len(all) >= 40 {
					once.Do(func() { close(enough) })
				}
				mu.Unlock()
				if err != nil {
					return // it was killed
				}
			}
		})
	}
	select {
	case <-enough:
	case <-ctx.Done():
		t.Fatal("nothing is put")
	}
	r.kill()
	cancel()
	wg.Wait()
	r.start()
	client = r.client()
	done := 0
	for _, u := range all {
		status, got, err := s.get(t.Context(), client, u.id, u.content)
		switch {
		case err != nil:
			t.Fatal(err)
		case u.done && status != http.StatusOK:
			t.Errorf("%s was acknowledged and is lost: %d", u.id, status)
		case status == http.StatusOK && !bytes.Equal(got, u.content):
			t.Errorf("%s is there with another content", u.id)
		}
		if u.done {
			done++
		}
	}
	t.Logf("%s: %d of %d were acknowledged", s.name, done, len(all))
	if done == 0 {
		t.Error("nothing was acknowledged")
	}
}
