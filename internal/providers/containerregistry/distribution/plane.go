package distribution

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm/privatelink"
	"lazurite.dev/internal/gate"
	"lazurite.dev/internal/providers/containerregistry"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
	"lazurite.dev/internal/trace"
	"lazurite.dev/internal/web"
)

// Registries finds registries.
type Registries interface {
	ByName(ctx context.Context, name string) (*containerregistry.Registry, error)
	UIDs(ctx context.Context) ([]string, error)
}

// Config is what New needs.
type Config struct {
	Gate       gate.Config
	Registries Registries
	Store      store.Store

	// Dir is the folder of blobs; "": there is none, and nothing is answered.
	Dir string

	Links *privatelink.Links // private endpoints' connections; nil: there are none

	// Suffixes are the ends of the names of registries, without a port: ".azurecr.io".
	Suffixes []string

	Now func() time.Time // nil means time.Now
}

// MaxBody is the largest body in bytes that any request may have: a layer.
const MaxBody = 1 << 40

const (
	maxManifest = 4 << 20 // bytes, as the specification asks registries to take
	bodyTime    = time.Minute
	stall       = 2 * time.Minute // for which a client may send or take nothing
)

// The RBAC actions of a registry, which are the management plane's.
const (
	actionPull   = containerregistry.RegistryType + "/pull/read"
	actionPush   = containerregistry.RegistryType + "/push/write"
	actionDelete = containerregistry.RegistryType + "/artifacts/delete"
)

// The words of scopes.
const (
	wordPull      = "pull"
	wordPush      = "push"
	wordDelete    = "delete"
	wordMetaRead  = "metadata_read"
	wordMetaWrite = "metadata_write"
	wordCatalog   = "*"
)

// actionOf is the RBAC action behind a scope's word, "" for a word that is none.
func actionOf(word string) string {
	switch word {
	case wordPull, wordMetaRead, wordCatalog:
		return actionPull
	case wordPush, wordMetaWrite:
		return actionPush
	case wordDelete:
		return actionDelete
	}
	return ""
}

// Plane serves registries.
type Plane struct {
	Config
	*gate.Handler
	files files
}

// New makes the data plane.
func New(c Config) *Plane {
	if c.Now == nil {
		c.Now = time.Now
	}
	p := &Plane{Config: c, files: files{dir: c.Dir}}
	p.Handler = gate.New(c.Gate, gate.Plane{
		Name: "registry", Operations: p.operations(), BodyTime: bodyTime,
		Resolve: p.resolve, Caller: p.caller, Version: p.scoped,
		Challenge:  func(http.Header, *gate.Target) {}, // writeError has the request
		WriteError: writeError, RefuseNetwork: refuseNetwork,
		Headers: func(h http.Header, _ *gate.Call) { h.Set("Docker-Distribution-Api-Version", "registry/2.0") },
		OpenFirewall: func(id rid.ID, client netip.Addr) string {
			return "az resource update --ids " + id.String() + " --add properties.networkRuleSet.ipRules value=" + client.String()
		},
	})
	return p
}

// operations are what the plane can do. Data is the word of a scope.
func (p *Plane) operations() []gate.Operation {
	var list []gate.Operation
	add := func(methods, path, word string, handle func(*gate.Call) (any, error)) {
		for _, m := range strings.Fields(methods) {
			list = append(list, gate.Operation{Method: m, Path: path, Action: actionOf(word), Manage: true, Data: word, Handle: handle})
		}
	}
	const repo, acr = "/v2/{name...}", "/acr/v1/{name...}"
	add("POST", "/oauth2/exchange", "", p.exchange)
	add("GET POST", "/oauth2/token", "", p.token)
	add("GET HEAD", "/v2", "", func(*gate.Call) (any, error) { return struct{}{}, nil })
	add("GET", "/v2/_catalog", wordCatalog, p.catalog)
	add("GET", repo+"/tags/list", wordPull, p.tagList)
	add("GET", repo+"/referrers/{digest}", wordPull, p.referrers)
	add("GET HEAD", repo+"/manifests/{reference}", wordPull, p.getManifest)
	add("PUT", repo+"/manifests/{reference}", wordPush, p.putManifest)
	add("DELETE", repo+"/manifests/{reference}", wordDelete, p.deleteManifest)
	add("POST", repo+"/blobs/uploads", wordPush, p.startUpload)
	add("GET HEAD", repo+"/blobs/uploads/{id}", wordPush, p.getUpload)
	add("PATCH", repo+"/blobs/uploads/{id}", wordPush, p.patchUpload)
	add("PUT", repo+"/blobs/uploads/{id}", wordPush, p.putUpload)
	add("DELETE", repo+"/blobs/uploads/{id}", wordPush, p.cancelUpload)
	add("GET HEAD", repo+"/blobs/{digest}", wordPull, p.getBlob)
	add("DELETE", repo+"/blobs/{digest}", wordDelete, p.deleteBlob)
	add("GET", "/acr/v1/_catalog", wordCatalog, p.catalog)
	add("GET", acr+"/_tags", wordMetaRead, p.acrTags)
	add("GET", acr+"/_tags/{tag}", wordMetaRead, p.acrTag)
	add("DELETE", acr+"/_tags/{tag}", wordDelete, p.acrUntag)
	add("GET", acr+"/_manifests", wordMetaRead, p.acrManifests)
	add("GET", acr+"/_manifests/{digest}", wordMetaRead, p.acrManifest)
	add("GET", acr, wordMetaRead, p.acrRepository)
	add("DELETE", acr, wordDelete, p.acrDelete)
	for i := range list {
		if strings.HasSuffix(list[i].Path, "/manifests/{reference}") {
			list[i].Body = maxManifest
		}
	}
	return list
}

// resolve finds the registry of a request by its host name.
func (p *Plane) resolve(ctx context.Context, r *http.Request) (*gate.Target, error) {
	label, ok := p.ours(r.Host)
	if !ok {
		host, _, _ := strings.Cut(strings.ToLower(r.Host), ":")
		return nil, apierr.New(apierr.NotFound, "NAME_UNKNOWN", "The host name '%s' names no registry.", clip(host))
	}
	reg, err := p.Registries.ByName(ctx, label)
	if err != nil {
		return nil, err
	}
	if p.Dir == "" {
		return nil, apierr.New(apierr.Unavailable, "UNAVAILABLE", "This server has no folder for what is in registries: its replicas share a database, and 'registries' of their configuration must name a folder that they share too.")
	}
	t := &gate.Target{ID: reg.ID, Location: reg.Location, Network: reg.Network, Data: reg, Authorize: p.authorise}
	t.Network.Approved = p.Links.Gate(reg.ID)
	return t, nil
}

// scoped judges the scope of the caller's token, and the name that is asked for.
func (p *Plane) scoped(c *gate.Call) error {
	if name, ok := c.Params["name"]; ok && !validRepository(name) {
		return apierr.New(apierr.BadRequest, "NAME_INVALID", "The repository name '%s' is invalid.", clip(name))
	}
	word, s := c.Operation.Data.(string), c.State.(*session)
	typ, name := thing(c)
	if word == "" || s.lets(typ, name, word) {
		return nil
	}
	if err := p.authorise(c, c.Operation); err != nil {
		return err // which says more
	}
	return apierr.New(apierr.Unauthorized, "UNAUTHORIZED", "authentication required, visit https://aka.ms/acr/authorization for more information.").WithInner("insufficient_scope")
}

// thing is what an operation is about, as scopes call it.
func thing(c *gate.Call) (typ, name string) {
	if n, ok := c.Params["name"]; ok {
		return "repository", n
	}
	return "registry", "catalog"
}

// authorise asks the policy, with every request.
func (p *Plane) authorise(c *gate.Call, op *gate.Operation) error {
	s := c.State.(*session)
	if op.Action == "" || s.password != "" {
		return nil
	}
	ok, err := p.may(c, s, op.Action)
	if err != nil || ok {
		return err
	}
	return p.refuseRole(c, op.Action)
}

func (p *Plane) refuseRole(c *gate.Call, action string) error {
	return apierr.New(apierr.Forbidden, "DENIED", "The principal '%s' has no role at the registry '%s' that lets it do '%s'.", c.Caller.ObjectID, c.Target.ID.Name(), action).WithInner("insufficient_scope")
}

func refuseNetwork(c *gate.Call, _ gate.Blocked) *apierr.Error {
	client := "the address it came from"
	if h := trace.From(c.Context).Hops(); len(h) > 0 && h[len(h)-1].Received != "" {
		client = "'" + h[len(h)-1].Received + "'"
	}
	return apierr.New(apierr.Forbidden, "DENIED", "client with IP %s is not allowed access. Refer https://aka.ms/acr/firewall to grant access.", client)
}

// challenge is the WWW-Authenticate of a call. There are no blanks in it but
// the first: az takes it to pieces at them. Source: distribution project,
// "Token Authentication Specification".
func challenge(c *gate.Call, e *apierr.Error) string {
	host := c.Request.Host
	v := `Bearer realm="https://` + host + `/oauth2/token",service="` + host + `"`
	if c.Operation == nil {
		return v + errorParam(e)
	}
	typ, name := thing(c)
	word, _ := c.Operation.Data.(string)
	words := map[string]string{wordPush: "pull,push"}[word]
	if words == "" {
		words = word
	}
	if word != "" && (typ != "repository" || validRepository(name)) {
		v += `,scope="` + typ + ":" + name + ":" + words + `"`
	}
	return v + errorParam(e)
}

func errorParam(e *apierr.Error) string {
	if e.Inner == "invalid_token" || e.Inner == "insufficient_scope" {
		return `,error="` + e.Inner + `"`
	}
	return ""
}

// writeError answers in the words of the specification.
func writeError(w http.ResponseWriter, c *gate.Call, e *apierr.Error) {
	status, code := e.Kind.Status(), e.Code
	if n, err := strconv.Atoi(e.Inner); err == nil {
		status = n
	}
	switch {
	case errors.Is(e, syscall.ENOSPC) || errors.Is(e, syscall.EDQUOT):
		status, code = http.StatusInsufficientStorage, "INSUFFICIENT_STORAGE"
	case e.Kind == apierr.Unauthorized && !strings.HasPrefix(c.Request.URL.Path, "/oauth2/"):
		w.Header().Set("Www-Authenticate", challenge(c, e))
	case e.Kind == apierr.MethodNotAllowed:
		code = "UNSUPPORTED"
	case e.Kind == apierr.TooLarge:
		code = "SIZE_INVALID"
	case code == "NotFound":
		code = "NAME_UNKNOWN"
	case e.Kind == apierr.Internal:
		code = "UNKNOWN"
	}
	type one struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Detail  any    `json:"detail,omitempty"`
	}
	out := one{Code: code, Message: e.Message}
	if word, ok := operationWord(c); ok && (e.Kind == apierr.Unauthorized || e.Kind == apierr.Forbidden) {
		typ, name := thing(c)
		out.Detail = []map[string]string{{"Type": typ, "Name": name, "Action": word}}
	}
	web.WriteJSON(w, status, map[string]any{"errors": []one{out}})
}

func operationWord(c *gate.Call) (string, bool) {
	if c.Operation == nil {
		return "", false
	}
	w, _ := c.Operation.Data.(string)
	return w, w != ""
}

// WriteError answers what goes wrong before the plane.
func WriteError(w http.ResponseWriter, r *http.Request, e *apierr.Error) {
	writeError(w, &gate.Call{Context: r.Context(), Request: r}, e)
}

func clip(s string) string {
	if len(s) > 100 {
		return s[:100] + "…"
	}
	return s
}

// Erase removes all that a registry holds. The registry is gone by then.
func (p *Plane) Erase(ctx context.Context, uid string) error {
	if p.Dir != "" {
		if err := os.RemoveAll(p.files.registry(uid)); err != nil {
			return err
		}
	}
	x := p.index(uid)
	return store.All(ctx, x.s, store.Query{}, func(d store.Doc) error { return x.remove(ctx, d.Key) })
}

// Used is how many bytes of blobs a registry holds.
func (p *Plane) Used(_ context.Context, uid string) (int64, error) {
	if p.Dir == "" {
		return 0, nil
	}
	return p.files.used(uid)
}
