// Package operationalinsights serves Log Analytics workspaces of
// Microsoft.OperationalInsights, as far as other resources name them as the
// place of their logs: identifiers and keys. There is nothing to query.
//
// Source: "Workspaces - Create Or Update" and "Shared Keys" of the Log
// Analytics REST API.
package operationalinsights

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
)

// Namespace is the provider's.
const Namespace = "Microsoft.OperationalInsights"

// Properties are those of a workspace.
type Properties struct {
	CustomerID string          `json:"customerId,omitempty"`
	SKU        *SKU            `json:"sku,omitempty"`
	Retention  *int            `json:"retentionInDays,omitempty"`
	Created    string          `json:"createdDate,omitempty"`
	Ingest     string          `json:"publicNetworkAccessForIngestion,omitempty"`
	Query      string          `json:"publicNetworkAccessForQuery,omitempty"`
	Capping    json.RawMessage `json:"workspaceCapping,omitempty"`
	ForceOwn   *bool           `json:"forceCmkForQuery,omitempty"`
}

// SKU is how a workspace is paid for.
type SKU struct {
	Name string `json:"name"`
}

// Sealer seals the keys of workspaces; *seal.Keyring is one.
type Sealer interface {
	Seal(ctx context.Context, scope string, plaintext, aad []byte) ([]byte, error)
	Open(ctx context.Context, scope string, ciphertext, aad []byte) ([]byte, error)
	Destroy(ctx context.Context, scope string) error
}

const keysOf = "keys" // in Private: both keys, sealed

type keys struct {
	Primary   string `json:"primarySharedKey"`
	Secondary string `json:"secondarySharedKey"`
}

var nameRule = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9-]{2,61}[a-zA-Z0-9]$`)

// New makes the provider.
func New(sealer Sealer) arm.Provider {
	p := provider{sealer}
	return arm.Provider{Namespace: Namespace, Routes: []arm.Route{arm.Serve(Namespace, arm.Kind[Properties]{
		Type: "workspaces", Tracked: true,
		APIVersions: []string{"2025-02-01", "2023-09-01", "2022-10-01", "2021-12-01-preview", "2021-06-01", "2020-10-01", "2020-08-01", "2020-03-01-preview", "2015-11-01-preview", "2015-03-20"},
		Name: func(name string) error {
			if !nameRule.MatchString(name) {
				return apierr.New(apierr.BadRequest, "InvalidResourceName", "The workspace name '%s' is invalid: it must have 4 to 63 letters, digits and dashes, and neither begin nor end with a dash.", name)
			}
			return nil
		},
		ReadOnly: []string{"customerId", "createdDate", "modifiedDate", "privateLinkScopedResources"},
		Default:  p.complete, Validate: validate, Delete: p.delete,
		Actions: map[string]arm.Action[Properties]{"sharedKeys": p.sharedKeys, "regenerateSharedKey": p.regenerate},
	})}}
}

type provider struct{ sealer Sealer }

func (p provider) complete(ctx context.Context, old, next *arm.Resource[Properties]) error {
	n := &next.Properties
	if old == nil {
		n.CustomerID, n.Created = uuid.NewString(), time.Now().UTC().Format(time.RFC3339Nano)
		k, err := newKeys()
		if err != nil {
			return err
		}
		if next.Private[keysOf], err = p.seal(ctx, n.CustomerID, k); err != nil {
			return err
		}
	} else if n.SKU == nil {
		n.SKU = old.Properties.SKU
	}
	if n.SKU == nil || n.SKU.Name == "" {
		n.SKU = &SKU{"PerGB2018"}
	}
	if n.Retention == nil {
		days := 30
		n.Retention = &days
	}
	for _, s := range []*string{&n.Ingest, &n.Query} {
		if *s == "" {
			*s = "Enabled"
		}
	}
	return nil
}

func validate(_ context.Context, _, next *arm.Resource[Properties]) error {
	n := &next.Properties
	bad := func(property, format string, args ...any) error {
		return apierr.New(apierr.BadRequest, "BadRequest", format, args...).WithTarget("properties." + property)
	}
	known := []string{"PerGB2018", "Free", "Standard", "Premium", "PerNode", "Standalone", "CapacityReservation", "LACluster"}
	if i := slices.IndexFunc(known, func(s string) bool { return strings.EqualFold(s, n.SKU.Name) }); i < 0 {
		return bad("sku.name", "The sku '%s' is none of %s.", n.SKU.Name, strings.Join(known, ", "))
	}
	if *n.Retention < 4 || *n.Retention > 730 {
		return bad("retentionInDays", "The retention of %d days is not between 4 and 730.", *n.Retention)
	}
	if n.ForceOwn != nil && *n.ForceOwn {
		return bad("forceCmkForQuery", "The property 'forceCmkForQuery' is not supported: a key of your own does not encrypt the workspace's data.")
	}
	return nil
}

func newKeys() (k keys, err error) {
	for _, to := range []*string{&k.Primary, &k.Secondary} {
		b := make([]byte, 64)
		if _, err := rand.Read(b); err != nil {
			return k, fmt.Errorf("make a key: %w", err)
		}
		*to = base64.StdEncoding.EncodeToString(b)
	}
	return k, nil
}

func scope(customer string) string { return "operationalinsights/" + customer }

func (p provider) seal(ctx context.Context, customer string, k keys) (string, error) {
	plain, err := json.Marshal(k)
	if err != nil {
		return "", fmt.Errorf("encode keys: %w", err)
	}
	sealed, err := p.sealer.Seal(ctx, scope(customer), plain, []byte(keysOf))
	if err != nil {
		return "", fmt.Errorf("seal the keys of a workspace: %w", err)
	}
	return base64.StdEncoding.EncodeToString(sealed), nil
}

// sharedKeys is POST …/sharedKeys.
func (p provider) sharedKeys(ctx context.Context, r *arm.Resource[Properties], _ json.RawMessage) (any, error) {
	raw, err := base64.StdEncoding.DecodeString(r.Private[keysOf])
	if err != nil {
		return nil, fmt.Errorf("decode the keys of a workspace: %w", err)
	}
	plain, err := p.sealer.Open(ctx, scope(r.Properties.CustomerID), raw, []byte(keysOf))
	if err != nil {
		return nil, fmt.Errorf("open the keys of a workspace: %w", err)
	}
	var k keys
	if err := json.Unmarshal(plain, &k); err != nil {
		return nil, fmt.Errorf("decode the keys of a workspace: %w", err)
	}
	return k, nil
}

// regenerate refuses: nothing takes these keys, so that a new one would shut nobody out.
func (p provider) regenerate(context.Context, *arm.Resource[Properties], json.RawMessage) (any, error) {
	return nil, apierr.New(apierr.BadRequest, "NotSupported", "The keys of a workspace are not regenerated here: no service takes them.")
}

func (p provider) delete(ctx context.Context, old *arm.Resource[Properties]) error {
	return p.sealer.Destroy(ctx, scope(old.Properties.CustomerID))
}
