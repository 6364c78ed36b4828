package directory

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"

	"lazurite.dev/internal/store"
)

// object is what is stored: each kind has a key of its own.
type object interface {
	place() (kind, oid string)
	setRev(rev int64)
}

func decode(doc store.Doc) (object, error) {
	var o object
	switch doc.Kind {
	case "user":
		o = &storedUser{}
	case "group":
		o = &Group{}
	case "app":
		o = &storedApp{}
	case "sp":
		o = &ServicePrincipal{}
	case "role":
		o = &RoleAssignment{}
	case "fic":
		o = &credentials{}
	case "tenant":
		o = &Tenant{}
	case "unique":
		o = &claim{}
	default:
		return nil, fmt.Errorf("unknown kind %q", doc.Kind)
	}
	if err := json.Unmarshal(doc.Value, o); err != nil {
		return nil, err
	}
	o.setRev(doc.Rev)
	return o, nil
}

// index is the directory in memory, by everything that it is asked for. All
// keys are in lower case. What it points to is never changed, only replaced.
type index struct {
	mu       sync.RWMutex // guards everything below
	byKey    map[string]object
	users    map[string]*storedUser
	upns     map[string]string // to the object id, as the next three
	appIDs   map[string]string
	spAppIDs map[string]string
	spNames  map[string]string
	mis      map[string]string // ARM id of a managed identity
	groups   map[string]*Group
	memberOf map[string]map[string]struct{} // object id to groups
	apps     map[string]*storedApp
	sps      map[string]*ServicePrincipal
	roles    map[string]*RoleAssignment
	fics     map[string]*credentials // by appId
}

func newIndex() *index {
	return &index{
		byKey: map[string]object{}, users: map[string]*storedUser{}, upns: map[string]string{},
		appIDs: map[string]string{}, spAppIDs: map[string]string{}, spNames: map[string]string{}, mis: map[string]string{},
		groups: map[string]*Group{}, memberOf: map[string]map[string]struct{}{}, apps: map[string]*storedApp{},
		sps: map[string]*ServicePrincipal{}, roles: map[string]*RoleAssignment{}, fics: map[string]*credentials{},
	}
}

// set makes the object at key be o, or be gone.
func (ix *index) set(key string, o object, exists bool) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	if old := ix.byKey[key]; old != nil {
		ix.unlink(old)
		delete(ix.byKey, key)
	}
	if exists {
		ix.byKey[key] = o
		ix.link(o)
	}
}

func (ix *index) link(o object) {
	_, oid := o.place()
	oid = strings.ToLower(oid)
	switch o := o.(type) {
	case *storedUser:
		ix.users[oid] = o
		ix.upns[strings.ToLower(o.UPN)] = oid
	case *storedApp:
		ix.apps[oid] = o
		ix.appIDs[strings.ToLower(o.AppID)] = oid
	case *ServicePrincipal:
		ix.sps[oid] = o
		ix.spAppIDs[strings.ToLower(o.AppID)] = oid
		for _, n := range o.Names {
			ix.spNames[strings.ToLower(n)] = oid
		}
		if o.ResourceID != "" {
			ix.mis[strings.ToLower(o.ResourceID)] = oid
		}
	case *Group:
		ix.groups[oid] = o
		for _, m := range o.Members {
			if ix.memberOf[m] == nil {
				ix.memberOf[m] = map[string]struct{}{}
			}
			ix.memberOf[m][oid] = struct{}{}
		}
	case *RoleAssignment:
		ix.roles[oid] = o
	case *credentials:
		ix.fics[oid] = o
	}
}

// unlink undoes link, but for names that another object holds by now.
func (ix *index) unlink(o object) {
	_, oid := o.place()
	oid = strings.ToLower(oid)
	switch o := o.(type) {
	case *storedUser:
		delete(ix.users, oid)
		drop(ix.upns, o.UPN, oid)
	case *storedApp:
		delete(ix.apps, oid)
		drop(ix.appIDs, o.AppID, oid)
	case *ServicePrincipal:
		delete(ix.sps, oid)
		drop(ix.spAppIDs, o.AppID, oid)
		drop(ix.mis, o.ResourceID, oid)
		for _, n := range o.Names {
			drop(ix.spNames, n, oid)
		}
	case *Group:
		delete(ix.groups, oid)
		for _, m := range o.Members {
			if delete(ix.memberOf[m], oid); len(ix.memberOf[m]) == 0 {
				delete(ix.memberOf, m)
			}
		}
	case *RoleAssignment:
		delete(ix.roles, oid)
	case *credentials:
		delete(ix.fics, oid)
	}
}

func drop(m map[string]string, name, oid string) {
	if name = strings.ToLower(name); m[name] == oid {
		delete(m, name)
	}
}

// transitive is oid and every group above it. A circle of groups is fine.
func (ix *index) transitive(oid string) []string {
	out := []string{oid}
	if len(ix.memberOf[oid]) == 0 {
		return out
	}
	seen := map[string]bool{oid: true}
	for i := 0; i < len(out); i++ {
		for g := range ix.memberOf[out[i]] {
			if !seen[g] {
				seen[g] = true
				out = append(out, g)
			}
		}
	}
	return out
}

func sorted[T any, K cmp.Ordered](list []T, key func(T) K) []T {
	slices.SortFunc(list, func(a, b T) int { return cmp.Compare(key(a), key(b)) })
	return list
}
