package authorization_test

import (
	"context"
	"errors"
	"testing"

	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/arm/armtest"
	"lazurite.dev/internal/directory"
	"lazurite.dev/internal/providers/authorization"
	"lazurite.dev/internal/rbac"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
)

// TestContract holds roles and assignments against what every type of resource
// must do.
func TestContract(t *testing.T) {
	armtest.Run(t, func(t *testing.T) *armtest.Plane {
		return armtest.New(t, func(st store.Store) []arm.Provider {
			ctx := context.Background()
			dir, err := directory.Open(ctx, st, armtest.Tenant)
			check(t, err)
			t.Cleanup(dir.Close)
			people := map[string]string{armtest.Owner: "owner@contoso.example"}
			for n := range 150 {
				people[armtest.GUID(n)] = "u" + armtest.GUID(n) + "@contoso.example"
			}
			for oid, upn := range people {
				if _, err := dir.CreateUser(ctx, directory.User{ObjectID: oid, UPN: upn}, ""); !errors.Is(err, store.ErrConflict) {
					check(t, err) // a restart finds them there
				}
			}
			a, err := authorization.Open(ctx, st, dir)
			check(t, err)
			t.Cleanup(a.Close)
			check(t, a.Assign(ctx, rid.MustParse(armtest.Base), rbac.Owner, armtest.Owner))
			return []arm.Provider{a.Provider()}
		}, nil)
	},
		armtest.Case{
			Type: "Microsoft.Authorization/roleAssignments", Path: "{group}/providers/Microsoft.Authorization/roleAssignments/{guid}",
			Body:     `{"properties":{"roleDefinitionId":"{sub}/providers/Microsoft.Authorization/roleDefinitions/` + rbac.Reader + `","principalId":"{guid}"}}`,
			BadNames: []string{"a", "00000000-0000-0000-0000-00000000000g"}, Volatile: []string{"updatedOn"},
		},
		armtest.Case{
			Type: "Microsoft.Authorization/roleDefinitions", Path: "{group}/providers/Microsoft.Authorization/roleDefinitions/{guid}",
			Body:     `{"properties":{"roleName":"role {n}","permissions":[{"actions":["*/read"]}],"assignableScopes":["{group}"]}}`,
			BadNames: []string{"a"}, Volatile: []string{"updatedOn"},
		},
	)
}
