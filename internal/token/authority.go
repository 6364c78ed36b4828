package token

import (
	"slices"
	"strings"
)

// The other names of the public cloud's login host. Source: the answer of
// common/discovery/instance.
var publicAliases = []string{"login.windows.net", "login.microsoft.com", "sts.windows.net"}

// PublicAliases lists the names under which the public login host answers too.
func PublicAliases() []string { return slices.Clone(publicAliases) }

// AuthorityHosts lists the login hosts whose tokens are ours, the first first.
func (s *Service) AuthorityHosts() []string { return slices.Clone(s.cfg.AuthorityHosts) }

// Authority is the login host that issues for a request to host, which may be
// one of its other names or regional ({region}.login.microsoft.com). For a
// host that isn't ours ok is false, and the authority is the first.
func (s *Service) Authority(host string) (authority string, ok bool) {
	host = strings.ToLower(strings.TrimSuffix(host, ":443"))
	public := slices.Contains(s.cfg.AuthorityHosts, PublicAuthority)
	for _, h := range s.cfg.AuthorityHosts {
		if host == h || strings.HasSuffix(host, "."+h) && h != PublicAuthority {
			return h, true
		}
	}
	if public && (slices.Contains(publicAliases, host) || strings.HasSuffix(host, ".login.microsoft.com") || strings.HasSuffix(host, "."+PublicAuthority)) {
		return PublicAuthority, true
	}
	return s.cfg.AuthorityHosts[0], false
}
