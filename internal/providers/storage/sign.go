package storage

import (
	"context"
	"encoding/json"
	"strings"
	"time"
	"unicode"

	"lazurite.dev/internal/apierr"
	"lazurite.dev/internal/arm"
	"lazurite.dev/internal/rid"
)

// SignContainer makes a container of an account, where it is not there yet, and
// gives its URL with a service SAS for permissions such as "rcwl" until
// expires. The errors are those that a caller may see: a NotFound where there
// is no such account, a Conflict where it takes no signatures of its keys, or
// where the container was sealed (CodeSealed).
func (a *Accounts) SignContainer(ctx context.Context, account rid.ID, container, permissions string, expires time.Time) (string, error) {
	acc, err := a.ByID(ctx, account)
	if err != nil {
		return "", err
	}
	if !acc.SharedKey {
		return "", noSharedKey(acc.Name)
	}
	if err := a.EnsureContainer(ctx, account, container); err != nil {
		return "", err
	}
	if c, err := a.Container(ctx, acc, container); err != nil {
		return "", err
	} else if c.Sealed {
		return "", Sealed()
	}
	q := acc.sign(map[string]string{
		"sv": newestSAS, "sp": permissions, "sr": "c", "spr": "https", "se": expires.UTC().Format("2006-01-02T15:04:05Z"),
	}, ServiceSAS, container, "", 0)
	return a.BlobURL(account, container, "") + "?" + q, nil
}

// EnsureContainer makes a container of an account, unless it is there.
func (a *Accounts) EnsureContainer(ctx context.Context, account rid.ID, container string) error {
	acc, err := a.ByID(ctx, account)
	if err != nil {
		return err
	}
	_, err = a.CreateContainer(ctx, acc, container, ContainerProperties{}, "")
	if apierr.Is(err, apierr.Conflict) && apierr.From(err).Code == CodeContainerExists {
		return nil
	}
	return err
}

// signing is the body of the two actions that sign.
type signing struct {
	Services      string `json:"signedServices"`
	ResourceTypes string `json:"signedResourceTypes"`
	Resource      string `json:"signedResource"`
	Canonical     string `json:"canonicalizedResource"`
	Permission    string `json:"signedPermission"`
	IP            string `json:"signedIp"`
	Protocol      string `json:"signedProtocol"`
	Start         string `json:"signedStart"`
	Expiry        string `json:"signedExpiry"`
	Identifier    string `json:"signedIdentifier"`
	Key           string `json:"keyToSign"`
	CacheControl  string `json:"rscc"`
	Disposition   string `json:"rscd"`
	Encoding      string `json:"rsce"`
	Language      string `json:"rscl"`
	Type          string `json:"rsct"`
}

func (p *provider) signer(ctx context.Context, r *arm.Resource[Properties], body json.RawMessage) (in signing, a *Account, key int, err error) {
	if err = json.Unmarshal(body, &in); err != nil {
		return in, nil, 0, bad("", "The body must be an object with what is to be signed: %v", err)
	}
	rec, _, err := p.accounts.names.Secrets(ctx, r.ID)
	if err != nil {
		return in, nil, 0, err
	}
	if a, err = p.accounts.account(ctx, rec); err != nil {
		return in, nil, 0, err
	}
	if !a.SharedKey {
		return in, nil, 0, noSharedKey(a.Name)
	}
	switch strings.ToLower(in.Key) {
	case "", "key1":
	case "key2":
		key = 1
	default:
		return in, nil, 0, bad("keyToSign", "The keyToSign '%s' is neither 'key1' nor 'key2'.", in.Key)
	}
	for n, t := range map[string]*string{"signedStart": &in.Start, "signedExpiry": &in.Expiry} {
		at, ok := parseTime(*t)
		if *t != "" && !ok || *t == "" && n == "signedExpiry" {
			return in, nil, 0, bad(n, "The %s '%s' is no time such as 2030-01-02T15:04:05Z.", n, *t)
		}
		if *t != "" {
			*t = at.Format("2006-01-02T15:04:05Z")
		}
	}
	if in.Permission == "" {
		return in, nil, 0, bad("signedPermission", "The signedPermission is missing.")
	}
	// What is signed is lines: with a line break in one of them a signature would
	// be one for something else, even for a request by the account's key.
	for n, t := range map[string]string{
		"signedServices": in.Services, "signedResourceTypes": in.ResourceTypes, "signedResource": in.Resource, "canonicalizedResource": in.Canonical, "signedPermission": in.Permission,
		"signedIp": in.IP, "signedProtocol": in.Protocol, "rscc": in.CacheControl, "rscd": in.Disposition, "rsce": in.Encoding, "rscl": in.Language, "rsct": in.Type,
	} {
		if strings.ContainsFunc(t, unicode.IsControl) {
			return in, nil, 0, bad(n, "The %s has a control character.", n)
		}
	}
	for n, t := range map[string]string{"signedServices": in.Services, "signedResourceTypes": in.ResourceTypes, "signedPermission": in.Permission} {
		if strings.Trim(t, "abcdefghijklmnopqrstuvwxyz") != "" {
			return in, nil, 0, bad(n, "The %s '%s' has more than letters.", n, t)
		}
	}
	if in.Identifier != "" {
		return in, nil, 0, bad("signedIdentifier", "Containers have no stored access policies here.")
	}
	return in, a, key, nil
}

// listAccountSAS is POST …/listAccountSas.
func (p *provider) listAccountSAS(ctx context.Context, r *arm.Resource[Properties], body json.RawMessage) (any, error) {
	in, a, key, err := p.signer(ctx, r, body)
	if err != nil {
		return nil, err
	}
	if in.Services == "" || in.ResourceTypes == "" {
		return nil, bad("signedServices", "The signedServices and signedResourceTypes are mandatory.")
	}
	return map[string]string{"accountSasToken": a.sign(map[string]string{
		"sv": newestSAS, "ss": in.Services, "srt": in.ResourceTypes, "sp": in.Permission, "sip": in.IP, "spr": in.Protocol, "st": in.Start, "se": in.Expiry,
	}, AccountSAS, "", "", key)}, nil
}

// listServiceSAS is POST …/listServiceSas.
func (p *provider) listServiceSAS(ctx context.Context, r *arm.Resource[Properties], body json.RawMessage) (any, error) {
	in, a, key, err := p.signer(ctx, r, body)
	if err != nil {
		return nil, err
	}
	rest, ok := strings.CutPrefix(in.Canonical, "/blob/"+a.Name+"/")
	container, blob, _ := strings.Cut(rest, "/")
	if !ok || CheckContainerName(container) != nil {
		return nil, bad("canonicalizedResource", "The canonicalizedResource '%s' is not of the form /blob/%s/CONTAINER or /blob/%s/CONTAINER/BLOB.", in.Canonical, a.Name, a.Name)
	}
	if in.Resource == "" {
		in.Resource = map[bool]string{true: "c", false: "b"}[blob == ""]
	}
	if in.Resource != "b" && in.Resource != "c" {
		return nil, bad("signedResource", "The signedResource '%s' is neither 'b' nor 'c'.", in.Resource)
	}
	return map[string]string{"serviceSasToken": a.sign(map[string]string{
		"sv": newestSAS, "sr": in.Resource, "sp": in.Permission, "sip": in.IP, "spr": in.Protocol, "st": in.Start, "se": in.Expiry,
		"rscc": in.CacheControl, "rscd": in.Disposition, "rsce": in.Encoding, "rscl": in.Language, "rsct": in.Type,
	}, ServiceSAS, container, blob, key)}, nil
}
