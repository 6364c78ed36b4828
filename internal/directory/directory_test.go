package directory_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"lazurite.dev/internal/directory"
	"lazurite.dev/internal/store"
	"lazurite.dev/internal/store/sqlstore"
)

const tenant = "AAAAAAAA-0000-0000-0000-000000000001"

func open(t testing.TB) (*directory.Directory, store.Store) {
	t.Helper()
	st, err := sqlstore.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "laz.db"))
	if err != nil {
		t.Fatal(err)
	}
	d, err := directory.Open(t.Context(), st, tenant)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		d.Close()
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return d, st
}

func must[T any](t testing.TB, v T, err error) T {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func isErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got %v, want %v", what, err, want)
	}
}

func user(t testing.TB, d *directory.Directory, upn, password string) directory.User {
	t.Helper()
	u, err := d.CreateUser(t.Context(), directory.User{UPN: upn}, password)
	return must(t, u, err)
}

func TestUsers_LifeOfOne(t *testing.T) {
	d, st := open(t)
	ctx := t.Context()
	u := user(t, d, "Ada@contoso.example", "correct horse")
	for _, upn := range []string{"ada@contoso.example", "ADA@CONTOSO.EXAMPLE"} {
		if got, err := d.ByUPN(upn); err != nil || got.ObjectID != u.ObjectID || got.DisplayName != "Ada" {
			t.Errorf("%s: %+v, %v", upn, got, err)
		}
	}
	_, err := d.CreateUser(ctx, directory.User{UPN: "ada@CONTOSO.example"}, "")
	isErr(t, "same name", err, directory.ErrTaken)
	for _, bad := range []string{"", "ada", "Ada <ada@contoso.example>", "a/b@c.example"} {
		_, err := d.CreateUser(ctx, directory.User{UPN: bad}, "")
		isErr(t, bad, err, directory.ErrInvalid)
	}
	stale := must(t, u, nil)
	u.UPN, u.JobTitle = "lovelace@contoso.example", "Countess"
	u = must2(t)(d.UpdateUser(ctx, u))
	_, err = d.UpdateUser(ctx, stale)
	isErr(t, "an old revision", err, store.ErrConflict)
	if _, err := d.CheckPassword(ctx, u.UPN, "correct horse"); err != nil {
		t.Errorf("the password did not survive the update: %v", err)
	}
	user(t, d, "ada@contoso.example", "") // the old name is free again
	again, err := directory.Open(ctx, st, strings.ToLower(tenant))
	must(t, again, err)
	defer again.Close()
	if got, err := again.User(strings.ToUpper(u.ObjectID)); err != nil || got.JobTitle != "Countess" {
		t.Errorf("after opening again: %+v, %v", got, err)
	}
	if err := d.DeleteUser(ctx, u.ObjectID); err != nil {
		t.Fatal(err)
	}
	_, err = again.User(u.ObjectID)
	isErr(t, "deleted, seen by another", err, directory.ErrNotFound)
	if got := d.Principals(u.ObjectID); got != nil {
		t.Errorf("a deleted user is principal of %v", got)
	}
	isErr(t, "twice", d.DeleteUser(ctx, u.ObjectID), directory.ErrNotFound)
}

func must2(t testing.TB) func(directory.User, error) directory.User {
	return func(u directory.User, err error) directory.User { t.Helper(); return must(t, u, err) }
}

func TestCheckPassword_RefusesAndLocks(t *testing.T) {
	d, st := open(t)
	ctx := t.Context()
	u := user(t, d, "ada@contoso.example", strings.Repeat("long", 30))
	_, err := d.CheckPassword(ctx, u.UPN, strings.Repeat("long", 29)+"lonG")
	isErr(t, "differs beyond 72 bytes", err, directory.ErrPassword)
	none := user(t, d, "nopassword@contoso.example", "")
	_, err = d.CheckPassword(ctx, none.UPN, "")
	isErr(t, "no password set", err, directory.ErrPassword)
	isErr(t, "short", d.SetPassword(ctx, u.ObjectID, "short"), directory.ErrInvalid)
	if err := d.SetPassword(ctx, u.ObjectID, "new password"); err != nil {
		t.Fatal(err)
	}
	if _, err := d.CheckPassword(ctx, strings.ToUpper(u.UPN), "new password"); err != nil {
		t.Error(err)
	}
	got := must2(t)(d.User(u.ObjectID))
	got.Disabled = true
	must2(t)(d.UpdateUser(ctx, got))
	_, err = d.CheckPassword(ctx, u.UPN, "new password")
	isErr(t, "disabled", err, directory.ErrDisabled)
	for range 10 {
		_, err = d.CheckPassword(ctx, "nobody@contoso.example", "x")
		isErr(t, "unknown", err, directory.ErrPassword)
	}
	_, err = d.CheckPassword(ctx, "NOBODY@contoso.example", "x")
	isErr(t, "after ten failures", err, directory.ErrLocked)
	docs, err := st.List(ctx, store.Query{Prefix: directory.Prefix})
	for _, doc := range must(t, docs, err) {
		if strings.Contains(string(doc.Value), "new password") {
			t.Errorf("%s holds a password", doc.Key)
		}
	}
}

func TestGroups_AreTransitive(t *testing.T) {
	d, _ := open(t)
	ctx := t.Context()
	u := user(t, d, "ada@contoso.example", "")
	group := func(name string, members ...string) directory.Group {
		g, err := d.CreateGroup(ctx, directory.Group{DisplayName: name, Members: members})
		return must(t, g, err)
	}
	inner := group("inner", strings.ToUpper(u.ObjectID))
	outer := group("outer", inner.ObjectID)
	inner, err := d.Group(inner.ObjectID)
	must(t, inner, err)
	inner.Members = append(inner.Members, outer.ObjectID) // a circle
	inner, err = d.UpdateGroup(ctx, inner)
	must(t, inner, err)
	want := []string{u.ObjectID, inner.ObjectID, outer.ObjectID}
	if got := d.Principals(u.ObjectID); !slices.Equal(got, want) {
		t.Errorf("principals = %v, want %v", got, want)
	}
	_, err = d.CreateGroup(ctx, directory.Group{DisplayName: "x", Members: []string{tenant}})
	isErr(t, "unknown member", err, directory.ErrNotFound)
	if got := d.MemberOf(u.ObjectID); len(got) != 1 || got[0].DisplayName != "inner" {
		t.Errorf("direct groups: %v", got)
	}
	if err := d.DeleteGroup(ctx, inner.ObjectID); err != nil {
		t.Fatal(err)
	}
	if got := d.Principals(u.ObjectID); len(got) != 1 {
		t.Errorf("after the group is gone: %v", got)
	}
}

func TestActing_NothingWhileTheAccountIsDisabled(t *testing.T) {
	d, _ := open(t)
	ctx := t.Context()
	u := user(t, d, "ada@contoso.example", "")
	a, err := d.CreateApp(ctx, directory.App{DisplayName: "app"})
	must(t, a, err)
	sp, err := d.CreateServicePrincipal(ctx, directory.ServicePrincipal{AppID: a.AppID})
	must(t, sp, err)
	g, err := d.CreateGroup(ctx, directory.Group{DisplayName: "g", Members: []string{u.ObjectID, sp.ObjectID}})
	must(t, g, err)
	_, err = d.AssignRole(ctx, g.ObjectID, directory.UserAdministrator)
	must(t, g, err)
	for _, disabled := range []bool{false, true, false} {
		u.Disabled, sp.Disabled = disabled, disabled
		u, err = d.UpdateUser(ctx, u)
		must(t, u, err)
		sp, err = d.UpdateServicePrincipal(ctx, sp)
		must(t, sp, err)
		for _, oid := range []string{u.ObjectID, strings.ToUpper(sp.ObjectID)} {
			want := []string{strings.ToLower(oid), g.ObjectID}
			if got := d.Principals(oid); !slices.Equal(got, want) {
				t.Errorf("disabled %v: principals %v, want %v: it is a member all the same", disabled, got, want)
			}
			if disabled {
				want = nil
			}
			if got := d.Acting(oid); !slices.Equal(got, want) {
				t.Errorf("disabled %v: acting as %v, want %v", disabled, got, want)
			}
			if got := d.HasRole(oid, directory.UserAdministrator); got == disabled {
				t.Errorf("disabled %v: has the group's role: %v", disabled, got)
			}
		}
	}
	if d.Acting(tenant) != nil {
		t.Error("somebody who does not exist acts")
	}
}

func TestRoles_LastAdministratorStays(t *testing.T) {
	d, _ := open(t)
	ctx := t.Context()
	u := user(t, d, "ada@contoso.example", "")
	g, err := d.CreateGroup(ctx, directory.Group{DisplayName: "admins", Members: []string{u.ObjectID}})
	must(t, g, err)
	r, err := d.AssignRole(ctx, g.ObjectID, directory.GlobalAdministrator)
	must(t, r, err)
	if !d.HasRole(u.ObjectID, directory.UserAdministrator, directory.GlobalAdministrator) {
		t.Error("a member of the group does not hold its role")
	}
	isErr(t, "last", d.UnassignRole(ctx, r.ID), directory.ErrInvalid)
	second, err := d.AssignRole(ctx, u.ObjectID, directory.GlobalAdministrator)
	must(t, second, err)
	if err := d.UnassignRole(ctx, r.ID); err != nil {
		t.Error(err)
	}
	u.Disabled = true
	_, err = d.UpdateUser(ctx, u)
	isErr(t, "disabling the last", err, directory.ErrInvalid)
	isErr(t, "deleting the last", d.DeleteUser(ctx, u.ObjectID), directory.ErrInvalid)
	v := user(t, d, "asleep@contoso.example", "")
	v.Disabled = true
	v, err = d.UpdateUser(ctx, v)
	must(t, v, err)
	r, err = d.AssignRole(ctx, v.ObjectID, directory.GlobalAdministrator)
	must(t, r, err)
	isErr(t, "deleting the last who is enabled", d.DeleteUser(ctx, u.ObjectID), directory.ErrInvalid)
	v.Disabled = false
	v, err = d.UpdateUser(ctx, v)
	must(t, v, err)
	if _, err := d.UpdateUser(ctx, u); err != nil {
		t.Errorf("one of two: %v", err)
	}
	_, err = d.AssignRole(ctx, u.ObjectID, tenant)
	isErr(t, "unknown role", err, directory.ErrNotFound)
}

// A secret that begins with a dash is an option to a command line: az login
// --password -x.
func TestAddSecret_BeginsWithALetter(t *testing.T) {
	d, _ := open(t)
	a, err := d.CreateApp(t.Context(), directory.App{DisplayName: "app"})
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		text, _, err := d.AddSecret(t.Context(), a.ObjectID, "", time.Time{}, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		if c := text[0] | 0x20; c < 'a' || c > 'z' {
			t.Fatalf("the secret begins with %q", text[0])
		}
	}
}

func TestApps_SecretsAndCertificates(t *testing.T) {
	d, st := open(t)
	ctx := t.Context()
	a, err := d.CreateApp(ctx, directory.App{DisplayName: "app", IdentifierURIs: []string{"api://x"}})
	must(t, a, err)
	_, err = d.CreateApp(ctx, directory.App{DisplayName: "other", IdentifierURIs: []string{"API://X"}})
	isErr(t, "identifier URI", err, directory.ErrTaken)
	text, sec, err := d.AddSecret(ctx, a.ObjectID, "ci", time.Time{}, time.Time{})
	must(t, text, err)
	old, _, err := d.AddSecret(ctx, a.ObjectID, "old", time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour))
	must(t, old, err)
	if err := d.CheckSecret(ctx, strings.ToUpper(a.AppID), text); err != nil {
		t.Error(err)
	}
	isErr(t, "wrong", d.CheckSecret(ctx, a.AppID, text+"x"), directory.ErrSecret)
	isErr(t, "empty", d.CheckSecret(ctx, a.AppID, ""), directory.ErrSecret)
	isErr(t, "expired", d.CheckSecret(ctx, a.AppID, old), directory.ErrExpired)
	isErr(t, "unknown application", d.CheckSecret(ctx, tenant, text), directory.ErrNotFound)
	a, err = d.App(a.AppID)
	must(t, a, err)
	if len(a.Secrets) != 2 || a.Secrets[0].Hint != text[:3] {
		t.Errorf("secrets shown: %+v", a.Secrets)
	}
	cert := certificate(t)
	a.Certificates = append(a.Certificates, cert)
	a, err = d.UpdateApp(ctx, a)
	must(t, a, err)
	if err := d.CheckSecret(ctx, a.AppID, text); err != nil {
		t.Errorf("after an update: %v", err)
	}
	sum := sha1.Sum(cert.DER)
	if got, err := d.App(a.AppID); err != nil || len(got.Certificates) != 1 || string(got.Certificates[0].SHA1) != string(sum[:]) {
		t.Errorf("certificate: %+v, %v", got.Certificates, err)
	}
	if err := d.RemoveSecret(ctx, a.ObjectID, sec.KeyID); err != nil {
		t.Error(err)
	}
	isErr(t, "removed", d.CheckSecret(ctx, a.AppID, text), directory.ErrSecret)
	isErr(t, "again", d.RemoveSecret(ctx, a.ObjectID, sec.KeyID), directory.ErrNotFound)
	docs, err := st.List(ctx, store.Query{Prefix: directory.Prefix})
	for _, doc := range must(t, docs, err) {
		if strings.Contains(string(doc.Value), old) {
			t.Errorf("%s holds a secret", doc.Key)
		}
	}
}

func certificate(t *testing.T) directory.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, key, err)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "app"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	must(t, der, err)
	c, err := directory.NewCertificate(der, "")
	return must(t, c, err)
}

func TestServicePrincipals_AndManagedIdentities(t *testing.T) {
	d, _ := open(t)
	ctx := t.Context()
	a, err := d.CreateApp(ctx, directory.App{DisplayName: "app", IdentifierURIs: []string{"api://x"}})
	must(t, a, err)
	sp, err := d.CreateServicePrincipal(ctx, directory.ServicePrincipal{AppID: a.AppID})
	must(t, sp, err)
	_, err = d.CreateServicePrincipal(ctx, directory.ServicePrincipal{AppID: a.AppID})
	isErr(t, "second account", err, directory.ErrTaken)
	_, err = d.CreateServicePrincipal(ctx, directory.ServicePrincipal{AppID: tenant})
	isErr(t, "no application", err, directory.ErrNotFound)
	if got, err := d.ServicePrincipalByName("API://x"); err != nil || got.ObjectID != sp.ObjectID {
		t.Errorf("by name: %+v, %v", got, err)
	}
	mi := directory.ManagedIdentity{ResourceID: "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/mi",
		ClientID: "c0000000-0000-0000-0000-000000000001", PrincipalID: "b0000000-0000-0000-0000-000000000001", TenantID: tenant, Name: "mi"}
	for range 2 {
		if err := d.EnsureManagedIdentity(ctx, mi); err != nil {
			t.Fatal(err)
		}
	}
	p, err := d.Principal(mi.PrincipalID)
	if must(t, p, err); p.Type != directory.TypeServicePrincipal || p.ResourceID != mi.ResourceID || p.AppID != mi.ClientID {
		t.Errorf("principal = %+v", p)
	}
	stolen := mi
	stolen.ResourceID += "2"
	isErr(t, "ids of another identity", d.EnsureManagedIdentity(ctx, stolen), directory.ErrInvalid)
	stolen = mi
	stolen.ClientID, stolen.PrincipalID = "c0000000-0000-0000-0000-000000000002", "b0000000-0000-0000-0000-000000000002"
	isErr(t, "the resource of another identity", d.EnsureManagedIdentity(ctx, stolen), directory.ErrTaken)
	isErr(t, "an application's account as an identity", d.RemoveManagedIdentity(ctx, sp.ObjectID), directory.ErrInvalid)
	c := directory.FederatedCredential{Name: "f", Issuer: "https://i/", Subject: "s", Audiences: []string{"a"}}
	_, err = d.SetCredential(ctx, mi.ClientID, c)
	must(t, c, err)
	for range 2 {
		if err := d.RemoveManagedIdentity(ctx, strings.ToUpper(mi.PrincipalID)); err != nil {
			t.Error(err)
		}
	}
	_, err = d.Principal(mi.PrincipalID)
	isErr(t, "removed", err, directory.ErrNotFound)
	if got := d.Credentials(mi.ClientID); got != nil {
		t.Errorf("credentials are left: %v", got)
	}
	if err := d.DeleteApp(ctx, a.ObjectID); err != nil {
		t.Error(err)
	}
	_, err = d.ServicePrincipal(sp.ObjectID)
	isErr(t, "with its application", err, directory.ErrNotFound)
}

func TestFederatedCredentials(t *testing.T) {
	d, _ := open(t)
	ctx := t.Context()
	a, err := d.CreateApp(ctx, directory.App{DisplayName: "app"})
	must(t, a, err)
	set := func(c directory.FederatedCredential) error {
		_, err := d.SetCredential(ctx, a.AppID, c)
		return err
	}
	good := directory.FederatedCredential{Name: "one", Issuer: "https://issuer.example/", Subject: "system:serviceaccount:default:sa", Audiences: []string{"api://AzureADTokenExchange"}}
	if err := set(good); err != nil {
		t.Fatal(err)
	}
	id := d.Credentials(a.AppID)[0].ID
	if err := set(good); err != nil || d.Credentials(a.AppID)[0].ID != id {
		t.Errorf("the same again: %v, %v", err, d.Credentials(a.AppID))
	}
	other := good
	other.Name = "two"
	isErr(t, "issuer and subject in use", set(other), directory.ErrDuplicate)
	for _, change := range []func(*directory.FederatedCredential){
		func(c *directory.FederatedCredential) { c.Audiences = nil },
		func(c *directory.FederatedCredential) { c.Audiences = []string{"a", "b"} },
		func(c *directory.FederatedCredential) { c.Subject = "" },
		func(c *directory.FederatedCredential) { c.Issuer = strings.Repeat("i", 601) },
		func(c *directory.FederatedCredential) {
			c.ClaimsMatchingExpression = &directory.ClaimsMatchingExpression{Value: "claims['sub'] eq 'x'", LanguageVersion: 1}
		},
	} {
		c := good
		change(&c)
		isErr(t, "bad credential", set(c), directory.ErrInvalid)
	}
	isErr(t, "unknown application", func() error { _, err := d.SetCredential(ctx, tenant, good); return err }(), directory.ErrNotFound)

	ok := directory.Assertion{Issuer: good.Issuer, Subject: good.Subject, Audiences: good.Audiences}
	for _, c := range []struct {
		name   string
		change func(*directory.Assertion)
		want   []directory.Mismatch
	}{
		{"same", func(*directory.Assertion) {}, nil},
		{"case", func(a *directory.Assertion) { a.Subject = strings.ToUpper(a.Subject) },
			[]directory.Mismatch{{"subject", good.Subject, strings.ToUpper(good.Subject), true, false}}},
		{"slash", func(a *directory.Assertion) { a.Issuer = "https://issuer.example" },
			[]directory.Mismatch{{"issuer", good.Issuer, "https://issuer.example", false, true}}},
		{"audiences", func(a *directory.Assertion) { a.Audiences = append(a.Audiences, "more") },
			[]directory.Mismatch{{"audience", "api://AzureADTokenExchange", "api://AzureADTokenExchange, more", false, false}}},
	} {
		as := ok
		c.change(&as)
		_, got, found := directory.FindCredential(d.Credentials(a.AppID), as)
		if !slices.Equal(got, c.want) || found != (c.want == nil) {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
	if err := d.RemoveCredential(ctx, a.AppID, "ONE"); err != nil {
		t.Error(err)
	}
	isErr(t, "again", d.RemoveCredential(ctx, a.AppID, "one"), directory.ErrNotFound)
}

func TestTenant(t *testing.T) {
	d, _ := open(t)
	_, err := d.Tenant()
	isErr(t, "before", err, directory.ErrNotFound)
	for _, name := range []string{"Contoso", "Contoso Ltd"} {
		if err := d.SetTenant(context.Background(), directory.Tenant{DisplayName: name, Domains: []string{"contoso.example"}}); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := d.Tenant(); err != nil || got.DisplayName != "Contoso Ltd" || got.ID != tenant {
		t.Errorf("%+v, %v", got, err)
	}
	if err := d.Fresh(); err != nil {
		t.Error(err)
	}
}

func BenchmarkPrincipals(b *testing.B) {
	d, _ := open(b)
	u := user(b, d, "ada@contoso.example", "")
	g, err := d.CreateGroup(b.Context(), directory.Group{DisplayName: "g", Members: []string{u.ObjectID}})
	must(b, g, err)
	b.ReportAllocs()
	for b.Loop() {
		d.Principals(u.ObjectID)
	}
}

func TestGeneratePassword(t *testing.T) {
	d, _ := open(t)
	ctx := t.Context()
	u := user(t, d, "ada@contoso.example", "correct horse")
	seen := map[string]bool{"correct horse": true}
	for range 3 {
		password, err := d.GeneratePassword(ctx, u.ObjectID)
		if err != nil || seen[password] || len(password) < 30 {
			t.Fatalf("got %q, %v", password, err)
		}
		if _, err := d.CheckPassword(ctx, u.UPN, password); err != nil {
			t.Errorf("the generated password: %v", err)
		}
		for old := range seen {
			_, err := d.CheckPassword(ctx, u.UPN, old)
			isErr(t, "an older password", err, directory.ErrPassword)
		}
		seen[password] = true
	}
	_, err := d.GeneratePassword(ctx, "00000000-0000-0000-0000-000000000009")
	isErr(t, "nobody", err, directory.ErrNotFound)
}
