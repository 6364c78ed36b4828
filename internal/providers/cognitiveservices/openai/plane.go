// Package openai is the data plane of Azure OpenAI: chat, completions,
// embeddings, responses and the list of models, under the names of accounts
// and of their deployments, in front of the models of package inference.
//
// Source: Azure OpenAI REST API reference; "Azure OpenAI in Azure AI Foundry
// Models v1 API" for /openai/v1.
package openai

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/gate"
	"lazurite.dev/internal/inference"
	"lazurite.dev/internal/providers/cognitiveservices"
	"lazurite.dev/internal/rbac"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/token"
	"lazurite.dev/internal/trace"
)

// Accounts finds accounts and their deployments.
type Accounts interface {
	BySubdomain(ctx context.Context, label string) (*cognitiveservices.Account, error)
	ByKey(ctx context.Context, region, key string) (*cognitiveservices.Account, error)
	Deployment(ctx context.Context, account rid.ID, name string) (*cognitiveservices.Deployment, error)
	Deployments(ctx context.Context, account rid.ID) ([]*cognitiveservices.Deployment, error)
	Get(ctx context.Context, account rid.ID) (*cognitiveservices.Record, error)
}

// Models answers calls.
type Models interface {
	Models() []inference.Model
	Find(name, version string) (*inference.Model, bool)
	Do(ctx context.Context, model, version string, call *inference.Call) (*inference.Answer, error)
}

// Config is what New needs.
type Config struct {
	Gate     gate.Config
	Accounts Accounts
	Models   Models

	// Suffixes are the ends of the names of accounts with a subdomain of their
	// own, without a port: ".openai.azure.com". Regional are those of the names
	// of regions: ".api.cognitive.microsoft.com".
	Suffixes, Regional []string

	// Audiences are the resources whose tokens count.
	Audiences []string

	// Filter judges prompts and answers; nil: nothing is filtered, and no answer
	// says that it was.
	Filter *Filter

	// Replicas is how many servers divide a deployment's limits; 0 is one.
	Replicas int

	// Answers keeps what was answered, for explanations; nil: nothing is kept.
	Answers *trace.Recent

	Metrics prometheus.Registerer // nil: none
	Log     *slog.Logger          // nil discards
	Now     func() time.Time      // for limits; nil means time.Now

	// MostBodies is how many bytes of requests are held in memory at once, of
	// which one caller gets a quarter; 0 is 512 MiB.
	MostBodies int64

	// Stall is how long a client that reads nothing may keep a backend waiting
	// whose answer has filled the buffer; 0 is 30 seconds.
	Stall time.Duration
}

// MaxBody is the largest body in bytes that any operation takes: pictures come
// in messages.
const MaxBody = 32 << 20

// bodyTime is how long a client may take to send a request.
const bodyTime = 2 * time.Minute

// plane answers for all accounts.
type plane struct {
	Config
	quotas  quotas
	bodies  bodies
	meter   *meter
	regions map[string]string // display names
	client  *http.Client      // for the filter
}

// New makes the handler of the data plane. It fails when Metrics has its
// metrics already.
func New(c Config) (*gate.Handler, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.MostBodies == 0 {
		c.MostBodies = mostBodies
	}
	if c.Stall == 0 {
		c.Stall = stall
	}
	p := &plane{client: filterClient(), Config: c, quotas: quotas{now: c.Now}, bodies: bodies{most: c.MostBodies}, regions: map[string]string{}}
	for _, l := range arm.Locations() {
		p.regions[l.Name] = l.Display
	}
	var err error
	if p.meter, err = newMeter(c.Metrics); err != nil {
		return nil, err
	}
	return gate.New(c.Gate, gate.Plane{
		Name: "openai", Audiences: c.Audiences, Operations: p.operations(), BodyTime: bodyTime,
		Resolve: p.resolve, Key: p.key, Version: p.version, Limit: p.limit, Headers: p.headers,
		WriteError: func(w http.ResponseWriter, c *gate.Call, e *apierr.Error) { p.refusal(c, e); writeError(w, c, e) }, RefuseNetwork: refuseNetwork, RefuseRole: refuseRole,
		OpenFirewall: func(id rid.ID, client netip.Addr) string {
			return "az cognitiveservices account network-rule add --name " + id.Name() + " --resource-group " + id.ResourceGroup() + " --ip-address " + client.String()
		},
		Keep: keep, Answers: c.Answers,
	}), nil
}

// resolve finds the account of a request: by the subdomain, or in the name of
// a region by its key.
func (p *plane) resolve(ctx context.Context, r *http.Request) (*gate.Target, error) {
	host := strings.ToLower(r.Host)
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	for _, suffix := range p.Suffixes {
		if label, ok := strings.CutSuffix(host, suffix); ok && !strings.Contains(label, ".") {
			a, err := p.Accounts.BySubdomain(ctx, label)
			return target(a, err)
		}
	}
	for _, suffix := range p.Regional {
		if region, ok := strings.CutSuffix(host, suffix); ok && !strings.Contains(region, ".") {
			return p.regional(ctx, r, region)
		}
	}
	return nil, notFound()
}

// regional finds the account that has the key of a request.
func (p *plane) regional(ctx context.Context, r *http.Request, region string) (*gate.Target, error) {
	key := keyOf(r)
	if key == "" {
		if r.Header.Get("Authorization") == "" {
			return nil, wrongKey()
		}
		trace.Add(ctx, trace.Hop{
			Step: "target", Subject: r.Host, Found: "the name of a region stands for all its accounts, and a token says of none; an account with a subdomain has a name of its own",
			Fix: "az cognitiveservices account update --name ACCOUNT --resource-group GROUP --custom-domain SUBDOMAIN",
		})
		return nil, apierr.New(apierr.BadRequest, codeSubdomain, "Please provide a custom subdomain for token authentication, otherwise API key is required.")
	}
	a, err := p.Accounts.ByKey(ctx, region, key)
	if apierr.Is(err, apierr.NotFound) {
		trace.Add(ctx, trace.Hop{
			Step: "key", Subject: r.Host, Found: "no account of this region without a subdomain has the key",
			Fix: "az cognitiveservices account keys list --name ACCOUNT --resource-group GROUP",
		})
		return nil, wrongKey()
	}
	return target(a, err)
}

func target(a *cognitiveservices.Account, err error) (*gate.Target, error) {
	if apierr.Is(err, apierr.NotFound) {
		return nil, notFound().WithCause(err)
	}
	if err != nil {
		return nil, err
	}
	return &gate.Target{ID: a.ID, Location: a.Location, Network: a.Network, Data: a}, nil
}

func account(c *gate.Call) *cognitiveservices.Account {
	return c.Target.Data.(*cognitiveservices.Account)
}

// keyOf is the key that a request brings, "" where it brings none: in a header
// of its own, or under /openai/v1 as what OpenAI's clients think to be theirs.
func keyOf(r *http.Request) string {
	for _, name := range []string{"Api-Key", "Ocp-Apim-Subscription-Key"} {
		if k := r.Header.Get(name); k != "" {
			return k
		}
	}
	scheme, raw, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	raw = strings.TrimSpace(raw)
	if !strings.EqualFold(scheme, "Bearer") || !isV1(r.URL.Path) || strings.Count(raw, ".") == 2 {
		return ""
	}
	return raw
}

// isV1 reports whether a path is one of the surface without api-versions.
func isV1(path string) bool {
	segs := strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
	return len(segs) > 1 && strings.EqualFold(segs[0], "openai") && strings.EqualFold(segs[1], "v1")
}

// keyName is how logs and explanations call whoever brought a key.
const keyName = "account key"

// key judges an account's key.
func (p *plane) key(c *gate.Call) (string, error) {
	key := keyOf(c.Request)
	if key == "" {
		return "", nil
	}
	a := account(c)
	hop := trace.Hop{Step: "key", Subject: a.ID.String()}
	switch {
	case a.LocalAuthDisabled:
		hop.Found = "the account takes no keys (disableLocalAuth): bring a token of a principal with a role"
		hop.Fix = "az resource update --ids " + a.ID.String() + " --set properties.disableLocalAuth=false"
		trace.Add(c.Context, hop)
		return "", apierr.New(apierr.Forbidden, "AuthenticationTypeDisabled", "Key based authentication is disabled for this resource.")
	case !a.HasKey(key):
		hop.Found = "the key is none of the account's two: it is another account's, or was regenerated"
		hop.Fix = "az cognitiveservices account keys list --name " + a.ID.Name() + " --resource-group " + a.ID.ResourceGroup()
		trace.Add(c.Context, hop)
		return "", wrongKey()
	}
	trace.From(c.Context).AddLate(func() trace.Hop {
		return trace.Hop{Step: "key", Subject: a.ID.String(), OK: true, Found: "one of the account's keys; no role is needed"}
	})
	return keyName, nil
}

// who tells callers apart, for limits and the backends' queues.
func who(c *gate.Call) string {
	if c.Caller != nil {
		return c.Caller.ObjectID
	}
	return c.Key
}

// turn tells callers apart where those of many accounts meet: a key is one of
// its account's.
func turn(c *gate.Call) string {
	if c.Caller != nil {
		return c.Caller.ObjectID
	}
	return c.Target.ID.Key() + " " + c.Key
}

// refusal counts what was refused before it came to a model.
func (p *plane) refusal(c *gate.Call, e *apierr.Error) {
	if c.Target == nil { // no account is known, so there is nobody to tell
		return
	}
	deployment, operation := "", "none"
	if a, ok := c.State.(*ask); ok {
		if a.status != 0 { // counted when it ended
			return
		}
		operation = string(a.row.op)
		if a.dep != nil {
			deployment = a.dep.Name
		}
	}
	p.count(c.Context, measured{account: c.Target.ID, deployment: deployment, operation: operation, status: e.Kind.Status()})
}

// count counts a request, and from time to time forgets deployments that are gone.
func (p *plane) count(ctx context.Context, m measured) {
	p.meter.count(m)
	ctx = context.WithoutCancel(ctx) // the client may be gone
	err := p.meter.forget(p.Now(), func(account rid.ID, deployment string) (bool, error) {
		if deployment != "" {
			_, err := p.Accounts.Deployment(ctx, account, deployment)
			if apierr.Is(err, apierr.NotFound) {
				return true, nil
			}
			return false, err
		}
		r, err := p.Accounts.Get(ctx, account)
		return err == nil && (r == nil || r.Deleted != nil), err
	})
	if err != nil {
		p.Log.Warn("metrics of deployments that are gone", "error", err)
	}
}

// headers are on every answer. Source: headers recorded of the service.
func (p *plane) headers(h http.Header, c *gate.Call) {
	id := requestID(c)
	h.Set("Apim-Request-Id", id)
	h.Set("X-Request-Id", id)
	h.Set("Strict-Transport-Security", "max-age=31536000; includeSubDomains; preload")
	h.Set("X-Content-Type-Options", "nosniff")
	if c.Target != nil {
		h.Set("X-Ms-Region", p.regions[c.Target.Location])
	}
	if asked := askedVersion(c.Request); c.APIVersion != "" && asked != "" && !strings.EqualFold(c.APIVersion, asked) {
		h.Set(servedHeader, c.APIVersion)
	}
}

// keep says which answers are kept for explanations besides 401 and 403: those
// whose hops name what would mend them.
func keep(c *gate.Call, e *apierr.Error) bool {
	switch e.Code {
	case codeSubdomain:
		return c.Target == nil
	case codeNoDeployment, codeUnsupported:
		return true
	case codeLimited:
		a, ok := c.State.(*ask)
		return ok && a.tell
	}
	return e.Kind == apierr.Unavailable || e.Kind == apierr.Internal
}

func refuseNetwork(_ *gate.Call, why gate.Blocked) *apierr.Error {
	if why == gate.BlockedConnection {
		return apierr.New(apierr.Forbidden, "403", "Public access is disabled. Please configure private endpoint.")
	}
	return apierr.New(apierr.Forbidden, "403", "Access denied due to Virtual Network/Firewall rules.")
}

func refuseRole(c *gate.Call, action string, _ rid.ID, _ rbac.Decision) *apierr.Error {
	return apierr.New(apierr.Unauthorized, "PermissionDenied", "The principal `%s` lacks the required data action `%s` to perform `%s %s` operation.",
		c.Caller.ObjectID, action, c.Request.Method, documented(c.Operation.Path))
}

// documented is a path as the documents write it.
func documented(path string) string {
	return strings.NewReplacer("{deployment}", "{deployment-id}", "{model}", "{model-id}", "{response}", "{response-id}").Replace(path)
}

// tokenCodes are those of a token that was not taken.
func isTokenCode(code string) bool {
	switch code {
	case token.CodeMalformed, token.CodeSignature, token.CodeExpired, token.CodeNotYetValid, token.CodeAudience, token.CodeIssuer:
		return true
	}
	return false
}
