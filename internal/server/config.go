package server

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"lazurite.dev/internal/environment"
	"lazurite.dev/internal/inference"
	"lazurite.dev/internal/node"
	"lazurite.dev/internal/providers/insights/telemetry"
)

// The values of Config.Names.
const (
	NamesAzure = "azure"
	NamesOwn   = "own"
)

// DefaultDomain is under which own names are found where no domain is configured.
const DefaultDomain = "lazurite.test" // .test is nobody's, RFC 6761 section 6.2

// azurePropagation is how long Azure takes to follow a change of roles or
// federated credentials, on most days. Sources: Azure RBAC, "Troubleshoot Azure
// RBAC"; Microsoft Entra, "Important considerations and restrictions for
// federated identity credentials".
const azurePropagation = 2 * time.Minute

// Config is how a server is set up: one YAML file for `laz serve`, flags for
// `laz up`. Unknown keys are errors. The zero Config works, after Default.
type Config struct {
	// Home is the state folder: database, keys, certificates, log, socket. It is
	// readable by its user alone. Default: $LAZ_HOME, $XDG_STATE_HOME/lazurite,
	// ~/.local/state/lazurite.
	Home string `yaml:"home"`

	// Listen is where the front door takes TLS. Default: ":8443".
	Listen string `yaml:"listen"`

	// Local is where the proxy for this machine, the managed identity endpoint
	// of `laz run --identity` and /metrics are found: a loopback address. It may
	// equal Listen: one port for both. Default: none.
	Local string `yaml:"local"`

	// Names says which names resources show: "azure" (vault.azure.net, …) or
	// "own" (under Domain). Both are answered. Default: "own".
	Names string `yaml:"names"`

	// Domain is where own names are: login.DOMAIN, NAME.vault.DOMAIN, ….
	// Needed when Names is "own". Default: "lazurite.test".
	Domain string `yaml:"domain"`

	// PublicPort is the port that own names show, where a balancer listens on
	// another than Listen's. Default: Listen's.
	PublicPort int `yaml:"publicPort"`

	// Balancers are addresses and prefixes of TCP balancers in front of Listen. A
	// connection from there must begin with a PROXY protocol header (version 1
	// or 2), and the client in it is who network rules see. Default: none.
	Balancers []string `yaml:"balancers"`

	// Certificates are the operator's own, for the names in them; other owned
	// names get one from the local authority.
	Certificates []CertificateFile `yaml:"certificates"`

	// RootsFile is a PEM file of the certificates that clients trust besides
	// ours, for the bundle that they are given. Default: the system's.
	RootsFile string `yaml:"rootsFile"`

	// Store says where documents are kept. Default: SQLite inside Home.
	Store StoreConfig `yaml:"store"`

	// RootKeyFile holds the key that wraps the keys of everything sealed at rest.
	// All replicas of one database need the same file; it is made at first start,
	// readable by its user alone. Default: inside Home.
	RootKeyFile string `yaml:"rootKeyFile"`

	// Clusters says what stands behind a new managed cluster: "embedded" (real
	// Kubernetes on this machine, which needs Linux, the node agent of
	// `sudo laz up` and what `make kube` builds), "issuer" (signing keys and
	// tokens alone), or "auto": embedded where it can be used. Default: "auto".
	Clusters string `yaml:"clusters"`

	// Kubernetes is the folder of the distribution that clusters run, what `make
	// kube` builds; $LAZ_KUBE goes before it. The node agent of `sudo laz up` reads
	// it. Default: kube beside laz, else the user's cache.
	Kubernetes string `yaml:"kubernetes"`

	// Registries is the folder of the content of container registries. Replicas
	// that share a database need one that they share as well, with working file
	// locks; without it they refuse to make registries. Default: inside Home, with
	// SQLite.
	Registries string `yaml:"registries"`

	// Blobs is the folder of the content of storage accounts. Replicas that share
	// a database need one that they share as well; without it they refuse to make
	// accounts. Default: inside Home, with SQLite.
	Blobs string `yaml:"blobs"`

	// Mirrors are registries that nodes ask first: by the registry that an image
	// names, or "*" for all others, the URL of one that has the same
	// repositories. Default: none; nodes ask what the image names.
	Mirrors map[string]string `yaml:"mirrors"`

	// Issuers says which issuers of federated tokens may be asked for their keys.
	Issuers IssuerConfig `yaml:"issuers"`

	// Models are the models that can be deployed and the servers that answer for
	// them; see docs/models.md. Default: none, and the built-in model answers under
	// the usual names.
	Models []inference.ModelConfig `yaml:"models"`

	// BuiltinModel offers the built-in model: besides Models as tiny-writer.
	// Default: true.
	BuiltinModel *bool `yaml:"builtinModel"`

	// Ollama is where an Ollama is looked for, whose models join the others: a URL,
	// or "off". Default: http://127.0.0.1:11434.
	Ollama string `yaml:"ollama"`

	// ContentFilter is a server that judges prompts and answers. Default: none, and
	// nothing is filtered.
	ContentFilter *FilterConfig `yaml:"contentFilter"`

	// Environments says which images stand for those of environments of machine
	// learning; see docs/environments.md.
	Environments environment.Config `yaml:"environments"`

	// TelemetryMiB is how much a component of Application Insights keeps of what it
	// collects: beyond it the oldest records go, as those older than the component's
	// RetentionInDays do. Default: 64.
	TelemetryMiB int `yaml:"telemetryMiB"`

	// Offline makes the proxy refuse every name that is not Lazurite's, and refuses
	// models with backends on other machines.
	Offline bool `yaml:"offline"`

	// AzureLike adds Azure's documented delays, throttles and limits.
	AzureLike bool `yaml:"azureLike"`

	// Propagation is how long, with AzureLike, a role assignment and a new
	// federated credential take to count: "30s". Azure says up to 10 minutes for
	// the one and minutes for the other. Default: two minutes.
	Propagation time.Duration `yaml:"propagation"`

	// Replicas is how many servers share the database: each keeps its part of the
	// limits that a model's deployment has. Default: one.
	Replicas int `yaml:"replicas"`

	// LogLevel is "debug", "info", "warn" or "error". Default: "info".
	LogLevel string `yaml:"logLevel"`

	// Nodes is the node agent; nil is the one that `sudo laz up` starts for Home.
	Nodes node.Agent `yaml:"-"`

	// Log is where the server logs; nil discards.
	Log *slog.Logger `yaml:"-"`
}

// CertificateFile is a certificate with its chain, and its key, as PEM files.
type CertificateFile struct {
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
}

// StoreConfig chooses the database.
type StoreConfig struct {
	// PostgresDSNFile is a file, readable by the user alone, with the connection
	// string of a PostgreSQL database. Default: none, SQLite.
	PostgresDSNFile string `yaml:"postgresDSNFile"`
}

// IssuerConfig is the operator's word on external issuers.
type IssuerConfig struct {
	// AllowPrivate lists issuers that may be at loopback, link-local or private
	// addresses: names, names with a port, prefixes of addresses ("10.1.0.0/16").
	AllowPrivate []string `yaml:"allowPrivate"`
}

// Load reads the YAML file at path over the defaults and validates the result.
func Load(path string) (Config, error) {
	var c Config
	raw, err := os.ReadFile(path)
	if err != nil {
		return c, fmt.Errorf("reading the configuration: %w", err)
	}
	if c, err = Parse(raw); err != nil {
		return c, fmt.Errorf("configuration %s: %w", path, err)
	}
	return c, nil
}

// Parse is Load for a file's content.
func Parse(raw []byte) (Config, error) {
	c, err := Decode(raw)
	if err != nil {
		return c, err
	}
	if err := c.Default(); err != nil {
		return c, err
	}
	return c, c.Validate()
}

// Decode reads a file's content, without defaults or a look at the values.
func Decode(raw []byte) (Config, error) {
	var c Config
	dec := yaml.NewDecoder(bytes.NewReader(raw))
	dec.KnownFields(true)
	if err := dec.Decode(&c); err != nil && !errors.Is(err, io.EOF) {
		return c, err
	}
	if err := dec.Decode(&struct{}{}); !errors.Is(err, io.EOF) {
		return c, errors.New("more than one YAML document")
	}
	return c, nil
}

// inference is what the catalogue of models is made of.
func (c *Config) inference() inference.Config {
	return inference.Config{Models: c.Models, NoBuiltin: c.BuiltinModel != nil && !*c.BuiltinModel, Ollama: c.Ollama, Offline: c.Offline, Log: c.Log}
}

// Default fills what is unset.
func (c *Config) Default() error {
	if c.Home == "" {
		home, err := DefaultHome(os.Getenv)
		if err != nil {
			return err
		}
		c.Home = home
	}
	set := func(s *string, v string) {
		if *s == "" {
			*s = v
		}
	}
	c.ContentFilter.setDefault()
	set(&c.Listen, ":8443")
	set(&c.Names, NamesOwn)
	set(&c.Domain, DefaultDomain)
	set(&c.LogLevel, "info")
	set(&c.Clusters, ClustersAuto)
	if c.TelemetryMiB == 0 {
		c.TelemetryMiB = telemetry.DefaultMiB
	}
	if c.AzureLike && c.Propagation == 0 {
		c.Propagation = azurePropagation
	}
	set(&c.RootKeyFile, filepath.Join(Home(c.Home).Keys(), "root.json"))
	if len(c.Environments.Archives) == 0 {
		c.Environments.Archives = []string{Home(c.Home).Images()}
		if self, err := os.Executable(); err == nil { // without a path to itself, it has nothing beside itself
			c.Environments.Archives = append(c.Environments.Archives, filepath.Join(filepath.Dir(self), "images"))
		}
	}
	if c.Store.PostgresDSNFile == "" {
		set(&c.Registries, Home(c.Home).Registries())
		set(&c.Blobs, Home(c.Home).Blobs())
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}

// DefaultHome is the state folder that the environment asks for.
func DefaultHome(getenv func(string) string) (string, error) {
	if h := getenv("LAZ_HOME"); h != "" {
		return filepath.Abs(h)
	}
	if h := getenv("XDG_STATE_HOME"); filepath.IsAbs(h) { // a relative one is to be ignored, XDG Base Directory Specification
		return filepath.Join(h, "lazurite"), nil
	}
	h := getenv("HOME")
	if !filepath.IsAbs(h) {
		return "", errors.New("no home folder: set LAZ_HOME to the folder for Lazurite's state")
	}
	return filepath.Join(h, ".local", "state", "lazurite"), nil
}

// Validate says everything that is wrong with c, after Default.
func (c *Config) Validate() error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !filepath.IsAbs(c.Home) {
		wrong("home: %q is not an absolute path", c.Home)
	}
	if !filepath.IsAbs(c.RootKeyFile) {
		wrong("rootKeyFile: %q is not an absolute path", c.RootKeyFile)
	}
	if err := checkAddress(c.Listen); err != nil {
		wrong("listen: %w", err)
	}
	if c.Local != "" {
		if err := checkAddress(c.Local); err != nil {
			wrong("local: %w", err)
		} else if !Loopback(c.Local) {
			wrong("local: %q is not a loopback address: whoever reaches it uses this machine's network", c.Local)
		}
	}
	if c.Names != NamesAzure && c.Names != NamesOwn {
		wrong("names: %q is neither %q nor %q", c.Names, NamesAzure, NamesOwn)
	}
	if err := checkDomain(c.Domain); err != nil {
		wrong("domain: %w", err)
	}
	if c.PublicPort < 0 || c.PublicPort > 65535 {
		wrong("publicPort: %d is not a port", c.PublicPort)
	}
	if _, err := c.balancers(); err != nil {
		wrong("balancers: %w", err)
	} else if len(c.Balancers) > 0 && c.Local == c.Listen {
		wrong("balancers: listen and local must be two addresses")
	}
	for i, f := range c.Certificates {
		if f.Cert == "" || f.Key == "" {
			wrong("certificates[%d]: cert and key are both needed", i)
		}
	}
	if err := c.ContentFilter.check(c.Offline); err != nil {
		wrong("contentFilter: %w", err)
	}
	if err := c.checkTelemetry(); err != nil {
		wrong("telemetryMiB: %w", err)
	}
	if c.Replicas < 0 {
		wrong("replicas: %d is negative", c.Replicas)
	}
	if c.Propagation < 0 || c.Propagation > 0 && !c.AzureLike {
		wrong("propagation: %s is for azureLike, and not negative", c.Propagation)
	}
	if c.Clusters != ClustersAuto && c.Clusters != ClustersIssuer && c.Clusters != ClustersEmbedded {
		wrong("clusters: %q is none of %q, %q, %q", c.Clusters, ClustersAuto, ClustersIssuer, ClustersEmbedded)
	}
	if c.Kubernetes != "" && !filepath.IsAbs(c.Kubernetes) {
		wrong("kubernetes: %q is not an absolute path", c.Kubernetes)
	}
	if c.Registries != "" && !filepath.IsAbs(c.Registries) {
		wrong("registries: %q is not an absolute path", c.Registries)
	}
	if c.Blobs != "" && !filepath.IsAbs(c.Blobs) {
		wrong("blobs: %q is not an absolute path", c.Blobs)
	}
	if err := node.CheckMirrors(c.Mirrors); err != nil {
		wrong("mirrors: %w", err)
	}
	if err := c.Environments.Validate(); err != nil {
		errs = append(errs, err)
	}
	models := c.inference()
	if err := models.Validate(); err != nil {
		errs = append(errs, err)
	}
	if _, err := c.level(); err != nil {
		wrong("logLevel: %w", err)
	}
	return errors.Join(errs...)
}

func (c *Config) level() (slog.Level, error) {
	var l slog.Level
	switch c.LogLevel {
	case "debug", "info", "warn", "error":
		return l, l.UnmarshalText([]byte(c.LogLevel))
	}
	return l, fmt.Errorf("%q is none of debug, info, warn, error", c.LogLevel)
}

// Level is LogLevel for log/slog; info when it is not valid.
func (c *Config) Level() slog.Level {
	l, _ := c.level()
	return l
}

func checkAddress(addr string) error {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%q is not HOST:PORT", addr)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("%q has no port from 0 to 65535", addr)
	}
	return nil
}

// Loopback reports whether the host of HOST:PORT is an address of this machine alone.
func Loopback(addr string) bool {
	host, _, _ := net.SplitHostPort(addr)
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}

// checkDomain accepts a name of two labels or more whose names can't be Azure's.
func checkDomain(d string) error {
	if d != strings.ToLower(d) || strings.HasPrefix(d, ".") || strings.HasSuffix(d, ".") || strings.ContainsAny(d, " /:*\n") || !strings.Contains(d, ".") {
		return fmt.Errorf("%q is not a domain in lower case, such as cloud.example.org", d)
	}
	for _, f := range families() {
		for _, n := range f.azure {
			if n = strings.TrimLeft(n, "*."); d == n || strings.HasSuffix(d, "."+n) {
				return fmt.Errorf("%q lies inside Azure's %s", d, n)
			}
		}
	}
	return nil
}

func (c *Config) publicPort() string {
	if c.PublicPort != 0 {
		return strconv.Itoa(c.PublicPort)
	}
	_, port, _ := net.SplitHostPort(c.Listen)
	return port
}

// balancers parses Balancers.
func (c *Config) balancers() ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, s := range c.Balancers {
		if a, err := netip.ParseAddr(s); err == nil {
			out = append(out, netip.PrefixFrom(a, a.BitLen()))
			continue
		}
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, fmt.Errorf("%q is neither an address nor a prefix", s)
		}
		out = append(out, p.Masked())
	}
	return out, nil
}
