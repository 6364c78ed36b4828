package cognitiveservices

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/arm/privatelink"
	"lazurite.dev/internal/gate"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
)

// Record is what is kept of an account under its id.
type Record struct {
	ID         string            `json:"id"`  // of the resource
	UID        string            `json:"uid"` // of this account alone, for ever
	Location   string            `json:"location"`
	Kind       string            `json:"kind"`
	SKU        string            `json:"sku"`
	Tags       map[string]string `json:"tags,omitempty"`
	Properties Properties        `json:"properties"`
	Keys       []byte            `json:"keys"` // sealed
	Deleted    *Deleted          `json:"deleted,omitempty"`
	Purging    bool              `json:"purging,omitempty"` // it is being erased

	rev    int64
	opened atomic.Pointer[digests]
}

// Deleted says since when an account is deleted and when it goes for good.
type Deleted struct {
	At      time.Time `json:"at"`
	PurgeAt time.Time `json:"purgeAt"`
}

// claim is the document of a subdomain.
type claim struct {
	ID string `json:"id"` // of the account that has it

	owner rid.ID // ID, parsed
	rev   int64
}

const (
	accountKind   = "cognitive.account"
	deletedKind   = "cognitive.account.deleted"
	claimKind     = "cognitive.name"
	allPrefix     = "cognitive/"
	recordPrefix  = allPrefix + "accounts"
	claimPrefix   = allPrefix + "names/"
	writeAttempts = 20

	// retention is how long a deleted account can be restored. Source:
	// "Recover or purge deleted Azure AI services resources".
	retention = 48 * time.Hour

	// maxStale is how old the mirrors may be before reads ask the store
	// instead: a change made through another replica counts within this time.
	maxStale = time.Second
)

func recordKey(id rid.ID) string         { return recordPrefix + id.Key() }
func claimKey(subdomain string) string   { return claimPrefix + lower(subdomain) }
func (r *Record) id() rid.ID             { return rid.MustParse(r.ID) }
func (r *Record) due(now time.Time) bool { return r.Purging || !now.Before(r.Deleted.PurgeAt) }

// entry is a document of either kind.
type entry struct {
	record *Record
	claim  *claim
}

func decodeEntry(d store.Doc) (entry, error) {
	if d.Kind == claimKind {
		c, err := decodeClaim(d)
		return entry{claim: c}, err
	}
	r, err := decodeRecord(d)
	return entry{record: r}, err
}

func decodeRecord(d store.Doc) (*Record, error) {
	r := &Record{rev: d.Rev}
	if err := json.Unmarshal(d.Value, r); err != nil {
		return nil, fmt.Errorf("decode account %q: %w", d.Key, err)
	}
	if _, err := rid.Parse(r.ID); err != nil {
		return nil, fmt.Errorf("decode account %q: %w", d.Key, err)
	}
	return r, nil
}

func decodeClaim(d store.Doc) (*claim, error) {
	c := &claim{rev: d.Rev}
	if err := json.Unmarshal(d.Value, c); err != nil {
		return nil, fmt.Errorf("decode subdomain %q: %w", d.Key, err)
	}
	var err error
	if c.owner, err = rid.Parse(c.ID); err != nil {
		return nil, fmt.Errorf("decode subdomain %q: %w", d.Key, err)
	}
	return c, nil
}

// Account is one that answers.
type Account struct {
	ID                rid.ID
	UID               string // of this account alone, for ever
	Name              string
	Location          string
	Kind              string // KindOpenAI or KindAIServices
	Subdomain         string // "" where it answers in its region only
	LocalAuthDisabled bool
	Network           gate.Network

	keys *digests
}

// HasKey reports whether key is one of the account's, in constant time. It does
// not ask LocalAuthDisabled.
func (a *Account) HasKey(key string) bool { return a.keys.has(key) }

// Accounts reads and writes the records, and finds accounts and deployments
// for the data plane.
type Accounts struct {
	Store  store.Store
	Sealer Sealer
	Links  *privatelink.Links // private endpoints' connections; nil: there are none

	mirror      *store.Mirror[entry] // nil: every read asks the store
	deployments *store.Mirror[*Deployment]
}

// Open makes Accounts that keep everything in memory, for the data plane,
// which asks with every request. Close ends them.
func Open(ctx context.Context, s store.Store, sealer Sealer) (*Accounts, error) {
	a := &Accounts{Store: s, Sealer: sealer}
	var err error
	if a.mirror, err = store.NewMirror(ctx, s, allPrefix, decodeEntry, maxStale); err != nil {
		return nil, fmt.Errorf("open accounts: %w", err)
	}
	if a.deployments, err = store.NewMirror(ctx, s, arm.KeyPrefix+"/", decodeDeployment, maxStale, lower(DeploymentType)); err != nil {
		a.mirror.Close()
		return nil, fmt.Errorf("open deployments: %w", err)
	}
	return a, nil
}

// Close ends the mirrors of Accounts that Open made; reads still work.
func (a *Accounts) Close() {
	a.mirror.Close()
	a.deployments.Close()
}

// BySubdomain finds the account whose custom subdomain is label, without case.
// Where there is none the error is a NotFound.
func (a *Accounts) BySubdomain(ctx context.Context, label string) (*Account, error) {
	c, err := a.claimOf(ctx, label)
	if err != nil {
		return nil, err
	}
	var r *Record
	if c != nil {
		if r, err = a.Get(ctx, c.owner); err != nil {
			return nil, err
		}
	}
	if r == nil || r.Deleted != nil || !strings.EqualFold(r.Properties.Subdomain, label) {
		return nil, apierr.New(apierr.NotFound, "ResourceNotFound", "No account has the custom subdomain '%s'.", label)
	}
	return a.account(ctx, r)
}

// ByKey finds the account without a custom subdomain, in the region, that has
// the key. Where there is none the error is a NotFound.
func (a *Accounts) ByKey(ctx context.Context, region, key string) (*Account, error) {
	list, err := a.all(ctx, accountKind)
	if err != nil {
		return nil, err
	}
	var found *Account
	var unread error
	for _, r := range list {
		if r.Location != arm.NormalizeLocation(region) || r.Properties.Subdomain != "" {
			continue
		}
		x, err := a.account(ctx, r)
		if err != nil { // the others' keys count all the same
			unread = errors.Join(unread, fmt.Errorf("%s: %w", r.id(), err))
			continue
		}
		if x.HasKey(key) { // and go on: the time says nothing of which
			found = x
		}
	}
	if found == nil && unread != nil {
		return nil, unread
	}
	if found == nil {
		return nil, apierr.New(apierr.NotFound, "ResourceNotFound", "No account in the region '%s' has this key.", region)
	}
	return found, nil
}

// account is r for the data plane.
func (a *Accounts) account(ctx context.Context, r *Record) (*Account, error) {
	d, err := a.digests(ctx, r)
	if err != nil {
		return nil, err
	}
	n, id := &r.Properties, r.id()
	network := n.Network.Network(n.PublicAccess)
	network.Service, network.Approved = Namespace, a.Links.Gate(id)
	return &Account{
		ID: id, UID: r.UID, Name: id.Name(), Location: r.Location, Kind: r.Kind, Subdomain: n.Subdomain,
		LocalAuthDisabled: n.NoLocalAuth != nil && *n.NoLocalAuth, Network: network, keys: d,
	}, nil
}

// Get gives the record of an account, deleted ones too; nil where there is
// none. The record is shared: it must not be changed.
func (a *Accounts) Get(ctx context.Context, id rid.ID) (*Record, error) {
	if a.mirror != nil && a.mirror.Fresh() == nil {
		e, _ := a.mirror.Get(recordKey(id))
		return e.record, nil
	}
	return a.fresh(ctx, id)
}

func (a *Accounts) claimOf(ctx context.Context, subdomain string) (*claim, error) {
	if a.mirror != nil && a.mirror.Fresh() == nil {
		e, _ := a.mirror.Get(claimKey(subdomain))
		return e.claim, nil
	}
	return a.freshClaim(ctx, subdomain)
}

// all are the records of a kind.
func (a *Accounts) all(ctx context.Context, kind string) ([]*Record, error) {
	var list []*Record
	if a.mirror != nil && a.mirror.Fresh() == nil {
		a.mirror.Range(func(_ string, e entry) bool {
			if e.record != nil && (e.record.Deleted != nil) == (kind == deletedKind) {
				list = append(list, e.record)
			}
			return true
		})
		return list, nil
	}
	err := store.All(ctx, a.Store, store.Query{Prefix: recordPrefix, Kind: kind}, func(d store.Doc) error {
		r, err := decodeRecord(d)
		list = append(list, r)
		return err
	})
	return list, err
}

// fresh reads a record that may be changed.
func (a *Accounts) fresh(ctx context.Context, id rid.ID) (*Record, error) {
	d, err := a.Store.Get(ctx, recordKey(id))
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read account: %w", err)
	}
	return decodeRecord(d)
}

func (a *Accounts) freshClaim(ctx context.Context, subdomain string) (*claim, error) {
	d, err := a.Store.Get(ctx, claimKey(subdomain))
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read subdomain: %w", err)
	}
	return decodeClaim(d)
}

func (a *Accounts) save(ctx context.Context, r *Record) error {
	kind := accountKind
	if r.Deleted != nil {
		kind = deletedKind
	}
	rev, err := store.PutJSON(ctx, a.Store, recordKey(r.id()), kind, r.rev, r)
	if err != nil {
		return fmt.Errorf("write account: %w", err)
	}
	r.rev = rev
	return nil
}

// change applies fn to the record of an account and saves it; fn sees nil
// where there is none, and ends without a write by errUnchanged.
func (a *Accounts) change(ctx context.Context, id rid.ID, fn func(*Record) error) error {
	for range writeAttempts {
		r, err := a.fresh(ctx, id)
		if err != nil {
			return err
		}
		if err := fn(r); err != nil {
			if errors.Is(err, errUnchanged) {
				return nil
			}
			return err
		}
		if err := a.save(ctx, r); !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	return busy(id)
}

func busy(id rid.ID) error {
	return apierr.New(apierr.Conflict, "RequestConflict", "Another operation is being performed on the resource '%s'. Please wait for the other operation complete, then retry the request.", id)
}

// free refuses a new account whose id a deleted one has. It erases one that
// nobody can ask for any more.
func (p *provider) free(ctx context.Context, next *arm.Resource[Properties]) error {
	r, err := p.accounts.fresh(ctx, next.ID)
	switch {
	case err != nil || r == nil || r.Deleted == nil || !r.Purging && next.Private[restoreKey] == r.UID:
		return err
	case r.due(p.Now()):
		return p.erase(ctx, r)
	}
	return softDeleted(r.ID)
}

// claim makes the record of next or brings it up to date. A restored account
// keeps its uid and its keys.
func (p *provider) claim(ctx context.Context, next *arm.Resource[Properties]) error {
	for range writeAttempts {
		if err := p.free(ctx, next); err != nil && !errors.Is(err, store.ErrConflict) {
			return err
		}
		r, err := p.accounts.fresh(ctx, next.ID)
		if err != nil {
			return err
		}
		if r == nil {
			if r, err = p.newRecord(ctx, next); err != nil {
				return err
			}
		} else if r.Deleted != nil && (r.Purging || next.Private[restoreKey] != r.UID) {
			continue
		}
		kind, _ := textOf(next.Extra["kind"], "kind")
		r.ID, r.Location, r.Kind, r.SKU, r.Tags = next.ID.String(), next.Location, kind, accountSKU, next.Tags
		r.Properties, r.Deleted = next.Properties, nil
		if err := p.accounts.save(ctx, r); !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	return busy(next.ID)
}

// newRecord is that of a new account, with keys of its own.
func (p *provider) newRecord(ctx context.Context, next *arm.Resource[Properties]) (*Record, error) {
	r := &Record{UID: next.Private[uidKey]}
	k, err := newKeys()
	if err != nil {
		return nil, err
	}
	return r, p.accounts.sealKeys(ctx, r, k)
}

// nameFree refuses a subdomain that another account has.
func (p *provider) nameFree(ctx context.Context, next *arm.Resource[Properties]) error {
	if next.Properties.Subdomain == "" {
		return nil
	}
	c, err := p.accounts.freshClaim(ctx, next.Properties.Subdomain)
	if err != nil || c == nil {
		return err
	}
	return p.held(ctx, c, next.ID, next.Properties.Subdomain)
}

// held refuses where another account than id has the subdomain of the claim.
// It erases a deleted one whose time is up.
func (p *provider) held(ctx context.Context, c *claim, id rid.ID, subdomain string) error {
	owner := c.owner
	if owner.Equal(id) {
		return nil
	}
	r, err := p.accounts.fresh(ctx, owner)
	switch {
	case err != nil:
		return err
	case r != nil && strings.EqualFold(r.Properties.Subdomain, subdomain):
		if r.Deleted != nil && r.due(p.Now()) {
			return p.erase(ctx, r)
		}
		return taken(subdomain)
	}
	// Without a record the owner is being made, or died before it had one.
	e, err := arm.Resources{Store: p.Store}.Get(ctx, owner)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if s, _ := e.Properties["customSubDomainName"].(string); strings.EqualFold(s, subdomain) {
		return taken(subdomain)
	}
	return nil
}

// claimName takes the subdomain of next for it.
func (p *provider) claimName(ctx context.Context, next *arm.Resource[Properties]) error {
	name := next.Properties.Subdomain
	if name == "" {
		return nil
	}
	for range writeAttempts {
		c, err := p.accounts.freshClaim(ctx, name)
		if err != nil {
			return err
		}
		var rev int64
		if c != nil {
			if c.owner.Equal(next.ID) {
				return nil
			}
			if err := p.held(ctx, c, next.ID, name); err != nil && !errors.Is(err, store.ErrConflict) {
				return err
			}
			if c, err = p.accounts.freshClaim(ctx, name); err != nil {
				return err
			}
			if c != nil {
				rev = c.rev
			}
		}
		_, err = store.PutJSON(ctx, p.Store, claimKey(name), claimKind, rev, claim{ID: next.ID.String()})
		if err == nil {
			return nil
		}
		if !errors.Is(err, store.ErrConflict) {
			return fmt.Errorf("write subdomain: %w", err)
		}
	}
	return taken(name)
}

// erase destroys the keys of an account and frees its subdomain and its id.
func (p *provider) erase(ctx context.Context, r *Record) error {
	if !r.Purging {
		r.Purging = true
		if err := p.accounts.save(ctx, r); err != nil {
			return err
		}
	}
	if err := p.Sealer.Destroy(ctx, sealScope(r.UID)); err != nil {
		return fmt.Errorf("destroy the keys of an account: %w", err)
	}
	if name := r.Properties.Subdomain; name != "" {
		c, err := p.accounts.freshClaim(ctx, name)
		if err != nil {
			return err
		}
		if c != nil && c.owner.Equal(r.id()) {
			if err := p.Store.Delete(ctx, claimKey(name), c.rev); err != nil && !gone(err) {
				return fmt.Errorf("free subdomain: %w", err)
			}
		}
	}
	if err := p.Store.Delete(ctx, recordKey(r.id()), r.rev); err != nil && !gone(err) {
		return fmt.Errorf("erase account: %w", err)
	}
	return nil
}

func gone(err error) bool {
	return errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrConflict)
}

// Sweep erases the deleted accounts whose retention has ended, and what an
// interrupted purge left. c is as for New.
func Sweep(ctx context.Context, c Config) error {
	p := newProvider(c)
	list, err := p.accounts.all(ctx, deletedKind)
	if err != nil {
		return err
	}
	for _, r := range list {
		if !r.due(p.Now()) {
			continue
		}
		if err := p.erase(ctx, r); err != nil && !errors.Is(err, store.ErrConflict) { // else restored or erased by another
			return err
		}
	}
	return nil
}
