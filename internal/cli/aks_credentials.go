package cli

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"
	"golang.org/x/crypto/ssh"
)

func aksCredentials() *command {
	return &command{path: "aks get-credentials", short: "Write how to reach a cluster into the kubeconfig.", example: "aks get-credentials -n myCluster -g myGroup",
		args: []arg{nameOpt("Name of the cluster."), groupOpt(), flagOpt("admin", "As the cluster's administrator.").or("-a"),
			opt("file", "The kubeconfig; - is stdout. Without it, the first of $KUBECONFIG, else ~/.kube/config.").or("-f"),
			flagOpt("overwrite-existing", "Replace what is there under the same names."),
			opt("context", "Name of the context."),
			opt("format", "Form of the credentials.").oneOf("azure", "exec"),
			flagOpt("public-fqdn", "Use the public name of a private cluster.")},
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			action := "listClusterUserCredential"
			if c.flag("admin") {
				action = "listClusterAdminCredential"
			}
			var q []string
			if f := c.text("format"); f != "" {
				q = append(q, "format", f)
			}
			if c.flag("public-fqdn") {
				q = append(q, "server-fqdn", "public")
			}
			a, err := m.do(ctx, http.MethodPost, clusterPath(c, m)+"/"+action, clusterVersion, []byte{}, q...)
			if err != nil {
				return nil, err
			}
			v, err := decode(a.body)
			if err != nil {
				return nil, err
			}
			configs := items(at(v, "kubeconfigs"))
			if len(configs) == 0 {
				return nil, failf("No Kubernetes credentials found.")
			}
			b, err := base64.StdEncoding.DecodeString(textAt(configs[0], "value"))
			if err != nil {
				return nil, fmt.Errorf("read the credentials: %w", err)
			}
			return nil, c.writeKubeconfig(b)
		})}
}

func (c *call) writeKubeconfig(b []byte) error {
	path := c.text("file")
	if path == "-" {
		_, err := c.env.Stdout.Write(b)
		return err
	}
	if path == "" {
		path = filepath.SplitList(c.env.Getenv("KUBECONFIG") + string(filepath.ListSeparator))[0]
	}
	path = c.filePath(firstNonEmpty(path, "~/.kube/config"))
	var fresh object
	if err := yaml.Unmarshal(b, &fresh); err != nil {
		return fmt.Errorf("read the credentials: %w", err)
	}
	nameContext(fresh, c.text("context"))
	old := object{}
	have, err := os.ReadFile(path)
	if err == nil {
		err = yaml.Unmarshal(have, &old)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return failf("%s can't be read as a kubeconfig: %s", path, err)
	}
	if old == nil {
		old = object{}
	}
	if err := c.mergeKubeconfig(old, fresh); err != nil {
		return err
	}
	out, err := yaml.Marshal(old)
	if err != nil {
		return fmt.Errorf("write kubeconfig: %w", err)
	}
	if err := writePrivate(path, out); err != nil {
		return err
	}
	c.warn("Merged \"%s\" as current context in %s", textAt(old, "current-context"), path)
	return nil
}

// nameContext gives the only context and its cluster the name asked for; an
// administrator's context ends in "-admin".
func nameContext(kc object, name string) {
	contexts, clusters := items(kc["contexts"]), items(kc["clusters"])
	if len(contexts) == 0 {
		return
	}
	first := asObject(contexts[0])
	if name != "" && len(clusters) > 0 {
		first["name"], kc["current-context"] = name, name
		asObject(first["context"])["cluster"] = name
		asObject(clusters[0])["name"] = name
	}
	if strings.HasPrefix(textAt(first, "context", "user"), "clusterAdmin") && !strings.HasSuffix(textAt(first, "name"), "-admin") {
		first["name"] = textAt(first, "name") + "-admin"
		kc["current-context"] = first["name"]
	}
}

// mergeKubeconfig adds what fresh has to old, by name.
func (c *call) mergeKubeconfig(old, fresh object) error {
	for _, kind := range []string{"clusters", "users", "contexts"} {
		have := items(old[kind])
		for _, n := range items(fresh[kind]) {
			kept := []any{}
			for _, h := range have {
				if textAt(h, "name") != textAt(n, "name") {
					kept = append(kept, h)
				} else if !c.flag("overwrite-existing") && !reflect.DeepEqual(h, n) {
					if err := c.replaceQuestion(textAt(n, "name"), kind); err != nil {
						return err
					}
				}
			}
			have = append(kept, n)
		}
		old[kind] = have
	}
	for _, k := range []string{"apiVersion", "kind", "preferences"} {
		if old[k] == nil && fresh[k] != nil {
			old[k] = fresh[k]
		}
	}
	old["current-context"] = fresh["current-context"]
	return nil
}

func (c *call) replaceQuestion(name, kind string) error {
	msg := fmt.Sprintf("A different object named %s already exists in %s in your kubeconfig file.", name, kind)
	if !c.stdinIsTerminal() {
		return withHint(failf("%s", msg), "To overwrite it use --overwrite-existing.")
	}
	return c.confirm(msg + "\nOverwrite?")
}

// sshKey is the public key of --ssh-key-value: the key, or its file, which
// --generate-ssh-keys makes where it isn't there.
func (c *call) sshKey() (string, error) {
	v := c.text("ssh-key-value")
	if strings.HasPrefix(v, "ssh-") || strings.HasPrefix(v, "ecdsa-") {
		return strings.TrimSpace(v), nil
	}
	path := c.filePath(v)
	b, err := os.ReadFile(path)
	if err == nil {
		return strings.TrimSpace(string(b)), nil
	}
	if !c.flag("generate-ssh-keys") {
		return "", withHint(failf("An RSA key file or key value must be supplied to SSH Key Value."), "You can use --generate-ssh-keys to let the program make one for you.")
	}
	return generateSSHKey(path)
}

// generateSSHKey makes an RSA key pair: the public one at path, the private
// one beside it without ".pub".
func generateSSHKey(path string) (string, error) {
	private := strings.TrimSuffix(path, ".pub")
	if private == path {
		private = path + ".private"
	}
	if isFile(private) {
		return "", failf("%s is there without %s: name the public key by --ssh-key-value", private, path)
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return "", fmt.Errorf("make an SSH key: %w", err)
	}
	pub, err := ssh.NewPublicKey(&key.PublicKey)
	if err != nil {
		return "", fmt.Errorf("make an SSH key: %w", err)
	}
	block := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	if err := writePrivate(private, block); err != nil {
		return "", err
	}
	line := ssh.MarshalAuthorizedKey(pub)
	return strings.TrimSpace(string(line)), writePrivate(path, line)
}
