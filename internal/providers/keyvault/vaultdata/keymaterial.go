package vaultdata

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/providers/keyvault/secp256k1"
)

// Key types as requests and answers name them.
const (
	ktyRSA = "RSA"
	ktyEC  = "EC"
	ktyOct = "oct"
)

// Names of the elliptic curves.
const (
	curveP256  = "P-256"
	curveP384  = "P-384"
	curveP521  = "P-521"
	curveP256K = "P-256K"
)

// Words of key_ops.
const (
	opEncrypt = "encrypt"
	opDecrypt = "decrypt"
	opSign    = "sign"
	opVerify  = "verify"
	opWrap    = "wrapKey"
	opUnwrap  = "unwrapKey"
)

// publicJWK are the parts of a key that anyone may see (RFC 7518 section 6).
type publicJWK struct {
	N []byte `json:"n,omitempty"`
	E []byte `json:"e,omitempty"`
	X []byte `json:"x,omitempty"`
	Y []byte `json:"y,omitempty"`
}

// keyBody is what a version of a key holds. Sealed is PKCS#8 of an RSA or NIST
// key, the scalar of a P-256K key, the bytes of an oct key.
type keyBody struct {
	Kty    string    `json:"kty"`
	Curve  string    `json:"crv,omitempty"`
	Size   int       `json:"size,omitempty"` // bits
	Ops    []string  `json:"key_ops"`
	Public publicJWK `json:"public,omitzero"`
	Sealed []byte    `json:"sealed"`
}

func keySealed(b *keyBody) []*[]byte { return []*[]byte{&b.Sealed} }

// material is a key in the clear; exactly one field is set.
type material struct {
	rsa  *rsa.PrivateKey
	ec   *ecdsa.PrivateKey
	k256 *secp256k1.PrivateKey
	oct  []byte
}

// signer is the key as crypto/x509 wants it, nil where it can't serve there.
func (m *material) signer() crypto.Signer {
	switch {
	case m.rsa != nil:
		return m.rsa
	case m.ec != nil:
		return m.ec
	default:
		return nil
	}
}

// keySpec says which key to make.
type keySpec struct {
	kty   string
	curve string
	size  int
}

func unsupportedKty(kty string) error {
	if base, ok := strings.CutSuffix(kty, "-HSM"); ok {
		return badProperty("kty", "%s keys live in a hardware security module, and this service has none; a software-protected key has the type %s", clip(kty), clip(base))
	}
	return badProperty("kty", "the type %q is not one of RSA, EC, oct", clip(kty))
}

// check completes the spec with Azure's defaults and refuses unknown ones.
func (s keySpec) check() (keySpec, error) {
	switch s.kty {
	case ktyRSA:
		if s.curve != "" {
			return s, badProperty("crv", "an RSA key has no curve")
		}
		if s.size == 0 {
			s.size = 2048
		}
		if !slices.Contains([]int{2048, 3072, 4096}, s.size) {
			return s, badProperty("key_size", "an RSA key has 2048, 3072 or 4096 bits, not %d", s.size)
		}
	case ktyEC:
		if s.curve == "" {
			s.curve = curveP256
		}
		bits, ok := map[string]int{curveP256: 256, curveP384: 384, curveP521: 521, curveP256K: 256}[s.curve]
		if !ok {
			return s, badProperty("crv", "the curve %q is not one of P-256, P-384, P-521, P-256K", clip(s.curve))
		}
		if s.size != 0 && s.size != bits {
			return s, badProperty("key_size", "a key on %s has %d bits, not %d", s.curve, bits, s.size)
		}
		s.size = 0
	case ktyOct:
		if s.curve != "" {
			return s, badProperty("crv", "an oct key has no curve")
		}
		if s.size == 0 {
			s.size = 256
		}
		if !slices.Contains([]int{128, 192, 256}, s.size) {
			return s, badProperty("key_size", "an oct key has 128, 192 or 256 bits, not %d", s.size)
		}
	default:
		return s, unsupportedKty(s.kty)
	}
	return s, nil
}

func nistCurve(name string) elliptic.Curve {
	switch name {
	case curveP256:
		return elliptic.P256()
	case curveP384:
		return elliptic.P384()
	case curveP521:
		return elliptic.P521()
	default:
		return nil
	}
}

func curveName(c elliptic.Curve) string {
	switch c {
	case elliptic.P256():
		return curveP256
	case elliptic.P384():
		return curveP384
	case elliptic.P521():
		return curveP521
	default:
		return ""
	}
}

// generate makes a key. An RSA key of 4096 bits takes seconds.
func generate(s keySpec) (*material, error) {
	m := &material{}
	var err error
	switch {
	case s.kty == ktyRSA:
		m.rsa, err = rsa.GenerateKey(rand.Reader, s.size)
	case s.kty == ktyOct:
		m.oct = make([]byte, s.size/8)
		_, err = rand.Read(m.oct)
	case s.curve == curveP256K:
		m.k256, err = secp256k1.Generate()
	default:
		m.ec, err = ecdsa.GenerateKey(nistCurve(s.curve), rand.Reader)
	}
	if err != nil {
		return nil, fmt.Errorf("generate %s key: %w", s.kty, err)
	}
	return m, nil
}

// describe is m's body without key_ops and sealed value.
func (m *material) describe() (keyBody, error) {
	switch {
	case m.rsa != nil:
		return keyBody{Kty: ktyRSA, Size: m.rsa.N.BitLen(), Public: publicJWK{N: m.rsa.N.Bytes(), E: exponentBytes(m.rsa.E)}}, nil
	case m.ec != nil:
		p, err := m.ec.PublicKey.Bytes()
		if err != nil {
			return keyBody{}, fmt.Errorf("encode EC key: %w", err)
		}
		return keyBody{Kty: ktyEC, Curve: curveName(m.ec.Curve), Public: splitPoint(p)}, nil
	case m.k256 != nil:
		return keyBody{Kty: ktyEC, Curve: curveP256K, Public: splitPoint(m.k256.Public())}, nil
	default:
		return keyBody{Kty: ktyOct, Size: len(m.oct) * 8}, nil
	}
}

// splitPoint takes an uncompressed point (SEC 1 section 2.3.3) apart.
func splitPoint(p []byte) publicJWK {
	n := (len(p) - 1) / 2
	return publicJWK{X: p[1 : 1+n], Y: p[1+n:]}
}

func exponentBytes(e int) []byte {
	var b []byte
	for ; e > 0; e >>= 8 {
		b = append([]byte{byte(e)}, b...)
	}
	return b
}

// encode is what a key's Sealed holds before it is sealed.
func (m *material) encode() ([]byte, error) {
	switch {
	case m.k256 != nil:
		return m.k256.Bytes(), nil
	case m.oct != nil:
		return m.oct, nil
	default:
		b, err := x509.MarshalPKCS8PrivateKey(m.signer())
		if err != nil {
			return nil, fmt.Errorf("encode key: %w", err)
		}
		return b, nil
	}
}

// decodeMaterial reads what encode wrote.
func decodeMaterial(b *keyBody, plain []byte) (*material, error) {
	switch {
	case b.Kty == ktyOct:
		return &material{oct: plain}, nil
	case b.Curve == curveP256K:
		k, err := secp256k1.New(plain)
		if err != nil {
			return nil, fmt.Errorf("decode key: %w", err)
		}
		return &material{k256: k}, nil
	}
	k, err := x509.ParsePKCS8PrivateKey(plain)
	if err != nil {
		return nil, fmt.Errorf("decode key: %w", err)
	}
	return materialOf(k)
}

// materialOf takes what crypto/x509 and PKCS#12 give.
func materialOf(k any) (*material, error) {
	switch k := k.(type) {
	case *rsa.PrivateKey:
		return &material{rsa: k}, nil
	case *ecdsa.PrivateKey:
		if curveName(k.Curve) != "" {
			return &material{ec: k}, nil
		}
	}
	return nil, apierr.New(apierr.BadRequest, "BadParameter", "The private key is neither RSA nor on one of the curves P-256, P-384, P-521.")
}

// defaultOps are the key_ops of a key made without.
func defaultOps(kty string) []string {
	switch kty {
	case ktyRSA:
		return []string{opEncrypt, opDecrypt, opSign, opVerify, opWrap, opUnwrap}
	case ktyEC:
		return []string{opSign, opVerify}
	default:
		return []string{opEncrypt, opDecrypt, opWrap, opUnwrap}
	}
}

// checkOps refuses words that are no operations or not of this key type.
func checkOps(kty string, ops []string) error {
	allowed := defaultOps(kty)
	for i, op := range ops {
		if op == "export" || op == "import" {
			return badProperty("key_ops", "%q is for keys that leave or enter a hardware security module, and this service has none", op)
		}
		if !slices.Contains(allowed, op) {
			return badProperty("key_ops", "a key of type %s allows %s, not %q", kty, strings.Join(allowed, ", "), clip(op))
		}
		if slices.Contains(ops[:i], op) {
			return badProperty("key_ops", "%q is given twice", op)
		}
	}
	return nil
}
