package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"lazurite.dev/internal/durable"
	"lazurite.dev/internal/node"
	"lazurite.dev/internal/node/box"
	"lazurite.dev/internal/node/wire"
)

// virtuals are the virtual networks of one state folder. They change one at a
// time: two that are joined change together.
type virtuals struct {
	m    *machine
	turn chan struct{} // taken by who changes a network

	mu  sync.Mutex // guards what follows
	all map[string]*virtual
}

// virtual is one network that should be there.
type virtual struct {
	uid, dir string

	// What follows belongs to whoever has the turn, or the lock of virtuals for
	// what is only looked at.
	spec     node.Network
	removing bool
	space    *box.Space // nil while the network is not on the machine
	wire     *wire.Virtual
	members  map[int]*seat
	err      error
}

type seat struct {
	node.Member
	space *box.Space
	held  bool // by a client of this agent
}

const networkFile = "network.json"

// networkRecord is what is kept of a network, in its folder.
type networkRecord struct {
	Spec     node.Network
	Removing bool `json:",omitempty"`
}

func newVirtuals(m *machine) *virtuals {
	return &virtuals{m: m, turn: make(chan struct{}, 1), all: map[string]*virtual{}}
}

func (s *virtuals) folder() string { return filepath.Join(s.m.root.State, "networks") }

func (s *virtuals) take(ctx context.Context) (give func(), err error) {
	select {
	case s.turn <- struct{}{}:
		return func() { <-s.turn }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// load reads what networks should be.
func (s *virtuals) load() error {
	entries, err := os.ReadDir(s.folder())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("reading what networks there are: %w", err)
	}
	for _, e := range entries {
		dir := filepath.Join(s.folder(), e.Name())
		var r networkRecord
		raw, err := os.ReadFile(filepath.Join(dir, networkFile))
		if err == nil {
			err = json.Unmarshal(raw, &r)
		}
		if err == nil {
			err = r.Spec.Validate()
		}
		if err == nil && r.Spec.UID != e.Name() {
			err = fmt.Errorf("it is of %q", r.Spec.UID)
		}
		if err != nil { // the server asks for it again
			s.m.log.Error("a network's record can't be read", slog.String("uid", e.Name()), slog.String("error", err.Error()))
			_ = os.RemoveAll(dir) // so it is none
			continue
		}
		s.all[r.Spec.UID] = &virtual{uid: r.Spec.UID, dir: dir, spec: r.Spec, removing: r.Removing, members: map[int]*seat{}}
	}
	return nil
}

// names are those of the namespaces of networks that should be there.
func (s *virtuals) names() map[string]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]bool{}
	for uid, v := range s.all {
		if !v.removing {
			out[wire.SpaceName(uid)] = true
		}
	}
	return out
}

func (s *virtuals) sorted() []*virtual {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*virtual
	for _, v := range s.all {
		out = append(out, v)
	}
	slices.SortFunc(out, func(a, b *virtual) int { return strings.Compare(a.uid, b.uid) })
	return out
}

// find gives a network; ErrNotFound where there is none.
func (s *virtuals) find(uid string) (*virtual, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.all[uid]
	if v == nil {
		return nil, fmt.Errorf("%w: no virtual network %q", node.ErrNotFound, uid)
	}
	return v, nil
}

// ending reports whether the machine stops.
func (s *virtuals) ending() bool {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	return s.m.ending
}

// apply makes a network as spec says.
func (s *virtuals) apply(ctx context.Context, spec node.Network) error {
	give, err := s.take(ctx)
	if err != nil {
		return err
	}
	defer give()
	if s.ending() {
		return fmt.Errorf("%w: the node agent is stopping", node.ErrUnavailable)
	}
	if err := wire.Available(); err != nil {
		return fmt.Errorf("%w: %w", node.ErrUnavailable, err)
	}
	s.mu.Lock()
	v := s.all[spec.UID]
	if v == nil {
		v = &virtual{uid: spec.UID, dir: filepath.Join(s.folder(), spec.UID), members: map[int]*seat{}}
		s.all[spec.UID] = v
	}
	s.mu.Unlock()
	if v.removing {
		return fmt.Errorf("%w: the network is being removed", node.ErrNotFound)
	}
	if err := writeFile(v.dir, networkFile, networkRecord{Spec: spec}); err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx) // half of a change would be nobody's
	s.mu.Lock()
	v.spec = spec
	s.mu.Unlock()
	err = s.up(ctx, v)
	s.mu.Lock()
	v.err = err
	s.mu.Unlock()
	return err
}

// up brings a network about, with whatever of it is there; the caller has the turn.
func (s *virtuals) up(ctx context.Context, v *virtual) error {
	space, made, err := s.m.root.Space(s.m.starter, wire.SpaceName(v.uid), box.SpaceSpec{Hostname: wire.SpaceName(v.uid)})
	if err != nil {
		return err
	}
	if made || v.wire == nil {
		s.mu.Lock()
		v.space, v.wire = space, wire.NewVirtual(space)
		s.mu.Unlock()
		for slot, m := range v.members { // none after a start: adopt finds them
			if _, ok := v.wire.Knows(slot, m.space); made || !ok { // its link went with the network
				if err := s.unseat(ctx, v, slot, m.space); err != nil {
					return err
				}
			}
		}
	}
	if err := s.adopt(ctx, v); err != nil {
		return err
	}
	v.wire.Reseat(func(a netip.Addr) bool { return closedAt(v.spec, a) })
	keep := map[string]bool{}
	var peers []*virtual
	for _, p := range v.spec.Peers {
		if o, err := s.find(p.UID); err == nil && o.wire != nil && !o.removing && names(o.spec, v.uid) {
			keep[p.UID] = true
			peers = append(peers, o)
		}
	}
	if err := v.wire.Up(ctx, v.spec); err != nil {
		return err
	}
	errs := []error{v.wire.Part(ctx, keep)}
	for _, o := range s.sorted() {
		if o != v && o.wire != nil && !keep[o.uid] {
			errs = append(errs, o.wire.Part(ctx, without(o.wire.Joined(), v.uid)))
		}
	}
	for _, o := range peers {
		errs = append(errs, wire.Peer(ctx, v.wire, o.wire))
	}
	return errors.Join(errs...)
}

func names(n node.Network, peer string) bool {
	return slices.ContainsFunc(n.Peers, func(p node.Peer) bool { return p.UID == peer })
}

func without(list []string, uid string) map[string]bool {
	out := map[string]bool{}
	for _, l := range list {
		out[l] = l != uid
	}
	return out
}

func closedAt(n node.Network, a netip.Addr) bool {
	for _, s := range n.Subnets {
		for _, r := range s.Ranges {
			if r.Contains(a) {
				return s.Closed
			}
		}
	}
	return true // it is in no subnet any more
}

// adopt takes over the members that an agent before has left running, and
// takes those away that are empty.
func (s *virtuals) adopt(ctx context.Context, v *virtual) error {
	spaces, err := s.m.root.Spaces()
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range spaces {
		rest, ours := strings.CutPrefix(name, wire.SpaceName(v.uid)+"-m")
		slot, err := strconv.Atoi(rest)
		if !ours || err != nil {
			continue
		}
		m := v.members[slot]
		if m != nil && m.held {
			continue
		}
		leaf := s.m.root.FindSpace(s.m.starter, name)
		if leaf == nil {
			continue
		}
		if busy, err := leaf.Busy(); err == nil && busy {
			if m == nil {
				if a, ok := v.wire.Knows(slot, leaf); ok {
					s.mu.Lock()
					v.members[slot] = &seat{Member: node.Member{Address: a, Subnet: subnetOf(v.spec, a)}, space: leaf}
					s.mu.Unlock()
					continue
				}
			} else {
				continue
			}
		}
		errs = append(errs, s.unseat(ctx, v, slot, leaf))
	}
	return errors.Join(errs...)
}

func subnetOf(n node.Network, a netip.Addr) string {
	for _, s := range n.Subnets {
		for _, r := range s.Ranges {
			if r.Contains(a) {
				return s.Name
			}
		}
	}
	return ""
}

// unseat ends what runs in a member's place, and takes the place away.
func (s *virtuals) unseat(ctx context.Context, v *virtual, slot int, leaf *box.Space) error {
	err := leaf.Remove(ctx)
	s.mu.Lock()
	delete(v.members, slot)
	s.mu.Unlock()
	if v.wire != nil {
		err = errors.Join(err, v.wire.Leave(ctx, slot))
	}
	return err
}

// join makes a place for a program.
func (s *virtuals) join(ctx context.Context, uid, subnet string) (*virtual, int, *seat, error) {
	give, err := s.take(ctx)
	if err != nil {
		return nil, 0, nil, err
	}
	defer give()
	v, err := s.find(uid)
	if err != nil {
		return nil, 0, nil, err
	}
	if v.wire == nil || s.ending() {
		return nil, 0, nil, fmt.Errorf("%w: the virtual network is not on this machine now", node.ErrUnavailable)
	}
	m, err := v.choose(subnet)
	if err != nil {
		return nil, 0, nil, err
	}
	slot := 0
	for v.members[slot] != nil {
		slot++
	}
	name := wire.MemberSpace(uid, slot)
	leaf, _, err := s.m.root.Space(s.m.starter, name, box.SpaceSpec{Hostname: name})
	if err != nil {
		return nil, 0, nil, err
	}
	seat := &seat{Member: m, space: leaf, held: true}
	if err := v.wire.Sit(ctx, slot, wire.Seat{Address: m.Address, Closed: closedAt(v.spec, m.Address)}, leaf); err != nil {
		return nil, 0, nil, errors.Join(fmt.Errorf("linking a program with the network: %w", err), s.unseat(context.WithoutCancel(ctx), v, slot, leaf))
	}
	s.mu.Lock()
	v.members[slot] = seat
	s.mu.Unlock()
	return v, slot, seat, nil
}

// choose takes the last free address of a subnet, of the first one where none
// is named: resources take theirs from the beginning.
func (v *virtual) choose(subnet string) (node.Member, error) {
	used := map[netip.Addr]bool{}
	for _, a := range v.spec.Endpoints {
		used[a] = true
	}
	for _, m := range v.members {
		used[m.Address] = true
	}
	for _, s := range v.spec.Subnets {
		if subnet != "" && !strings.EqualFold(s.Name, subnet) {
			continue
		}
		for _, r := range s.Ranges {
			first, last := r.Addr(), lastOf(r)
			for range 4 {
				first = first.Next()
			}
			for a := last.Prev(); !a.Less(first); a = a.Prev() {
				if !used[a] {
					return node.Member{Address: a, Subnet: s.Name}, nil
				}
			}
		}
		return node.Member{}, fmt.Errorf("%w: the subnet %s has no free address", node.ErrUnavailable, s.Name)
	}
	if subnet == "" {
		return node.Member{}, fmt.Errorf("%w: the virtual network %s has no subnet", node.ErrInvalid, v.spec.Name)
	}
	return node.Member{}, fmt.Errorf("%w: the virtual network %s has no subnet %q", node.ErrInvalid, v.spec.Name, subnet)
}

// lastOf is the last address of a range.
func lastOf(r netip.Prefix) netip.Addr {
	b := r.Addr().As4()
	for i := r.Bits(); i < 32; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	return netip.AddrFrom4(b)
}

// leave gives a place back.
func (s *virtuals) leave(ctx context.Context, v *virtual, slot int, m *seat) error {
	give, err := s.take(ctx)
	if err != nil {
		return err
	}
	defer give()
	s.mu.Lock()
	mine := v.members[slot] == m
	s.mu.Unlock()
	if !mine {
		return nil
	}
	return s.unseat(ctx, v, slot, m.space)
}

// remove takes a network away for good.
func (s *virtuals) remove(ctx context.Context, uid string) error {
	give, err := s.take(ctx)
	if err != nil {
		return err
	}
	defer give()
	v, err := s.find(uid)
	if errors.Is(err, node.ErrNotFound) {
		return nil
	}
	if err := writeFile(v.dir, networkFile, networkRecord{Spec: v.spec, Removing: true}); err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	s.mu.Lock()
	v.removing = true
	s.mu.Unlock()
	return s.erase(ctx, v)
}

// erase does the work of remove; the caller has the turn.
func (s *virtuals) erase(ctx context.Context, v *virtual) error {
	var errs []error
	for _, o := range s.sorted() {
		if o != v && o.wire != nil {
			errs = append(errs, o.wire.Part(ctx, without(o.wire.Joined(), v.uid)))
		}
	}
	spaces, err := s.m.root.Spaces()
	errs = append(errs, err)
	name := wire.SpaceName(v.uid)
	for _, sp := range spaces {
		if sp == name || strings.HasPrefix(sp, name+"-") {
			if space := s.m.root.FindSpace(s.m.starter, sp); space != nil {
				errs = append(errs, space.Remove(ctx))
			}
		}
	}
	s.mu.Lock()
	v.space, v.wire, v.members = nil, nil, map[int]*seat{}
	s.mu.Unlock()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := os.RemoveAll(v.dir); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, v.uid)
	return nil
}

// care brings up networks that are not as they should be: after a start, and
// where a change failed or something was taken away.
func (s *virtuals) care(ctx context.Context) {
	for _, v := range s.sorted() {
		give, err := s.take(ctx)
		if err != nil {
			return
		}
		if !s.ending() {
			s.careFor(ctx, v)
		}
		give()
	}
}

func (s *virtuals) careFor(ctx context.Context, v *virtual) {
	if _, err := s.find(v.uid); err != nil {
		return
	}
	var err error
	switch {
	case v.removing:
		err = s.erase(ctx, v)
	case v.wire == nil || v.err != nil || !v.wire.Whole():
		if v.wire != nil && !v.wire.Whole() {
			s.mu.Lock()
			v.wire = nil // it was taken apart
			s.mu.Unlock()
		}
		err = s.up(ctx, v)
	default:
		err = s.adopt(ctx, v)
	}
	s.mu.Lock()
	v.err = err
	s.mu.Unlock()
	if err != nil {
		s.m.log.Warn("a virtual network is not as it should be", slog.String("network", v.spec.Name), slog.String("error", err.Error()))
	}
}

// listen opens a socket in a network.
func (s *virtuals) listen(uid, protocol string, at netip.AddrPort) (*os.File, error) {
	v, err := s.find(uid)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	w := v.wire
	s.mu.Unlock()
	if w == nil {
		return nil, fmt.Errorf("%w: the virtual network is not on this machine now", node.ErrUnavailable)
	}
	return w.Listen(protocol, at)
}

// status is the state of all networks.
func (s *virtuals) status(ctx context.Context) []node.NetworkStatus {
	out := []node.NetworkStatus{}
	for _, v := range s.sorted() {
		s.mu.Lock()
		st := node.NetworkStatus{Network: v.spec}
		if v.err != nil {
			st.Err = v.err.Error()
		}
		for _, m := range v.members {
			st.Members = append(st.Members, m.Member)
		}
		w, removing := v.wire, v.removing
		if v.space != nil && w != nil {
			st.Space = v.space.ID()
		}
		s.mu.Unlock()
		if removing {
			continue
		}
		slices.SortFunc(st.Members, func(a, b node.Member) int { return a.Address.Compare(b.Address) })
		if w != nil {
			st.Joined, st.Dropped = w.Joined(), w.Dropped(ctx)
		}
		out = append(out, st)
	}
	return out
}

// writeFile writes v as JSON into a file of dir, whole or not at all.
func writeFile(dir, name string, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if err := durable.MakeDir(filepath.Dir(filepath.Dir(dir)), dir); err != nil {
		return err
	}
	if err := durable.WriteFile(filepath.Join(dir, name), raw, 0o600); err != nil {
		return fmt.Errorf("keeping the record %s: %w", name, err)
	}
	return nil
}
