package blob_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/arm/armtest"
	"lazurite.dev/internal/arrival"
	"lazurite.dev/internal/gate"
	"lazurite.dev/internal/providers/storage"
	"lazurite.dev/internal/providers/storage/blob"
	"lazurite.dev/internal/rbac"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/seal"
	"lazurite.dev/internal/store"
	"lazurite.dev/internal/token"
)

const mgmt = "?api-version=2023-05-01"

// world is a management plane and a data plane with one account, "acct".
type world struct {
	t        testing.TB
	arm      *armtest.Plane
	plane    *blob.Plane
	accounts *storage.Accounts
	dir      string
	key      []byte

	mu   sync.Mutex // guards what follows
	may  map[string]bool
	from arrival.Arrival
	now  time.Time
}

// Verify takes tokens of the form "h.OID.s".
func (w *world) Verify(_ context.Context, raw string, _ ...string) (*token.Claims, error) {
	parts := strings.Split(raw, ".")
	if len(parts) != 3 || parts[1] == "expired" {
		return nil, apierr.New(apierr.Unauthorized, token.CodeExpired, "no good token")
	}
	aud := "https://storage.azure.com"
	if parts[2] == "other" {
		aud = "https://other.blob.core.windows.net"
	}
	return &token.Claims{ObjectID: parts[1], AppID: "app", TenantID: armtest.Tenant, Audience: aud}, nil
}

// Check knows rights of the form "OID ACTION", with the action's end.
func (w *world) Check(_ context.Context, oid, action string, data bool, scope rid.ID) (rbac.Decision, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	short := strings.TrimPrefix(action, "Microsoft.Storage/storageAccounts/blobServices/")
	isData := strings.HasPrefix(short, "containers/blobs/")
	return rbac.Decision{Allowed: data == isData && (w.may[oid+" "+short] || w.may[oid+" "+short+" "+scope.Name()])}, nil
}

func (w *world) let(oid string, actions ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range actions {
		w.may[oid+" "+a] = true
	}
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, may: map[string]bool{}, from: arrival.Arrival{Client: netip.MustParseAddr("203.0.113.9")}, now: time.Now(), dir: filepath.Join(t.TempDir(), "blobs")}
	w.let("me", "containers/read", "containers/write", "containers/delete", "containers/blobs/read", "containers/blobs/write", "containers/blobs/delete", "generateUserDelegationKey/action", "getInfo/action", "read")
	w.let("reader", "containers/blobs/read c1x")
	dir := t.TempDir()
	address := func(name string) string { return "https://" + name + ".blob.core.windows.net" }
	w.arm = armtest.New(t, func(s store.Store) []arm.Provider {
		root, err := seal.OpenFileRoot(filepath.Join(dir, "root.key"))
		if err != nil {
			t.Fatal(err)
		}
		ring := seal.NewKeyring(s, root)
		if w.accounts, err = storage.Open(t.Context(), s, ring, address); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(w.accounts.Close)
		w.plane = blob.New(blob.Config{
			Gate: gate.Config{Verifier: w, Authorizer: w}, Accounts: w.accounts, Store: s, Dir: w.dir, TenantID: armtest.Tenant,
			Families: []blob.Family{{Suffix: ".blob.core.windows.net", Authority: "https://login.microsoftonline.com"}},
			Now: func() time.Time {
				w.mu.Lock()
				defer w.mu.Unlock()
				return w.now
			},
		})
		return []arm.Provider{storage.New(storage.Config{Store: s, Sealer: ring, Accounts: w.accounts, URL: address, Erase: w.plane.Erase})}
	}, nil)
	w.arm.Group("g")
	w.account("acct", "")
	w.setKey()
	return w
}

func accountID(name string) string {
	return armtest.Base + "/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/" + name
}

func (w *world) account(name, props string) {
	w.t.Helper()
	w.arm.Settle(w.arm.Do("PUT", accountID(name)+mgmt, `{"location":"eastus","kind":"StorageV2","sku":{"name":"Standard_LRS"},"properties":{`+props+`}}`))
}

func (w *world) setKey() {
	w.t.Helper()
	v := w.arm.Want(200, "POST", accountID("acct")+"/listKeys"+mgmt, "").At("keys").([]any)[0].(map[string]any)["value"].(string)
	var err error
	if w.key, err = base64.StdEncoding.DecodeString(v); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) patch(props string) {
	w.t.Helper()
	w.arm.Settle(w.arm.Do("PATCH", accountID("acct")+mgmt, `{"properties":{`+props+`}}`))
}

func (w *world) ahead(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

type answer struct {
	*httptest.ResponseRecorder
}

func (a answer) code() string { return a.Header().Get("x-ms-error-code") }

// do asks the account; auth is "", "key", or the name behind a token.
func (w *world) do(auth, method, path, body string, headers ...string) answer {
	w.t.Helper()
	if strings.HasPrefix(path, "/") {
		path = "https://acct.blob.core.windows.net" + path
	}
	w.mu.Lock()
	from, now := w.from, w.now
	w.mu.Unlock()
	r := httptest.NewRequestWithContext(arrival.With(w.t.Context(), from), method, path, strings.NewReader(body))
	r.Header.Set("x-ms-version", "2024-11-04")
	r.Header.Set("x-ms-date", now.UTC().Format(http.TimeFormat))
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	switch auth {
	case "":
	case "key":
		r.Header.Set("Authorization", "SharedKey acct:"+sign(w.key, sharedKeyText(r)))
	default:
		r.Header.Set("Authorization", "Bearer h."+auth+".s")
	}
	rec := httptest.NewRecorder()
	w.plane.ServeHTTP(rec, r)
	for k, v := range rec.Header() { // metadata has names in lower case
		rec.Header()[http.CanonicalHeaderKey(k)] = v
	}
	return answer{rec}
}

func (w *world) want(status int, code, auth, method, path, body string, headers ...string) answer {
	w.t.Helper()
	a := w.do(auth, method, path, body, headers...)
	if a.Code != status || a.code() != code {
		w.t.Fatalf("%s %s by %q: %d %q, want %d %q\n%s", method, path, auth, a.Code, a.code(), status, code, a.Body)
	}
	return a
}

func sign(key []byte, text string) string {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return base64.StdEncoding.EncodeToString(h.Sum(nil))
}

// sharedKeyText is written from the documentation, and not from the code under test.
func sharedKeyText(r *http.Request) string {
	length := ""
	if r.ContentLength > 0 {
		length = fmt.Sprint(r.ContentLength)
	}
	h := r.Header
	lines := []string{r.Method, h.Get("Content-Encoding"), h.Get("Content-Language"), length, h.Get("Content-MD5"), h.Get("Content-Type"), "",
		h.Get("If-Modified-Since"), h.Get("If-Match"), h.Get("If-None-Match"), h.Get("If-Unmodified-Since"), h.Get("Range")}
	var xms []string
	for k := range h {
		if k = strings.ToLower(k); strings.HasPrefix(k, "x-ms-") {
			xms = append(xms, k)
		}
	}
	slices.Sort(xms)
	for i, k := range xms {
		xms[i] = k + ":" + h.Get(k)
	}
	res := "/acct" + r.URL.EscapedPath()
	var params []string
	for k, v := range r.URL.Query() {
		params = append(params, k+":"+strings.Join(v, ","))
	}
	slices.Sort(params)
	for _, p := range params {
		res += "\n" + p
	}
	return strings.Join(append(append(lines, xms...), res), "\n")
}

const (
	container = "?restype=container"
	put       = "x-ms-blob-type"
	blockBlob = "BlockBlob"
)

// contents counts the files below the folder.
func (w *world) contents() int {
	n := 0
	_ = filepath.WalkDir(w.dir, func(_ string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			n++
		}
		return nil
	})
	return n
}
