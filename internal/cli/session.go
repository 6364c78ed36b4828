package cli

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
)

// session is what commands share: the environment, the state on disk, and the
// connection. Each part is read when first asked for.
type session struct {
	env              Env
	debug, quiet     bool
	subscriptionName string // of --subscription or --ids

	dir     string
	ini     *iniFile
	prof    *profile
	active  *cloud
	client  *http.Client
	tokens  *tokenCache
	running *endpointFile // nil: not looked up; empty: none

	onlyLocal bool // the client trusts the local server's authority alone
	allRoots  bool // that was not enough
}

func newSession(env Env) *session {
	return &session{env: env, dir: configDir(env)}
}

// lazHome is the state folder of the server on this machine.
func lazHome(env Env) string {
	if d := env.Getenv("LAZ_HOME"); d != "" {
		return d
	}
	if d := env.Getenv("XDG_STATE_HOME"); d != "" {
		return filepath.Join(d, "lazurite")
	}
	return filepath.Join(env.Getenv("HOME"), ".local", "state", "lazurite")
}

// configDir is az's configuration folder: AZURE_CONFIG_DIR, else the one that
// the local server keeps, else ~/.azure.
func configDir(env Env) string {
	if d := env.Getenv("AZURE_CONFIG_DIR"); d != "" {
		return d
	}
	own := filepath.Join(lazHome(env), "azure")
	if st, err := os.Stat(own); err == nil && st.IsDir() {
		return own
	}
	return filepath.Join(env.Getenv("HOME"), ".azure")
}

func (s *session) path(name string) string { return filepath.Join(s.dir, name) }

// config is az's configuration file. AZURE_SECTION_KEY variables go before it.
func (s *session) config() configView {
	if s.ini == nil {
		f, err := readINI(s.path("config"))
		if err != nil {
			s.warn("WARNING: %s", err)
			f = &iniFile{path: s.path("config")}
		}
		s.ini = f
	}
	return configView{file: s.ini, getenv: s.env.Getenv}
}

// endpointFile says where the server on this machine listens.
type endpointFile struct {
	Listen string `json:"listen"` // HOST:PORT; "" when no server runs
	Proxy  string `json:"proxy"`  // URL of its CONNECT proxy
	CA     string `json:"ca"`     // PEM file of all trusted authorities
	OwnCA  string `json:"ownCA"`  // PEM file of its own authority alone
}

// local is the server on this machine; empty when none says that it runs.
func (s *session) local() *endpointFile {
	if s.running == nil {
		s.running = &endpointFile{}
		if b, err := os.ReadFile(filepath.Join(lazHome(s.env), "run", "endpoint.json")); err == nil {
			if json.Unmarshal(b, s.running) != nil {
				s.running = &endpointFile{}
			}
		}
	}
	return s.running
}
