package live

import (
	"fmt"
	"math/rand/v2"
)

// The names of the world that World makes.
const (
	Group          = "e2e"
	Cluster        = "myAKSCluster"
	Identity       = "reader"
	Namespace      = "default"
	ServiceAccount = "workload-identity-sa"
	As             = Namespace + "/" + ServiceAccount
	Secret         = "my-secret"
	SecretValue    = `Hello\!`
)

// World is what document 003 types: a cluster, an identity that trusts one of
// its service accounts, a vault with a secret that the identity may read. The
// owner administers the vault. Vars gets SUBSCRIPTION, TENANT, CLIENT_ID,
// PRINCIPAL_ID, ISSUER, VAULT, VAULT_ID and KEYVAULT_URL.
func World(c *Cloud) error {
	c.Vars["VAULT"] = fmt.Sprintf("e2e-%08x", rand.Uint32())
	v := c.Vars
	steps := []struct {
		into string // the variable that gets the answer
		args func() []string
	}{
		{"SUBSCRIPTION", line("account", "show", "--query", "id")},
		{"TENANT", line("account", "show", "--query", "tenantId")},
		{"OWNER", line("account", "show", "--query", "user.name")},
		{"", line("group", "create", "--name", Group, "--location", "eastus")},
		{"ISSUER", line("aks", "create", "--resource-group", Group, "--name", Cluster, "--enable-oidc-issuer", "--enable-workload-identity",
			"--generate-ssh-keys", "--query", "oidcIssuerProfile.issuerUrl")},
		{"CLIENT_ID", line("identity", "create", "--name", Identity, "--resource-group", Group, "--location", "eastus", "--query", "clientId")},
		{"PRINCIPAL_ID", line("identity", "show", "--name", Identity, "--resource-group", Group, "--query", "principalId")},
		{"", func() []string {
			return []string{"identity", "federated-credential", "create", "--name", "fed", "--identity-name", Identity, "--resource-group", Group,
				"--issuer", v["ISSUER"], "--subject", "system:serviceaccount:" + Namespace + ":" + ServiceAccount, "--audience", "api://AzureADTokenExchange"}
		}},
		{"VAULT_ID", func() []string {
			return []string{"keyvault", "create", "--name", v["VAULT"], "--resource-group", Group, "--location", "eastus", "--enable-rbac-authorization", "--query", "id"}
		}},
		{"KEYVAULT_URL", func() []string {
			return []string{"keyvault", "show", "--name", v["VAULT"], "--query", "properties.vaultUri"}
		}},
		{"", func() []string {
			return []string{"role", "assignment", "create", "--assignee", v["OWNER"], "--role", "Key Vault Administrator", "--scope", v["VAULT_ID"]}
		}},
		{"", func() []string {
			return []string{"keyvault", "secret", "set", "--vault-name", v["VAULT"], "--name", Secret, "--value", SecretValue}
		}},
		{"", func() []string {
			return []string{"role", "assignment", "create", "--assignee-object-id", v["PRINCIPAL_ID"], "--assignee-principal-type", "ServicePrincipal",
				"--role", "Key Vault Secrets User", "--scope", v["VAULT_ID"]}
		}},
	}
	for _, s := range steps {
		out, err := c.TSV(s.args()...)
		if err != nil {
			return fmt.Errorf("preparing: %w", err)
		}
		if s.into != "" {
			v[s.into] = out
		}
	}
	return nil
}

func line(args ...string) func() []string { return func() []string { return args } }
