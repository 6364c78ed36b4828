package endpoints_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/environment"
	"lazurite.dev/internal/rid"
)

// registries have one image, for whoever is asked for.
type registries struct {
	reader, workspace, reference string
	err                          error
}

func (r *registries) Image(_ context.Context, reader string, workspace rid.ID, reference string) (*environment.Pulled, error) {
	r.reader, r.workspace, r.reference = reader, workspace.Name(), reference
	return &environment.Pulled{}, r.err
}

// puller pulls each image, and is as a catalogue about who can't.
type puller struct{}

func (puller) Resolve(ctx context.Context, e environment.Environment) (environment.Resolved, error) {
	_, err := e.Pull(ctx, e.Image)
	if failed, ok := errors.AsType[*environment.PullError](err); ok {
		err = &environment.BuildError{Message: failed.Message, Bad: true}
	}
	return environment.Resolved{Image: "pulled:1", Routes: environment.ServerRoutes()}, err
}

func TestDeployment_OfAnImageOfARegistry(t *testing.T) {
	w := start(t)
	w.workspace()
	has := &registries{}
	w.svc.Images, w.svc.Registries = puller{}, has
	path := w.endpoint("end1", "") + "/deployments/blue"
	w.Settle(w.Want(http.StatusCreated, "PUT", path+v, w.deploymentBody(nil)))
	principal := w.Want(http.StatusOK, "GET", w.ws+"/onlineEndpoints/end1"+v, "").Text("identity", "principalId")
	if got := w.run.all(); len(got) != 1 || got[0].Image != "pulled:1" || has.reader != principal || principal == "" || has.workspace != "ws" || !strings.HasPrefix(has.reference, "mcr.") {
		t.Errorf("got %+v, asked %+v", got, has)
	}
	for _, tt := range []struct {
		err  error
		code string
	}{
		{apierr.New(apierr.Forbidden, "DENIED", "no role"), "BadArgument"},
		{apierr.New(apierr.NotFound, "MANIFEST_UNKNOWN", "no tag"), "BadArgument"},
		{apierr.New(apierr.Conflict, "ManagedNetworkNotMade", "no network"), "ManagedNetworkNotMade"},
		{errors.New("the disk"), "InternalServerError"},
	} {
		has.err = tt.err
		a := w.Want(http.StatusOK, "PUT", path+v, w.deploymentBody(nil))
		op := w.Want(http.StatusOK, "GET", strings.TrimPrefix(a.Header.Get("Azure-AsyncOperation"), "https://management.azure.com"), "")
		if op.Text("error", "code") != tt.code || op.Text("status") != "Failed" {
			t.Errorf("%v: got %s", tt.err, op.Raw)
		}
	}
}
