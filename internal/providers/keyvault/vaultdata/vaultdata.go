// Package vaultdata is Key Vault's data plane: secrets, keys and certificates
// with their versions, soft delete, backup and restore, and the cryptography
// that keys offer. The files of the domain know no HTTP; plane*.go put them
// behind the gate.
//
// Everything is kept as documents under the vault's own uid, never its name,
// so that a vault created again under an old name finds nothing of its
// predecessor, and a recovered one finds everything.
//
// Source: Azure Key Vault REST API, data plane 7.0 to 2026-04-01.
package vaultdata

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"time"

	"lazurite.dev/internal/store"
)

// Sealer encrypts values at rest under a key of their scope. Open refuses
// what was sealed under another scope or other additional data.
type Sealer interface {
	Seal(ctx context.Context, scope string, plaintext, aad []byte) ([]byte, error)
	Open(ctx context.Context, scope string, sealed, aad []byte) ([]byte, error)
}

// Vault is what the data plane has to know of a vault resource.
type Vault struct {
	UID             string // never changes and is never used again
	URI             string // "https://NAME.vault.azure.net", no slash at the end
	TenantID        string
	SubscriptionID  string
	RetentionDays   int  // of soft-deleted objects
	PurgeProtection bool // refuses purge until the retention has passed
}

// base is the prefix of all documents of the vault.
func (v *Vault) base() string { return Prefix(v.UID) }

// scope names the vault's own sealing key.
func (v *Vault) scope() string { return SealScope(v.UID) }

// allVaults begins the keys of the documents of all vaults.
const allVaults = "keyvault/"

// Prefix is that of the keys of all documents of the vault with the uid.
func Prefix(uid string) string { return allVaults + uid + "/" }

// SealScope is the scope under which the vault with the uid seals its values.
func SealScope(uid string) string { return "keyvault/" + uid }

// backupScope names the key that seals backups: it outlives any vault.
func (v *Vault) backupScope() string { return "keyvault-backup/" + lower(v.SubscriptionID) }

// recoveryLevel is the word that attributes carry for the vault's protection.
func (v *Vault) recoveryLevel() string {
	level := "Recoverable"
	if v.RetentionDays != 90 {
		level = "CustomizedRecoverable"
	}
	if !v.PurgeProtection {
		level += "+Purgeable"
	}
	return level
}

// Config is what New needs.
type Config struct {
	Store  store.Store
	Sealer Sealer
	Now    func() time.Time // nil means time.Now
}

// Objects are the secrets, keys and certificates of all vaults.
type Objects struct {
	docs store.Store
	seal Sealer
	now  func() time.Time

	opening chan struct{} // holds one value for each certificate file that is being opened

	secrets collection[secretBody, noExtra]
	keys    collection[keyBody, keyExtra]
	certs   collection[certBody, certExtra]
}

// noExtra is the extra part of objects that have none.
type noExtra struct{}

// New makes Objects over the store. It does no work.
func New(c Config) *Objects {
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Objects{
		docs: c.Store, seal: c.Sealer, now: c.Now, opening: make(chan struct{}, openAtOnce),
		secrets: collection[secretBody, noExtra]{docs: c.Store, now: c.Now, kind: secretKind, sealed: secretSealed},
		keys:    collection[keyBody, keyExtra]{docs: c.Store, now: c.Now, kind: keyKind, sealed: keySealed},
		certs:   collection[certBody, certExtra]{docs: c.Store, now: c.Now, kind: certKind, sealed: certSealed, strip: func(x *certExtra) { x.Pending = nil }},
	}
}

// Destroy deletes every document of the vault with the uid, for good. It may
// be called again after a failure.
func (o *Objects) Destroy(ctx context.Context, uid string) error {
	return destroy(ctx, o.docs, Prefix(uid))
}

// newVersion is a fresh version identifier: 32 hexadecimal digits.
func newVersion() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails: crypto/rand.Read ends the program instead
	return hex.EncodeToString(b)
}

// aad binds a sealed value to the object and version that it belongs to, so
// that a document moved or copied in the database does not open.
func aad(k kind, name, version string) []byte {
	return []byte(k.word + "\x00" + lower(name) + "\x00" + version)
}
