package cli

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"strings"

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
			return nil, c.writeKubeconfig(ctx, b)
		})}
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
