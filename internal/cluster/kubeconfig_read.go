package cluster

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"

	"go.yaml.in/yaml/v3"
)

const maxKubeconfig = 1 << 20 // bytes

// kubeconfig is the part of the file that says how to reach an API server.
// Source: Kubernetes, client-go clientcmd/api/v1, Config.
type kubeconfig struct {
	CurrentContext string `yaml:"current-context"`
	Clusters       []struct {
		Name    string      `yaml:"name"`
		Cluster kubeCluster `yaml:"cluster"`
	} `yaml:"clusters"`
	Contexts []struct {
		Name    string `yaml:"name"`
		Context struct {
			Cluster string `yaml:"cluster"`
			User    string `yaml:"user"`
		} `yaml:"context"`
	} `yaml:"contexts"`
	Users []struct {
		Name string   `yaml:"name"`
		User kubeUser `yaml:"user"`
	} `yaml:"users"`
}

type kubeCluster struct {
	Server     string `yaml:"server"`
	CAFile     string `yaml:"certificate-authority"`
	CA         string `yaml:"certificate-authority-data"`
	Insecure   bool   `yaml:"insecure-skip-tls-verify"`
	ServerName string `yaml:"tls-server-name"`
	Proxy      string `yaml:"proxy-url"`
}

type kubeUser struct {
	CertFile    string `yaml:"client-certificate"`
	Cert        string `yaml:"client-certificate-data"`
	KeyFile     string `yaml:"client-key"`
	Key         string `yaml:"client-key-data"`
	Token       string `yaml:"token"`
	TokenFile   string `yaml:"tokenFile"`
	Username    string `yaml:"username"`
	Password    string `yaml:"password"`
	Impersonate string `yaml:"as"`
	Exec        any    `yaml:"exec"`
	Provider    any    `yaml:"auth-provider"`
}

// ReadKubeconfig reads the access that a context of a kubeconfig describes, ""
// being the current one, and gives the context's name. Everything has to be in
// the file itself: this machine reads no file and runs no program that somebody
// else's file names.
func ReadKubeconfig(b []byte, context string) (Access, string, error) {
	if len(b) > maxKubeconfig {
		return Access{}, "", fmt.Errorf("%w: the kubeconfig is larger than %d bytes", ErrInvalid, maxKubeconfig)
	}
	var f kubeconfig
	if err := yaml.Unmarshal(b, &f); err != nil {
		return Access{}, "", fmt.Errorf("%w: it is no kubeconfig", ErrInvalid) // the parser's words may hold secrets
	}
	if context == "" {
		context = f.CurrentContext
	}
	for _, c := range f.Contexts {
		if c.Name != context {
			continue
		}
		a, err := f.access(c.Context.Cluster, c.Context.User)
		if err != nil {
			return Access{}, "", fmt.Errorf("%w: the kubeconfig's context '%s': %w", ErrInvalid, context, err)
		}
		return a, context, nil
	}
	return Access{}, "", fmt.Errorf("%w: the kubeconfig has no context '%s'", ErrInvalid, context)
}

func (f *kubeconfig) access(cluster, user string) (Access, error) {
	var a Access
	var found int
	for _, c := range f.Clusters {
		if c.Name == cluster {
			found++
			if err := c.Cluster.read(&a); err != nil {
				return a, fmt.Errorf("cluster '%s': %w", cluster, err)
			}
			break
		}
	}
	for _, u := range f.Users {
		if u.Name == user {
			found++
			if err := u.User.read(&a); err != nil {
				return a, fmt.Errorf("user '%s': %w", user, err)
			}
			break
		}
	}
	if found != 2 {
		return a, fmt.Errorf("its cluster '%s' or its user '%s' is not there", cluster, user)
	}
	return a, nil
}

func (c *kubeCluster) read(a *Access) error {
	u, err := url.Parse(c.Server)
	switch {
	case err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return errors.New("its server is no plain https URL")
	case c.Insecure:
		return errors.New("insecure-skip-tls-verify: a server that is not checked could be anybody; give certificate-authority-data")
	case c.Proxy != "":
		return errors.New("proxy-url is not supported")
	case c.CAFile != "":
		return errors.New("certificate-authority names a file; give certificate-authority-data (kubectl config view --flatten --raw)")
	}
	a.Server, a.ServerName = c.Server, c.ServerName
	if a.CA, err = base64.StdEncoding.DecodeString(c.CA); err != nil {
		return errors.New("certificate-authority-data is no base64")
	}
	if len(a.CA) > 0 && !x509.NewCertPool().AppendCertsFromPEM(a.CA) {
		return errors.New("certificate-authority-data holds no certificate")
	}
	return nil
}

func (u *kubeUser) read(a *Access) error {
	switch {
	case u.Exec != nil || u.Provider != nil:
		return errors.New("it signs in with a program (exec or auth-provider), which is not run here: make a service account for this, with a token or a client certificate in the file")
	case u.Username != "" || u.Password != "":
		return errors.New("passwords are not supported")
	case u.Impersonate != "":
		return errors.New("impersonation is not supported")
	case u.CertFile != "" || u.KeyFile != "" || u.TokenFile != "":
		return errors.New("it names files; give their contents (kubectl config view --flatten --raw)")
	case u.Token == "" && u.Cert == "":
		return errors.New("it has neither a token nor a client certificate")
	}
	var err error
	if a.Cert, err = base64.StdEncoding.DecodeString(u.Cert); err == nil {
		a.Key, err = base64.StdEncoding.DecodeString(u.Key)
	}
	if err != nil {
		return errors.New("client-certificate-data or client-key-data is no base64")
	}
	if len(a.Cert) > 0 {
		if _, err := tls.X509KeyPair(a.Cert, a.Key); err != nil {
			return errors.New("its client certificate and key don't fit")
		}
	}
	a.Token = u.Token
	return nil
}
