package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// azureCLI is the application id of az, a public client of every tenant.
const azureCLI = "04b07795-8ddb-461a-bbee-02f9e1bf7b46"

const (
	ownerFile   = "laz_owner.json"
	profileFile = "azureProfile.json"
)

// ownerFiles writes, in the configuration folder that `laz env` names, the
// files by which the local az is signed in as the owner. A profile that is there
// stays: somebody may have signed in as somebody else.
func (s *system) ownerFiles(ctx context.Context) error {
	dir := s.Home.Azure()
	if there(filepath.Join(dir, profileFile)) && s.ownerSignedIn(ctx, filepath.Join(dir, ownerFile)) {
		return nil
	}
	if u, err := s.dir.User(s.in.Owner); err != nil || u.Disabled {
		s.Config.Log.Warn("the owner of the first start is gone or disabled: the local az is not signed in")
		return nil
	}
	refresh, err := s.login.NewRefreshToken(ctx, s.in.Owner, azureCLI)
	if err != nil {
		return err
	}
	owner, err := json.MarshalIndent(map[string]string{
		"authority": "https://" + s.Config.Host(Login, ""), "tenantId": s.in.Tenant, "username": s.in.OwnerUPN, "refreshToken": refresh,
	}, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding the owner's sign-in: %w", err)
	}
	if err := writePrivate(filepath.Join(dir, ownerFile), owner); err != nil {
		return err
	}
	if there(filepath.Join(dir, profileFile)) {
		return nil
	}
	profile, err := s.profile()
	if err != nil {
		return err
	}
	if s.Config.Names == NamesOwn {
		if err := s.cloudFiles(dir); err != nil {
			return err
		}
	}
	return writePrivate(filepath.Join(dir, profileFile), profile)
}

// ownerSignedIn reports whether the file has a refresh token that still counts:
// it ends with the owner's password.
func (s *system) ownerSignedIn(ctx context.Context, path string) bool {
	raw, err := os.ReadFile(path)
	var f struct {
		RefreshToken string `json:"refreshToken"`
	}
	return err == nil && json.Unmarshal(raw, &f) == nil && s.login.Good(ctx, f.RefreshToken)
}

// cloudName is what az calls the cloud.
func (s *system) cloudName() string {
	if s.Config.Names == NamesOwn {
		return "Lazurite"
	}
	return "AzureCloud"
}

// profile is az's list of subscriptions. It begins with a byte-order mark, as az writes it.
func (s *system) profile() ([]byte, error) {
	b, err := json.Marshal(map[string]any{"subscriptions": []any{map[string]any{
		"id": s.in.Subscription, "name": subscriptionName, "state": "Enabled",
		"user":      map[string]string{"name": s.in.OwnerUPN, "type": "user"},
		"isDefault": true, "tenantId": s.in.Tenant, "homeTenantId": s.in.Tenant,
		"environmentName": s.cloudName(), "managedByTenants": []any{},
	}}})
	if err != nil {
		return nil, fmt.Errorf("encoding the profile: %w", err)
	}
	return append([]byte("\xef\xbb\xbf"), b...), nil
}

// cloudFiles registers the operator's names as az's cloud and chooses it.
func (s *system) cloudFiles(dir string) error {
	url := func(surface string) string { return "https://" + s.Config.Host(surface, "") }
	var b bytes.Buffer
	fmt.Fprintf(&b, "[Lazurite]\nendpoint_management = %[1]s/\nendpoint_resource_manager = %[1]s/\nendpoint_active_directory = %[2]s\n", url(ARM), url(Login))
	fmt.Fprintf(&b, "endpoint_active_directory_resource_id = %s/\nendpoint_active_directory_graph_resource_id = %[2]s/\nendpoint_microsoft_graph_resource_id = %[2]s/\n", url(ARM), url(Graph))
	fmt.Fprintf(&b, "suffix_keyvault_dns = .%s\n", strings.TrimPrefix(s.Config.Host(KeyVault, ""), "."))
	if err := writePrivate(filepath.Join(dir, "clouds.config"), b.Bytes()); err != nil {
		return err
	}
	path := filepath.Join(dir, "config")
	if there(path) {
		return nil
	}
	return writePrivate(path, []byte("[cloud]\nname = Lazurite\n"))
}

func there(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// writePrivate writes a file that only its user can read, whole or not at all.
func writePrivate(path string, b []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	_, err = tmp.Write(b)
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("writing %s: %w", path, err), os.Remove(tmp.Name()))
	}
	return nil
}
