package cli

import (
	"context"
	"net/http"
	"net/url"
	"strings"
)

func containerName() arg { return opt("name", "Name of the container.").or("-n").required() }

func containerQuery(comp string) url.Values {
	q := url.Values{"restype": {"container"}}
	if comp != "" {
		q.Set("comp", comp)
	}
	return q
}

// metadataHeaders adds --metadata.
func (c *call) metadataHeaders(h http.Header) {
	for k, v := range c.pairs("metadata") {
		s, _ := v.(string)
		h.Set("X-Ms-Meta-"+k, s)
	}
}

func containerCommands() []*command {
	return []*command{
		{path: "storage container create", short: "Create a container.", example: "storage container create --name mycontainer --account-name mystore --auth-mode login",
			args: append(planeArgs(), containerName(), opt("public-access", "How open it is to callers without a credential.").oneOf("blob", "container", "off"),
				pairsOpt("metadata", "Metadata as KEY=VALUE."), flagOpt("fail-on-exist", "Fail where it is there."), groupFilter()),
			run: inAccount(func(ctx context.Context, c *call, b *blobs) (any, error) {
				h := http.Header{}
				if p := c.text("public-access"); p != "" && p != "off" {
					h.Set("X-Ms-Blob-Public-Access", p)
				}
				c.metadataHeaders(h)
				_, err := b.do(ctx, http.MethodPut, b.url(containerQuery(""), c.text("name"), ""), h, nil)
				if isCode(err, "ContainerAlreadyExists") && !c.flag("fail-on-exist") {
					return object{"created": false}, nil
				}
				return object{"created": true}, err
			})},
		{path: "storage container delete", short: "Delete a container with its blobs.", example: "storage container delete --name mycontainer --account-name mystore --auth-mode login",
			args: append(planeArgs(), containerName(), flagOpt("fail-not-exist", "Fail where it is not there."), yesOpt()),
			run: inAccount(func(ctx context.Context, c *call, b *blobs) (any, error) {
				_, err := b.do(ctx, http.MethodDelete, b.url(containerQuery(""), c.text("name"), ""), nil, nil)
				if storageGone(err) && !c.flag("fail-not-exist") {
					return object{"deleted": false}, nil
				}
				return object{"deleted": true}, err
			})},
		{path: "storage container exists", short: "Ask whether a container is there.", example: "storage container exists --name mycontainer --account-name mystore --auth-mode login",
			args: append(planeArgs(), containerName()),
			run: inAccount(func(ctx context.Context, c *call, b *blobs) (any, error) {
				_, err := b.do(ctx, http.MethodHead, b.url(containerQuery(""), c.text("name"), ""), nil, nil)
				if storageGone(err) {
					return object{"exists": false}, nil
				}
				return object{"exists": true}, err
			})},
		{path: "storage container show", short: "Show a container.", example: "storage container show --name mycontainer --account-name mystore --auth-mode login",
			args: append(planeArgs(), containerName()),
			run: inAccount(func(ctx context.Context, c *call, b *blobs) (any, error) {
				a, err := b.do(ctx, http.MethodHead, b.url(containerQuery(""), c.text("name"), ""), nil, nil)
				if err != nil {
					return nil, err
				}
				return shownContainer(c.text("name"), a.header.Get("ETag"), a.header.Get("Last-Modified"), a.header.Get("X-Ms-Blob-Public-Access"), metadataIn(a.header)), nil
			})},
		{path: "storage container list", short: "List the containers of an account.", example: "storage container list --account-name mystore --auth-mode login",
			args: append(planeArgs(), opt("prefix", "What names begin with."), numberOpt("num-results", "At most so many."), flagOpt("include-metadata", "Show metadata, too.")),
			run: inAccount(func(ctx context.Context, c *call, b *blobs) (any, error) {
				return b.listContainers(ctx, c.text("prefix"), c.number("num-results"))
			})},
	}
}

// metadataIn are the metadata in an answer's headers.
func metadataIn(h http.Header) object {
	out := object{}
	for k := range h {
		if name, ok := strings.CutPrefix(strings.ToLower(k), "x-ms-meta-"); ok {
			out[name] = h.Get(k)
		}
	}
	return out
}

// pythonTime is a header's time as az prints it.
func pythonTime(v string) any {
	t, err := http.ParseTime(v)
	if err != nil {
		return nil
	}
	return t.UTC().Format("2006-01-02T15:04:05") + "+00:00"
}

func lease() object {
	return object{"duration": nil, "state": "available", "status": "unlocked"}
}

func shownContainer(name, etag, modified, public string, metadata object) object {
	return object{
		"deleted": nil, "encryptionScope": object{"defaultEncryptionScope": "$account-encryption-key", "preventEncryptionScopeOverride": false}, "immutableStorageWithVersioningEnabled": false,
		"metadata": metadata, "name": name, "version": nil,
		"properties": object{"etag": etag, "hasImmutabilityPolicy": false, "hasLegalHold": false, "lastModified": pythonTime(modified), "lease": lease(), "publicAccess": orNil(public)},
	}
}

func orNil(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func (b *blobs) listContainers(ctx context.Context, prefix string, limit int) (any, error) {
	all, marker := []any{}, ""
	for {
		q := url.Values{"comp": {"list"}, "include": {"metadata"}}
		if prefix != "" {
			q.Set("prefix", prefix)
		}
		if marker != "" {
			q.Set("marker", marker)
		}
		a, err := b.do(ctx, http.MethodGet, b.url(q, "", ""), nil, nil)
		if err != nil {
			return nil, err
		}
		var page struct {
			List []struct {
				Name       string
				Properties struct {
					Modified string `xml:"Last-Modified"`
					Etag     string
					Public   string `xml:"PublicAccess"`
				}
				Metadata struct {
					Items []xmlItem `xml:",any"`
				}
			} `xml:"Containers>Container"`
			Next string `xml:"NextMarker"`
		}
		if err := readXML(a.body, &page); err != nil {
			return nil, failf("the list of containers is not to be read: %v", err)
		}
		for _, x := range page.List {
			all = append(all, shownContainer(x.Name, `"`+x.Properties.Etag+`"`, x.Properties.Modified, x.Properties.Public, itemsOf(x.Metadata.Items)))
			if limit > 0 && len(all) == limit {
				return all, nil
			}
		}
		if marker = page.Next; marker == "" {
			return all, nil
		}
	}
}
