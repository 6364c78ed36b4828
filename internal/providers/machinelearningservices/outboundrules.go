package machinelearningservices

import (
	"context"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/arm/privatelink"
	"lazurite.dev/internal/rid"
)

// approverKey is in Private of a rule: the object id of who made it, where it may
// approve the endpoint. It is asked again when the endpoint is made.
const approverKey = "approver"

// systemPrefix begins the names of required rules.
const systemPrefix = "__SYS_"

func (p *provider) rules() arm.Kind[Rule] {
	return arm.Kind[Rule]{
		Type: "workspaces/" + ruleWord, APIVersions: apiVersions(), Async: true, Plain: true, NoState: true, Name: checkRuleName,
		ReadOnly: []string{"status", "errorInformation", "parentRuleNames"},
		Validate: p.validateRule, Put: p.putRule, Delete: p.deleteRule, Deletable: ruleDeletable, Read: p.readRule,
		Get: p.getRule, ListAt: p.listRules,
	}
}

var ruleName = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,79}$`)

func checkRuleName(name string) error {
	if !ruleName.MatchString(name) {
		return bad("name", "The name '%s' of the outbound rule is invalid: it must have 1 to 80 letters, digits, dots, dashes and underscores, and begin with none of dot and dash.", name)
	}
	if strings.HasPrefix(strings.ToUpper(name), systemPrefix) {
		return bad("name", "Names that begin with '%s', such as '%s', are those of required rules, which are set by the system.", systemPrefix, name)
	}
	return nil
}

// ruleDeletable refuses to delete what is there by itself.
func ruleDeletable(_ context.Context, old *arm.Resource[Rule]) error {
	if old.Properties.Category == Required {
		return bad("", "The outbound rule '%s' is required: the workspace would not work without it. It goes with what it is for.", old.ID.Name())
	}
	return nil
}

func (p *provider) validateRule(ctx context.Context, _, next *arm.Resource[Rule]) error {
	ws, err := p.fresh(ctx, next.ID.Parent())
	if err != nil {
		return err
	}
	if ws == nil {
		return arm.NotFound(next.ID.Parent())
	}
	if err := p.available(ctx); err != nil && ws.Mode() != Disabled {
		return err
	}
	return p.checkRule(ctx, ws, next.ID.Name(), &next.Properties)
}

// checkRules checks the rules that a request for the workspace names.
func (p *provider) checkRules(ctx context.Context, next *arm.Resource[Properties]) error {
	ws, err := workspaceOfResource(next)
	if err != nil {
		return err
	}
	for name, r := range next.Properties.Network.Rules {
		if r == nil {
			return bad("properties.managedNetwork.outboundRules."+name, "The outbound rule '%s' says nothing. Delete rules one by one, at …/outboundRules/%s.", name, name)
		}
		if strings.HasPrefix(strings.ToUpper(name), systemPrefix) || strings.EqualFold(r.Category, Required) {
			delete(next.Properties.Network.Rules, name) // as it was shown: it is computed
			continue
		}
		if err := checkRuleName(name); err != nil {
			return err
		}
		if err := p.checkRule(ctx, ws, name, r); err != nil {
			e := apierr.From(err)
			return apierr.New(e.Kind, e.Code, "The outbound rule '%s': %s", name, e.Message).WithTarget("properties.managedNetwork.outboundRules." + name).WithCause(err)
		}
	}
	return nil
}

// checkRule refuses a rule that can't be kept, and writes it as it is
// documented.
func (p *provider) checkRule(ctx context.Context, ws *Workspace, name string, r *Rule) error {
	mode := ws.Mode()
	if mode == Disabled {
		return apierr.New(apierr.BadRequest, "ManagedNetworkNotEnabled", "The isolation mode of the workspace's managed network is 'Disabled': outbound rules are not supported there. Set it to '%s' or '%s' first: az ml workspace update -m allow_only_approved_outbound", AllowAll, AllowByRules)
	}
	if r.Category == "" {
		r.Category = UserDefined
	}
	if err := oneOf("category", &r.Category, UserDefined, Recommended); err != nil {
		return err
	}
	if err := oneOf("type", &r.Type, RuleFQDN, RuleServiceTag, RulePrivateEndpoint); err != nil {
		return err
	}
	r.Status, r.Error, r.Parents = "", "", nil
	if r.Type != RulePrivateEndpoint && mode != AllowByRules {
		return apierr.New(apierr.BadRequest, "OutboundRuleNotSupported", "Outbound rules of the type %s are only supported in the isolation mode '%s'; the workspace's is '%s', in which the whole internet is allowed.", r.Type, AllowByRules, mode)
	}
	switch r.Type {
	case RuleFQDN:
		return r.checkFQDN()
	case RuleServiceTag:
		return r.checkTag()
	}
	return p.checkEndpoint(ctx, ws, name, r)
}

var hostLabel = regexp.MustCompile(`^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$`)

// checkFQDN takes names, and stars for all that is below a name.
func (r *Rule) checkFQDN() error {
	const at = "properties.destination"
	name, err := r.fqdn()
	if err != nil {
		return err
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return bad(at, "'%s' is an address. The destination of an FQDN rule is a name; addresses are let out by a ServiceTag rule with addressPrefixes.", name)
	}
	name = strings.TrimSuffix(name, ".")
	rest, wild := strings.CutPrefix(name, "*.")
	labels := strings.Split(rest, ".")
	if strings.Contains(rest, "*") || wild && len(labels) < 2 {
		return bad(at, "The destination '%s' is not supported: a star stands for the first label alone, and two more at least follow it, as in '*.pypi.org'.", name)
	}
	ok := len(rest) <= 253 && len(labels) >= 2
	for _, l := range labels {
		ok = ok && hostLabel.MatchString(l)
	}
	if !ok {
		return bad(at, "'%s' is not a fully qualified name, such as 'pypi.org' or '*.pypi.org', without scheme, port and path.", name)
	}
	r.Destination = asJSON(name)
	return nil
}

// checkTag takes the tags of this system, and prefixes of public addresses.
func (r *Rule) checkTag() error {
	t, err := r.tagged()
	if err != nil {
		return err
	}
	if t.Protocol == "" {
		t.Protocol = "TCP"
	}
	if t.Action == "" {
		t.Action = "Allow"
	}
	if !strings.EqualFold(t.Action, "Allow") {
		return bad("properties.destination.action", "The action '%s' is not supported: everything is denied but what a rule allows, so that a rule need not deny.", t.Action)
	}
	t.Action = "Allow"
	if err := oneOf("destination.protocol", &t.Protocol, "TCP", "*", "UDP", "ICMP"); err != nil {
		return err
	}
	if t.Protocol == "UDP" || t.Protocol == "ICMP" {
		return bad("properties.destination.protocol", "The protocol %s is not supported: TCP alone leaves a managed network here.", t.Protocol)
	}
	if t.Ports, err = checkPorts(t.Ports); err != nil {
		return err
	}
	if len(t.Prefixes) > 0 {
		for i := range t.Prefixes {
			if t.Prefixes[i], err = checkPrefix(t.Prefixes[i]); err != nil {
				return err
			}
		}
		r.Destination = asJSON(t)
		return nil
	}
	known, ok := tagOf(t.Tag)
	if !ok {
		var names []string
		for _, x := range serviceTags() {
			names = append(names, x.name)
		}
		slices.Sort(names)
		return apierr.New(apierr.BadRequest, "ServiceTagNotSupported",
			"The service tag '%s' is not supported: this cloud knows no addresses of that service. Its tags, also with '.REGION': %s. For others use FQDN rules, or addressPrefixes.", t.Tag, strings.Join(names, ", ")).WithTarget("properties.destination.serviceTag")
	}
	t.Tag = known.name
	r.Destination = asJSON(t)
	return nil
}

// checkPorts takes "443", "80, 443", "8000-8100" and "*".
func checkPorts(s string) (string, error) {
	const at = "properties.destination.portRanges"
	if strings.TrimSpace(s) == "*" {
		return "*", nil
	}
	var out []string
	for part := range strings.SplitSeq(s, ",") {
		part = strings.TrimSpace(part)
		low, high, ranged := strings.Cut(part, "-")
		if !ranged {
			high = low
		}
		a, err1 := strconv.ParseUint(strings.TrimSpace(low), 10, 16)
		b, err2 := strconv.ParseUint(strings.TrimSpace(high), 10, 16)
		if err1 != nil || err2 != nil || a == 0 || a > b {
			return "", bad(at, "The portRanges '%s' are not ports such as '443', '80,443' or '8000-8100', or '*'.", s)
		}
		text := strconv.FormatUint(a, 10)
		if a != b {
			text += "-" + strconv.FormatUint(b, 10)
		}
		out = append(out, text)
	}
	return strings.Join(out, ","), nil
}

// checkPrefix takes ranges of public IPv4 addresses.
func checkPrefix(s string) (string, error) {
	const at = "properties.destination.addressPrefixes"
	if a, err := netip.ParseAddr(s); err == nil {
		s = netip.PrefixFrom(a, a.BitLen()).String()
	}
	x, err := netip.ParsePrefix(s)
	if err != nil || x != x.Masked() {
		return "", bad(at, "'%s' is no range of addresses, such as '203.0.113.0/24'.", s)
	}
	if !x.Addr().Is4() {
		return "", bad(at, "The range '%s' is not supported: only IPv4 leaves a managed network.", s)
	}
	for _, own := range []string{"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "168.63.129.16/32", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/3"} {
		if netip.MustParsePrefix(own).Overlaps(x) {
			return "", bad(at, "The range '%s' is not supported: it has addresses of %s, which are not those of the internet. What is private is reached by a private endpoint.", s, own)
		}
	}
	return x.String(), nil
}

// checkEndpoint refuses a private endpoint that can't come about.
func (p *provider) checkEndpoint(ctx context.Context, ws *Workspace, name string, r *Rule) error {
	d, target, err := r.endpoint()
	if err != nil {
		return err
	}
	const at = "properties.destination"
	sv, ok := p.links.Service(target.Type())
	if !ok {
		return bad(at, "Private endpoints reach no resources of the type '%s'. Those that they reach: %s.", target.Type(), strings.Join(p.links.Types(), ", "))
	}
	if err := arm.Authorise(ctx, sv.Type+"/read", target); err != nil {
		return err
	}
	e, err := p.get(ctx, target)
	if err != nil {
		return err
	}
	if e == nil {
		return bad(at+".serviceResourceId", "The resource to connect to does not exist: %s", arm.NotFound(target).Error())
	}
	g, ok := sv.Group(d.Group)
	if !ok {
		var names []string
		for _, g := range sv.Groups {
			names = append(names, g.ID)
		}
		return bad(at+".subresourceTarget", "'%s' is no group of '%s'. Those of the type: %s.", d.Group, target.Name(), strings.Join(names, ", "))
	}
	if len(sv.Names(e, g.ID)) == 0 {
		return bad(at, "'%s' has no name of its own, under which a private endpoint could reach it. Give it a custom subdomain.", target.Name())
	}
	if isTrue(d.Spark) {
		return bad(at+".sparkEnabled", "Spark is not supported: there is no Spark compute in this cloud.")
	}
	all, err := p.list(ctx, ws)
	if err != nil {
		return err
	}
	for _, x := range all {
		if x.rule.Type != RulePrivateEndpoint || strings.EqualFold(x.name, name) {
			continue
		}
		if o, t, err := x.rule.endpoint(); err == nil && endpointKey(t, o.Group) == endpointKey(target, g.ID) {
			return bad(at, "The outbound rule '%s' reaches the group '%s' of '%s' already.", x.name, g.ID, target.Name())
		}
	}
	r.Destination = asJSON(Linked{Resource: e.ID, Group: g.ID, Spark: new(bool)})
	return nil
}

// writeRules stores the rules that a request for the workspace named.
func (p *provider) writeRules(ctx context.Context, ws *Workspace, rules map[string]*Rule) error {
	for name, r := range rules {
		id := ws.ID.Child(ruleWord, name)
		e, err := p.get(ctx, id)
		if err != nil {
			return err
		}
		if e == nil {
			e = &arm.Envelope{ID: id.String(), Name: name, Type: RuleType}
			e.System.CreatedAt = p.Now().UTC()
		}
		e.System.LastModifiedAt = p.Now().UTC()
		was, err := arm.View[Rule](e)
		if err != nil {
			return err
		}
		if e.Private, err = p.signed(ctx, r, was); err != nil {
			return err
		}
		if e.Properties, err = asMap(r); err != nil {
			return err
		}
		if err := p.res.Put(ctx, e); err != nil {
			return err
		}
	}
	return nil
}

// signed notes who makes the rule, where it may approve the rule's endpoint. The
// same rule again, by somebody who may not, leaves what was noted. was may be nil.
func (p *provider) signed(ctx context.Context, r *Rule, was *arm.Resource[Rule]) (map[string]string, error) {
	if r.Type != RulePrivateEndpoint {
		return nil, nil
	}
	d, target, err := r.endpoint()
	if err != nil {
		return nil, err
	}
	if ok, err := p.mayApprove(ctx, callerID(ctx), target); err != nil || ok {
		return map[string]string{approverKey: callerID(ctx)}, err
	}
	if was == nil || was.Private[approverKey] == "" || was.Properties.Type != RulePrivateEndpoint {
		return nil, nil
	}
	if before, same, err := was.Properties.endpoint(); err != nil || !same.Equal(target) || !strings.EqualFold(before.Group, d.Group) {
		return nil, err
	}
	return map[string]string{approverKey: was.Private[approverKey]}, nil
}

// putRule makes the rule count where the network is there.
func (p *provider) putRule(ctx context.Context, old, next *arm.Resource[Rule]) error {
	m, err := p.signed(ctx, &next.Properties, old)
	if err != nil {
		return err
	}
	if delete(next.Private, approverKey); m[approverKey] != "" {
		next.Private[approverKey] = m[approverKey]
	}
	return p.resettle(ctx, next.ID.Parent())
}

func (p *provider) resettle(ctx context.Context, workspace rid.ID) error {
	ws, err := p.fresh(ctx, workspace)
	if err != nil || ws == nil {
		return err
	}
	rec, err := p.record(ctx, ws.UID)
	if err != nil || rec == nil || !rec.Active {
		return err
	}
	return p.settle(ctx, ws)
}

// deleteRule ends the rule's connection.
func (p *provider) deleteRule(ctx context.Context, old *arm.Resource[Rule]) error {
	if old.Properties.Type != RulePrivateEndpoint {
		return nil
	}
	return p.links.Disconnect(ctx, old.ID)
}

func (p *provider) readRule(ctx context.Context, r *arm.Resource[Rule]) error {
	ws, err := p.w.Get(ctx, r.ID.Parent())
	if err != nil || ws == nil {
		return err
	}
	rec, err := p.record(ctx, ws.UID)
	if err != nil {
		return err
	}
	shown, err := p.shown(ctx, ws, rec, named{name: r.ID.Name(), rule: &r.Properties})
	if err == nil {
		r.Properties = *shown
	}
	return err
}

// shown is the rule with its status.
func (p *provider) shown(ctx context.Context, ws *Workspace, rec *Record, x named) (*Rule, error) {
	r := *x.rule
	r.Status = "Inactive"
	if rec == nil || !rec.Active {
		return &r, nil
	}
	if r.Type != RulePrivateEndpoint {
		r.Status = "Active"
		return &r, nil
	}
	_, target, err := r.endpoint()
	if err != nil {
		return &r, nil // it was validated
	}
	c, err := p.links.To(ctx, ws.ID.Child(ruleWord, x.name), target)
	switch {
	case err != nil:
		return nil, err
	case c == nil:
		r.Error = "The connection was removed, or what it reached is gone."
	case c.State.Status == privatelink.Approved:
		r.Status = "Active"
	default:
		r.Error = "The connection is " + c.State.Status + ": the owner of '" + target.Name() + "' has to approve it."
	}
	return &r, nil
}

// getRule finds a required rule.
func (p *provider) getRule(ctx context.Context, id rid.ID) (*arm.Resource[Rule], error) {
	list, err := p.all(ctx, id.Parent())
	for _, r := range list {
		if r.Properties.Category == Required && strings.EqualFold(r.ID.Name(), id.Name()) {
			return r, err
		}
	}
	return nil, err
}

func (p *provider) listRules(ctx context.Context, scope rid.ID, filter string) ([]*arm.Resource[Rule], error) {
	list, err := p.all(ctx, scope)
	if err != nil {
		return nil, err
	}
	return filtered(list, filter)
}

// filtered are those of the list that the filter keeps.
func filtered[P any](list []*arm.Resource[P], filter string) ([]*arm.Resource[P], error) {
	keep, err := arm.FilterBy(filter, func(r *arm.Resource[P]) map[string]string { return map[string]string{"name": r.ID.Name()} })
	if err != nil || keep == nil {
		return list, err
	}
	var out []*arm.Resource[P]
	for _, r := range list {
		ok, err := keep(r)
		if err != nil {
			return nil, err
		}
		if ok {
			out = append(out, r)
		}
	}
	return out, nil
}

// all are the rules of the workspace, those that are computed too, with their status.
func (p *provider) all(ctx context.Context, scope rid.ID) ([]*arm.Resource[Rule], error) {
	ws, err := p.fresh(ctx, scope)
	if err != nil || ws == nil {
		return nil, err
	}
	rec, err := p.record(ctx, ws.UID)
	if err != nil {
		return nil, err
	}
	all, err := p.list(ctx, ws)
	if err != nil {
		return nil, err
	}
	var out []*arm.Resource[Rule]
	for _, x := range all {
		shown, err := p.shown(ctx, ws, rec, x)
		if err != nil {
			return nil, err
		}
		out = append(out, &arm.Resource[Rule]{ID: ws.ID.Child(ruleWord, x.name), Properties: *shown})
	}
	return out, nil
}
