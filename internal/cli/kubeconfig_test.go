package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

func kubeconfig(name, user, server string) string {
	return "apiVersion: v1\nkind: Config\ncurrent-context: " + name + "\nclusters:\n- name: " + name + "\n  cluster: {server: " + server + "}\n" +
		"contexts:\n- name: " + name + "\n  context: {cluster: " + name + ", user: " + user + "}\nusers:\n- name: " + user + "\n  user: {token: t}\n"
}

func merge(t *testing.T, path, config string, options ...string) (string, error) {
	t.Helper()
	cmd := aksCredentials()
	p, err := parseArgs(cmd.options(), append([]string{"-f", path}, options...))
	if err != nil {
		t.Fatal(err)
	}
	var errs bytes.Buffer
	env := Env{Stdin: strings.NewReader(""), Stdout: &bytes.Buffer{}, Stderr: &errs, Getenv: func(string) string { return "" }}
	c := &call{session: newSession(env.complete()), cmd: cmd, args: p}
	err = c.writeKubeconfig(t.Context(), []byte(config))
	return errs.String(), err
}

func TestKubeconfig_Merge(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kube", "config")
	msg, err := merge(t, path, kubeconfig("one", "clusterUser_g_one", "https://one"))
	if err != nil || msg != "Merged \"one\" as current context in "+path+"\n" {
		t.Fatalf("got %q, %v", msg, err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	if _, err := merge(t, path, kubeconfig("one", "clusterUser_g_one", "https://one")); err != nil {
		t.Errorf("the same again: %v", err)
	}
	if _, err := merge(t, path, kubeconfig("two", "clusterUser_g_two", "https://two")); err != nil {
		t.Errorf("another one: %v", err)
	}
	_, err = merge(t, path, kubeconfig("one", "clusterUser_g_one", "https://moved"))
	if want := "A different object named one already exists in clusters in your kubeconfig file."; err == nil || err.Error() != want {
		t.Errorf("got %v, want %q", err, want)
	}
	if _, err := merge(t, path, kubeconfig("one", "clusterUser_g_one", "https://moved"), "--overwrite-existing"); err != nil {
		t.Error(err)
	}
	if msg, err = merge(t, path, kubeconfig("one", "clusterAdmin_g_one", "https://moved"), "--admin"); err != nil || !strings.Contains(msg, "\"one-admin\"") {
		t.Errorf("admin: got %q, %v", msg, err)
	}
	if msg, err = merge(t, path, kubeconfig("one", "clusterUser_g_one", "https://moved"), "--context", "mine"); err != nil || !strings.Contains(msg, "\"mine\"") {
		t.Errorf("context: got %q, %v", msg, err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"current-context: mine", "name: two", "name: one-admin", "https://moved"} {
		if !strings.Contains(string(b), want) {
			t.Errorf("%q is not in\n%s", want, b)
		}
	}
}

// TestKubeconfig_KeepsTheRest: other programs' clusters, users, contexts and fields
// stay, whatever is replaced; so do a link and the owner.
func TestKubeconfig_KeepsTheRest(t *testing.T) {
	dir := t.TempDir()
	path, link := filepath.Join(dir, "real"), filepath.Join(dir, "config")
	const mine = `apiVersion: v1
kind: Config
current-context: work
preferences: {colors: true}
extensions: [{name: x, extension: {y: 1}}]
clusters: [{name: work, cluster: {server: "https://work", certificate-authority: /ca}}, {name: one, cluster: {server: "https://other"}}]
contexts: [{name: work, context: {cluster: work, user: boss, namespace: deep}}]
users: [{name: boss, user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: aws, args: ["007", "yes"], env: null}}}]
`
	if err := errors.Join(os.WriteFile(path, []byte(mine), 0o644), os.Symlink("real", link)); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if err := errors.Join(os.Chown(path, 1234, 1234), os.Chown(dir, 1234, 1234)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := merge(t, link, kubeconfig("one", "clusterUser_g_one", "https://one")); err == nil || !strings.Contains(err.Error(), "A different object named one already exists in clusters") {
		t.Errorf("got %v", err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != mine {
		t.Errorf("after a refusal: %s, %v", b, err)
	}
	if _, err := merge(t, link, kubeconfig("one", "clusterUser_g_one", "https://one"), "--overwrite-existing"); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	got, err := readYAML(string(raw))
	if err != nil {
		t.Fatal(err)
	}
	want, err := readYAML(strings.NewReplacer("current-context: work", "current-context: one", "https://other", "https://one",
		"namespace: deep}}", "namespace: deep}}, {name: one, context: {cluster: one, user: clusterUser_g_one}}",
		"env: null}}}", "env: null}}}, {name: clusterUser_g_one, user: {token: t}}").Replace(mine))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	st, err := os.Lstat(link)
	if err != nil || st.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link became %v, %v", st, err)
	}
	st, err = os.Stat(path)
	if err != nil || st.Mode().Perm() != 0o600 || os.Geteuid() == 0 && st.Sys().(*syscall.Stat_t).Uid != 1234 {
		t.Errorf("%+v, %v", st, err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 2 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// TestWritePrivate_Owner: what root writes belongs to whoever owned the file only where
// the folder is theirs, too, or it is they who became root.
func TestWritePrivate_Owner(t *testing.T) {
	if os.Geteuid() != 0 {
		return // others own what they write
	}
	for _, tc := range []struct {
		folder int
		sudo   string
		want   uint32
	}{
		{0, "", 0},
		{99, "", 0},
		{0, "99", 0},
		{1234, "", 1234},
		{1234, "99", 1234},
		{0, "1234", 1234},
	} {
		t.Setenv("SUDO_UID", tc.sudo)
		dir := t.TempDir()
		path := filepath.Join(dir, "config")
		if err := errors.Join(os.WriteFile(path, nil, 0o644), os.Chown(path, 1234, 1234), os.Chown(dir, tc.folder, -1)); err != nil {
			t.Fatal(err)
		}
		if err := writePrivate(path, []byte("secret")); err != nil {
			t.Fatal(err)
		}
		if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 || st.Sys().(*syscall.Stat_t).Uid != tc.want {
			t.Errorf("%+v: %+v, %v", tc, st.Sys(), err)
		}
	}
}

// TestKubeconfig_KeepsTheText: what isn't replaced stays as it was written, for
// kubectl may read it otherwise than we do; so do comments.
func TestKubeconfig_KeepsTheText(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config")
	for mine, want := range map[string]string{
		`# made by hand
apiVersion: v1
kind: Config
preferences: {}
clusters:
# the lab
- name: lab
  cluster:
    insecure-skip-tls-verify: yes # until spring
    server: https://lab
- name: one
  cluster: {server: https://old}
users:
- name: lab
  user:
    username: off
    password: 2024-01-01
    token: 0o17
    script: |
      two
      lines
contexts:
- {name: lab, context: {cluster: lab, user: lab}}
current-context: lab # mine
# the end
`: `# made by hand
apiVersion: v1
kind: Config
preferences: {}
clusters:
# the lab
- name: lab
  cluster:
    insecure-skip-tls-verify: yes # until spring
    server: https://lab
- cluster:
    server: https://one
  name: one
users:
- name: lab
  user:
    username: off
    password: 2024-01-01
    token: 0o17
    script: |
      two
      lines
- name: u
  user:
    token: t
contexts:
- {name: lab, context: {cluster: lab, user: lab}}
- context:
    cluster: one
    user: u
  name: one
current-context: one # mine
# the end
`,
		"# nothing\n# yet\n": "# nothing\n# yet\n" + added,
		"# nothing\nnull\n":  "# nothing\n" + added,
		"clusters: []\nusers: null\ncontexts:\n": "clusters:\n- cluster:\n    server: https://one\n  name: one\nusers:\n- name: u\n  user:\n    token: t\n" +
			"contexts:\n- context:\n    cluster: one\n    user: u\n  name: one\napiVersion: v1\nkind: Config\ncurrent-context: one\n",
		"kind: &k Config\nextensions: [{name: *k, extension: {<<: {yes: no}}}]\n": "kind: Config\nextensions: [{name: Config, extension: {<<: {yes: no}}}]\n" +
			strings.Replace(added, "kind: Config\n", "", 1),
	} {
		if err := os.WriteFile(path, []byte(mine), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := merge(t, path, kubeconfig("one", "u", "https://one"), "--overwrite-existing"); err != nil {
			t.Errorf("%q: %v", mine, err)
		}
		got, err := os.ReadFile(path)
		if d := cmp.Diff(want, string(got)); err != nil || d != "" {
			t.Errorf("%v (-want +got)\n%s", err, d)
		}
	}
}

// added is what an empty file becomes.
const added = `clusters:
- cluster:
    server: https://one
  name: one
users:
- name: u
  user:
    token: t
contexts:
- context:
    cluster: one
    user: u
  name: one
apiVersion: v1
kind: Config
current-context: one
`

func readYAML(text string) (v object, err error) { return v, yaml.Unmarshal([]byte(text), &v) }

// TestKubeconfig_RefusesWhatItWouldBreak, and leaves it as it is.
func TestKubeconfig_RefusesWhatItWouldBreak(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "config")
	for text, want := range map[string]string{
		"clusters: [":                       "can't be read as a kubeconfig",
		"- a list":                          "can't be read as a kubeconfig",
		"only text":                         "can't be read as a kubeconfig",
		"users: []\nusers: []\n":            "already defined",
		"contexts: {work: {}}\n":            "contexts is no list",
		"<<: {users: [{name: a}]}\n":        "merge key",
		"a: &a [*a]\n":                      "can't be read as a kubeconfig",
		"kind: Config\n---\nkind: Config\n": "more than one document",
		"\x00\x01":                          "can't be read as a kubeconfig",
	} {
		if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
		_, err := merge(t, path, kubeconfig("one", "u", "https://one"), "--overwrite-existing")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
		b, err := os.ReadFile(path)
		if st, serr := os.Stat(path); err != nil || serr != nil || string(b) != text || st.Mode().Perm() != 0o640 {
			t.Errorf("%q became %q, %v, %v", text, b, err, serr)
		}
	}
	if _, err := merge(t, dir, kubeconfig("one", "u", "https://one")); err == nil {
		t.Error("a folder was taken")
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink("not-mounted/config", link); err != nil {
		t.Fatal(err)
	}
	if _, err := merge(t, link, kubeconfig("one", "u", "https://one")); err == nil || !strings.Contains(err.Error(), "is a link to not-mounted/config, which isn't there") {
		t.Errorf("a link to nothing: %v", err)
	}
	if to, err := os.Readlink(link); err != nil || to != "not-mounted/config" {
		t.Errorf("the link leads to %q now: %v", to, err)
	}
	if err := errors.Join(os.WriteFile(path, []byte("# nothing\n"), 0o600), os.WriteFile(path+".lock", nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		if _, err := merge(t, path, kubeconfig("one", "u", "https://one")); err == nil || !strings.Contains(err.Error(), "Another program is writing") {
			t.Errorf("locked: %v", err)
		}
	})
	if err := os.Remove(path + ".lock"); err != nil {
		t.Fatal(err)
	}
	if _, err := merge(t, path, kubeconfig("one", "u", "https://one")); err != nil {
		t.Errorf("a file of no content: %v", err)
	}
}

// TestKubeconfig_ManyAtOnce: each one's context is there in the end.
func TestKubeconfig_ManyAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kube", "config")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			name := fmt.Sprint("c", i)
			if _, err := merge(t, path, kubeconfig(name, "user-"+name, "https://"+name)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	kc, err := readKubeconfig(path)
	if err != nil || len(fieldOf(kc, "contexts").Content) != 8 || len(fieldOf(kc, "clusters").Content) != 8 || len(fieldOf(kc, "users").Content) != 8 {
		t.Errorf("%v, %v", kc, err)
	}
}

func TestKubeconfig_ToStdout(t *testing.T) {
	cmd := aksCredentials()
	p, err := parseArgs(cmd.options(), []string{"-f", "-"})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	home := t.TempDir()
	env := Env{Stdin: strings.NewReader(""), Stdout: &out, Stderr: io.Discard, Getenv: func(k string) string { return map[string]string{"HOME": home}[k] }}
	c := &call{session: newSession(env.complete()), cmd: cmd, args: p}
	config := kubeconfig("one", "u", "https://one")
	if err := c.writeKubeconfig(t.Context(), []byte(config)); err != nil || out.String() != config {
		t.Errorf("got %q, %v", out.String(), err)
	}
	if left, err := os.ReadDir(home); err != nil || len(left) != 0 {
		t.Errorf("written: %v, %v", left, err)
	}
}

// FuzzKubeconfig: whatever is there is merged with or refused.
func FuzzKubeconfig(f *testing.F) {
	f.Add(kubeconfig("one", "u", "https://one"))
	f.Add("clusters: [null, 1, {name: [x]}]\n")
	f.Add("# a\nx: &x [yes, {b: 2024-01-01}] # c\ncontexts: *x\n# d\n")
	path := filepath.Join(f.TempDir(), "config")
	f.Fuzz(func(t *testing.T, text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		kc, err := readKubeconfig(path)
		if err != nil {
			return
		}
		var fresh yaml.Node
		if err := yaml.Unmarshal([]byte(kubeconfig("new", "u", "https://new")), &fresh); err != nil {
			t.Fatal(err)
		}
		before := len(childrenOf(fieldOf(kc, "contexts")))
		if err := mergeKubeconfig(kc, fresh.Content[0], func(string, string) error { return nil }); err != nil {
			t.Fatal(err)
		}
		if after := len(childrenOf(fieldOf(kc, "contexts"))); after < max(before, 1) {
			t.Errorf("%d contexts became %d", before, after)
		}
		_, _ = printKubeconfig(path, kc) // refused, where it would read otherwise
	})
}
