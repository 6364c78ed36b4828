package storage

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/arm/privatelink"
	"lazurite.dev/internal/gate"
)

// The kinds of accounts that have blobs.
const (
	StorageV2        = "StorageV2"
	GeneralPurposeV1 = "Storage"
	BlobStorage      = "BlobStorage"
	BlockBlobStorage = "BlockBlobStorage"
)

func kinds() []string { return []string{StorageV2, GeneralPurposeV1, BlobStorage, BlockBlobStorage} }

// skus are those of accounts; how often a blob is kept is this machine's business.
func skus() []string {
	return []string{
		"Standard_LRS", "Standard_GRS", "Standard_RAGRS", "Standard_ZRS", "Standard_GZRS", "Standard_RAGZRS", "Premium_LRS", "Premium_ZRS",
	}
}

// Properties are those of an account.
type Properties struct {
	CreationTime    string            `json:"creationTime,omitempty"`
	KeyTimes        *KeyTimes         `json:"keyCreationTime,omitempty"`
	Endpoints       map[string]string `json:"primaryEndpoints,omitempty"`
	PrimaryLocation string            `json:"primaryLocation,omitempty"`
	StatusOfPrimary string            `json:"statusOfPrimary,omitempty"`

	Tier         string   `json:"accessTier,omitempty"`
	Anonymous    *bool    `json:"allowBlobPublicAccess,omitempty"`
	SharedKey    *bool    `json:"allowSharedKeyAccess,omitempty"`
	CrossTenant  *bool    `json:"allowCrossTenantReplication,omitempty"`
	OAuthFirst   *bool    `json:"defaultToOAuthAuthentication,omitempty"`
	HTTPSOnly    *bool    `json:"supportsHttpsTrafficOnly,omitempty"`
	MinTLS       string   `json:"minimumTlsVersion,omitempty"`
	PublicAccess string   `json:"publicNetworkAccess,omitempty"`
	Network      *RuleSet `json:"networkAcls,omitempty"`
	CopyScope    string   `json:"allowedCopyScope,omitempty"`
	LargeFiles   string   `json:"largeFileSharesState,omitempty"`
	DNSEndpoint  string   `json:"dnsEndpointType,omitempty"`

	Encryption *Encryption `json:"encryption,omitempty"`

	Connections []privatelink.Shown `json:"privateEndpointConnections"` // computed

	// What is refused unless it says nothing.
	HNS          *bool           `json:"isHnsEnabled,omitempty"`
	SFTP         *bool           `json:"isSftpEnabled,omitempty"`
	NFS          *bool           `json:"isNfsV3Enabled,omitempty"`
	LocalUser    *bool           `json:"isLocalUserEnabled,omitempty"`
	Groups       *bool           `json:"enableExtendedGroups,omitempty"`
	CustomDomain json.RawMessage `json:"customDomain,omitempty"`
	SASPolicy    json.RawMessage `json:"sasPolicy,omitempty"`
	KeyPolicy    json.RawMessage `json:"keyPolicy,omitempty"`
	Files        json.RawMessage `json:"azureFilesIdentityBasedAuthentication,omitempty"`
	Immutable    *Immutable      `json:"immutableStorageWithVersioning,omitempty"`
	Routing      *Routing        `json:"routingPreference,omitempty"`
	Migration    json.RawMessage `json:"dualStackEndpointPreference,omitempty"`
}

// KeyTimes are when an account's keys were made.
type KeyTimes struct {
	Key1 string `json:"key1"`
	Key2 string `json:"key2"`
}

// Immutable says whether blobs of an account can be made unchangeable.
type Immutable struct {
	Enabled bool `json:"enabled,omitempty"`
}

// Routing says by which networks Azure leads requests to an account.
type Routing struct {
	Choice    string `json:"routingChoice,omitempty"`
	Microsoft *bool  `json:"publishMicrosoftEndpoints,omitempty"`
	Internet  *bool  `json:"publishInternetEndpoints,omitempty"`
}

// RuleSet is the firewall of an account.
type RuleSet struct {
	Bypass        string            `json:"bypass,omitempty"`
	DefaultAction string            `json:"defaultAction,omitempty"`
	IPRules       []IPRule          `json:"ipRules"`
	VNetRules     []VNetRule        `json:"virtualNetworkRules"`
	Resources     []json.RawMessage `json:"resourceAccessRules,omitempty"`
	IPv6Rules     []IPRule          `json:"ipv6Rules,omitempty"`
}

// IPRule lets an address or a range in.
type IPRule struct {
	Value  string `json:"value"`
	Action string `json:"action,omitempty"`
}

// VNetRule lets a subnet in.
type VNetRule struct {
	ID     string `json:"id"`
	Action string `json:"action,omitempty"`
	State  string `json:"state,omitempty"`
}

// Encryption says how an account is encrypted.
type Encryption struct {
	Services  map[string]EncryptedService `json:"services,omitempty"`
	KeySource string                      `json:"keySource,omitempty"`
	KeyVault  json.RawMessage             `json:"keyvaultproperties,omitempty"`
	Identity  json.RawMessage             `json:"identity,omitempty"`
	Double    *bool                       `json:"requireInfrastructureEncryption,omitempty"`
}

// EncryptedService is one service's part of Encryption.
type EncryptedService struct {
	KeyType string `json:"keyType,omitempty"`
	Enabled *bool  `json:"enabled,omitempty"`
	Since   string `json:"lastEnabledTime,omitempty"`
}

// readOnly are the properties that clients cannot set.
func readOnly() []string {
	return []string{
		"creationTime", "keyCreationTime", "primaryEndpoints", "primaryLocation", "statusOfPrimary", "secondaryEndpoints", "secondaryLocation", "statusOfSecondary",
		"privateEndpointConnections", "lastGeoFailoverTime", "geoReplicationStats", "failoverInProgress", "blobRestoreStatus", "accountMigrationInProgress",
		"isSkuConversionBlocked", "storageAccountSkuConversionStatus", "networkAcls.ipv6Rules",
	}
}

func is(b *bool) bool { return b != nil && *b }

type sku struct {
	Name string `json:"name"`
	Tier string `json:"tier,omitempty"`
}

func skuOf(r *arm.Resource[Properties]) string {
	var s sku
	_ = json.Unmarshal(r.Extra["sku"], &s) // normalize wrote it
	return s.Name
}

func kindOf(r *arm.Resource[Properties]) string {
	var s string
	_ = json.Unmarshal(r.Extra["kind"], &s) // normalize wrote it
	return s
}

// pick gives the value of list that equals s without case, "" where none does.
func pick(s string, list ...string) string {
	if i := slices.IndexFunc(list, func(v string) bool { return strings.EqualFold(v, s) }); i >= 0 {
		return list[i]
	}
	return ""
}

// normalize writes kind and sku as Azure does.
func normalize(r *arm.Resource[Properties]) error {
	var s sku
	var kind string
	if err := json.Unmarshal(r.Extra["sku"], &s); err != nil || s.Name == "" {
		return bad("sku", "The account's 'sku' is missing: {\"name\":\"Standard_LRS\"}.")
	}
	name := pick(s.Name, skus()...)
	if name == "" {
		return bad("sku.name", "The sku '%s' is none of %s.", s.Name, strings.Join(skus(), ", "))
	}
	if raw := r.Extra["kind"]; raw != nil && json.Unmarshal(raw, &kind) != nil {
		return bad("kind", "The 'kind' must be a text.")
	}
	if kind == "" {
		return bad("kind", "The account's 'kind' is missing: one of %s.", strings.Join(kinds(), ", "))
	}
	k := pick(kind, kinds()...)
	if k == "" {
		return bad("kind", "The kind '%s' is not supported: %s are. There are no file shares here.", kind, strings.Join(kinds(), ", "))
	}
	if premium := strings.HasPrefix(name, "Premium"); premium != (k == BlockBlobStorage) {
		return bad("sku.name", "The sku '%s' does not go with the kind '%s': premium skus are those of the kind %s.", name, k, BlockBlobStorage)
	}
	var err error
	tier, _, _ := strings.Cut(name, "_")
	if r.Extra["sku"], err = json.Marshal(sku{Name: name, Tier: tier}); err != nil {
		return err
	}
	r.Extra["kind"], err = json.Marshal(k)
	return err
}

// keep takes over what a PUT of an account that is there leaves as it is.
func (n *Properties) keep(old *Properties) {
	for _, b := range []struct{ to, from **bool }{
		{&n.Anonymous, &old.Anonymous}, {&n.SharedKey, &old.SharedKey}, {&n.CrossTenant, &old.CrossTenant},
		{&n.OAuthFirst, &old.OAuthFirst}, {&n.HTTPSOnly, &old.HTTPSOnly},
	} {
		if *b.to == nil {
			*b.to = *b.from
		}
	}
	for _, s := range []struct{ to, from *string }{
		{&n.MinTLS, &old.MinTLS}, {&n.PublicAccess, &old.PublicAccess}, {&n.Tier, &old.Tier}, {&n.CopyScope, &old.CopyScope},
	} {
		if *s.to == "" {
			*s.to = *s.from
		}
	}
	if n.Network == nil {
		n.Network = old.Network
	}
	if n.Encryption == nil {
		n.Encryption = old.Encryption
	}
}

func (n *Properties) complete() {
	set := func(s *string, v string) {
		if *s == "" {
			*s = v
		}
	}
	flag := func(b **bool, v bool) {
		if *b == nil {
			*b = &v
		}
	}
	n.Connections = []privatelink.Shown{} // read has them
	flag(&n.Anonymous, false)
	flag(&n.SharedKey, true)
	flag(&n.CrossTenant, false)
	flag(&n.HTTPSOnly, true)
	set(&n.MinTLS, "TLS1_2")
	set(&n.Tier, "Hot")
	set(&n.PublicAccess, "Enabled")
	if n.Network == nil {
		n.Network = &RuleSet{}
	}
	n.Network.complete()
	if n.Encryption == nil {
		n.Encryption = &Encryption{}
	}
	e := n.Encryption
	set(&e.KeySource, Namespace)
	e.KeySource = cmpFold(e.KeySource, Namespace)
	flag(&e.Double, false)
	on := true
	made := map[string]EncryptedService{}
	for _, s := range []string{"file", "blob"} {
		since := n.CreationTime
		if old := e.Services[s].Since; old != "" {
			since = old
		}
		made[s] = EncryptedService{KeyType: "Account", Enabled: &on, Since: since}
	}
	e.Services = made
}

// cmpFold is want where s is the same but for case, else s.
func cmpFold(s, want string) string {
	if strings.EqualFold(s, want) {
		return want
	}
	return s
}

func (r *RuleSet) complete() {
	if r.Bypass == "" {
		r.Bypass = "AzureServices"
	}
	if r.DefaultAction == "" {
		r.DefaultAction = "Allow"
	}
	if r.IPRules == nil {
		r.IPRules = []IPRule{}
	}
	if r.VNetRules == nil {
		r.VNetRules = []VNetRule{}
	}
	for i := range r.IPRules {
		if r.IPRules[i].Action == "" {
			r.IPRules[i].Action = "Allow"
		}
	}
	for i := range r.VNetRules {
		if r.VNetRules[i].Action == "" {
			r.VNetRules[i].Action = "Allow"
		}
		r.VNetRules[i].State = "Succeeded"
	}
}

// acls are the firewall in the gate's words.
func (n *Properties) acls() *gate.ACLs {
	a := &gate.ACLs{}
	if r := n.Network; r != nil {
		a.DefaultAction, a.Bypass = r.DefaultAction, "None"
		for word := range strings.SplitSeq(r.Bypass, ",") {
			if strings.EqualFold(strings.TrimSpace(word), "AzureServices") {
				a.Bypass = "AzureServices"
			}
		}
		for _, x := range r.IPRules {
			a.IPRules = append(a.IPRules, gate.IPRule{Value: x.Value})
		}
		for _, x := range r.VNetRules {
			a.VNetRules = append(a.VNetRules, gate.VNetACL{ID: x.ID})
		}
	}
	a.Complete("AzureServices")
	return a
}

// checkName keeps the rule of names. Source: "Storage Accounts - Create", accountName.
func checkName(name string) error {
	ok := len(name) >= 3 && len(name) <= 24
	for i := range len(name) {
		c := name[i]
		ok = ok && (c >= 'a' && c <= 'z' || c >= '0' && c <= '9')
	}
	if !ok {
		return apierr.New(apierr.BadRequest, "AccountNameInvalid", "%s is not a valid storage account name. Storage account name must be between 3 and 24 characters in length and use numbers and lower-case letters only.", name)
	}
	return nil
}

// validate refuses what Azure refuses, and what would promise something that
// is not there.
func (p *provider) validate(ctx context.Context, old, next *arm.Resource[Properties]) error {
	if p.Refuse != nil && old == nil {
		if err := p.Refuse(); err != nil {
			return err
		}
	}
	if old != nil && kindOf(old) != kindOf(next) && kindOf(next) != StorageV2 {
		return bad("kind", "The account is of the kind %s: it cannot be changed to %s.", kindOf(old), kindOf(next))
	}
	n := &next.Properties
	if err := n.check(); err != nil {
		return err
	}
	var known []string
	if old != nil {
		known = old.Properties.acls().Subnets()
	}
	if err := privatelink.CheckSubnets(ctx, p.Store, Namespace, n.acls().Subnets(), known); err != nil {
		return err
	}
	return p.accounts.names.Free(ctx, next.ID)
}

func (n *Properties) check() error {
	for _, c := range []struct {
		property string
		value    *string
		values   []string
	}{
		{"publicNetworkAccess", &n.PublicAccess, []string{"Enabled", "Disabled"}},
		{"minimumTlsVersion", &n.MinTLS, []string{"TLS1_0", "TLS1_1", "TLS1_2", "TLS1_3"}},
		{"accessTier", &n.Tier, []string{"Hot", "Cool", "Cold", "Premium"}},
		{"networkAcls.defaultAction", &n.Network.DefaultAction, []string{"Allow", "Deny"}},
		{"allowedCopyScope", &n.CopyScope, []string{"", "AAD", "PrivateLink"}},
		{"largeFileSharesState", &n.LargeFiles, []string{"", "Enabled", "Disabled"}},
	} {
		v := pick(*c.value, c.values...)
		if v == "" && *c.value != "" {
			return bad("properties."+c.property, "The value '%s' of %s is none of '%s'.", *c.value, c.property, strings.Join(c.values, "', '"))
		}
		*c.value = v
	}
	if err := n.Network.check(); err != nil {
		return err
	}
	if err := n.acls().Check("storage account"); err != nil {
		return bad("properties.networkAcls", "%s", apierr.From(err).Message)
	}
	return n.checkUnsupported()
}

func (r *RuleSet) check() error {
	for word := range strings.SplitSeq(r.Bypass, ",") {
		if pick(strings.TrimSpace(word), "None", "Logging", "Metrics", "AzureServices") == "" {
			return bad("properties.networkAcls.bypass", "The value '%s' of bypass is none of 'None', 'Logging', 'Metrics', 'AzureServices', or some of the last three with commas.", r.Bypass)
		}
	}
	for _, x := range r.IPRules {
		if !strings.EqualFold(x.Action, "Allow") {
			return bad("properties.networkAcls.ipRules", "The action '%s' of an IP rule is not 'Allow'.", x.Action)
		}
	}
	for _, x := range r.VNetRules {
		if !strings.EqualFold(x.Action, "Allow") {
			return bad("properties.networkAcls.virtualNetworkRules", "The action '%s' of a virtual network rule is not 'Allow'.", x.Action)
		}
	}
	return nil
}

func given(raw json.RawMessage) bool {
	return len(raw) > 0 && !slices.Contains([]string{"null", "[]", "{}"}, string(raw))
}

// checkUnsupported refuses what this service does not do.
func (n *Properties) checkUnsupported() error {
	e, r := n.Encryption, n.Routing
	for _, c := range []struct {
		refused       bool
		property, why string
	}{
		{!strings.EqualFold(e.KeySource, Namespace) || given(e.KeyVault) || given(e.Identity), "encryption", "a key of your own does not encrypt blobs"},
		{is(e.Double), "encryption.requireInfrastructureEncryption", "blobs are not encrypted twice"},
		{is(n.HNS), "isHnsEnabled", "there is no hierarchical namespace"},
		{is(n.SFTP), "isSftpEnabled", "there is no SFTP"},
		{is(n.NFS), "isNfsV3Enabled", "there is no NFS"},
		{is(n.LocalUser), "isLocalUserEnabled", "there is no SFTP"},
		{is(n.Groups), "enableExtendedGroups", "there is no NFS"},
		{given(n.CustomDomain), "customDomain", "an account answers under its own name alone"},
		{given(n.SASPolicy), "sasPolicy", "how long signatures last is not limited by the account"},
		{given(n.KeyPolicy), "keyPolicy", "keys do not expire"},
		{given(n.Files) && !strings.Contains(string(n.Files), `"None"`), "azureFilesIdentityBasedAuthentication", "there are no file shares"},
		{n.Immutable != nil && n.Immutable.Enabled, "immutableStorageWithVersioning", "blobs can always be changed by who may"},
		{r != nil && (is(r.Internet) || r.Choice != "" && !strings.EqualFold(r.Choice, "MicrosoftRouting")), "routingPreference", "there is one way to an account"},
		{n.DNSEndpoint != "" && !strings.EqualFold(n.DNSEndpoint, "Standard"), "dnsEndpointType", "names have no zones"},
		{n.Network != nil && len(n.Network.Resources) > 0, "networkAcls.resourceAccessRules", "no resource is let in by its id; use a private endpoint or a virtual network rule"},
	} {
		if c.refused {
			return bad("properties."+c.property, "The property '%s' is not supported: %s.", c.property, c.why)
		}
	}
	return nil
}
