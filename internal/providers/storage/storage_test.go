package storage_test

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/arm/armtest"
	"lazurite.dev/internal/providers/storage"
	"lazurite.dev/internal/seal"
	"lazurite.dev/internal/store"
)

const apiv = "?api-version=2023-05-01"

type world struct {
	*armtest.Plane
	refuse bool
	erased []string
}

func start(t testing.TB) *world {
	w := &world{}
	dir := t.TempDir()
	w.Plane = armtest.New(t, func(s store.Store) []arm.Provider {
		root, err := seal.OpenFileRoot(filepath.Join(dir, "root.key"))
		if err != nil {
			t.Fatal(err)
		}
		return []arm.Provider{storage.New(storage.Config{
			Store: s, Sealer: seal.NewKeyring(s, root), URL: func(name string) string { return "https://" + name + ".blob.core.windows.net" },
			Refuse: func() error {
				if w.refuse {
					return apierr.New(apierr.Conflict, "BlobsNotConfigured", "no folder")
				}
				return nil
			},
			Erase: func(_ context.Context, account, container string) error {
				w.erased = append(w.erased, account+"/"+container)
				return nil
			},
		})}
	}, nil)
	return w
}

func path(group, name string) string {
	return armtest.Base + "/resourceGroups/" + group + "/providers/Microsoft.Storage/storageAccounts/" + name
}

func body(props string) string {
	return `{"location":"eastus","kind":"storagev2","sku":{"name":"standard_lrs"},"properties":{` + props + `}}`
}

func TestContract(t *testing.T) {
	account := armtest.Step{Path: "{group}/providers/Microsoft.Storage/storageAccounts/{plain}", Body: body("")}
	armtest.Run(t, func(t *testing.T) *armtest.Plane { return start(t).Plane }, armtest.Case{
		Type: "Microsoft.Storage/storageAccounts", Path: "{group}/providers/Microsoft.Storage/storageAccounts/account{n}", Body: body(""),
		BadNames: []string{"ab", "with-dash", "Upper", "a23456789012345678901234x"},
	}, armtest.Case{
		Type: "Microsoft.Storage/storageAccounts/blobServices/containers", Path: "{group}/providers/Microsoft.Storage/storageAccounts/{plain}/blobServices/default/containers/container{n}",
		Body: `{"properties":{}}`, Before: []armtest.Step{account}, Volatile: []string{"lastModifiedTime"}, BadNames: []string{"ab", "a--b", "-ab", "Upper"},
	})
}

func TestAccount_CreateShowUpdateDelete(t *testing.T) {
	w := start(t)
	w.Group("g")
	w.Settle(w.Do("PUT", path("g", "account1")+apiv, body("")))
	r := w.Want(200, "GET", path("g", "account1")+apiv, "")
	for want, at := range map[string][]string{
		"https://account1.blob.core.windows.net/": {"properties", "primaryEndpoints", "blob"}, "StorageV2": {"kind"}, "Standard": {"sku", "tier"}, "Hot": {"properties", "accessTier"},
		"TLS1_2": {"properties", "minimumTlsVersion"}, "Microsoft.Storage": {"properties", "encryption", "keySource"}, "eastus": {"properties", "primaryLocation"},
	} {
		if got := r.Text(at...); got != want {
			t.Errorf("%v is %q, want %q", at, got, want)
		}
	}
	if r.At("properties", "allowBlobPublicAccess") != false || r.At("properties", "allowSharedKeyAccess") != true || r.Text("properties", "keyCreationTime", "key1") == "" {
		t.Errorf("%s", r.Raw)
	}
	if d, err := w.Store.Get(t.Context(), "storage/names/account1"); err != nil || d.Kind != "storage.account" || !strings.Contains(string(d.Value), `"location":"eastus","sku":"Standard_LRS","kind":"StorageV2","properties":{`) {
		t.Errorf("the record is not as it always was: %v, of kind %s: %s", err, d.Kind, d.Value)
	}
	w.Group("other")
	w.WantError(409, "StorageAccountAlreadyTaken", "PUT", path("other", "account1")+apiv, body(""))
	check := armtest.Base + "/providers/Microsoft.Storage/checkNameAvailability" + apiv
	for name, reason := range map[string]string{"account1": "AlreadyExists", "ab": "AccountNameInvalid", "newname": ""} {
		a := w.Want(200, "POST", check, `{"name":"`+name+`","type":"Microsoft.Storage/storageAccounts"}`)
		if a.At("nameAvailable") != (reason == "") || reason != "" && a.Text("reason") != reason {
			t.Errorf("%s: %s", name, a.Raw)
		}
	}
	w.Settle(w.Do("PATCH", path("g", "account1")+apiv, `{"sku":{"name":"Standard_GRS"},"properties":{"allowSharedKeyAccess":false,"networkAcls":{"defaultAction":"Deny","ipRules":[{"value":"192.0.2.1"}]}}}`))
	// A PUT that does not speak of them leaves switches of security alone.
	w.Settle(w.Do("PUT", path("g", "account1")+apiv, `{"location":"eastus"}`))
	r = w.Want(200, "GET", path("g", "account1")+apiv, "")
	if r.At("properties", "allowSharedKeyAccess") != false || r.Text("properties", "networkAcls", "defaultAction") != "Deny" || r.Text("sku", "name") != "Standard_GRS" {
		t.Errorf("%s", r.Raw)
	}
	if got := w.Want(200, "GET", armtest.Base+"/providers/Microsoft.Storage/locations/eastus/usages"+apiv, "").At("value").([]any)[0].(map[string]any)["currentValue"]; got != 1.0 {
		t.Errorf("usage %v", got)
	}
	if got := w.Want(200, "GET", armtest.Base+"/providers/Microsoft.Storage/skus"+apiv, "").At("value").([]any); len(got) == 0 {
		t.Error("no skus")
	}
	if got := w.Want(200, "GET", path("g", "account1")+"/privateLinkResources"+apiv, "").At("value").([]any); len(got) != 1 {
		t.Errorf("groups %v", got)
	}
	w.Settle(w.Do("DELETE", path("g", "account1")+apiv, ""))
	if len(w.erased) == 0 {
		t.Error("nothing was erased")
	}
	w.Settle(w.Do("PUT", path("other", "account1")+apiv, body("")))
}

func TestAccount_Keys(t *testing.T) {
	w := start(t)
	w.Group("g")
	w.Settle(w.Do("PUT", path("g", "account1")+apiv, body("")))
	keys := func(a *armtest.Answer) (string, string) {
		l := a.At("keys").([]any)
		return l[0].(map[string]any)["value"].(string), l[1].(map[string]any)["value"].(string)
	}
	one, two := keys(w.Want(200, "POST", path("g", "account1")+"/listKeys"+apiv, ""))
	a, b := keys(w.Want(200, "POST", path("g", "account1")+"/regenerateKey"+apiv, `{"keyName":"key2"}`))
	if a != one || b == two || len(one) != 88 || one == two {
		t.Error("the wrong key was replaced, or they are weak")
	}
	w.WantError(400, "InvalidRequestPropertyValue", "POST", path("g", "account1")+"/regenerateKey"+apiv, `{"keyName":"key3"}`)
	sas := w.Want(200, "POST", path("g", "account1")+"/listAccountSas"+apiv, `{"signedServices":"b","signedResourceTypes":"sco","signedPermission":"rl","signedExpiry":"2099-01-01T00:00:00Z","keyToSign":"key1"}`).Text("accountSasToken")
	if !strings.Contains(sas, "sig=") || !strings.Contains(sas, "srt=sco") {
		t.Errorf("%s", sas)
	}
	sas = w.Want(200, "POST", path("g", "account1")+"/listServiceSas"+apiv, `{"canonicalizedResource":"/blob/account1/c1x","signedResource":"c","signedPermission":"rl","signedExpiry":"2099-01-01T00:00:00Z"}`).Text("serviceSasToken")
	if !strings.Contains(sas, "sig=") || !strings.Contains(sas, "sr=c") {
		t.Errorf("%s", sas)
	}
	for _, in := range []string{`{}`, `{"signedPermission":"r"}`, `{"signedPermission":"r","signedExpiry":"soon"}`, `{"signedPermission":"r","signedExpiry":"2099-01-01","keyToSign":"key9","signedServices":"b","signedResourceTypes":"o"}`} {
		w.WantError(400, "InvalidRequestPropertyValue", "POST", path("g", "account1")+"/listAccountSas"+apiv, in)
	}
	w.WantError(400, "InvalidRequestPropertyValue", "POST", path("g", "account1")+"/listServiceSas"+apiv, `{"canonicalizedResource":"/blob/another/c1x","signedPermission":"rl","signedExpiry":"2099-01-01"}`)
	w.Settle(w.Do("PATCH", path("g", "account1")+apiv, `{"properties":{"allowSharedKeyAccess":false}}`))
	w.WantError(409, "KeyBasedAuthenticationNotPermitted", "POST", path("g", "account1")+"/listAccountSas"+apiv, `{"signedServices":"b","signedResourceTypes":"sco","signedPermission":"rl","signedExpiry":"2099-01-01"}`)
	w.Want(200, "POST", path("g", "account1")+"/revokeUserDelegationKeys"+apiv, "")
}

func TestAccount_Refusals(t *testing.T) {
	w := start(t)
	w.Group("g")
	for name, b := range map[string]string{
		"no sku":     `{"location":"eastus","kind":"StorageV2"}`,
		"no kind":    `{"location":"eastus","sku":{"name":"Standard_LRS"}}`,
		"files":      `{"location":"eastus","kind":"FileStorage","sku":{"name":"Premium_LRS"}}`,
		"premium":    `{"location":"eastus","kind":"StorageV2","sku":{"name":"Premium_LRS"}}`,
		"sku":        `{"location":"eastus","kind":"StorageV2","sku":{"name":"Basic"}}`,
		"access":     body(`"publicNetworkAccess":"Maybe"`),
		"tls":        body(`"minimumTlsVersion":"SSL3"`),
		"ip":         body(`"networkAcls":{"defaultAction":"Deny","ipRules":[{"value":"nowhere"}]}`),
		"deny rule":  body(`"networkAcls":{"defaultAction":"Deny","ipRules":[{"action":"Deny","value":"192.0.2.1"}]}`),
		"bypass":     body(`"networkAcls":{"bypass":"Everything"}`),
		"resources":  body(`"networkAcls":{"resourceAccessRules":[{"resourceId":"x"}]}`),
		"encryption": body(`"encryption":{"keySource":"Microsoft.Keyvault"}`),
		"twice":      body(`"encryption":{"requireInfrastructureEncryption":true}`),
		"hns":        body(`"isHnsEnabled":true`),
		"sftp":       body(`"isSftpEnabled":true`),
		"nfs":        body(`"isNfsV3Enabled":true`),
		"domain":     body(`"customDomain":{"name":"x.example"}`),
		"sas":        body(`"sasPolicy":{"sasExpirationPeriod":"1.00:00:00"}`),
		"key policy": body(`"keyPolicy":{"keyExpirationPeriodInDays":3}`),
		"immutable":  body(`"immutableStorageWithVersioning":{"enabled":true}`),
		"routing":    body(`"routingPreference":{"routingChoice":"InternetRouting"}`),
	} {
		t.Run(name, func(t *testing.T) {
			w.WantError(400, "InvalidRequestPropertyValue", "PUT", path("g", "account1")+apiv, b)
		})
	}
	w.refuse = true
	w.WantError(409, "BlobsNotConfigured", "PUT", path("g", "account1")+apiv, body(""))
}

func TestService_AndContainers(t *testing.T) {
	w := start(t)
	w.Group("g")
	p := path("g", "account1")
	w.Settle(w.Do("PUT", p+apiv, body("")))
	w.Want(200, "GET", p+"/blobServices/default"+apiv, "")
	w.Want(200, "PUT", p+"/blobServices/default"+apiv, `{"properties":{"deleteRetentionPolicy":{"enabled":false}}}`)
	for _, props := range []string{`"isVersioningEnabled":true`, `"deleteRetentionPolicy":{"enabled":true,"days":7}`, `"cors":{"corsRules":[{"allowedOrigins":["*"]}]}`, `"changeFeed":{"enabled":true}`} {
		w.WantError(400, "InvalidRequestPropertyValue", "PUT", p+"/blobServices/default"+apiv, `{"properties":{`+props+`}}`)
	}
	w.WantError(405, "MethodNotAllowed", "DELETE", p+"/blobServices/default"+apiv, "")
	w.WantError(404, "ResourceNotFound", "PUT", p+"/blobServices/second"+apiv, `{}`)
	c := p + "/blobServices/default/containers/c1x" + apiv
	w.Want(201, "PUT", c, `{"properties":{"metadata":{"k":"v"}}}`)
	r := w.Want(200, "GET", c, "")
	if r.Text("properties", "publicAccess") != "None" || r.Text("properties", "leaseState") != "Available" || r.At("properties", "provisioningState") != nil {
		t.Errorf("%s", r.Raw)
	}
	w.WantError(409, "PublicAccessNotPermitted", "PATCH", c, `{"properties":{"publicAccess":"Blob"}}`)
	w.WantError(400, "InvalidRequestPropertyValue", "PATCH", c, `{"properties":{"metadata":{"a-b":"v"}}}`)
	w.Settle(w.Do("PATCH", p+apiv, `{"properties":{"allowBlobPublicAccess":true}}`))
	w.Want(200, "PATCH", c, `{"properties":{"publicAccess":"Blob"}}`)
	w.Want(200, "DELETE", c, "")
	if len(w.erased) != 1 || strings.HasSuffix(w.erased[0], "/") {
		t.Errorf("erased %q", w.erased)
	}
}
