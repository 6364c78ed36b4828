package keyvault

import (
	"context"
	"net/http"

	"lazurite.dev/internal/arm"
)

// managedHSMs answers what az asks of managed HSMs beside vaults: there are
// none, and none can be made. Without these answers az fails where it lists
// vaults and managed HSMs together.
func managedHSMs() []arm.Endpoint {
	const sub = "/subscriptions/{subscriptionId}"
	none := func(context.Context, *arm.Request) (*arm.Response, error) {
		return &arm.Response{Body: map[string]any{"value": []any{}}}, nil
	}
	list := func(path, action string) arm.Endpoint {
		return arm.Endpoint{Method: http.MethodGet, Path: path, Action: Namespace + action, APIVersions: apiVersions(), Handle: none}
	}
	return []arm.Endpoint{
		list(sub+"/providers/"+Namespace+"/managedHSMs", "/managedHSMs/read"),
		list(sub+"/resourceGroups/{resourceGroupName}/providers/"+Namespace+"/managedHSMs", "/managedHSMs/read"),
		list(sub+"/providers/"+Namespace+"/deletedManagedHSMs", "/deletedManagedHsms/read"),
		{
			Method: http.MethodPost, Path: sub + "/providers/" + Namespace + "/checkMhsmNameAvailability",
			Action: Namespace + "/checkMhsmNameAvailability/read", APIVersions: apiVersions(),
			Handle: func(context.Context, *arm.Request) (*arm.Response, error) {
				return &arm.Response{Body: map[string]any{
					"nameAvailable": false, "reason": "AccountNameInvalid", "message": "There are no managed HSMs in this cloud.",
				}}, nil
			},
		},
	}
}
