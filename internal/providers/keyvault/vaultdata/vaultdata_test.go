package vaultdata_test

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/providers/keyvault/vaultdata"
	"lazurite.dev/internal/seal"
	"lazurite.dev/internal/store"
	"lazurite.dev/internal/store/sqlstore"
)

// clock is a time that a test moves.
type clock struct {
	mu sync.Mutex // guards t
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

const day = 24 * time.Hour

// bench is a store with objects on it and a clock.
type bench struct {
	*vaultdata.Objects
	store store.Store
	ring  *seal.Keyring
	clock *clock
}

func open(t testing.TB) *bench {
	t.Helper()
	dir := t.TempDir()
	s, err := sqlstore.OpenSQLite(t.Context(), filepath.Join(dir, "laz.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	root, err := seal.OpenFileRoot(filepath.Join(dir, "root.json"))
	if err != nil {
		t.Fatal(err)
	}
	c := &clock{t: time.Now()}
	ring := seal.NewKeyring(s, root)
	return &bench{vaultdata.New(vaultdata.Config{Store: s, Sealer: ring, Now: c.now}), s, ring, c}
}

func vault(uid string) *vaultdata.Vault {
	return &vaultdata.Vault{
		UID: uid, URI: "https://v.vault.azure.net", RetentionDays: 90,
		TenantID: "11111111-1111-1111-1111-111111111111", SubscriptionID: "22222222-2222-2222-2222-222222222222",
	}
}

func ptr[T any](v T) *T { return &v }

// wire is v as a caller sees it.
func wire(t testing.TB, v any) map[string]any {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// wantCode fails unless err is a refusal with the code and the inner code.
func wantCode(t testing.TB, err error, kind apierr.Kind, code, inner string) {
	t.Helper()
	e := apierr.From(err)
	if e == nil || e.Kind != kind || e.Code != code || e.Inner != inner {
		t.Errorf("got %v, want kind %v code %q inner %q", err, kind, code, inner)
	}
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func setSecret(t testing.TB, b *bench, v *vaultdata.Vault, name, value string) *vaultdata.Secret {
	t.Helper()
	return must[*vaultdata.Secret](t)(b.SetSecret(t.Context(), v, name, &vaultdata.SetSecret{Value: &value}))
}

func TestSecret_VersionsAndAttributes(t *testing.T) {
	b, v := open(t), vault("u1")
	first := setSecret(t, b, v, "Name", "one")
	second := setSecret(t, b, v, "name", "two")
	if first.ID == second.ID || second.PreviousVersion == "" {
		t.Fatalf("two versions: %s, %s", first.ID, second.ID)
	}
	got := must[*vaultdata.Secret](t)(b.GetSecret(t.Context(), v, "NAME", "", ""))
	if *got.Value != "two" || got.ID != second.ID {
		t.Errorf("current is %s = %q", got.ID, *got.Value)
	}
	old := must[*vaultdata.Secret](t)(b.GetSecret(t.Context(), v, "name", first.ID[len(first.ID)-32:], ""))
	if *old.Value != "one" {
		t.Errorf("old version has %q", *old.Value)
	}
	if w := wire(t, got); w["attributes"].(map[string]any)["recoveryLevel"] != "Recoverable+Purgeable" {
		t.Errorf("attributes %v", w["attributes"])
	}
	if _, err := b.UpdateSecret(t.Context(), v, "name", first.ID[len(first.ID)-32:], &vaultdata.UpdateSecret{Attributes: &vaultdata.AttributesIn{Enabled: ptr(false)}}); err != nil {
		t.Fatal(err)
	}
	_, err := b.GetSecret(t.Context(), v, "name", first.ID[len(first.ID)-32:], "")
	wantCode(t, err, apierr.Forbidden, "Forbidden", "SecretDisabled")
	if got = must[*vaultdata.Secret](t)(b.GetSecret(t.Context(), v, "name", "", "")); *got.Value != "two" {
		t.Errorf("the current version changed too: %q", *got.Value)
	}
}

func TestSecret_ConcurrentSetsLoseNothing(t *testing.T) {
	b, v := open(t), vault("u1")
	const writers, each = 6, 8
	var wg sync.WaitGroup
	var mu sync.Mutex
	want := map[string]string{}
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				value := fmt.Sprintf("%d/%d", w, i)
				s, err := b.SetSecret(t.Context(), v, "contended", &vaultdata.SetSecret{Value: &value})
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				want[s.ID[len(s.ID)-32:]] = value
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(want) != writers*each {
		t.Fatalf("%d distinct versions of %d", len(want), writers*each)
	}
	for ver, value := range want {
		s, err := b.GetSecret(t.Context(), v, "contended", ver, "")
		if err != nil || *s.Value != value {
			t.Fatalf("version %s: %v", ver, err)
		}
	}
	seen, after := 0, ""
	for {
		p := must[vaultdata.Page](t)(vaultdata.NewPage("7", after))
		l := must[*vaultdata.List](t)(b.ListSecretVersions(t.Context(), v, "contended", p))
		seen += len(l.Value.([]any))
		if after = l.Next(); after == "" {
			break
		}
	}
	if seen != writers*each {
		t.Errorf("listed %d of %d versions", seen, writers*each)
	}
}

func TestSecret_SoftDeleteRecoverPurge(t *testing.T) {
	b, v := open(t), vault("u1")
	set := setSecret(t, b, v, "s", "x")
	del := must[*vaultdata.Secret](t)(b.DeleteSecret(t.Context(), v, "s"))
	if del.RecoveryID != "https://v.vault.azure.net/deletedsecrets/s" || del.ScheduledPurgeDate-del.DeletedDate != 90*86400 {
		t.Errorf("deleted: %+v", del.Deletion)
	}
	_, err := b.GetSecret(t.Context(), v, "s", "", "")
	wantCode(t, err, apierr.NotFound, "SecretNotFound", "")
	_, err = b.SetSecret(t.Context(), v, "s", &vaultdata.SetSecret{Value: ptr("y")})
	wantCode(t, err, apierr.Conflict, "Conflict", "ObjectIsDeletedButRecoverable")
	if _, err = b.RecoverSecret(t.Context(), v, "s"); err != nil {
		t.Fatal(err)
	}
	if got := must[*vaultdata.Secret](t)(b.GetSecret(t.Context(), v, "s", "", "")); got.ID != set.ID || *got.Value != "x" {
		t.Errorf("recovered %s", got.ID)
	}
	_, err = b.DeletedSecret(t.Context(), v, "s")
	wantCode(t, err, apierr.NotFound, "SecretNotFound", "")
	must[*vaultdata.Secret](t)(b.DeleteSecret(t.Context(), v, "s"))
	protected := *v
	protected.PurgeProtection = true
	wantCode(t, b.PurgeSecret(t.Context(), &protected, "s"), apierr.Forbidden, "Forbidden", "OperationNotAllowed")
	if err := b.PurgeSecret(t.Context(), v, "s"); err != nil {
		t.Fatal(err)
	}
	left := must[[]store.Doc](t)(b.store.List(t.Context(), store.Query{Prefix: vaultdata.Prefix("u1")}))
	if len(left) != 0 {
		t.Errorf("a purge left %d documents", len(left))
	}
	setSecret(t, b, v, "s", "again")
}

func TestSecret_PurgedWhenRetentionEnds(t *testing.T) {
	b, v := open(t), vault("u1")
	v.RetentionDays, v.PurgeProtection = 7, true
	setSecret(t, b, v, "s", "x")
	must[*vaultdata.Secret](t)(b.DeleteSecret(t.Context(), v, "s"))
	b.clock.advance(6 * day)
	must[*vaultdata.Secret](t)(b.DeletedSecret(t.Context(), v, "s"))
	b.clock.advance(2 * day)
	_, err := b.DeletedSecret(t.Context(), v, "s")
	wantCode(t, err, apierr.NotFound, "SecretNotFound", "")
	setSecret(t, b, v, "s", "new")
}

func TestSweep_ErasesWhatIsDue(t *testing.T) {
	b, v := open(t), vault("u1")
	v.RetentionDays = 7
	for _, name := range []string{"kept", "due"} {
		setSecret(t, b, v, name, "one")
		setSecret(t, b, v, name, "two")
	}
	createKey(t, b, v, "k", vaultdata.CreateKey{Kty: "EC"})
	must[*vaultdata.Secret](t)(b.DeleteSecret(t.Context(), v, "due"))
	must[*vaultdata.KeyBundle](t)(b.DeleteKey(t.Context(), v, "k"))
	count := func() int {
		return len(must[[]store.Doc](t)(b.store.List(t.Context(), store.Query{Prefix: vaultdata.Prefix("u1")})))
	}
	before := count()
	if err := b.Sweep(t.Context()); err != nil || count() != before {
		t.Fatalf("swept too early: %v", err)
	}
	b.clock.advance(8 * day)
	if err := b.Sweep(t.Context()); err != nil || count() != 2 {
		t.Errorf("left %d documents: %v", count(), err)
	}
}

func TestSecret_BackupRestore(t *testing.T) {
	b, v := open(t), vault("u1")
	setSecret(t, b, v, "s", "one")
	two := setSecret(t, b, v, "s", "two")
	blob := must[*vaultdata.Blob](t)(b.BackupSecret(t.Context(), v, "s"))
	_, err := b.RestoreSecret(t.Context(), v, blob)
	wantCode(t, err, apierr.Conflict, "Conflict", "")

	other := vault("u2")
	got := must[*vaultdata.Secret](t)(b.RestoreSecret(t.Context(), other, blob))
	if got.ID != two.ID {
		t.Errorf("restored %s, want %s", got.ID, two.ID)
	}
	if s := must[*vaultdata.Secret](t)(b.GetSecret(t.Context(), other, "s", "", "")); *s.Value != "two" {
		t.Errorf("restored value %q", *s.Value)
	}
	l := must[*vaultdata.List](t)(b.ListSecretVersions(t.Context(), other, "s", vaultdata.Page{Limit: 25}))
	if n := len(l.Value.([]any)); n != 2 {
		t.Errorf("restored %d versions", n)
	}

	foreign := vault("u3")
	foreign.SubscriptionID = "33333333-3333-3333-3333-333333333333"
	_, err = b.RestoreSecret(t.Context(), foreign, blob)
	wantCode(t, err, apierr.BadRequest, "BadParameter", "")
	_, err = b.RestoreKey(t.Context(), vault("u4"), blob)
	wantCode(t, err, apierr.BadRequest, "BadParameter", "")
	_, err = b.RestoreSecret(t.Context(), vault("u5"), &vaultdata.Blob{Value: blob.Value[:len(blob.Value)-2] + "AA"})
	wantCode(t, err, apierr.BadRequest, "BadParameter", "")
}

func TestSecret_Refusals(t *testing.T) {
	b, v := open(t), vault("u1")
	big := string(make([]byte, 25*1024+1))
	for name, in := range map[string]struct {
		name string
		set  vaultdata.SetSecret
	}{
		"no value":       {"s", vaultdata.SetSecret{}},
		"too big":        {"s", vaultdata.SetSecret{Value: &big}},
		"bad name":       {"a_b", vaultdata.SetSecret{Value: ptr("x")}},
		"long name":      {string(make([]byte, 128)), vaultdata.SetSecret{Value: ptr("x")}},
		"empty validity": {"s", vaultdata.SetSecret{Value: ptr("x"), Attributes: &vaultdata.AttributesIn{NotBefore: ptr(int64(9)), Expires: ptr(int64(9))}}},
		"many tags": {"s", vaultdata.SetSecret{Value: ptr("x"), Tags: func() map[string]string {
			m := map[string]string{}
			for i := range 16 {
				m[fmt.Sprint(i)] = ""
			}
			return m
		}()}},
	} {
		_, err := b.SetSecret(t.Context(), v, in.name, &in.set)
		if !apierr.Is(err, apierr.BadRequest) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := b.GetSecret(t.Context(), v, "s", "short", "")
	wantCode(t, err, apierr.BadRequest, "BadParameter", "")
	for _, p := range [][2]string{{"0", ""}, {"26", ""}, {"x", ""}, {"", "!"}, {"", "Li4"}} {
		if _, err := vaultdata.NewPage(p[0], p[1]); !apierr.Is(err, apierr.BadRequest) {
			t.Errorf("NewPage(%q, %q): %v", p[0], p[1], err)
		}
	}
}

func TestSecret_ListPages(t *testing.T) {
	b, v := open(t), vault("u1")
	for i := range 30 {
		setSecret(t, b, v, fmt.Sprintf("s%02d", i), "x")
	}
	setSecret(t, b, vault("u10"), "elsewhere", "x")
	p := must[vaultdata.Page](t)(vaultdata.NewPage("", ""))
	l := must[*vaultdata.List](t)(b.ListSecrets(t.Context(), v, p))
	if len(l.Value.([]any)) != 25 || l.Next() == "" {
		t.Fatalf("first page has %d", len(l.Value.([]any)))
	}
	p = must[vaultdata.Page](t)(vaultdata.NewPage("", l.Next()))
	l = must[*vaultdata.List](t)(b.ListSecrets(t.Context(), v, p))
	if len(l.Value.([]any)) != 5 || l.Next() != "" {
		t.Errorf("second page has %d", len(l.Value.([]any)))
	}
}

// TestSealed_BoundToItsPlace moves a sealed document to another name and vault.
func TestSealed_BoundToItsPlace(t *testing.T) {
	b, v := open(t), vault("u1")
	setSecret(t, b, v, "rich", "gold")
	setSecret(t, b, v, "poor", "dust")
	rich := must[store.Doc](t)(b.store.Get(t.Context(), vaultdata.Prefix("u1")+"secret/rich"))
	poor := must[store.Doc](t)(b.store.Get(t.Context(), vaultdata.Prefix("u1")+"secret/poor"))
	var r, p map[string]any
	if err := json.Unmarshal(rich.Value, &r); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(poor.Value, &p); err != nil {
		t.Fatal(err)
	}
	p["current"] = r["current"]
	poor.Value = must[[]byte](t)(json.Marshal(p))
	must[int64](t)(b.store.Put(t.Context(), poor))
	if s, err := b.GetSecret(t.Context(), v, "poor", "", ""); err == nil {
		t.Fatalf("a moved value opened: %q", *s.Value)
	}
}

func BenchmarkGetSecret(b *testing.B) {
	o, v := open(b), vault("u1")
	setSecret(b, o, v, "s", "a value of some length, such as a connection string has")
	for b.Loop() {
		if _, err := o.GetSecret(b.Context(), v, "s", "", ""); err != nil {
			b.Fatal(err)
		}
	}
}
