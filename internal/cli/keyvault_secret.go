package cli

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"net/http"
	"os"
	"unicode/utf16"
)

func secretCommands() []*command {
	const group = "keyvault secret"
	cmds := []*command{secretSet(), secretShow(), secretDownload(), secretAttributes(),
		{path: "keyvault secret list", short: "List secrets, without their values.", example: "keyvault secret list --vault-name myVault",
			args:  append(listArgs("secrets"), flagOpt("include-managed", "Also those that belong to certificates.")),
			table: "[].{Name:name, Id:id, ContentType:contentType, Enabled:attributes.enabled, Expires:attributes.expires}",
			run: func(ctx context.Context, c *call) (any, error) {
				v, err := listing("secrets", showSecretItem)(ctx, c)
				if err != nil || c.flag("include-managed") {
					return v, err
				}
				out := []any{}
				for _, s := range items(v) {
					if at(s, "managed") != true {
						out = append(out, s)
					}
				}
				return out, nil
			}},
		{path: "keyvault secret list-versions", short: "List the versions of a secret, without their values.", example: "keyvault secret list-versions --vault-name myVault --name my",
			args: append(objectArgs("secret"), numberOpt("maxresults", "How many versions one request brings; all are listed.")),
			run:  versions("secrets", showSecretItem)},
	}
	cmds = append(cmds, deletedCommands(group, "secret", "secrets", showSecretItem)...)
	return append(cmds, backupCommands(group, "secret", "secrets", showSecretItem)...)
}

// versions makes a run function that lists an object's versions.
func versions(collection string, show func(any) any) func(context.Context, *call) (any, error) {
	return inVault(func(ctx context.Context, c *call, v *vault) (any, error) {
		path, err := c.objectPath(collection, false)
		if err != nil {
			return nil, err
		}
		var q []string
		if n := c.text("maxresults"); n != "" {
			q = []string{"maxresults", n}
		}
		l, err := v.list(ctx, path+"/versions", q...)
		return each(l, show), err
	})
}

// nameFromID adds the name that the address holds.
func nameFromID(v any, key string) {
	m, ok := v.(object)
	if !ok {
		return
	}
	if parts := splitAddress(textAt(m, key)); len(parts) > 1 {
		m["name"] = parts[1]
	}
}

func showSecretItem(v any) any {
	showAttributes(v)
	nameFromID(v, "id")
	return withNulls(v, "contentType", "managed", "tags")
}

func showSecret(v any) any { return withNulls(showSecretItem(v), "kid", "value") }

func secretSet() *command {
	args := append(objectArgs("secret"), opt("value", "The secret. @FILE reads it from a file."),
		opt("file", "File whose content is the secret.").or("-f"),
		opt("encoding", "How the file is read.").or("-e").oneOf("ascii", "base64", "hex", "utf-16be", "utf-16le", "utf-8"),
		opt("content-type", "What the value is.").or("--description"), tagsOpt(),
		boolOpt("disabled", "Whether it may not be used."))
	return &command{path: "keyvault secret set", short: "Create a secret, or a new version of one.",
		example: "keyvault secret set --vault-name myVault --name my --value VALUE", args: append(args, attributeArgs()[1:]...),
		run: inVault(func(ctx context.Context, c *call, v *vault) (any, error) {
			path, err := c.objectPath("secrets", false)
			if err != nil {
				return nil, err
			}
			body, err := c.secretBody()
			if err != nil {
				return nil, err
			}
			got, err := v.do(ctx, http.MethodPut, path, body)
			if err != nil {
				return nil, err
			}
			return showSecret(got), nil
		})}
}

func (c *call) secretBody() (object, error) {
	if c.given("value") == c.given("file") {
		return nil, usagef("usage error: --value VALUE | --file FILE")
	}
	attrs, err := c.attributes()
	if err != nil {
		return nil, err
	}
	body := withoutNil(object{"attributes": attrs, "contentType": c.text("content-type")})
	tags := c.pairs("tags")
	if c.given("file") {
		value, encoding, err := c.fileSecret()
		if err != nil {
			return nil, err
		}
		if tags == nil {
			tags = object{}
		}
		tags["file-encoding"] = encoding
		body["value"] = value
	} else {
		body["value"] = c.text("value")
	}
	if tags != nil {
		body["tags"] = tags
	}
	return body, nil
}

// fileSecret reads the file of --file by the encoding that tells how its bytes
// become text.
func (c *call) fileSecret() (value, encoding string, err error) {
	b, err := os.ReadFile(c.filePath(c.text("file")))
	if err != nil {
		return "", "", err
	}
	encoding = firstNonEmpty(c.text("encoding"), "utf-8")
	switch encoding {
	case "base64":
		return base64.StdEncoding.EncodeToString(b), encoding, nil
	case "hex":
		return hex.EncodeToString(b), encoding, nil
	case "utf-16le":
		return fromUTF16(b, binary.LittleEndian), encoding, nil
	case "utf-16be":
		return fromUTF16(b, binary.BigEndian), encoding, nil
	}
	return string(b), encoding, nil
}

func fromUTF16(b []byte, order binary.ByteOrder) string {
	units := make([]uint16, len(b)/2)
	for i := range units {
		units[i] = order.Uint16(b[2*i:])
	}
	return string(utf16.Decode(units))
}

// toBytes is the reverse of fileSecret.
func toBytes(value, encoding string) ([]byte, error) {
	order := binary.AppendByteOrder(binary.LittleEndian)
	switch encoding {
	case "base64":
		return base64.StdEncoding.DecodeString(value)
	case "hex":
		return hex.DecodeString(value)
	case "utf-16be":
		order = binary.BigEndian
	case "utf-16le":
	default:
		return []byte(value), nil
	}
	var out []byte
	for _, u := range utf16.Encode([]rune(value)) {
		out = order.AppendUint16(out, u)
	}
	return out, nil
}

func secretShow() *command {
	return &command{path: "keyvault secret show", short: "Show a secret with its value.", example: "keyvault secret show --vault-name myVault --name my --query value -o tsv",
		args: append(objectArgs("secret"), versionOpt("secret")), run: onObject(http.MethodGet, "secrets", "", true, showSecret)}
}

func secretDownload() *command {
	return &command{path: "keyvault secret download", short: "Save a secret in a file.", example: "keyvault secret download --vault-name myVault --name my --file secret.txt",
		args: append(objectArgs("secret"), versionOpt("secret"), opt("file", "Where it is saved.").or("-f").required(),
			opt("encoding", "How the text becomes bytes; without it, as it was set.").or("-e").oneOf("ascii", "base64", "hex", "utf-16be", "utf-16le", "utf-8"),
			flagOpt("overwrite", "Replace the file.")),
		run: inVault(func(ctx context.Context, c *call, v *vault) (any, error) {
			path, err := c.objectPath("secrets", true)
			if err != nil {
				return nil, err
			}
			got, err := v.do(ctx, http.MethodGet, path, nil)
			if err != nil {
				return nil, err
			}
			b, err := toBytes(textAt(got, "value"), firstNonEmpty(c.text("encoding"), textAt(got, "tags", "file-encoding")))
			if err != nil {
				return nil, failf("the secret is not in the encoding: %s", err)
			}
			return nil, c.newFile(c.text("file"), b)
		})}
}

func secretAttributes() *command {
	return &command{path: "keyvault secret set-attributes", short: "Change what is said of a secret, not its value.",
		example: "keyvault secret set-attributes --vault-name myVault --name my --enabled false",
		args:    append(append(objectArgs("secret"), versionOpt("secret"), tagsOpt(), opt("content-type", "What the value is.")), attributeArgs()...),
		run: inVault(func(ctx context.Context, c *call, v *vault) (any, error) {
			return c.patchObject(ctx, v, "secrets", showSecretItem, func(body object) { c.setIf(body, "contentType", "content-type") })
		})}
}

// patchObject changes attributes and tags of an object, and what more adds.
func (c *call) patchObject(ctx context.Context, v *vault, collection string, show func(any) any, more func(object)) (any, error) {
	path, err := c.objectPath(collection, true)
	if err != nil {
		return nil, err
	}
	attrs, err := c.attributes()
	if err != nil {
		return nil, err
	}
	body := withoutNil(object{"attributes": attrs})
	c.setIf(body, "tags", "tags")
	more(body)
	if c.text("version") == "" && len(splitAddress(c.text("id"))) < 3 {
		path += "/" // the newest version
	}
	got, err := v.do(ctx, http.MethodPatch, path, body)
	if err != nil {
		return nil, err
	}
	return show(got), nil
}
