package cli

import (
	"context"
	"net/http"
	"net/url"
	"os"
	"strings"
)

func restNoun() noun {
	return noun{name: "rest", short: "Call any address with a token.", commands: func() []*command {
		return []*command{{
			path: "rest", short: "Call any address; the token for it is added.",
			example: "rest --method get --url /subscriptions/{subscriptionId}/resourcegroups?api-version=2021-04-01",
			args: []arg{
				opt("method", "HTTP method.").or("-m").byDefault("get").oneOf("delete", "get", "head", "options", "patch", "post", "put"),
				opt("url", "Address, or path at the resource manager. {subscriptionId} stands for the current subscription.").or("--uri", "-u").required(),
				opt("body", "What is sent. @FILE reads it from a file.").or("-b"),
				listOpt("headers", "Headers as KEY=VALUE, or as one JSON object."),
				listOpt("uri-parameters", "Query parameters as KEY=VALUE, or as one JSON object.").or("--url-parameters"),
				opt("resource", "Resource of the token, where it doesn't follow from the address."),
				flagOpt("skip-authorization-header", "Send no token."),
				opt("output-file", "File for the answer."),
			},
			run: runRest,
		}}
	}}
}

func runRest(ctx context.Context, c *call) (any, error) {
	u, resource, err := c.restTarget()
	if err != nil {
		return nil, err
	}
	headers, err := keyValues(c.many("headers"))
	if err != nil {
		return nil, err
	}
	r := request{method: strings.ToUpper(c.text("method")), url: u, header: http.Header{}, resource: resource}
	for k, v := range headers {
		r.header.Set(k, scalar(v, "", "true", "false"))
	}
	if r.header.Get("Authorization") != "" || c.flag("skip-authorization-header") {
		r.resource = ""
	}
	if c.given("body") {
		r.body = []byte(c.text("body"))
		if v, err := decode([]byte(c.text("body"))); err == nil && v != nil {
			setDefault(r.header, "Content-Type", "application/json")
		}
	}
	a, err := c.send(ctx, r)
	if err != nil {
		return nil, err
	}
	if a.status >= 400 {
		e := readRemote(a, dialectPlain)
		e.err.Message = http.StatusText(a.status) + "(" + strings.TrimSpace(string(a.body)) + ")"
		return nil, e
	}
	if f := c.text("output-file"); f != "" {
		return nil, os.WriteFile(c.filePath(f), a.body, 0o600)
	}
	if v, err := decode(a.body); err == nil {
		return v, nil
	}
	_, err = c.env.Stdout.Write(a.body)
	return nil, err
}

// restTarget gives the whole address and the resource of its token.
func (c *call) restTarget() (string, string, error) {
	cl, err := c.cloud()
	if err != nil {
		return "", "", err
	}
	u := c.text("url")
	if strings.Contains(u, "{subscriptionId}") {
		a, err := c.account()
		if err != nil {
			return "", "", err
		}
		u = strings.ReplaceAll(u, "{subscriptionId}", a.ID)
	}
	if strings.HasPrefix(u, "/") {
		u = strings.TrimRight(cl.endpoints["resourceManager"], "/") + u
	}
	params, err := keyValues(c.many("uri-parameters"))
	if err != nil {
		return "", "", err
	}
	if len(params) > 0 {
		q := url.Values{}
		for k, v := range params {
			q.Set(k, scalar(v, "", "true", "false"))
		}
		sep := "?"
		if strings.Contains(u, "?") {
			sep = "&"
		}
		u += sep + q.Encode()
	}
	if resource := c.text("resource"); resource != "" {
		return u, resource, nil
	}
	return u, c.resourceFor(cl, u), nil
}

// resourceFor finds the resource of the token by the address; "" sends none.
func (c *call) resourceFor(cl *cloud, u string) string {
	lower := strings.ToLower(u)
	if base := strings.ToLower(strings.TrimRight(cl.endpoints["resourceManager"], "/")); base != "" && strings.HasPrefix(lower, base+"/") {
		return cl.endpoints["activeDirectoryResourceId"]
	}
	for _, k := range []string{"activeDirectoryResourceId", "microsoftGraphResourceId", "activeDirectoryGraphResourceId", "batchResourceId"} {
		base := strings.ToLower(strings.TrimRight(cl.endpoints[k], "/"))
		if base != "" && strings.HasPrefix(lower, base+"/") {
			return cl.endpoints[k]
		}
	}
	c.warn("Can't derive appropriate Azure AD resource from --url to acquire an access token. If access token is required, use --resource to specify the resource")
	return ""
}

// keyValues reads KEY=VALUE arguments, or one JSON object.
func keyValues(args []string) (object, error) {
	out := object{}
	for _, a := range args {
		if strings.HasPrefix(strings.TrimSpace(a), "{") {
			v, err := decode([]byte(a))
			m, ok := v.(object)
			if err != nil || !ok {
				return nil, usagef("'%s' is neither KEY=VALUE nor a JSON object", a)
			}
			for k, v := range m {
				out[k] = v
			}
			continue
		}
		k, v, ok := strings.Cut(a, "=")
		if !ok {
			return nil, usagef("'%s' is neither KEY=VALUE nor a JSON object", a)
		}
		out[k] = v
	}
	return out, nil
}
