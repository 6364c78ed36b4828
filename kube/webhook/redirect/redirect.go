// Package redirect turns the connections that a pod opens to the instance
// metadata service to the proxy in the same pod, by a rule of nftables in the
// pod's own network namespace.
package redirect

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
)

const table = "azwi-proxy"

// Apply makes new connections to ip and port over TCP end at proxyPort of this
// host, but for those of the user uid, the proxy's own. It may be applied again.
// It needs CAP_NET_ADMIN.
func Apply(ip string, port, proxyPort, uid int) error {
	addr, err := netip.ParseAddr(ip)
	if err != nil || !addr.Is4() {
		return fmt.Errorf("METADATA_IP %q is no IPv4 address", ip)
	}
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	t := &nftables.Table{Family: nftables.TableFamilyIPv4, Name: table}
	c.AddTable(t) // so that there is one to delete
	c.DelTable(t)
	t = c.AddTable(t)
	chain := c.AddChain(&nftables.Chain{
		Name: "output", Table: t, Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityNATDest,
	})
	c.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: rule(addr.As4(), port, proxyPort, uid)})
	if err := c.Flush(); err != nil {
		return fmt.Errorf("nftables: redirect %s:%d to port %d: %w", ip, port, proxyPort, err)
	}
	return nil
}

// rule is "ip daddr IP tcp dport PORT meta skuid != UID redirect to :PROXY".
func rule(ip [4]byte, port, proxyPort, uid int) []expr.Any {
	user := make([]byte, 4)
	binary.NativeEndian.PutUint32(user, uint32(uid))
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: ip[:]},
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{6}}, // TCP
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(uint16(port))},
		&expr.Meta{Key: expr.MetaKeySKUID, Register: 1},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: user},
		&expr.Counter{},
		&expr.Immediate{Register: 1, Data: binaryutil.BigEndian.PutUint16(uint16(proxyPort))},
		&expr.Redir{RegisterProtoMin: 1},
	}
}
