package containerservice

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"

	"lazurite.dev/internal/apierr"
)

// size is what a machine has.
type size struct {
	cpus   int
	memory int // GiB
}

// sizes are those that nodes can have: what AKS takes, most asked for.
// Source: Azure documentation, "Sizes for virtual machines".
func sizes() map[string]size {
	list := map[string]size{
		"Standard_B2s": {2, 4}, "Standard_B2ms": {2, 8}, "Standard_B4ms": {4, 16}, "Standard_B8ms": {8, 32},
		"Standard_B2s_v2": {2, 8}, "Standard_B4s_v2": {4, 16}, "Standard_B8s_v2": {8, 32}, "Standard_B2ls_v2": {2, 4}, "Standard_B4ls_v2": {4, 8},
		"Standard_D2": {2, 7}, "Standard_D3": {4, 14}, "Standard_D4": {8, 28},
		"Standard_DS2_v2": {2, 7}, "Standard_DS3_v2": {4, 14}, "Standard_DS4_v2": {8, 28}, "Standard_DS5_v2": {16, 56},
		"Standard_D2_v2": {2, 7}, "Standard_D3_v2": {4, 14}, "Standard_D4_v2": {8, 28}, "Standard_D5_v2": {16, 56},
		"Standard_F2s_v2": {2, 4}, "Standard_F4s_v2": {4, 8}, "Standard_F8s_v2": {8, 16}, "Standard_F16s_v2": {16, 32},
		"Standard_A2_v2": {2, 4}, "Standard_A4_v2": {4, 8}, "Standard_A8_v2": {8, 16}, "Standard_A2m_v2": {2, 16}, "Standard_A4m_v2": {4, 32},
	}
	for _, n := range []int{2, 4, 8, 16, 32, 48, 64, 96} {
		for _, v := range []string{"v3", "v4", "v5", "v6"} {
			for _, kind := range []string{"", "s", "as", "ds", "ads", "d"} {
				if v == "v3" && kind != "" && kind != "s" {
					continue
				}
				list[fmt.Sprintf("Standard_D%d%s_%s", n, kind, v)] = size{n, 4 * n}
				list[fmt.Sprintf("Standard_E%d%s_%s", n, kind, v)] = size{n, 8 * n}
			}
		}
		for _, kind := range []string{"ps", "pds", "pls"} {
			list[fmt.Sprintf("Standard_D%d%s_v5", n, kind)] = size{n, map[bool]int{true: 2, false: 4}[kind == "pls"] * n}
		}
	}
	return list
}

// sizeOf finds a size by its name in any case.
func sizeOf(name string) (size, bool) {
	list := sizes()
	if s, ok := list[name]; ok {
		return s, true
	}
	for k, s := range list {
		if strings.EqualFold(k, name) {
			return s, true
		}
	}
	return size{}, false
}

const maxNodes = 100 // of a cluster on one machine

var (
	labelKey = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$`)
	})
	labelValue = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?$`)
	})
	taintShape = regexp.MustCompile(`^([^=:]+)(?:=([^=:]*))?:(NoSchedule|PreferNoSchedule|NoExecute)$`)
)

// checkMachines judges what of a pool becomes nodes.
func checkMachines(at string, p Pool) error {
	if _, ok := sizeOf(text(p, "vmSize")); !ok {
		few := slices.DeleteFunc(slices.Sorted(maps.Keys(sizes())), func(s string) bool {
			return !strings.Contains("Standard_B2s Standard_B2ms Standard_B4ms Standard_D2s_v3 Standard_D4s_v3 Standard_DS2_v2 Standard_DS3_v2 Standard_D2s_v5 Standard_D4s_v5 Standard_D8s_v5 Standard_E2s_v5 Standard_F2s_v2", s)
		})
		return apierr.New(apierr.BadRequest, "VMSizeNotSupported",
			"The size '%s' is not known here. Among those that are: %s, and the others of the families B, D, DS, E and F.", text(p, "vmSize"), strings.Join(few, ", ")).WithTarget(at + "vmSize")
	}
	if n := number(p["count"]); n > maxNodes {
		return invalid(at+"count", "%d nodes are more than the %d that a cluster can have on one machine", n, maxNodes)
	}
	if text(p, "mode") == system && number(p["count"]) == 0 {
		return invalid(at+"count", "a system pool has one node or more: the cluster's own pods run there")
	}
	if n := number(p["maxPods"]); n != 0 && n < 10 {
		return invalid(at+"maxPods", "'%d' is no whole number from 10 to 250", n)
	}
	for k, v := range stringMap(p["nodeLabels"]) {
		prefix, _, _ := strings.Cut(k, "/")
		switch {
		case !labelKey().MatchString(k) || !labelValue().MatchString(v):
			return invalid(at+"nodeLabels", "'%s=%s' is no label of Kubernetes", k, v)
		case strings.Contains(k, "/") && (prefix == "kubernetes.io" || strings.HasSuffix(prefix, ".kubernetes.io") || prefix == "k8s.io" || strings.HasSuffix(prefix, ".k8s.io") || prefix == "kubernetes.azure.com"):
			return invalid(at+"nodeLabels", "the label '%s' is for Kubernetes and AKS alone to give", k)
		}
	}
	for _, t := range texts(p["nodeTaints"]) {
		if m := taintShape.FindStringSubmatch(t); m == nil || !labelKey().MatchString(m[1]) || !labelValue().MatchString(m[2]) {
			return invalid(at+"nodeTaints", "'%s' is not KEY=VALUE:EFFECT with NoSchedule, PreferNoSchedule or NoExecute", t)
		}
	}
	return nil
}

// number is a whole number in decoded JSON, 0 where there is none.
func number(v any) int {
	switch v := v.(type) {
	case int:
		return v
	case float64:
		return int(v)
	case json.Number:
		n, err := v.Int64()
		if err != nil {
			return 0
		}
		return int(n)
	}
	return 0
}

func stringMap(v any) map[string]string {
	out := map[string]string{}
	m, _ := v.(map[string]any)
	for k, x := range m {
		s, _ := x.(string)
		out[k] = s
	}
	return out
}

func texts(v any) []string {
	var out []string
	list, _ := v.([]any)
	for _, x := range list {
		s, _ := x.(string)
		out = append(out, s)
	}
	return out
}

// check judges the network of a cluster that really has one.
func (n *Network) check() error {
	const at = "properties.networkProfile."
	if n == nil {
		return nil
	}
	switch {
	case oneOf(n.NetworkPlugin, "none"):
		return invalid(at+"networkPlugin", "without a plugin no pod would get an address; leave it out")
	case !oneOf(n.NetworkPolicy, "", "none", "azure", "calico", "cilium"):
		return invalid(at+"networkPolicy", "'%s' is none of none, azure, calico, cilium", n.NetworkPolicy)
	case len(n.IPFamilies) > 1 || len(n.IPFamilies) == 1 && !oneOf(n.IPFamilies[0], "IPv4"):
		return invalid(at+"ipFamilies", "the clusters of this driver speak IPv4")
	case len(n.PodCIDRs) > 1 || len(n.ServiceCIDRs) > 1:
		return invalid(at+"podCidrs", "one range is taken")
	}
	pods, err := privateRange(at+"podCidr", n.PodCIDR, 9, 20)
	if err != nil {
		return err
	}
	services, err := privateRange(at+"serviceCidr", n.ServiceCIDR, 12, 24)
	if err != nil {
		return err
	}
	if pods.Overlaps(services) {
		return invalid(at+"serviceCidr", "'%s' overlaps the pods' '%s'", services, pods)
	}
	dns, err := netip.ParseAddr(n.DNSServiceIP)
	if err != nil || !services.Contains(dns) || dns == services.Addr() || dns == services.Addr().Next() {
		return invalid(at+"dnsServiceIP", "'%s' is no address of '%s' but the first one", n.DNSServiceIP, services)
	}
	return nil
}

func privateRange(target, s string, least, most int) (netip.Prefix, error) {
	r, err := netip.ParsePrefix(s)
	if err != nil || !r.Addr().Is4() || r.Masked() != r || r.Bits() < least || r.Bits() > most {
		return r, invalid(target, "'%s' is no range of IPv4 addresses of /%d to /%d", s, least, most)
	}
	for _, taken := range []string{"0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "198.18.0.0/15", "224.0.0.0/3"} {
		if netip.MustParsePrefix(taken).Overlaps(r) {
			return r, invalid(target, "'%s' overlaps '%s', which is not for clusters", s, taken)
		}
	}
	return r, nil
}

// sameNetwork refuses to move a cluster's addresses.
func sameNetwork(old, next *Network) error {
	if old == nil || next == nil {
		return nil
	}
	for _, f := range []struct{ path, old, next string }{
		{"podCidr", old.PodCIDR, next.PodCIDR}, {"serviceCidr", old.ServiceCIDR, next.ServiceCIDR}, {"dnsServiceIP", old.DNSServiceIP, next.DNSServiceIP},
	} {
		if f.old != f.next {
			return notAllowed("properties.networkProfile."+f.path, f.old, f.next)
		}
	}
	return nil
}
