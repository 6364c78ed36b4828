package clients_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azcertificates"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"
	"github.com/google/uuid"

	"lazurite.dev/e2e/live"
)

func fresh(prefix string) string { return prefix + "-" + uuid.NewString()[:8] }

func TestSecrets(t *testing.T) {
	if !cloud.Under(t) {
		return
	}
	ctx, name := t.Context(), fresh("s")
	client := must(azsecrets.NewClient(cloud.Vars["KEYVAULT_URL"], owner(t), nil))(t)
	for i := range 3 {
		must(client.SetSecret(ctx, name, azsecrets.SetSecretParameters{
			Value: to.Ptr(fmt.Sprint("value ", i)), ContentType: to.Ptr("text/plain"), Tags: map[string]*string{"n": to.Ptr(fmt.Sprint(i))},
		}, nil))(t)
	}
	got := must(client.GetSecret(ctx, name, "", nil))(t)
	if *got.Value != "value 2" || *got.Tags["n"] != "2" || *got.ContentType != "text/plain" || len(got.ID.Version()) != 32 {
		t.Errorf("got %+v", got.Secret)
	}
	versions := 0
	for pager := client.NewListSecretPropertiesVersionsPager(name, nil); pager.More(); {
		versions += len(must(pager.NextPage(ctx))(t).Value)
	}
	if versions != 3 {
		t.Errorf("%d versions, want 3", versions)
	}
	must(client.UpdateSecretProperties(ctx, name, got.ID.Version(), azsecrets.UpdateSecretPropertiesParameters{
		SecretAttributes: &azsecrets.SecretAttributes{Enabled: to.Ptr(false)},
	}, nil))(t)
	_, err := client.GetSecret(ctx, name, got.ID.Version(), nil)
	refused(t, err, 403, "Forbidden")
	backup := must(client.BackupSecret(ctx, name, nil))(t)
	must(client.DeleteSecret(ctx, name, nil))(t)
	_, err = client.SetSecret(ctx, name, azsecrets.SetSecretParameters{Value: to.Ptr("again")}, nil)
	refused(t, err, 409, "Conflict")
	must(client.GetDeletedSecret(ctx, name, nil))(t)
	must(client.RecoverDeletedSecret(ctx, name, nil))(t)
	must(client.DeleteSecret(ctx, name, nil))(t)
	must(client.PurgeDeletedSecret(ctx, name, nil))(t)
	_, err = client.GetSecret(ctx, name, "", nil)
	refused(t, err, 404, "SecretNotFound")
	must(client.RestoreSecret(ctx, azsecrets.RestoreSecretParameters{SecretBackup: backup.Value}, nil))(t)
	if restored := must(client.GetSecret(ctx, name, firstVersion(t, client, name), nil))(t); restored.Value == nil {
		t.Error("nothing was restored")
	}
}

// firstVersion is the oldest enabled version of a secret.
func firstVersion(t *testing.T, client *azsecrets.Client, name string) string {
	t.Helper()
	var all []*azsecrets.SecretProperties
	for pager := client.NewListSecretPropertiesVersionsPager(name, nil); pager.More(); {
		all = append(all, must(pager.NextPage(t.Context()))(t).Value...)
	}
	for _, p := range all {
		if *p.Attributes.Enabled {
			return p.ID.Version()
		}
	}
	t.Fatalf("no enabled version among %d", len(all))
	return ""
}

func TestSecretsArePaged(t *testing.T) {
	if !cloud.Under(t) {
		return
	}
	ctx, prefix := t.Context(), fresh("page")
	client := must(azsecrets.NewClient(cloud.Vars["KEYVAULT_URL"], owner(t), nil))(t)
	want := 30
	for i := range want {
		must(client.SetSecret(ctx, fmt.Sprintf("%s-%02d", prefix, i), azsecrets.SetSecretParameters{Value: to.Ptr("x")}, nil))(t)
	}
	pages, seen := 0, map[string]bool{}
	for pager := client.NewListSecretPropertiesPager(nil); pager.More(); pages++ {
		for _, s := range must(pager.NextPage(ctx))(t).Value {
			if bytes.HasPrefix([]byte(s.ID.Name()), []byte(prefix)) {
				seen[s.ID.Name()] = true
			}
		}
	}
	if len(seen) != want || pages < 2 {
		t.Errorf("%d secrets on %d pages, want %d on several", len(seen), pages, want)
	}
}

// A reader of secrets may neither write nor list keys.
func TestReaderMayOnlyRead(t *testing.T) {
	if !cloud.Under(t, "--as", live.As, "--cluster", live.Cluster) {
		return
	}
	secrets := must(azsecrets.NewClient(cloud.Vars["KEYVAULT_URL"], owner(t), nil))(t)
	_, err := secrets.SetSecret(t.Context(), "mine", azsecrets.SetSecretParameters{Value: to.Ptr("x")}, nil)
	refused(t, err, 403, "Forbidden")
	keys := must(azkeys.NewClient(cloud.Vars["KEYVAULT_URL"], owner(t), nil))(t)
	_, err = keys.NewListKeyPropertiesPager(nil).NextPage(t.Context())
	refused(t, err, 403, "Forbidden")
}

func keyClient(t *testing.T) *azkeys.Client {
	t.Helper()
	return must(azkeys.NewClient(cloud.Vars["KEYVAULT_URL"], owner(t), nil))(t)
}

func TestKeys_RSA(t *testing.T) {
	if !cloud.Under(t) {
		return
	}
	ctx, client, name := t.Context(), keyClient(t), fresh("rsa")
	made := must(client.CreateKey(ctx, name, azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeRSA), KeySize: to.Ptr(int32(2048))}, nil))(t)
	if len(made.Key.N) != 256 || made.Key.D != nil {
		t.Errorf("the public key is %+v", made.Key)
	}
	text := []byte("a short text")
	for _, alg := range []azkeys.EncryptionAlgorithm{azkeys.EncryptionAlgorithmRSAOAEP256, azkeys.EncryptionAlgorithmRSAOAEP} {
		sealed := must(client.Encrypt(ctx, name, "", azkeys.KeyOperationParameters{Algorithm: &alg, Value: text}, nil))(t)
		opened := must(client.Decrypt(ctx, name, made.Key.KID.Version(), azkeys.KeyOperationParameters{Algorithm: &alg, Value: sealed.Result}, nil))(t)
		if !bytes.Equal(opened.Result, text) {
			t.Errorf("%s: got %q", alg, opened.Result)
		}
		wrapped := must(client.WrapKey(ctx, name, "", azkeys.KeyOperationParameters{Algorithm: &alg, Value: text}, nil))(t)
		unwrapped := must(client.UnwrapKey(ctx, name, "", azkeys.KeyOperationParameters{Algorithm: &alg, Value: wrapped.Result}, nil))(t)
		if !bytes.Equal(unwrapped.Result, text) {
			t.Errorf("%s: unwrapped %q", alg, unwrapped.Result)
		}
	}
	signs(t, client, name, azkeys.SignatureAlgorithmRS256)
	signs(t, client, name, azkeys.SignatureAlgorithmPS256)
	rotated := must(client.RotateKey(ctx, name, nil))(t)
	if rotated.Key.KID.Version() == made.Key.KID.Version() {
		t.Error("rotation kept the version")
	}
	policy := azkeys.KeyRotationPolicy{
		Attributes: &azkeys.KeyRotationPolicyAttributes{ExpiryTime: to.Ptr("P90D")},
		LifetimeActions: []*azkeys.LifetimeAction{{
			Action: &azkeys.LifetimeActionType{Type: to.Ptr(azkeys.KeyRotationPolicyActionRotate)}, Trigger: &azkeys.LifetimeActionTrigger{TimeAfterCreate: to.Ptr("P30D")},
		}},
	}
	must(client.UpdateKeyRotationPolicy(ctx, name, policy, nil))(t)
	if got := must(client.GetKeyRotationPolicy(ctx, name, nil))(t); *got.Attributes.ExpiryTime != "P90D" {
		t.Errorf("the policy is %+v", got.KeyRotationPolicy)
	}
	backup := must(client.BackupKey(ctx, name, nil))(t)
	must(client.DeleteKey(ctx, name, nil))(t)
	must(client.PurgeDeletedKey(ctx, name, nil))(t)
	must(client.RestoreKey(ctx, azkeys.RestoreKeyParameters{KeyBackup: backup.Value}, nil))(t)
	must(client.GetKey(ctx, name, made.Key.KID.Version(), nil))(t)
}

// signs signs and verifies, and sees that a changed digest is not accepted.
func signs(t *testing.T, client *azkeys.Client, name string, alg azkeys.SignatureAlgorithm) []byte {
	t.Helper()
	digest := make([]byte, map[azkeys.SignatureAlgorithm]int{azkeys.SignatureAlgorithmES384: 48, azkeys.SignatureAlgorithmES512: 64}[alg])
	if len(digest) == 0 {
		digest = make([]byte, 32)
	}
	digest[0] = 1
	signed := must(client.Sign(t.Context(), name, "", azkeys.SignParameters{Algorithm: &alg, Value: digest}, nil))(t)
	check := func() bool {
		return *must(client.Verify(t.Context(), name, "", azkeys.VerifyParameters{Algorithm: &alg, Digest: digest, Signature: signed.Result}, nil))(t).Value
	}
	if !check() {
		t.Errorf("%s: the signature is not accepted", alg)
	}
	digest[0] = 2
	if check() {
		t.Errorf("%s: a signature of something else is accepted", alg)
	}
	return signed.Result
}

func TestKeys_EC(t *testing.T) {
	if !cloud.Under(t) {
		return
	}
	client := keyClient(t)
	for curve, alg := range map[azkeys.CurveName]azkeys.SignatureAlgorithm{
		azkeys.CurveNameP256: azkeys.SignatureAlgorithmES256, azkeys.CurveNameP384: azkeys.SignatureAlgorithmES384, azkeys.CurveNameP521: azkeys.SignatureAlgorithmES512,
	} {
		name := fresh("ec")
		made := must(client.CreateKey(t.Context(), name, azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeEC), Curve: &curve}, nil))(t)
		if *made.Key.Crv != curve {
			t.Errorf("the curve is %s, want %s", *made.Key.Crv, curve)
		}
		signs(t, client, name, alg)
	}
}

func TestKeys_Import(t *testing.T) {
	if !cloud.Under(t) {
		return
	}
	client, name := keyClient(t), fresh("imported")
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	point := must(key.PublicKey.Bytes())(t) // 4, x, y
	must(client.ImportKey(t.Context(), name, azkeys.ImportKeyParameters{Key: &azkeys.JSONWebKey{
		Kty: to.Ptr(azkeys.KeyTypeEC), Crv: to.Ptr(azkeys.CurveNameP256), X: point[1:33], Y: point[33:], D: must(key.Bytes())(t),
		KeyOps: to.SliceOfPtrs(azkeys.KeyOperationSign, azkeys.KeyOperationVerify),
	}}, nil))(t)
	digest := sha256.Sum256([]byte("text"))
	alg := azkeys.SignatureAlgorithmES256
	signed := must(client.Sign(t.Context(), name, "", azkeys.SignParameters{Algorithm: &alg, Value: digest[:]}, nil))(t)
	r, s := new(big.Int).SetBytes(signed.Result[:32]), new(big.Int).SetBytes(signed.Result[32:])
	if !ecdsa.Verify(&key.PublicKey, digest[:], r, s) {
		t.Error("the signature is not of the key that was imported")
	}
	wrap := azkeys.EncryptionAlgorithmRSAOAEP
	_, err := client.WrapKey(t.Context(), name, "", azkeys.KeyOperationParameters{Algorithm: &wrap, Value: digest[:]}, nil)
	if err == nil {
		t.Error("an operation that the key doesn't allow was done")
	}
	names := []string{}
	for pager := client.NewListKeyPropertiesPager(nil); pager.More(); {
		for _, k := range must(pager.NextPage(t.Context()))(t).Value {
			names = append(names, k.KID.Name())
		}
	}
	if !slices.Contains(names, name) {
		t.Errorf("%s is not among %q", name, names)
	}
}

func certClient(t *testing.T) *azcertificates.Client {
	t.Helper()
	return must(azcertificates.NewClient(cloud.Vars["KEYVAULT_URL"], owner(t), nil))(t)
}

func policyOf(issuer string) *azcertificates.CertificatePolicy {
	return &azcertificates.CertificatePolicy{
		IssuerParameters: &azcertificates.IssuerParameters{Name: to.Ptr(issuer)},
		KeyProperties:    &azcertificates.KeyProperties{KeyType: to.Ptr(azcertificates.KeyTypeRSA), KeySize: to.Ptr(int32(2048)), Exportable: to.Ptr(true), ReuseKey: to.Ptr(false)},
		SecretProperties: &azcertificates.SecretProperties{ContentType: to.Ptr("application/x-pem-file")},
		X509CertificateProperties: &azcertificates.X509CertificateProperties{
			Subject: to.Ptr("CN=web.example"), ValidityInMonths: to.Ptr(int32(12)),
			SubjectAlternativeNames: &azcertificates.SubjectAlternativeNames{DNSNames: to.SliceOfPtrs("web.example")},
		},
	}
}

// issued waits until the certificate's request is done.
func issued(t *testing.T, client *azcertificates.Client, name string) {
	t.Helper()
	if !live.Until(20*time.Second, func() bool {
		op := must(client.GetCertificateOperation(t.Context(), name, nil))(t)
		if op.Error != nil {
			t.Fatalf("the request ended with %+v", *op.Error)
		}
		return *op.Status == "completed"
	}) {
		t.Fatal("the request is not completed")
	}
}

func TestCertificates_SelfSigned(t *testing.T) {
	if !cloud.Under(t) {
		return
	}
	ctx, client, name := t.Context(), certClient(t), fresh("cert")
	must(client.CreateCertificate(ctx, name, azcertificates.CreateCertificateParameters{CertificatePolicy: policyOf("Self")}, nil))(t)
	issued(t, client, name)
	got := must(client.GetCertificate(ctx, name, "", nil))(t)
	cert := must(x509.ParseCertificate(got.CER))(t)
	if err := cert.VerifyHostname("web.example"); err != nil {
		t.Error(err)
	}
	secrets := must(azsecrets.NewClient(cloud.Vars["KEYVAULT_URL"], owner(t), nil))(t)
	secret := must(secrets.GetSecret(ctx, name, "", nil))(t)
	block, _ := pem.Decode([]byte(*secret.Value))
	if block == nil || block.Type != "PRIVATE KEY" || *secret.Managed != true {
		t.Errorf("the secret of the certificate has no key first: %.40s", *secret.Value)
	}
	must(client.UpdateCertificatePolicy(ctx, name, azcertificates.CertificatePolicy{
		X509CertificateProperties: &azcertificates.X509CertificateProperties{Subject: to.Ptr("CN=other.example"), ValidityInMonths: to.Ptr(int32(6))},
	}, nil))(t)
	if p := must(client.GetCertificatePolicy(ctx, name, nil))(t); *p.X509CertificateProperties.Subject != "CN=other.example" {
		t.Errorf("the policy is %+v", p.X509CertificateProperties)
	}
	backup := must(client.BackupCertificate(ctx, name, nil))(t)
	must(client.DeleteCertificate(ctx, name, nil))(t)
	must(client.PurgeDeletedCertificate(ctx, name, nil))(t)
	must(client.RestoreCertificate(ctx, azcertificates.RestoreCertificateParameters{CertificateBackup: backup.Value}, nil))(t)
	must(client.GetCertificate(ctx, name, "", nil))(t)
}

func TestCertificates_Import(t *testing.T) {
	if !cloud.Under(t) {
		return
	}
	client, name := certClient(t), fresh("imported")
	cert, key := selfSigned(t, "imported.example")
	private := must(x509.MarshalPKCS8PrivateKey(key))(t)
	text := append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})...)
	must(client.ImportCertificate(t.Context(), name, azcertificates.ImportCertificateParameters{
		Base64EncodedCertificate: to.Ptr(string(text)),
		CertificatePolicy:        &azcertificates.CertificatePolicy{SecretProperties: &azcertificates.SecretProperties{ContentType: to.Ptr("application/x-pem-file")}},
	}, nil))(t)
	if got := must(client.GetCertificate(t.Context(), name, "", nil))(t); !bytes.Equal(got.CER, cert.Raw) {
		t.Error("another certificate came back")
	}
	_, err := client.ImportCertificate(t.Context(), fresh("bad"), azcertificates.ImportCertificateParameters{
		Base64EncodedCertificate: to.Ptr(base64.StdEncoding.EncodeToString([]byte("not a certificate"))),
	}, nil)
	refused(t, err, 400, "BadParameter")
}

// A request that somebody else signs, merged when it comes back.
func TestCertificates_Merge(t *testing.T) {
	if !cloud.Under(t) {
		return
	}
	ctx, client, name := t.Context(), certClient(t), fresh("merged")
	op := must(client.CreateCertificate(ctx, name, azcertificates.CreateCertificateParameters{CertificatePolicy: policyOf("Unknown")}, nil))(t)
	request := must(x509.ParseCertificateRequest(op.CSR))(t)
	ca, caKey := selfSigned(t, "An authority")
	template := x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: request.Subject, DNSNames: request.DNSNames,
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
	}
	der := must(x509.CreateCertificate(rand.Reader, &template, ca, request.PublicKey, caKey.(crypto.Signer)))(t)
	must(client.MergeCertificate(ctx, name, azcertificates.MergeCertificateParameters{X509Certificates: [][]byte{der, ca.Raw}}, nil))(t)
	if got := must(client.GetCertificate(ctx, name, "", nil))(t); !bytes.Equal(got.CER, der) {
		t.Error("another certificate came back")
	}
}

func TestCertificates_IssuersAndContacts(t *testing.T) {
	if !cloud.Under(t) {
		return
	}
	ctx, client, name := t.Context(), certClient(t), fresh("issuer")
	must(client.SetIssuer(ctx, name, azcertificates.SetIssuerParameters{Provider: to.Ptr("Test")}, nil))(t)
	if got := must(client.GetIssuer(ctx, name, nil))(t); *got.Provider != "Test" {
		t.Errorf("the issuer is %+v", got.Issuer)
	}
	must(client.DeleteIssuer(ctx, name, nil))(t)
	contacts := azcertificates.Contacts{ContactList: []*azcertificates.Contact{{Email: to.Ptr("ops@example.com")}}}
	must(client.SetContacts(ctx, contacts, nil))(t)
	if got := must(client.GetContacts(ctx, nil))(t); len(got.ContactList) != 1 || *got.ContactList[0].Email != "ops@example.com" {
		t.Errorf("the contacts are %+v", got.Contacts)
	}
	must(client.DeleteContacts(ctx, nil))(t)
}

// A firewall that lets nobody in refuses the owner too, before it looks at the token.
func TestFirewall(t *testing.T) {
	if !cloud.Under(t) {
		return
	}
	name := fresh("fw")
	az(t, "keyvault", "create", "--name", name, "--resource-group", live.Group, "--location", "eastus", "--enable-rbac-authorization")
	scope := az(t, "keyvault", "show", "--name", name, "--query", "id")
	az(t, "role", "assignment", "create", "--assignee", cloud.Vars["OWNER"], "--role", "Key Vault Administrator", "--scope", scope)
	client := must(azsecrets.NewClient("https://"+name+".vault.azure.net/", owner(t), nil))(t)
	set := func() error {
		_, err := client.SetSecret(t.Context(), "s", azsecrets.SetSecretParameters{Value: to.Ptr("x")}, nil)
		return err
	}
	if err := set(); err != nil {
		t.Fatal(err)
	}
	az(t, "keyvault", "update", "--name", name, "--resource-group", live.Group, "--default-action", "Deny")
	refused(t, set(), 403, "Forbidden")
	az(t, "keyvault", "network-rule", "add", "--name", name, "--ip-address", "127.0.0.1/32")
	if err := set(); err != nil {
		t.Errorf("the address that was let in: %v", err)
	}
	az(t, "keyvault", "update", "--name", name, "--resource-group", live.Group, "--public-network-access", "Disabled")
	refused(t, set(), 403, "Forbidden")
}
