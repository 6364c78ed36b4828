package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime"

	_ "modernc.org/sqlite" // the driver "sqlite"
)

func sqlite() dialect {
	return dialect{types: map[string]string{"TEXT": "text", "BYTES": "blob", "INT": "integer"}}
}

// OpenSQLite opens the database file at path, making it if need be, for this
// process alone. The file and those beside it (-wal, -shm, .lock) are private
// to the user. Errors: store.ErrLocked, store.ErrSchema, and those of the file
// system and of SQLite.
func OpenSQLite(ctx context.Context, path string) (*Store, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}
	release, err := lockFile(path + ".lock")
	if err != nil {
		return nil, err
	}
	s := &Store{dialect: sqlite(), release: release, cache: newCache()}
	if err := s.openSQLite(ctx, path); err != nil {
		_ = s.shut()
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return s, nil
}

func (s *Store) openSQLite(ctx context.Context, path string) error {
	if err := private(path); err != nil {
		return err
	}
	var err error
	if s.writer, err = sqliteHandle(path, 1, "immediate"); err != nil {
		return err
	}
	if err := s.dialect.migrate(ctx, s.writer); err != nil {
		return err
	}
	if s.reader, err = sqliteHandle(path, max(4, runtime.NumCPU()), "deferred"); err != nil {
		return err
	}
	return s.start(ctx)
}

// private makes the file, or takes the rights of others from it. SQLite gives
// the files beside it the same rights.
func private(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if err := f.Chmod(0o600); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}

// sqliteHandle opens a pool of conns connections. In WAL mode readers see the
// last commit and never wait for the writer; synchronous=FULL makes a commit
// durable; secure_delete overwrites what is deleted.
func sqliteHandle(path string, conns int, txlock string) (*sql.DB, error) {
	q := url.Values{"_txlock": {txlock}, "_pragma": {
		"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(FULL)",
		"secure_delete(ON)", "journal_size_limit(67108864)", "cache_size(-4000)",
	}}
	u := url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: q.Encode()}
	db, err := sql.Open("sqlite", u.String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	return db, nil
}
