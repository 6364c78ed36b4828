package distribution_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/arm/armtest"
	"lazurite.dev/internal/arrival"
	"lazurite.dev/internal/gate"
	"lazurite.dev/internal/providers/containerregistry"
	"lazurite.dev/internal/providers/containerregistry/distribution"
	"lazurite.dev/internal/rbac"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/seal"
	"lazurite.dev/internal/store"
	"lazurite.dev/internal/token"
)

// world is a management plane and a data plane.
type world struct {
	t     testing.TB
	arm   *armtest.Plane
	plane *distribution.Plane
	dir   string

	mu   sync.Mutex // guards what follows
	may  map[string]bool
	from arrival.Arrival
	now  time.Time
}

// Verify takes tokens of the form "h.OID.s".
func (w *world) Verify(_ context.Context, raw string, audiences ...string) (*token.Claims, error) {
	parts := strings.Split(raw, ".")
	if len(parts) != 3 || parts[1] == "expired" {
		return nil, apierr.New(apierr.Unauthorized, token.CodeExpired, "no good token")
	}
	if parts[2] == "arm" && len(audiences) < 2 {
		return nil, apierr.New(apierr.Unauthorized, token.CodeAudience, "wrong audience")
	}
	return &token.Claims{ObjectID: parts[1], AppID: "app", TenantID: armtest.Tenant}, nil
}

func (w *world) Check(_ context.Context, oid, action string, data bool, scope rid.ID) (rbac.Decision, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	action = strings.TrimPrefix(action, containerregistry.RegistryType+"/")
	return rbac.Decision{Allowed: !data && w.may[oid+" "+action] && scope.Type() == containerregistry.RegistryType}, nil
}

func (w *world) let(oid string, actions ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range actions {
		w.may[oid+" "+a] = true
	}
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, may: map[string]bool{}, from: arrival.Arrival{Client: netip.MustParseAddr("203.0.113.9")}, now: time.Now(), dir: filepath.Join(t.TempDir(), "registries")}
	w.let("me", "pull/read", "push/write", "artifacts/delete")
	w.let("puller", "pull/read")
	dir := t.TempDir()
	w.arm = armtest.New(t, func(s store.Store) []arm.Provider {
		root, err := seal.OpenFileRoot(filepath.Join(dir, "root.key"))
		if err != nil {
			t.Fatal(err)
		}
		ring := seal.NewKeyring(s, root)
		rs, err := containerregistry.Open(t.Context(), s, ring)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(rs.Close)
		w.plane = distribution.New(distribution.Config{
			Gate: gate.Config{Verifier: w, Authorizer: w}, Registries: rs, Store: s, Dir: w.dir, Suffixes: []string{".azurecr.io"},
			Now: func() time.Time {
				w.mu.Lock()
				defer w.mu.Unlock()
				return w.now
			},
		})
		return []arm.Provider{containerregistry.New(containerregistry.Config{
			Store: s, Sealer: ring, Server: func(name string) string { return name + ".azurecr.io" }, Erase: w.plane.Erase, Used: w.plane.Used,
		})}
	}, nil)
	w.arm.Group("g")
	w.registry("first", "")
	return w
}

func registryID(name string) string {
	return armtest.Base + "/resourceGroups/g/providers/Microsoft.ContainerRegistry/registries/" + name
}

const mgmt = "?api-version=2023-07-01"

func (w *world) registry(name, props string) {
	w.t.Helper()
	w.arm.Want(201, "PUT", registryID(name)+mgmt, `{"location":"eastus","sku":{"name":"Premium"},"properties":{`+props+`}}`)
}

func (w *world) ahead(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

// do asks the registry; auth is the Authorization header.
func (w *world) do(auth, method, path, body string, headers ...string) *armtest.Answer {
	w.t.Helper()
	if strings.HasPrefix(path, "/") {
		path = "https://first.azurecr.io" + path
	}
	w.mu.Lock()
	from := w.from
	w.mu.Unlock()
	r := httptest.NewRequestWithContext(arrival.With(w.t.Context(), from), method, path, strings.NewReader(body))
	if auth != "" {
		r.Header.Set("Authorization", auth)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	rec := httptest.NewRecorder()
	w.plane.ServeHTTP(rec, r)
	a := &armtest.Answer{Status: rec.Code, Header: rec.Result().Header, Raw: rec.Body.Bytes()}
	if json.Unmarshal(a.Raw, &a.JSON) != nil {
		a.JSON = nil
	}
	return a
}

func code(a *armtest.Answer) string {
	var v struct {
		Errors []struct{ Code string }
	}
	if json.Unmarshal(a.Raw, &v) != nil || len(v.Errors) == 0 {
		return ""
	}
	return v.Errors[0].Code
}

func (w *world) want(status int, wantCode, auth, method, path, body string, headers ...string) *armtest.Answer {
	w.t.Helper()
	a := w.do(auth, method, path, body, headers...)
	if a.Status != status || code(a) != wantCode {
		w.t.Fatalf("%s %s: got %d %s %s, want %d %s", method, path, a.Status, code(a), a.Raw, status, wantCode)
	}
	return a
}

func (w *world) form(status int, wantCode, path string, kv ...string) *armtest.Answer {
	w.t.Helper()
	v := url.Values{}
	for i := 0; i < len(kv); i += 2 {
		v.Add(kv[i], kv[i+1])
	}
	return w.want(status, wantCode, "", "POST", path, v.Encode(), "Content-Type", "application/x-www-form-urlencoded")
}

// refresh exchanges the token of a principal.
func (w *world) refresh(oid string) string {
	w.t.Helper()
	return w.form(200, "", "/oauth2/exchange", "grant_type", "access_token", "service", "first.azurecr.io", "tenant", armtest.Tenant, "access_token", "h."+oid+".s").Text("refresh_token")
}

// bearer is the header of an access token for scopes.
func (w *world) bearer(oid string, scopes ...string) string {
	w.t.Helper()
	kv := []string{"grant_type", "refresh_token", "service", "first.azurecr.io", "refresh_token", w.refresh(oid)}
	for _, s := range scopes {
		kv = append(kv, "scope", s)
	}
	return "Bearer " + w.form(200, "", "/oauth2/token", kv...).Text("access_token")
}

func sum(content string) string {
	s := sha256.Sum256([]byte(content))
	return "sha256:" + hex.EncodeToString(s[:])
}

// push puts a blob in one piece.
func (w *world) push(auth, repo, content string) string {
	w.t.Helper()
	a := w.want(201, "", auth, "POST", "/v2/"+repo+"/blobs/uploads/?digest="+sum(content), content)
	if a.Header.Get("Location") != "/v2/"+repo+"/blobs/"+sum(content) || a.Header.Get("Docker-Content-Digest") != sum(content) {
		w.t.Errorf("pushed: %v", a.Header)
	}
	return sum(content)
}

const ociManifest = "application/vnd.oci.image.manifest.v1+json"

func manifestOf(config string, size int, more string) string {
	return fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":%d},"layers":[]%s}`, ociManifest, config, size, more)
}

// image pushes an image and gives its digest.
func (w *world) image(auth, repo, tag, config string) string {
	w.t.Helper()
	m := manifestOf(w.push(auth, repo, config), len(config), "")
	w.want(201, "", auth, "PUT", "/v2/"+repo+"/manifests/"+tag, m, "Content-Type", ociManifest)
	return sum(m)
}

const all = "repository:a/b:pull,push,delete,metadata_read"

func TestChallenge(t *testing.T) {
	w := newWorld(t)
	a := w.want(401, "UNAUTHORIZED", "", "GET", "/v2/", "")
	if got, want := a.Header.Get("Www-Authenticate"), `Bearer realm="https://first.azurecr.io/oauth2/token",service="first.azurecr.io"`; got != want {
		t.Errorf("challenge %s", got)
	}
	a = w.want(401, "UNAUTHORIZED", "", "POST", "/v2/a/b/blobs/uploads/", "")
	if got := a.Header.Get("Www-Authenticate"); !strings.HasSuffix(got, `,scope="repository:a/b:pull,push"`) {
		t.Errorf("challenge %s", got)
	}
	w.want(404, "NAME_UNKNOWN", "", "GET", "https://nobody.azurecr.io/v2/", "")
	w.want(200, "", w.bearer("me"), "GET", "/v2/", "")
}

func TestImage_PushPullDelete(t *testing.T) {
	w := newWorld(t)
	auth := w.bearer("me", all, "registry:catalog:*")
	d := w.image(auth, "a/b", "v1", `{"architecture":"amd64","os":"linux"}`)
	a := w.want(200, "", auth, "GET", "/v2/a/b/manifests/v1", "")
	if a.Header.Get("Content-Type") != ociManifest || a.Header.Get("Docker-Content-Digest") != d || sum(string(a.Raw)) != d {
		t.Errorf("manifest %v %s", a.Header, a.Raw)
	}
	blob := sum(`{"architecture":"amd64","os":"linux"}`)
	a = w.want(206, "", auth, "GET", "/v2/a/b/blobs/"+blob, "", "Range", "bytes=1-4")
	if string(a.Raw) != `"arc` || a.Header.Get("Content-Range") != "bytes 1-4/37" {
		t.Errorf("range %s %v", a.Raw, a.Header)
	}
	w.want(416, "", auth, "GET", "/v2/a/b/blobs/"+blob, "", "Range", "bytes=99-")
	if a := w.want(200, "", auth, "GET", "/v2/_catalog", ""); !strings.Contains(string(a.Raw), `["a/b"]`) {
		t.Errorf("catalog %s", a.Raw)
	}
	a = w.want(200, "", auth, "GET", "/acr/v1/a/b/_manifests?orderby=timedesc", "")
	if m := a.At("manifests").([]any)[0].(map[string]any); m["digest"] != d || m["architecture"] != "amd64" || m["tags"].([]any)[0] != "v1" {
		t.Errorf("manifests %s", a.Raw)
	}
	if a := w.want(200, "", auth, "GET", "/acr/v1/a/b", ""); a.At("manifestCount") != 1.0 || a.At("tagCount") != 1.0 {
		t.Errorf("repository %s", a.Raw)
	}
	w.want(200, "", auth, "GET", "/acr/v1/a/b/_tags/v1", "")
	w.want(404, "TAG_UNKNOWN", auth, "GET", "/acr/v1/a/b/_tags/v2", "")
	w.want(202, "", auth, "DELETE", "/acr/v1/a/b/_tags/v1", "")
	w.want(404, "MANIFEST_UNKNOWN", auth, "GET", "/v2/a/b/manifests/v1", "")
	w.want(202, "", auth, "DELETE", "/v2/a/b/manifests/"+d, "")
	w.want(404, "MANIFEST_UNKNOWN", auth, "GET", "/v2/a/b/manifests/"+d, "")
	w.want(404, "NAME_UNKNOWN", auth, "GET", "/v2/a/b/tags/list", "")
	w.image(auth, "a/b", "v1", "{}")
	if a := w.want(202, "", auth, "DELETE", "/acr/v1/a/b", ""); len(a.At("manifestsDeleted").([]any)) != 1 || len(a.At("tagsDeleted").([]any)) != 1 {
		t.Errorf("deleted %s", a.Raw)
	}
	w.want(404, "NAME_UNKNOWN", auth, "GET", "/acr/v1/a/b", "")
}

func TestUpload_ChunksResumeAndOrder(t *testing.T) {
	w := newWorld(t)
	auth := w.bearer("me", all, "repository:a:pull,push")
	up := w.want(202, "", auth, "POST", "/v2/a/b/blobs/uploads/", "").Header.Get("Location")
	w.want(202, "", auth, "PATCH", up, "hello ", "Content-Range", "0-5")
	a := w.want(204, "", auth, "GET", up, "")
	if a.Header.Get("Range") != "0-5" {
		t.Errorf("range %v", a.Header)
	}
	w.want(416, "BLOB_UPLOAD_INVALID", auth, "PATCH", up, "wor", "Content-Range", "7-9")
	w.want(416, "BLOB_UPLOAD_INVALID", auth, "PATCH", up, "wor", "Content-Range", "x")
	w.want(400, "SIZE_INVALID", auth, "PATCH", up, "wor", "Content-Range", "6-9")
	w.want(202, "", auth, "PATCH", up, "wor", "Content-Range", "6-8")
	w.want(400, "DIGEST_INVALID", auth, "PUT", up, "ld")
	w.want(404, "BLOB_UPLOAD_UNKNOWN", auth, "PATCH", strings.Replace(up, "a/b", "a", 1), "x") // another repository's
	w.want(201, "", auth, "PUT", up+"?digest="+sum("hello world"), "ld", "Content-Range", "9-10")
	w.want(404, "BLOB_UPLOAD_UNKNOWN", auth, "GET", up, "")
	if a := w.want(200, "", auth, "GET", "/v2/a/b/blobs/"+sum("hello world"), ""); string(a.Raw) != "hello world" {
		t.Errorf("blob %s", a.Raw)
	}
	up = w.want(202, "", auth, "POST", "/v2/a/b/blobs/uploads/", "").Header.Get("Location")
	w.want(400, "DIGEST_INVALID", auth, "PUT", up+"?digest="+sum("other"), "content")
	w.want(404, "BLOB_UNKNOWN", auth, "GET", "/v2/a/b/blobs/"+sum("other"), "")
	up = w.want(202, "", auth, "POST", "/v2/a/b/blobs/uploads/", "").Header.Get("Location")
	w.want(204, "", auth, "DELETE", up, "")
	w.want(404, "BLOB_UPLOAD_UNKNOWN", auth, "PATCH", up, "x")
}

func TestMount_OnlyWhatMayBePulled(t *testing.T) {
	w := newWorld(t)
	d := w.push(w.bearer("me", all), "a/b", "layer")
	mount := "/v2/c/blobs/uploads/?mount=" + d + "&from=a/b"
	w.want(202, "", w.bearer("me", "repository:c:pull,push"), "POST", mount, "")
	both := w.bearer("me", "repository:c:pull,push", "repository:a/b:pull")
	w.want(201, "", both, "POST", mount, "")
	w.want(200, "", both, "HEAD", "/v2/c/blobs/"+d, "")
	w.want(202, "", both, "POST", "/v2/c/blobs/uploads/?mount="+sum("none")+"&from=a/b", "")
	w.want(400, "DIGEST_INVALID", both, "POST", "/v2/c/blobs/uploads/?mount=sha256:x&from=a/b", "")
}

func TestReferrers(t *testing.T) {
	w := newWorld(t)
	auth := w.bearer("me", all)
	d := w.image(auth, "a/b", "v1", "{}")
	m := manifestOf(sum("{}"), 2, fmt.Sprintf(`,"artifactType":"sbom/x","subject":{"mediaType":%q,"digest":%q,"size":1},"annotations":{"k":"v"}`, ociManifest, d))
	a := w.want(201, "", auth, "PUT", "/v2/a/b/manifests/"+sum(m), m, "Content-Type", ociManifest)
	if a.Header.Get("Oci-Subject") != d {
		t.Errorf("headers %v", a.Header)
	}
	a = w.want(200, "", auth, "GET", "/v2/a/b/referrers/"+d, "")
	if l := a.At("manifests").([]any); len(l) != 1 || l[0].(map[string]any)["artifactType"] != "sbom/x" || l[0].(map[string]any)["digest"] != sum(m) {
		t.Errorf("referrers %s", a.Raw)
	}
	a = w.want(200, "", auth, "GET", "/v2/a/b/referrers/"+d+"?artifactType=other", "")
	if l := a.At("manifests").([]any); len(l) != 0 || a.Header.Get("OCI-Filters-Applied") != "artifactType" {
		t.Errorf("filtered %s %v", a.Raw, a.Header)
	}
	w.want(200, "", auth, "GET", "/v2/a/b/referrers/"+sum("unknown"), "")
	w.want(400, "DIGEST_INVALID", auth, "GET", "/v2/a/b/referrers/x", "")
	w.want(202, "", auth, "DELETE", "/v2/a/b/manifests/"+sum(m), "")
	if l := w.want(200, "", auth, "GET", "/v2/a/b/referrers/"+d, "").At("manifests").([]any); len(l) != 0 {
		t.Errorf("referrers of what is deleted: %v", l)
	}
}

func TestTags_Pages(t *testing.T) {
	w := newWorld(t)
	auth := w.bearer("me", all)
	for _, tag := range []string{"b", "a", "c"} {
		w.image(auth, "a/b", tag, "{}")
	}
	a := w.want(200, "", auth, "GET", "/v2/a/b/tags/list?n=2", "")
	if got := fmt.Sprint(a.At("tags")); got != "[a b]" || a.Header.Get("Link") != `</v2/a/b/tags/list?last=b&n=2>; rel="next"` {
		t.Errorf("page %s %v", got, a.Header)
	}
	a = w.want(200, "", auth, "GET", "/v2/a/b/tags/list?last=b&n=2", "")
	if got := fmt.Sprint(a.At("tags")); got != "[c]" || a.Header.Get("Link") != "" {
		t.Errorf("page %s %v", got, a.Header)
	}
	w.want(200, "", auth, "GET", "/v2/a/b/tags/list?n=0", "")
	w.want(400, "PAGINATION_NUMBER_INVALID", auth, "GET", "/v2/a/b/tags/list?n=-1", "")
	if got := len(w.want(200, "", auth, "GET", "/acr/v1/a/b/_tags?n=1&last=a", "").At("tags").([]any)); got != 1 {
		t.Errorf("%d tags", got)
	}
}

func TestRefusals_Tokens(t *testing.T) {
	w := newWorld(t)
	w.registry("other", "")
	me := w.bearer("me", all)
	t.Run("no role", func(t *testing.T) {
		w.form(403, "DENIED", "/oauth2/exchange", "grant_type", "access_token", "service", "first.azurecr.io", "access_token", "h.stranger.s")
	})
	t.Run("pull only", func(t *testing.T) {
		auth := w.bearer("puller", all)
		w.want(404, "NAME_UNKNOWN", auth, "GET", "/v2/a/b/tags/list", "")
		w.want(403, "DENIED", auth, "POST", "/v2/a/b/blobs/uploads/", "")
		w.want(403, "DENIED", auth, "DELETE", "/v2/a/b/manifests/v1", "")
	})
	t.Run("scope of another repository", func(t *testing.T) {
		a := w.want(401, "UNAUTHORIZED", me, "GET", "/v2/c/tags/list", "")
		if !strings.Contains(a.Header.Get("Www-Authenticate"), `scope="repository:c:pull",error="insufficient_scope"`) {
			t.Errorf("challenge %v", a.Header)
		}
		w.want(401, "UNAUTHORIZED", me, "GET", "/v2/_catalog", "")
	})
	t.Run("another registry", func(t *testing.T) {
		w.want(401, "UNAUTHORIZED", me, "GET", "https://other.azurecr.io/v2/", "")
		w.form(401, "UNAUTHORIZED", "https://other.azurecr.io/oauth2/token", "grant_type", "refresh_token", "refresh_token", w.refresh("me"))
		w.form(400, "UNKNOWN", "/oauth2/exchange", "grant_type", "access_token", "service", "other.azurecr.io", "access_token", "h.me.s")
	})
	t.Run("kinds of tokens", func(t *testing.T) {
		w.want(401, "UNAUTHORIZED", "Bearer "+w.refresh("me"), "GET", "/v2/", "")
		w.want(401, "UNAUTHORIZED", "Bearer h.me.s", "GET", "/v2/", "")
		w.form(401, "UNAUTHORIZED", "/oauth2/token", "grant_type", "refresh_token", "refresh_token", strings.TrimPrefix(me, "Bearer "))
		w.form(401, "UNAUTHORIZED", "/oauth2/exchange", "grant_type", "access_token", "access_token", "h.expired.s")
		w.form(400, "UNKNOWN", "/oauth2/exchange", "grant_type", "password")
		w.form(400, "UNKNOWN", "/oauth2/token", "grant_type", "implicit")
		w.form(400, "UNKNOWN", "/oauth2/token", "grant_type", "refresh_token", "refresh_token", w.refresh("me"), "scope", "repository:../x:pull")
	})
	t.Run("altered", func(t *testing.T) {
		parts := strings.Split(strings.TrimPrefix(me, "Bearer "), ".")
		none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"JWT"}`))
		w.want(401, "UNAUTHORIZED", "Bearer "+none+"."+parts[1]+".", "GET", "/v2/", "")
		w.want(401, "UNAUTHORIZED", "Bearer "+parts[0]+"."+parts[1]+"x."+parts[2], "GET", "/v2/", "")
	})
	t.Run("a role that was taken away", func(t *testing.T) {
		w.let("brief", "pull/read")
		auth := w.bearer("brief", all)
		w.want(404, "NAME_UNKNOWN", auth, "GET", "/v2/a/b/tags/list", "")
		w.mu.Lock()
		w.may["brief pull/read"] = false
		w.mu.Unlock()
		w.want(403, "DENIED", auth, "GET", "/v2/a/b/tags/list", "")
	})
	t.Run("expired", func(t *testing.T) {
		w.ahead(76 * time.Minute)
		w.want(401, "UNAUTHORIZED", me, "GET", "/v2/", "")
	})
}

func TestAdmin(t *testing.T) {
	w := newWorld(t)
	basic := func(user, password string) string {
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
	}
	w.want(401, "UNAUTHORIZED", basic("first", "guess"), "GET", "/v2/", "")
	w.arm.Want(200, "PATCH", registryID("first")+mgmt, `{"properties":{"adminUserEnabled":true}}`)
	password := w.arm.Want(200, "POST", registryID("first")+"/listCredentials"+mgmt, "").At("passwords").([]any)[0].(map[string]any)["value"].(string)
	admin := basic("first", password)
	w.want(401, "UNAUTHORIZED", basic("first", "guess"), "GET", "/v2/", "")
	w.want(401, "UNAUTHORIZED", basic("other", password), "GET", "/v2/", "")
	w.image(admin, "a/b", "v1", "{}")
	get := w.want(200, "", admin, "GET", "/oauth2/token?service=first.azurecr.io&scope=repository:a/b:pull", "").Text("access_token")
	w.want(200, "", "Bearer "+get, "GET", "/v2/a/b/manifests/v1", "")
	w.want(401, "UNAUTHORIZED", "Bearer "+get, "POST", "/v2/a/b/blobs/uploads/", "")
	w.form(200, "", "/oauth2/token", "grant_type", "password", "username", "first", "password", password)
	w.want(200, "", basic("00000000-0000-0000-0000-000000000000", w.refresh("me")), "GET", "/oauth2/token?scope=repository:a/b:pull", "")
	w.want(401, "UNAUTHORIZED", "", "GET", "/oauth2/token?scope=repository:a/b:pull", "")
	w.arm.Want(200, "POST", registryID("first")+"/regenerateCredential"+mgmt, `{"name":"password"}`)
	w.want(401, "UNAUTHORIZED", admin, "GET", "/v2/", "")
	w.want(401, "UNAUTHORIZED", "Bearer "+get, "GET", "/v2/a/b/manifests/v1", "")
	password = w.arm.Want(200, "POST", registryID("first")+"/listCredentials"+mgmt, "").At("passwords").([]any)[0].(map[string]any)["value"].(string)
	w.want(200, "", basic("first", password), "GET", "/v2/", "")
	w.arm.Want(200, "PATCH", registryID("first")+mgmt, `{"properties":{"adminUserEnabled":false}}`)
	w.want(401, "UNAUTHORIZED", basic("first", password), "GET", "/v2/", "")
}

func TestNetworkAndPolicyOfTokens(t *testing.T) {
	w := newWorld(t)
	auth := w.bearer("me", all)
	w.arm.Want(200, "PATCH", registryID("first")+mgmt, `{"properties":{"networkRuleSet":{"defaultAction":"Deny","ipRules":[{"value":"192.0.2.0/24"}]}}}`)
	w.want(403, "DENIED", auth, "GET", "/v2/", "")
	w.arm.Want(200, "PATCH", registryID("first")+mgmt, `{"properties":{"networkRuleSet":{"defaultAction":"Deny","ipRules":[{"value":"203.0.113.0/24"}]}}}`)
	w.want(200, "", auth, "GET", "/v2/", "")
	w.arm.Want(200, "PATCH", registryID("first")+mgmt, `{"properties":{"publicNetworkAccess":"Disabled"}}`)
	w.form(403, "DENIED", "/oauth2/exchange", "grant_type", "access_token", "access_token", "h.me.s")
	w.arm.Want(200, "PATCH", registryID("first")+mgmt, `{"properties":{"publicNetworkAccess":"Enabled","policies":{"azureADAuthenticationAsArmPolicy":{"status":"disabled"}}}}`)
	w.form(401, "UNAUTHORIZED", "/oauth2/exchange", "grant_type", "access_token", "access_token", "h.me.arm")
	w.form(200, "", "/oauth2/exchange", "grant_type", "access_token", "access_token", "h.me.s")
}

func TestRefusals_NamesAndManifests(t *testing.T) {
	w := newWorld(t)
	auth := w.bearer("me", all)
	w.image(auth, "a/b", "v1", "{}")
	for _, path := range []string{"/v2/A/tags/list", "/v2/a/../b/tags/list", "/v2/a/%2e%2e/b/tags/list", "/v2/a/..%2fb/tags/list", "/v2/" + strings.Repeat("a", 300) + "/tags/list"} {
		if a := w.do(auth, "GET", path, ""); a.Status != 400 || code(a) != "NAME_INVALID" {
			t.Errorf("%s: %d %s", path, a.Status, a.Raw)
		}
	}
	for path, want := range map[string]string{
		"/v2/a/b/blobs/sha256:..%2f..": "NAME_UNKNOWN", "/v2/a/b/blobs/sha256:ABC": "DIGEST_INVALID", "/v2/a/b/blobs/md5:d41d8cd98f00b204e9800998ecf8427e": "DIGEST_INVALID",
		"/v2/a/b/manifests/-x": "TAG_INVALID", "/v2/a/b/manifests/sha256:x": "DIGEST_INVALID", "/v2/a/b/nothing": "NAME_UNKNOWN",
	} {
		if a := w.do(auth, "GET", path, ""); code(a) != want {
			t.Errorf("%s: %d %s", path, a.Status, a.Raw)
		}
	}
	good := manifestOf(sum("{}"), 2, "")
	for name, m := range map[string]string{
		"no JSON": "x", "doubled": `{"schemaVersion":2,"schemaVersion":2}`, "schema 1": `{"schemaVersion":1}`, "no config": `{"schemaVersion":2}`,
		"wrong size": manifestOf(sum("{}"), 3, ""), "media type": strings.Replace(good, ociManifest, "application/other", 1), "bad digest": manifestOf("sha256:../..", 2, ""),
	} {
		if a := w.do(auth, "PUT", "/v2/a/b/manifests/v2", m, "Content-Type", ociManifest); a.Status != 400 || code(a) != "MANIFEST_INVALID" {
			t.Errorf("%s: %d %s", name, a.Status, a.Raw)
		}
	}
	w.want(404, "MANIFEST_BLOB_UNKNOWN", auth, "PUT", "/v2/a/b/manifests/v2", manifestOf(sum("none"), 4, ""), "Content-Type", ociManifest)
	w.want(400, "DIGEST_INVALID", auth, "PUT", "/v2/a/b/manifests/"+sum("x"), good, "Content-Type", ociManifest)
	w.want(413, "SIZE_INVALID", auth, "PUT", "/v2/a/b/manifests/v2", strings.Repeat("x", 5<<20), "Content-Type", ociManifest)
	w.want(405, "UNSUPPORTED", auth, "POST", "/v2/a/b/manifests/v2", "")
}

func TestCollect(t *testing.T) {
	w := newWorld(t)
	auth := w.bearer("me", all)
	w.image(auth, "a/b", "v1", "{}")
	lost := w.push(auth, "a/b", "lost")
	up := w.want(202, "", auth, "POST", "/v2/a/b/blobs/uploads/", "").Header.Get("Location")
	collect := func() {
		t.Helper()
		if err := w.plane.Collect(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	collect()
	w.want(200, "", auth, "GET", "/v2/a/b/blobs/"+lost, "")
	w.ahead(8 * 24 * time.Hour)
	collect()
	auth = w.bearer("me", all)
	w.want(404, "BLOB_UNKNOWN", auth, "GET", "/v2/a/b/blobs/"+lost, "")
	w.want(404, "BLOB_UPLOAD_UNKNOWN", auth, "GET", up, "")
	w.want(200, "", auth, "GET", "/v2/a/b/blobs/"+sum("{}"), "")
	if files, _ := filepath.Glob(filepath.Join(w.dir, "*", "blobs", "sha256", "*", "*")); len(files) != 1 {
		t.Errorf("files %v", files)
	}
	w.arm.Want(204, "DELETE", registryID("first")+mgmt, "")
	if left, _ := filepath.Glob(filepath.Join(w.dir, "*")); len(left) != 0 {
		t.Errorf("left %v", left)
	}
	w.want(404, "NAME_UNKNOWN", auth, "GET", "/v2/", "")
}

// cut is a body that ends too early.
type cut struct{ r io.Reader }

func (c cut) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func TestUpload_ABodyCutShortCanBeResumed(t *testing.T) {
	w := newWorld(t)
	auth := w.bearer("me", all)
	up := w.want(202, "", auth, "POST", "/v2/a/b/blobs/uploads/", "").Header.Get("Location")
	w.want(202, "", auth, "PATCH", up, "one ")
	r := httptest.NewRequestWithContext(arrival.With(t.Context(), w.from), http.MethodPatch, "https://first.azurecr.io"+up, cut{bytes.NewReader([]byte("two "))})
	r.Header.Set("Authorization", auth)
	w.plane.ServeHTTP(httptest.NewRecorder(), r)
	if a := w.want(204, "", auth, "GET", up, ""); a.Header.Get("Range") != "0-7" {
		t.Errorf("range %v", a.Header)
	}
	w.want(202, "", auth, "PATCH", up, "three", "Content-Range", "8-12")
	w.want(201, "", auth, "PUT", up+"?digest="+sum("one two three"), "")
}

func TestUpload_GoesOnAfterAnotherStart(t *testing.T) {
	w := newWorld(t)
	auth := w.bearer("me", all)
	up := w.want(202, "", auth, "POST", "/v2/a/b/blobs/uploads/", "").Header.Get("Location")
	w.want(202, "", auth, "PATCH", up, "one ")
	w.plane = distribution.New(w.plane.Config) // nothing in memory is needed
	if a := w.want(204, "", auth, "GET", up, ""); a.Header.Get("Range") != "0-3" {
		t.Errorf("range %v", a.Header)
	}
	w.want(202, "", auth, "PATCH", up, "two", "Content-Range", "4-6")
	w.want(201, "", auth, "PUT", up+"?digest="+sum("one two"), "")
	w.want(200, "", auth, "GET", "/v2/a/b/blobs/"+sum("one two"), "")
}
