package cognitiveservices_test

import (
	"regexp"
	"strings"
	"testing"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/providers/cognitiveservices"
	"lazurite.dev/internal/rid"
	"lazurite.dev/internal/store"
)

// registries are the one of a data plane, in memory, and one that asks the
// store: what is found is the same.
func (w *world) registries(t *testing.T) map[string]*cognitiveservices.Accounts {
	t.Helper()
	a, err := cognitiveservices.Open(t.Context(), w.Store, w.cfg.Sealer)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return map[string]*cognitiveservices.Accounts{"mirror": a, "store": {Store: w.Store, Sealer: w.cfg.Sealer}}
}

func TestRegistry_FindsAccounts(t *testing.T) {
	w := start(t)
	regs := w.registries(t)
	path := w.account(t, "found")
	w.Want(200, "PATCH", path+apiv, `{"properties":{"networkAcls":{"defaultAction":"Deny","ipRules":[{"value":"192.0.2.0/24"}]}}}`)
	w.Want(201, "PUT", accountPath("g", "regional")+apiv, body(""))
	w.Want(201, "PUT", accountPath("g", "regional2")+apiv, body(""))
	keys := w.Want(200, "POST", path+"/listKeys"+apiv, "")
	regional := w.Want(200, "POST", accountPath("g", "regional")+"/listKeys"+apiv, "")
	for name, reg := range regs {
		a, err := reg.BySubdomain(t.Context(), "FOUND")
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !a.HasKey(keys.Text("key1")) || !a.HasKey(keys.Text("key2")) || a.HasKey("") || a.HasKey(regional.Text("key1")) {
			t.Errorf("%s: keys", name)
		}
		if a.Name != "found" || a.Location != "eastus" || a.Kind != "OpenAI" || a.LocalAuthDisabled || a.Network.DefaultAllow || len(a.Network.IPRules) != 1 || !a.Network.Public || a.Network.Trusted {
			t.Errorf("%s: %+v", name, a)
		}
		a, err = reg.ByKey(t.Context(), "East US", regional.Text("key2"))
		if err != nil || a.Name != "regional" {
			t.Errorf("%s: by key: %+v, %v", name, a, err)
		}
		for what, err := range map[string]error{
			"another region":         second(reg.ByKey(t.Context(), "westus", regional.Text("key1"))),
			"an account with a name": second(reg.ByKey(t.Context(), "eastus", keys.Text("key1"))),
			"no key":                 second(reg.ByKey(t.Context(), "eastus", "")),
			"no such subdomain":      second(reg.BySubdomain(t.Context(), "nobody")),
			"not a subdomain":        second(reg.BySubdomain(t.Context(), "g/../x")),
		} {
			if !apierr.Is(err, apierr.NotFound) {
				t.Errorf("%s: %s: %v", name, what, err)
			}
		}
	}
	// One account whose keys can't be read keeps nobody else's from being found.
	ctx := t.Context()
	docs, err := w.Store.List(ctx, store.Query{Prefix: "cognitive/accounts", Limit: 100})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range docs {
		if strings.Contains(string(d.Value), "regional2") {
			d.Value = []byte(regexp.MustCompile(`"keys":"[^"]*"`).ReplaceAllString(string(d.Value), `"keys":"AAAA"`))
			if _, err := w.Store.Put(ctx, d); err != nil {
				t.Fatal(err)
			}
		}
	}
	reg := &cognitiveservices.Accounts{Store: w.Store, Sealer: w.cfg.Sealer}
	if a, err := reg.ByKey(ctx, "eastus", regional.Text("key1")); err != nil || a.Name != "regional" {
		t.Errorf("beside an unreadable one: %+v, %v", a, err)
	}
	if _, err := reg.ByKey(ctx, "eastus", "none"); err == nil || apierr.Is(err, apierr.NotFound) {
		t.Errorf("it may be the unreadable one's: %v", err)
	}
	old := keys.Text("key1")
	w.Want(200, "POST", path+"/regenerateKey"+apiv, `{"keyName":"Key1"}`)
	w.Want(200, "PATCH", path+apiv, `{"properties":{"disableLocalAuth":true,"publicNetworkAccess":"Disabled"}}`)
	for name, reg := range regs {
		a, err := reg.BySubdomain(t.Context(), "found")
		if err != nil || a.HasKey(old) || !a.LocalAuthDisabled || a.Network.Public {
			t.Errorf("%s: after the change: %+v, %v", name, a, err)
		}
	}
	w.Settle(w.Do("DELETE", path+apiv, ""))
	for name, reg := range regs {
		if _, err := reg.BySubdomain(t.Context(), "found"); !apierr.Is(err, apierr.NotFound) {
			t.Errorf("%s: a deleted account: %v", name, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestRegistry_FindsDeployments(t *testing.T) {
	w := start(t)
	regs := w.registries(t)
	path := w.account(t, "deps")
	w.Want(201, "PUT", deploymentPath(path, "Beta")+apiv, deployment)
	w.Want(201, "PUT", deploymentPath(path, "alpha")+apiv, `{"sku":{"name":"GlobalStandard","capacity":5},"tags":{"LAZ-content-logging":"true"},"properties":{"model":{"name":"gpt-35-turbo"}}}`)
	id := rid.MustParse(path)
	for name, reg := range regs {
		list, err := reg.Deployments(t.Context(), id)
		if err != nil || len(list) != 2 || list[0].Name != "alpha" || list[1].Name != "Beta" {
			t.Fatalf("%s: %v, %v", name, list, err)
		}
		d, err := reg.Deployment(t.Context(), id, "ALPHA")
		if err != nil || d.Model != "gpt-35-turbo" || d.Version != "0125" || d.SKU != "GlobalStandard" || d.Capacity != 5 || !d.ContentLogging || d.RateLimits[1].Count != 5000 {
			t.Errorf("%s: %+v, %v", name, d, err)
		}
		if list[1].ContentLogging {
			t.Errorf("%s: content is logged that nobody asked for", name)
		}
		for _, absent := range []string{"gamma", "", "a/b", "../x"} {
			if _, err := reg.Deployment(t.Context(), id, absent); !apierr.Is(err, apierr.NotFound) {
				t.Errorf("%s: %q: %v", name, absent, err)
			}
		}
	}
	w.Settle(w.Do("DELETE", deploymentPath(path, "alpha")+apiv, ""))
	for name, reg := range regs {
		if _, err := reg.Deployment(t.Context(), id, "alpha"); !apierr.Is(err, apierr.NotFound) {
			t.Errorf("%s: a deleted deployment: %v", name, err)
		}
	}
}
