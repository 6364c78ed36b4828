package storage

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
)

// secrets are an account's: its keys, and what the keys of users' delegations
// are derived from.
type secrets struct {
	Keys       [2][]byte    `json:"keys"`
	Made       [2]time.Time `json:"made"`
	Delegation []byte       `json:"delegation"`
}

const keyBytes = 64 // of an account's key, as Azure's

func random(n int) ([]byte, error) {
	b := make([]byte, n)
	if _, err := rand.Read(b); err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	return b, nil
}

func newSecrets() (s *secrets, err error) {
	now := time.Now().UTC()
	s = &secrets{Made: [2]time.Time{now, now}}
	for i := range s.Keys {
		if s.Keys[i], err = random(keyBytes); err != nil {
			return nil, err
		}
	}
	s.Delegation, err = random(sha256.Size)
	return s, err
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// Signed says with which of the account's keys text was signed, in constant
// time: "key1", "key2", or "" for neither. It does not ask SharedKey.
func (a *Account) Signed(text string, signature []byte) string {
	found := ""
	for i, k := range a.secrets.Keys {
		if hmac.Equal(signature, mac(k, text)) {
			found = keyNames()[i]
		}
	}
	return found
}

func keyNames() []string { return []string{"key1", "key2"} }

// Delegated is the key with which a principal's delegation signs: of the text
// that describes it.
func (a *Account) Delegated(description string) []byte { return mac(a.secrets.Delegation, description) }

// shownKey is a key as clients see it.
type shownKey struct {
	Made  string `json:"creationTime"`
	Name  string `json:"keyName"`
	Value string `json:"value"`
	May   string `json:"permissions"`
}

func (s *secrets) shown() any {
	var list []shownKey
	for i, k := range s.Keys {
		list = append(list, shownKey{s.Made[i].Format(azureTime), keyNames()[i], base64.StdEncoding.EncodeToString(k), "FULL"})
	}
	return map[string]any{"keys": list}
}

// listKeys is POST …/listKeys.
func (p *provider) listKeys(ctx context.Context, r *arm.Resource[Properties], _ json.RawMessage) (any, error) {
	_, s, err := p.accounts.names.Secrets(ctx, r.ID)
	if err != nil {
		return nil, err
	}
	return s.shown(), nil
}

// regenerateKey is POST …/regenerateKey {"keyName":"key1"}.
func (p *provider) regenerateKey(ctx context.Context, r *arm.Resource[Properties], body json.RawMessage) (any, error) {
	var in struct {
		Name string `json:"keyName"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, bad("keyName", "The body must be an object such as {\"keyName\":\"key1\"}: %v", err)
	}
	i := 0
	switch {
	case strings.EqualFold(in.Name, "key1"):
	case strings.EqualFold(in.Name, "key2"):
		i = 1
	default:
		return nil, bad("keyName", "The keyName '%s' is neither 'key1' nor 'key2'.", in.Name)
	}
	fresh, err := random(keyBytes)
	if err != nil {
		return nil, err
	}
	s, err := p.accounts.names.Change(ctx, r.ID, func(s *secrets) { s.Keys[i], s.Made[i] = fresh, p.Now().UTC() })
	if err != nil {
		return nil, err
	}
	return s.shown(), nil
}

// revokeDelegation is POST …/revokeUserDelegationKeys: what was signed with
// such a key is worth nothing from now on.
func (p *provider) revokeDelegation(ctx context.Context, r *arm.Resource[Properties], _ json.RawMessage) (any, error) {
	fresh, err := random(sha256.Size)
	if err != nil {
		return nil, err
	}
	_, err = p.accounts.names.Change(ctx, r.ID, func(s *secrets) { s.Delegation = fresh })
	return nil, err
}

// noSharedKey is why nothing can be signed with a key of the account.
func noSharedKey(name string) *apierr.Error {
	return apierr.New(apierr.Conflict, "KeyBasedAuthenticationNotPermitted", "Key based authentication is not permitted on the storage account '%s': allowSharedKeyAccess is false.", name)
}
