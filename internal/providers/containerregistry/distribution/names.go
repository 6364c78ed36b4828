package distribution

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"hash"
	"regexp"
	"strconv"
	"strings"
)

// The forms of names and tags. Source: distribution specification, "Pulling manifests".
var (
	repositoryRule = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)
	tagRule        = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
	uploadRule     = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)
)

const maxRepository = 255 // bytes, with the registry's name less

func validRepository(s string) bool { return len(s) <= maxRepository && repositoryRule.MatchString(s) }

// digest is a checked one: "sha256:HEX" or "sha512:HEX".
type digest struct{ alg, hex string }

func (d digest) String() string { return d.alg + ":" + d.hex }

// parseDigest reads a digest of an algorithm that is registered. Source: OCI
// Image Specification, "Digests".
func parseDigest(s string) (digest, bool) {
	alg, sum, _ := strings.Cut(s, ":")
	size := map[string]int{"sha256": sha256.Size, "sha512": sha512.Size}[alg]
	if size == 0 || len(sum) != 2*size || strings.ToLower(sum) != sum {
		return digest{}, false
	}
	_, err := hex.DecodeString(sum)
	return digest{alg, sum}, err == nil
}

func newHash(alg string) hash.Hash {
	if alg == "sha512" {
		return sha512.New()
	}
	return sha256.New()
}

func digestOf(alg string, content []byte) digest {
	h := newHash(alg)
	h.Write(content)
	return digest{alg, hex.EncodeToString(h.Sum(nil))}
}

// parseRange reads the Content-Range of a chunk: "FIRST-LAST", also in the form
// of RFC 9110, "bytes FIRST-LAST/LENGTH". Source: distribution specification,
// "Pushing a blob in chunks".
func parseRange(s string) (first, last int64, ok bool) {
	s = strings.TrimPrefix(s, "bytes ")
	s = strings.TrimPrefix(s, "bytes=")
	s, _, _ = strings.Cut(s, "/")
	a, b, found := strings.Cut(s, "-")
	first, okA := decimal(a)
	last, okB := decimal(b)
	if !found || !okA || !okB || first > last {
		return 0, 0, false
	}
	return first, last, true
}

// decimal reads digits alone: no sign, no blank.
func decimal(s string) (int64, bool) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 62)
	return n, err == nil
}
