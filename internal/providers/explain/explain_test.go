package explain_test

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/arm/armtest"
	"lazurite.dev/internal/providers/explain"
	"lazurite.dev/internal/rbac"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
	"lazurite.dev/internal/store/sqlstore"
	"lazurite.dev/internal/trace"
	"lazurite.dev/internal/trace/refusals"
)

const (
	sub     = "/subscriptions/11111111-1111-1111-1111-111111111111"
	group   = sub + "/resourceGroups/g"
	vault   = group + "/providers/Microsoft.KeyVault/vaults/v"
	issuer  = "https://eastus.oic.prod-aks.azure.com/t/u/"
	subject = "system:serviceaccount:default:sa"
)

var errNone = errors.New("none")

// allows is a policy that lets one principal in.
type allows string

func (a allows) Check(ctx context.Context, oid, action string, _ bool, scope rid.ID) (rbac.Decision, error) {
	ok := oid == string(a)
	trace.Add(ctx, trace.Hop{Step: "role", Subject: oid, Found: action + " at " + scope.String(), OK: ok})
	return rbac.Decision{Allowed: ok}, nil
}

// world is a cluster, a credential and a vault, before something is broken.
type world struct {
	issuerOn               bool
	iss, sub, aud, allowed string
}

func right() world {
	return world{issuerOn: true, iss: issuer, sub: subject, aud: "api://AzureADTokenExchange", allowed: "principal"}
}

func (w world) ask(t *testing.T, body string) explain.Answer {
	t.Helper()
	s, err := sqlstore.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "db"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	res := arm.Resources{Store: s}
	for id, props := range map[string]map[string]any{
		group + "/providers/Microsoft.ContainerService/managedClusters/c":                                      {"oidcIssuerProfile": map[string]any{"enabled": w.issuerOn, "issuerURL": issuer}},
		group + "/providers/Microsoft.ManagedIdentity/userAssignedIdentities/i":                                {"clientId": "client", "principalId": "principal"},
		group + "/providers/Microsoft.ManagedIdentity/userAssignedIdentities/i/federatedIdentityCredentials/f": {"issuer": w.iss, "subject": w.sub, "audiences": []string{w.aud}},
		vault: {},
	} {
		r := rid.MustParse(id)
		if err := res.Put(t.Context(), &arm.Envelope{ID: id, Name: r.Name(), Type: r.Type(), Properties: props}); err != nil {
			t.Fatal(err)
		}
	}
	p := explain.New(explain.Config{Resources: res, NotFound: errNone, Policy: allows(w.allowed), Plane: func(string) explain.Plane { return nil }})
	r, err := p.Endpoints[2].Handle(t.Context(), &arm.Request{Params: map[string]string{"subscriptionId": strings.TrimPrefix(sub, "/subscriptions/")}, Body: json.RawMessage(body)})
	if err != nil {
		t.Fatal(err)
	}
	return r.Body.(explain.Answer)
}

const question = `{"namespace":"default","serviceAccount":"sa","to":"` + vault + `"}`

func TestExplain_SaysYesWhereEverythingFits(t *testing.T) {
	if a := right().ask(t, question); !a.Allowed || len(a.Hops) != 4 {
		t.Fatalf("%+v", a)
	}
}

func TestExplain_NamesTheHopThatFails(t *testing.T) {
	for want, broken := range map[string]func(*world){
		"issuer is off":                      func(w *world) { w.issuerOn = false },
		"only in letter case":                func(w *world) { w.sub = strings.ToUpper(subject) },
		"only in a slash at its end":         func(w *world) { w.iss = strings.TrimSuffix(issuer, "/") },
		"issuer differs only in letter case": func(w *world) { w.iss = strings.Replace(issuer, "eastus", "EastUS", 1) },
		"issuer differs":                     func(w *world) { w.iss = "https://other.example/" },
		"subject differs":                    func(w *world) { w.sub = "system:serviceaccount:default:other" },
		"audience differs":                   func(w *world) { w.aud = "api://other" },
		"trusts somebody else":               func(w *world) { w.iss, w.sub = "https://other.example/", "x" },
		"getSecret":                          func(w *world) { w.allowed = "somebody else" },
	} {
		w := right()
		broken(&w)
		a := w.ask(t, question)
		var last trace.Hop
		for _, h := range a.Hops {
			if !h.OK {
				last = h
			}
		}
		if a.Allowed || !strings.Contains(last.Found, want) {
			t.Errorf("%s: allowed %v, hops %+v", want, a.Allowed, a.Hops)
		}
		slip := strings.Contains(want, "only in") || strings.HasPrefix(want, "audience")
		if last.Step == "credential" && strings.HasPrefix(last.Fix, "az identity federated-credential update") != slip {
			t.Errorf("%s: a slip is mended where it is, and who trusts somebody else goes on doing so: %+v", want, last)
		}
		if last.Step == "credential" && !slip && !strings.HasPrefix(last.Fix, "az identity federated-credential create --name default-sa --identity-name i ") {
			t.Errorf("%s: no fix: %+v", want, last)
		}
	}
}

func TestExplain_UnknownClusterAndTarget(t *testing.T) {
	a := right().ask(t, `{"namespace":"default","serviceAccount":"sa","cluster":"nope","to":"https://x.vault.azure.net/secrets/s"}`)
	if a.Allowed || len(a.Hops) != 2 || !strings.Contains(a.Hops[0].Found, "there are: c") || !strings.Contains(a.Hops[1].Found, "no data plane") {
		t.Fatalf("%+v", a)
	}
}

func TestExplain_RefusesHalfAQuestion(t *testing.T) {
	p := explain.New(explain.Config{NotFound: errNone})
	for _, body := range []string{`{}`, `{"to":"/x"}`, `{"namespace":"a","to":"/x"}`, `{"principal":"a"}`, `[]`} {
		_, err := p.Endpoints[2].Handle(t.Context(), &arm.Request{Params: map[string]string{"subscriptionId": "s"}, Body: json.RawMessage(body)})
		if err == nil || !strings.Contains(err.Error(), "InvalidRequestContent") {
			t.Errorf("%s: %v", body, err)
		}
	}
}

func TestExplain_WithoutATargetAsksForTheTokenAlone(t *testing.T) {
	const q = `{"namespace":"default","serviceAccount":"sa"}`
	if a := right().ask(t, q); !a.Allowed || len(a.Hops) != 3 || a.What == "" {
		t.Errorf("%+v", a)
	}
	w := right()
	w.sub = "system:serviceaccount:default:SA"
	if a := w.ask(t, q); a.Allowed {
		t.Errorf("%+v", a)
	}
}

func TestRefusals_WhoeverMayNotReadThemSeesItsOwn(t *testing.T) {
	var rec *refusals.Recorder
	p := armtest.New(t, func(st store.Store) []arm.Provider {
		rec = refusals.New(st, nil)
		return []arm.Provider{explain.New(explain.Config{Refusals: rec, NotFound: refusals.ErrNotFound})}
	}, nil)
	const other = "cccccccc-0000-4000-8000-00000000000c"
	for _, r := range []trace.Trace{
		{ID: "mine-0001", Correlation: "shared-01", Principal: armtest.Nobody},
		{ID: "other-001", Correlation: "shared-01", Principal: other},
		{ID: "unknown-1", Correlation: "unknown-1"}, // whoever came without a good token
	} {
		rec.Record(r)
	}
	const version = "?api-version=2026-01-01"
	base := armtest.Base + "/providers/Lazurite.Explain/refusals"
	seen := func(as string) int {
		list, _ := p.Want(200, "GET", base+version, "", "Authorization", "Bearer "+as).At("value").([]any)
		return len(list)
	}
	reader := "dddddddd-0000-4000-8000-00000000000d"
	p.Policy.Allow(reader, "Lazurite.Explain/refusals/read")
	for as, want := range map[string]int{armtest.Owner: 3, reader: 3, armtest.Nobody: 1, other: 1, "eeeeeeee-0000-4000-8000-00000000000e": 0} {
		if got := seen(as); got != want {
			t.Errorf("%s sees %d refusals, want %d", as, got, want)
		}
	}
	for _, id := range []string{"last", "mine-0001", "shared-01", "mine-000"} {
		a := p.Want(200, "GET", base+"/"+id+version, "", "Authorization", "Bearer "+armtest.Nobody)
		if a.Text("id") != "mine-0001" {
			t.Errorf("%s: %s", id, a.Raw)
		}
	}
	for _, id := range []string{"other-001", "other-00", "unknown-1", "nonsense"} {
		p.WantError(404, "RefusalNotFound", "GET", base+"/"+id+version, "", "Authorization", "Bearer "+armtest.Nobody)
	}
	p.WantError(404, "RefusalNotFound", "GET", base+"/last"+version, "", "Authorization", "Bearer eeeeeeee-0000-4000-8000-00000000000e")
	for _, header := range []string{"", "Bearer bad", "Bearer " + armtest.Expired} {
		for _, path := range []string{base, base + "/last"} {
			p.Want(401, "GET", path+version, "", "Authorization", header)
		}
	}
}
