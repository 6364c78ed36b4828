package containerservice

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strings"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/cluster"
	"lazurite.dev/internal/ops"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
)

// The drivers whose names decide something here.
const (
	issuerOnly = "issuer"
	embedded   = "embedded"
)

// driverName is the name of a cluster's driver; those made before it was
// written down are the issuer's.
func driverName(r *resource) string {
	if n := r.Private[keyDriver]; n != "" {
		return n
	}
	return issuerOnly
}

func (s *Service) driver(r *resource) (cluster.Driver, error) {
	d, err := s.Drivers.Named(driverName(r))
	if err != nil {
		return nil, unavailable(driverName(r), err)
	}
	return d, nil
}

// offerOf is what the cluster's driver runs.
func (s *Service) offerOf(ctx context.Context, r *resource) (offer, error) {
	d, err := s.driver(r)
	if err != nil {
		return offer{}, err
	}
	return offered(ctx, d)
}

// unavailable is the refusal of what needs a driver that can't be used now.
func unavailable(name string, err error) error {
	if !errors.Is(err, cluster.ErrUnavailable) {
		return err
	}
	return apierr.New(apierr.Conflict, "DriverUnavailable", "The driver '%s' can't be used now: %s.", name, strings.TrimSuffix(err.Error(), ".")).WithCause(err)
}

const needs = "Real clusters (the driver 'embedded') need Linux, 'sudo laz up', and the Kubernetes that 'make kube' builds; 'laz cluster attach' adopts one of your own (the driver 'existing')."

// choose gives a new cluster its driver, and warns where it is one that starts
// no Kubernetes.
func (s *Service) choose(ctx context.Context, next *resource) error {
	d, why, err := s.Drivers.Choose(ctx)
	if err != nil {
		return unavailable(s.Drivers.Mode, err)
	}
	next.Private[keyDriver] = d.Name()
	if d.Name() != issuerOnly {
		return nil
	}
	reason := "as its configuration says (clusters: issuer)"
	if why != nil {
		reason = "since " + strings.TrimSuffix(why.Error(), ".")
	}
	arm.Warn(ctx, fmt.Sprintf("The cluster '%s' has an OIDC issuer and service-account tokens (the driver 'issuer') and starts no Kubernetes, %s. %s", next.ID.Name(), reason, needs))
	return nil
}

// apply makes the driver converge the cluster as r and the stored pools say.
func (s *Service) apply(ctx context.Context, r *resource) error {
	return s.applyWith(ctx, r, func(map[string]Pool) {})
}

// applyPools is apply for a stored cluster of which the pool of that name
// becomes p, or goes when p is nil.
func (s *Service) applyPools(ctx context.Context, id rid.ID, name string, p Pool) error {
	r, err := s.read(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	} else if err != nil {
		return err
	}
	return s.applyWith(ctx, r, func(pools map[string]Pool) {
		if delete(pools, name); p != nil {
			pools[name] = p
		}
	})
}

func (s *Service) applyWith(ctx context.Context, r *resource, change func(map[string]Pool)) error {
	d, err := s.driver(r)
	if err != nil {
		return err
	}
	done, err := s.turns.Take(ctx, r.Private[keyUID])
	if err != nil {
		return err
	}
	defer done()
	list, err := s.pools(ctx, r.ID)
	if err != nil {
		return err
	}
	pools := map[string]Pool{}
	for _, e := range list {
		pools[e.Name] = e.Properties
	}
	change(pools)
	spec := specOf(r, pools)
	expected := 12 + len(spec.Nodes)
	err = d.Apply(ctx, spec, func(p cluster.Phase) { ops.Report(ctx, ops.Phase(p), expected) })
	if err != nil {
		return s.failed(ctx, d, r.ID, "made ready", err)
	}
	return nil
}

// failed is the error of a driver, with what to do about it.
func (s *Service) failed(ctx context.Context, d cluster.Driver, id rid.ID, what string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, cluster.ErrUnavailable) {
		return unavailable(d.Name(), err)
	}
	name, group := id.Name(), id.ResourceGroup()
	return apierr.New(apierr.Conflict, "ClusterOperationFailed",
		"The cluster '%s' could not be %s: %s. What it is doing: laz status, laz logs. To try again: az aks update --name %s --resource-group %s; to take it away: az aks delete --name %s --resource-group %s --yes.",
		name, what, strings.TrimSuffix(err.Error(), "."), name, group, name, group).WithCause(err)
}

// specOf is the cluster as its driver gets to know it.
func specOf(r *resource, pools map[string]Pool) cluster.Spec {
	p := &r.Properties
	spec := cluster.Spec{
		UID: r.Private[keyUID], Name: r.ID.Name(), ResourceID: r.ID.String(), Location: r.Location, Version: p.CurrentKubernetesVersion,
		Running: p.PowerState == nil || p.PowerState.Code != stopped, FQDN: p.FQDN, Published: p.issues(),
		WorkloadIdentity: p.SecurityProfile != nil && p.SecurityProfile.WorkloadIdentity.on(), NetworkPolicy: true,
	}
	if n := p.NetworkProfile; n != nil {
		spec.PodCIDR, spec.ServiceCIDR, spec.DNSServiceIP = n.PodCIDR, n.ServiceCIDR, n.DNSServiceIP
		spec.NetworkPolicy = !strings.EqualFold(n.NetworkPolicy, "none")
	}
	switch driverName(r) {
	case issuerOnly:
		return spec
	case existing:
		spec.Attached = attached(r)
		return spec
	}
	if id := p.IdentityProfile[kubelet]; id != nil {
		spec.Kubelet = id.ResourceID
	}
	for _, name := range slices.Sorted(maps.Keys(pools)) {
		spec.Nodes = append(spec.Nodes, nodesOf(r, name, pools[name])...)
	}
	return spec
}

// nodesOf are the nodes of a pool, named as AKS names them.
func nodesOf(r *resource, name string, p Pool) []cluster.Node {
	h := fnv.New32a()
	_, _ = h.Write([]byte(r.Private[keyUID])) // never fails
	size, _ := sizeOf(text(p, "vmSize"))
	labels := map[string]string{
		"agentpool": name, "kubernetes.azure.com/agentpool": name, "kubernetes.azure.com/mode": strings.ToLower(text(p, "mode")),
		"kubernetes.azure.com/role": "agent", "node.kubernetes.io/instance-type": text(p, "vmSize"), "topology.kubernetes.io/region": r.Location,
	}
	if g := r.Properties.NodeResourceGroup; labelValue().MatchString(g) {
		labels["kubernetes.azure.com/cluster"] = g
	}
	maps.Copy(labels, stringMap(p["nodeLabels"]))
	pods := number(p["maxPods"])
	if pods == 0 {
		pods = 110
	}
	var list []cluster.Node
	for i := range number(p["count"]) {
		list = append(list, cluster.Node{
			Name: fmt.Sprintf("aks-%s-%08d-vmss%s", name, h.Sum32()%1e8, base36(i)), Pool: name,
			CPUMillis: size.cpus * 1000, MemoryMiB: size.memory * 1024, MaxPods: pods, Labels: labels, Taints: texts(p["nodeTaints"]),
		})
	}
	return list
}

// base36 is i in six digits, as the instances of a scale set are named.
func base36(i int) string {
	const digits = "0123456789abcdefghijklmnopqrstuvwxyz"
	b := []byte("000000")
	for at := len(b) - 1; i > 0 && at >= 0; at-- {
		b[at] = digits[i%36]
		i /= 36
	}
	return string(b)
}
