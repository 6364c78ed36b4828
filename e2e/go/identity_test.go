package clients_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"

	"lazurite.dev/e2e/live"
)

// readSecret reads the world's secret with credential.
func readSecret(ctx context.Context, credential azcore.TokenCredential) (string, error) {
	client, err := azsecrets.NewClient(cloud.Vars["KEYVAULT_URL"], credential, nil)
	if err != nil {
		return "", err
	}
	got, err := client.GetSecret(ctx, live.Secret, "", nil)
	if err != nil {
		return "", err
	}
	return *got.Value, nil
}

func wantSecret(t *testing.T, credential azcore.TokenCredential) {
	t.Helper()
	if got := must(readSecret(t.Context(), credential))(t); got != live.SecretValue {
		t.Errorf("got %q, want %q", got, live.SecretValue)
	}
}

func TestWorkloadIdentityCredential(t *testing.T) {
	if !cloud.Under(t, "--as", live.As, "--cluster", live.Cluster) {
		return
	}
	for _, name := range []string{"AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_FEDERATED_TOKEN_FILE", "AZURE_AUTHORITY_HOST"} {
		if os.Getenv(name) == "" {
			t.Errorf("%s is not set", name)
		}
	}
	wantSecret(t, must(azidentity.NewWorkloadIdentityCredential(nil))(t))
}

func TestDefaultAzureCredential_WorkloadIdentity(t *testing.T) {
	if !cloud.Under(t, "--as", live.As, "--cluster", live.Cluster) {
		return
	}
	wantSecret(t, must(azidentity.NewDefaultAzureCredential(nil))(t))
}

func TestDefaultAzureCredential_AzureCLI(t *testing.T) {
	if !cloud.Under(t) {
		return
	}
	wantSecret(t, owner(t))
	wantSecret(t, must(azidentity.NewAzureCLICredential(nil))(t))
}

func TestManagedIdentityCredential(t *testing.T) {
	if !cloud.Under(t, "--identity", live.Identity) {
		return
	}
	wantSecret(t, must(azidentity.NewManagedIdentityCredential(nil))(t))
	byID := azidentity.ManagedIdentityCredentialOptions{ID: azidentity.ClientID(cloud.Vars["CLIENT_ID"])}
	wantSecret(t, must(azidentity.NewManagedIdentityCredential(&byID))(t))
	stranger := azidentity.ManagedIdentityCredentialOptions{ID: azidentity.ClientID("11111111-2222-3333-4444-555555555555")}
	if _, err := readSecret(t.Context(), must(azidentity.NewManagedIdentityCredential(&stranger))(t)); err == nil {
		t.Error("an identity that was not assigned got a token")
	}
}

func TestDefaultAzureCredential_ManagedIdentity(t *testing.T) {
	if !cloud.Under(t, "--identity", live.Identity) {
		return
	}
	wantSecret(t, must(azidentity.NewDefaultAzureCredential(nil))(t))
}

// principal makes an application with a secret that may read the vault's secrets.
func principal(t *testing.T, name string) (appID, password string) {
	t.Helper()
	var sp struct{ AppID, Password string }
	azJSON(t, &sp, "ad", "sp", "create-for-rbac", "--name", name, "--role", "Key Vault Secrets User", "--scopes", cloud.Vars["VAULT_ID"])
	return sp.AppID, sp.Password
}

func TestClientSecretCredential(t *testing.T) {
	if !cloud.Under(t) {
		return
	}
	appID, password := principal(t, "by-secret")
	wantSecret(t, must(azidentity.NewClientSecretCredential(cloud.Vars["TENANT"], appID, password, nil))(t))

	_, err := readSecret(t.Context(), must(azidentity.NewClientSecretCredential(cloud.Vars["TENANT"], appID, password+"x", nil))(t))
	notAuthenticated(t, err, 401, "AADSTS7000215")
	_, err = readSecret(t.Context(), must(azidentity.NewClientSecretCredential(cloud.Vars["TENANT"], "11111111-2222-3333-4444-555555555555", password, nil))(t))
	notAuthenticated(t, err, 400, "AADSTS700016")

	t.Setenv("AZURE_TENANT_ID", cloud.Vars["TENANT"])
	t.Setenv("AZURE_CLIENT_ID", appID)
	t.Setenv("AZURE_CLIENT_SECRET", password)
	wantSecret(t, must(azidentity.NewEnvironmentCredential(nil))(t))
	wantSecret(t, must(azidentity.NewDefaultAzureCredential(nil))(t))
}

func TestClientCertificateCredential(t *testing.T) {
	if !cloud.Under(t) {
		return
	}
	appID, _ := principal(t, "by-certificate")
	cert, key := selfSigned(t, "by-certificate")
	file := filepath.Join(t.TempDir(), "app.pem")
	public := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
	if err := os.WriteFile(file, public, 0o600); err != nil {
		t.Fatal(err)
	}
	az(t, "ad", "app", "credential", "reset", "--id", appID, "--cert", "@"+file, "--append")

	tenant := cloud.Vars["TENANT"]
	wantSecret(t, must(azidentity.NewClientCertificateCredential(tenant, appID, []*x509.Certificate{cert}, key, nil))(t))

	other, otherKey := selfSigned(t, "somebody else")
	_, err := readSecret(t.Context(), must(azidentity.NewClientCertificateCredential(tenant, appID, []*x509.Certificate{other}, otherKey, nil))(t))
	notAuthenticated(t, err, 401, "AADSTS700027")

	private := must(x509.MarshalPKCS8PrivateKey(key))(t)
	both := append(public, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})...)
	if err := os.WriteFile(file, both, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AZURE_TENANT_ID", tenant)
	t.Setenv("AZURE_CLIENT_ID", appID)
	t.Setenv("AZURE_CLIENT_CERTIFICATE_PATH", file)
	wantSecret(t, must(azidentity.NewDefaultAzureCredential(nil))(t))
}

func selfSigned(t *testing.T, name string) (*x509.Certificate, crypto.PrivateKey) {
	t.Helper()
	key := must(rsa.GenerateKey(rand.Reader, 2048))(t)
	template := x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der := must(x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key))(t)
	return must(x509.ParseCertificate(der))(t), key
}

// A token of another resource opens nothing here.
func TestTokenOfAnotherResourceIsRefused(t *testing.T) {
	if !cloud.Under(t) {
		return
	}
	client := must(azsecrets.NewClient(cloud.Vars["KEYVAULT_URL"], fixed{owner(t), "https://management.azure.com/.default"}, nil))(t)
	_, err := client.GetSecret(t.Context(), live.Secret, "", nil)
	refused(t, err, 401, "Unauthorized")
}

// fixed asks for one scope, whatever it is asked for.
type fixed struct {
	azcore.TokenCredential
	scope string
}

func (f fixed) GetToken(ctx context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	o.Scopes = []string{f.scope}
	return f.TokenCredential.GetToken(ctx, o)
}

// The federated credential names a subject that differs in letter case alone.
func TestWorkloadIdentity_SubjectInAnotherCase(t *testing.T) {
	if !cloud.Under(t) {
		return
	}
	az(t, "identity", "create", "--name", "miscased", "--resource-group", live.Group, "--location", "eastus")
	az(t, "identity", "federated-credential", "create", "--name", "fed", "--identity-name", "miscased", "--resource-group", live.Group,
		"--issuer", cloud.Vars["ISSUER"], "--subject", "system:serviceaccount:Default:other-sa", "--audience", "api://AzureADTokenExchange")
	id := az(t, "identity", "show", "--name", "miscased", "--resource-group", live.Group, "--query", "clientId")
	exchange(t, id, "default/other-sa", "AADSTS7002138", "system:serviceaccount:default:other-sa", "system:serviceaccount:Default:other-sa")
}

// The issuer lacks its slash at the end.
func TestWorkloadIdentity_IssuerWithoutSlash(t *testing.T) {
	if !cloud.Under(t) {
		return
	}
	az(t, "identity", "create", "--name", "slashless", "--resource-group", live.Group, "--location", "eastus")
	issuer := cloud.Vars["ISSUER"]
	az(t, "identity", "federated-credential", "create", "--name", "fed", "--identity-name", "slashless", "--resource-group", live.Group,
		"--issuer", issuer[:len(issuer)-1], "--subject", "system:serviceaccount:default:third-sa", "--audience", "api://AzureADTokenExchange")
	id := az(t, "identity", "show", "--name", "slashless", "--resource-group", live.Group, "--query", "clientId")
	exchange(t, id, "default/third-sa", "AADSTS700211")
}

// exchange has a service account ask for a token of the identity with clientID,
// in a process under laz run --as, and expects a refusal that says words.
func exchange(t *testing.T, clientID, as string, words ...string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "token")
	token := must(live.Exec(cloud.Command(t.Context(), cloud.Bin, "run", "--as", as, "--cluster", live.Cluster, "--", "sh", "-c", `cat "$AZURE_FEDERATED_TOKEN_FILE"`)))(t)
	if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AZURE_FEDERATED_TOKEN_FILE", file)
	t.Setenv("AZURE_TENANT_ID", cloud.Vars["TENANT"])
	t.Setenv("AZURE_CLIENT_ID", clientID)
	credential := must(azidentity.NewWorkloadIdentityCredential(nil))(t)
	_, err := credential.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{"https://vault.azure.net/.default"}})
	notAuthenticated(t, err, 401, words...)
}

// A role that was removed refuses the next request, and one that was given lets it through.
func TestRoleCountsOnTheNextRequest(t *testing.T) {
	if !cloud.Under(t, "--as", live.As, "--cluster", live.Cluster) {
		return
	}
	credential := must(azidentity.NewDefaultAzureCredential(nil))(t)
	client := must(azsecrets.NewClient(cloud.Vars["KEYVAULT_URL"], credential, nil))(t)
	must(client.GetSecret(t.Context(), live.Secret, "", nil))(t)
	args := []string{"--assignee-object-id", cloud.Vars["PRINCIPAL_ID"], "--role", "Key Vault Secrets User", "--scope", cloud.Vars["VAULT_ID"]}
	del := []string{"role", "assignment", "delete", "--assignee", cloud.Vars["PRINCIPAL_ID"], "--role", "Key Vault Secrets User", "--scope", cloud.Vars["VAULT_ID"]}
	az(t, del...)
	_, err := client.GetSecret(t.Context(), live.Secret, "", nil)
	refused(t, err, 403, "Forbidden")
	az(t, append([]string{"role", "assignment", "create", "--assignee-principal-type", "ServicePrincipal"}, args...)...)
	must(client.GetSecret(t.Context(), live.Secret, "", nil))(t)
}

// The assertion is a JWT of the cluster; with its signature spoilt it is worth nothing.
func TestWorkloadIdentity_SpoiltSignature(t *testing.T) {
	if !cloud.Under(t, "--as", live.As, "--cluster", live.Cluster) {
		return
	}
	token := must(os.ReadFile(os.Getenv("AZURE_FEDERATED_TOKEN_FILE")))(t)
	signature := make([]byte, 256)
	must(rand.Read(signature))(t)
	dot := len(token) - 1
	for token[dot] != '.' {
		dot--
	}
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, append(token[:dot+1:dot+1], base64.RawURLEncoding.EncodeToString(signature)...), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AZURE_FEDERATED_TOKEN_FILE", file)
	credential := must(azidentity.NewWorkloadIdentityCredential(nil))(t)
	_, err := readSecret(t.Context(), credential)
	notAuthenticated(t, err, 401, "AADSTS")
}
