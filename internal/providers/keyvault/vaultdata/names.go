package vaultdata

import (
	"strings"

	"lazurite.dev/internal/apierr"
)

// Limits of names and versions.
// Source: Key Vault, "About keys, secrets and certificates", object identifiers.
const (
	maxName    = 127
	versionLen = 32
	maxTags    = 15
	maxTagLen  = 256
)

// kind is one of the three sorts of objects, with the words that Azure's
// messages and addresses use for it.
type kind struct {
	word   string // "secret": in document kinds and in additional data
	noun   string // "Secret": begins error codes
	plural string // "secrets": in addresses
}

var (
	secretKind = kind{"secret", "Secret", "secrets"}
	keyKind    = kind{"key", "Key", "keys"}
	certKind   = kind{"certificate", "Certificate", "certificates"}
)

func lower(s string) string { return strings.ToLower(s) }

// checkName refuses what is not 1 to 127 letters, digits and hyphens.
func checkName(name string) error {
	ok := name != "" && len(name) <= maxName
	for i := range len(name) {
		c := name[i]
		ok = ok && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-')
	}
	if !ok {
		return apierr.New(apierr.BadRequest, "BadParameter", "The request URI contains an invalid name: %s", clip(name))
	}
	return nil
}

// checkVersion refuses what is not 32 letters and digits.
func checkVersion(version string) error {
	ok := len(version) == versionLen
	for i := range len(version) {
		c := version[i]
		ok = ok && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9')
	}
	if !ok {
		return apierr.New(apierr.BadRequest, "BadParameter", "The request URI contains an invalid version: %s", clip(version))
	}
	return nil
}

func checkTags(tags map[string]string) error {
	if len(tags) > maxTags {
		return badProperty("tags", "an object has at most %d tags", maxTags)
	}
	for k, v := range tags {
		if len(k) > maxTagLen || len(v) > maxTagLen {
			return badProperty("tags", "the name and the value of a tag have at most %d characters", maxTagLen)
		}
	}
	return nil
}

// clip keeps foreign text short enough for a message.
func clip(s string) string {
	if len(s) > 200 {
		return strings.ToValidUTF8(s[:200], "") + "…"
	}
	return s
}

// badProperty is the refusal of a value in a request's body.
func badProperty(field, why string, args ...any) *apierr.Error {
	e := apierr.New(apierr.BadRequest, "BadParameter", why, args...)
	e.Message = "Property " + field + " has invalid value: " + e.Message
	return e.WithTarget(field)
}

// notFound is the answer for an object that is not there, or only as deleted.
func (k kind) notFound(name string) error {
	return apierr.New(apierr.NotFound, k.noun+"NotFound",
		"A %s with (name/id) %s was not found in this key vault. If you recently deleted this %s you may be able to recover it using the correct recovery command. For help resolving this issue, please see https://go.microsoft.com/fwlink/?linkid=2125182",
		k.word, name, k.word)
}

func (k kind) deletedNotFound(name string) error {
	return apierr.New(apierr.NotFound, k.noun+"NotFound", "Deleted %s not found: %s", k.noun, name)
}

// isDeleted is the refusal to use again the name of a soft-deleted object.
func (k kind) isDeleted(name string) error {
	return apierr.New(apierr.Conflict, "Conflict",
		"%s %s is currently in a deleted but recoverable state, and its name cannot be reused; in this state, the %s can only be recovered or purged.",
		k.noun, name, k.word).WithInner("ObjectIsDeletedButRecoverable")
}

// restoring is the refusal of a name that a restore is about to take.
func (k kind) restoring(name string) error {
	return apierr.New(apierr.Conflict, "Conflict", "The %s %s is being restored. Try again in a moment.", k.word, name)
}

// disabled is the refusal of an operation on a version whose enabled is false.
func (k kind) disabled(operation string) error {
	return apierr.New(apierr.Forbidden, "Forbidden", "Operation %s is not allowed on a disabled %s.", operation, k.word).
		WithInner(k.noun + "Disabled")
}

func (k kind) managed(name string) error {
	return apierr.New(apierr.Forbidden, "Forbidden",
		"The %s %s belongs to the certificate of the same name and is changed only through it.", k.word, name).
		WithInner(k.noun + "ManagedByCertificate")
}

// nameTaken is the refusal of a certificate whose name a plain secret or key
// has, and the other way round: a certificate owns both names.
func nameTaken(name, what, by string) error {
	return apierr.New(apierr.Conflict, "Conflict",
		"The name %s cannot be given to a %s: a %s of this name is in the vault, or deleted and recoverable.", name, what, by)
}
