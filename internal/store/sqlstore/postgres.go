package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

const (
	// The locks are of the database: all replicas on it take the same.
	lockSchema = `SELECT pg_advisory_xact_lock(5066549580791809)`
	// The notification goes out with the commit.
	lockWrites = `SELECT pg_advisory_xact_lock(5066549580791810), pg_notify('lazurite', '')`

	readConns    = 16
	writeConns   = 2
	dialTimeout  = 5 * time.Second
	stuckTimeout = 10 * time.Second
	listenAgain  = time.Second // after the connection for notifications broke
)

func postgres() dialect {
	return dialect{
		types:       map[string]string{"TEXT": `text COLLATE "C"`, "BYTES": "bytea", "INT": "bigint"},
		migrateLock: lockSchema,
		writeLock:   lockWrites,
		shared:      true,
	}
}

// OpenPostgres opens the database that dsn names (a libpq connection string or
// URL, RFC 3986 form postgres://), making or migrating the tables. Any number
// of processes may have it open, each with its own sessions: a proxy that shares
// sessions by transaction won't do. It refuses a database that is not UTF-8, or
// that acknowledges commits which it could lose. Errors: store.ErrSchema, and
// those of PostgreSQL; none shows the password.
func OpenPostgres(ctx context.Context, dsn string) (*Store, error) {
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("open PostgreSQL: %w", err)
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = dialTimeout
	}
	if cfg.RuntimeParams["application_name"] == "" {
		cfg.RuntimeParams["application_name"] = "lazurite"
	}
	// Statements must see what was committed before they took the lock.
	cfg.RuntimeParams["default_transaction_isolation"] = "read committed"
	// A replica that stops in the middle of a write must not stop the others.
	cfg.RuntimeParams["idle_in_transaction_session_timeout"] = strconv.FormatInt(stuckTimeout.Milliseconds(), 10)
	s := &Store{dialect: postgres()}
	if err := s.openPostgres(ctx, cfg); err != nil {
		_ = s.shut()
		return nil, fmt.Errorf("open PostgreSQL at %s: %w", cfg.Host, err)
	}
	return s, nil
}

func (s *Store) openPostgres(ctx context.Context, cfg *pgx.ConnConfig) error {
	s.writer = postgresHandle(cfg, writeConns)
	s.reader = postgresHandle(cfg, readConns)
	if err := sound(ctx, s.writer); err != nil {
		return err
	}
	if err := s.dialect.migrate(ctx, s.writer); err != nil {
		return err
	}
	if err := s.start(ctx); err != nil {
		return err
	}
	s.wg.Go(func() { s.listen(cfg) })
	return nil
}

func postgresHandle(cfg *pgx.ConnConfig, conns int) *sql.DB {
	db := stdlib.OpenDB(*cfg)
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	db.SetConnMaxIdleTime(5 * time.Minute)
	return db
}

// sound refuses settings under which the store's promises would not hold.
func sound(ctx context.Context, db *sql.DB) error {
	var encoding, commit string
	err := db.QueryRowContext(ctx, `SELECT current_setting('server_encoding'), current_setting('synchronous_commit')`).Scan(&encoding, &commit)
	if err != nil {
		return err
	}
	if encoding != "UTF8" {
		return fmt.Errorf("the database's encoding is %s; create it with ENCODING 'UTF8'", encoding)
	}
	if commit == "off" {
		return errors.New("synchronous_commit is off, so that acknowledged writes could be lost; turn it on")
	}
	return nil
}

// listen wakes the poller at each notification of a commit. While it has no
// connection the poller's own pulse goes on.
func (s *Store) listen(cfg *pgx.ConnConfig) {
	for s.ctx.Err() == nil {
		_ = s.notifications(cfg) // whatever broke, the answer is to connect again
		select {
		case <-s.ctx.Done():
		case <-time.After(listenAgain):
		}
	}
}

func (s *Store) notifications(cfg *pgx.ConnConfig) error {
	conn, err := pgx.ConnectConfig(s.ctx, cfg)
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), time.Second)
		defer cancel()
		_ = conn.Close(ctx)
	}()
	if _, err := conn.Exec(s.ctx, `LISTEN lazurite`); err != nil {
		return err
	}
	for {
		if _, err := conn.WaitForNotification(s.ctx); err != nil {
			return err
		}
		s.wakePoller()
	}
}
