package vaultdata

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"math/big"

	"lazurite.dev/internal/providers/keyvault/secp256k1"
)

// JWK is a JSON Web Key in requests (Import Key). Byte fields are base64url.
// Source: RFC 7517, RFC 7518 section 6.
type JWK struct {
	Kty    string   `json:"kty"`
	KeyOps []string `json:"key_ops"`
	Crv    string   `json:"crv"`
	N      string   `json:"n"`
	E      string   `json:"e"`
	D      string   `json:"d"`
	P      string   `json:"p"`
	Q      string   `json:"q"`
	DP     string   `json:"dp"`
	DQ     string   `json:"dq"`
	QI     string   `json:"qi"`
	X      string   `json:"x"`
	Y      string   `json:"y"`
	K      string   `json:"k"`
	T      string   `json:"key_hsm"`
}

// maxKeyField bounds the text of one number of a JWK: 16384 bits are enough
// for any key that is taken.
const maxKeyField = 2800

// material reads the private key and refuses one that does not fit its public
// part.
func (j *JWK) material() (*material, error) {
	for _, s := range []string{j.N, j.E, j.D, j.P, j.Q, j.DP, j.DQ, j.QI, j.X, j.Y, j.K} {
		if len(s) > maxKeyField {
			return nil, badProperty("key", "a number of the key is too long")
		}
	}
	if j.T != "" {
		return nil, badProperty("key_hsm", "keys wrapped for a hardware security module cannot be imported: this service has none")
	}
	switch j.Kty {
	case ktyRSA:
		return j.rsa()
	case ktyEC:
		return j.ec()
	case ktyOct:
		b, err := decode64(j.K, "k")
		if err != nil {
			return nil, err
		}
		if _, err := (keySpec{kty: ktyOct, size: len(b) * 8}).check(); err != nil {
			return nil, err
		}
		return &material{oct: b}, nil
	default:
		return nil, unsupportedKty(j.Kty)
	}
}

// number reads a required unsigned integer.
func number(s, field string) (*big.Int, error) {
	b, err := decode64(s, field)
	if err != nil {
		return nil, err
	}
	return new(big.Int).SetBytes(b), nil
}

func (j *JWK) rsa() (*material, error) {
	var n [5]*big.Int
	for i, f := range []struct{ s, name string }{{j.N, "n"}, {j.E, "e"}, {j.D, "d"}, {j.P, "p"}, {j.Q, "q"}} {
		v, err := number(f.s, f.name)
		if err != nil {
			return nil, err
		}
		n[i] = v
	}
	if !n[1].IsInt64() || n[1].Int64() < 3 || n[1].Int64() > 1<<31-1 {
		return nil, badProperty("e", "the public exponent is out of range")
	}
	if _, err := (keySpec{kty: ktyRSA, size: n[0].BitLen()}).check(); err != nil {
		return nil, err
	}
	k := &rsa.PrivateKey{
		PublicKey: rsa.PublicKey{N: n[0], E: int(n[1].Int64())},
		D:         n[2],
		Primes:    []*big.Int{n[3], n[4]},
	}
	if err := k.Validate(); err != nil {
		return nil, badProperty("key", "the parts of the RSA key do not fit each other").WithCause(err)
	}
	k.Precompute()
	return &material{rsa: k}, nil
}

func (j *JWK) ec() (*material, error) {
	if _, err := (keySpec{kty: ktyEC, curve: j.Crv}).check(); err != nil {
		return nil, err
	}
	var n [3]*big.Int
	for i, f := range []struct{ s, name string }{{j.D, "d"}, {j.X, "x"}, {j.Y, "y"}} {
		v, err := number(f.s, f.name)
		if err != nil {
			return nil, err
		}
		n[i] = v
	}
	mismatch := badProperty("key", "the parts of the EC key do not fit each other")
	size := 32
	curve := nistCurve(j.Crv)
	if curve != nil {
		size = (curve.Params().BitSize + 7) / 8
	}
	for _, v := range n {
		if (v.BitLen()+7)/8 > size {
			return nil, mismatch
		}
	}
	d, point := n[0].FillBytes(make([]byte, size)), append([]byte{4}, n[1].FillBytes(make([]byte, size))...)
	point = append(point, n[2].FillBytes(make([]byte, size))...)
	if curve == nil {
		k, err := secp256k1.New(d)
		if err != nil || string(k.Public()) != string(point) {
			return nil, mismatch
		}
		return &material{k256: k}, nil
	}
	k, err := ecdsa.ParseRawPrivateKey(curve, d)
	if err != nil {
		return nil, mismatch.WithCause(err)
	}
	public, err := k.PublicKey.Bytes()
	if err != nil || string(public) != string(point) {
		return nil, mismatch
	}
	return &material{ec: k}, nil
}
