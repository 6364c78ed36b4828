package sqlstore_test

import (
	"path/filepath"
	"testing"

	"lazurite.dev/internal/store"
	"lazurite.dev/internal/store/sqlstore"
	"lazurite.dev/internal/store/storetest"
	"lazurite.dev/internal/store/storetest/pgtest"
)

func openPostgres(t testing.TB, dsn string) *sqlstore.Store {
	t.Helper()
	s, err := sqlstore.OpenPostgres(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestSQLite(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store {
		return openSQLite(t, filepath.Join(t.TempDir(), "laz.db"))
	})
}

func TestPostgres(t *testing.T) {
	pgtest.Start(t)
	storetest.Run(t, func(t *testing.T) store.Store { return openPostgres(t, pgtest.Start(t)) })
}

func TestPostgres_Replicas(t *testing.T) {
	pgtest.Start(t)
	storetest.RunReplicas(t, func(t *testing.T) (a, b store.Store) {
		dsn := pgtest.Start(t)
		return openPostgres(t, dsn), openPostgres(t, dsn)
	})
}
