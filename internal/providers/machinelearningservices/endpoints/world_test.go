package endpoints_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/arm/armtest"
	"lazurite.dev/internal/compute"
	"lazurite.dev/internal/directory"
	"lazurite.dev/internal/environment"
	"lazurite.dev/internal/providers/machinelearningservices/assets"
	"lazurite.dev/internal/providers/machinelearningservices/endpoints"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/seal"
	"lazurite.dev/internal/store"
)

const (
	v       = "?api-version=2024-04-01"
	guid    = "11111111-2222-4333-8444-555555555555"
	account = armtest.Base + "/resourceGroups/stores/providers/Microsoft.Storage/storageAccounts/mlstore"
)

// shelf signs containers without a storage account behind it.
type shelf struct{}

func (shelf) SignContainer(_ context.Context, account rid.ID, container, permissions string, _ time.Time) (string, error) {
	return "https://" + account.Name() + ".blob.core.windows.net/" + container + "?sp=" + permissions + "&sig=x", nil
}

func (shelf) SealContainer(context.Context, rid.ID, string) error { return nil }

func (shelf) BlobURL(account, container, path string) string {
	return "https://" + account + ".blob.core.windows.net/" + container + "/" + path
}

func (shelf) IsBlobHost(host string) (string, bool) {
	return strings.CutSuffix(strings.ToLower(host), ".blob.core.windows.net")
}

// runner notes what should run; it can be told to fail, or to hang.
type runner struct {
	mu         sync.Mutex // guards what follows
	running    map[string]compute.Deployment
	applied    int
	starts     int
	failStart  []error // of one after the other
	failScale  error
	tried      int                                   // by Scale
	onScale    func(ctx context.Context, uid string) // called by Scale at first
	holdRemove chan struct{}
	identified map[string][]string // by Identify
	late       []string            // given in the middle of an Apply by who had read them before
	fail       error
	hold       chan struct{}
	gone       error // Available
	builds     []compute.Build
	built      compute.BuildReport
	silent     bool  // no log
	unbuilt    error // Build
}

func (r *runner) Build(_ context.Context, b compute.Build, out io.Writer, _ func(string)) (compute.BuildReport, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.builds = append(r.builds, b)
	_, err := io.WriteString(out, "built")
	return r.built, errors.Join(r.unbuilt, err)
}

func (r *runner) Available(context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.gone
}

func (r *runner) Apply(ctx context.Context, d compute.Deployment, tell func(string)) error {
	r.mu.Lock()
	hold, fail := r.hold, r.fail
	r.applied++
	r.mu.Unlock()
	tell("pods")
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if fail != nil {
		return fail
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.running == nil {
		r.running = map[string]compute.Deployment{}
	}
	if r.late != nil {
		d.Identities = r.late
	}
	r.running[d.UID] = d
	return nil
}

func (r *runner) Identify(_ context.Context, uid string, identities []string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	d, ok := r.running[uid]
	if r.identified == nil {
		r.identified = map[string][]string{}
	}
	r.identified[uid] = identities
	if d.Identities = identities; ok {
		r.running[uid] = d
	}
	return nil
}

// Scaled implements endpoints.Runner and Scaler.
func (r *runner) Scaled(_ context.Context, uid string) (int, bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	d, ok := r.running[uid]
	return d.Instances, ok, nil
}

// Scale implements endpoints.Scaler.
func (r *runner) Scale(ctx context.Context, uid string, from, to int) error {
	r.mu.Lock()
	before := r.onScale
	r.mu.Unlock()
	if before != nil {
		before(ctx, uid)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tried++
	d, ok := r.running[uid]
	if !ok || r.failScale != nil {
		return r.failScale
	}
	if d.Instances != from {
		return compute.ErrBusy
	}
	d.Instances = to
	r.running[uid] = d
	return nil
}

// Start waits for hold, and fails as failStart says.
func (r *runner) Start(ctx context.Context, uid string) error {
	r.mu.Lock()
	r.starts++
	hold := r.hold
	var fail error
	if len(r.failStart) > 0 {
		fail, r.failStart = r.failStart[0], r.failStart[1:]
	}
	d, ok := r.running[uid]
	if ok && fail == nil {
		d.Instances = max(1, d.Instances)
		r.running[uid] = d
	}
	r.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return fail
}

func (r *runner) Remove(ctx context.Context, uid string) error {
	r.mu.Lock()
	hold := r.holdRemove
	r.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.running, uid)
	return nil
}

func (r *runner) RemoveEndpoint(context.Context, string, string) error { return nil }

func (r *runner) Logs(_ context.Context, _, container string, tail int) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.silent {
		return "", apierr.New(apierr.NotFound, "ResourceNotFound", "The deployment has no instance, and so no log.")
	}
	return fmt.Sprintf("%s %d\n", container, tail), nil
}

func (r *runner) all() []compute.Deployment {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []compute.Deployment
	for _, d := range r.running {
		list = append(list, d)
	}
	return list
}

func (r *runner) set(change func(r *runner)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(r)
}

// shop has every image but "missing".
type shop struct{}

func (shop) Resolve(_ context.Context, e environment.Environment) (environment.Resolved, error) {
	if strings.Contains(e.Image, "missing") {
		return environment.Resolved{}, &environment.BuildError{Message: "There is no image for " + e.Image + ".", Log: "looked everywhere\n"}
	}
	r := environment.Resolved{Image: e.Image + e.Curated, Routes: environment.ServerRoutes(), Log: "took the image\n"}
	if e.Inference != nil {
		r.Routes = *e.Inference
	}
	return r, nil
}

// roles notes who has which role where.
type roles struct {
	mu   sync.Mutex // guards what follows
	has  map[string]bool
	fail error  // of Revoke
	then func() // called by the next Grant

	failGrant error // of the next Grant
}

func (r *roles) Grant(_ context.Context, scope rid.ID, role, principal string) error {
	r.mu.Lock()
	then := r.then
	r.then = nil
	r.mu.Unlock()
	if then != nil {
		then()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.failGrant; err != nil {
		r.failGrant = nil
		return err
	}
	if r.has == nil {
		r.has = map[string]bool{}
	}
	r.has[scope.Name()+" "+role[:8]+" "+principal] = true
	return nil
}

func (r *roles) Revoke(_ context.Context, scope rid.ID, role, principal string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fail != nil {
		return r.fail
	}
	delete(r.has, scope.Name()+" "+role[:8]+" "+principal)
	return nil
}

// takeAway is what an owner of a scope with a name does.
func (r *roles) takeAway(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.DeleteFunc(r.has, func(role string, _ bool) bool { return strings.HasPrefix(role, name+" ") })
}

func (r *roles) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.has)
}

// at are the names of what roles are had at, sorted.
func (r *roles) at() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var names []string
	for role := range r.has {
		name, _, _ := strings.Cut(role, " ")
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// people is a directory that takes everybody.
type people struct{}

func (people) EnsureManagedIdentity(context.Context, directory.ManagedIdentity) error { return nil }
func (people) RemoveManagedIdentity(context.Context, string) error                    { return nil }

type world struct {
	*armtest.Plane
	t      testing.TB
	run    *runner
	roles  *roles
	svc    *endpoints.Service
	like   bool
	ws     string // path of the workspace
	mu     sync.Mutex
	ahead  time.Duration
	opened []*endpoints.Service
}

func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Now().Add(w.ahead)
}

func (w *world) later(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ahead += d
}

func start(t *testing.T) *world { return startLike(t, false) }

func startLike(t *testing.T, like bool) *world {
	w := &world{t: t, run: &runner{}, roles: &roles{}, like: like}
	dir := t.TempDir()
	w.Plane = armtest.New(t, func(s store.Store) []arm.Provider { return []arm.Provider{w.provider(dir, s)} },
		func(c *arm.Config) { c.Principals = people{} })
	t.Cleanup(func() {
		for _, s := range w.opened {
			s.Close()
		}
	})
	return w
}

func (w *world) provider(dir string, s store.Store) arm.Provider {
	root, err := seal.OpenFileRoot(filepath.Join(dir, "root.key"))
	if err != nil {
		w.t.Fatal(err)
	}
	shelves := assets.New(assets.Config{Store: s, Storage: shelf{}})
	w.svc, err = endpoints.Open(w.t.Context(), endpoints.Config{
		Store: s, Sealer: seal.NewKeyring(s, root), Assets: shelves, Runner: w.run, Images: shop{}, Grants: w.roles, AzureLike: w.like, Now: w.now,
		URL:   func(label string) string { return "https://" + label + ".inference.ml.azure.com" },
		Label: func(host string) (string, bool) { return strings.CutSuffix(host, ".inference.ml.azure.com") },
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.opened = append(w.opened, w.svc)
	plain := func(typ string, tracked bool) arm.Route {
		return arm.Serve(assets.Namespace, arm.Kind[map[string]any]{Type: typ, APIVersions: assets.Versions(), Tracked: tracked})
	}
	return arm.Provider{
		Namespace: assets.Namespace,
		Routes:    append(append(shelves.Routes(), w.svc.Routes()...), plain("workspaces", true), plain("workspaces/datastores", false)),
		Endpoints: w.svc.Endpoints(),
	}
}

const workspaceBody = `{"location":"westus2","properties":{"workspaceId":"` + guid + `","storageAccount":"` + account + `"}}`

// workspace makes one with code, a model and an environment.
func (w *world) workspace() {
	w.t.Helper()
	w.ws = w.Group("rg") + "/providers/Microsoft.MachineLearningServices/workspaces/ws"
	w.Want(http.StatusCreated, "PUT", w.ws+v, workspaceBody)
	w.Want(http.StatusCreated, "PUT", w.ws+"/codes/code/versions/1"+v, `{"properties":{"codeUri":"https://mlstore.blob.core.windows.net/up-1/LocalUpload/h/onlinescoring"}}`)
	w.Want(http.StatusCreated, "PUT", w.ws+"/models/model/versions/1"+v, `{"properties":{"modelUri":"https://mlstore.blob.core.windows.net/up-2/LocalUpload/h/model"}}`)
	w.Want(http.StatusCreated, "PUT", w.ws+"/environments/env/versions/1"+v, `{"properties":{"image":"mcr.microsoft.com/azureml/minimal:latest","condaFile":"name: x\n"}}`)
}

func (w *world) endpointBody(more string) string {
	return `{"location":"westus2","identity":{"type":"SystemAssigned"},"properties":{"authMode":"Key"` + more + `}}`
}

// endpoint makes one and gives its path.
func (w *world) endpoint(name, more string) string {
	w.t.Helper()
	path := w.ws + "/onlineEndpoints/" + name
	if got := w.Settle(w.Want(http.StatusCreated, "PUT", path+v, w.endpointBody(more))); got != "Succeeded" {
		w.t.Fatalf("the endpoint is %s", got)
	}
	return path
}

func (w *world) deploymentBody(change func(top, props map[string]any)) string {
	w.t.Helper()
	props := map[string]any{
		"model": w.ws + "/models/model/versions/1", "environmentId": "azureml:env:1", "instanceType": "Standard_DS3_v2",
		"codeConfiguration": map[string]any{"codeId": w.ws + "/codes/code/versions/1", "scoringScript": "score.py"},
	}
	top := map[string]any{"location": "westus2", "sku": map[string]any{"name": "Default", "capacity": 1}, "properties": props}
	if change != nil {
		change(top, props)
	}
	b, err := json.Marshal(top)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(b)
}

// deployment makes one of an endpoint and gives its path.
func (w *world) deployment(endpoint, name string) string {
	w.t.Helper()
	path := endpoint + "/deployments/" + name
	if got := w.Settle(w.Want(http.StatusCreated, "PUT", path+v, w.deploymentBody(nil))); got != "Succeeded" {
		w.t.Fatalf("the deployment is %s", got)
	}
	return path
}
