package sqlstore_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"lazurite.dev/internal/store"
	"lazurite.dev/internal/store/sqlstore"
	"lazurite.dev/internal/store/storetest/pgtest"
)

// writerEnv makes the test binary a process that writes until it is killed.
const writerEnv = "LAZ_TEST_WRITER"

func TestMain(m *testing.M) {
	if where := os.Getenv(writerEnv); where != "" {
		if err := writeForever(where); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		return
	}
	m.Run()
}

// openAny opens SQLite at a path, or PostgreSQL with a connection string.
func openAny(ctx context.Context, where string) (*sqlstore.Store, error) {
	if filepath.IsAbs(where) {
		return sqlstore.OpenSQLite(ctx, where)
	}
	return sqlstore.OpenPostgres(ctx, where)
}

// writeForever writes from several goroutines, and says on standard output
// what was acknowledged.
func writeForever(where string) error {
	ctx := context.Background()
	s, err := openAny(ctx, where)
	if err != nil {
		return err
	}
	errs := make(chan error)
	for w := range 4 {
		go func() {
			for i := 0; ; i++ {
				key := fmt.Sprintf("%d/%d", w, i)
				rev, err := s.Put(ctx, store.Doc{Key: key, Value: []byte(strings.Repeat(key, 100))})
				if err != nil {
					errs <- err
					return
				}
				if _, err := fmt.Printf("%s %d\n", key, rev); err != nil {
					errs <- err
					return
				}
			}
		}()
	}
	return <-errs
}

func TestKill_LosesNothingAcknowledged(t *testing.T) {
	for name, where := range map[string]func(t *testing.T) string{
		"SQLite":   func(t *testing.T) string { return filepath.Join(t.TempDir(), "laz.db") },
		"Postgres": func(t *testing.T) string { return pgtest.Start(t) },
	} {
		t.Run(name, func(t *testing.T) {
			where := where(t)
			for round := range 3 {
				acknowledged := killWriter(t, where, 300)
				checkAcknowledged(t, where, acknowledged)
				if t.Failed() {
					t.Fatalf("in round %d", round)
				}
			}
		})
	}
}

// killWriter starts a writer, kills it after n acknowledgements and gives all.
func killWriter(t *testing.T, where string, n int) map[string]int64 {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), writerEnv+"="+where)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	acknowledged := map[string]int64{}
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadString('\n')
		if err == io.EOF { // a last line without an end was not acknowledged
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		var key string
		var rev int64
		if _, err := fmt.Sscan(line, &key, &rev); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		acknowledged[key] = rev
		if len(acknowledged) == n {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil || len(acknowledged) < n {
		t.Fatalf("the writer ended by itself after %d writes: %v", len(acknowledged), err)
	}
	return acknowledged
}

// checkAcknowledged reopens, compares, and empties the store for the next round.
func checkAcknowledged(t *testing.T, where string, acknowledged map[string]int64) {
	t.Helper()
	s, err := openAny(t.Context(), where)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	for key, rev := range acknowledged {
		d, err := s.Get(t.Context(), key)
		if err != nil || d.Rev != rev || string(d.Value) != strings.Repeat(key, 100) {
			t.Errorf("%s: rev %d, %v, acknowledged %d", key, d.Rev, err, rev)
		}
	}
	for w := range 4 {
		if err := store.DeletePrefix(t.Context(), s, fmt.Sprint(w, "/")); err != nil {
			t.Error(err)
		}
	}
}
