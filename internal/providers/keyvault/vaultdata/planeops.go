package vaultdata

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"lazurite.dev/internal/gate"
)

// MaxBody is the largest body in bytes that any operation takes: a backup.
const MaxBody = 64 << 20

const bodySmall = 256 << 10

// call is a gate.Call with what operations of a vault use.
type call struct {
	*gate.Call
	v    *Vault
	name string // {name} of the path
	ver  string // {version} of the path; "" is the current one
}

func (c *call) query(name string) string { return c.Request.URL.Query().Get(name) }

// op is one row of the table.
type op struct {
	method, path string
	action       string // below Microsoft.KeyVault/vaults/
	permission   string
	body         int64
	run          func(*call) (any, error)
}

func (p *plane) operations() []gate.Operation {
	var out []gate.Operation
	for _, o := range append(append(p.secretOps(), p.keyOps()...), p.certOps()...) {
		kind, _, _ := strings.Cut(o.permission, "/")
		row := gate.Operation{
			Method: o.method, Path: o.path, Action: "Microsoft.KeyVault/vaults/" + o.action, Permission: o.permission, Body: o.body,
			Handle: func(g *gate.Call) (any, error) {
				if err := p.limit(g, o.path); err != nil {
					return nil, err
				}
				return o.run(&call{Call: g, v: g.Target.Data.(*target).vault, name: g.Params["name"], ver: g.Params["version"]})
			},
		}
		if row.Body == 0 {
			row.Body = bodySmall
		}
		if strings.Contains(o.path, "{name}") {
			row.Scope = func(g *gate.Call) string { return "/" + kind + "/" + g.Params["name"] }
		}
		out = append(out, row)
	}
	return out
}

// object runs fn without a body.
func object[T any](fn func(context.Context, *Vault, string) (T, error)) func(*call) (any, error) {
	return func(c *call) (any, error) { return fn(c.Context, c.v, c.name) }
}

// versioned runs fn without a body on one version.
func versioned[T any](fn func(context.Context, *Vault, string, string) (T, error)) func(*call) (any, error) {
	return func(c *call) (any, error) { return fn(c.Context, c.v, c.name, c.ver) }
}

// with runs fn with the decoded body.
func with[In, T any](fn func(context.Context, *Vault, string, *In) (T, error)) func(*call) (any, error) {
	return func(c *call) (any, error) {
		var in In
		if err := c.Decode(&in); err != nil {
			return nil, err
		}
		return fn(c.Context, c.v, c.name, &in)
	}
}

// withVersion runs fn with the decoded body on one version.
func withVersion[In, T any](fn func(context.Context, *Vault, string, string, *In) (T, error)) func(*call) (any, error) {
	return func(c *call) (any, error) {
		var in In
		if err := c.Decode(&in); err != nil {
			return nil, err
		}
		return fn(c.Context, c.v, c.name, c.ver, &in)
	}
}

// vaultWide runs fn with the decoded body on no object.
func vaultWide[In, T any](fn func(context.Context, *Vault, *In) (T, error)) func(*call) (any, error) {
	return func(c *call) (any, error) {
		var in In
		if err := c.Decode(&in); err != nil {
			return nil, err
		}
		return fn(c.Context, c.v, &in)
	}
}

// purging answers 204.
func purging(fn func(context.Context, *Vault, string) error) func(*call) (any, error) {
	return func(c *call) (any, error) {
		if err := fn(c.Context, c.v, c.name); err != nil {
			return nil, err
		}
		return &gate.Reply{Status: http.StatusNoContent}, nil
	}
}

// listing answers a page with an absolute link to the next one.
func listing(fn func(*call, Page) (*List, error)) func(*call) (any, error) {
	return func(c *call) (any, error) {
		q := c.Request.URL.Query()
		p, err := NewPage(q.Get("maxresults"), q.Get("$skiptoken"))
		if err != nil {
			return nil, err
		}
		l, err := fn(c, p)
		if err != nil {
			return nil, err
		}
		if l.Next() != "" {
			next := url.Values{"api-version": {askedVersion(c.Request)}, "$skiptoken": {l.Next()}}
			for _, k := range []string{"maxresults", "includePending"} {
				if q.Has(k) {
					next.Set(k, q.Get(k))
				}
			}
			link := c.v.URI + (&url.URL{Path: c.Request.URL.Path}).EscapedPath() + "?" + next.Encode()
			l.NextLink = &link
		}
		return l, nil
	}
}

func listAll(fn func(context.Context, *Vault, Page) (*List, error)) func(*call) (any, error) {
	return listing(func(c *call, p Page) (*List, error) { return fn(c.Context, c.v, p) })
}

func listVersions(fn func(context.Context, *Vault, string, Page) (*List, error)) func(*call) (any, error) {
	return listing(func(c *call, p Page) (*List, error) { return fn(c.Context, c.v, c.name, p) })
}

// secret leaves out of an answer what older api-versions do not know.
func secret(run func(*call) (any, error)) func(*call) (any, error) {
	return func(c *call) (any, error) {
		out, err := run(c)
		if s, ok := out.(*Secret); ok && s != nil && !modern(c.Call) {
			s.PreviousVersion = ""
		}
		return out, err
	}
}

// secretOps is the table of secrets.
// Source: Key Vault REST API, Secrets; actions of facts by the role
// definitions of Key Vault.
func (p *plane) secretOps() []op {
	o := p.Objects
	get := secret(func(c *call) (any, error) {
		return o.GetSecret(c.Context, c.v, c.name, c.ver, c.query("outContentType"))
	})
	update := secret(withVersion(o.UpdateSecret))
	return []op{
		{"GET", "/secrets", "secrets/readMetadata/action", "secrets/list", 0, listAll(o.ListSecrets)},
		{"POST", "/secrets/restore", "secrets/restore/action", "secrets/restore", MaxBody, secret(vaultWide(o.RestoreSecret))},
		{"GET", "/secrets/{name}/versions", "secrets/readMetadata/action", "secrets/list", 0, listVersions(o.ListSecretVersions)},
		{"POST", "/secrets/{name}/backup", "secrets/backup/action", "secrets/backup", 0, object(o.BackupSecret)},
		{"PUT", "/secrets/{name}", "secrets/setSecret/action", "secrets/set", 0, secret(with(o.SetSecret))},
		{"GET", "/secrets/{name}", "secrets/getSecret/action", "secrets/get", 0, get},
		{"GET", "/secrets/{name}/{version}", "secrets/getSecret/action", "secrets/get", 0, get},
		{"PATCH", "/secrets/{name}", "secrets/setSecret/action", "secrets/set", 0, update},
		{"PATCH", "/secrets/{name}/{version}", "secrets/setSecret/action", "secrets/set", 0, update},
		{"DELETE", "/secrets/{name}", "secrets/delete", "secrets/delete", 0, secret(object(o.DeleteSecret))},
		{"GET", "/deletedsecrets", "secrets/readMetadata/action", "secrets/list", 0, listAll(o.ListDeletedSecrets)},
		{"GET", "/deletedsecrets/{name}", "secrets/readMetadata/action", "secrets/get", 0, secret(object(o.DeletedSecret))},
		{"DELETE", "/deletedsecrets/{name}", "secrets/purge/action", "secrets/purge", 0, purging(o.PurgeSecret)},
		{"POST", "/deletedsecrets/{name}/recover", "secrets/recover/action", "secrets/recover", 0, secret(object(o.RecoverSecret))},
	}
}

// keyOps is the table of keys.
func (p *plane) keyOps() []op {
	o := p.Objects
	rows := []op{
		{"GET", "/keys", "keys/read", "keys/list", 0, listAll(o.ListKeys)},
		{"POST", "/keys/restore", "keys/restore/action", "keys/restore", MaxBody, vaultWide(o.RestoreKey)},
		{"POST", "/rng", "keys/read", "keys/get", 0, vaultWide(func(_ context.Context, _ *Vault, in *struct {
			Count int `json:"count"`
		}) (*Blob, error) {
			return o.RandomBytes(in.Count)
		})},
		{"GET", "/keys/{name}/versions", "keys/read", "keys/list", 0, listVersions(o.ListKeyVersions)},
		{"POST", "/keys/{name}/create", "keys/create/action", "keys/create", 0, with(o.CreateKey)},
		{"PUT", "/keys/{name}", "keys/import/action", "keys/import", 0, with(o.ImportKey)},
		{"POST", "/keys/{name}/backup", "keys/backup/action", "keys/backup", 0, object(o.BackupKey)},
		{"POST", "/keys/{name}/rotate", "keys/rotate/action", "keys/rotate", 0, object(o.RotateKey)},
		{"GET", "/keys/{name}/rotationpolicy", "keyrotationpolicies/read", "keys/getrotationpolicy", 0, object(o.GetRotationPolicy)},
		{"PUT", "/keys/{name}/rotationpolicy", "keyrotationpolicies/write", "keys/setrotationpolicy", 0, with(o.SetRotationPolicy)},
		{"GET", "/keys/{name}", "keys/read", "keys/get", 0, versioned(o.GetKey)},
		{"GET", "/keys/{name}/{version}", "keys/read", "keys/get", 0, versioned(o.GetKey)},
		{"PATCH", "/keys/{name}", "keys/update/action", "keys/update", 0, withVersion(o.UpdateKey)},
		{"PATCH", "/keys/{name}/{version}", "keys/update/action", "keys/update", 0, withVersion(o.UpdateKey)},
		{"DELETE", "/keys/{name}", "keys/delete", "keys/delete", 0, object(o.DeleteKey)},
		{"GET", "/deletedkeys", "keys/read", "keys/list", 0, listAll(o.ListDeletedKeys)},
		{"GET", "/deletedkeys/{name}", "keys/read", "keys/get", 0, object(o.DeletedKey)},
		{"DELETE", "/deletedkeys/{name}", "keys/purge/action", "keys/purge", 0, purging(o.PurgeKey)},
		{"POST", "/deletedkeys/{name}/recover", "keys/recover/action", "keys/recover", 0, object(o.RecoverKey)},
	}
	for _, c := range []struct {
		path, action, permission string
		run                      func(*call) (any, error)
	}{
		{"encrypt", "encrypt", "encrypt", p.cipher(o.Encrypt, false)},
		{"decrypt", "decrypt", "decrypt", p.cipher(o.Decrypt, false)},
		{"wrapkey", "wrap", "wrapkey", p.cipher(o.Encrypt, true)},
		{"unwrapkey", "unwrap", "unwrapkey", p.cipher(o.Decrypt, true)},
		{"sign", "sign", "sign", withVersion(o.Sign)},
		{"verify", "verify", "verify", withVersion(o.Verify)},
		{"release", "release", "release", func(c *call) (any, error) { return nil, o.ReleaseKey(c.Context, c.v, c.name, c.ver) }},
	} {
		for _, path := range []string{"/keys/{name}/" + c.path, "/keys/{name}/{version}/" + c.path} {
			rows = append(rows, op{"POST", path, "keys/" + c.action + "/action", "keys/" + c.permission, 0, c.run})
		}
	}
	attest := func(c *call) (any, error) { return nil, o.Attestation(c.Context, c.v, c.name, c.ver) }
	return append([]op{
		{"GET", "/keys/{name}/attestation", "keys/read", "keys/get", 0, attest},
		{"GET", "/keys/{name}/{version}/attestation", "keys/read", "keys/get", 0, attest},
	}, rows...)
}

func (p *plane) cipher(fn func(context.Context, *Vault, string, string, *Operation, bool) (*OperationResult, error), wrap bool) func(*call) (any, error) {
	return withVersion(func(ctx context.Context, v *Vault, name, ver string, in *Operation) (*OperationResult, error) {
		return fn(ctx, v, name, ver, in, wrap)
	})
}

// certOps is the table of certificates.
func (p *plane) certOps() []op {
	o := p.Objects
	listCerts := func(fn func(context.Context, *Vault, Page, bool) (*List, error)) func(*call) (any, error) {
		return listing(func(c *call, pg Page) (*List, error) {
			return fn(c.Context, c.v, pg, strings.EqualFold(c.query("includePending"), "true"))
		})
	}
	issuer := func(merge bool) func(*call) (any, error) {
		return func(c *call) (any, error) {
			var in Issuer
			if err := c.Decode(&in); err != nil {
				return nil, err
			}
			return o.SetIssuer(c.Context, c.v, c.Params["issuer"], &in, merge)
		}
	}
	byIssuer := func(fn func(context.Context, *Vault, string) (*Issuer, error)) func(*call) (any, error) {
		return func(c *call) (any, error) { return fn(c.Context, c.v, c.Params["issuer"]) }
	}
	noBody := func(fn func(context.Context, *Vault) (*Contacts, error)) func(*call) (any, error) {
		return func(c *call) (any, error) { return fn(c.Context, c.v) }
	}
	update := withVersion(o.UpdateCert)
	return append([]op{
		{"GET", "/certificates", "certificates/read", "certificates/list", 0, listCerts(o.ListCerts)},
		{"POST", "/certificates/restore", "certificates/restore/action", "certificates/restore", MaxBody, vaultWide(o.RestoreCert)},
		{"GET", "/certificates/issuers", "certificatecas/read", "certificates/listissuers", 0, listAll(o.ListIssuers)},
		{"GET", "/certificates/issuers/{issuer}", "certificatecas/read", "certificates/getissuers", 0, byIssuer(o.GetIssuer)},
		{"PUT", "/certificates/issuers/{issuer}", "certificatecas/write", "certificates/setissuers", 0, issuer(false)},
		{"PATCH", "/certificates/issuers/{issuer}", "certificatecas/write", "certificates/setissuers", 0, issuer(true)},
		{"DELETE", "/certificates/issuers/{issuer}", "certificatecas/delete", "certificates/deleteissuers", 0, byIssuer(o.DeleteIssuer)},
		{"GET", "/certificates/contacts", "certificates/read", "certificates/managecontacts", 0, noBody(o.GetContacts)},
		{"PUT", "/certificates/contacts", "certificatecontacts/write", "certificates/managecontacts", 0, vaultWide(o.SetContacts)},
		{"DELETE", "/certificates/contacts", "certificatecontacts/write", "certificates/managecontacts", 0, noBody(o.DeleteContacts)},
		{"GET", "/certificates/{name}/versions", "certificates/read", "certificates/list", 0, listVersions(o.ListCertVersions)},
		{"POST", "/certificates/{name}/import", "certificates/import/action", "certificates/import", 2 * maxImport, with(o.ImportCert)},
		{"POST", "/certificates/{name}/backup", "certificates/backup/action", "certificates/backup", 0, object(o.BackupCert)},
		{"GET", "/certificates/{name}/policy", "certificates/read", "certificates/get", 0, object(o.GetCertPolicy)},
		{"PATCH", "/certificates/{name}/policy", "certificates/update/action", "certificates/update", 0, with(o.SetCertPolicy)},
		{"GET", "/deletedcertificates", "certificates/read", "certificates/list", 0, listCerts(o.ListDeletedCerts)},
		{"GET", "/deletedcertificates/{name}", "certificates/read", "certificates/get", 0, object(o.DeletedCert)},
		{"DELETE", "/deletedcertificates/{name}", "certificates/purge/action", "certificates/purge", 0, purging(o.PurgeCert)},
		{"POST", "/deletedcertificates/{name}/recover", "certificates/recover/action", "certificates/recover", 0, object(o.RecoverCert)},
	}, append(p.pendingOps(),
		op{"GET", "/certificates/{name}", "certificates/read", "certificates/get", 0, versioned(o.GetCert)},
		op{"GET", "/certificates/{name}/{version}", "certificates/read", "certificates/get", 0, versioned(o.GetCert)},
		op{"PATCH", "/certificates/{name}", "certificates/update/action", "certificates/update", 0, update},
		op{"PATCH", "/certificates/{name}/{version}", "certificates/update/action", "certificates/update", 0, update},
		op{"DELETE", "/certificates/{name}", "certificates/delete", "certificates/delete", 0, object(o.DeleteCert)},
	)...)
}

// pendingOps is the table of certificate operations.
func (p *plane) pendingOps() []op {
	o := p.Objects
	byRequest := func(fn func(context.Context, *Vault, string, string) (*CertOperation, error)) func(*call) (any, error) {
		return func(c *call) (any, error) { return fn(c.Context, c.v, c.name, c.query("request_id")) }
	}
	created := func(status int, location string, out any, c *call) (any, error) {
		h := http.Header{}
		h.Set("Location", c.v.URI+"/certificates/"+c.name+location)
		return &gate.Reply{Status: status, Header: h, Body: out}, nil
	}
	return []op{
		{"POST", "/certificates/{name}/create", "certificates/create/action", "certificates/create", 0, func(c *call) (any, error) {
			out, err := with(o.CreateCert)(c)
			if err != nil {
				return nil, err
			}
			q := url.Values{"api-version": {askedVersion(c.Request)}, "request_id": {out.(*CertOperation).RequestID}}
			return created(http.StatusAccepted, "/pending?"+q.Encode(), out, c)
		}},
		{"GET", "/certificates/{name}/pending", "certificates/read", "certificates/get", 0, byRequest(o.GetPending)},
		{"PATCH", "/certificates/{name}/pending", "certificates/update/action", "certificates/update", 0, func(c *call) (any, error) {
			var in struct {
				Cancel bool `json:"cancellation_requested"`
			}
			if err := c.Decode(&in); err != nil {
				return nil, err
			}
			return o.CancelPending(c.Context, c.v, c.name, c.query("request_id"), in.Cancel)
		}},
		{"DELETE", "/certificates/{name}/pending", "certificates/delete", "certificates/delete", 0, byRequest(o.DeletePending)},
		{"POST", "/certificates/{name}/pending/merge", "certificates/create/action", "certificates/create", 2 * maxImport, func(c *call) (any, error) {
			var in MergeCert
			if err := c.Decode(&in); err != nil {
				return nil, err
			}
			out, err := o.MergeCert(c.Context, c.v, c.name, c.query("request_id"), &in)
			if err != nil {
				return nil, err
			}
			return created(http.StatusCreated, "?"+url.Values{"api-version": {askedVersion(c.Request)}}.Encode(), out, c)
		}},
	}
}
