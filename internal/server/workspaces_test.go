package server

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestDiscovery(t *testing.T) {
	ask := func(method, path string) (int, string) {
		w := httptest.NewRecorder()
		discovery(w, httptest.NewRequestWithContext(t.Context(), method, "https://eastus.api.azureml.ms"+path, http.NoBody))
		return w.Code, w.Body.String()
	}
	if code, body := ask(http.MethodGet, "/discovery"); code != http.StatusOK || !strings.Contains(body, `"https://eastus.api.azureml.ms"`) {
		t.Errorf("got %d %s", code, body)
	}
	for _, r := range []struct{ method, path string }{{http.MethodPost, "/discovery"}, {http.MethodGet, "/history/v1.0"}, {http.MethodGet, "/"}} {
		if code, body := ask(r.method, r.path); code != http.StatusNotFound || !strings.Contains(body, "runs") {
			t.Errorf("%s %s: got %d %s", r.method, r.path, code, body)
		}
	}
}
