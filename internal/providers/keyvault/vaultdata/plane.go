package vaultdata

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm/privatelink"
	"lazurite.dev/internal/arrival"
	"lazurite.dev/internal/gate"
	"lazurite.dev/internal/providers/keyvault"
	"lazurite.dev/internal/rbac"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/token"
	"lazurite.dev/internal/trace"
	"lazurite.dev/internal/web"
)

// Family is one set of names under which vaults are reached.
type Family struct {
	Suffix    string // of host names: ".vault.azure.net", without a port
	Authority string // "https://login.microsoftonline.com", no slash at the end
	Resource  string // what tokens are asked for: "https://vault.azure.net"
}

// PlaneConfig is what NewPlane needs.
type PlaneConfig struct {
	Gate     gate.Config
	Names    *keyvault.Registry
	Objects  *Objects
	Families []Family

	// Groups gives a principal's own object id and its groups', nothing of one
	// that is not in the directory any more.
	Groups func(oid string) ([]string, error)

	Links     *privatelink.Links // private endpoints' connections; nil: there are none
	AzureLike bool               // keep Azure's limits of transactions
	Now       func() time.Time   // for them; nil means time.Now
}

// plane answers the data plane of all vaults.
type plane struct {
	PlaneConfig
	rates rates

	mu      sync.RWMutex // guards targets
	targets map[string]*resolved
}

// maxTargets bounds the host names whose vaults are kept ready.
const maxTargets = 4096

// resolved is a vault as a host name found it, good while the record is the same.
type resolved struct {
	record *keyvault.Record
	target *gate.Target
}

// target is what the plane knows of a vault in one request.
type target struct {
	vault  *Vault
	family Family
	record *keyvault.Record
}

// NewPlane makes the handler of Key Vault's data plane.
func NewPlane(c PlaneConfig) *gate.Handler {
	if c.Now == nil {
		c.Now = time.Now
	}
	p := &plane{PlaneConfig: c}
	var audiences []string
	for _, f := range c.Families {
		audiences = append(audiences, f.Resource, f.Resource+"/")
	}
	return gate.New(c.Gate, gate.Plane{
		Name: "keyvault", Audiences: audiences, Operations: p.operations(), MethodHeader: "X-HTTP-METHOD",
		Resolve: p.resolve, Version: p.version, Challenge: p.challenge, Headers: p.headers,
		WriteError: writeError, RefuseNetwork: refuseNetwork, RefuseRole: refuseRole,
		OpenFirewall: func(id rid.ID, client netip.Addr) string {
			return "az keyvault network-rule add --name " + id.Name() + " --ip-address " + client.String()
		},
	})
}

// resolve finds the vault of a host name.
func (p *plane) resolve(ctx context.Context, r *http.Request) (*gate.Target, error) {
	host := lower(r.Host)
	bare := host
	if h, _, err := net.SplitHostPort(bare); err == nil {
		bare = h
	}
	for _, f := range p.Families {
		name, ok := strings.CutSuffix(bare, f.Suffix)
		if !ok || strings.Contains(name, ".") {
			continue
		}
		rec, err := p.Names.Get(ctx, name)
		if err != nil {
			return nil, err
		}
		if rec == nil || rec.Deleted != nil || rec.Purging {
			return nil, apierr.New(apierr.NotFound, "VaultNotFound", "There is no vault '%s'. If it was deleted, it may be recovered.", name)
		}
		return p.target(rec, f, host)
	}
	return nil, apierr.New(apierr.NotFound, "VaultNotFound", "The host name '%s' names no vault.", clip(host))
}

// target is what the gate has to know, kept until the record changes.
func (p *plane) target(rec *keyvault.Record, f Family, host string) (*gate.Target, error) {
	p.mu.RLock()
	old := p.targets[host]
	p.mu.RUnlock()
	if old != nil && old.record == rec {
		return old.target, nil
	}
	t, err := p.makeTarget(rec, f, host)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.targets == nil || len(p.targets) >= maxTargets {
		p.targets = map[string]*resolved{}
	}
	p.targets[host] = &resolved{rec, t}
	return t, nil
}

func (p *plane) makeTarget(rec *keyvault.Record, f Family, host string) (*gate.Target, error) {
	id, err := rid.Parse(rec.ID)
	if err != nil {
		return nil, err
	}
	props := rec.Properties
	v := &Vault{
		UID: rec.UID, URI: "https://" + strings.TrimSuffix(host, ":443"), TenantID: props.TenantID, SubscriptionID: id.Subscription(),
		RetentionDays: 90, PurgeProtection: props.PurgeProtection != nil && *props.PurgeProtection,
	}
	if props.RetentionDays != nil {
		v.RetentionDays = *props.RetentionDays
	}
	t := &gate.Target{ID: id, Location: rec.Location, Network: props.Network.Network(props.PublicAccess), Data: &target{v, f, rec}}
	t.Network.Service = keyvault.Namespace
	t.Network.Approved = p.Links.Gate(id)
	if props.RBAC == nil || !*props.RBAC {
		t.Authorize = p.byPolicy
	}
	return t, nil
}

// byPolicy judges a call by the vault's access policies.
func (p *plane) byPolicy(c *gate.Call, op *gate.Operation) error {
	kind, word, _ := strings.Cut(op.Permission, "/")
	ids, err := p.Groups(c.Caller.ObjectID)
	if err != nil {
		return err
	}
	t := c.Target.Data.(*target)
	for _, a := range t.record.Properties.AccessPolicies {
		if a.ApplicationID != "" && !strings.EqualFold(a.ApplicationID, c.Caller.AppID) {
			continue
		}
		if !slices.ContainsFunc(ids, func(id string) bool { return strings.EqualFold(id, a.ObjectID) }) {
			continue
		}
		words := map[string][]string{"keys": a.Permissions.Keys, "secrets": a.Permissions.Secrets, "certificates": a.Permissions.Certificates}[kind]
		if slices.ContainsFunc(words, func(w string) bool { return strings.EqualFold(w, word) || strings.EqualFold(w, "all") }) {
			return nil
		}
	}
	trace.Add(c.Context, trace.Hop{
		Step: "policy", Subject: c.Target.ID.String(), Expected: kind + " " + word, Received: c.Caller.ObjectID,
		Found: "the vault decides by access policies, and none gives the caller this permission; role assignments do not count in it",
		Fix:   "az keyvault set-policy --name " + c.Target.ID.Name() + " --object-id " + c.Caller.ObjectID + " --" + strings.TrimSuffix(kind, "s") + "-permissions " + word,
	})
	return apierr.New(apierr.Forbidden, "Forbidden",
		"The user, group or application '%s;numgroups=%d;iss=%s' does not have %s %s permission on key vault '%s;location=%s'. For help resolving this issue, please see https://go.microsoft.com/fwlink/?linkid=2125287",
		callerIDs(c), max(0, len(ids)-1), callerIssuer(c), kind, word, c.Target.ID.Name(), c.Target.Location).WithInner("ForbiddenByPolicy")
}

func callerIDs(c *gate.Call) string {
	return "appid=" + c.Caller.AppID + ";oid=" + c.Caller.ObjectID
}

func callerIssuer(c *gate.Call) string { return "https://sts.windows.net/" + c.Caller.TenantID + "/" }

// callerLine names the caller as refusals do; a request without a token has none.
func callerLine(c *gate.Call) string {
	if c.Caller == nil {
		return "Caller: (no token)"
	}
	return "Caller: " + callerIDs(c) + ";iss=" + callerIssuer(c)
}

func vaultLine(c *gate.Call) string {
	return "Vault: " + c.Target.ID.Name() + ";location=" + c.Target.Location
}

// refuseNetwork words the firewall's refusals.
func refuseNetwork(c *gate.Call, why gate.Blocked) *apierr.Error {
	if why == gate.BlockedConnection {
		return apierr.New(apierr.Forbidden, "Forbidden",
			"Public network access is disabled and request is not from a trusted service nor via an approved private link.\r\n%s\r\n%s", callerLine(c), vaultLine(c)).
			WithInner("ForbiddenByConnection")
	}
	return apierr.New(apierr.Forbidden, "Forbidden",
		"Client address is not authorized and caller is not a trusted service.\r\nClient address: %s\r\n%s\r\n%s",
		arrival.From(c.Context).Client, callerLine(c), vaultLine(c)).WithInner("ForbiddenByFirewall")
}

// refuseRole words the policy engine's refusal.
func refuseRole(c *gate.Call, action string, scope rid.ID, d rbac.Decision) *apierr.Error {
	deny, reason := "null", "DeniedWithNoValidRBAC"
	if d.Deny != "" {
		deny, reason = "'"+d.Deny+"'", "DeniedByDenyAssignment"
	}
	return apierr.New(apierr.Forbidden, "Forbidden",
		"Caller is not authorized to perform action on resource.\r\nIf role assignments, deny assignments or role definitions were changed recently, please observe propagation time.\r\n%s\r\nAction: '%s'\r\nResource: '%s'\r\nAssignment: (not found)\r\nDenyAssignmentId: %s\r\nDecisionReason: '%s' \r\n%s\r\n",
		callerLine(c), action, scope.Key(), deny, reason, vaultLine(c)).WithInner("ForbiddenByRbac")
}

// challenge is the WWW-Authenticate of a 401. Clients take the tenant from the
// authority's path and the resource as what to ask a token for.
func (p *plane) challenge(h http.Header, t *gate.Target) {
	d := t.Data.(*target)
	h.Set("WWW-Authenticate", `Bearer authorization="`+d.family.Authority+"/"+d.vault.TenantID+`", resource="`+d.family.Resource+`"`)
}

// servedHeader tells a client that its api-version is newer than any that is
// known, and which one it was served.
const servedHeader = "x-laz-served-api-version"

// headers are on every answer of a vault.
func (p *plane) headers(h http.Header, c *gate.Call) {
	h.Set("Cache-Control", "no-cache")
	h.Set("Pragma", "no-cache")
	h.Set("Expires", "-1")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Strict-Transport-Security", "max-age=31536000;includeSubDomains")
	h.Set("X-Ms-Keyvault-Service-Version", "1.9.3000.0")
	if c.Target == nil {
		return
	}
	h.Set("X-Ms-Keyvault-Region", c.Target.Location)
	if a := arrival.From(c.Context); a.Client.IsValid() {
		kind, family := "Ipv6", "InterNetworkV6"
		if a.Client.Is4() {
			kind, family = "Ipv4", "InterNetwork"
		}
		h.Set("X-Ms-Keyvault-Network-Info", "conn_type="+kind+";addr="+a.Client.String()+";act_addr_fam="+family+";")
	}
	if c.APIVersion != "" && !strings.EqualFold(c.APIVersion, askedVersion(c.Request)) {
		h.Set(servedHeader, c.APIVersion)
	}
}

// writeError puts a refusal into Key Vault's words.
// Source: Key Vault REST API, "Authentication, requests and responses".
func writeError(w http.ResponseWriter, _ *gate.Call, e *apierr.Error) {
	code, message := e.Code, e.Message
	switch {
	case e.Kind == apierr.Unauthorized:
		code, message = "Unauthorized", tokenMessage(e)
	case e.Kind == apierr.BadRequest && !slices.Contains([]string{"BadParameter", "Unauthorized"}, code):
		code = "BadParameter"
	}
	body := map[string]any{"code": code, "message": message}
	if e.Inner != "" {
		body["innererror"] = map[string]any{"code": e.Inner}
	}
	web.WriteJSON(w, e.Kind.Status(), map[string]any{"error": body})
}

// tokenMessage is the text of a 401.
func tokenMessage(e *apierr.Error) string {
	switch e.Code {
	case token.CodeMissing:
		return "AKV10000: Request is missing a Bearer or PoP token."
	case token.CodeSignature:
		return "AKV10046: Unable to resolve the key used for signature validation. " + e.Message
	case token.CodeAudience:
		return "AKV10022: Invalid audience. " + e.Message
	case token.CodeIssuer:
		return "AKV10032: Invalid issuer. " + e.Message
	default:
		return "AKV10001: The token was not accepted. " + e.Message
	}
}
