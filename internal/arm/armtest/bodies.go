package armtest

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/google/go-cmp/cmp"
)

// The checks of what a body may hold.

func (k *contract) unknownProperties() {
	path, body := k.next()
	unknown := map[string]any{"list": []any{map[string]any{"deep": "x", "n": 1.5}}, "null": nil, "no": false}
	body = k.with(body, func(top, p map[string]any) { p["xUnknown"], top["xTop"] = unknown, unknown })
	if k.Strict {
		if a := k.Do("PUT", path+k.q(), body); a.Status != http.StatusBadRequest {
			k.t.Errorf("got %d %s, want 400", a.Status, a.Raw)
		}
		return
	}
	k.put(k.rt.Created(), path, body)
	got := k.Want(http.StatusOK, "GET", path+k.q(), "")
	if diff := cmp.Diff(any(unknown), got.At("properties", "xUnknown")); diff != "" {
		k.t.Errorf("an unknown property changed:\n%s", diff)
	}
	if diff := cmp.Diff(any(unknown), got.At("xTop")); diff != "" {
		k.t.Errorf("an unknown member changed:\n%s", diff)
	}
}

func (k *contract) readOnly() {
	path, body := k.next()
	forged := k.with(body, func(top, p map[string]any) {
		top["id"], top["type"], top["name"] = "/forged", "forged", "forged"
		top["systemData"] = map[string]any{"createdBy": "forged"}
		p["provisioningState"] = "forged"
		for _, r := range k.rt.ReadOnlyPaths() {
			at := p
			parts := strings.Split(r, ".")
			for _, seg := range parts[:len(parts)-1] {
				sub, ok := at[seg].(map[string]any)
				if !ok {
					sub = map[string]any{}
					at[seg] = sub
				}
				at = sub
			}
			at[parts[len(parts)-1]] = "forged"
		}
	})
	k.put(k.rt.Created(), path, forged)
	first := k.Want(http.StatusOK, "GET", path+k.q(), "")
	if strings.Contains(string(first.Raw), "forged") {
		k.t.Errorf("a read-only property was taken: %s", first.Raw)
	}
	if a := k.Do("PUT", path+k.q(), forged); a.Status == http.StatusOK {
		k.Settle(a)
		if again := k.Want(http.StatusOK, "GET", path+k.q(), ""); strings.Contains(string(again.Raw), "forged") {
			k.t.Errorf("a read-only property was taken on update: %s", again.Raw)
		}
	}
}

func (k *contract) tags() {
	if !k.rt.Tracked {
		return
	}
	path, body := k.next()
	withTags := func(tags map[string]any) string {
		return k.with(body, func(top, _ map[string]any) { top["tags"] = tags })
	}
	many := map[string]any{}
	for i := range 51 {
		many[fmt.Sprint("k", i)] = "v"
	}
	for _, bad := range []map[string]any{
		many, {"a/b": "v"}, {"": "v"}, {"k": strings.Repeat("v", 257)}, {strings.Repeat("k", 513): "v"}, {"k": 1}, {"Key": "1", "KEY": "2"},
	} {
		k.Want(http.StatusBadRequest, "PUT", path+k.q(), withTags(bad))
	}
	good := map[string]any{"env": "prod", "Größe": ""}
	k.put(k.rt.Created(), path, withTags(good))
	if diff := cmp.Diff(any(good), k.Want(http.StatusOK, "GET", path+k.q(), "").At("tags")); diff != "" {
		k.t.Errorf("tags:\n%s", diff)
	}
}

func (k *contract) patch() {
	path, body, first := k.made()
	if !k.rt.CanPatch() {
		k.Want(http.StatusMethodNotAllowed, "PATCH", path+k.q(), `{}`)
		return
	}
	if k.rt.Tracked {
		a := k.Want(http.StatusOK, "PATCH", path+k.q(), `{"tags":{"a":"1","b":"2"}}`)
		k.Settle(a)
		k.Settle(k.Want(http.StatusOK, "PATCH", path+k.q(), `{"tags":{"b":"3"}}`))
		got := k.Want(http.StatusOK, "GET", path+k.q(), "")
		if diff := cmp.Diff(any(map[string]any{"b": "3"}), got.At("tags")); diff != "" {
			k.t.Errorf("tags are replaced as a whole:\n%s", diff)
		}
		if diff := cmp.Diff(first.JSON["properties"], got.JSON["properties"]); diff != "" {
			k.t.Errorf("a PATCH of tags changed properties:\n%s", diff)
		}
	}
	if k.Strict {
		return
	}
	k.Settle(k.Want(http.StatusOK, "PATCH", path+k.q(), `{"properties":{"xA":{"b":1,"c":[1,2]}}}`))
	k.Settle(k.Want(http.StatusOK, "PATCH", path+k.q(), `{"properties":{"xA":{"b":null,"c":[3]}}}`))
	got := k.Want(http.StatusOK, "GET", path+k.q(), "")
	if diff := cmp.Diff(any(map[string]any{"c": []any{3.0}}), got.At("properties", "xA")); diff != "" {
		k.t.Errorf("merge:\n%s", diff)
	}
	k.Settle(k.Want(http.StatusOK, "PUT", path+k.q(), body))
	if got := k.Want(http.StatusOK, "GET", path+k.q(), "").At("properties", "xA"); got != nil {
		k.t.Errorf("a PUT leaves what it does not say: %v", got)
	}
}

func (k *contract) patchMissing() {
	path, body := k.next()
	if k.rt.CanPatch() {
		k.Want(http.StatusNotFound, "PATCH", path+k.q(), body)
	}
}

func (k *contract) tooLarge() {
	path, body := k.next()
	k.WantError(http.StatusRequestEntityTooLarge, "RequestContentTooLarge", "PUT", path+k.q(),
		k.with(body, func(_, p map[string]any) { p["x"] = strings.Repeat("x", 4<<20) }))
}

func (k *contract) contentType() {
	path, body := k.next()
	for _, ct := range []string{"text/plain", "application/x-www-form-urlencoded", "application/xml", ";"} {
		k.WantError(http.StatusUnsupportedMediaType, "UnsupportedMediaType", "PUT", path+k.q(), body, "Content-Type", ct)
	}
	k.put(k.rt.Created(), path, body, "Content-Type", "application/json; charset=utf-8")
}

func (k *contract) malformed() {
	path, body := k.next()
	for _, bad := range []string{
		"", "{", "[]", `"x"`, "null", "12", `{"properties":"x"}`, `{"properties":[]}`, body + body,
		`{"location":"westus2","location":"eastus"}`, `{"properties":{},"Properties":{}}`, strings.Repeat("[", 5000),
	} {
		if a := k.Do("PUT", path+k.q(), bad); a.Status != http.StatusBadRequest || a.Code() == "" {
			k.t.Errorf("the body %.40q: %d %s, want 400", bad, a.Status, a.Raw)
		}
	}
	k.Want(http.StatusNotFound, "GET", path+k.q(), "")
}

func (k *contract) listFilter() {
	path, _, _ := k.made()
	for _, bad := range []string{"name+eq", "(((", "name+eq+'x", "%27"} {
		k.WantError(http.StatusBadRequest, "InvalidFilterInQueryString", "GET", k.list(path)+k.q()+"&$filter="+bad, "")
	}
}

func (k *contract) parentMissing() {
	path, body := k.next()
	cut := strings.TrimPrefix(path, k.group)
	if cut == path {
		return
	}
	k.WantError(http.StatusNotFound, "ResourceGroupNotFound", "PUT", Base+"/resourceGroups/absent"+cut+k.q(), body)
	if types := strings.Split(k.rt.Type, "/"); len(types) > 2 {
		segs := strings.Split(path, "/")
		segs[len(segs)-3] += "-absent"
		gone := strings.Join(segs, "/")
		for _, m := range []string{"GET", "DELETE", "PUT"} {
			if k.Implied && m == "PUT" {
				continue
			}
			if a := k.Do(m, gone+k.q(), body); a.Status != http.StatusNotFound {
				k.t.Errorf("%s without the parent: %d %s, want 404", m, a.Status, a.Raw)
			}
		}
		k.Want(http.StatusNotFound, "GET", k.list(gone)+k.q(), "")
	}
}

func (k *contract) location() {
	if !k.rt.Tracked || !strings.Contains(k.Body, `"location"`) {
		return
	}
	path, body := k.next()
	at := func(l any) string {
		return k.with(body, func(top, _ map[string]any) {
			if top["location"] = l; l == nil {
				delete(top, "location")
			}
		})
	}
	k.Want(http.StatusBadRequest, "PUT", path+k.q(), at("atlantis"))
	if !k.rt.LocationOptional() {
		k.WantError(http.StatusBadRequest, "LocationRequired", "PUT", path+k.q(), at(nil))
	}
	k.put(k.rt.Created(), path, at("West US 2"))
	if got := k.Want(http.StatusOK, "GET", path+k.q(), "").Text("location"); got != "westus2" {
		k.t.Errorf("got the location %q", got)
	}
	if a := k.Want(http.StatusConflict, "PUT", path+k.q(), at("eastus")); !strings.HasPrefix(a.Code(), "InvalidResource") {
		k.t.Errorf("got %s", a.Raw)
	}
}

func (k *contract) badNames() {
	path, body := k.next()
	for _, name := range k.BadNames {
		if a := k.Do("PUT", k.list(path)+"/"+name+k.q(), body); a.Status != http.StatusBadRequest {
			k.t.Errorf("the name %q: %d %s, want 400", name, a.Status, a.Raw)
		}
	}
}

func (k *contract) badPaths() {
	path, body := k.next()
	for _, bad := range []string{path + "%2Fx", k.list(path) + "/../x", k.list(path) + "/%00", k.list(path) + "/" + strings.Repeat("n", 300)} {
		if a := k.Do("PUT", bad+k.q(), body); a.Status != http.StatusBadRequest {
			k.t.Errorf("PUT %.200s: %d %s, want 400", bad, a.Status, a.Raw)
		}
	}
}

func (k *contract) methods() {
	path, body, _ := k.made()
	for _, m := range []string{"POST", "TRACE", "PROPFIND"} {
		k.Want(http.StatusMethodNotAllowed, m, path+k.q(), body)
	}
	for _, m := range []string{"PUT", "PATCH", "DELETE"} {
		k.Want(http.StatusMethodNotAllowed, m, k.list(path)+k.q(), body)
	}
	if a := k.Do("POST", path+"/noSuchAction"+k.q(), "{}"); a.Status != http.StatusNotFound && a.Status != http.StatusBadRequest {
		k.t.Errorf("an action that is not there: %d %s, want 404 or 400", a.Status, a.Raw)
	}
}
