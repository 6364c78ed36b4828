package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/version"
)

func set(t *testing.T, env map[string]string) {
	t.Helper()
	for _, name := range []string{
		"AZURE_TENANT_ID", "AZURE_ENVIRONMENT", "AZURE_AUTHORITY_HOST", "PROXY_IMAGE", "PROXY_INIT_IMAGE", "WEBHOOK_IMAGE", "POD_NAMESPACE",
		"AZURE_KUBERNETES_TOKEN_PROXY", "AZURE_KUBERNETES_SNI_NAME", "AZURE_KUBERNETES_CA_DATA", "AZURE_KUBERNETES_CA_CONFIGMAP_NAME",
		"AZURE_KUBERNETES_CA_CTB_SIGNER_NAME", "AZURE_KUBERNETES_CA_CTB_LABEL_SELECTOR", "PROXY_PORT", "METADATA_IP", "METADATA_PORT", "PROXY_UID",
		"AZURE_FEDERATED_TOKEN_FILE",
	} {
		t.Setenv(name, env[name])
	}
}

func parse(t *testing.T, args ...string) *settings {
	t.Helper()
	f, s := webhookFlags(new(bytes.Buffer))
	if err := f.Parse(args); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestDefaults(t *testing.T) {
	set(t, map[string]string{"AZURE_TENANT_ID": "tenant"})
	c, err := parse(t).config()
	if err != nil {
		t.Fatal(err)
	}
	o := c.Options
	if c.Namespace != "azure-workload-identity-system" || c.MinTLS != tls.VersionTLS13 || c.Addr != ":9443" || c.HealthAddr != ":9440" || c.MetricsAddr != ":8095" ||
		c.CertDir != "" || c.Trust || o.AuthorityHost != "https://login.microsoftonline.com/" || o.LegacyPaths || o.Custom != nil ||
		o.ProxyImage != "lazurite.dev/azure-workload-identity:v1" || strings.Join(o.ProxyCommand, " ") != "/azure-workload-identity proxy" || strings.Join(o.ProxyInitCommand, " ") != "/azure-workload-identity proxy-init" {
		t.Errorf("got %+v", c)
	}
}

func TestSettings(t *testing.T) {
	set(t, map[string]string{
		"AZURE_TENANT_ID": "tenant", "AZURE_AUTHORITY_HOST": "https://login.lazurite.test", "PROXY_IMAGE": "theirs/proxy:v1.6.0", "POD_NAMESPACE": "ns",
		"AZURE_KUBERNETES_CA_CTB_SIGNER_NAME": "example.com/signer", "AZURE_KUBERNETES_CA_CTB_LABEL_SELECTOR": `{"matchLabels":{"a":"b"}}`,
	})
	c, err := parse(t, "--disable-cert-rotation", "--webhook-cert-dir=/x", "--tls-min-version=1.2", "--legacy-token-path", "--ca-bundle", "--audience=api://A",
		"--custom-token-endpoint-annotation-suffix=s", "--custom-token-endpoint-audience=api://B").config()
	if err != nil {
		t.Fatal(err)
	}
	o := c.Options
	if c.Namespace != "ns" || c.CertDir != "/x" || c.MinTLS != tls.VersionTLS12 || !c.Trust || !o.LegacyPaths || o.Audience != "api://A" ||
		o.AuthorityHost != "https://login.lazurite.test/" || o.ProxyImage != "theirs/proxy:v1.6.0" || o.ProxyCommand != nil || o.ProxyInitCommand == nil ||
		o.Custom.Suffix != "s" || o.Custom.Audience != "api://B" || string(o.Custom.SignerSelector) != `{"matchLabels":{"a":"b"}}` {
		t.Errorf("got %+v, %+v", c, o.Custom)
	}
}

func TestSettingsRefused(t *testing.T) {
	for want, test := range map[string]struct {
		env  map[string]string
		args []string
	}{
		"AZURE_TENANT_ID is required":            {},
		"There is no cloud environment matching": {env: map[string]string{"AZURE_TENANT_ID": "t", "AZURE_ENVIRONMENT": "AzureMoonCloud"}},
		"is no https URL":                        {env: map[string]string{"AZURE_TENANT_ID": "t", "AZURE_AUTHORITY_HOST": "http://x/"}},
		"invalid TLS version":                    {env: map[string]string{"AZURE_TENANT_ID": "t"}, args: []string{"--tls-min-version=1.4"}},
		"unsupported metrics backend":            {env: map[string]string{"AZURE_TENANT_ID": "t"}, args: []string{"--metrics-backend=statsd"}},
		"AZURE_KUBERNETES_CA_CTB_LABEL_SELECTOR": {env: map[string]string{"AZURE_TENANT_ID": "t", "AZURE_KUBERNETES_CA_CTB_LABEL_SELECTOR": "{"}, args: []string{"--custom-token-endpoint-audience=a"}},
	} {
		set(t, test.env)
		if _, err := parse(t, test.args...).config(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestEnvironments(t *testing.T) {
	for name, want := range map[string]string{
		"": "https://login.microsoftonline.com/", "AzurePublicCloud": "https://login.microsoftonline.com/", "azureusgovernmentcloud": "https://login.microsoftonline.us/",
		"AzureChinaCloud": "https://login.chinacloudapi.cn/", "AzureGermanCloud": "https://login.microsoftonline.de/",
	} {
		if got, err := authorityHost(name, ""); err != nil || got != want {
			t.Errorf("%s: got %s, %v", name, got, err)
		}
	}
}

func TestAtLeast(t *testing.T) {
	for _, test := range []struct {
		major, minor string
		want         bool
	}{{"1", "31", false}, {"1", "32", true}, {"1", "31+", false}, {"1", "37+", true}, {"2", "0", true}, {"", "", false}} {
		if got := atLeast(&version.Info{Major: test.major, Minor: test.minor}, 1, 32); got != test.want {
			t.Errorf("%s.%s: got %v", test.major, test.minor, got)
		}
	}
}

func TestCommands(t *testing.T) {
	set(t, map[string]string{"PROXY_PORT": "none"})
	for args, want := range map[string]string{
		"webhook --log-level=loud": "invalid --log-level",
		"--log-level=loud":         "invalid --log-level", // the webhook, as the original's arguments are
		"proxy":                    "AZURE_TENANT_ID not set",
		"proxy-init":               `PROXY_PORT: "none"`,
		"sidecar":                  "unknown command",
	} {
		if err := run(context.Background(), strings.Fields(args), new(bytes.Buffer), new(bytes.Buffer)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", args, err, want)
		}
	}
	var out bytes.Buffer
	if err := run(context.Background(), []string{"help"}, &out, &out); err != nil || !strings.Contains(out.String(), "proxy-init") {
		t.Errorf("got %s, %v", &out, err)
	}
}
