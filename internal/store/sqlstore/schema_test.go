package sqlstore_test

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"lazurite.dev/internal/store"
	"lazurite.dev/internal/store/sqlstore"
	"lazurite.dev/internal/store/storetest/pgtest"
)

// execIn runs a statement in a database behind the store's back.
func execIn(t *testing.T, driver, dsn, statement string) {
	t.Helper()
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if _, err := db.ExecContext(t.Context(), statement); err != nil {
		t.Fatal(err)
	}
}

func TestOpen_RefusesANewerSchema(t *testing.T) {
	const newer = `INSERT INTO migrations (version) VALUES (1000)`
	t.Run("SQLite", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "laz.db")
		s, err := sqlstore.OpenSQLite(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		execIn(t, "sqlite", path, newer)
		for range 2 { // the first refusal must let go of the lock
			if _, err := sqlstore.OpenSQLite(t.Context(), path); !errors.Is(err, store.ErrSchema) || !strings.Contains(err.Error(), "version 1000") {
				t.Errorf("open: %v, want ErrSchema", err)
			}
		}
	})
	t.Run("Postgres", func(t *testing.T) {
		dsn := pgtest.Start(t)
		openPostgres(t, dsn)
		execIn(t, "pgx", dsn, newer)
		if _, err := sqlstore.OpenPostgres(t.Context(), dsn); !errors.Is(err, store.ErrSchema) {
			t.Errorf("open: %v, want ErrSchema", err)
		}
	})
}

func TestOpenSQLite_RefusesWhatIsNoDatabase(t *testing.T) {
	if _, err := sqlstore.OpenSQLite(t.Context(), t.TempDir()); err == nil {
		t.Error("a folder was opened")
	}
	if _, err := sqlstore.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "none", "laz.db")); err == nil {
		t.Error("a file in no folder was opened")
	}
}

func TestOpenPostgres_Refuses(t *testing.T) {
	for _, dsn := range []string{"host=", "postgres://user:hunter2@127.0.0.1:1/none?connect_timeout=1", "postgres://user:hunter2@[::1"} {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		if _, err := sqlstore.OpenPostgres(ctx, dsn); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", dsn, err)
		}
		cancel()
	}
	dsn := pgtest.Start(t)
	_, err := sqlstore.OpenPostgres(t.Context(), dsn+" options='-c synchronous_commit=off'")
	if err == nil || !strings.Contains(err.Error(), "synchronous_commit") {
		t.Errorf("a database that loses commits: %v", err)
	}
}

func TestOpenPostgres_ReplicasStartTogether(t *testing.T) {
	dsn := pgtest.Start(t)
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			s, err := sqlstore.OpenPostgres(t.Context(), dsn)
			if err != nil {
				t.Error(err)
				return
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}
