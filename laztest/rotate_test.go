package laztest_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"lazurite.dev/laztest"
)

const secretsOfficer = "b86a8fe4-44ce-4948-aee5-eccb2c155cd7"

// officer gives the owner the data role on the vault of setUp.
func officer(t *testing.T, c *laztest.Cloud, role string) {
	t.Helper()
	if code, m := c.ARM(t, "PUT", vaultID+"/providers/Microsoft.Authorization/roleAssignments/11111111-1111-1111-1111-111111111111?api-version=2022-04-01",
		roleBody(c, role, c.OwnerID(t))); code != 201 {
		t.Fatalf("role: %d %v", code, m)
	}
}

func kid(t *testing.T, token string) string {
	t.Helper()
	head, _, _ := strings.Cut(token, ".")
	b, err := base64.RawURLEncoding.DecodeString(head)
	var h struct{ Kid string }
	if err == nil {
		err = json.Unmarshal(b, &h)
	}
	if err != nil {
		t.Fatal(err)
	}
	return h.Kid
}

func TestRotate_TokenKey(t *testing.T) {
	c := laztest.New(t)
	setUp(t, c)
	officer(t, c, secretsOfficer)
	old := c.OwnerToken(t, "https://vault.azure.net")
	code, m := c.Admin(t, "/v1/rotate/token-key", `{"now":true}`)
	if code != 200 || m["keyId"] == kid(t, old) {
		t.Fatalf("rotate: %d %v", code, m)
	}
	_, set := c.Send(t, "", "GET", "https://login.microsoftonline.com/common/discovery/v2.0/keys", "")
	if keys, _ := set["keys"].([]any); len(keys) != 2 {
		t.Errorf("published: %v, want the old key and the new one", set)
	}
	if code, m := c.Send(t, old, "PUT", "https://demo-like.vault.azure.net/secrets/s?api-version=7.4", `{"value":"v"}`); code != 200 {
		t.Errorf("a token of the old key: %d %v", code, m)
	}
	fresh := c.OwnerToken(t, "https://graph.microsoft.com")
	if got := kid(t, fresh); got != m["keyId"] {
		t.Errorf("signs with %s, want %v", got, m["keyId"])
	}
	if code, m := c.Send(t, fresh, "GET", "https://graph.microsoft.com/v1.0/me", ""); code != 200 {
		t.Errorf("a token of the new key: %d %v", code, m)
	}
}

func TestRotate_RootKey(t *testing.T) {
	c := laztest.New(t)
	setUp(t, c)
	officer(t, c, secretsOfficer)
	tok := c.OwnerToken(t, "https://vault.azure.net")
	const secret = "https://demo-like.vault.azure.net/secrets/s?api-version=7.4"
	if code, m := c.Send(t, tok, "PUT", secret, `{"value":"kept"}`); code != 200 {
		t.Fatalf("set: %d %v", code, m)
	}
	reads := func(when string) {
		t.Helper()
		if code, m := c.Send(t, tok, "GET", strings.Replace(secret, "/s?", "/s/?", 1), ""); code != 200 || m["value"] != "kept" {
			t.Errorf("%s: %d %v", when, code, m)
		}
	}
	for _, body := range []string{`{}`, `{"dropOld":true}`} {
		code, m := c.Admin(t, "/v1/rotate/root-key", body)
		if n, _ := m["dataKeys"].(float64); code != 200 || n < 2 { // the vault's and the token service's at least
			t.Fatalf("rotate %s: %d %v", body, code, m)
		}
		reads(body)
	}
	for _, body := range []string{`{}`, `{"newDataKey":true}`} {
		if code, m := c.ARM(t, "POST", vaultID+"/rewrap?api-version=2023-07-01", body); code != 200 || fmt.Sprint(m["newDataKey"]) != fmt.Sprint(strings.Contains(body, "true")) {
			t.Errorf("rewrap %s: %d %v", body, code, m)
		}
		reads("rewrap " + body)
	}
}
