package endpoints

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/providers/machinelearningservices/router"
)

// How long a token counts, and when a client should ask for the next.
const (
	tokenTime    = 12 * time.Hour
	tokenRefresh = 8 * time.Hour
)

// claims are what a token says. It is a JSON web token (RFC 7519) signed with
// HS256 (RFC 7518 section 3.2) and a key that this endpoint alone has.
type claims struct {
	Issuer   string `json:"iss"`
	Audience string `json:"aud"`
	Subject  string `json:"sub"` // object id of who asked for it
	Endpoint string `json:"endpointName"`
	UID      string `json:"serviceId"`
	IssuedAt int64  `json:"iat"`
	NotAfter int64  `json:"exp"`
}

const (
	tokenIssuer   = "azureml"
	tokenAudience = "azureml"
	tokenHeader   = `{"alg":"HS256","typ":"JWT"}`
	maxToken      = 4096
)

// token is POST …/token, for endpoints with the authMode AMLToken.
func (s *Service) token(ctx context.Context, r *endpoint, _ json.RawMessage) (any, error) {
	switch r.Properties.AuthMode {
	case router.AuthAML:
	case router.AuthAAD:
		return nil, apierr.New(apierr.BadRequest, "BadRequest", "The endpoint '%s' has the authMode AADToken: ask Entra ID for a token for the resource https://ml.azure.com.", r.ID.Name())
	default:
		return nil, apierr.New(apierr.BadRequest, "BadRequest", "The endpoint '%s' has the authMode Key, and no tokens.", r.ID.Name())
	}
	c, err := s.own(ctx, r)
	if err != nil {
		return nil, err
	}
	x, err := s.opened(ctx, c)
	if err != nil {
		return nil, err
	}
	now := s.Now().UTC()
	who := ""
	if caller := arm.Caller(ctx); caller != nil {
		who = caller.ObjectID
	}
	raw, err := sign(x.Token, claims{
		Issuer: tokenIssuer, Audience: tokenAudience, Subject: who, Endpoint: r.ID.Name(), UID: c.UID,
		IssuedAt: now.Unix(), NotAfter: now.Add(tokenTime).Unix(),
	})
	if err != nil {
		return nil, err
	}
	return map[string]any{
		"accessToken": raw, "tokenType": "Bearer",
		"expiryTimeUtc": now.Add(tokenTime).Unix(), "refreshAfterTimeUtc": now.Add(tokenRefresh).Unix(),
	}, nil
}

func sign(key []byte, c claims) (string, error) {
	body, err := json.Marshal(c)
	if err != nil {
		return "", fmt.Errorf("encode a token: %w", err)
	}
	enc := base64.RawURLEncoding
	signed := enc.EncodeToString([]byte(tokenHeader)) + "." + enc.EncodeToString(body)
	return signed + "." + enc.EncodeToString(mac(key, signed)), nil
}

func mac(key []byte, signed string) []byte {
	h := hmac.New(sha256.New, key)
	_, _ = h.Write([]byte(signed)) // never fails
	return h.Sum(nil)
}

var (
	errToken   = errors.New("the token is none of this endpoint's")
	errExpired = errors.New("the token has expired")
)

// verify judges a token of the endpoint with the uid.
func verify(key []byte, uid, raw string, now time.Time) error {
	i := strings.LastIndexByte(raw, '.')
	if i < 0 || len(raw) > maxToken {
		return errToken
	}
	enc := base64.RawURLEncoding.Strict()
	sum, err := enc.DecodeString(raw[i+1:])
	if err != nil || !hmac.Equal(sum, mac(key, raw[:i])) { // of this header alone, too: the signature covers it
		return errToken
	}
	header, body, ok := strings.Cut(raw[:i], ".")
	if h, err := enc.DecodeString(header); !ok || err != nil || string(h) != tokenHeader {
		return errToken
	}
	b, err := enc.DecodeString(body)
	if err != nil {
		return errToken
	}
	var c claims
	if err := json.Unmarshal(b, &c); err != nil || c.UID != uid || c.Issuer != tokenIssuer || c.Audience != tokenAudience {
		return errToken
	}
	if now.Unix() >= c.NotAfter {
		return errExpired
	}
	return nil
}
