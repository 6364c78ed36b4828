package machinelearningservices

import (
	"cmp"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"strings"

	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/rid"
)

// Rule is an outbound rule of a managed network.
type Rule struct {
	Type        string          `json:"type,omitempty"`
	Category    string          `json:"category,omitempty"`
	Status      string          `json:"status,omitempty"` // computed: Active or Inactive
	Destination json.RawMessage `json:"destination,omitempty"`
	Error       string          `json:"errorInformation,omitempty"` // computed
	Parents     []string        `json:"parentRuleNames,omitempty"`
}

// Tagged is the destination of a ServiceTag rule.
type Tagged struct {
	Tag      string   `json:"serviceTag,omitempty"`
	Protocol string   `json:"protocol,omitempty"`
	Ports    string   `json:"portRanges,omitempty"`
	Action   string   `json:"action,omitempty"`
	Prefixes []string `json:"addressPrefixes,omitempty"`
}

// Linked is the destination of a PrivateEndpoint rule.
type Linked struct {
	Resource string `json:"serviceResourceId,omitempty"`
	Group    string `json:"subresourceTarget,omitempty"`
	Spark    *bool  `json:"sparkEnabled,omitempty"`
	SparkIs  string `json:"sparkStatus,omitempty"`
}

// named is a rule and its name.
type named struct {
	name     string
	rule     *Rule
	approver string // who made it, and might approve its endpoint then; "" where nobody did
}

func (r *Rule) fqdn() (string, error) {
	var s string
	if err := json.Unmarshal(r.Destination, &s); err != nil || s == "" {
		return "", bad("properties.destination", "The destination of an FQDN rule is a text, such as \"pypi.org\" or \"*.pypi.org\".")
	}
	return lower(s), nil
}

func (r *Rule) tagged() (t Tagged, err error) {
	if err := json.Unmarshal(r.Destination, &t); err != nil {
		return t, bad("properties.destination", "The destination of a ServiceTag rule is an object with serviceTag, protocol and portRanges.")
	}
	return t, nil
}

func (r *Rule) endpoint() (l Linked, target rid.ID, err error) {
	if err := json.Unmarshal(r.Destination, &l); err != nil {
		return l, target, bad("properties.destination", "The destination of a PrivateEndpoint rule is an object with serviceResourceId and subresourceTarget.")
	}
	if target, err = rid.Parse(l.Resource); err != nil || target.Collection {
		return l, target, bad("properties.destination.serviceResourceId", "The id '%s' of the resource to connect to is malformed.", l.Resource)
	}
	return l, target, nil
}

// planned is the rule in the plan's words.
func (r *Rule) planned(name string) PlannedRule {
	p := PlannedRule{Name: name, Type: r.Type, Category: r.Category, Action: "Allow"}
	switch r.Type {
	case RuleFQDN:
		p.Destination, _ = r.fqdn() // validated, as what follows
	case RuleServiceTag:
		t, _ := r.tagged()
		p.Protocol, p.Ports = t.Protocol, t.Ports
		for _, s := range t.Prefixes {
			if x, err := netip.ParsePrefix(s); err == nil {
				p.Prefixes = append(p.Prefixes, x)
			}
		}
		if len(p.Prefixes) == 0 {
			p.Tag = t.Tag
		}
	}
	return p
}

// endpointKey is under which the address of a managed private endpoint is kept.
func endpointKey(target rid.ID, group string) string { return target.Key() + "|" + lower(group) }

// serviceTag is a tag that rules may name, and what it stands for here.
type serviceTag struct {
	name     string
	surfaces []string
}

// serviceTags are those of this system's services.
func serviceTags() []serviceTag {
	return []serviceTag{
		{"AzureActiveDirectory", []string{"login", "graph"}},
		{"AzureResourceManager", []string{"arm"}},
		{"AzureMachineLearning", []string{"scoring", "workspace"}},
		{"AzureKeyVault", []string{"keyvault"}},
		{"AzureContainerRegistry", []string{"registry"}},
		{"CognitiveServicesFrontend", []string{"openai", "cognitive"}},
		{"CognitiveServicesManagement", []string{"openai", "cognitive"}},
		{"Storage", []string{"blob"}},
	}
}

// tagOf finds a tag, also with a region: "Storage.westeurope".
func tagOf(tag string) (serviceTag, bool) {
	name, region, regional := strings.Cut(tag, ".")
	if regional && !arm.KnownLocation(arm.NormalizeLocation(region)) {
		return serviceTag{}, false
	}
	tags := serviceTags()
	i := slices.IndexFunc(tags, func(t serviceTag) bool { return strings.EqualFold(t.name, name) })
	if i < 0 {
		return serviceTag{}, false
	}
	t := tags[i]
	if regional {
		t.name += "." + arm.NormalizeLocation(region)
	}
	return t, true
}

// requiredTags are those without which no workspace works.
func requiredTags() []Tagged {
	return []Tagged{
		{Tag: "AzureActiveDirectory", Protocol: "TCP", Ports: "80, 443", Action: "Allow"},
		{Tag: "AzureResourceManager", Protocol: "TCP", Ports: "443", Action: "Allow"},
		{Tag: "AzureMachineLearning", Protocol: "TCP", Ports: "443", Action: "Allow"},
	}
}

// rules are all of a workspace: those that it cannot be without, and those
// that somebody defined, by name.
func (w *Workspaces) rules(ws *Workspace, defined []*arm.Resource[Rule]) []named {
	if ws.Mode() == Disabled {
		return nil
	}
	out := w.requiredEndpoints(ws)
	if ws.Mode() == AllowByRules {
		for _, t := range requiredTags() {
			out = append(out, named{name: systemPrefix + "ST_" + t.Tag + "_" + t.Protocol, rule: &Rule{Type: RuleServiceTag, Category: Required, Destination: asJSON(t)}})
		}
	}
	for _, r := range defined {
		out = append(out, named{r.ID.Name(), &r.Properties, r.Private[approverKey]})
	}
	slices.SortFunc(out, func(a, b named) int {
		return cmp.Or(strings.Compare(lower(a.name), lower(b.name)), strings.Compare(a.name, b.name))
	})
	return out
}

// requiredEndpoints are those for what belongs to the workspace, and for itself.
func (w *Workspaces) requiredEndpoints(ws *Workspace) []named {
	if w.links == nil {
		return nil
	}
	var out []named
	for _, c := range []struct{ id, group string }{
		{ws.ID.String(), GroupID}, {ws.Properties.KeyVault, "vault"}, {ws.Properties.Storage, "blob"}, {ws.Properties.Registry, "registry"},
	} {
		id, err := rid.Parse(c.id)
		if err != nil || c.id == "" {
			continue
		}
		sv, ok := w.links.Service(id.Type())
		if !ok {
			continue
		}
		if _, ok := sv.Group(c.group); !ok {
			continue
		}
		out = append(out, named{name: requiredName(id, c.group), rule: &Rule{
			Type: RulePrivateEndpoint, Category: Required, Destination: asJSON(Linked{Resource: c.id, Group: c.group, Spark: new(bool)}),
		}})
	}
	return out
}

// requiredName is as Azure names such rules: it is a resource's alone.
func requiredName(target rid.ID, group string) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(endpointKey(target, group))) // never fails
	return fmt.Sprintf(systemPrefix+"PE_%s_%s_%08x", target.Name(), group, h.Sum32())
}

func asJSON(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		return nil // what is encoded here always can be
	}
	return b
}
