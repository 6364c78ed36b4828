package serve_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"text/template"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"lazurite.dev/kube/webhook/mutate"
	"lazurite.dev/kube/webhook/serve"
)

const home = "azure-workload-identity-system"

// TestCluster runs the server beside a real API server, without nodes: with the
// rights that the manifests give it and no others, it registers itself, and
// pods that are made are mutated.
func TestCluster(t *testing.T) {
	c := startCluster(t)
	c.manifests(t, "webhook", "workload-identity")
	w := c.startWebhook(t, 0)
	ctx := t.Context()

	t.Run("identity", func(t *testing.T) {
		c.namespace(t, "shop", nil)
		c.account(t, "shop", "reader", map[string]string{mutate.AnnotationClientID: "client"})
		pod, err := c.pod("shop", "reader", map[string]string{"azure.workload.identity/use": "true"}) // at once: the watch may not show the account yet
		if err != nil {
			t.Fatal(err)
		}
		env := map[string]string{}
		for _, e := range pod.Spec.Containers[0].Env {
			env[e.Name] = e.Value
		}
		if env["AZURE_CLIENT_ID"] != "client" || env["AZURE_TENANT_ID"] != "tenant" || env["AZURE_AUTHORITY_HOST"] != "https://login.example/" || env["SSL_CERT_FILE"] == "" {
			t.Errorf("got %v", env)
		}
		if pod, err = c.pod("shop", "reader", nil); err != nil || len(pod.Spec.Containers[0].Env) != 0 {
			t.Errorf("a pod that does not ask: %+v, %v", pod, err)
		}
		if _, err = c.pod("shop", "nobody", map[string]string{"azure.workload.identity/use": "true"}); err == nil { // the API server itself looks first
			t.Error("a pod without a service account")
		}
	})
	t.Run("certificates", func(t *testing.T) {
		bundle := func(namespace string) string {
			m, err := c.client.CoreV1().ConfigMaps(namespace).Get(ctx, mutate.BundleName, metav1.GetOptions{})
			if err != nil {
				return err.Error()
			}
			return m.Data[mutate.BundleKey]
		}
		if got := bundle("shop"); got != "PEM" {
			t.Errorf("got %q", got)
		}
		c.namespace(t, "asks", map[string]string{"lazurite.dev/ca-bundle": "enabled"})
		c.account(t, "asks", "plain", nil)
		pod, err := c.pod("asks", "plain", nil)
		if err != nil || !strings.Contains(fmt.Sprint(pod.Spec), mutate.BundleName) || bundle("asks") != "PEM" {
			t.Errorf("got %+v, %v", pod, err)
		}
		if pod, err = c.pod("asks", "plain", map[string]string{"lazurite.dev/ca-bundle": "disabled"}); err != nil || len(pod.Spec.Containers[0].Env) != 0 {
			t.Errorf("a pod that declines: %+v, %v", pod, err)
		}
		patch := `{"data":{"ca-bundle.crt":"OTHER\n"}}`
		if _, err := c.client.CoreV1().ConfigMaps(home).Patch(ctx, mutate.BundleName, types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the copies follow", func() bool { return bundle("shop") == "OTHER\n" && bundle("asks") == "OTHER\n" })
		if err := c.client.CoreV1().ConfigMaps("shop").Delete(ctx, mutate.BundleName, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the copy comes back", func() bool { return bundle("shop") == "OTHER\n" })
	})
	t.Run("registration comes back", func(t *testing.T) {
		hooks := c.client.AdmissionregistrationV1().MutatingWebhookConfigurations()
		if err := hooks.Delete(ctx, serve.IdentityConfiguration, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		eventually(t, "new pods are left alone", func() bool {
			pod, err := c.pod("shop", "reader", map[string]string{"azure.workload.identity/use": "true"})
			return err == nil && !strings.Contains(fmt.Sprint(pod.Spec), "AZURE_CLIENT_ID")
		})
		c.manifests(t, "workload-identity")
		eventually(t, "pods are mutated again", func() bool {
			pod, err := c.pod("shop", "reader", map[string]string{"azure.workload.identity/use": "true"})
			return err == nil && strings.Contains(fmt.Sprint(pod.Spec), "AZURE_CLIENT_ID")
		})
	})
	t.Run("many at once", func(t *testing.T) { many(t, c) })
	t.Run("a new certificate drops no connection", func(t *testing.T) { rotation(t, c) })
	w.stop(t)
	if _, err := c.pod("shop", "reader", map[string]string{"azure.workload.identity/use": "true"}); err == nil {
		t.Error("a pod came in although nobody answered")
	}
}

// many makes 200 pods and service accounts at once: none is missed.
func many(t *testing.T, c *testCluster) {
	const pods = 200
	c.namespace(t, "many", nil)
	errs := make(chan error, pods)
	start := time.Now()
	for i := range pods {
		go func() {
			name := fmt.Sprint("account-", i)
			_, err := c.client.CoreV1().ServiceAccounts("many").Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{mutate.AnnotationClientID: name}}}, metav1.CreateOptions{})
			if err == nil {
				var pod *corev1.Pod
				if pod, err = c.pod("many", name, map[string]string{"azure.workload.identity/use": "true"}); err == nil && pod.Spec.Containers[0].Env[0].Value != name {
					err = fmt.Errorf("pod %d: %+v", i, pod.Spec)
				}
			}
			errs <- err
		}()
	}
	for range pods {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d service accounts and pods in %v", pods, time.Since(start))
}

// rotation takes the Secret away: a new certificate, of a new authority, is
// made while pods keep coming.
func rotation(t *testing.T, c *testCluster) {
	ctx := t.Context()
	old, err := c.client.CoreV1().Secrets(home).Get(ctx, serve.SecretName, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.client.CoreV1().Secrets(home).Delete(ctx, serve.SecretName, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	n := 0
	eventually(t, "a new certificate is served", func() bool {
		if _, err := c.pod("shop", "reader", map[string]string{"azure.workload.identity/use": "true"}); err != nil {
			t.Fatalf("pod %d: %v", n, err)
		}
		n++
		conn, err := tls.Dial("tcp", c.webhook, &tls.Config{RootCAs: pool(c.caBundle(t)), ServerName: serve.ServiceName + "." + home + ".svc"})
		if err != nil {
			return false
		}
		defer func() { _ = conn.Close() }()
		block, _ := pem.Decode(old.Data["tls.crt"])
		return !bytes.Equal(conn.ConnectionState().PeerCertificates[0].Raw, block.Bytes)
	})
}

func (c *testCluster) caBundle(t *testing.T) []byte {
	t.Helper()
	m, err := c.client.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(t.Context(), serve.IdentityConfiguration, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return m.Webhooks[0].ClientConfig.CABundle
}

func pool(certs []byte) *x509.CertPool {
	p := x509.NewCertPool()
	p.AppendCertsFromPEM(certs)
	return p
}

// TestDrain: a server that is told to end first says so, and still answers.
func TestDrain(t *testing.T) {
	c := startCluster(t)
	c.manifests(t, "webhook", "workload-identity")
	w := c.startWebhook(t, 2*time.Second)
	c.namespace(t, "shop", nil)
	c.account(t, "shop", "reader", map[string]string{mutate.AnnotationClientID: "client"})
	w.end()
	eventually(t, "it is not ready any more", func() bool { return w.ready() == http.StatusInternalServerError })
	if _, err := c.pod("shop", "reader", map[string]string{"azure.workload.identity/use": "true"}); err != nil {
		t.Error(err)
	}
	w.stop(t)
}

type testCluster struct {
	admin   *rest.Config
	client  *kubernetes.Clientset
	objects dynamic.Interface
	webhook string // address
}

type testWebhook struct {
	end    context.CancelFunc
	done   chan error
	health string
}

func (w *testWebhook) ready() int {
	resp, err := http.Get("http://" + w.health + "/readyz")
	if err != nil {
		return 0
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

func (w *testWebhook) stop(t *testing.T) {
	t.Helper()
	w.end()
	select {
	case err := <-w.done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("it does not end")
	}
}

// startWebhook runs a server with its service account's rights.
func (c *testCluster) startWebhook(t *testing.T, delay time.Duration) *testWebhook {
	t.Helper()
	client := rest.CopyConfig(c.admin)
	client.Impersonate = rest.ImpersonationConfig{UserName: "system:serviceaccount:" + home + ":azure-wi-webhook-admin", Groups: []string{"system:serviceaccounts", "system:serviceaccounts:" + home, "system:authenticated"}}
	client.QPS, client.Burst = 100, 200
	w := &testWebhook{health: freeAddr(t), done: make(chan error, 1)}
	server, err := serve.New(serve.Config{
		Options:   mutate.Options{TenantID: "tenant", AuthorityHost: "https://login.example/", NativeSidecar: true},
		Namespace: home, MinTLS: tls.VersionTLS13, Addr: c.webhook, HealthAddr: w.health, MetricsAddr: "0", Trust: true,
		ShutdownDelay: delay, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}, client)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.end = cancel
	go func() { w.done <- server.Run(ctx) }()
	t.Cleanup(cancel)
	eventually(t, "the webhook is ready", func() bool { return w.ready() == http.StatusOK })
	return w
}

// manifests applies the add-ons of the product, with a service that leads here.
func (c *testCluster) manifests(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		raw, err := os.ReadFile(filepath.Join("..", "..", "..", "internal", "cluster", "addons", name+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		parsed := template.Must(template.New(name).Funcs(template.FuncMap{
			"quote":  func(s string) string { return fmt.Sprintf("%q", s) },
			"indent": func(_ int, s string) string { return s },
		}).Parse(string(raw)))
		var b strings.Builder
		if err := parsed.Execute(&b, map[string]any{"WorkloadIdentity": true, "TenantID": "tenant", "AuthorityHost": "https://login.example/", "WebhookImage": "webhook:v1", "CABundle": "PEM"}); err != nil {
			t.Fatal(err)
		}
		for doc := range strings.SplitSeq(b.String(), "\n---\n") {
			c.apply(t, doc)
		}
	}
}

func (c *testCluster) apply(t *testing.T, doc string) {
	t.Helper()
	var o unstructured.Unstructured
	if err := yaml.Unmarshal([]byte(doc), &o.Object); err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(c.webhook)
	if err != nil {
		t.Fatal(err)
	}
	group := o.GroupVersionKind()
	switch group.Kind {
	case "Deployment": // no nodes here
		return
	case "Service":
		o.Object["spec"] = map[string]any{"type": "ExternalName", "externalName": "localhost"}
	case "MutatingWebhookConfiguration":
		list, _, _ := unstructured.NestedSlice(o.Object, "webhooks")
		for _, h := range list {
			var n int64
			_, _ = fmt.Sscan(port, &n)
			if err := unstructured.SetNestedField(h.(map[string]any), n, "clientConfig", "service", "port"); err != nil {
				t.Fatal(err)
			}
		}
		o.Object["webhooks"] = list
	}
	plural := strings.ToLower(group.Kind) + "s"
	plural = strings.Replace(plural, "policys", "policies", 1)
	r := c.objects.Resource(schema.GroupVersionResource{Group: group.Group, Version: group.Version, Resource: plural})
	var target dynamic.ResourceInterface = r
	if o.GetNamespace() != "" {
		target = r.Namespace(o.GetNamespace())
	}
	if _, err := target.Apply(t.Context(), o.GetName(), &o, metav1.ApplyOptions{FieldManager: "lazurite", Force: true}); err != nil {
		t.Fatalf("%s %s: %v", group.Kind, o.GetName(), err)
	}
}

func (c *testCluster) namespace(t *testing.T, name string, labels map[string]string) {
	t.Helper()
	if _, err := c.client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func (c *testCluster) account(t *testing.T, namespace, name string, annotations map[string]string) {
	t.Helper()
	if _, err := c.client.CoreV1().ServiceAccounts(namespace).Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: annotations}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func (c *testCluster) pod(namespace, account string, labels map[string]string) (*corev1.Pod, error) {
	no := false
	return c.client.CoreV1().Pods(namespace).Create(context.Background(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "pod-", Labels: labels},
		Spec: corev1.PodSpec{
			ServiceAccountName: account, AutomountServiceAccountToken: &no,
			Containers: []corev1.Container{{Name: "main", Image: "image"}},
		},
	}, metav1.CreateOptions{})
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	deadline := time.After(40 * time.Second)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !f() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not in time: %s", what)
		}
	}
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// kubernetes is the program that `make kube` builds.
func kubernetesBinary(t *testing.T) string {
	t.Helper()
	cache, _ := os.UserCacheDir()
	for _, dir := range []string{os.Getenv("LAZ_KUBE"), filepath.Join(cache, "lazurite", "kube", "current")} {
		if file := filepath.Join(dir, "bin", "kubernetes"); dir != "" {
			if _, err := os.Stat(file); err == nil {
				return file
			}
		}
	}
	if os.Getenv("CI") != "" {
		t.Fatal("needs make kube")
	}
	t.Skip("needs make kube")
	return ""
}

// startCluster runs etcd and an API server on loopback.
func startCluster(t *testing.T) *testCluster {
	t.Helper()
	binary, dir := kubernetesBinary(t), t.TempDir()
	etcd := "unix://" + filepath.Join(dir, "etcd.sock")
	run(t, binary, "etcd", "--data-dir", filepath.Join(dir, "etcd"), "--listen", etcd)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	keys, tokens := filepath.Join(dir, "sa.key"), filepath.Join(dir, "tokens.csv")
	write(t, keys, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}))
	write(t, tokens, []byte("secret,admin,admin,system:masters\n"))
	addr := freeAddr(t)
	_, port, _ := net.SplitHostPort(addr)
	run(t, binary, "kube-apiserver", "--etcd-servers="+etcd, "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--secure-port="+port,
		"--cert-dir="+dir, "--service-cluster-ip-range=10.0.0.0/24", "--authorization-mode=RBAC", "--token-auth-file="+tokens,
		"--service-account-issuer=https://issuer.example/", "--service-account-key-file="+keys, "--service-account-signing-key-file="+keys,
		"--endpoint-reconciler-type=none", "--profiling=false", "--v=0")
	c := &testCluster{webhook: freeAddr(t), admin: &rest.Config{Host: "https://" + addr, BearerToken: "secret", QPS: 1000, Burst: 1000}}
	eventually(t, "the API server is ready", func() bool {
		ca, err := os.ReadFile(filepath.Join(dir, "apiserver.crt"))
		if err != nil {
			return false
		}
		c.admin.CAData = ca
		probe, err := rest.HTTPClientFor(c.admin)
		if err != nil {
			return false
		}
		resp, err := probe.Get(c.admin.Host + "/readyz")
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	if c.client, err = kubernetes.NewForConfig(c.admin); err != nil {
		t.Fatal(err)
	}
	if c.objects, err = dynamic.NewForConfig(c.admin); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the system's namespaces are there", func() bool {
		_, err := c.client.CoreV1().Namespaces().Get(t.Context(), "default", metav1.GetOptions{})
		return !apierrors.IsNotFound(err) && err == nil
	})
	return c
}

func write(t *testing.T, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// run starts a process that ends with the test.
func run(t *testing.T, program string, args ...string) {
	t.Helper()
	var log bytes.Buffer
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = io.Discard, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			text := log.String()
			t.Logf("%s %s:\n%s", filepath.Base(program), args[0], text[max(0, len(text)-3000):])
		}
	})
}
