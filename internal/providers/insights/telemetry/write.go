package telemetry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"

	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
)

const (
	mostRecords = 1000      // of one batch
	mostBytes   = 512 << 10 // of one batch, about
	overhead    = 300       // bytes of a record beside its text, about
)

func itoa(n int) string { return strconv.Itoa(n) }

// losses are what was dropped. Their lock is taken where requests are scored:
// nothing that may wait is done under it.
type losses struct {
	mu sync.Mutex // guards the rest
	by map[string]lost
}

// lost are records of one workspace that were dropped.
type lost struct {
	workspace       rid.ID
	requests, lines int
}

// batch is what is stored: records that came together.
type batch struct {
	Records []record `json:"records"`
}

// Request takes a record. It never waits: where as many wait as may, the record
// is dropped, and a later trace says how many were.
func (s *Service) Request(r Request) {
	select {
	case s.requests <- r:
	default:
		s.drop(r.Workspace, 1, 0)
	}
}

// Line takes a record likewise, of a workspace no more than lineRate and lineBurst.
func (s *Service) Line(l Line) {
	l.Text = clip(l.Text, maxMessage)
	if s.intake.take(l.Workspace.Key(), l.bytes(), s.cfg.Now()) {
		select {
		case s.lines <- l:
			return
		default:
			s.intake.taken(l.bytes())
		}
	}
	s.drop(l.Workspace, 0, 1)
}

func (s *Service) drop(workspace rid.ID, requests, lines int) {
	s.meter.records.WithLabelValues(Requests, "dropped").Add(float64(requests))
	s.meter.records.WithLabelValues(Traces, "dropped").Add(float64(lines))
	s.losses.mu.Lock()
	defer s.losses.mu.Unlock()
	l := s.losses.by[workspace.Key()]
	l.workspace, l.requests, l.lines = workspace, l.requests+requests, l.lines+lines
	s.losses.by[workspace.Key()] = l
}

// Run writes what comes until ctx ends, then what waits, and each hour forgets
// what is too old or too much.
func (s *Service) Run(ctx context.Context) error {
	tick, hourly := time.NewTicker(s.cfg.Every), time.NewTicker(time.Hour)
	defer tick.Stop()
	defer hourly.Stop()
	s.sweep(ctx)
	for {
		select {
		case <-tick.C:
			s.writeAll(ctx)
		case done := <-s.flush:
			s.writeAll(ctx)
			close(done)
		case <-hourly.C:
			s.sweep(ctx)
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			s.writeAll(last)
			return nil
		}
	}
}

func (s *Service) sweep(ctx context.Context) {
	if err := s.Sweep(ctx); err != nil && ctx.Err() == nil {
		s.cfg.Log.Warn("forgetting old telemetry", "error", err)
	}
}

// settle waits until what came before is written, at most as long as ctx or two
// seconds last.
func (s *Service) settle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	done := make(chan struct{})
	select {
	case s.flush <- done:
	case <-ctx.Done():
		return
	}
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// pile is what waits for one table of a component.
type pile struct {
	c     component
	table string
	list  []record
	bytes int
}

// pileOf names a pile: a batch has records of one table.
type pileOf struct{ app, table string }

// writing is one round of writing.
type writing struct {
	s       *Service
	piles   map[pileOf]*pile
	cursors map[string]time.Time
}

// writeAll writes what waits now.
func (s *Service) writeAll(ctx context.Context) {
	w := &writing{s: s, piles: map[pileOf]*pile{}, cursors: map[string]time.Time{}}
	for range len(s.requests) {
		r := <-s.requests
		w.add(ctx, r.Workspace, r.record(uuid.NewString()))
	}
	for range len(s.lines) {
		l := <-s.lines
		s.intake.taken(l.bytes())
		w.add(ctx, l.Workspace, l.record(uuid.NewString()))
		w.cursors[l.cursor()] = l.Time
	}
	s.intake.forget(s.cfg.Now())
	w.tellLost(ctx)
	for _, p := range w.piles {
		w.write(ctx, p)
	}
	s.keepCursors(ctx, w.cursors)
}

// add puts a record on its component's pile.
func (w *writing) add(ctx context.Context, workspace rid.ID, r record) {
	c, ok := w.s.of(workspace)
	if !ok {
		w.s.meter.records.WithLabelValues(r.Table, "unowned").Inc()
		return
	}
	of := pileOf{c.App, r.Table}
	p := w.piles[of]
	if p == nil {
		p = &pile{c: c, table: r.Table}
		w.piles[of] = p
	}
	p.list = append(p.list, r)
	if p.bytes += overhead + len(r.Message) + len(r.URL); len(p.list) >= mostRecords || p.bytes >= mostBytes {
		w.write(ctx, p)
	}
}

// tellLost makes traces of what was dropped.
func (w *writing) tellLost(ctx context.Context) {
	w.s.losses.mu.Lock()
	all := w.s.losses.by
	w.s.losses.by = map[string]lost{}
	w.s.losses.mu.Unlock()
	for _, l := range all {
		w.add(ctx, l.workspace, record{
			Table: Traces, Time: w.s.cfg.Now().UTC(), ID: uuid.NewString(), Severity: 2, Role: "lazurite",
			Message:    fmt.Sprintf("%d requests and %d lines were not recorded: they came faster than they are written.", l.requests, l.lines),
			Dimensions: map[string]string{"workspace": l.workspace.Name(), "droppedRequests": itoa(l.requests), "droppedLines": itoa(l.lines)},
		})
	}
}

// write stores a pile as one batch, and leaves it empty. What can't be stored is
// dropped: who is scored doesn't wait for a database.
func (w *writing) write(ctx context.Context, p *pile) {
	if len(p.list) == 0 {
		return
	}
	list := p.list
	p.list, p.bytes = nil, 0
	newest := list[0].Time
	for _, r := range list {
		if r.Time.After(newest) {
			newest = r.Time
		}
	}
	result := "kept"
	if err := w.s.put(ctx, p.c.App, p.table, newest, batch{list}); err != nil {
		result = "failed"
		w.s.cfg.Log.Error("records are missing from Application Insights", "component", p.c.ID.String(), "records", len(list), "error", err)
	}
	w.s.meter.records.WithLabelValues(p.table, result).Add(float64(len(list)))
}

func (s *Service) put(ctx context.Context, app, table string, newest time.Time, b batch) error {
	raw, err := json.Marshal(b)
	if err != nil {
		return err
	}
	key := batchKey(app, newest) + "/" + table + "/" + uuid.NewString()
	if _, err := s.cfg.Store.Put(ctx, store.Doc{Key: key, Kind: batchKind, Value: raw}); err != nil {
		return err
	}
	return s.grow(ctx, app, table, key, len(raw))
}

func batchKey(app string, newest time.Time) string {
	return fmt.Sprintf("%s%s/%019d", prefix, app, max(0, newest.UnixNano()))
}

func (l *Line) cursor() string { return l.UID + "/" + l.Instance }

// keepCursors notes up to where lines of pods are written.
func (s *Service) keepCursors(ctx context.Context, news map[string]time.Time) {
	if len(news) == 0 {
		return
	}
	if err := s.readCursors(ctx); err != nil {
		s.cfg.Log.Warn("noting up to where logs were collected", "error", err)
		return
	}
	all, rev := s.noteCursors(news)
	rev, err := store.PutJSON(ctx, s.cfg.Store, cursorsKey, "telemetry.cursors", rev, all)
	if errors.Is(err, store.ErrConflict) {
		rev, err = -1, nil // another replica's, read again next time
	}
	if err != nil {
		s.cfg.Log.Warn("noting up to where logs were collected", "error", err)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rev = rev
}

// noteCursors adds news to the cursors, and gives all of them to be stored.
func (s *Service) noteCursors(news map[string]time.Time) (map[string]time.Time, int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.Copy(s.cursors, news)
	for k, t := range s.cursors {
		if s.cfg.Now().Sub(t) > 30*24*time.Hour {
			delete(s.cursors, k) // a pod that has said nothing since, or is gone
		}
	}
	return maps.Clone(s.cursors), s.rev
}

// readCursors reads them once.
func (s *Service) readCursors(ctx context.Context) error {
	s.mu.Lock()
	known := s.rev >= 0
	s.mu.Unlock()
	if known {
		return nil
	}
	have, rev, err := store.GetJSON[map[string]time.Time](ctx, s.cfg.Store, cursorsKey)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, t := range have {
		if t.After(s.cursors[k]) {
			s.cursors[k] = t
		}
	}
	s.rev = max(s.rev, rev)
	return nil
}

// since is up to where the lines of a pod are written; zero where none is.
func (s *Service) since(ctx context.Context, uid, pod string) (time.Time, error) {
	err := s.readCursors(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cursors[uid+"/"+pod], err
}
