package vaultdata

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"

	"lazurite.dev/internal/apierr"
)

// Operation is the body of encrypt, decrypt, wrapkey, unwrapkey, sign and
// verify; byte fields are base64url.
type Operation struct {
	Alg    string `json:"alg"`
	Value  string `json:"value"`
	IV     string `json:"iv"`
	AAD    string `json:"aad"`
	Tag    string `json:"tag"`
	Digest string `json:"digest"` // verify
}

// OperationResult is what they answer, verify excepted.
type OperationResult struct {
	KeyID string `json:"kid"`
	Value string `json:"value"`
	IV    string `json:"iv,omitempty"`
	Tag   string `json:"tag,omitempty"`
	AAD   string `json:"aad,omitempty"`
}

// VerifyResult is what verify answers.
type VerifyResult struct {
	Value bool `json:"value"`
}

// maxOperand bounds the values of operations on an oct key, in bytes.
const maxOperand = 64 << 10

// optional64 reads a base64url field that may be absent.
func optional64(s, field string) ([]byte, error) {
	if s == "" {
		return nil, nil
	}
	b, err := decode64(s, field)
	if err == nil && len(b) > maxOperand {
		return nil, badProperty(field, "it has at most %d bytes", maxOperand)
	}
	return b, err
}

// usable opens the key for op if enabled, validity and key_ops allow it.
// Outside nbf and exp a key still decrypts, unwraps and verifies.
// Source: Key Vault, "About keys", date-time controlled operations.
func (o *Objects) usable(ctx context.Context, v *Vault, name, ver, op string) (*keyView, *material, error) {
	k, err := o.key(ctx, v, name, ver)
	if err != nil {
		return nil, nil, err
	}
	if !k.attrs.Enabled {
		return nil, nil, keyKind.disabled(op)
	}
	if op == opEncrypt || op == opSign || op == opWrap {
		now := o.now().Unix()
		if k.attrs.NotBefore != nil && now < *k.attrs.NotBefore {
			return nil, nil, apierr.New(apierr.Forbidden, "Forbidden", "Operation %s is not allowed on a key that is not yet valid.", op).WithInner("KeyNotYetValid")
		}
		if k.attrs.Expires != nil && now >= *k.attrs.Expires {
			return nil, nil, apierr.New(apierr.Forbidden, "Forbidden", "Operation %s is not allowed on an expired key.", op).WithInner("KeyExpired")
		}
	}
	if !k.permitted(op) {
		return nil, nil, apierr.New(apierr.Forbidden, "Forbidden", "Operation %s is not permitted on this key.", op).WithInner("KeyOperationForbidden")
	}
	plain, err := o.seal.Open(ctx, v.scope(), k.body.Sealed, aad(k.owner, k.name, k.version))
	if err != nil {
		return nil, nil, fmt.Errorf("open key: %w", err)
	}
	m, err := decodeMaterial(&k.body, plain)
	return k, m, err
}

func (k *keyView) result(v *Vault, out cryptoOut) *OperationResult {
	b64 := base64.RawURLEncoding.EncodeToString
	return &OperationResult{
		KeyID: v.URI + "/keys/" + k.name + "/" + k.version,
		Value: b64(out.value), IV: b64(out.iv), Tag: b64(out.tag), AAD: b64(out.aad),
	}
}

// read decodes the byte fields.
func (in *Operation) read() (cryptoIn, error) {
	c := cryptoIn{alg: in.Alg}
	for _, f := range []struct {
		to         *[]byte
		text, name string
	}{{&c.value, in.Value, "value"}, {&c.iv, in.IV, "iv"}, {&c.aad, in.AAD, "aad"}, {&c.tag, in.Tag, "tag"}} {
		b, err := optional64(f.text, f.name)
		if err != nil {
			return c, err
		}
		*f.to = b
	}
	if in.Alg == "" {
		return c, badProperty("alg", "the algorithm is missing")
	}
	return c, nil
}

// Encrypt serves encrypt, and wrapkey when wrap is set.
func (o *Objects) Encrypt(ctx context.Context, v *Vault, name, ver string, in *Operation, wrap bool) (*OperationResult, error) {
	op := opEncrypt
	if wrap {
		op = opWrap
	}
	c, err := in.read()
	if err != nil {
		return nil, err
	}
	k, m, err := o.usable(ctx, v, name, ver, op)
	if err != nil {
		return nil, err
	}
	out, err := m.encrypt(op, c)
	if err != nil {
		return nil, err
	}
	return k.result(v, out), nil
}

// Decrypt serves decrypt, and unwrapkey when unwrap is set.
func (o *Objects) Decrypt(ctx context.Context, v *Vault, name, ver string, in *Operation, unwrap bool) (*OperationResult, error) {
	op := opDecrypt
	if unwrap {
		op = opUnwrap
	}
	c, err := in.read()
	if err != nil {
		return nil, err
	}
	k, m, err := o.usable(ctx, v, name, ver, op)
	if err != nil {
		return nil, err
	}
	out, err := m.decrypt(op, c)
	if err != nil {
		return nil, err
	}
	return k.result(v, out), nil
}

// Sign signs a digest.
func (o *Objects) Sign(ctx context.Context, v *Vault, name, ver string, in *Operation) (*OperationResult, error) {
	c, err := in.read()
	if err != nil {
		return nil, err
	}
	k, m, err := o.usable(ctx, v, name, ver, opSign)
	if err != nil {
		return nil, err
	}
	sig, err := m.sign(c.alg, c.value)
	if err != nil {
		return nil, err
	}
	return k.result(v, cryptoOut{value: sig}), nil
}

// Verify checks a signature of a digest.
func (o *Objects) Verify(ctx context.Context, v *Vault, name, ver string, in *Operation) (*VerifyResult, error) {
	c, err := in.read()
	if err != nil {
		return nil, err
	}
	digest, err := optional64(in.Digest, "digest")
	if err != nil {
		return nil, err
	}
	_, m, err := o.usable(ctx, v, name, ver, opVerify)
	if err != nil {
		return nil, err
	}
	ok, err := m.verify(c.alg, digest, c.value)
	if err != nil {
		return nil, err
	}
	return &VerifyResult{Value: ok}, nil
}

// RandomBytes answers rng: 1 to 128 random bytes.
func (o *Objects) RandomBytes(count int) (*Blob, error) {
	if count < 1 || count > 128 {
		return nil, badProperty("count", "it must be from 1 to 128, not %d", count)
	}
	b := make([]byte, count)
	_, _ = rand.Read(b) // never fails
	return newBlob(b, nil)
}
