package inference

import (
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Config is what a catalogue is made of. The zero Config is the built-in model
// under the usual names, and an Ollama that runs on this machine.
type Config struct {
	// Models are the models of the configuration. Where there are any, the usual
	// names are not offered.
	Models []ModelConfig

	// Builtin is the built-in model: OpenAI's API under /v1. Where it is nil, calls
	// to it are refused.
	Builtin http.Handler

	// NoBuiltin leaves the built-in model out of the catalogue.
	NoBuiltin bool

	// Ollama is where an Ollama is looked for: a URL, or "off". Default: DefaultOllama.
	Ollama string

	// Offline refuses backends that are not on this machine.
	Offline bool

	// Log is where the catalogue logs; nil discards.
	Log *slog.Logger
}

// DefaultOllama is where Ollama listens unless it is told otherwise.
const DefaultOllama = "http://127.0.0.1:11434"

// OllamaOff is the value of Config.Ollama that looks for none.
const OllamaOff = "off"

// ModelConfig is one model of the `models:` setting.
type ModelConfig struct {
	// Name is what deployments call it. Needed.
	Name string `yaml:"name"`

	// Version is one version or a list of them, the first being the default one.
	// All are served alike. Default: "1".
	Version Versions `yaml:"version"`

	// Format is "OpenAI", the default and the only one.
	Format string `yaml:"format"`

	// Capabilities is what the model can do. Default: chat and tools.
	Capabilities *Capabilities `yaml:"capabilities"`

	// Backends are the servers that have the model. One at least.
	Backends []BackendConfig `yaml:"backends"`
}

// Versions is one version or several.
type Versions []string

// UnmarshalYAML takes a scalar for a list of one.
func (v *Versions) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode {
		*v = Versions{n.Value}
		return nil
	}
	return n.Decode((*[]string)(v))
}

// The values of BackendConfig.API.
const (
	APIOpenAI = "openai"
	APIAzure  = "azure"
)

// BackendConfig is one server that has a model.
type BackendConfig struct {
	// Name is how log, metrics and `laz models list` call it; unique among the
	// model's. Default: the URL's host and port.
	Name string `yaml:"name"`

	// URL is the server: http or https, host, port, and a path where Prefix is not
	// set. Needed, but for the built-in model.
	URL string `yaml:"url"`

	// Builtin takes the built-in model in place of a server.
	Builtin bool `yaml:"builtin"`

	// Prefix is the path before chat/completions. Default: "/v1"; of the API
	// "azure" "/openai/v1", or with APIVersion "/openai".
	Prefix string `yaml:"prefix"`

	// API is "openai", the default, or "azure": the key goes into the header
	// api-key. APIVersion, of azure, asks /openai/deployments/MODEL/… in that
	// version instead of the surface without versions.
	API        string `yaml:"api"`
	APIVersion string `yaml:"apiVersion"`

	// Model is the server's own name for the model; with the API "azure" the
	// deployment's. Default: the model's name.
	Model string `yaml:"model"`

	// KeyFile holds the key that the server asks for: a file, absolute path, that
	// nobody but its owner can read. It is read again when it changes.
	KeyFile string `yaml:"keyFile"`

	// Headers are sent besides; nothing secret belongs here.
	Headers map[string]string `yaml:"headers"`

	// CAFile is a PEM file, absolute path, of authorities besides the system's.
	CAFile string `yaml:"caFile"`

	// Responses says that the server has /responses itself. Otherwise such calls
	// are translated to chat.
	Responses bool `yaml:"responses"`

	// StreamOptions says that the server knows stream_options, with which usage is
	// asked for. Default: true. Where it does not, tokens of streams are estimated.
	StreamOptions *bool `yaml:"streamOptions"`

	// MaxCompletionTokens says that the server wants max_completion_tokens, as
	// OpenAI's reasoning models do, where a response's max_output_tokens is
	// translated; otherwise it gets max_tokens, which every other server knows.
	// Default: true for api.openai.com and the API "azure" from 2024-09-01 on.
	MaxCompletionTokens *bool `yaml:"maxCompletionTokens"`

	// Weight is the backend's share of the calls. 0 makes it a reserve, asked when
	// no other can be. Default: 1.
	Weight *int `yaml:"weight"`

	// Concurrency is how many calls it has at a time; others wait. 0 is any number,
	// of the built-in model as many as there are processors.
	Concurrency int `yaml:"concurrency"`

	// HealthInterval is how often it is asked for its models; 0s: never. Default: 15s.
	HealthInterval *time.Duration `yaml:"healthInterval"`

	Timeouts Timeouts `yaml:"timeouts"`
}

// Timeouts are how long a call waits for what.
type Timeouts struct {
	Connect   time.Duration `yaml:"connect"`   // for a connection, TLS included. Default: 5s
	FirstByte time.Duration `yaml:"firstByte"` // for the answer's first byte. Default: 5m
	Idle      time.Duration `yaml:"idle"`      // for the next byte. Default: 1m
}

const (
	defaultHealthInterval = 15 * time.Second
	defaultConnect        = 5 * time.Second
	defaultFirstByte      = 5 * time.Minute
	defaultIdle           = time.Minute
)

// withDefaults fills what is unset.
func (m ModelConfig) withDefaults() ModelConfig {
	if len(m.Version) == 0 {
		m.Version = Versions{"1"}
	}
	if m.Format == "" {
		m.Format = FormatOpenAI
	}
	if m.Capabilities == nil {
		m.Capabilities = &Capabilities{Chat: true, Tools: true}
	}
	m.Backends = append([]BackendConfig(nil), m.Backends...)
	for i, b := range m.Backends {
		m.Backends[i] = b.withDefaults(m.Name)
	}
	return m
}

func (b BackendConfig) withDefaults(model string) BackendConfig {
	if b.API == "" {
		b.API = APIOpenAI
	}
	if b.Model == "" {
		b.Model = model
	}
	if u, err := url.Parse(b.URL); err == nil {
		if b.Name == "" && !b.Builtin {
			b.Name = u.Host
		}
		if b.Prefix == "" {
			b.Prefix = strings.TrimSuffix(u.Path, "/")
		}
	}
	if b.Builtin {
		b.Model = TinyWriter
		if b.Concurrency == 0 {
			b.Concurrency = runtime.GOMAXPROCS(0) // more would only be slower, and nobody's turn
		}
		if b.Name == "" {
			b.Name = SourceBuiltin
		}
	}
	if b.Prefix == "" {
		b.Prefix = map[string]string{APIOpenAI: "/v1", APIAzure: "/openai/v1"}[b.API]
		if b.APIVersion != "" {
			b.Prefix = "/openai"
		}
	}
	if b.Weight == nil {
		one := 1
		b.Weight = &one
	}
	if b.HealthInterval == nil {
		d := defaultHealthInterval
		b.HealthInterval = &d
	}
	orDefault(&b.Timeouts.Connect, defaultConnect)
	orDefault(&b.Timeouts.FirstByte, defaultFirstByte)
	orDefault(&b.Timeouts.Idle, defaultIdle)
	return b
}

// firstCompletionTokens is the api-version of Azure OpenAI that has
// max_completion_tokens first. Source: Azure OpenAI, "API version lifecycle".
const firstCompletionTokens = "2024-09-01"

// wantsCompletionTokens reports whether max_output_tokens goes to the server as
// max_completion_tokens.
func (b BackendConfig) wantsCompletionTokens() bool {
	if b.MaxCompletionTokens != nil {
		return *b.MaxCompletionTokens
	}
	if b.API == APIAzure {
		return b.APIVersion == "" || b.APIVersion >= firstCompletionTokens
	}
	u, err := url.Parse(b.URL)
	return err == nil && (strings.EqualFold(u.Hostname(), "api.openai.com") || strings.HasSuffix(strings.ToLower(u.Hostname()), ".api.openai.com"))
}

func orDefault(d *time.Duration, v time.Duration) {
	if *d == 0 {
		*d = v
	}
}

// Validate says everything that is wrong with c, files included.
func (c *Config) Validate() error {
	var errs []error
	if c.Ollama != "" && c.Ollama != OllamaOff {
		if err := checkURL(c.Ollama, c.Offline); err != nil {
			errs = append(errs, fmt.Errorf("ollama: %w", err))
		}
	}
	names := map[string]bool{}
	for i, m := range c.Models {
		m = m.withDefaults()
		at := fmt.Sprintf("models[%d]", i)
		for _, err := range m.mistakes() {
			errs = append(errs, fmt.Errorf("%s.%w", at, err))
		}
		if key := strings.ToLower(m.Name); names[key] {
			errs = append(errs, fmt.Errorf("%s.name: %q comes twice; one model has several versions or backends", at, m.Name))
		} else {
			names[key] = true
		}
		called := map[string]bool{}
		for k, b := range m.Backends {
			at := fmt.Sprintf("%s.backends[%d]", at, k)
			for _, err := range b.mistakes(c.Models[i].Backends[k], c.Offline) {
				errs = append(errs, fmt.Errorf("%s.%w", at, err))
			}
			if b.Builtin && c.NoBuiltin {
				errs = append(errs, fmt.Errorf("%s.builtin: the built-in model is switched off", at))
			}
			if called[b.Name] {
				errs = append(errs, fmt.Errorf("%s.name: %q comes twice", at, b.Name))
			}
			called[b.Name] = true
		}
	}
	return errors.Join(errs...)
}

const maxName = 128

// checkName accepts what can stand in a path, a header and a table.
func checkName(name string) error {
	if name == "" {
		return errors.New("is missing")
	}
	if len(name) > maxName {
		return fmt.Errorf("is longer than %d bytes", maxName)
	}
	for _, r := range name {
		if !strings.ContainsRune("-._:/@+", r) && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') {
			return fmt.Errorf("%q may have letters, digits and - . _ : / @ +", name)
		}
	}
	return nil
}

func (m *ModelConfig) mistakes() (errs []error) {
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if err := checkName(m.Name); err != nil {
		wrong("name: %w", err)
	}
	seen := map[string]bool{}
	for _, v := range m.Version {
		if err := checkName(v); err != nil {
			wrong("version: %w", err)
		}
		if seen[strings.ToLower(v)] {
			wrong("version: %q comes twice", v)
		}
		seen[strings.ToLower(v)] = true
	}
	if m.Format != FormatOpenAI {
		wrong("format: %q is not %q", m.Format, FormatOpenAI)
	}
	if c := m.Capabilities; c.MaxContext < 0 || c.MaxOutput < 0 {
		wrong("capabilities: maxContext and maxOutput are not negative")
	} else if c := *c; !c.Chat && !c.Completions && !c.Embeddings && !c.Images && !m.responses() {
		wrong("capabilities: one of chat, completions, embeddings and images is needed")
	}
	if len(m.Backends) == 0 || len(m.Backends) > maxBackends {
		wrong("backends: one is needed, and %d are the most", maxBackends)
	}
	for _, b := range m.Backends {
		if m.responses() && !m.Capabilities.Chat && !b.Responses {
			wrong("backends: %s is not said to have /responses, and without chat nothing can be translated", b.Name)
		}
	}
	return errs
}

// responses reports whether a backend has /responses itself.
func (m *ModelConfig) responses() bool {
	for _, b := range m.Backends {
		if b.Responses {
			return true
		}
	}
	return false
}

// mistakes says what is wrong with b; raw is what was written.
func (b BackendConfig) mistakes(raw BackendConfig, offline bool) (errs []error) {
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if b.Builtin {
		if raw.URL != "" || raw.Prefix != "" || raw.API != "" || raw.APIVersion != "" || raw.Model != "" || raw.KeyFile != "" || raw.CAFile != "" || raw.Responses || raw.MaxCompletionTokens != nil || len(raw.Headers) > 0 {
			wrong("builtin: the built-in model takes name, weight, concurrency and timeouts alone")
		}
	} else if err := checkURL(b.URL, offline); err != nil {
		wrong("url: %w", err)
	} else if u, _ := url.Parse(b.URL); raw.Prefix != "" && strings.Trim(u.Path, "/") != "" {
		wrong("prefix: the url has the path %s already", u.Path)
	}
	if !strings.HasPrefix(b.Prefix, "/") && !b.Builtin || strings.ContainsAny(b.Prefix, "?# ") {
		wrong("prefix: %q is not a path such as /v1", b.Prefix)
	}
	if b.API != APIOpenAI && b.API != APIAzure {
		wrong("api: %q is neither %q nor %q", b.API, APIOpenAI, APIAzure)
	}
	if b.APIVersion != "" && b.API != APIAzure {
		wrong("apiVersion: is for api: %s", APIAzure)
	}
	for name, value := range b.Headers {
		if err := checkHeader(name, value); err != nil {
			wrong("headers: %w", err)
		}
	}
	if *b.Weight < 0 || *b.Weight > 1000 {
		wrong("weight: %d is not from 0 to 1000", *b.Weight)
	}
	if b.Concurrency < 0 {
		wrong("concurrency: %d is negative", b.Concurrency)
	}
	if d := *b.HealthInterval; d != 0 && d < time.Second {
		wrong("healthInterval: %s is under a second; 0s is never", d)
	}
	if b.Timeouts.Connect < 0 || b.Timeouts.FirstByte < 0 || b.Timeouts.Idle < 0 {
		wrong("timeouts: none is negative")
	}
	if b.KeyFile != "" {
		if _, err := readKey(b.KeyFile); err != nil {
			wrong("keyFile: %w", err)
		}
	}
	if b.CAFile != "" {
		if _, err := roots(b.CAFile); err != nil {
			wrong("caFile: %w", err)
		}
	}
	return errs
}

func checkURL(raw string, offline bool) error {
	if raw == "" {
		return errors.New("is missing")
	}
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return errors.New("is not http:// or https:// with a host") // it may hold a password, so it is not repeated
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return errors.New("has a user, a query or a fragment; a key belongs into keyFile")
	}
	if offline && !onThisMachine(u.Hostname()) {
		return fmt.Errorf("%s is not on this machine, and Lazurite is offline", u.Host)
	}
	return nil
}

func onThisMachine(host string) bool {
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback() || strings.EqualFold(host, "localhost")
}

// reserved are the headers that the catalogue sets itself, or that carry credentials.
func reserved() []string {
	return []string{"Authorization", "Api-Key", "Proxy-Authorization", "Cookie", "Host", "Content-Length", "Content-Type", "Connection", "Transfer-Encoding", "Accept-Encoding"}
}

func checkHeader(name, value string) error {
	for _, r := range reserved() {
		if strings.EqualFold(name, r) {
			return fmt.Errorf("%s can't be set here; a key belongs into keyFile", r)
		}
	}
	if name == "" || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r) }) {
		return fmt.Errorf("%q is no name of a header", name)
	}
	if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return fmt.Errorf("the value of %s has control characters", name)
	}
	return nil
}

const maxKey = 64 << 10 // bytes

// readKey is the key in the file at path.
func readKey(path string) (string, error) {
	if !filepath.IsAbs(path) {
		return "", fmt.Errorf("%q is not an absolute path", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return "", err
	}
	if !fi.Mode().IsRegular() || fi.Size() > maxKey {
		return "", fmt.Errorf("%s is not a file with a key", path)
	}
	if fi.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("%s can be read by others: chmod 600 %s", path, path)
	}
	raw := make([]byte, fi.Size())
	n, err := f.ReadAt(raw, 0)
	if n < len(raw) {
		return "", fmt.Errorf("reading %s: %w", path, err)
	}
	key := strings.TrimSpace(string(raw))
	if key == "" || strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", fmt.Errorf("%s does not hold one key, in ASCII without spaces", path)
	}
	return key, nil
}

// roots are the system's authorities and those of the PEM file at path.
func roots(path string) (*x509.CertPool, error) {
	if !filepath.IsAbs(path) {
		return nil, fmt.Errorf("%q is not an absolute path", path)
	}
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s has no certificate", path)
	}
	return pool, nil
}
