package cli

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"net/http"
	"os"
)

func keyCryptoCommands() []*command {
	return []*command{keyEncrypt("encrypt", "Encrypt bytes with a key."), keyEncrypt("decrypt", "Decrypt bytes with a key."), keySign(), keyVerify()}
}

func cryptoArgs(algs ...string) []arg {
	return append(objectArgs("key"), versionOpt("key"), opt("algorithm", "The algorithm.").or("-a").required().oneOf(algs...))
}

func encryptionAlgorithms() []string {
	return []string{"A128CBC", "A128CBCPAD", "A128GCM", "A192CBC", "A192CBCPAD", "A192GCM", "A256CBC", "A256CBCPAD", "A256GCM", "RSA-OAEP", "RSA-OAEP-256", "RSA1_5"}
}

func signatureAlgorithms() []string {
	return []string{"ES256", "ES256K", "ES384", "ES512", "PS256", "PS384", "PS512", "RS256", "RS384", "RS512"}
}

// fromBase64 reads either alphabet, with or without padding.
func fromBase64(s string) ([]byte, error) {
	if b, err := base64.StdEncoding.DecodeString(s); err == nil {
		return b, nil
	}
	if b, err := base64.RawURLEncoding.DecodeString(s); err == nil {
		return b, nil
	}
	return base64.URLEncoding.DecodeString(s)
}

func keyEncrypt(verb, short string) *command {
	args := append(cryptoArgs(encryptionAlgorithms()...), opt("value", "The bytes in base64, or text with --data-type plaintext.").required(),
		opt("data-type", "What the plain bytes are.").oneOf("base64", "plaintext").byDefault("base64"),
		opt("iv", "Initialization vector in base64, where the algorithm takes one."), opt("tag", "Authentication tag in base64, to decrypt with GCM."),
		opt("aad", "Further authenticated data in base64, with GCM."))
	return &command{path: "keyvault key " + verb, short: short, args: args,
		example: "keyvault key " + verb + " --vault-name myVault --name my --algorithm RSA-OAEP-256 --value aGVsbG8=",
		run: inVault(func(ctx context.Context, c *call, v *vault) (any, error) {
			plainText := c.text("data-type") == "plaintext"
			body := object{"alg": c.text("algorithm")}
			for _, o := range []struct{ option, key string }{{"value", "value"}, {"iv", "iv"}, {"tag", "tag"}, {"aad", "aad"}} {
				s := c.text(o.option)
				if s == "" {
					continue
				}
				b := []byte(s)
				if o.option != "value" || !plainText || verb == "decrypt" {
					var err error
					if b, err = fromBase64(s); err != nil {
						return nil, usagef("argument --%s: not base64", o.option)
					}
				}
				body[o.key] = b64(b)
			}
			got, err := c.keyOperation(ctx, v, verb, body)
			if err != nil {
				return nil, err
			}
			return showCipher(got, c.text("algorithm"), verb == "decrypt" && plainText)
		})}
}

// keyOperation calls a key's action; without a version the newest is taken.
func (c *call) keyOperation(ctx context.Context, v *vault, verb string, body object) (any, error) {
	path, err := c.objectPath("keys", true)
	if err != nil {
		return nil, err
	}
	if c.text("version") == "" && len(splitAddress(c.text("id"))) < 3 {
		k, err := v.do(ctx, http.MethodGet, path, nil)
		if err != nil {
			return nil, err
		}
		if parts := splitAddress(textAt(k, "key", "kid")); len(parts) == 3 {
			path = "/keys/" + parts[1] + "/" + parts[2]
		}
	}
	return v.do(ctx, http.MethodPost, path+"/"+verb, body)
}

func showCipher(got any, alg string, asText bool) (any, error) {
	out := object{"algorithm": alg, "kid": at(got, "kid"), "iv": nil, "tag": nil, "aad": nil, "result": nil}
	for wire, name := range map[string]string{"value": "result", "iv": "iv", "tag": "tag", "aad": "aad"} {
		if s := textAt(got, wire); s != "" {
			b, err := fromBase64(s)
			if err != nil {
				return nil, failf("the vault's answer is not base64: %s", err)
			}
			out[name] = base64.StdEncoding.EncodeToString(b)
			if asText && name == "result" {
				out[name] = string(b)
			}
		}
	}
	return out, nil
}

func keySign() *command {
	return &command{path: "keyvault key sign", short: "Sign a digest with a key.", example: "keyvault key sign --vault-name myVault --name my --algorithm RS256 --digest DIGEST",
		args: append(cryptoArgs(signatureAlgorithms()...), opt("digest", "The digest in base64.").required()),
		run: inVault(func(ctx context.Context, c *call, v *vault) (any, error) {
			d, err := fromBase64(c.text("digest"))
			if err != nil {
				return nil, usagef("argument --digest: not base64")
			}
			got, err := c.keyOperation(ctx, v, "sign", object{"alg": c.text("algorithm"), "value": b64(d)})
			if err != nil {
				return nil, err
			}
			sig, err := fromBase64(textAt(got, "value"))
			if err != nil {
				return nil, failf("the vault's answer is not base64: %s", err)
			}
			return object{"algorithm": c.text("algorithm"), "kid": at(got, "kid"), "signature": base64.StdEncoding.EncodeToString(sig)}, nil
		})}
}

func keyVerify() *command {
	return &command{path: "keyvault key verify", short: "Tell whether a signature was made with a key.",
		example: "keyvault key verify --vault-name myVault --name my --algorithm RS256 --digest DIGEST --signature SIGNATURE",
		args:    append(cryptoArgs(signatureAlgorithms()...), opt("digest", "The digest in base64.").required(), opt("signature", "The signature in base64.").required()),
		run: inVault(func(ctx context.Context, c *call, v *vault) (any, error) {
			d, err := fromBase64(c.text("digest"))
			if err != nil {
				return nil, usagef("argument --digest: not base64")
			}
			s, err := fromBase64(c.text("signature"))
			if err != nil {
				return nil, usagef("argument --signature: not base64")
			}
			got, err := c.keyOperation(ctx, v, "verify", object{"alg": c.text("algorithm"), "digest": b64(d), "value": b64(s)})
			if err != nil {
				return nil, err
			}
			return object{"algorithm": c.text("algorithm"), "isValid": at(got, "value"), "kid": at(got, "kid")}, nil
		})}
}

func keyImport() *command {
	return &command{path: "keyvault key import", short: "Bring a private key into a vault.", example: "keyvault key import --vault-name myVault --name my --pem-file key.pem",
		args: append(append(objectArgs("key"), opt("pem-file", "PEM file of the private key, without a password."), opt("pem-string", "PEM of the private key."),
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
			b := []byte(c.text("pem-string"))
			if f := c.text("pem-file"); f != "" {
				if b, err = os.ReadFile(c.filePath(f)); err != nil {
					return nil, err
				}
			}
			jwk, err := privateJWK(b)
			if err != nil {
				return nil, err
			}
			c.setIf(jwk, "key_ops", "ops")
			body["key"], body["Hsm"] = jwk, c.text("protection") == "hsm"
			got, err := v.do(ctx, http.MethodPut, path, body)
			if err != nil {
				return nil, err
			}
			return showKey(got), nil
		})}
}

// privateJWK turns a PEM private key into a JSON Web Key (RFC 7517, 7518).
func privateJWK(pemBytes []byte) (object, error) {
	block, _ := pem.Decode(pemBytes)
	for rest := pemBytes; block != nil && block.Type == "EC PARAMETERS"; {
		_, rest = pem.Decode(rest)
		block, _ = pem.Decode(rest)
	}
	if block == nil {
		return nil, usagef("Import failed: not a PEM private key")
	}
	var key any
	var err error
	switch block.Type {
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	default:
		return nil, usagef("Import failed: a PEM block '%s' is no private key, or has a password", block.Type)
	}
	if err != nil {
		return nil, usagef("Import failed: %s", err)
	}
	switch k := key.(type) {
	case *rsa.PrivateKey:
		if len(k.Primes) != 2 {
			return nil, usagef("Import failed: an RSA key of %d primes", len(k.Primes))
		}
		k.Precompute()
		return object{"kty": "RSA", "n": b64(k.N.Bytes()), "e": b64(big.NewInt(int64(k.E)).Bytes()), "d": b64(k.D.Bytes()),
			"p": b64(k.Primes[0].Bytes()), "q": b64(k.Primes[1].Bytes()), "dp": b64(k.Precomputed.Dp.Bytes()),
			"dq": b64(k.Precomputed.Dq.Bytes()), "qi": b64(k.Precomputed.Qinv.Bytes())}, nil
	case *ecdsa.PrivateKey:
		pub, err := k.PublicKey.Bytes() // 4, x, y
		if err != nil {
			return nil, usagef("Import failed: %s", err)
		}
		d, err := k.Bytes()
		if err != nil {
			return nil, usagef("Import failed: %s", err)
		}
		n := (len(pub) - 1) / 2
		return object{"kty": "EC", "crv": k.Curve.Params().Name, "x": b64(pub[1 : 1+n]), "y": b64(pub[1+n:]), "d": b64(d)}, nil
	}
	return nil, usagef("Import failed: only RSA and EC keys can be imported")
}

// publicKey turns the public part of a JSON Web Key into a Go key.
func publicKey(jwk any) (any, error) {
	part := func(name string) []byte {
		b, err := fromBase64(textAt(jwk, name))
		if err != nil {
			return nil
		}
		return b
	}
	switch textAt(jwk, "kty") {
	case "RSA", "RSA-HSM":
		return &rsa.PublicKey{N: new(big.Int).SetBytes(part("n")), E: int(new(big.Int).SetBytes(part("e")).Int64())}, nil
	case "EC", "EC-HSM":
		curve, ok := map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()}[textAt(jwk, "crv")]
		if !ok {
			return nil, failf("the curve %s can't be written as PEM here", textAt(jwk, "crv"))
		}
		size := (curve.Params().BitSize + 7) / 8
		raw := make([]byte, 1+2*size)
		raw[0] = 4
		x, y := part("x"), part("y")
		if len(x) > size || len(y) > size {
			return nil, failf("the key's coordinates are too long")
		}
		copy(raw[1+size-len(x):], x)
		copy(raw[1+2*size-len(y):], y)
		return ecdsa.ParseUncompressedPublicKey(curve, raw)
	}
	return nil, failf("a key of type %s has no public part", textAt(jwk, "kty"))
}

func keyDownload() *command {
	return &command{path: "keyvault key download", short: "Save the public part of a key in a file.", example: "keyvault key download --vault-name myVault --name my --file key.pem",
		args: append(objectArgs("key"), versionOpt("key"), opt("file", "Where it is saved.").or("-f").required(),
			opt("encoding", "Form of the file.").or("-e").oneOf("DER", "PEM").byDefault("PEM"), flagOpt("overwrite", "Replace the file.")),
		run: inVault(func(ctx context.Context, c *call, v *vault) (any, error) {
			path, err := c.objectPath("keys", true)
			if err != nil {
				return nil, err
			}
			got, err := v.do(ctx, http.MethodGet, path, nil)
			if err != nil {
				return nil, err
			}
			pub, err := publicKey(at(got, "key"))
			if err != nil {
				return nil, err
			}
			der, err := x509.MarshalPKIXPublicKey(pub)
			if err != nil {
				return nil, failf("the key can't be written: %s", err)
			}
			if c.text("encoding") == "PEM" {
				der = pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
			}
			return nil, c.newFile(c.text("file"), der)
		})}
}
