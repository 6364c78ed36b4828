package main

import (
	"context"
	"fmt"
	"runtime"
	"strconv"
	"time"

	"lazurite.dev/internal/rbac"
)

// policy measures a decision among few, many and very many assignments: a
// secret five levels down, a caller with three groups.
func (s *suite) policy(context.Context) error {
	const (
		sub    = "/subscriptions/00000000-0000-0000-0000-000000000001"
		secret = sub + "/resourceGroups/group/providers/Microsoft.KeyVault/vaults/vault/secrets/name"
		role   = "4633458b-17de-408a-b874-0445c86b69e6" // Key Vault Secrets User
		action = "Microsoft.KeyVault/vaults/secrets/getSecret/action"
	)
	var few time.Duration
	limit := lookups(secret)
	for _, n := range []int{10, 10_000, 1_000_000} {
		e := rbac.New()
		for i := range n - 1 {
			a := rbac.Assignment{Principal: fmt.Sprintf("10000000-0000-0000-0000-%012d", i%(n/2)), Role: role, Scope: sub + "/resourceGroups/g" + strconv.Itoa(i)}
			if err := e.SetAssignment(strconv.Itoa(i), a); err != nil {
				return err
			}
		}
		caller := "20000000-0000-0000-0000-000000000000"
		if err := e.SetAssignment("the one", rbac.Assignment{Principal: caller, Role: role, Scope: sub + "/resourceGroups/group"}); err != nil {
			return err
		}
		q := rbac.Request{Principals: []string{caller, "30000000-0000-0000-0000-000000000001", "30000000-0000-0000-0000-000000000002"}, Action: action, Data: true, Scope: secret}
		if !e.Decide(q).Allowed {
			return fmt.Errorf("with %d assignments the caller is refused", n)
		}
		took := perCall(func() { e.Decide(q) })
		if few == 0 {
			few = took
		}
		s.add(figure{fmt.Sprintf("policy decision, %d assignments", n), fmt.Sprintf("%d ns", took),
			fmt.Sprintf("24 map lookups %d ns", limit), float64(took) / float64(limit), "as with 10, within 2x", took < 2*few})
	}
	return nil
}

// lookups is what finding three principals at eight scopes costs in Go's map.
func lookups(key string) time.Duration {
	m := map[string]int{}
	for i := range 1000 {
		m[key+strconv.Itoa(i)] = i
	}
	found := 0
	return perCall(func() {
		for range 24 {
			found += m[key]
		}
	})
}

// perCall is the CPU of one call, the least of several rounds: whatever else
// the machine does only adds to it.
func perCall(f func()) time.Duration {
	const calls = 100_000
	runtime.GC() // what was built before is not this one's to collect
	var least time.Duration
	for range 7 {
		before := ownCPU()
		for range calls {
			f()
		}
		if took := (ownCPU() - before) / calls; least == 0 || took < least {
			least = took
		}
	}
	return least
}
