package storage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/gate"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
)

// Record is what is kept of an account under its name.
type Record struct {
	ID         string     `json:"id"`  // of the resource
	UID        string     `json:"uid"` // of this account alone, for ever
	Location   string     `json:"location"`
	SKU        string     `json:"sku"`
	Kind       string     `json:"kind"`
	Properties Properties `json:"properties"`
	Secrets    []byte     `json:"secrets"` // sealed

	rev    int64
	opened atomic.Pointer[secrets]
}

const (
	recordKind    = "storage.account"
	deadKind      = "storage.deleted"
	recordPrefix  = "storage/names/"
	deadPrefix    = "storage/deleted/"
	writeAttempts = 20

	// maxStale is how old the mirrors may be before reads ask the store instead:
	// a change made through another replica counts within this time.
	maxStale = time.Second
)

// dead is an account, or a container of one, that was deleted.
type dead struct {
	Account   string    `json:"account"`
	Container string    `json:"container,omitempty"`
	Time      time.Time `json:"time"`
}

func recordKey(name string) string { return recordPrefix + strings.ToLower(name) }
func (r *Record) id() rid.ID       { return rid.MustParse(r.ID) }
func conflict(err error) bool      { return errors.Is(err, store.ErrConflict) }
func gone(err error) bool          { return errors.Is(err, store.ErrNotFound) || conflict(err) }

func decodeRecord(d store.Doc) (*Record, error) {
	r := &Record{rev: d.Rev}
	if err := json.Unmarshal(d.Value, r); err != nil {
		return nil, fmt.Errorf("decode storage account %q: %w", d.Key, err)
	}
	if _, err := rid.Parse(r.ID); err != nil {
		return nil, fmt.Errorf("decode storage account %q: %w", d.Key, err)
	}
	return r, nil
}

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
	Store  store.Store
	Sealer Sealer
	URL    func(name string) string // as in Config

	mirror     *store.Mirror[*Record] // nil: every read asks the store
	containers *store.Mirror[*Container]
	now        func() time.Time
}

// Open makes Accounts that keep everything in memory, for the data plane, which
// asks with every request. url is as in Config. Close ends them.
func Open(ctx context.Context, s store.Store, sealer Sealer, url func(name string) string) (*Accounts, error) {
	a := &Accounts{Store: s, Sealer: sealer, URL: url, now: time.Now}
	var err error
	if a.mirror, err = store.NewMirror(ctx, s, recordPrefix, decodeRecord, maxStale); err != nil {
		return nil, fmt.Errorf("open storage accounts: %w", err)
	}
	if a.containers, err = store.NewMirror(ctx, s, arm.KeyPrefix+"/", decodeContainer, maxStale, strings.ToLower(ContainerType)); err != nil {
		a.mirror.Close()
		return nil, fmt.Errorf("open containers: %w", err)
	}
	return a, nil
}

// Close ends the mirrors of Accounts that Open made; reads still work.
func (a *Accounts) Close() {
	a.mirror.Close()
	a.containers.Close()
}

// ByName finds an account, without case. Where there is none the error is a NotFound.
func (a *Accounts) ByName(ctx context.Context, name string) (*Account, error) {
	var r *Record
	var err error
	if a.mirror != nil && a.mirror.Fresh() == nil {
		r, _ = a.mirror.Get(recordKey(name))
	} else if r, err = a.fresh(ctx, name); err != nil {
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
		return nil, notFound(id)
	}
	return acc, err
}

func (a *Accounts) account(ctx context.Context, r *Record) (*Account, error) {
	s, err := a.open(ctx, r)
	if err != nil {
		return nil, err
	}
	n := &r.Properties
	net := n.acls().Network(n.PublicAccess)
	net.Service = Namespace
	return &Account{
		ID: r.id(), UID: r.UID, Name: strings.ToLower(r.id().Name()), Location: r.Location, SKU: r.SKU, Kind: r.Kind,
		SharedKey: n.SharedKey == nil || *n.SharedKey, Anonymous: is(n.Anonymous), MinTLS: n.MinTLS, Tier: n.Tier,
		Network: net, secrets: s,
	}, nil
}

// UIDs are those of all accounts.
func (a *Accounts) UIDs(ctx context.Context) ([]string, error) {
	var list []string
	err := store.All(ctx, a.Store, store.Query{Prefix: recordPrefix}, func(d store.Doc) error {
		r, err := decodeRecord(d)
		if err == nil {
			list = append(list, r.UID)
		}
		return err
	})
	return list, err
}

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

// fresh reads a record that may be changed; nil where there is none.
func (a *Accounts) fresh(ctx context.Context, name string) (*Record, error) {
	d, err := a.Store.Get(ctx, recordKey(name))
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read storage account: %w", err)
	}
	return decodeRecord(d)
}

func (a *Accounts) save(ctx context.Context, r *Record) error {
	rev, err := store.PutJSON(ctx, a.Store, recordKey(r.id().Name()), recordKind, r.rev, r)
	if err != nil {
		return fmt.Errorf("write storage account: %w", err)
	}
	r.rev = rev
	return nil
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

func notFound(id rid.ID) error {
	return apierr.New(apierr.NotFound, "ResourceNotFound",
		"The Resource '%s/%s' under resource group '%s' was not found. For more details please go to https://aka.ms/ARMResourceNotFoundFix", id.Type(), strings.Join(id.Names(), "/"), id.ResourceGroup())
}

// owner gives the record of a name where its account is there; a record of one
// that is not was left by a creation that died.
func (p *provider) owner(ctx context.Context, name string) (r *Record, alive bool, err error) {
	if r, err = p.accounts.fresh(ctx, name); err != nil || r == nil {
		return nil, false, err
	}
	_, err = arm.Resources{Store: p.Store}.Get(ctx, r.id())
	if errors.Is(err, store.ErrNotFound) {
		return r, false, nil
	}
	return r, err == nil, err
}

func taken(name string) error {
	return apierr.New(apierr.Conflict, "StorageAccountAlreadyTaken", "The storage account named %s is already taken.", name)
}

// free refuses a name that another account has.
func (p *provider) free(ctx context.Context, id rid.ID) error {
	r, alive, err := p.owner(ctx, id.Name())
	if err != nil || r == nil || !alive || r.id().Equal(id) {
		return err
	}
	return taken(id.Name())
}

// claim makes the record of next or brings it up to date.
func (p *provider) claim(ctx context.Context, next *arm.Resource[Properties]) error {
	for range writeAttempts {
		r, alive, err := p.owner(ctx, next.ID.Name())
		switch {
		case err != nil:
			return err
		case r != nil && alive && !r.id().Equal(next.ID):
			return taken(next.ID.Name())
		case r == nil || r.UID != next.Private[uidKey]:
			made := &Record{UID: next.Private[uidKey]}
			if r != nil {
				made.rev = r.rev
			}
			s, err := newSecrets()
			if err != nil {
				return err
			}
			if err := p.accounts.seal(ctx, made, s); err != nil {
				return err
			}
			r = made
		}
		r.ID, r.Location, r.Properties = next.ID.String(), next.Location, next.Properties
		r.SKU, r.Kind = skuOf(next), kindOf(next)
		if err := p.accounts.save(ctx, r); !conflict(err) {
			return err
		}
	}
	return busy(next.ID)
}
