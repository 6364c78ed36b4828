package secp256k1_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"testing"

	"lazurite.dev/internal/providers/keyvault/secp256k1"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestPublic_KnownPoints checks multiples of the generator that are published
// as test vectors of the curve.
func TestPublic_KnownPoints(t *testing.T) {
	for d, want := range map[string]string{
		"0000000000000000000000000000000000000000000000000000000000000001": "0479be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8",
		"0000000000000000000000000000000000000000000000000000000000000002": "04c6047f9441ed7d6d3045406e95c07cd85c778e4b8cef3ca7abac09b95c709ee51ae168fea63dc339a3c58419466ceaeef7f632653266d0e1236431a950cfe52a",
		"0000000000000000000000000000000000000000000000000000000000000003": "04f9308a019258c31049344f85f89d5229b531c845836f99b08601f113bce036f9388f7b0f632de8140fe337e62a37f3566500a99934c2231b6cb9fd7584b8e672",
		"fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364140": "0479be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798b7c52588d95c3b9aa25b0403f1eef75702e84bb7597aabe663b82f6f04ef2777",
	} {
		k, err := secp256k1.New(unhex(t, d))
		if err != nil {
			t.Fatalf("New(%s): %v", d, err)
		}
		if got := hex.EncodeToString(k.Public()); got != want {
			t.Errorf("point of %s\n got %s\nwant %s", d, got, want)
		}
	}
}

func TestNew_RefusesWhatIsNoScalar(t *testing.T) {
	for _, s := range []string{
		"", "01",
		"0000000000000000000000000000000000000000000000000000000000000000",
		"fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141",
	} {
		if _, err := secp256k1.New(unhex(t, s)); err == nil {
			t.Errorf("New(%q) succeeded", s)
		}
	}
}

func TestSign_VerifiesAndNothingElseDoes(t *testing.T) {
	k, err := secp256k1.Generate()
	if err != nil {
		t.Fatal(err)
	}
	other, err := secp256k1.Generate()
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		digest := sha256.Sum256([]byte{byte(i)})
		sig, err := k.Sign(digest[:])
		if err != nil {
			t.Fatal(err)
		}
		if !secp256k1.Verify(k.Public(), digest[:], sig) {
			t.Fatal("a good signature is refused")
		}
		if secp256k1.Verify(other.Public(), digest[:], sig) {
			t.Fatal("another key's signature is taken")
		}
		bad := bytes.Clone(sig)
		bad[i] ^= 1
		if secp256k1.Verify(k.Public(), digest[:], bad) {
			t.Fatal("a changed signature is taken")
		}
		digest[0] ^= 1
		if secp256k1.Verify(k.Public(), digest[:], sig) {
			t.Fatal("a signature of another digest is taken")
		}
	}
}

func TestVerify_RefusesPointOffTheCurve(t *testing.T) {
	k, err := secp256k1.Generate()
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(nil)
	sig, err := k.Sign(digest[:])
	if err != nil {
		t.Fatal(err)
	}
	public := k.Public()
	public[64] ^= 1
	if secp256k1.Verify(public, digest[:], sig) {
		t.Fatal("a point off the curve is taken")
	}
}

// TestVerify_KnownSignature is a signature by RFC 6979 with SHA-256 of
// "Satoshi Nakamoto" under the key 1, published with several libraries.
func TestVerify_KnownSignature(t *testing.T) {
	k, err := secp256k1.New(append(make([]byte, 31), 1))
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("Satoshi Nakamoto"))
	sig := unhex(t, "934b1ea10a4b3c1757e2b0c017d0b6143ce3c9a7e6a4a49860d7a6ab210ee3d8"+
		"2442ce9d2b916064108014783e923ec36b49743e2ffa1c4496f01a512aafd9e5")
	if !secp256k1.Verify(k.Public(), digest[:], sig) {
		t.Fatal("the known signature is refused")
	}
}
