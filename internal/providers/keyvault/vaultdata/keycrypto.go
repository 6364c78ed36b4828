package vaultdata

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" // RSA-OAEP is defined with it (RFC 8017 appendix B.1)
	"crypto/sha256"
	"crypto/subtle"
	"encoding/asn1"
	"encoding/binary"
	"fmt"
	"math/big"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/providers/keyvault/secp256k1"
)

// cryptoIn are the inputs of encrypt, decrypt, wrapKey and unwrapKey.
type cryptoIn struct {
	alg                 string
	value, iv, aad, tag []byte
}

// cryptoOut are their results; iv, aad and tag are nil for RSA.
type cryptoOut struct {
	value, iv, aad, tag []byte
}

// failed is the one answer for whatever does not decrypt, so that it tells
// nothing of the reason.
func failed(op string) error {
	return apierr.New(apierr.BadRequest, "BadParameter", "The %s operation failed: the value was not made with this key and algorithm, or it was changed.", op)
}

func unknownAlgorithm(alg, op string) error {
	return badProperty("alg", "the algorithm %q is not one that %s knows", clip(alg), op)
}

func incompatible(alg, kty string, want ...string) error {
	return apierr.New(apierr.BadRequest, "BadParameter",
		"Key and algorithm are incompatible. The key is of type '%s', and algorithm '%s' can only be used with a key of type '%s'.", kty, clip(alg), strings.Join(want, "' or '"))
}

// ktyOf names the type of m for messages.
func (m *material) ktyOf() string {
	switch {
	case m.rsa != nil:
		return ktyRSA
	case m.oct != nil:
		return ktyOct
	default:
		return ktyEC
	}
}

// encrypt serves encrypt and wrapKey.
func (m *material) encrypt(op string, in cryptoIn) (cryptoOut, error) {
	switch in.alg {
	case "RSA1_5", "RSA-OAEP", "RSA-OAEP-256":
		if m.rsa == nil {
			return cryptoOut{}, incompatible(in.alg, m.ktyOf(), ktyRSA)
		}
		return m.rsaEncrypt(in)
	}
	family, block, err := m.aesFor(op, in.alg)
	if err != nil {
		return cryptoOut{}, err
	}
	switch family {
	case "KW":
		out, err := wrapAES(block, in.value)
		return cryptoOut{value: out}, err
	case "GCM":
		if len(in.iv) != 0 {
			return cryptoOut{}, badProperty("iv", "the service chooses the initialization vector of AES-GCM, because one that is used twice reveals the key stream")
		}
		return gcmEncrypt(block, in)
	default:
		return cbcEncrypt(block, in, family == "CBCPAD")
	}
}

// decrypt serves decrypt and unwrapKey.
func (m *material) decrypt(op string, in cryptoIn) (cryptoOut, error) {
	switch in.alg {
	case "RSA1_5", "RSA-OAEP", "RSA-OAEP-256":
		if m.rsa == nil {
			return cryptoOut{}, incompatible(in.alg, m.ktyOf(), ktyRSA)
		}
		return m.rsaDecrypt(op, in)
	}
	family, block, err := m.aesFor(op, in.alg)
	if err != nil {
		return cryptoOut{}, err
	}
	switch family {
	case "KW":
		out, err := unwrapAES(block, in.value)
		if err != nil {
			return cryptoOut{}, failed(op)
		}
		return cryptoOut{value: out}, nil
	case "GCM":
		return gcmDecrypt(block, op, in)
	default:
		return cbcDecrypt(block, op, in, family == "CBCPAD")
	}
}

// aesFor splits a name such as A256GCM and checks it against key and operation.
func (m *material) aesFor(op, alg string) (string, cipher.Block, error) {
	var bits int
	var family string
	if n, err := fmt.Sscanf(alg, "A%3d%s", &bits, &family); n != 2 || err != nil {
		return "", nil, unknownAlgorithm(alg, op)
	}
	wrap := op == opWrap || op == opUnwrap
	known := family == "KW" && wrap || (family == "GCM" || family == "CBC" || family == "CBCPAD") && !wrap
	if !known || bits != 128 && bits != 192 && bits != 256 {
		return "", nil, unknownAlgorithm(alg, op)
	}
	if m.oct == nil {
		return "", nil, incompatible(alg, m.ktyOf(), ktyOct)
	}
	if len(m.oct)*8 != bits {
		return "", nil, badProperty("alg", "%s needs a key of %d bits, and this one has %d", alg, bits, len(m.oct)*8)
	}
	block, err := aes.NewCipher(m.oct)
	if err != nil {
		return "", nil, fmt.Errorf("aes: %w", err)
	}
	return family, block, nil
}

func (m *material) rsaEncrypt(in cryptoIn) (cryptoOut, error) {
	var out []byte
	var err error
	pub := &m.rsa.PublicKey
	switch in.alg {
	case "RSA1_5":
		//lint:ignore SA1019 Key Vault offers RSA1_5, and callers choose it by name
		out, err = rsa.EncryptPKCS1v15(rand.Reader, pub, in.value)
	case "RSA-OAEP":
		out, err = rsa.EncryptOAEP(sha1.New(), rand.Reader, pub, in.value, nil)
	default:
		out, err = rsa.EncryptOAEP(sha256.New(), rand.Reader, pub, in.value, nil)
	}
	if err != nil {
		return cryptoOut{}, badProperty("value", "%d bytes are too many for %s with a key of %d bits", len(in.value), in.alg, pub.N.BitLen()).WithCause(err)
	}
	return cryptoOut{value: out}, nil
}

func (m *material) rsaDecrypt(op string, in cryptoIn) (cryptoOut, error) {
	var out []byte
	var err error
	switch in.alg {
	case "RSA1_5":
		//lint:ignore SA1019 Key Vault offers RSA1_5, and callers choose it by name
		out, err = rsa.DecryptPKCS1v15(nil, m.rsa, in.value)
	case "RSA-OAEP":
		out, err = rsa.DecryptOAEP(sha1.New(), nil, m.rsa, in.value, nil)
	default:
		out, err = rsa.DecryptOAEP(sha256.New(), nil, m.rsa, in.value, nil)
	}
	if err != nil {
		return cryptoOut{}, failed(op)
	}
	return cryptoOut{value: out}, nil
}

const gcmTag = 16

func gcmEncrypt(block cipher.Block, in cryptoIn) (cryptoOut, error) {
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return cryptoOut{}, fmt.Errorf("gcm: %w", err)
	}
	iv := make([]byte, gcm.NonceSize())
	_, _ = rand.Read(iv) // never fails
	out := gcm.Seal(nil, iv, in.value, in.aad)
	cut := len(out) - gcmTag
	return cryptoOut{value: out[:cut], iv: iv, tag: out[cut:], aad: in.aad}, nil
}

func gcmDecrypt(block cipher.Block, op string, in cryptoIn) (cryptoOut, error) {
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return cryptoOut{}, fmt.Errorf("gcm: %w", err)
	}
	if len(in.iv) != gcm.NonceSize() {
		return cryptoOut{}, badProperty("iv", "AES-GCM needs the initialization vector of %d bytes that encrypt answered", gcm.NonceSize())
	}
	if len(in.tag) != gcmTag {
		return cryptoOut{}, badProperty("tag", "AES-GCM needs the authentication tag of %d bytes that encrypt answered", gcmTag)
	}
	out, err := gcm.Open(nil, in.iv, append(bytes.Clone(in.value), in.tag...), in.aad)
	if err != nil {
		return cryptoOut{}, failed(op)
	}
	return cryptoOut{value: out}, nil
}

func checkCBC(in cryptoIn) error {
	if len(in.iv) != aes.BlockSize {
		return badProperty("iv", "AES-CBC needs an initialization vector of %d bytes", aes.BlockSize)
	}
	if len(in.aad) != 0 || len(in.tag) != 0 {
		return badProperty("alg", "AES-CBC does not authenticate: aad and tag can't be used with it")
	}
	return nil
}

func cbcEncrypt(block cipher.Block, in cryptoIn, pad bool) (cryptoOut, error) {
	if err := checkCBC(in); err != nil {
		return cryptoOut{}, err
	}
	plain := bytes.Clone(in.value)
	if pad {
		n := aes.BlockSize - len(plain)%aes.BlockSize
		plain = append(plain, bytes.Repeat([]byte{byte(n)}, n)...)
	}
	if len(plain) == 0 || len(plain)%aes.BlockSize != 0 {
		return cryptoOut{}, badProperty("value", "AES-CBC without padding needs a multiple of %d bytes", aes.BlockSize)
	}
	cipher.NewCBCEncrypter(block, in.iv).CryptBlocks(plain, plain)
	return cryptoOut{value: plain, iv: in.iv}, nil
}

func cbcDecrypt(block cipher.Block, op string, in cryptoIn, pad bool) (cryptoOut, error) {
	if err := checkCBC(in); err != nil {
		return cryptoOut{}, err
	}
	out := bytes.Clone(in.value)
	if len(out) == 0 || len(out)%aes.BlockSize != 0 {
		return cryptoOut{}, badProperty("value", "the value is not a multiple of %d bytes", aes.BlockSize)
	}
	cipher.NewCBCDecrypter(block, in.iv).CryptBlocks(out, out)
	if !pad {
		return cryptoOut{value: out}, nil
	}
	n := int(out[len(out)-1])
	good := subtle.ConstantTimeLessOrEq(1, n) & subtle.ConstantTimeLessOrEq(n, aes.BlockSize)
	for i := 1; i <= aes.BlockSize; i++ {
		inPad := subtle.ConstantTimeLessOrEq(i, n)
		same := subtle.ConstantTimeByteEq(out[len(out)-i], byte(n))
		good &= subtle.ConstantTimeSelect(inPad, same, 1)
	}
	if good != 1 {
		return cryptoOut{}, failed(op)
	}
	return cryptoOut{value: out[:len(out)-n]}, nil
}

// kwIV is the initial value of RFC 3394 section 2.2.3.1.
const kwIV = 0xA6A6A6A6A6A6A6A6

// wrapAES is AES key wrap (RFC 3394 section 2.2.1).
func wrapAES(block cipher.Block, key []byte) ([]byte, error) {
	if len(key) < 16 || len(key)%8 != 0 {
		return nil, badProperty("value", "AES key wrap needs a key of at least 16 bytes in steps of 8")
	}
	n := len(key) / 8
	out := make([]byte, 8+len(key))
	copy(out[8:], key)
	a := uint64(kwIV)
	var b [16]byte
	for j := range 6 {
		for i := 1; i <= n; i++ {
			binary.BigEndian.PutUint64(b[:8], a)
			copy(b[8:], out[8*i:8*i+8])
			block.Encrypt(b[:], b[:])
			a = binary.BigEndian.Uint64(b[:8]) ^ uint64(n*j+i)
			copy(out[8*i:], b[8:])
		}
	}
	binary.BigEndian.PutUint64(out, a)
	return out, nil
}

// unwrapAES is the inverse (RFC 3394 section 2.2.2).
func unwrapAES(block cipher.Block, wrapped []byte) ([]byte, error) {
	if len(wrapped) < 24 || len(wrapped)%8 != 0 {
		return nil, failed(opUnwrap)
	}
	n := len(wrapped)/8 - 1
	out := bytes.Clone(wrapped)
	a := binary.BigEndian.Uint64(out)
	var b [16]byte
	for j := 5; j >= 0; j-- {
		for i := n; i >= 1; i-- {
			binary.BigEndian.PutUint64(b[:8], a^uint64(n*j+i))
			copy(b[8:], out[8*i:8*i+8])
			block.Decrypt(b[:], b[:])
			a = binary.BigEndian.Uint64(b[:8])
			copy(out[8*i:], b[8:])
		}
	}
	var want, got [8]byte
	binary.BigEndian.PutUint64(want[:], kwIV)
	binary.BigEndian.PutUint64(got[:], a)
	if subtle.ConstantTimeCompare(want[:], got[:]) != 1 {
		return nil, failed(opUnwrap)
	}
	return out[8:], nil
}

// signAlg describes a signature algorithm (RFC 7518 section 3).
type signAlg struct {
	hash  crypto.Hash
	pss   bool
	curve string // "" is RSA
}

func findSignAlg(alg, op string) (signAlg, error) {
	hashes := map[string]crypto.Hash{"256": crypto.SHA256, "384": crypto.SHA384, "512": crypto.SHA512, "256K": crypto.SHA256}
	curves := map[string]string{"256": curveP256, "384": curveP384, "512": curveP521, "256K": curveP256K}
	if len(alg) > 2 {
		if h, ok := hashes[alg[2:]]; ok {
			switch {
			case alg[:2] == "ES":
				return signAlg{hash: h, curve: curves[alg[2:]]}, nil
			case (alg[:2] == "RS" || alg[:2] == "PS") && alg[2:] != "256K":
				return signAlg{hash: h, pss: alg[:2] == "PS"}, nil
			}
		}
	}
	return signAlg{}, unknownAlgorithm(alg, op)
}

// signFor finds the algorithm and checks key and digest against it.
func (m *material) signFor(op, alg string, digest []byte) (signAlg, error) {
	a, err := findSignAlg(alg, op)
	if err != nil {
		return a, err
	}
	if a.curve == "" {
		if m.rsa == nil {
			return a, incompatible(alg, m.ktyOf(), ktyRSA)
		}
	} else {
		have := ""
		switch {
		case m.ec != nil:
			have = curveName(m.ec.Curve)
		case m.k256 != nil:
			have = curveP256K
		default:
			return a, incompatible(alg, m.ktyOf(), ktyEC)
		}
		if have != a.curve {
			return a, badProperty("alg", "%s needs a key on the curve %s, and this one is on %s", alg, a.curve, have)
		}
	}
	if len(digest) != a.hash.Size() {
		return a, badProperty("value", "%s signs a digest of %d bytes, and this one has %d", alg, a.hash.Size(), len(digest))
	}
	return a, nil
}

// sign gives the signature of a digest; of ECDSA r and s side by side.
func (m *material) sign(alg string, digest []byte) ([]byte, error) {
	a, err := m.signFor(opSign, alg, digest)
	if err != nil {
		return nil, err
	}
	switch {
	case a.curve == curveP256K:
		return m.k256.Sign(digest)
	case a.curve != "":
		return m.signEC(digest)
	case a.pss:
		return rsa.SignPSS(rand.Reader, m.rsa, a.hash, digest, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
	default:
		return rsa.SignPKCS1v15(nil, m.rsa, a.hash, digest)
	}
}

func (m *material) signEC(digest []byte) ([]byte, error) {
	der, err := ecdsa.SignASN1(rand.Reader, m.ec, digest)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	var sig struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &sig); err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	size := (m.ec.Curve.Params().BitSize + 7) / 8
	out := make([]byte, 2*size)
	sig.R.FillBytes(out[:size])
	sig.S.FillBytes(out[size:])
	return out, nil
}

// verify reports whether sig is the signature of the digest.
func (m *material) verify(alg string, digest, sig []byte) (bool, error) {
	a, err := m.signFor(opVerify, alg, digest)
	if err != nil {
		return false, err
	}
	switch {
	case a.curve == curveP256K:
		return secp256k1.Verify(m.k256.Public(), digest, sig), nil
	case a.curve != "":
		size := (m.ec.Curve.Params().BitSize + 7) / 8
		if len(sig) != 2*size {
			return false, nil
		}
		r, s := new(big.Int).SetBytes(sig[:size]), new(big.Int).SetBytes(sig[size:])
		return ecdsa.Verify(&m.ec.PublicKey, digest, r, s), nil
	case a.pss:
		return rsa.VerifyPSS(&m.rsa.PublicKey, a.hash, digest, sig, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil, nil
	default:
		return rsa.VerifyPKCS1v15(&m.rsa.PublicKey, a.hash, digest, sig) == nil, nil
	}
}
