package server_test

import (
	"strings"
	"testing"
)

func TestSecurity_TheLastOwnersAccountStays(t *testing.T) {
	c := newTarget(t)
	owner := c.OwnerID(t)
	p := c.person("successor")
	graph := c.OwnerToken(t, graphURL)
	if status, m := c.Send(t, graph, "POST", graphURL+"/v1.0/roleManagement/directory/roleAssignments",
		`{"principalId":"`+p.oid+`","roleDefinitionId":"62e90394-69f5-4237-9190-012177145e10","directoryScopeId":"/"}`); status != 201 {
		t.Fatalf("the other administrator: %d %v", status, m)
	}
	successor := c.token(p, graphURL)
	try := func(method, body string) (int, string) {
		t.Helper()
		status, m := c.Send(t, successor, method, graphURL+"/v1.0/users/"+owner, body)
		e, _ := m["error"].(map[string]any)
		text, _ := e["message"].(string)
		return status, text
	}
	for method, body := range map[string]string{"DELETE": "", "PATCH": `{"accountEnabled":false}`} {
		if status, text := try(method, body); status != 400 || !strings.Contains(text, "Nobody else owns the subscription '"+c.Subscription+"'") {
			t.Errorf("%s of the last owner: %d %s", method, status, text)
		}
	}
	if status, text := try("PATCH", `{"jobTitle":"Owner"}`); status != 204 {
		t.Errorf("another change of the last owner: %d %s", status, text)
	}
	c.assign("/subscriptions/{sub}", roleOwner, p.oid)
	if status, text := try("PATCH", `{"accountEnabled":false}`); status != 204 {
		t.Errorf("disabling one of two owners: %d %s", status, text)
	}
	if status, text := try("DELETE", ""); status != 204 {
		t.Errorf("deleting one of two owners: %d %s", status, text)
	}
	if status, m := c.Send(t, successor, "DELETE", graphURL+"/v1.0/users/"+p.oid, ""); status != 400 {
		t.Errorf("and then the other: %d %v", status, m)
	}
}
