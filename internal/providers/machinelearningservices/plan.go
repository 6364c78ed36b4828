package machinelearningservices

import (
	"net/netip"

	"lazurite.dev/internal/rid"
)

// The isolation modes of managed networks.
const (
	Disabled     = "Disabled"
	AllowAll     = "AllowInternetOutbound"
	AllowByRules = "AllowOnlyApprovedOutbound"
)

// The types of outbound rules.
const (
	RuleFQDN            = "FQDN"
	RuleServiceTag      = "ServiceTag"
	RulePrivateEndpoint = "PrivateEndpoint"
)

// The categories of outbound rules.
const (
	Required    = "Required"
	Recommended = "Recommended"
	UserDefined = "UserDefined"
	Dependency  = "Dependency"
)

// NetworkPlan is what the managed network of a workspace should be.
type NetworkPlan struct {
	UID       string // the workspace's GUID, in lower case
	Workspace rid.ID
	Mode      string // Disabled, AllowAll or AllowByRules
	Active    bool   // it was provisioned
	Rules     []PlannedRule
	Endpoints []PlannedEndpoint
}

// PlannedRule lets something out of a network.
type PlannedRule struct {
	Name        string
	Type        string // RuleFQDN, RuleServiceTag or RulePrivateEndpoint
	Category    string
	Destination string // of FQDN: a name, or "*.NAME" for all names below it; lower case
	Tag         string // of ServiceTag, as documented, with ".region" where the rule has one; "" where it has Prefixes
	Protocol    string // of ServiceTag: TCP, UDP, ICMP or *
	Ports       string // of ServiceTag: "443", "80,443", "1000-2000"; FQDN has 80 and 443
	Action      string // Allow
	Prefixes    []netip.Prefix
}

// PlannedEndpoint is an address in a network at which a managed private
// endpoint answers.
type PlannedEndpoint struct {
	Rule     string
	Address  netip.Addr // in 100.64.0.0/16; it stays the endpoint's
	ID       rid.ID     // of the private endpoint, as connections and arrivals name it
	Target   rid.ID
	Group    string // of the target: "vault"
	Approved bool   // by the target's owner; else nothing passes
}

// Surfaces are the owned surfaces (names of internal/server's) that a service
// tag stands for; false where this cloud has no such tag.
func Surfaces(tag string) ([]string, bool) {
	t, ok := tagOf(tag)
	return t.surfaces, ok
}
