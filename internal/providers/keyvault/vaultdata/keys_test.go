package vaultdata_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"testing"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/providers/keyvault/vaultdata"
)

var b64 = base64.RawURLEncoding

func createKey(t testing.TB, b *bench, v *vaultdata.Vault, name string, in vaultdata.CreateKey) *vaultdata.KeyBundle {
	t.Helper()
	return must[*vaultdata.KeyBundle](t)(b.CreateKey(t.Context(), v, name, &in))
}

func TestKey_EncryptDecryptEveryAlgorithm(t *testing.T) {
	b, v := open(t), vault("u1")
	createKey(t, b, v, "rsa", vaultdata.CreateKey{Kty: "RSA"})
	for _, bits := range []int{128, 192, 256} {
		createKey(t, b, v, fmt.Sprint("oct", bits), vaultdata.CreateKey{Kty: "oct", KeySize: bits})
	}
	plain := []byte("0123456789abcdef0123456789abcdef")
	iv := b64.EncodeToString(bytes.Repeat([]byte{7}, 16))
	try := func(key, alg string, wrap bool, iv string) {
		t.Helper()
		in := &vaultdata.Operation{Alg: alg, Value: b64.EncodeToString(plain), IV: iv}
		if alg[1:] == "256GCM" {
			in.AAD = b64.EncodeToString([]byte("context"))
		}
		enc, err := b.Encrypt(t.Context(), v, key, "", in, wrap)
		if err != nil {
			t.Errorf("%s encrypt: %v", alg, err)
			return
		}
		back := &vaultdata.Operation{Alg: alg, Value: enc.Value, IV: enc.IV, Tag: enc.Tag, AAD: enc.AAD}
		dec, err := b.Decrypt(t.Context(), v, key, "", back, wrap)
		if err != nil || dec.Value != b64.EncodeToString(plain) {
			t.Errorf("%s decrypt: %v", alg, err)
		}
		raw, _ := b64.DecodeString(enc.Value)
		raw[len(raw)-1] ^= 1
		back.Value = b64.EncodeToString(raw)
		if dec, err = b.Decrypt(t.Context(), v, key, "", back, wrap); err == nil && dec.Value == b64.EncodeToString(plain) {
			t.Errorf("%s: a changed ciphertext decrypts", alg)
		}
	}
	for _, alg := range []string{"RSA1_5", "RSA-OAEP", "RSA-OAEP-256"} {
		try("rsa", alg, false, "")
		try("rsa", alg, true, "")
	}
	for _, bits := range []int{128, 192, 256} {
		key := fmt.Sprint("oct", bits)
		try(key, fmt.Sprintf("A%dGCM", bits), false, "")
		try(key, fmt.Sprintf("A%dCBC", bits), false, iv)
		try(key, fmt.Sprintf("A%dCBCPAD", bits), false, iv)
		try(key, fmt.Sprintf("A%dKW", bits), true, "")
	}
}

func TestKey_AESKeyWrapVector(t *testing.T) { // RFC 3394 section 4.1
	b, v := open(t), vault("u1")
	kek, _ := hex.DecodeString("000102030405060708090A0B0C0D0E0F")
	key, _ := hex.DecodeString("00112233445566778899AABBCCDDEEFF")
	want, _ := hex.DecodeString("1FA68B0A8112B447AEF34BD8FB5A7B829D3E862371D2CFE5")
	must[*vaultdata.KeyBundle](t)(b.ImportKey(t.Context(), v, "kek", &vaultdata.ImportKey{Key: &vaultdata.JWK{Kty: "oct", K: b64.EncodeToString(kek)}}))
	got := must[*vaultdata.OperationResult](t)(b.Encrypt(t.Context(), v, "kek", "", &vaultdata.Operation{Alg: "A128KW", Value: b64.EncodeToString(key)}, true))
	if got.Value != b64.EncodeToString(want) {
		t.Errorf("got %s, want %s", got.Value, b64.EncodeToString(want))
	}
}

func TestKey_SignaturesVerifyOutside(t *testing.T) {
	b, v := open(t), vault("u1")
	h256, h384, h512 := sha256.Sum256([]byte("m")), sha512.Sum384([]byte("m")), sha512.Sum512([]byte("m"))
	digests := map[string][]byte{"256": h256[:], "384": h384[:], "512": h512[:], "256K": h256[:]}
	rsaKey := createKey(t, b, v, "rsa", vaultdata.CreateKey{Kty: "RSA"})
	n, _ := b64.DecodeString(rsaKey.Key.N)
	pub := &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: 65537}
	hashes := map[string]crypto.Hash{"256": crypto.SHA256, "384": crypto.SHA384, "512": crypto.SHA512}
	sign := func(key, alg string) []byte {
		t.Helper()
		d := b64.EncodeToString(digests[alg[2:]])
		res := must[*vaultdata.OperationResult](t)(b.Sign(t.Context(), v, key, "", &vaultdata.Operation{Alg: alg, Value: d}))
		ok := must[*vaultdata.VerifyResult](t)(b.Verify(t.Context(), v, key, "", &vaultdata.Operation{Alg: alg, Digest: d, Value: res.Value}))
		if !ok.Value {
			t.Errorf("%s does not verify its own signature", alg)
		}
		sig, _ := b64.DecodeString(res.Value)
		bad := bytes.Clone(sig)
		bad[3] ^= 1
		if no := must[*vaultdata.VerifyResult](t)(b.Verify(t.Context(), v, key, "", &vaultdata.Operation{Alg: alg, Digest: d, Value: b64.EncodeToString(bad)})); no.Value {
			t.Errorf("%s verifies a changed signature", alg)
		}
		return sig
	}
	for size, hash := range hashes {
		if err := rsa.VerifyPKCS1v15(pub, hash, digests[size], sign("rsa", "RS"+size)); err != nil {
			t.Error(err)
		}
		if err := rsa.VerifyPSS(pub, hash, digests[size], sign("rsa", "PS"+size), nil); err != nil {
			t.Error(err)
		}
	}
	for size, crv := range map[string]string{"256": "P-256", "384": "P-384", "512": "P-521", "256K": "P-256K"} {
		key := createKey(t, b, v, "ec"+size, vaultdata.CreateKey{Kty: "EC", Crv: crv})
		sig := sign("ec"+size, "ES"+size)
		if crv == "P-256K" {
			continue
		}
		x, _ := b64.DecodeString(key.Key.X)
		y, _ := b64.DecodeString(key.Key.Y)
		curve := map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()}[crv]
		ec := must[*ecdsa.PublicKey](t)(ecdsa.ParseUncompressedPublicKey(curve, append(append([]byte{4}, x...), y...)))
		half := len(sig) / 2
		if !ecdsa.Verify(ec, digests[size], new(big.Int).SetBytes(sig[:half]), new(big.Int).SetBytes(sig[half:])) {
			t.Errorf("ES%s does not verify outside", size)
		}
	}
}

func TestKey_OperationsEnforced(t *testing.T) {
	b, v := open(t), vault("u1")
	ctx := t.Context()
	now := b.clock.now().Unix()
	digest := b64.EncodeToString(make([]byte, 32))
	sign := func(name string) error {
		_, err := b.Sign(ctx, v, name, "", &vaultdata.Operation{Alg: "ES256", Value: digest})
		return err
	}
	verify := func(name string) error {
		_, err := b.Verify(ctx, v, name, "", &vaultdata.Operation{Alg: "ES256", Digest: digest, Value: b64.EncodeToString(make([]byte, 64))})
		return err
	}
	createKey(t, b, v, "verify-only", vaultdata.CreateKey{Kty: "EC", KeyOps: []string{"verify"}})
	wantCode(t, sign("verify-only"), apierr.Forbidden, "Forbidden", "KeyOperationForbidden")
	createKey(t, b, v, "future", vaultdata.CreateKey{Kty: "EC", Attributes: &vaultdata.AttributesIn{NotBefore: ptr(now + 1000)}})
	wantCode(t, sign("future"), apierr.Forbidden, "Forbidden", "KeyNotYetValid")
	createKey(t, b, v, "past", vaultdata.CreateKey{Kty: "EC", Attributes: &vaultdata.AttributesIn{Expires: ptr(now)}})
	wantCode(t, sign("past"), apierr.Forbidden, "Forbidden", "KeyExpired")
	if err := verify("past"); err != nil {
		t.Errorf("verify with an expired key: %v", err)
	}
	createKey(t, b, v, "off", vaultdata.CreateKey{Kty: "EC", Attributes: &vaultdata.AttributesIn{Enabled: ptr(false)}})
	wantCode(t, sign("off"), apierr.Forbidden, "Forbidden", "KeyDisabled")
	wantCode(t, verify("off"), apierr.Forbidden, "Forbidden", "KeyDisabled")
	_, err := b.GetKey(ctx, v, "off", "")
	wantCode(t, err, apierr.Forbidden, "Forbidden", "KeyDisabled")
	wantCode(t, b.ReleaseKey(ctx, v, "future", ""), apierr.Forbidden, "Forbidden", "KeyNotExportable")
	wantCode(t, b.Attestation(ctx, v, "future", ""), apierr.BadRequest, "BadParameter", "")
}

func TestKey_Refusals(t *testing.T) {
	b, v := open(t), vault("u1")
	for name, in := range map[string]vaultdata.CreateKey{
		"no type":     {},
		"HSM":         {Kty: "RSA-HSM"},
		"EC HSM":      {Kty: "EC-HSM"},
		"small RSA":   {Kty: "RSA", KeySize: 1024},
		"odd curve":   {Kty: "EC", Crv: "P-192"},
		"oct size":    {Kty: "oct", KeySize: 64},
		"exponent":    {Kty: "RSA", PublicExponent: 3},
		"op of RSA":   {Kty: "EC", KeyOps: []string{"encrypt"}},
		"op twice":    {Kty: "EC", KeyOps: []string{"sign", "sign"}},
		"export":      {Kty: "EC", KeyOps: []string{"export"}},
		"release":     {Kty: "EC", ReleasePolicy: json.RawMessage(`{"data":"e30"}`)},
		"exportable":  {Kty: "EC", Attributes: &vaultdata.AttributesIn{Exportable: ptr(true)}},
		"wrong curve": {Kty: "RSA", Crv: "P-256"},
	} {
		if _, err := b.CreateKey(t.Context(), v, "k", &in); !apierr.Is(err, apierr.BadRequest) {
			t.Errorf("%s: %v", name, err)
		}
	}
	createKey(t, b, v, "oct", vaultdata.CreateKey{Kty: "oct"})
	createKey(t, b, v, "ec", vaultdata.CreateKey{Kty: "EC"})
	iv := b64.EncodeToString(make([]byte, 16))
	for name, op := range map[string]vaultdata.Operation{
		"unknown":     {Alg: "none"},
		"no alg":      {},
		"other size":  {Alg: "A128GCM", Value: "AAAA"},
		"own nonce":   {Alg: "A256GCM", Value: "AAAA", IV: iv},
		"no IV":       {Alg: "A256CBC", Value: iv},
		"odd length":  {Alg: "A256CBC", Value: "AAAA", IV: iv},
		"CBC aad":     {Alg: "A256CBCPAD", Value: "AAAA", IV: iv, AAD: "AAAA"},
		"wrap as enc": {Alg: "A256KW", Value: iv},
		"RSA on oct":  {Alg: "RSA-OAEP", Value: "AAAA"},
		"not base64":  {Alg: "A256GCM", Value: "***"},
	} {
		if _, err := b.Encrypt(t.Context(), v, "oct", "", &op, false); !apierr.Is(err, apierr.BadRequest) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, op := range map[string]vaultdata.Operation{
		"digest length": {Alg: "ES256", Value: "AAAA"},
		"other curve":   {Alg: "ES384", Value: b64.EncodeToString(make([]byte, 48))},
		"RSA on EC":     {Alg: "RS256", Value: b64.EncodeToString(make([]byte, 32))},
		"HMAC":          {Alg: "HS256", Value: b64.EncodeToString(make([]byte, 32))},
	} {
		if _, err := b.Sign(t.Context(), v, "ec", "", &op); !apierr.Is(err, apierr.BadRequest) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, n := range []int{0, 129} {
		if _, err := b.RandomBytes(n); !apierr.Is(err, apierr.BadRequest) {
			t.Errorf("rng %d: %v", n, err)
		}
	}
}

func rsaJWK(t testing.TB) *vaultdata.JWK {
	t.Helper()
	k := must[*rsa.PrivateKey](t)(rsa.GenerateKey(rand.Reader, 2048))
	return &vaultdata.JWK{
		Kty: "RSA", N: b64.EncodeToString(k.N.Bytes()), E: "AQAB", D: b64.EncodeToString(k.D.Bytes()),
		P: b64.EncodeToString(k.Primes[0].Bytes()), Q: b64.EncodeToString(k.Primes[1].Bytes()),
	}
}

func TestKey_Import(t *testing.T) {
	b, v := open(t), vault("u1")
	jwk := rsaJWK(t)
	got := must[*vaultdata.KeyBundle](t)(b.ImportKey(t.Context(), v, "rsa", &vaultdata.ImportKey{Key: jwk}))
	if got.Key.N != jwk.N || got.Key.E != "AQAB" {
		t.Errorf("public part %+v", got.Key)
	}
	ec := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P521(), rand.Reader))
	p := must[[]byte](t)(ec.PublicKey.Bytes())
	d := must[[]byte](t)(ec.Bytes())
	good := vaultdata.JWK{Kty: "EC", Crv: "P-521", D: b64.EncodeToString(d), X: b64.EncodeToString(p[1:67]), Y: b64.EncodeToString(p[67:])}
	must[*vaultdata.KeyBundle](t)(b.ImportKey(t.Context(), v, "ec", &vaultdata.ImportKey{Key: &good}))

	swapped := good
	swapped.X, swapped.Y = good.Y, good.X
	broken := *jwk
	broken.D = jwk.N
	public := *jwk
	public.D = ""
	for name, in := range map[string]vaultdata.ImportKey{
		"no key":          {},
		"hsm":             {Key: jwk, HSM: true},
		"protected":       {Key: &vaultdata.JWK{Kty: "RSA", T: "AAAA"}},
		"public only":     {Key: &public},
		"parts don't fit": {Key: &broken},
		"point":           {Key: &swapped},
		"oct size":        {Key: &vaultdata.JWK{Kty: "oct", K: "AAAA"}},
		"HSM type":        {Key: &vaultdata.JWK{Kty: "oct-HSM", K: "AAAA"}},
	} {
		if _, err := b.ImportKey(t.Context(), v, "x", &in); !apierr.Is(err, apierr.BadRequest) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func policy(expiry, afterCreate, beforeExpiry string) *vaultdata.RotationPolicy {
	var p vaultdata.RotationPolicy
	text := fmt.Sprintf(`{"lifetimeActions":[{"trigger":{"timeAfterCreate":%q,"timeBeforeExpiry":%q},"action":{"type":"rotate"}}],"attributes":{"expiryTime":%q}}`, afterCreate, beforeExpiry, expiry)
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		panic(err)
	}
	return &p
}

func TestKey_RotationPolicyActs(t *testing.T) {
	b, v := open(t), vault("u1")
	first := createKey(t, b, v, "k", vaultdata.CreateKey{Kty: "EC", Tags: map[string]string{"a": "b"}})
	if p := must[*vaultdata.RotationPolicy](t)(b.GetRotationPolicy(t.Context(), v, "k")); len(p.LifetimeActions) != 1 || p.LifetimeActions[0].Action.Type != "Notify" {
		t.Errorf("default policy %+v", p)
	}
	must[*vaultdata.RotationPolicy](t)(b.SetRotationPolicy(t.Context(), v, "k", policy("P90D", "P30D", "")))
	b.clock.advance(29 * day)
	if got := must[*vaultdata.KeyBundle](t)(b.GetKey(t.Context(), v, "k", "")); got.Key.KeyID != first.Key.KeyID {
		t.Error("rotated too early")
	}
	b.clock.advance(2 * day)
	got := must[*vaultdata.KeyBundle](t)(b.GetKey(t.Context(), v, "k", ""))
	if got.Key.KeyID == first.Key.KeyID || got.Tags["a"] != "b" || got.Attributes.Expires == nil {
		t.Errorf("not rotated when due: %+v", got)
	}
	if want := b.clock.now().AddDate(0, 0, 90).Unix(); *got.Attributes.Expires != want {
		t.Errorf("expires %d, want %d", *got.Attributes.Expires, want)
	}
	if again := must[*vaultdata.KeyBundle](t)(b.GetKey(t.Context(), v, "k", "")); again.Key.KeyID != got.Key.KeyID {
		t.Error("rotated twice")
	}
	if old := must[*vaultdata.KeyBundle](t)(b.GetKey(t.Context(), v, "k", first.Key.KeyID[len(first.Key.KeyID)-32:])); old.Key.KeyID != first.Key.KeyID {
		t.Error("the old version is gone")
	}
	must[*vaultdata.KeyBundle](t)(b.RotateKey(t.Context(), v, "k"))
}

func TestKey_RotationPolicyRefusals(t *testing.T) {
	b, v := open(t), vault("u1")
	createKey(t, b, v, "k", vaultdata.CreateKey{Kty: "EC"})
	for name, p := range map[string]*vaultdata.RotationPolicy{
		"short expiry":    policy("P27D", "P10D", ""),
		"short trigger":   policy("P90D", "P6D", ""),
		"no room":         policy("P30D", "P28D", ""),
		"both triggers":   policy("P90D", "P30D", "P30D"),
		"no trigger":      policy("P90D", "", ""),
		"no expiry":       policy("", "", "P30D"),
		"not a duration":  policy("90 days", "P30D", ""),
		"order of units":  policy("P3D2Y", "P30D", ""),
		"nothing after T": policy("P90DT", "P30D", ""),
	} {
		if _, err := b.SetRotationPolicy(t.Context(), v, "k", p); !apierr.Is(err, apierr.BadRequest) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestKey_BackupKeepsPolicy(t *testing.T) {
	b, v := open(t), vault("u1")
	k := createKey(t, b, v, "k", vaultdata.CreateKey{Kty: "EC", Crv: "P-256K"})
	must[*vaultdata.RotationPolicy](t)(b.SetRotationPolicy(t.Context(), v, "k", policy("P90D", "P30D", "")))
	blob := must[*vaultdata.Blob](t)(b.BackupKey(t.Context(), v, "k"))
	to := vault("u2")
	got := must[*vaultdata.KeyBundle](t)(b.RestoreKey(t.Context(), to, blob))
	if got.Key.X != k.Key.X {
		t.Error("another key came back")
	}
	if p := must[*vaultdata.RotationPolicy](t)(b.GetRotationPolicy(t.Context(), to, "k")); p.Attributes.ExpiryTime != "P90D" {
		t.Errorf("policy %+v", p)
	}
	must[*vaultdata.OperationResult](t)(b.Sign(t.Context(), to, "k", "", &vaultdata.Operation{Alg: "ES256K", Value: b64.EncodeToString(make([]byte, 32))}))
}
