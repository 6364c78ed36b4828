package token

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
	"time"
)

// The ways in which a client proved who it is, as appidacr and azpacr say it.
const (
	AuthPublic      = "0"
	AuthSecret      = "1"
	AuthCertificate = "2" // also by assertion
)

// Request is what a token shall say. The caller has decided that it may.
type Request struct {
	Resource Resource
	ObjectID string   // of the principal
	AppID    string   // of the client
	Auth     string   // one of the Auth constants
	Name     string   // users: display name
	UPN      string   // users: "" means an application
	Scopes   []string // users: scp
	Roles    []string // app roles granted on the resource
	MIRID    string   // managed identities: ARM id; lives 24 h
	CAE      bool     // the client asked for continuous access evaluation
	Host     string   // login host that issues; "" is the first of Config

	// ReuseKey, if not empty, allows to answer with the token that an equal
	// request with the same key got, while it is more than half alive.
	ReuseKey string `json:"-"`
}

type issued struct {
	raw    string
	claims Claims
	fresh  time.Time // until when it may be given again
}

type header struct {
	Typ string `json:"typ"`
	Alg string `json:"alg"`
	X5t string `json:"x5t,omitempty"`
	Kid string `json:"kid"`
}

// payload holds the claims of v1 and v2 tokens in the order of the real
// service's. Source: "Access token claims reference".
type payload struct {
	Aud        string   `json:"aud"`
	Iss        string   `json:"iss"`
	Iat        int64    `json:"iat"`
	Nbf        int64    `json:"nbf"`
	Exp        int64    `json:"exp"`
	Acr        string   `json:"acr,omitempty"`
	Aio        string   `json:"aio"`
	Amr        []string `json:"amr,omitempty"`
	AppID      string   `json:"appid,omitempty"`
	AppIDACR   string   `json:"appidacr,omitempty"`
	Azp        string   `json:"azp,omitempty"`
	AzpACR     string   `json:"azpacr,omitempty"`
	Idp        string   `json:"idp,omitempty"`
	IDTyp      string   `json:"idtyp,omitempty"`
	Name       string   `json:"name,omitempty"`
	OID        string   `json:"oid"`
	Preferred  string   `json:"preferred_username,omitempty"`
	RH         string   `json:"rh"`
	Roles      []string `json:"roles,omitempty"`
	Scp        string   `json:"scp,omitempty"`
	Sub        string   `json:"sub"`
	TID        string   `json:"tid"`
	UniqueName string   `json:"unique_name,omitempty"`
	UPN        string   `json:"upn,omitempty"`
	UTI        string   `json:"uti"`
	Ver        string   `json:"ver"`
	XmsCC      []string `json:"xms_cc,omitempty"`
	XmsMIRID   string   `json:"xms_mirid,omitempty"`
}

// Issue signs an access token: v1 for resources of the platform, v2 for a
// tenant's own applications. Managed identities' live 24 hours, applications'
// one, users' 60 to 90 minutes.
func (s *Service) Issue(ctx context.Context, r Request) (string, Claims, error) {
	var reuse [32]byte
	if r.ReuseKey != "" {
		key, err := json.Marshal(r)
		if err != nil {
			return "", Claims{}, fmt.Errorf("issuing a token: %w", err)
		}
		reuse = sha256.Sum256(append(append(key, 0), r.ReuseKey...))
		if got, ok := s.reusable.get(reuse); ok && s.now().Before(got.fresh) {
			return got.raw, got.claims, nil
		}
	}
	key, err := s.signer(ctx)
	if err != nil {
		return "", Claims{}, unavailable(err)
	}
	life, err := lifetime(r)
	if err != nil {
		return "", Claims{}, err
	}
	now := s.now().Truncate(time.Second)
	p, h := s.payload(r, now, life), header{Typ: "JWT", Alg: "RS256", Kid: key.KID}
	if p.Ver == "1.0" {
		h.X5t = key.KID
	}
	private, err := key.private()
	if err != nil {
		return "", Claims{}, unavailable(err)
	}
	raw, err := sign(private, h, p)
	if err != nil {
		return "", Claims{}, err
	}
	claims := r.claims(p)
	if r.ReuseKey != "" {
		s.reusable.put(reuse, issued{raw, claims, now.Add(life / 2)})
	}
	return raw, claims, nil
}

func (r Request) claims(p payload) Claims {
	c := Claims{
		ID: p.UTI, TenantID: p.TID, ObjectID: p.OID, AppID: r.AppID, Name: p.Name, UPN: r.UPN, Resource: p.XmsMIRID,
		Audience: p.Aud, Issuer: p.Iss, Version: p.Ver, Roles: r.Roles, AppOnly: r.UPN == "",
		IssuedAt: time.Unix(p.Iat, 0), ExpiresAt: time.Unix(p.Exp, 0),
	}
	if p.Scp != "" {
		c.Scopes = r.Scopes
	}
	return c
}

func (s *Service) payload(r Request, now time.Time, life time.Duration) payload {
	version := "2.0"
	if r.Resource.FirstParty {
		version = "1.0"
	}
	iss := s.Issuer(r.Host, version)
	// The real service back-dates tokens by five minutes, for slow clocks.
	issuedAt := now.Add(-skew).Unix()
	p := payload{
		Aud: r.Resource.Audience, Iss: iss, Iat: issuedAt, Nbf: issuedAt, Exp: now.Add(life).Unix(),
		Aio: opaque(24), OID: r.ObjectID, RH: "1." + opaque(30), Roles: r.Roles, Sub: r.ObjectID,
		TID: s.cfg.TenantID, UTI: opaque(16), Ver: version, Name: r.Name,
	}
	if r.CAE {
		p.XmsCC = []string{"CP1"}
	}
	if version == "1.0" {
		p.AppID, p.AppIDACR, p.Idp, p.XmsMIRID = r.AppID, r.Auth, iss, r.MIRID
	} else {
		p.Aud, p.Azp, p.AzpACR = r.Resource.AppID, r.AppID, r.Auth
	}
	if r.UPN == "" {
		if version == "1.0" {
			p.IDTyp = "app"
		}
		return p
	}
	p.Scp, p.Sub, p.Idp = strings.Join(r.Scopes, " "), PairwiseSubject(r.ObjectID, r.AppID), ""
	if p.Scp == "" {
		p.Scp = "user_impersonation"
	}
	if version == "1.0" {
		p.Acr, p.Amr, p.UPN, p.UniqueName = "1", []string{"pwd"}, r.UPN, r.UPN
	} else {
		p.Preferred = r.UPN
	}
	return p
}

// PairwiseSubject is a user's sub towards one application.
func PairwiseSubject(objectID, appID string) string {
	sum := sha256.Sum256([]byte("sub\x00" + objectID + "\x00" + appID))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func lifetime(r Request) (time.Duration, error) {
	switch {
	case r.MIRID != "":
		return longestLife, nil
	case r.UPN == "":
		return 3600 * time.Second, nil
	}
	extra, err := rand.Int(rand.Reader, big.NewInt(1800))
	if err != nil {
		return 0, fmt.Errorf("issuing a token: %w", err)
	}
	return time.Hour + time.Duration(extra.Int64())*time.Second, nil
}

// opaque is a string of n random bytes. crypto/rand.Text would not fit: the
// real values are base64url.
func opaque(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	return base64.RawURLEncoding.EncodeToString(b)
}

// Sign signs claims of the caller's own making as a JWT of this tenant: id
// tokens. They have no place as access tokens: Verify wants what Issue writes.
func (s *Service) Sign(ctx context.Context, claims any) (string, error) {
	key, err := s.signer(ctx)
	if err != nil {
		return "", unavailable(err)
	}
	private, err := key.private()
	if err != nil {
		return "", unavailable(err)
	}
	return sign(private, header{Typ: "JWT", Alg: "RS256", Kid: key.KID}, claims)
}

// sign makes a JWS in compact form (RFC 7515 section 7.1) with RS256.
func sign(key *rsa.PrivateKey, h header, claims any) (string, error) {
	hb, err := json.Marshal(h)
	if err != nil {
		return "", fmt.Errorf("signing a token: %w", err)
	}
	pb, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("signing a token: %w", err)
	}
	enc := base64.RawURLEncoding
	buf := make([]byte, 0, enc.EncodedLen(len(hb)+len(pb))+8+enc.EncodedLen(256))
	buf = enc.AppendEncode(buf, hb)
	buf = append(buf, '.')
	buf = enc.AppendEncode(buf, pb)
	sum := sha256.Sum256(buf)
	sig, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, sum[:])
	if err != nil {
		return "", fmt.Errorf("signing a token: %w", err)
	}
	buf = append(buf, '.')
	return string(enc.AppendEncode(buf, sig)), nil
}
