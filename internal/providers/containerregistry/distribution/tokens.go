package distribution

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/providers/containerregistry"
	"lazurite.dev/internal/token"
)

// The lives of a registry's tokens, as Azure has them.
const (
	refreshLife = 3 * time.Hour
	accessLife  = 75 * time.Minute
	skew        = 5 * time.Minute
)

// The kinds of a registry's tokens.
const (
	refreshToken = "refresh_token"
	accessToken  = "access_token"
)

// access is what a token lets do with a repository, or with the catalogue.
type access struct {
	Type    string   `json:"type"`
	Name    string   `json:"name"`
	Actions []string `json:"actions"`
}

// claims are those of a registry's tokens.
type claims struct {
	ID       string   `json:"jti"`
	Subject  string   `json:"sub"`
	NotBefor int64    `json:"nbf"`
	Expires  int64    `json:"exp"`
	Issued   int64    `json:"iat"`
	Issuer   string   `json:"iss"`
	Audience string   `json:"aud"`
	Version  string   `json:"version"`
	Registry string   `json:"rid"`
	Grant    string   `json:"grant_type"`
	Tenant   string   `json:"tenant,omitempty"`
	ObjectID string   `json:"oid,omitempty"`
	AppID    string   `json:"appid,omitempty"`
	UPN      string   `json:"upn,omitempty"`
	Password string   `json:"cred,omitempty"` // mark of the administrator's password
	Access   []access `json:"access,omitempty"`
}

// header is that of every token: no other algorithm is ever looked at.
const header = `{"alg":"HS256","typ":"JWT"}`

func mac(key []byte, signed string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(signed))
	return h.Sum(nil)
}

// session is who asks and what for.
type session struct {
	caller   *token.Claims
	password string              // mark of the administrator's; "" for a principal
	limited  bool                // access counts
	access   []access            // of an access token
	form     map[string][]string // of a request for a token
}

// mint makes a token of the registry for s.
func (p *Plane) mint(r *containerregistry.Registry, s *session, host, grant string, life time.Duration, granted []access) (string, error) {
	now := p.Now()
	c := claims{
		ID: uuid.NewString(), Subject: s.caller.Display(), NotBefor: now.Add(-skew).Unix(), Issued: now.Unix(), Expires: now.Add(life).Unix(),
		Issuer: "Azure Container Registry", Audience: host, Version: "1.0", Registry: r.UID, Grant: grant, Tenant: s.caller.TenantID,
		ObjectID: s.caller.ObjectID, AppID: s.caller.AppID, UPN: s.caller.UPN, Password: s.password, Access: granted,
	}
	raw, err := json.Marshal(c)
	if err != nil {
		return "", err
	}
	enc := base64.RawURLEncoding
	signed := enc.EncodeToString([]byte(header)) + "." + enc.EncodeToString(raw)
	return signed + "." + enc.EncodeToString(mac(r.Key(), signed)), nil
}

func unauthorized(code, format string, args ...any) *apierr.Error {
	return apierr.New(apierr.Unauthorized, "UNAUTHORIZED", format, args...).WithInner(code)
}

// read checks a token of the registry.
func (p *Plane) read(r *containerregistry.Registry, raw, grant string) (*session, error) {
	signed, sum, ok := cutLast(raw, ".")
	head, body, _ := strings.Cut(signed, ".")
	enc := base64.RawURLEncoding.Strict()
	got, err := enc.DecodeString(sum)
	if !ok || len(raw) > token.MaxTokenBytes || err != nil || head != enc.EncodeToString([]byte(header)) || !hmac.Equal(got, mac(r.Key(), signed)) {
		return nil, unauthorized("", "The token is none of the registry '%s'.", r.Name)
	}
	var c claims
	plain, err := enc.DecodeString(body)
	if err != nil || json.Unmarshal(plain, &c) != nil || c.Registry != r.UID {
		return nil, unauthorized("", "The token is none of the registry '%s'.", r.Name)
	}
	if c.Grant != grant {
		return nil, unauthorized("", "The token is a %s; a %s was expected.", strings.ReplaceAll(c.Grant, "_", " "), strings.ReplaceAll(grant, "_", " "))
	}
	if now := p.Now().Unix(); now >= c.Expires || now < c.NotBefor {
		return nil, unauthorized("", "The token has expired.")
	}
	if c.Password != "" {
		if err := adminAllowed(r); err != nil {
			return nil, err
		}
		if !r.Current(c.Password) {
			return nil, unauthorized("", "The password with which the token was got is no longer valid.")
		}
	}
	return &session{
		caller:   &token.Claims{ObjectID: c.ObjectID, AppID: c.AppID, UPN: c.UPN, TenantID: c.Tenant},
		password: c.Password, limited: grant == accessToken, access: c.Access,
	}, nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

func adminAllowed(r *containerregistry.Registry) error {
	if !r.Admin {
		return unauthorized("", "The admin user of the registry '%s' is disabled.", r.Name)
	}
	return nil
}

// lets reports whether the session's token lets do word with a thing.
func (s *session) lets(typ, name, word string) bool {
	if !s.limited {
		return true
	}
	also := map[string]string{wordMetaRead: wordPull, wordMetaWrite: wordPush}[word]
	return slices.ContainsFunc(s.access, func(a access) bool {
		return a.Type == typ && a.Name == name && (slices.Contains(a.Actions, word) || also != "" && slices.Contains(a.Actions, also) || slices.Contains(a.Actions, "*"))
	})
}
