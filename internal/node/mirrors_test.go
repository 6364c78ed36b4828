package node_test

import (
	"strings"
	"testing"

	"lazurite.dev/internal/node"
)

func TestCheckMirrors(t *testing.T) {
	for _, ok := range []map[string]string{
		nil, {"ghcr.io": "https://registry.example.org"}, {"registry.example.org:5000": "http://198.51.100.7:5000/team"}, {"*": "https://all.example.org/"},
	} {
		if err := node.CheckMirrors(ok); err != nil {
			t.Errorf("%v: %v", ok, err)
		}
	}
	for _, bad := range []map[string]string{
		{"": "https://a"}, {"GHCR.io": "https://a"}, {"../x": "https://a"}, {"a/b": "https://a"}, {"_default": "https://a"},
		{"ghcr.io": "registry.example.org"}, {"ghcr.io": "ftp://a"}, {"ghcr.io": "https://"}, {"ghcr.io": "https://a?b"}, {"ghcr.io": "https://a\"]"},
		{"ghcr.io": "https://user:hunter2@a"},
	} {
		err := node.CheckMirrors(bad)
		if err == nil {
			t.Errorf("%v was taken", bad)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the password is in %v", err)
		}
	}
}
