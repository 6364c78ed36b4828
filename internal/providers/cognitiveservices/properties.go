package cognitiveservices

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/arm/privatelink"
	"lazurite.dev/internal/gate"
)

// The kinds of accounts.
const (
	KindOpenAI     = "OpenAI"
	KindAIServices = "AIServices"
)

func kinds() []string { return []string{KindAIServices, KindOpenAI} }

// Properties are those of an account.
type Properties struct {
	Subdomain    string            `json:"customSubDomainName,omitempty"`
	NoLocalAuth  *bool             `json:"disableLocalAuth,omitempty"`
	Network      *gate.ACLs        `json:"networkAcls,omitempty"`
	PublicAccess string            `json:"publicNetworkAccess,omitempty"`
	Endpoint     string            `json:"endpoint,omitempty"`
	Endpoints    map[string]string `json:"endpoints,omitempty"`
	InternalID   string            `json:"internalId,omitempty"`
	DateCreated  string            `json:"dateCreated,omitempty"`
	Restore      *bool             `json:"restore,omitempty"`
	Throttling   *bool             `json:"dynamicThrottlingEnabled,omitempty"`

	// What is refused unless it says nothing.
	Encryption       *Encryption       `json:"encryption,omitempty"`
	RestrictOutbound *bool             `json:"restrictOutboundNetworkAccess,omitempty"`
	AllowedFQDN      []string          `json:"allowedFqdnList,omitempty"`
	Storage          []json.RawMessage `json:"userOwnedStorage,omitempty"`
	APIProperties    map[string]any    `json:"apiProperties,omitempty"`
	Locations        *Regions          `json:"locations,omitempty"`
	MigrationToken   string            `json:"migrationToken,omitempty"`
	DefaultProject   string            `json:"defaultProject,omitempty"`
	Associated       []string          `json:"associatedProjects,omitempty"`
	Injections       json.RawMessage   `json:"networkInjections,omitempty"`
	Monitor          json.RawMessage   `json:"raiMonitorConfig,omitempty"`
	Workspace        json.RawMessage   `json:"amlWorkspace,omitempty"`

	Connections []privatelink.Shown `json:"privateEndpointConnections,omitempty"` // computed
}

// Encryption says with whose key an account's data is encrypted.
type Encryption struct {
	KeySource string          `json:"keySource,omitempty"`
	KeyVault  json.RawMessage `json:"keyVaultProperties,omitempty"`
}

// Regions are those that an account of several is routed to.
type Regions struct {
	Regions       []json.RawMessage `json:"regions,omitempty"`
	RoutingMethod string            `json:"routingMethod,omitempty"`
}

// readOnly are the properties that clients cannot set.
func readOnly() []string {
	return []string{
		"endpoint", "endpoints", "internalId", "dateCreated", "privateEndpointConnections", "callRateLimit", "capabilities", "isMigrated",
		"quotaLimit", "skuChangeInfo", "abusePenalty", "commitmentPlanAssociations", "deletionDate", "scheduledPurgeDate",
	}
}

// SKU is an account's or a deployment's.
type SKU struct {
	Name     string `json:"name"`
	Tier     string `json:"tier,omitempty"`
	Size     string `json:"size,omitempty"`
	Family   string `json:"family,omitempty"`
	Capacity *int   `json:"capacity,omitempty"`
}

func bad(target, format string, args ...any) *apierr.Error {
	return apierr.New(apierr.BadRequest, "BadRequest", format, args...).WithTarget(target)
}

func lower(s string) string { return strings.ToLower(s) }

func text(s string) json.RawMessage {
	b, err := json.Marshal(s)
	if err != nil {
		return nil // text is always encoded
	}
	return b
}

func skuJSON(s SKU) json.RawMessage {
	b, err := json.Marshal(s)
	if err != nil {
		return nil // a SKU is always encoded
	}
	return b
}

func textOf(raw json.RawMessage, member string) (string, error) {
	if len(raw) == 0 {
		return "", nil
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return "", bad(member, "The '%s' must be a text.", member)
	}
	return s, nil
}

func skuOf(raw json.RawMessage) (SKU, error) {
	var s SKU
	if len(raw) == 0 {
		return s, nil
	}
	if err := json.Unmarshal(raw, &s); err != nil {
		return s, bad("sku", "The 'sku' must be an object with a name, such as {\"name\":\"S0\"}.")
	}
	return s, nil
}

// normalize writes kind and sku as Azure does.
func normalize(r *arm.Resource[Properties]) error {
	kind, err := textOf(r.Extra["kind"], "kind")
	if err != nil {
		return err
	}
	i := slices.IndexFunc(kinds(), func(k string) bool { return strings.EqualFold(k, kind) })
	switch {
	case kind == "":
		return bad("kind", "The account's 'kind' is missing: OpenAI or AIServices.")
	case i < 0:
		return apierr.New(apierr.BadRequest, "InvalidApiSetId", "The account type '%s' is either invalid or unavailable in given region. The kinds of this cloud are %s.", kind, strings.Join(kinds(), " and ")).WithTarget("kind")
	}
	r.Extra["kind"] = text(kinds()[i])
	sku, err := skuOf(r.Extra["sku"])
	switch {
	case err != nil:
		return err
	case sku.Name == "":
		return bad("sku", "The account's 'sku' is missing: {\"name\":\"S0\"}.")
	case !strings.EqualFold(sku.Name, accountSKU):
		return apierr.New(apierr.BadRequest, "InvalidSkuId", "The sku '%s' of an account of the kind '%s' is invalid: the only one is '%s'.", sku.Name, kinds()[i], accountSKU).WithTarget("sku.name")
	}
	r.Extra["sku"] = skuJSON(SKU{Name: accountSKU})
	return nil
}

// addresses sets where the account answers.
func (p *provider) addresses(r *arm.Resource[Properties]) {
	n := &r.Properties
	kind, _ := textOf(r.Extra["kind"], "kind") // normalize read it
	regional := p.URL(Regional, r.Location) + "/"
	openai, services := regional, regional
	if n.Subdomain != "" {
		openai, services = p.URL(OpenAI, lower(n.Subdomain))+"/", p.URL(Services, lower(n.Subdomain))+"/"
	}
	n.Endpoint = openai
	n.Endpoints = map[string]string{"OpenAI Language Model Instance API": openai, "OpenAI Model Scaleset API": openai}
	if kind == KindAIServices {
		n.Endpoint = services
	}
}

// nameRule is that of accounts. Source: "Accounts - Create", accountName.
var nameRule = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{1,63}$`)

func checkAccountName(name string) error {
	if !nameRule.MatchString(name) {
		return apierr.New(apierr.BadRequest, "InvalidAccountName", "The account name '%s' is invalid: it must have 2 to 64 letters, digits, dots, underscores and dashes, and begin with a letter or a digit.", name)
	}
	return nil
}

// checkSubdomain keeps the rule of subdomains, which are labels of host names.
func checkSubdomain(s string) error {
	ok := len(s) >= 2 && len(s) <= 63 && !strings.HasPrefix(s, "-") && !strings.HasSuffix(s, "-")
	for i := range len(s) {
		c := s[i] | 0x20
		ok = ok && (c >= 'a' && c <= 'z' || s[i] >= '0' && s[i] <= '9' || s[i] == '-')
	}
	if !ok {
		return apierr.New(apierr.BadRequest, "CustomSubDomainNameInvalid", "The subdomain name '%s' is invalid: it must have 2 to 63 letters, digits and dashes, and neither begin nor end with a dash.", s).
			WithTarget("properties.customSubDomainName")
	}
	return nil
}

// validate refuses what Azure refuses, and what would promise a protection
// that is not there.
func (p *provider) validate(ctx context.Context, old, next *arm.Resource[Properties]) error {
	n := &next.Properties
	if err := n.check(); err != nil {
		return err
	}
	var known []string
	if old != nil {
		known = old.Properties.Network.Subnets()
	}
	if err := privatelink.CheckSubnets(ctx, p.Store, Namespace, n.Network.Subnets(), known); err != nil {
		return err
	}
	if old != nil {
		if o := old.Properties.Subdomain; o != "" && !strings.EqualFold(o, n.Subdomain) {
			return bad("properties.customSubDomainName", "The subdomain of the account is '%s': it cannot be changed once it is set.", o)
		}
		if a, b := string(old.Extra["kind"]), string(next.Extra["kind"]); a != b {
			return bad("kind", "The account is of the kind %s: it cannot be changed to %s.", a, b)
		}
	}
	if err := p.free(ctx, next); err != nil {
		return err
	}
	if old == nil && p.AzureLike {
		if err := p.roomFor(ctx, next); err != nil {
			return err
		}
	}
	return p.nameFree(ctx, next)
}

func (n *Properties) check() error {
	if n.Subdomain != "" {
		if err := checkSubdomain(n.Subdomain); err != nil {
			return err
		}
	}
	if !strings.EqualFold(n.PublicAccess, "Enabled") && !strings.EqualFold(n.PublicAccess, "Disabled") {
		return bad("properties.publicNetworkAccess", "The value '%s' of publicNetworkAccess is neither 'Enabled' nor 'Disabled'.", n.PublicAccess)
	}
	if n.Network != nil && n.Subdomain == "" {
		return apierr.New(apierr.BadRequest, "CustomSubDomainNameRequired", "Network rules need an account with a custom subdomain: set customSubDomainName first.").WithTarget("properties.networkAcls")
	}
	if err := n.Network.Check("account"); err != nil {
		return err
	}
	return n.checkUnsupported()
}

// checkUnsupported refuses what this service does not do.
func (n *Properties) checkUnsupported() error {
	isSet := func(b *bool) bool { return b != nil && *b }
	given := func(raw json.RawMessage) bool {
		return len(raw) > 0 && !slices.Contains([]string{"null", "[]", "{}"}, string(raw))
	}
	e := n.Encryption
	for _, c := range []struct {
		refused       bool
		property, why string
	}{
		{e != nil && (given(e.KeyVault) || e.KeySource != "" && !strings.EqualFold(e.KeySource, Namespace)), "encryption", "a key of your own does not encrypt the account's data. It is sealed with this installation's key"},
		{isSet(n.RestrictOutbound), "restrictOutboundNetworkAccess", "what models' backends reach is not restricted by the account"},
		{len(n.AllowedFQDN) > 0, "allowedFqdnList", "what models' backends reach is not restricted by the account"},
		{len(n.Storage) > 0, "userOwnedStorage", "the account stores nothing in a storage account"},
		{len(n.APIProperties) > 0, "apiProperties", "they belong to other kinds of accounts"},
		{n.Locations != nil && len(n.Locations.Regions) > 0, "locations", "an account is in one region"},
		{n.MigrationToken != "", "migrationToken", "no account is migrated"},
		{n.DefaultProject != "" || len(n.Associated) > 0, "defaultProject", "there are no projects in this cloud"},
		{given(n.Injections), "networkInjections", "no agent runs in a network of yours"},
		{given(n.Monitor), "raiMonitorConfig", "no prompts are kept for review"},
		{given(n.Workspace), "amlWorkspace", "accounts have no workspace"},
	} {
		if c.refused {
			return bad("properties."+c.property, "The property '%s' is not supported: %s.", c.property, c.why)
		}
	}
	return nil
}

func taken(subdomain string) error {
	return apierr.New(apierr.Conflict, "CustomDomainInUse",
		"Please pick a different name. The subdomain name '%s' is not available as it's already used by a resource.", subdomain)
}

func softDeleted(id string) error {
	return apierr.New(apierr.Conflict, "FlagMustBeSetForRestore", "%s",
		fmt.Sprintf("An existing resource with ID '%s' has been soft-deleted. To restore the resource, you must specify 'restore' to be 'true' in the property. If you don't want to restore existing resource, please purge it first.", id))
}
