package server

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"

	"lazurite.dev/internal/providers/cognitiveservices/openai"
)

// FilterConfig is a server with OpenAI's moderation API.
type FilterConfig struct {
	// URL is the whole of it: "http://127.0.0.1:9000/v1/moderations", which is also
	// the path where it has none. Needed.
	URL string `yaml:"url"`

	// KeyFile holds the key that the server asks for: a file, absolute path, that
	// nobody but its owner can read. It is read at the start.
	KeyFile string `yaml:"keyFile"`

	// Model is named in requests to it. Default: none is.
	Model string `yaml:"model"`

	// Strict refuses requests while the server does not answer. Default: they pass,
	// marked as not filtered, as in Azure.
	Strict bool `yaml:"strict"`
}

// setDefault fills what is unset.
func (f *FilterConfig) setDefault() {
	if f == nil {
		return
	}
	if u, err := url.Parse(f.URL); err == nil && u.Host != "" && strings.Trim(u.Path, "/") == "" {
		u.Path = "/v1/moderations"
		f.URL = u.String()
	}
}

// check says what is wrong with a filter's configuration; nil is none.
func (f *FilterConfig) check(offline bool) error {
	if f == nil {
		return nil
	}
	var errs []error
	u, err := url.Parse(f.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
		errs = append(errs, errors.New("url: it is not an http or https URL without a password")) // so it is not repeated
	} else if a, err := netip.ParseAddr(u.Hostname()); offline && u.Hostname() != "localhost" && (err != nil || !a.IsLoopback()) {
		errs = append(errs, fmt.Errorf("url: %s is not on this machine, and offline is set", u.Host))
	}
	if f.KeyFile != "" && !filepath.IsAbs(f.KeyFile) {
		errs = append(errs, fmt.Errorf("keyFile: %q is not an absolute path", f.KeyFile))
	}
	return errors.Join(errs...)
}

// open is the filter with its key; nil where there is none.
func (f *FilterConfig) open() (*openai.Filter, error) {
	if f == nil {
		return nil, nil
	}
	out := &openai.Filter{URL: f.URL, Model: f.Model, Strict: f.Strict}
	if f.KeyFile == "" {
		return out, nil
	}
	var err error
	if out.Key, err = privateFile(f.KeyFile); err != nil {
		return nil, fmt.Errorf("contentFilter: keyFile: %w", err)
	}
	return out, nil
}
