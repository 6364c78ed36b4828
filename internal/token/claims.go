// Package token issues and checks tokens: signing keys and their rotation, the
// JWKS that publishes them, access tokens of this tenant, and assertions of
// foreign issuers.
package token

import "time"

// Claims are what a checked access token of ours says about its caller.
// Source: Microsoft identity platform, "Access token claims reference".
type Claims struct {
	ID        string // uti
	TenantID  string // tid
	ObjectID  string // oid: the principal whose roles count
	AppID     string // appid (v1) or azp (v2): the client's application
	Name      string // name, for display
	UPN       string // upn of a user; "" of an application
	Resource  string // xms_mirid: ARM id of a managed identity; ""
	Audience  string // aud, as in the token
	Issuer    string // iss, as in the token
	Version   string // "1.0" or "2.0"
	Scopes    []string
	Roles     []string
	AppOnly   bool // no user behind it
	IssuedAt  time.Time
	ExpiresAt time.Time
}

// Display is how messages call the caller: the user's name, else the
// application's id.
func (c *Claims) Display() string {
	if c.UPN != "" {
		return c.UPN
	}
	return c.AppID
}
