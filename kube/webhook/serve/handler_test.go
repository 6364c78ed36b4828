package serve_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	admissionv1 "k8s.io/api/admission/v1"

	"lazurite.dev/kube/webhook/mutate"
	"lazurite.dev/kube/webhook/serve"
)

type accounts map[string]mutate.Account

func (a accounts) Account(_ context.Context, namespace, name string) (mutate.Account, error) {
	if account, ok := a[namespace+"/"+name]; ok {
		return account, nil
	}
	return mutate.Account{}, errors.New(`serviceaccounts "` + name + `" not found`)
}

type bundles struct {
	mu   sync.Mutex
	seen []string
	err  error
}

func (b *bundles) Ensure(_ context.Context, namespace string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seen = append(b.seen, namespace)
	return b.err
}

func handler(t testing.TB, b serve.Bundles) *serve.Handler {
	t.Helper()
	m, err := mutate.NewIdentity(mutate.Options{TenantID: "tenant", AuthorityHost: "https://login.microsoftonline.com/"})
	if err != nil {
		t.Fatal(err)
	}
	return &serve.Handler{
		Identity: m, Accounts: accounts{"shop/reader": {ClientID: "client"}}, Bundles: b,
		Metric: serve.NewMetric(), Log: slog.New(slog.DiscardHandler),
	}
}

func post(h http.Handler, path, body string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, path, strings.NewReader(body)))
	return w
}

func answer(t testing.TB, w *httptest.ResponseRecorder) *admissionv1.AdmissionResponse {
	t.Helper()
	var r admissionv1.AdmissionReview
	if err := json.Unmarshal(w.Body.Bytes(), &r); err != nil || w.Code != http.StatusOK || r.Response == nil {
		t.Fatalf("%d %s: %v", w.Code, w.Body, err)
	}
	return r.Response
}

func TestHandlerAdmits(t *testing.T) {
	h := handler(t, nil)
	for range 3 { // what is kept from one review must not show in the next
		r := answer(t, post(h, serve.PathIdentity, podReview))
		if !r.Allowed || !strings.Contains(string(r.Patch), `{"name":"AZURE_CLIENT_ID","value":"client"}`) {
			t.Errorf("got %+v", r)
		}
		other := strings.Replace(podReview, `"serviceAccountName":"reader"`, `"serviceAccountName":"stranger"`, 1)
		r = answer(t, post(h, serve.PathIdentity, other))
		if r.Allowed || r.Result.Code != 400 || r.Result.Message != `serviceaccounts "stranger" not found` {
			t.Errorf("got %+v", r)
		}
	}
	var m dto.Metric
	o, err := h.Metric.GetMetricWithLabelValues("shop")
	if err != nil {
		t.Fatal(err)
	}
	if err := o.(interface{ Write(*dto.Metric) error }).Write(&m); err != nil || m.GetHistogram().GetSampleCount() != 6 || len(m.GetHistogram().GetBucket()) != 32 {
		t.Errorf("got %v, %v", &m, err)
	}
}

func TestHandlerRefusesWhatIsNoReview(t *testing.T) {
	h := handler(t, nil)
	for want, got := range map[int]*httptest.ResponseRecorder{
		http.StatusBadRequest:            post(h, serve.PathIdentity, `{}`),
		http.StatusNotFound:              post(h, serve.PathTrust, podReview), // switched off
		http.StatusRequestEntityTooLarge: post(h, serve.PathIdentity, strings.Repeat(" ", 8<<20+1)),
	} {
		if got.Code != want {
			t.Errorf("got %d %s, want %d", got.Code, got.Body, want)
		}
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, serve.PathIdentity, nil))
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("got %d", w.Code)
	}
}

func TestHandlerTrusts(t *testing.T) {
	b := new(bundles)
	h := handler(t, b)
	r := answer(t, post(h, serve.PathTrust, podReview))
	if !r.Allowed || !strings.Contains(string(r.Patch), "SSL_CERT_FILE") || len(b.seen) != 1 || b.seen[0] != "shop" {
		t.Errorf("got %+v, %v", r, b.seen)
	}
	r = answer(t, post(h, serve.PathTrust, strings.Replace(podReview, `"dryRun":false`, `"dryRun":true`, 1)))
	if !r.Allowed || len(b.seen) != 1 {
		t.Errorf("a dry run had effects: %v", b.seen)
	}
	b.err = errors.New("not now")
	if r = answer(t, post(h, serve.PathTrust, podReview)); r.Allowed || r.Result.Code != 500 || !strings.Contains(r.Result.Message, "not now") {
		t.Errorf("got %+v", r)
	}
}

// BenchmarkWebhook measures a review over TLS and HTTP/2, the client's part
// included, against a webhook that reads and answers the same and decides
// nothing: the difference is what a pod costs.
func BenchmarkWebhook(b *testing.B) {
	reply := []byte(`{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","response":{"uid":"5c1d9d6c-0f4a-4a6c-9b0e-1f0f7d1f7f11","allowed":true}}`)
	run := func(h http.Handler) func(*testing.B) {
		return func(b *testing.B) {
			s := httptest.NewUnstartedServer(h)
			s.EnableHTTP2 = true
			s.StartTLS()
			defer s.Close()
			client := s.Client()
			cpu := used(b)
			n := 0
			for b.Loop() {
				send(b, client, s.URL+serve.PathIdentity)
				n++
			}
			b.ReportMetric(float64((used(b)-cpu).Microseconds())/float64(n), "cpu-µs/pod")
			b.ReportAllocs()
		}
	}
	b.Run("noop", run(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(reply)
	})))
	b.Run("identity", run(handler(b, nil)))
}

func send(b *testing.B, client *http.Client, url string) {
	resp, err := client.Post(url, "application/json", bytes.NewReader([]byte(podReview)))
	if err != nil {
		b.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK || resp.ProtoMajor != 2 {
		b.Fatal(resp.Status, resp.Proto, err)
	}
	_ = resp.Body.Close()
}

func used(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// podReview is what an API server sends for a Deployment's pod.
const podReview = `{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"5c1d9d6c-0f4a-4a6c-9b0e-1f0f7d1f7f11","kind":{"group":"","version":"v1","kind":"Pod"},"resource":{"group":"","version":"v1","resource":"pods"},"requestKind":{"group":"","version":"v1","kind":"Pod"},"requestResource":{"group":"","version":"v1","resource":"pods"},"namespace":"shop","operation":"CREATE","userInfo":{"username":"system:serviceaccount:kube-system:replicaset-controller","uid":"0d2c0c53-9b8b-4a1d-8c1c-6b9a3b0b6c5e","groups":["system:serviceaccounts","system:serviceaccounts:kube-system","system:authenticated"],"extra":{"authentication.kubernetes.io/credential-id":["JTI=3a3cbd6e-94c4-4c1e-8f0e-6f8d6d3c9b3f"]}},"object":{"kind":"Pod","apiVersion":"v1","metadata":{"generateName":"reader-7c9f8b6d5-","creationTimestamp":null,"labels":{"app":"reader","azure.workload.identity/use":"true","pod-template-hash":"7c9f8b6d5"},"annotations":{"kubectl.kubernetes.io/restartedAt":"2026-11-22T10:00:00Z"},"ownerReferences":[{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"reader-7c9f8b6d5","uid":"5b3f0f0e-6ed0-4f5c-9a39-0d6a1a4f3f5a","controller":true,"blockOwnerDeletion":true}],"managedFields":[{"manager":"kube-controller-manager","operation":"Update","apiVersion":"v1","time":"2026-11-22T10:00:00Z","fieldsType":"FieldsV1","fieldsV1":{"f:metadata":{"f:annotations":{".":{},"f:kubectl.kubernetes.io/restartedAt":{}},"f:generateName":{},"f:labels":{".":{},"f:app":{},"f:azure.workload.identity/use":{},"f:pod-template-hash":{}},"f:ownerReferences":{".":{},"k:{\"uid\":\"5b3f0f0e-6ed0-4f5c-9a39-0d6a1a4f3f5a\"}":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"main\"}":{".":{},"f:env":{".":{},"k:{\"name\":\"KEYVAULT_URL\"}":{".":{},"f:name":{},"f:value":{}},"k:{\"name\":\"SECRET_NAME\"}":{".":{},"f:name":{},"f:value":{}}},"f:image":{},"f:imagePullPolicy":{},"f:name":{},"f:resources":{".":{},"f:limits":{".":{},"f:cpu":{},"f:memory":{}},"f:requests":{".":{},"f:cpu":{},"f:memory":{}}},"f:terminationMessagePath":{},"f:terminationMessagePolicy":{}}},"f:dnsPolicy":{},"f:enableServiceLinks":{},"f:restartPolicy":{},"f:schedulerName":{},"f:securityContext":{},"f:serviceAccount":{},"f:serviceAccountName":{},"f:terminationGracePeriodSeconds":{}}}}]},"spec":{"volumes":[{"name":"kube-api-access-x7k2p","projected":{"sources":[{"serviceAccountToken":{"expirationSeconds":3607,"path":"token"}},{"configMap":{"name":"kube-root-ca.crt","items":[{"key":"ca.crt","path":"ca.crt"}]}},{"downwardAPI":{"items":[{"path":"namespace","fieldRef":{"apiVersion":"v1","fieldPath":"metadata.namespace"}}]}}],"defaultMode":420}}],"containers":[{"name":"main","image":"lazurite.dev/keyvault-reader:v1","env":[{"name":"KEYVAULT_URL","value":"https://shop.vault.azure.net/"},{"name":"SECRET_NAME","value":"my-secret"}],"resources":{"limits":{"cpu":"500m","memory":"128Mi"},"requests":{"cpu":"100m","memory":"64Mi"}},"volumeMounts":[{"name":"kube-api-access-x7k2p","readOnly":true,"mountPath":"/var/run/secrets/kubernetes.io/serviceaccount"}],"terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File","imagePullPolicy":"IfNotPresent"}],"restartPolicy":"Always","terminationGracePeriodSeconds":30,"dnsPolicy":"ClusterFirst","serviceAccountName":"reader","serviceAccount":"reader","securityContext":{},"schedulerName":"default-scheduler","tolerations":[{"key":"node.kubernetes.io/not-ready","operator":"Exists","effect":"NoExecute","tolerationSeconds":300},{"key":"node.kubernetes.io/unreachable","operator":"Exists","effect":"NoExecute","tolerationSeconds":300}],"priority":0,"enableServiceLinks":true,"preemptionPolicy":"PreemptLowerPriority"},"status":{}},"oldObject":null,"dryRun":false,"options":{"kind":"CreateOptions","apiVersion":"meta.k8s.io/v1"}}}`
