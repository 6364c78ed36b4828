package cli

import (
	"context"
	"net/http"
	"strconv"
	"strings"
)

func zoneOpt() arg {
	return opt("zone-name", "Name of the zone.").or("-z").required().idPart("name")
}

func zoneCommands() []*command {
	r := resourceRows{path: "network private-dns zone", what: "private DNS zone", typ: zoneType, version: privateDNSVersion, noGroup: true}
	return []*command{
		r.create("", []arg{tagsOpt()}, func(_ context.Context, c *call, _ *management) (object, error) {
			b := object{"location": "global"}
			c.setIf(b, "tags", "tags")
			return b, nil
		}),
		r.show(), r.list(), r.delete(true),
	}
}

func zoneLinkCommands() []*command {
	r := resourceRows{path: "network private-dns link vnet", what: "link", typ: zoneType + "/virtualNetworkLinks", version: privateDNSVersion, parents: []arg{zoneOpt()}}
	return []*command{
		r.create(" --virtual-network myNetwork --registration-enabled false", []arg{tagsOpt(), opt("virtual-network", "Name or id of the virtual network.").or("-v").required(),
			boolOpt("registration-enabled", "Only false: there are no machines to register.").or("-e").required()}, func(_ context.Context, c *call, m *management) (object, error) {
			b := object{"location": "global", "properties": object{"virtualNetwork": object{"id": m.idOf(c.text("resource-group"), networkType, c.text("virtual-network"))}, "registrationEnabled": c.flag("registration-enabled")}}
			c.setIf(b, "tags", "tags")
			return b, nil
		}),
		r.show(), r.list(), r.delete(true),
	}
}

func zoneGroupCommands() []*command {
	parent := opt("endpoint-name", "Name of the private endpoint.").required().idPart("name")
	r := resourceRows{path: "network private-endpoint dns-zone-group", what: "zone group", typ: endpointType + "/privateDnsZoneGroups", version: networkVersion, parents: []arg{parent}}
	return []*command{
		r.create(" --private-dns-zone privatelink.vaultcore.azure.net --zone-name vault", []arg{opt("private-dns-zone", "Name or id of the zone.").required(),
			opt("zone-name", "What the zone is called in the group.").required()}, func(_ context.Context, c *call, m *management) (object, error) {
			return object{"properties": object{"privateDnsZoneConfigs": []any{object{"name": c.text("zone-name"), "properties": object{"privateDnsZoneId": m.idOf(c.text("resource-group"), zoneType, c.text("private-dns-zone"))}}}}}, nil
		}),
		r.show(), r.list(), r.delete(false),
	}
}

// recordFields are the members of each type's records, and the options that set them.
func recordFields() map[string][][2]string {
	return map[string][][2]string{
		"a": {{"ipv4-address", "ipv4Address"}}, "aaaa": {{"ipv6-address", "ipv6Address"}}, "cname": {{"cname", "cname"}}, "ptr": {{"ptrdname", "ptrdname"}},
		"mx": {{"preference", "preference"}, {"exchange", "exchange"}}, "srv": {{"priority", "priority"}, {"weight", "weight"}, {"port", "port"}, {"target", "target"}}, "txt": {{"value", "value"}},
	}
}

func recordMember(t string) string {
	if t == "cname" {
		return "cnameRecord"
	}
	return t + "Records"
}

func recordSetCommands() []*command {
	parents := []arg{zoneOpt()}
	list := &command{path: "network private-dns record-set list", short: "List the record sets of a zone, of all types.", example: "network private-dns record-set list -g myGroup -z privatelink.vaultcore.azure.net",
		args: append([]arg{groupOpt()}, parents...),
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			l, err := m.list(ctx, m.resource(c.text("resource-group"), zoneType, c.text("zone-name"))+"/ALL", privateDNSVersion)
			return each(l, func(v any) any { return flatten(v) }), err
		})}
	out := []*command{list}
	for _, t := range []string{"a", "aaaa", "cname", "mx", "ptr", "srv", "txt"} {
		r := resourceRows{path: "network private-dns record-set " + t, what: strings.ToUpper(t) + " record set", typ: zoneType + "/" + strings.ToUpper(t), version: privateDNSVersion, parents: parents}
		out = append(out, r.create("", []arg{numberOpt("ttl", "Seconds for which answers may be kept. Default: 3600.")}, func(_ context.Context, c *call, _ *management) (object, error) {
			if t == "cname" {
				return nil, usagef("an empty record set of this type is none: use az network private-dns record-set cname set-record")
			}
			return object{"properties": object{"ttl": ttlOf(c), recordMember(t): []any{}}}, nil
		}), r.show(), r.list(), r.delete(true), r.addRecord(t))
		if t != "cname" {
			out = append(out, r.removeRecord(t))
		}
	}
	return out
}

func ttlOf(c *call) int {
	if c.given("ttl") {
		return c.number("ttl")
	}
	return 3600
}

// recordArgs are the options of one record.
func (r resourceRows) recordArgs(t string, more ...arg) []arg {
	set := opt("record-set-name", "Name of the record set, relative to the zone.").or("-n").required().idPart("child")
	args := append([]arg{set, groupOpt()}, r.parents...)
	for _, f := range recordFields()[t] {
		a := opt(f[0], "Of the record.").required()
		switch f[0] {
		case "ipv4-address", "ipv6-address":
			a = a.or("-a")
		case "cname":
			a = a.or("-c")
		case "value":
			a = listOpt(f[0], "Texts of the record.").or("-v").required()
		}
		args = append(args, a)
	}
	return append(args, more...)
}

// record is the one that the options say.
func record(c *call, t string) (object, error) {
	out := object{}
	for _, f := range recordFields()[t] {
		switch f[0] {
		case "value":
			out[f[1]] = c.many(f[0])
		case "preference", "priority", "weight", "port":
			n, err := strconv.Atoi(c.text(f[0]))
			if err != nil {
				return nil, usagef("argument --%s: invalid int value: '%s'", f[0], c.text(f[0]))
			}
			out[f[1]] = n
		default:
			out[f[1]] = c.text(f[0])
		}
	}
	return out, nil
}

func (r resourceRows) set(c *call, m *management) string {
	return m.resource(c.text("resource-group"), r.typ, c.text("zone-name"), c.text("record-set-name"))
}

func (r resourceRows) addRecord(t string) *command {
	verb, short := "add-record", "Add a record, and make its set where there is none."
	if t == "cname" {
		verb, short = "set-record", "Set the record, and make its set where there is none."
	}
	example := r.path + " " + verb + " -g myGroup -z corp.example -n www"
	for _, f := range recordFields()[t] {
		example += " --" + f[0] + " " + map[string]string{"ipv4-address": "10.0.0.4", "ipv6-address": "fd00::4", "preference": "10", "priority": "1", "weight": "1", "port": "443", "value": "text"}[f[0]]
		if !strings.ContainsAny(example[len(example)-1:], "0123456789t") {
			example += "www.corp.example"
		}
	}
	return &command{path: r.path + " " + verb, short: short, example: example, args: r.recordArgs(t, numberOpt("ttl", "Seconds for which answers may be kept, of a new set. Default: 3600.")),
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			one, err := record(c, t)
			if err != nil {
				return nil, err
			}
			v, err := m.get(ctx, r.set(c, m), r.version)
			if isStatus(err, http.StatusNotFound) {
				v, err = object{"properties": object{"ttl": ttlOf(c)}}, nil
			}
			if err != nil {
				return nil, err
			}
			o, _ := v.(object)
			p := sub(o, "properties")
			if t == "cname" {
				p[recordMember(t)] = one
			} else {
				p[recordMember(t)] = append(items(p[recordMember(t)]), one)
			}
			out, err := m.put(ctx, r.set(c, m), r.version, o, false)
			return flatten(out), err
		})}
}

func (r resourceRows) removeRecord(t string) *command {
	example := strings.Replace(r.addRecord(t).example, "add-record", "remove-record", 1)
	return &command{path: r.path + " remove-record", short: "Remove a record, and its set with the last one.", example: example,
		args: r.recordArgs(t, flagOpt("keep-empty-record-set", "Keep the set though it is empty.")),
		run: manage(func(ctx context.Context, c *call, m *management) (any, error) {
			one, err := record(c, t)
			if err != nil {
				return nil, err
			}
			v, err := m.get(ctx, r.set(c, m), r.version)
			if err != nil {
				return nil, err
			}
			want, err := normal(one)
			if err != nil {
				return nil, err
			}
			o, _ := v.(object)
			p := sub(o, "properties")
			kept := []any{}
			for _, have := range items(p[recordMember(t)]) {
				if !sameRecord(have, want) {
					kept = append(kept, have)
				}
			}
			if len(kept) == 0 && !c.flag("keep-empty-record-set") {
				return nil, m.delete(ctx, r.set(c, m), r.version, false)
			}
			p[recordMember(t)] = kept
			out, err := m.put(ctx, r.set(c, m), r.version, o, false)
			return flatten(out), err
		})}
}

func sameRecord(a, b any) bool {
	x, y := object{}, object{}
	x["v"], y["v"] = a, b
	return strings.EqualFold(compactJSON(x), compactJSON(y))
}
