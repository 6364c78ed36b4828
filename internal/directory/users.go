package directory

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/mail"
	"strings"
	"time"

	"github.com/google/uuid"
)

// User is a person's account.
type User struct {
	ObjectID          string                     `json:"id"`
	UPN               string                     `json:"userPrincipalName"` // an e-mail address; compared without case
	DisplayName       string                     `json:"displayName"`
	GivenName         string                     `json:"givenName,omitempty"`
	Surname           string                     `json:"surname,omitempty"`
	Mail              string                     `json:"mail,omitempty"`
	MailNickname      string                     `json:"mailNickname,omitempty"`
	JobTitle          string                     `json:"jobTitle,omitempty"`
	OfficeLocation    string                     `json:"officeLocation,omitempty"`
	MobilePhone       string                     `json:"mobilePhone,omitempty"`
	BusinessPhones    []string                   `json:"businessPhones,omitempty"`
	PreferredLanguage string                     `json:"preferredLanguage,omitempty"`
	Disabled          bool                       `json:"disabled,omitempty"`
	Extra             map[string]json.RawMessage `json:"extra,omitempty"` // properties that mean nothing here, kept as sent
	Created           time.Time                  `json:"created"`
	Rev               int64                      `json:"-"` // of the document; Update wants that of the object it changes
}

type storedUser struct {
	User
	Hash string `json:"passwordHash,omitempty"` // bcrypt
}

func (u *storedUser) place() (kind, oid string) { return "user", u.ObjectID }
func (u *storedUser) setRev(rev int64)          { u.Rev = rev }

// User gives the user with the object id; ErrNotFound if there is none.
func (d *Directory) User(oid string) (User, error) {
	d.ix.mu.RLock()
	defer d.ix.mu.RUnlock()
	if u := d.ix.users[strings.ToLower(oid)]; u != nil {
		return u.User, nil
	}
	return User{}, fmt.Errorf("user %s: %w", oid, ErrNotFound)
}

// ByUPN gives the user with the user principal name; ErrNotFound if there is none.
func (d *Directory) ByUPN(upn string) (User, error) {
	d.ix.mu.RLock()
	defer d.ix.mu.RUnlock()
	if u := d.ix.users[d.ix.upns[strings.ToLower(upn)]]; u != nil {
		return u.User, nil
	}
	return User{}, fmt.Errorf("user %q: %w", upn, ErrNotFound)
}

// Users gives all users, by UPN.
func (d *Directory) Users() []User {
	d.ix.mu.RLock()
	defer d.ix.mu.RUnlock()
	out := make([]User, 0, len(d.ix.users))
	for _, u := range d.ix.users {
		out = append(out, u.User)
	}
	return sorted(out, func(u User) string { return strings.ToLower(u.UPN) })
}

// CreateUser adds a user; an empty ObjectID becomes a new one. With an empty
// password nobody can sign in with one. ErrTaken when the UPN is in use,
// ErrInvalid when it is none.
func (d *Directory) CreateUser(ctx context.Context, u User, password string) (User, error) {
	if err := checkUPN(u.UPN); err != nil {
		return User{}, err
	}
	if u.ObjectID == "" {
		u.ObjectID = uuid.NewString()
	}
	if u.DisplayName == "" {
		u.DisplayName, _, _ = strings.Cut(u.UPN, "@")
	}
	u.Created = time.Now().UTC()
	s := &storedUser{User: u}
	var err error
	if password != "" {
		if s.Hash, err = d.pws.hash(ctx, password, bcryptCost); err != nil {
			return User{}, err
		}
	}
	if err := d.reserve(ctx, "upn/"+u.UPN, s, holdsUPN(u.UPN)); err != nil {
		return User{}, err
	}
	if s.Rev, err = d.put(ctx, s, 0); err != nil {
		return User{}, fmt.Errorf("creating user %q: %w", u.UPN, err)
	}
	return s.User, nil
}

func holdsUPN(upn string) func(object) bool {
	return func(o object) bool {
		u, ok := o.(*storedUser)
		return ok && strings.EqualFold(u.UPN, upn)
	}
}

func checkUPN(upn string) error {
	a, err := mail.ParseAddress(upn)
	if err != nil || a.Address != upn || len(upn) > 113 || strings.ContainsAny(upn, "/\\%") {
		return fmt.Errorf("user principal name %q: %w", upn, ErrInvalid)
	}
	return nil
}

// UpdateUser replaces the user whose ObjectID and Rev u has, but for password
// and Created. store.ErrConflict when it changed meanwhile.
func (d *Directory) UpdateUser(ctx context.Context, u User) (User, error) {
	if err := checkUPN(u.UPN); err != nil {
		return User{}, err
	}
	old, err := d.storedUser(u.ObjectID)
	if err != nil {
		return User{}, err
	}
	if u.Disabled && !old.Disabled {
		if err := d.spare(u.ObjectID); err != nil {
			return User{}, err
		}
	}
	s := &storedUser{User: u, Hash: old.Hash}
	s.Created = old.Created
	renamed := !strings.EqualFold(old.UPN, u.UPN)
	if renamed {
		if err := d.reserve(ctx, "upn/"+u.UPN, s, holdsUPN(u.UPN)); err != nil {
			return User{}, err
		}
	}
	if s.Rev, err = d.put(ctx, s, u.Rev); err != nil {
		return User{}, fmt.Errorf("updating user %q: %w", u.UPN, err)
	}
	if renamed {
		d.release(ctx, "upn/"+old.UPN)
	}
	return s.User, nil
}

func (d *Directory) storedUser(oid string) (storedUser, error) {
	d.ix.mu.RLock()
	defer d.ix.mu.RUnlock()
	if u := d.ix.users[strings.ToLower(oid)]; u != nil {
		return *u, nil
	}
	return storedUser{}, fmt.Errorf("user %s: %w", oid, ErrNotFound)
}

// SetPassword replaces the user's password.
func (d *Directory) SetPassword(ctx context.Context, oid, password string) error {
	if len(password) < 8 || len(password) > 256 {
		return fmt.Errorf("a password has 8 to 256 characters: %w", ErrInvalid)
	}
	return d.setPassword(ctx, oid, password, bcryptCost)
}

// GeneratePassword replaces the user's password by one of chance, which is
// stored when it returns. It takes a hundredth of SetPassword's time.
func (d *Directory) GeneratePassword(ctx context.Context, oid string) (string, error) {
	password := generatePassword()
	if err := d.setPassword(ctx, oid, password, generatedCost); err != nil {
		return "", err
	}
	return password, nil
}

func (d *Directory) setPassword(ctx context.Context, oid, password string, cost int) error {
	u, err := d.storedUser(oid)
	if err != nil {
		return err
	}
	if u.Hash, err = d.pws.hash(ctx, password, cost); err != nil {
		return err
	}
	_, err = d.put(ctx, &u, u.Rev)
	return err
}

// PasswordStamp changes whenever the user's password is set, and says nothing
// of it: what was granted for the old one ends with it. ErrNotFound if there is
// no such user.
func (d *Directory) PasswordStamp(oid string) (string, error) {
	u, err := d.storedUser(oid)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte("stamp\x00" + u.Hash))
	return hex.EncodeToString(sum[:16]), nil
}

// DeleteUser removes the user, its group memberships and directory roles.
func (d *Directory) DeleteUser(ctx context.Context, oid string) error {
	u, err := d.User(oid)
	if err != nil {
		return err
	}
	if err := d.forget(ctx, oid); err != nil {
		return err
	}
	if err := d.remove(ctx, "user", oid, 0); err != nil {
		return err
	}
	d.release(ctx, "upn/"+u.UPN)
	return nil
}
