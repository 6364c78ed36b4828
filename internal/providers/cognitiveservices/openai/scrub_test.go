package openai_test

import (
	"encoding/json"
	"testing"

	"lazurite.dev/internal/providers/cognitiveservices/openai"
)

func TestScrub(t *testing.T) {
	const own = "gpu7.ml.example.com:8000"
	for text, want := range map[string]string{
		`{"error": {"message":"bad","param":"messages.0.content"}}`:                                                        "",
		`"temperature: 2.5 is more than 2.0, see file:12 at 12:30:45, limit:4096, ratio 3:2, std::vector, v1.2.3, a :: b"`: "",
		`"max_tokens:8192 of gpt-4o-mini.2024, chat.completions and data:image/png"`:                                       "",
		`"org-SECRET1234 may not use https://gpu1.x:8000/v1 with sk-abcdef123"`:                                            `"*** may not use *** with ***"`,
		`"grpc://a.b/c"`: `"***"`,
		`"http:\/\/10.0.0.7\/v1 and \u0031\u0030.0.0.8"`:       `"*** and ***"`,
		`"host='10.1.2.3', port=8000"`:                         `"host='***', port=8000"`,
		`"10.1.2.3:8000: refused"`:                             `"***: refused"`,
		`"dial [fd00::7]:8000 and fe80::1%eth0."`:              `"dial [***]:8000 and ***."`,
		`"HTTPConnectionPool(host='GPU7.ml.example.com', x)"`:  `"HTTPConnectionPool(host='***', x)"`,
		`"gpu8.ml.example.com/v1 and ml.example.com."`:         `"***/v1 and ***."`,
		`"triton-2:8001 localhost:11434 db.prod.example:5432"`: `"*** *** ***"`,
		`"worker.gpu.svc.cluster.local, node3.lan"`:            `"***, ***"`,
		`{"gpu7.ml.example.com":["192.0.2.1"]}`:                `{"***":["***"]}`,
	} {
		if want == "" {
			want = text
		}
		if got := string(openai.Scrub([]byte(text), own)); got != want {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
	}
	// A name of one word is one with a port only: it may be any word.
	if got := string(openai.Scrub([]byte(`"the model at model:80 is no model.json"`), "model:80")); got != `"the model at *** is no model.json"` {
		t.Errorf("got %s", got)
	}
	if got := string(openai.Scrub([]byte(`"example.org and api.example.org"`), "example.org")); got != `"*** and ***"` {
		t.Errorf("got %s", got)
	}
	if got := string(openai.Scrub([]byte(`"a.b, c"`), "")); got != `"a.b, c"` {
		t.Errorf("of no host: %s", got)
	}
}

// FuzzScrub: what is left is JSON where it was, and has nothing more to hide.
func FuzzScrub(f *testing.F) {
	f.Add(`{"error":{"message":"no \"https:\\/\\/10.0.0.7\" \ud83d\ude00 at gpu:8000"}}`, "gpu:8000")
	f.Add(`"::1 [::] a.local:1:2 \u0000"`, "")
	f.Fuzz(func(t *testing.T, text, host string) {
		if !json.Valid([]byte(text)) {
			return
		}
		once := openai.Scrub([]byte(text), host)
		if !json.Valid(once) {
			t.Errorf("%s became %s", text, once)
		}
		if again := openai.Scrub(once, host); string(again) != string(once) {
			t.Errorf("%s became %s, and that %s", text, once, again)
		}
	})
}
