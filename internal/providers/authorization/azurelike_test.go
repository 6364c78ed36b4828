package authorization_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"lazurite.dev/internal/providers/authorization"
	"lazurite.dev/internal/rbac"
	"lazurite.dev/internal/rid"
)

// ahead is a clock that a test moves.
type ahead struct{ by atomic.Int64 }

func (a *ahead) now() time.Time       { return time.Now().Add(time.Duration(a.by.Load())) }
func (a *ahead) move(d time.Duration) { a.by.Add(int64(d)) }

func TestLimits_AssignmentsPropagateLate(t *testing.T) {
	var clock ahead
	w := startLimited(t, authorization.Limits{Propagation: time.Hour}, clock.now)
	if !w.may(w.owner, writeGroup, false, rg) {
		t.Fatal("the first owner has to wait")
	}
	path := vault + auth + "/roleAssignments/" + name(1)
	if status, body := w.do(w.owner, "PUT", path, assignment(secretsUser, w.mi)); status != 201 {
		t.Fatalf("created: %d %v", status, body)
	}
	if w.may(w.mi, getSecret, true, vault) {
		t.Error("an assignment is followed at once")
	}
	status, body := w.do(w.owner, "POST", vault+auth+"/checkAccess", map[string]any{
		"Subject": map[string]any{"Attributes": map[string]any{"ObjectId": w.mi}}, "Actions": []any{map[string]any{"Id": getSecret, "IsDataAction": true}},
	})
	if list := values(body); status != 200 || len(list) != 1 || !strings.Contains(fmt.Sprint(list[0]["reason"]), "not propagated yet") || list[0]["fix"] != nil {
		t.Errorf("checkAccess: %d %v", status, body)
	}
	status, body = w.do(w.owner, "PUT", vault+auth+"/roleAssignments/"+name(2), assignment(secretsUser, w.mi))
	w.refused("the same again, which is not followed yet", status, body, 409, "RoleAssignmentExists")
	clock.move(time.Hour + time.Second)
	if !w.may(w.mi, getSecret, true, vault) {
		t.Error("an assignment is not followed when its time has come")
	}
	if status, body = w.do(w.owner, "DELETE", path, nil); status != 200 {
		t.Fatalf("deleted: %d %v", status, body)
	}
	if !w.may(w.mi, getSecret, true, vault) {
		t.Error("a deletion is followed at once")
	}
	clock.move(time.Hour + time.Second)
	if w.may(w.mi, getSecret, true, vault) {
		t.Error("a deletion is not followed when its time has come")
	}
}

func TestLimits_PropagationGoesOnAfterARestart(t *testing.T) {
	var clock ahead
	w := startLimited(t, authorization.Limits{Propagation: time.Hour}, clock.now)
	for i, scope := range []string{vault, rg} {
		if status, body := w.do(w.owner, "PUT", scope+auth+"/roleAssignments/"+name(i), assignment(secretsUser, w.mi)); status != 201 {
			t.Fatalf("created: %d %v", status, body)
		}
	}
	for _, c := range []struct {
		after time.Duration
		want  bool
	}{{0, false}, {2 * time.Hour, true}} {
		clock.move(c.after)
		again, err := authorization.OpenLimited(t.Context(), w.st, w.dir, authorization.Limits{Propagation: time.Hour}, clock.now)
		check(t, err)
		d, err := again.Check(t.Context(), w.mi, getSecret, true, rid.MustParse(vault))
		check(t, err)
		again.Close()
		if d.Allowed != c.want {
			t.Errorf("restarted after %s: allowed = %v, want %v", c.after, d.Allowed, c.want)
		}
	}
}

func TestLimits_Numbers(t *testing.T) {
	w := startLimited(t, authorization.Limits{Assignments: 3, CustomRoles: 1}, time.Now)
	for i := range 2 { // one is the owner's
		check(t, w.a.Assign(t.Context(), rid.MustParse(fmt.Sprintf("%s/resourceGroups/g%d", sub, i)), rbac.Reader, w.ada))
	}
	path := rg + auth + "/roleAssignments/" + name(1)
	status, body := w.do(w.owner, "PUT", path, assignment(secretsUser, w.mi))
	w.refused("one assignment too many", status, body, 409, "RoleAssignmentLimitExceeded")
	role := func(n int) string { return sub + auth + "/roleDefinitions/" + name(n) }
	if status, body = w.do(w.owner, "PUT", role(1), definition("one", []string{sub}, "Microsoft.KeyVault/vaults/read")); status != 201 {
		t.Fatalf("the first role: %d %v", status, body)
	}
	if status, body = w.do(w.owner, "PUT", role(1), definition("one, changed", []string{sub}, "Microsoft.KeyVault/vaults/read")); status != 200 {
		t.Errorf("the first role, changed: %d %v", status, body)
	}
	status, body = w.do(w.owner, "PUT", role(2), definition("two", []string{sub}, "Microsoft.KeyVault/vaults/read"))
	w.refused("one role too many", status, body, 409, "RoleDefinitionLimitExceeded")
}
