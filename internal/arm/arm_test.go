package arm_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/arm/armtest"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
)

type thing struct {
	Size     int    `json:"size,omitempty"`
	Computed string `json:"computed,omitempty"`
	Secret   string `json:"secret,omitempty"`
	Nested   struct {
		Flag bool `json:"flag,omitempty"`
	} `json:"nested"`
}

// shop is a provider with one type of every sort.
type shop struct {
	mu      sync.Mutex // guards what follows
	deleted []string
	secrets []string
	hold    chan struct{} // long operations wait for it; nil: they don't
	started int
}

const ns = "Contoso.Shop"

func (s *shop) provider(store.Store) []arm.Provider {
	versions := []string{"2024-01-01", "2023-01-01-preview"}
	put := func(ctx context.Context, _, next *arm.Resource[thing]) error {
		s.mu.Lock()
		s.started++
		hold := s.hold
		s.secrets = append(s.secrets, next.Properties.Secret)
		s.mu.Unlock()
		if hold != nil {
			select {
			case <-hold:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if next.Properties.Size == 13 {
			return apierr.New(apierr.BadRequest, "Unlucky", "13 cannot be made.")
		}
		next.Properties.Computed = "made " + next.ID.Name()
		return nil
	}
	del := func(_ context.Context, old *arm.Resource[thing]) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.deleted = append(s.deleted, old.ID.Name())
		return nil
	}
	ro, wo := []string{"computed", "status.phase"}, []string{"secret"}
	return []arm.Provider{{Namespace: ns, Routes: []arm.Route{
		arm.Serve(ns, arm.Kind[thing]{Type: "quick", APIVersions: versions, Tracked: true, ReadOnly: ro, WriteOnly: wo, Put: put, Delete: del}),
		arm.Serve(ns, arm.Kind[thing]{Type: "slow", APIVersions: versions, Tracked: true, ReadOnly: ro, WriteOnly: wo, Put: put, Delete: del, Async: true}),
		arm.Serve(ns, arm.Kind[thing]{Type: "quick/parts", APIVersions: versions, NoState: true, Exclusive: true, Delete: del}),
		arm.Serve(ns, arm.Kind[thing]{Type: "notes", APIVersions: versions, Scopes: arm.Extension, NoPatch: true}),
	}}}
}

func start(t *testing.T, s *shop) *armtest.Plane { return armtest.New(t, s.provider, nil) }

func TestContract(t *testing.T) {
	const body = `{"location":"westus2","properties":{"size":3,"secret":"s3cret"}}`
	armtest.Run(t, func(t *testing.T) *armtest.Plane { return start(t, &shop{}) },
		armtest.Case{Type: ns + "/quick", Path: "{group}/providers/Contoso.Shop/quick/q{n}", Body: body},
		armtest.Case{Type: ns + "/slow", Path: "{group}/providers/Contoso.Shop/slow/s{n}", Body: body},
		armtest.Case{
			Type: ns + "/quick/parts", Path: "{group}/providers/Contoso.Shop/quick/q/parts/p{n}", Body: `{"properties":{"size":1}}`,
			Before: []armtest.Step{{Path: "{group}/providers/Contoso.Shop/quick/q", Body: body}},
		},
		armtest.Case{
			Type: ns + "/notes", Path: "{group}/providers/Contoso.Shop/quick/q/providers/Contoso.Shop/notes/n{n}", Body: `{"properties":{"size":1}}`,
			Before: []armtest.Step{{Path: "{group}/providers/Contoso.Shop/quick/q", Body: body}},
		},
	)
}

const version = "?api-version=2024-01-01"

func TestPut_WriteOnlyPropertiesReachTheHookAndNothingElse(t *testing.T) {
	for _, typ := range []string{"quick", "slow"} {
		s := &shop{}
		p := start(t, s)
		path := p.Group("g") + "/providers/Contoso.Shop/" + typ + "/x" + version
		a := p.Want(http.StatusCreated, "PUT", path, `{"location":"westus2","properties":{"secret":"s3cret"}}`)
		p.Settle(a)
		if strings.Contains(string(a.Raw)+string(p.Do("GET", path, "").Raw), "s3cret") {
			t.Errorf("%s: the secret is shown", typ)
		}
		for _, odd := range []string{"SECRET", "\u017fecret"} { // json takes ſ for s
			a = p.Want(http.StatusOK, "PATCH", path, `{"properties":{"`+odd+`":"s3cret"}}`)
			p.Settle(a)
			if got := p.Do("GET", path, ""); strings.Contains(string(got.Raw), "s3cret") {
				t.Errorf("%s: written as %s the secret is shown: %s", typ, odd, got.Raw)
			}
		}
		s.mu.Lock()
		if len(s.secrets) != 3 || s.secrets[0] != "s3cret" {
			t.Errorf("%s: the hook saw %q", typ, s.secrets)
		}
		s.mu.Unlock()
		docs, err := p.Store.List(t.Context(), store.Query{})
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range docs {
			if strings.Contains(string(d.Value), "s3cret") {
				t.Errorf("%s: the secret is stored in %s", typ, d.Key)
			}
		}
	}
}

func TestPut_FailureOfTheHook(t *testing.T) {
	p := start(t, &shop{})
	g := p.Group("g")
	quick := g + "/providers/Contoso.Shop/quick/x" + version
	p.WantError(http.StatusBadRequest, "Unlucky", "PUT", quick, `{"location":"westus2","properties":{"size":13}}`)
	p.Want(http.StatusNotFound, "GET", quick, "")
	p.Want(http.StatusCreated, "PUT", quick, `{"location":"westus2","properties":{"size":1}}`)
	p.WantError(http.StatusBadRequest, "Unlucky", "PATCH", quick, `{"properties":{"size":13}}`)
	if got := p.Want(http.StatusOK, "GET", quick, ""); got.At("properties", "size") != 1.0 || got.Text("properties", "provisioningState") != "Succeeded" {
		t.Errorf("got %s", got.Raw)
	}
	slow := g + "/providers/Contoso.Shop/slow/x" + version
	if a := p.Do("PUT", slow, `{"location":"westus2","properties":{"size":13}}`); a.Code() != "Unlucky" {
		t.Errorf("got %d %s", a.Status, a.Raw)
	}
	if got := p.Want(http.StatusOK, "GET", slow, "").Text("properties", "provisioningState"); got != "Failed" {
		t.Errorf("got the state %q", got)
	}
	p.Settle(p.Want(http.StatusNoContent, "DELETE", slow, ""))
	p.Want(http.StatusNotFound, "GET", slow, "")
}

func TestLongOperation(t *testing.T) {
	s := &shop{hold: make(chan struct{})}
	p := start(t, s)
	path := p.Group("g") + "/providers/Contoso.Shop/slow/x" + version
	const body = `{"location":"westus2","properties":{"size":1}}`
	a := p.Want(http.StatusCreated, "PUT", path, body)
	for _, h := range []string{"Azure-AsyncOperation", "Retry-After"} {
		if a.Header.Get(h) == "" {
			t.Errorf("no %s in %v", h, a.Header)
		}
	}
	if got := a.Text("properties", "provisioningState"); got != "Creating" {
		t.Errorf("got the state %q", got)
	}
	op := strings.TrimPrefix(a.Header.Get("Azure-AsyncOperation"), "https://management.azure.com")
	if got := p.Want(http.StatusOK, "GET", op, ""); got.Text("status") != "InProgress" || got.Header.Get("Retry-After") == "" {
		t.Errorf("got %s", got.Raw)
	}
	p.WantError(http.StatusNotFound, "OperationNotFound", "GET", op, "", "Authorization", "Bearer "+armtest.Nobody)
	p.WantError(http.StatusConflict, "AnotherOperationInProgress", "PUT", path, body)
	p.WantError(http.StatusConflict, "AnotherOperationInProgress", "PATCH", path, `{"tags":{}}`)
	p.WantError(http.StatusConflict, "AnotherOperationInProgress", "DELETE", path, "")

	p.Restart() // in the middle: taken over and run again
	p.WantError(http.StatusConflict, "AnotherOperationInProgress", "PUT", path, body)
	close(s.hold)
	if got := p.Settle(a); got != "Succeeded" {
		t.Errorf("ended as %s", got)
	}
	got := p.Want(http.StatusOK, "GET", path, "")
	if got.Text("properties", "computed") != "made x" || got.Text("properties", "provisioningState") != "Succeeded" {
		t.Errorf("got %s", got.Raw)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.started != 2 {
		t.Errorf("the hook was started %d times, want twice", s.started)
	}
}

func TestGroupDelete_IsALongOperationThatRunsHooks(t *testing.T) {
	s := &shop{}
	p := start(t, s)
	g := p.Group("g")
	for _, n := range []string{"a", "b"} {
		q := g + "/providers/Contoso.Shop/quick/" + n
		p.Want(http.StatusCreated, "PUT", q+version, `{"location":"westus2"}`)
		p.Want(http.StatusCreated, "PUT", q+"/parts/"+n+"1"+version, `{}`)
	}
	p.Settle(p.Do("DELETE", g+"?api-version="+armtest.Version, ""))
	s.mu.Lock()
	got := strings.Join(s.deleted, " ")
	s.mu.Unlock()
	for _, pair := range [][2]string{{"a1", "a "}, {"b1", "b"}} {
		if i, j := strings.Index(got, pair[0]), strings.LastIndex(got+" ", pair[1]); i < 0 || j < i {
			t.Errorf("hooks ran for %q: children first", got)
		}
	}
	p.WantError(http.StatusNotFound, "ResourceGroupNotFound", "DELETE", g+"?api-version="+armtest.Version, "")
	docs, err := p.Store.List(t.Context(), store.Query{Prefix: arm.KeyPrefix + strings.ToLower(g) + "/"})
	if err != nil || len(docs) != 0 {
		t.Errorf("left behind: %v %v", docs, err)
	}
}

func TestDelete_NothingStaysBehindForWhoeverMakesItAgain(t *testing.T) {
	p := start(t, &shop{})
	quick := p.Group("g") + "/providers/Contoso.Shop/quick/x"
	note := quick + "/providers/Contoso.Shop/notes/n"
	const body = `{"location":"westus2"}`
	p.Want(http.StatusCreated, "PUT", quick+version, body)
	p.Want(http.StatusCreated, "PUT", note+version, `{}`)
	doc, err := p.Store.Get(t.Context(), arm.ResourceKey(rid.MustParse(note)))
	if err != nil {
		t.Fatal(err)
	}
	p.Want(http.StatusOK, "DELETE", quick+version, "")
	doc.Rev = 0
	if _, err := p.Store.Put(t.Context(), doc); err != nil { // as a program that died would leave it
		t.Fatal(err)
	}
	p.Want(http.StatusCreated, "PUT", quick+version, body)
	p.Want(http.StatusNotFound, "GET", note+version, "")
}

func TestPut_RacesWithTheDeletionOfItsParent(t *testing.T) {
	p := start(t, &shop{})
	quick := p.Group("g") + "/providers/Contoso.Shop/quick/x"
	for range 20 {
		p.Want(http.StatusCreated, "PUT", quick+version, `{"location":"westus2"}`)
		var wg sync.WaitGroup
		for i := range 4 {
			scope := quick
			if i%2 == 1 {
				scope += "/items/s" // a part of its data, which is not stored
			}
			wg.Go(func() { p.Do("PUT", fmt.Sprintf("%s/providers/Contoso.Shop/notes/n%d%s", scope, i, version), `{}`) })
		}
		p.Want(http.StatusOK, "DELETE", quick+version, "")
		wg.Wait()
		docs, err := p.Store.List(t.Context(), store.Query{Prefix: arm.ResourceKey(rid.MustParse(quick))})
		if err != nil {
			t.Fatal(err)
		}
		if len(docs) > 0 {
			t.Fatalf("%s stayed behind", docs[0].Key)
		}
	}
}

func TestActivity_WritesAndRefusalsAreReported(t *testing.T) {
	var mu sync.Mutex
	var got []arm.Event
	p := armtest.New(t, (&shop{}).provider, func(c *arm.Config) {
		c.Activity = func(_ context.Context, e arm.Event) {
			mu.Lock()
			defer mu.Unlock()
			got = append(got, e)
		}
	})
	path := p.Group("g") + "/providers/Contoso.Shop/quick/x" + version
	p.Want(http.StatusCreated, "PUT", path, `{"location":"westus2"}`)
	p.Want(http.StatusOK, "GET", path, "")
	p.Want(http.StatusForbidden, "DELETE", path, "", "Authorization", "Bearer "+armtest.Nobody)
	mu.Lock()
	defer mu.Unlock()
	if len(got) != 3 || got[1].Action != ns+"/quick/write" || got[2].Code != "AuthorizationFailed" || got[2].Status != http.StatusForbidden {
		t.Errorf("got %+v", got)
	}
}

func TestRegistered_RefusesWritesOnly(t *testing.T) {
	p := armtest.New(t, (&shop{}).provider, func(c *arm.Config) {
		c.Registered = func(_ context.Context, sub, n string) (bool, error) {
			if sub != armtest.Subscription {
				return false, errors.New("another subscription")
			}
			return n != ns, nil
		}
	})
	path := p.Group("g") + "/providers/Contoso.Shop/quick/x" + version
	p.WantError(http.StatusConflict, "MissingSubscriptionRegistration", "PUT", path, `{"location":"westus2"}`)
	p.Want(http.StatusNotFound, "GET", path, "")
}

func TestUnknownTypesAndPaths(t *testing.T) {
	p := start(t, &shop{})
	g := p.Group("g")
	p.WantError(http.StatusNotFound, "InvalidResourceType", "GET", g+"/providers/Contoso.Shop/absent/x"+version, "")
	p.WantError(http.StatusNotFound, "InvalidResourceNamespace", "GET", g+"/providers/Contoso.Absent/x/y"+version, "")
	p.WantError(http.StatusBadRequest, "InvalidResourceId", "GET", "/nothing/here"+version, "")
	p.WantError(http.StatusBadRequest, "InvalidResourceType", "PUT", armtest.Base+"/providers/Contoso.Shop/quick/x"+version, `{}`)
}

func TestAzureLike_LimitsOfRequests(t *testing.T) {
	p := armtest.New(t, (&shop{}).provider, func(c *arm.Config) { c.AzureLike = true })
	path := p.Group("g") + version
	var slow *armtest.Answer
	for range 300 {
		a := p.Do("GET", path, "")
		if a.Status == http.StatusTooManyRequests {
			slow = a
			break
		}
		if a.Header.Get("x-ms-ratelimit-remaining-subscription-reads") == "" {
			t.Fatalf("no count: %v", a.Header)
		}
	}
	if slow == nil || slow.Code() != "SubscriptionRequestsThrottled" || slow.Header.Get("Retry-After") == "" {
		t.Fatalf("got %+v", slow)
	}
	if a := p.Do("GET", path, "", "Authorization", "Bearer "+armtest.Nobody); a.Status == http.StatusTooManyRequests {
		t.Error("another caller is throttled too")
	}
}
