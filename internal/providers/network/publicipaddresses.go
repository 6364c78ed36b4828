package network

import (
	"context"
	"strings"

	"lazurite.dev/internal/arm"
)

// PublicAddress are the properties of a public address: none is ever given.
type PublicAddress struct {
	Method  string `json:"publicIPAllocationMethod,omitempty"`
	Version string `json:"publicIPAddressVersion,omitempty"`
	Idle    *int   `json:"idleTimeoutInMinutes,omitempty"`
	DNS     *struct {
		Label string `json:"domainNameLabel,omitempty"`
	} `json:"dnsSettings,omitempty"`
	Prefix *Ref  `json:"publicIPPrefix,omitempty"`
	Tags   []any `json:"ipTags,omitempty"`
}

func (p *provider) publicAddresses() arm.Kind[PublicAddress] {
	return arm.Kind[PublicAddress]{
		Type: "publicIPAddresses", APIVersions: versions(), Tracked: true, Name: networkName("public IP address", 80),
		ReadOnly: []string{"ipAddress", "ipConfiguration", "resourceGuid"},
		Default: func(_ context.Context, _, next *arm.Resource[PublicAddress]) error {
			n := &next.Properties
			if n.Method == "" {
				n.Method = "Dynamic"
			}
			if n.Version == "" {
				n.Version = "IPv4"
			}
			if four := 4; n.Idle == nil {
				n.Idle = &four
			}
			return nil
		},
		Validate: func(_ context.Context, _, next *arm.Resource[PublicAddress]) error {
			n := &next.Properties
			switch {
			case !strings.EqualFold(n.Method, "Dynamic"):
				return refuse("properties.publicIPAllocationMethod", "a static address is given at once, and no address of the internet is this service's to give. One that is Dynamic is given to what uses it, and nothing here does")
			case !strings.EqualFold(n.Version, "IPv4"):
				return refuse("properties.publicIPAddressVersion", "networks carry IPv4 alone")
			case n.DNS != nil && n.DNS.Label != "":
				return refuse("properties.dnsSettings.domainNameLabel", "there is no public name for an address that is not given")
			case n.Prefix != nil && n.Prefix.ID != "":
				return refuse("properties.publicIPPrefix", "there are no prefixes of public addresses")
			case len(n.Tags) > 0:
				return refuse("properties.ipTags", "an address that is not given has no tags of the internet's routing")
			}
			return nil
		},
	}
}
