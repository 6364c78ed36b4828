package token

import (
	"encoding/base64"
	"strings"
	"testing"
)

func compact(header, payload, sig string) string {
	e := base64.RawURLEncoding.EncodeToString
	return e([]byte(header)) + "." + e([]byte(payload)) + "." + e([]byte(sig))
}

func TestParseJWS_RefusesWhatIsNotOneStrictToken(t *testing.T) {
	good := compact(`{"alg":"RS256","kid":"k"}`, `{"iss":"i"}`, "sig")
	if _, err := parseJWS(good); err != nil {
		t.Fatalf("parseJWS(good) = %v", err)
	}
	for name, raw := range map[string]string{
		"empty":            "",
		"two parts":        "a.b",
		"four parts":       good + ".x",
		"oversized":        strings.Repeat("a", MaxTokenBytes+1),
		"padding":          strings.Replace(good, ".", "=.", 1),
		"line break":       good[:5] + "\n" + good[5:],
		"doubled claim":    compact(`{"alg":"RS256"}`, `{"iss":"a","iss":"b"}`, "s"),
		"doubled escaped":  compact(`{"alg":"RS256"}`, `{"iss":"a","\u0069ss":"b"}`, "s"),
		"doubled inside":   compact(`{"alg":"RS256"}`, `{"k":{"a":1,"a":2}}`, "s"),
		"doubled alg":      compact(`{"alg":"none","alg":"RS256"}`, `{}`, "s"),
		"no alg":           compact(`{}`, `{}`, "s"),
		"crit":             compact(`{"alg":"RS256","crit":["b64"]}`, `{}`, "s"),
		"payload is list":  compact(`{"alg":"RS256"}`, `[]`, "s"),
		"text after":       compact(`{"alg":"RS256"}`, `{} {}`, "s"),
		"not UTF-8":        compact(`{"alg":"RS256"}`, "{\"a\":\"\xff\"}", "s"),
		"too deep":         compact(`{"alg":"RS256"}`, `{"a":`+strings.Repeat("[", 40)+strings.Repeat("]", 40)+`}`, "s"),
		"unclosed":         compact(`{"alg":"RS256"}`, `{"a":1`, "s"),
		"bits to spare":    compact(`{"alg":"RS256"}`, `{}`, "") + "Zh",
		"bad signature":    good + "!",
		"header not JSON":  compact(`x`, `{}`, "s"),
		"payload is blank": compact(`{"alg":"RS256"}`, ``, "s"),
	} {
		if j, err := parseJWS(raw); err == nil {
			t.Errorf("%s: parseJWS gave %v, want an error", name, j)
		}
	}
}

func TestJWS_When(t *testing.T) {
	j, err := parseJWS(compact(`{"alg":"RS256"}`, `{"a":1700000000,"b":1.7e9,"c":"1700000000","d":-1,"e":1e300,"f":1700000000.5}`, "s"))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"a": true, "b": true, "c": false, "d": false, "e": false, "f": true, "g": false} {
		at, ok := j.when(name)
		if ok != want || ok && at.Unix() != 1700000000 {
			t.Errorf("when(%s) = %v, %v, want ok %v", name, at, ok, want)
		}
	}
}

func FuzzParseJWS(f *testing.F) {
	f.Add(compact(`{"alg":"RS256","kid":"k"}`, `{"iss":"i","aud":"a","exp":1700000000}`, "sig"))
	f.Add(compact(`{"alg":"none"}`, `{}`, ""))
	f.Add("..")
	f.Fuzz(func(t *testing.T, raw string) {
		j, err := parseJWS(raw)
		if err != nil {
			return
		}
		if len(raw) > MaxTokenBytes || strings.Count(raw, ".") != 2 || j.alg == "" {
			t.Errorf("parseJWS(%q) was accepted", raw)
		}
		if !strings.HasPrefix(raw, j.signed+".") {
			t.Errorf("the signed part %q isn't the start of %q", j.signed, raw)
		}
		j.when("exp")
		j.texts("aud")
	})
}
