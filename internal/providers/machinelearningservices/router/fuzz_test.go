package router_test

import (
	"net/http"
	"strings"
	"testing"

	"lazurite.dev/internal/providers/machinelearningservices/router"
)

func FuzzCredential(f *testing.F) {
	for _, s := range []string{"Bearer k", "bearer  k", "Bearer", "Bearer a b", "Bearer a,b", "Basic k", " Bearer k ", "Bearer\tk"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		given, ok := router.Credential(http.Header{"Authorization": {s}})
		if ok && (given == "" || strings.ContainsAny(given, " ,\t") || !strings.Contains(s, given) || len(s) < 8 || !strings.EqualFold(strings.TrimSpace(s)[:6], "bearer")) {
			t.Errorf("%q is a credential: %q", s, given)
		}
	})
}

func FuzzPassed(f *testing.F) {
	f.Add("X-A", "1", "X-A, keep-alive")
	f.Add("Authorization", "Bearer k", ",,")
	f.Add("X-Forwarded-Host", "h", "")
	f.Add("Upgrade", "h", "upgrade")
	f.Fuzz(func(t *testing.T, name, value, connection string) {
		name = http.CanonicalHeaderKey(name)
		in := http.Header{name: {value}, "Authorization": {"Bearer k"}, "Content-Type": {"t"}}
		if name != "Connection" {
			in["Connection"] = []string{connection}
		}
		out := router.Passed(in)
		for _, never := range []string{"Authorization", "Connection", "Transfer-Encoding", "Upgrade", "Azureml-Model-Deployment"} {
			if _, ok := out[never]; ok {
				t.Errorf("%s is passed on", never)
			}
		}
		for _, word := range strings.Split(connection, ",") {
			if word = strings.Trim(word, " \t"); word != "" && name != "Connection" && out.Values(word) != nil {
				t.Errorf("%q is named by Connection, and passed on", word)
			}
		}
	})
}
