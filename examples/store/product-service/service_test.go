package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"lazurite.dev/examples/store/internal/httpd"
)

// start serves with an ai-service that echoes what arrives.
func start(t *testing.T) string {
	t.Helper()
	ai := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if strings.Contains(string(body), "refuse") {
			httpd.Detail(w, 500, "no")
			return
		}
		httpd.JSON(w, 200, map[string]string{"asked": r.Method + " " + r.URL.Path, "with": string(body)})
	}))
	t.Cleanup(ai.Close)
	return startAt(t, ai.URL+"/")
}

func startAt(t *testing.T, ai string) string {
	t.Helper()
	at, err := url.Parse(ai)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(httpd.Slashes(newService(at)))
	t.Cleanup(server.Close)
	return server.URL
}

// do asks for an answer of JSON; into may be nil.
func do(t *testing.T, method, url, body string, into any) int {
	t.Helper()
	ask, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(ask)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	if into != nil {
		if err := json.NewDecoder(answer.Body).Decode(into); err != nil {
			t.Fatal(err)
		}
	}
	return answer.StatusCode
}

func TestProducts(t *testing.T) {
	at := start(t)
	var all []product
	if code := do(t, "GET", at+"/", "", &all); code != 200 || len(all) != len(first()) || all[0].ID != 1 {
		t.Fatalf("got %d and %d products", code, len(all))
	}
	var made product
	if code := do(t, "POST", at+"/", `{"id":0,"name":" Rope ","price":9.5,"tags":"dog","description":"d","image":""}`, &made); code != 200 {
		t.Fatalf("adding: %d", code)
	}
	if want := (product{ID: len(all) + 1, Name: "Rope", Price: 9.5, Description: "d"}); made != want {
		t.Errorf("made %+v, want %+v", made, want)
	}
	one := fmt.Sprintf("%s/%d", at, made.ID)
	made.Price = 10
	changed, _ := json.Marshal(made)
	var got product
	if code := do(t, "PUT", at+"/", string(changed), &got); code != 200 || got.Price != 10 {
		t.Errorf("changing: %d %+v", code, got)
	}
	if code := do(t, "GET", one, "", &got); code != 200 || got != made {
		t.Errorf("reading: %d %+v", code, got)
	}
	if code := do(t, "DELETE", one, "", nil); code != 200 {
		t.Errorf("removing: %d", code)
	}
	for method, body := range map[string]string{"GET": "", "DELETE": "", "PUT": string(changed)} {
		to := one
		if method == "PUT" {
			to = at + "/"
		}
		if code := do(t, method, to, body, nil); code != 404 {
			t.Errorf("%s of one that is gone: %d, want 404", method, code)
		}
	}
	// An id that was used is not given again.
	if do(t, "POST", at+"/", `{"name":"Next"}`, &made); made.ID != len(all)+2 {
		t.Errorf("the next id is %d, want %d", made.ID, len(all)+2)
	}
}

func TestProductsThatAreNone(t *testing.T) {
	at := start(t)
	for body, want := range map[string]int{
		``:                         422,
		`[]`:                       422,
		`{"name":""}`:              400,
		`{"name":"x","price":-1}`:  400,
		`{"name":"x","price":1e9}`: 400,
		`{"name":"x","price":"9"}`: 422,
		`{"name":"x","image":"` + strings.Repeat("x", maxImage+1) + `"}`:             400,
		`{"name":"x","description":"` + strings.Repeat("x", maxDescription+1) + `"}`: 400,
		`{"name":"` + strings.Repeat("x", maxName+1) + `"}`:                          400,
		`{"name":"` + strings.Repeat("x", httpd.MaxBody) + `"}`:                      413,
	} {
		var said struct{ Detail string }
		if code := do(t, "POST", at+"/", body, &said); code != want || said.Detail == "" {
			t.Errorf("%.40s: got %d %q, want %d", body, code, said.Detail, want)
		}
	}
}

func TestHopToTheModel(t *testing.T) {
	at := start(t)
	var said struct{ Asked, With, Detail string }
	if code := do(t, "GET", at+"/ai/health", "", &said); code != 200 || said.Asked != "GET /health" {
		t.Errorf("got %d %+v", code, said)
	}
	if code := do(t, "POST", at+"/ai/generate/description", `{"name":"x"}`, &said); code != 200 || said.Asked != "POST /generate/description" || said.With != `{"name":"x"}` {
		t.Errorf("got %d %+v", code, said)
	}
	if code := do(t, "POST", at+"/ai/generate/description", `refuse`, &said); code != 500 || said.Detail != "no" {
		t.Errorf("a refusal arrives as %d %+v", code, said)
	}
	said.Detail = ""
	if code := do(t, "GET", startAt(t, "http://127.0.0.1:1/")+"/ai/health", "", &said); code != 502 || !strings.Contains(said.Detail, "http://127.0.0.1:1/") {
		t.Errorf("an ai-service that is away: %d %q", code, said.Detail)
	}
}
