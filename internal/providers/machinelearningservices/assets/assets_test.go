package assets_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/arm/armtest"
	"lazurite.dev/internal/providers/machinelearningservices/assets"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
)

const (
	v         = "?api-version=2024-04-01"
	account   = armtest.Base + "/resourceGroups/stores/providers/Microsoft.Storage/storageAccounts/mlstore"
	workspace = `{"location":"westus2","properties":{"workspaceId":"11111111-2222-4333-8444-555555555555","storageAccount":"` + account + `"}}`
)

// shelf signs containers without a storage account behind it.
type shelf struct {
	sealed *sync.Map
	used   *atomic.Int64 // containers that were sealed before
}

func (s shelf) SealContainer(_ context.Context, _ rid.ID, container string) error {
	s.sealed.Store(container, true)
	return nil
}

func (s shelf) SignContainer(_ context.Context, account rid.ID, container, permissions string, expires time.Time) (string, error) {
	if _, ok := s.sealed.Load(container); ok || s.used.Add(-1) >= 0 {
		return "", assets.ErrSealed
	}
	return "https://" + account.Name() + ".blob.core.windows.net/" + container + "?sp=" + permissions + "&se=" + expires.Format(time.RFC3339), nil
}

func (shelf) BlobURL(account, container, path string) string {
	return "https://" + account + ".blob.core.windows.net/" + container + "/" + path
}

func (shelf) IsBlobHost(host string) (string, bool) {
	return strings.CutSuffix(strings.ToLower(host), ".blob.core.windows.net")
}

type world struct {
	*armtest.Plane
	svc    *assets.Service
	ws     string
	sealed sync.Map // names of containers
	used   atomic.Int64
}

func start(t *testing.T) *world {
	w := &world{}
	w.Plane = armtest.New(t, func(s store.Store) []arm.Provider {
		w.svc = assets.New(assets.Config{Store: s, Storage: shelf{&w.sealed, &w.used}})
		plain := func(typ string) arm.Route {
			return arm.Serve(assets.Namespace, arm.Kind[map[string]any]{Type: typ, APIVersions: assets.Versions(), Tracked: typ == "workspaces"})
		}
		return []arm.Provider{{Namespace: assets.Namespace, Routes: append(w.svc.Routes(), plain("workspaces"), plain("workspaces/datastores"))}}
	}, nil)
	w.ws = w.Group("rg") + "/providers/Microsoft.MachineLearningServices/workspaces/ws"
	w.Want(http.StatusCreated, "PUT", w.ws+v, workspace)
	return w
}

func (w *world) model(version, more string) {
	w.Want(http.StatusCreated, "PUT", w.ws+"/models/m/versions/"+version+v, `{"properties":{"modelUri":"azureml://datastores/workspaceblobstore/paths/a/model-`+version+`"`+more+`}}`)
}

func TestVersion_MakesItsContainer(t *testing.T) {
	w := start(t)
	w.model("1", "")
	w.model("7", "")
	got := w.Want(http.StatusOK, "GET", w.ws+"/models/m"+v, "")
	if got.Text("properties", "latestVersion") != "7" || got.Text("properties", "nextVersion") != "8" {
		t.Errorf("got %s", got.Raw)
	}
	w.Want(http.StatusOK, "DELETE", w.ws+"/models/m"+v, "")
	w.Want(http.StatusNotFound, "GET", w.ws+"/models/m/versions/1"+v, "")
}

// names are those of a list's values.
func names(a *armtest.Answer) []string {
	out := []string{}
	list, _ := a.At("value").([]any)
	for _, one := range list {
		out = append(out, one.(map[string]any)["name"].(string))
	}
	return out
}

func TestList_ByViewAndOrder(t *testing.T) {
	w := start(t)
	w.model("1", "")
	w.model("2", `,"isArchived":true`)
	w.model("10", "")
	w.Want(http.StatusCreated, "PUT", w.ws+"/environments/CliV2AnonymousEnvironment/versions/abc"+v, `{"properties":{"image":"x","isAnonymous":true}}`)
	w.Want(http.StatusCreated, "PUT", w.ws+"/environments/env/versions/1"+v, `{"properties":{"image":"x"}}`)
	for _, c := range []struct {
		path string
		want []string
	}{
		{"/models/m/versions", []string{"1", "10"}},
		{"/models/m/versions?listViewType=All", []string{"1", "10", "2"}},
		{"/models/m/versions?listViewType=ArchivedOnly", []string{"2"}},
		{"/models/m/versions?$orderBy=createdtime+desc&$top=1", []string{"10"}},
		{"/models/m/versions?$orderBy=createdtime+asc", []string{"1", "10"}},
		{"/models/m/versions?version=10", []string{"10"}},
		{"/models", []string{"m"}},
		{"/environments", []string{"env"}},
	} {
		path, query, _ := strings.Cut(c.path, "?")
		got := names(w.Want(http.StatusOK, "GET", w.ws+path+v+"&"+query, ""))
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: %s", c.path, diff)
		}
	}
	for _, bad := range []string{"listViewType=Some", "$orderBy=size", "$orderBy=createdtime+up"} {
		w.Want(http.StatusBadRequest, "GET", w.ws+"/models/m/versions"+v+"&"+bad, "")
	}
}

func TestVersion_Refusals(t *testing.T) {
	w := start(t)
	for path, bodies := range map[string][]string{
		"/codes/c/versions/1": {
			`{"properties":{}}`, `{"properties":{"codeUri":"ftp://x/y"}}`, `{"properties":{"codeUri":"https://example.com/a/b"}}`,
			`{"properties":{"codeUri":"https://mlstore.blob.core.windows.net/up-1/a/../../b"}}`, `{"properties":{"codeUri":"https://mlstore.blob.core.windows.net/up-1/a?sig=secret"}}`,
			`{"properties":{"codeUri":"https://user:pass@mlstore.blob.core.windows.net/up-1/a"}}`, `{"properties":{"codeUri":"azureml://datastores/x"}}`,
		},
		"/models/m/versions/1": {
			`{"properties":{"modelUri":"azureml://datastores/a/paths/b","modelType":"onnx"}}`, `{"properties":{"modelUri":"runs:/1/model"}}`,
		},
		"/data/d/versions/1": {`{"properties":{"dataUri":"azureml://datastores/a/paths/b","dataType":"table"}}`},
		"/environments/e/versions/1": {
			`{"properties":{}}`, `{"properties":{"image":"x","build":{"contextUri":"azureml://datastores/a/paths/b"}}}`, `{"properties":{"image":"x","osType":"Windows"}}`,
			`{"properties":{"image":"x","condaFile":"a: ["}}`, `{"properties":{"image":"x","inferenceConfig":{"livenessRoute":{"path":"/","port":80}}}}`,
			`{"properties":{"image":"x","inferenceConfig":{"scoringRoute":{"path":"score","port":80}}}}`, `{"properties":{"image":"x","inferenceConfig":{"scoringRoute":{"path":"/score","port":0}}}}`,
			`{"properties":{"condaFile":"name: x","build":{"contextUri":"azureml://datastores/a/paths/b"}}}`,
		},
	} {
		for _, body := range bodies {
			if a := w.WantError(http.StatusBadRequest, "ValidationError", "PUT", w.ws+path+v, body); strings.Contains(string(a.Raw), "secret") {
				t.Errorf("the refusal tells the signature: %s", a.Raw)
			}
		}
	}
	w.model("1", "")
	w.Want(http.StatusOK, "PUT", w.ws+"/models/m/versions/1"+v, `{"properties":{"modelUri":"azureml://datastores/workspaceblobstore/paths/a/model-1","description":"better"}}`)
	w.WantError(http.StatusConflict, "UserError", "PUT", w.ws+"/models/m/versions/1"+v, `{"properties":{"modelUri":"azureml://datastores/workspaceblobstore/paths/a/other"}}`)
}

func TestStartPendingUpload(t *testing.T) {
	w := start(t)
	ask := func(path string) *armtest.Answer {
		return w.Do("POST", w.ws+path+"/startPendingUpload"+v, `{"pendingUploadType":"TemporaryBlobReference"}`)
	}
	a := ask("/codes/c/versions/1")
	ref := []string{"blobReferenceForConsumption"}
	uri := a.Text(append(ref, "blobUri")...)
	if a.Status != http.StatusOK || !strings.HasPrefix(uri, "https://mlstore.blob.core.windows.net/11111111-") || a.Text(append(ref, "storageAccountArmId")...) != account ||
		!strings.HasPrefix(a.Text(append(ref, "credential", "sasUri")...), uri+"?sp=racwl") || a.Text("pendingUploadType") != "TemporaryBlobReference" {
		t.Errorf("got %d %s", a.Status, a.Raw)
	}
	if again := ask("/codes/c/versions/1"); again.Text(append(ref, "blobUri")...) != uri {
		t.Error("the same upload has another place when it is asked for again")
	}
	if other := ask("/codes/c/versions/2"); other.Text(append(ref, "blobUri")...) == uri {
		t.Error("two versions have one place")
	}
	w.Want(http.StatusCreated, "PUT", w.ws+"/codes/c/versions/1"+v, `{"properties":{"codeUri":"`+uri+`/LocalUpload/h/src"}}`)
	if a := ask("/codes/c/versions/1"); a.Status != http.StatusConflict {
		t.Errorf("of a version that is there: got %d %s", a.Status, a.Raw)
	}
	// With the version its files are as they are; a later one of the same id has a place of its own.
	if _, ok := w.sealed.Load(a.Text("pendingUploadId")); !ok {
		t.Error("the files of a version can be written to")
	}
	w.Want(http.StatusOK, "DELETE", w.ws+"/codes/c/versions/1"+v, "")
	again := ask("/codes/c/versions/1").Text(append(ref, "blobUri")...)
	if again == "" || again == uri || again != ask("/codes/c/versions/1").Text(append(ref, "blobUri")...) {
		t.Errorf("a deleted version's files come back: %s", again)
	}
	w.Want(http.StatusCreated, "PUT", w.ws+"/environments/e/versions/1"+v, `{"properties":{"build":{"contextUri":"`+again+`/LocalUpload/h/ctx"}}}`)
	if _, ok := w.sealed.Load(strings.TrimPrefix(again, "https://mlstore.blob.core.windows.net/")); !ok {
		t.Error("the build context of an environment can be written to")
	}
	// Containers that are not for uploads of this workspace are the user's own.
	for i, at := range []string{"https://mlstore.blob.core.windows.net/mine", strings.Replace(uri, "/11111111-", "/22222222-", 1), strings.Replace(uri, "mlstore", "another", 1)} {
		w.Want(http.StatusCreated, "PUT", fmt.Sprintf("%s/codes/d/versions/%d%s", w.ws, i, v), `{"properties":{"codeUri":"`+at+`/x"}}`)
	}
	n := 0
	w.sealed.Range(func(any, any) bool { n++; return true })
	if n != 2 {
		t.Errorf("%d containers are sealed", n)
	}
	w.Want(http.StatusBadRequest, "POST", w.ws+"/codes/c/versions/3/startPendingUpload"+v, `{"pendingUploadType":"Carrier pigeon"}`)
	w.Want(http.StatusBadRequest, "POST", w.ws+"/codes/c/versions/-3/startPendingUpload"+v, `{}`)
	w.Want(http.StatusNotFound, "POST", w.ws+"x/codes/c/versions/3/startPendingUpload"+v, `{}`)
}

// Each upload of a version that was deleted has a container of its own, of which
// there is an end.
func TestStartPendingUpload_NotForEver(t *testing.T) {
	w := start(t)
	w.used.Store(999)
	w.Want(http.StatusOK, "POST", w.ws+"/codes/c/versions/1/startPendingUpload"+v, `{}`)
	w.used.Store(1000)
	got := w.WantError(http.StatusConflict, "UserError", "POST", w.ws+"/codes/c/versions/1/startPendingUpload"+v, `{}`)
	if !strings.Contains(string(got.Raw), "uploaded and deleted 1000 times: choose another one") {
		t.Errorf("got %s", got.Raw)
	}
	w.used.Store(0)
	w.Want(http.StatusOK, "POST", w.ws+"/codes/c/versions/2/startPendingUpload"+v, `{}`)
}

func TestLocateAndFind(t *testing.T) {
	w := start(t)
	w.Want(http.StatusCreated, "PUT", w.ws+"/datastores/workspaceblobstore"+v, `{"properties":{"accountName":"mlstore","containerName":"azureml-blobstore-x"}}`)
	w.Want(http.StatusCreated, "PUT", w.ws+"/datastores/share"+v, `{"properties":{"accountName":"mlstore"}}`)
	w.model("1", "")
	w.model("2", "")
	id := rid.MustParse(w.ws)
	for uri, want := range map[string]assets.Location{
		"azureml://datastores/workspaceblobstore/paths/a/model-1":                                        {URL: "https://mlstore.blob.core.windows.net/azureml-blobstore-x/a/model-1", Base: "model-1"},
		"https://mlstore.blob.core.windows.net/up-1/LocalUpload/h/model":                                 {URL: "https://mlstore.blob.core.windows.net/up-1/LocalUpload/h/model", Base: "model"},
		"https://mlstore.blob.core.windows.net/up-1":                                                     {URL: "https://mlstore.blob.core.windows.net/up-1/", Base: "up-1"},
		strings.Replace(shortID(w.ws), "/", "azureml://", 1) + "/datastores/workspaceblobstore/paths/m/": {URL: "https://mlstore.blob.core.windows.net/azureml-blobstore-x/m", Base: "m"},
	} {
		if got, err := w.svc.Locate(t.Context(), id, uri); err != nil || got != want {
			t.Errorf("%s: got %+v, %v", uri, got, err)
		}
	}
	for _, uri := range []string{
		"azureml://datastores/none/paths/a", "azureml://datastores/share/paths/a", "azureml://jobs/x/outputs/y", "https://mlstore.blob.core.windows.net/UP/x",
		strings.Replace(shortID(w.ws), "/", "azureml://", 1) + "x/datastores/workspaceblobstore/paths/m",
	} {
		if got, err := w.svc.Locate(t.Context(), id, uri); apierr.From(err) == nil || apierr.From(err).Code != "BadArgument" {
			t.Errorf("%s: got %+v, %v", uri, got, err)
		}
	}
	for text, want := range map[string]string{"azureml:m:1": "1", "azureml:m@latest": "2", w.ws + "/models/M/versions/1": "1", "azureml:" + w.ws + "/models/m/versions/2": "2"} {
		ref, err := assets.ParseReference(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got, err := w.svc.Find(t.Context(), id, assets.Models, ref); err != nil || got.Version != want {
			t.Errorf("%s: got %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"azureml:m:9", "azureml:n@latest", w.ws + "/codes/m/versions/1", w.ws + "x/models/m/versions/1"} {
		ref, err := assets.ParseReference(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if _, err := w.svc.Find(t.Context(), id, assets.Models, ref); apierr.From(err) == nil || apierr.From(err).Code != "BadArgument" {
			t.Errorf("%s: got %v", text, err)
		}
	}
}

// shortID is a workspace's id as azureml:// writes it.
func shortID(id string) string {
	return strings.NewReplacer("/providers/Microsoft.MachineLearningServices", "", "resourceGroups", "resourcegroups").Replace(id)
}

func TestParseReference(t *testing.T) {
	curated := assets.Reference{Registry: "azureml", Type: "environments", Name: "sklearn-1.5", Label: "latest"}
	if got, err := assets.ParseReference("azureml://registries/azureml/environments/sklearn-1.5/labels/latest"); err != nil || got.Registry+got.Type+got.Name+got.Label != curated.Registry+curated.Type+curated.Name+curated.Label {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, bad := range []string{
		"", "m", "m:1", "azureml:", "azureml:m", "azureml:m@", "azureml:m:", "azureml:m@newest", "azureml:../m:1", "/subscriptions/x", "azureml://registries/azureml/environments/a",
		"azureml://registries/../environments/a/versions/1", "azureml://registries/r/environments/a/tags/1", "ftp://x", strings.Repeat("a", 3000),
		armtest.Base + "/resourceGroups/g/providers/Microsoft.Storage/a/b/c/d/e/f",
	} {
		if r, err := assets.ParseReference(bad); err == nil {
			t.Errorf("%q is %+v", bad, r)
		}
	}
}

func FuzzParseReference(f *testing.F) {
	for _, s := range []string{"azureml:m:1", "azureml:m@latest", "azureml://registries/azureml/environments/e/versions/1", armtest.Base + "/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w/models/m/versions/1", "https://a.blob.core.windows.net/c/p"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := assets.ParseReference(s)
		if err != nil || r.URI != "" {
			return
		}
		if strings.ContainsAny(r.Name+r.Version+r.Registry, "/\\ \x00") || r.Name == "" || r.Name == ".." {
			t.Fatalf("%q is %+v", s, r)
		}
	})
}

func FuzzLocate(f *testing.F) {
	for _, s := range []string{"azureml://datastores/d/paths/a/b", "https://mlstore.blob.core.windows.net/c/p/q", "azureml://subscriptions/s/resourcegroups/g/workspaces/w/datastores/d/paths/p", "https://x/%2e%2e/"} {
		f.Add(s)
	}
	svc := assets.New(assets.Config{Store: empty{}, Storage: shelf{&sync.Map{}, &atomic.Int64{}}})
	id := rid.MustParse(armtest.Base + "/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w")
	f.Fuzz(func(t *testing.T, s string) {
		l, err := svc.Locate(t.Context(), id, s)
		if err != nil {
			return
		}
		if l.Base == ".." || l.Base == "." || l.Base == "" || strings.ContainsAny(l.Base, "/\\\x00") || strings.Contains(l.URL, "/../") {
			t.Fatalf("%q is %+v", s, l)
		}
	})
}

// empty is a store in which nothing is.
type empty struct{ store.Store }

func (empty) Get(context.Context, string) (store.Doc, error) {
	return store.Doc{}, errors.Join(store.ErrNotFound)
}
