package mutate

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// The labels and annotations of Azure Workload Identity, v1.6.0.
const (
	prefix = "azure.workload.identity/"

	AnnotationClientID       = prefix + "client-id"                        // of the service account
	AnnotationTenantID       = prefix + "tenant-id"                        // of the service account
	AnnotationExpiration     = prefix + "service-account-token-expiration" // of the pod, else of the service account
	AnnotationSkipContainers = prefix + "skip-containers"                  // of the pod
	AnnotationInjectProxy    = prefix + "inject-proxy-sidecar"             // of the pod; being there switches it on
	AnnotationProxyPort      = prefix + "proxy-sidecar-port"               // of the pod
	annotationUse            = prefix + "use-"                             // and the custom endpoint's suffix
)

const (
	// DefaultAudience of the projected token.
	DefaultAudience = "api://AzureADTokenExchange"

	defaultExpiration, minExpiration, maxExpiration = 3600, 3600, 86400 // seconds
	defaultProxyPort                                = 8000

	proxyInitName = "azwi-proxy-init"
	proxyName     = "azwi-proxy"
)

// Options say how the identity is injected.
type Options struct {
	Audience      string // of the token; "" is DefaultAudience
	TenantID      string // where the service account names none
	AuthorityHost string // URL with a trailing slash
	LegacyPaths   bool   // volume and paths as up to v1.5: /var/run/secrets/azure/tokens
	NativeSidecar bool   // the proxy is an init container that stays (Kubernetes 1.32 and newer)
	LogLevel      string // of the proxy

	ProxyImage, ProxyInitImage     string
	ProxyCommand, ProxyInitCommand []string // where the images' own entry point is another

	Custom *CustomEndpoint // nil: no pod may ask for one
}

// CustomEndpoint is a token endpoint of one's own, for the pods that ask for it
// with the annotation azure.workload.identity/use-SUFFIX: "true".
type CustomEndpoint struct {
	Suffix, Audience           string // both needed; the audience is not the default one
	TokenProxy, SNIName        string
	CAData, CAConfigMap        string          // at most one of these and SignerName
	SignerName                 string          // of a ClusterTrustBundle
	SignerSelector             json.RawMessage // its label selector, nil for none
	annotation, caFile, source string
}

// Account is what a pod's service account says.
type Account struct {
	ClientID   string
	TenantID   string
	HasTenant  bool   // the annotation is there, be it empty
	Expiration string // seconds, in decimal; "" where it says nothing
}

// AccountOf reads a service account's annotations.
func AccountOf(annotations map[string]string) Account {
	tenant, ok := annotations[AnnotationTenantID]
	return Account{annotations[AnnotationClientID], tenant, ok, annotations[AnnotationExpiration]}
}

// Refusal is why a pod is not admitted: answered with code 400.
type Refusal struct{ Reason error }

func (r *Refusal) Error() string { return r.Reason.Error() }
func (r *Refusal) Unwrap() error { return r.Reason }

// Identity injects workload identities. It may be used concurrently.
type Identity struct {
	o                    Options
	mountPath, tokenPath string
	fixed                [4]variable // client and tenant are filled in for each pod
	custom               []variable
}

// NewIdentity checks the options; its errors name the one that is wrong.
func NewIdentity(o Options) (*Identity, error) {
	if o.Audience == "" {
		o.Audience = DefaultAudience
	}
	m := &Identity{o: o, mountPath: "/var/run/secrets/azure/wi", tokenPath: "token/azure-identity-token"}
	if o.LegacyPaths {
		m.mountPath, m.tokenPath = "/var/run/secrets/azure/tokens", "azure-identity-token"
	}
	m.fixed = [4]variable{
		{bit: envClientID},
		newVariable(envTenantID, "AZURE_TENANT_ID", o.TenantID),
		newVariable(envTokenFile, "AZURE_FEDERATED_TOKEN_FILE", m.mountPath+"/"+m.tokenPath),
		newVariable(envAuthorityHost, "AZURE_AUTHORITY_HOST", o.AuthorityHost),
	}
	if o.Custom == nil {
		return m, nil
	}
	c := *o.Custom
	if err := c.complete(); err != nil {
		return nil, err
	}
	m.o.Custom = &c
	m.custom = []variable{
		newVariable(envTokenProxy, "AZURE_KUBERNETES_TOKEN_PROXY", c.TokenProxy),
		newVariable(envSNIName, "AZURE_KUBERNETES_SNI_NAME", c.SNIName),
		newVariable(envCAFile, "AZURE_KUBERNETES_CA_FILE", m.mountPath+"/"+c.caFile),
		newVariable(envCAData, "AZURE_KUBERNETES_CA_DATA", c.CAData),
	}
	return m, nil
}

// complete checks the endpoint and derives what every pod needs of it.
func (c *CustomEndpoint) complete() error {
	switch {
	case c.Suffix == "":
		return errors.New("custom token endpoint annotation suffix cannot be empty when audience is set")
	case c.Audience == "":
		return errors.New("custom token endpoint audience cannot be empty when annotation suffix is set")
	case strings.EqualFold(c.Audience, DefaultAudience):
		return fmt.Errorf("custom token endpoint audience cannot be equal to default audience %q", DefaultAudience)
	case !validSuffix(c.Suffix):
		return fmt.Errorf("custom token endpoint annotation key %q is not valid: name part must be no more than 63 characters of letters, digits, '-', '_' or '.' and end with a letter or digit", annotationUse+c.Suffix)
	}
	sources := 0
	for _, s := range []string{c.CAData, c.CAConfigMap, c.SignerName} {
		if s != "" {
			sources++
		}
	}
	if sources > 1 {
		return errors.New("only one of AZURE_KUBERNETES_CA_DATA, AZURE_KUBERNETES_CA_CONFIGMAP_NAME or AZURE_KUBERNETES_CA_CTB_SIGNER_NAME can be set")
	}
	if c.SignerSelector != nil && c.SignerName == "" {
		return errors.New("AZURE_KUBERNETES_CA_CTB_SIGNER_NAME needs to be set when AZURE_KUBERNETES_CA_CTB_LABEL_SELECTOR is set")
	}
	c.annotation, c.caFile = annotationUse+c.Suffix, "ca-cert/ca.crt"
	switch {
	case c.CAConfigMap != "":
		c.source = `,{"configMap":{"name":` + string(appendString(nil, c.CAConfigMap)) + `,"items":[{"key":"ca.crt","path":"` + c.caFile + `"}],"optional":false}}`
	case c.SignerName != "":
		selector := ""
		if c.SignerSelector != nil {
			selector = `,"labelSelector":` + string(c.SignerSelector)
		}
		c.source = `,{"clusterTrustBundle":{"signerName":` + string(appendString(nil, c.SignerName)) + selector + `,"path":"` + c.caFile + `","optional":false}}`
	}
	return nil
}

// validSuffix says whether "use-" and the suffix are the name part of a
// qualified name of Kubernetes.
func validSuffix(s string) bool {
	alnum := func(c byte) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
	}
	for i := range len(s) {
		if c := s[i]; !alnum(c) && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return len(s) <= 63-len("use-") && alnum(s[len(s)-1])
}

// Patch appends to dst the JSON patch that gives the pod its identity. An error
// is a [Refusal].
func (m *Identity) Patch(dst []byte, pod *Pod, account Account) ([]byte, error) {
	port, err := m.proxyPort(pod)
	if err != nil {
		return nil, &Refusal{err}
	}
	seconds, err := expiration(pod, account)
	if err != nil {
		return nil, &Refusal{err}
	}
	w := work{m: m, pod: pod, port: port, custom: m.wantsCustom(pod), skip: skipped(pod), p: newPatch(dst)}
	w.volume = m.volumeName(pod)
	w.mount = w.mountJSON()
	w.vars = append(w.room[:0], m.fixed[:]...)
	w.vars[0] = newVariable(envClientID, "AZURE_CLIENT_ID", account.ClientID)
	if account.HasTenant {
		w.vars[1] = newVariable(envTenantID, "AZURE_TENANT_ID", account.TenantID)
	}
	if w.custom {
		w.vars = append(w.vars, m.custom...)
	}
	w.containers("/spec/initContainers", pod.init)
	w.containers("/spec/containers", pod.containers)
	w.p.volume(pod, w.volume, w.volumeJSON(seconds))
	if port != noProxy {
		w.proxy()
	}
	return w.p.end(), nil
}

// work is one pod's patch while it is made.
type work struct {
	m      *Identity
	pod    *Pod
	p      patch
	port   int64
	custom bool
	skip   []string
	volume string
	mount  []byte
	vars   []variable
	room   [8]variable
}

func (w *work) skips(name string) bool {
	return slices.Contains(w.skip, name)
}

func (w *work) containers(path string, list []container) {
	for i := range list {
		if w.skip != nil && w.skips(string(list[i].name)) {
			continue
		}
		w.p.container(path, i, &list[i], w.vars, w.pod.mounts, w.volume, w.mount)
	}
}

func (w *work) mountJSON() []byte {
	b := make([]byte, 0, 160)
	b = append(b, `{"name":"`...)
	b = append(b, w.volume...)
	b = append(b, `","readOnly":true,"mountPath":"`...)
	b = append(b, w.m.mountPath...)
	return append(b, `"}`...)
}

func (w *work) volumeJSON(seconds int64) []byte {
	audience, more := w.m.o.Audience, ""
	if w.custom {
		audience, more = w.m.o.Custom.Audience, w.m.o.Custom.source
	}
	b := make([]byte, 0, 320)
	b = append(b, `{"name":"`...)
	b = append(b, w.volume...)
	b = append(b, `","projected":{"sources":[{"serviceAccountToken":{"audience":`...)
	b = appendString(b, audience)
	b = append(b, `,"expirationSeconds":`...)
	b = strconv.AppendInt(b, seconds, 10)
	b = append(b, `,"path":"`...)
	b = append(b, w.m.tokenPath...)
	b = append(b, `"}}`...)
	b = append(b, more...)
	return append(b, `]}}`...)
}

// volumeName is unique to the pod's name, so that no author of pods can mount
// it by accident.
func (m *Identity) volumeName(pod *Pod) string {
	if m.o.LegacyPaths {
		return "azure-identity-token"
	}
	const reserved = "azure-workload-identity-reserved-"
	sum := sha256.Sum256([]byte(pod.DisplayName()))
	b := make([]byte, 0, len(reserved)+2*len(sum))
	b = hex.AppendEncode(append(b, reserved...), sum[:])
	return string(b[:63]) // the longest that a volume's name may be
}

func (m *Identity) wantsCustom(pod *Pod) bool {
	if m.o.Custom == nil {
		return false
	}
	value, _ := pod.Annotation(m.o.Custom.annotation)
	return strings.EqualFold(value, "true")
}

func skipped(pod *Pod) []string {
	list, _ := pod.Annotation(AnnotationSkipContainers)
	if list == "" {
		return nil
	}
	names := strings.Split(list, ";")
	for i := range names {
		names[i] = strings.TrimSpace(names[i])
	}
	return names
}

func expiration(pod *Pod, account Account) (int64, error) {
	text, _ := pod.Annotation(AnnotationExpiration)
	if text == "" {
		text = account.Expiration
	}
	if text == "" {
		return defaultExpiration, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, err
	}
	if n < minExpiration || n > maxExpiration {
		return 0, fmt.Errorf("token expiration %d not valid. Expected value to be between %d and %d", n, minExpiration, maxExpiration)
	}
	return n, nil
}
