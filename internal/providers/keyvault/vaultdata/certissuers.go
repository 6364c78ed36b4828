package vaultdata

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/store"
)

// Issuer is a certificate issuer in requests and answers. A password is sealed
// and never shown.
type Issuer struct {
	ID          string            `json:"id,omitempty"`
	Provider    string            `json:"provider,omitempty"`
	Credentials *IssuerCredential `json:"credentials,omitempty"`
	Org         *Organization     `json:"org_details,omitempty"`
	Attributes  *IssuerAttrs      `json:"attributes,omitempty"`
}

// IssuerCredential is an account with an issuer.
type IssuerCredential struct {
	AccountID string `json:"account_id,omitempty"`
	Password  string `json:"pwd,omitempty"` // in requests only
}

// Organization describes the vault's owner to an issuer.
type Organization struct {
	ID     string  `json:"id,omitempty"`
	Admins []Admin `json:"admin_details,omitzero"`
}

// Admin is a person of an Organization.
type Admin struct {
	FirstName string `json:"first_name,omitempty"`
	LastName  string `json:"last_name,omitempty"`
	Email     string `json:"email,omitempty"`
	Phone     string `json:"phone,omitempty"`
}

// IssuerAttrs are the attributes of an issuer; times in Unix seconds.
type IssuerAttrs struct {
	Enabled *bool `json:"enabled,omitempty"`
	Created int64 `json:"created,omitempty"`
	Updated int64 `json:"updated,omitempty"`
}

// issuerDoc is an issuer as stored.
type issuerDoc struct {
	Name     string `json:"name"`
	Issuer   Issuer `json:"issuer"`
	Password []byte `json:"password,omitempty"` // sealed
}

// Contacts are the people to tell of expiring certificates.
type Contacts struct {
	ID       string    `json:"id,omitempty"`
	Contacts []Contact `json:"contacts"`
}

// Contact is one of them.
type Contact struct {
	Email string `json:"email,omitempty"`
	Name  string `json:"name,omitempty"`
	Phone string `json:"phone,omitempty"`
}

const (
	issuerDocKind  = "keyvault.issuer"
	contactDocKind = "keyvault.contacts"
	maxContacts    = 50
)

func issuerPrefix(v *Vault) string { return v.base() + "issuer/" }

func issuerAAD(name string) []byte { return []byte("issuer\x00" + lower(name)) }

func (o *Objects) issuer(ctx context.Context, v *Vault, name string) (*issuerDoc, int64, error) {
	if err := checkName(name); err != nil {
		return nil, 0, err
	}
	d, err := o.docs.Get(ctx, issuerPrefix(v)+lower(name))
	if errors.Is(err, store.ErrNotFound) {
		return nil, 0, apierr.New(apierr.NotFound, "CertificateIssuerNotFound", "Issuer not found: %s", name)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("read issuer: %w", err)
	}
	var i issuerDoc
	if err := json.Unmarshal(d.Value, &i); err != nil {
		return nil, 0, fmt.Errorf("decode issuer: %w", err)
	}
	return &i, d.Rev, nil
}

func (i *issuerDoc) show(v *Vault) *Issuer {
	out := i.Issuer
	out.ID = v.URI + "/certificates/issuers/" + i.Name
	return &out
}

// SetIssuer makes or replaces an issuer; with merge it keeps what in leaves
// out, and the issuer must exist.
func (o *Objects) SetIssuer(ctx context.Context, v *Vault, name string, in *Issuer, merge bool) (*Issuer, error) {
	if strings.EqualFold(name, "Self") || strings.EqualFold(name, "Unknown") {
		return nil, badProperty("issuer-name", "%s is a name with a meaning of its own", clip(name))
	}
	var out *Issuer
	err := retry(ctx, func() error {
		old, rev, err := o.issuer(ctx, v, name)
		if err != nil && (merge || !isNotFound(err)) {
			return err
		}
		next := &issuerDoc{Name: name, Issuer: Issuer{Attributes: &IssuerAttrs{Created: o.now().Unix()}}}
		if old != nil {
			next.Issuer.Attributes.Created = old.Issuer.Attributes.Created
			if merge {
				next = old
			}
		}
		if err := o.applyIssuer(ctx, v, next, in); err != nil {
			return err
		}
		value, err := json.Marshal(next)
		if err != nil {
			return fmt.Errorf("encode issuer: %w", err)
		}
		out = next.show(v)
		if _, err := o.docs.Put(ctx, store.Doc{Key: issuerPrefix(v) + lower(name), Rev: rev, Kind: issuerDocKind, Value: value}); err != nil {
			return fmt.Errorf("write issuer: %w", err)
		}
		return nil
	})
	return out, err
}

func (o *Objects) applyIssuer(ctx context.Context, v *Vault, d *issuerDoc, in *Issuer) error {
	if in.Provider != "" {
		d.Issuer.Provider = in.Provider
	}
	if d.Issuer.Provider == "" || len(d.Issuer.Provider) > maxTagLen {
		return badProperty("provider", "the issuer needs a provider of at most %d characters", maxTagLen)
	}
	if in.Credentials != nil {
		d.Issuer.Credentials = &IssuerCredential{AccountID: in.Credentials.AccountID}
		d.Password = nil
		if in.Credentials.Password != "" {
			sealed, err := o.seal.Seal(ctx, v.scope(), []byte(in.Credentials.Password), issuerAAD(d.Name))
			if err != nil {
				return fmt.Errorf("seal issuer password: %w", err)
			}
			d.Password = sealed
		}
	}
	if in.Org != nil {
		d.Issuer.Org = in.Org
	}
	a := *d.Issuer.Attributes
	if a.Enabled == nil {
		yes := true
		a.Enabled = &yes
	}
	if in.Attributes != nil && in.Attributes.Enabled != nil {
		a.Enabled = in.Attributes.Enabled
	}
	a.Updated = o.now().Unix()
	d.Issuer.Attributes = &a
	return nil
}

// GetIssuer gives an issuer without its password.
func (o *Objects) GetIssuer(ctx context.Context, v *Vault, name string) (*Issuer, error) {
	i, _, err := o.issuer(ctx, v, name)
	if err != nil {
		return nil, err
	}
	return i.show(v), nil
}

// DeleteIssuer deletes an issuer at once; issuers have no soft delete.
func (o *Objects) DeleteIssuer(ctx context.Context, v *Vault, name string) (*Issuer, error) {
	i, _, err := o.issuer(ctx, v, name)
	if err != nil {
		return nil, err
	}
	err = o.docs.Delete(ctx, issuerPrefix(v)+lower(name), 0)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, fmt.Errorf("delete issuer: %w", err)
	}
	return i.show(v), nil
}

// ListIssuers lists the issuers of the vault.
func (o *Objects) ListIssuers(ctx context.Context, v *Vault, p Page) (*List, error) {
	prefix := issuerPrefix(v)
	docs, err := o.docs.List(ctx, store.Query{Prefix: prefix, After: prefix + p.After, Limit: p.Limit + 1})
	if err != nil {
		return nil, fmt.Errorf("list issuers: %w", err)
	}
	var all []entry
	for _, d := range docs {
		var i issuerDoc
		if err := json.Unmarshal(d.Value, &i); err != nil {
			return nil, fmt.Errorf("decode issuer: %w", err)
		}
		full := i.show(v)
		all = append(all, entry{lower(i.Name), &Issuer{ID: full.ID, Provider: full.Provider}})
	}
	return cut(all, p), nil
}

func (o *Objects) contactsKey(v *Vault) string { return v.base() + "contacts" }

// SetContacts replaces the contacts.
func (o *Objects) SetContacts(ctx context.Context, v *Vault, in *Contacts) (*Contacts, error) {
	if len(in.Contacts) == 0 || len(in.Contacts) > maxContacts {
		return nil, badProperty("contacts", "1 to %d contacts are needed", maxContacts)
	}
	for _, c := range in.Contacts {
		if !strings.Contains(c.Email, "@") || len(c.Email)+len(c.Name)+len(c.Phone) > 1024 {
			return nil, badProperty("contacts", "every contact needs an e-mail address")
		}
	}
	value, err := json.Marshal(in.Contacts)
	if err != nil {
		return nil, fmt.Errorf("encode contacts: %w", err)
	}
	err = retry(ctx, func() error {
		var rev int64
		d, err := o.docs.Get(ctx, o.contactsKey(v))
		if err == nil {
			rev = d.Rev
		} else if !errors.Is(err, store.ErrNotFound) {
			return fmt.Errorf("read contacts: %w", err)
		}
		if _, err := o.docs.Put(ctx, store.Doc{Key: o.contactsKey(v), Rev: rev, Kind: contactDocKind, Value: value}); err != nil {
			return fmt.Errorf("write contacts: %w", err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &Contacts{ID: v.URI + "/certificates/contacts", Contacts: in.Contacts}, nil
}

// GetContacts gives the contacts.
func (o *Objects) GetContacts(ctx context.Context, v *Vault) (*Contacts, error) {
	d, err := o.docs.Get(ctx, o.contactsKey(v))
	if errors.Is(err, store.ErrNotFound) {
		return nil, apierr.New(apierr.NotFound, "ContactsNotFound", "Contacts not found")
	}
	if err != nil {
		return nil, fmt.Errorf("read contacts: %w", err)
	}
	c := &Contacts{ID: v.URI + "/certificates/contacts"}
	if err := json.Unmarshal(d.Value, &c.Contacts); err != nil {
		return nil, fmt.Errorf("decode contacts: %w", err)
	}
	return c, nil
}

// DeleteContacts deletes the contacts and gives them a last time.
func (o *Objects) DeleteContacts(ctx context.Context, v *Vault) (*Contacts, error) {
	c, err := o.GetContacts(ctx, v)
	if err != nil {
		return nil, err
	}
	err = o.docs.Delete(ctx, o.contactsKey(v), 0)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, fmt.Errorf("delete contacts: %w", err)
	}
	return c, nil
}
