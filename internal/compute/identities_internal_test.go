package compute

import (
	"context"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/seal"
	"lazurite.dev/internal/store/sqlstore"
)

// grants are those of secrets, in memory.
type grants struct {
	mu  sync.Mutex // guards has
	has map[string][]string
}

func (g *grants) Attach(_ context.Context, secret string, identities []string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.has[secret] = identities
	return nil
}

func (g *grants) Revoke(_ context.Context, secret string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.has, secret)
	return nil
}

func TestIdentify_CountsAtOnce(t *testing.T) {
	st, err := sqlstore.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "laz.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	root, err := seal.OpenFileRoot(filepath.Join(t.TempDir(), "root"))
	if err != nil {
		t.Fatal(err)
	}
	g := &grants{has: map[string][]string{}}
	c := New(Config{Store: st, Seal: seal.NewKeyring(st, root), Grants: g})
	id := rid.MustParse("/subscriptions/66666666-0000-0000-0000-000000000000/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w")
	d := Deployment{UID: "d1", EndpointUID: "e1", WorkspaceUID: "w1", ID: id, Workspace: id, Image: "lazurite.dev/x:v1", Identities: []string{"one", "two"}}
	doc, err := c.record(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := c.secret(t.Context(), doc)
	if err != nil || secret == "" {
		t.Fatal(err)
	}
	if names, err := c.Images(t.Context()); err != nil || !slices.Equal(names, []string{d.Image}) {
		t.Errorf("the images are %v, %v", names, err)
	}
	is := func(what string, want ...string) {
		t.Helper()
		if got := g.has[secret]; !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", what, got, want)
		}
	}
	// An Apply has the deployment's turn for as long as its rollout takes.
	give, err := c.take(t.Context(), "deployment d1")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Identify(t.Context(), "d1", []string{"two"}); err != nil {
		t.Fatal(err)
	}
	is("in the middle of a rollout", "two")
	if err := c.attach(t.Context(), "d1", secret); err != nil { // the Apply goes on with what it began with
		t.Fatal(err)
	}
	is("after the rollout", "two")
	give()
	if err := c.Identify(t.Context(), "d1", nil); err != nil {
		t.Fatal(err)
	}
	is("without identities")
	if err := c.Identify(t.Context(), "none", []string{"two"}); err != nil {
		t.Error(err)
	}
	if _, ok, err := c.deployment(t.Context(), "none"); ok || err != nil {
		t.Errorf("a deployment that is not there was made: %v", err)
	}
	if doc, err = changeDoc(t.Context(), st, deploymentPrefix+"d1", deploymentKind, func(d *deploymentDoc) error { d.Removing = true; return nil }); err != nil {
		t.Fatal(err)
	}
	if err := c.Identify(t.Context(), "d1", []string{"three"}); err != nil {
		t.Error(err)
	}
	is("while it is taken away")
	if err := c.forget(t.Context(), doc); err != nil {
		t.Error(err)
	}
	is("after it was taken away")
}
