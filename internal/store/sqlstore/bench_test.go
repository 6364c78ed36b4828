package sqlstore_test

import (
	"fmt"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"lazurite.dev/internal/store"
	"lazurite.dev/internal/store/sqlstore"
	"lazurite.dev/internal/store/storetest/pgtest"
)

// BenchmarkStore measures both databases. SQLite flushes to disk at each
// commit; the PostgreSQL of the tests doesn't.
func BenchmarkStore(b *testing.B) {
	for name, open := range map[string]func(b *testing.B) *sqlstore.Store{
		"SQLite":   func(b *testing.B) *sqlstore.Store { return openSQLite(b, filepath.Join(b.TempDir(), "laz.db")) },
		"Postgres": func(b *testing.B) *sqlstore.Store { return openPostgres(b, pgtest.Start(b)) },
	} {
		b.Run(name+"/Get", func(b *testing.B) { benchGet(b, open(b)) })
		b.Run(name+"/Put", func(b *testing.B) { benchPut(b, open(b)) })
		b.Run(name+"/PutParallel", func(b *testing.B) { benchPutParallel(b, open(b)) })
		b.Run(name+"/List100of100k", func(b *testing.B) { benchList(b, open(b)) })
	}
}

func benchGet(b *testing.B, s store.Store) {
	const key = "kv/vault/secrets/name/version"
	if _, err := s.Put(b.Context(), store.Doc{Key: key, Kind: "secret", Value: make([]byte, 700)}); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Get(b.Context(), key); err != nil {
			b.Fatal(err)
		}
	}
}

func benchPut(b *testing.B, s store.Store) {
	rev := int64(0)
	for b.Loop() {
		var err error
		if rev, err = s.Put(b.Context(), store.Doc{Key: "a", Rev: rev, Value: make([]byte, 700)}); err != nil {
			b.Fatal(err)
		}
	}
}

func benchPutParallel(b *testing.B, s store.Store) {
	b.SetParallelism(64)
	var ids atomic.Int64
	b.RunParallel(func(p *testing.PB) {
		key, rev := strconv.FormatInt(ids.Add(1), 10), int64(0)
		for p.Next() {
			var err error
			if rev, err = s.Put(b.Context(), store.Doc{Key: key, Rev: rev, Value: make([]byte, 700)}); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

func benchList(b *testing.B, s store.Store) {
	const docs, writers = 100_000, 200
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := w; i < docs; i += writers {
				if _, err := s.Put(b.Context(), store.Doc{Key: fmt.Sprintf("r/%06d", i), Kind: "res", Value: make([]byte, 700)}); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	i := 0
	for b.Loop() {
		i = (i + 7919) % (docs - 100)
		list, err := s.List(b.Context(), store.Query{Prefix: "r/", Kind: "res", After: fmt.Sprintf("r/%06d", i), Limit: 100})
		if err != nil || len(list) != 100 {
			b.Fatal(len(list), err)
		}
	}
}
