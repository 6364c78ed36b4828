package compute

import (
	"context"
	"errors"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"lazurite.dev/internal/cluster"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/seal"
	"lazurite.dev/internal/store/sqlstore"
)

// absent is a driver whose clusters are not back.
type absent struct {
	cluster.Driver
	asked atomic.Int64
}

func (a *absent) Access(context.Context, string) (cluster.Access, error) {
	a.asked.Add(1)
	return cluster.Access{}, cluster.ErrNotFound
}

func TestScale_WaitsForNobody(t *testing.T) {
	st, err := sqlstore.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "laz.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	root, err := seal.OpenFileRoot(filepath.Join(t.TempDir(), "root"))
	if err != nil {
		t.Fatal(err)
	}
	driver := &absent{}
	c := New(Config{Store: st, Seal: seal.NewKeyring(st, root), Driver: driver, Trust: func() ([]byte, error) { return nil, nil }})
	id := rid.MustParse("/subscriptions/66666666-0000-0000-0000-000000000000/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w")
	if _, err := c.record(t.Context(), Deployment{UID: "d1", EndpointUID: "e1", WorkspaceUID: "w1", ID: id, Workspace: id, Instances: 2}); err != nil {
		t.Fatal(err)
	}
	has := func(what string, want int) {
		t.Helper()
		if n, ok, err := c.Scaled(t.Context(), "d1"); err != nil || !ok || n != want {
			t.Errorf("%s: %d instances (%v, %v), want %d", what, n, ok, err, want)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, done, err := c.begin(ctx, "d1") // as an Apply does
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Scale(ctx, "d1", 2, 0); !errors.Is(err, ErrBusy) {
		t.Errorf("in the middle of a rollout: %v", err)
	}
	if err := c.Scale(ctx, "d1", 2, 2); err != nil {
		t.Errorf("nothing to do: %v", err)
	}
	done()
	if err := c.Scale(ctx, "d1", 1, 0); !errors.Is(err, ErrBusy) {
		t.Errorf("decided on another number: %v", err)
	}
	has("after what came to nothing", 2)
	if driver.asked.Load() != 0 {
		t.Error("the cluster was asked")
	}
	if err := c.Scale(ctx, "d1", 2, -1); err == nil || errors.Is(err, ErrBusy) {
		t.Errorf("less than none: %v", err)
	}
	if _, err := changeDoc(ctx, st, deploymentPrefix+"d1", deploymentKind, func(d *deploymentDoc) error { d.Deployment.Instances = 0; return nil }); err != nil {
		t.Fatal(err)
	}
	// Where its cluster is not back, a start comes to nothing that is final.
	var f *Failure
	if err := c.Start(ctx, "d1"); !errors.Is(err, cluster.ErrNotFound) || errors.As(err, &f) {
		t.Errorf("started without a cluster: %v", err)
	}
	has("after a start that came to nothing", 0)
	if _, ok := c.tryTake("deployment d1"); !ok || c.turns.Busy() != 1 {
		t.Error("a turn was not given back")
	}
}
