package machinelearningservices

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/arm/privatelink"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
)

const writeAttempts = 20

// endpointRange has the addresses of managed private endpoints in every
// managed network.
func endpointRange() netip.Prefix { return netip.MustParsePrefix("100.64.0.0/16") }

// firstEndpoint is the first that is given away; those before it are the network's own.
func firstEndpoint() netip.Addr { return netip.MustParseAddr("100.64.0.16") }

// changeable are the modes that a network can be changed to.
func changeable(mode string) []string {
	switch mode {
	case AllowAll:
		return []string{AllowAll, AllowByRules}
	case AllowByRules:
		return []string{AllowByRules}
	}
	return []string{Disabled, AllowAll, AllowByRules}
}

// checkIsolation refuses to switch isolation off or to loosen it, and to
// promise it where nothing keeps it.
func (p *provider) checkIsolation(ctx context.Context, old, next *arm.Resource[Properties]) error {
	const at = "properties.managedNetwork.isolationMode"
	mode, was := next.Properties.mode(), Disabled
	if old != nil {
		was = old.Properties.mode()
	}
	if mode == was {
		return nil
	}
	if !slices.Contains(changeable(was), mode) {
		return apierr.New(apierr.BadRequest, "IsolationModeChangeNotSupported",
			"The isolation mode of the workspace's managed network cannot be changed from '%s' to '%s': isolation that was set up is not switched off or loosened. Supported from here: %s.",
			was, mode, strings.Join(changeable(was), ", ")).WithTarget(at)
	}
	if err := p.available(ctx); err != nil {
		return err
	}
	if old == nil || was != Disabled {
		return nil
	}
	if some, err := p.has(ctx, next.ID, "onlineEndpoints/deployments"); err != nil {
		return err
	} else if some {
		return apierr.New(apierr.BadRequest, "ComputeExists", "The workspace has deployments that run outside of a managed network. Delete them before you set the isolation mode to '%s'.", mode).WithTarget(at)
	}
	return nil
}

// available refuses where this machine keeps no isolation.
func (p *provider) available(ctx context.Context) error {
	why := errors.New("this server makes no networks")
	if p.Machine != nil {
		why = p.Machine.Available(ctx)
	}
	if why == nil {
		return nil
	}
	return apierr.New(apierr.Conflict, "IsolationNotEnforceable", "A managed network with isolation can't be made here: %s. Nothing runs unisolated in its place.", strings.TrimSuffix(why.Error(), ".")).
		WithTarget("properties.managedNetwork.isolationMode").WithCause(why)
}

// record reads what is kept of a network; nil where nothing is.
func (p *provider) record(ctx context.Context, uid string) (*Record, error) {
	d, err := p.store.Get(ctx, networkPrefix+uid)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("read the network of a workspace: %w", err)
	}
	return decodeRecord(d)
}

// change applies fn to the record of the workspace's network and saves it.
func (p *provider) change(ctx context.Context, ws *Workspace, fn func(*Record) error) error {
	for range writeAttempts {
		r, err := p.record(ctx, ws.UID)
		if err != nil {
			return err
		}
		if r == nil {
			r = &Record{UID: ws.UID}
		}
		r.Workspace = ws.ID.String()
		before := asJSON(r)
		if err := fn(r); err != nil {
			return err
		}
		if r.rev != 0 && string(before) == string(asJSON(r)) {
			return nil
		}
		_, err = store.PutJSON(ctx, p.store, networkPrefix+ws.UID, networkKind, r.rev, r)
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	return apierr.New(apierr.Conflict, "Conflict", "The managed network of '%s' is changed by too many requests at once.", ws.ID)
}

// checkProvision refuses what can't be brought about.
func (p *provider) checkProvision(ctx context.Context, r *arm.Resource[Properties], body json.RawMessage) error {
	var in struct {
		Spark bool `json:"includeSpark"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return bad("includeSpark", "The body must be an object such as {\"includeSpark\":false}.")
	}
	if in.Spark {
		return bad("includeSpark", "Spark is not supported: there is no Spark compute in this cloud. Provision the network without it.")
	}
	if r.Properties.mode() == Disabled {
		return apierr.New(apierr.BadRequest, "ManagedNetworkNotEnabled", "The isolation mode of the workspace's managed network is 'Disabled': there is nothing to provision. Set it to '%s' or '%s' first.", AllowAll, AllowByRules)
	}
	return p.available(ctx)
}

// provision is POST …/provisionManagedNetwork.
func (p *provider) provision(ctx context.Context, r *arm.Resource[Properties], _ json.RawMessage) error {
	ws, err := workspaceOfResource(r)
	if err != nil {
		return err
	}
	return p.makeNetwork(ctx, ws)
}

// Provision brings the managed network of a workspace about where there is to be
// one and there is none yet, as the first deployment does. c is as for New.
func Provision(ctx context.Context, c Config, workspace rid.ID) error {
	p := newProvider(c)
	ws, err := p.fresh(ctx, workspace)
	if err != nil {
		return err
	}
	if ws == nil {
		return arm.NotFound(workspace)
	}
	if ws.Mode() == Disabled {
		return nil
	}
	if rec, err := p.record(ctx, ws.UID); err != nil || rec != nil && rec.Active {
		return err
	}
	return p.makeNetwork(ctx, ws)
}

func (p *provider) provisioned(ctx context.Context, r *arm.Resource[Properties]) (any, error) {
	rec, err := p.record(ctx, r.Private[uidKey])
	return status(rec), err
}

// makeNetwork brings the network about, with its endpoints.
func (p *provider) makeNetwork(ctx context.Context, ws *Workspace) error {
	if err := p.available(ctx); err != nil {
		return err
	}
	if err := p.settle(ctx, ws); err != nil {
		return err
	}
	if err := p.Machine.Network(ctx, ws); err != nil {
		return apierr.New(apierr.Conflict, "ManagedNetworkNotMade", "The managed network could not be brought about on this machine: %v.", err).WithCause(err)
	}
	return p.change(ctx, ws, func(r *Record) error {
		r.Active = true
		return nil
	})
}

// list are all rules of the workspace, as the store has them now.
func (p *provider) list(ctx context.Context, ws *Workspace) ([]named, error) {
	docs, err := p.res.List(ctx, ws.ID, RuleType, "", listLimit)
	if err != nil {
		return nil, err
	}
	var defined []*arm.Resource[Rule]
	for _, e := range docs {
		if !counts(e) {
			continue
		}
		r, err := arm.View[Rule](e)
		if err != nil {
			return nil, err
		}
		defined = append(defined, r)
	}
	return p.w.rules(ws, defined), nil
}

// counts reports whether a rule is in force: not one that could not be made or
// is going.
func counts(e *arm.Envelope) bool { return e.State() != "Failed" && e.State() != "Deleting" }

// settle makes addresses and connections of the network's endpoints what its
// rules say. It can be run again after a crash.
func (p *provider) settle(ctx context.Context, ws *Workspace) error {
	rules, err := p.list(ctx, ws)
	if err != nil {
		return err
	}
	keys, keep := map[string]bool{}, map[string]rid.ID{}
	for _, x := range rules {
		if x.rule.Type != RulePrivateEndpoint {
			continue
		}
		d, target, err := x.rule.endpoint()
		if err != nil {
			return err
		}
		keys[endpointKey(target, d.Group)], keep[ws.ID.Child(ruleWord, x.name).Key()] = true, target
	}
	if err := p.change(ctx, ws, func(r *Record) error { return r.allot(keys) }); err != nil {
		return err
	}
	for _, x := range rules {
		if x.rule.Type == RulePrivateEndpoint {
			if err := p.connect(ctx, ws, x); err != nil {
				return err
			}
		}
	}
	return p.disconnect(ctx, ws.ID, keep)
}

// allot gives every endpoint an address, and takes back those of others.
func (r *Record) allot(keys map[string]bool) error {
	if r.Addresses == nil {
		r.Addresses = map[string]string{}
	}
	taken := map[string]bool{}
	for k, a := range r.Addresses {
		if !keys[k] {
			delete(r.Addresses, k)
			continue
		}
		taken[a] = true
	}
	next := firstEndpoint()
	var missing []string
	for k := range keys {
		if r.Addresses[k] == "" {
			missing = append(missing, k)
		}
	}
	slices.Sort(missing)
	for _, k := range missing {
		for taken[next.String()] {
			next = next.Next()
		}
		if !endpointRange().Contains(next.Next()) {
			return bad("properties.managedNetwork.outboundRules", "The managed network has no address left for another private endpoint.")
		}
		r.Addresses[k], taken[next.String()] = next.String(), true
	}
	return nil
}

// connect makes the connection of a managed private endpoint, where what it
// reaches is there.
func (p *provider) connect(ctx context.Context, ws *Workspace, x named) error {
	d, target, err := x.rule.endpoint()
	if err != nil {
		return err
	}
	e, err := p.get(ctx, target)
	if err != nil || e == nil {
		return err // the rule says that it is inactive
	}
	status, err := p.approval(ctx, ws, x, target)
	if err != nil {
		return err
	}
	return p.links.Connect(ctx, privatelink.Request{
		Endpoint: ws.ID.Child(ruleWord, x.name), Target: target, Name: cut(ws.ID.Name()+"."+x.name, 80), GroupIDs: []string{d.Group}, Status: status,
		Message: cut("Egress of the workspace "+ws.ID.Name()+", rule "+x.name, 140),
	})
}

// approval is whether the endpoint waits for the target's owner: not where the
// workspace, whoever asks or whoever made the rule may approve it now. What a
// workspace was given by somebody who may write it needs no further word.
func (p *provider) approval(ctx context.Context, ws *Workspace, x named, target rid.ID) (string, error) {
	if x.rule.Category == Required {
		return privatelink.Approved, nil
	}
	for _, oid := range []string{ws.Principal, callerID(ctx), x.approver} {
		if ok, err := p.mayApprove(ctx, oid, target); err != nil || ok {
			return privatelink.Approved, err
		}
	}
	return privatelink.Pending, nil
}

func (p *provider) mayApprove(ctx context.Context, oid string, target rid.ID) (bool, error) {
	return p.may(ctx, oid, target.Type()+"/privateEndpointConnectionsApproval/action", target)
}

func callerID(ctx context.Context) string {
	if c := arm.Caller(ctx); c != nil {
		return c.ObjectID
	}
	return ""
}

func cut(s string, n int) string { return s[:min(len(s), n)] }

// disconnect removes the connections of the workspace's endpoints but those to
// what is in keep, by the endpoint.
func (p *provider) disconnect(ctx context.Context, workspace rid.ID, keep map[string]rid.ID) error {
	prefix := workspace.Key() + "/" + lower(ruleWord) + "/"
	var errs []error
	for _, c := range p.links.All() {
		key := lower(c.Endpoint.ID)
		if !strings.HasPrefix(key, prefix) {
			continue
		}
		target, ok := keep[key]
		if ok && target.Equal(c.Target) {
			continue
		}
		endpoint, err := rid.Parse(c.Endpoint.ID)
		if err != nil {
			continue
		}
		if ok {
			errs = append(errs, p.links.Disconnect(ctx, endpoint, target))
		} else {
			errs = append(errs, p.links.Disconnect(ctx, endpoint))
		}
	}
	return errors.Join(errs...)
}
