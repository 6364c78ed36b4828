package sqlstore

import (
	"context"
	"database/sql"
	_ "embed" // the schema
	"fmt"
	"regexp"
	"strings"

	"lazurite.dev/internal/store"
)

//go:embed schema.sql
var schema string

// migrations gives the statements of each version of the schema, the first
// being version 1.
func (d dialect) migrations() [][]string {
	word := regexp.MustCompile(`\b(TEXT|BYTES|INT)\b`)
	var all [][]string
	for part := range strings.SplitSeq(stripComments(schema), "\n---") {
		part = word.ReplaceAllStringFunc(part, func(w string) string { return d.types[w] })
		var list []string
		for st := range strings.SplitSeq(part, ";") {
			if st = strings.TrimSpace(st); st != "" {
				list = append(list, st)
			}
		}
		all = append(all, list)
	}
	return all
}

// stripComments drops comment lines but for the dashes between migrations.
func stripComments(s string) string {
	var b strings.Builder
	for line := range strings.Lines(s) {
		if !strings.HasPrefix(line, "-- ") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// migrate brings the database to the newest version in one transaction. The
// lock lets several replicas start at once. store.ErrSchema says that the
// database is of a newer program.
func (d dialect) migrate(ctx context.Context, db *sql.DB) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // no effect after Commit
	if d.migrateLock != "" {
		if _, err := tx.ExecContext(ctx, d.migrateLock); err != nil {
			return fmt.Errorf("lock the schema: %w", err)
		}
	}
	if _, err := tx.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS migrations (version integer NOT NULL PRIMARY KEY)`); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	var have int
	if err := tx.QueryRowContext(ctx, `SELECT coalesce(max(version), 0) FROM migrations`).Scan(&have); err != nil {
		return fmt.Errorf("read the schema's version: %w", err)
	}
	all := d.migrations()
	if have > len(all) {
		return fmt.Errorf("%w: its schema is version %d, this program knows up to %d", store.ErrSchema, have, len(all))
	}
	for i, list := range all[have:] {
		for _, st := range list {
			if _, err := tx.ExecContext(ctx, st); err != nil {
				return fmt.Errorf("migrate to version %d: %w", have+i+1, err)
			}
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO migrations (version) VALUES ($1)`, have+i+1); err != nil {
			return fmt.Errorf("migrate to version %d: %w", have+i+1, err)
		}
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}
