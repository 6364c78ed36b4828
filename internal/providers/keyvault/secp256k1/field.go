package secp256k1

import (
	"encoding/binary"
	"math/bits"
)

// element is a number modulo p = 2^256 - fold, least significant limb first,
// always fully reduced. No operation branches on values.
type element [4]uint64

// fold is 2^256 modulo p.
const fold = 0x1000003D1

// prime is p.
func prime() element { return element{0xFFFFFFFEFFFFFC2F, ^uint64(0), ^uint64(0), ^uint64(0)} }

// reduce subtracts p once if x, with its carry above 2^256, is at least p.
func reduce(x element, carry uint64) element {
	p := prime()
	var d element
	var b uint64
	d[0], b = bits.Sub64(x[0], p[0], 0)
	d[1], b = bits.Sub64(x[1], p[1], b)
	d[2], b = bits.Sub64(x[2], p[2], b)
	d[3], b = bits.Sub64(x[3], p[3], b)
	_, b = bits.Sub64(carry, 0, b)
	return choose(b, x, d)
}

// choose gives a for 1 and b for 0.
func choose(bit uint64, a, b element) element {
	mask := -bit
	for i := range b {
		b[i] ^= mask & (a[i] ^ b[i])
	}
	return b
}

func (x element) add(y element) element {
	var r element
	var c uint64
	r[0], c = bits.Add64(x[0], y[0], 0)
	r[1], c = bits.Add64(x[1], y[1], c)
	r[2], c = bits.Add64(x[2], y[2], c)
	r[3], c = bits.Add64(x[3], y[3], c)
	return reduce(r, c)
}

func (x element) sub(y element) element {
	var r element
	var b uint64
	r[0], b = bits.Sub64(x[0], y[0], 0)
	r[1], b = bits.Sub64(x[1], y[1], b)
	r[2], b = bits.Sub64(x[2], y[2], b)
	r[3], b = bits.Sub64(x[3], y[3], b)
	p := prime()
	var s element
	var c uint64
	s[0], c = bits.Add64(r[0], p[0], 0)
	s[1], c = bits.Add64(r[1], p[1], c)
	s[2], c = bits.Add64(r[2], p[2], c)
	s[3], _ = bits.Add64(r[3], p[3], c)
	return choose(b, s, r)
}

func (x element) mul(y element) element {
	var t [8]uint64
	for i := range x {
		var carry uint64
		for j := range y {
			hi, lo := bits.Mul64(x[i], y[j])
			var c uint64
			lo, c = bits.Add64(lo, t[i+j], 0)
			hi += c
			lo, c = bits.Add64(lo, carry, 0)
			hi += c
			t[i+j], carry = lo, hi
		}
		t[i+4] = carry
	}
	// Fold the upper half: t = low + high * 2^256 = low + high * fold (mod p).
	var r element
	var carry uint64
	for i := range r {
		hi, lo := bits.Mul64(t[i+4], fold)
		var c uint64
		lo, c = bits.Add64(lo, t[i], 0)
		hi += c
		lo, c = bits.Add64(lo, carry, 0)
		hi += c
		r[i], carry = lo, hi
	}
	hi, lo := bits.Mul64(carry, fold)
	var c uint64
	r[0], c = bits.Add64(r[0], lo, 0)
	r[1], c = bits.Add64(r[1], hi, c)
	r[2], c = bits.Add64(r[2], 0, c)
	r[3], c = bits.Add64(r[3], 0, c)
	return reduce(r, c)
}

// inverse is x^(p-2), and 0 for 0.
func (x element) inverse() element {
	e := prime()
	e[0] -= 2
	r := element{1}
	for i := 255; i >= 0; i-- {
		r = r.mul(r)
		if e[i/64]>>(i%64)&1 == 1 { // the exponent is public
			r = r.mul(x)
		}
	}
	return r
}

func (x element) equal(y element) bool {
	return (x[0]^y[0])|(x[1]^y[1])|(x[2]^y[2])|(x[3]^y[3]) == 0
}

func (x element) bytes() []byte {
	b := make([]byte, 32)
	for i := range x {
		binary.BigEndian.PutUint64(b[24-8*i:], x[i])
	}
	return b
}

// parse reads 32 bytes, big-endian, and reports whether they are below p.
func parse(b []byte) (element, bool) {
	var x element
	for i := range x {
		x[i] = binary.BigEndian.Uint64(b[24-8*i:])
	}
	return x, reduce(x, 0).equal(x)
}
