package network

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
)

// claims are what parts of a network have taken of it. They change by
// compare-and-swap, so that two requests never get the same range or address.
type claims struct {
	Subnets   map[string][]string `json:"subnets,omitempty"`   // ranges by lower-case name
	Addresses map[string]claim    `json:"addresses,omitempty"` // by address

	rev int64
}

// claim is who has an address.
type claim struct {
	Owner  string `json:"owner"`  // resource id of a private endpoint
	Member string `json:"member"` // of the group that the address stands for
	NIC    string `json:"nic"`    // resource id of the interface
}

const (
	claimPrefix   = "network-claims/"
	claimKind     = "network.claims"
	claimAttempts = 50
)

func claimKey(network rid.ID) string { return claimPrefix + strings.TrimPrefix(network.Key(), "/") }

func decodeClaims(d store.Doc) (*claims, error) {
	c := &claims{rev: d.Rev}
	if err := json.Unmarshal(d.Value, c); err != nil {
		return nil, fmt.Errorf("decode claims %q: %w", d.Key, err)
	}
	return c, nil
}

func (n *Networks) claimsOf(ctx context.Context, network rid.ID) (*claims, error) {
	d, err := n.store.Get(ctx, claimKey(network))
	c := &claims{}
	if err == nil {
		c, err = decodeClaims(d)
	}
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, fmt.Errorf("read claims: %w", err)
	}
	if c.Subnets == nil {
		c.Subnets = map[string][]string{}
	}
	if c.Addresses == nil {
		c.Addresses = map[string]claim{}
	}
	return c, nil
}

// claim changes the claims of a network by fn.
func (n *Networks) claim(ctx context.Context, network rid.ID, fn func(*claims) error) error {
	for range claimAttempts {
		c, err := n.claimsOf(ctx, network)
		if err != nil {
			return err
		}
		if err := fn(c); err != nil {
			return err
		}
		raw, err := json.Marshal(c)
		if err != nil {
			return fmt.Errorf("encode claims: %w", err)
		}
		_, err = n.store.Put(ctx, store.Doc{Key: claimKey(network), Rev: c.rev, Kind: claimKind, Value: raw})
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	return apierr.New(apierr.Conflict, "AnotherOperationInProgress", "The virtual network '%s' is changed by too many requests at once. Try again.", network.Name())
}

// disclaim forgets all claims of a network.
func (n *Networks) disclaim(ctx context.Context, network rid.ID) error {
	err := n.store.Delete(ctx, claimKey(network), 0)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

// of are the addresses of an owner, by the member.
func (c *claims) of(owner rid.ID) map[string]string {
	out := map[string]string{}
	for a, who := range c.Addresses {
		if strings.EqualFold(who.Owner, owner.String()) {
			out[who.Member] = a
		}
	}
	return out
}

// firstFree is how many addresses at the beginning of a subnet nobody gets:
// the network itself, the router, and two for the resolver. Source: "Are there
// any restrictions on using IP addresses within these subnets?".
const firstFree = 4

// free is the first address of the ranges that nobody has.
func (c *claims) free(ranges []netip.Prefix, taken func(string) bool) (string, bool) {
	for _, r := range ranges {
		a := r.Addr()
		for range firstFree {
			a = a.Next()
		}
		for ; r.Contains(a.Next()); a = a.Next() { // the last one is the broadcast's
			if _, used := c.Addresses[a.String()]; !used && !taken(a.String()) {
				return a.String(), true
			}
		}
	}
	return "", false
}

// within are the addresses that lie in the ranges, sorted.
func (c *claims) within(ranges []netip.Prefix) []string {
	var out []string
	for text := range c.Addresses {
		a, err := netip.ParseAddr(text)
		if err == nil && slices.ContainsFunc(ranges, func(r netip.Prefix) bool { return r.Contains(a) }) {
			out = append(out, text)
		}
	}
	slices.Sort(out)
	return out
}
