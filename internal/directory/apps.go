package directory

import (
	"context"
	"crypto/rand"
	"crypto/sha1" // x5t is a SHA-1 thumbprint by definition (RFC 7515 section 4.1.7)
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// App is an application's registration: what it is and how it proves itself.
type App struct {
	ObjectID        string                     `json:"id"`
	AppID           string                     `json:"appId"` // client id
	DisplayName     string                     `json:"displayName"`
	Audience        string                     `json:"signInAudience,omitempty"` // "AzureADMyOrg" and so on
	IdentifierURIs  []string                   `json:"identifierUris,omitempty"`
	Owners          []string                   `json:"owners,omitempty"` // object ids, lower case
	Tags            []string                   `json:"tags,omitempty"`
	Notes           string                     `json:"notes,omitempty"`
	Secrets         []Secret                   `json:"-"` // set by AddSecret and RemoveSecret only
	Certificates    []Certificate              `json:"certificates,omitempty"`
	RedirectURIs    RedirectURIs               `json:"redirectUris,omitzero"`
	FallbackPublic  bool                       `json:"isFallbackPublicClient,omitempty"`
	RequiredAccess  []map[string]any           `json:"requiredResourceAccess,omitempty"`
	GroupMembership string                     `json:"groupMembershipClaims,omitempty"`
	TokenVersion    int                        `json:"requestedAccessTokenVersion,omitempty"` // 0 (as 1), 1 or 2
	Extra           map[string]json.RawMessage `json:"extra,omitempty"`                       // properties that mean nothing here, kept as sent
	Created         time.Time                  `json:"created"`
	Rev             int64                      `json:"-"`
}

// RedirectURIs are where answers of the sign-in page may go.
type RedirectURIs struct {
	Web    []string `json:"web,omitempty"`
	SPA    []string `json:"spa,omitempty"`
	Public []string `json:"public,omitempty"`
}

// Secret is a client secret as far as it may be seen.
type Secret struct {
	KeyID       string    `json:"keyId"`
	DisplayName string    `json:"displayName,omitempty"`
	Hint        string    `json:"hint"` // the first three characters
	Start       time.Time `json:"start"`
	End         time.Time `json:"end"`
}

// Certificate is a certificate whose key may sign the application's assertions.
type Certificate struct {
	KeyID       string    `json:"keyId"`
	DisplayName string    `json:"displayName,omitempty"`
	DER         []byte    `json:"der"`
	SHA1        []byte    `json:"sha1"`   // of DER: the x5t of an assertion
	SHA256      []byte    `json:"sha256"` // of DER: its x5t#S256
	Start       time.Time `json:"start"`
	End         time.Time `json:"end"`
}

type hashedSecret struct {
	Secret
	Salt []byte `json:"salt"`
	Hash []byte `json:"hash"` // SHA-256 of salt and secret: it is random, so nothing slow is needed
}

type storedApp struct {
	App
	Hashed []hashedSecret `json:"secrets,omitempty"`
}

func (a *storedApp) place() (kind, oid string) { return "app", a.ObjectID }
func (a *storedApp) setRev(rev int64)          { a.Rev = rev }

// shown is the App that callers get: a copy, with the secrets as they may be seen.
func (a *storedApp) shown() App {
	c := a.App
	c.IdentifierURIs, c.Owners, c.Tags = slices.Clone(a.IdentifierURIs), slices.Clone(a.Owners), slices.Clone(a.Tags)
	c.Certificates, c.Secrets = slices.Clone(a.Certificates), nil
	for _, s := range a.Hashed {
		c.Secrets = append(c.Secrets, s.Secret)
	}
	return c
}

// NewCertificate reads a certificate in DER.
func NewCertificate(der []byte, displayName string) (Certificate, error) {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return Certificate{}, fmt.Errorf("certificate: %w: %w", ErrInvalid, err)
	}
	s1, s256 := sha1.Sum(c.Raw), sha256.Sum256(c.Raw)
	if displayName == "" {
		displayName = c.Subject.String()
	}
	return Certificate{
		KeyID: uuid.NewString(), DisplayName: displayName, DER: c.Raw, SHA1: s1[:], SHA256: s256[:],
		Start: c.NotBefore.UTC(), End: c.NotAfter.UTC(),
	}, nil
}

// AppByObjectID gives the application with the object id; ErrNotFound if there is none.
func (d *Directory) AppByObjectID(oid string) (App, error) {
	s, err := d.storedApp(oid)
	if err != nil {
		return App{}, err
	}
	return s.shown(), nil
}

// App gives the application with the client id; ErrNotFound if there is none.
func (d *Directory) App(appID string) (App, error) {
	s, err := d.storedAppByAppID(appID)
	if err != nil {
		return App{}, err
	}
	return s.shown(), nil
}

func (d *Directory) storedApp(oid string) (storedApp, error) {
	d.ix.mu.RLock()
	defer d.ix.mu.RUnlock()
	if a := d.ix.apps[strings.ToLower(oid)]; a != nil {
		return *a, nil
	}
	return storedApp{}, fmt.Errorf("application %s: %w", oid, ErrNotFound)
}

func (d *Directory) storedAppByAppID(appID string) (storedApp, error) {
	d.ix.mu.RLock()
	defer d.ix.mu.RUnlock()
	if a := d.ix.apps[d.ix.appIDs[strings.ToLower(appID)]]; a != nil {
		return *a, nil
	}
	return storedApp{}, fmt.Errorf("application %s: %w", appID, ErrNotFound)
}

// Apps gives all applications, by display name.
func (d *Directory) Apps() []App {
	d.ix.mu.RLock()
	defer d.ix.mu.RUnlock()
	out := make([]App, 0, len(d.ix.apps))
	for _, a := range d.ix.apps {
		out = append(out, a.shown())
	}
	return sorted(out, func(a App) string { return strings.ToLower(a.DisplayName) + "\x00" + a.ObjectID })
}

// CreateApp adds an application; empty ids become new ones. ErrTaken when the
// appId or an identifier URI is in use.
func (d *Directory) CreateApp(ctx context.Context, a App) (App, error) {
	if a.ObjectID == "" {
		a.ObjectID = uuid.NewString()
	}
	if a.AppID == "" {
		a.AppID = uuid.NewString()
	}
	if a.Audience == "" {
		a.Audience = "AzureADMyOrg"
	}
	a.Created = time.Now().UTC()
	return d.putApp(ctx, &storedApp{App: a}, 0)
}

// UpdateApp replaces the application whose ObjectID and Rev a has, but for its
// appId, secrets and Created. store.ErrConflict when it changed meanwhile.
func (d *Directory) UpdateApp(ctx context.Context, a App) (App, error) {
	old, err := d.storedApp(a.ObjectID)
	if err != nil {
		return App{}, err
	}
	s := &storedApp{App: a, Hashed: old.Hashed}
	s.AppID, s.Created = old.AppID, old.Created
	out, err := d.putApp(ctx, s, a.Rev)
	if err != nil {
		return App{}, err
	}
	for _, u := range old.IdentifierURIs {
		if !slices.Contains(a.IdentifierURIs, u) {
			d.release(ctx, "uri/"+escapeURI(u))
		}
	}
	return out, nil
}

func escapeURI(u string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(strings.ToLower(u)))
}

func (d *Directory) putApp(ctx context.Context, a *storedApp, rev int64) (App, error) {
	if a.DisplayName == "" || len(a.DisplayName) > 256 {
		return App{}, fmt.Errorf("an application has a display name of at most 256 characters: %w", ErrInvalid)
	}
	a.Owners = lowered(a.Owners)
	if rev == 0 {
		holds := func(o object) bool { s, ok := o.(*storedApp); return ok && strings.EqualFold(s.AppID, a.AppID) }
		if err := d.reserve(ctx, "appid/"+a.AppID, a, holds); err != nil {
			return App{}, err
		}
	}
	for _, u := range a.IdentifierURIs {
		holds := func(o object) bool {
			s, ok := o.(*storedApp)
			return ok && slices.ContainsFunc(s.IdentifierURIs, func(x string) bool { return strings.EqualFold(x, u) })
		}
		if err := d.reserve(ctx, "uri/"+escapeURI(u), a, holds); err != nil {
			return App{}, fmt.Errorf("identifier URI %q: %w", u, err)
		}
	}
	var err error
	if a.Rev, err = d.put(ctx, a, rev); err != nil {
		return App{}, fmt.Errorf("writing application %q: %w", a.DisplayName, err)
	}
	return a.shown(), nil
}

// DeleteApp removes the application, its federated credentials and its service
// principal.
func (d *Directory) DeleteApp(ctx context.Context, oid string) error {
	a, err := d.AppByObjectID(oid)
	if err != nil {
		return err
	}
	if sp, err := d.ServicePrincipalByAppID(a.AppID); err == nil {
		if err := d.DeleteServicePrincipal(ctx, sp.ObjectID); err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	if err := d.remove(ctx, "fic", a.AppID, 0); err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	if err := d.remove(ctx, "app", oid, 0); err != nil {
		return err
	}
	d.release(ctx, "appid/"+a.AppID)
	for _, u := range a.IdentifierURIs {
		d.release(ctx, "uri/"+escapeURI(u))
	}
	return nil
}

// secretBytes is how many random bytes a client secret has.
const secretBytes = 30 // 40 characters

// AddSecret gives the application a new client secret and returns it, this
// once. Zero times are now and two years on.
func (d *Directory) AddSecret(ctx context.Context, oid, displayName string, start, end time.Time) (string, Secret, error) {
	a, err := d.storedApp(oid)
	if err != nil {
		return "", Secret{}, err
	}
	if start.IsZero() {
		start = time.Now()
	}
	if end.IsZero() {
		end = start.AddDate(2, 0, 0)
	}
	if !end.After(start) {
		return "", Secret{}, fmt.Errorf("a secret that ends before it begins: %w", ErrInvalid)
	}
	b := make([]byte, secretBytes+16)
	if _, err := rand.Read(b); err != nil {
		return "", Secret{}, fmt.Errorf("making a secret: %w", err)
	}
	b[0] &= 0x7f // a letter comes first, not a dash that command lines take for an option
	text := base64.RawURLEncoding.EncodeToString(b[:secretBytes])
	h := hashedSecret{Secret: Secret{
		KeyID: uuid.NewString(), DisplayName: displayName, Hint: text[:3], Start: start.UTC(), End: end.UTC(),
	}, Salt: b[secretBytes:]}
	h.Hash = h.digest(text)
	a.Hashed = append(slices.Clone(a.Hashed), h)
	if _, err := d.put(ctx, &a, a.Rev); err != nil {
		return "", Secret{}, fmt.Errorf("adding a secret: %w", err)
	}
	return text, h.Secret, nil
}

func (h *hashedSecret) digest(secret string) []byte {
	sum := sha256.Sum256(append(slices.Clone(h.Salt), secret...))
	return sum[:]
}

// RemoveSecret takes a client secret away; ErrNotFound if there is none with the key id.
func (d *Directory) RemoveSecret(ctx context.Context, oid, keyID string) error {
	a, err := d.storedApp(oid)
	if err != nil {
		return err
	}
	rest := slices.DeleteFunc(slices.Clone(a.Hashed), func(h hashedSecret) bool { return strings.EqualFold(h.KeyID, keyID) })
	if len(rest) == len(a.Hashed) {
		return fmt.Errorf("secret %s: %w", keyID, ErrNotFound)
	}
	a.Hashed = rest
	_, err = d.put(ctx, &a, a.Rev)
	return err
}

// CheckSecret reports whether secret is a valid one of the application:
// ErrNotFound, ErrSecret, or ErrExpired when it was one or is not yet.
func (d *Directory) CheckSecret(_ context.Context, appID, secret string) error {
	a, err := d.storedAppByAppID(appID)
	if err != nil {
		return err
	}
	found := -1
	for i := range a.Hashed {
		if subtle.ConstantTimeCompare(a.Hashed[i].digest(secret), a.Hashed[i].Hash) == 1 {
			found = i
		}
	}
	if found < 0 {
		return ErrSecret
	}
	if now, s := time.Now(), a.Hashed[found]; now.Before(s.Start.Add(-skew)) || !now.Before(s.End) {
		return ErrExpired
	}
	return nil
}

// skew is how far a clock of whoever made a credential may be ahead.
const skew = 5 * time.Minute
