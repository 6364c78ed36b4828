package distribution

import (
	"strings"
	"testing"
)

func FuzzParseRange(f *testing.F) {
	for _, s := range []string{"0-5", "bytes 0-5/6", "5-0", "-1-2", "9223372036854775807-9223372036854775807", "0-", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if first, last, ok := parseRange(s); ok && (first < 0 || last < first || last-first+1 <= 0) {
			t.Errorf("%q: %d-%d", s, first, last)
		}
	})
}

func FuzzNames(f *testing.F) {
	for _, s := range []string{"a/b", "../a", "a//b", "repository:a/b:pull,push", "sha256:" + strings.Repeat("a", 64), "registry:catalog:*", "a/./b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if validRepository(s) && (strings.Contains(s, "..") || strings.HasPrefix(s, "/") || strings.Contains(s, "//") || strings.ContainsAny(s, ":\x00\\")) {
			t.Errorf("the repository %q is valid", s)
		}
		if d, ok := parseDigest(s); ok && (d.String() != s || strings.ContainsAny(s, "/.")) {
			t.Errorf("the digest %q is valid", s)
		}
		if a, ok := parseScope(s); ok && a.Type == "repository" && !validRepository(a.Name) {
			t.Errorf("the scope %q is valid", s)
		}
	})
}

func FuzzParseManifest(f *testing.F) {
	f.Add([]byte(`{"schemaVersion":2,"config":{"mediaType":"x","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[]}`), typeManifest)
	f.Add([]byte(`{"schemaVersion":2,"mediaType":"`+typeIndex+`","manifests":[]}`), "")
	f.Fuzz(func(t *testing.T, raw []byte, contentType string) {
		m, err := parseManifest(raw, contentType)
		if err != nil {
			return
		}
		for _, d := range append(m.Layers, m.Manifests...) {
			if _, ok := parseDigest(d.Digest); !ok {
				t.Errorf("the digest %q is in a valid manifest", d.Digest)
			}
		}
	})
}
