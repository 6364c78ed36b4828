package rbac_test

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"lazurite.dev/internal/rbac"
	"pgregory.net/rapid"
)

const (
	alice  = "11111111-1111-1111-1111-111111111111"
	bob    = "22222222-2222-2222-2222-222222222222"
	group  = "33333333-3333-3333-3333-333333333333"
	sub    = "/subscriptions/aaaaaaaa-0000-0000-0000-000000000000"
	rg     = sub + "/resourceGroups/rg"
	vault  = rg + "/providers/Microsoft.KeyVault/vaults/v1"
	secret = vault + "/secrets/s"

	secretsUser = "4633458b-17de-408a-b874-0445c86b69e6"
	getSecret   = "Microsoft.KeyVault/vaults/secrets/getSecret/action"
)

func assign(t testing.TB, e *rbac.Engine, id string, a rbac.Assignment) {
	t.Helper()
	if err := e.SetAssignment(id, a); err != nil {
		t.Fatal(err)
	}
}

func TestDecide_BuiltInRoles(t *testing.T) {
	roles := map[string]string{}
	for _, d := range rbac.BuiltIn() {
		roles[d.Name] = d.ID
	}
	const mi, ml, oai = "Microsoft.ManagedIdentity/userAssignedIdentities/", "Microsoft.MachineLearningServices/workspaces/", "Microsoft.CognitiveServices/accounts/OpenAI/"
	for _, c := range []struct {
		role, action string
		data, want   bool
	}{
		{"Owner", "Microsoft.KeyVault/vaults/write", false, true},
		{"Owner", getSecret, true, false},
		{"Owner", "Microsoft.Authorization/roleAssignments/write", false, true},
		{"Contributor", "microsoft.authorization/roleassignments/WRITE", false, false},
		{"Contributor", "Microsoft.Authorization/roleAssignments/read", false, true},
		{"Contributor", "Microsoft.CognitiveServices/accounts/listKeys/action", false, true},
		{"Contributor", oai + "deployments/chat/completions/action", true, false},
		{"Reader", "Microsoft.KeyVault/vaults/read", false, true},
		{"Reader", "Microsoft.KeyVault/vaults/write", false, false},
		{"Key Vault Reader", "Microsoft.KeyVault/vaults/read", false, true},
		{"Key Vault Reader", "Microsoft.KeyVault/vaults/secrets/read", true, true},
		{"Key Vault Reader", getSecret, true, false},
		{"Key Vault Secrets User", getSecret, true, true},
		{"Key Vault Secrets User", strings.ToUpper(getSecret), true, true},
		{"Key Vault Secrets User", getSecret, false, false},
		{"Key Vault Secrets User", "Microsoft.KeyVault/vaults/secrets/setSecret/action", true, false},
		{"Key Vault Data Access Administrator", "Microsoft.Authorization/roleAssignments/write", false, false},
		{"Key Vault Contributor", "Microsoft.KeyVault/locations/deletedVaults/purge/action", false, false},
		{"Managed Identity Operator", mi + "assign/action", false, true},
		{"Managed Identity Operator", mi + "read", false, true},
		{"Managed Identity Operator", mi + "write", false, false},
		{"Managed Identity Contributor", mi + "federatedIdentityCredentials/write", false, true},
		{"AzureML Data Scientist", ml + "onlineEndpoints/score/action", false, true},
		{"AzureML Data Scientist", ml + "write", false, false},
		{"AzureML Data Scientist", ml + "listKeys/action", false, false},
		{"Cognitive Services OpenAI User", oai + "deployments/chat/completions/action", true, true},
		{"Cognitive Services OpenAI User", oai + "deployments/images/edits/action", true, false},
		{"Cognitive Services OpenAI User", oai + "stored-completions/read", true, false},
		{"AcrPull", "Microsoft.ContainerRegistry/registries/push/write", false, false},
	} {
		t.Run(c.role+" "+c.action, func(t *testing.T) {
			e := rbac.New()
			assign(t, e, "a", rbac.Assignment{Principal: alice, Role: roles[c.role], Scope: rg})
			got := e.Decide(rbac.Request{Principals: []string{alice}, Action: c.action, Data: c.data, Scope: vault})
			if got.Allowed != c.want {
				t.Errorf("allowed = %t, want %t", got.Allowed, c.want)
			}
		})
	}
}

func TestBuiltIn_IsWellFormed(t *testing.T) {
	guid := regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
	seen := map[string]bool{}
	for _, d := range rbac.BuiltIn() {
		if !guid.MatchString(d.ID) || d.Name == "" || d.Description == "" {
			t.Errorf("%q %q %q: incomplete", d.ID, d.Name, d.Description)
		}
		if seen[d.ID] || seen[d.Name] {
			t.Errorf("%s %s: twice", d.ID, d.Name)
		}
		seen[d.ID], seen[d.Name] = true, true
		for _, p := range d.Permissions {
			p.Condition = ""
			if err := rbac.Check([]rbac.Permission{p}); err != nil {
				t.Errorf("%s: %v", d.Name, err)
			}
		}
	}
}

func TestDecide_ScopesAndGroups(t *testing.T) {
	e := rbac.New()
	assign(t, e, "a", rbac.Assignment{Principal: group, Role: secretsUser, Scope: strings.ToUpper(rg)})
	for scope, want := range map[string]bool{
		rg: true, vault: true, secret: true, sub: false, "/": false, "": false,
		rg + "2": false, rg + "2/providers/Microsoft.KeyVault/vaults/v1": false, "nonsense": false,
	} {
		q := rbac.Request{Principals: []string{alice, strings.ToUpper(group)}, Action: getSecret, Data: true, Scope: scope}
		if got := e.Decide(q).Allowed; got != want {
			t.Errorf("%s: allowed = %t, want %t", scope, got, want)
		}
	}
	assign(t, e, "root", rbac.Assignment{Principal: bob, Role: "/providers/Microsoft.Authorization/roleDefinitions/" + secretsUser, Scope: "/"})
	if !e.Decide(rbac.Request{Principals: []string{bob}, Action: getSecret, Data: true, Scope: vault}).Allowed {
		t.Error("an assignment at the root does not reach a vault")
	}
	e.RemoveAssignment("ROOT")
	if e.Decide(rbac.Request{Principals: []string{bob}, Action: getSecret, Data: true, Scope: vault}).Allowed {
		t.Error("a removed assignment still allows")
	}
}

func TestDecide_DenyAssignments(t *testing.T) {
	e := rbac.New()
	assign(t, e, "a", rbac.Assignment{Principal: alice, Role: rbac.Owner, Scope: sub})
	assign(t, e, "b", rbac.Assignment{Principal: bob, Role: rbac.Owner, Scope: sub})
	write := rbac.Request{Principals: []string{alice}, Action: "Microsoft.KeyVault/vaults/write", Scope: vault}
	set := func(d rbac.Deny) {
		t.Helper()
		d.Name = "managed"
		d.Permissions = []rbac.Permission{{Actions: []string{"*"}, NotActions: []string{"*/read"}}}
		if err := e.SetDeny("d", d); err != nil {
			t.Fatal(err)
		}
	}
	set(rbac.Deny{Scope: rg, Principals: []string{rbac.Everyone}, Exclude: []string{bob}})
	if d := e.Explain(write); d.Allowed || d.Deny != "d" || !strings.Contains(d.Reason, "managed") {
		t.Errorf("deny is not in effect: %+v", d)
	}
	read := write
	read.Action = "Microsoft.KeyVault/vaults/read"
	if !e.Decide(read).Allowed {
		t.Error("the deny's notActions are denied too")
	}
	asBob := write
	asBob.Principals = []string{bob}
	if !e.Decide(asBob).Allowed {
		t.Error("an excluded principal is denied")
	}
	set(rbac.Deny{Scope: rg, Principals: []string{alice}, OnlyHere: true})
	if !e.Decide(write).Allowed {
		t.Error("doNotApplyToChildScopes reaches a child")
	}
	e.RemoveDeny("d")
	here := write
	here.Scope = rg
	if !e.Decide(here).Allowed {
		t.Error("a removed deny still denies")
	}
}

func TestCustomRole_FollowsItsDefinition(t *testing.T) {
	const id = "99999999-0000-0000-0000-000000000000"
	e := rbac.New()
	assign(t, e, "a", rbac.Assignment{Principal: alice, Role: id, Scope: sub})
	q := rbac.Request{Principals: []string{alice}, Action: "Microsoft.KeyVault/vaults/read", Scope: vault}
	if d := e.Explain(q); d.Allowed || len(d.Near) != 1 || d.Near[0].Kind != rbac.RoleGone {
		t.Errorf("undefined role: %+v", d)
	}
	def := rbac.Definition{ID: id, Name: "mine", Permissions: []rbac.Permission{{Actions: []string{"Microsoft.KeyVault/*/read"}}}}
	if err := e.SetDefinition(def); err != nil {
		t.Fatal(err)
	}
	if d := e.Decide(q); !d.Allowed || d.Role != "mine" {
		t.Errorf("defined role: %+v", d)
	}
	e.RemoveDefinition(id)
	if e.Decide(q).Allowed {
		t.Error("a removed role still allows")
	}
	def.ID = rbac.Owner
	if err := e.SetDefinition(def); err == nil {
		t.Error("a custom role took the id of a built-in one")
	}
}

func TestRefusesWhatItCannotRead(t *testing.T) {
	e := rbac.New()
	assign(t, e, "a", rbac.Assignment{Principal: alice, Role: rbac.Owner, Scope: sub})
	err := e.SetAssignment("a", rbac.Assignment{Principal: alice, Role: rbac.Owner, Scope: sub, Condition: "@Resource[x] StringEquals 'y'"})
	if !errors.Is(err, rbac.ErrCondition) {
		t.Errorf("condition: %v", err)
	}
	if e.Decide(rbac.Request{Principals: []string{alice}, Action: "a/read", Scope: sub}).Allowed {
		t.Error("what the refused assignment replaced is still in effect")
	}
	for _, p := range []string{"", "read", "a b/read", "a/\x00", "a/****/*", strings.Repeat("a/", 300)} {
		if err := e.SetDefinition(rbac.Definition{ID: bob, Permissions: []rbac.Permission{{Actions: []string{p}}}}); !errors.Is(err, rbac.ErrPattern) {
			t.Errorf("%q: %v", p, err)
		}
	}
}

func TestExplain_NamesTheNearMiss(t *testing.T) {
	other := rg + "/providers/Microsoft.KeyVault/vaults/other"
	for _, c := range []struct {
		name string
		a    rbac.Assignment
		want rbac.NearKind
		text string
	}{
		{"owner", rbac.Assignment{Principal: alice, Role: rbac.Owner, Scope: sub}, rbac.NoDataActions, "no data actions"},
		{"other scope", rbac.Assignment{Principal: alice, Role: secretsUser, Scope: other}, rbac.OtherScope, "does not contain"},
		{"other role", rbac.Assignment{Principal: alice, Role: "21090545-7ca7-4776-b22c-e363652d74d2", Scope: vault}, rbac.RoleLacks, "does not include"},
		{"other principal", rbac.Assignment{Principal: bob, Role: secretsUser, Scope: vault}, rbac.OtherPrincipal, "hold no role at all"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := rbac.New()
			assign(t, e, "a", c.a)
			d := e.Explain(rbac.Request{Principals: []string{alice}, Action: getSecret, Data: true, Scope: vault})
			if d.Allowed || len(d.Near) != 1 || d.Near[0].Kind != c.want || !strings.Contains(d.Reason, c.text) {
				t.Errorf("got %+v", d)
			}
		})
	}
	e := rbac.New()
	if got := e.Suggest(getSecret, true, 2); len(got) != 2 || got[0].Name != "Key Vault Secrets User" {
		t.Errorf("suggested %v", got)
	}
	const chat = "Microsoft.CognitiveServices/accounts/OpenAI/deployments/chat/completions/action"
	if got := e.Suggest(chat, true, 1); len(got) != 1 || got[0].Name != "Cognitive Services OpenAI User" {
		t.Errorf("suggested %v: one role holds all of another", got)
	}
}

// TestDecide_AgreesWithTheRules compares with the rules written out naively.
func TestDecide_AgreesWithTheRules(t *testing.T) {
	principals := []string{"p0", "p1", "P2"}
	scopes := []string{"/", "/a", "/a/b", "/A/b/c", "/a/bb", "/a/b/c/d"}
	patterns := []string{"*", "*/read", "n/*", "n/t/*/read", "n/t/read", "n/t/u/read", "n/t/write", "N/*/write", "n/t/x*/act"}
	actions := []string{"n/t/read", "n/t/u/read", "n/t/write", "m/t/read", "n/t/xyz/act", "n/t/x/y/act"}
	list := func(t *rapid.T, name string) []string {
		return rapid.SliceOfN(rapid.SampledFrom(patterns), 0, 3).Draw(t, name)
	}
	rapid.Check(t, func(t *rapid.T) {
		e, m := rbac.New(), model{as: map[string]rbac.Assignment{}, defs: map[string]rbac.Permission{}, denies: map[string]rbac.Deny{}}
		for i := range rapid.IntRange(1, 25).Draw(t, "steps") {
			id, role := fmt.Sprint("x", rapid.IntRange(0, 4).Draw(t, "id")), fmt.Sprint("r", rapid.IntRange(0, 2).Draw(t, "role"))
			perm := rbac.Permission{Actions: list(t, "a"), NotActions: list(t, "na"), DataActions: list(t, "d"), NotDataActions: list(t, "nd")}
			scope := rapid.SampledFrom(scopes).Draw(t, "scope")
			who := rapid.SampledFrom(principals).Draw(t, "who")
			switch rapid.IntRange(0, 6).Draw(t, "what") {
			case 0, 1, 2:
				m.as[id] = rbac.Assignment{Principal: who, Role: role, Scope: scope}
				assign(nil2(t), e, id, m.as[id])
			case 3:
				m.defs[role] = perm
				if err := e.SetDefinition(rbac.Definition{ID: role, Name: fmt.Sprint(role, i), Permissions: []rbac.Permission{perm}}); err != nil {
					t.Fatal(err)
				}
			case 4:
				delete(m.as, id)
				e.RemoveAssignment(id)
			case 5:
				delete(m.defs, role)
				e.RemoveDefinition(role)
			case 6:
				d := rbac.Deny{Scope: scope, Permissions: []rbac.Permission{perm}, OnlyHere: rapid.Bool().Draw(t, "only"),
					Principals: []string{rapid.SampledFrom([]string{rbac.Everyone, who}).Draw(t, "deny")}, Exclude: []string{rapid.SampledFrom(principals).Draw(t, "not")}}
				m.denies[id] = d
				if err := e.SetDeny(id, d); err != nil {
					t.Fatal(err)
				}
			}
		}
		q := rbac.Request{
			Principals: rapid.SliceOfNDistinct(rapid.SampledFrom(principals), 1, 2, rapid.ID[string]).Draw(t, "callers"),
			Action:     rapid.SampledFrom(actions).Draw(t, "action"), Data: rapid.Bool().Draw(t, "data"),
			Scope: rapid.SampledFrom(scopes).Draw(t, "at"),
		}
		if got, want := e.Decide(q).Allowed, m.decide(q); got != want {
			t.Fatalf("%+v: allowed = %t, want %t\n%+v", q, got, want, m)
		}
		if got, want := e.Explain(q).Allowed, m.decide(q); got != want {
			t.Fatalf("explain: allowed = %t, want %t", got, want)
		}
	})
}

// nil2 lets assign, which wants a testing.TB, fail a rapid test.
func nil2(t *rapid.T) testing.TB { return rapidTB{TB: nil, t: t} }

type rapidTB struct {
	testing.TB
	t *rapid.T
}

func (r rapidTB) Helper()           {}
func (r rapidTB) Fatal(args ...any) { r.t.Fatal(args...) }

type model struct {
	as     map[string]rbac.Assignment
	defs   map[string]rbac.Permission
	denies map[string]rbac.Deny
}

func within(scope, at string) bool {
	scope, at = strings.ToLower(strings.TrimSuffix(scope, "/")), strings.ToLower(strings.TrimSuffix(at, "/"))
	return at == scope || strings.HasPrefix(at, scope+"/")
}

func anyMatch(patterns []string, action string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		re := "(?i)^" + strings.ReplaceAll(strings.ReplaceAll(regexp.QuoteMeta(p), `/\*/`, `/(.*/)?`), `\*`, ".*") + "$"
		return regexp.MustCompile(re).MatchString(action)
	})
}

func grants(p rbac.Permission, q rbac.Request) bool {
	if q.Data {
		return anyMatch(p.DataActions, q.Action) && !anyMatch(p.NotDataActions, q.Action)
	}
	return anyMatch(p.Actions, q.Action) && !anyMatch(p.NotActions, q.Action)
}

func has(list []string, x string) bool {
	return slices.ContainsFunc(list, func(s string) bool { return strings.EqualFold(s, x) })
}

func (m model) decide(q rbac.Request) bool {
	for _, d := range m.denies {
		hit := has(d.Principals, rbac.Everyone)
		for _, p := range q.Principals {
			hit = hit || has(d.Principals, p)
		}
		for _, p := range q.Principals {
			hit = hit && !has(d.Exclude, p)
		}
		here := within(d.Scope, q.Scope) && (!d.OnlyHere || within(q.Scope, d.Scope))
		if hit && here && grants(d.Permissions[0], q) {
			return false
		}
	}
	for _, a := range m.as {
		if has(q.Principals, a.Principal) && within(a.Scope, q.Scope) && grants(m.defs[a.Role], q) {
			return true
		}
	}
	return false
}

func TestEngine_ManyAtOnce(t *testing.T) {
	e := rbac.New()
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 200 {
				id := fmt.Sprint(w, "-", i%7)
				_ = e.SetAssignment(id, rbac.Assignment{Principal: alice, Role: secretsUser, Scope: vault})
				e.Explain(rbac.Request{Principals: []string{alice, group}, Action: getSecret, Data: true, Scope: secret})
				e.Permissions([]string{alice}, secret)
				e.RemoveAssignment(id)
			}
		})
	}
	wg.Wait()
	if e.Len() != 0 {
		t.Errorf("%d assignments are left", e.Len())
	}
}

func FuzzMatch(f *testing.F) {
	f.Add("Microsoft.KeyVault/vaults/*/read", "microsoft.keyvault/vaults/read")
	f.Add("*/*/*", "a/b/c")
	f.Fuzz(func(t *testing.T, pattern, action string) {
		if rbac.CheckPattern(pattern) != nil || strings.ContainsAny(action, "\n") || strings.ToLower(action) != action {
			return
		}
		if got, want := rbac.Match(pattern, action), anyMatch([]string{pattern}, action); got != want {
			t.Errorf("Match(%q, %q) = %t, want %t", pattern, action, got, want)
		}
	})
}

func BenchmarkDecide(b *testing.B) {
	for _, n := range []int{10, 10_000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			e := rbac.New()
			for i := range n {
				assign(b, e, fmt.Sprintf("%s/providers/Microsoft.Authorization/roleAssignments/%08d", rg, i), rbac.Assignment{
					Principal: fmt.Sprintf("%08d-1111-1111-1111-111111111111", i%(n/5)), Role: secretsUser,
					Scope: fmt.Sprintf("%s/providers/Microsoft.KeyVault/vaults/v%d", rg, i%(n/2)),
				})
			}
			assign(b, e, "mine", rbac.Assignment{Principal: alice, Role: secretsUser, Scope: rg})
			q := rbac.Request{Principals: []string{alice, group}, Action: getSecret, Data: true, Scope: vault}
			if !e.Decide(q).Allowed {
				b.Fatal("refused")
			}
			b.ReportAllocs()
			for b.Loop() {
				e.Decide(q)
			}
		})
	}
}
