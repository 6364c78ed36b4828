package machinelearningservices

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/arm/privatelink"
	"lazurite.dev/internal/rid"
)

// Finding is one of a diagnosis. Source: "Workspaces - Diagnose", DiagnoseResult.
type Finding struct {
	Code    string `json:"code"`
	Level   string `json:"level"` // Warning, Error or Information
	Message string `json:"message"`
}

// diagnose is POST …/diagnose: what of the workspace is not as it should be.
func (p *provider) diagnose(ctx context.Context, r *arm.Resource[Properties], _ json.RawMessage) (any, error) {
	ws, err := workspaceOfResource(r)
	if err != nil {
		return nil, err
	}
	out := map[string][]Finding{
		"userDefinedRouteResults": {}, "networkSecurityRuleResults": {}, "resourceLockResults": {}, "dnsResolutionResults": {},
		"storageAccountResults": {}, "keyVaultResults": {}, "containerRegistryResults": {}, "applicationInsightsResults": {}, "otherResults": {},
	}
	rec, err := p.record(ctx, ws.UID)
	if err != nil {
		return nil, err
	}
	rules, err := p.list(ctx, ws)
	if err != nil {
		return nil, err
	}
	for _, l := range linkedResources() {
		list, err := p.diagnoseLinked(ctx, ws, l, rules)
		if err != nil {
			return nil, err
		}
		member := strings.TrimSuffix(l.property, "s") + "Results"
		if l.property == "applicationInsights" {
			member = l.property + "Results"
		}
		out[member] = append(out[member], list...)
	}
	if ws.Mode() != Disabled {
		list, err := p.diagnoseNetwork(ctx, ws, rec, rules)
		if err != nil {
			return nil, err
		}
		out["networkSecurityRuleResults"] = list
	}
	if ws.Legacy() {
		out["otherResults"] = append(out["otherResults"], Finding{"V1LegacyMode", "Warning", "The workspace is in the v1 legacy mode (v1LegacyMode): it can have no managed online endpoints."})
	}
	return map[string]any{"value": out}, nil
}

// diagnoseLinked looks at one resource of the workspace.
func (p *provider) diagnoseLinked(ctx context.Context, ws *Workspace, l linked, rules []named) ([]Finding, error) {
	text := *l.id(&ws.Properties)
	id, err := rid.Parse(text)
	if text == "" || err != nil {
		return nil, nil
	}
	e, err := p.get(ctx, id)
	if err != nil {
		return nil, err
	}
	if e == nil {
		return []Finding{{"ResourceNotFound", "Error", fmt.Sprintf("The %s of the workspace, '%s', does not exist any more.", l.property, id)}}, nil
	}
	access, _ := e.Properties["publicNetworkAccess"].(string)
	if !strings.EqualFold(access, "Disabled") {
		return nil, nil
	}
	for _, x := range rules {
		if _, target, err := x.rule.endpoint(); x.rule.Type == RulePrivateEndpoint && err == nil && target.Equal(id) {
			return nil, nil
		}
	}
	return []Finding{{"NotReachable", "Error", fmt.Sprintf("'%s' refuses public network access, and no outbound rule of the workspace is a private endpoint to it. Add one: az ml workspace outbound-rule set --type private_endpoint --service-resource-id %s.", id.Name(), id)}}, nil
}

// diagnoseNetwork looks at the managed network.
func (p *provider) diagnoseNetwork(ctx context.Context, ws *Workspace, rec *Record, rules []named) ([]Finding, error) {
	out := []Finding{}
	if p.Machine != nil {
		if err := p.Machine.Available(ctx); err != nil {
			out = append(out, Finding{"IsolationNotEnforceable", "Error", "The managed network can't be made here: " + err.Error()})
		}
	}
	if rec == nil || !rec.Active {
		return append(out, Finding{"NetworkNotProvisioned", "Information", "The managed network is provisioned with the first deployment, or by az ml workspace provision-network."}), nil
	}
	for _, x := range rules {
		if x.rule.Type != RulePrivateEndpoint {
			continue
		}
		_, target, err := x.rule.endpoint()
		if err != nil {
			continue // it was validated
		}
		c, err := p.links.To(ctx, ws.ID.Child(ruleWord, x.name), target)
		switch {
		case err != nil:
			return nil, err
		case c == nil:
			out = append(out, Finding{"ConnectionMissing", "Error", fmt.Sprintf("The private endpoint of the rule '%s' has no connection to '%s': it was removed, or what it reached is gone.", x.name, target)})
		case c.State.Status != privatelink.Approved:
			out = append(out, Finding{"ConnectionNotApproved", "Warning", fmt.Sprintf("The private endpoint of the rule '%s' is %s at '%s': az network private-endpoint-connection approve --id %s.", x.name, c.State.Status, target.Name(), c.ID)})
		}
	}
	return out, nil
}
