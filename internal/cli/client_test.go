package cli

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// standIn is a server that plays the manager and the token service for the
// plumbing alone: polling, paging, retries.
type standIn struct {
	*httptest.Server
	mux    *http.ServeMux
	tokens atomic.Int64 // how many were given
}

// newStandIn gives it, and a session of a user who is signed in to it.
func newStandIn(t *testing.T) (*standIn, *session) {
	t.Helper()
	s := &standIn{mux: http.NewServeMux()}
	s.Server = httptest.NewTLSServer(s.mux)
	t.Cleanup(s.Close)
	s.mux.HandleFunc("POST /tenant/oauth2/v2.0/token", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"access_token":"token-%d","expires_in":3600,"refresh_token":"next"}`, s.tokens.Add(1))
	})
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	ca := write("ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})))
	write("config", "[cloud]\nname = Lab\n")
	write("clouds.config", fmt.Sprintf("[Lab]\nendpoint_resource_manager = %[1]s/\nendpoint_active_directory = %[1]s\nendpoint_active_directory_resource_id = %[1]s/\n", s.URL))
	write("azureProfile.json", "\ufeff"+`{"installationId":"kept","subscriptions":[{"id":"sub","name":"Sub","state":"Enabled","isDefault":true,"tenantId":"tenant","environmentName":"Lab","user":{"name":"me","type":"user"}}]}`)
	write("laz_owner.json", `{"username":"me","refreshToken":"first"}`)
	vars := map[string]string{"AZURE_CONFIG_DIR": dir, "HOME": dir, "SSL_CERT_FILE": ca}
	env := Env{Stdin: strings.NewReader(""), Stdout: &bytes.Buffer{}, Stderr: &bytes.Buffer{}, Getenv: func(k string) string { return vars[k] }}
	return s, newSession(env.complete())
}

func (s *standIn) answer(pattern string, f func(w http.ResponseWriter, r *http.Request)) {
	s.mux.HandleFunc(pattern, f)
}

func managed(t *testing.T, s *session) *management {
	t.Helper()
	m, err := s.arm()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestPut_FollowsTheOperation(t *testing.T) {
	s, sess := newStandIn(t)
	polls := 0
	s.answer("PUT /thing", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Azure-AsyncOperation", s.URL+"/operation")
		w.Header().Set("Retry-After", "0")
		w.WriteHeader(http.StatusCreated)
		fmt.Fprint(w, `{"properties":{"provisioningState":"Creating"}}`)
	})
	s.answer("GET /operation", func(w http.ResponseWriter, _ *http.Request) {
		polls++
		w.Header().Set("Retry-After", "0")
		fmt.Fprintf(w, `{"status":"%s"}`, map[bool]string{true: "Succeeded", false: "InProgress"}[polls > 2])
	})
	s.answer("GET /thing", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"name":"thing"}`) })
	v, err := managed(t, sess).put(t.Context(), "/thing", "1", object{}, false)
	if err != nil || textAt(v, "name") != "thing" || polls != 3 {
		t.Errorf("got %v, %v after %d polls", v, err, polls)
	}
}

func TestPut_TellsWhyTheOperationFailed(t *testing.T) {
	s, sess := newStandIn(t)
	s.answer("PUT /thing", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Azure-AsyncOperation", s.URL+"/operation")
		w.WriteHeader(http.StatusAccepted)
	})
	s.answer("GET /operation", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"status":"Failed","error":{"code":"NoRoom","message":"There is no room."}}`)
	})
	_, err := managed(t, sess).put(t.Context(), "/thing", "1", object{}, false)
	if !isCode(err, "NoRoom") {
		t.Errorf("got %v, want NoRoom", err)
	}
}

func TestPut_WaitsForTheState(t *testing.T) {
	s, sess := newStandIn(t)
	gets := 0
	s.answer("PUT /thing", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "0")
		fmt.Fprint(w, `{"properties":{"provisioningState":"Updating"}}`)
	})
	s.answer("GET /thing", func(w http.ResponseWriter, _ *http.Request) {
		gets++
		w.Header().Set("Retry-After", "0")
		fmt.Fprintf(w, `{"properties":{"provisioningState":"%s"}}`, map[bool]string{true: "Succeeded", false: "Updating"}[gets > 1])
	})
	v, err := managed(t, sess).put(t.Context(), "/thing", "1", object{}, false)
	if err != nil || textAt(v, "properties", "provisioningState") != "Succeeded" {
		t.Errorf("got %v, %v", v, err)
	}
}

func TestDelete_FollowsTheLocationUntilItIsGone(t *testing.T) {
	s, sess := newStandIn(t)
	polls := 0
	s.answer("DELETE /thing", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", s.URL+"/where")
		w.Header().Set("Retry-After", "0")
		w.WriteHeader(http.StatusAccepted)
	})
	s.answer("GET /where", func(w http.ResponseWriter, _ *http.Request) {
		if polls++; polls < 3 {
			w.Header().Set("Retry-After", "0")
			w.WriteHeader(http.StatusAccepted)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	if err := managed(t, sess).delete(t.Context(), "/thing", "1", false); err != nil || polls != 3 {
		t.Errorf("got %v after %d polls", err, polls)
	}
}

func TestList_ReadsAllPages(t *testing.T) {
	s, sess := newStandIn(t)
	s.answer("GET /things", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("page") == "" {
			fmt.Fprintf(w, `{"value":[1,2],"nextLink":"%s/things?page=2"}`, s.URL)
			return
		}
		fmt.Fprint(w, `{"value":[3],"nextLink":null}`)
	})
	l, err := managed(t, sess).list(t.Context(), "/things", "1")
	if err != nil || len(l) != 3 {
		t.Errorf("got %v, %v", l, err)
	}
}

func TestList_SendsNoTokenToAStranger(t *testing.T) {
	s, sess := newStandIn(t)
	s.answer("GET /things", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"value":[],"nextLink":"https://elsewhere.example.org/things"}`)
	})
	if _, err := managed(t, sess).list(t.Context(), "/things", "1"); err == nil || !strings.Contains(err.Error(), "no token is sent") {
		t.Errorf("got %v", err)
	}
}

func TestSend_NewTokenWhereTheKeptOneIsRefused(t *testing.T) {
	s, sess := newStandIn(t)
	s.answer("GET /thing", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer token-2" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		fmt.Fprint(w, `{"name":"thing"}`)
	})
	v, err := managed(t, sess).get(t.Context(), "/thing", "1")
	if err != nil || textAt(v, "name") != "thing" {
		t.Errorf("got %v, %v", v, err)
	}
	s.answer("GET /never", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) })
	if _, err := managed(t, sess).get(t.Context(), "/never", "1"); !isStatus(err, 401) || s.tokens.Load() != 3 {
		t.Errorf("got %v after %d tokens, want 401 after one more", err, s.tokens.Load())
	}
}

func TestSend_RetriesWhenAskedToSlowDown(t *testing.T) {
	s, sess := newStandIn(t)
	n := 0
	s.answer("GET /thing", func(w http.ResponseWriter, _ *http.Request) {
		if n++; n < 3 {
			w.Header().Set("retry-after-ms", "1")
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		fmt.Fprint(w, `{}`)
	})
	if _, err := managed(t, sess).get(t.Context(), "/thing", "1"); err != nil || n != 3 {
		t.Errorf("got %v after %d requests", err, n)
	}
}

func TestTokens_AreKeptPrivately(t *testing.T) {
	s, sess := newStandIn(t)
	s.answer("GET /thing", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{}`) })
	for range 2 {
		if _, err := managed(t, newSession(sess.env)).get(t.Context(), "/thing", "1"); err != nil {
			t.Fatal(err)
		}
	}
	if s.tokens.Load() != 1 {
		t.Errorf("got %d tokens for two commands, want 1", s.tokens.Load())
	}
	st, err := os.Stat(sess.path("laz_tokens.json"))
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the cache's mode is %v, %v", st.Mode(), err)
	}
	if got := newSession(sess.env).refreshToken("me"); got != "next" {
		t.Errorf("the refresh token is %q, want the rotated one", got)
	}
}

func TestTokens_AreNotSentWithoutTLS(t *testing.T) {
	_, sess := newStandIn(t)
	_, err := sess.send(t.Context(), request{method: "GET", url: "http://127.0.0.1:1/", resource: "https://x"})
	if err == nil || !strings.Contains(err.Error(), "https only") {
		t.Errorf("got %v", err)
	}
}

func TestVault_RefusesAStrangersChallenge(t *testing.T) {
	for _, header := range []string{
		`Bearer authorization="https://login.example.org/t", resource="https://management.azure.com"`,
		`Bearer authorization="https://login.example.org/t", resource="https://ault.azure.net"`,
		`Bearer authorization="https://login.example.org/t", resource="nonsense"`,
	} {
		v := &vault{base: "https://my.vault.azure.net"}
		err := v.challenge(&answer{status: 401, header: http.Header{"Www-Authenticate": {header}}})
		if err == nil || v.resource != "" {
			t.Errorf("%s: taken", header)
		}
	}
	v := &vault{base: "https://MY.vault.azure.net"}
	err := v.challenge(&answer{status: 401, header: http.Header{"Www-Authenticate": {`Bearer authorization="https://login.example.org/tenant", resource="https://vault.azure.net"`}}})
	if err != nil || v.resource != "https://vault.azure.net" || v.tenant != "tenant" {
		t.Errorf("got %q, %q, %v", v.resource, v.tenant, err)
	}
}

func TestProxy(t *testing.T) {
	vars := map[string]string{"HTTPS_PROXY": "proxy:1", "NO_PROXY": "example.org, .internal"}
	s := newSession(Env{Getenv: func(k string) string { return vars[k] }})
	for address, want := range map[string]string{
		"https://management.azure.com": "http://proxy:1", "https://a.example.org": "", "https://example.org": "",
		"https://notexample.org": "http://proxy:1", "https://x.internal": "", "https://127.0.0.1:1": "", "http://169.254.169.254": "", "http://plain.test": "",
	} {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.proxyFor(u)
		if err != nil {
			t.Fatal(err)
		}
		if g := fmt.Sprint(got); got == nil && want != "" || got != nil && g != want {
			t.Errorf("%s: got %v, want %q", address, got, want)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	for header, want := range map[string]time.Duration{"3": 3 * time.Second, "9999": time.Minute, "-1": 0, "soon": time.Second,
		time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat): 0} {
		a := &answer{header: http.Header{"Retry-After": {header}}}
		if got := retryAfter(a, time.Second); got != want {
			t.Errorf("%s: got %v, want %v", header, got, want)
		}
	}
}

func TestProfile_KeepsWhatItDoesNotKnow(t *testing.T) {
	_, sess := newStandIn(t)
	if _, err := sess.profile(); err != nil {
		t.Fatal(err)
	}
	if err := sess.saveProfile(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(sess.path("azureProfile.json"))
	if err != nil || !bytes.HasPrefix(b, []byte("\ufeff{")) {
		t.Fatalf("got %q, %v", b, err)
	}
	var m object
	if err := json.Unmarshal(b[3:], &m); err != nil || m["installationId"] != "kept" {
		t.Errorf("got %v, %v", m, err)
	}
}

func TestTokens_TheOwnersFileIsTheLastResort(t *testing.T) {
	s, sess := newStandIn(t)
	s.answer("POST /other/oauth2/v2.0/token", func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("refresh_token") != "first" {
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, `{"error":"invalid_grant","error_description":"AADSTS70008: The refresh token has expired."}`)
			return
		}
		fmt.Fprint(w, `{"access_token":"owner","expires_in":"3600"}`)
	})
	sess.keep(func(c *tokenCache) { c.Refresh[sess.refreshKey("me")] = "stale" })
	a, err := sess.account()
	if err != nil {
		t.Fatal(err)
	}
	got, err := sess.accountToken(t.Context(), a, "other", "https://x", "")
	if err != nil || got.Token != "owner" {
		t.Errorf("got %v, %v", got, err)
	}
	if err := os.Remove(sess.path("laz_owner.json")); err != nil {
		t.Fatal(err)
	}
	_, err = sess.accountToken(t.Context(), a, "other", "https://y", "")
	if err == nil || !strings.HasPrefix(err.Error(), "AADSTS70008") {
		t.Errorf("got %v", err)
	}
}
