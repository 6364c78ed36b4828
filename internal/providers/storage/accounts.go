package storage

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/arm/named"
	"lazurite.dev/internal/gate"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
)

const (
	recordKind    = "storage.account"
	deadKind      = "storage.deleted"
	space         = "storage" // what keys and scopes of secrets begin with
	deadPrefix    = space + "/deleted/"
	writeAttempts = 20

	// maxStale is how old the mirror of containers may be before reads ask the
	// store instead: a change made through another replica counts within this time.
	maxStale = time.Second
)

// dead is an account, or a container of one, that was deleted.
type dead struct {
	Account   string    `json:"account"`
	Container string    `json:"container,omitempty"`
	Time      time.Time `json:"time"`
}

func conflict(err error) bool { return errors.Is(err, store.ErrConflict) }
func gone(err error) bool     { return errors.Is(err, store.ErrNotFound) || conflict(err) }

type record = named.Record[Properties, secrets]

// Account is one that answers.
type Account struct {
	ID        rid.ID
	UID       string // of this account alone, for ever
	Name      string // in lower case
	Location  string
	SKU       string
	Kind      string
	SharedKey bool   // its keys, and what they sign, are taken
	Anonymous bool   // containers may be public
	MinTLS    string // "TLS1_2"
	Tier      string // of blobs that have none of their own: "Hot"
	Network   gate.Network

	secrets *secrets
}

// Accounts reads and writes the records and containers, and finds them for the
// data plane and for other services. Make one with Open.
type Accounts struct {
	Store store.Store
	URL   func(name string) string // as in Config

	names      *named.Records[Properties, secrets]
	containers *store.Mirror[*Container] // nil: every read asks the store
	now        func() time.Time
}

func newAccounts(s store.Store, sealer named.Sealer, url func(name string) string, now func() time.Time) *Accounts {
	return &Accounts{Store: s, URL: url, now: now, names: &named.Records[Properties, secrets]{
		Store: s, Sealer: sealer, What: "storage account", Space: space, Kind: recordKind, New: newSecrets, Busy: busy, Taken: taken,
	}}
}

// Open makes Accounts that keep everything in memory, for the data plane, which
// asks with every request. url is as in Config. Close ends them.
func Open(ctx context.Context, s store.Store, sealer named.Sealer, url func(name string) string) (*Accounts, error) {
	a := newAccounts(s, sealer, url, time.Now)
	err := a.names.Follow(ctx)
	if err != nil {
		return nil, fmt.Errorf("open storage accounts: %w", err)
	}
	if a.containers, err = store.NewMirror(ctx, s, arm.KeyPrefix+"/", decodeContainer, maxStale, strings.ToLower(ContainerType)); err != nil {
		a.names.Close()
		return nil, fmt.Errorf("open containers: %w", err)
	}
	return a, nil
}

// Close ends the mirrors of Accounts that Open made; reads still work.
func (a *Accounts) Close() {
	a.names.Close()
	a.containers.Close()
}

// ByName finds an account, without case. Where there is none the error is a NotFound.
func (a *Accounts) ByName(ctx context.Context, name string) (*Account, error) {
	r, err := a.names.Get(ctx, name)
	if err != nil {
		return nil, err
	}
	if r == nil {
		return nil, apierr.New(apierr.NotFound, "ResourceNotFound", "There is no storage account '%s'.", name)
	}
	return a.account(ctx, r)
}

// ByID finds the account that the resource is. Where there is none the error is a NotFound.
func (a *Accounts) ByID(ctx context.Context, id rid.ID) (*Account, error) {
	acc, err := a.ByName(ctx, id.Name())
	if err == nil && !acc.ID.Equal(id) || apierr.Is(err, apierr.NotFound) {
		return nil, arm.NotFound(id)
	}
	return acc, err
}

func (a *Accounts) account(ctx context.Context, r *record) (*Account, error) {
	s, err := a.names.Open(ctx, r)
	if err != nil {
		return nil, err
	}
	n, id := &r.Properties, r.RID()
	net := n.acls().Network(n.PublicAccess)
	net.Service = Namespace
	return &Account{
		ID: id, UID: r.UID, Name: strings.ToLower(id.Name()), Location: r.Location, SKU: r.SKU, Kind: r.Kind,
		SharedKey: n.SharedKey == nil || *n.SharedKey, Anonymous: is(n.Anonymous), MinTLS: n.MinTLS, Tier: n.Tier,
		Network: net, secrets: s,
	}, nil
}

// UIDs are those of all accounts.
func (a *Accounts) UIDs(ctx context.Context) ([]string, error) { return a.names.UIDs(ctx) }

// BlobURL is where a blob of an account answers; a container with path "", the
// account with both "".
func (a *Accounts) BlobURL(account rid.ID, container, path string) string {
	u := a.URL(strings.ToLower(account.Name()))
	if container == "" {
		return u + "/"
	}
	u += "/" + container
	if path != "" {
		u += (&url.URL{Path: "/" + strings.TrimPrefix(path, "/")}).EscapedPath()
	}
	return u
}

func (a *Accounts) markDead(ctx context.Context, d dead) error {
	d.Time = a.now().UTC()
	_, err := store.PutJSON(ctx, a.Store, deadPrefix+d.Account+"/"+d.Container, deadKind, 0, d)
	if conflict(err) {
		return nil
	}
	return err
}

func busy(id rid.ID) error {
	return apierr.New(apierr.Conflict, "StorageAccountOperationInProgress", "An operation is currently performing on the storage account '%s' that requires exclusive access.", id.Name())
}

func taken(name string) error {
	return apierr.New(apierr.Conflict, "StorageAccountAlreadyTaken", "The storage account named %s is already taken.", name)
}
