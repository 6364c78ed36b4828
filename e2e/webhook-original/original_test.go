// Package original_test runs the webhook of Azure Workload Identity v1.6.0,
// unmodified, and ours on the same pods: what comes out is the same.
package original_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/Azure/azure-workload-identity/pkg/webhook"
	"github.com/google/go-cmp/cmp"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"lazurite.dev/kube/webhook/mutate"
	"lazurite.dev/kube/webhook/serve"
)

const namespace = "shop"

// notFound is the API server's answer.
var notFound = apierrors.NewNotFound(schema.GroupResource{Resource: "serviceaccounts"}, "nobody")

// cluster answers the original's reads; it can nothing else.
type cluster struct {
	client.Client
	accounts map[string]map[string]string
}

func (c *cluster) Get(_ context.Context, key client.ObjectKey, into client.Object, _ ...client.GetOption) error {
	annotations, ok := c.accounts[key.Name]
	if !ok {
		return notFound
	}
	into.SetName(key.Name)
	into.SetAnnotations(annotations)
	return nil
}

// Account answers ours.
func (c *cluster) Account(_ context.Context, _, name string) (mutate.Account, error) {
	annotations, ok := c.accounts[name]
	if !ok {
		return mutate.Account{}, notFound
	}
	return mutate.AccountOf(annotations), nil
}

// both are the two webhooks as HTTP handlers over the same service accounts.
func both(t testing.TB, minor string) (original, ours http.Handler, c *cluster) {
	t.Helper()
	t.Setenv("AZURE_TENANT_ID", "tenant")
	t.Setenv("PROXY_IMAGE", "registry/proxy:v1")
	t.Setenv("PROXY_INIT_IMAGE", "registry/proxy-init:v1")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]string{"major": "1", "minor": minor, "gitVersion": "v1." + minor + ".0"})
	}))
	t.Cleanup(server.Close)
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	c = &cluster{accounts: map[string]map[string]string{}}
	handler, err := webhook.NewPodMutator(c, c, "", scheme, &rest.Config{Host: server.URL}, "bindings", "api://Custom")
	if err != nil {
		t.Fatal(err)
	}
	identity, err := mutate.NewIdentity(mutate.Options{
		TenantID: "tenant", AuthorityHost: "https://login.microsoftonline.com/", LogLevel: "info", NativeSidecar: minor >= "32",
		ProxyImage: "registry/proxy:v1", ProxyInitImage: "registry/proxy-init:v1", Custom: &mutate.CustomEndpoint{Suffix: "bindings", Audience: "api://Custom"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return &admission.Webhook{Handler: handler}, &serve.Handler{Identity: identity, Accounts: c, Metric: serve.NewMetric(), Log: slog.New(slog.DiscardHandler)}, c
}

func review(t testing.TB, pod *corev1.Pod) []byte {
	t.Helper()
	raw, err := json.Marshal(pod)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"},
		Request: &admissionv1.AdmissionRequest{
			UID: "5c1d9d6c-0f4a-4a6c-9b0e-1f0f7d1f7f11", Kind: metav1.GroupVersionKind{Version: "v1", Kind: "Pod"},
			Resource:  metav1.GroupVersionResource{Version: "v1", Resource: "pods"},
			Namespace: namespace, Operation: admissionv1.Create, Object: runtime.RawExtension{Raw: raw},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// ask is the answer, and the pod as it then is.
func ask(t testing.TB, h http.Handler, pod *corev1.Pod) (*admissionv1.AdmissionResponse, *corev1.Pod) {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, "/mutate-v1-pod", bytes.NewReader(review(t, pod)))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	var answer admissionv1.AdmissionReview
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || answer.Response == nil {
		t.Fatalf("%d %s: %v", w.Code, w.Body, err)
	}
	raw, err := json.Marshal(pod)
	if err != nil {
		t.Fatal(err)
	}
	if len(answer.Response.Patch) > 0 {
		p, err := jsonpatch.DecodePatch(answer.Response.Patch)
		if err != nil {
			t.Fatal(err)
		}
		if raw, err = p.Apply(raw); err != nil {
			t.Fatalf("%s: %v", answer.Response.Patch, err)
		}
	}
	var out corev1.Pod
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatal(err)
	}
	out.Namespace = "" // the original writes the request's into the pod, where the API server has it anyway
	return answer.Response, &out
}

// TestAsTheOriginal makes pods of every shape, refused ones too, for API
// servers before and after native sidecars.
func TestAsTheOriginal(t *testing.T) {
	for _, minor := range []string{"31", "37"} {
		original, ours, c := both(t, minor)
		rnd := rand.New(rand.NewPCG(7, 8))
		refused := 0
		for i := range 1500 {
			pod := anyPod(rnd)
			c.accounts = map[string]map[string]string{"default": anyAccount(rnd), "reader": anyAccount(rnd)}
			wantAnswer, want := ask(t, original, pod)
			gotAnswer, got := ask(t, ours, pod)
			if wantAnswer.Allowed != gotAnswer.Allowed || wantAnswer.UID != gotAnswer.UID {
				t.Fatalf("pod %d of 1.%s: the original says %+v, ours %+v", i, minor, wantAnswer, gotAnswer)
			}
			if !wantAnswer.Allowed {
				refused++
				if wantAnswer.Result.Message != gotAnswer.Result.Message || wantAnswer.Result.Code != gotAnswer.Result.Code {
					t.Fatalf("pod %d of 1.%s: the original says %d %q, ours %d %q", i, minor, wantAnswer.Result.Code, wantAnswer.Result.Message, gotAnswer.Result.Code, gotAnswer.Result.Message)
				}
				continue
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("pod %d of 1.%s (-original +ours):\n%s", i, minor, diff)
			}
		}
		t.Logf("1.%s: 1500 pods alike, %d of them refused", minor, refused)
	}
}

func anyAccount(rnd *rand.Rand) map[string]string {
	a := map[string]string{}
	one := func(n int, key string, values ...string) {
		if rnd.IntN(n) == 0 {
			a[key] = values[rnd.IntN(len(values))]
		}
	}
	one(2, mutate.AnnotationClientID, "client", "")
	one(3, mutate.AnnotationTenantID, "", "other")
	one(3, mutate.AnnotationExpiration, "", "7200", "86401", "1h")
	return a
}

func anyPod(rnd *rand.Rand) *corev1.Pod {
	pod := &corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Name: "reader", Labels: map[string]string{"azure.workload.identity/use": "true"}, Annotations: map[string]string{}},
		Spec:       corev1.PodSpec{ServiceAccountName: []string{"", "reader", "reader", "nobody"}[rnd.IntN(4)], HostNetwork: rnd.IntN(8) == 0},
	}
	if rnd.IntN(2) == 0 {
		pod.Name, pod.GenerateName = "", "reader-"
	}
	one := func(n int, key string, values ...string) {
		if rnd.IntN(n) == 0 {
			pod.Annotations[key] = values[rnd.IntN(len(values))]
		}
	}
	one(3, mutate.AnnotationSkipContainers, "c0", " c1 ; i0", ";", "azwi-proxy;c2", "azwi-proxy-init", "")
	one(3, mutate.AnnotationInjectProxy, "true", "false", "")
	one(3, mutate.AnnotationProxyPort, "8080", "1", "http", "", "99999999999")
	one(3, mutate.AnnotationExpiration, "3600", "86400", "", "3599", "86401", "-1", "x", " 3600")
	one(3, "azure.workload.identity/use-bindings", "true", "TRUE", "yes", "")
	for i := range 1 + rnd.IntN(3) {
		pod.Spec.Containers = append(pod.Spec.Containers, anyContainer(rnd, fmt.Sprint("c", i)))
	}
	for i := range rnd.IntN(3) {
		pod.Spec.InitContainers = append(pod.Spec.InitContainers, anyContainer(rnd, fmt.Sprint("i", i)))
	}
	if rnd.IntN(6) == 0 {
		pod.Spec.Containers = append(pod.Spec.Containers, anyContainer(rnd, "azwi-proxy"))
	}
	if rnd.IntN(6) == 0 {
		pod.Spec.InitContainers = append(pod.Spec.InitContainers, anyContainer(rnd, "azwi-proxy-init"))
	}
	for i := range rnd.IntN(3) {
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: fmt.Sprint("v", i), VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}})
	}
	return pod
}

func anyContainer(rnd *rand.Rand, name string) corev1.Container {
	c := corev1.Container{Name: name, Image: "image", Args: []string{`a "quoted" \ argument`, "ünïcode", "<tag>&"}}
	for _, e := range []string{"HOME", "AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_FEDERATED_TOKEN_FILE", "AZURE_AUTHORITY_HOST", "AZURE_KUBERNETES_CA_FILE"} {
		if rnd.IntN(4) == 0 {
			c.Env = append(c.Env, corev1.EnvVar{Name: e, Value: "own"})
		}
	}
	for i := range rnd.IntN(3) {
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: fmt.Sprint("v", i), MountPath: fmt.Sprint("/v", i)})
	}
	return c
}

// BenchmarkHandler is a review of a plain pod, from its bytes to those of the
// answer, by each of the two.
func BenchmarkHandler(b *testing.B) {
	original, ours, c := both(b, "37")
	c.accounts["default"] = map[string]string{mutate.AnnotationClientID: "client"}
	body := review(b, &corev1.Pod{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}, ObjectMeta: metav1.ObjectMeta{Name: "reader"},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{
			Name: "main", Image: "reader:v1", Env: []corev1.EnvVar{{Name: "KEYVAULT_URL", Value: "https://shop.vault.azure.net/"}, {Name: "SECRET_NAME", Value: "my-secret"}},
			VolumeMounts: []corev1.VolumeMount{{Name: "kube-api-access-x7k2p", MountPath: "/var/run/secrets/kubernetes.io/serviceaccount", ReadOnly: true}},
		}}},
	})
	for name, h := range map[string]http.Handler{"original": original, "ours": ours} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r := httptest.NewRequest(http.MethodPost, "/mutate-v1-pod", bytes.NewReader(body))
				r.Header.Set("Content-Type", "application/json")
				w := httptest.NewRecorder()
				if h.ServeHTTP(w, r); w.Code != http.StatusOK {
					b.Fatal(w.Code, w.Body)
				}
			}
		})
	}
}
