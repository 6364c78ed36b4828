package daemon

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"lazurite.dev/internal/server"
	"lazurite.dev/internal/vnet"
)

// Room on a disk.
const (
	littleRoom = 2 << 30   // bytes: images of one more program may not fit
	noRoom     = 200 << 20 // bytes: the kubelet evicts pods, and writing may fail
)

// machine looks at what Lazurite and its clusters need of the machine.
func (p *patient) machine(ctx context.Context) {
	p.nodes()
	if runtime.GOOS == "linux" {
		p.cgroups()
		p.programs()
		p.routes()
	}
	p.ports()
	p.disk()
	p.clock()
	p.resolvers(ctx)
	p.secrets()
	p.shell()
}

// embedded reports whether there is a cluster that needs a node agent.
func (p *patient) embedded() bool {
	return p.health != nil && slices.ContainsFunc(p.health.Clusters, func(c server.ClusterHealth) bool { return c.Driver == "embedded" })
}

// needed is known, or wrong where a cluster needs it.
func (p *patient) needed() string {
	if p.embedded() {
		return wrong
	}
	return known
}

// nodes looks at the node agent and the distribution.
func (p *patient) nodes() {
	if runtime.GOOS != "linux" {
		p.say("node agent", known, "clusters with nodes need Linux; here they have an issuer and tokens alone", "")
		return
	}
	if p.health != nil {
		switch a := p.health.Agent; {
		case a.Running && a.Err == "":
			p.say("node agent", fine, fmt.Sprintf("process %d; Kubernetes %s from %s", a.PID, a.Kubernetes, tilde(a.Folder)), "")
		case a.Err != "":
			p.say("node agent", p.needed(), oneLine(a.Err), "")
		default:
			p.say("node agent", p.needed(), "none runs: clusters have an issuer and tokens, and no nodes", "sudo laz up -d")
		}
		if a := p.health.Agent; a.Running && a.Folder != "" {
			return
		}
	}
	self, err := os.Executable()
	if err != nil {
		return
	}
	folders := kubeFolders(self, configuredKubernetes(p.env), p.env)
	for _, dir := range folders {
		if executable(filepath.Join(dir, "bin", "kubernetes")) == nil {
			p.say("distribution", fine, "Kubernetes in "+tilde(dir), "")
			return
		}
	}
	p.say("distribution", p.needed(), "there is no Kubernetes for clusters in "+strings.Join(tildes(folders), ", "), "make kube")
}

func tildes(paths []string) []string {
	var out []string
	for _, s := range paths {
		out = append(out, tilde(s))
	}
	return out
}

// cgroups looks for the controllers that nodes need. Source: Kubernetes, "Node
// resource managers"; cgroups(7).
func (p *patient) cgroups() {
	if raw, err := os.ReadFile("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		p.controllers("version 2", strings.Fields(string(raw)), "cpu", "cpuset", "memory", "pids")
		return
	}
	raw, err := os.ReadFile("/proc/cgroups")
	if err != nil {
		p.say("cgroups", p.needed(), "there are none: nodes can't be limited", "")
		return
	}
	var has []string
	for line := range strings.Lines(string(raw)) {
		if f := strings.Fields(line); len(f) == 4 && f[3] == "1" {
			has = append(has, f[0])
		}
	}
	p.controllers("version 1", has, "cpu", "cpuset", "memory", "pids", "devices", "freezer", "cpuacct")
}

func (p *patient) controllers(version string, has []string, want ...string) {
	missing := slices.DeleteFunc(want, func(w string) bool { return slices.Contains(has, w) })
	if len(missing) > 0 {
		p.say("cgroups", p.needed(), version+"; nodes need controllers that this machine has not turned on: "+strings.Join(missing, ", "), "")
		return
	}
	p.say("cgroups", fine, version, "")
}

func (p *patient) programs() {
	path := p.env.Getenv("PATH") + ":/usr/local/sbin:/usr/sbin:/sbin"
	if _, err := lookPath("nft", path); err != nil {
		p.say("nftables", p.needed(), "the program nft is not installed; clusters' networks need it", "sudo apt-get install nftables")
		return
	}
	p.say("nftables", fine, "nft is there", "")
}

// routes looks for somebody else in the range of clusters' addresses.
func (p *patient) routes() {
	raw, err := os.ReadFile("/proc/net/route")
	if err != nil {
		return
	}
	if names := strangers(string(raw), netip.MustParsePrefix(server.NetworkRange)); len(names) > 0 {
		p.say("addresses", p.needed(), fmt.Sprintf("%s, where clusters have their addresses, is routed to %s too", server.NetworkRange, strings.Join(names, ", ")), "")
	}
}

// strangers are links that are none of ours and have a route into base. table
// is the kernel's, proc_net_route: hexadecimal, in the machine's byte order.
func strangers(table string, base netip.Prefix) []string {
	var out []string
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) < 8 || strings.HasPrefix(f[0], "lz") || f[0] == "Iface" {
			continue
		}
		var dest, mask uint32
		if _, err := fmt.Sscanf(f[1]+" "+f[7], "%x %x", &dest, &mask); err != nil || mask == 0 {
			continue
		}
		bits := 0
		for m := mask; m != 0; m &= m - 1 {
			bits++
		}
		at := netip.AddrFrom4([4]byte{byte(dest), byte(dest >> 8), byte(dest >> 16), byte(dest >> 24)})
		if r, err := at.Prefix(bits); err == nil && r.Overlaps(base) && !slices.Contains(out, f[0]) {
			out = append(out, f[0])
		}
	}
	return out
}

// ports looks whether the address that programs use is ours.
func (p *patient) ports() {
	addr := net.JoinHostPort("127.0.0.1", fmt.Sprint(readPort(p.h)))
	if p.running && p.e.Local != "" {
		addr = p.e.Local
	}
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err == nil {
		_ = conn.Close()
	}
	switch {
	case p.running && err != nil:
		p.say("port", wrong, fmt.Sprintf("nobody answers at %s, where the server should: %s", addr, oneLine(err.Error())), "laz down && laz up -d")
	case p.running:
		p.say("port", fine, addr+" answers", "")
	case err == nil:
		p.say("port", known, "another program has "+addr+", which laz up takes first; it will choose a free one", "")
	}
}

func (p *patient) disk() {
	dir := existing(string(p.h))
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		p.say("disk", wrong, fmt.Sprintf("the room in %s is not known: %v", tilde(dir), err), "")
		return
	}
	free := int64(st.Bavail) * int64(st.Bsize) // its type differs between systems
	text := fmt.Sprintf("%s free for %s", bytesText(free), tilde(string(p.h)))
	switch {
	case free < noRoom:
		p.say("disk", wrong, text+": nodes evict their pods, and changes may be lost before they are acknowledged", "")
	case free < littleRoom:
		p.say("disk", known, text, "")
	case st.Files > 0 && st.Ffree*100 < st.Files:
		p.say("disk", known, text+", and hardly a file more may be made (inodes)", "")
	default:
		p.say("disk", fine, text, "")
	}
}

// existing is the nearest folder above dir that is there.
func existing(dir string) string {
	for {
		if _, err := os.Stat(dir); err == nil || dir == filepath.Dir(dir) {
			return dir
		}
		dir = filepath.Dir(dir)
	}
}

// clock looks whether the time can be right: tokens and certificates have one.
func (p *patient) clock() {
	now := time.Now()
	if fi, err := os.Stat(p.h.Data()); err == nil && fi.ModTime().Sub(now) > 2*time.Minute {
		p.say("clock", wrong, fmt.Sprintf("it shows %s, and the state was changed at %s: it went back", now.Format(time.DateTime), fi.ModTime().Format(time.DateTime)), "")
		return
	}
	if raw, err := os.ReadFile(p.e.OwnCA); p.e.OwnCA != "" && err == nil {
		if block, _ := pem.Decode(raw); block != nil {
			if c, err := x509.ParseCertificate(block.Bytes); err == nil && (now.Before(c.NotBefore) || now.After(c.NotAfter)) {
				p.say("clock", wrong, fmt.Sprintf("it shows %s, and the authority's certificate is good from %s to %s", now.Format(time.DateTime),
					c.NotBefore.Format(time.DateOnly), c.NotAfter.Format(time.DateOnly)), "")
				return
			}
		}
	}
	p.say("clock", fine, now.Format(time.DateTime+" MST"), "")
}

// resolvers asks those that pods' other names are asked from.
func (p *patient) resolvers(ctx context.Context) {
	if p.status != nil && p.status.Offline {
		p.say("names", fine, "offline: nobody outside is asked", "")
		return
	}
	list, err := vnet.HostResolvers("/etc/resolv.conf", netip.MustParsePrefix(server.NetworkRange))
	if err != nil || len(list) == 0 {
		p.say("names", known, "this machine has no resolvers: pods find Lazurite's names and each other's, and no others", "")
		return
	}
	var bad []string
	for _, server := range list {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		if err := vnet.Probe(ctx, server); err != nil {
			bad = append(bad, server.String())
		}
		cancel()
	}
	switch {
	case len(bad) == len(list):
		p.say("names", known, "no resolver of this machine answers ("+strings.Join(bad, ", ")+"): pods find Lazurite's names and each other's, and no others", "")
	case len(bad) > 0:
		p.say("names", known, "a resolver of this machine does not answer: "+strings.Join(bad, ", "), "")
	default:
		p.say("names", fine, fmt.Sprintf("this machine's resolvers answer (%d)", len(list)), "")
	}
}

// secrets looks for state that others can read.
func (p *patient) secrets() {
	if !p.h.Ours() {
		return
	}
	open := ""
	for _, dir := range []string{string(p.h), p.h.Keys(), p.h.CA(), p.h.Data(), p.h.Run()} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			fi, err := d.Info()
			if err != nil {
				return err
			}
			if path == dir && fi.Mode().Perm()&0o077 != 0 || fi.Mode().IsRegular() && fi.Mode().Perm()&0o077 != 0 && strings.HasPrefix(path, p.h.Keys()) {
				open = path
			}
			if path == string(p.h) { // what is in it has its own turn
				return fs.SkipAll
			}
			return nil
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			p.say("state", known, oneLine(err.Error()), "")
			return
		}
	}
	if open != "" {
		p.say("state", wrong, "others on this machine can read "+tilde(open), "chmod go= "+open)
		return
	}
	p.say("state", fine, tilde(string(p.h))+" is its user's alone", "")
}

// shell looks whether the environment leads to the server that runs.
func (p *patient) shell() {
	has := p.env.Getenv("HTTPS_PROXY")
	u, err := url.Parse(has)
	ours := err == nil && p.env.Getenv(kept+"SET") != ""
	switch {
	case !ours:
		return
	case !p.running:
		p.say("shell", known, "this shell's environment leads to a server that does not run", `laz up -d, or: eval "$(laz env --unset)"`)
	case p.e.Proxy != "" && has != p.e.Proxy:
		p.say("shell", wrong, fmt.Sprintf("this shell's environment leads to %s, and the server is at %s", u.Host, p.e.Local), `eval "$(laz env)"`)
	default:
		p.say("shell", fine, "its environment leads to the server", "")
	}
}
