package endpoints_test

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/compute"
	"lazurite.dev/internal/environment"
	"lazurite.dev/internal/rid"
)

// shelfOf has one file in each folder, which says where it is.
type shelfOf struct{}

func (shelfOf) Folder(_ context.Context, reader string, account rid.ID, container, folder string, into *os.Root) error {
	if reader == "" || strings.Contains(folder, "secret") {
		return apierr.New(apierr.Forbidden, "AuthorizationPermissionMismatch", "%s may not read %s", reader, folder)
	}
	return into.WriteFile("Dockerfile", []byte("FROM "+account.Name()+"/"+container+"/"+folder), 0o600)
}

// builder calls the image what the Dockerfile says.
type builder struct{ dir string }

func (b builder) Resolve(ctx context.Context, e environment.Environment) (environment.Resolved, error) {
	dir, err := os.MkdirTemp(b.dir, "")
	if err != nil {
		return environment.Resolved{}, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return environment.Resolved{}, err
	}
	defer func() { _ = root.Close() }()
	if err := e.Build.Fetch(ctx, root); err != nil {
		return environment.Resolved{}, err
	}
	text, err := root.ReadFile(e.Build.Dockerfile)
	if strings.Contains(string(text), "/full") {
		err = &environment.BuildError{Message: "there is no room", Full: true}
	}
	return environment.Resolved{Image: string(text), Routes: environment.ServerRoutes(), Log: "built\n"}, err
}

func TestDeployment_OfABuildContext(t *testing.T) {
	w := start(t)
	w.workspace()
	w.svc.Contexts, w.svc.Images = shelfOf{}, builder{t.TempDir()}
	path := w.endpoint("end1", "") + "/deployments/blue"
	build := func(version, uri string) string {
		w.Want(http.StatusCreated, "PUT", w.ws+"/environments/built/versions/"+version+v, `{"properties":{"build":{"contextUri":"`+uri+`","dockerfilePath":"Dockerfile"}}}`)
		return w.deploymentBody(func(_, p map[string]any) { p["environmentId"] = "azureml:built:" + version })
	}
	w.Settle(w.Want(http.StatusCreated, "PUT", path+v, build("1", "https://mlstore.blob.core.windows.net/up-9/LocalUpload/h/ctx/")))
	if got := w.run.all(); len(got) != 1 || got[0].Image != "FROM mlstore/up-9/LocalUpload/h/ctx" {
		t.Errorf("got %+v", got)
	}
	a := w.Want(http.StatusOK, "PUT", path+v, build("2", "https://another.blob.core.windows.net/up-9/ctx"))
	op := w.Want(http.StatusOK, "GET", strings.TrimPrefix(a.Header.Get("Azure-AsyncOperation"), "https://management.azure.com"), "")
	if op.Text("error", "code") != "BadArgument" || !strings.Contains(string(op.Raw), "is not in the storage account of the workspace") {
		t.Errorf("got %s", op.Raw)
	}
	a = w.Want(http.StatusOK, "PUT", path+v, build("4", "https://mlstore.blob.core.windows.net/up-9/full"))
	op = w.Want(http.StatusOK, "GET", strings.TrimPrefix(a.Header.Get("Azure-AsyncOperation"), "https://management.azure.com"), "")
	if op.Text("error", "code") != "OutOfQuota" {
		t.Errorf("got %s", op.Raw)
	}
	a = w.Want(http.StatusOK, "PUT", path+v, build("5", "https://mlstore.blob.core.windows.net/up-9/secret"))
	op = w.Want(http.StatusOK, "GET", strings.TrimPrefix(a.Header.Get("Azure-AsyncOperation"), "https://management.azure.com"), "")
	principal := w.Want(http.StatusOK, "GET", w.ws+"/onlineEndpoints/end1"+v, "").Text("identity", "principalId")
	if op.Text("error", "code") != "AuthorizationPermissionMismatch" || principal == "" || op.Text("error", "message") != principal+" may not read secret" {
		t.Errorf("got %s", op.Raw)
	}
	w.svc.Contexts = nil
	a = w.Want(http.StatusOK, "PUT", path+v, build("3", "https://mlstore.blob.core.windows.net/up-9/ctx"))
	op = w.Want(http.StatusOK, "GET", strings.TrimPrefix(a.Header.Get("Azure-AsyncOperation"), "https://management.azure.com"), "")
	if op.Text("error", "code") != "ImageBuildFailure" {
		t.Errorf("got %s", op.Raw)
	}
}

// installer runs a build for every environment.
type installer struct {
	t    *testing.T
	said *environment.Report
	err  *error
}

func (i installer) Resolve(ctx context.Context, e environment.Environment) (environment.Resolved, error) {
	var out strings.Builder
	*i.said, *i.err = e.Run(ctx, environment.Job{Image: "base:1", Archive: "/a.tar", Command: []string{"c"}, Files: map[string][]byte{"f": nil}, Most: 7}, &out)
	if out.String() != "built" {
		i.t.Errorf("handed out: %q", out.String())
	}
	return environment.Resolved{Image: "new:1", Routes: environment.ServerRoutes()}, nil
}

func TestDeployment_WhoseEnvironmentIsInstalled(t *testing.T) {
	w := start(t)
	w.workspace()
	var said environment.Report
	var ended error
	w.svc.Images = installer{t, &said, &ended}
	at, began := netip.MustParseAddr("10.244.0.9"), time.Now()
	w.svc.Refused = func(_ string, client netip.Addr, since time.Time) []string {
		if client != at || !since.Equal(began) {
			t.Errorf("asked for %s since %s", client, since)
		}
		return []string{"pypi.org"}
	}
	w.run.built = compute.BuildReport{Log: "log", Address: at, Began: began}
	path := w.endpoint("end1", "") + "/deployments/blue"
	w.Settle(w.Want(http.StatusCreated, "PUT", path+v, w.deploymentBody(nil)))
	if ended != nil || said.Log != "log" || said.Refused != nil {
		t.Errorf("got %+v, %v", said, ended)
	}
	b := w.run.builds[0]
	if b.For != "end1/blue" || b.Image != "base:1" || b.Archive != "/a.tar" || b.Most != 7 || len(b.Files) != 1 || len(b.Command) != 1 || b.WorkspaceUID == "" || b.Location == "" || b.Workspace.Name() == "" {
		t.Errorf("got %+v", b)
	}
	for _, full := range []bool{false, true} {
		code := map[bool]string{false: compute.CodeImage, true: compute.CodeQuota}[full]
		w.run.set(func(r *runner) { r.unbuilt = &compute.Failure{Code: code, Message: "no"} })
		w.Settle(w.Want(http.StatusOK, "PUT", path+v, w.deploymentBody(nil)))
		var failed *environment.JobError
		if !errors.As(ended, &failed) || failed.Full != full || failed.Message != "no" || len(said.Refused) != 1 {
			t.Errorf("got %+v, %v", said, ended)
		}
	}
}
