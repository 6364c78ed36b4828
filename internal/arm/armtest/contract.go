package armtest

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lazurite.dev/internal/arm"
)

// Step is a resource that a case needs first.
type Step struct{ Path, Body string }

// Case says how to make a resource of a type. In paths {group} stands for the
// resource group, {rg} for its name, {n} for a number that is another for every
// resource and {guid} for a GUID with it.
type Case struct {
	Type     string // "Microsoft.ManagedIdentity/userAssignedIdentities"
	Path     string // "{group}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/id{n}"
	Body     string // of a PUT; {n} is replaced too
	Before   []Step // parents; the api-version is the type's own where the path has none
	Each     []Step // what every resource needs for itself, with {n}
	BadNames []string
	Volatile []string // properties that every write changes
	Strict   bool     // the type refuses properties that it does not know
	Kept     bool     // a parent that was deleted keeps its name for a time
	Implied  bool     // a PUT makes the parent
}

// Run holds every registered type of a plane against the contract. A type
// that can be created needs a case; Microsoft.Resources is left out unless it
// has one.
func Run(t *testing.T, start func(*testing.T) *Plane, cases ...Case) {
	t.Helper()
	byType := map[string]Case{}
	for _, c := range cases {
		byType[strings.ToLower(c.Type)] = c
	}
	p := start(t)
	for _, typ := range p.types() {
		rt := p.Handler.Routes()[typ]
		c, ok := byType[typ]
		if !ok {
			if rt.CanPut() && !strings.HasPrefix(typ, "microsoft.resources/") {
				t.Errorf("no case for %s", rt.Type)
			}
			continue
		}
		delete(byType, typ)
		t.Run(rt.Type, func(t *testing.T) {
			k := &contract{Plane: p, Case: c, rt: rt}
			for _, check := range checks() {
				t.Run(check.name, func(t *testing.T) {
					k.t, p.t = t, t
					k.fresh(check.name)
					check.run(k)
				})
			}
			p.t = t
		})
	}
	for typ := range byType {
		t.Errorf("the case for %s is of no registered type", typ)
	}
}

type contract struct {
	*Plane
	Case
	rt    *arm.Route
	t     *testing.T
	group string
	n     int
}

type check struct {
	name string
	run  func(*contract)
}

func checks() []check {
	return []check{
		{"Create", (*contract).create}, {"Replay", (*contract).replay}, {"LetterCase", (*contract).letterCase},
		{"PropertyCase", (*contract).propertyCase}, {"Missing", (*contract).missing}, {"APIVersion", (*contract).apiVersion},
		{"Preconditions", (*contract).preconditions}, {"Paging", (*contract).paging}, {"Head", (*contract).head},
		{"DeleteTwice", (*contract).deleteTwice}, {"Unauthenticated", (*contract).unauthenticated},
		{"Unauthorised", (*contract).unauthorised}, {"UnknownProperties", (*contract).unknownProperties},
		{"ReadOnlyProperties", (*contract).readOnly}, {"Tags", (*contract).tags}, {"Patch", (*contract).patch},
		{"PatchOfMissing", (*contract).patchMissing}, {"TooLarge", (*contract).tooLarge}, {"ContentType", (*contract).contentType},
		{"Malformed", (*contract).malformed}, {"ListFilter", (*contract).listFilter}, {"ParentMissing", (*contract).parentMissing},
		{"Location", (*contract).location}, {"BadNames", (*contract).badNames}, {"BadPaths", (*contract).badPaths},
		{"Methods", (*contract).methods}, {"GroupDelete", (*contract).groupDelete}, {"Concurrent", (*contract).concurrent},
		{"Restart", (*contract).restart},
	}
}

// fresh makes a group and the parents for one check.
func (k *contract) fresh(name string) {
	k.t.Helper()
	k.group = k.Group("rg-" + strings.ToLower(name) + fmt.Sprint(k.n))
	k.parents()
}

func (k *contract) parents() {
	k.t.Helper()
	k.steps(k.Before, 0)
}

func (k *contract) steps(list []Step, n int) {
	k.t.Helper()
	for _, s := range list {
		path := k.fill(s.Path, n)
		if !strings.Contains(path, "?") {
			path += k.q()
		}
		a := k.Do("PUT", path, k.fill(s.Body, n))
		if a.Status/100 != 2 || k.Settle(a) != "Succeeded" {
			k.t.Fatalf("make %s: %d %s", s.Path, a.Status, a.Raw)
		}
	}
}

// GUID is what {guid} stands for in the paths and bodies of the n-th resource.
func GUID(n int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", n) }

func (k *contract) q() string { return "?api-version=" + k.rt.APIVersions[0] }

func (k *contract) fill(s string, n int) string {
	plain := strings.ReplaceAll(k.group[strings.LastIndexByte(k.group, '/')+1:], "-", "") // for parents whose names are the only ones in the world
	return strings.NewReplacer("{group}", k.group, "{rg}", k.group[strings.LastIndexByte(k.group, '/')+1:], "{plain}", plain, "{n}", fmt.Sprint(n), "{guid}", GUID(n), "{sub}", Base).Replace(s)
}

// next is the path and the body of a resource that is not there yet.
func (k *contract) next() (path, body string) {
	k.n++
	k.steps(k.Each, k.n)
	return k.fill(k.Path, k.n), k.fill(k.Body, k.n)
}

// made makes one and gives its path, body and the answer to a GET.
func (k *contract) made() (path, body string, got *Answer) {
	k.t.Helper()
	path, body = k.next()
	k.put(k.rt.Created(), path, body)
	return path, body, k.Want(http.StatusOK, "GET", path+k.q(), "")
}

func (k *contract) put(status int, path, body string, headers ...string) *Answer {
	k.t.Helper()
	a := k.Want(status, "PUT", path+k.q(), body, headers...)
	if s := k.Settle(a); s != "Succeeded" {
		k.t.Fatalf("PUT %s ended as %s", path, s)
	}
	return a
}

// with adds members to the body's properties.
func (k *contract) with(body string, change func(top, properties map[string]any)) string {
	k.t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(body), &m); err != nil {
		k.t.Fatal(err)
	}
	p, _ := m["properties"].(map[string]any)
	if p == nil {
		p = map[string]any{}
		m["properties"] = p
	}
	change(m, p)
	b, err := json.Marshal(m)
	if err != nil {
		k.t.Fatal(err)
	}
	return string(b)
}

func (k *contract) create() {
	path, body := k.next()
	put := k.put(k.rt.Created(), path, body)
	got := k.Want(http.StatusOK, "GET", path+k.q(), "")
	for member, want := range map[string]string{"id": path, "name": path[strings.LastIndexByte(path, '/')+1:], "type": k.rt.Type} {
		if member == "id" && k.rt.HasHome() {
			continue
		}
		if s := put.Text(member); s != want {
			k.t.Errorf("PUT answers the %s %q, want %q", member, s, want)
		}
		if s := got.Text(member); s != want {
			k.t.Errorf("GET answers the %s %q, want %q", member, s, want)
		}
	}
	if s := got.Text("properties", "provisioningState"); s != "" && s != "Succeeded" {
		k.t.Errorf("got provisioningState %q", s)
	}
	if got.Header.Get("ETag") == "" || !strings.HasPrefix(got.Header.Get("Content-Type"), "application/json") {
		k.t.Errorf("ETag or Content-Type is missing: %v", got.Header)
	}
}

func (k *contract) replay() {
	path, body, first := k.made()
	if a := k.Do("PUT", path+k.q(), body); a.Status != http.StatusOK && a.Status != http.StatusCreated || k.Settle(a) != "Succeeded" {
		k.t.Fatalf("the same PUT again: %d %s", a.Status, a.Raw)
	}
	again := k.Want(http.StatusOK, "GET", path+k.q(), "")
	for _, a := range []*Answer{first, again} {
		if m, ok := a.JSON["properties"].(map[string]any); ok {
			maps.DeleteFunc(m, func(name string, _ any) bool { return slices.Contains(k.Volatile, name) })
		}
	}
	if diff := cmp.Diff(first.JSON["properties"], again.JSON["properties"]); diff != "" {
		k.t.Errorf("the same PUT again changed properties:\n%s", diff)
	}
}

func (k *contract) letterCase() {
	path, body, first := k.made()
	up := strings.ToUpper(path)
	got := k.Want(http.StatusOK, "GET", up+k.q(), "")
	if got.Text("id") != first.Text("id") {
		k.t.Errorf("got the id %q, want %q", got.Text("id"), first.Text("id"))
	}
	if a := k.Do("PUT", up+k.q(), body); a.Status != http.StatusOK || a.Text("id") != first.Text("id") {
		k.t.Errorf("PUT in capitals: %d %s, want 200 with the id as it was", a.Status, a.Raw)
	} else {
		k.Settle(a)
	}
}

func (k *contract) propertyCase() {
	path, body := k.next()
	known := k.with(body, func(_, p map[string]any) {
		for _, r := range k.rt.ReadOnlyPaths() {
			if !strings.Contains(r, ".") {
				p[strings.ToLower(r)], p[strings.ToUpper(r)] = "forged", "forged"
			}
		}
	})
	a := k.Do("PUT", path+k.q(), known)
	if a.Status/100 == 2 {
		k.Settle(a)
	} else if a.Status != http.StatusBadRequest {
		k.t.Fatalf("got %d %s", a.Status, a.Raw)
	}
	if s := string(k.Do("GET", path+k.q(), "").Raw); strings.Contains(s, "forged") {
		k.t.Errorf("a read-only property in another letter case was taken: %s", s)
	}
}

func (k *contract) missing() {
	path, _ := k.next()
	if a := k.Do("GET", path+k.q(), ""); a.Status != http.StatusNotFound || a.Code() == "" {
		k.t.Errorf("GET of a missing one: %d %s", a.Status, a.Raw)
	}
	if strings.HasPrefix(k.Path, "{group}/") {
		k.WantError(http.StatusNotFound, "ResourceGroupNotFound", "GET", strings.Replace(path, k.group, Base+"/resourceGroups/absent", 1)+k.q(), "")
		k.WantError(http.StatusNotFound, "SubscriptionNotFound", "GET", strings.Replace(path, Base, "/subscriptions/absent", 1)+k.q(), "")
	}
}

func (k *contract) apiVersion() {
	path, body, _ := k.made()
	k.WantError(http.StatusBadRequest, "MissingApiVersionParameter", "GET", path, "")
	k.WantError(http.StatusBadRequest, "MissingApiVersionParameter", "PUT", path, body)
	for _, v := range []string{"latest", "2024-13-45", "2024-1-1", "'2024-01-01'"} {
		k.WantError(http.StatusBadRequest, "InvalidApiVersionParameter", "GET", path+"?api-version="+v, "")
	}
	a := k.WantError(http.StatusBadRequest, "NoRegisteredProviderFound", "GET", path+"?api-version=2001-01-01", "")
	if !strings.Contains(a.Text("error", "message"), k.rt.APIVersions[0]) {
		k.t.Errorf("the refusal does not list the versions: %s", a.Raw)
	}
	newer := k.Want(http.StatusOK, "GET", path+"?api-version=2199-01-01", "")
	if got := newer.Header.Get(arm.NewerVersionHeader); got != k.rt.APIVersions[0] {
		k.t.Errorf("a newer version is served as %q, want %q", got, k.rt.APIVersions[0])
	}
	for _, v := range k.rt.APIVersions {
		k.Want(http.StatusOK, "GET", path+"?API-VERSION="+strings.ToUpper(v), "")
	}
}

func (k *contract) preconditions() {
	path, body := k.next()
	k.WantError(http.StatusPreconditionFailed, "PreconditionFailed", "PUT", path+k.q(), body, "If-Match", "*")
	k.put(k.rt.Created(), path, body, "If-None-Match", "*")
	k.WantError(http.StatusPreconditionFailed, "PreconditionFailed", "PUT", path+k.q(), body, "If-None-Match", "*")
	k.WantError(http.StatusPreconditionFailed, "PreconditionFailed", "PUT", path+k.q(), body, "If-Match", `"other"`)
	k.WantError(http.StatusPreconditionFailed, "PreconditionFailed", "DELETE", path+k.q(), "", "If-Match", `"other"`)
	tag := k.Want(http.StatusOK, "GET", path+k.q(), "").Header.Get("ETag")
	if a := k.Do("GET", path+k.q(), "", "If-None-Match", tag); a.Status != http.StatusNotModified || len(a.Raw) != 0 {
		k.t.Errorf("GET with the current etag: %d %s, want 304", a.Status, a.Raw)
	}
	if a := k.Do("DELETE", path+k.q(), "", "If-Match", tag); a.Status/100 != 2 {
		k.t.Errorf("DELETE with the current etag: %d %s", a.Status, a.Raw)
	}
}

// list is the path of the collection.
func (k *contract) list(path string) string { return path[:strings.LastIndexByte(path, '/')] }

func (k *contract) paging() {
	want := map[string]bool{}
	var path string
	for range 3 {
		p, _, got := k.made()
		path = p
		want[strings.ToLower(got.Text("name"))] = true
	}
	url := k.list(path) + k.q() + "&$top=2"
	for pages := 0; url != ""; pages++ {
		if pages > 100 {
			k.t.Fatal("the list does not end")
		}
		a := k.Want(http.StatusOK, "GET", url, "")
		items, _ := a.JSON["value"].([]any)
		if len(items) > 2 {
			k.t.Errorf("$top=2 gave %d", len(items))
		}
		for _, it := range items {
			m, _ := it.(map[string]any)
			name, _ := m["name"].(string)
			delete(want, strings.ToLower(name))
		}
		next := a.Text("nextLink")
		var ok bool
		if url, ok = strings.CutPrefix(next, "https://management.azure.com"); next != "" && !ok {
			k.t.Fatalf("nextLink %q is not absolute", next)
		}
	}
	if len(want) != 0 {
		k.t.Errorf("the pages leave out %v", want)
	}
	k.Want(http.StatusBadRequest, "GET", k.list(path)+k.q()+"&$top=x", "")
	k.WantError(http.StatusBadRequest, "InvalidSkipToken", "GET", k.list(path)+k.q()+"&$skiptoken=%25%25", "")
}

func (k *contract) head() {
	path, body := k.next()
	if a := k.Do("HEAD", path+k.q(), ""); a.Status != http.StatusNotFound || len(a.Raw) != 0 {
		k.t.Errorf("HEAD of a missing one: %d %q", a.Status, a.Raw)
	}
	k.put(k.rt.Created(), path, body)
	if a := k.Do("HEAD", path+k.q(), ""); a.Status != http.StatusNoContent || len(a.Raw) != 0 {
		k.t.Errorf("HEAD: %d %q, want 204", a.Status, a.Raw)
	}
}

func (k *contract) deleteTwice() {
	path, _, _ := k.made()
	a := k.Do("DELETE", path+k.q(), "")
	if a.Status != http.StatusOK && a.Status != http.StatusAccepted && a.Status != http.StatusNoContent || k.Settle(a) != "Succeeded" {
		k.t.Fatalf("DELETE: %d %s", a.Status, a.Raw)
	}
	k.Want(http.StatusNotFound, "GET", path+k.q(), "")
	again := k.Do("DELETE", path+k.q(), "")
	if want := http.StatusNoContent; again.Status != want && k.rt.Type != "Microsoft.Resources/resourceGroups" {
		k.t.Errorf("DELETE again: %d %s, want %d", again.Status, again.Raw, want)
	}
}

func (k *contract) unauthenticated() {
	path, body, _ := k.made()
	for _, m := range []string{"GET", "PUT", "PATCH", "DELETE", "HEAD"} {
		a := k.Want(http.StatusUnauthorized, m, path+k.q(), body, "Authorization", "")
		if !strings.Contains(a.Header.Get("WWW-Authenticate"), "authorization_uri=") {
			k.t.Errorf("%s: no challenge: %v", m, a.Header)
		}
	}
	k.WantError(http.StatusUnauthorized, "ExpiredAuthenticationToken", "GET", path+k.q(), "", "Authorization", "Bearer "+Expired)
	k.WantError(http.StatusUnauthorized, "InvalidAuthenticationToken", "GET", path+k.q(), "", "Authorization", "Bearer bad")
	k.Want(http.StatusUnauthorized, "GET", path+k.q(), "", "Authorization", "Basic b3duZXI6")
}

func (k *contract) unauthorised() {
	path, body, _ := k.made()
	for m, verb := range map[string]string{"GET": "read", "PUT": "write", "DELETE": "delete", "PATCH": "write"} {
		a := k.WantError(http.StatusForbidden, "AuthorizationFailed", m, path+k.q(), body, "Authorization", "Bearer "+Nobody)
		want := fmt.Sprintf("The client 'nobody@example.com' with object id '%s' does not have authorization to perform action '%s/%s' over scope '%s'", Nobody, k.rt.ActionType(), verb, path)
		if !strings.HasPrefix(a.Text("error", "message"), want) {
			k.t.Errorf("got %q, want %q", a.Text("error", "message"), want)
		}
	}
	if a := k.Do("GET", k.list(path)+k.q(), "", "Authorization", "Bearer "+Nobody); strings.Contains(strings.ToLower(string(a.Raw)), strings.ToLower(`"id":"`+path)) {
		k.t.Errorf("the list shows what the caller may not read: %s", a.Raw)
	}
	k.Want(http.StatusOK, "GET", path+k.q(), "")
}

func (k *contract) groupDelete() {
	path, _, _ := k.made()
	if !strings.HasPrefix(k.Path, "{group}/") {
		return
	}
	a := k.Do("DELETE", k.group+"?api-version="+Version, "")
	if a.Status != http.StatusOK && a.Status != http.StatusAccepted && a.Status != http.StatusNoContent || k.Settle(a) != "Succeeded" {
		k.t.Fatalf("DELETE of the group: %d %s", a.Status, a.Raw)
	}
	k.WantError(http.StatusNotFound, "ResourceGroupNotFound", "GET", path+k.q(), "")
	k.Group(k.group[strings.LastIndexByte(k.group, '/')+1:])
	if !k.Kept {
		k.parents()
	}
	if !k.rt.HasHome() {
		k.Want(http.StatusNotFound, "GET", path+k.q(), "")
	}
}

func (k *contract) concurrent() {
	path, body := k.next()
	var wg sync.WaitGroup
	got := make([]*Answer, 4)
	for i := range got {
		wg.Go(func() { got[i] = k.Do("PUT", path+k.q(), body) })
	}
	wg.Wait()
	won := 0
	for _, a := range got {
		switch {
		case a.Status/100 == 2:
			won++
		case a.Status != http.StatusConflict:
			k.t.Errorf("a concurrent PUT: %d %s", a.Status, a.Raw)
		}
	}
	if won == 0 {
		k.t.Error("no concurrent PUT won")
	}
	k.Eventually(func() error {
		if s := k.Want(http.StatusOK, "GET", path+k.q(), "").Text("properties", "provisioningState"); s != "" && s != "Succeeded" {
			return fmt.Errorf("still %s", s)
		}
		return nil
	})
}

func (k *contract) restart() {
	path, _, before := k.made()
	k.Restart()
	after := k.Want(http.StatusOK, "GET", path+k.q(), "")
	if diff := cmp.Diff(before.JSON, after.JSON); diff != "" {
		k.t.Errorf("changed by a restart:\n%s", diff)
	}
}
