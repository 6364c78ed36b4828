package privatelink

import (
	"context"
	"slices"
	"strings"

	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/rid"
)

// resource is what is listed under privateLinkResources.
type resource struct {
	GroupID  string   `json:"groupId"`
	Members  []string `json:"requiredMembers"`
	Zones    []string `json:"requiredZoneNames"`
	Friendly string   `json:"displayName,omitempty"`
}

// Routes are the types under the resources of a service: its connections and
// its groups. They belong into the provider's table.
func (s Service) Routes() []arm.Route {
	ns, typ, _ := strings.Cut(s.Type, "/")
	return []arm.Route{
		arm.Serve(ns, arm.Kind[Properties]{
			Type: typ + "/" + connections, APIVersions: s.APIVersions, NoCreate: true, NoPatch: true,
			ReadOnly: []string{"privateEndpoint", "groupIds"},
			Validate: decide,
		}),
		arm.Serve(ns, arm.Kind[resource]{
			Type: typ + "/privateLinkResources", APIVersions: s.APIVersions, NoPut: true, NoState: true,
			Get: func(_ context.Context, id rid.ID) (*arm.Resource[resource], error) {
				for _, r := range s.resources(id.Parent()) {
					if strings.EqualFold(r.ID.Name(), id.Name()) {
						return r, nil
					}
				}
				return nil, nil
			},
			ListAt: func(_ context.Context, scope rid.ID, _ string) ([]*arm.Resource[resource], error) {
				return s.resources(scope), nil
			},
		}),
	}
}

func (s Service) resources(parent rid.ID) []*arm.Resource[resource] {
	var out []*arm.Resource[resource]
	for _, g := range s.Groups {
		out = append(out, &arm.Resource[resource]{
			ID:         parent.Child("privateLinkResources", g.ID),
			Properties: resource{GroupID: g.ID, Members: g.Members, Zones: append([]string{g.Zone}, g.MoreZones...), Friendly: g.ID},
		})
	}
	return out
}

// decide checks what somebody decides about a connection.
func decide(_ context.Context, old, next *arm.Resource[Properties]) error {
	st := &next.Properties.State
	i := slices.IndexFunc([]string{Approved, Rejected, Pending}, func(w string) bool { return strings.EqualFold(w, st.Status) })
	if i < 0 {
		return bad("properties.privateLinkServiceConnectionState.status", "The status '%s' of the connection is neither 'Approved' nor 'Rejected'.", st.Status)
	}
	st.Status = []string{Approved, Rejected, Pending}[i]
	if st.Status == Pending && old.Properties.State.Status != Pending {
		return bad("properties.privateLinkServiceConnectionState.status", "The connection is %s: it cannot be made Pending again. Approve it, reject it, or remove it.", old.Properties.State.Status)
	}
	if len(st.Description) > 1024 {
		return bad("properties.privateLinkServiceConnectionState.description", "The description has %d characters; at most 1024 are allowed.", len(st.Description))
	}
	if st.ActionsRequired == "" {
		st.ActionsRequired = "None"
	}
	return nil
}
