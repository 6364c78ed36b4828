package cognitiveservices

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
)

// keyPair are the keys of an account, as clients see them.
type keyPair struct {
	Key1 string `json:"key1"`
	Key2 string `json:"key2"`
}

// digests are what is kept in memory of an account's keys.
type digests [2][sha256.Size]byte

func (d *digests) has(key string) bool {
	sum := sha256.Sum256([]byte(key))
	return subtle.ConstantTimeCompare(sum[:], d[0][:])|subtle.ConstantTimeCompare(sum[:], d[1][:]) == 1
}

// newKey is 128 random bits in the form of Azure's.
func newKey() (string, error) {
	b := make([]byte, 16)
	if _, err := rand.Read(b); err != nil {
		return "", fmt.Errorf("make a key: %w", err)
	}
	return hex.EncodeToString(b), nil
}

func newKeys() (k keyPair, err error) {
	if k.Key1, err = newKey(); err != nil {
		return k, err
	}
	k.Key2, err = newKey()
	return k, err
}

// sealScope is the scope under which the account with the uid seals its keys.
func sealScope(uid string) string { return "cognitiveservices/" + uid }

const keysAAD = "keys"

func (a *Accounts) sealKeys(ctx context.Context, r *Record, k keyPair) error {
	plain, err := json.Marshal(k)
	if err != nil {
		return fmt.Errorf("encode keys: %w", err)
	}
	if r.Keys, err = a.Sealer.Seal(ctx, sealScope(r.UID), plain, []byte(keysAAD)); err != nil {
		return fmt.Errorf("seal the keys of an account: %w", err)
	}
	return nil
}

func (a *Accounts) openKeys(ctx context.Context, r *Record) (keyPair, error) {
	var k keyPair
	plain, err := a.Sealer.Open(ctx, sealScope(r.UID), r.Keys, []byte(keysAAD))
	if err != nil {
		return k, fmt.Errorf("open the keys of an account: %w", err)
	}
	if err := json.Unmarshal(plain, &k); err != nil {
		return k, fmt.Errorf("decode the keys of an account: %w", err)
	}
	return k, nil
}

// digests are those of r's keys, worked out once for each record.
func (a *Accounts) digests(ctx context.Context, r *Record) (*digests, error) {
	if d := r.opened.Load(); d != nil {
		return d, nil
	}
	k, err := a.openKeys(ctx, r)
	if err != nil {
		return nil, err
	}
	d := &digests{sha256.Sum256([]byte(k.Key1)), sha256.Sum256([]byte(k.Key2))}
	r.opened.Store(d)
	return d, nil
}

// keysAllowed refuses to show or change keys that nobody may use.
func keysAllowed(r *arm.Resource[Properties], verb string) error {
	if b := r.Properties.NoLocalAuth; b != nil && *b {
		return apierr.New(apierr.BadRequest, "BadRequest", "Failed to %s key. disableLocalAuth is set to be true", verb)
	}
	return nil
}

// listKeys is POST …/listKeys.
func (p *provider) listKeys(ctx context.Context, r *arm.Resource[Properties], _ json.RawMessage) (any, error) {
	if err := keysAllowed(r, "list"); err != nil {
		return nil, err
	}
	rec, err := p.accounts.fresh(ctx, r.ID)
	if err != nil {
		return nil, err
	}
	if rec == nil || rec.Deleted != nil {
		return nil, busy(r.ID) // it is being made
	}
	return p.accounts.openKeys(ctx, rec)
}

// regenerateKey is POST …/regenerateKey {"keyName":"Key1"}.
func (p *provider) regenerateKey(ctx context.Context, r *arm.Resource[Properties], body json.RawMessage) (any, error) {
	var in struct {
		KeyName string `json:"keyName"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, bad("keyName", "The body must be an object such as {\"keyName\":\"Key1\"}: %v", err)
	}
	if !strings.EqualFold(in.KeyName, "Key1") && !strings.EqualFold(in.KeyName, "Key2") {
		return nil, bad("keyName", "The keyName '%s' is neither 'Key1' nor 'Key2'.", in.KeyName)
	}
	if err := keysAllowed(r, "regenerate"); err != nil {
		return nil, err
	}
	fresh, err := newKey()
	if err != nil {
		return nil, err
	}
	var k keyPair
	err = p.accounts.change(ctx, r.ID, func(rec *Record) error {
		if rec == nil || rec.Deleted != nil {
			return busy(r.ID)
		}
		var err error
		if k, err = p.accounts.openKeys(ctx, rec); err != nil {
			return err
		}
		if strings.EqualFold(in.KeyName, "Key1") {
			k.Key1 = fresh
		} else {
			k.Key2 = fresh
		}
		return p.accounts.sealKeys(ctx, rec, k)
	})
	return k, err
}
