package laztest_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"lazurite.dev/laztest"
)

const (
	group    = "/subscriptions/{sub}/resourceGroups/demo"
	identity = group + "/providers/Microsoft.ManagedIdentity/userAssignedIdentities/app"
)

// setUp makes a group, a vault with RBAC and an identity; it gives the
// identity's client and principal id.
func setUp(t *testing.T, c *laztest.Cloud) (client, principal string) {
	t.Helper()
	c.ARM(t, "PUT", group+"?api-version=2021-04-01", `{"location":"eastus"}`)
	body := `{"location":"eastus","properties":{"tenantId":"` + c.Tenant + `","sku":{"family":"A","name":"standard"},"enableRbacAuthorization":true}}`
	if code, m := c.ARM(t, "PUT", vaultID+"?api-version=2023-07-01", body); code != 200 && code != 201 {
		t.Fatalf("vault: %d %v", code, m)
	}
	code, m := c.ARM(t, "PUT", identity+"?api-version=2023-01-31", `{"location":"eastus"}`)
	if code != 201 {
		t.Fatalf("identity: %d %v", code, m)
	}
	p, _ := m["properties"].(map[string]any)
	return fmt.Sprint(p["clientId"]), fmt.Sprint(p["principalId"])
}

const vaultID = group + "/providers/Microsoft.KeyVault/vaults/demo-like"

func roleBody(c *laztest.Cloud, role, principal string) string {
	return fmt.Sprintf(`{"properties":{"principalId":%q,"roleDefinitionId":"/subscriptions/%s/providers/Microsoft.Authorization/roleDefinitions/%s"}}`, principal, c.Subscription, role)
}

const cryptoOfficer = "14b46e9e-c2b7-41b4-b07b-48a6ebf60603"

// TestAzureLike_TurnsEachLimitOn meets every limit once, in the whole system.
func TestAzureLike_TurnsEachLimitOn(t *testing.T) {
	c := laztest.New(t, laztest.Propagation(time.Hour))
	setUp(t, c)
	t.Run("roles propagate late", func(t *testing.T) {
		tok := c.OwnerToken(t, "https://vault.azure.net")
		if code, m := c.ARM(t, "PUT", vaultID+"/providers/Microsoft.Authorization/roleAssignments/11111111-1111-1111-1111-111111111111?api-version=2022-04-01",
			roleBody(c, cryptoOfficer, c.OwnerID(t))); code != 201 {
			t.Fatalf("role: %d %v", code, m)
		}
		if code, m := c.Send(t, tok, "GET", "https://demo-like.vault.azure.net/keys?api-version=7.4", ""); code != 403 {
			t.Fatalf("an assignment counts at once: %d %v", code, m)
		}
		code, m := c.ARM(t, "GET", "/subscriptions/{sub}/providers/Lazurite.Explain/refusals/last?api-version=2026-01-01", "")
		if code != 200 || !strings.Contains(fmt.Sprint(m["hops"]), "not propagated yet") {
			t.Errorf("explain: %d %v", code, m)
		}
	})
	t.Run("20 credentials", func(t *testing.T) {
		for i := range 21 {
			code, m := c.ARM(t, "PUT", fmt.Sprintf("%s/federatedIdentityCredentials/fic%d?api-version=2023-01-31", identity, i),
				fmt.Sprintf(`{"properties":{"issuer":"https://token.example.org","subject":"s%d","audiences":["api://AzureADTokenExchange"]}}`, i))
			if want := i < 20; (code < 300) != want {
				t.Fatalf("credential %d: %d %v", i, code, m)
			}
		}
	})
	t.Run("rates of managed identities", func(t *testing.T) {
		code := 0
		for range 10 {
			if code, _ = c.ARM(t, "GET", identity+"?api-version=2023-01-31", ""); code == http.StatusTooManyRequests {
				return
			}
		}
		t.Errorf("ten reads in a row: the last has %d", code)
	})
	t.Run("rates of the subscription", func(t *testing.T) {
		req, err := http.NewRequestWithContext(t.Context(), "GET", "https://management.azure.com"+strings.ReplaceAll(group, "{sub}", c.Subscription)+"?api-version=2021-04-01", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+c.OwnerToken(t, "https://management.azure.com"))
		res, err := c.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if left := res.Header.Get("x-ms-ratelimit-remaining-subscription-reads"); left == "" {
			t.Errorf("no header says how many reads are left: %v", res.Header)
		}
	})
}

// TestAzureLike_VaultThrottles makes more keys in ten seconds than Azure would.
func TestAzureLike_VaultThrottles(t *testing.T) {
	c := laztest.New(t, laztest.Propagation(time.Millisecond))
	setUp(t, c)
	if code, m := c.ARM(t, "PUT", vaultID+"/providers/Microsoft.Authorization/roleAssignments/11111111-1111-1111-1111-111111111111?api-version=2022-04-01",
		roleBody(c, cryptoOfficer, c.OwnerID(t))); code != 201 {
		t.Fatalf("role: %d %v", code, m)
	}
	tok := c.OwnerToken(t, "https://vault.azure.net")
	make := func(i int) (int, map[string]any) {
		return c.Send(t, tok, "POST", fmt.Sprintf("https://demo-like.vault.azure.net/keys/k%d/create?api-version=7.4", i), `{"kty":"EC","crv":"P-256"}`)
	}
	deadline := time.Now().Add(10 * time.Second)
	for { // a millisecond's propagation
		if code, m := make(0); code == 200 {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("the role does not count: %d %v", code, m)
		}
	}
	for i := range 50 { // two windows at most
		code, m := make(i)
		if code == http.StatusTooManyRequests {
			return
		}
		if code != 200 {
			t.Fatalf("key %d: %d %v", i, code, m)
		}
	}
	t.Error("50 keys were made without a pause")
}

// TestNew_KeepsNoneOfAzuresLimits is the other mode.
func TestNew_KeepsNoneOfAzuresLimits(t *testing.T) {
	c := laztest.New(t)
	setUp(t, c)
	for i := range 25 {
		code, m := c.ARM(t, "PUT", fmt.Sprintf("%s/federatedIdentityCredentials/fic%d?api-version=2023-01-31", identity, i),
			fmt.Sprintf(`{"properties":{"issuer":"https://token.example.org","subject":"s%d","audiences":["api://AzureADTokenExchange"]}}`, i))
		if code >= 300 {
			t.Fatalf("credential %d: %d %v", i, code, m)
		}
	}
}
