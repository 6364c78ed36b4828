package token

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
)

func TestParseJWKS_KeepsOnlyWhatCanCheckRS256(t *testing.T) {
	n := base64.RawURLEncoding.EncodeToString(append([]byte{0x80}, append(make([]byte, 254), 1)...))
	small := base64.RawURLEncoding.EncodeToString(append([]byte{0x80}, append(make([]byte, 126), 1)...))
	key := func(extra string) string {
		return fmt.Sprintf(`{"keys":[{"kty":"RSA","kid":"k","n":%q,"e":"AQAB"%s}]}`, n, extra)
	}
	for name, tc := range map[string]struct {
		set  string
		keys int // -1: refused
	}{
		"plain":            {key(""), 1},
		"sig":              {key(`,"use":"sig","alg":"RS256","key_ops":["verify"]`), 1},
		"enc":              {key(`,"use":"enc"`), 0},
		"RS512":            {key(`,"alg":"RS512"`), 0},
		"EC":               {`{"keys":[{"kty":"EC","kid":"k","crv":"P-256","x":"AA","y":"AA"}]}`, 0},
		"1024 bits":        {fmt.Sprintf(`{"keys":[{"kty":"RSA","kid":"k","n":%q,"e":"AQAB"}]}`, small), 0},
		"exponent 1":       {fmt.Sprintf(`{"keys":[{"kty":"RSA","kid":"k","n":%q,"e":"AQ"}]}`, n), 0},
		"no kid":           {fmt.Sprintf(`{"keys":[{"kty":"RSA","n":%q,"e":"AQAB"}]}`, n), 0},
		"symmetric":        {`{"keys":[{"kty":"oct","kid":"k","k":"AA"}]}`, 0},
		"doubled kid":      {fmt.Sprintf(`{"keys":[{"kty":"RSA","kid":"k","n":%q,"e":"AQAB"},{"kid":"k"}]}`, n), -1},
		"doubled member":   {key(`,"kid":"z"`), -1},
		"no keys":          {`{}`, -1},
		"keys of a string": {`{"keys":"x"}`, -1},
		"too many":         {`{"keys":[` + strings.Repeat(`{},`, 300) + `{}]}`, -1},
		"not JSON":         {`keys`, -1},
	} {
		keys, err := parseJWKS([]byte(tc.set))
		if (err != nil) != (tc.keys < 0) || err == nil && len(keys) != tc.keys {
			t.Errorf("%s: %d keys, %v, want %d", name, len(keys), err, tc.keys)
		}
	}
}

func FuzzParseJWKS(f *testing.F) {
	f.Add([]byte(`{"keys":[{"kty":"RSA","kid":"k","n":"gAAB","e":"AQAB"}]}`))
	f.Add([]byte(`{"keys":[]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		keys, err := parseJWKS(b)
		for kid, k := range keys {
			if err != nil || kid == "" || k.N.BitLen() < 2048 || k.E < 3 {
				t.Errorf("parseJWKS(%q) gave %q: %v, %v", b, kid, k, err)
			}
		}
	})
}
