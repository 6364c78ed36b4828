package token

import (
	"crypto/rsa"
	"errors"
	"fmt"
	"math/big"

	"lazurite.dev/internal/strictjson"
)

// maxKeys is how many keys an issuer's set may hold.
const maxKeys = 200

// parseJWKS reads a key set (RFC 7517) and keeps what can check RS256: RSA
// keys of 2048 to 8192 bits meant for signatures, each with an id that no
// other key of the set has. Keys of other kinds are left out.
func parseJWKS(b []byte) (map[string]*rsa.PublicKey, error) {
	doc, err := strictjson.Object(b, maxDepth)
	if err != nil {
		return nil, fmt.Errorf("the key set: %w", err)
	}
	list, ok := doc["keys"].([]any)
	if !ok {
		return nil, errors.New("the key set has no list of keys")
	}
	if len(list) > maxKeys {
		return nil, fmt.Errorf("the key set holds %d keys; at most %d are looked at", len(list), maxKeys)
	}
	keys := map[string]*rsa.PublicKey{}
	seen := map[string]bool{}
	for _, v := range list {
		m, _ := v.(map[string]any)
		kid, _ := m["kid"].(string)
		if kid == "" {
			continue
		}
		if seen[kid] {
			return nil, fmt.Errorf("the key set has two keys with the id %q", short(kid))
		}
		seen[kid] = true
		if pub := rsaKey(m); pub != nil {
			keys[kid] = pub
		}
	}
	return keys, nil
}

// rsaKey is the public key that m describes, nil if it isn't one for RS256.
func rsaKey(m map[string]any) *rsa.PublicKey {
	if m["kty"] != "RSA" {
		return nil
	}
	if use, has := m["use"]; has && use != "sig" {
		return nil
	}
	if alg, has := m["alg"]; has && alg != "RS256" {
		return nil
	}
	n, e := bigInt(m["n"]), bigInt(m["e"])
	if n == nil || e == nil || n.BitLen() < 2048 || n.BitLen() > 8192 || n.Bit(0) == 0 {
		return nil
	}
	if e.BitLen() > 31 || e.Int64() < 3 || e.Bit(0) == 0 {
		return nil
	}
	return &rsa.PublicKey{N: n, E: int(e.Int64())}
}

func bigInt(v any) *big.Int {
	s, _ := v.(string)
	b, err := b64.DecodeString(s)
	if err != nil || len(b) == 0 || len(b) > 1100 {
		return nil
	}
	return new(big.Int).SetBytes(b)
}
