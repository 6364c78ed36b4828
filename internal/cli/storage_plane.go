package cli

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/xml"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	planeVersion = "2022-11-02"
	blobResource = "https://storage.azure.com"
)

// blobs is the data plane of one storage account.
type blobs struct {
	c       *call
	account string
	base    string // "https://NAME.blob.core.windows.net", no slash at the end
	key     []byte // nil: none
	sas     string // without "?"; "": none
	login   bool
}

// planeArgs say which account is meant and by what it lets in.
func planeArgs() []arg {
	return []arg{
		opt("account-name", "Name of the storage account. Environment variable: AZURE_STORAGE_ACCOUNT."), opt("account-key", "Key of the account. Environment variable: AZURE_STORAGE_KEY."),
		opt("connection-string", "Connection string of the account. Environment variable: AZURE_STORAGE_CONNECTION_STRING."),
		opt("sas-token", "Shared access signature. Environment variable: AZURE_STORAGE_SAS_TOKEN."), opt("blob-endpoint", "Address of the blob service."),
		opt("auth-mode", "By what to sign in: by who is signed in, or by a key of the account, which is looked up.").oneOf("key", "login"),
	}
}

// inAccount makes a run function of one that needs the data plane.
func inAccount(f func(ctx context.Context, c *call, b *blobs) (any, error)) func(context.Context, *call) (any, error) {
	return func(ctx context.Context, c *call) (any, error) {
		b, err := c.blobs(ctx)
		if err != nil {
			return nil, err
		}
		return f(ctx, c, b)
	}
}

// blobs finds the account and the credential: what was typed goes before the
// environment.
func (c *call) blobs(ctx context.Context) (*blobs, error) {
	b, env := &blobs{c: c}, c.env.Getenv
	connection := c.text("connection-string")
	if connection == "" && !c.given("account-name") {
		connection = env("AZURE_STORAGE_CONNECTION_STRING")
	}
	parts := map[string]string{}
	for part := range strings.SplitSeq(connection, ";") {
		if k, v, ok := strings.Cut(part, "="); ok {
			parts[strings.ToLower(k)] = v
		}
	}
	b.account = firstNonEmpty(c.text("account-name"), parts["accountname"], env("AZURE_STORAGE_ACCOUNT"))
	b.base = strings.TrimRight(firstNonEmpty(c.text("blob-endpoint"), parts["blobendpoint"]), "/")
	b.login = firstNonEmpty(c.text("auth-mode"), strings.ToLower(env("AZURE_STORAGE_AUTH_MODE"))) == "login"
	if b.account == "" && b.base != "" {
		if u, err := url.Parse(b.base); err == nil {
			b.account, _, _ = strings.Cut(u.Host, ".")
		}
	}
	if b.account == "" {
		return nil, usagef("Missing credentials to access storage service. Give --account-name, or --connection-string.")
	}
	if strings.ContainsFunc(b.account, func(r rune) bool { return !('a' <= r && r <= 'z' || '0' <= r && r <= '9') }) {
		return nil, usagef("argument --account-name: '%s' is no name of a storage account", b.account)
	}
	if b.base == "" {
		cl, err := c.cloud()
		if err != nil {
			return nil, err
		}
		suffix, err := cl.suffix("storageEndpoint")
		if err != nil {
			return nil, err
		}
		b.base = "https://" + b.account + ".blob." + strings.TrimPrefix(suffix, ".")
	}
	if b.login {
		return b, nil
	}
	b.sas = strings.TrimPrefix(firstNonEmpty(c.text("sas-token"), parts["sharedaccesssignature"]), "?")
	key := firstNonEmpty(c.text("account-key"), parts["accountkey"])
	if key == "" && b.sas == "" {
		b.sas, key = strings.TrimPrefix(env("AZURE_STORAGE_SAS_TOKEN"), "?"), env("AZURE_STORAGE_KEY")
	}
	return b, b.useKey(ctx, key)
}

// useKey takes the key that was given, or asks the management plane for one.
func (b *blobs) useKey(ctx context.Context, key string) (err error) {
	if key == "" && b.sas != "" {
		return nil
	}
	if key == "" {
		if key, err = b.lookUp(ctx); err != nil {
			return err
		}
	}
	if b.key, err = base64.StdEncoding.DecodeString(key); err != nil {
		return usagef("the key of the account is not valid base64")
	}
	return nil
}

func (b *blobs) lookUp(ctx context.Context) (string, error) {
	if !b.c.given("auth-mode") {
		b.c.warn("WARNING: There are no credentials provided in your command and environment, we will query for account key for your storage account.")
	}
	m, err := b.c.arm()
	if err != nil {
		return "", err
	}
	path, err := m.findByName(ctx, storageType, b.account)
	if err != nil {
		return "", err
	}
	keys, err := storageKeys(ctx, m, path)
	if err != nil {
		return "", err
	}
	if len(keys) == 0 {
		return "", failf("The storage account has no keys.")
	}
	return textAt(keys[0], "value"), nil
}

// url is an address in the account; parts are names that are escaped.
func (b *blobs) url(query url.Values, container, blob string) string {
	u := b.base + "/" + container
	if blob != "" {
		u += (&url.URL{Path: "/" + blob}).EscapedPath()
	}
	if len(query) > 0 {
		u += "?" + query.Encode()
	}
	return u
}

// do calls the account.
func (b *blobs) do(ctx context.Context, method, address string, header http.Header, body []byte) (*answer, error) {
	if header == nil {
		header = http.Header{}
	}
	header.Set("X-Ms-Version", planeVersion)
	header.Set("X-Ms-Date", time.Now().UTC().Format(http.TimeFormat))
	header.Set("Accept", "application/xml")
	r := request{method: method, url: address, header: header}
	if body != nil {
		r.body = body
		setDefault(header, "Content-Type", "application/octet-stream")
	}
	switch {
	case b.login:
		r.resource = blobResource
	case b.key != nil:
		u, err := url.Parse(address)
		if err != nil {
			return nil, usagef("the address %q is not valid", address)
		}
		header.Set("X-Ms-Client-Request-Id", strconv.FormatInt(time.Now().UnixNano(), 36))
		header.Set("Authorization", "SharedKey "+b.account+":"+b.sign(sharedKeyText(method, u, header, len(body), b.account)))
	case b.sas != "":
		sep := "?"
		if strings.Contains(address, "?") {
			sep = "&"
		}
		r.url += sep + b.sas
	}
	a, err := b.c.send(ctx, r)
	if err != nil {
		return nil, err
	}
	if a.status >= 400 {
		return nil, readStorage(a)
	}
	return a, nil
}

func (b *blobs) sign(text string) string {
	h := hmac.New(sha256.New, b.key)
	h.Write([]byte(text))
	return base64.StdEncoding.EncodeToString(h.Sum(nil))
}

// sharedKeyText is what a key signs of a request. Source: "Authorize with Shared
// Key", blob service.
func sharedKeyText(method string, u *url.URL, h http.Header, length int, account string) string {
	size := ""
	if length > 0 {
		size = strconv.Itoa(length)
	}
	lines := []string{method, h.Get("Content-Encoding"), h.Get("Content-Language"), size, h.Get("Content-MD5"), h.Get("Content-Type"), "",
		h.Get("If-Modified-Since"), h.Get("If-Match"), h.Get("If-None-Match"), h.Get("If-Unmodified-Since"), h.Get("Range")}
	var own []string
	for k := range h {
		if k = strings.ToLower(k); strings.HasPrefix(k, "x-ms-") {
			own = append(own, k)
		}
	}
	slices.Sort(own)
	for _, k := range own {
		lines = append(lines, k+":"+h.Get(k))
	}
	path := u.EscapedPath()
	if path == "" {
		path = "/"
	}
	lines = append(lines, "/"+account+path)
	var params []string
	for k, v := range u.Query() {
		slices.Sort(v)
		params = append(params, strings.ToLower(k)+":"+strings.Join(v, ","))
	}
	slices.Sort(params)
	return strings.Join(append(lines, params...), "\n")
}

// readStorage reads an error as the service writes it.
func readStorage(a *answer) error {
	e := readRemote(a, dialectODATA)
	var v struct {
		Code, Message, AuthenticationErrorDetail string
	}
	if readXML(a.body, &v) == nil && v.Code != "" {
		message, _, _ := strings.Cut(v.Message, "\nRequestId:")
		if v.AuthenticationErrorDetail != "" {
			message += " " + v.AuthenticationErrorDetail
		}
		e.err.Code, e.err.Message = v.Code, message
	} else if code := a.header.Get("X-Ms-Error-Code"); code != "" {
		e.err.Code, e.err.Message = code, "The service answered "+code+"."
	}
	return e
}

func readXML(raw []byte, v any) error {
	return xml.Unmarshal(bytes.TrimPrefix(raw, []byte("\ufeff")), v)
}
