package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// kubeconfigLock is how long another program may keep a kubeconfig locked.
const kubeconfigLock = 5 * time.Second

// writeKubeconfig adds a cluster's credentials to the kubeconfig that the call names,
// or prints them. What else is in the file stays; one that can't be read or that
// others hold stays as it is.
func (c *call) writeKubeconfig(ctx context.Context, b []byte) error {
	path := c.text("file")
	if path == "-" {
		_, err := c.env.Stdout.Write(b)
		return err
	}
	if path == "" {
		path = filepath.SplitList(c.env.Getenv("KUBECONFIG") + string(filepath.ListSeparator))[0]
	}
	path = c.filePath(firstNonEmpty(path, "~/.kube/config"))
	fresh := object{}
	if err := yaml.Unmarshal(b, &fresh); err != nil {
		return fmt.Errorf("read the credentials: %w", err)
	}
	nameContext(fresh, c.text("context"))
	agreed := map[string]bool{} // asked before the file is locked, for a person takes time
	may := func(kind, name string) error {
		if !c.flag("overwrite-existing") {
			if err := c.replaceQuestion(name, kind); err != nil {
				return err
			}
		}
		agreed[kind+"/"+name] = true
		return nil
	}
	old, err := readKubeconfig(path)
	if err == nil {
		err = mergeKubeconfig(old, fresh, may)
	}
	if err != nil {
		return err
	}
	unlock, err := lockKubeconfig(ctx, path)
	if err != nil {
		return err
	}
	defer unlock()
	if old, err = readKubeconfig(path); err != nil {
		return err
	}
	err = mergeKubeconfig(old, fresh, func(kind, name string) error {
		if c.flag("overwrite-existing") || agreed[kind+"/"+name] {
			return nil
		}
		return failf("%s was changed by another program at the same time. Try again.", path)
	})
	if err != nil {
		return err
	}
	out, err := yaml.Marshal(old)
	if err != nil {
		return fmt.Errorf("write kubeconfig: %w", err)
	}
	if err := writePrivate(followed(path), out); err != nil {
		return err
	}
	c.warn("Merged \"%s\" as current context in %s", textAt(old, "current-context"), path)
	return nil
}

// followed is where a link leads, for the link is to stay.
func followed(path string) string {
	if to, err := filepath.EvalSymlinks(path); err == nil {
		return to
	}
	return path
}

// readKubeconfig reads a kubeconfig, and refuses what merging would lose a part of.
func readKubeconfig(path string) (object, error) {
	no := func(why any) error { return failf("%s can't be read as a kubeconfig: %v", path, why) }
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return object{}, nil
	}
	if err != nil {
		return nil, no(err)
	}
	var kc object
	in := yaml.NewDecoder(bytes.NewReader(raw))
	if err := in.Decode(&kc); err != nil && !errors.Is(err, io.EOF) {
		return nil, no(err)
	}
	if err := in.Decode(new(any)); !errors.Is(err, io.EOF) {
		return nil, no("it has more than one document")
	}
	if kc == nil {
		kc = object{}
	}
	for _, kind := range kubeconfigLists() {
		if _, ok := kc[kind].([]any); !ok && kc[kind] != nil {
			return nil, no(kind + " is no list")
		}
	}
	return kc, nil
}

func kubeconfigLists() []string { return []string{"clusters", "users", "contexts"} }

// lockKubeconfig keeps kubectl and others of us from writing the file, by the file
// beside it that kubectl makes, too.
func lockKubeconfig(ctx context.Context, path string) (unlock func(), err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of the kubeconfig: %w", err)
	}
	lock := path + ".lock"
	ctx, cancel := context.WithTimeout(ctx, kubeconfigLock)
	defer cancel()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		f, err := os.OpenFile(lock, os.O_CREATE|os.O_EXCL, 0)
		if err == nil {
			_ = f.Close()
			return func() { _ = os.Remove(lock) }, nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("lock the kubeconfig: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil, withHint(failf("Another program is writing %s.", path), "Where none is, remove %s.", lock)
		case <-again.C:
		}
	}
}

// nameContext gives the only context and its cluster the name asked for; an
// administrator's context ends in "-admin".
func nameContext(kc object, name string) {
	contexts, clusters := items(kc["contexts"]), items(kc["clusters"])
	if len(contexts) == 0 {
		return
	}
	first := asObject(contexts[0])
	if name != "" && len(clusters) > 0 {
		first["name"], kc["current-context"] = name, name
		asObject(first["context"])["cluster"] = name
		asObject(clusters[0])["name"] = name
	}
	if strings.HasPrefix(textAt(first, "context", "user"), "clusterAdmin") && !strings.HasSuffix(textAt(first, "name"), "-admin") {
		first["name"] = textAt(first, "name") + "-admin"
		kc["current-context"] = first["name"]
	}
}

// mergeKubeconfig adds what fresh has to old, by name. may refuses to replace what is
// another thing of the same name.
func mergeKubeconfig(old, fresh object, may func(kind, name string) error) error {
	for _, kind := range kubeconfigLists() {
		have := items(old[kind])
		for _, n := range items(fresh[kind]) {
			kept := []any{}
			for _, h := range have {
				if textAt(h, "name") != textAt(n, "name") {
					kept = append(kept, h)
				} else if !reflect.DeepEqual(h, n) {
					if err := may(kind, textAt(n, "name")); err != nil {
						return err
					}
				}
			}
			have = append(kept, n)
		}
		old[kind] = have
	}
	for _, k := range []string{"apiVersion", "kind", "preferences"} {
		if old[k] == nil && fresh[k] != nil {
			old[k] = fresh[k]
		}
	}
	old["current-context"] = fresh["current-context"]
	return nil
}

func (c *call) replaceQuestion(name, kind string) error {
	msg := fmt.Sprintf("A different object named %s already exists in %s in your kubeconfig file.", name, kind)
	if !c.stdinIsTerminal() {
		return withHint(failf("%s", msg), "To overwrite it use --overwrite-existing.")
	}
	return c.confirm(msg + "\nOverwrite?")
}
