// Package rid reads Azure resource ids: parse, compare without case, climb to
// the parent.
//
// An id is a path such as
//
//	/subscriptions/S/resourceGroups/G/providers/NS/type/name/subtype/subname
//
// or, for an extension resource, any scope followed by a further
// "/providers/NS/type/name". Letter case is kept as written and ignored in
// comparisons. Source: Azure Resource Manager, "Resource ID".
package rid

import (
	"errors"
	"fmt"
	"strings"
)

// ErrInvalid is wrapped by every error of [Parse].
var ErrInvalid = errors.New("invalid resource id")

// Limits of what Parse takes; longer input is refused.
const (
	MaxLength  = 2048
	maxSegment = 260
)

// Types of the two ids that no provider names.
const (
	TypeSubscription  = "Microsoft.Resources/subscriptions"
	TypeResourceGroup = "Microsoft.Resources/resourceGroups"
	TypeTenant        = "Microsoft.Resources/tenants"
)

// ID is a parsed resource id, or a collection's when Collection is true.
// The zero ID is the tenant root, "/".
type ID struct {
	path string // as written, no trailing slash; "" for the root

	sub, group string // as written; of the whole scope chain's head
	ns         string // namespace of the last providers part, "" when there is none
	types      []string
	names      []string
	scopeLen   int // bytes of path before the last "/providers/"

	Collection bool // ends in a type without a name: the collection, not a resource
}

// Parse reads s. It accepts any letter case of the fixed words, and one
// trailing slash. The root is "/" or "".
func Parse(s string) (ID, error) {
	if len(s) > MaxLength {
		return ID{}, fmt.Errorf("%w: longer than %d bytes", ErrInvalid, MaxLength)
	}
	s = strings.TrimSuffix(s, "/")
	if s == "" {
		return ID{}, nil
	}
	if s[0] != '/' {
		return ID{}, fmt.Errorf("%w: %q does not begin with a slash", ErrInvalid, s)
	}
	segs := strings.Split(s[1:], "/")
	for _, g := range segs {
		if err := checkSegment(g); err != nil {
			return ID{}, err
		}
	}
	id := ID{path: s}
	rest, err := id.head(segs)
	if err != nil {
		return ID{}, err
	}
	return id, id.providers(segs, rest)
}

func checkSegment(g string) error {
	if g == "" {
		return fmt.Errorf("%w: an empty segment", ErrInvalid)
	}
	if g == "." || g == ".." {
		return fmt.Errorf("%w: segment %q", ErrInvalid, g)
	}
	if len(g) > maxSegment {
		return fmt.Errorf("%w: a segment is longer than %d bytes", ErrInvalid, maxSegment)
	}
	for i := range len(g) {
		if c := g[i]; c < 0x20 || c == 0x7f || strings.IndexByte(`<>%&\?#`, c) >= 0 {
			return fmt.Errorf("%w: character %q", ErrInvalid, c)
		}
	}
	return nil
}

// isWord reports whether s is a fixed word in any letter case. EqualFold alone
// would take letters from outside ASCII too, such as ſ for s, which Key keeps.
func isWord(s, word string) bool { return len(s) == len(word) && strings.EqualFold(s, word) }

// head reads subscription and group and returns how many segments they took.
func (id *ID) head(segs []string) (int, error) {
	if !isWord(segs[0], "subscriptions") {
		return 0, nil
	}
	if len(segs) == 1 {
		id.Collection = true
		return 1, nil
	}
	id.sub = segs[1]
	if len(segs) == 2 || !isWord(segs[2], "resourceGroups") {
		return 2, nil
	}
	if len(segs) == 3 {
		id.Collection = true
		return 3, nil
	}
	id.group = segs[3]
	return 4, nil
}

// providers reads the "/providers/NS/type/name…" parts; the last one wins.
func (id *ID) providers(segs []string, i int) error {
	for i < len(segs) {
		if !isWord(segs[i], "providers") {
			return fmt.Errorf("%w: %q where \"providers\" is expected", ErrInvalid, segs[i])
		}
		if id.Collection {
			return fmt.Errorf("%w: a name is missing before \"providers\"", ErrInvalid)
		}
		if i+1 == len(segs) {
			return fmt.Errorf("%w: ends in \"providers\"", ErrInvalid)
		}
		id.scopeLen = 0
		for _, g := range segs[:i] {
			id.scopeLen += len(g) + 1
		}
		id.ns, id.types, id.names = segs[i+1], nil, nil
		for i += 2; i < len(segs) && !isWord(segs[i], "providers"); i++ {
			if id.Collection = !id.Collection; id.Collection {
				id.types = append(id.types, segs[i])
			} else {
				id.names = append(id.names, segs[i])
			}
		}
	}
	return nil
}

// MustParse is Parse for ids that the program itself wrote; it panics on a bad one.
func MustParse(s string) ID {
	id, err := Parse(s)
	if err != nil {
		panic(err)
	}
	return id
}

// String is the id as it was written, "/" for the root.
func (id ID) String() string {
	if id.path == "" {
		return "/"
	}
	return id.path
}

// Key is the id in lower case: equal ids have equal keys.
func (id ID) Key() string { return strings.ToLower(id.String()) }

// Equal compares without case.
func (id ID) Equal(o ID) bool { return id.Key() == o.Key() }

// IsRoot reports whether id is the tenant root.
func (id ID) IsRoot() bool { return id.path == "" }

// Subscription is the subscription's id (a GUID), "" when there is none.
func (id ID) Subscription() string { return id.sub }

// ResourceGroup is the group's name, "" when there is none.
func (id ID) ResourceGroup() string { return id.group }

// Namespace is the provider's, as written: "Microsoft.KeyVault"; "" for a
// subscription or a group.
func (id ID) Namespace() string { return id.ns }

// Type is namespace and types: "Microsoft.KeyVault/vaults". Subscriptions,
// groups and the root have the types that Azure gives them.
func (id ID) Type() string {
	switch {
	case id.ns != "":
		return strings.Join(append([]string{id.ns}, id.types...), "/")
	case id.group != "" || id.Collection && id.sub != "":
		return TypeResourceGroup
	case id.sub != "" || id.Collection:
		return TypeSubscription
	default:
		return TypeTenant
	}
}

// Types are the type segments after the namespace.
func (id ID) Types() []string { return id.types }

// Names are the name segments; one fewer than Types for a collection.
func (id ID) Names() []string { return id.names }

// Name is the last name: the resource's own.
func (id ID) Name() string {
	switch {
	case id.ns != "":
		if len(id.names) == 0 {
			return ""
		}
		return id.names[len(id.names)-1]
	case id.group != "":
		return id.group
	default:
		return id.sub
	}
}

// Parent is the enclosing resource: a child's resource, a resource's scope,
// a group's subscription, a subscription's root. The root is its own parent.
// For a collection it is the resource that holds it.
func (id ID) Parent() ID {
	if id.path == "" || id.ns == "" && id.group == "" && !(id.sub != "" && id.Collection) {
		return ID{}
	}
	cut := 2
	if id.Collection {
		cut = 1
	}
	if id.ns != "" && len(id.types) <= 1 {
		return MustParse(id.path[:id.scopeLen])
	}
	p := id.path
	for range cut {
		p = p[:strings.LastIndexByte(p, '/')]
	}
	return MustParse(p)
}

// Scope is what an extension resource is attached to, and a plain resource's
// group, subscription or root: the part before the last "/providers/".
func (id ID) Scope() ID {
	if id.ns == "" {
		return id.Parent()
	}
	return MustParse(id.path[:id.scopeLen])
}

// Contains reports whether o is id or lies under it.
func (id ID) Contains(o ID) bool {
	a, b := strings.ToLower(id.path), strings.ToLower(o.path)
	return strings.HasPrefix(b, a) && (len(a) == len(b) || b[len(a)] == '/')
}

// Child is id extended by a type and a name.
func (id ID) Child(typ, name string) ID {
	return MustParse(id.path + "/" + typ + "/" + name)
}

// Group is the id of the enclosing resource group and whether there is one.
func (id ID) Group() (ID, bool) {
	if id.group == "" {
		return ID{}, false
	}
	parts := strings.SplitN(id.path, "/", 6)
	return MustParse(strings.Join(parts[:5], "/")), true
}

// SubscriptionID is the id of the enclosing subscription and whether there is one.
func (id ID) SubscriptionID() (ID, bool) {
	if id.sub == "" {
		return ID{}, false
	}
	parts := strings.SplitN(id.path, "/", 4)
	return MustParse(strings.Join(parts[:3], "/")), true
}
