package cli

import (
	"context"
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// sasArgs are what all signatures say.
func sasArgs() []arg {
	return []arg{
		opt("permissions", "What it lets do, as letters."), opt("expiry", "Until when, in UTC: 2030-01-02T15:04Z."), opt("start", "From when, in UTC."),
		opt("ip", "Address or range that it may be used from."), flagOpt("https-only", "Let it be used over HTTPS alone."),
	}
}

// sasTime checks a time and writes it as signatures do.
func sasTime(option, v string) (string, error) {
	for _, layout := range []string{"2006-01-02T15:04:05Z", "2006-01-02T15:04Z", "2006-01-02T15Z", "2006-01-02"} {
		if t, err := time.Parse(layout, v); err == nil {
			return t.Format("2006-01-02T15:04:05Z"), nil
		}
	}
	if v == "" {
		return "", nil
	}
	return "", usagef("argument --%s: '%s' is no time in UTC, such as 2030-01-02T15:04Z", option, v)
}

// sasFields are the values that sasArgs give.
func (c *call) sasFields() (map[string]string, error) {
	v := map[string]string{"sv": planeVersion, "sp": c.text("permissions"), "sip": c.text("ip"), "spr": ""}
	if c.flag("https-only") {
		v["spr"] = "https"
	}
	var err error
	if v["st"], err = sasTime("start", c.text("start")); err != nil {
		return nil, err
	}
	v["se"], err = sasTime("expiry", c.text("expiry"))
	return v, err
}

func sasQuery(v map[string]string, signature string) string {
	q := url.Values{"sig": {signature}}
	for k, s := range v {
		if s != "" {
			q.Set(k, s)
		}
	}
	return q.Encode()
}

func storageSASCommands() []*command {
	account := append(planeArgs(), sasArgs()...)
	for i := range account {
		if n := account[i].name; n == "permissions" || n == "expiry" {
			account[i].need = true
		}
	}
	account = append(account, opt("services", "Services: b for blobs.").required(), opt("resource-types", "On what: s, c, o.").required())
	scoped := func(more ...arg) []arg {
		a := append(planeArgs(), sasArgs()...)
		return append(append(a, flagOpt("as-user", "Sign with a key of who is signed in, and not of the account; with --auth-mode login.")), more...)
	}
	return []*command{
		{path: "storage account generate-sas", short: "Sign something for an account.", args: account,
			example: "storage account generate-sas --account-name mystore --services b --resource-types sco --permissions rl --expiry 2030-01-01T00:00Z --output tsv",
			run: inAccount(func(_ context.Context, c *call, b *blobs) (any, error) {
				if b.key == nil {
					return nil, usagef("a signature for an account needs a key of it: not --auth-mode login")
				}
				v, err := c.sasFields()
				if err != nil {
					return nil, err
				}
				v["ss"], v["srt"] = c.text("services"), c.text("resource-types")
				text := strings.Join([]string{b.account, v["sp"], v["ss"], v["srt"], v["st"], v["se"], v["sip"], v["spr"], v["sv"], "", ""}, "\n")
				return sasQuery(v, b.sign(text)), nil
			})},
		{path: "storage container generate-sas", short: "Sign something for a container.", args: scoped(opt("name", "Name of the container.").or("-n").required()),
			example: "storage container generate-sas --account-name mystore --name mycontainer --permissions rl --expiry 2030-01-01T00:00Z --output tsv",
			run: inAccount(func(ctx context.Context, c *call, b *blobs) (any, error) {
				return c.scopedSAS(ctx, b, "c", c.text("name"), "")
			})},
		{path: "storage blob generate-sas", short: "Sign something for a blob.",
			args:    scoped(opt("container-name", "Name of the container.").or("-c").required(), opt("name", "Name of the blob.").or("-n").required(), flagOpt("full-uri", "Print the whole address.")),
			example: "storage blob generate-sas --account-name mystore --container-name mycontainer --name my.txt --permissions r --expiry 2030-01-01T00:00Z --full-uri --output tsv",
			run: inAccount(func(ctx context.Context, c *call, b *blobs) (any, error) {
				q, err := c.scopedSAS(ctx, b, "b", c.text("container-name"), c.text("name"))
				if err == nil && c.flag("full-uri") {
					q = b.url(nil, c.text("container-name"), c.text("name")) + "?" + q
				}
				return q, err
			})},
	}
}

// scopedSAS signs for a container or a blob.
func (c *call) scopedSAS(ctx context.Context, b *blobs, kind, container, blob string) (string, error) {
	v, err := c.sasFields()
	if err != nil {
		return "", err
	}
	if v["se"] == "" || v["sp"] == "" {
		return "", usagef("the following arguments are required: --expiry, --permissions")
	}
	v["sr"] = kind
	resource := "/blob/" + b.account + "/" + container
	if kind == "b" {
		resource += "/" + blob
	}
	rest := []string{v["sip"], v["spr"], v["sv"], v["sr"], "", "", "", "", "", "", ""}
	if !b.login && !c.flag("as-user") {
		if b.key == nil {
			return "", usagef("a signature needs a key of the account, or --as-user --auth-mode login")
		}
		return sasQuery(v, b.sign(strings.Join(append([]string{v["sp"], v["st"], v["se"], resource, ""}, rest...), "\n"))), nil
	}
	if !b.login || !c.flag("as-user") {
		return "", usagef("incorrect usage: specify --as-user when --auth-mode login is used to generate a user delegation SAS")
	}
	if err := b.delegate(ctx, v); err != nil {
		return "", err
	}
	lines := []string{v["sp"], v["st"], v["se"], resource, v["skoid"], v["sktid"], v["skt"], v["ske"], v["sks"], v["skv"], "", "", ""}
	return sasQuery(v, b.sign(strings.Join(append(lines, rest...), "\n"))), nil
}

// delegate gets a key of who is signed in, for as long as the signature lasts.
func (b *blobs) delegate(ctx context.Context, v map[string]string) error {
	start := v["st"]
	if start == "" {
		start = time.Now().UTC().Format("2006-01-02T15:04:05Z")
	}
	body := "<?xml version=\"1.0\" encoding=\"utf-8\"?><KeyInfo><Start>" + start + "</Start><Expiry>" + v["se"] + "</Expiry></KeyInfo>"
	a, err := b.do(ctx, http.MethodPost, b.url(url.Values{"restype": {"service"}, "comp": {"userdelegationkey"}}, "", ""), http.Header{"Content-Type": {"application/xml"}}, []byte(body))
	if err != nil {
		return err
	}
	var k struct {
		SignedOid, SignedTid, SignedStart, SignedExpiry, SignedService, SignedVersion, Value string
	}
	if err := readXML(a.body, &k); err != nil {
		return failf("the service's key is not to be read: %v", err)
	}
	v["skoid"], v["sktid"], v["skt"], v["ske"], v["sks"], v["skv"] = k.SignedOid, k.SignedTid, k.SignedStart, k.SignedExpiry, k.SignedService, k.SignedVersion
	b.key, err = base64.StdEncoding.DecodeString(k.Value)
	return err
}
