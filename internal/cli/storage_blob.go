package cli

import (
	"context"
	"crypto/md5" //nolint:gosec // the service's word for a checksum, which protects from mistakes alone
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

const (
	oneBlob   = 64 << 20 // bytes up to which a blob is put in one piece
	blobBlock = 16 << 20
	blobRange = 32 << 20
)

type xmlItem struct {
	XMLName xml.Name
	Value   string `xml:",chardata"`
}

func itemsOf(list []xmlItem) object {
	out := object{}
	for _, x := range list {
		out[x.XMLName.Local] = x.Value
	}
	return out
}

func blobArgs(more ...arg) []arg {
	a := append(planeArgs(), opt("container-name", "Name of the container.").or("-c").required(), opt("name", "Name of the blob.").or("-n").required())
	return append(a, more...)
}

// contentArgs say what a content is.
func contentArgs() []arg {
	return []arg{
		opt("content-type", "MIME type; without it, guessed from the file's name."), opt("content-encoding", "Encoding of the content."), opt("content-language", "Language of the content."),
		opt("content-disposition", "How the content is presented."), opt("content-cache-control", "How the content may be cached."), pairsOpt("metadata", "Metadata as KEY=VALUE."),
		opt("tier", "Tier of the blob.").oneOf("Cold", "Cool", "Hot"), boolOpt("overwrite", "Write over what is there."), flagOpt("no-progress", "Show no progress; there is none."),
		numberOpt("max-connections", "Kept for scripts; blobs are moved one after the other."),
	}
}

func blobCommands() []*command {
	cmds := []*command{
		{path: "storage blob upload", short: "Upload a file to a blob.", example: "storage blob upload --account-name mystore --container-name mycontainer --name my.txt --file my.txt --auth-mode login",
			args: append(append(planeArgs(), contentArgs()...), opt("container-name", "Name of the container.").or("-c").required(), opt("name", "Name of the blob; without it, the file's.").or("-n"),
				opt("file", "Path of the file.").or("-f"), opt("data", "The content itself."), opt("type", "Kind of blob.").or("-t").oneOf("block").byDefault("block")),
			run: inAccount(uploadOne)},
		{path: "storage blob download", short: "Download a blob to a file.", example: "storage blob download --account-name mystore --container-name mycontainer --name my.txt --file my.txt --auth-mode login",
			args: blobArgs(opt("file", "Path of the file; without it, the content is printed.").or("-f"), flagOpt("no-progress", "Show no progress; there is none."), boolOpt("overwrite", "Write over a file that is there.").byDefault("true"),
				numberOpt("max-connections", "Kept for scripts; blobs are moved one after the other.")),
			run: inAccount(downloadOne)},
		{path: "storage blob show", short: "Show a blob.", example: "storage blob show --account-name mystore --container-name mycontainer --name my.txt --auth-mode login", args: blobArgs(),
			run: inAccount(func(ctx context.Context, c *call, b *blobs) (any, error) {
				a, err := b.do(ctx, http.MethodHead, b.url(nil, c.text("container-name"), c.text("name")), nil, nil)
				if err != nil {
					return nil, err
				}
				return shownBlob(c.text("container-name"), c.text("name"), a.header), nil
			})},
		{path: "storage blob exists", short: "Ask whether a blob is there.", example: "storage blob exists --account-name mystore --container-name mycontainer --name my.txt --auth-mode login", args: blobArgs(),
			run: inAccount(func(ctx context.Context, c *call, b *blobs) (any, error) {
				_, err := b.do(ctx, http.MethodHead, b.url(nil, c.text("container-name"), c.text("name")), nil, nil)
				if storageGone(err) {
					return object{"exists": false}, nil
				}
				return object{"exists": true}, err
			})},
		{path: "storage blob url", short: "Show the address of a blob.", example: "storage blob url --account-name mystore --container-name mycontainer --name my.txt --auth-mode login", args: blobArgs(),
			run: inAccount(func(_ context.Context, c *call, b *blobs) (any, error) {
				return b.url(nil, c.text("container-name"), c.text("name")), nil
			})},
		{path: "storage blob delete", short: "Delete a blob.", example: "storage blob delete --account-name mystore --container-name mycontainer --name my.txt --auth-mode login",
			args: blobArgs(opt("delete-snapshots", "There are no snapshots.").oneOf("include")),
			run: inAccount(func(ctx context.Context, c *call, b *blobs) (any, error) {
				_, err := b.do(ctx, http.MethodDelete, b.url(nil, c.text("container-name"), c.text("name")), nil, nil)
				return nil, err
			})},
		{path: "storage blob list", short: "List the blobs of a container.", example: "storage blob list --account-name mystore --container-name mycontainer --auth-mode login",
			args: append(planeArgs(), opt("container-name", "Name of the container.").or("-c").required(), opt("prefix", "What names begin with."), opt("delimiter", "What ends a part of a name."),
				opt("num-results", "At most so many, or *.").byDefault("5000"), opt("include", "What to show, too: m for metadata, c for copies.")),
			run: inAccount(func(ctx context.Context, c *call, b *blobs) (any, error) {
				limit := 0
				if v := c.text("num-results"); v != "*" {
					if _, err := fmt.Sscanf(v, "%d", &limit); err != nil {
						return nil, usagef("argument --num-results: '%s' is neither a number nor *", v)
					}
				}
				return b.list(ctx, c.text("container-name"), c.text("prefix"), c.text("delimiter"), limit)
			})},
	}
	return append(cmds, blobBatchCommands()...)
}

// put is what an upload says of a content.
func (c *call) putHeaders(file string) http.Header {
	h := http.Header{"X-Ms-Blob-Type": {"BlockBlob"}}
	kind := c.text("content-type")
	if kind == "" {
		kind = firstNonEmpty(mime.TypeByExtension(filepath.Ext(file)), "application/octet-stream")
	}
	h.Set("X-Ms-Blob-Content-Type", kind)
	for option, name := range map[string]string{"content-encoding": "Content-Encoding", "content-language": "Content-Language", "content-disposition": "Content-Disposition", "content-cache-control": "Cache-Control"} {
		if v := c.text(option); v != "" {
			h.Set("X-Ms-Blob-"+name, v)
		}
	}
	if v := c.text("tier"); v != "" {
		h.Set("X-Ms-Access-Tier", v)
	}
	if !c.flag("overwrite") {
		h.Set("If-None-Match", "*")
	}
	c.metadataHeaders(h)
	return h
}

func uploadOne(ctx context.Context, c *call, b *blobs) (any, error) {
	if c.given("file") == c.given("data") {
		return nil, usagef("usage error: --file PATH | --data TEXT")
	}
	name := firstNonEmpty(c.text("name"), filepath.Base(c.text("file")))
	if c.given("data") {
		if c.text("name") == "" {
			return nil, usagef("the following arguments are required: --name/-n")
		}
		a, err := b.do(ctx, http.MethodPut, b.url(nil, c.text("container-name"), name), c.putHeaders(name), []byte(c.text("data")))
		return uploaded(a), err
	}
	a, err := b.upload(ctx, c.text("container-name"), name, c.filePath(c.text("file")), c.putHeaders(c.text("file")))
	if isCode(err, "BlobAlreadyExists") {
		return nil, withHint(err, "Give --overwrite to write over it.")
	}
	return uploaded(a), err
}

// uploaded is what az prints of an upload.
func uploaded(a *answer) any {
	if a == nil {
		return nil
	}
	h := a.header
	return object{
		"client_request_id": orNil(h.Get("X-Ms-Client-Request-Id")), "content_md5": orNil(h.Get("Content-MD5")), "date": pythonTime(h.Get("Date")), "encryption_key_sha256": nil, "encryption_scope": nil,
		"etag": h.Get("ETag"), "lastModified": pythonTime(h.Get("Last-Modified")), "request_id": h.Get("X-Ms-Request-Id"), "request_server_encrypted": h.Get("X-Ms-Request-Server-Encrypted") == "true",
		"version": h.Get("X-Ms-Version"), "version_id": nil,
	}
}

// upload puts a file, a large one in blocks.
func (b *blobs) upload(ctx context.Context, container, name, path string, h http.Header) (*answer, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, failf("cannot read the file: %v", err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, failf("cannot read the file: %v", err)
	}
	if info.Size() <= oneBlob {
		raw, err := io.ReadAll(f)
		if err != nil {
			return nil, failf("cannot read the file: %v", err)
		}
		if len(raw) == 0 {
			raw = []byte{}
		}
		return b.do(ctx, http.MethodPut, b.url(nil, container, name), h, raw)
	}
	return b.uploadBlocks(ctx, container, name, f, h)
}

func (b *blobs) uploadBlocks(ctx context.Context, container, name string, f *os.File, h http.Header) (*answer, error) {
	var list strings.Builder
	list.WriteString("<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>")
	sum, buf := md5.New(), make([]byte, blobBlock) //nolint:gosec // see the import
	for i := 0; ; i++ {
		n, err := io.ReadFull(f, buf)
		if n == 0 {
			break
		}
		if err != nil && err != io.ErrUnexpectedEOF {
			return nil, failf("cannot read the file: %v", err)
		}
		id := base64.StdEncoding.EncodeToString([]byte(fmt.Sprintf("block-%08d", i)))
		if _, err := b.do(ctx, http.MethodPut, b.url(url.Values{"comp": {"block"}, "blockid": {id}}, container, name), nil, buf[:n]); err != nil {
			return nil, err
		}
		sum.Write(buf[:n])
		list.WriteString("<Latest>" + id + "</Latest>")
	}
	list.WriteString("</BlockList>")
	h.Del("X-Ms-Blob-Type")
	h.Set("X-Ms-Blob-Content-Md5", base64.StdEncoding.EncodeToString(sum.Sum(nil)))
	h.Set("Content-Type", "application/xml")
	return b.do(ctx, http.MethodPut, b.url(url.Values{"comp": {"blocklist"}}, container, name), h, []byte(list.String()))
}

func downloadOne(ctx context.Context, c *call, b *blobs) (any, error) {
	container, name, file := c.text("container-name"), c.text("name"), c.text("file")
	if file == "" {
		_, err := b.fetch(ctx, container, name, c.env.Stdout)
		return nil, err
	}
	path := c.filePath(file)
	if _, err := os.Stat(path); err == nil && !c.flag("overwrite") {
		return nil, failf("The file '%s' is there already. Give --overwrite to write over it.", file)
	}
	h, err := b.download(ctx, container, name, path)
	if err != nil {
		return nil, err
	}
	return shownBlob(container, name, h), nil
}

// download writes a blob to a file, which is there whole or not at all.
func (b *blobs) download(ctx context.Context, container, name, path string) (http.Header, error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".laz-*")
	if err != nil {
		return nil, failf("cannot write the file: %v", err)
	}
	defer func() { _ = os.Remove(f.Name()) }() // gone once it is renamed
	h, err := b.fetch(ctx, container, name, f)
	if cerr := f.Close(); err == nil && cerr != nil {
		err = failf("cannot write the file: %v", cerr)
	}
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(f.Name(), 0o644); err != nil { //nolint:gosec // as other programs write what they download
		return nil, failf("cannot write the file: %v", err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return nil, failf("cannot write the file: %v", err)
	}
	return h, nil
}

// fetch reads a blob in ranges, all of the same version of it.
func (b *blobs) fetch(ctx context.Context, container, name string, to io.Writer) (http.Header, error) {
	u := b.url(nil, container, name)
	head, err := b.do(ctx, http.MethodHead, u, nil, nil)
	if err != nil {
		return nil, err
	}
	var size, at int64
	if _, err := fmt.Sscan(head.header.Get("Content-Length"), &size); err != nil {
		return nil, failf("the service does not say how long the blob is")
	}
	for at < size {
		h := http.Header{"If-Match": {head.header.Get("ETag")}}
		h.Set("X-Ms-Range", fmt.Sprintf("bytes=%d-%d", at, min(at+blobRange, size)-1))
		a, err := b.do(ctx, http.MethodGet, u, h, nil)
		if err != nil {
			return nil, err
		}
		if len(a.body) == 0 {
			return nil, failf("the service sent nothing of the blob's rest")
		}
		if _, err := to.Write(a.body); err != nil {
			return nil, failf("cannot write the blob: %v", err)
		}
		at += int64(len(a.body))
	}
	return head.header, nil
}

// shownBlob is a blob as az prints it.
func shownBlob(container, name string, h http.Header) object {
	var size int64
	_, _ = fmt.Sscan(h.Get("Content-Length"), &size) // 0 where it is not said
	get := func(k string) any { return orNil(h.Get(k)) }
	return object{
		"container": container, "content": "", "deleted": false, "encryptedMetadata": nil, "encryptionKeySha256": nil, "encryptionScope": nil, "isAppendBlobSealed": nil, "isCurrentVersion": nil,
		"lastAccessedOn": nil, "metadata": metadataIn(h), "name": name, "objectReplicationDestinationPolicy": nil, "objectReplicationSourceProperties": []any{}, "rehydratePriority": nil,
		"requestServerEncrypted": h.Get("X-Ms-Server-Encrypted") == "true", "snapshot": nil, "tagCount": nil, "tags": nil, "versionId": nil,
		"properties": object{
			"appendBlobCommittedBlockCount": nil, "blobTier": get("X-Ms-Access-Tier"), "blobTierChangeTime": nil, "blobTierInferred": h.Get("X-Ms-Access-Tier-Inferred") == "true", "blobType": h.Get("X-Ms-Blob-Type"),
			"contentLength": size, "contentRange": get("Content-Range"), "creationTime": pythonTime(h.Get("X-Ms-Creation-Time")), "deletedTime": nil, "etag": h.Get("ETag"),
			"lastModified": pythonTime(h.Get("Last-Modified")), "lease": lease(), "pageBlobSequenceNumber": nil, "pageRanges": nil, "rehydrationStatus": nil, "remainingRetentionDays": nil,
			"serverEncrypted": h.Get("X-Ms-Server-Encrypted") == "true",
			"contentSettings": object{"cacheControl": get("Cache-Control"), "contentDisposition": get("Content-Disposition"), "contentEncoding": get("Content-Encoding"), "contentLanguage": get("Content-Language"),
				"contentMd5": get("Content-MD5"), "contentType": get("Content-Type")},
			"copy": object{"completionTime": pythonTime(h.Get("X-Ms-Copy-Completion-Time")), "destinationSnapshot": nil, "id": get("X-Ms-Copy-Id"), "incrementalCopy": nil, "progress": get("X-Ms-Copy-Progress"),
				"source": get("X-Ms-Copy-Source"), "status": get("X-Ms-Copy-Status"), "statusDescription": nil},
		},
	}
}

type listedBlob struct {
	Name       string
	Properties struct {
		Items []xmlItem `xml:",any"`
	}
	Metadata struct {
		Items []xmlItem `xml:",any"`
	}
}

// header gives what a listing says of a blob as its own headers would.
func (l *listedBlob) header() http.Header {
	h := http.Header{}
	for _, x := range l.Properties.Items {
		n := x.XMLName.Local
		switch n {
		case "Etag":
			x.Value = `"` + x.Value + `"`
		case "BlobType":
			n = "X-Ms-Blob-Type"
		case "AccessTier":
			n = "X-Ms-Access-Tier"
		case "AccessTierInferred":
			n = "X-Ms-Access-Tier-Inferred"
		case "Creation-Time":
			n = "X-Ms-Creation-Time"
		case "ServerEncrypted":
			n = "X-Ms-Server-Encrypted"
		case "CopyId", "CopySource", "CopyStatus", "CopyProgress":
			n = "X-Ms-Copy-" + strings.TrimPrefix(n, "Copy")
		}
		if x.Value != "" {
			h.Set(n, x.Value)
		}
	}
	for _, x := range l.Metadata.Items {
		h.Set("X-Ms-Meta-"+x.XMLName.Local, x.Value)
	}
	return h
}

func (b *blobs) list(ctx context.Context, container, prefix, delimiter string, limit int) ([]any, error) {
	all, marker := []any{}, ""
	for {
		q := containerQuery("list")
		q.Set("include", "metadata,copy")
		for k, v := range map[string]string{"prefix": prefix, "delimiter": delimiter, "marker": marker} {
			if v != "" {
				q.Set(k, v)
			}
		}
		a, err := b.do(ctx, http.MethodGet, b.url(q, container, ""), nil, nil)
		if err != nil {
			return nil, err
		}
		var page struct {
			List     []listedBlob `xml:"Blobs>Blob"`
			Prefixes []string     `xml:"Blobs>BlobPrefix>Name"`
			Next     string       `xml:"NextMarker"`
		}
		if err := readXML(a.body, &page); err != nil {
			return nil, failf("the list of blobs is not to be read: %v", err)
		}
		for _, x := range page.List {
			all = append(all, shownBlob(container, x.Name, x.header()))
			if limit > 0 && len(all) == limit {
				return all, nil
			}
		}
		for _, p := range page.Prefixes {
			all = append(all, object{"container": container, "name": p, "properties": nil})
		}
		if marker = page.Next; marker == "" {
			return all, nil
		}
	}
}
