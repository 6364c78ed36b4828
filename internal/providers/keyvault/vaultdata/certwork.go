package vaultdata

import (
	"context"
	"encoding/asn1"
	"errors"
	"time"
)

// A PKCS#12 file says itself how often its password is hashed, so that a short
// file can keep a processor busy for days. What says so in the open is counted
// before the file is opened. What says so under encryption can't be: so few
// are opened at a time, and nobody waits longer than maxOpening.
const (
	maxIterations = 5_000_000 // of all parts of a file; OpenSSL writes thousands
	maxOpening    = 20 * time.Second
	openAtOnce    = 2
)

var errIterations = errors.New("the password of the PKCS#12 file is hashed too often")

// read is parseImport that gives up in time.
func (o *Objects) read(ctx context.Context, value, password string) (*imported, error) {
	ctx, cancel := context.WithTimeout(ctx, maxOpening)
	defer cancel()
	busy := badCert("it takes too long to open").WithCause(errIterations)
	select {
	case o.opening <- struct{}{}:
	case <-ctx.Done():
		return nil, busy
	}
	type result struct {
		in  *imported
		err error
	}
	done := make(chan result, 1)
	go func() {
		defer func() { <-o.opening }()
		in, err := parseImport(value, password)
		done <- result{in, err}
	}()
	select {
	case r := <-done:
		return r.in, r.err
	case <-ctx.Done():
		return nil, busy
	}
}

// checkWork refuses a PKCS#12 file whose parts in the open ask for too much.
// Wherever iterations are counted (RFC 7292 section 4, RFC 8018 appendix A) the
// number follows the salt in one sequence.
func checkWork(der []byte) error {
	left := int64(maxIterations)
	countWork(der, 0, &left)
	if left < 0 {
		return errIterations
	}
	return nil
}

func countWork(der []byte, depth int, left *int64) {
	if depth > 32 {
		*left = -1
		return
	}
	salt := false
	for len(der) > 0 && *left >= 0 {
		var v asn1.RawValue
		rest, err := asn1.Unmarshal(der, &v)
		if err != nil {
			return // not DER: the content of something else
		}
		der = rest
		octets := v.Class == asn1.ClassUniversal && v.Tag == asn1.TagOctetString
		switch {
		case salt && v.Class == asn1.ClassUniversal && v.Tag == asn1.TagInteger:
			*left -= iterations(v.FullBytes)
		case v.IsCompound || octets:
			countWork(v.Bytes, depth+1, left)
		}
		salt = octets
	}
}

// iterations reads a count; one that no int holds is more than any limit.
func iterations(der []byte) int64 {
	var n int64
	if _, err := asn1.Unmarshal(der, &n); err != nil || n > maxIterations {
		return maxIterations + 1
	}
	return max(n, 0)
}
