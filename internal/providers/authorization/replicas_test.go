package authorization_test

import (
	"testing"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/directory"
	"lazurite.dev/internal/providers/authorization"
	"lazurite.dev/internal/rbac"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
	"lazurite.dev/internal/store/sqlstore"
	"lazurite.dev/internal/store/storetest/pgtest"
)

type replica struct {
	st  store.Store
	dir *directory.Directory
	a   *authorization.Authorizer
}

func openReplica(t *testing.T, dsn string) replica {
	t.Helper()
	st, err := sqlstore.OpenPostgres(t.Context(), dsn)
	check(t, err)
	dir, err := directory.Open(t.Context(), st, tenant)
	check(t, err)
	a, err := authorization.Open(t.Context(), st, dir)
	check(t, err)
	t.Cleanup(func() {
		a.Close()
		dir.Close()
		check(t, st.Close())
	})
	return replica{st, dir, a}
}

// within polls until ok, and fails the test when limit has passed.
func within(t *testing.T, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	begin := time.Now()
	for !ok() {
		if time.Since(begin) > limit {
			t.Fatalf("%s: not within %s", what, limit)
		}
		<-tick.C
	}
}

func TestReplicas_ARoleRemovedThroughOneIsRefusedByTheOther(t *testing.T) {
	dsn := pgtest.Start(t)
	one, two := openReplica(t, dsn), openReplica(t, dsn)
	u, err := one.dir.CreateUser(t.Context(), directory.User{UPN: "ada@contoso.example"}, "")
	check(t, err)
	scope := rid.MustParse(rg)
	id := rid.MustParse(rg + auth + "/roleAssignments/" + name(1))
	may := func(r replica) bool {
		d, err := r.a.Check(t.Context(), u.ObjectID, writeGroup, false, scope)
		return err == nil && d.Allowed
	}
	res := arm.Resources{Store: one.st}
	for range 3 {
		check(t, res.Put(t.Context(), &arm.Envelope{
			ID: id.String(), Name: id.Name(), Type: "Microsoft.Authorization/roleAssignments",
			Properties: map[string]any{"roleDefinitionId": rbac.Contributor, "principalId": u.ObjectID},
		}))
		if !may(one) {
			t.Error("not allowed where it was assigned")
		}
		within(t, time.Second, "allowed by the other", func() bool { return may(two) })
		check(t, res.Delete(t.Context(), id))
		if may(one) {
			t.Error("allowed where it was removed")
		}
		within(t, time.Second, "refused by the other", func() bool { return !may(two) })
	}
}

func TestReplicas_FailClosedWithoutTheDatabase(t *testing.T) {
	dsn := pgtest.Start(t)
	r := openReplica(t, dsn)
	u, err := r.dir.CreateUser(t.Context(), directory.User{UPN: "ada@contoso.example"}, "")
	check(t, err)
	check(t, r.a.Assign(t.Context(), rid.MustParse(rg), rbac.Reader, u.ObjectID))
	ask := func() error {
		_, err := r.a.Check(t.Context(), u.ObjectID, "a/read", false, rid.MustParse(rg))
		return err
	}
	within(t, time.Second, "allowed", func() bool { return ask() == nil })
	mend := pgtest.Cut(t, dsn)
	within(t, 2*time.Second, "refused without the database", func() bool { return apierr.Is(ask(), apierr.Unavailable) })
	mend()
	within(t, 10*time.Second, "allowed again", func() bool { return ask() == nil })
}
