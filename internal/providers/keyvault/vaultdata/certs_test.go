package vaultdata_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/providers/keyvault/vaultdata"
)

func selfPolicy() *vaultdata.CertPolicy {
	return &vaultdata.CertPolicy{
		Issuer: &vaultdata.IssuerProps{Name: "Self"}, Key: &vaultdata.KeyProps{Kty: "EC", Crv: "P-256"},
		X509: &vaultdata.X509Props{
			Subject: `CN=web, O="Contoso, Ltd", C=US`, KeyUsage: []string{"digitalSignature", "keyAgreement"}, ValidityMonths: 6,
			SANs: &vaultdata.SANs{DNSNames: []string{"web.example"}, Emails: []string{"a@b.example"}, UPNs: []string{"u@b.example"}, IPAddresses: []string{"10.0.0.1"}},
		},
	}
}

func createCert(t testing.TB, b *bench, v *vaultdata.Vault, name string, p *vaultdata.CertPolicy) *vaultdata.Certificate {
	t.Helper()
	must[*vaultdata.CertOperation](t)(b.CreateCert(t.Context(), v, name, &vaultdata.CreateCert{Policy: p}))
	op := must[*vaultdata.CertOperation](t)(b.GetPending(t.Context(), v, name, ""))
	if op.Status != "completed" || op.Target == "" {
		t.Fatalf("operation %+v", op)
	}
	return must[*vaultdata.Certificate](t)(b.GetCert(t.Context(), v, name, ""))
}

func leafOf(t testing.TB, c *vaultdata.Certificate) *x509.Certificate {
	t.Helper()
	return must[*x509.Certificate](t)(x509.ParseCertificate(must[[]byte](t)(base64.StdEncoding.DecodeString(c.CER))))
}

func TestCert_SelfSignedFollowsItsPolicy(t *testing.T) {
	b, v := open(t), vault("u1")
	leaf := leafOf(t, createCert(t, b, v, "web", selfPolicy()))
	if got := leaf.Subject; got.CommonName != "web" || got.Organization[0] != "Contoso, Ltd" || got.Country[0] != "US" {
		t.Errorf("subject %v", got)
	}
	if len(leaf.DNSNames) != 1 || leaf.EmailAddresses[0] != "a@b.example" || leaf.IPAddresses[0].String() != "10.0.0.1" {
		t.Errorf("names %v %v %v", leaf.DNSNames, leaf.EmailAddresses, leaf.IPAddresses)
	}
	if leaf.KeyUsage != x509.KeyUsageDigitalSignature|x509.KeyUsageKeyAgreement || len(leaf.ExtKeyUsage) != 2 || leaf.IsCA {
		t.Errorf("usage %v %v", leaf.KeyUsage, leaf.ExtKeyUsage)
	}
	if m := leaf.NotAfter.Sub(leaf.NotBefore).Hours() / 24; m < 180 || m > 185 {
		t.Errorf("valid for %f days", m)
	}
	if err := leaf.CheckSignature(leaf.SignatureAlgorithm, leaf.RawTBSCertificate, leaf.Signature); err != nil {
		t.Error(err)
	}
}

func TestCert_KeyAndSecretOfTheName(t *testing.T) {
	b, v := open(t), vault("u1")
	for contentType, name := range map[string]string{"application/x-pkcs12": "pfx", "application/x-pem-file": "pem"} {
		p := selfPolicy()
		p.Secret = &vaultdata.SecretProps{ContentType: contentType}
		cert := createCert(t, b, v, name, p)
		leaf := leafOf(t, cert)
		s := must[*vaultdata.Secret](t)(b.GetSecret(t.Context(), v, name, "", ""))
		if s.ID != cert.SecretID || s.KeyID != cert.KeyID || *s.Managed != true || *s.ContentType != contentType {
			t.Errorf("secret %+v", s)
		}
		var key any
		if name == "pfx" {
			var got *x509.Certificate
			var err error
			key, got, err = pkcs12.Decode(must[[]byte](t)(base64.StdEncoding.DecodeString(*s.Value)), "")
			if err != nil || !got.Equal(leaf) {
				t.Fatalf("PKCS#12: %v", err)
			}
			text := must[*vaultdata.Secret](t)(b.GetSecret(t.Context(), v, name, "", "application/x-pem-file"))
			if !strings.Contains(*text.Value, "BEGIN PRIVATE KEY") || !strings.Contains(*text.Value, "BEGIN CERTIFICATE") {
				t.Errorf("converted to %q", *text.Value)
			}
		} else {
			block, _ := pem.Decode([]byte(*s.Value))
			key = must[any](t)(x509.ParsePKCS8PrivateKey(block.Bytes))
		}
		if !key.(*ecdsa.PrivateKey).PublicKey.Equal(leaf.PublicKey) {
			t.Error("the secret has another key")
		}
		k := must[*vaultdata.KeyBundle](t)(b.GetKey(t.Context(), v, name, ""))
		if k.Key.KeyID != cert.KeyID || *k.Managed != true {
			t.Errorf("key %+v", k)
		}
		must[*vaultdata.OperationResult](t)(b.Sign(t.Context(), v, name, "", &vaultdata.Operation{Alg: "ES256", Value: b64.EncodeToString(make([]byte, 32))}))
	}
	if n := len(must[*vaultdata.List](t)(b.ListSecrets(t.Context(), v, vaultdata.Page{Limit: 25})).Value.([]any)); n != 2 {
		t.Errorf("%d secrets listed", n)
	}
	if n := len(must[*vaultdata.List](t)(b.ListKeys(t.Context(), v, vaultdata.Page{Limit: 25})).Value.([]any)); n != 2 {
		t.Errorf("%d keys listed", n)
	}
	_, err := b.DeleteSecret(t.Context(), v, "pfx")
	wantCode(t, err, apierr.Forbidden, "Forbidden", "SecretManagedByCertificate")
	_, err = b.DeleteKey(t.Context(), v, "pfx")
	wantCode(t, err, apierr.Forbidden, "Forbidden", "KeyManagedByCertificate")
	_, err = b.SetSecret(t.Context(), v, "pfx", &vaultdata.SetSecret{Value: ptr("x")})
	wantCode(t, err, apierr.Conflict, "Conflict", "")
	setSecret(t, b, v, "plain", "x")
	_, err = b.CreateCert(t.Context(), v, "plain", &vaultdata.CreateCert{Policy: selfPolicy()})
	wantCode(t, err, apierr.Conflict, "Conflict", "")
}

func TestCert_NotExportableKeepsItsKey(t *testing.T) {
	b, v := open(t), vault("u1")
	for _, contentType := range []string{"application/x-pkcs12", "application/x-pem-file"} {
		p := selfPolicy()
		p.Key.Exportable, p.Secret = ptr(false), &vaultdata.SecretProps{ContentType: contentType}
		name := contentType[len("application/x-p"):][:3]
		createCert(t, b, v, "n"+strings.ReplaceAll(name, "-", "x"), p)
		s := must[*vaultdata.Secret](t)(b.GetSecret(t.Context(), v, "n"+strings.ReplaceAll(name, "-", "x"), "", ""))
		if strings.Contains(*s.Value, "PRIVATE KEY") {
			t.Error("the key left")
		}
		if contentType == "application/x-pkcs12" {
			if _, _, err := pkcs12.Decode(must[[]byte](t)(base64.StdEncoding.DecodeString(*s.Value)), ""); err == nil {
				t.Error("the key left")
			}
		}
	}
}

func TestCert_SoftDeleteTakesKeyAndSecretAlong(t *testing.T) {
	b, v := open(t), vault("u1")
	cert := createCert(t, b, v, "c", selfPolicy())
	must[*vaultdata.Certificate](t)(b.DeleteCert(t.Context(), v, "c"))
	_, err := b.GetSecret(t.Context(), v, "c", "", "")
	wantCode(t, err, apierr.NotFound, "SecretNotFound", "")
	_, err = b.GetKey(t.Context(), v, "c", "")
	wantCode(t, err, apierr.NotFound, "KeyNotFound", "")
	must[*vaultdata.Secret](t)(b.DeletedSecret(t.Context(), v, "c"))
	must[*vaultdata.KeyBundle](t)(b.DeletedKey(t.Context(), v, "c"))
	got := must[*vaultdata.Certificate](t)(b.RecoverCert(t.Context(), v, "c"))
	if got.ID != cert.ID {
		t.Errorf("recovered %s", got.ID)
	}
	blob := must[*vaultdata.Blob](t)(b.BackupCert(t.Context(), v, "c"))
	to := vault("u2")
	if got = must[*vaultdata.Certificate](t)(b.RestoreCert(t.Context(), to, blob)); got.ID != cert.ID || got.CER != cert.CER {
		t.Errorf("restored %s", got.ID)
	}
	must[*vaultdata.Secret](t)(b.GetSecret(t.Context(), to, "c", "", ""))
	must[*vaultdata.Certificate](t)(b.DeleteCert(t.Context(), v, "c"))
	if err := b.PurgeCert(t.Context(), v, "c"); err != nil {
		t.Fatal(err)
	}
	setSecret(t, b, v, "c", "now a plain secret")
}

func TestCert_AutoRenew(t *testing.T) {
	b, v := open(t), vault("u1")
	p := selfPolicy()
	p.Key.ReuseKey = ptr(true)
	first := createCert(t, b, v, "c", p)
	b.clock.advance(120 * day) // 80 % of six months come later
	if got := must[*vaultdata.Certificate](t)(b.GetCert(t.Context(), v, "c", "")); got.ID != first.ID {
		t.Error("renewed too early")
	}
	b.clock.advance(30 * day)
	got := must[*vaultdata.Certificate](t)(b.GetCert(t.Context(), v, "c", ""))
	if got.ID == first.ID {
		t.Fatal("not renewed when due")
	}
	if !bytes.Equal(leafOf(t, got).RawSubjectPublicKeyInfo, leafOf(t, first).RawSubjectPublicKeyInfo) {
		t.Error("reuse_key made a new key")
	}
	if again := must[*vaultdata.Certificate](t)(b.GetCert(t.Context(), v, "c", "")); again.ID != got.ID {
		t.Error("renewed twice")
	}
}

// authority signs a request as an outside authority would.
func authority(t testing.TB, csr string) (leaf, ca []byte) {
	t.Helper()
	req := must[*x509.CertificateRequest](t)(x509.ParseCertificateRequest(must[[]byte](t)(base64.StdEncoding.DecodeString(csr))))
	if err := req.CheckSignature(); err != nil {
		t.Fatal(err)
	}
	key := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	root := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"}, IsCA: true, BasicConstraintsValid: true, NotBefore: time.Now(), NotAfter: time.Now().AddDate(2, 0, 0)}
	ca = must[[]byte](t)(x509.CreateCertificate(rand.Reader, root, root, key.Public(), key))
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(2), RawSubject: req.RawSubject, DNSNames: req.DNSNames, NotBefore: time.Now(), NotAfter: time.Now().AddDate(1, 0, 0)}
	return must[[]byte](t)(x509.CreateCertificate(rand.Reader, tmpl, root, req.PublicKey, key)), ca
}

func TestCert_PendingAndMerge(t *testing.T) {
	b, v := open(t), vault("u1")
	p := selfPolicy()
	p.Issuer.Name = "Unknown"
	op := must[*vaultdata.CertOperation](t)(b.CreateCert(t.Context(), v, "m", &vaultdata.CreateCert{Policy: p, Tags: map[string]string{"a": "b"}}))
	if op.Status != "inProgress" || op.CSR == "" {
		t.Fatalf("operation %+v", op)
	}
	_, err := b.CreateCert(t.Context(), v, "m", &vaultdata.CreateCert{Policy: p})
	wantCode(t, err, apierr.Conflict, "Forbidden", "")
	if n := len(must[*vaultdata.List](t)(b.ListCerts(t.Context(), v, vaultdata.Page{Limit: 25}, false)).Value.([]any)); n != 0 {
		t.Errorf("%d listed without includePending", n)
	}
	if n := len(must[*vaultdata.List](t)(b.ListCerts(t.Context(), v, vaultdata.Page{Limit: 25}, true)).Value.([]any)); n != 1 {
		t.Errorf("%d listed with includePending", n)
	}
	_, err = b.GetSecret(t.Context(), v, "m", "", "")
	wantCode(t, err, apierr.NotFound, "SecretNotFound", "")
	_, err = b.GetPending(t.Context(), v, "m", "00000000000000000000000000000000")
	wantCode(t, err, apierr.NotFound, "PendingCertificateNotFound", "")

	leaf, ca := authority(t, op.CSR)
	_, err = b.MergeCert(t.Context(), v, "m", "", &vaultdata.MergeCert{X5C: []string{base64.StdEncoding.EncodeToString(ca)}})
	wantCode(t, err, apierr.BadRequest, "BadParameter", "") // the key is not the request's
	got := must[*vaultdata.Certificate](t)(b.MergeCert(t.Context(), v, "m", op.RequestID, &vaultdata.MergeCert{X5C: []string{base64.StdEncoding.EncodeToString(ca), base64.StdEncoding.EncodeToString(leaf)}}))
	if got.CER != base64.StdEncoding.EncodeToString(leaf) || got.Tags["a"] != "b" {
		t.Errorf("merged %+v", got)
	}
	s := must[*vaultdata.Secret](t)(b.GetSecret(t.Context(), v, "m", "", ""))
	_, first, chain, err := pkcs12.DecodeChain(must[[]byte](t)(base64.StdEncoding.DecodeString(*s.Value)), "")
	if err != nil || !bytes.Equal(first.Raw, leaf) || len(chain) != 1 {
		t.Errorf("chain of the secret: %v", err)
	}
	_, err = b.MergeCert(t.Context(), v, "m", "", &vaultdata.MergeCert{X5C: []string{base64.StdEncoding.EncodeToString(leaf)}})
	wantCode(t, err, apierr.NotFound, "PendingCertificateNotFound", "")
}

func TestCert_CancelAndDeletePending(t *testing.T) {
	b, v := open(t), vault("u1")
	p := selfPolicy()
	p.Issuer.Name = "Unknown"
	must[*vaultdata.CertOperation](t)(b.CreateCert(t.Context(), v, "c", &vaultdata.CreateCert{Policy: p}))
	op := must[*vaultdata.CertOperation](t)(b.CancelPending(t.Context(), v, "c", "", true))
	if !op.Cancel || op.Status != "cancelled" {
		t.Errorf("cancelled %+v", op)
	}
	_, err := b.CancelPending(t.Context(), v, "c", "", true)
	wantCode(t, err, apierr.BadRequest, "BadParameter", "")
	must[*vaultdata.CertOperation](t)(b.DeletePending(t.Context(), v, "c", ""))
	_, err = b.GetCert(t.Context(), v, "c", "")
	wantCode(t, err, apierr.NotFound, "CertificateNotFound", "")
	createCert(t, b, v, "c", selfPolicy())
}

func TestCert_Import(t *testing.T) {
	b, v := open(t), vault("u1")
	key := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "imported"}, DNSNames: []string{"x.example"}, NotBefore: time.Now(), NotAfter: time.Now().AddDate(200, 0, 0)}
	der := must[[]byte](t)(x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key))
	leaf := must[*x509.Certificate](t)(x509.ParseCertificate(der))
	p8 := must[[]byte](t)(x509.MarshalPKCS8PrivateKey(key))
	keyPEM := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: p8}))
	certPEM := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	pfx := base64.StdEncoding.EncodeToString(must[[]byte](t)(pkcs12.Modern.Encode(key, leaf, nil, "secret")))
	for name, in := range map[string]vaultdata.ImportCert{
		"pem":    {Value: keyPEM + certPEM},
		"pem64":  {Value: base64.StdEncoding.EncodeToString([]byte(certPEM + keyPEM))},
		"pkcs12": {Value: pfx, Password: "secret"},
	} {
		got := must[*vaultdata.Certificate](t)(b.ImportCert(t.Context(), v, name, &in))
		if got.CER != base64.StdEncoding.EncodeToString(der) || got.Policy.Issuer.Name != "Unknown" || got.Policy.X509.SANs.DNSNames[0] != "x.example" {
			t.Errorf("%s: %+v", name, got.Policy)
		}
		must[*vaultdata.OperationResult](t)(b.Sign(t.Context(), v, name, "", &vaultdata.Operation{Alg: "ES384", Value: b64.EncodeToString(make([]byte, 48))}))
	}
	other := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	otherPEM := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: must[[]byte](t)(x509.MarshalPKCS8PrivateKey(other))}))
	for name, in := range map[string]vaultdata.ImportCert{
		"nothing":        {},
		"no key":         {Value: certPEM},
		"no certificate": {Value: keyPEM},
		"another key":    {Value: otherPEM + certPEM},
		"two keys":       {Value: keyPEM + otherPEM + certPEM},
		"bad password":   {Value: pfx, Password: "guess"},
		"not base64":     {Value: "***"},
		"encrypted":      {Value: "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n" + certPEM},
		"other key type": {Value: keyPEM + certPEM, Policy: &vaultdata.CertPolicy{Key: &vaultdata.KeyProps{Kty: "RSA"}}},
	} {
		if _, err := b.ImportCert(t.Context(), v, "refused", &in); !apierr.Is(err, apierr.BadRequest) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCert_ImportThatWouldKeepTheProcessorBusy(t *testing.T) {
	b, v := open(t), vault("u1")
	key := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "busy"}, NotBefore: time.Now(), NotAfter: time.Now().AddDate(1, 0, 0)}
	leaf := must[*x509.Certificate](t)(x509.ParseCertificate(must[[]byte](t)(x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key))))
	for name, encoder := range map[string]*pkcs12.Encoder{"modern": pkcs12.Modern, "legacy": pkcs12.LegacyDES} {
		pfx := must[[]byte](t)(encoder.WithIterations(70_000).Encode(key, leaf, nil, "secret"))
		in := vaultdata.ImportCert{Value: base64.StdEncoding.EncodeToString(pfx), Password: "secret"}
		must[*vaultdata.Certificate](t)(b.ImportCert(t.Context(), v, name, &in))
		count := []byte{2, 3, 0x01, 0x11, 0x70} // 70,000
		if bytes.Count(pfx, count) < 2 {
			t.Fatalf("%s: the count is not where it was expected", name)
		}
		for i := range bytes.Count(pfx, count) {
			parts := bytes.SplitN(pfx, count, i+2)
			at := len(pfx) - len(parts[i+1]) - len(count)
			bad := bytes.Clone(pfx)
			copy(bad[at:], []byte{2, 3, 0x7f, 0xff, 0xff})
			in.Value = base64.StdEncoding.EncodeToString(bad)
			began := time.Now()
			_, err := b.ImportCert(t.Context(), v, "refused", &in)
			if !apierr.Is(err, apierr.BadRequest) || !strings.Contains(err.Error(), "too often") || time.Since(began) > 2*time.Second {
				t.Errorf("%s, count %d: %v after %s", name, i, err, time.Since(began))
			}
		}
	}
}

func TestCert_PolicyRefusals(t *testing.T) {
	b, v := open(t), vault("u1")
	for name, change := range map[string]func(*vaultdata.CertPolicy){
		"no subject":     func(p *vaultdata.CertPolicy) { p.X509 = nil },
		"bad subject":    func(p *vaultdata.CertPolicy) { p.X509.Subject = "web" },
		"validity":       func(p *vaultdata.CertPolicy) { p.X509.ValidityMonths = 1201 },
		"ekus":           func(p *vaultdata.CertPolicy) { p.X509.EKUs = []string{"server"} },
		"key usage":      func(p *vaultdata.CertPolicy) { p.X509.KeyUsage = []string{"all"} },
		"name":           func(p *vaultdata.CertPolicy) { p.X509.SANs.DNSNames = []string{"bü.example"} },
		"address":        func(p *vaultdata.CertPolicy) { p.X509.SANs.IPAddresses = []string{"10.0.0"} },
		"content type":   func(p *vaultdata.CertPolicy) { p.Secret = &vaultdata.SecretProps{ContentType: "text/plain"} },
		"key type":       func(p *vaultdata.CertPolicy) { p.Key = &vaultdata.KeyProps{Kty: "oct"} },
		"HSM":            func(p *vaultdata.CertPolicy) { p.Key = &vaultdata.KeyProps{Kty: "RSA-HSM"} },
		"P-256K":         func(p *vaultdata.CertPolicy) { p.Key.Crv = "P-256K" },
		"unknown issuer": func(p *vaultdata.CertPolicy) { p.Issuer.Name = "digicert" },
		"action":         func(p *vaultdata.CertPolicy) { p.Actions = make([]vaultdata.CertAction, 1) },
	} {
		p := selfPolicy()
		change(p)
		if _, err := b.CreateCert(t.Context(), v, "c", &vaultdata.CreateCert{Policy: p}); !apierr.Is(err, apierr.BadRequest) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := b.CreateCert(t.Context(), v, "c", &vaultdata.CreateCert{}); !apierr.Is(err, apierr.BadRequest) {
		t.Errorf("no policy: %v", err)
	}
}

func TestIssuersAndContacts(t *testing.T) {
	b, v := open(t), vault("u1")
	in := &vaultdata.Issuer{Provider: "DigiCert", Credentials: &vaultdata.IssuerCredential{AccountID: "me", Password: "hunter2"}}
	got := must[*vaultdata.Issuer](t)(b.SetIssuer(t.Context(), v, "ca", in, false))
	if got.Credentials.Password != "" || !*got.Attributes.Enabled {
		t.Errorf("issuer %+v", got)
	}
	doc := must[[]byte](t)(func() ([]byte, error) {
		d, err := b.store.Get(t.Context(), vaultdata.Prefix("u1")+"issuer/ca")
		return d.Value, err
	}())
	if bytes.Contains(doc, []byte("hunter2")) {
		t.Error("the password is stored in the clear")
	}
	got = must[*vaultdata.Issuer](t)(b.SetIssuer(t.Context(), v, "ca", &vaultdata.Issuer{Attributes: &vaultdata.IssuerAttrs{Enabled: ptr(false)}}, true))
	if *got.Attributes.Enabled || got.Provider != "DigiCert" {
		t.Errorf("updated %+v", got)
	}
	p := selfPolicy()
	p.Issuer.Name = "ca"
	_, err := b.CreateCert(t.Context(), v, "c", &vaultdata.CreateCert{Policy: p})
	wantCode(t, err, apierr.BadRequest, "BadParameter", "")
	must[*vaultdata.Issuer](t)(b.DeleteIssuer(t.Context(), v, "ca"))
	_, err = b.GetIssuer(t.Context(), v, "ca")
	wantCode(t, err, apierr.NotFound, "CertificateIssuerNotFound", "")
	_, err = b.SetIssuer(t.Context(), v, "self", in, false)
	wantCode(t, err, apierr.BadRequest, "BadParameter", "")

	_, err = b.GetContacts(t.Context(), v)
	wantCode(t, err, apierr.NotFound, "ContactsNotFound", "")
	_, err = b.SetContacts(t.Context(), v, &vaultdata.Contacts{Contacts: []vaultdata.Contact{{Name: "x"}}})
	wantCode(t, err, apierr.BadRequest, "BadParameter", "")
	must[*vaultdata.Contacts](t)(b.SetContacts(t.Context(), v, &vaultdata.Contacts{Contacts: []vaultdata.Contact{{Email: "a@b.c"}}}))
	must[*vaultdata.Contacts](t)(b.DeleteContacts(t.Context(), v))
}
