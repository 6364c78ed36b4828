package wire

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"lazurite.dev/internal/node"
	"lazurite.dev/internal/node/box"
)

// The names of links inside the namespaces.
const (
	hostLink = "host" // in the cluster's: to the host
	uplink   = "eth0" // in a node's: to the cluster's
)

// nft is the program that sets rules; kube-proxy needs it too.
const nft = "/usr/sbin/nft"

// Available reports what this machine lacks for clusters' networks.
func Available() error {
	if _, err := os.Stat(nft); err != nil {
		return fmt.Errorf("the program nft is not there (Debian: apt-get install nftables): %w", err)
	}
	return nil
}

// Network is the network of one cluster.
type Network struct {
	Layout
	root  box.Root
	space *box.Space

	mu    sync.Mutex   // guards what follows, and makes changes one at a time
	slots map[int]bool // of nodes that are linked; true: they take connections to load balancers

	noLocal bool // no load balancer has nodes of its own, as far as routes say
}

// New is the network of the cluster that has space; Up makes it.
func New(root box.Root, space *box.Space, l Layout) *Network {
	return &Network{Layout: l, root: root, space: space, slots: map[int]bool{}}
}

// hostEnd is the host's end of the link to the cluster.
func hostEnd(root box.Root, index int) string { return fmt.Sprintf("%s%d", root.LinkPrefix(), index) }

// Up makes the link to the host, addresses, routes and rules, or what of them
// is missing.
func (n *Network) Up(ctx context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	err := n.space.Do(func() error {
		if err := sysctls(); err != nil {
			return err
		}
		return loopback()
	})
	if err != nil {
		return fmt.Errorf("setting up the cluster's network: %w", err)
	}
	// Rules first: with a link and without rules, for a moment everything would be open.
	if err := n.rules(ctx); err != nil {
		return err
	}
	if err := n.hostSide(); err != nil {
		return fmt.Errorf("linking the cluster with the host: %w", err)
	}
	return nil
}

// Isolate says whether pods reach anything but the front door, the resolver and
// the gate; it counts with the next Up and AddNode.
func (n *Network) Isolate(on bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.Isolated = on
}

func (n *Network) hostSide() error {
	name := hostEnd(n.root, n.Index)
	link, err := netlink.LinkByName(name)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		link, err = pair(name, hostLink, n.space)
	}
	if err != nil {
		return err
	}
	host, cluster := n.Host(), n.Cluster()
	err = n.space.Do(func() error {
		l, err := netlink.LinkByName(hostLink)
		if err != nil {
			return err
		}
		if err := address(l, netip.PrefixFrom(cluster, 32)); err != nil {
			return err
		}
		if err := netlink.LinkSetUp(l); err != nil {
			return err
		}
		return errors.Join(route(l, netip.PrefixFrom(host, 32), netip.Addr{}, cluster), closed())
	})
	if err != nil {
		return err
	}
	if err := address(link, netip.PrefixFrom(host, 32)); err != nil {
		return err
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return err
	}
	if err := route(link, netip.PrefixFrom(cluster, 32), netip.Addr{}, host); err != nil {
		return err
	}
	return route(link, n.Layout.Network(), cluster, host)
}

// Know tells of a node in a slot that may be linked already, by an agent
// before: so that Up does not shut it out until AddNode comes.
func (n *Network) Know(slot int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.slots[slot] = true
}

// Whole reports whether all links are there and up.
func (n *Network) Whole() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	up := func(name string) bool {
		l, err := netlink.LinkByName(name)
		return err == nil && l.Attrs().Flags&net.FlagUp != 0 && l.Attrs().OperState != netlink.OperDown
	}
	whole := up(hostEnd(n.root, n.Index))
	err := n.space.Do(func() error {
		for slot := range n.slots {
			whole = whole && up(nodeLink(slot))
		}
		return nil
	})
	return err == nil && whole
}

// Has reports whether the root's agent has a link with the index on the host,
// with an address of the base range.
func Has(root box.Root, base netip.Prefix, index int) bool {
	link, err := netlink.LinkByName(hostEnd(root, index))
	if err != nil {
		return false
	}
	addrs, err := box.Listed(func() ([]netlink.Addr, error) { return netlink.AddrList(link, netlink.FAMILY_V4) })
	return err == nil && len(addrs) == 1 && addrs[0].IP.String() == Layout{Base: base, Index: index}.Host().String()
}

// AddNode links the node in a slot, whose namespaces are space, and gives it
// its address, routes and rules. Connections to load balancers go to it too.
func (n *Network) AddNode(ctx context.Context, slot int, space *box.Space) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.slots[slot] = true
	err := space.Do(func() error {
		if err := sysctls(); err != nil {
			return err
		}
		return loopback()
	})
	if err == nil {
		_, err = space.Output(ctx, strings.NewReader(nodeRules(n.Layout, slot)), nft, "-f", "-")
	}
	if err == nil {
		err = n.rules(ctx)
	}
	if err == nil {
		err = n.nodeSide(slot, space)
	}
	if err == nil {
		err = n.balance()
	}
	if err != nil {
		return fmt.Errorf("linking a node with the cluster: %w", err)
	}
	return nil
}

func (n *Network) nodeSide(slot int, space *box.Space) error {
	addr, cluster, pods, name := n.Node(slot), n.Cluster(), n.PodCIDR(slot), nodeLink(slot)
	err := n.space.Do(func() error {
		link, err := netlink.LinkByName(name)
		if errors.As(err, new(netlink.LinkNotFoundError)) {
			link, err = pair(name, uplink, space)
		}
		if err != nil {
			return err
		}
		if err := netlink.LinkSetUp(link); err != nil {
			return err
		}
		if err := route(link, netip.PrefixFrom(addr, 32), netip.Addr{}, cluster); err != nil {
			return err
		}
		return route(link, pods, addr, cluster)
	})
	if err != nil {
		return err
	}
	return space.Do(func() error {
		link, err := netlink.LinkByName(uplink)
		if err != nil {
			return err
		}
		if err := address(link, netip.PrefixFrom(addr, 32)); err != nil {
			return err
		}
		if err := netlink.LinkSetUp(link); err != nil {
			return err
		}
		if err := route(link, netip.PrefixFrom(cluster, 32), netip.Addr{}, addr); err != nil {
			return err
		}
		return route(link, netip.MustParsePrefix("0.0.0.0/0"), cluster, addr)
	})
}

// RemoveNode takes the node's link and routes away. Gone already is no error.
func (n *Network) RemoveNode(ctx context.Context, slot int) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.slots, slot)
	err := n.balance() // before the link goes, with which the kernel would drop the whole route
	if err == nil {
		err = n.space.Do(func() error { return box.RemoveLink(nodeLink(slot)) })
	}
	if err == nil {
		err = n.rules(ctx)
	}
	if err != nil {
		return fmt.Errorf("unlinking a node: %w", err)
	}
	return nil
}

// Balance says whether connections to load balancers go to the node in a slot.
func (n *Network) Balance(slot int, takes bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if was, ok := n.slots[slot]; !ok || was == takes {
		return nil
	}
	n.slots[slot] = takes
	return n.balance()
}

// balance routes the addresses of load balancers to all nodes that take them.
func (n *Network) balance() error {
	takes := slices.DeleteFunc(n.sorted(), func(slot int) bool { return !n.slots[slot] })
	return n.space.Do(func() error { return n.routeTo(n.LoadBalancers(), takes) })
}

func (n *Network) sorted() []int {
	var slots []int
	for s := range n.slots {
		slots = append(slots, s)
	}
	slices.Sort(slots)
	return slots
}

func (n *Network) rules(ctx context.Context) error {
	_, err := n.space.Output(ctx, strings.NewReader(clusterRules(n.Layout, n.sorted())), nft, "-f", "-")
	if err != nil {
		return fmt.Errorf("setting the cluster's rules: %w", err)
	}
	return nil
}

// Down takes the link and route off the host. What is in the namespaces goes
// with them.
func (n *Network) Down() error {
	if err := box.RemoveLink(hostEnd(n.root, n.Index)); err != nil {
		return fmt.Errorf("taking the cluster off the host: %w", err)
	}
	return nil
}

// Listen opens a socket at the cluster's address in its namespace.
func (n *Network) Listen(network string, port int) (f *os.File, err error) {
	if !node.ListenPort(network, port) {
		return nil, fmt.Errorf("%w: no one listens on %s port %d", node.ErrInvalid, network, port)
	}
	at := netip.AddrPortFrom(n.Cluster(), uint16(port))
	err = n.space.Do(func() error {
		if network == "udp" {
			c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at))
			if err != nil {
				return err
			}
			f, err = c.File()
			return errors.Join(err, c.Close())
		}
		l, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(at))
		if err != nil {
			return err
		}
		f, err = l.File()
		return errors.Join(err, l.Close())
	})
	if err != nil {
		return nil, fmt.Errorf("listening in the cluster's network: %w", err)
	}
	return f, nil
}

// FreeIndex is one whose range nobody on this machine uses, the first from
// wish on for which taken is false.
func FreeIndex(base netip.Prefix, wish int, taken func(int) bool) (int, error) {
	routes, err := box.Listed(func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return 0, fmt.Errorf("listing routes: %w", err)
	}
	var used []netip.Prefix
	for _, r := range routes {
		if r.Dst == nil {
			continue
		}
		a, ok := netip.AddrFromSlice(r.Dst.IP.To4())
		ones, _ := r.Dst.Mask.Size()
		if ok && ones > 0 {
			used = append(used, netip.PrefixFrom(a, ones))
		}
	}
	count := Indexes(base)
	for i := range count {
		index := (wish + i) % count
		r := Layout{Base: base, Index: index}.Network()
		if !taken(index) && !slices.ContainsFunc(used, r.Overlaps) {
			return index, nil
		}
	}
	return 0, fmt.Errorf("all of %s is in use on this machine: give clusters another range", base)
}

// Free reports whether no route of this machine goes to the index's range.
func Free(base netip.Prefix, index int) bool {
	got, err := FreeIndex(base, index, func(i int) bool { return i != index })
	return err == nil && got == index
}

// sysctls of the namespace of the calling thread.
func sysctls() error {
	for _, s := range [][2]string{
		{"net/ipv4/ip_forward", "1"},
		{"net/ipv4/conf/all/rp_filter", "1"}, {"net/ipv4/conf/default/rp_filter", "1"},
		{"net/ipv4/conf/all/send_redirects", "0"}, {"net/ipv4/conf/default/send_redirects", "0"},
		{"net/ipv4/conf/all/accept_redirects", "0"}, {"net/ipv4/conf/default/accept_redirects", "0"},
		{"net/ipv4/conf/all/accept_source_route", "0"}, {"net/ipv4/conf/default/accept_source_route", "0"},
		{"net/ipv4/fib_multipath_hash_policy", "1"}, // by connection, not by address alone
		{"net/ipv6/conf/all/disable_ipv6", "1"}, {"net/ipv6/conf/default/disable_ipv6", "1"},
	} {
		err := os.WriteFile(filepath.Join("/proc/sys", s[0]), []byte(s[1]), 0)
		if errors.Is(err, os.ErrNotExist) {
			continue // a kernel without it: IPv6, multipath
		}
		if err != nil {
			return fmt.Errorf("setting %s: %w", s[0], err)
		}
	}
	return nil
}

func loopback() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(lo)
}

// pair makes two linked ends: name here, peer in the space.
func pair(name, peer string, space *box.Space) (netlink.Link, error) {
	ns, err := os.Open(space.NetPath())
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: peer, PeerNamespace: netlink.NsFd(ns.Fd())}
	if err := netlink.LinkAdd(veth); err != nil {
		return nil, fmt.Errorf("making link %s: %w", name, err)
	}
	return netlink.LinkByName(name)
}

func address(l netlink.Link, p netip.Prefix) error {
	return netlink.AddrReplace(l, &netlink.Addr{IPNet: ipnet(p), Scope: unix.RT_SCOPE_UNIVERSE})
}

// route leads dst to the link, through gw when it is valid, with source src.
func route(l netlink.Link, dst netip.Prefix, gw, src netip.Addr) error {
	r := &netlink.Route{LinkIndex: l.Attrs().Index, Dst: ipnet(dst), Src: src.AsSlice(), Scope: unix.RT_SCOPE_LINK}
	if gw.IsValid() {
		r.Gw, r.Scope = gw.AsSlice(), unix.RT_SCOPE_UNIVERSE
		r.SetFlag(netlink.FLAG_ONLINK)
	}
	if err := netlink.RouteReplace(r); err != nil {
		return fmt.Errorf("routing %s: %w", dst, err)
	}
	return nil
}

// closed makes what has no route an error at once.
func closed() error {
	return netlink.RouteReplace(&netlink.Route{Dst: ipnet(netip.MustParsePrefix("0.0.0.0/0")), Type: unix.RTN_PROHIBIT})
}

func ipnet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), 32)}
}

// Forget takes links off the host that belong to no cluster any more: those
// with an index for which known is false.
func Forget(root box.Root, known func(index int) bool) error {
	links, err := box.Listed(netlink.LinkList)
	if err != nil {
		return fmt.Errorf("listing links: %w", err)
	}
	var errs []error
	for _, l := range links {
		rest, ours := strings.CutPrefix(l.Attrs().Name, root.LinkPrefix())
		index, err := strconv.Atoi(rest)
		if !ours || err == nil && known(index) {
			continue
		}
		errs = append(errs, box.RemoveLink(l.Attrs().Name))
	}
	return errors.Join(errs...)
}
