// Package armtest runs a management plane in a test, and the contract that
// every registered type keeps ([Run]).
package armtest

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/ops"
	"lazurite.dev/internal/rbac"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
	"lazurite.dev/internal/store/sqlstore"
	"lazurite.dev/internal/token"
)

// What a Plane is made with.
const (
	Tenant       = "11111111-1111-1111-1111-111111111111"
	Subscription = "22222222-2222-2222-2222-222222222222"
	Base         = "/subscriptions/" + Subscription
	Version      = "2024-11-01" // a group's
)

// The callers that a Plane knows, by the tokens that they send.
const (
	Owner   = "aaaaaaaa-0000-4000-8000-00000000000a" // may do everything
	Nobody  = "bbbbbbbb-0000-4000-8000-00000000000b" // may do nothing
	Expired = "expired"                              // sends an expired token
)

// Plane is a management plane over a database of its own.
type Plane struct {
	Store   store.Store
	Handler *arm.Handler
	Ops     *ops.Manager
	Policy  *Policy

	t       testing.TB
	setup   func(store.Store) []arm.Provider
	adjust  func(*arm.Config)
	stopRun func()
}

// Policy is an Authorizer whose answers a test can change.
type Policy struct {
	mu  sync.Mutex // guards deny
	may map[string][]string
}

// Allow lets a caller (an object id) do an action, anywhere.
func (p *Policy) Allow(oid, action string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.may[oid] = append(p.may[oid], strings.ToLower(action))
}

// Withdraw takes back what Allow gave.
func (p *Policy) Withdraw(oid, action string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.may[oid] = slices.DeleteFunc(p.may[oid], func(a string) bool { return a == strings.ToLower(action) })
}

// Check implements arm.Authorizer.
func (p *Policy) Check(_ context.Context, oid, action string, _ bool, _ rid.ID) (rbac.Decision, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return rbac.Decision{Allowed: oid == Owner || slices.Contains(p.may[oid], strings.ToLower(action))}, nil
}

type verifier struct{}

func (verifier) Verify(_ context.Context, raw string, _ ...string) (*token.Claims, error) {
	switch raw {
	case Expired:
		return nil, apierr.New(apierr.Unauthorized, token.CodeExpired, "The token expired.")
	case "bad":
		return nil, apierr.New(apierr.Unauthorized, token.CodeSignature, "The signature is wrong.")
	}
	return &token.Claims{ObjectID: raw, UPN: UPN(raw), TenantID: Tenant}, nil
}

// UPN is the user name of a caller.
func UPN(oid string) string {
	switch oid {
	case Owner:
		return "owner@example.com"
	case Nobody:
		return "nobody@example.com"
	}
	return oid + "@example.com"
}

// New starts a plane with the providers that setup makes; it is called again
// after a [Plane.Restart]. adjust may be nil.
func New(t testing.TB, setup func(store.Store) []arm.Provider, adjust func(*arm.Config)) *Plane {
	t.Helper()
	st, err := sqlstore.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "laz.db"))
	if err != nil {
		t.Fatal(err)
	}
	p := &Plane{Store: st, Policy: &Policy{may: map[string][]string{}}, t: t, setup: setup, adjust: adjust}
	sub := &arm.Envelope{ID: Base, Name: Subscription, Type: rid.TypeSubscription, Properties: map[string]any{"displayName": "Test", "tenantId": Tenant}}
	if err := (arm.Resources{Store: st}).Put(t.Context(), sub); err != nil {
		t.Fatal(err)
	}
	p.start()
	t.Cleanup(func() {
		p.stopRun()
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func (p *Plane) start() {
	p.t.Helper()
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	p.Ops = ops.New(p.Store, log, true)
	providers := p.setup(p.Store)
	if !slices.ContainsFunc(providers, func(x arm.Provider) bool { return x.Namespace == "Microsoft.Resources" }) {
		providers = append(providers, groups())
	}
	// A machine under load must not make a long operation of a short one.
	cfg := arm.Config{Grace: 2 * time.Second, Store: p.Store, Ops: p.Ops, Verifier: verifier{}, Authorizer: p.Policy, Log: log, Providers: providers, TenantID: Tenant}
	if p.adjust != nil {
		p.adjust(&cfg)
	}
	var err error
	if p.Handler, err = arm.New(cfg); err != nil {
		p.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Ops.Run(ctx) }()
	p.stopRun = func() {
		cancel()
		if err := <-done; err != nil {
			p.t.Error(err)
		}
	}
}

// groups serves resource groups where the providers under test do not.
func groups() arm.Provider {
	return arm.Provider{Namespace: "Microsoft.Resources", Routes: []arm.Route{arm.Serve("Microsoft.Resources", arm.Kind[struct{}]{
		Type: "resourceGroups", APIVersions: []string{Version}, Scopes: arm.Subscription, Tracked: true, AsyncDel: true,
	})}}
}

// Restart stops the plane as a crash would, in the middle of its operations,
// and starts another on the same database.
func (p *Plane) Restart() {
	p.t.Helper()
	p.stopRun()
	p.start()
}

// Answer is what came back.
type Answer struct {
	Status int
	Header http.Header
	Raw    []byte
	JSON   map[string]any // nil when the body is no object
}

// Code is the error's code, "" when there is none.
func (a *Answer) Code() string { return a.Text("error", "code") }

// Text is the string at a path of member names, "" when there is none.
func (a *Answer) Text(path ...string) string {
	s, _ := a.At(path...).(string)
	return s
}

// At is the value at a path of member names, nil when there is none.
func (a *Answer) At(path ...string) any {
	var v any = a.JSON
	for _, p := range path {
		m, _ := v.(map[string]any)
		v = m[p]
	}
	return v
}

// Do sends a request as Owner. path without api-version gets none. Headers
// are pairs of name and value; "" removes.
func (p *Plane) Do(method, path, body string, headers ...string) *Answer {
	p.t.Helper()
	r := httptest.NewRequestWithContext(p.t.Context(), method, "https://management.azure.com"+path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+Owner)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
		if headers[i+1] == "" {
			r.Header.Del(headers[i])
		}
	}
	w := httptest.NewRecorder()
	p.Handler.ServeHTTP(w, r)
	a := &Answer{Status: w.Code, Header: w.Result().Header, Raw: w.Body.Bytes()}
	if err := json.Unmarshal(a.Raw, &a.JSON); err != nil {
		a.JSON = nil
	}
	return a
}

// Want is Do that fails the test unless the status is one of those.
func (p *Plane) Want(status int, method, path, body string, headers ...string) *Answer {
	p.t.Helper()
	a := p.Do(method, path, body, headers...)
	if a.Status != status {
		p.t.Fatalf("%s %s: got %d %s, want %d", method, path, a.Status, a.Raw, status)
	}
	return a
}

// WantError is Want for a refusal with the code.
func (p *Plane) WantError(status int, code, method, path, body string, headers ...string) *Answer {
	p.t.Helper()
	a := p.Want(status, method, path, body, headers...)
	if got := a.Code(); got != code {
		p.t.Fatalf("%s %s: got the error %q (%s), want %q", method, path, got, a.Raw, code)
	}
	return a
}

// Group makes a resource group and gives its path.
func (p *Plane) Group(name string) string {
	p.t.Helper()
	path := Base + "/resourceGroups/" + name
	if a := p.Do("PUT", path+"?api-version="+Version, `{"location":"westus2"}`); a.Status/100 != 2 {
		p.t.Fatalf("make group: %d %s", a.Status, a.Raw)
	}
	return path
}

// Settle follows an answer's operation, if it has one, to its end and gives
// the operation's status.
func (p *Plane) Settle(a *Answer) string {
	p.t.Helper()
	url := a.Header.Get("Azure-AsyncOperation")
	if url == "" {
		return "Succeeded"
	}
	path, ok := strings.CutPrefix(url, "https://management.azure.com")
	if !ok {
		p.t.Fatalf("Azure-AsyncOperation %q is not absolute", url)
	}
	var status string
	p.Eventually(func() error {
		got := p.Want(http.StatusOK, "GET", path, "")
		if status = got.Text("status"); status == ops.InProgress {
			return errors.New("still in progress")
		}
		return nil
	})
	return status
}

// Eventually polls f until it gives nil; after ten seconds the test fails.
func (p *Plane) Eventually(f func() error) {
	p.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.Now().Add(10 * time.Second)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatal(err)
		}
		<-tick.C
	}
}

// types lists the registered types, sorted.
func (p *Plane) types() []string { return slices.Sorted(maps.Keys(p.Handler.Routes())) }
