package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sort"
	"sync/atomic"
	"syscall"
	"time"

	driver "modernc.org/sqlite"

	"lazurite.dev/internal/store"
)

const (
	batchOps   = 256     // writes that share a commit, at most
	batchBytes = 4 << 20 // of their values; the last may go over
	overhead   = 64      // bytes that a change counts beside key, kind and value

	keepChanges = 50_000   // the history that followers can catch up from
	keepBytes   = 64 << 20 // the same, in bytes
	trimEvery   = 1000     // changes
	trimBytes   = 8 << 20

	writeTimeout = 30 * time.Second // of a transaction
)

// op is one write on its way through the writer, who alone touches rev and
// err until done is closed.
type op struct {
	doc    store.Doc // of a deletion: Key and Rev alone
	remove bool
	state  atomic.Int32 // queued, then either taken or abandoned
	rev    int64
	err    error
	done   chan struct{}
}

const (
	queued int32 = iota
	taken
	abandoned
)

// Put implements store.Store.
func (s *Store) Put(ctx context.Context, doc store.Doc) (int64, error) {
	if err := doc.Check(); err != nil {
		return 0, err
	}
	if doc.Value == nil {
		doc.Value = []byte{} // null is not allowed
	}
	return s.submit(ctx, &op{doc: doc, done: make(chan struct{})})
}

// Delete implements store.Store.
func (s *Store) Delete(ctx context.Context, key string, rev int64) error {
	doc := store.Doc{Key: key, Rev: rev}
	if err := doc.Check(); err != nil {
		return err
	}
	_, err := s.submit(ctx, &op{doc: doc, remove: true, done: make(chan struct{})})
	return err
}

// submit queues the write and waits for its commit and its followers. A write
// that is under way when ctx ends is waited for: its outcome is never unknown
// for so small a reason.
func (s *Store) submit(ctx context.Context, o *op) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if err := s.enqueue(ctx, o); err != nil {
		return 0, err
	}
	select {
	case <-o.done:
	case <-ctx.Done():
		if o.state.CompareAndSwap(queued, abandoned) {
			return 0, ctx.Err()
		}
		<-o.done
	}
	if o.err != nil {
		return 0, o.err
	}
	s.hub.wait(ctx, o.rev)
	return o.rev, nil
}

func (s *Store) enqueue(ctx context.Context, o *op) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed.Load() {
		return store.ErrClosed
	}
	select {
	case s.ops <- o:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// write is the writer: it commits what is queued, many writes at a time, until
// ops is closed and empty.
func (s *Store) write() {
	var sinceTrim, bytes int64
	for {
		list := s.collect()
		if list == nil {
			return
		}
		s.cache.begin(list)
		changes, err := s.commit(list)
		s.cache.end()
		if err != nil {
			err = room(err)
			for _, o := range list {
				o.err = err
			}
		} else if len(changes) > 0 && !s.hub.publish(changes) {
			s.look() // others have written in between
		}
		for _, o := range list {
			close(o.done)
		}
		for _, c := range changes {
			sinceTrim++
			bytes += int64(len(c.Doc.Value))
		}
		if sinceTrim >= trimEvery || bytes >= trimBytes {
			// A failed trim costs space alone; the next one makes up for it.
			_ = s.trim()
			sinceTrim, bytes = 0, 0
		}
	}
}

// room adds syscall.ENOSPC to an error of SQLite's that means it.
func room(err error) error {
	const sqliteFull = 13 // SQLITE_FULL of sqlite.org/rescode.html, in the low byte
	if e, ok := errors.AsType[*driver.Error](err); ok && e.Code()&0xff == sqliteFull {
		return fmt.Errorf("%w: %w", syscall.ENOSPC, err)
	}
	return err
}

// collect waits for a write and takes those queued behind it; nil at the end.
func (s *Store) collect() []*op {
	var list []*op
	bytes := 0
	take := func(o *op) {
		if o.state.CompareAndSwap(queued, taken) {
			list = append(list, o)
			bytes += len(o.doc.Value)
		}
	}
	for len(list) == 0 {
		o, ok := <-s.ops
		if !ok {
			return nil
		}
		take(o)
	}
	for len(list) < batchOps && bytes < batchBytes {
		select {
		case o, ok := <-s.ops:
			if !ok {
				return list
			}
			take(o)
		default:
			return list
		}
	}
	return list
}

// commit makes the writes in one transaction. An error is that of all; a
// conflict is that of one op alone.
func (s *Store) commit(list []*op) ([]store.Change, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), writeTimeout)
	defer cancel()
	if !s.dialect.shared {
		ctx = context.WithoutCancel(ctx) // spares a goroutine for each statement
	}
	sqltx, err := s.writer.BeginTx(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("begin a write: %w", err)
	}
	defer func() { _ = sqltx.Rollback() }() // no effect after Commit
	if s.dialect.writeLock != "" {
		if _, err := sqltx.ExecContext(ctx, s.dialect.writeLock); err != nil {
			return nil, fmt.Errorf("lock for a write: %w", err)
		}
	}
	t := &tx{Tx: sqltx, ctx: ctx, q: &s.q}
	err = sqltx.StmtContext(ctx, s.q.last).QueryRowContext(ctx).Scan(&t.seq, &t.total)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("read the newest change: %w", err)
	}
	for _, o := range list {
		if err := t.apply(o); err != nil {
			return nil, err
		}
	}
	if len(t.changes) == 0 {
		return nil, nil
	}
	if err := sqltx.Commit(); err != nil {
		return nil, fmt.Errorf("commit: %w", err)
	}
	return t.changes, nil
}

// tx is a transaction that writes.
type tx struct {
	*sql.Tx
	ctx     context.Context // the transaction's own; it lives no longer
	q       *queries
	seq     int64 // of the newest change
	total   int64 // of it
	changes []store.Change
}

// apply makes one write. What the caller did wrong goes to o.err; an error
// returned is the database's.
func (t *tx) apply(o *op) error {
	if o.remove {
		return t.delete(o)
	}
	var res sql.Result
	var err error
	if o.doc.Rev == 0 {
		res, err = t.exec(t.q.create, o.doc.Key, t.seq+1, o.doc.Kind, o.doc.Value)
	} else {
		res, err = t.exec(t.q.update, t.seq+1, o.doc.Kind, o.doc.Value, o.doc.Key, o.doc.Rev)
	}
	if err != nil {
		return fmt.Errorf("put %s: %w", o.doc.Key, err)
	}
	n, err := res.RowsAffected()
	if err != nil {
		return fmt.Errorf("put %s: %w", o.doc.Key, err)
	}
	if n == 0 {
		o.err = fmt.Errorf("%w: %s", store.ErrConflict, o.doc.Key)
		return nil
	}
	return t.record(o, 0)
}

func (t *tx) delete(o *op) error {
	key := o.doc.Key
	err := t.StmtContext(t.ctx, t.q.remove).QueryRowContext(t.ctx, key, o.doc.Rev).Scan(&o.doc.Kind)
	if errors.Is(err, sql.ErrNoRows) {
		var rev int64
		err = t.StmtContext(t.ctx, t.q.rev).QueryRowContext(t.ctx, key).Scan(&rev)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			o.err = fmt.Errorf("%w: %s", store.ErrNotFound, key)
			return nil
		case err == nil:
			o.err = fmt.Errorf("%w: %s", store.ErrConflict, key)
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	if _, err := t.exec(t.q.erase, []byte{}, key); err != nil {
		return fmt.Errorf("erase %s: %w", key, err)
	}
	return t.record(o, 1)
}

// record adds the write to the changes.
func (t *tx) record(o *op, state int) error {
	seq := t.seq + 1
	total := t.total + overhead + int64(len(o.doc.Key)+len(o.doc.Kind)+len(o.doc.Value))
	value := o.doc.Value
	if value == nil {
		value = []byte{}
	}
	if _, err := t.exec(t.q.change, seq, total, state, o.doc.Key, o.doc.Kind, value); err != nil {
		return fmt.Errorf("record change %d: %w", seq, err)
	}
	t.seq, t.total = seq, total
	o.rev = seq
	t.changes = append(t.changes, change(seq, state, o.doc))
	return nil
}

func change(seq int64, state int, doc store.Doc) store.Change {
	doc.Rev = seq
	if state == 1 {
		return store.Change{Seq: seq, Doc: store.Doc{Key: doc.Key, Kind: doc.Kind}, Deleted: true}
	}
	return store.Change{Seq: seq, Doc: doc}
}

func (t *tx) exec(st *sql.Stmt, args ...any) (sql.Result, error) {
	return t.StmtContext(t.ctx, st).ExecContext(t.ctx, args...)
}

// trim forgets the oldest changes.
func (s *Store) trim() error {
	ctx, cancel := context.WithTimeout(s.ctx, writeTimeout)
	defer cancel()
	var low, high, total int64
	if err := s.q.bounds.QueryRowContext(ctx).Scan(&low, &high); err != nil {
		return fmt.Errorf("trim: %w", err)
	}
	if err := s.q.size.QueryRowContext(ctx, high).Scan(&total); err != nil {
		return fmt.Errorf("trim: %w", err)
	}
	// The first change within keepBytes, by bisection: totals only grow.
	n := sort.Search(int(high-low), func(i int) bool {
		var t int64
		err := s.q.size.QueryRowContext(ctx, low+int64(i)).Scan(&t)
		return err != nil || t >= total-keepBytes
	})
	cut := max(low+int64(n), high-keepChanges)
	if cut <= low {
		return nil
	}
	if _, err := s.q.trim.ExecContext(ctx, cut); err != nil {
		return fmt.Errorf("trim: %w", err)
	}
	return nil
}
