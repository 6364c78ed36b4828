package cli

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"net/http"
	"os"
	"strings"
	"time"
)

func certificateCommands() []*command {
	const group = "keyvault certificate"
	cmds := []*command{certificateCreate(), certificateImport(), certificateDownload(), certificateAttributes(), certificateDefaultPolicy(),
		{path: "keyvault certificate show", short: "Show a certificate.", example: "keyvault certificate show --vault-name myVault --name my",
			args: append(objectArgs("certificate"), versionOpt("certificate")), run: onObject(http.MethodGet, "certificates", "", true, showCertificate)},
		{path: "keyvault certificate list", short: "List certificates.", example: "keyvault certificate list --vault-name myVault",
			args:  append(listArgs("certificates"), flagOpt("include-pending", "Also those that are being made.")),
			table: "[].{Name:name, Id:id, Enabled:attributes.enabled, Expires:attributes.expires}",
			run:   listing("certificates", showCertificateItem)},
		{path: "keyvault certificate list-versions", short: "List the versions of a certificate.", example: "keyvault certificate list-versions --vault-name myVault --name my",
			args: append(objectArgs("certificate"), numberOpt("maxresults", "How many versions one request brings; all are listed.")),
			run:  versions("certificates", showCertificateItem)},
	}
	cmds = append(cmds, deletedCommands(group, "certificate", "certificates", showAnyCertificate)...)
	return append(cmds, backupCommands(group, "certificate", "certificates", showCertificate)...)
}

func showCertificateItem(v any) any {
	showAttributes(v)
	nameFromID(v, "id")
	if m, ok := v.(object); ok {
		t := textAt(v, "x5t")
		delete(m, "x5t")
		m["x509Thumbprint"], m["x509ThumbprintHex"] = nil, nil
		if b, err := fromBase64(t); err == nil && t != "" {
			m["x509Thumbprint"], m["x509ThumbprintHex"] = base64.StdEncoding.EncodeToString(b), strings.ToUpper(hex.EncodeToString(b))
		}
	}
	return withNulls(v, "subject", "tags")
}

func showCertificate(v any) any {
	showCertificateItem(v)
	if m, ok := v.(object); ok {
		delete(m, "subject")
		m["policy"] = policyFromWire(m["policy"])
	}
	return withNulls(v, "cer", "contentType", "kid", "sid")
}

func showAnyCertificate(v any) any {
	if at(v, "cer") != nil {
		return showCertificate(v)
	}
	return showCertificateItem(v)
}

func policyOpt() arg {
	return opt("policy", "Policy as JSON, as get-default-policy prints it. @FILE reads a file.").or("-p")
}

func certificateCreate() *command {
	return &command{path: "keyvault certificate create", short: "Create a certificate and wait until it is made.",
		example: "keyvault certificate create --vault-name myVault --name my --policy @policy.json",
		args: append(objectArgs("certificate"), policyOpt().required(), numberOpt("validity", "Months for which it holds, in place of the policy's."),
			boolOpt("disabled", "Whether it may not be used."), tagsOpt()),
		run: inVault(func(ctx context.Context, c *call, v *vault) (any, error) {
			path, err := c.objectPath("certificates", false)
			if err != nil {
				return nil, err
			}
			policy, err := c.policyArg()
			if err != nil {
				return nil, err
			}
			if c.given("validity") {
				sub(policy, "x509_props")["validity_months"] = c.number("validity")
			}
			attrs, err := c.attributes()
			if err != nil {
				return nil, err
			}
			body := withoutNil(object{"policy": policy, "attributes": attrs})
			c.setIf(body, "tags", "tags")
			got, err := v.do(ctx, http.MethodPost, path+"/create", body)
			if err != nil {
				return nil, err
			}
			return c.awaitCertificate(ctx, v, path, got)
		})}
}

// awaitCertificate looks at the pending operation until it has ended, or can
// only go on outside of the vault (an unknown issuer: the request is signed
// elsewhere and merged).
func (c *call) awaitCertificate(ctx context.Context, v *vault, path string, got any) (any, error) {
	p := &progress{s: c.session}
	defer p.end()
	for textAt(got, "status") == "inProgress" {
		if textAt(got, "issuer", "name") == "Unknown" {
			c.warn("The certificate request is ready: sign its csr and merge the result with `az keyvault certificate pending merge`.")
			break
		}
		p.tick()
		if err := pause(ctx, time.Second/2); err != nil {
			return nil, err
		}
		var err error
		if got, err = v.do(ctx, http.MethodGet, path+"/pending", nil); err != nil {
			return nil, err
		}
	}
	if s := textAt(got, "status"); s == "failed" || s == "cancelled" {
		return nil, failf("The certificate was not made: %s", firstNonEmpty(textAt(got, "error", "message"), textAt(got, "status_details"), s))
	}
	return showPending(got), nil
}

func showPending(v any) any {
	nameFromID(v, "id")
	m, ok := v.(object)
	if !ok {
		return v
	}
	rename(m, map[string]string{"cancellation_requested": "cancellationRequested", "request_id": "requestId", "status_details": "statusDetails"})
	m["issuerParameters"] = issuerFromWire(m["issuer"])
	delete(m, "issuer")
	return withNulls(m, "cancellationRequested", "csr", "error", "requestId", "status", "statusDetails", "target")
}

func (c *call) policyArg() (object, error) {
	p, err := decode([]byte(c.text("policy")))
	m, ok := p.(object)
	if err != nil || !ok {
		return nil, usagef("argument --policy/-p: not a JSON object")
	}
	return policyToWire(m), nil
}

func certificateImport() *command {
	return &command{path: "keyvault certificate import", short: "Bring a certificate with its private key into a vault.",
		example: "keyvault certificate import --vault-name myVault --name my --file my.pfx --password SECRET",
		args: append(objectArgs("certificate"), opt("file", "PEM or PKCS#12 file with the certificate and its private key.").or("-f").required(),
			opt("password", "Password of the private key."), policyOpt(), boolOpt("disabled", "Whether it may not be used."), tagsOpt()),
		run: inVault(func(ctx context.Context, c *call, v *vault) (any, error) {
			path, err := c.objectPath("certificates", false)
			if err != nil {
				return nil, err
			}
			b, err := os.ReadFile(c.filePath(c.text("file")))
			if err != nil {
				return nil, err
			}
			policy := object{}
			if c.given("policy") {
				if policy, err = c.policyArg(); err != nil {
					return nil, err
				}
			}
			value, kind := base64.StdEncoding.EncodeToString(b), "application/x-pkcs12"
			if block, _ := pem.Decode(b); block != nil {
				value, kind = string(b), "application/x-pem-file"
			}
			sub(policy, "secret_props")["contentType"] = kind
			attrs, err := c.attributes()
			if err != nil {
				return nil, err
			}
			body := withoutNil(object{"value": value, "pwd": c.text("password"), "policy": policy, "attributes": attrs})
			c.setIf(body, "tags", "tags")
			got, err := v.do(ctx, http.MethodPost, path+"/import", body)
			if err != nil {
				return nil, err
			}
			return showCertificate(got), nil
		})}
}

func certificateAttributes() *command {
	return &command{path: "keyvault certificate set-attributes", short: "Change what is said of a certificate, and its policy.",
		example: "keyvault certificate set-attributes --vault-name myVault --name my --enabled false",
		args:    append(objectArgs("certificate"), versionOpt("certificate"), tagsOpt(), policyOpt(), boolOpt("enabled", "Whether it may be used.")),
		run: inVault(func(ctx context.Context, c *call, v *vault) (any, error) {
			if c.given("policy") {
				path, err := c.objectPath("certificates", false)
				if err != nil {
					return nil, err
				}
				policy, err := c.policyArg()
				if err != nil {
					return nil, err
				}
				if _, err := v.do(ctx, http.MethodPatch, path+"/policy", policy); err != nil {
					return nil, err
				}
			}
			return c.patchObject(ctx, v, "certificates", showCertificate, func(object) {})
		})}
}

func certificateDownload() *command {
	return &command{path: "keyvault certificate download", short: "Save the public part of a certificate in a file.",
		example: "keyvault certificate download --vault-name myVault --name my --file my.pem",
		args: append(objectArgs("certificate"), versionOpt("certificate"), opt("file", "Where it is saved.").or("-f").required(),
			opt("encoding", "Form of the file.").or("-e").oneOf("DER", "PEM").byDefault("PEM"), flagOpt("overwrite", "Replace the file.")),
		run: inVault(func(ctx context.Context, c *call, v *vault) (any, error) {
			path, err := c.objectPath("certificates", true)
			if err != nil {
				return nil, err
			}
			got, err := v.do(ctx, http.MethodGet, path, nil)
			if err != nil {
				return nil, err
			}
			der, err := fromBase64(textAt(got, "cer"))
			if err != nil {
				return nil, failf("the vault's certificate can't be read: %s", err)
			}
			if c.text("encoding") == "PEM" {
				der = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
			}
			return nil, c.newFile(c.text("file"), der)
		})}
}

func certificateDefaultPolicy() *command {
	return &command{path: "keyvault certificate get-default-policy", short: "Show a policy for a self-signed certificate.", bare: true,
		example: "keyvault certificate get-default-policy", args: []arg{flagOpt("scaffold", "Show every member that a policy may have.")},
		run: func(_ context.Context, c *call) (any, error) {
			p := object{
				"issuerParameters": object{"certificateTransparency": nil, "name": "Self"},
				"keyProperties":    object{"curve": nil, "exportable": true, "keySize": 2048, "keyType": "RSA", "reuseKey": true},
				"lifetimeActions":  []any{object{"action": object{"actionType": "AutoRenew"}, "trigger": object{"daysBeforeExpiry": 90}}},
				"secretProperties": object{"contentType": "application/x-pkcs12"},
				"x509CertificateProperties": object{"keyUsage": []string{"cRLSign", "dataEncipherment", "digitalSignature", "keyEncipherment", "keyAgreement", "keyCertSign"},
					"subject": "CN=CLIGetDefaultPolicy", "validityInMonths": 12},
			}
			if c.flag("scaffold") {
				x := sub(p, "x509CertificateProperties")
				x["ekus"], x["subject"] = []string{"1.3.6.1.5.5.7.3.1"}, "C=US, ST=WA, L=Redmond, O=Contoso, OU=Contoso HR, CN=www.contoso.com"
				x["subjectAlternativeNames"] = object{"dnsNames": []string{"hr.contoso.com"}, "emails": []string{"hello@contoso.com"}, "upns": []string{}}
				sub(p, "issuerParameters")["certificateType"] = "(optional) DigiCert, GlobalSign or WoSign"
				p["attributes"] = object{"enabled": true}
			}
			return p, nil
		}}
}
