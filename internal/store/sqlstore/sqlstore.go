// Package sqlstore keeps a [store.Store] in SQLite, for one process on one
// machine, or in PostgreSQL, for many replicas.
package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"lazurite.dev/internal/store"
)

// pulse is how often followers are told that nothing is outstanding.
const pulse = 200 * time.Millisecond

// dialect is what differs between the databases.
type dialect struct {
	types       map[string]string // of schema.sql
	migrateLock string            // statement; taken before the schema is looked at
	writeLock   string            // statement; the first of each writing transaction
	shared      bool              // other processes write too
}

// Store is a store.Store in a database. Make one with OpenSQLite or
// OpenPostgres.
type Store struct {
	dialect dialect
	reader  *sql.DB
	writer  *sql.DB
	q       queries
	hub     *hub
	cache   *cache       // nil where other processes write too
	release func() error // gives up what keeps other processes out

	poke   chan struct{} // asks the poller to look now; holds one
	ops    chan *op
	ctx    context.Context // of the background work; ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup // the background work but for the writer

	writing sync.WaitGroup // the writer

	mu     sync.RWMutex // held for reading while sending to ops, for writing while closing it
	closed atomic.Bool  // set under mu
}

var _ store.Store = (*Store)(nil)

// queries are the prepared statements.
type queries struct {
	get, now, bounds, backlog       *sql.Stmt
	list, listTo, listKind, kindTo  *sql.Stmt
	create, update, remove, rev     *sql.Stmt
	last, change, erase, trim, size *sql.Stmt
}

// SQLite would look at the parameter itself to choose a plan, and so prepare the
// statement anew for each; an expression it takes as it comes.
const columns = `SELECT key, rev, kind, value FROM docs WHERE key >= $1 || ''`

// prepare makes the statements; d.reader and d.writer are open.
func (s *Store) prepare(ctx context.Context) error {
	r, w, q := s.reader, s.writer, &s.q
	for _, p := range []struct {
		db   *sql.DB
		to   **sql.Stmt
		text string
	}{
		{r, &q.get, `SELECT rev, kind, value FROM docs WHERE key = $1`},
		{r, &q.list, columns + ` ORDER BY key LIMIT $2`},
		{r, &q.listTo, columns + ` AND key < $2 ORDER BY key LIMIT $3`},
		{r, &q.listKind, columns + ` AND kind = $2 ORDER BY key LIMIT $3`},
		{r, &q.kindTo, columns + ` AND key < $2 AND kind = $3 ORDER BY key LIMIT $4`},
		{r, &q.now, `SELECT coalesce(max(seq), 0) FROM changes`},
		{r, &q.bounds, `SELECT coalesce(min(seq), 0), coalesce(max(seq), 0) FROM changes`},
		{r, &q.backlog, `SELECT seq, state, key, kind, value FROM changes WHERE seq > $1 AND seq <= $2 ORDER BY seq LIMIT $3`},
		{w, &q.create, `INSERT INTO docs (key, rev, kind, value) VALUES ($1, $2, $3, $4) ON CONFLICT (key) DO NOTHING`},
		{w, &q.update, `UPDATE docs SET rev = $1, kind = $2, value = $3 WHERE key = $4 AND rev = $5`},
		{w, &q.remove, `DELETE FROM docs WHERE key = $1 AND (rev = $2 OR $2 = 0) RETURNING kind`},
		{w, &q.rev, `SELECT rev FROM docs WHERE key = $1`},
		{w, &q.last, `SELECT seq, total FROM changes ORDER BY seq DESC LIMIT 1`},
		{w, &q.change, `INSERT INTO changes (seq, total, state, key, kind, value) VALUES ($1, $2, $3, $4, $5, $6)`},
		{w, &q.erase, `UPDATE changes SET state = 2, value = $1 WHERE key = $2 AND state = 0`},
		{w, &q.trim, `DELETE FROM changes WHERE seq < $1`},
		{w, &q.size, `SELECT total FROM changes WHERE seq = $1`},
	} {
		st, err := p.db.PrepareContext(ctx, p.text)
		if err != nil {
			return fmt.Errorf("prepare %q: %w", p.text, err)
		}
		*p.to = st
	}
	return nil
}

// start begins the background work of a migrated database.
func (s *Store) start(ctx context.Context) error {
	if err := s.prepare(ctx); err != nil {
		return err
	}
	var head int64
	if err := s.q.now.QueryRowContext(ctx).Scan(&head); err != nil {
		return fmt.Errorf("read the newest change: %w", err)
	}
	s.hub = newHub(head)
	s.ops = make(chan *op, 256)
	s.poke = make(chan struct{}, 1)
	s.ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	s.writing.Go(s.write)
	s.wg.Go(s.poll)
	return nil
}

// readCtx spares SQLite a goroutine for each statement: its point reads take
// microseconds and can't hang.
func (s *Store) readCtx(ctx context.Context) context.Context {
	if s.dialect.shared {
		return ctx
	}
	return context.WithoutCancel(ctx)
}

// Get implements store.Store.
func (s *Store) Get(ctx context.Context, key string) (store.Doc, error) {
	if err := ctx.Err(); err != nil {
		return store.Doc{}, err
	}
	doc := store.Doc{Key: key}
	if err := doc.Check(); err != nil {
		return store.Doc{}, err
	}
	if s.closed.Load() {
		return store.Doc{}, store.ErrClosed
	}
	kept, ok, f := s.cache.get(key)
	if ok {
		return found(kept)
	}
	err := s.q.get.QueryRowContext(s.readCtx(ctx), key).Scan(&doc.Rev, &doc.Kind, &doc.Value)
	none := errors.Is(err, sql.ErrNoRows)
	s.cache.put(f, doc, err == nil || none)
	if err != nil && !none {
		return store.Doc{}, s.failed("get "+key, err)
	}
	return found(doc)
}

// found is doc, or ErrNotFound for one without a Rev.
func found(doc store.Doc) (store.Doc, error) {
	if doc.Rev == 0 {
		return store.Doc{}, fmt.Errorf("%w: %s", store.ErrNotFound, doc.Key)
	}
	return doc, nil
}

// List implements store.Store.
func (s *Store) List(ctx context.Context, q store.Query) ([]store.Doc, error) {
	if err := q.Check(); err != nil {
		return nil, err
	}
	if q.Limit == 0 {
		q.Limit = store.MaxList
	}
	low, high := store.Range(q.Prefix, q.After)
	var rows *sql.Rows
	var err error
	switch {
	case high == "" && q.Kind == "":
		rows, err = s.q.list.QueryContext(ctx, low, q.Limit)
	case high == "":
		rows, err = s.q.listKind.QueryContext(ctx, low, q.Kind, q.Limit)
	case q.Kind == "":
		rows, err = s.q.listTo.QueryContext(ctx, low, high, q.Limit)
	default:
		rows, err = s.q.kindTo.QueryContext(ctx, low, high, q.Kind, q.Limit)
	}
	if err != nil {
		return nil, s.failed("list "+q.Prefix, err)
	}
	defer func() { _ = rows.Close() }()
	var docs []store.Doc
	for rows.Next() {
		var d store.Doc
		if err := rows.Scan(&d.Key, &d.Rev, &d.Kind, &d.Value); err != nil {
			return nil, s.failed("list "+q.Prefix, err)
		}
		docs = append(docs, d)
	}
	if err := rows.Err(); err != nil {
		return nil, s.failed("list "+q.Prefix, err)
	}
	return docs, nil
}

// Now implements store.Store.
func (s *Store) Now(ctx context.Context) (int64, error) {
	if !s.dialect.shared {
		return s.hub.now(), ctx.Err()
	}
	var seq int64
	if err := s.q.now.QueryRowContext(ctx).Scan(&seq); err != nil {
		return 0, s.failed("read the newest change", err)
	}
	return seq, nil
}

// failed wraps an error of the database.
func (s *Store) failed(doing string, err error) error {
	if s.closed.Load() {
		return fmt.Errorf("%s: %w", doing, store.ErrClosed)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// Close implements store.Store. Followers end with store.ErrClosed.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed.Swap(true) {
		s.mu.Unlock()
		return nil
	}
	close(s.ops) // the writer finishes what is queued
	s.mu.Unlock()

	s.writing.Wait()
	s.hub.reset(s.hub.now(), store.ErrClosed)
	s.cancel()
	s.wg.Wait()
	return s.shut()
}

// shut closes what is open; for Close, and for an Open that came half way.
func (s *Store) shut() error {
	var errs []error
	if s.reader != nil && s.reader != s.writer {
		errs = append(errs, s.reader.Close())
	}
	if s.writer != nil {
		errs = append(errs, s.writer.Close())
	}
	if s.release != nil {
		errs = append(errs, s.release())
	}
	return errors.Join(errs...)
}
