package directory

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// FederatedCredential says whose tokens an application or a managed identity
// may present as its own proof. Source: Microsoft Entra documentation,
// "Workload identity federation".
type FederatedCredential struct {
	ID          string   `json:"id"`
	Name        string   `json:"name"`
	Issuer      string   `json:"issuer"`
	Subject     string   `json:"subject,omitempty"` // empty with an expression
	Audiences   []string `json:"audiences"`
	Description string   `json:"description,omitempty"`

	// Changed is when the credential was last written; SetCredential sets it.
	Changed time.Time `json:"changed,omitzero"`

	ClaimsMatchingExpression *ClaimsMatchingExpression `json:"claimsMatchingExpression,omitempty"`
}

// ClaimsMatchingExpression compares claims in place of one exact subject.
type ClaimsMatchingExpression struct {
	Value           string `json:"value"`
	LanguageVersion int    `json:"languageVersion"`
}

type credentials struct {
	AppID string                `json:"appId"`
	List  []FederatedCredential `json:"list"`
	Rev   int64                 `json:"-"`
}

func (c *credentials) place() (kind, oid string) { return "fic", c.AppID }
func (c *credentials) setRev(rev int64)          { c.Rev = rev }

// Limits of a federated credential's texts, in bytes.
const maxFederated = 600

// Check reports what makes c unacceptable; errors wrap ErrInvalid or ErrExpression.
func (c *FederatedCredential) Check() error {
	switch {
	case c.Name == "":
		return fmt.Errorf("a federated credential without a name: %w", ErrInvalid)
	case c.Issuer == "" || len(c.Issuer) > maxFederated:
		return fmt.Errorf("the issuer must have 1 to %d characters: %w", maxFederated, ErrInvalid)
	case len(c.Audiences) != 1 || c.Audiences[0] == "" || len(c.Audiences[0]) > maxFederated:
		return fmt.Errorf("federated identity credentials must have exactly one audience: %w", ErrInvalid)
	case c.ClaimsMatchingExpression == nil && (c.Subject == "" || len(c.Subject) > maxFederated):
		return fmt.Errorf("the subject must have 1 to %d characters: %w", maxFederated, ErrInvalid)
	case c.ClaimsMatchingExpression != nil && c.Subject != "":
		return fmt.Errorf("a subject and a claims matching expression exclude each other: %w", ErrInvalid)
	case c.ClaimsMatchingExpression != nil && c.ClaimsMatchingExpression.LanguageVersion != 1:
		return fmt.Errorf("the language version of a claims matching expression is 1: %w", ErrInvalid)
	case c.ClaimsMatchingExpression != nil:
		_, err := ParseExpression(c.ClaimsMatchingExpression.Value)
		return err
	}
	return nil
}

// Assertion is what a foreign token says, its signature and times checked.
type Assertion struct {
	Issuer, Subject string
	Audiences       []string
	Claims          map[string]any // all of them, for expressions
}

// Mismatch is a field in which an assertion and a credential differ.
type Mismatch struct {
	Field              string // "issuer", "subject", "audience", "claims"
	Expected, Received string
	CaseOnly           bool // they differ in nothing but letter case
	SlashOnly          bool // they differ in nothing but a slash at the end
}

func differ(field, want, got string) Mismatch {
	return Mismatch{field, want, got, strings.EqualFold(want, got),
		want != got && strings.TrimSuffix(want, "/") == strings.TrimSuffix(got, "/")}
}

// Match compares a with c, exactly; none means that a is accepted. An assertion
// must have one audience.
func (c *FederatedCredential) Match(a Assertion) []Mismatch {
	var out []Mismatch
	if a.Issuer != c.Issuer {
		out = append(out, differ("issuer", c.Issuer, a.Issuer))
	}
	switch {
	case c.ClaimsMatchingExpression != nil:
		x, err := ParseExpression(c.ClaimsMatchingExpression.Value)
		if err != nil {
			out = append(out, Mismatch{Field: "claims", Expected: c.ClaimsMatchingExpression.Value, Received: "an expression that cannot be read"})
		} else if m := x.Match(a.Claims); m != nil {
			out = append(out, *m)
		}
	case a.Subject != c.Subject || a.Subject == "":
		out = append(out, differ("subject", c.Subject, a.Subject))
	}
	if len(a.Audiences) != 1 || !slices.Contains(c.Audiences, a.Audiences[0]) {
		out = append(out, differ("audience", strings.Join(c.Audiences, ", "), strings.Join(a.Audiences, ", ")))
	}
	return out
}

// FindCredential gives the credential that accepts a; else the one that comes
// nearest and in what it differs. With no credentials both are zero.
func FindCredential(list []FederatedCredential, a Assertion) (best FederatedCredential, differs []Mismatch, ok bool) {
	for i := range list {
		m := list[i].Match(a)
		if len(m) == 0 {
			return list[i], nil, true
		}
		if differs == nil || weight(m) < weight(differs) {
			best, differs = list[i], m
		}
	}
	return best, differs, false
}

// weight orders mismatches: fewer are nearer, and a slip of case or slash counts half.
func weight(list []Mismatch) int {
	w := 0
	for _, m := range list {
		w += 2
		if m.CaseOnly || m.SlashOnly {
			w--
		}
	}
	return w
}

// Credentials gives the federated credentials of the application or managed
// identity with the client id, by name.
func (d *Directory) Credentials(appID string) []FederatedCredential {
	d.ix.mu.RLock()
	defer d.ix.mu.RUnlock()
	if c := d.ix.fics[strings.ToLower(appID)]; c != nil {
		return slices.Clone(c.List)
	}
	return nil
}

// SetCredential adds a federated credential, or replaces that of the same name
// (compared without case); an empty ID becomes a new one. ErrDuplicate when
// another has the same issuer and subject; store.ErrConflict when the
// identity's credentials changed meanwhile.
func (d *Directory) SetCredential(ctx context.Context, appID string, c FederatedCredential) (FederatedCredential, error) {
	if err := c.Check(); err != nil {
		return FederatedCredential{}, err
	}
	set, err := d.credentials(appID)
	if err != nil {
		return FederatedCredential{}, err
	}
	same := func(o FederatedCredential) bool { return strings.EqualFold(o.Name, c.Name) }
	if i := slices.IndexFunc(set.List, same); i >= 0 && c.ID == "" {
		c.ID = set.List[i].ID
	}
	if c.ID == "" {
		c.ID = uuid.NewString()
	}
	c.Changed = time.Now().UTC()
	rest := slices.DeleteFunc(set.List, same)
	for _, o := range rest {
		if o.Issuer == c.Issuer && o.Subject == c.Subject && expression(o) == expression(c) {
			return FederatedCredential{}, fmt.Errorf("federated credential %q: %w by %q", c.Name, ErrDuplicate, o.Name)
		}
	}
	set.List = sorted(append(rest, c), func(c FederatedCredential) string { return strings.ToLower(c.Name) })
	if _, err := d.put(ctx, &set, set.Rev); err != nil {
		return FederatedCredential{}, fmt.Errorf("writing federated credential %q: %w", c.Name, err)
	}
	return c, nil
}

func expression(c FederatedCredential) string {
	if c.ClaimsMatchingExpression == nil {
		return ""
	}
	return c.ClaimsMatchingExpression.Value
}

// credentials is a copy of what is stored for a client id that exists.
func (d *Directory) credentials(appID string) (credentials, error) {
	if _, err := d.ServicePrincipalByAppID(appID); err != nil {
		if _, err := d.storedAppByAppID(appID); err != nil {
			return credentials{}, err
		}
	}
	d.ix.mu.RLock()
	defer d.ix.mu.RUnlock()
	c := credentials{AppID: strings.ToLower(appID)}
	if s := d.ix.fics[c.AppID]; s != nil {
		c.List, c.Rev = slices.Clone(s.List), s.Rev
	}
	return c, nil
}

// RemoveCredential takes away the federated credential with the name, or the
// id; ErrNotFound if there is none.
func (d *Directory) RemoveCredential(ctx context.Context, appID, nameOrID string) error {
	set, err := d.credentials(appID)
	if err != nil {
		return err
	}
	n := len(set.List)
	set.List = slices.DeleteFunc(set.List, func(c FederatedCredential) bool {
		return strings.EqualFold(c.Name, nameOrID) || strings.EqualFold(c.ID, nameOrID)
	})
	if len(set.List) == n {
		return fmt.Errorf("federated credential %q: %w", nameOrID, ErrNotFound)
	}
	if len(set.List) == 0 {
		err = d.remove(ctx, "fic", appID, set.Rev)
	} else {
		_, err = d.put(ctx, &set, set.Rev)
	}
	if err != nil && !errors.Is(err, ErrNotFound) {
		return fmt.Errorf("removing federated credential %q: %w", nameOrID, err)
	}
	return nil
}
