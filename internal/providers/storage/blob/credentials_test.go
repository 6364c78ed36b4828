package blob_test

import (
	"encoding/base64"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"lazurite.dev/internal/arm/armtest"
	"lazurite.dev/internal/arrival"
)

func TestBlob_Rights(t *testing.T) {
	w := newWorld(t)
	w.want(201, "", "me", "PUT", "/c1x"+container, "")
	w.want(201, "", "me", "PUT", "/c2x"+container, "")
	w.want(201, "", "me", "PUT", "/c1x/a", "text", put, blockBlob)
	a := w.want(401, "NoAuthenticationInformation", "", "GET", "/c1x/a", "")
	if got, want := a.Header().Get("WWW-Authenticate"), "Bearer authorization_uri=https://login.microsoftonline.com/"+armtest.Tenant+"/oauth2/authorize resource_id=https://storage.azure.com"; got != want {
		t.Errorf("challenge %q, want %q", got, want)
	}
	w.want(401, "InvalidAuthenticationInfo", "expired", "GET", "/c1x/a", "")
	w.want(401, "InvalidAuthenticationInfo", "", "GET", "/c1x/a", "", "Authorization", "Bearer h.me.other")
	w.want(400, "InvalidHeaderValue", "me", "GET", "/c1x/a", "", "x-ms-version", "2015-02-21")
	w.want(400, "InvalidAuthenticationInfo", "", "GET", "/c1x/a", "", "Authorization", "Basic eDp5")
	w.want(200, "", "reader", "GET", "/c1x/a", "")
	w.want(403, "AuthorizationPermissionMismatch", "reader", "GET", "/c2x/a", "")
	w.want(403, "AuthorizationPermissionMismatch", "reader", "PUT", "/c1x/a", "x", put, blockBlob)
	w.want(403, "AuthorizationPermissionMismatch", "reader", "DELETE", "/c1x/a", "")
	w.want(403, "AuthorizationPermissionMismatch", "reader", "PUT", "/c3x"+container, "")
	w.want(403, "AuthorizationPermissionMismatch", "reader", "GET", "/?comp=list", "")
	w.want(403, "AuthorizationPermissionMismatch", "nobody", "POST", "/?restype=service&comp=userdelegationkey", "<KeyInfo/>")
	// A key: signed for another path, by another key, too old, not allowed.
	good := w.key
	w.key = []byte("another")
	w.want(403, "AuthenticationFailed", "key", "GET", "/c1x/a", "")
	w.key = good
	w.want(403, "AuthenticationFailed", "key", "GET", "/c1x/a", "", "x-ms-date", time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat))
	w.want(403, "AuthenticationFailed", "", "GET", "/c1x/a", "", "Authorization", "SharedKey acct:AAAA")
	w.want(403, "AuthenticationFailed", "", "GET", "/c1x/a", "", "Authorization", "SharedKey other:"+base64.StdEncoding.EncodeToString(make([]byte, 32)))
	w.arm.Want(200, "POST", accountID("acct")+"/regenerateKey"+mgmt, `{"keyName":"key1"}`)
	w.want(403, "AuthenticationFailed", "key", "GET", "/c1x/a", "")
	w.setKey()
	w.want(200, "", "key", "GET", "/c1x/a", "")
	w.patch(`"allowSharedKeyAccess":false`)
	w.want(403, "KeyBasedAuthenticationNotPermitted", "key", "GET", "/c1x/a", "")
	w.want(200, "", "me", "GET", "/c1x/a", "")
}

func TestBlob_Network(t *testing.T) {
	w := newWorld(t)
	w.want(201, "", "me", "PUT", "/c1x"+container, "")
	w.patch(`"networkAcls":{"defaultAction":"Deny","ipRules":[{"value":"198.51.100.0/24"}]}`)
	w.want(403, "AuthorizationFailure", "me", "HEAD", "/c1x"+container, "")
	w.from = arrival.Arrival{Client: netip.MustParseAddr("198.51.100.7")}
	w.want(200, "", "me", "HEAD", "/c1x"+container, "")
	w.from = arrival.Arrival{Kind: arrival.TrustedService}
	w.want(200, "", "me", "HEAD", "/c1x"+container, "")
	w.patch(`"networkAcls":{"bypass":"Logging"}`)
	w.want(403, "AuthorizationFailure", "me", "HEAD", "/c1x"+container, "")
	w.from = arrival.Arrival{Client: netip.MustParseAddr("198.51.100.7")}
	w.patch(`"publicNetworkAccess":"Disabled"`)
	w.want(403, "AuthorizationFailure", "key", "HEAD", "/c1x"+container, "")
	w.from = arrival.Arrival{Kind: arrival.PrivateEndpoint, Endpoint: "/x"}
	w.want(403, "AuthorizationFailure", "key", "HEAD", "/c1x"+container, "")
}

func TestBlob_PublicContainers(t *testing.T) {
	w := newWorld(t)
	w.patch(`"allowBlobPublicAccess":true`)
	w.want(201, "", "key", "PUT", "/c1x"+container, "", "x-ms-blob-public-access", "blob")
	w.want(201, "", "key", "PUT", "/c2x"+container, "", "x-ms-blob-public-access", "container")
	w.want(201, "", "key", "PUT", "/c3x"+container, "")
	for _, c := range []string{"c1x", "c2x", "c3x"} {
		w.want(201, "", "key", "PUT", "/"+c+"/a", "x", put, blockBlob)
	}
	w.want(200, "", "", "GET", "/c1x/a", "")
	w.want(401, "NoAuthenticationInformation", "", "GET", "/c1x?restype=container&comp=list", "")
	w.want(401, "NoAuthenticationInformation", "", "PUT", "/c1x/a", "x", put, blockBlob)
	w.want(200, "", "", "GET", "/c2x?restype=container&comp=list", "")
	w.want(401, "NoAuthenticationInformation", "", "GET", "/c3x/a", "")
	w.want(200, "", "key", "PUT", "/c2x?restype=container&comp=acl", "")
	w.want(401, "NoAuthenticationInformation", "", "GET", "/c2x/a", "")
	w.patch(`"allowBlobPublicAccess":false`)
	w.want(401, "NoAuthenticationInformation", "", "GET", "/c1x/a", "")
}

// TestSharedKey_NoLinesOfOnesOwn: a line break in a query's value would be a line
// of what is signed, so that another signature by the key would fit.
func TestSharedKey_NoLinesOfOnesOwn(t *testing.T) {
	w := newWorld(t)
	w.want(200, "", "key", "GET", "/?comp=list&z=ab", "")
	w.want(403, "AuthenticationFailed", "key", "GET", "/?comp=list&z=a%0Ab", "")
	w.want(403, "AuthenticationFailed", "key", "GET", "/?comp=list&a%0Db=x", "")
}
