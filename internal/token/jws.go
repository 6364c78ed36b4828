package token

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"lazurite.dev/internal/strictjson"
)

// MaxTokenBytes is the longest token or assertion that is looked at.
const MaxTokenBytes = 16 << 10

// maxDepth is how deep a header or claims set may nest.
const maxDepth = 12

// skew is how far another machine's clock may be from ours.
const skew = 5 * time.Minute

// b64 decodes strictly: no padding, no stray bits, no line breaks.
var b64 = base64.RawURLEncoding.Strict()

// jws is a token in compact form (RFC 7515 section 7.1), taken apart but not
// yet believed.
type jws struct {
	alg, kid  string
	header    map[string]any
	claims    map[string]any
	signed    string // header and payload as they were signed
	signature []byte
}

// parseJWS takes raw apart. It checks form only: size, three parts, strict
// base64url, JSON objects without doubled members, no critical extensions.
func parseJWS(raw string) (*jws, error) {
	if len(raw) > MaxTokenBytes {
		return nil, fmt.Errorf("it is %d bytes long; at most %d are looked at", len(raw), MaxTokenBytes)
	}
	parts := strings.Split(raw, ".")
	if len(parts) != 3 {
		return nil, fmt.Errorf("it has %d parts; header.payload.signature was expected", len(parts))
	}
	if strings.ContainsAny(raw, "\r\n") { // encoding/base64 skips line breaks
		return nil, errors.New("it holds line breaks")
	}
	header, err := decodeObject(parts[0])
	if err != nil {
		return nil, fmt.Errorf("its header: %w", err)
	}
	j := &jws{header: header, signed: raw[:len(parts[0])+1+len(parts[1])]}
	if j.alg, _ = header["alg"].(string); j.alg == "" {
		return nil, errors.New("its header names no alg")
	}
	if _, crit := header["crit"]; crit {
		return nil, errors.New("its header has crit: no critical extension is supported")
	}
	j.kid, _ = header["kid"].(string)
	if j.claims, err = decodeObject(parts[1]); err != nil {
		return nil, fmt.Errorf("its payload: %w", err)
	}
	if j.signature, err = b64.DecodeString(parts[2]); err != nil {
		return nil, fmt.Errorf("its signature isn't base64url: %w", err)
	}
	return j, nil
}

func decodeObject(part string) (map[string]any, error) {
	b, err := b64.DecodeString(part)
	if err != nil {
		return nil, fmt.Errorf("not base64url: %w", err)
	}
	return strictjson.Object(b, maxDepth)
}

// verify checks the RS256 signature (RFC 7518 section 3.3) with a public key.
func (j *jws) verify(pub *rsa.PublicKey) error {
	sum := sha256.Sum256([]byte(j.signed))
	return rsa.VerifyPKCS1v15(pub, crypto.SHA256, sum[:], j.signature)
}

// text is a claim that must be a string; "" when it is absent or not one.
func (j *jws) text(name string) string {
	s, _ := j.claims[name].(string)
	return s
}

// when is a NumericDate claim (RFC 7519 section 2). ok is false when it is
// absent, not a number or beyond what a date can be.
func (j *jws) when(name string) (t time.Time, ok bool) {
	n, isNum := j.claims[name].(json.Number)
	if !isNum {
		return time.Time{}, false
	}
	f, err := n.Float64()
	if err != nil || f < 0 || f > 253402300799 {
		return time.Time{}, false
	}
	return time.Unix(int64(f), 0), true
}

// texts is a claim that is a list of strings.
func (j *jws) texts(name string) []string {
	list, _ := j.claims[name].([]any)
	var out []string
	for _, v := range list {
		if s, ok := v.(string); ok {
			out = append(out, s)
		}
	}
	return out
}
