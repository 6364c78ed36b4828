package cli

// az prints and takes certificate policies with long names; the vault has
// short ones.

func policyNames() map[string]string {
	return map[string]string{"issuer": "issuerParameters", "key_props": "keyProperties", "lifetime_actions": "lifetimeActions",
		"secret_props": "secretProperties", "x509_props": "x509CertificateProperties"}
}

func keyNames() map[string]string {
	return map[string]string{"crv": "curve", "key_size": "keySize", "kty": "keyType", "reuse_key": "reuseKey"}
}

func x509Names() map[string]string {
	return map[string]string{"key_usage": "keyUsage", "sans": "subjectAlternativeNames", "validity_months": "validityInMonths"}
}

func issuerNames() map[string]string {
	return map[string]string{"cert_transparency": "certificateTransparency", "cty": "certificateType"}
}

func rename(m object, names map[string]string) object {
	for from, to := range names {
		if v, ok := m[from]; ok {
			delete(m, from)
			m[to] = v
		}
	}
	return m
}

func reversed(m map[string]string) map[string]string {
	out := map[string]string{}
	for k, v := range m {
		out[v] = k
	}
	return out
}

func issuerFromWire(v any) any {
	m, ok := v.(object)
	if !ok {
		return nil
	}
	return withNulls(rename(m, issuerNames()), "certificateTransparency", "certificateType", "name")
}

func policyFromWire(v any) any {
	m, ok := v.(object)
	if !ok {
		return nil
	}
	showAttributes(m)
	rename(m, policyNames())
	m["issuerParameters"] = issuerFromWire(m["issuerParameters"])
	if k, ok := m["keyProperties"].(object); ok {
		withNulls(rename(k, keyNames()), "curve", "exportable", "keySize", "keyType", "reuseKey")
	}
	if x, ok := m["x509CertificateProperties"].(object); ok {
		withNulls(rename(x, x509Names()), "ekus", "keyUsage", "subject", "subjectAlternativeNames", "validityInMonths")
		if s, ok := x["subjectAlternativeNames"].(object); ok {
			withNulls(rename(s, map[string]string{"dns_names": "dnsNames"}), "dnsNames", "emails", "upns")
		}
	}
	for _, a := range items(m["lifetimeActions"]) {
		if act, ok := at(a, "action").(object); ok {
			rename(act, map[string]string{"action_type": "actionType"})
		}
		if t, ok := at(a, "trigger").(object); ok {
			withNulls(rename(t, map[string]string{"days_before_expiry": "daysBeforeExpiry", "lifetime_percentage": "lifetimePercentage"}), "daysBeforeExpiry", "lifetimePercentage")
		}
	}
	return m
}

// policyToWire takes az's long names, their snake_case form, and the wire's.
func policyToWire(m object) object {
	back := reversed(policyNames())
	back["x509_certificate_properties"], back["key_properties"], back["secret_properties"], back["issuer_parameters"] = "x509_props", "key_props", "secret_props", "issuer"
	rename(m, back)
	delete(m, "id")
	if i, ok := m["issuer"].(object); ok {
		withoutNil(rename(i, reversed(issuerNames())))
	}
	if k, ok := m["key_props"].(object); ok {
		n := reversed(keyNames())
		n["key_type"] = "kty"
		withoutNil(rename(k, n))
	}
	if s, ok := m["secret_props"].(object); ok {
		rename(s, map[string]string{"content_type": "contentType"})
	}
	if x, ok := m["x509_props"].(object); ok {
		n := reversed(x509Names())
		n["subject_alternative_names"], n["validity_in_months"] = "sans", "validity_months"
		withoutNil(rename(x, n))
		if s, ok := x["sans"].(object); ok {
			withoutNil(rename(s, map[string]string{"dnsNames": "dns_names"}))
		}
	}
	for _, a := range items(m["lifetime_actions"]) {
		if act, ok := at(a, "action").(object); ok {
			rename(act, map[string]string{"actionType": "action_type"})
		}
		if t, ok := at(a, "trigger").(object); ok {
			withoutNil(rename(t, map[string]string{"daysBeforeExpiry": "days_before_expiry", "lifetimePercentage": "lifetime_percentage"}))
		}
	}
	if a, ok := m["attributes"].(object); ok {
		m["attributes"] = withoutNil(object{"enabled": a["enabled"]})
	}
	return m
}
