package endpoints

import "time"

// Sign and Verify are of tokens, for whoever sends what is none.
func Sign(key []byte, uid string, until time.Time) (string, error) {
	return sign(key, claims{Issuer: tokenIssuer, Audience: tokenAudience, UID: uid, NotAfter: until.Unix()})
}

// Verify is nil for a token of the endpoint with the uid.
func Verify(key []byte, uid, raw string, now time.Time) error { return verify(key, uid, raw, now) }
