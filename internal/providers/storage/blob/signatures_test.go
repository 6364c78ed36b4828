package blob_test

import (
	"encoding/base64"
	"encoding/xml"
	"net/url"
	"strings"
	"testing"
	"time"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/providers/storage"
	"lazurite.dev/internal/rid"
)

func TestAccounts_SealContainer(t *testing.T) {
	w := newWorld(t)
	id := rid.MustParse(accountID("acct"))
	u, err := w.accounts.SignContainer(t.Context(), id, "models", "racwl", time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	at, query, _ := strings.Cut(u, "?")
	w.want(201, "", "", "PUT", at+"/m/1?"+query, "model", put, blockBlob)
	w.want(201, "", "", "PUT", at+"/m/2?comp=block&blockid=MDE=&"+query, "a block")
	for range 2 {
		if err := w.accounts.SealContainer(t.Context(), id, "models"); err != nil {
			t.Fatal(err)
		}
	}
	// Neither the signature nor a key of the account nor a token writes there.
	for _, by := range []struct{ auth, query string }{{"", query}, {"key", ""}, {"me", ""}} {
		for what, ask := range map[string][]string{
			"change": {"PUT", "/m/1?", "other", put, blockBlob}, "make": {"PUT", "/m/3?", "new", put, blockBlob}, "block": {"PUT", "/m/2?comp=block&blockid=MDI=&", "x"},
			"commit": {"PUT", "/m/2?comp=blocklist&", "<BlockList><Latest>MDE=</Latest></BlockList>"}, "metadata": {"PUT", "/m/1?comp=metadata&", "", "x-ms-meta-a", "b"},
			"properties": {"PUT", "/m/1?comp=properties&", "", "x-ms-blob-content-type", "text/plain"},
		} {
			a := w.do(by.auth, ask[0], at+ask[1]+by.query, ask[2], ask[3:]...)
			if a.Code != 409 || a.Header().Get("x-ms-error-code") != storage.CodeSealed {
				t.Errorf("%s by %q: got %d %s", what, by.auth, a.Code, a.Header().Get("x-ms-error-code"))
			}
		}
	}
	if a := w.want(200, "", "", "GET", at+"/m/1?"+query, ""); a.Body.String() != "model" {
		t.Errorf("got %q", a.Body)
	}
	if a := w.want(200, "", "key", "GET", "/models?restype=container", ""); a.Header().Get("x-ms-has-immutability-policy") != "true" {
		t.Errorf("got %v", a.Header())
	}
	if _, err := w.accounts.SignContainer(t.Context(), id, "models", "r", time.Now()); apierr.From(err).Code != storage.CodeSealed {
		t.Errorf("signed one that is sealed: %v", err)
	}
	w.want(202, "", "key", "DELETE", "/models/m/1", "")
	if err := w.accounts.SealContainer(t.Context(), id, "none"); err != nil {
		t.Error(err)
	}
}
func TestAccounts_SignAndErase(t *testing.T) {
	w := newWorld(t)
	id := rid.MustParse(accountID("acct"))
	u, err := w.accounts.SignContainer(t.Context(), id, "models", "rcwl", time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	at, query, _ := strings.Cut(u, "?")
	if at != w.accounts.BlobURL(id, "models", "") {
		t.Errorf("%s", at)
	}
	w.want(201, "", "", "PUT", at+"/m/1?"+query, "model", put, blockBlob)
	w.want(200, "", "", "GET", at+"?restype=container&comp=list&"+query, "")
	w.want(403, "AuthorizationPermissionMismatch", "", "DELETE", at+"/m/1?"+query, "")
	w.want(403, "AuthenticationFailed", "", "GET", "/other/m/1?"+query, "")
	if err := w.accounts.EnsureContainer(t.Context(), id, "models"); err != nil {
		t.Error(err)
	}
	if _, err := w.accounts.SignContainer(t.Context(), rid.MustParse(accountID("none")), "models", "r", time.Now()); !apierr.Is(err, apierr.NotFound) {
		t.Errorf("%v", err)
	}
	if got := w.arm.Want(200, "GET", accountID("acct")+"/blobServices/default/containers"+mgmt, "").At("value").([]any); len(got) != 1 {
		t.Errorf("%v", got)
	}
	w.arm.Want(200, "DELETE", accountID("acct")+"/blobServices/default/containers/models"+mgmt, "")
	w.want(404, "ContainerNotFound", "", "GET", at+"/m/1?"+query, "")
	if n := w.contents(); n != 0 {
		t.Errorf("%d files are left of a container", n)
	}
	w.patch(`"allowSharedKeyAccess":false`)
	if _, err := w.accounts.SignContainer(t.Context(), id, "models", "r", time.Now()); !apierr.Is(err, apierr.Conflict) {
		t.Errorf("%v", err)
	}
	w.want(201, "", "me", "PUT", "/c1x"+container, "")
	w.want(201, "", "me", "PUT", "/c1x/a", "x", put, blockBlob)
	w.arm.Settle(w.arm.Do("DELETE", accountID("acct")+mgmt, ""))
	if n := w.contents(); n != 0 {
		t.Errorf("%d files are left of an account", n)
	}
	w.want(404, "ResourceNotFound", "me", "GET", "/c1x/a", "")
	w.account("acct", "")
	w.want(404, "ContainerNotFound", "me", "GET", "/c1x/a", "")
}

func (w *world) sas(kind, body string) string {
	w.t.Helper()
	return w.arm.Want(200, "POST", accountID("acct")+"/"+kind+mgmt, body).Text(map[string]string{"listAccountSas": "accountSasToken", "listServiceSas": "serviceSasToken"}[kind])
}

func TestBlob_AccountSignatures(t *testing.T) {
	w := newWorld(t)
	w.want(201, "", "key", "PUT", "/c1x"+container, "")
	w.want(201, "", "key", "PUT", "/c1x/a", "text", put, blockBlob)
	in := func(services, types, may, more string) string {
		return w.sas("listAccountSas", `{"signedServices":"`+services+`","signedResourceTypes":"`+types+`","signedPermission":"`+may+`","signedExpiry":"2099-01-01T00:00:00Z"`+more+`}`)
	}
	read := in("b", "o", "r", "")
	w.want(200, "", "", "GET", "/c1x/a?"+read, "")
	w.want(403, "AuthorizationPermissionMismatch", "", "DELETE", "/c1x/a?"+read, "")
	w.want(403, "AuthorizationResourceTypeMismatch", "", "GET", "/c1x?restype=container&comp=list&"+read, "")
	w.want(403, "AuthorizationServiceMismatch", "", "GET", "/c1x/a?"+in("q", "o", "r", ""), "")
	w.want(403, "AuthorizationSourceIPMismatch", "", "GET", "/c1x/a?"+in("b", "o", "r", `,"signedIp":"192.0.2.1"`), "")
	w.want(200, "", "", "GET", "/?comp=list&"+in("b", "s", "l", ""), "")
	w.want(201, "", "", "PUT", "/c2x?restype=container&"+in("b", "c", "c", ""), "")
	w.want(403, "AuthenticationFailed", "", "GET", "/c1x/a?"+in("b", "o", "r", `,"signedStart":"2098-01-01T00:00:00Z"`), "")
	w.want(403, "AuthenticationFailed", "", "GET", "/c1x/a?"+strings.Replace(read, "sp=r", "sp=rd", 1), "")
	w.want(400, "InvalidAuthenticationInfo", "me", "GET", "/c1x/a?"+read, "")
	w.want(403, "AuthorizationPermissionMismatch", "", "POST", "/?restype=service&comp=userdelegationkey&"+in("b", "sco", "rwdlac", ""), "<KeyInfo/>")
	w.patch(`"allowSharedKeyAccess":false`)
	w.want(403, "KeyBasedAuthenticationNotPermitted", "", "GET", "/c1x/a?"+read, "")
}

func TestBlob_ServiceSignatures(t *testing.T) {
	w := newWorld(t)
	w.want(201, "", "key", "PUT", "/c1x"+container, "")
	w.want(201, "", "key", "PUT", "/c1x/a", "text", put, blockBlob)
	in := func(on, kind, may, more string) string {
		return w.sas("listServiceSas", `{"canonicalizedResource":"/blob/acct/`+on+`","signedResource":"`+kind+`","signedPermission":"`+may+`","signedExpiry":"2099-01-01T00:00:00Z"`+more+`}`)
	}
	one := in("c1x/a", "b", "r", `,"rsct":"text/odd"`)
	if a := w.want(200, "", "", "GET", "/c1x/a?"+one, ""); a.Header().Get("Content-Type") != "text/odd" {
		t.Errorf("%v", a.Header())
	}
	w.want(403, "AuthenticationFailed", "", "GET", "/c1x/b?"+one, "")
	w.want(403, "AuthenticationFailed", "", "GET", "/c1x?restype=container&comp=list&"+one, "")
	fresh := in("c1x", "c", "c", "")
	w.want(201, "", "", "PUT", "/c1x/new?"+fresh, "1", put, blockBlob)
	w.want(403, "UnauthorizedBlobOverwrite", "", "PUT", "/c1x/new?"+fresh, "2", put, blockBlob)
	w.want(403, "UnauthorizedBlobOverwrite", "", "PUT", "/c1x/new?comp=block&blockid=AAAA&"+fresh, "2")
	w.want(403, "AuthorizationPermissionMismatch", "", "PUT", "/c1x/new?comp=metadata&"+fresh, "")
	// What lets read and write a container does not let delete or make one.
	all := in("c1x", "c", "racwdl", "")
	w.want(403, "AuthorizationPermissionMismatch", "", "DELETE", "/c1x?restype=container&"+all, "")
	w.want(202, "", "", "DELETE", "/c1x/new?"+all, "")
	// A copy's source needs a signature of its own.
	src := "https://acct.blob.core.windows.net/c1x/a"
	w.want(403, "CannotVerifyCopySource", "", "PUT", "/c1x/copy?"+all, "", "x-ms-copy-source", src)
	w.want(202, "", "", "PUT", "/c1x/copy?"+all, "", "x-ms-copy-source", src+"?"+one)
	if a := w.want(200, "", "key", "HEAD", "/c1x/copy", ""); strings.Contains(a.Header().Get("x-ms-copy-source"), "sig") {
		t.Error("the signature of a copy's source is shown")
	}
}

func TestBlob_UserDelegations(t *testing.T) {
	w := newWorld(t)
	w.want(201, "", "key", "PUT", "/c1x"+container, "")
	w.want(201, "", "key", "PUT", "/c1x/a", "text", put, blockBlob)
	now := time.Now().UTC()
	stamp := func(d time.Duration) string { return now.Add(d).Format("2006-01-02T15:04:05Z") }
	info := func(start, expiry string) string {
		return "<KeyInfo><Start>" + start + "</Start><Expiry>" + expiry + "</Expiry></KeyInfo>"
	}
	const path = "/?restype=service&comp=userdelegationkey"
	w.want(400, "OutOfRangeInput", "me", "POST", path, info(stamp(0), stamp(8*24*time.Hour)))
	w.want(400, "OutOfRangeInput", "me", "POST", path, info(stamp(time.Hour), stamp(0)))
	w.want(400, "InvalidXmlDocument", "me", "POST", path, "<KeyInfo>")
	w.want(403, "AuthenticationFailed", "key", "POST", path, info(stamp(0), stamp(time.Hour)))
	w.let("delegator", "generateUserDelegationKey/action")
	key := func(who string) (k struct{ SignedOid, SignedTid, SignedStart, SignedExpiry, SignedService, SignedVersion, Value string }) {
		a := w.want(200, "", who, "POST", path, info(stamp(-time.Minute), stamp(time.Hour)))
		if err := xml.Unmarshal([]byte(strings.TrimPrefix(a.Body.String(), "\ufeff")), &k); err != nil {
			t.Fatal(err)
		}
		return k
	}
	// signed is written from the documentation of the versions.
	signed := func(who, version, may string) string {
		k := key(who)
		raw, _ := base64.StdEncoding.DecodeString(k.Value)
		se := stamp(time.Hour)
		lines := []string{may, "", se, "/blob/acct/c1x/a", k.SignedOid, k.SignedTid, k.SignedStart, k.SignedExpiry, k.SignedService, k.SignedVersion}
		if version >= "2020-02-10" {
			lines = append(lines, "", "", "")
		}
		if version >= "2025-07-05" {
			lines = append(lines, "", "")
		}
		lines = append(lines, "", "", version, "b", "")
		if version >= "2020-12-06" {
			lines = append(lines, "")
		}
		if version >= "2026-04-06" {
			lines = append(lines, "", "")
		}
		lines = append(lines, "", "", "", "", "")
		return url.Values{"sv": {version}, "sp": {may}, "se": {se}, "sr": {"b"}, "skoid": {k.SignedOid}, "sktid": {k.SignedTid}, "skt": {k.SignedStart}, "ske": {k.SignedExpiry},
			"sks": {"b"}, "skv": {k.SignedVersion}, "sig": {sign(raw, strings.Join(lines, "\n"))}}.Encode()
	}
	for _, v := range []string{"2018-11-09", "2020-02-10", "2020-12-06", "2025-07-05", "2026-04-06"} {
		w.want(200, "", "", "GET", "/c1x/a?"+signed("me", v, "r"), "")
	}
	w.want(403, "AuthorizationPermissionMismatch", "", "DELETE", "/c1x/a?"+signed("me", "2020-12-06", "r"), "")
	w.want(403, "AuthorizationPermissionMismatch", "", "GET", "/c1x/a?"+signed("delegator", "2020-12-06", "r"), "") // whose own roles do not let it read
	good := signed("me", "2020-12-06", "r")
	w.patch(`"allowSharedKeyAccess":false`)
	w.want(200, "", "", "GET", "/c1x/a?"+good, "") // no key of the account is behind it
	w.arm.Want(200, "POST", accountID("acct")+"/revokeUserDelegationKeys"+mgmt, "")
	w.want(403, "AuthenticationFailed", "", "GET", "/c1x/a?"+good, "")
	good = signed("me", "2020-12-06", "r")
	w.ahead(2 * time.Hour)
	w.want(403, "AuthenticationFailed", "", "GET", "/c1x/a?"+good, "")
}

// TestBlob_CreateOnlySignatures: 'c' without 'w' makes blobs, in whichever way,
// and writes over none.
func TestBlob_CreateOnlySignatures(t *testing.T) {
	w := newWorld(t)
	w.want(201, "", "key", "PUT", "/c1x"+container, "")
	w.want(201, "", "key", "PUT", "/c1x/there", "before", put, blockBlob)
	fresh := w.sas("listServiceSas", `{"canonicalizedResource":"/blob/acct/c1x","signedResource":"c","signedPermission":"rc","signedExpiry":"2099-01-01T00:00:00Z"}`)
	const list = "<BlockList><Latest>AAAA</Latest></BlockList>"
	src := "https://acct.blob.core.windows.net/c1x/there?" + fresh
	for _, c := range []struct {
		name, query, body string
		headers           []string
		status            int
	}{
		{"block", "?comp=block&blockid=AAAA&", "block", nil, 201},
		{"block", "?comp=blocklist&", list, nil, 201},
		{"block-from", "?comp=block&blockid=AAAA&", "", []string{"x-ms-copy-source", src}, 201},
		{"block-from", "?comp=blocklist&", list, nil, 201},
		{"put", "?", "put", []string{put, blockBlob}, 201},
		{"copy", "?", "", []string{"x-ms-copy-source", src}, 202},
	} {
		w.want(c.status, "", "", "PUT", "/c1x/"+c.name+c.query+fresh, c.body, c.headers...)
		w.want(403, "UnauthorizedBlobOverwrite", "", "PUT", "/c1x/there"+c.query+fresh, c.body, c.headers...)
	}
	for _, comp := range []string{"metadata", "properties", "tier"} {
		w.want(403, "AuthorizationPermissionMismatch", "", "PUT", "/c1x/put?comp="+comp+"&"+fresh, "", "x-ms-access-tier", "Cool")
	}
	for name, want := range map[string]string{"there": "before", "block": "block", "block-from": "before", "put": "put", "copy": "before"} {
		if a := w.want(200, "", "", "GET", "/c1x/"+name+"?"+fresh, ""); a.Body.String() != want {
			t.Errorf("%s has %q, want %q", name, a.Body, want)
		}
	}
}
