package blob

import (
	"encoding/base64"
	"encoding/xml"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/gate"
	"lazurite.dev/internal/providers/storage"
)

// publicOf is how open a request wants a container to be.
func publicOf(h http.Header) (string, error) {
	switch v := strings.ToLower(h.Get("x-ms-blob-public-access")); v {
	case "":
		return storage.PublicNone, nil
	case "blob":
		return storage.PublicBlob, nil
	case "container":
		return storage.PublicContainer, nil
	default:
		return "", invalidHeader("x-ms-blob-public-access", v)
	}
}

func containerTag(t time.Time) string { return etag(ticks(t)) }

// containerReply is the answer about a container.
func containerReply(status int, ct *storage.Container) *gate.Reply {
	h := http.Header{"Content-Length": {"0"}}
	h.Set("ETag", containerTag(ct.Modified))
	h.Set("Last-Modified", httpTime(ct.Modified))
	return &gate.Reply{Status: status, Header: h}
}

// createContainer is Create Container.
func (p *Plane) createContainer(c *gate.Call) (any, error) {
	public, err := publicOf(c.Request.Header)
	if err != nil {
		return nil, err
	}
	m, err := metadataOf(c.Request.Header)
	if err != nil {
		return nil, err
	}
	by := c.State.(*session).caller.Display()
	ct, err := p.Accounts.CreateContainer(c.Context, targetOf(c).account, namesOf(c).container, storage.ContainerProperties{Public: public, Metadata: m}, by)
	if err != nil {
		return nil, err
	}
	return containerReply(http.StatusCreated, ct), nil
}

// container finds the container of a request whose conditions hold.
func (p *Plane) container(c *gate.Call, reads bool) (*storage.Container, error) {
	ct, err := p.Accounts.Container(c.Context, targetOf(c).account, namesOf(c).container)
	if err != nil {
		return nil, err
	}
	cond, err := conditionsOf(c.Request.Header)
	if err != nil {
		return nil, err
	}
	unchanged := notMet
	if reads {
		unchanged = notModified
	}
	return ct, cond.judge(containerTag(ct.Modified), ct.Modified.Truncate(time.Second), unchanged)
}

// getContainer is Get Container Properties and Get Container Metadata.
func (p *Plane) getContainer(c *gate.Call) (any, error) {
	ct, err := p.container(c, true)
	if err != nil {
		return nil, err
	}
	out := containerReply(http.StatusOK, ct)
	setMetadata(out.Header, ct.Metadata)
	if c.Operation.Word == "container/" {
		out.Header.Set("x-ms-lease-status", "unlocked")
		out.Header.Set("x-ms-lease-state", "available")
		out.Header.Set("x-ms-has-immutability-policy", strconv.FormatBool(ct.Sealed))
		out.Header.Set("x-ms-has-legal-hold", "false")
		out.Header.Set("x-ms-default-encryption-scope", "$account-encryption-key")
		out.Header.Set("x-ms-deny-encryption-scope-override", "false")
		setPublic(out.Header, ct)
	}
	return out, nil
}

func setPublic(h http.Header, ct *storage.Container) {
	if ct.Public == storage.PublicBlob || ct.Public == storage.PublicContainer {
		h.Set("x-ms-blob-public-access", strings.ToLower(ct.Public))
	}
}

// setContainerMetadata is Set Container Metadata.
func (p *Plane) setContainerMetadata(c *gate.Call) (any, error) {
	m, err := metadataOf(c.Request.Header)
	if err != nil {
		return nil, err
	}
	if _, err := p.container(c, false); err != nil {
		return nil, err
	}
	ct, err := p.Accounts.ChangeContainer(c.Context, targetOf(c).account, namesOf(c).container, func(n *storage.ContainerProperties) { n.Metadata = m })
	if err != nil {
		return nil, err
	}
	return containerReply(http.StatusOK, ct), nil
}

type identifiers struct {
	XMLName xml.Name   `xml:"SignedIdentifiers"`
	List    []struct{} `xml:"SignedIdentifier"`
}

// getACL is Get Container ACL.
func (p *Plane) getACL(c *gate.Call) (any, error) {
	ct, err := p.container(c, true)
	if err != nil {
		return nil, err
	}
	return gate.Answer(func(w http.ResponseWriter) error {
		w.Header().Set("ETag", containerTag(ct.Modified))
		w.Header().Set("Last-Modified", httpTime(ct.Modified))
		setPublic(w.Header(), ct)
		writeXML(w, http.StatusOK, identifiers{})
		return nil
	}), nil
}

// setACL is Set Container ACL: how open the container is.
func (p *Plane) setACL(c *gate.Call) (any, error) {
	raw, err := c.Body()
	if err != nil {
		return nil, err
	}
	if strings.Contains(string(raw), "<SignedIdentifier>") {
		return nil, apierr.New(apierr.BadRequest, "InvalidXmlDocument", "Stored access policies are not supported: sign with the times and permissions themselves.")
	}
	public, err := publicOf(c.Request.Header)
	if err != nil {
		return nil, err
	}
	if _, err := p.container(c, false); err != nil {
		return nil, err
	}
	ct, err := p.Accounts.ChangeContainer(c.Context, targetOf(c).account, namesOf(c).container, func(n *storage.ContainerProperties) { n.Public = public })
	if err != nil {
		return nil, err
	}
	return containerReply(http.StatusOK, ct), nil
}

// deleteContainer is Delete Container.
func (p *Plane) deleteContainer(c *gate.Call) (any, error) {
	ct, err := p.container(c, false)
	if err != nil {
		return nil, err
	}
	a := targetOf(c).account
	if err := p.Accounts.DeleteContainer(c.Context, a, ct); err != nil {
		return nil, err
	}
	return &gate.Reply{Status: http.StatusAccepted, Header: http.Header{"Content-Length": {"0"}}}, p.Erase(c.Context, a.UID, ct.UID)
}

type containerBody struct {
	Name       string
	Properties containerProps
	Metadata   meta `xml:"Metadata,omitempty"`
}

type containerProps struct {
	Modified string `xml:"Last-Modified"`
	Etag     string
	Status   string `xml:"LeaseStatus"`
	State    string `xml:"LeaseState"`
	Public   string `xml:"PublicAccess,omitempty"`
	Scope    string `xml:"DefaultEncryptionScope"`
	NoOther  bool   `xml:"DenyEncryptionScopeOverride"`
	Policy   bool   `xml:"HasImmutabilityPolicy"`
	Hold     bool   `xml:"HasLegalHold"`
	Worm     bool   `xml:"ImmutableStorageWithVersioningEnabled"`
}

type containersBody struct {
	XMLName    xml.Name        `xml:"EnumerationResults"`
	Endpoint   string          `xml:"ServiceEndpoint,attr"`
	Prefix     string          `xml:",omitempty"`
	Marker     string          `xml:",omitempty"`
	MaxResults int             `xml:",omitempty"`
	Containers []containerBody `xml:"Containers>Container"`
	Next       string          `xml:"NextMarker"`
}

// page reads what all listings are asked for.
type page struct {
	prefix, marker, after string
	max                   int // that was asked for; 0: not said
	limit                 int
	include               []string
}

const maxResults = 5000

func pageOf(r *http.Request) (page, error) {
	q := r.URL.Query()
	g := page{prefix: q.Get("prefix"), marker: q.Get("marker"), limit: maxResults}
	if v := q.Get("maxresults"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 {
			return g, apierr.New(apierr.BadRequest, "OutOfRangeQueryParameterValue", "The value '%s' of the query parameter 'maxresults' is not in 1..%d.", clip(v), maxResults)
		}
		g.max, g.limit = n, min(n, maxResults)
	}
	if g.marker != "" {
		raw, err := base64.RawURLEncoding.DecodeString(g.marker)
		if err != nil || len(raw) > maxName || strings.ContainsFunc(string(raw), odd) {
			return g, invalidQuery("marker", g.marker)
		}
		g.after = string(raw)
	}
	for _, list := range q["include"] {
		for w := range strings.SplitSeq(list, ",") {
			if w != "" {
				g.include = append(g.include, strings.ToLower(w))
			}
		}
	}
	return g, nil
}

func markerOf(name string) string { return base64.RawURLEncoding.EncodeToString([]byte(name)) }

// listContainers is List Containers.
func (p *Plane) listContainers(c *gate.Call) (any, error) {
	g, err := pageOf(c.Request)
	if err != nil {
		return nil, err
	}
	for _, w := range g.include {
		if !slices.Contains([]string{"metadata", "deleted", "system"}, w) {
			return nil, invalidQuery("include", w)
		}
	}
	list, err := p.Accounts.Containers(c.Context, targetOf(c).account)
	if err != nil {
		return nil, err
	}
	out := containersBody{Endpoint: p.endpoint(c), Prefix: g.prefix, Marker: g.marker, MaxResults: g.max}
	for _, ct := range list {
		if !strings.HasPrefix(ct.Name, g.prefix) || ct.Name <= g.after {
			continue
		}
		if len(out.Containers) == g.limit {
			out.Next = markerOf(out.Containers[g.limit-1].Name)
			break
		}
		b := containerBody{Name: ct.Name, Properties: containerProps{
			Modified: httpTime(ct.Modified), Etag: strings.Trim(containerTag(ct.Modified), `"`), Status: "unlocked", State: "available", Scope: "$account-encryption-key", Policy: ct.Sealed,
		}}
		if ct.Public != storage.PublicNone {
			b.Properties.Public = strings.ToLower(ct.Public)
		}
		if slices.Contains(g.include, "metadata") {
			b.Metadata = meta(ct.Metadata)
		}
		out.Containers = append(out.Containers, b)
	}
	return answerXML(out), nil
}

func (p *Plane) endpoint(c *gate.Call) string { return "https://" + c.Request.Host + "/" }

// accountInfo is Get Account Information.
func (p *Plane) accountInfo(c *gate.Call) (any, error) {
	a := targetOf(c).account
	h := http.Header{"Content-Length": {"0"}}
	h.Set("x-ms-sku-name", a.SKU)
	h.Set("x-ms-account-kind", a.Kind)
	h.Set("x-ms-is-hns-enabled", "false")
	return &gate.Reply{Status: http.StatusOK, Header: h}, nil
}

type retentionBody struct{ Enabled bool }

type loggingBody struct {
	Version             string
	Delete, Read, Write bool
	RetentionPolicy     retentionBody
}

type metricsBody struct {
	Version         string
	Enabled         bool
	RetentionPolicy retentionBody
}

type serviceBody struct {
	XMLName xml.Name `xml:"StorageServiceProperties"`
	Logging loggingBody
	Hour    metricsBody   `xml:"HourMetrics"`
	Minute  metricsBody   `xml:"MinuteMetrics"`
	CORS    struct{}      `xml:"Cors"`
	Deleted retentionBody `xml:"DeleteRetentionPolicy"`
	Website retentionBody `xml:"StaticWebsite"`
}

// serviceProperties is Get Blob Service Properties: all of it is off.
func (p *Plane) serviceProperties(*gate.Call) (any, error) {
	out := serviceBody{Logging: loggingBody{Version: "1.0"}, Hour: metricsBody{Version: "1.0"}, Minute: metricsBody{Version: "1.0"}}
	return answerXML(out), nil
}

type delegationBody struct {
	XMLName xml.Name `xml:"UserDelegationKey"`
	OID     string   `xml:"SignedOid"`
	Tenant  string   `xml:"SignedTid"`
	Start   string   `xml:"SignedStart"`
	Expiry  string   `xml:"SignedExpiry"`
	Service string   `xml:"SignedService"`
	Version string   `xml:"SignedVersion"`
	Value   string
}

const maxDelegation = 7 * 24 * time.Hour

// delegationKey is Get User Delegation Key.
func (p *Plane) delegationKey(c *gate.Call) (any, error) {
	raw, err := c.Body()
	if err != nil {
		return nil, err
	}
	in, err := parseKeyInfo(raw)
	if err != nil {
		return nil, err
	}
	if in.Tenant != "" {
		return nil, invalidXML("DelegatedUserTid is not supported: a delegation is not narrowed to another user.")
	}
	now := p.Now().UTC()
	start, expiry := now, time.Time{}
	for v, to := range map[*string]*time.Time{&in.Start: &start, &in.Expiry: &expiry} {
		if *v = strings.TrimSpace(*v); *v == "" {
			continue
		}
		if *to, err = time.Parse(time.RFC3339Nano, *v); err != nil {
			return nil, invalidXML("The time '%s' is not of the form 2006-01-02T15:04:05Z.", clip(*v))
		}
	}
	if !expiry.After(start) || !expiry.After(now) || expiry.After(now.Add(maxDelegation+skew)) {
		return nil, apierr.New(apierr.BadRequest, "OutOfRangeInput", "The key's expiry must be after its start and within seven days from now.")
	}
	who := c.State.(*session).caller
	const layout = "2006-01-02T15:04:05Z"
	out := delegationBody{
		OID: who.ObjectID, Tenant: who.TenantID, Start: start.UTC().Format(layout), Expiry: expiry.UTC().Format(layout), Service: "b", Version: c.APIVersion,
	}
	key := targetOf(c).account.Delegated(storage.Delegation(out.OID, out.Tenant, out.Start, out.Expiry, out.Service, out.Version))
	out.Value = base64.StdEncoding.EncodeToString(key)
	return answerXML(out), nil
}
