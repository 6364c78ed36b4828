package server

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"lazurite.dev/internal/durable"
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
	if err := durable.WriteFile(filepath.Join(dir, ownerFile), owner, 0o600); err != nil {
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
	return durable.WriteFile(filepath.Join(dir, profileFile), profile, 0o600)
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
	if err := durable.WriteFile(filepath.Join(dir, "clouds.config"), b.Bytes(), 0o600); err != nil {
		return err
	}
	path := filepath.Join(dir, "config")
	if there(path) {
		return nil
	}
	return durable.WriteFile(path, []byte("[cloud]\nname = Lazurite\n"), 0o600)
}

func there(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
