package endpoints

import (
	"context"
	"log/slog"
	"time"
)

// ErrClosed is what starts come to after Close.
var ErrClosed = errClosed

// Looks gives what Autoscale does at each tick, and waits for the looks.
func (s *Service) Looks(load Load, scaler Scaler) func(context.Context) {
	look, wait := s.Glances(load, scaler, slog.New(slog.DiscardHandler))
	return func(ctx context.Context) {
		look(ctx)
		wait()
	}
}

// Glances gives what Autoscale does at each tick, and the wait for all of it.
func (s *Service) Glances(load Load, scaler Scaler, log *slog.Logger) (look func(context.Context), wait func()) {
	l := newScaling(s, load, scaler, log)
	return l.all, l.looks.Wait
}

// Sign and Verify are of tokens, for whoever sends what is none.
func Sign(key []byte, uid string, until time.Time) (string, error) {
	return sign(key, claims{Issuer: tokenIssuer, Audience: tokenAudience, UID: uid, NotAfter: until.Unix()})
}

// Verify is nil for a token of the endpoint with the uid.
func Verify(key []byte, uid, raw string, now time.Time) error { return verify(key, uid, raw, now) }
