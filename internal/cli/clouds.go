package cli

import (
	"strings"
	"unicode"
)

// cloud is one set of endpoints. Keys are az's: "resourceManager", "keyvaultDns".
type cloud struct {
	name      string
	profile   string
	endpoints map[string]string
	suffixes  map[string]string
}

func publicCloud() *cloud {
	return &cloud{name: "AzureCloud", profile: "latest",
		endpoints: map[string]string{
			"management": "https://management.core.windows.net/", "resourceManager": "https://management.azure.com/",
			"sqlManagement": "https://management.core.windows.net:8443/", "batchResourceId": "https://batch.core.windows.net/",
			"gallery": "https://gallery.azure.com/", "activeDirectory": "https://login.microsoftonline.com",
			"activeDirectoryResourceId":             "https://management.core.windows.net/",
			"activeDirectoryGraphResourceId":        "https://graph.windows.net/",
			"microsoftGraphResourceId":              "https://graph.microsoft.com/",
			"activeDirectoryDataLakeResourceId":     "https://datalake.azure.net/",
			"vmImageAliasDoc":                       "https://raw.githubusercontent.com/Azure/azure-rest-api-specs/main/arm-compute/quickstart-templates/aliases.json",
			"mediaResourceId":                       "https://rest.media.azure.net",
			"ossrdbmsResourceId":                    "https://ossrdbms-aad.database.windows.net",
			"appInsightsResourceId":                 "https://api.applicationinsights.io",
			"logAnalyticsResourceId":                "https://api.loganalytics.io",
			"synapseAnalyticsResourceId":            "https://dev.azuresynapse.net",
			"attestationResourceId":                 "https://attest.azure.net",
			"portal":                                "https://portal.azure.com",
			"appInsightsTelemetryChannelResourceId": "https://dc.applicationinsights.azure.com/v2/track",
		},
		suffixes: map[string]string{
			"storageEndpoint": "core.windows.net", "keyvaultDns": ".vault.azure.net", "mhsmDns": ".managedhsm.azure.net",
			"sqlServerHostname": ".database.windows.net", "mysqlServerEndpoint": ".mysql.database.azure.com",
			"postgresqlServerEndpoint": ".postgres.database.azure.com", "mariadbServerEndpoint": ".mariadb.database.azure.com",
			"azureDatalakeStoreFileSystemEndpoint":        "azuredatalakestore.net",
			"azureDatalakeAnalyticsCatalogAndJobEndpoint": "azuredatalakeanalytics.net",
			"acrLoginServerEndpoint":                      ".azurecr.io", "storageSyncEndpoint": ".afs.azure.net",
			"synapseAnalyticsEndpoint": ".dev.azuresynapse.net", "attestationEndpoint": ".attest.azure.net",
		}}
}

func chinaCloud() *cloud {
	return &cloud{name: "AzureChinaCloud", profile: "latest",
		endpoints: map[string]string{
			"management": "https://management.core.chinacloudapi.cn/", "resourceManager": "https://management.chinacloudapi.cn",
			"activeDirectory":                "https://login.chinacloudapi.cn",
			"activeDirectoryResourceId":      "https://management.core.chinacloudapi.cn/",
			"activeDirectoryGraphResourceId": "https://graph.chinacloudapi.cn/",
			"microsoftGraphResourceId":       "https://microsoftgraph.chinacloudapi.cn",
			"portal":                         "https://portal.azure.cn", "gallery": "https://gallery.chinacloudapi.cn/",
		},
		suffixes: map[string]string{
			"storageEndpoint": "core.chinacloudapi.cn", "keyvaultDns": ".vault.azure.cn", "mhsmDns": ".managedhsm.azure.cn",
			"acrLoginServerEndpoint": ".azurecr.cn", "sqlServerHostname": ".database.chinacloudapi.cn",
		}}
}

func governmentCloud() *cloud {
	return &cloud{name: "AzureUSGovernment", profile: "latest",
		endpoints: map[string]string{
			"management": "https://management.core.usgovcloudapi.net/", "resourceManager": "https://management.usgovcloudapi.net/",
			"activeDirectory":                "https://login.microsoftonline.us",
			"activeDirectoryResourceId":      "https://management.core.usgovcloudapi.net/",
			"activeDirectoryGraphResourceId": "https://graph.windows.net/",
			"microsoftGraphResourceId":       "https://graph.microsoft.us/",
			"portal":                         "https://portal.azure.us", "gallery": "https://gallery.usgovcloudapi.net/",
		},
		suffixes: map[string]string{
			"storageEndpoint": "core.usgovcloudapi.net", "keyvaultDns": ".vault.usgovcloudapi.net", "mhsmDns": ".managedhsm.usgovcloudapi.net",
			"acrLoginServerEndpoint": ".azurecr.us", "sqlServerHostname": ".database.usgovcloudapi.net",
		}}
}

// clouds are those that az knows and those of clouds.config.
func (s *session) clouds() ([]*cloud, error) {
	all := []*cloud{publicCloud(), chinaCloud(), governmentCloud()}
	f, err := readINI(s.path("clouds.config"))
	if err != nil {
		return nil, err
	}
	for _, sec := range f.sections {
		if !hasEndpoints(sec) {
			continue // az also notes the default subscription of a known cloud here
		}
		all = append(all, cloudFrom(sec))
	}
	return all, nil
}

func hasEndpoints(sec iniSection) bool {
	for _, k := range sec.keys {
		if strings.HasPrefix(k, "endpoint_") {
			return true
		}
	}
	return false
}

func cloudFrom(sec iniSection) *cloud {
	c := &cloud{name: sec.name, profile: "latest", endpoints: map[string]string{}, suffixes: map[string]string{}}
	for k, v := range sec.vals {
		if e, ok := strings.CutPrefix(k, "endpoint_"); ok {
			c.endpoints[camel(e)] = v
		} else if x, ok := strings.CutPrefix(k, "suffix_"); ok {
			c.suffixes[camel(x)] = dotted(x, v)
		} else if k == "profile" {
			c.profile = v
		}
	}
	return c
}

// dotted adds the leading dot that az wants in these suffixes.
func dotted(snake, v string) string {
	if (snake == "keyvault_dns" || snake == "acr_login_server_endpoint") && v != "" && v[0] != '.' {
		return "." + v
	}
	return v
}

// cloud is the active one: [cloud] name of the configuration, else AzureCloud.
func (s *session) cloud() (*cloud, error) {
	if s.active != nil {
		return s.active, nil
	}
	name := firstNonEmpty(s.config().get("cloud", "name"), "AzureCloud")
	if name == "AzureCloud" { // spares reading clouds.config
		s.active = publicCloud()
		return s.active, nil
	}
	all, err := s.clouds()
	if err != nil {
		return nil, err
	}
	for _, c := range all {
		if c.name == name {
			s.active = c
			return c, nil
		}
	}
	return nil, failf("The cloud '%s' is not registered.", name)
}

func (c *cloud) endpoint(key string) (string, error) {
	if v := c.endpoints[key]; v != "" {
		return v, nil
	}
	if v := defaultEndpoint(c, key); v != "" {
		return v, nil
	}
	return "", failf("The endpoint '%s' for this cloud is not set but is used.\n%s may not support this resource type. Set it with `az cloud update --name %s --endpoint-%s VALUE`.",
		snake(key, '_'), c.name, c.name, snake(key, '-'))
}

// defaultEndpoint is what az falls back to for a cloud that doesn't say.
func defaultEndpoint(c *cloud, key string) string {
	switch key {
	case "microsoftGraphResourceId":
		return c.endpoints["activeDirectoryGraphResourceId"]
	case "activeDirectoryResourceId":
		return c.endpoints["management"]
	}
	return ""
}

func (c *cloud) suffix(key string) (string, error) {
	if v := c.suffixes[key]; v != "" {
		return v, nil
	}
	return "", failf("The suffix '%s' for this cloud is not set but is used.\n%s may not support this resource type. Set it with `az cloud update --name %s --suffix-%s VALUE`.",
		snake(key, '_'), c.name, c.name, snake(key, '-'))
}

// snake writes "keyvaultDns" as "keyvault_dns" or "keyvault-dns".
func snake(s string, sep byte) string {
	var b strings.Builder
	for _, r := range s {
		if unicode.IsUpper(r) {
			b.WriteByte(sep)
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// camel writes "keyvault_dns" as "keyvaultDns".
func camel(s string) string {
	parts := strings.Split(s, "_")
	for i := 1; i < len(parts); i++ {
		parts[i] = capital(parts[i])
	}
	return strings.Join(parts, "")
}
