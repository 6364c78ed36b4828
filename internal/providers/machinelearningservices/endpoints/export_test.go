package endpoints

import (
	"context"
	"log/slog"
	"time"
)

// Looks gives what Autoscale does at each tick.
func (s *Service) Looks(load Load, scaler Scaler) func(context.Context) {
	return (&scaling{s: s, load: load, scaler: scaler, log: slog.New(slog.DiscardHandler), known: map[string]*scaled{}}).all
}

// Sign and Verify are of tokens, for whoever sends what is none.
func Sign(key []byte, uid string, until time.Time) (string, error) {
	return sign(key, claims{Issuer: tokenIssuer, Audience: tokenAudience, UID: uid, NotAfter: until.Unix()})
}

// Verify is nil for a token of the endpoint with the uid.
func Verify(key []byte, uid, raw string, now time.Time) error { return verify(key, uid, raw, now) }
