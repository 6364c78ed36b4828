// Package secp256k1 signs and verifies on the curve that Key Vault calls
// P-256K and that Go's standard library lacks. Multiplications by secrets take
// the same steps for every secret.
//
// Source: SEC 2 section 2.4.1; the complete formulas are those of Renes,
// Costello and Batina, "Complete addition formulas for prime order elliptic
// curves" (2016), algorithms 7 and 9, for a = 0 and 3b = 21.
package secp256k1

import (
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"
)

// Size is the length in bytes of a scalar and of a coordinate.
const Size = 32

// ErrInvalid is returned for bytes that are no private key.
var ErrInvalid = errors.New("not a secp256k1 private key")

func order() *big.Int {
	n, _ := new(big.Int).SetString("FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141", 16)
	return n
}

// point is a point in homogeneous coordinates; the neutral one has z = 0.
type point struct{ x, y, z element }

func generator() point {
	return point{
		x: element{0x59F2815B16F81798, 0x029BFCDB2DCE28D9, 0x55A06295CE870B07, 0x79BE667EF9DCBBAC},
		y: element{0x9C47D08FFB10D4B8, 0xFD17B448A6855419, 0x5DA4FBFC0E1108A8, 0x483ADA7726A3C465},
		z: element{1},
	}
}

func neutral() point { return point{y: element{1}} }

func (p point) add(q point) point {
	b3 := element{21}
	t0, t1, t2 := p.x.mul(q.x), p.y.mul(q.y), p.z.mul(q.z)
	t3 := p.x.add(p.y).mul(q.x.add(q.y)).sub(t0.add(t1))
	t4 := p.y.add(p.z).mul(q.y.add(q.z)).sub(t1.add(t2))
	y3 := p.x.add(p.z).mul(q.x.add(q.z)).sub(t0.add(t2))
	t0 = t0.add(t0).add(t0)
	t2 = b3.mul(t2)
	z3 := t1.add(t2)
	t1 = t1.sub(t2)
	y3 = b3.mul(y3)
	return point{
		x: t3.mul(t1).sub(t4.mul(y3)),
		y: y3.mul(t0).add(t1.mul(z3)),
		z: z3.mul(t4).add(t0.mul(t3)),
	}
}

func (p point) double() point {
	b3 := element{21}
	t0 := p.y.mul(p.y)
	z3 := t0.add(t0)
	z3 = z3.add(z3)
	z3 = z3.add(z3)
	t1 := p.y.mul(p.z)
	t2 := b3.mul(p.z.mul(p.z))
	x3 := t2.mul(z3)
	y3 := t0.add(t2)
	z3 = t1.mul(z3)
	t0 = t0.sub(t2.add(t2).add(t2))
	y3 = x3.add(t0.mul(y3))
	x3 = t0.mul(p.x.mul(p.y))
	return point{x: x3.add(x3), y: y3, z: z3}
}

// times multiplies p by a scalar of 32 bytes, big-endian.
func (p point) times(k []byte) point {
	r := neutral()
	for _, b := range k {
		for i := 7; i >= 0; i-- {
			r = r.double()
			s := r.add(p)
			bit := uint64(b>>i) & 1
			r = point{choose(bit, s.x, r.x), choose(bit, s.y, r.y), choose(bit, s.z, r.z)}
		}
	}
	return r
}

// affine gives the coordinates; of the neutral point zeros.
func (p point) affine() (x, y element) {
	inv := p.z.inverse()
	return p.x.mul(inv), p.y.mul(inv)
}

// PrivateKey is a scalar between 1 and the order less one, and its point.
type PrivateKey struct {
	d      *big.Int
	public []byte
}

// New reads a private key of 32 bytes, big-endian.
func New(d []byte) (*PrivateKey, error) {
	n := new(big.Int).SetBytes(d)
	if len(d) != Size || n.Sign() == 0 || n.Cmp(order()) >= 0 {
		return nil, ErrInvalid
	}
	x, y := generator().times(d).affine()
	return &PrivateKey{d: n, public: append(append([]byte{4}, x.bytes()...), y.bytes()...)}, nil
}

// Generate makes a key from crypto/rand.
func Generate() (*PrivateKey, error) {
	d, err := randomScalar()
	if err != nil {
		return nil, err
	}
	return New(d.FillBytes(make([]byte, Size)))
}

func randomScalar() (*big.Int, error) {
	for {
		k, err := rand.Int(rand.Reader, order())
		if err != nil {
			return nil, fmt.Errorf("random scalar: %w", err)
		}
		if k.Sign() != 0 {
			return k, nil
		}
	}
}

// Bytes is the scalar, 32 bytes big-endian: the secret itself.
func (k *PrivateKey) Bytes() []byte { return k.d.FillBytes(make([]byte, Size)) }

// Public is the public point, uncompressed (SEC 1 section 2.3.3), 65 bytes.
func (k *PrivateKey) Public() []byte { return append([]byte(nil), k.public...) }

// Sign gives r and s side by side, 64 bytes, for a digest of 32 bytes. The
// arithmetic modulo the order is math/big's, whose time depends on its
// operands; so every secret in it is multiplied by a random number first.
func (k *PrivateKey) Sign(digest []byte) ([]byte, error) {
	n := order()
	e := new(big.Int).SetBytes(digest)
	for {
		nonce, err := randomScalar()
		if err != nil {
			return nil, err
		}
		blind, err := randomScalar()
		if err != nil {
			return nil, err
		}
		x, _ := generator().times(nonce.FillBytes(make([]byte, Size))).affine()
		r := new(big.Int).SetBytes(x.bytes())
		r.Mod(r, n)
		inv := new(big.Int).Mul(nonce, blind)
		inv.ModInverse(inv.Mod(inv, n), n)
		s := new(big.Int).Mul(k.d, blind)
		s.Mul(s.Mod(s, n), r)
		s.Add(s, new(big.Int).Mul(e, blind))
		s.Mul(s.Mod(s, n), inv)
		s.Mod(s, n)
		if r.Sign() != 0 && s.Sign() != 0 {
			out := make([]byte, 2*Size)
			r.FillBytes(out[:Size])
			s.FillBytes(out[Size:])
			return out, nil
		}
	}
}

// Verify reports whether sig is the signature of the digest of 32 bytes under
// the uncompressed public point.
func Verify(public, digest, sig []byte) bool {
	if len(public) != 1+2*Size || public[0] != 4 || len(sig) != 2*Size || len(digest) != Size {
		return false
	}
	x, okx := parse(public[1 : 1+Size])
	y, oky := parse(public[1+Size:])
	if !okx || !oky || !y.mul(y).equal(x.mul(x).mul(x).add(element{7})) {
		return false
	}
	n := order()
	r, s := new(big.Int).SetBytes(sig[:Size]), new(big.Int).SetBytes(sig[Size:])
	if r.Sign() == 0 || s.Sign() == 0 || r.Cmp(n) >= 0 || s.Cmp(n) >= 0 {
		return false
	}
	w := new(big.Int).ModInverse(s, n)
	u1 := new(big.Int).Mul(new(big.Int).SetBytes(digest), w)
	u2 := new(big.Int).Mul(r, w)
	p := generator().times(u1.Mod(u1, n).FillBytes(make([]byte, Size)))
	q := point{x, y, element{1}}.times(u2.Mod(u2, n).FillBytes(make([]byte, Size)))
	sum := p.add(q)
	if sum.z.equal(element{}) {
		return false
	}
	got, _ := sum.affine()
	v := new(big.Int).SetBytes(got.bytes())
	return v.Mod(v, n).Cmp(r) == 0
}
