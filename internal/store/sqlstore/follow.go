package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"lazurite.dev/internal/store"
)

const (
	pageChanges = 500         // read at a time
	lookTimeout = time.Second // for the database to say what is new
)

// Sole implements store.Sole.
func (s *Store) Sole() bool { return !s.dialect.shared }

// Follow implements store.Store.
func (s *Store) Follow(ctx context.Context, prefix string, seq int64, fn func(store.Change) error, idle func()) error {
	if err := (store.Query{Prefix: prefix}).Check(); err != nil {
		return err
	}
	f, head, err := s.hub.join()
	if err != nil {
		return err
	}
	defer s.hub.leave(f)
	err = s.history(ctx, seq, head, func(list []store.Change) error {
		return (&batch{changes: list}).give(prefix, seq, fn)
	})
	if err != nil {
		return err
	}
	if s.dialect.shared {
		s.wakePoller()
	} else {
		s.hub.confirm() // nobody else writes
	}
	return s.hub.run(ctx, f, prefix, seq, fn, idle)
}

// history gives the changes after seq up to head from the database.
func (s *Store) history(ctx context.Context, seq, head int64, give func([]store.Change) error) error {
	for seq < head {
		list, last, err := s.page(ctx, seq, head)
		if err != nil {
			return err
		}
		if err := give(list); err != nil {
			return err
		}
		seq = last
	}
	return nil
}

// page reads some of the changes after seq up to head, which exists. last is
// the newest that it looked at. store.ErrBehind says that some are missing.
func (s *Store) page(ctx context.Context, seq, head int64) (list []store.Change, last int64, err error) {
	rows, err := s.q.backlog.QueryContext(ctx, seq, head, pageChanges)
	if err != nil {
		return nil, 0, s.failed("read changes", err)
	}
	defer func() { _ = rows.Close() }()
	last = seq
	for rows.Next() {
		var at int64
		var state int
		var d store.Doc
		if err := rows.Scan(&at, &state, &d.Key, &d.Kind, &d.Value); err != nil {
			return nil, 0, s.failed("read changes", err)
		}
		if at != last+1 {
			return nil, 0, fmt.Errorf("%w: from %d to %d", store.ErrBehind, last+1, at-1)
		}
		last = at
		if state == 2 {
			list = append(list, store.Change{Seq: at}) // keeps the place; not given
		} else {
			list = append(list, change(at, state, d))
		}
	}
	if err := rows.Err(); err != nil {
		return nil, 0, s.failed("read changes", err)
	}
	if last == seq {
		return nil, 0, fmt.Errorf("%w: from %d to %d", store.ErrBehind, seq+1, head)
	}
	return list, last, nil
}

// poll tells the followers every pulse, or when poked, what other processes
// wrote and that nothing is outstanding, until the store closes.
func (s *Store) poll() {
	tick := time.NewTicker(pulse)
	defer tick.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-tick.C:
		case <-s.poke:
		}
		s.look()
	}
}

// wakePoller has the poller look now.
func (s *Store) wakePoller() {
	select {
	case s.poke <- struct{}{}:
	default:
	}
}

// look publishes what is new. The followers hear nothing if the database does
// not answer; that is how they know.
func (s *Store) look() {
	if !s.dialect.shared {
		s.hub.confirm()
		return
	}
	ctx, cancel := context.WithTimeout(s.ctx, lookTimeout)
	defer cancel()
	if s.catchUp(ctx) == nil {
		s.hub.confirm()
	}
}

// catchUp publishes what the database has after the head of the hub.
func (s *Store) catchUp(ctx context.Context) error {
	var newest int64
	from := s.hub.now()
	if err := s.q.now.QueryRowContext(ctx).Scan(&newest); err != nil {
		return s.failed("read the newest change", err)
	}
	if newest < from { // restored from a copy, or a standby took over
		s.hub.reset(newest, fmt.Errorf("%w: the database went back from change %d to %d", store.ErrBehind, from, newest))
		return nil
	}
	err := s.history(ctx, from, newest, func(list []store.Change) error {
		s.hub.publish(list)
		return nil
	})
	if errors.Is(err, store.ErrBehind) {
		s.hub.reset(newest, err)
		return nil
	}
	return err
}
