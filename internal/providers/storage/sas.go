package storage

import (
	"encoding/base64"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
)

// SAS is a shared access signature: a query that lets whoever has it do
// something for some time. Source: "Create an account SAS", "Create a service
// SAS" and "Create a user delegation SAS".
type SAS struct {
	Kind      Kind
	Signature []byte
	Start     time.Time // zero: none
	Expiry    time.Time

	// Delegation are the times of the key that signed it, of a UserDelegation.
	KeyStart, KeyExpiry time.Time

	values map[string]string
}

// Kind is what a SAS was signed with and for.
type Kind int

// The kinds.
const (
	ServiceSAS    Kind = iota // with an account's key, for a container or blob
	AccountSAS                // with an account's key, for what its ss, srt and sp say
	DelegationSAS             // with a key of a principal, whose roles count
)

// newestSAS is how SignContainer and the actions sign.
const newestSAS = "2022-11-02"

// sasNames are all names that a SAS may have in its query.
func sasNames() []string {
	return []string{
		"sv", "sig", "sp", "st", "se", "sr", "si", "sip", "spr", "ss", "srt", "ses", "sdd", "rscc", "rscd", "rsce", "rscl", "rsct",
		"skoid", "sktid", "skt", "ske", "sks", "skv", "saoid", "suoid", "scid", "skdutid", "sduoid", "srh", "srq",
	}
}

// ParseSAS reads the SAS in a query; nil where there is none. Its error says
// what is malformed, in a sentence.
func ParseSAS(q url.Values) (*SAS, error) {
	if !q.Has("sig") {
		return nil, nil
	}
	s := &SAS{values: map[string]string{}}
	for _, n := range sasNames() {
		v := q[n]
		if len(v) > 1 {
			return nil, fmt.Errorf("the parameter '%s' is there more than once", n)
		}
		if len(v) == 1 {
			if strings.ContainsAny(v[0], "\n\r\x00") {
				return nil, fmt.Errorf("the parameter '%s' has a line break", n)
			}
			s.values[n] = v[0]
		}
	}
	var err error
	if s.Signature, err = base64.StdEncoding.DecodeString(s.values["sig"]); err != nil || len(s.Signature) != 32 {
		return nil, fmt.Errorf("the signature is not 32 bytes in base64")
	}
	if err := s.readTimes(); err != nil {
		return nil, err
	}
	if !validVersion(s.values["sv"]) || s.values["sv"] < "2015-04-05" {
		return nil, fmt.Errorf("the version sv '%s' is none that is supported: 2015-04-05 and later are", s.values["sv"])
	}
	switch {
	case s.values["ss"] != "" || s.values["srt"] != "":
		s.Kind = AccountSAS
	case s.values["skoid"] != "":
		s.Kind = DelegationSAS
	}
	return s, s.check()
}

// check refuses what would not be judged.
func (s *SAS) check() error {
	for n, why := range map[string]string{
		"si": "no container has stored access policies", "ses": "there are no encryption scopes", "sdd": "there are no directories",
		"saoid": "there are no access control lists of files", "suoid": "there are no access control lists of files",
		"skdutid": "a delegation is not narrowed to another user", "sduoid": "a delegation is not narrowed to another user",
		"srh": "headers are not part of a signature", "srq": "parameters are not part of a signature",
	} {
		if s.values[n] != "" {
			return fmt.Errorf("the parameter '%s' is not supported: %s", n, why)
		}
	}
	if s.Expiry.IsZero() || s.values["sp"] == "" {
		return fmt.Errorf("the parameters 'se' and 'sp' are mandatory")
	}
	if s.Kind == DelegationSAS && (s.KeyStart.IsZero() || s.KeyExpiry.IsZero()) {
		return fmt.Errorf("the parameters 'skt' and 'ske' are mandatory")
	}
	if s.Kind != AccountSAS && !slices.Contains([]string{"b", "c"}, s.values["sr"]) {
		return fmt.Errorf("the value '%s' of 'sr' is neither 'b' nor 'c': there are no snapshots, versions and directories", s.values["sr"])
	}
	if p := s.values["spr"]; p != "" && p != "https" && p != "https,http" {
		return fmt.Errorf("the value '%s' of 'spr' is neither 'https' nor 'https,http'", p)
	}
	return nil
}

func (s *SAS) readTimes() error {
	for n, to := range map[string]*time.Time{"st": &s.Start, "se": &s.Expiry, "skt": &s.KeyStart, "ske": &s.KeyExpiry} {
		v := s.values[n]
		if v == "" {
			continue
		}
		t, ok := parseTime(v)
		if !ok {
			return fmt.Errorf("the time '%s' of '%s' is not in UTC and of the form 2006-01-02T15:04:05Z", v, n)
		}
		*to = t
	}
	return nil
}

// parseTime reads the forms of ISO 8601 that signatures may have. Source:
// "Formatting DateTime values".
func parseTime(s string) (time.Time, bool) {
	for _, layout := range []string{"2006-01-02T15:04:05Z", "2006-01-02T15:04Z", "2006-01-02", "2006-01-02T15:04:05.9999999Z", time.RFC3339} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC(), true
		}
	}
	return time.Time{}, false
}

func validVersion(v string) bool {
	_, err := time.Parse("2006-01-02", v)
	return err == nil
}

// Get is a parameter by its name in the query.
func (s *SAS) Get(name string) string { return s.values[name] }

// Has reports whether the SAS has one of the permissions.
func (s *SAS) Has(permissions string) bool { return strings.ContainsAny(s.values["sp"], permissions) }

// In reports whether a letter is in the list of a parameter: "b" in ss.
func (s *SAS) In(parameter, letter string) bool { return strings.Contains(s.values[parameter], letter) }

// Admits reports whether the SAS may be used from an address.
func (s *SAS) Admits(client netip.Addr) bool {
	v := s.values["sip"]
	if v == "" {
		return true
	}
	low, high, ok := strings.Cut(v, "-")
	if !ok {
		high = low
	}
	a, err := netip.ParseAddr(low)
	b, err2 := netip.ParseAddr(high)
	client = client.Unmap()
	return err == nil && err2 == nil && client.IsValid() && a.BitLen() == client.BitLen() && a.Compare(client) <= 0 && client.Compare(b) <= 0
}

// Delegation describes the key that signed a DelegationSAS.
func (s *SAS) Delegation() string {
	return Delegation(s.values["skoid"], s.values["sktid"], s.values["skt"], s.values["ske"], s.values["sks"], s.values["skv"])
}

// Delegation is the description from which an account derives a principal's
// key: whose, of which tenant, from when, until when, for which service, of
// which version.
func Delegation(oid, tenant, start, expiry, service, version string) string {
	return strings.Join([]string{oid, tenant, start, expiry, service, version}, "\n")
}

// text is the string that is signed, for an account and the container and blob
// of sr.
func (s *SAS) text(account, container, blob string) string {
	v, ver := s.values, s.values["sv"]
	if s.Kind == AccountSAS {
		out := []string{account, v["sp"], v["ss"], v["srt"], v["st"], v["se"], v["sip"], v["spr"], ver}
		if ver >= "2020-12-06" {
			out = append(out, v["ses"])
		}
		return strings.Join(out, "\n") + "\n"
	}
	resource := "/blob/" + account + "/" + container
	if v["sr"] == "b" {
		resource += "/" + blob
	}
	out := []string{v["sp"], v["st"], v["se"], resource}
	if s.Kind == DelegationSAS {
		out = append(out, v["skoid"], v["sktid"], v["skt"], v["ske"], v["sks"], v["skv"])
		if ver >= "2020-02-10" {
			out = append(out, v["saoid"], v["suoid"], v["scid"])
		}
		if ver >= "2025-07-05" {
			out = append(out, v["skdutid"], v["sduoid"])
		}
	} else {
		out = append(out, v["si"])
	}
	out = append(out, v["sip"], v["spr"], ver)
	if ver >= "2018-11-09" {
		out = append(out, v["sr"], "") // no snapshot
	}
	if ver >= "2020-12-06" {
		out = append(out, v["ses"])
	}
	if s.Kind == DelegationSAS && ver >= "2026-04-06" {
		out = append(out, "", "") // neither headers nor parameters
	}
	return strings.Join(append(out, v["rscc"], v["rscd"], v["rsce"], v["rscl"], v["rsct"]), "\n")
}

// SignedBy says who signed s, in constant time: "key1" or "key2", the
// delegation, or "" where it is none of the account's.
func (a *Account) SignedBy(s *SAS, container, blob string) string {
	text := s.text(a.Name, container, blob)
	if s.Kind != DelegationSAS {
		return a.Signed(text, s.Signature)
	}
	if equal(s.Signature, mac(a.Delegated(s.Delegation()), text)) {
		return "delegation of " + s.values["skoid"]
	}
	return ""
}

// sign makes the query of a SAS with a key of the account: 0 or 1.
func (a *Account) sign(values map[string]string, kind Kind, container, blob string, key int) string {
	s := &SAS{Kind: kind, values: values}
	q := url.Values{}
	for n, v := range values {
		if v != "" {
			q.Set(n, v)
		}
	}
	q.Set("sig", base64.StdEncoding.EncodeToString(mac(a.secrets.Keys[key], s.text(a.Name, container, blob))))
	return q.Encode()
}
