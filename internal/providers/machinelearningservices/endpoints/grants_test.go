package endpoints_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
)

// registry gives the workspace another one; "" is none.
func (w *world) registry(name string) {
	w.t.Helper()
	text := ""
	if name != "" {
		text = `"containerRegistry":"` + strings.NewReplacer("Storage/storageAccounts", "ContainerRegistry/registries", "mlstore", name).Replace(account) + `",`
	}
	w.Want(http.StatusOK, "PUT", w.ws+v, strings.Replace(workspaceBody, `"properties":{`, `"properties":{`+text, 1))
}

func (w *world) regrant() error { return w.svc.Regrant(w.t.Context(), rid.MustParse(w.ws)) }

func TestRegrant_FollowsTheRegistry(t *testing.T) {
	w := start(t)
	w.workspace()
	w.endpoint("end1", "")
	w.endpoint("end2", "")
	for _, tt := range [][2]string{{"reg1", "mlstore mlstore reg1 reg1"}, {"reg2", "mlstore mlstore reg2 reg2"}, {"", "mlstore mlstore"}} {
		w.registry(tt[0])
		if err := w.regrant(); err != nil || w.roles.at() != tt[1] {
			t.Errorf("%s: got %s, %v", tt[0], w.roles.at(), err)
		}
	}
	w.registry("reg1")
	w.Settle(w.Do("DELETE", w.ws+"/onlineEndpoints/end1"+v, ""))
	if err := w.regrant(); err != nil || w.roles.at() != "mlstore reg1" {
		t.Errorf("got %s, %v", w.roles.at(), err)
	}
	w.Settle(w.Do("DELETE", w.ws+"/onlineEndpoints/end2"+v, ""))
	left, err := w.Store.List(t.Context(), store.Query{Prefix: "machinelearning/grants/"})
	if err != nil || len(left) != 0 || w.roles.count() != 0 {
		t.Errorf("left: %v, %s, %v", left, w.roles.at(), err)
	}
}

// TestRegrant_OfWhatFailedInTheMiddle: what could not be taken away is not
// forgotten.
func TestRegrant_OfWhatFailedInTheMiddle(t *testing.T) {
	w := start(t)
	w.workspace()
	w.registry("reg1")
	w.endpoint("end1", "")
	w.registry("reg2")
	w.roles.fail = errors.New("not now")
	if err := w.regrant(); !errors.Is(err, w.roles.fail) || w.roles.at() != "mlstore reg1 reg2" {
		t.Errorf("got %s, %v", w.roles.at(), err)
	}
	w.roles.fail = nil
	if err := w.regrant(); err != nil || w.roles.at() != "mlstore reg2" {
		t.Errorf("got %s, %v", w.roles.at(), err)
	}
}

// TestRegrant_LeavesTakenAway: a role that an owner took away is not given back
// by who changes the workspace, or the endpoint.
func TestRegrant_LeavesTakenAway(t *testing.T) {
	w := start(t)
	w.workspace()
	w.registry("reg1")
	path := w.endpoint("end1", "")
	w.roles.takeAway("reg1")
	if err := w.regrant(); err != nil || w.roles.at() != "mlstore" {
		t.Errorf("after a change of the workspace: %s, %v", w.roles.at(), err)
	}
	w.Settle(w.Want(http.StatusOK, "PATCH", path+v, `{"tags":{"a":"b"}}`))
	if w.roles.at() != "mlstore" {
		t.Errorf("after one of the endpoint: %s", w.roles.at())
	}
	w.registry("reg2")
	if err := w.regrant(); err != nil || w.roles.at() != "mlstore reg2" {
		t.Errorf("at another registry: %s, %v", w.roles.at(), err)
	}
}

// TestRegrant_OfTheOthers: what fails of one endpoint is said, and keeps nothing
// from another.
func TestRegrant_OfTheOthers(t *testing.T) {
	w := start(t)
	w.workspace()
	w.endpoint("end1", "")
	w.endpoint("end2", "")
	w.registry("reg1")
	w.roles.failGrant = errors.New("not now")
	if err := w.regrant(); err == nil || w.roles.at() != "mlstore mlstore reg1" {
		t.Errorf("got %s, %v", w.roles.at(), err)
	}
	if err := w.regrant(); err != nil || w.roles.at() != "mlstore mlstore reg1 reg1" { // it was recorded, and never given
		t.Errorf("got %s, %v", w.roles.at(), err)
	}
}

// TestRegrant_WhereAnotherReplicaWrites: the workspace changes, and another
// replica gives the roles, while this one does.
func TestRegrant_WhereAnotherReplicaWrites(t *testing.T) {
	w := start(t)
	w.workspace()
	w.endpoint("end1", "")
	w.registry("reg1")
	w.roles.then = func() {
		w.registry("reg2")
		docs, err := w.Store.List(t.Context(), store.Query{Prefix: "machinelearning/grants/"})
		if err != nil || len(docs) != 1 {
			t.Fatalf("got %v, %v", docs, err)
		}
		d := docs[0]
		d.Value = []byte(strings.ReplaceAll(string(d.Value), "/reg1", "/reg2"))
		if _, err := w.Store.Put(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.regrant(); err != nil || w.roles.at() != "mlstore reg2" {
		t.Errorf("got %s, %v", w.roles.at(), err)
	}
}

// TestRegrant_WhereAnotherReplicaDeletes: the endpoint goes away at another
// replica while this one gives its identity a role.
func TestRegrant_WhereAnotherReplicaDeletes(t *testing.T) {
	w := start(t)
	w.workspace()
	w.endpoint("end1", "")
	w.registry("reg1")
	w.roles.then = func() {
		docs, err := w.Store.List(t.Context(), store.Query{Prefix: "machinelearning/grants/"})
		if err != nil || len(docs) != 1 {
			t.Fatalf("got %v, %v", docs, err)
		}
		for _, name := range []string{"mlstore", "reg1"} {
			w.roles.takeAway(name)
		}
		if err := w.Store.Delete(t.Context(), docs[0].Key, 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.regrant(); err != nil || w.roles.count() != 0 {
		t.Errorf("left: %s, %v", w.roles.at(), err)
	}
}

// TestRegrant_OfAnEndpointOfBefore: what was recorded in the resource counts.
func TestRegrant_OfAnEndpointOfBefore(t *testing.T) {
	w := start(t)
	w.workspace()
	path := w.endpoint("end1", "")
	docs, err := w.Store.List(t.Context(), store.Query{Prefix: "machinelearning/grants/"})
	if err != nil || len(docs) != 1 {
		t.Fatalf("got %v, %v", docs, err)
	}
	if err := w.Store.Delete(t.Context(), docs[0].Key, 0); err != nil {
		t.Fatal(err)
	}
	res := arm.Resources{Store: w.Store}
	e, err := res.Get(t.Context(), rid.MustParse(path))
	if err != nil {
		t.Fatal(err)
	}
	id, err := arm.IdentityOf(e.Extra)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.regrant(); err != nil || w.roles.at() != "mlstore" { // nothing is known of it
		t.Errorf("got %s, %v", w.roles.at(), err)
	}
	old := strings.NewReplacer("Storage/storageAccounts", "ContainerRegistry/registries", "mlstore", "reg0").Replace(account)
	e.Private["grants"], e.Private["grants.scopes"] = id.PrincipalID, `{"`+account+`":"2a2b9908-6ea1-4ae2-8e65-a410df84e7d1","`+old+`":"7f951dda-4ed3-4680-a7ca-43fe172d538d"}`
	if err := res.Put(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	if err := w.roles.Grant(t.Context(), rid.MustParse(old), "7f951dda-4ed3-4680-a7ca-43fe172d538d", id.PrincipalID); err != nil {
		t.Fatal(err)
	}
	w.registry("reg1")
	if err := w.regrant(); err != nil || w.roles.at() != "mlstore reg1" {
		t.Errorf("got %s, %v", w.roles.at(), err)
	}
}
