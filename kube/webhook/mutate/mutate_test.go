package mutate_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"lazurite.dev/kube/webhook/mutate"
)

func options() mutate.Options {
	return mutate.Options{
		TenantID: "tenant", AuthorityHost: "https://login.microsoftonline.com/", LogLevel: "info", NativeSidecar: true,
		ProxyImage: "registry/proxy:v1", ProxyInitImage: "registry/proxy-init:v1",
	}
}

func identity(t testing.TB, o mutate.Options) *mutate.Identity {
	t.Helper()
	m, err := mutate.NewIdentity(o)
	if err != nil {
		t.Fatal(err)
	}
	return m
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
			Namespace: "shop", Operation: admissionv1.Create, Object: runtime.RawExtension{Raw: raw},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// mutated is the pod after the mutation.
func mutated(t testing.TB, m *mutate.Identity, pod *corev1.Pod, account map[string]string) (*corev1.Pod, error) {
	t.Helper()
	var r mutate.Review
	if err := r.Parse(review(t, pod)); err != nil {
		t.Fatal(err)
	}
	patch, err := m.Patch(nil, &r.Pod, mutate.AccountOf(account))
	if err != nil {
		return nil, err
	}
	return apply(t, pod, patch), nil
}

func apply(t testing.TB, pod *corev1.Pod, patch []byte) *corev1.Pod {
	t.Helper()
	raw, err := json.Marshal(pod)
	if err != nil {
		t.Fatal(err)
	}
	p, err := jsonpatch.DecodePatch(patch)
	if err != nil {
		t.Fatalf("patch %s: %v", patch, err)
	}
	out, err := p.Apply(raw)
	if err != nil {
		t.Fatalf("patch %s: %v", patch, err)
	}
	var got corev1.Pod
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatal(err)
	}
	return &got
}

func plainPod() *corev1.Pod {
	return &corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Name: "reader", Labels: map[string]string{"azure.workload.identity/use": "true"}},
		Spec:       corev1.PodSpec{ServiceAccountName: "reader", Containers: []corev1.Container{{Name: "main", Image: "reader:v1"}}},
	}
}

var account = map[string]string{mutate.AnnotationClientID: "client"}

// TestAgainstReference makes pods of every shape and compares with the rules
// written the long way; a second mutation must change nothing.
func TestAgainstReference(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range 2000 {
		native := rnd.IntN(2) == 0
		o := options()
		o.NativeSidecar = native
		m := identity(t, o)
		pod, account := randomPod(rnd), randomAccount(rnd)
		got, err := mutated(t, m, pod, account)
		if err != nil {
			t.Fatalf("pod %d: %v", i, err)
		}
		if diff := cmp.Diff(reference(pod, account, native), got); diff != "" {
			t.Fatalf("pod %d (-want +got):\n%s", i, diff)
		}
		again, err := mutated(t, m, got, account)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(got, again); diff != "" {
			t.Fatalf("pod %d is changed by a second mutation:\n%s", i, diff)
		}
	}
}

func randomAccount(rnd *rand.Rand) map[string]string {
	a := map[string]string{}
	if rnd.IntN(4) > 0 {
		a[mutate.AnnotationClientID] = "client-\"ü\""
	}
	if rnd.IntN(3) == 0 {
		a[mutate.AnnotationTenantID] = []string{"", "other"}[rnd.IntN(2)]
	}
	if rnd.IntN(3) == 0 {
		a[mutate.AnnotationExpiration] = []string{"", "7200"}[rnd.IntN(2)]
	}
	return a
}

func randomPod(rnd *rand.Rand) *corev1.Pod {
	pod := plainPod()
	pod.Annotations = map[string]string{"other/annotation": "<x>\n"}
	if rnd.IntN(2) == 0 {
		pod.Name, pod.GenerateName = "", "reader-"
	}
	one := func(n int, key string, values ...string) {
		if rnd.IntN(n) == 0 {
			pod.Annotations[key] = values[rnd.IntN(len(values))]
		}
	}
	one(3, mutate.AnnotationSkipContainers, "c0", " c1 ; i0", "nobody", "azwi-proxy;c2", "azwi-proxy-init", "")
	one(3, mutate.AnnotationInjectProxy, "true", "false", "")
	one(3, mutate.AnnotationProxyPort, "8080", "1")
	one(3, mutate.AnnotationExpiration, "3600", "86400", "")
	pod.Spec.Containers = nil
	for i := range 1 + rnd.IntN(3) {
		pod.Spec.Containers = append(pod.Spec.Containers, randomContainer(rnd, fmt.Sprint("c", i)))
	}
	for i := range rnd.IntN(3) {
		pod.Spec.InitContainers = append(pod.Spec.InitContainers, randomContainer(rnd, fmt.Sprint("i", i)))
	}
	if rnd.IntN(6) == 0 {
		pod.Spec.Containers = append(pod.Spec.Containers, randomContainer(rnd, "azwi-proxy"))
	}
	if rnd.IntN(6) == 0 {
		pod.Spec.InitContainers = append(pod.Spec.InitContainers, randomContainer(rnd, "azwi-proxy-init"))
	}
	for i := range rnd.IntN(3) {
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: fmt.Sprint("v", i), VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}})
	}
	return pod
}

func randomContainer(rnd *rand.Rand, name string) corev1.Container {
	c := corev1.Container{Name: name, Image: "image", Args: []string{`a "quoted" \ argument`, "ünïcode"}}
	for _, e := range []string{"HOME", "AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_FEDERATED_TOKEN_FILE", "AZURE_AUTHORITY_HOST"} {
		if rnd.IntN(4) == 0 {
			c.Env = append(c.Env, corev1.EnvVar{Name: e, Value: "own"})
		}
	}
	for i := range rnd.IntN(3) {
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: fmt.Sprint("v", i), MountPath: fmt.Sprint("/v", i)})
	}
	return c
}

func TestRefusals(t *testing.T) {
	for name, test := range map[string]struct {
		pod, account map[string]string
		host         bool
		want         string
	}{
		"too short":            {pod: map[string]string{mutate.AnnotationExpiration: "3599"}, want: "token expiration 3599 not valid. Expected value to be between 3600 and 86400"},
		"too long":             {pod: map[string]string{mutate.AnnotationExpiration: "86401"}, want: "token expiration 86401 not valid. Expected value to be between 3600 and 86400"},
		"negative":             {pod: map[string]string{mutate.AnnotationExpiration: "-1"}, want: "token expiration -1 not valid. Expected value to be between 3600 and 86400"},
		"no number":            {pod: map[string]string{mutate.AnnotationExpiration: "1h"}, want: `strconv.ParseInt: parsing "1h": invalid syntax`},
		"of the account":       {account: map[string]string{mutate.AnnotationExpiration: "12"}, want: "token expiration 12 not valid. Expected value to be between 3600 and 86400"},
		"pod before account":   {pod: map[string]string{mutate.AnnotationExpiration: "7"}, account: map[string]string{mutate.AnnotationExpiration: "3600"}, want: "token expiration 7 not valid. Expected value to be between 3600 and 86400"},
		"port":                 {pod: map[string]string{mutate.AnnotationInjectProxy: "", mutate.AnnotationProxyPort: "http"}, want: `failed to parse proxy sidecar port: strconv.ParseInt: parsing "http": invalid syntax`},
		"port out of range":    {pod: map[string]string{mutate.AnnotationInjectProxy: "", mutate.AnnotationProxyPort: "99999999999"}, want: `failed to parse proxy sidecar port: strconv.ParseInt: parsing "99999999999": value out of range`},
		"host network":         {pod: map[string]string{mutate.AnnotationInjectProxy: "false"}, host: true, want: "hostNetwork is set to true, cannot inject proxy sidecar"},
		"port before lifetime": {pod: map[string]string{mutate.AnnotationInjectProxy: "", mutate.AnnotationProxyPort: "x", mutate.AnnotationExpiration: "1"}, want: `failed to parse proxy sidecar port: strconv.ParseInt: parsing "x": invalid syntax`},
	} {
		t.Run(name, func(t *testing.T) {
			pod := plainPod()
			pod.Annotations, pod.Spec.HostNetwork = test.pod, test.host
			_, err := mutated(t, identity(t, options()), pod, test.account)
			var refusal *mutate.Refusal
			if !errors.As(err, &refusal) || err.Error() != test.want {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
}

func TestWhatNeedsNoRefusal(t *testing.T) {
	pod := plainPod()
	pod.Spec.HostNetwork = true // without a proxy it is nobody's harm
	pod.Annotations = map[string]string{mutate.AnnotationProxyPort: "no port, but no proxy either"}
	if _, err := mutated(t, identity(t, options()), pod, account); err != nil {
		t.Error(err)
	}
}

func TestLegacyPaths(t *testing.T) {
	o := options()
	o.LegacyPaths = true
	got, err := mutated(t, identity(t, o), plainPod(), account)
	if err != nil {
		t.Fatal(err)
	}
	c := got.Spec.Containers[0]
	if c.VolumeMounts[0].Name != "azure-identity-token" || c.VolumeMounts[0].MountPath != "/var/run/secrets/azure/tokens" ||
		c.Env[2].Value != "/var/run/secrets/azure/tokens/azure-identity-token" ||
		got.Spec.Volumes[0].Projected.Sources[0].ServiceAccountToken.Path != "azure-identity-token" {
		t.Errorf("got %+v", got.Spec)
	}
}

func TestCustomEndpoint(t *testing.T) {
	o := options()
	o.Custom = &mutate.CustomEndpoint{Suffix: "Bindings", Audience: "api://Custom", TokenProxy: "https://proxy", SNIName: "sni", CAConfigMap: "roots"}
	m := identity(t, o)
	pod := plainPod()
	for value, want := range map[string]bool{"true": true, "TRUE": true, "yes": false, "": false} {
		pod.Annotations = map[string]string{"azure.workload.identity/use-Bindings": value}
		got, err := mutated(t, m, pod, account)
		if err != nil {
			t.Fatal(err)
		}
		env, sources := got.Spec.Containers[0].Env, got.Spec.Volumes[0].Projected.Sources
		if (len(env) == 7) != want || (sources[0].ServiceAccountToken.Audience == "api://Custom") != want || (len(sources) == 2) != want {
			t.Errorf("%q: got %+v, %+v", value, env, sources)
		}
		if want && (env[4].Name != "AZURE_KUBERNETES_TOKEN_PROXY" || env[5].Name != "AZURE_KUBERNETES_SNI_NAME" ||
			env[6].Value != "/var/run/secrets/azure/wi/ca-cert/ca.crt" || sources[1].ConfigMap.Name != "roots" || sources[1].ConfigMap.Items[0].Path != "ca-cert/ca.crt") {
			t.Errorf("got %+v, %+v", env, sources)
		}
	}
	o.Custom = &mutate.CustomEndpoint{Suffix: "x", Audience: "api://Custom", SignerName: "example.com/signer", SignerSelector: json.RawMessage(`{"matchLabels":{"a":"b"}}`)}
	pod.Annotations = map[string]string{"azure.workload.identity/use-x": "true"}
	got, err := mutated(t, identity(t, o), pod, account)
	if err != nil {
		t.Fatal(err)
	}
	if bundle := got.Spec.Volumes[0].Projected.Sources[1].ClusterTrustBundle; *bundle.SignerName != "example.com/signer" || bundle.LabelSelector.MatchLabels["a"] != "b" {
		t.Errorf("got %+v", bundle)
	}
}

func TestOptionsRefused(t *testing.T) {
	for want, c := range map[string]mutate.CustomEndpoint{
		"annotation suffix cannot be empty":     {Audience: "a"},
		"audience cannot be empty":              {Suffix: "x"},
		"cannot be equal to default audience":   {Suffix: "x", Audience: "API://azureadtokenexchange"},
		"is not valid":                          {Suffix: "x/", Audience: "a"},
		"only one of AZURE_KUBERNETES_CA_DATA":  {Suffix: "x", Audience: "a", CAData: "x", CAConfigMap: "y"},
		"AZURE_KUBERNETES_CA_CTB_SIGNER_NAME n": {Suffix: "x", Audience: "a", SignerSelector: json.RawMessage("{}")},
	} {
		o := options()
		o.Custom = &c
		if _, err := mutate.NewIdentity(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestTrust(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		pod := randomPod(rnd)
		pod.Spec.Containers[0].Env = append(pod.Spec.Containers[0].Env, corev1.EnvVar{Name: "SSL_CERT_FILE", Value: "own"})
		var p mutate.Pod
		raw, _ := json.Marshal(pod)
		if err := p.ParsePod(raw); err != nil {
			t.Fatal(err)
		}
		got := apply(t, pod, mutate.Trust(nil, &p))
		for i, c := range append(got.Spec.InitContainers, got.Spec.Containers...) {
			env := map[string]string{}
			for _, e := range c.Env {
				env[e.Name] = e.Value
			}
			for _, name := range []string{"SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "CURL_CA_BUNDLE"} {
				want := "/var/run/secrets/lazurite/ca/ca-bundle.crt"
				if name == "SSL_CERT_FILE" && c.Name == "c0" {
					want = "own"
				}
				if env[name] != want {
					t.Fatalf("container %d: %s=%s, want %s", i, name, env[name], want)
				}
			}
		}
		raw, _ = json.Marshal(got)
		if err := p.ParsePod(raw); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(got, apply(t, got, mutate.Trust(nil, &p))); diff != "" {
			t.Fatalf("a second mutation changes:\n%s", diff)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, text := range []string{
		``, `null`, `[]`, `{}`, `{"apiVersion":"admission.k8s.io/v1"}`,
		`{"apiVersion":"v2","request":{"uid":"u","kind":{"kind":"Pod"},"object":{}}}`,
		`{"apiVersion":"admission.k8s.io/v1","request":{"uid":"","kind":{"kind":"Pod"},"object":{}}}`,
		`{"apiVersion":"admission.k8s.io/v1","request":{"uid":"u","kind":{"kind":"Secret"},"object":{}}}`,
		`{"apiVersion":"admission.k8s.io/v1","request":{"uid":"u","kind":{"kind":"Pod"},"object":null}}`,
		`{"apiVersion":"admission.k8s.io/v1","request":{"uid":"u","kind":{"kind":"Pod"},"object":{"spec":{"containers":{}}}}}`,
		`{"apiVersion":"admission.k8s.io/v1","request":{"uid":"u","kind":{"kind":"Pod"},"object":{}}} trailing`,
		strings.Repeat(`{"a":`, 2000),
	} {
		var r mutate.Review
		if err := r.Parse([]byte(text)); !errors.Is(err, mutate.ErrReview) {
			t.Errorf("%s: got %v", text, err)
		}
	}
}

func TestAnswers(t *testing.T) {
	var r mutate.Review
	if err := r.Parse(review(t, plainPod())); err != nil {
		t.Fatal(err)
	}
	var got admissionv1.AdmissionReview
	if err := json.Unmarshal(r.Refuse(nil, 400, "not\n\"so\""), &got); err != nil {
		t.Fatal(err)
	}
	if got.Response.Allowed || got.Response.Result.Code != 400 || got.Response.Result.Message != "not\n\"so\"" || string(got.Response.UID) != r.UID || got.APIVersion != "admission.k8s.io/v1" {
		t.Errorf("got %+v", got.Response)
	}
	got = admissionv1.AdmissionReview{}
	if err := json.Unmarshal(r.Allow(nil, []byte(`[{"op":"x"}]`)), &got); err != nil {
		t.Fatal(err)
	}
	if !got.Response.Allowed || string(got.Response.Patch) != `[{"op":"x"}]` || *got.Response.PatchType != admissionv1.PatchTypeJSONPatch {
		t.Errorf("got %+v", got.Response)
	}
	got = admissionv1.AdmissionReview{}
	if err := json.Unmarshal(r.Allow(nil, []byte(`[]`)), &got); err != nil || got.Response.PatchType != nil {
		t.Errorf("got %+v, %v", got.Response, err)
	}
}

// FuzzReview compares with the API server's own decoder: what it takes, we
// take, and then the patch applies.
func FuzzReview(f *testing.F) {
	rnd := rand.New(rand.NewPCG(5, 6))
	for range 20 {
		f.Add(review(f, randomPod(rnd)))
	}
	f.Add([]byte(`{"apiVersion":"admission.k8s.io/v1","request":{"uid":"u","kind":{"kind":"Pod"},"object":{"spec":{"containers":[null,{"env":null}],"volumes":null,"x":[1e5,-0.5,true]}}}}`))
	m := identity(f, options())
	f.Fuzz(func(t *testing.T, b []byte) {
		var r mutate.Review
		if r.Parse(b) != nil {
			return
		}
		if !json.Valid(b) {
			t.Fatal("taken, but no JSON")
		}
		patch, err := m.Patch(nil, &r.Pod, mutate.AccountOf(account))
		if err != nil {
			var refusal *mutate.Refusal
			if !errors.As(err, &refusal) {
				t.Fatal(err)
			}
			patch = []byte("[]")
		}
		for _, answer := range [][]byte{r.Allow(nil, patch), r.Refuse(nil, 400, r.Namespace), mutate.Trust(nil, &r.Pod)} {
			if !json.Valid(answer) {
				t.Fatalf("no JSON: %s", answer)
			}
		}
	})
}

// FuzzAnnotations: whatever the annotations say, the pod is refused or patched
// as the rules say.
func FuzzAnnotations(f *testing.F) {
	f.Add("a;b", "8000", "3600", "client", "tenant")
	f.Add(" ", "-1", "9e3", "\x00\"", "\\u0000")
	m := identity(f, options())
	f.Fuzz(func(t *testing.T, skip, port, seconds, client, tenant string) {
		pod := plainPod()
		pod.Annotations = map[string]string{
			mutate.AnnotationSkipContainers: skip, mutate.AnnotationInjectProxy: "", mutate.AnnotationProxyPort: port, mutate.AnnotationExpiration: seconds,
		}
		account := map[string]string{mutate.AnnotationClientID: client, mutate.AnnotationTenantID: tenant}
		got, err := mutated(t, m, pod, account)
		if err != nil {
			return
		}
		raw, _ := json.Marshal(pod) // what is no UTF-8 arrives as U+FFFD
		var arrived corev1.Pod
		if err := json.Unmarshal(raw, &arrived); err != nil {
			t.Fatal(err)
		}
		want := reference(&arrived, map[string]string{mutate.AnnotationClientID: strings.ToValidUTF8(client, "\uFFFD"), mutate.AnnotationTenantID: strings.ToValidUTF8(tenant, "\uFFFD")}, true)
		if strings.ToValidUTF8(client+tenant, "") != client+tenant {
			return // runs of invalid bytes are replaced one by one
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
	})
}

// BenchmarkPatch is the mutation alone: a review of a pod as a Deployment makes it.
func BenchmarkPatch(b *testing.B) {
	body := review(b, plainPod())
	m := identity(b, options())
	var r mutate.Review
	var patch, answer []byte
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if err := r.Parse(body); err != nil {
			b.Fatal(err)
		}
		var err error
		if patch, err = m.Patch(patch[:0], &r.Pod, mutate.AccountOf(account)); err != nil {
			b.Fatal(err)
		}
		answer = r.Allow(answer[:0], patch)
	}
}
