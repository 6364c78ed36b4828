package node

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"sync"
)

// The limits of a specification.
const (
	MaxNodes = 100     // of a cluster
	maxSpec  = 1 << 20 // bytes of a specification
	maxKeys  = 8
)

var (
	uidName     = pattern(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	displayName = pattern(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$`)
	version     = pattern(`^[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}$`)
	dnsName     = pattern(`^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$`)
	keyID       = pattern(`^[A-Za-z0-9_.-]{1,128}$`)
	labelKey    = pattern(`^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$`)
	labelValue  = pattern(`^([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?$`)
	taint       = pattern(`^([^=:]+)(?:=([^=:]*))?:(NoSchedule|PreferNoSchedule|NoExecute)$`)
	resourceID  = pattern(`^/[A-Za-z0-9 _.()/-]{1,1000}$`)
)

// pattern compiles text when it is first needed: with their counts these are the
// dearest that there are, and most runs of laz need none.
func pattern(text string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(text) })
}

// PodPort reports whether at can be a port of a pod in any cluster.
func PodPort(at netip.AddrPort) bool {
	if !at.Addr().Is4() || at.Port() == 0 {
		return false
	}
	for _, no := range reserved() {
		if no.Contains(at.Addr()) {
			return false
		}
	}
	return true
}

// ValidUID reports whether uid can name a cluster.
func ValidUID(uid string) bool { return uidName().MatchString(uid) }

// DecodeCluster reads a specification as it comes over the wire and validates
// it. Unknown members are refused.
func DecodeCluster(raw []byte) (Cluster, error) {
	var c Cluster
	if len(raw) > maxSpec {
		return c, fmt.Errorf("%w: the specification has %d bytes, at most %d are taken", ErrInvalid, len(raw), maxSpec)
	}
	d := json.NewDecoder(strings.NewReader(string(raw)))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return Cluster{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if d.More() {
		return Cluster{}, fmt.Errorf("%w: more after the specification", ErrInvalid)
	}
	return c, c.Validate()
}

// Validate joins everything that is wrong with the specification; the error is
// ErrInvalid. No text of a key is in it.
func (c Cluster) Validate() error {
	var p problems
	p.check(uidName().MatchString(c.UID), "uid %q", c.UID)
	p.check(displayName().MatchString(c.Name), "name %q", c.Name)
	p.check(c.ResourceID == "" || resourceID().MatchString(c.ResourceID), "resource id %q", c.ResourceID)
	p.check(version().MatchString(c.Version), "version %q is not like 1.37.2", c.Version)
	p.url("issuer", c.Issuer, true)
	p.url("JWKS URI", c.JWKSURI, false)
	p.keys(c.Keys)
	p.ranges(c)
	p.check(len(c.Names) <= 16, "%d further names", len(c.Names))
	for _, n := range c.Names {
		p.check(dnsName().MatchString(n), "further name %q", n)
	}
	if err := CheckMirrors(c.Mirrors); err != nil {
		p = append(p, err)
	}
	p.pull(c.Pull)
	p.check(len(c.Nodes) <= MaxNodes, "%d nodes, at most %d", len(c.Nodes), MaxNodes)
	seen := map[string]bool{}
	for _, n := range c.Nodes {
		p.check(!seen[n.Name], "node %q comes twice", n.Name)
		seen[n.Name] = true
		p.node(n)
	}
	return p.join()
}

type problems []error

func (p *problems) check(ok bool, format string, args ...any) {
	if !ok {
		*p = append(*p, fmt.Errorf(format, args...))
	}
}

func (p *problems) join() error {
	if len(*p) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrInvalid, errors.Join(*p...))
}

func (p *problems) url(what, s string, slash bool) {
	u, err := url.Parse(s)
	ok := err == nil && u.Scheme == "https" && u.Host != "" && u.User == nil && u.RawQuery == "" && u.Fragment == "" &&
		len(s) < 1024 && !strings.ContainsAny(s, " ,'\"\\\n") && (!slash || strings.HasSuffix(s, "/"))
	p.check(ok, "%s %q is no https URL%s", what, s, map[bool]string{true: " with a trailing slash"}[slash])
}

func (p *problems) keys(keys []Key) {
	p.check(len(keys) > 0 && len(keys) <= maxKeys, "%d keys, 1 to %d are wanted", len(keys), maxKeys)
	for _, k := range keys {
		p.check(keyID().MatchString(k.ID), "key id %q", k.ID)
		p.check(rsaKey(k.PEM) != nil, "key %q is no PEM of an RSA private key of 2048 to 8192 bits", k.ID)
	}
}

// rsaKey is the only key in the PEM text, or nil.
func rsaKey(text []byte) *rsa.PrivateKey {
	block, rest := pem.Decode(text)
	if block == nil || strings.TrimSpace(string(rest)) != "" {
		return nil
	}
	var key *rsa.PrivateKey
	switch block.Type {
	case "RSA PRIVATE KEY":
		key, _ = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "PRIVATE KEY":
		any, _ := x509.ParsePKCS8PrivateKey(block.Bytes)
		key, _ = any.(*rsa.PrivateKey)
	}
	if key == nil || key.N.BitLen() < 2048 || key.N.BitLen() > 8192 {
		return nil
	}
	return key
}

func (p *problems) ranges(c Cluster) {
	pods, services := p.cidr("pod CIDR", c.PodCIDR, 9, 20), p.cidr("service CIDR", c.ServiceCIDR, 12, 24)
	p.check(!pods.Overlaps(services), "pod CIDR %s and service CIDR %s overlap", c.PodCIDR, c.ServiceCIDR)
	dns, err := netip.ParseAddr(c.DNSServiceIP)
	p.check(err == nil && services.Contains(dns) && dns != services.Masked().Addr() && dns != services.Addr().Next(),
		"DNS service IP %q is no free address of the service CIDR", c.DNSServiceIP)
}

// reserved are ranges that no cluster may call its own: where its own parts
// live, and what never is a private network.
func reserved() []netip.Prefix {
	return []netip.Prefix{
		netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("169.254.0.0/16"),
		netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("224.0.0.0/3"),
	}
}

func (p *problems) cidr(what, s string, least, most int) netip.Prefix {
	r, err := netip.ParsePrefix(s)
	ok := err == nil && r.Addr().Is4() && r.Masked() == r && r.Bits() >= least && r.Bits() <= most
	p.check(ok, "%s %q is no IPv4 range of /%d to /%d", what, s, least, most)
	if !ok {
		return netip.Prefix{}
	}
	for _, no := range reserved() {
		p.check(!no.Overlaps(r), "%s %s overlaps %s", what, s, no)
	}
	return r
}

func (p *problems) node(n Node) {
	p.check(uidName().MatchString(n.Name) && n.Name != "control", "node name %q", n.Name) // the control plane's name among cgroups
	p.check(n.Pool == "" || uidName().MatchString(n.Pool), "node %q: pool %q", n.Name, n.Pool)
	p.check(n.CPUMillis >= 100 && n.CPUMillis <= 1_000_000, "node %q: %d thousandths of a processor", n.Name, n.CPUMillis)
	p.check(n.MemoryMiB >= 256 && n.MemoryMiB <= 64<<20, "node %q: %d MiB of memory", n.Name, n.MemoryMiB)
	p.check(n.MaxPods >= 1 && n.MaxPods <= 250, "node %q: %d pods", n.Name, n.MaxPods)
	p.check(len(n.Labels) <= 100 && len(n.Taints) <= 50, "node %q: %d labels, %d taints", n.Name, len(n.Labels), len(n.Taints))
	for k, v := range n.Labels {
		p.check(labelKey().MatchString(k) && labelValue().MatchString(v), "node %q: label %q=%q", n.Name, k, v)
	}
	for _, t := range n.Taints {
		m := taint().FindStringSubmatch(t)
		p.check(m != nil && labelKey().MatchString(m[1]) && labelValue().MatchString(m[2]), "node %q: taint %q", n.Name, t)
	}
}
