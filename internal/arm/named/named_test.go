package named_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/arm/named"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/seal"
	"lazurite.dev/internal/store"
	"lazurite.dev/internal/store/sqlstore"
)

type (
	things struct {
		Colour string `json:"colour"`
	}
	hidden struct {
		One string `json:"one"`
		Two string `json:"two"`
	}
	records = named.Records[things, hidden]
)

var (
	errBusy  = errors.New("busy")
	errTaken = errors.New("taken")
)

const key = "things/names/thing"

// world is one type of resources, in a database of its own.
type world struct {
	*records
	t     *testing.T
	ring  *seal.Keyring
	onNew func() // called when secrets are made
}

func start(t *testing.T) *world {
	dir := t.TempDir()
	w := &world{t: t, onNew: func() {}}
	root, err := seal.OpenFileRoot(filepath.Join(dir, "root.key"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := sqlstore.OpenSQLite(t.Context(), filepath.Join(dir, "laz.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	w.ring = seal.NewKeyring(s, root)
	w.records = &records{
		Store: s, Sealer: w.ring, What: "thing", Space: "things", Kind: "thing.record",
		New: func() (*hidden, error) {
			w.onNew()
			return &hidden{"first", "second"}, nil
		},
		Busy: func(rid.ID) error { return errBusy }, Taken: func(string) error { return errTaken },
	}
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	w.want(err, nil)
}

func (w *world) want(err, want error) {
	w.t.Helper()
	if !errors.Is(err, want) {
		w.t.Fatalf("%v, want %v", err, want)
	}
}

// thing is a resource; it is there only after live.
func thing(group, name, uid string) *arm.Resource[things] {
	id := rid.MustParse("/subscriptions/22222222-2222-2222-2222-222222222222/resourceGroups/" + group + "/providers/Lazurite.Test/things/" + name)
	return &arm.Resource[things]{ID: id, Location: "eastus", Properties: things{"red"}, Private: map[string]string{named.UIDKey: uid}}
}

func (w *world) live(r *arm.Resource[things]) *arm.Resource[things] {
	w.t.Helper()
	w.must(arm.Resources{Store: w.Store}.Put(w.t.Context(), &arm.Envelope{ID: r.ID.String(), Name: r.ID.Name(), Type: r.ID.Type()}))
	return r
}

// The documents are those of installations that are there.
func TestClaim_Document(t *testing.T) {
	w := start(t)
	w.must(w.Claim(t.Context(), w.live(thing("g", "Thing", "u1")), "", ""))
	read := func() map[string]any {
		d, err := w.Store.Get(t.Context(), key)
		w.must(err)
		var m map[string]any
		w.must(json.Unmarshal(d.Value, &m))
		sealed, err := json.Marshal(m["secrets"])
		w.must(err)
		var b []byte
		w.must(json.Unmarshal(sealed, &b))
		plain, err := w.ring.Open(t.Context(), "things/u1", b, []byte("secrets"))
		if err != nil || string(plain) != `{"one":"first","two":"second"}` || bytes.Contains(d.Value, []byte("first")) || d.Kind != "thing.record" {
			t.Errorf("%s %v, of kind %s", plain, err, d.Kind)
		}
		delete(m, "secrets")
		return m
	}
	want := map[string]any{"id": thing("g", "Thing", "").ID.String(), "uid": "u1", "location": "eastus", "properties": map[string]any{"colour": "red"}}
	if diff := cmp.Diff(want, read()); diff != "" {
		t.Error(diff)
	}
	next := thing("g", "Thing", "u1")
	next.Location, next.Properties.Colour = "westus", "blue"
	w.must(w.Claim(t.Context(), next, "Small", "Round"))
	want["location"], want["properties"], want["sku"], want["kind"] = "westus", map[string]any{"colour": "blue"}, "Small", "Round"
	if diff := cmp.Diff(want, read()); diff != "" { // and the secrets stayed
		t.Error(diff)
	}
}

func TestClaim_TakenName(t *testing.T) {
	w, ctx := start(t), t.Context()
	one, two := w.live(thing("g", "thing", "u1")), w.live(thing("other", "THING", "u2"))
	used := func() bool {
		b, err := w.InUse(ctx, "Thing")
		w.must(err)
		return b
	}
	if w.must(w.Free(ctx, one.ID)); used() {
		t.Error("a name without a record is in use")
	}
	w.must(w.Claim(ctx, one, "", ""))
	if !used() {
		t.Error("a claimed name is not in use")
	}
	w.must(w.Free(ctx, one.ID))
	w.want(w.Free(ctx, two.ID), errTaken)
	w.want(w.Claim(ctx, two, "", ""), errTaken)
	if r, err := w.Of(ctx, two.ID); r != nil || err != nil {
		t.Errorf("the record of a resource without the name: %v %v", r, err)
	}
	_, _, err := w.Secrets(ctx, two.ID)
	w.want(err, errBusy)
	_, err = w.Change(ctx, two.ID, func(*hidden) { t.Error("changed") })
	w.want(err, errBusy)
	if uid, err := w.Remove(ctx, two.ID, func(string) error { return errors.New("marked") }); uid != "" || err != nil {
		t.Errorf("removed %q %v", uid, err)
	}
	if list, err := w.UIDs(ctx); err != nil || !slices.Equal(list, []string{"u1"}) {
		t.Errorf("%v %v", list, err)
	}
}

// A creation that died has left a record without its resource.
func TestClaim_AfterACreationThatDied(t *testing.T) {
	w, ctx := start(t), t.Context()
	w.must(w.Claim(ctx, thing("g", "thing", "dead"), "", ""))
	if used, err := w.InUse(ctx, "thing"); used || err != nil {
		t.Errorf("%v %v", used, err)
	}
	next := w.live(thing("other", "thing", "u2"))
	w.must(w.Free(ctx, next.ID))
	w.must(w.Claim(ctx, next, "", ""))
	r, s, err := w.Secrets(ctx, next.ID)
	if err != nil || r.UID != "u2" || s.One != "first" {
		t.Errorf("%v %v", r, err)
	}
	// Of one with its own id the name is its own, and secrets are made anew.
	again := thing("other", "thing", "u3")
	w.must(w.Claim(ctx, again, "", ""))
	if r, err := w.Of(ctx, again.ID); err != nil || r.UID != "u3" {
		t.Errorf("%v %v", r, err)
	}
}

// Two ask for a name at once: who writes later sees it taken.
func TestClaim_AtOnce(t *testing.T) {
	w, ctx := start(t), t.Context()
	one, two := w.live(thing("g", "thing", "u1")), w.live(thing("other", "thing", "u2"))
	w.onNew = func() {
		w.onNew = func() {}
		w.must(w.Claim(ctx, two, "", ""))
	}
	w.want(w.Claim(ctx, one, "", ""), errTaken)

	three := thing("g", "three", "u3")
	w.onNew = func() { w.write("things/names/three", thing("g", "three", "another").ID) }
	w.want(w.Claim(ctx, three, "", ""), errBusy)
}

// write puts a record that another has written, under another's uid.
func (w *world) write(at string, id rid.ID) {
	w.t.Helper()
	var rev int64
	if d, err := w.Store.Get(w.t.Context(), at); err == nil {
		rev = d.Rev
	}
	_, err := store.PutJSON(w.t.Context(), w.Store, at, w.Kind, rev, map[string]any{"id": id.String(), "uid": "another"})
	w.must(err)
}

func TestChange_AtOnce(t *testing.T) {
	w, ctx := start(t), t.Context()
	r := w.live(thing("g", "thing", "u1"))
	w.must(w.Claim(ctx, r, "", ""))
	calls := 0
	got, err := w.Change(ctx, r.ID, func(s *hidden) {
		if calls++; calls == 1 {
			_, err := w.Change(ctx, r.ID, func(s *hidden) { s.Two = "changed meanwhile" })
			w.must(err)
		}
		s.One = "changed"
	})
	w.must(err)
	want := hidden{"changed", "changed meanwhile"}
	if _, kept, err := w.Secrets(ctx, r.ID); err != nil || *kept != want || *got != want || calls != 2 {
		t.Errorf("%v %v %v after %d calls", got, kept, err, calls)
	}
	_, err = w.Change(ctx, r.ID, func(s *hidden) { w.must(w.Claim(ctx, r, "", "")) })
	w.want(err, errBusy)
}

func TestOpen_SharedAndDestroyed(t *testing.T) {
	w, ctx := start(t), t.Context()
	r := w.live(thing("g", "thing", "u1"))
	w.must(w.Claim(ctx, r, "", ""))
	rec, one, err := w.Secrets(ctx, r.ID)
	w.must(err)
	if two, err := w.Open(ctx, rec); err != nil || one != two {
		t.Errorf("opened twice: %v", err)
	}
	// What was sealed for another resource does not open.
	other := w.live(thing("g", "other", "u2"))
	w.must(w.Claim(ctx, other, "", ""))
	stolen, err := w.Of(ctx, other.ID)
	w.must(err)
	stolen.Secrets = rec.Secrets
	if _, err := w.Open(ctx, stolen); err == nil || !strings.Contains(err.Error(), "open the secrets of a thing") {
		t.Errorf("%v", err)
	}
	w.must(w.Destroy(ctx, "u1"))
	if _, _, err := w.Secrets(ctx, r.ID); err == nil {
		t.Error("secrets open after they were destroyed")
	}
}

func TestRemove(t *testing.T) {
	w, ctx := start(t), t.Context()
	r := w.live(thing("g", "thing", "u1"))
	w.must(w.Claim(ctx, r, "", ""))
	broken := errors.New("broken")
	_, err := w.Remove(ctx, r.ID, func(string) error { return broken })
	w.want(err, broken)
	if rec, err := w.Of(ctx, r.ID); rec == nil || err != nil {
		t.Fatalf("removed without the mark: %v", err)
	}
	for _, want := range []string{"u1", ""} {
		marked := ""
		uid, err := w.Remove(ctx, r.ID, func(uid string) error {
			marked = uid
			return nil
		})
		if err != nil || uid != want || marked != want {
			t.Errorf("removed %q, marked %q, %v, want %q", uid, marked, err, want)
		}
	}
	if rec, err := w.Get(ctx, "thing"); rec != nil || err != nil {
		t.Errorf("%v %v", rec, err)
	}
	w.must(w.Claim(ctx, w.live(thing("other", "thing", "u2")), "", ""))
}

func TestFollow(t *testing.T) {
	w, ctx := start(t), t.Context()
	r := w.live(thing("g", "thing", "u1"))
	w.must(w.Follow(ctx))
	w.must(w.Claim(ctx, r, "", ""))
	get := func() *named.Record[things, hidden] {
		rec, err := w.Get(ctx, "THING")
		w.must(err)
		return rec
	}
	if one := get(); one == nil || one != get() || !one.RID().Equal(r.ID) {
		t.Error("the record is not kept in memory")
	}
	r.Properties.Colour = "green"
	w.must(w.Claim(ctx, r, "", ""))
	if one := get(); one.Properties.Colour != "green" {
		t.Errorf("%v after a change", one.Properties)
	}
	// A mirror that has not everything is not asked: one bad record hides no other.
	_, err := w.Store.Put(ctx, store.Doc{Key: "things/names/bad", Kind: w.Kind, Value: []byte(`{"id":"nowhere"}`)})
	w.must(err)
	if one := get(); one == nil || one == get() {
		t.Error("a stale mirror was asked")
	}
	if _, err := w.Get(ctx, "bad"); err == nil || !strings.Contains(err.Error(), "decode thing") {
		t.Errorf("%v", err)
	}
	if _, err := w.UIDs(ctx); err == nil {
		t.Error("uids without the bad one")
	}
	w.must(w.Store.Delete(ctx, "things/names/bad", 0))
	w.Close()
	if one := get(); one == nil || one == get() {
		t.Error("a closed mirror was asked")
	}
	ended, stop := context.WithCancel(ctx)
	stop()
	if _, err := w.Get(ended, "thing"); err == nil || !strings.Contains(err.Error(), "read thing") {
		t.Errorf("%v", err)
	}
}
