package wire

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// BalanceLocal routes single addresses of load balancers to some nodes alone,
// given by their slots: those of services that keep their clients' addresses
// (externalTrafficPolicy: Local), for which other nodes don't answer. An address
// without nodes is unreachable. The others go where Balance says.
func (n *Network) BalanceLocal(want map[netip.Addr][]int) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(want) == 0 && n.noLocal {
		return nil
	}
	err := n.space.Do(func() error {
		routes, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
		if err != nil {
			return err
		}
		for _, r := range routes {
			if r.Dst == nil {
				continue
			}
			a, ok := netip.AddrFromSlice(r.Dst.IP.To4())
			if ones, _ := r.Dst.Mask.Size(); !ok || ones != 32 || !n.LoadBalancers().Contains(a) {
				continue
			}
			if _, wanted := want[a]; !wanted {
				if err := netlink.RouteDel(&r); err != nil && !errors.Is(err, unix.ESRCH) {
					return err
				}
			}
		}
		for a, slots := range want {
			if err := n.routeTo(netip.PrefixFrom(a, 32), slots); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("routing load balancers to nodes of their own: %w", err)
	}
	n.noLocal = len(want) == 0
	return nil
}

// routeTo spreads addresses over the nodes in slots, as far as they are linked;
// the caller is in the cluster's namespace.
func (n *Network) routeTo(to netip.Prefix, slots []int) error {
	r := &netlink.Route{Dst: ipnet(to), Src: n.Cluster().AsSlice()}
	for _, slot := range slots {
		link, err := netlink.LinkByName(nodeLink(slot))
		if errors.As(err, new(netlink.LinkNotFoundError)) {
			continue // known, and not linked again yet
		}
		if err != nil {
			return err
		}
		r.MultiPath = append(r.MultiPath, &netlink.NexthopInfo{LinkIndex: link.Attrs().Index, Gw: n.Node(slot).AsSlice(), Flags: int(netlink.FLAG_ONLINK)})
	}
	if len(r.MultiPath) == 0 {
		r = &netlink.Route{Dst: ipnet(to), Type: unix.RTN_UNREACHABLE}
	}
	return netlink.RouteReplace(r)
}
