package resources

import (
	"net"
	"net/http"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/web"
)

// MetadataPath is where clients read the description of this cloud. It needs
// no token.
const MetadataPath = "/metadata/endpoints"

// Cloud is what a client must know of a cloud.
type Cloud struct {
	Name, Portal, Login, ResourceManager, Graph string // URLs but the first
	Insights                                    string // URL, without a slash at the end, as tokens are for it
	KeyVaultDNS, RegistryDNS, Storage, MHSM     string // suffixes, without a leading dot; Key Vault's has a port where it is not 443
}

// PublicCloud is under Azure's own names.
func PublicCloud() Cloud {
	return Cloud{
		Name: "AzureCloud", Portal: "https://portal.azure.com", Login: "https://login.microsoftonline.com/",
		ResourceManager: "https://management.azure.com/", Graph: "https://graph.microsoft.com/",
		Insights:    "https://api.applicationinsights.io",
		KeyVaultDNS: "vault.azure.net", RegistryDNS: "azurecr.io", Storage: "core.windows.net", MHSM: "managedhsm.azure.net",
	}
}

// OwnCloud is under the operator's domain; port is "" for 443.
func OwnCloud(domain, port string) Cloud {
	at := func(name string) string {
		host := name + "." + domain
		if port != "" && port != "443" {
			host = net.JoinHostPort(host, port)
		}
		return host
	}
	url := func(name string) string { return "https://" + at(name) + "/" }
	return Cloud{
		Name: "Lazurite", Portal: strings.TrimSuffix(url("portal"), "/"), Login: url("login"), ResourceManager: url("management"), Graph: url("graph"),
		Insights:    strings.TrimSuffix(url("insights"), "/"),
		KeyVaultDNS: at("vault"), RegistryDNS: "registry." + domain, Storage: domain, MHSM: "managedhsm." + domain,
	}
}

// CloudOf is the cloud in whose family the request's host is: management.DOMAIN
// is that of DOMAIN.
func CloudOf(r *http.Request) Cloud {
	host, port, err := net.SplitHostPort(r.Host)
	if err != nil {
		host, port = r.Host, ""
	}
	domain, ok := strings.CutPrefix(strings.ToLower(host), "management.")
	if !ok || domain == "azure.com" || domain == "core.windows.net" {
		return PublicCloud()
	}
	return OwnCloud(domain, port)
}

// Metadata answers [MetadataPath]. Three shapes are in use: az asks for
// 2015-01-01, az's and azure-ai-ml's cloud tables for a list (2019-05-01 to
// 2020-06-01), Terraform for one object (2022-09-01).
func Metadata(w http.ResponseWriter, r *http.Request) {
	v := r.URL.Query().Get("api-version")
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		web.WriteError(w, apierr.New(apierr.MethodNotAllowed, "MethodNotAllowed", "The HTTP method '%s' is not supported at '%s'.", r.Method, r.URL.Path))
	case v == "":
		web.WriteError(w, apierr.New(apierr.BadRequest, "MissingApiVersionParameter", "The api-version query parameter (?api-version=) is required for all requests."))
	case len(v) < len("2006-01-02") || v < "2015":
		web.WriteError(w, apierr.New(apierr.BadRequest, "InvalidApiVersionParameter", "The api-version '%s' is invalid. The supported versions are '2022-09-01,2020-06-01,2019-05-01,2015-01-01'.", v))
	case v < "2019":
		web.WriteJSON(w, http.StatusOK, CloudOf(r).old())
	case v < "2022":
		web.WriteJSON(w, http.StatusOK, []any{CloudOf(r).wire()})
	default:
		web.WriteJSON(w, http.StatusOK, CloudOf(r).wire())
	}
}

func audiences() []string {
	return []string{"https://management.core.windows.net/", "https://management.azure.com/"}
}

func (c Cloud) old() map[string]any {
	return map[string]any{
		"galleryEndpoint": c.ResourceManager, "graphEndpoint": c.Graph, "portalEndpoint": c.Portal,
		"authentication": map[string]any{"loginEndpoint": c.Login, "audiences": audiences()},
	}
}

// Facts describe the cloud, as clients and environment() in templates see it.
func (c Cloud) Facts() map[string]any { return c.wire() }

func (c Cloud) wire() map[string]any {
	return map[string]any{
		"name": c.Name, "portal": c.Portal, "resourceManager": c.ResourceManager, "gallery": c.ResourceManager,
		"authentication": map[string]any{"loginEndpoint": strings.TrimSuffix(c.Login, "/"), "audiences": audiences(), "tenant": "common", "identityProvider": "AAD"},
		"graph":          c.Graph, "graphAudience": c.Graph, "microsoftGraphResourceId": c.Graph, "appInsightsResourceId": c.Insights,
		"suffixes": map[string]any{
			"keyVaultDns": c.KeyVaultDNS, "acrLoginServer": c.RegistryDNS, "storage": c.Storage, "mhsmDns": c.MHSM,
		},
	}
}
