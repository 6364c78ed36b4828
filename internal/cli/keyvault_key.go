package cli

import (
	"context"
	"net/http"
)

func keyCommands() []*command {
	const group = "keyvault key"
	cmds := []*command{keyCreate(), keyImport(), keyDownload(), keyAttributes(), keyRotate(), keyRandom(),
		{path: "keyvault key show", short: "Show the public part of a key.", example: "keyvault key show --vault-name myVault --name my",
			args: append(objectArgs("key"), versionOpt("key")), run: onObject(http.MethodGet, "keys", "", true, showKey)},
		{path: "keyvault key list", short: "List keys.", example: "keyvault key list --vault-name myVault",
			args:  append(listArgs("keys"), flagOpt("include-managed", "Also those that belong to certificates.")),
			table: "[].{Name:name, Kid:kid, Enabled:attributes.enabled, Expires:attributes.expires}",
			run: func(ctx context.Context, c *call) (any, error) {
				v, err := listing("keys", showKeyItem)(ctx, c)
				if err != nil || c.flag("include-managed") {
					return v, err
				}
				out := []any{}
				for _, k := range items(v) {
					if at(k, "managed") != true {
						out = append(out, k)
					}
				}
				return out, nil
			}},
		{path: "keyvault key list-versions", short: "List the versions of a key.", example: "keyvault key list-versions --vault-name myVault --name my",
			args: append(objectArgs("key"), numberOpt("maxresults", "How many versions one request brings; all are listed.")), run: versions("keys", showKeyItem)},
	}
	cmds = append(cmds, rotationPolicyCommands()...)
	cmds = append(cmds, deletedCommands(group, "key", "keys", showAnyKey)...)
	return append(cmds, backupCommands(group, "key", "keys", showKey)...)
}

func showKeyItem(v any) any {
	showAttributes(v)
	nameFromID(v, "kid")
	return withNulls(v, "managed", "tags")
}

func showKey(v any) any {
	showAttributes(v)
	withNulls(at(v, "attributes"), "exportable")
	if k, ok := at(v, "key").(object); ok {
		k["keyOps"] = k["key_ops"]
		delete(k, "key_ops")
		withNulls(k, "crv", "d", "dp", "dq", "e", "k", "n", "p", "q", "qi", "t", "x", "y")
	}
	if m, ok := v.(object); ok {
		m["releasePolicy"] = m["release_policy"]
		delete(m, "release_policy")
	}
	return withNulls(v, "managed", "tags")
}

// showAnyKey shows a whole key, or an item of a list.
func showAnyKey(v any) any {
	if at(v, "key") != nil {
		return showKey(v)
	}
	return showKeyItem(v)
}

func keyLifeArgs() []arg {
	return append([]arg{tagsOpt(), boolOpt("disabled", "Whether it may not be used."),
		boolOpt("exportable", "Whether the private part may leave the vault by a release policy."),
		opt("policy", "Release policy as JSON. @FILE reads a file."),
		listOpt("ops", "What it may do: decrypt, encrypt, export, import, sign, unwrapKey, verify, wrapKey.")}, attributeArgs()[1:]...)
}

// keyBody makes what create and import share.
func (c *call) keyBody() (object, error) {
	attrs, err := c.attributes()
	if err != nil {
		return nil, err
	}
	if c.given("exportable") {
		m, _ := attrs.(object)
		if m == nil {
			m = object{}
		}
		m["exportable"] = c.flag("exportable")
		attrs = m
	}
	body := withoutNil(object{"attributes": attrs})
	c.setIf(body, "tags", "tags")
	if p := c.text("policy"); p != "" {
		body["release_policy"] = object{"data": b64([]byte(p)), "contentType": "application/json; charset=utf-8"}
	}
	return body, nil
}

func keyCreate() *command {
	return &command{path: "keyvault key create", short: "Create a key, or a new version of one.", example: "keyvault key create --vault-name myVault --name my --kty RSA --size 2048",
		args: append(append(objectArgs("key"), opt("kty", "Kind of key.").oneOf("EC", "EC-HSM", "oct", "oct-HSM", "RSA", "RSA-HSM"),
			numberOpt("size", "Size in bits: 2048, 3072 or 4096 for RSA; 128, 192 or 256 for oct."),
			opt("curve", "Curve of an EC key.").oneOf("P-256", "P-256K", "P-384", "P-521"),
			opt("protection", "Where it is kept.").or("-p").oneOf("hsm", "software")), keyLifeArgs()...),
		run: inVault(func(ctx context.Context, c *call, v *vault) (any, error) {
			path, err := c.objectPath("keys", false)
			if err != nil {
				return nil, err
			}
			body, err := c.keyBody()
			if err != nil {
				return nil, err
			}
			kty := firstNonEmpty(c.text("kty"), "RSA")
			if c.given("curve") && !c.given("kty") {
				kty = "EC"
			}
			if c.text("protection") == "hsm" && (kty == "RSA" || kty == "EC" || kty == "oct") {
				kty += "-HSM"
			}
			body["kty"] = kty
			c.setIf(body, "key_size", "size")
			c.setIf(body, "crv", "curve")
			c.setIf(body, "key_ops", "ops")
			got, err := v.do(ctx, http.MethodPost, path+"/create", body)
			if err != nil {
				return nil, err
			}
			return showKey(got), nil
		})}
}

func keyAttributes() *command {
	return &command{path: "keyvault key set-attributes", short: "Change what is said of a key.", example: "keyvault key set-attributes --vault-name myVault --name my --enabled false",
		args: append(append(objectArgs("key"), versionOpt("key"), tagsOpt(),
			listOpt("ops", "What it may do: decrypt, encrypt, sign, unwrapKey, verify, wrapKey.")), attributeArgs()...),
		run: inVault(func(ctx context.Context, c *call, v *vault) (any, error) {
			return c.patchObject(ctx, v, "keys", showKey, func(body object) { c.setIf(body, "key_ops", "ops") })
		})}
}

func keyRotate() *command {
	return &command{path: "keyvault key rotate", short: "Make a new version of a key by its rotation policy.", example: "keyvault key rotate --vault-name myVault --name my",
		args: objectArgs("key"), run: onObject(http.MethodPost, "keys", "/rotate", false, showKey)}
}

func keyRandom() *command {
	return &command{path: "keyvault key random", short: "Get random bytes.", example: "keyvault key random --vault-name myVault --count 32",
		args: append(listArgs("")[:2], numberOpt("count", "How many bytes.").required()),
		run: inVault(func(ctx context.Context, c *call, v *vault) (any, error) {
			return v.do(ctx, http.MethodPost, "/rng", object{"count": c.number("count")})
		})}
}

func rotationPolicyCommands() []*command {
	show := func(v any) any {
		nameFromID(v, "id")
		if m, ok := at(v, "attributes").(object); ok {
			for wire, name := range map[string]string{"created": "createdOn", "updated": "updatedOn", "expiryTime": "expiresIn"} {
				t := isoTime(m[wire])
				delete(m, wire)
				v.(object)[name] = t
			}
			delete(v.(object), "attributes")
		}
		return v
	}
	return []*command{
		{path: "keyvault key rotation-policy show", short: "Show when a key is renewed.", example: "keyvault key rotation-policy show --vault-name myVault --name my",
			args: objectArgs("key"), run: onObject(http.MethodGet, "keys", "/rotationpolicy", false, show)},
		{path: "keyvault key rotation-policy update", short: "Set when a key is renewed.", example: "keyvault key rotation-policy update --vault-name myVault --name my --value @policy.json",
			args: append(objectArgs("key"), opt("value", "The policy as JSON: lifetimeActions, attributes. @FILE reads a file.").required()),
			run: inVault(func(ctx context.Context, c *call, v *vault) (any, error) {
				path, err := c.objectPath("keys", false)
				if err != nil {
					return nil, err
				}
				p, err := decode([]byte(c.text("value")))
				body, ok := p.(object)
				if err != nil || !ok {
					return nil, usagef("argument --value: not a JSON object")
				}
				got, err := v.do(ctx, http.MethodPut, path+"/rotationpolicy", rotationWire(body))
				if err != nil {
					return nil, err
				}
				return show(got), nil
			})},
	}
}

// rotationWire takes az's spellings too: lifetime_actions, expires_in.
func rotationWire(p object) object {
	out := object{}
	actions := items(firstOf(p, "lifetimeActions", "lifetime_actions"))
	wire := []any{}
	for _, a := range actions {
		m := lowerKeys(asObject(a))
		trigger := asObject(m["trigger"])
		for k, v := range m { // az's flat form: {"action": "Rotate", "timeAfterCreate": "P90D"}
			if s, ok := map[string]string{"timeaftercreate": "timeAfterCreate", "time_after_create": "timeAfterCreate",
				"timebeforeexpiry": "timeBeforeExpiry", "time_before_expiry": "timeBeforeExpiry"}[k]; ok {
				trigger[s] = v
			}
		}
		action := m["action"]
		if s, ok := action.(string); ok {
			action = object{"type": s}
		}
		wire = append(wire, object{"trigger": trigger, "action": action})
	}
	out["lifetimeActions"] = wire
	if e := firstNonEmptyAny(at(p, "attributes", "expiryTime"), p["expiresIn"], p["expires_in"], p["expiryTime"]); e != nil {
		out["attributes"] = object{"expiryTime": e}
	}
	return out
}

func asObject(v any) object {
	if m, ok := v.(object); ok {
		return m
	}
	return object{}
}

func firstOf(o object, keys ...string) any {
	for _, k := range keys {
		if o[k] != nil {
			return o[k]
		}
	}
	return nil
}

func firstNonEmptyAny(vals ...any) any {
	for _, v := range vals {
		if v != nil && v != "" {
			return v
		}
	}
	return nil
}
