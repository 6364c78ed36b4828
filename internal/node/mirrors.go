package node

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"sync"
)

// AllRegistries stands, in a table of mirrors, for every registry that is not named.
const AllRegistries = "*"

const maxMirrors = 64

var registryName = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]+)?$`)
})

// CheckMirrors reads a table of mirrors, registry to URL, and says what is wrong with it.
func CheckMirrors(mirrors map[string]string) error {
	if len(mirrors) > maxMirrors {
		return fmt.Errorf("%d mirrors, at most %d", len(mirrors), maxMirrors)
	}
	for registry, mirror := range mirrors {
		if registry != AllRegistries && (len(registry) > 255 || !registryName().MatchString(registry)) {
			return fmt.Errorf("mirror of %q: that is no registry, such as ghcr.io or registry.example.org:5000", registry)
		}
		u, err := url.Parse(mirror)
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" ||
			len(mirror) > 1024 || strings.ContainsAny(mirror, " \"'\\\n") {
			return fmt.Errorf("mirror of %s: %q is no URL of a registry, such as https://registry.example.org", registry, redacted(u))
		}
	}
	return nil
}

// redacted keeps a password out of messages.
func redacted(u *url.URL) string {
	if u == nil {
		return ""
	}
	return u.Redacted()
}
