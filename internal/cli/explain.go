package cli

import (
	"context"
	"net/url"
	"strings"
)

const explainVersion = "2026-01-01"

func explainNoun() noun {
	return noun{name: "explain", short: "Say why a request was refused, or whether one would be.", commands: func() []*command {
		return []*command{{
			path:    "explain",
			short:   "Say why a request was refused, or whether a workload would get through before it tries.",
			example: "explain --as default/my-service-account --to https://myvault.vault.azure.net/secrets/my-secret",
			args: []arg{
				{name: "id", help: "Request or correlation id of a refusal as errors print it, or its first eight characters. Without it, the last refusal. Or: pod NAMESPACE/NAME, for all that a pod's identity depends on.", kind: list, pos: true},
				opt("as", "Service account that wants to get through: NAMESPACE/NAME."),
				opt("principal", "User, service principal or managed identity in place of a service account: user principal name, application id or object id."),
				opt("cluster", "Cluster of the service account: name or id. Without it, the only one."),
				opt("to", "Where it wants to go: URL of a data plane, or a resource id. Without it: to a token of an identity. The exit status is 1 where it would be refused."),
				opt("action", "Action or data action, where it doesn't follow from the URL."),
				opt("method", "HTTP method for the URL.").byDefault("GET"),
				flagOpt("list", "List the latest refusals."),
			},
			table: "[].{Time:time, Surface:surface, Who:who, What:what, Outcome:outcome, Id:correlation}",
			text:  explainText,
			run:   manage(runExplain),
		}}
	}}
}

func runExplain(ctx context.Context, c *call, m *management) (any, error) {
	base := m.subPath + "/providers/Lazurite.Explain"
	switch {
	case c.flag("list"):
		return m.list(ctx, base+"/refusals", explainVersion)
	case len(c.many("id")) > 0 && c.many("id")[0] == "pod":
		return explainPod(ctx, c, m, base+"/explain")
	case len(c.many("id")) > 1:
		return nil, usagef("unrecognized arguments: %s", strings.Join(c.many("id")[1:], " "))
	case !c.given("to") && c.given("principal"):
		return nil, usagef("the following arguments are required: --to")
	case c.given("to"), c.given("as"):
		return explainAhead(ctx, c, m, base+"/explain")
	}
	id := "last"
	if ids := c.many("id"); len(ids) == 1 {
		id = firstNonEmpty(strings.TrimSuffix(ids[0], "…"), id) // as a narrow list shows it
	}
	return m.get(ctx, base+"/refusals/"+url.PathEscape(id), explainVersion)
}

// explainPod asks what a pod's identity depends on.
func explainPod(ctx context.Context, c *call, m *management, path string) (any, error) {
	words := c.many("id")
	if len(words) != 2 || strings.Count(words[1], "/") != 1 || strings.HasPrefix(words[1], "/") || strings.HasSuffix(words[1], "/") {
		return nil, usagef("usage error: explain pod NAMESPACE/NAME [--cluster NAME]")
	}
	if c.given("as") || c.given("principal") {
		return nil, usagef("usage error: a pod has a service account of its own: leave out --as and --principal")
	}
	v, err := m.post(ctx, path, explainVersion, withoutNil(object{
		"pod": words[1], "to": c.text("to"), "cluster": c.text("cluster"), "method": strings.ToUpper(c.text("method")), "action": c.text("action"),
	}))
	if err == nil && at(v, "allowed") == false {
		err = errVerdict
	}
	return v, err
}

func explainAhead(ctx context.Context, c *call, m *management, path string) (any, error) {
	body := object{"to": c.text("to"), "cluster": c.text("cluster"), "method": strings.ToUpper(c.text("method")), "action": c.text("action")}
	ns, sa, both := strings.Cut(c.text("as"), "/")
	switch {
	case c.given("as") == c.given("principal"):
		return nil, usagef("usage error: --as NAMESPACE/NAME | --principal NAME")
	case c.given("as") && (!both || ns == "" || sa == ""):
		return nil, usagef("argument --as: '%s' is not NAMESPACE/NAME", c.text("as"))
	case c.given("as"):
		body["namespace"], body["serviceAccount"] = ns, sa
	default:
		g, err := c.graph()
		if err != nil {
			return nil, err
		}
		p, err := g.resolve(ctx, c.text("principal"))
		if err != nil {
			return nil, err
		}
		body["principal"] = p.id
	}
	v, err := m.post(ctx, path, explainVersion, withoutNil(body))
	if err == nil && at(v, "allowed") == false {
		err = errVerdict
	}
	return v, err
}
