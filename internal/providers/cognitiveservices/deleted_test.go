package cognitiveservices_test

import (
	"strings"
	"testing"
	"time"

	"lazurite.dev/internal/arm/armtest"
	"lazurite.dev/internal/providers/cognitiveservices"
)

const inSub = armtest.Base + "/providers/Microsoft.CognitiveServices"

func deletedPath(location, group, name string) string {
	return inSub + "/locations/" + location + "/resourceGroups/" + group + "/deletedAccounts/" + name
}

func (w *world) deleted() int {
	v, _ := w.Want(200, "GET", inSub+"/deletedAccounts"+apiv, "").At("value").([]any)
	return len(v)
}

func TestDeleted_RestoreAndPurge(t *testing.T) {
	w := start(t)
	path := w.account(t, "gone")
	w.Want(200, "PATCH", path+apiv, `{"tags":{"a":"b"},"properties":{"publicNetworkAccess":"Disabled"}}`)
	w.Want(201, "PUT", deploymentPath(path, "chat")+apiv, deployment)
	keys := w.Want(200, "POST", path+"/listKeys"+apiv, "")
	w.Settle(w.Do("DELETE", path+apiv, ""))
	w.Want(404, "GET", path+apiv, "")
	a := w.WantError(409, "FlagMustBeSetForRestore", "PUT", path+apiv, body(""))
	if !strings.Contains(a.Text("error", "message"), "has been soft-deleted. To restore the resource, you must specify 'restore' to be 'true' in the property.") {
		t.Errorf("message %s", a.Raw)
	}
	w.WantError(409, "CustomDomainInUse", "PUT", accountPath("g", "other")+apiv, body(`"customSubDomainName":"gone"`))
	if n := w.deleted(); n != 1 {
		t.Errorf("%d deleted accounts", n)
	}
	at := deletedPath("eastus", "g", "gone")
	a = w.Want(200, "GET", at+apiv, "")
	if a.Text("kind") != "OpenAI" || a.Text("properties", "scheduledPurgeDate") == "" || a.Text("properties", "customSubDomainName") != "gone" {
		t.Errorf("deleted %s", a.Raw)
	}
	for _, p := range []string{deletedPath("westus", "g", "gone"), deletedPath("eastus", "h", "gone"), deletedPath("eastus", "g", "none")} {
		w.WantError(404, "ResourceNotFound", "GET", p+apiv, "")
		w.WantError(404, "ResourceNotFound", "DELETE", p+apiv, "")
	}
	w.WantError(403, "AuthorizationFailed", "DELETE", at+apiv, "", "Authorization", "Bearer "+armtest.Nobody)
	w.WantError(400, "BadRequest", "PUT", path+apiv, `{"location":"westus","properties":{"restore":true}}`)

	// As az cognitiveservices account recover sends it.
	a = w.Want(201, "PUT", path+apiv, `{"location":"eastus","properties":{"restore":true}}`)
	if a.Text("kind") != "OpenAI" || a.Text("sku", "name") != "S0" || a.Text("tags", "a") != "b" || a.Text("properties", "publicNetworkAccess") != "Disabled" || a.At("properties", "restore") != nil {
		t.Errorf("restored %s", a.Raw)
	}
	if again := w.Want(200, "POST", path+"/listKeys"+apiv, ""); again.Text("key1") != keys.Text("key1") {
		t.Error("the restored account has other keys")
	}
	w.WantError(404, "ResourceNotFound", "GET", at+apiv, "")

	w.Settle(w.Do("DELETE", path+apiv, ""))
	w.Want(200, "DELETE", at+apiv, "")
	w.WantError(404, "ResourceNotFound", "DELETE", at+apiv, "")
	w.WantError(409, "CanNotRestoreANonExistingResource", "PUT", path+apiv, `{"location":"eastus","properties":{"restore":true}}`)
	w.Want(201, "PUT", accountPath("g", "other")+apiv, body(`"customSubDomainName":"gone"`))
	w.Want(201, "PUT", path+apiv, body(""))
	if again := w.Want(200, "POST", path+"/listKeys"+apiv, ""); again.Text("key1") == keys.Text("key1") {
		t.Error("a new account has a purged one's keys")
	}
}

func TestDeleted_RestoreHonoursWhatIsSent(t *testing.T) {
	w := start(t)
	path := w.account(t, "back")
	w.Want(200, "PATCH", path+apiv, `{"tags":{"a":"b"},"properties":{"disableLocalAuth":true,"networkAcls":{"defaultAction":"Deny","ipRules":[{"value":"192.0.2.1"}]}}}`)
	w.Settle(w.Do("DELETE", path+apiv, ""))
	for _, b := range []string{
		`{"location":"eastus","kind":"AIServices","properties":{"restore":true}}`,
		`{"location":"eastus","properties":{"restore":true,"customSubDomainName":"other"}}`,
		`{"location":"eastus","properties":{"restore":true,"encryption":{"keySource":"Microsoft.KeyVault"}}}`,
	} {
		w.WantError(400, "BadRequest", "PUT", path+apiv, b)
	}
	a := w.Want(201, "PUT", path+apiv, `{"location":"eastus","kind":"OpenAI","sku":{"name":"S0"},"properties":{"restore":true,"customSubDomainName":"back","publicNetworkAccess":"Disabled","networkAcls":{"defaultAction":"Deny"}}}`)
	rules, _ := a.At("properties", "networkAcls", "ipRules").([]any)
	if a.At("properties", "disableLocalAuth") != true || a.Text("properties", "publicNetworkAccess") != "Disabled" || len(rules) != 0 || a.Text("tags", "a") != "b" {
		t.Errorf("restored %s", a.Raw)
	}
}

func TestDeleted_GoesAfterTwoDays(t *testing.T) {
	w := start(t)
	path := w.account(t, "brief")
	w.Settle(w.Do("DELETE", path+apiv, ""))
	w.set(49*time.Hour, false)
	if n := w.deleted(); n != 0 {
		t.Errorf("still %d listed after the retention", n)
	}
	w.WantError(409, "CanNotRestoreANonExistingResource", "PUT", path+apiv, `{"location":"eastus","properties":{"restore":true}}`)
	w.Want(201, "PUT", accountPath("g", "next")+apiv, body(`"customSubDomainName":"brief"`))
	w.Want(201, "PUT", path+apiv, body(""))
}

func TestSweep_ErasesWhatIsDue(t *testing.T) {
	w := start(t)
	due := w.account(t, "due")
	w.account(t, "alive")
	w.Settle(w.Do("DELETE", due+apiv, ""))
	if err := cognitiveservices.Sweep(t.Context(), w.cfg); err != nil {
		t.Fatal(err)
	}
	if n := w.deleted(); n != 1 {
		t.Errorf("%d deleted accounts before they are due", n)
	}
	w.set(49*time.Hour, false)
	if err := cognitiveservices.Sweep(t.Context(), w.cfg); err != nil {
		t.Fatal(err)
	}
	w.set(0, false) // as if it were not due yet: it is gone all the same
	if n := w.deleted(); n != 0 {
		t.Errorf("%d deleted accounts after the sweep", n)
	}
	w.Want(200, "GET", accountPath("g", "alive")+apiv, "")
}

func TestDeleted_WithItsGroup(t *testing.T) {
	w := start(t)
	w.account(t, "inside")
	w.Settle(w.Do("DELETE", armtest.Base+"/resourceGroups/g?api-version="+armtest.Version, ""))
	w.Want(200, "GET", deletedPath("eastus", "g", "inside")+apiv, "")
	w.Want(200, "DELETE", deletedPath("eastus", "g", "inside")+apiv, "")
}
