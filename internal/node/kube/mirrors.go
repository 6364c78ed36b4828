package kube

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"lazurite.dev/internal/node"
)

// registriesFolder has a folder for each registry that has a mirror, and one for
// all others, as containerd reads them at every pull (its docs/hosts.md).
const registriesFolder = "registries"

// hostsFile says where containerd finds what it would ask a registry for.
func hostsFile(mirror string) (string, error) {
	u, err := url.Parse(mirror)
	if err != nil {
		return "", err
	}
	override := ""
	if below := strings.Trim(u.Path, "/"); below != "" { // containerd takes a path as it is
		u.Path, override = "/v2/"+below, "  override_path = true\n"
	} else {
		u.Path = ""
	}
	return fmt.Sprintf("[host.%q]\n  capabilities = [\"pull\", \"resolve\"]\n%s", u.String(), override), nil
}

// writeMirrors makes the folder in dir hold the table of mirrors and no more.
// authority is the file of who signs besides the system's authorities for
// registries that are asked themselves; "" is nobody.
func writeMirrors(dir string, mirrors map[string]string, authority string) error {
	dir = filepath.Join(dir, registriesFolder)
	trust := ""
	if authority != "" {
		trust = fmt.Sprintf("ca = %q\n", authority)
	}
	texts := map[string]string{}
	if trust != "" {
		texts["_default"] = trust
	}
	for registry, mirror := range mirrors {
		name := registry
		if host, port, ok := strings.Cut(registry, ":"); ok {
			name = host + "_" + port + "_"
		} else if registry == node.AllRegistries {
			name = "_default"
		}
		text, err := hostsFile(mirror)
		if err != nil {
			return err
		}
		texts[name] = trust + text
	}
	for name, text := range texts {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			return err
		}
		if _, err := updateFile(filepath.Join(dir, name, "hosts.toml"), []byte(text), owner{}); err != nil {
			return err
		}
	}
	there, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, e := range there {
		if _, wanted := texts[e.Name()]; !wanted {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}
