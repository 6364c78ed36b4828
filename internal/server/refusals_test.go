package server_test

import (
	"fmt"
	"strings"
	"testing"
)

func TestSecurity_WhoeverWasRefusedLearnsOfItsOwnRefusalsOnly(t *testing.T) {
	c := newTarget(t)
	other := strings.ReplaceAll(secGroup, "/sec", "/other")
	for _, g := range []string{secGroup, other} {
		c.must("PUT", g+groupVersion, `{"location":"eastus"}`)
	}
	p, q := c.person("stranger"), c.person("somebody")
	c.assign(other, roleReader, p.oid)
	mine, theirs := c.token(p, armURL), c.token(q, armURL)
	const refusals, version = "/subscriptions/{sub}/providers/Lazurite.Explain/refusals", "?api-version=2026-01-01"
	c.as(mine, "GET", secGroup+groupVersion, "")
	c.as(theirs, "DELETE", secGroup+groupVersion, "")
	all, _ := c.must("GET", refusals+version, "")["value"].([]any)
	if len(all) != 2 {
		t.Fatalf("the owner sees %v", all)
	}
	for tok, oid := range map[string]string{mine: p.oid, theirs: q.oid} {
		status, m := c.as(tok, "GET", refusals+version, "")
		list, _ := m["value"].([]any)
		if status != 200 || len(list) != 1 || list[0].(map[string]any)["principal"] != oid {
			t.Errorf("list: %d %v", status, m)
		}
		if status, m := c.as(tok, "GET", refusals+"/last"+version, ""); status != 200 || m["principal"] != oid {
			t.Errorf("last: %d %v", status, m)
		}
		for _, r := range all {
			r := r.(map[string]any)
			want := 404
			if r["principal"] == oid {
				want = 200
			}
			if status, m := c.as(tok, "GET", fmt.Sprintf("%s/%s%s", refusals, r["id"], version), ""); status != want {
				t.Errorf("%s reads %s of %s: %d %v", oid, r["id"], r["principal"], status, m)
			}
		}
	}
	if status, _ := c.as("", "GET", refusals+version, ""); status != 401 {
		t.Errorf("without a token: %d", status)
	}
}
