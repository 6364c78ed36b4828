package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"lazurite.dev/kube/webhook/mutate"
	"lazurite.dev/kube/webhook/serve"
)

// binary is where the image has this program; the proxy's containers start it.
const binary = "/azure-workload-identity"

// settings are the webhook's flags and environment.
type settings struct {
	audience, certDir, tlsMin, health, metrics, backend, level, kubeconfig string
	suffix, customAudience, listen                                         string
	noRotation, version, legacy, trust                                     bool
	delay                                                                  time.Duration
}

func webhookFlags(stderr io.Writer) (*flag.FlagSet, *settings) {
	f, s := flag.NewFlagSet("webhook", flag.ContinueOnError), new(settings)
	f.SetOutput(stderr)
	f.StringVar(&s.audience, "audience", "", "Audience for service account token")
	f.StringVar(&s.certDir, "webhook-cert-dir", "/certs", "Webhook certificates dir to use with --disable-cert-rotation")
	f.BoolVar(&s.noRotation, "disable-cert-rotation", false, "serve with the certificate in --webhook-cert-dir, read again when it changes, instead of making and rotating one")
	f.StringVar(&s.tlsMin, "tls-min-version", "1.3", "Minimum TLS version")
	f.StringVar(&s.health, "health-addr", ":9440", "The address the health endpoint binds to")
	f.StringVar(&s.metrics, "metrics-addr", ":8095", "The address the metrics endpoint binds to, 0 for none")
	f.StringVar(&s.backend, "metrics-backend", "prometheus", "Backend used for metrics")
	f.StringVar(&s.level, "log-level", "", "In order of increasing verbosity: unset (empty string), info, debug, trace and all.")
	f.StringVar(&s.suffix, "custom-token-endpoint-annotation-suffix", "", "Suffix to append to 'azure.workload.identity/use-' when defining a custom token endpoint annotation. When empty, custom token endpoint injection is disabled.")
	f.StringVar(&s.customAudience, "custom-token-endpoint-audience", "", "Audience to use when configuring service account tokens for custom token endpoints. When empty, custom token endpoint injection is disabled.")
	f.BoolVar(&s.version, "version", false, "Print version information and exit")
	f.StringVar(&s.kubeconfig, "kubeconfig", "", "Path to a kubeconfig, outside a cluster")
	f.StringVar(&s.listen, "listen-addr", ":9443", "The address the webhook binds to")
	f.BoolVar(&s.legacy, "legacy-token-path", false, "mount the token at /var/run/secrets/azure/tokens in the volume azure-identity-token, as releases up to v1.5 did")
	f.BoolVar(&s.trust, "ca-bundle", false, "also give pods the certificates of the ConfigMap "+mutate.BundleName+" of the webhook's namespace, which must be there")
	f.DurationVar(&s.delay, "shutdown-delay", 10*time.Second, "how long reviews are still answered after the readiness probe fails, when the pod ends")
	return f, s
}

func runWebhook(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f, s := webhookFlags(stderr)
	if err := f.Parse(args); err != nil {
		return err
	}
	if s.version {
		return printVersion(stdout)
	}
	log, err := logger(stderr, s.level)
	if err != nil {
		return err
	}
	cfg, err := s.config()
	if err != nil {
		return err
	}
	cfg.Log = log
	client, err := clientConfig(s.kubeconfig)
	if err != nil {
		return fmt.Errorf("client configuration: %w", err)
	}
	if cfg.Options.NativeSidecar, err = nativeSidecars(client); err != nil {
		return fmt.Errorf("failed to check kubernetes version: %w", err)
	}
	server, err := serve.New(cfg, client)
	if err != nil {
		return err
	}
	return server.Run(ctx)
}

// config is what flags and environment say together.
func (s *settings) config() (serve.Config, error) {
	if s.backend != "prometheus" {
		return serve.Config{}, fmt.Errorf("unsupported metrics backend %q", s.backend)
	}
	minTLS, err := tlsVersion(s.tlsMin)
	if err != nil {
		return serve.Config{}, err
	}
	options, err := s.options()
	if err != nil {
		return serve.Config{}, err
	}
	cfg := serve.Config{
		Options: options, Namespace: envOr("POD_NAMESPACE", "azure-workload-identity-system"), MinTLS: minTLS,
		Addr: s.listen, HealthAddr: s.health, MetricsAddr: s.metrics, Trust: s.trust, ShutdownDelay: s.delay,
	}
	if s.noRotation {
		cfg.CertDir = s.certDir
	}
	return cfg, nil
}

func (s *settings) options() (mutate.Options, error) {
	o := mutate.Options{Audience: s.audience, TenantID: os.Getenv("AZURE_TENANT_ID"), LegacyPaths: s.legacy, LogLevel: s.level}
	if o.TenantID == "" {
		return o, errors.New("AZURE_TENANT_ID is required")
	}
	if o.LogLevel == "" {
		o.LogLevel = "warning"
	}
	var err error
	if o.AuthorityHost, err = authorityHost(os.Getenv("AZURE_ENVIRONMENT"), os.Getenv("AZURE_AUTHORITY_HOST")); err != nil {
		return o, err
	}
	// One image of ours does all; another's has its own entry points.
	if o.ProxyImage = os.Getenv("PROXY_IMAGE"); o.ProxyImage == "" {
		o.ProxyImage, o.ProxyCommand = envOr("WEBHOOK_IMAGE", "lazurite.dev/azure-workload-identity:v1"), []string{binary, "proxy"}
	}
	if o.ProxyInitImage = os.Getenv("PROXY_INIT_IMAGE"); o.ProxyInitImage == "" {
		o.ProxyInitImage, o.ProxyInitCommand = envOr("WEBHOOK_IMAGE", "lazurite.dev/azure-workload-identity:v1"), []string{binary, "proxy-init"}
	}
	if s.suffix == "" && s.customAudience == "" {
		return o, nil
	}
	o.Custom = &mutate.CustomEndpoint{
		Suffix: s.suffix, Audience: s.customAudience,
		TokenProxy: os.Getenv("AZURE_KUBERNETES_TOKEN_PROXY"), SNIName: os.Getenv("AZURE_KUBERNETES_SNI_NAME"),
		CAData: os.Getenv("AZURE_KUBERNETES_CA_DATA"), CAConfigMap: os.Getenv("AZURE_KUBERNETES_CA_CONFIGMAP_NAME"),
		SignerName: os.Getenv("AZURE_KUBERNETES_CA_CTB_SIGNER_NAME"),
	}
	if text := os.Getenv("AZURE_KUBERNETES_CA_CTB_LABEL_SELECTOR"); text != "" {
		var selector metav1.LabelSelector
		if err := json.Unmarshal([]byte(text), &selector); err != nil {
			return o, fmt.Errorf("AZURE_KUBERNETES_CA_CTB_LABEL_SELECTOR: %w", err)
		}
		if o.Custom.SignerSelector, err = json.Marshal(selector); err != nil {
			return o, fmt.Errorf("AZURE_KUBERNETES_CA_CTB_LABEL_SELECTOR: %w", err)
		}
	}
	return o, nil
}

// authorityHost is the token service of an environment of go-autorest's table,
// unless another is given.
func authorityHost(environment, other string) (string, error) {
	if other != "" {
		if !strings.HasPrefix(other, "https://") {
			return "", fmt.Errorf("AZURE_AUTHORITY_HOST %q is no https URL", other)
		}
		return strings.TrimSuffix(other, "/") + "/", nil
	}
	switch strings.ToUpper(environment) {
	case "", "AZUREPUBLICCLOUD", "AZURECLOUD":
		return "https://login.microsoftonline.com/", nil
	case "AZUREUSGOVERNMENT", "AZUREUSGOVERNMENTCLOUD":
		return "https://login.microsoftonline.us/", nil
	case "AZURECHINACLOUD":
		return "https://login.chinacloudapi.cn/", nil
	case "AZUREGERMANCLOUD":
		return "https://login.microsoftonline.de/", nil
	}
	return "", fmt.Errorf("failed to get AAD endpoint: autorest/azure: There is no cloud environment matching the name %q", strings.ToUpper(environment))
}

func envOr(name, other string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return other
}

func tlsVersion(text string) (uint16, error) {
	switch text {
	case "1.0":
		return tls.VersionTLS10, nil
	case "1.1":
		return tls.VersionTLS11, nil
	case "1.2":
		return tls.VersionTLS12, nil
	case "1.3":
		return tls.VersionTLS13, nil
	}
	return 0, errors.New("invalid TLS version. Must be one of: 1.0, 1.1, 1.2, 1.3")
}

func clientConfig(kubeconfig string) (*rest.Config, error) {
	var c *rest.Config
	var err error
	if kubeconfig == "" {
		c, err = rest.InClusterConfig()
	} else {
		c, err = clientcmd.BuildConfigFromFlags("", kubeconfig)
	}
	if err != nil {
		return nil, err
	}
	c.UserAgent = "azure-workload-identity/webhook"
	c.QPS, c.Burst = 100, 200 // many service accounts may be new at once
	return c, nil
}

// nativeSidecars says whether all nodes know init containers that stay: they
// came with 1.29, and a kubelet may be three minor versions older than its API server.
func nativeSidecars(c *rest.Config) (bool, error) {
	d, err := discovery.NewDiscoveryClientForConfig(c)
	if err != nil {
		return false, err
	}
	v, err := d.ServerVersion()
	if err != nil {
		return false, err
	}
	return atLeast(v, 1, 32), nil
}

func atLeast(v *version.Info, major, minor int) bool {
	number := func(s string) int {
		n, err := strconv.Atoi(strings.TrimRight(s, "+"))
		if err != nil {
			return 0
		}
		return n
	}
	if m := number(v.Major); m != major {
		return m > major
	}
	return number(v.Minor) >= minor
}
