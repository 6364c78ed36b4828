package network

import (
	"context"
	"math"
	"net/netip"
	"strings"

	"github.com/miekg/dns"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/rid"
)

// RecordSet are the properties of a record set: those of one type.
type RecordSet struct {
	TTL      int64             `json:"ttl,omitempty"`
	FQDN     string            `json:"fqdn,omitempty"`
	Auto     bool              `json:"isAutoRegistered"`
	Metadata map[string]string `json:"metadata,omitempty"`

	A []struct {
		Address string `json:"ipv4Address"`
	} `json:"aRecords,omitempty"`
	AAAA []struct {
		Address string `json:"ipv6Address"`
	} `json:"aaaaRecords,omitempty"`
	CNAME *struct {
		Name string `json:"cname"`
	} `json:"cnameRecord,omitempty"`
	MX []struct {
		Preference int    `json:"preference"`
		Exchange   string `json:"exchange"`
	} `json:"mxRecords,omitempty"`
	PTR []struct {
		Name string `json:"ptrdname"`
	} `json:"ptrRecords,omitempty"`
	SRV []struct {
		Priority int    `json:"priority"`
		Weight   int    `json:"weight"`
		Port     int    `json:"port"`
		Target   string `json:"target"`
	} `json:"srvRecords,omitempty"`
	TXT []struct {
		Value []string `json:"value"`
	} `json:"txtRecords,omitempty"`
	SOA *SOA `json:"soaRecord,omitempty"`
}

// SOA is the start of a zone's authority.
type SOA struct {
	Host    string `json:"host"`
	Email   string `json:"email"`
	Serial  int64  `json:"serialNumber"`
	Refresh int64  `json:"refreshTime"`
	Retry   int64  `json:"retryTime"`
	Expire  int64  `json:"expireTime"`
	Minimum int64  `json:"minimumTtl"`
}

func recordTypes() []string {
	return []string{"A", "AAAA", "CNAME", "MX", "PTR", "SRV", "TXT", "SOA"}
}

const maxRecordsOfSet = 20

func (p *provider) records(typ string) arm.Kind[RecordSet] {
	k := arm.Kind[RecordSet]{
		Type: "privateDnsZones/" + typ, APIVersions: zoneVersions(), NoState: true, Name: checkRecord,
		ReadOnly: []string{"fqdn", "isAutoRegistered"},
		Validate: func(ctx context.Context, old, next *arm.Resource[RecordSet]) error {
			if err := p.validateRecord(typ, next); err != nil {
				return err
			}
			if old != nil {
				return nil
			}
			return p.lone(ctx, typ, next.ID)
		},
		Read: func(_ context.Context, r *arm.Resource[RecordSet]) error {
			r.Properties.FQDN = fqdn(r.ID.Name(), r.ID.Parent().Name())
			return nil
		},
	}
	if typ == "SOA" {
		k.NoCreate = true
		k.Deletable = func(context.Context, *arm.Resource[RecordSet]) error {
			return bad("BadRequest", "", "The SOA record set of a zone cannot be deleted.")
		}
	}
	return k
}

// checkRecord keeps the rule of record sets' names: "@" is the zone itself, and
// a star stands as the first label alone.
func checkRecord(name string) error {
	ok := name == "@" || printable(name) && !strings.Contains(name, "@") && len(name) <= 253
	for i, label := range strings.Split(name, ".") {
		ok = ok && len(label) > 0 && len(label) <= 63 && (!strings.Contains(label, "*") || label == "*" && i == 0)
	}
	if !ok {
		return bad("BadRequest", "name", "The record set name '%s' is invalid.", name)
	}
	return nil
}

func (p *provider) validateRecord(typ string, next *arm.Resource[RecordSet]) error {
	n := &next.Properties
	if n.TTL < 1 || n.TTL > math.MaxInt32 {
		return bad("BadRequest", "properties.ttl", "The TTL %d is not between 1 and %d.", n.TTL, math.MaxInt32)
	}
	if len(n.Metadata) > 10 {
		return bad("BadRequest", "properties.metadata", "There are %d metadata; at most 10 are allowed.", len(n.Metadata))
	}
	have := map[string]int{
		"A": len(n.A), "AAAA": len(n.AAAA), "MX": len(n.MX), "PTR": len(n.PTR), "SRV": len(n.SRV), "TXT": len(n.TXT),
	}
	if n.CNAME != nil {
		have["CNAME"] = 1
	}
	if n.SOA != nil {
		have["SOA"] = 1
	}
	for t, count := range have {
		if t != typ && count > 0 {
			return bad("BadRequest", "properties", "A record set of the type %s holds no %s records.", typ, t)
		}
	}
	if have[typ] > maxRecordsOfSet {
		return bad("BadRequest", "properties", "There are %d records; at most %d are allowed in a record set.", have[typ], maxRecordsOfSet)
	}
	if have[typ] == 0 && (typ == "CNAME" || typ == "SOA") {
		return bad("BadRequest", "properties", "The record set has no %s record.", typ)
	}
	if next.ID.Name() == "@" && typ == "CNAME" {
		return bad("BadRequest", "name", "A CNAME record cannot stand at the zone itself.")
	}
	if next.ID.Name() != "@" && typ == "SOA" {
		return bad("BadRequest", "name", "The SOA record stands at the zone itself: '@'.")
	}
	_, err := n.rrs(next.ID.Name(), next.ID.Parent().Name())
	return err
}

// lone refuses a CNAME beside other records of its name.
func (p *provider) lone(ctx context.Context, typ string, id rid.ID) error {
	for _, t := range recordTypes() {
		if t == typ || t != "CNAME" && typ != "CNAME" {
			continue
		}
		e, err := p.get(ctx, id.Parent().Child(t, id.Name()))
		if err != nil {
			return err
		}
		if e != nil {
			return apierr.New(apierr.BadRequest, "RecordSetConflict", "The record set '%s' of the type %s can't be made: there is one of the type %s, and a CNAME stands alone.", id.Name(), typ, t)
		}
	}
	return nil
}

// rrs are the records as DNS has them.
func (s *RecordSet) rrs(name, zone string) ([]dns.RR, error) {
	owner := strings.ToLower(fqdn(name, zone))
	head := func(t uint16) dns.RR_Header {
		return dns.RR_Header{Name: owner, Rrtype: t, Class: dns.ClassINET, Ttl: uint32(s.TTL)}
	}
	var out []dns.RR
	for _, r := range s.A {
		a, err := netip.ParseAddr(r.Address)
		if err != nil || !a.Is4() {
			return nil, bad("BadRequest", "properties.aRecords", "'%s' is no IPv4 address.", r.Address)
		}
		out = append(out, &dns.A{Hdr: head(dns.TypeA), A: a.AsSlice()})
	}
	for _, r := range s.AAAA {
		a, err := netip.ParseAddr(r.Address)
		if err != nil || !a.Is6() || a.Zone() != "" {
			return nil, bad("BadRequest", "properties.aaaaRecords", "'%s' is no IPv6 address.", r.Address)
		}
		out = append(out, &dns.AAAA{Hdr: head(dns.TypeAAAA), AAAA: a.AsSlice()})
	}
	host := func(property, text string) (string, error) {
		if _, ok := dns.IsDomainName(text); !ok || text == "" || !printable(strings.TrimSuffix(text, ".")) {
			return "", bad("BadRequest", "properties."+property, "'%s' is no domain name.", text)
		}
		return dns.Fqdn(text), nil
	}
	word := func(property string, n int) error {
		if n < 0 || n > math.MaxUint16 {
			return bad("BadRequest", "properties."+property, "%d is not between 0 and %d.", n, math.MaxUint16)
		}
		return nil
	}
	if s.CNAME != nil {
		t, err := host("cnameRecord", s.CNAME.Name)
		if err != nil {
			return nil, err
		}
		out = append(out, &dns.CNAME{Hdr: head(dns.TypeCNAME), Target: t})
	}
	for _, r := range s.MX {
		t, err := host("mxRecords", r.Exchange)
		if err == nil {
			err = word("mxRecords.preference", r.Preference)
		}
		if err != nil {
			return nil, err
		}
		out = append(out, &dns.MX{Hdr: head(dns.TypeMX), Preference: uint16(r.Preference), Mx: t})
	}
	for _, r := range s.PTR {
		t, err := host("ptrRecords", r.Name)
		if err != nil {
			return nil, err
		}
		out = append(out, &dns.PTR{Hdr: head(dns.TypePTR), Ptr: t})
	}
	for _, r := range s.SRV {
		t, err := host("srvRecords", r.Target)
		for _, n := range []int{r.Priority, r.Weight, r.Port} {
			if err == nil {
				err = word("srvRecords", n)
			}
		}
		if err != nil {
			return nil, err
		}
		out = append(out, &dns.SRV{Hdr: head(dns.TypeSRV), Priority: uint16(r.Priority), Weight: uint16(r.Weight), Port: uint16(r.Port), Target: t})
	}
	return s.longRRs(out, head)
}

// longRRs adds the types with more to check.
func (s *RecordSet) longRRs(out []dns.RR, head func(uint16) dns.RR_Header) ([]dns.RR, error) {
	for _, r := range s.TXT {
		total := 0
		var parts []string
		for _, v := range r.Value {
			if total += len(v); len(v) > 1024 || total > 1024 {
				return nil, bad("BadRequest", "properties.txtRecords", "A TXT record has %d characters; at most 1024 are allowed.", total)
			}
			for len(v) > 255 {
				parts, v = append(parts, txt(v[:255])), v[255:]
			}
			parts = append(parts, txt(v))
		}
		if len(parts) == 0 {
			return nil, bad("BadRequest", "properties.txtRecords", "A TXT record has no value.")
		}
		out = append(out, &dns.TXT{Hdr: head(dns.TypeTXT), Txt: parts})
	}
	if r := s.SOA; r != nil {
		for _, n := range []int64{r.Serial, r.Refresh, r.Retry, r.Expire, r.Minimum} {
			if n < 0 || n > math.MaxUint32 {
				return nil, bad("BadRequest", "properties.soaRecord", "%d is not between 0 and %d.", n, uint32(math.MaxUint32))
			}
		}
		for _, name := range []string{r.Host, r.Email} {
			if _, ok := dns.IsDomainName(name); !ok || name == "" || !printable(strings.TrimSuffix(name, ".")) {
				return nil, bad("BadRequest", "properties.soaRecord", "'%s' is no domain name.", name)
			}
		}
		out = append(out, &dns.SOA{
			Hdr: head(dns.TypeSOA), Ns: dns.Fqdn(r.Host), Mbox: dns.Fqdn(r.Email), Serial: uint32(r.Serial), Refresh: uint32(r.Refresh),
			Retry: uint32(r.Retry), Expire: uint32(r.Expire), Minttl: uint32(r.Minimum),
		})
	}
	return out, nil
}

// txt writes a text as the library keeps it: with backslashes and quotes escaped.
func txt(s string) string {
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s)
}

// recordsOf are the records of a stored set; none of one that can't be read.
func recordsOf(e *arm.Envelope, zone string) []dns.RR {
	r, err := arm.View[RecordSet](e)
	if err != nil {
		return nil
	}
	out, err := r.Properties.rrs(r.ID.Name(), zone)
	if err != nil {
		return nil // it was validated
	}
	return out
}

// allRecords lists the record sets of all types.
func (p *provider) allRecords() arm.Kind[RecordSet] {
	return arm.Kind[RecordSet]{
		Type: "privateDnsZones/ALL", APIVersions: zoneVersions(), NoPut: true, NoState: true,
		Get: func(context.Context, rid.ID) (*arm.Resource[RecordSet], error) { return nil, nil },
		ListAt: func(ctx context.Context, scope rid.ID, _ string) ([]*arm.Resource[RecordSet], error) {
			if !strings.EqualFold(scope.Type(), ZoneType) {
				return nil, nil
			}
			var out []*arm.Resource[RecordSet]
			for after := ""; ; {
				list, err := p.res.List(ctx, scope, "", after, 1000)
				if err != nil {
					return nil, err
				}
				for _, e := range list {
					if after = e.ID; strings.EqualFold(e.Type, LinkType) {
						continue
					}
					r, err := arm.View[RecordSet](e)
					if err != nil {
						return nil, err
					}
					r.Properties.FQDN = fqdn(r.ID.Name(), scope.Name())
					out = append(out, r)
				}
				if len(list) < 1000 {
					return out, nil
				}
			}
		},
	}
}
