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

// kubeconfigAliases is how many aliases a kubeconfig may have.
const kubeconfigAliases = 10_000

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
	var add yaml.Node
	if err := add.Encode(fresh); err != nil {
		return fmt.Errorf("read the credentials: %w", err)
	}
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
		err = mergeKubeconfig(old, &add, may)
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
	err = mergeKubeconfig(old, &add, func(kind, name string) error {
		if c.flag("overwrite-existing") || agreed[kind+"/"+name] {
			return nil
		}
		return failf("%s was changed by another program at the same time. Try again.", path)
	})
	if err != nil {
		return err
	}
	out, err := printKubeconfig(path, old)
	if err != nil {
		return err
	}
	if err := writePrivate(followed(path), out); err != nil {
		return err
	}
	c.warn("Merged \"%s\" as current context in %s", textAt(fresh, "current-context"), path)
	return nil
}

// followed is where a link leads, for the link is to stay.
func followed(path string) string {
	if to, err := filepath.EvalSymlinks(path); err == nil {
		return to
	}
	return path
}

// readKubeconfig reads a kubeconfig as it is written, so that what merging leaves alone
// keeps its comments and its spelling, whatever that is to another reader ("yes" is a
// boolean to kubectl). It refuses what merging would lose a part of.
func readKubeconfig(path string) (*yaml.Node, error) {
	no := func(why any) error { return failf("%s can't be read as a kubeconfig: %v", path, why) }
	raw, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, no(err)
	}
	if to, lerr := os.Readlink(path); err != nil && lerr == nil {
		return nil, withHint(failf("%s is a link to %s, which isn't there.", path, to),
			"Mount or make what it leads to, remove the link, or name another file with -f.")
	}
	var doc yaml.Node
	var kc object
	in := yaml.NewDecoder(bytes.NewReader(raw))
	if err := in.Decode(&doc); err != nil && !errors.Is(err, io.EOF) {
		return nil, no(err)
	}
	if err := in.Decode(new(any)); !errors.Is(err, io.EOF) {
		return nil, no("it has more than one document")
	}
	if err := doc.Decode(&kc); err != nil { // repeated keys and endless aliases, too
		return nil, no(err)
	}
	if kc == nil {
		return &yaml.Node{Kind: yaml.MappingNode, HeadComment: onlyComments(raw)}, nil
	}
	left := kubeconfigAliases
	root := spelled(&doc, &left).Content[0]
	if left < 0 {
		return nil, no("it has too many aliases")
	}
	root.HeadComment = firstNonEmpty(root.HeadComment, doc.HeadComment)
	root.FootComment = firstNonEmpty(root.FootComment, doc.FootComment)
	if fieldOf(root, "<<") != nil {
		return nil, no("it has a merge key (<<) beside its lists")
	}
	for _, kind := range kubeconfigLists() {
		if _, ok := kc[kind].([]any); !ok && kc[kind] != nil {
			return nil, no(kind + " is no list")
		}
	}
	return root, nil
}

// onlyComments are those of a file that has nothing else.
func onlyComments(raw []byte) string {
	var kept []string
	for line := range strings.Lines(string(raw)) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "#") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "\n")
}

// spelled puts in the place of aliases, of which as many as left may be, what they
// stand for, which may be replaced where it is named.
func spelled(n *yaml.Node, left *int) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		if *left--; *left < 0 { // a merge key can hide from the parser that they go round
			return n
		}
		n = new(*n.Alias)
	}
	n.Anchor = ""
	for i, child := range n.Content {
		n.Content[i] = spelled(child, left)
	}
	return n
}

// printKubeconfig is a kubeconfig's text, which reads as what is printed does.
func printKubeconfig(path string, kc *yaml.Node) ([]byte, error) {
	var out bytes.Buffer
	to := yaml.NewEncoder(&out)
	to.SetIndent(2)
	to.CompactSeqIndent() // as kubectl writes it
	if err := errors.Join(to.Encode(kc), to.Close()); err != nil {
		return nil, fmt.Errorf("write kubeconfig: %w", err)
	}
	var want, got any
	if err := errors.Join(kc.Decode(&want), yaml.Unmarshal(out.Bytes(), &got)); err != nil || !reflect.DeepEqual(want, got) {
		return nil, withHint(failf("What is in %s would not be the same with the credentials added.", path), "Name another file with -f.")
	}
	return out.Bytes(), nil
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
func mergeKubeconfig(old, fresh *yaml.Node, may func(kind, name string) error) error {
	for _, kind := range kubeconfigLists() {
		list := fieldOf(old, kind)
		if list == nil || list.Kind != yaml.SequenceNode {
			list = &yaml.Node{Kind: yaml.SequenceNode}
		}
		if len(list.Content) == 0 {
			list.Style = 0 // not [], but a line for each
		}
		for _, n := range childrenOf(fieldOf(fresh, kind)) {
			kept := []*yaml.Node{}
			for _, h := range list.Content {
				if nameOf(h) != nameOf(n) {
					kept = append(kept, h)
				} else if !sameValue(h, n) {
					if err := may(kind, nameOf(n)); err != nil {
						return err
					}
				}
			}
			list.Content = append(kept, n)
		}
		setField(old, kind, list)
	}
	for _, k := range []string{"apiVersion", "kind", "preferences"} {
		have, v := fieldOf(old, k), fieldOf(fresh, k)
		if v != nil && (have == nil || have.ShortTag() == "!!null") {
			setField(old, k, v)
		}
	}
	if v := fieldOf(fresh, "current-context"); v != nil {
		setField(old, "current-context", v)
	}
	return nil
}

// fieldOf is the value of a mapping's key; nil where there is none.
func fieldOf(mapping *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == key {
			return mapping.Content[i+1]
		}
	}
	return nil
}

// setField gives a mapping's key a value; comments on what was there stay.
func setField(mapping *yaml.Node, key string, v *yaml.Node) {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if old := mapping.Content[i+1]; mapping.Content[i].Value == key {
			v.HeadComment, v.LineComment, v.FootComment = old.HeadComment, old.LineComment, old.FootComment
			mapping.Content[i+1] = v
			return
		}
	}
	mapping.Content = append(mapping.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: key}, v)
}

func childrenOf(n *yaml.Node) []*yaml.Node {
	if n == nil {
		return nil
	}
	return n.Content
}

func nameOf(entry *yaml.Node) string {
	var named struct {
		Name string `yaml:"name"`
	}
	if entry.Decode(&named) != nil {
		return "" // no entry that anything could name
	}
	return named.Name
}

func sameValue(a, b *yaml.Node) bool {
	var x, y any
	return errors.Join(a.Decode(&x), b.Decode(&y)) == nil && reflect.DeepEqual(x, y)
}

func (c *call) replaceQuestion(name, kind string) error {
	msg := fmt.Sprintf("A different object named %s already exists in %s in your kubeconfig file.", name, kind)
	if !c.stdinIsTerminal() {
		return withHint(failf("%s", msg), "To overwrite it use --overwrite-existing.")
	}
	return c.confirm(msg + "\nOverwrite?")
}
