// Package explain answers why: why a request was refused, and whether a
// workload would get through, hop by hop, before it tries. It is served as
// endpoints of the management plane under the namespace Lazurite.Explain, so
// that who may ask is decided as everywhere else.
package explain

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/gate"
	"lazurite.dev/internal/rbac"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
	"lazurite.dev/internal/trace"
)

// Refusals are the recorded ones.
type Refusals interface {
	Find(ctx context.Context, id string, want func(trace.Trace) bool) (trace.Trace, error)
	Last(ctx context.Context, want func(trace.Trace) bool) (trace.Trace, error)
	List(ctx context.Context, want func(trace.Trace) bool, limit int) ([]trace.Trace, error)
}

// Answers are requests that were answered of late; nil: none are kept.
type Answers interface {
	Find(id string, want func(trace.Trace) bool) (trace.Trace, bool)
}

// Policy decides, and leaves in the trace of ctx what it found.
type Policy interface {
	Check(ctx context.Context, oid, action string, data bool, scope rid.ID) (rbac.Decision, error)
}

// Plane works out what a URL of a data plane would ask for.
type Plane interface {
	Preview(ctx context.Context, method string, u *url.URL) (gate.Preview, error)
}

// Config is what explaining needs to see.
type Config struct {
	Resources arm.Resources
	Refusals  Refusals
	Answers   Answers
	NotFound  error // what Find and Last give when there is nothing
	Policy    Policy
	Plane     func(host string) Plane // nil when no data plane owns the host
	Matches   func(expression string, claims map[string]any) (bool, error)
	Open      Opens        // of clusters, for pods
	Apps      Applications // nil: pods act as managed identities alone
	Tenant    string       // GUID

	// Owns reports whether host is a container registry of this cloud's; nil:
	// none is.
	Owns func(host string) bool

	// MayRead refuses whoever may not see what runs in a cluster. Nil: whoever
	// may not get credentials of it.
	MayRead func(ctx context.Context, cluster *arm.Envelope) error
}

const (
	namespace = "Lazurite.Explain"
	read      = namespace + "/refusals/read" // all refusals, not one's own alone
)

type provider struct{ cfg Config }

// New makes the provider.
func New(cfg Config) arm.Provider {
	p := &provider{cfg}
	base := "/subscriptions/{subscriptionId}/providers/" + namespace
	versions := []string{"2026-01-01"}
	return arm.Provider{Namespace: namespace, Endpoints: []arm.Endpoint{
		{Method: http.MethodGet, Path: base + "/refusals", Action: read, Less: true, APIVersions: versions, Handle: p.list},
		{Method: http.MethodGet, Path: base + "/refusals/{id}", Action: read, Less: true, APIVersions: versions, Handle: p.show},
		{Method: http.MethodPost, Path: base + "/explain", Action: namespace + "/explain/read", APIVersions: versions, Handle: p.ahead},
	}}
}

const listed = 100

// shown says which refusals the caller may see: with the right to read them
// all, else those of its own requests, which tell it nothing that a refusal
// does not.
func shown(ctx context.Context, r *arm.Request) (func(trace.Trace) bool, error) {
	err := arm.Authorise(ctx, read, rid.MustParse("/subscriptions/"+r.Params["subscriptionId"]))
	if err != nil && !apierr.Is(err, apierr.Forbidden) {
		return nil, err
	}
	all, oid := err == nil, arm.Caller(ctx).ObjectID
	return func(t trace.Trace) bool { return all || oid != "" && t.Principal == oid }, nil
}

func (p *provider) list(ctx context.Context, r *arm.Request) (*arm.Response, error) {
	may, err := shown(ctx, r)
	if err != nil {
		return nil, err
	}
	list, err := p.cfg.Refusals.List(ctx, may, listed)
	if err != nil {
		return nil, err
	}
	if list == nil {
		list = []trace.Trace{}
	}
	return &arm.Response{Body: map[string]any{"value": list}}, nil
}

func (p *provider) show(ctx context.Context, r *arm.Request) (*arm.Response, error) {
	may, err := shown(ctx, r)
	if err != nil {
		return nil, err
	}
	id := r.Params["id"]
	var t trace.Trace
	if strings.EqualFold(id, "last") {
		t, err = p.cfg.Refusals.Last(ctx, may)
	} else {
		t, err = p.cfg.Refusals.Find(ctx, id, may)
	}
	if errors.Is(err, p.cfg.NotFound) && p.cfg.Answers != nil {
		if a, ok := p.cfg.Answers.Find(id, may); ok {
			return &arm.Response{Body: a}, nil
		}
	}
	if errors.Is(err, p.cfg.NotFound) {
		return nil, apierr.New(apierr.NotFound, "RefusalNotFound",
			"No refusal with the request or correlation id '%s' that you may see is on record. The newest 1000 of the last 7 days are kept.", id)
	}
	if err != nil {
		return nil, err
	}
	return &arm.Response{Body: t}, nil
}

// question is the body of POST …/explain.
type question struct {
	Namespace      string `json:"namespace"`
	ServiceAccount string `json:"serviceAccount"`
	Pod            string `json:"pod"`       // NAMESPACE/NAME, instead of a service account
	Cluster        string `json:"cluster"`   // name or resource id; "" is the only one there is
	Principal      string `json:"principal"` // object id, instead of a service account
	To             string `json:"to"`        // URL of a data plane, or resource id; "" asks of a service account whether it gets a token at all
	Method         string `json:"method"`    // of a URL; "" is GET, or what the path takes
	Action         string `json:"action"`    // "" is what To implies
}

// Answer is what POST …/explain gives.
type Answer struct {
	Allowed bool        `json:"allowed"`
	Who     string      `json:"who"`
	What    string      `json:"what"`
	Hops    []trace.Hop `json:"hops"`

	Refusals []trace.Trace `json:"refusals,omitempty"` // the last ones of a pod's identity
}

// chain walks the hops; the first that fails decides, and the others are still
// looked at as far as they can be.
type chain struct {
	p   *provider
	ctx context.Context
	sub rid.ID
	q   question
	out Answer

	under string // resource id of the identity whose credentials count; "" is any
}

func (p *provider) ahead(ctx context.Context, r *arm.Request) (*arm.Response, error) {
	c := &chain{p: p, ctx: ctx, sub: rid.MustParse("/subscriptions/" + r.Params["subscriptionId"])}
	if err := json.Unmarshal(r.Body, &c.q); err != nil {
		return nil, apierr.New(apierr.BadRequest, "InvalidRequestContent", "The request content was invalid: %v.", err)
	}
	if c.q.Pod == "" && c.q.Principal == "" && (c.q.Namespace == "" || c.q.ServiceAccount == "") || c.q.Principal != "" && (c.q.To == "" || c.q.Pod != "") {
		return nil, apierr.New(apierr.BadRequest, "InvalidRequestContent", "The request needs 'principal' and 'to', or 'namespace' and 'serviceAccount', or 'pod'.")
	}
	c.out.Allowed = true
	c.out.What = strings.TrimSpace(c.q.Method + " " + c.q.To)
	oid := c.q.Principal
	c.out.Who = oid
	if c.q.Pod != "" {
		var err error
		c.out.Who = "pod " + c.q.Pod
		if oid, err = c.workload(); err != nil {
			return nil, err
		}
	} else if oid == "" {
		var err error
		c.out.Who = "system:serviceaccount:" + c.q.Namespace + ":" + c.q.ServiceAccount
		if oid, err = c.identity(); err != nil {
			return nil, err
		}
	}
	if c.q.To == "" {
		c.out.What = "a token of a managed identity"
		return &arm.Response{Body: c.out}, nil
	}
	if err := c.target(oid); err != nil {
		return nil, err
	}
	return &arm.Response{Body: c.out}, nil
}

func (c *chain) hop(h trace.Hop) {
	c.out.Hops = append(c.out.Hops, h)
	c.out.Allowed = c.out.Allowed && h.OK
}

// identity climbs from service account to principal; "" when the chain breaks.
func (c *chain) identity() (string, error) {
	e, err := c.find()
	if err != nil || e == nil {
		return "", err
	}
	issuer := c.issuer(e)
	if issuer == "" {
		return "", nil
	}
	fic, err := c.credential(issuer)
	if err != nil || fic == nil {
		return "", err
	}
	id, err := c.p.cfg.Resources.Get(c.ctx, fic.RID().Parent())
	if err != nil {
		return "", fmt.Errorf("read the identity: %w", err)
	}
	oid, _ := id.Properties["principalId"].(string)
	c.hop(trace.Hop{Step: "identity", Subject: id.ID, OK: oid != "", Found: fmt.Sprintf("client id %v, principal id %s", id.Properties["clientId"], oid)})
	return oid, nil
}

const clusterType = "Microsoft.ContainerService/managedClusters"

// find finds the cluster; nil when it is not one.
func (c *chain) find() (*arm.Envelope, error) {
	all, err := c.p.cfg.Resources.List(c.ctx, c.sub, clusterType, "", 1000)
	if err != nil {
		return nil, err
	}
	var found []*arm.Envelope
	var names []string
	for _, e := range all {
		names = append(names, e.Name)
		if c.q.Cluster == "" || strings.EqualFold(e.Name, c.q.Cluster) || strings.EqualFold(e.ID, c.q.Cluster) {
			found = append(found, e)
		}
	}
	if len(found) != 1 {
		c.hop(trace.Hop{Step: "cluster", Subject: c.q.Cluster, Found: c.which(len(found), names), Fix: clusterFix(names)})
		return nil, nil
	}
	return found[0], nil
}

// issuer is the URL of the cluster's issuer; "" when it has none.
func (c *chain) issuer(e *arm.Envelope) string {
	profile, _ := e.Properties["oidcIssuerProfile"].(map[string]any)
	issuer, _ := profile["issuerURL"].(string)
	if on, _ := profile["enabled"].(bool); !on || issuer == "" {
		c.hop(trace.Hop{Step: "issuer", Subject: e.ID, Found: "the cluster's OIDC issuer is off", Fix: fix("az aks update --name %s --resource-group %s --enable-oidc-issuer", e.Name, e.RID().ResourceGroup())})
		return ""
	}
	c.hop(trace.Hop{Step: "issuer", Subject: issuer, OK: true, Found: "the issuer of cluster " + e.Name})
	return issuer
}

// which says why it is not one cluster.
func (c *chain) which(fit int, names []string) string {
	slices.Sort(names)
	switch {
	case len(names) == 0:
		return "there is no cluster"
	case fit == 0:
		return "no cluster has this name; there are: " + strings.Join(names, ", ")
	case c.q.Cluster == "":
		return "there are several clusters, name one with --cluster: " + strings.Join(names, ", ")
	}
	return "several clusters have this name; give the id of one"
}

// clusterFix makes the first cluster; with several, the person chooses.
func clusterFix(names []string) string {
	if len(names) > 0 {
		return ""
	}
	return "az aks create --name NAME --resource-group GROUP --enable-oidc-issuer --enable-workload-identity --generate-ssh-keys"
}

func fix(format string, args ...any) string { return fmt.Sprintf(format, args...) }

const identityType = "Microsoft.ManagedIdentity/userAssignedIdentities"

const ficType = "Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials"

const audience = "api://AzureADTokenExchange"

// credential finds the federated credential that fits, or the nearest one.
func (c *chain) credential(issuer string) (*arm.Envelope, error) {
	all, err := c.p.cfg.Resources.List(c.ctx, c.sub, ficType, "", 1000)
	if err != nil {
		return nil, err
	}
	subject := c.out.Who
	best, bestScore := (*arm.Envelope)(nil), 0
	elsewhere, mine := "", 0 // the identity that trusts the service account where another one is asked for
	for _, e := range all {
		s := c.score(e, issuer, subject)
		if c.under != "" && !strings.EqualFold(e.RID().Parent().String(), c.under) {
			if s == fits {
				elsewhere = e.RID().Parent().Name()
			}
			continue
		}
		mine++
		if s == fits {
			c.hop(trace.Hop{Step: "credential", Subject: e.ID, OK: true, Found: "issuer, subject and audience match"})
			return e, nil
		}
		if s > bestScore {
			best, bestScore = e, s
		}
	}
	if elsewhere != "" {
		c.hop(trace.Hop{Step: "credential", Subject: subject, Found: "another identity, " + elsewhere + ", trusts this service account, and this one does not",
			Fix: c.createUnder(issuer, subject)})
		return nil, nil
	}
	if best == nil {
		create, err := c.create(issuer, subject)
		if err != nil {
			return nil, err
		}
		c.hop(trace.Hop{Step: "credential", Subject: subject, Found: noneOf(mine), Fix: create})
		return nil, nil
	}
	c.differ(best, issuer, subject)
	return nil, nil
}

const fits = 1 << 10

// create is the command that makes a credential that fits: of the only identity
// there is, or of one to be named.
func (c *chain) create(issuer, subject string) (string, error) {
	if c.under != "" {
		return c.createUnder(issuer, subject), nil
	}
	all, err := c.p.cfg.Resources.List(c.ctx, c.sub, identityType, "", 2)
	if err != nil {
		return "", err
	}
	identity, group := "IDENTITY", "GROUP"
	if len(all) == 1 {
		identity, group = all[0].Name, all[0].RID().ResourceGroup()
	}
	return c.createFor(identity, group, issuer, subject), nil
}

// createUnder is createFor the identity that is asked for.
func (c *chain) createUnder(issuer, subject string) string {
	id := rid.MustParse(c.under) // as a stored resource has it
	return c.createFor(id.Name(), id.ResourceGroup(), issuer, subject)
}

func (c *chain) createFor(identity, group, issuer, subject string) string {
	name := strings.ReplaceAll(c.q.ServiceAccount, ".", "-") // a credential's name has no dots, and three letters
	if len(name) < 3 {
		name = c.q.Namespace + "-" + name
	}
	return fix("az identity federated-credential create --name %s --identity-name %s --resource-group %s --issuer %s --subject %s --audiences %s",
		name, identity, group, issuer, subject, audience)
}

func noneOf(n int) string {
	if n == 0 {
		return "there is no federated credential yet"
	}
	if n == 1 {
		return "the only federated credential there is trusts somebody else"
	}
	return fmt.Sprintf("none of %d federated credentials trusts this service account", n)
}

// score says how near a credential comes: fits, or a rank, 0 for a stranger.
func (c *chain) score(e *arm.Envelope, issuer, subject string) int {
	iss, sub, aud := ficOf(e)
	sameSub := sub == subject
	if expr := expression(e); expr != "" && c.p.cfg.Matches != nil {
		ok, err := c.p.cfg.Matches(expr, map[string]any{"sub": subject, "iss": issuer, "aud": audience})
		sameSub = ok && err == nil
	}
	switch {
	case iss == issuer && sameSub && aud == audience:
		return fits
	case iss == issuer && sameSub:
		return 6
	case iss == issuer && strings.EqualFold(sub, subject):
		return 5
	case sameSub && near(iss, issuer):
		return 4
	case sameSub:
		return 3
	case iss == issuer:
		return 2
	}
	return 0
}

func near(a, b string) bool {
	return strings.EqualFold(strings.TrimSuffix(a, "/"), strings.TrimSuffix(b, "/"))
}

func ficOf(e *arm.Envelope) (issuer, subject, aud string) {
	issuer, _ = e.Properties["issuer"].(string)
	subject, _ = e.Properties["subject"].(string)
	if list, _ := e.Properties["audiences"].([]any); len(list) > 0 {
		aud, _ = list[0].(string)
	}
	return issuer, subject, aud
}

func expression(e *arm.Envelope) string {
	m, _ := e.Properties["claimsMatchingExpression"].(map[string]any)
	s, _ := m["value"].(string)
	return s
}

// differ names what differs between the nearest credential and the token. A slip
// is mended where it is; one that trusts somebody else keeps on doing so, and
// another is made beside it.
func (c *chain) differ(e *arm.Envelope, issuer, subject string) {
	iss, sub, aud := ficOf(e)
	update := fix("az identity federated-credential update --name %s --identity-name %s --resource-group %s",
		e.Name, e.RID().Parent().Name(), e.RID().ResourceGroup())
	beside := c.createFor(e.RID().Parent().Name(), e.RID().ResourceGroup(), issuer, subject)
	h := trace.Hop{Step: "credential", Subject: e.ID}
	switch {
	case iss != issuer && near(iss, issuer) && !strings.EqualFold(iss, issuer):
		h.Found, h.Expected, h.Received, h.Fix = "the issuer differs only in a slash at its end", iss, issuer, update+" --issuer "+issuer
	case iss != issuer && strings.EqualFold(iss, issuer):
		h.Found, h.Expected, h.Received, h.Fix = "the issuer differs only in letter case", iss, issuer, update+" --issuer "+issuer
	case iss != issuer:
		h.Found, h.Expected, h.Received, h.Fix = "the issuer differs", iss, issuer, beside
	case expression(e) != "":
		h.Found, h.Expected, h.Received, h.Fix = "the claims matching expression does not match the subject", expression(e), subject, beside
	case sub != subject && strings.EqualFold(sub, subject):
		h.Found, h.Expected, h.Received, h.Fix = "the subject differs only in letter case", sub, subject, update+" --subject "+subject
	case sub != subject:
		h.Found, h.Expected, h.Received, h.Fix = "the subject differs", sub, subject, beside
	default:
		h.Found, h.Expected, h.Received, h.Fix = "the audience differs", aud, audience, update+" --audiences "+audience
	}
	c.hop(h)
}

// target looks at the other end: resource, network, role.
func (c *chain) target(oid string) error {
	action, data, scope := c.q.Action, true, rid.ID{}
	if strings.HasPrefix(c.q.To, "/") {
		id, err := rid.Parse(c.q.To)
		if err != nil {
			return apierr.New(apierr.BadRequest, "InvalidResourceId", "'%s' is no resource id: %v.", c.q.To, err)
		}
		if ok, err := c.resource(id); err != nil || !ok {
			return err
		}
		if action == "" {
			action, data = implied(id)
		} else {
			data = isData(action)
		}
		if scope = id; data && strings.EqualFold(id.Type(), deploymentType) {
			scope = id.Parent() // calls to a model are asked for at the account
		}
	} else {
		pv, ok, err := c.url()
		if err != nil || !ok {
			return err
		}
		scope = pv.Scope
		if action == "" {
			action, data = pv.Action, !pv.Manage
		}
	}
	c.out.What = action + " on " + scope.String()
	if oid == "" {
		return nil
	}
	return c.role(oid, action, data, scope)
}

// resource looks for the resource that the target is, or is an object in, and at
// the network before its data plane.
func (c *chain) resource(id rid.ID) (bool, error) {
	e, err := c.p.cfg.Resources.Get(c.ctx, id)
	if errors.Is(err, store.ErrNotFound) && isObject(id) {
		e, err = c.p.cfg.Resources.Get(c.ctx, id.Parent())
	}
	if errors.Is(err, store.ErrNotFound) {
		c.hop(trace.Hop{Step: "target", Subject: c.q.To, Found: "there is no such resource"})
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if strings.EqualFold(id.Type(), deploymentType) {
		if e, err = c.p.cfg.Resources.Get(c.ctx, id.Parent()); err != nil {
			return true, err
		}
	}
	if sub, _ := e.Properties["customSubDomainName"].(string); sub == "" && strings.EqualFold(e.RID().Type(), accountType) {
		c.hop(trace.Hop{
			Step: "target", Subject: e.ID, Found: "the account has no custom subdomain: under its region's name keys are taken and no tokens",
			Fix: fix("az cognitiveservices account update --name %s --resource-group %s --custom-domain %s", e.Name, e.RID().ResourceGroup(), e.Name),
		})
		return true, nil
	}
	uri, _ := e.Properties["vaultUri"].(string)
	path := "secrets"
	if uri == "" {
		uri, _ = e.Properties["endpoint"].(string)
		path = "openai/models"
	}
	u, err := url.Parse(uri)
	if uri == "" || err != nil || c.q.Action != "" && !isData(c.q.Action) {
		return true, nil
	}
	plane := c.p.cfg.Plane(u.Host)
	if plane == nil {
		return true, nil
	}
	pv, err := plane.Preview(c.ctx, http.MethodGet, u.JoinPath(path))
	if err != nil {
		return true, err
	}
	c.hop(asAsked(pv.Network))
	return true, nil
}

// The types of Azure OpenAI.
const (
	accountType    = "Microsoft.CognitiveServices/accounts"
	deploymentType = accountType + "/deployments"
)

// asAsked says whose address was judged: that of whoever asks, not the workload's.
func asAsked(h trace.Hop) trace.Hop {
	h.Found += " (judged for the address from which you ask)"
	return h
}

// isObject reports whether the id is that of an object in a vault, which is no
// resource but may be a scope of roles.
func isObject(id rid.ID) bool {
	switch strings.ToLower(id.Type()) {
	case "microsoft.keyvault/vaults/secrets", "microsoft.keyvault/vaults/keys", "microsoft.keyvault/vaults/certificates":
		return true
	}
	return false
}

// url asks the data plane behind a URL.
func (c *chain) url() (gate.Preview, bool, error) {
	u, err := url.Parse(c.q.To)
	if err != nil || u.Host == "" || u.Scheme != "https" {
		return gate.Preview{}, false, apierr.New(apierr.BadRequest, "InvalidRequestContent", "'to' is neither a resource id nor an https URL: '%s'.", c.q.To)
	}
	plane := c.p.cfg.Plane(u.Host)
	if plane == nil {
		c.hop(trace.Hop{Step: "target", Subject: u.Host, Found: "no data plane of this system has that name"})
		return gate.Preview{}, false, nil
	}
	pv, err := plane.Preview(c.ctx, strings.ToUpper(c.q.Method), u)
	if e, ok := errors.AsType[*apierr.Error](err); ok {
		c.hop(trace.Hop{Step: "target", Subject: c.q.To, Found: e.Message})
		return pv, false, nil
	}
	if err != nil {
		return pv, false, err
	}
	c.hop(trace.Hop{Step: "target", Subject: pv.Target.ID.String(), OK: true, Found: "stands behind " + u.Host})
	c.hop(asAsked(pv.Network))
	return pv, true, nil
}

// implied is what a workload usually wants of a resource.
func implied(id rid.ID) (action string, data bool) {
	switch strings.ToLower(id.Type()) {
	case "microsoft.keyvault/vaults", "microsoft.keyvault/vaults/secrets":
		return "Microsoft.KeyVault/vaults/secrets/getSecret/action", true
	case "microsoft.cognitiveservices/accounts", "microsoft.cognitiveservices/accounts/deployments":
		return "Microsoft.CognitiveServices/accounts/OpenAI/deployments/chat/completions/action", true
	default:
		return id.Type() + "/read", false
	}
}

// isData tells data actions of the planes that this system has.
func isData(action string) bool {
	a := strings.ToLower(action)
	for _, p := range []string{"microsoft.keyvault/vaults/secrets/", "microsoft.keyvault/vaults/keys/", "microsoft.keyvault/vaults/certificate", "microsoft.cognitiveservices/accounts/openai/"} {
		if strings.HasPrefix(a, p) {
			return true
		}
	}
	return false
}

// role asks the policy engine, which says itself what it found.
func (c *chain) role(oid, action string, data bool, scope rid.ID) error {
	ctx, log := trace.With(c.ctx)
	d, err := c.p.cfg.Policy.Check(ctx, oid, action, data, scope)
	if err != nil {
		return err
	}
	for _, h := range log.Hops() {
		c.hop(h)
	}
	c.out.Allowed = c.out.Allowed && d.Allowed
	return nil
}
