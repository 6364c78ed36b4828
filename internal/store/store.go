// Package store says how Lazurite keeps things: documents under keys, with
// compare-and-swap. Two databases implement [Store] in sqlstore; storetest is
// the contract that both pass.
package store

import (
	"context"
	"errors"
)

// The errors of a Store. Others mean that the database itself failed.
var (
	ErrNotFound = errors.New("document not found")
	ErrConflict = errors.New("document changed since it was read") // also: create of one that exists
	ErrInvalid  = errors.New("invalid document or query")          // key, kind, value, prefix or limit outside what Doc and Query allow
	ErrBehind   = errors.New("changes are no longer kept")         // of a Follow: list again, then follow from Now
	ErrStale    = errors.New("view of the store is out of date")   // of a Mirror that lost touch: fail closed
	ErrLocked   = errors.New("database is in use by another process")
	ErrSchema   = errors.New("database was written by a newer version")
	ErrClosed   = errors.New("store is closed")
)

// Doc is one document.
type Doc struct {
	Key   string // at most 2 KiB of printable UTF-8; compared by bytes
	Rev   int64  // set by the store; grows with every write of any document; 0 in a Put means create
	Kind  string // what the value is; List can ask for one kind. At most 200 bytes
	Value []byte // at most 16 MiB
}

// Query selects documents for List.
type Query struct {
	Prefix string // of the key; "" is everything
	Kind   string // exact; "" is any
	After  string // keys greater than this one only (exclusive)
	Limit  int    // 1..1000; 0 is 1000
}

// Change is one write, in the order in which writes were committed.
type Change struct {
	Seq     int64 // equal to the Rev of the written document; deletions have one too
	Doc     Doc   // the document as written; of a deletion, Key and Kind alone
	Deleted bool
}

// Sole is what a Store also has that no other process writes to: its followers
// never lag behind what is written, however busy the machine is.
type Sole interface{ Sole() bool }

// Store keeps documents. What a method acknowledged survives the death of the
// process and, as far as the disk is honest, of the machine.
type Store interface {
	// Get gives the document, or ErrNotFound.
	Get(ctx context.Context, key string) (Doc, error)

	// Put writes doc and returns its new Rev. With Rev 0 it creates, and
	// ErrConflict says that the key is taken; otherwise the stored document
	// must still have that Rev, else ErrConflict.
	Put(ctx context.Context, doc Doc) (int64, error)

	// Delete removes the document. rev 0 is any revision; otherwise
	// ErrConflict when it has changed. A missing document is ErrNotFound.
	Delete(ctx context.Context, key string, rev int64) error

	// List gives documents in the order of their keys.
	List(ctx context.Context, q Query) ([]Doc, error)

	// Follow calls fn with every change under prefix committed after seq,
	// in order, until ctx ends or fn fails, and returns that error. A write
	// made through this same Store value has been given to fn before the
	// write returns (so fn must not write to the store, nor wait for who
	// does); another replica's arrives within a second. idle is called (if
	// not nil) each time the follower knows that nothing is outstanding, at
	// least every 250 ms while the database answers: whoever must fail
	// closed watches for its absence. seq must be one that Now returned.
	// Of a document deleted since, a follower that lags may see the
	// deletion alone: what is deleted is erased from the history too.
	// ErrBehind says that the history after seq is not kept any more.
	Follow(ctx context.Context, prefix string, seq int64, fn func(Change) error, idle func()) error

	// Now is the Seq of the newest committed change.
	Now(ctx context.Context) (int64, error)

	// Close waits for writes in progress and lets go of the database.
	Close() error
}
