package containerservice_test

import (
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"lazurite.dev/internal/cluster"
)

// theirs is the API server of somebody else's cluster, as far as attaching asks it.
type theirs struct {
	*httptest.Server
	mu      sync.Mutex // guards objects
	objects map[string]map[string]any
}

func theirCluster(t *testing.T) *theirs {
	s := &theirs{objects: map[string]map[string]any{}}
	s.Server = httptest.NewTLSServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *theirs) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var answer any
	switch o := s.objects[r.URL.Path]; {
	case r.URL.Path == "/version":
		answer = map[string]any{"gitVersion": "v1.34.1"}
	case r.URL.Path == "/.well-known/openid-configuration":
		answer = map[string]any{"issuer": "https://kubernetes.default.svc"}
	case strings.HasSuffix(r.URL.Path, "/selfsubjectaccessreviews"):
		answer = map[string]any{"status": map[string]any{"allowed": true}}
	case r.URL.Path == "/api/v1/configmaps":
		answer = map[string]any{}
	case r.Method == http.MethodPost:
		env := []any{}
		for path := range s.objects {
			if strings.Contains(path, "azure-wi-webhook-mutating") {
				env = append(env, map[string]any{"name": "AZURE_FEDERATED_TOKEN_FILE"})
			}
		}
		answer = map[string]any{"spec": map[string]any{"containers": []any{map[string]any{"env": env}}}}
	case r.Method == http.MethodPatch:
		_ = json.NewDecoder(r.Body).Decode(&o) // what is no object is not found again
		s.objects[r.URL.Path], answer = o, o
	case o == nil:
		w.WriteHeader(http.StatusNotFound)
		return
	case r.Method == http.MethodDelete:
		delete(s.objects, r.URL.Path)
		answer = map[string]any{}
	default:
		o["status"] = map[string]any{"replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}
		answer = o
	}
	_ = json.NewEncoder(w).Encode(answer)
}

func (s *theirs) kubeconfig(t *testing.T) string {
	t.Helper()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	b, err := cluster.Access{Server: s.URL, CA: ca, Token: "s3cret"}.Kubeconfig("theirs", "admin")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func attachBody(t *testing.T, properties map[string]any) string {
	t.Helper()
	b, err := json.Marshal(map[string]any{"location": "eastus", "properties": properties})
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

type props = map[string]any

func TestAttached(t *testing.T) {
	w, s := start(t), theirCluster(t)
	path := w.Group("rg") + "/providers/" + typ + "/mine"
	got := w.make(t, path, attachBody(t, props{"existingClusterProfile": props{"kubeconfig": s.kubeconfig(t), "webhookImage": "registry.example/webhook:v1"}}))
	profile := got.Text("properties", "existingClusterProfile", "server")
	if profile != s.URL || got.Text("properties", "oidcIssuerProfile", "issuerURL") != "https://kubernetes.default.svc" || got.Text("properties", "kubernetesVersion") != "1.34.1" ||
		got.Text("properties", "existingClusterProfile", "issuerKeys") != "served" || strings.Contains(string(got.Raw), "kubeconfig") || strings.Contains(string(got.Raw), "s3cret") {
		t.Errorf("got %s", got.Raw)
	}
	if len(s.objects) < 10 {
		t.Errorf("got %v", s.objects)
	}
	a := w.Want(http.StatusOK, "POST", path+"/listClusterAdminCredential"+v, "")
	if !strings.Contains(string(a.Raw), base64.StdEncoding.EncodeToString([]byte("apiVersion"))[:8]) {
		t.Errorf("got %s", a.Raw)
	}
	for _, action := range []string{"stop", "start", "rotateServiceAccountSigningKeys", "runCommand"} {
		w.WantError(http.StatusBadRequest, "NotSupportedByDriver", "POST", path+"/"+action+v, "{}")
	}
	w.WantError(http.StatusBadRequest, "NotSupportedByDriver", "PUT", path+"/agentPools/more"+v, `{"properties":{"count":1}}`)
	w.make(t, path, attachBody(t, props{"securityProfile": props{"workloadIdentity": props{"enabled": false}}}))
	for object := range s.objects {
		if strings.Contains(object, "azure-wi-webhook-mutating") {
			t.Errorf("pods are still injected: %s", object)
		}
	}
	if got := w.Settle(w.Do("DELETE", path+v, "")); got != "Succeeded" {
		t.Errorf("got %s", got)
	}
	if len(s.objects) != 0 {
		t.Errorf("left: %v", s.objects)
	}
}

func TestAttachedRefuses(t *testing.T) {
	w, s := start(t), theirCluster(t)
	path := w.Group("rg") + "/providers/" + typ + "/mine"
	kc := s.kubeconfig(t)
	for name, test := range map[string]struct {
		code  string
		props props
	}{
		"nothing to reach it by": {"InvalidParameter", props{"existingClusterProfile": props{"frontDoor": "10.0.0.1"}}},
		"no kubeconfig":          {"ClusterNotAttachable", props{"existingClusterProfile": props{"kubeconfig": "x"}}},
		"no such context":        {"ClusterNotAttachable", props{"existingClusterProfile": props{"kubeconfig": kc, "context": "x"}}},
		"image":                  {"InvalidParameter", props{"existingClusterProfile": props{"kubeconfig": kc, "webhookImage": "a b"}}},
		"loopback":               {"InvalidParameter", props{"existingClusterProfile": props{"kubeconfig": kc, "frontDoor": "127.0.0.1"}}},
		"pools":                  {"NotSupportedByDriver", props{"existingClusterProfile": props{"kubeconfig": kc}, "agentPoolProfiles": []any{props{"name": "p"}}}},
		"network policy":         {"NotSupportedByDriver", props{"existingClusterProfile": props{"kubeconfig": kc}, "networkProfile": props{"networkPolicy": "none"}}},
		"authorized ranges":      {"NotSupportedByDriver", props{"existingClusterProfile": props{"kubeconfig": kc}, "apiServerAccessProfile": props{"authorizedIPRanges": []any{"1.2.3.4/32"}}}},
		"node restriction":       {"NotSupportedByDriver", props{"existingClusterProfile": props{"kubeconfig": kc}, "securityProfile": props{"nodeRestriction": props{"enabled": true}}}},
	} {
		t.Run(name, func(t *testing.T) {
			a := w.WantError(http.StatusBadRequest, test.code, "PUT", path+v, attachBody(t, test.props))
			if strings.Contains(string(a.Raw), "s3cret") {
				t.Errorf("got %s", a.Raw)
			}
		})
	}
	if len(s.objects) != 0 {
		t.Errorf("got %v", s.objects)
	}
	ours := w.Group("rg") + "/providers/" + typ + "/ours"
	w.make(t, ours, body)
	w.WantError(http.StatusBadRequest, "InvalidParameter", "PUT", ours+v, attachBody(t, props{"existingClusterProfile": props{"kubeconfig": kc}}))
}

func TestDetachUnreachable(t *testing.T) {
	w, s := start(t), theirCluster(t)
	path := w.Group("rg") + "/providers/" + typ + "/mine"
	w.make(t, path, attachBody(t, props{"existingClusterProfile": props{"kubeconfig": s.kubeconfig(t)}}))
	s.Close()
	if a := w.Do("DELETE", path+v, ""); a.Status == http.StatusAccepted && w.Settle(a) == "Succeeded" {
		t.Error("it was detached without being reached")
	}
	w.Do("PUT", path+v, attachBody(t, props{"existingClusterProfile": props{"forget": true}}))
	w.Settle(w.Do("DELETE", path+v, ""))
	w.Want(http.StatusNotFound, "GET", path+v, "")
}
