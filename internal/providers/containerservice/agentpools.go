package containerservice

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
)

const (
	typePool = Namespace + "/managedClusters/agentPools"
	system   = "System"
)

func (s *Service) agentPools() arm.Kind[Pool] {
	return arm.Kind[Pool]{
		Type: "managedClusters/agentPools", APIVersions: apiVersions(), Async: true, Cancels: true, NoPatch: true, Name: poolName,
		ReadOnly: []string{"currentOrchestratorVersion", "nodeImageVersion", "eTag"},
		Default:  s.defaultPool, Validate: s.checkPool, Put: s.putOne, Delete: s.deletePool,
	}
}

var poolShape = regexp.MustCompile(`^[a-z][a-z0-9]{0,11}$`)

func poolName(name string) error {
	if poolShape.MatchString(name) {
		return nil
	}
	return invalid("agentPool.name", "'%s' has to be 1 to 12 lower-case letters and digits, a letter first", name)
}

// poolDefaults are AKS's. Source: Agent Pools - Create Or Update.
func poolDefaults() map[string]any {
	return map[string]any{
		"count": 1, "vmSize": "Standard_DS2_v2", "osDiskSizeGB": 128, "osDiskType": "Managed", "kubeletDiskType": "OS", "maxPods": 110,
		"type": "VirtualMachineScaleSets", "enableAutoScaling": false, "powerState": map[string]any{"code": running}, "mode": "User",
		"osType": "Linux", "osSKU": "Ubuntu", "enableFIPS": false, "enableNodePublicIP": false, "scaleDownMode": "Delete",
		"upgradeSettings": map[string]any{"maxSurge": "10%"},
	}
}

// poolKeys are the names that an agent pool's properties are judged by.
func poolKeys() []string {
	return append(slices.Collect(maps.Keys(poolDefaults())),
		"name", "orchestratorVersion", "currentOrchestratorVersion", "nodeImageVersion", "eTag", "provisioningState", "enableEncryptionAtHost", "vnetSubnetID", "podSubnetID", "hostGroupID",
		"nodePublicIPPrefixID", "workloadRuntime", "networkProfile", "securityProfile", "minCount", "maxCount", "tags", "nodeLabels", "nodeTaints", "scaleSetPriority", "kubeletConfig", "linuxOSConfig", "gpuInstanceProfile",
	)
}

// foldPool spells the known keys as documented; one that is there twice is refused.
func foldPool(p Pool) error {
	known := map[string]string{}
	for _, k := range poolKeys() {
		known[strings.ToLower(k)] = k
	}
	for _, k := range slices.Collect(maps.Keys(p)) {
		as, ok := known[strings.ToLower(k)]
		if !ok || as == k {
			continue
		}
		if _, twice := p[as]; twice {
			return invalid("properties.agentPoolProfiles", "'%s' is there twice, in different letter case", as)
		}
		p[as] = p[k]
		delete(p, k)
	}
	return nil
}

// fillPool completes p: what old has and p leaves out stays.
func fillPool(old, p Pool, version string) {
	for k, v := range poolDefaults() {
		if p[k] != nil {
			continue
		}
		if p[k] = v; old[k] != nil {
			p[k] = old[k]
		}
	}
	if p[subnetKey] == nil && old[subnetKey] != nil {
		p[subnetKey] = old[subnetKey]
	}
	if text(p, "orchestratorVersion") == "" {
		p["orchestratorVersion"] = version
		if v := text(old, "orchestratorVersion"); v != "" {
			p["orchestratorVersion"] = v
		}
	}
	if v, err := parseVersion(text(p, "orchestratorVersion")); err == nil && v.patch != 0 {
		p["currentOrchestratorVersion"] = v.String()
	}
}

func (s *Service) defaultPool(ctx context.Context, old, next *arm.Resource[Pool]) error {
	if next.Properties == nil {
		next.Properties = Pool{}
	}
	if err := foldPool(next.Properties); err != nil {
		return err
	}
	delete(next.Properties, "name")
	c, err := s.read(ctx, next.ID.Parent())
	if err != nil {
		return err
	}
	var was Pool
	if old != nil {
		was = old.Properties
	}
	fillPool(was, next.Properties, c.Properties.CurrentKubernetesVersion)
	return nil
}

func (s *Service) checkPool(ctx context.Context, old, next *arm.Resource[Pool]) error {
	if err := s.settled(ctx, next.ID.Parent()); err != nil {
		return err
	}
	var was Pool
	if old != nil {
		was = old.Properties
	}
	c, err := s.read(ctx, next.ID.Parent())
	if err != nil {
		return err
	}
	if err := notAttachedPool(c); err != nil {
		return err
	}
	o, err := s.offerOf(ctx, c)
	if err != nil {
		return err
	}
	if err := o.checkOne(next.ID.Name(), was, next.Properties); err != nil {
		return err
	}
	pools, err := s.pools(ctx, next.ID.Parent())
	if err != nil {
		return err
	}
	var others []Pool
	for _, e := range pools {
		if !strings.EqualFold(e.Name, next.ID.Name()) {
			others = append(others, e.Properties)
		}
	}
	if err := s.checkSubnet(ctx, c.Properties.NetworkProfile, next.ID.Name(), was, next.Properties, others); err != nil {
		return err
	}
	if old == nil && len(pools) >= maxAgentPools {
		return apierr.New(apierr.BadRequest, "MaxAgentPoolCountReached", "A cluster has at most %d agent pools.", maxAgentPools)
	}
	if text(next.Properties, "mode") != system && !hasSystem(pools, next.ID.Name()) {
		return errLastSystem()
	}
	return nil
}

// settled refuses to change the pools of a cluster that is being made or taken away.
func (s *Service) settled(ctx context.Context, id rid.ID) error {
	e, err := s.res.Get(ctx, id)
	if err != nil {
		return err
	}
	if !oneOf(e.State(), "Succeeded", "Failed", "Canceled", "") {
		return apierr.New(apierr.Conflict, "OperationNotAllowed",
			"Operation is not allowed: another operation on the managed cluster '%s' is in progress (%s).", e.Name, e.State())
	}
	return nil
}

// idle refuses to change a cluster while one of its pools is being changed.
func (s *Service) idle(ctx context.Context, id rid.ID) error {
	pools, err := s.pools(ctx, id)
	if err != nil {
		return err
	}
	for _, e := range pools {
		if !oneOf(e.State(), "Succeeded", "Failed", "Canceled", "") {
			return apierr.New(apierr.Conflict, "OperationNotAllowed",
				"Operation is not allowed: another operation on the agent pool '%s' is in progress (%s).", e.Name, e.State())
		}
	}
	return nil
}

func errLastSystem() error {
	return apierr.New(apierr.BadRequest, "OperationNotAllowed", "There has to be at least one system agent pool.").WithTarget("properties.mode")
}

func hasSystem(pools []*arm.Envelope, but string) bool {
	return slices.ContainsFunc(pools, func(e *arm.Envelope) bool {
		return !strings.EqualFold(e.Name, but) && text(e.Properties, "mode") == system
	})
}

// checkOne judges one pool's properties.
func (o offer) checkOne(name string, old, p Pool) error {
	if err := o.refusedPool(name, p); err != nil {
		return err
	}
	at := "properties.agentPoolProfiles['" + name + "']."
	for key, list := range map[string][]string{
		"mode": {system, "User"}, "osType": {"Linux", "Windows"}, "type": {"VirtualMachineScaleSets", "AvailabilitySet", "VirtualMachines"},
	} {
		if v := text(p, key); !slices.Contains(list, v) {
			return invalid(at+key, "'%v' is none of %s", p[key], strings.Join(list, ", "))
		}
	}
	if text(p, "osType") == "Windows" && (len(name) > 6 || text(p, "mode") == system) {
		return invalid(at+"osType", "a Windows pool is no system pool, and its name has at most 6 characters")
	}
	for key, top := range map[string]float64{"count": 1000, "minCount": 1000, "maxCount": 1000, "maxPods": 250, "osDiskSizeGB": 2048} {
		if v, ok := p[key]; ok && v != nil && !within(v, top) {
			return invalid(at+key, "'%v' is no whole number from 0 to %v", v, top)
		}
	}
	if v := text(p, "orchestratorVersion"); v != text(old, "orchestratorVersion") || v == "" {
		if _, err := o.read(v); err != nil {
			return err
		}
	}
	for _, key := range []string{"vmSize", "osType", "type", "maxPods", "osDiskSizeGB"} {
		if was := old[key]; was != nil && fmt.Sprint(was) != fmt.Sprint(p[key]) {
			return notAllowed(at+key, fmt.Sprint(was), fmt.Sprint(p[key]))
		}
	}
	if o.older {
		return nil
	}
	return checkMachines(at, p)
}

// within reports whether v is a whole number from 0 to top.
func within(v any, top float64) bool {
	var f float64
	switch v := v.(type) {
	case int:
		f = float64(v)
	case float64:
		f = v
	case json.Number:
		var err error
		if f, err = v.Float64(); err != nil {
			return false
		}
	default:
		return false
	}
	return f >= 0 && f <= top && f == float64(int(f))
}

// deletePool keeps the last system pool, unless all of the cluster goes.
func (s *Service) deletePool(ctx context.Context, old *arm.Resource[Pool]) error {
	parent := old.ID.Parent()
	up := []rid.ID{parent}
	if g, ok := parent.Group(); ok {
		up = append(up, g)
	}
	for _, id := range up {
		e, err := s.res.Get(ctx, id)
		if errors.Is(err, store.ErrNotFound) || err == nil && e.State() == "Deleting" {
			return nil
		} else if err != nil {
			return err
		}
	}
	pools, err := s.pools(ctx, parent)
	if err != nil {
		return err
	}
	if text(old.Properties, "mode") == system && !hasSystem(pools, old.ID.Name()) {
		return errLastSystem()
	}
	return s.applyPools(ctx, parent, old.ID.Name(), nil)
}

// putOne brings a pool's nodes about.
func (s *Service) putOne(ctx context.Context, _, next *arm.Resource[Pool]) error {
	return s.applyPools(ctx, next.ID.Parent(), next.ID.Name(), next.Properties)
}

// pools are the stored agent pools of a cluster.
func (s *Service) pools(ctx context.Context, id rid.ID) ([]*arm.Envelope, error) {
	return s.res.List(ctx, id, typePool, "", 1000)
}

// defaultPools completes what a cluster's PUT says of its pools.
func (s *Service) defaultPools(ctx context.Context, old, next *resource) error {
	was := map[string]Pool{}
	if old != nil {
		pools, err := s.pools(ctx, next.ID)
		if err != nil {
			return err
		}
		for _, e := range pools {
			was[e.Name] = e.Properties
		}
	}
	for i, p := range next.Properties.AgentPoolProfiles {
		if p == nil {
			return invalid("properties.agentPoolProfiles", "the entry %d is null", i)
		}
		if err := foldPool(p); err != nil {
			return err
		}
		if i == 0 && old == nil && p["mode"] == nil {
			p["mode"] = system
		}
		p["powerState"] = map[string]any{"code": running} // of its own; what was shown may be the cluster's
		fillPool(was[text(p, "name")], p, next.Properties.CurrentKubernetesVersion)
	}
	return nil
}

// checkPools judges what a cluster's PUT says of its pools.
func (s *Service) checkPools(ctx context.Context, o offer, old, next *resource) error {
	list := next.Properties.AgentPoolProfiles
	if len(list) == 0 {
		if old == nil {
			return apierr.New(apierr.BadRequest, "InvalidParameter", "Required parameter agentPoolProfiles is missing (null).").WithTarget("properties.agentPoolProfiles")
		}
		return nil
	}
	var stored []*arm.Envelope
	if old != nil {
		var err error
		if stored, err = s.pools(ctx, next.ID); err != nil {
			return err
		}
	}
	was := map[string]Pool{}
	for _, e := range stored {
		was[e.Name] = e.Properties
	}
	seen, systems := map[string]bool{}, 0
	for _, p := range list {
		name := text(p, "name")
		if err := poolName(name); err != nil {
			return err
		}
		if seen[name] {
			return invalid("properties.agentPoolProfiles", "the name '%s' is there twice", name)
		}
		seen[name] = true
		if err := o.checkOne(name, was[name], p); err != nil {
			return err
		}
		if err := s.checkSubnet(ctx, next.Properties.NetworkProfile, name, was[name], p, list); err != nil {
			return err
		}
		if text(p, "mode") == system {
			systems++
		}
	}
	for name := range was {
		if !seen[name] {
			return apierr.New(apierr.BadRequest, "OperationNotAllowed",
				"The agent pool '%s' is missing in agentPoolProfiles. A pool is removed by itself: az resource delete --ids %s",
				name, next.ID.Child("agentPools", name)).WithTarget("properties.agentPoolProfiles")
		}
	}
	if systems == 0 {
		return errLastSystem()
	}
	return nil
}

// putPools writes what a cluster's PUT says of its pools to them.
func (s *Service) putPools(ctx context.Context, next *resource) error {
	for _, p := range next.Properties.AgentPoolProfiles {
		id := next.ID.Child("agentPools", text(p, "name"))
		if err := s.putPool(ctx, id, p, next.System); err != nil {
			return err
		}
	}
	next.Properties.AgentPoolProfiles = nil
	return nil
}

func (s *Service) putPool(ctx context.Context, id rid.ID, p Pool, by arm.SystemData) error {
	for range 10 {
		e, err := s.res.Get(ctx, id)
		if errors.Is(err, store.ErrNotFound) {
			e = &arm.Envelope{ID: id.String(), Name: id.Name(), Type: typePool, System: by}
		} else if err != nil {
			return err
		}
		e.Properties = maps.Clone(p)
		delete(e.Properties, "name")
		e.Properties["provisioningState"] = "Succeeded"
		e.System.LastModifiedAt, e.System.LastModifiedBy, e.System.LastModifiedByType = by.LastModifiedAt, by.LastModifiedBy, by.LastModifiedByType
		err = s.res.Put(ctx, e)
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	return apierr.New(apierr.Conflict, "Conflict", "The agent pool '%s' is being changed by others. Retry.", id.Name())
}
