package image

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// ErrTooLarge says that an image has more bytes unpacked than it may.
var ErrTooLarge = errors.New("the image is too large unpacked")

// zstd begins what is compressed so (RFC 8878, 3.1.1).
const zstd = "\x28\xb5\x2f\xfd"

const entryBytes = 512 // that a file takes at least, whatever is in it

// Check reads the layers of an image and gives how many bytes they take
// unpacked, at least; more than most is ErrTooLarge. Any other error says which
// layer is not what the image's configuration says it is, or is no archive.
func (i Image) Check(ctx context.Context, most int64) (bytes int64, err error) {
	config, err := i.img.ConfigFile()
	if err != nil {
		return 0, err
	}
	layers, err := i.img.Layers()
	if err != nil {
		return 0, err
	}
	if want := config.RootFS.DiffIDs; len(layers) != len(want) {
		return 0, fmt.Errorf("it has %d layers, and its configuration says %d", len(layers), len(want))
	}
	for n, l := range layers {
		size, err := checkLayer(ctx, l, config.RootFS.DiffIDs[n], most-bytes)
		if err != nil {
			return 0, fmt.Errorf("layer %d: %w", n+1, err)
		}
		bytes += size
	}
	return bytes, nil
}

// notZstd refuses a layer that is compressed with zstd: two dozen bytes of it may
// ask who reads them for 512 MiB of memory, frame by frame.
func notZstd(l v1.Layer) (err error) {
	r, err := l.Compressed()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	head := make([]byte, len(zstd))
	if _, err := io.ReadFull(r, head); err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return err
	}
	if string(head) == zstd {
		return errors.New("it is compressed with zstd, which is not read here: build the image with gzip (docker buildx build --output type=registry,compression=gzip,force-compression=true)")
	}
	return nil
}

// checkLayer reads one layer.
func checkLayer(ctx context.Context, l v1.Layer, want v1.Hash, most int64) (bytes int64, err error) {
	if err := notZstd(l); err != nil {
		return 0, err
	}
	r, err := l.Uncompressed()
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	sum := sha256.New()
	raw := &io.LimitedReader{R: &patient{ctx, r}, N: most + 1}
	from := io.TeeReader(raw, sum)
	tooLarge := func() bool { return raw.N <= 0 || bytes > most }
	for t := tar.NewReader(from); ; {
		h, err := t.Next()
		if tooLarge() {
			return 0, ErrTooLarge
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return 0, fmt.Errorf("it is no archive: %w", err)
		}
		if bytes += entryBytes; h.Typeflag == tar.TypeReg || h.Typeflag == tar.TypeGNUSparse {
			bytes += min(h.Size, most+1) // of a sparse file with its holes, which are written
		}
	}
	if _, err := io.Copy(io.Discard, from); err != nil {
		return 0, err
	}
	if tooLarge() {
		return 0, ErrTooLarge
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != want.Hex {
		return 0, fmt.Errorf("its content is sha256:%s, and the configuration says %s", got, want)
	}
	return bytes, nil
}

// patient is a reader that ends with its context.
type patient struct {
	ctx  context.Context
	from io.Reader
}

// Read implements io.Reader.
func (p *patient) Read(b []byte) (int, error) {
	if err := p.ctx.Err(); err != nil {
		return 0, err
	}
	return p.from.Read(b)
}
