package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

// profile is azureProfile.json: the subscriptions that the user signed in to.
type profile struct {
	Subscriptions []account
	rest          object // members that we don't know are kept
}

// account is one subscription as a signed-in user sees it.
type account struct {
	ID               string        `json:"id"`
	Name             string        `json:"name"`
	State            string        `json:"state"`
	User             accountUser   `json:"user"`
	IsDefault        bool          `json:"isDefault"`
	TenantID         string        `json:"tenantId"`
	EnvironmentName  string        `json:"environmentName"`
	HomeTenantID     string        `json:"homeTenantId"`
	ManagedByTenants []tenantEntry `json:"managedByTenants"`
}

type tenantEntry struct {
	TenantID string `json:"tenantId"`
}

// accountUser is who signed in. AssignedIdentityInfo marks a managed identity.
type accountUser struct {
	Name                 string `json:"name"`
	Type                 string `json:"type"` // "user" or "servicePrincipal"
	AssignedIdentityInfo string `json:"assignedIdentityInfo,omitempty"`
}

func (s *session) profile() (*profile, error) {
	if s.prof != nil {
		return s.prof, nil
	}
	p := &profile{rest: object{}}
	b, err := os.ReadFile(s.path("azureProfile.json"))
	if err != nil && !os.IsNotExist(err) {
		return nil, fmt.Errorf("read profile: %w", err)
	}
	if b = bytes.TrimPrefix(b, []byte("\ufeff")); len(b) > 0 {
		if err := json.Unmarshal(b, &p.rest); err != nil {
			return nil, failf("azureProfile.json can't be read (%s). Run `az account clear` and sign in again.", err)
		}
		var known struct{ Subscriptions []account }
		if err := json.Unmarshal(b, &known); err != nil {
			return nil, failf("azureProfile.json can't be read (%s). Run `az account clear` and sign in again.", err)
		}
		p.Subscriptions = known.Subscriptions
	}
	s.prof = p
	return p, nil
}

func (s *session) saveProfile() error {
	s.prof.rest["subscriptions"] = s.prof.Subscriptions
	b, err := json.Marshal(s.prof.rest)
	if err != nil {
		return fmt.Errorf("write profile: %w", err)
	}
	return writePrivate(s.path("azureProfile.json"), append([]byte("\ufeff"), b...))
}

// inCloud are the accounts of the active cloud.
func (s *session) inCloud() ([]*account, error) {
	p, err := s.profile()
	if err != nil {
		return nil, err
	}
	c, err := s.cloud()
	if err != nil {
		return nil, err
	}
	var out []*account
	for i := range p.Subscriptions {
		if a := &p.Subscriptions[i]; a.EnvironmentName == c.name || a.EnvironmentName == "" {
			out = append(out, a)
		}
	}
	return out, nil
}

// account is the subscription that the command works in: the one of
// --subscription, else the default one.
func (s *session) account() (*account, error) {
	return s.accountOf(s.subscriptionName)
}

func (s *session) accountOf(nameOrID string) (*account, error) {
	all, err := s.inCloud()
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, s.signedOut()
	}
	if nameOrID == "" {
		for _, a := range all {
			if a.IsDefault {
				return a, nil
			}
		}
		return nil, failf("No subscription found. Run 'az account set' to select a subscription.")
	}
	for _, a := range all {
		if strings.EqualFold(a.ID, nameOrID) || strings.EqualFold(a.Name, nameOrID) {
			return a, nil
		}
	}
	return nil, failf("The subscription of '%s' doesn't exist in cloud '%s'.", nameOrID, s.active.name)
}

// signedOut says what to do: without a server on this machine, that comes first.
func (s *session) signedOut() error {
	err := failf("Please run 'az login' to setup account.")
	if s.local().Listen == "" && firstNonEmpty(s.env.Getenv("HTTPS_PROXY"), s.env.Getenv("https_proxy")) == "" {
		err = withHint(err, "Lazurite is not running on this machine; to start it, signed in as its owner: laz up -d")
	}
	return err
}

func (a *account) show(cloudKey string) object {
	user := object{"name": a.User.Name, "type": a.User.Type}
	if a.User.AssignedIdentityInfo != "" {
		user["assignedIdentityInfo"] = a.User.AssignedIdentityInfo
	}
	managed := []any{}
	for _, t := range a.ManagedByTenants {
		managed = append(managed, object{"tenantId": t.TenantID})
	}
	return object{
		cloudKey: a.EnvironmentName, "homeTenantId": a.HomeTenantID, "id": a.ID, "isDefault": a.IsDefault,
		"managedByTenants": managed, "name": a.Name, "state": a.State, "tenantId": a.TenantID, "user": user,
	}
}

// merge adds accounts in place of those with the same id, user and cloud, and
// makes the first new one the default.
func (p *profile) merge(fresh []account) {
	kept := p.Subscriptions[:0:0]
	for _, old := range p.Subscriptions {
		replaced := false
		for _, n := range fresh {
			replaced = replaced || old.ID == n.ID && old.EnvironmentName == n.EnvironmentName
		}
		if !replaced {
			if len(fresh) > 0 && old.EnvironmentName == fresh[0].EnvironmentName {
				old.IsDefault = false
			}
			kept = append(kept, old)
		}
	}
	for i := range fresh {
		fresh[i].IsDefault = i == 0
	}
	p.Subscriptions = append(kept, fresh...)
}
