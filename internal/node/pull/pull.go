// Package pull is the kubelet's image credential provider for the registries of
// this cloud. The kubelet starts it before it pulls an image from one, and
// gives it nothing but the image's name. It gets a token of the kubelet's
// identity, which it exchanges at that registry for one that is good there
// alone: so a role that is taken away counts at the next pull.
//
// What proves the identity is a secret in the kubelet's environment. It is
// sent to this cloud's token endpoint and nowhere else, and the token to
// registries of this cloud alone: both are known by their names and by who
// signed their certificates.
package pull

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"
)

const (
	// Program is the provider's name, as in Azure: kubelets start a program of
	// that name with Command as its first argument and a file's name as its
	// second.
	Program = "acr-credential-provider"
	// Command is the hidden command of the program that uses this package.
	Command = "node-image-credentials"
	// SecretVariable is the environment variable with the secret of the
	// kubelet's identity.
	SecretVariable = "LAZURITE_KUBELET_SECRET"
	// APIVersion is that of the requests and answers. Source: Kubernetes,
	// kubelet image credential provider.
	APIVersion = "credentialprovider.kubelet.k8s.io/v1"
)

const (
	nobody     = "00000000-0000-0000-0000-000000000000" // the user of who has a refresh token. Source: az acr login --expose-token
	audience   = "https://containerregistry.azure.net"
	msiVersion = "2019-08-01"

	limit     = 45 * time.Second // the kubelet waits a minute
	mostBytes = 1 << 20          // of a request and of an answer
)

// Config is what the provider knows besides the image; the node agent writes it
// into a file of the node's.
type Config struct {
	Registries []string `json:"registries"` // host names; a star is for the first label
	Elsewhere  []string `json:"elsewhere"`  // registries that are asked at a mirror first; "*" is all others
	TokenURL   string   `json:"tokenURL"`
	CAFile     string   `json:"caFile"`  // who signs for TokenURL and the registries
	Cluster    string   `json:"cluster"` // resource id, for messages
	Node       string   `json:"node"`
	API        API      `json:"api"` // where pods are told what went wrong
}

// API is the cluster's API server and the kubelet's certificate for it.
type API struct {
	Server   string `json:"server"`
	CAFile   string `json:"caFile"`
	CertFile string `json:"certFile"` // and its key
}

// request is a CredentialProviderRequest, as far as it counts.
type request struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Image      string `json:"image"`
}

// response is a CredentialProviderResponse.
type response struct {
	APIVersion string          `json:"apiVersion"`
	Kind       string          `json:"kind"`
	KeyType    string          `json:"cacheKeyType"`
	Duration   string          `json:"cacheDuration"`
	Auth       map[string]auth `json:"auth"`
}

type auth struct {
	Username string `json:"username"`
	Password string `json:"password"`
}

// Run answers the kubelet's request in with credentials on out. file is the
// configuration. An error's text is for the kubelet's log and has no secret in
// it; the pods that wait for the image have an event with it.
func Run(ctx context.Context, file, secret string, in io.Reader, out io.Writer) error {
	return run(ctx, file, secret, in, out, (&net.Dialer{}).DialContext)
}

type dialer func(ctx context.Context, network, address string) (net.Conn, error)

func run(ctx context.Context, file, secret string, in io.Reader, out io.Writer, dial dialer) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	raw, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var cfg Config
	if err := json.Unmarshal(raw, &cfg); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	image, err := readRequest(in)
	if err != nil {
		return err
	}
	host, err := cfg.registry(image)
	if err != nil {
		return err
	}
	password, err := cfg.credentials(ctx, host, secret, dial)
	if err != nil {
		err = fmt.Errorf("no credentials for %s: %w", host, err)
		return errors.Join(err, cfg.tell(ctx, image, err.Error()+cfg.advice(host)))
	}
	return json.NewEncoder(out).Encode(response{
		APIVersion: APIVersion, Kind: "CredentialProviderResponse", KeyType: "Registry",
		Duration: "0s", // a role that is taken away counts at the next pull
		Auth:     map[string]auth{host: {nobody, password}},
	})
}

func readRequest(in io.Reader) (image string, err error) {
	raw, err := io.ReadAll(io.LimitReader(in, mostBytes))
	if err != nil {
		return "", fmt.Errorf("reading the request: %w", err)
	}
	var r request
	if err := json.Unmarshal(raw, &r); err != nil {
		return "", fmt.Errorf("the request is no JSON: %w", err)
	}
	if r.APIVersion != APIVersion || r.Kind != "CredentialProviderRequest" {
		return "", fmt.Errorf("the request is a %.100q of %.100q, not a CredentialProviderRequest of %s", r.Kind, r.APIVersion, APIVersion)
	}
	return r.Image, nil
}

// registry is the host that an image comes from, when that is a registry of
// this cloud; any other is an error.
func (c Config) registry(image string) (string, error) {
	host, _, ok := strings.Cut(image, "/")
	if !ok || !c.owns(host) {
		return "", fmt.Errorf("%.300q is not in a registry of this cloud (%s): it gets no credentials", image, strings.Join(c.Registries, ", "))
	}
	if slices.Contains(c.Elsewhere, host) || slices.Contains(c.Elsewhere, "*") && !slices.Contains(c.Registries, host) {
		return "", fmt.Errorf("images of %s are asked of a mirror first, which must not see its credentials: start without that --mirror", host)
	}
	return host, nil
}

// owns reports whether host, which has no port, is a registry of this cloud.
func (c Config) owns(host string) bool {
	if len(host) > 253 || strings.Trim(host, "abcdefghijklmnopqrstuvwxyz0123456789-.") != "" {
		return false
	}
	label, rest, ok := strings.Cut(host, ".")
	return slices.ContainsFunc(c.Registries, func(r string) bool {
		if suffix, star := strings.CutPrefix(r, "*."); star {
			return ok && label != "" && rest == suffix
		}
		return r == host
	})
}

// credentials are the registry's refresh token for the kubelet's identity.
func (c Config) credentials(ctx context.Context, host, secret string, dial dialer) (string, error) {
	if secret == "" {
		return "", errors.New("the kubelet has no identity")
	}
	client, err := c.client(dial)
	if err != nil {
		return "", err
	}
	defer client.CloseIdleConnections()
	token, err := c.token(ctx, client, secret)
	if err != nil {
		return "", fmt.Errorf("the kubelet's identity gets no token: %w", err)
	}
	password, err := exchange(ctx, client, host, token)
	if err != nil {
		return "", fmt.Errorf("the registry refuses the kubelet's identity: %w", err)
	}
	return password, nil
}

// client trusts this cloud alone, and goes where it was sent and no further.
func (c Config) client(dial dialer) (*http.Client, error) {
	pool, err := pool(c.CAFile)
	if err != nil {
		return nil, err
	}
	return &http.Client{
		Transport:     &http.Transport{DialContext: dial, TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

func pool(file string) (*x509.CertPool, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(raw) {
		return nil, fmt.Errorf("%s has no certificate", file)
	}
	return pool, nil
}
