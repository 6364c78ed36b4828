package distribution_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/gate"
	"lazurite.dev/internal/providers/containerregistry/distribution"
	"lazurite.dev/internal/rid"
)

const ociIndex = "application/vnd.oci.image.index.v1+json"

// puller reaches every registry that is public.
func puller(oid string) distribution.Puller {
	return distribution.Puller{ObjectID: oid, Reach: func(_ context.Context, id rid.ID, n gate.Network) error {
		if !n.Public {
			return apierr.New(apierr.Forbidden, "DENIED", "%s is private", id.Name())
		}
		return nil
	}}
}

func configOf(arch string) string {
	return fmt.Sprintf(`{"architecture":%q,"os":"linux","config":{"Labels":{"for":%q}}}`, arch, arch)
}

// index pushes an index of manifests.
func (w *world) index(auth, repo, tag string, digests ...string) string {
	w.t.Helper()
	var list []string
	for _, d := range digests {
		list = append(list, fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":7}`, ociManifest, d))
	}
	m := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[%s]}`, ociIndex, strings.Join(list, ","))
	w.want(201, "", auth, "PUT", "/v2/"+repo+"/manifests/"+tag, m, "Content-Type", ociIndex)
	return sum(m)
}

func TestPull(t *testing.T) {
	w := newWorld(t)
	auth := w.bearer("me", all)
	mine := w.image(auth, "a/b", "v1", configOf(runtime.GOARCH))
	other := w.image(auth, "a/b", "s390x", configOf("s390x"))
	inner := w.index(auth, "a/b", "inner", mine)
	both := w.index(auth, "a/b", "both", other, inner)
	for _, ref := range []string{"first.azurecr.io/a/b:v1", "FIRST.azurecr.io/a/b@" + mine, "first.azurecr.io/a/b:gone@" + mine, "first.azurecr.io:8443/a/b:both", "first.azurecr.io/a/b@" + both} {
		got, err := w.plane.Pull(t.Context(), puller("puller"), ref)
		if err != nil || got == nil {
			t.Fatalf("%s: %v, %v", ref, got, err)
		}
		config, err := got.ConfigFile()
		if err != nil || config.Config.Labels["for"] != runtime.GOARCH || !strings.HasSuffix(got.Name, "/a/b@"+mine) || got.Bytes != int64(len(configOf(runtime.GOARCH))) {
			t.Errorf("%s: %+v, %v", ref, got, err)
		}
		if err := got.Close(); err != nil {
			t.Error(err)
		}
	}
	for _, ref := range []string{"mcr.microsoft.com/a:v1", "first.azurecr.io", "x.first.azurecr.io/a:v1", "python:3", "a/b"} {
		if got, err := w.plane.Pull(t.Context(), puller("puller"), ref); got != nil || err != nil {
			t.Errorf("%s: %v, %v", ref, got, err)
		}
	}
}

// TestPull_OfAnIndexWithoutTheOthers: what an index names and is not there, or
// is for another platform, keeps nobody from the image for this one.
func TestPull_OfAnIndexWithoutTheOthers(t *testing.T) {
	w := newWorld(t)
	auth := w.bearer("me", all)
	mine := w.image(auth, "a/b", "v1", configOf(runtime.GOARCH))
	gone := w.image(auth, "a/b", "gone", configOf("s390x"))
	also := w.image(auth, "a/b", "also", configOf("ppc64le"))
	of := func(tag, first, second string) {
		t.Helper()
		m := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[{"mediaType":%q,"digest":%q,"size":7%s},{"mediaType":%q,"digest":%q,"size":7}]}`, ociIndex, ociManifest, gone, first, ociManifest, second)
		w.want(201, "", auth, "PUT", "/v2/a/b/manifests/"+tag, m, "Content-Type", ociIndex)
	}
	const foreign = `,"platform":{"os":"linux","architecture":"s390x"}`
	of("plain", "", mine)
	of("told", foreign, mine)
	of("lost", "", also)
	of("foreign", foreign, also)
	w.want(202, "", auth, "DELETE", "/v2/a/b/manifests/"+gone, "")
	for _, tag := range []string{"plain", "told"} {
		got, err := w.plane.Pull(t.Context(), puller("puller"), "first.azurecr.io/a/b:"+tag)
		if err != nil || !strings.HasSuffix(got.Name, "@"+mine) {
			t.Fatalf("%s: %+v, %v", tag, got, err)
		}
		if err := got.Close(); err != nil {
			t.Error(err)
		}
	}
	for tag, want := range map[string]string{"lost": gone, "foreign": "It is for linux/ppc64le, linux/s390x,"} {
		if got, err := w.plane.Pull(t.Context(), puller("puller"), "first.azurecr.io/a/b:"+tag); got != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, %v, want %s", tag, got, err, want)
		}
	}
}

func TestPull_Refusals(t *testing.T) {
	w := newWorld(t)
	auth := w.bearer("me", all)
	other := w.image(auth, "a/b", "s390x", configOf("s390x"))
	w.index(auth, "a/b", "foreign", other)
	w.index(auth, "a/b", "empty")
	d := w.image(auth, "a/b", "broken", configOf(runtime.GOARCH))
	for i, deep := 0, d; i < 6; i++ {
		deep = w.index(auth, "a/b", fmt.Sprintf("deep%d", i), deep)
	}
	chart := strings.Replace(manifestOf(w.push(auth, "a/b", "{}"), 2, ""), "application/vnd.oci.image.config.v1+json", "application/vnd.cncf.helm.config.v1+json", 1)
	w.want(201, "", auth, "PUT", "/v2/a/b/manifests/chart", chart, "Content-Type", ociManifest)
	config := sum(configOf(runtime.GOARCH))
	files, err := filepath.Glob(filepath.Join(w.dir, "*", "blobs", "sha256", "*", strings.TrimPrefix(config, "sha256:")))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	if err := os.Remove(files[0]); err != nil {
		t.Fatal(err)
	}
	refused := func(oid, ref, want string) {
		t.Helper()
		got, err := w.plane.Pull(t.Context(), puller(oid), ref)
		if e := apierr.From(err); err == nil || got != nil || e.Kind == apierr.Internal || !strings.Contains(e.Message, want) || strings.Contains(e.Message, "/subscriptions/") {
			t.Errorf("%s: got %v, %v, want %s", ref, got, err, want)
		}
	}
	for ref, want := range map[string]string{
		"none.azurecr.io/a/b:v1":                        "There is no registry 'none'",
		"first.azurecr.io/a/b:v2":                       `manifest tagged by "v2" is not found`,
		"first.azurecr.io/a/b":                          `manifest tagged by "latest" is not found`,
		"first.azurecr.io/a/c:s390x":                    "is not found",
		"first.azurecr.io/a/b@" + sum("nothing"):        "is not found",
		"first.azurecr.io/A/b:v1":                       "malformed",
		"first.azurecr.io/a//b:v1":                      "malformed",
		"first.azurecr.io/a/b:v1:v2":                    "malformed",
		"first.azurecr.io/":                             "malformed",
		"first.azurecr.io/a/b:s390x":                    "It is for linux/s390x, and what runs here is linux/" + runtime.GOARCH,
		"first.azurecr.io/a/b:foreign":                  "It is for linux/s390x",
		"first.azurecr.io/a/b:empty":                    "no platform at all",
		"first.azurecr.io/a/b:deep5":                    "too deep",
		"first.azurecr.io/a/b:chart":                    "It is no image of a container",
		"first.azurecr.io/a/b@sha256:" + "00":           "malformed",
		"first.azurecr.io/a/b:broken":                   "Its part " + config + " is not in the registry",
		"first.azurecr.io/" + strings.Repeat("a/", 200): "malformed",
	} {
		refused("puller", ref, want)
	}
	refused("stranger", "first.azurecr.io/a/b:v1", "az role assignment create --assignee-object-id stranger --assignee-principal-type ServicePrincipal --role AcrPull --scope $(az acr show -n first --query id -o tsv)")
	refused("", "first.azurecr.io/a/b:v1", "may not pull from the registry 'first'")
	w.arm.Want(200, "PATCH", registryID("first")+mgmt, `{"properties":{"publicNetworkAccess":"Disabled"}}`)
	refused("stranger", "first.azurecr.io/a/b:v1", "first is private")
	w.arm.Want(204, "DELETE", registryID("first")+mgmt, "")
	refused("puller", "first.azurecr.io/a/b:s390x", "There is no registry 'first'")
}

// TestPull_IsAsItWas: what is deleted while an image is copied stays readable.
func TestPull_IsAsItWas(t *testing.T) {
	w := newWorld(t)
	auth := w.bearer("me", all)
	const layer = "a layer that is no archive"
	config := w.push(auth, "a/b", configOf(runtime.GOARCH))
	m := strings.Replace(manifestOf(config, len(configOf(runtime.GOARCH)), ""), `"layers":[]`,
		fmt.Sprintf(`"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":%q,"size":%d}]`, w.push(auth, "a/b", layer), len(layer)), 1)
	w.want(201, "", auth, "PUT", "/v2/a/b/manifests/v1", m, "Content-Type", ociManifest)
	got, err := w.plane.Pull(t.Context(), puller("puller"), "first.azurecr.io/a/b:v1")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = got.Close() }()
	if err := os.RemoveAll(w.dir); err != nil {
		t.Fatal(err)
	}
	if raw, err := got.RawConfigFile(); err != nil || string(raw) != configOf(runtime.GOARCH) {
		t.Errorf("got %s, %v", raw, err)
	}
	l, err := got.LayerByDigest(hash(t, sum(layer)))
	if err != nil {
		t.Fatal(err)
	}
	r, err := l.Compressed()
	if err != nil {
		t.Fatal(err)
	}
	if raw, err := io.ReadAll(r); err != nil || string(raw) != layer {
		t.Errorf("got %q, %v", raw, err)
	}
}

func hash(t *testing.T, text string) v1.Hash {
	t.Helper()
	h, err := v1.NewHash(text)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func FuzzPull(f *testing.F) {
	w := newWorld(f)
	for _, s := range []string{"first.azurecr.io/a:v1", "first.azurecr.io/a@sha256:0", "first.azurecr.io:1/:", "first.azurecr.io/" + strings.Repeat("a", 300)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, ref string) {
		if got, err := w.plane.Pull(t.Context(), puller("puller"), ref); got != nil || err != nil && apierr.From(err).Kind == apierr.Internal {
			t.Errorf("%q: %v, %v", ref, got, err)
		}
	})
}
