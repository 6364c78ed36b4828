package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestINI_RoundTrip(t *testing.T) {
	f := &iniFile{path: filepath.Join(t.TempDir(), "sub", "config")}
	f.parse("# c\n[core]\noutput = table\nName: x\n\n[defaults]\ngroup=a=b\n[empty]\nnonsense\n")
	f.set("defaults", "location", "east\nus")
	if !f.unset("core", "name") || f.unset("core", "name") {
		t.Error("unset does not tell whether the key was there")
	}
	if err := f.save(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(f.path)
	if err != nil {
		t.Fatal(err)
	}
	if want := "[core]\noutput = table\n\n[defaults]\ngroup = a=b\nlocation = east us\n\n"; string(b) != want {
		t.Errorf("got %q, want %q", b, want)
	}
}

// FuzzINI: what was read and written again is read the same.
func FuzzINI(f *testing.F) {
	f.Add("[a]\nb=c\n[a]\nd:e\n;x")
	f.Fuzz(func(t *testing.T, text string) {
		one := &iniFile{path: filepath.Join(t.TempDir(), "f")}
		one.parse(text)
		if err := one.save(); err != nil {
			t.Fatal(err)
		}
		two, err := readINI(one.path)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range one.sections {
			for _, k := range s.keys {
				if got := two.get(s.name, k); got != s.vals[k] && strings.TrimSpace(s.name) == s.name {
					t.Fatalf("%q: [%s] %s is %q, was %q", text, s.name, k, got, s.vals[k])
				}
			}
		}
	})
}

func TestGenericUpdate(t *testing.T) {
	const in = `{"properties":{"list":[{"name":"a","v":1},{"name":"b"}],"deep":{"x":1}},"tags":{"t":"1"}}`
	for line, want := range map[string]string{
		"--set properties.deep.x=2":                `{"properties":{"deep":{"x":2},"list":[{"name":"a","v":1},{"name":"b"}]},"tags":{"t":"1"}}`,
		"--set properties.new.y=true":              `{"properties":{"deep":{"x":1},"list":[{"name":"a","v":1},{"name":"b"}],"new":{"y":true}},"tags":{"t":"1"}}`,
		"--set properties.list[0].v=x tags.n=5":    `{"properties":{"deep":{"x":1},"list":[{"name":"a","v":"x"},{"name":"b"}]},"tags":{"n":"5","t":"1"}}`,
		"--set properties.list[name=b].v=null":     `{"properties":{"deep":{"x":1},"list":[{"name":"a","v":1},{"name":"b","v":null}]},"tags":{"t":"1"}}`,
		"--remove properties.deep.x":               `{"properties":{"deep":{},"list":[{"name":"a","v":1},{"name":"b"}]},"tags":{"t":"1"}}`,
		"--remove properties.list 1":               `{"properties":{"deep":{"x":1},"list":[{"name":"a","v":1}]},"tags":{"t":"1"}}`,
		"--add properties.list name=c v=2":         `{"properties":{"deep":{"x":1},"list":[{"name":"a","v":1},{"name":"b"},{"name":"c","v":2}]},"tags":{"t":"1"}}`,
		"--add properties.more one":                `{"properties":{"deep":{"x":1},"list":[{"name":"a","v":1},{"name":"b"}],"more":["one"]},"tags":{"t":"1"}}`,
		`--set properties.deep={"z":[1]}`:          `{"properties":{"deep":{"z":[1]},"list":[{"name":"a","v":1},{"name":"b"}]},"tags":{"t":"1"}}`,
		"--force-string --set properties.deep.x=2": `{"properties":{"deep":{"x":"2"},"list":[{"name":"a","v":1},{"name":"b"}]},"tags":{"t":"1"}}`,
	} {
		got, err := updated(t, in, line)
		if err != nil || got != want {
			t.Errorf("%s: got %s, %v, want %s", line, got, err, want)
		}
	}
	for _, line := range []string{"--set nothing", "--remove properties.nope", "--remove properties.list 9", "--add properties.deep x",
		"--set properties.list[9].v=1", "--set properties.deep.x.y=1", "--add properties.list"} {
		if got, err := updated(t, in, line); err == nil {
			t.Errorf("%s: taken: %s", line, got)
		}
	}
}

func updated(t *testing.T, in, line string) (string, error) {
	t.Helper()
	cmd := &command{path: "x", generic: true}
	p, err := parseArgs(cmd.options(), strings.Fields(line))
	if err != nil {
		t.Fatal(err)
	}
	v, err := decode([]byte(in))
	if err != nil {
		t.Fatal(err)
	}
	c := &call{cmd: cmd, args: p, defs: map[string]arg{}}
	if err := c.applyGeneric(v.(object)); err != nil {
		return "", err
	}
	b, err := json.Marshal(v)
	return string(b), err
}

// FuzzGenericUpdate: no path makes an update fall over.
func FuzzGenericUpdate(f *testing.F) {
	for _, s := range []string{"a.b[0].c=1", "[name=x].y", "a..b", "a[", "['x.y']=1", "a[-1]=2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, verb := range []string{"set", "add", "remove"} {
			v, err := decode([]byte(`{"a":{"b":[{"c":1,"name":"x"}]},"l":[[1],2]}`))
			if err != nil {
				t.Fatal(err)
			}
			c := &call{args: &parsed{values: map[string][]string{}, set: map[string]bool{}, ops: []operation{{verb, []string{s, "0"}}}}, defs: map[string]arg{}}
			_ = c.applyGeneric(v.(object)) // refusing is fine
		}
	})
}

func TestCertificatePolicy_RoundTrip(t *testing.T) {
	const wire = `{"attributes":{"enabled":true},"issuer":{"cert_transparency":false,"name":"Self"},"key_props":{"crv":"P-256","exportable":true,"key_size":256,"kty":"EC","reuse_key":false},
	"lifetime_actions":[{"action":{"action_type":"AutoRenew"},"trigger":{"days_before_expiry":90}}],"secret_props":{"contentType":"application/x-pkcs12"},
	"x509_props":{"ekus":["1"],"key_usage":["keyAgreement"],"sans":{"dns_names":["a"],"emails":[],"upns":[]},"subject":"CN=a","validity_months":12}}`
	v, err := decode([]byte(wire))
	if err != nil {
		t.Fatal(err)
	}
	want, err := decode([]byte(wire))
	if err != nil {
		t.Fatal(err)
	}
	long := policyFromWire(v)
	if textAt(long, "x509CertificateProperties", "subject") != "CN=a" || textAt(long, "keyProperties", "keyType") != "EC" {
		t.Errorf("got %v", long)
	}
	if d := cmp.Diff(want, any(policyToWire(long.(object)))); d != "" {
		t.Error(d)
	}
}

func TestNearest(t *testing.T) {
	for word, want := range map[string]string{"grup": "group", "identitiy": "identity", "keyvalt": "keyvault", "rol": "role"} {
		if _, _, err := findCommand([]string{word}); err == nil || !strings.Contains(err.(*failure).hint, "'"+want+"'") {
			t.Errorf("%s: got %v, want a hint at %s", word, err, want)
		}
	}
}

func TestSSHKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ssh", "id_rsa.pub")
	key, err := generateSSHKey(path)
	if err != nil || !strings.HasPrefix(key, "ssh-rsa ") {
		t.Fatalf("got %q, %v", key, err)
	}
	if st, err := os.Stat(strings.TrimSuffix(path, ".pub")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the private key's mode is %v, %v", st.Mode(), err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := generateSSHKey(path); err == nil {
		t.Error("a private key was overwritten")
	}
}

func TestOffset(t *testing.T) {
	if d, err := parseOffset("1d2h3m"); err != nil || d.Minutes() != 26*60+3 {
		t.Errorf("got %v, %v", d, err)
	}
	for _, s := range []string{"h", "1", "1y", "99999999999999999999h", "-1h"} {
		if _, err := parseOffset(s); err == nil {
			t.Errorf("%s: taken", s)
		}
	}
}

func TestPlainName(t *testing.T) {
	for in, want := range map[string]string{"issuerURL": "issuerUrl", "linuxOSConfig": "linuxOsConfig", "nodePublicIPPrefixID": "nodePublicIpPrefixId",
		"effectiveOutboundIPs": "effectiveOutboundIPs", "osDiskSizeGB": "osDiskSizeGb", "name": "name", "enableRBAC": "enableRbac"} {
		if got := plainName(in); got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
}
