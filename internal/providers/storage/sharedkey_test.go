package storage_test

import (
	"testing"
)

// TestSign_ASignatureIsForNothingElse: what is signed is lines, those of a
// request by the account's key too, so nobody may bring lines of his own.
func TestSign_ASignatureIsForNothingElse(t *testing.T) {
	w := start(t)
	w.Group("g")
	w.Settle(w.Do("PUT", path("g", "account1")+apiv, body("")))
	at := path("g", "account1")
	for field, value := range map[string]string{
		"signedPermission": `GET\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:Mon, 23 Nov 2026 09:20:00 GMT\n/account1/\ncomp:list`,
		"rscc":             `a\nb`, "signedIp": `192.0.2.4\n`, "signedProtocol": `https\r`, "signedServices": `b\u0000`, "signedResourceTypes": `o1`,
	} {
		fields := map[string]string{
			"canonicalizedResource": "/blob/account1/c1x", "signedResource": "c", "signedPermission": "r", "signedExpiry": "2099-01-01T00:00:00Z", "signedServices": "b", "signedResourceTypes": "o",
		}
		fields[field] = value
		var out string
		for n, v := range fields {
			out += `,"` + n + `":"` + v + `"`
		}
		for _, action := range []string{"/listServiceSas", "/listAccountSas"} {
			w.WantError(400, "InvalidRequestPropertyValue", "POST", at+action+apiv, "{"+out[1:]+"}")
		}
	}
}
