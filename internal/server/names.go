package server

import (
	"fmt"
	"net"
	"slices"
	"strings"

	"lazurite.dev/internal/token"
	"lazurite.dev/internal/web"
)

// The surfaces, by the names that logs, metrics and Assembly.Surfaces use.
const (
	Login     = "login"
	ARM       = "arm"
	Graph     = "graph"
	KeyVault  = "keyvault"
	OIDC      = "oidc"
	OpenAI    = "openai"
	Cognitive = "cognitive"
	Scoring   = "scoring"
	Workspace = "workspace"
	Registry  = "registry"
	Blob      = "blob"
	Insights  = "insights"
	Portal    = "portal"
)

// family is a surface's names, in Azure and under the operator's domain.
type family struct {
	surface string
	title   string
	azure   []string // the first is the one that resources show
	own     string   // before ".DOMAIN"
}

// families are all names that Lazurite owns. A star stands for one label, two
// for one or more; web.Hosts says how they are matched.
func families() []family {
	return []family{
		{Login, "Sign-in and tokens", []string{
			"login.microsoftonline.com", "login.microsoft.com", "login.windows.net", "sts.windows.net",
			"*.login.microsoft.com", // regional, as MSAL asks with AZURE_REGIONAL_AUTHORITY_NAME
		}, "login"},
		{ARM, "Management", []string{"management.azure.com", "management.core.windows.net"}, "management"},
		{Graph, "Directory (Graph)", []string{"graph.microsoft.com"}, "graph"},
		{KeyVault, "Key Vault", []string{"*.vault.azure.net", "vault.azure.net"}, "*.vault"},
		{OIDC, "Cluster issuers", []string{"*.oic.prod-aks.azure.com"}, "*.oic"},
		{OpenAI, "Azure OpenAI", []string{"*.openai.azure.com", "*.cognitiveservices.azure.com", "*.services.ai.azure.com"}, "*.openai"},
		{Cognitive, "Azure OpenAI, regional", []string{"*.api.cognitive.microsoft.com"}, "*.cognitive"},
		{Scoring, "Online endpoints", []string{"**.inference.ml.azure.com"}, "**.inference"},
		{Workspace, "Machine Learning workspaces", []string{"**.api.azureml.ms"}, "**.azureml"},
		{Registry, "Container registry", []string{"*.azurecr.io"}, "*.registry"},
		{Blob, "Blob storage", []string{"*.blob.core.windows.net"}, "*.blob"},
		{Insights, "Application Insights", []string{"api.applicationinsights.io", "api.applicationinsights.azure.com"}, "insights"},
		{Portal, "Portal", []string{"portal.azure.com"}, "portal"},
	}
}

// Host is the name under which a resource shows surface: with label (a vault's
// name, an endpoint's and region's) where the surface has one for each
// resource. Under Azure's names there is no port; under own names there is one
// unless it is 443. It is "" for a surface that is none of the constants.
func (c *Config) Host(surface, label string) string {
	for _, f := range families() {
		if f.surface != surface {
			continue
		}
		if c.Names == NamesAzure {
			return fill(f.azure[0], label)
		}
		host := fill(f.own, label) + "." + c.Domain
		if port := c.publicPort(); port != "443" {
			host = net.JoinHostPort(host, port)
		}
		return host
	}
	return ""
}

// ownHost is Host under the operator's domain, whichever names resources show.
func (c *Config) ownHost(surface, label string) string {
	own := *c
	own.Names = NamesOwn
	return own.Host(surface, label)
}

// ownNames are the resource of a surface's tokens under own names, with and
// without the port, which some clients leave out.
func (c *Config) ownNames(surface string) []string {
	host := strings.TrimPrefix(c.ownHost(surface, ""), ".")
	list := []string{"https://" + host}
	if bare, _, err := net.SplitHostPort(host); err == nil {
		list = append(list, "https://"+bare)
	}
	return list
}

// resources are the platform's, with their names under the operator's domain.
func (c *Config) resources() []token.Resource {
	var list []token.Resource
	for surface, audience := range map[string]string{ARM: token.ARM, KeyVault: token.Vault, Graph: token.Graph, OpenAI: token.CognitiveServices, Registry: token.ContainerRegistry, Blob: token.Storage, Insights: token.ApplicationInsights} {
		if r, ok := token.Platform(audience); ok {
			r.Aliases = append(slices.Clone(r.Aliases), c.ownNames(surface)...)
			list = append(list, r)
		}
	}
	return list
}

// URL is "https://" and Host, without a slash at the end.
func (c *Config) URL(surface, label string) string { return "https://" + c.Host(surface, label) }

func fill(pattern, label string) string {
	if rest, ok := strings.CutPrefix(pattern, "**."); ok {
		return label + "." + rest
	}
	if rest, ok := strings.CutPrefix(pattern, "*."); ok {
		return label + "." + rest
	}
	return pattern
}

// surface is the one that has a host name, "" when none has.
func (c *Config) surface(host string) string {
	h, err := c.hosts(nil)
	if err != nil {
		return ""
	}
	m, ok := h.Find(host)
	if !ok {
		return ""
	}
	return m.Surface.Name
}

// patterns are all owned names, as hosts gives them to surfaces.
func (c *Config) patterns() []string {
	var list []string
	for _, f := range families() {
		list = append(list, append(f.azure, f.own+"."+c.Domain)...)
	}
	return list
}

// hosts gives every owned name to its surface; those that no surface serves
// answer that.
func (c *Config) hosts(surfaces map[string]web.Surface) (*web.Hosts, error) {
	h := &web.Hosts{}
	known := map[string]bool{}
	for _, f := range families() {
		known[f.surface] = true
		s := surfaces[f.surface]
		s.Name = f.surface
		for _, name := range append(f.azure, f.own+"."+c.Domain) {
			if err := h.Add(name, &s); err != nil {
				return nil, err
			}
		}
	}
	for name := range surfaces {
		if !known[name] {
			return nil, fmt.Errorf("the surface %q has no names", name)
		}
	}
	return h, nil
}
