package keyvault

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/arm/privatelink"
	"lazurite.dev/internal/gate"
	"lazurite.dev/internal/rid"
)

// Properties are those of a vault.
type Properties struct {
	TenantID        string         `json:"tenantId,omitempty"`
	SKU             *SKU           `json:"sku,omitempty"`
	AccessPolicies  []AccessPolicy `json:"accessPolicies"`
	CreateMode      string         `json:"createMode,omitempty"` // default or recover
	RBAC            *bool          `json:"enableRbacAuthorization,omitempty"`
	SoftDelete      *bool          `json:"enableSoftDelete,omitempty"`
	PurgeProtection *bool          `json:"enablePurgeProtection,omitempty"`
	RetentionDays   *int           `json:"softDeleteRetentionInDays,omitempty"`
	Deployment      *bool          `json:"enabledForDeployment,omitempty"`
	DiskEncryption  *bool          `json:"enabledForDiskEncryption,omitempty"`
	Template        *bool          `json:"enabledForTemplateDeployment,omitempty"`
	Network         *gate.ACLs     `json:"networkAcls,omitempty"`
	PublicAccess    string         `json:"publicNetworkAccess,omitempty"`
	VaultURI        string         `json:"vaultUri,omitempty"`

	Connections []privatelink.Shown `json:"privateEndpointConnections,omitempty"` // computed
}

// SKU is a vault's.
type SKU struct {
	Family string `json:"family,omitempty"`
	Name   string `json:"name,omitempty"`
}

// AccessPolicy gives a principal permissions in a vault without RBAC.
type AccessPolicy struct {
	TenantID      string      `json:"tenantId"`
	ObjectID      string      `json:"objectId"`
	ApplicationID string      `json:"applicationId,omitempty"` // only through this application
	Permissions   Permissions `json:"permissions"`
}

// Permissions are words of an access policy by kind of object.
type Permissions struct {
	Keys         []string `json:"keys,omitempty"`
	Secrets      []string `json:"secrets,omitempty"`
	Certificates []string `json:"certificates,omitempty"`
	Storage      []string `json:"storage,omitempty"`
}

const maxPolicies = 1024

func lower(s string) string { return strings.ToLower(s) }

func bad(target, format string, args ...any) *apierr.Error {
	return apierr.New(apierr.BadRequest, "BadRequest", format, args...).WithTarget(target)
}

// checkVaultName keeps the rule of vault names, which are host names too.
func checkVaultName(name string) error {
	ok := len(name) >= 3 && len(name) <= 24 && !strings.Contains(name, "--")
	for i := range len(name) {
		c := name[i] | 0x20
		letter, digit := c >= 'a' && c <= 'z', name[i] >= '0' && name[i] <= '9'
		first, last := i == 0, i == len(name)-1
		ok = ok && (letter || digit && !first || name[i] == '-' && !first && !last)
	}
	if !ok {
		return apierr.New(apierr.BadRequest, "VaultNameNotValid",
			"The vault name '%s' is invalid. A vault's name must be between 3-24 alphanumeric characters. The name must begin with a letter, end with a letter or digit, and not contain consecutive hyphens. Follow this link for more information: https://go.microsoft.com/fwlink/?linkid=2147742", name)
	}
	return nil
}

// complete gives next its defaults, keeps what cannot be taken back, and for
// createMode recover takes over the deleted vault's properties.
func (p *provider) complete(ctx context.Context, old, next *arm.Resource[Properties]) error {
	n := &next.Properties
	if old == nil && strings.EqualFold(n.CreateMode, "recover") {
		rec, err := p.names.Get(ctx, next.ID.Name())
		if err != nil {
			return err
		}
		// In another group the contents would be whoever's may write there.
		if rec == nil || rec.Deleted == nil || !rid.MustParse(rec.ID).Equal(next.ID) {
			return apierr.New(apierr.NotFound, "DeletedVaultNotFound", "The vault '%s' cannot be recovered: no vault of this name was deleted in the resource group '%s'.", next.ID.Name(), next.ID.ResourceGroup())
		}
		if rec.Location != next.Location {
			return bad("location", "The deleted vault '%s' is in the location '%s' and can only be recovered there.", rec.Name, rec.Location)
		}
		*n, next.Tags = rec.Properties, rec.Tags
		next.Private[recoverKey] = rec.UID
		return nil
	}
	if n.AccessPolicies == nil {
		n.AccessPolicies = []AccessPolicy{}
	}
	if n.PublicAccess == "" {
		n.PublicAccess = "Enabled"
	}
	yes, no, days := true, false, 90
	if old != nil {
		if n.RetentionDays == nil {
			n.RetentionDays = old.Properties.RetentionDays
		}
		if n.PurgeProtection == nil {
			n.PurgeProtection = old.Properties.PurgeProtection
		}
		if n.RBAC == nil {
			n.RBAC = old.Properties.RBAC
		}
	}
	if n.RetentionDays == nil {
		n.RetentionDays = &days
	}
	if n.SoftDelete == nil {
		n.SoftDelete = &yes
	}
	if n.RBAC == nil {
		n.RBAC = &no
	}
	if n.Deployment == nil {
		n.Deployment = &no
	}
	n.Network.Complete("AzureServices")
	return nil
}

// validate refuses what Azure refuses, and what would promise a protection
// that is not there.
func (p *provider) validate(ctx context.Context, old, next *arm.Resource[Properties]) error {
	n := &next.Properties
	if err := n.check(p.TenantID); err != nil {
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
		if o := old.Properties.RetentionDays; o != nil && *n.RetentionDays != *o {
			return bad("properties.softDeleteRetentionInDays", `The property "softDeleteRetentionInDays" has been set already and it can't be modified.`)
		}
		return p.validateModel(ctx, old, next)
	}
	return p.nameFree(ctx, next)
}

// validateModel demands the right to assign roles from whoever changes who
// decides about the data: with access policies everybody decides who may write
// the vault. Source: "Migrate from vault access policy to an Azure role-based
// access control permission model", prerequisites.
func (p *provider) validateModel(ctx context.Context, old, next *arm.Resource[Properties]) error {
	was, is := old.Properties.RBAC, next.Properties.RBAC
	if (was != nil && *was) == (is != nil && *is) {
		return nil
	}
	return arm.Authorise(ctx, "Microsoft.Authorization/roleAssignments/write", next.ID)
}

func (n *Properties) check(tenant string) error {
	if !slices.Contains([]string{"", "default", "recover"}, lower(n.CreateMode)) {
		return bad("properties.createMode", "The createMode '%s' is neither 'default' nor 'recover'.", n.CreateMode)
	}
	if n.TenantID == "" {
		return bad("properties.tenantId", "The parameter tenantId is not specified.")
	}
	if !strings.EqualFold(n.TenantID, tenant) {
		return bad("properties.tenantId", "The tenant '%s' is not that of the subscription, '%s'. A vault that trusts another tenant is not supported.", n.TenantID, tenant)
	}
	if n.SKU == nil || n.SKU.Name == "" {
		return bad("properties.sku", "The parameter sku is not specified.")
	}
	if n.SKU.Family != "" && !strings.EqualFold(n.SKU.Family, "A") {
		return bad("properties.sku.family", "The SKU family '%s' is not 'A'.", n.SKU.Family)
	}
	if strings.EqualFold(n.SKU.Name, "premium") {
		return bad("properties.sku.name", "The SKU 'premium' promises keys in a hardware security module, and this service has none. Use 'standard', whose keys are protected by software.")
	}
	if !strings.EqualFold(n.SKU.Name, "standard") {
		return bad("properties.sku.name", "The SKU '%s' is not 'standard'.", n.SKU.Name)
	}
	if !*n.SoftDelete {
		return bad("properties.enableSoftDelete", `The property "enableSoftDelete" can't be set to false: soft delete is always on.`)
	}
	if n.PurgeProtection != nil && !*n.PurgeProtection {
		return bad("properties.enablePurgeProtection", `The property "enablePurgeProtection" cannot be set to false. Enabling the purge protection for a vault is an irreversible action.`)
	}
	if d := *n.RetentionDays; d < 7 || d > 90 {
		return bad("properties.softDeleteRetentionInDays", "The property softDeleteRetentionInDays must be from 7 to 90, not %d.", d)
	}
	if !strings.EqualFold(n.PublicAccess, "Enabled") && !strings.EqualFold(n.PublicAccess, "Disabled") {
		return bad("properties.publicNetworkAccess", "The value '%s' of publicNetworkAccess is neither 'Enabled' nor 'Disabled'.", n.PublicAccess)
	}
	if err := n.Network.Check("vault"); err != nil {
		return err
	}
	return checkPolicies(n.AccessPolicies, tenant)
}

// words are the permissions of access policies by kind of object.
func words() map[string][]string {
	return map[string][]string{
		"keys": {
			"all", "get", "list", "update", "create", "import", "delete", "recover", "backup", "restore", "purge", "encrypt", "decrypt",
			"sign", "verify", "wrapkey", "unwrapkey", "release", "rotate", "getrotationpolicy", "setrotationpolicy",
		},
		"secrets": {"all", "get", "list", "set", "delete", "recover", "backup", "restore", "purge"},
		"certificates": {
			"all", "get", "list", "update", "create", "import", "delete", "recover", "backup", "restore", "purge", "managecontacts",
			"manageissuers", "getissuers", "listissuers", "setissuers", "deleteissuers",
		},
		"storage": {
			"all", "get", "list", "delete", "set", "update", "regeneratekey", "recover", "purge", "backup", "restore",
			"setsas", "listsas", "getsas", "deletesas",
		},
	}
}

func checkPolicies(list []AccessPolicy, tenant string) error {
	if len(list) > maxPolicies {
		return bad("properties.accessPolicies", "There are %d access policies; at most %d are allowed.", len(list), maxPolicies)
	}
	for i, a := range list {
		target := fmt.Sprintf("properties.accessPolicies[%d]", i)
		if !strings.EqualFold(a.TenantID, tenant) {
			return bad(target+".tenantId", "An access policy has the tenant '%s'; it must be the vault's, '%s'.", a.TenantID, tenant)
		}
		if a.ObjectID == "" {
			return bad(target+".objectId", "An access policy names no objectId.")
		}
		for kind, have := range map[string][]string{"keys": a.Permissions.Keys, "secrets": a.Permissions.Secrets, "certificates": a.Permissions.Certificates, "storage": a.Permissions.Storage} {
			for _, w := range have {
				if !slices.Contains(words()[kind], lower(w)) {
					return bad(target+".permissions."+kind, "'%s' is not a permission for %s. Known ones are %s.", w, kind, strings.Join(words()[kind], ", "))
				}
			}
		}
	}
	return nil
}
