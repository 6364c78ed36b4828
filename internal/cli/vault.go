package cli

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"
)

// dataVersion is the api-version of secrets, keys and certificates.
const dataVersion = "7.4"

// vault is the data plane of one key vault.
type vault struct {
	s        *session
	base     string // "https://NAME.vault.azure.net"
	resource string // of the challenge, once it's known
	tenant   string
}

// vaultAt opens the vault of --vault-name or of an object's URL.
func (c *call) vaultAt() (*vault, error) {
	if id := c.text("id"); id != "" {
		u, err := url.Parse(id)
		if err != nil || u.Scheme != "https" || u.Host == "" {
			return nil, usagef("argument --id: '%s' is not the address of an object in a vault", id)
		}
		return &vault{s: c.session, base: "https://" + u.Host}, nil
	}
	name := firstNonEmpty(c.text("vault-name"))
	if name == "" {
		return nil, usagef("usage error: --id ID | --vault-name NAME --name NAME")
	}
	cl, err := c.cloud()
	if err != nil {
		return nil, err
	}
	suffix, err := cl.suffix("keyvaultDns")
	if err != nil {
		return nil, err
	}
	return &vault{s: c.session, base: "https://" + name + suffix}, nil
}

// do calls the vault. The first call goes without token and body, and learns
// from the challenge for which resource and tenant one is wanted.
func (v *vault) do(ctx context.Context, method, path string, body any, query ...string) (any, error) {
	u := path
	if strings.HasPrefix(path, "/") {
		u = v.base + path + "?api-version=" + dataVersion
		for i := 0; i+1 < len(query); i += 2 {
			u += "&" + query[i] + "=" + url.QueryEscape(query[i+1])
		}
	}
	if !strings.HasPrefix(strings.ToLower(u), strings.ToLower(v.base)+"/") {
		return nil, failf("the address %s is not the vault's: no token is sent there", u)
	}
	if v.resource == "" {
		a, err := v.s.send(ctx, request{method: method, url: u, body: []byte{}, header: http.Header{"Content-Type": {"application/json"}}})
		if err != nil {
			return nil, err
		}
		if a.status != http.StatusUnauthorized {
			return readVault(a)
		}
		if err := v.challenge(a); err != nil {
			return nil, err
		}
	}
	r := request{method: method, url: u, body: body, resource: v.resource, tenant: v.tenant}
	a, err := v.s.send(ctx, r)
	if err != nil {
		return nil, err
	}
	if claims := insufficient(a); claims != "" { // continuous access evaluation
		r.claims = claims
		if a, err = v.s.send(ctx, r); err != nil {
			return nil, err
		}
	}
	return readVault(a)
}

func readVault(a *answer) (any, error) {
	if a.status >= 400 {
		return nil, readRemote(a, dialectODATA)
	}
	return decode(a.body)
}

// parameters reads the parameters of a Bearer challenge (RFC 6750 section 3).
func parameters(challenge string) map[string]string {
	out := map[string]string{}
	for _, m := range regexp.MustCompile(`([A-Za-z_]+)="([^"]*)"`).FindAllStringSubmatch(challenge, -1) {
		out[m[1]] = m[2]
	}
	return out
}

// challenge learns resource and tenant, and refuses a resource that isn't the
// vault's: its token would open other doors.
func (v *vault) challenge(a *answer) error {
	p := parameters(a.header.Get("WWW-Authenticate"))
	resource := firstNonEmpty(p["resource"], trimScope(p["scope"]))
	authority := firstNonEmpty(p["authorization"], p["authorization_uri"])
	if resource == "" || authority == "" {
		return readRemote(a, dialectODATA)
	}
	r, err := url.Parse(resource)
	host := strings.ToLower(strings.TrimPrefix(v.base, "https://"))
	if err != nil || r.Host == "" || !strings.HasSuffix(host, "."+strings.ToLower(r.Host)) {
		return failf("the vault %s asks for a token for %s, which is not its own", v.base, resource)
	}
	v.resource = strings.TrimRight(resource, "/")
	if auth, err := url.Parse(authority); err == nil {
		v.tenant, _, _ = strings.Cut(strings.TrimPrefix(auth.Path, "/"), "/")
	}
	return nil
}

func insufficient(a *answer) string {
	p := parameters(a.header.Get("WWW-Authenticate"))
	if a.status != http.StatusUnauthorized || p["error"] != "insufficient_claims" {
		return ""
	}
	b, err := base64.StdEncoding.DecodeString(p["claims"])
	if err != nil {
		return ""
	}
	return string(b)
}

// list reads all pages.
func (v *vault) list(ctx context.Context, path string, query ...string) ([]any, error) {
	all := []any{}
	for path != "" {
		p, err := v.do(ctx, http.MethodGet, path, nil, query...)
		if err != nil {
			return nil, err
		}
		all = append(all, items(at(p, "value"))...)
		path, query = textAt(p, "nextLink"), nil
	}
	return all, nil
}

// objectArgs name an object in a vault by name, or by its address.
func objectArgs(what string) []arg {
	return []arg{
		opt("vault-name", "Name of the vault.").configured("keyvault"),
		opt("name", "Name of the "+what+".").or("-n"),
		opt("id", "Address of the "+what+", in place of its name and the vault's."),
	}
}

func versionOpt(what string) arg {
	return opt("version", "Version of the "+what+"; without it, the newest.").or("-v")
}

// objectPath is "/secrets/NAME", or with the version where one was given.
func (c *call) objectPath(collection string, versioned bool) (string, error) {
	name, version := c.text("name"), c.text("version")
	if id := c.text("id"); id != "" {
		u, err := url.Parse(id)
		if err != nil {
			return "", usagef("argument --id: '%s' is not an address", id)
		}
		parts := strings.Split(strings.Trim(u.Path, "/"), "/")
		if len(parts) < 2 {
			return "", usagef("argument --id: '%s' names no object", id)
		}
		name = parts[1]
		if len(parts) > 2 {
			version = parts[2]
		}
	}
	if name == "" {
		return "", usagef("usage error: --id ID | --vault-name NAME --name NAME")
	}
	path := "/" + collection + "/" + url.PathEscape(name)
	if versioned && version != "" {
		path += "/" + url.PathEscape(version)
	}
	return path, nil
}

// inVault makes a run function of one that needs the vault.
func inVault(f func(ctx context.Context, c *call, v *vault) (any, error)) func(context.Context, *call) (any, error) {
	return func(ctx context.Context, c *call) (any, error) {
		v, err := c.vaultAt()
		if err != nil {
			return nil, err
		}
		return f(ctx, c, v)
	}
}

// onObject makes a run function that does one request on an object.
func onObject(method, collection, suffix string, versioned bool, show func(any) any) func(context.Context, *call) (any, error) {
	return inVault(func(ctx context.Context, c *call, v *vault) (any, error) {
		path, err := c.objectPath(collection, versioned)
		if err != nil {
			return nil, err
		}
		var body any
		if method == http.MethodPost {
			body = []byte{}
		}
		got, err := v.do(ctx, method, path+suffix, body)
		if err != nil || got == nil {
			return nil, err
		}
		return show(got), nil
	})
}

// listing makes a run function that lists a collection.
func listing(collection string, show func(any) any) func(context.Context, *call) (any, error) {
	return inVault(func(ctx context.Context, c *call, v *vault) (any, error) {
		var q []string
		if n := c.text("maxresults"); n != "" {
			q = []string{"maxresults", n}
		}
		if c.flag("include-pending") {
			q = append(q, "includePending", "true")
		}
		l, err := v.list(ctx, "/"+collection, q...)
		return each(l, show), err
	})
}

func listArgs(what string) []arg {
	return []arg{opt("vault-name", "Name of the vault.").configured("keyvault"), opt("id", "Address of the vault, in place of its name."),
		numberOpt("maxresults", "How many "+what+" one request brings; all are listed.")}
}

// showAttributes turns an object's times from seconds to text, and its short
// names to az's.
func showAttributes(v any) {
	a, ok := at(v, "attributes").(object)
	if !ok {
		return
	}
	for wire, name := range map[string]string{"exp": "expires", "nbf": "notBefore", "created": "created", "updated": "updated"} {
		t := a[wire]
		delete(a, wire)
		a[name] = isoTime(t)
	}
	withNulls(a, "enabled", "recoverableDays", "recoveryLevel")
}

// isoTime writes seconds since 1970 as Python's datetime does; nil stays nil.
func isoTime(v any) any {
	n, ok := v.(json.Number)
	if !ok {
		return v
	}
	sec, err := n.Int64()
	if err != nil {
		return v
	}
	return time.Unix(sec, 0).UTC().Format("2006-01-02T15:04:05+00:00")
}

// showDeletion adds what is said of a deleted object.
func showDeletion(v any, show func(any) any) any {
	out := show(v)
	for _, k := range []string{"deletedDate", "scheduledPurgeDate"} {
		if m, ok := out.(object); ok {
			m[k] = isoTime(m[k])
		}
	}
	return withNulls(out, "recoveryId")
}

// attributeArgs are the options about an object's life.
func attributeArgs() []arg {
	return []arg{boolOpt("enabled", "Whether it may be used."), opt("expires", "When it ends, UTC: 2027-12-31T00:00:00Z."),
		opt("not-before", "When it begins, UTC: 2027-01-01T00:00:00Z.")}
}

// attributes are those of the options; nil when none was given.
func (c *call) attributes() (any, error) {
	out := object{}
	if _, ok := c.defs["enabled"]; ok {
		c.setIf(out, "enabled", "enabled")
	}
	if c.flag("disabled") {
		out["enabled"] = false
	}
	for option, key := range map[string]string{"expires": "exp", "not-before": "nbf"} {
		if s := c.text(option); s != "" {
			t, err := parseTime(s)
			if err != nil {
				return nil, usagef("argument --%s: '%s' is not a UTC time like 2027-12-31T00:00:00Z", option, s)
			}
			out[key] = t.Unix()
		}
	}
	if len(out) == 0 {
		return nil, nil
	}
	return out, nil
}

// newFile writes b to a file that only the user can read, and that isn't
// there yet unless --overwrite.
func (c *call) newFile(path string, b []byte) error {
	how := os.O_CREATE | os.O_WRONLY | os.O_EXCL
	if c.flag("overwrite") {
		how = os.O_CREATE | os.O_WRONLY | os.O_TRUNC
	}
	f, err := os.OpenFile(c.filePath(path), how, 0o600)
	if os.IsExist(err) {
		return failf("File or directory named '%s' already exists.", path)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}

// backupCommands save an object in a file and bring it back.
func backupCommands(group, what, collection string, show func(any) any) []*command {
	return []*command{
		{path: group + " backup", short: "Save a " + what + " with all its versions in a file that only the cloud can read.",
			example: group + " backup --vault-name myVault --name my --file my.backup",
			args:    append(objectArgs(what), opt("file", "Where it is saved.").or("-f").required()),
			run: inVault(func(ctx context.Context, c *call, v *vault) (any, error) {
				path, err := c.objectPath(collection, false)
				if err != nil {
					return nil, err
				}
				got, err := v.do(ctx, http.MethodPost, path+"/backup", []byte{})
				if err != nil {
					return nil, err
				}
				b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(textAt(got, "value"), "="))
				if err != nil {
					return nil, failf("the vault's backup can't be read: %s", err)
				}
				return nil, c.newFile(c.text("file"), b)
			})},
		{path: group + " restore", short: "Bring a " + what + " back from a file.", example: group + " restore --vault-name myVault --file my.backup",
			args: append(listArgs(what + "s")[:2], opt("file", "The file of a backup.").or("-f").required()),
			run: inVault(func(ctx context.Context, c *call, v *vault) (any, error) {
				b, err := os.ReadFile(c.filePath(c.text("file")))
				if err != nil {
					return nil, err
				}
				got, err := v.do(ctx, http.MethodPost, "/"+collection+"/restore", object{"value": base64.RawURLEncoding.EncodeToString(b)})
				if err != nil {
					return nil, err
				}
				return show(got), nil
			})},
	}
}

// deletedCommands are those of soft deletion, alike for every kind of object.
func deletedCommands(group, what, collection string, show func(any) any) []*command {
	deleted := func(v any) any { return showDeletion(v, show) }
	ex := " --vault-name myVault --name my"
	return []*command{
		{path: group + " delete", short: "Delete a " + what + "; it can be recovered while it is retained.", example: group + " delete" + ex, args: objectArgs(what),
			run: onObject(http.MethodDelete, collection, "", false, deleted)},
		{path: group + " list-deleted", short: "List deleted " + what + "s.", example: group + " list-deleted --vault-name myVault", args: listArgs(what + "s"),
			run: listing("deleted"+collection, deleted)},
		{path: group + " show-deleted", short: "Show a deleted " + what + ".", example: group + " show-deleted" + ex, args: objectArgs(what),
			run: onObject(http.MethodGet, "deleted"+collection, "", false, deleted)},
		{path: group + " recover", short: "Bring a deleted " + what + " back.", example: group + " recover" + ex, args: objectArgs(what),
			run: onObject(http.MethodPost, "deleted"+collection, "/recover", false, show)},
		{path: group + " purge", short: "Remove a deleted " + what + " for good.", example: group + " purge" + ex, args: objectArgs(what),
			run: onObject(http.MethodDelete, "deleted"+collection, "", false, show)},
	}
}

// splitAddress gives the path of an object's address: collection, name, version.
func splitAddress(id string) []string {
	u, err := url.Parse(id)
	if err != nil || id == "" {
		return nil
	}
	return strings.Split(strings.Trim(u.Path, "/"), "/")
}
