package gate

import (
	"fmt"
	"net/netip"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/rid"
)

// ACLs are the firewall of a resource, as its networkAcls property says it.
// Source: Microsoft.KeyVault 2024-11-01 NetworkRuleSet and
// Microsoft.CognitiveServices 2025-06-01 NetworkRuleSet, which have one shape.
type ACLs struct {
	Bypass        string    `json:"bypass,omitempty"`
	DefaultAction string    `json:"defaultAction,omitempty"`
	IPRules       []IPRule  `json:"ipRules"`
	VNetRules     []VNetACL `json:"virtualNetworkRules"`
}

// IPRule lets an address or a range in.
type IPRule struct {
	Value string `json:"value"`
}

// VNetACL lets a subnet in.
type VNetACL struct {
	ID            string `json:"id"`
	State         string `json:"state,omitempty"`
	IgnoreMissing bool   `json:"ignoreMissingVnetServiceEndpoint,omitempty"`
}

const (
	maxIPRules   = 1000
	maxVNetRules = 200
)

// Subnets are the ids of the virtual network rules that ask for the service
// endpoint, which whoever stores them makes sure of.
func (a *ACLs) Subnets() []string {
	var out []string
	if a != nil {
		for _, r := range a.VNetRules {
			if !r.IgnoreMissing {
				out = append(out, r.ID)
			}
		}
	}
	return out
}

// Complete gives a its defaults, bypass among them, and writes its rules as
// ranges. A nil a is left alone.
func (a *ACLs) Complete(bypass string) {
	if a == nil {
		return
	}
	if a.Bypass == "" {
		a.Bypass = bypass
	}
	if a.DefaultAction == "" {
		a.DefaultAction = "Allow"
	}
	if a.IPRules == nil {
		a.IPRules = []IPRule{}
	}
	if a.VNetRules == nil {
		a.VNetRules = []VNetACL{}
	}
	for i, r := range a.IPRules {
		if pre, err := ParseRange(r.Value); err == nil {
			a.IPRules[i].Value = pre.String()
		}
	}
}

// ParseRange reads an address or a CIDR range.
func ParseRange(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	pre, err := netip.ParsePrefix(s)
	if err != nil {
		return pre, fmt.Errorf("%q is neither an address nor a range", s)
	}
	return pre.Masked(), nil
}

// Check refuses what is no firewall, or would promise one that is not there;
// noun is what the resource is called: "vault". The refusal is a BadRequest.
func (a *ACLs) Check(noun string) error {
	if a == nil {
		return nil
	}
	bad := func(property, format string, args ...any) error {
		return apierr.New(apierr.BadRequest, "BadRequest", format, args...).WithTarget("properties.networkAcls" + property)
	}
	if !strings.EqualFold(a.Bypass, "AzureServices") && !strings.EqualFold(a.Bypass, "None") {
		return bad(".bypass", "The value '%s' of bypass is neither 'AzureServices' nor 'None'.", a.Bypass)
	}
	if !strings.EqualFold(a.DefaultAction, "Allow") && !strings.EqualFold(a.DefaultAction, "Deny") {
		return bad(".defaultAction", "The value '%s' of defaultAction is neither 'Allow' nor 'Deny'.", a.DefaultAction)
	}
	if len(a.VNetRules) > maxVNetRules {
		return bad(".virtualNetworkRules", "There are %d virtual network rules; at most %d are allowed for a %s.", len(a.VNetRules), maxVNetRules, noun)
	}
	for _, r := range a.VNetRules {
		if id, err := rid.Parse(r.ID); err != nil || !strings.EqualFold(id.Type(), "Microsoft.Network/virtualNetworks/subnets") {
			return bad(".virtualNetworkRules", "The id '%s' of a virtual network rule is not that of a subnet.", r.ID)
		}
	}
	if len(a.IPRules) > maxIPRules {
		return bad(".ipRules", "There are %d IP rules; at most %d are allowed.", len(a.IPRules), maxIPRules)
	}
	for _, r := range a.IPRules {
		if _, err := ParseRange(r.Value); err != nil {
			return bad(".ipRules", "The value '%s' of an IP rule is neither an address nor a range in CIDR notation.", r.Value)
		}
	}
	return nil
}

// Network is what the pipeline asks a resource's firewall; publicAccess is the
// resource's publicNetworkAccess. Without ACLs everybody is let in.
func (a *ACLs) Network(publicAccess string) Network {
	n := Network{Public: !strings.EqualFold(publicAccess, "Disabled"), DefaultAllow: true, Trusted: true}
	if a == nil {
		return n
	}
	n.DefaultAllow = strings.EqualFold(a.DefaultAction, "Allow")
	n.Trusted = strings.EqualFold(a.Bypass, "AzureServices")
	for _, r := range a.IPRules {
		if pre, err := netip.ParsePrefix(r.Value); err == nil {
			n.IPRules = append(n.IPRules, pre)
		}
	}
	for _, r := range a.VNetRules {
		n.Subnets = append(n.Subnets, r.ID)
	}
	return n
}
