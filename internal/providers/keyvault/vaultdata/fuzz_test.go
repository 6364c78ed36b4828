package vaultdata_test

import (
	"encoding/base64"
	"encoding/json"
	"testing"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/providers/keyvault/vaultdata"
)

// refusedOrDone fails when foreign input led to an internal error.
func refusedOrDone(t *testing.T, err error) {
	t.Helper()
	if e := apierr.From(err); e != nil && e.Kind == apierr.Internal {
		t.Errorf("an internal error: %v", err)
	}
}

func FuzzNames(f *testing.F) {
	for _, s := range []string{"a", "A-b", "..", "a/b", "ü", ""} {
		f.Add(s, "0123456789abcdef0123456789abcdef")
	}
	b, v := open(f), vault("u1")
	f.Fuzz(func(t *testing.T, name, version string) {
		_, err := b.GetSecret(t.Context(), v, name, version, "")
		refusedOrDone(t, err)
	})
}

func FuzzImportKey(f *testing.F) {
	j, err := json.Marshal(map[string]string{"kty": "oct", "k": "AAAAAAAAAAAAAAAAAAAAAA"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(j)
	f.Add([]byte(`{"kty":"EC","crv":"P-256","d":"AQ","x":"AQ","y":"AQ"}`))
	f.Add([]byte(`{"kty":"EC","crv":"P-256K","d":"AQ","x":"AQ","y":"AQ"}`))
	f.Add([]byte(`{"kty":"RSA","n":"AQ","e":"AQAB","d":"AQ","p":"AQ","q":"AQ"}`))
	b, v := open(f), vault("u1")
	f.Fuzz(func(t *testing.T, raw []byte) {
		var k vaultdata.JWK
		if json.Unmarshal(raw, &k) != nil {
			return
		}
		_, err := b.ImportKey(t.Context(), v, "k", &vaultdata.ImportKey{Key: &k})
		refusedOrDone(t, err)
	})
}

func FuzzImportCert(f *testing.F) {
	f.Add("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", "")
	f.Add("MIIB", "secret")
	f.Add(base64.StdEncoding.EncodeToString([]byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----")), "")
	b, v := open(f), vault("u1")
	f.Fuzz(func(t *testing.T, value, password string) {
		_, err := b.ImportCert(t.Context(), v, "c", &vaultdata.ImportCert{Value: value, Password: password})
		refusedOrDone(t, err)
	})
}

func FuzzCertSubject(f *testing.F) {
	for _, s := range []string{"CN=a", `CN="a, b", O=c`, `CN=a\2cb`, "CN=", "2.5.4.3=x", `O=a\`, "CN=a,", "CN=a+O=b", `CN="a" x`} {
		f.Add(s)
	}
	b, v := open(f), vault("u1")
	f.Fuzz(func(t *testing.T, subject string) {
		p := selfPolicy()
		p.Issuer.Name = "Unknown"
		p.X509.Subject = subject
		if _, err := b.CreateCert(t.Context(), v, "c", &vaultdata.CreateCert{Policy: p}); err != nil {
			refusedOrDone(t, err)
			return
		}
		_, err := b.DeletePending(t.Context(), v, "c", "")
		refusedOrDone(t, err)
	})
}

func FuzzRotationPolicy(f *testing.F) {
	f.Add("P90D", "P30D", "")
	f.Add("P1Y2M3W4DT5H6M7S", "", "P30D")
	b, v := open(f), vault("u1")
	createKey(f, b, v, "k", vaultdata.CreateKey{Kty: "EC"})
	f.Fuzz(func(t *testing.T, expiry, create, before string) {
		raw, err := json.Marshal(map[string]any{
			"lifetimeActions": []any{map[string]any{"trigger": map[string]string{"timeAfterCreate": create, "timeBeforeExpiry": before}, "action": map[string]string{"type": "Rotate"}}},
			"attributes":      map[string]string{"expiryTime": expiry},
		})
		if err != nil {
			t.Fatal(err)
		}
		var p vaultdata.RotationPolicy
		if json.Unmarshal(raw, &p) != nil {
			return
		}
		_, err = b.SetRotationPolicy(t.Context(), v, "k", &p)
		refusedOrDone(t, err)
	})
}

func FuzzRestore(f *testing.F) {
	b, v := open(f), vault("u1")
	setSecret(f, b, v, "s", "x")
	good, err := b.BackupSecret(f.Context(), v, "s")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good.Value)
	f.Add("AAAA")
	f.Fuzz(func(t *testing.T, value string) {
		_, err := b.RestoreSecret(t.Context(), vault("u2"), &vaultdata.Blob{Value: value})
		refusedOrDone(t, err)
	})
}
