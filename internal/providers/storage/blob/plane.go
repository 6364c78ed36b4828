package blob

import (
	"context"
	"crypto/tls"
	"encoding/xml"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm/privatelink"
	"lazurite.dev/internal/gate"
	"lazurite.dev/internal/providers/storage"
	"lazurite.dev/internal/rbac"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
	"lazurite.dev/internal/trace"
	"lazurite.dev/internal/web"
)

// Family is one set of names under which accounts are reached.
type Family struct {
	Suffix    string // of host names: ".blob.core.windows.net", without a port
	Authority string // "https://login.microsoftonline.com", no slash at the end
}

// Config is what New needs.
type Config struct {
	Gate     gate.Config
	Accounts *storage.Accounts
	Store    store.Store

	// Dir is the folder of contents; "": there is none, and nothing is answered.
	Dir string

	TenantID string
	Families []Family
	Links    *privatelink.Links // private endpoints' connections; nil: there are none
	Now      func() time.Time   // nil means time.Now
}

// MaxBody is the largest body in bytes that any request may have: a blob that is
// put in one piece, or a block.
const MaxBody = 5000 << 20

const (
	newestVersion = "2026-04-06"
	maxXML        = 8 << 20 // bytes of a list of blocks
	bodyTime      = time.Minute
	stall         = 2 * time.Minute // for which a client may send or take nothing
)

// Plane serves blobs.
type Plane struct {
	Config
	*gate.Handler
	files files
}

// target is what the plane knows of an account in one request.
type target struct {
	account *storage.Account
	family  Family
}

func targetOf(c *gate.Call) *target { return c.Target.Data.(*target) }

// New makes the data plane.
func New(c Config) *Plane {
	if c.Now == nil {
		c.Now = time.Now
	}
	p := &Plane{Config: c, files: files{c.Dir}}
	p.Handler = gate.New(c.Gate, gate.Plane{
		Name: "blob", Operations: p.operations(), BodyTime: bodyTime, Word: word,
		Resolve: p.resolve, Caller: p.caller, Version: p.version, Challenge: p.challenge,
		WriteError: writeError, RefuseNetwork: refuseNetwork, Headers: putHeaders,
		RefuseRole: func(*gate.Call, string, rid.ID, rbac.Decision) *apierr.Error { return noPermission() },
		OpenFirewall: func(id rid.ID, client netip.Addr) string {
			return "az storage account network-rule add --account-name " + id.Name() + " --ip-address " + client.String()
		},
	})
	return p
}

// word is what tells operations of one path apart: restype, comp, and whether
// the content is another blob's.
func word(r *http.Request) string {
	q := r.URL.Query()
	w := strings.ToLower(q.Get("restype")) + "/" + strings.ToLower(q.Get("comp"))
	if r.Header.Get("x-ms-copy-source") != "" && r.Method == http.MethodPut {
		w += "/from"
	}
	return w
}

// The actions of blobs and containers.
const (
	service         = storage.ServiceType
	readBlobs       = storage.ContainerType + "/blobs/read"
	writeBlobs      = storage.ContainerType + "/blobs/write"
	deleteBlobs     = storage.ContainerType + "/blobs/delete"
	readContainers  = storage.ContainerType + "/read"
	writeContainers = storage.ContainerType + "/write"
)

// needs is what a shared access signature must say to do something.
type needs struct {
	level byte   // of an account's: 's', 'c' or 'o'
	any   string // of these permissions one is needed
	fresh bool   // 'c' is enough where there is no such blob yet
	only  bool   // of an account's alone
	never bool   // no signature is enough
	open  string // how open a container must be for callers without a credential: storage.PublicBlob or PublicContainer
}

// operations are what the plane can do.
func (p *Plane) operations() []gate.Operation {
	var list []gate.Operation
	add := func(methods, path, word, action string, n needs, handle func(*gate.Call) (any, error)) {
		for _, m := range strings.Fields(methods) {
			op := gate.Operation{Method: m, Path: path, Word: word, Action: action, Manage: !strings.HasPrefix(action, storage.ContainerType+"/blobs/"), Data: n, Body: maxXML, Handle: handle}
			if strings.HasPrefix(path, "/{container}") {
				op.Scope = func(c *gate.Call) string { return "/blobServices/default/containers/" + c.Params["container"] }
			} else {
				op.Scope = func(*gate.Call) string { return "/blobServices/default" }
			}
			list = append(list, op)
		}
	}
	const root, container, blob = "/", "/{container}", "/{container}/{blob...}"
	info := needs{level: 's', any: "rlwdacup", only: true}
	add("GET", root, "/list", readContainers, needs{level: 's', any: "l", only: true}, p.listContainers)
	add("GET", root, "service/properties", service+"/read", needs{level: 's', any: "r", only: true}, p.serviceProperties)
	add("POST", root, "service/userdelegationkey", service+"/generateUserDelegationKey/action", needs{never: true}, p.delegationKey)
	for _, path := range []string{root, container, blob} {
		add("GET HEAD", path, "account/properties", service+"/getInfo/action", info, p.accountInfo)
	}
	add("PUT", container, "container/", writeContainers, needs{level: 'c', any: "cw", only: true}, p.createContainer)
	add("GET HEAD", container, "container/", readContainers, needs{level: 'c', any: "r", only: true, open: storage.PublicContainer}, p.getContainer)
	add("DELETE", container, "container/", storage.ContainerType+"/delete", needs{level: 'c', any: "d", only: true}, p.deleteContainer)
	add("GET HEAD", container, "container/metadata", readContainers, needs{level: 'c', any: "r", only: true, open: storage.PublicContainer}, p.getContainer)
	add("PUT", container, "container/metadata", writeContainers, needs{level: 'c', any: "w", only: true}, p.setContainerMetadata)
	add("GET HEAD", container, "container/acl", storage.ContainerType+"/getAcl/action", needs{never: true}, p.getACL)
	add("PUT", container, "container/acl", storage.ContainerType+"/setAcl/action", needs{never: true}, p.setACL)
	add("GET", container, "container/list", readBlobs, needs{level: 'c', any: "l", open: storage.PublicContainer}, p.listBlobs)

	read, write := needs{level: 'o', any: "r", open: storage.PublicBlob}, needs{level: 'o', any: "w"}
	fresh := needs{level: 'o', any: "w", fresh: true}
	add("GET HEAD", blob, "/", readBlobs, read, p.getBlob)
	add("GET HEAD", blob, "/metadata", readBlobs, read, p.getMetadata)
	add("GET", blob, "/blocklist", readBlobs, read, p.getBlockList)
	add("PUT", blob, "/", writeBlobs, fresh, p.putBlob)
	add("PUT", blob, "//from", writeBlobs, fresh, p.copyBlob)
	add("PUT", blob, "/block", writeBlobs, fresh, p.putBlock)
	add("PUT", blob, "/block/from", writeBlobs, fresh, p.putBlockFrom)
	add("PUT", blob, "/blocklist", writeBlobs, fresh, p.putBlockList)
	add("PUT", blob, "/metadata", writeBlobs, write, p.setMetadata)
	add("PUT", blob, "/properties", writeBlobs, write, p.setProperties)
	add("PUT", blob, "/tier", writeBlobs, write, p.setTier)
	add("DELETE", blob, "/", deleteBlobs, needs{level: 'o', any: "d"}, p.deleteBlob)
	return list
}

// resolve finds the account of a request by its host name.
func (p *Plane) resolve(ctx context.Context, r *http.Request) (*gate.Target, error) {
	host := strings.ToLower(r.Host)
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	for _, f := range p.Families {
		label, ok := strings.CutSuffix(host, f.Suffix)
		if !ok || strings.Contains(label, ".") {
			continue
		}
		a, err := p.Accounts.ByName(ctx, label)
		if err != nil {
			return nil, err
		}
		if p.Dir == "" {
			return nil, apierr.New(apierr.Unavailable, "ServerBusy", "This server has no folder for blobs: its replicas share a database, and 'blobs' of their configuration must name a folder that they share too.")
		}
		t := &gate.Target{ID: a.ID, Location: a.Location, Network: a.Network, Data: &target{a, f}, Authorize: p.authorise}
		t.Network.Approved = p.Links.Gate(a.ID)
		return t, nil
	}
	return nil, apierr.New(apierr.NotFound, "ResourceNotFound", "The host name '%s' names no storage account.", clip(host))
}

// version checks what every request must say, after the caller is known.
func (p *Plane) version(c *gate.Call) error {
	r := c.Request
	v := r.Header.Get("x-ms-version")
	if v == "" {
		v = r.URL.Query().Get("api-version")
	}
	if s := c.State.(*session); v == "" && s.sas != nil {
		v = s.sas.Get("sv")
	}
	if v != "" {
		if _, err := time.Parse("2006-01-02", v); err != nil || v < "2009-09-19" {
			return invalidHeader("x-ms-version", v)
		}
	}
	if v == "" || v > newestVersion {
		v = newestVersion
	}
	c.APIVersion = v
	if err := checkTLS(r.TLS, targetOf(c).account.MinTLS); err != nil {
		return err
	}
	if n := namesOf(c); c.Params["container"] != n.container {
		return apierr.New(apierr.BadRequest, "InvalidUri", "The requested URI does not represent any resource on the server.")
	}
	if err := checkName(namesOf(c).blob); err != nil {
		return err
	}
	return checkUnsupported(r)
}

// checkTLS keeps an account's minimumTlsVersion; a connection within this
// program has none.
func checkTLS(s *tls.ConnectionState, least string) error {
	want := map[string]uint16{"TLS1_1": tls.VersionTLS11, "TLS1_2": tls.VersionTLS12, "TLS1_3": tls.VersionTLS13}[least]
	if s == nil || s.Version >= want {
		return nil
	}
	return apierr.New(apierr.BadRequest, "TlsVersionNotPermitted", "The TLS version of the connection is not permitted on this storage account.")
}

// checkName keeps the rule of blobs' names, and the limits of the store.
func checkName(name string) error {
	if len(name) > maxName || len([]rune(name)) > 1024 {
		return apierr.New(apierr.BadRequest, "OutOfRangeInput", "The blob's name has %d bytes; at most 1024 characters and %d bytes are allowed.", len(name), maxName)
	}
	for _, r := range name {
		if odd(r) || string(r) == last {
			return apierr.New(apierr.BadRequest, "InvalidUri", "The blob's name has a character that no name may have.")
		}
	}
	return nil
}

// odd reports a character that the store's keys or XML do not take.
func odd(r rune) bool {
	return r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == 0xfffd || r&0xfffe == 0xfffe
}

// checkUnsupported refuses what would promise something that is not there.
func checkUnsupported(r *http.Request) error {
	for _, h := range []string{
		"x-ms-encryption-key", "x-ms-encryption-key-sha256", "x-ms-encryption-algorithm", "x-ms-encryption-scope", "x-ms-source-encryption-key",
		"x-ms-immutability-policy-until-date", "x-ms-immutability-policy-mode", "x-ms-legal-hold", "x-ms-default-encryption-scope", "x-ms-structured-body",
		"x-ms-rehydrate-priority", "x-ms-seal-blob", "x-ms-expiry-option",
	} {
		if r.Header.Get(h) != "" {
			return apierr.New(apierr.BadRequest, "UnsupportedHeader", "The header '%s' is not supported.", h)
		}
	}
	if r.Header.Get("x-ms-tags") != "" {
		return noTags()
	}
	if r.Header.Get("x-ms-lease-id") != "" || r.Header.Get("x-ms-source-lease-id") != "" {
		return apierr.New(apierr.PreconditionFailed, "LeaseNotPresentWithBlobOperation", "There is currently no lease on the blob: leases are not supported.")
	}
	for _, q := range []string{"snapshot", "versionid", "prevsnapshot", "deletetype"} {
		if r.URL.Query().Get(q) != "" {
			return apierr.New(apierr.BadRequest, "UnsupportedQueryParameter", "The query parameter '%s' is not supported: there are no snapshots and versions.", q)
		}
	}
	return nil
}

func invalidHeader(name, value string) error {
	return apierr.New(apierr.BadRequest, "InvalidHeaderValue", "The value '%s' of the HTTP header '%s' is not in the correct format.", clip(value), name).WithTarget(name)
}

func invalidQuery(name, value string) error {
	return apierr.New(apierr.BadRequest, "InvalidQueryParameterValue", "The value '%s' of the query parameter '%s' is invalid.", clip(value), name).WithTarget(name)
}

func putHeaders(h http.Header, c *gate.Call) {
	if h.Get("x-ms-version") == "" {
		v := c.APIVersion
		if v == "" {
			v = newestVersion
		}
		h.Set("x-ms-version", v)
	}
	h.Set("Server", "Windows-Azure-Blob/1.0 Lazurite")
}

func refuseNetwork(c *gate.Call, _ gate.Blocked) *apierr.Error {
	client := ""
	for _, h := range trace.From(c.Context).Hops() {
		if h.Step == "network" && h.Received != "" {
			client = " The request came from '" + h.Received + "'."
		}
	}
	return apierr.New(apierr.Forbidden, "AuthorizationFailure", "This request is not authorized to perform this operation.%s", client)
}

func noPermission() *apierr.Error {
	return apierr.New(apierr.Forbidden, "AuthorizationPermissionMismatch", "This request is not authorized to perform this operation using this permission.")
}

// challenge says where tokens are to be had. Source: "Authorize access to Azure
// Storage with Microsoft Entra ID", "Bearer challenge".
func (p *Plane) challenge(h http.Header, t *gate.Target) {
	f := t.Data.(*target).family
	h.Set("Www-Authenticate", "Bearer authorization_uri="+f.Authority+"/"+p.TenantID+"/oauth2/authorize resource_id=https://storage.azure.com")
}

type errorBody struct {
	XMLName xml.Name `xml:"Error"`
	Code    string
	Message string
	Detail  string `xml:"AuthenticationErrorDetail,omitempty"`
}

// writeError answers in the service's words.
func writeError(w http.ResponseWriter, c *gate.Call, e *apierr.Error) {
	status, code := e.Kind.Status(), e.Code
	if n, err := strconv.Atoi(e.Inner); err == nil {
		status = n
	}
	switch {
	case errors.Is(e, syscall.ENOSPC) || errors.Is(e, syscall.EDQUOT):
		status, code = http.StatusInsufficientStorage, "InsufficientStorage"
	case code == "NotFound" || code == "MethodNotAllowed":
		status, code = http.StatusBadRequest, "UnsupportedQueryParameter"
		e = apierr.New(apierr.BadRequest, code, "%s of '%s' is none of the operations that are supported.", c.Request.Method, clip(wordOf(c.Request)))
	case e.Kind == apierr.TooLarge:
		code = "RequestBodyTooLarge"
	case e.Kind == apierr.Internal:
		code = "InternalError"
	}
	h := w.Header()
	h.Set("x-ms-error-code", code)
	if h.Get("x-ms-version") == "" {
		h.Set("x-ms-version", newestVersion)
	}
	if status == http.StatusNotModified || c.Request.Method == http.MethodHead {
		w.WriteHeader(status)
		return
	}
	out := errorBody{Code: code, Message: e.Message + "\nRequestId:" + web.RequestID(c.Context) + "\nTime:" + time.Now().UTC().Format("2006-01-02T15:04:05.0000000Z")}
	if e.Inner != "" && e.Inner != strconv.Itoa(status) {
		out.Detail = e.Inner
	}
	writeXML(w, status, out)
}

// wordOf names an operation that is none.
func wordOf(r *http.Request) string {
	q := r.URL.Query()
	return r.URL.Path + "?restype=" + q.Get("restype") + "&comp=" + q.Get("comp")
}

// writeXML answers with v.
func writeXML(w http.ResponseWriter, status int, v any) {
	b, err := xml.Marshal(v)
	if err != nil {
		status, b = http.StatusInternalServerError, []byte("<Error><Code>InternalError</Code></Error>")
	}
	b = append([]byte("\ufeff"+xml.Header), b...)
	w.Header().Set("Content-Type", "application/xml")
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	w.WriteHeader(status)
	_, _ = w.Write(b) // who does not read it needs no answer
}

// answerXML is writeXML as an operation's answer.
func answerXML(v any) gate.Answer {
	return func(w http.ResponseWriter) error {
		writeXML(w, http.StatusOK, v)
		return nil
	}
}

// WriteError answers what goes wrong before the plane.
func WriteError(w http.ResponseWriter, r *http.Request, e *apierr.Error) {
	writeError(w, &gate.Call{Context: r.Context(), Request: r}, e)
}

func clip(s string) string {
	if len(s) > 200 {
		return s[:200] + "…"
	}
	return s
}

// DataActions are the data actions that requests ask for.
func (p *Plane) DataActions() []string {
	var out []string
	for _, a := range p.Actions() {
		if strings.HasPrefix(a, storage.ContainerType+"/blobs/") {
			out = append(out, a)
		}
	}
	return out
}
