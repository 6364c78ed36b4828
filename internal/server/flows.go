package server

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/compute"
	"lazurite.dev/internal/providers/machinelearningservices"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
	"lazurite.dev/internal/trace"
	"lazurite.dev/internal/vnet"
)

// The limits of flow records.
const (
	flowsAgain   = 10 * time.Second // until the same is recorded again
	flowsWaiting = 256
	flowsKept    = 200 // of a network
	flowsKnown   = 4096
	flowsRate    = 20 // a second, of a network
)

// FlowRecord is a connection, or a question for a name, that was refused.
type FlowRecord struct {
	Time      time.Time  `json:"time"`
	Network   string     `json:"network"` // resource id of the workspace
	Client    netip.Addr `json:"client"`
	Who       string     `json:"who,omitempty"` // "ENDPOINT/DEPLOYMENT"
	Name      string     `json:"name,omitempty"`
	Address   netip.Addr `json:"address,omitzero"` // where it was going
	Port      uint16     `json:"port,omitempty"`
	Verdict   string     `json:"verdict"` // "refused"
	Reason    string     `json:"reason"`  // one of package vnet's
	Why       string     `json:"why"`
	Fix       string     `json:"fix,omitempty"`    // the command that would approve it
	Before    int        `json:"before,omitempty"` // the same, since the last record
	RequestID string     `json:"id"`               // for laz explain
}

// flows records what policies refuse: the same once in ten seconds, with how
// often it was meanwhile.
type flows struct {
	out     *outbound
	waiting chan flow

	mu   sync.Mutex // guards the rest
	seen map[flowKey]*flowSeen
	kept map[string][]FlowRecord // by the cluster's uid, oldest first
	lost int                     // that were not recorded as too many came

	second time.Time
	rate   map[string]int // records of the networks in that second
}

type flow struct {
	uid    string
	at     time.Time
	r      vnet.Refusal
	before int
}

type flowKey struct {
	uid    string
	client netip.Addr
	name   string
	to     netip.AddrPort
}

type flowSeen struct {
	at   time.Time
	more int
}

func newFlows(o *outbound) *flows {
	return &flows{out: o, waiting: make(chan flow, flowsWaiting), seen: map[flowKey]*flowSeen{}, kept: map[string][]FlowRecord{}}
}

// of takes the refusals of a network. It does not wait.
func (f *flows) of(w *outlet) func(vnet.Refusal) {
	return func(r vnet.Refusal) {
		now := time.Now()
		before, ok := f.counts(flowKey{w.uid, r.Client, r.Name, portOf(r)}, now)
		if !ok {
			return
		}
		select {
		case f.waiting <- flow{w.uid, now, r, before}:
		default:
			f.mu.Lock()
			f.lost++
			f.mu.Unlock()
		}
	}
}

// portOf is by what refusals are told apart: of a name its port alone.
func portOf(r vnet.Refusal) netip.AddrPort {
	if r.Name != "" {
		return netip.AddrPortFrom(netip.Addr{}, r.To.Port())
	}
	return r.To
}

// counts reports whether a refusal is to be recorded, and how many were not
// since the last that was.
func (f *flows) counts(k flowKey, now time.Time) (before int, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer func() {
		if ok && !f.mayRecord(k.uid, now) {
			f.lost++
			ok = false
		}
	}()
	if s := f.seen[k]; s != nil {
		if now.Sub(s.at) < flowsAgain {
			s.more++
			return 0, false
		}
		before = s.more
		s.at, s.more = now, 0
		return before, true
	}
	if len(f.seen) >= flowsKnown { // at least half of it goes
		for k, s := range f.seen {
			if now.Sub(s.at) >= flowsAgain || len(f.seen) > flowsKnown/2 {
				delete(f.seen, k)
			}
		}
	}
	f.seen[k] = &flowSeen{at: now}
	return 0, true
}

// mayRecord keeps a program that makes up names from filling log and store.
func (f *flows) mayRecord(uid string, now time.Time) bool {
	if s := now.Truncate(time.Second); !s.Equal(f.second) {
		f.second, f.rate = s, map[string]int{}
	}
	f.rate[uid]++
	return f.rate[uid] <= flowsRate
}

// Run records what waits until ctx ends.
func (f *flows) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case w := <-f.waiting:
			f.record(ctx, w)
		}
	}
}

// forget drops what is kept of networks whose workspaces are gone.
func (f *flows) forget(src *OutboundSources) {
	if src == nil || src.Workspaces == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for uid := range f.kept {
		if ws, ok := compute.WorkspaceOf(uid); ok {
			if _, there := src.Workspaces.Plan(ws); !there {
				delete(f.kept, uid)
			}
		}
	}
}

func (f *flows) record(ctx context.Context, w flow) {
	src := f.out.src.Load()
	one := FlowRecord{
		Time: w.at, Client: w.r.Client, Who: w.r.Who, Name: w.r.Name, Address: w.r.To.Addr(), Port: w.r.To.Port(),
		Verdict: "refused", Reason: w.r.Reason, Why: w.r.Why, Before: w.before, RequestID: uuid.NewString(),
	}
	var plan machinelearningservices.NetworkPlan
	if ws, ok := compute.WorkspaceOf(w.uid); ok && src != nil && src.Workspaces != nil {
		plan, _ = src.Workspaces.Plan(ws)
	}
	one.Network = plan.Workspace.String()
	one.Fix = f.fix(ctx, src, plan, w.r)
	f.mu.Lock()
	lost := f.lost
	f.lost = 0
	list := append(f.kept[w.uid], one)
	f.kept[w.uid] = list[max(0, len(list)-flowsKept):]
	f.mu.Unlock()
	attrs := []slog.Attr{
		slog.String("network", one.Network), slog.String("client", one.Client.String()), slog.String("who", one.Who), slog.String("name", one.Name),
		slog.String("to", one.what()), slog.Int("port", int(one.Port)), slog.String("reason", one.Reason), slog.String("error", one.Why), slog.String("fix", one.Fix),
		slog.String("id", one.RequestID), slog.Int("before", one.Before),
	}
	if lost > 0 {
		attrs = append(attrs, slog.Int("lost", lost))
	}
	f.out.log.LogAttrs(ctx, slog.LevelWarn, "outbound refused", attrs...)
	if src != nil && src.Record != nil {
		src.Record(one.trace(plan))
	}
}

// what is where it wanted to go, for people.
func (r FlowRecord) what() string {
	switch {
	case r.Name != "" && r.Port != 0:
		return fmt.Sprintf("%s:%d", r.Name, r.Port)
	case r.Name != "":
		return r.Name
	}
	return netip.AddrPortFrom(r.Address, r.Port).String()
}

func (r FlowRecord) trace(plan machinelearningservices.NetworkPlan) trace.Trace {
	who := r.Who
	if who == "" {
		who = "pod " + r.Client.String()
	}
	verb := "connect to "
	if r.Port == 0 {
		verb = "resolve "
	}
	return trace.Trace{
		ID: r.RequestID, Correlation: r.RequestID, Time: r.Time, Surface: "outbound", Who: who, What: verb + r.what(), Outcome: "OutboundRefused",
		Hops: []trace.Hop{
			{Step: "network", Subject: plan.Workspace.String(), OK: true, Found: fmt.Sprintf("the managed network's isolation mode is %s, with %d outbound rules", plan.Mode, len(plan.Rules))},
			{Step: "outbound rule", Subject: r.what(), Found: r.Why, Fix: r.Fix},
		},
	}
}

// fix is the command that would approve what was refused, "" where none would.
func (f *flows) fix(ctx context.Context, src *OutboundSources, plan machinelearningservices.NetworkPlan, r vnet.Refusal) string {
	if plan.UID == "" {
		return ""
	}
	ws := plan.Workspace
	where := fmt.Sprintf(" --workspace-name %s --resource-group %s", ws.Name(), ws.ResourceGroup())
	if r.Reason == vnet.ReasonClosed && !plan.Active {
		return "az ml workspace provision-network --name " + ws.Name() + " --resource-group " + ws.ResourceGroup()
	}
	set := "az ml workspace outbound-rule set" + where
	switch r.Reason {
	case vnet.ReasonName:
		if target, group := f.owner(ctx, src, r.Name); target != "" {
			return fmt.Sprintf("%s --rule %s --type private_endpoint --service-resource-id %s --subresource-target %s", set, ruleName(r.Name), target, group)
		}
		return fmt.Sprintf("%s --rule %s --type fqdn --destination %s", set, ruleName(r.Name), r.Name)
	case vnet.ReasonDenied:
		i := slices.IndexFunc(plan.Rules, func(x machinelearningservices.PlannedRule) bool { return strings.Contains(r.Why, " "+x.Name+" ") })
		if i >= 0 {
			return "az ml workspace outbound-rule remove" + where + " --rule " + plan.Rules[i].Name
		}
	case vnet.ReasonAddress:
		if a := r.To.Addr(); a.Is4() && !a.IsPrivate() && a.IsGlobalUnicast() {
			return fmt.Sprintf("%s --rule %s --type service_tag --address-prefixes %s/32 --protocol TCP --port-ranges %d", set, ruleName(a.String()), a, r.To.Port())
		}
	}
	return ""
}

// ruleName is a name for a rule about something.
func ruleName(s string) string {
	return "allow-" + strings.Trim(strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' {
			return c
		}
		return '-'
	}, strings.ToLower(s)), "-")
}

// owner finds the resource that has an owned name, and the part of it that
// private endpoints reach.
func (f *flows) owner(ctx context.Context, src *OutboundSources, name string) (id, group string) {
	if src == nil {
		return "", ""
	}
	label, _, _ := strings.Cut(name, ".")
	for _, t := range []struct{ surface, kind, group string }{
		{KeyVault, "Microsoft.KeyVault/vaults", "vault"}, {Blob, "Microsoft.Storage/storageAccounts", "blob"},
		{Registry, "Microsoft.ContainerRegistry/registries", "registry"}, {OpenAI, "Microsoft.CognitiveServices/accounts", "account"},
	} {
		if f.out.cfg.surface(name) != t.surface {
			continue
		}
		docs, err := src.Store.List(ctx, store.Query{Prefix: arm.KeyPrefix + "/", Kind: strings.ToLower(t.kind), Limit: 1000})
		if err != nil {
			return "", ""
		}
		for _, d := range docs {
			if e, err := arm.DecodeEnvelope(d); err == nil && strings.EqualFold(e.Name, label) {
				if _, err := rid.Parse(e.ID); err == nil {
					return e.ID, t.group
				}
			}
		}
	}
	return "", ""
}

// list are the records of a network, newest first.
func (f *flows) list(uid string) []FlowRecord {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := slices.Clone(f.kept[uid])
	slices.Reverse(out)
	return out
}

// refused is what a client in the network of a workspace's computes was refused
// since then, in words, each once.
func (f *flows) refused(workspaceUID string, client netip.Addr, since time.Time) []string {
	var out []string
	for _, r := range slices.Backward(f.list(compute.ClusterUID(workspaceUID))) { // the oldest first
		if r.Client != client || r.Time.Before(since) {
			continue
		}
		text := r.what() + ": " + r.Why
		if r.Fix != "" {
			text += ". To allow it: " + r.Fix
		}
		if !slices.Contains(out, text) {
			out = append(out, text)
		}
	}
	return out
}
