package wire

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"

	"lazurite.dev/internal/node"
	"lazurite.dev/internal/node/box"
)

// A virtual network is a namespace with no link to the host. What it offers
// (resolver, front door, private endpoints, way out) are sockets that the
// server holds in it. Each program inside has a namespace of its own and a link
// to this one, so nobody can take another's address, and every packet between
// two members passes these rules:
//
//	lo         the platform's address, routers of subnets, endpoints
//	mN         to a member; its one address is routed there
//	pXXXXXXXX  to a network that this one is joined with
const ownLink = "lo"

// SpaceName is the name of the namespaces of the network with the uid.
func SpaceName(uid string) string { return "v" + shortHash(uid) }

func shortHash(uid string) string {
	sum := sha256.Sum256([]byte(uid))
	return hex.EncodeToString(sum[:4])
}

// MemberSpace is the name of the namespace of a member.
func MemberSpace(uid string, slot int) string { return fmt.Sprintf("%s-m%d", SpaceName(uid), slot) }

func memberLink(slot int) string { return fmt.Sprintf("m%d", slot) }
func peerLink(uid string) string { return "p" + shortHash(uid) }

// Seat is a member's place.
type Seat struct {
	Address netip.Addr
	Closed  bool // it does not leave to the internet
}

// Virtual is the wiring of one virtual network.
type Virtual struct {
	space *box.Space

	mu    sync.Mutex // guards what follows, and makes changes one at a time
	spec  node.Network
	seats map[int]Seat
	peers map[string][]netip.Prefix // that are joined, by uid
}

// NewVirtual is the network whose namespace is space; Up makes it.
func NewVirtual(space *box.Space) *Virtual {
	return &Virtual{space: space, seats: map[int]Seat{}, peers: map[string][]netip.Prefix{}}
}

// router is the first address of a network, which is nobody's.
func router(space []netip.Prefix) netip.Addr { return space[0].Addr().Next() }

// Up makes the network as spec says: rules before anything that they keep apart.
func (v *Virtual) Up(ctx context.Context, spec node.Network) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.spec = spec
	err := v.space.Do(func() error {
		if err := sysctls(); err != nil {
			return err
		}
		return loopback()
	})
	if err == nil {
		err = v.rules(ctx)
	}
	if err == nil {
		err = v.space.Do(func() error { return errors.Join(v.addresses(), closed()) })
	}
	if err != nil {
		return fmt.Errorf("setting up the virtual network: %w", err)
	}
	return nil
}

// addresses gives the network its own, and takes those away that it has no more.
func (v *Virtual) addresses() error {
	link, err := netlink.LinkByName(ownLink)
	if err != nil {
		return err
	}
	want := map[netip.Addr]bool{node.Platform(): true, router(v.spec.Space): true}
	for _, s := range v.spec.Subnets {
		for _, r := range s.Ranges {
			want[r.Addr().Next()] = true
		}
	}
	for _, a := range v.spec.Endpoints {
		want[a] = true
	}
	have, err := box.Listed(func() ([]netlink.Addr, error) { return netlink.AddrList(link, netlink.FAMILY_V4) })
	if err != nil {
		return err
	}
	for _, h := range have {
		a, _ := netip.AddrFromSlice(h.IP.To4())
		if want[a] || a.IsLoopback() {
			delete(want, a)
			continue
		}
		if err := netlink.AddrDel(link, &h); err != nil {
			return fmt.Errorf("taking address %s away: %w", a, err)
		}
	}
	for a := range want {
		if err := address(link, netip.PrefixFrom(a, 32)); err != nil {
			return fmt.Errorf("giving address %s: %w", a, err)
		}
	}
	return nil
}

// Whole reports whether the network's own addresses are there.
func (v *Virtual) Whole() bool {
	whole := false
	err := v.space.Do(func() error {
		link, err := netlink.LinkByName(ownLink)
		if err != nil {
			return err
		}
		list, err := box.Listed(func() ([]netlink.Addr, error) { return netlink.AddrList(link, netlink.FAMILY_V4) })
		whole = link.Attrs().Flags&net.FlagUp != 0 && slices.ContainsFunc(list, func(a netlink.Addr) bool { return a.IP.String() == node.Platform().String() })
		return err
	})
	return err == nil && whole
}

func (v *Virtual) rules(ctx context.Context) error {
	_, err := v.space.Output(ctx, strings.NewReader(virtualRules(v.spec, v.seats, v.peers)), nft, "-f", "-")
	if err != nil {
		return fmt.Errorf("setting the network's rules: %w", err)
	}
	return nil
}

// Sit links a member, whose namespace is leaf, in a slot.
func (v *Virtual) Sit(ctx context.Context, slot int, seat Seat, leaf *box.Space) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	gateway, ok := v.gateway(seat.Address)
	if !ok {
		return fmt.Errorf("%w: %s is in no subnet of the network", node.ErrInvalid, seat.Address)
	}
	err := leaf.Do(func() error {
		if err := sysctls(); err != nil {
			return err
		}
		return loopback()
	})
	if err != nil {
		return err
	}
	v.seats[slot] = seat
	if err := v.rules(ctx); err != nil {
		return err
	}
	err = v.space.Do(func() error {
		link, err := netlink.LinkByName(memberLink(slot))
		if errors.As(err, new(netlink.LinkNotFoundError)) {
			link, err = pair(memberLink(slot), uplink, leaf)
		}
		if err != nil {
			return err
		}
		if err := address(link, netip.PrefixFrom(gateway, 32)); err != nil { // what it answers ARP with
			return err
		}
		if err := netlink.LinkSetUp(link); err != nil {
			return err
		}
		return route(link, netip.PrefixFrom(seat.Address, 32), netip.Addr{}, gateway)
	})
	if err != nil {
		return err
	}
	return leaf.Do(func() error {
		link, err := netlink.LinkByName(uplink)
		if err != nil {
			return err
		}
		if err := address(link, netip.PrefixFrom(seat.Address, 32)); err != nil {
			return err
		}
		if err := netlink.LinkSetUp(link); err != nil {
			return err
		}
		if err := route(link, netip.PrefixFrom(gateway, 32), netip.Addr{}, seat.Address); err != nil {
			return err
		}
		return route(link, netip.MustParsePrefix("0.0.0.0/0"), gateway, seat.Address)
	})
}

// gateway is the router of the subnet that has the address.
func (v *Virtual) gateway(a netip.Addr) (netip.Addr, bool) {
	for _, s := range v.spec.Subnets {
		for _, r := range s.Ranges {
			if r.Contains(a) {
				return r.Addr().Next(), true
			}
		}
	}
	return netip.Addr{}, false
}

// Knows tells of a member that an agent before has linked; ok is false where
// its link is gone.
func (v *Virtual) Knows(slot int, leaf *box.Space) (a netip.Addr, ok bool) {
	err := leaf.Do(func() error {
		link, err := netlink.LinkByName(uplink)
		if err != nil {
			return err
		}
		list, err := box.Listed(func() ([]netlink.Addr, error) { return netlink.AddrList(link, netlink.FAMILY_V4) })
		if err == nil && len(list) == 1 {
			a, ok = netip.AddrFromSlice(list[0].IP.To4())
		}
		return err
	})
	if err != nil || !ok {
		return a, false
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.seats[slot] = Seat{Address: a}
	return a, true
}

// Reseat says which members leave to the internet.
func (v *Virtual) Reseat(closed func(netip.Addr) bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for slot, s := range v.seats {
		v.seats[slot] = Seat{s.Address, closed(s.Address)}
	}
}

// Leave takes a member's link away. Gone already is no error.
func (v *Virtual) Leave(ctx context.Context, slot int) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.seats, slot)
	err := v.space.Do(func() error { return dropLink(memberLink(slot)) })
	return errors.Join(err, v.rules(ctx))
}

func dropLink(name string) error {
	link, err := netlink.LinkByName(name)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil
	}
	if err == nil {
		err = netlink.LinkDel(link)
	}
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil
	}
	return err
}

// Peer joins two networks, or repairs that: each with the other's rules first.
func Peer(ctx context.Context, a, b *Virtual) error {
	if err := errors.Join(a.let(ctx, b), b.let(ctx, a)); err != nil {
		return err
	}
	to, back := peerLink(b.spec.UID), peerLink(a.spec.UID)
	err := a.space.Do(func() error {
		_, err := netlink.LinkByName(to)
		if errors.As(err, new(netlink.LinkNotFoundError)) {
			_, err = pair(to, back, b.space)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("joining networks: %w", err)
	}
	return errors.Join(a.lead(to, b), b.lead(back, a))
}

// let sets the rules for what comes from and goes to another network.
func (v *Virtual) let(ctx context.Context, other *Virtual) error {
	other.mu.Lock()
	uid, space := other.spec.UID, slices.Clone(other.spec.Space)
	other.mu.Unlock()
	v.mu.Lock()
	defer v.mu.Unlock()
	if slices.Equal(v.peers[uid], space) {
		return nil
	}
	v.peers[uid] = space
	return v.rules(ctx)
}

// lead routes what is for another network over the link.
func (v *Virtual) lead(name string, other *Virtual) error {
	mine, theirs := router(v.spec.Space), router(other.spec.Space)
	return v.space.Do(func() error {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		if err := address(link, netip.PrefixFrom(mine, 32)); err != nil {
			return err
		}
		if err := netlink.LinkSetUp(link); err != nil {
			return err
		}
		if err := route(link, netip.PrefixFrom(theirs, 32), netip.Addr{}, mine); err != nil {
			return err
		}
		want := map[netip.Prefix]bool{netip.PrefixFrom(theirs, 32): true}
		for _, r := range other.spec.Space {
			want[r] = true
			if err := route(link, r, theirs, mine); err != nil {
				return err
			}
		}
		return dropRoutes(link, want)
	})
}

// dropRoutes takes the routes over the link away that are not wanted any more.
func dropRoutes(link netlink.Link, want map[netip.Prefix]bool) error {
	list, err := box.Listed(func() ([]netlink.Route, error) { return netlink.RouteList(link, netlink.FAMILY_V4) })
	if err != nil {
		return err
	}
	for _, r := range list {
		if r.Dst == nil {
			continue
		}
		a, ok := netip.AddrFromSlice(r.Dst.IP.To4())
		ones, _ := r.Dst.Mask.Size()
		if ok && !want[netip.PrefixFrom(a, ones)] {
			if err := netlink.RouteDel(&r); err != nil {
				return err
			}
		}
	}
	return nil
}

// Part parts the network from all but the networks in keep, by uid: the rules first.
func (v *Virtual) Part(ctx context.Context, keep map[string]bool) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	links, changed := map[string]bool{}, false
	for uid := range v.peers {
		if !keep[uid] {
			delete(v.peers, uid)
			changed = true
			continue
		}
		links[peerLink(uid)] = true
	}
	if changed {
		if err := v.rules(ctx); err != nil {
			return err
		}
	}
	return v.space.Do(func() error {
		all, err := box.Listed(netlink.LinkList)
		if err != nil {
			return err
		}
		var errs []error
		for _, l := range all {
			if name := l.Attrs().Name; strings.HasPrefix(name, "p") && !links[name] {
				errs = append(errs, dropLink(name))
			}
		}
		return errors.Join(errs...)
	})
}

// Joined are the uids of the networks that this one is joined with.
func (v *Virtual) Joined() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	var out []string
	for uid := range v.peers {
		out = append(out, uid)
	}
	slices.Sort(out)
	return out
}

// Listen opens a socket in the network.
func (v *Virtual) Listen(protocol string, at netip.AddrPort) (f *os.File, err error) {
	v.mu.Lock()
	platform := at.Addr() == node.Platform()
	known := platform || slices.Contains(v.spec.Endpoints, at.Addr())
	v.mu.Unlock()
	if !known || !node.NetworkPort(protocol, int(at.Port()), platform) {
		return nil, fmt.Errorf("%w: no one listens on %s %s", node.ErrInvalid, protocol, at)
	}
	err = v.space.Do(func() error {
		f, err = socket(protocol, at)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listening in the virtual network: %w", err)
	}
	return f, nil
}

// socket opens one in the namespace of the calling thread.
func socket(protocol string, at netip.AddrPort) (f *os.File, err error) {
	if protocol == "udp" {
		c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at))
		if err != nil {
			return nil, err
		}
		f, err = c.File()
		return f, errors.Join(err, c.Close())
	}
	l, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(at))
	if err != nil {
		return nil, err
	}
	f, err = l.File()
	return f, errors.Join(err, l.Close())
}

// Dropped counts the packets that were refused since the rules were last set.
func (v *Virtual) Dropped(ctx context.Context) map[string]uint64 {
	raw, err := v.space.Output(ctx, nil, nft, "-j", "list", "counters", "table", "inet", "lazurite")
	if err != nil {
		return nil
	}
	var all struct {
		Objects []struct {
			Counter *struct {
				Name    string `json:"name"`
				Packets uint64 `json:"packets"`
			} `json:"counter"`
		} `json:"nftables"`
	}
	if json.Unmarshal(raw, &all) != nil {
		return nil
	}
	out := map[string]uint64{}
	for _, o := range all.Objects {
		if o.Counter != nil {
			out[o.Counter.Name] = o.Counter.Packets
		}
	}
	return out
}
