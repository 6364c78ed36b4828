package image_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"lazurite.dev/internal/image"
)

// layered is an image for this machine with layers of these contents.
func layered(t testing.TB, contents ...[]byte) v1.Image {
	t.Helper()
	img := v1.Image(empty.Image)
	for _, c := range contents {
		var err error
		if img, err = mutate.AppendLayers(img, static.NewLayer(c, types.DockerUncompressedLayer)); err != nil {
			t.Fatal(err)
		}
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", runtime.GOARCH
	if img, err = mutate.ConfigFile(img, config); err != nil {
		t.Fatal(err)
	}
	return img
}

// fileOf is an archive with one file of so many bytes.
func fileOf(t testing.TB, size int) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	err := w.WriteHeader(&tar.Header{Name: "f", Typeflag: tar.TypeReg, Mode: 0o600, Size: int64(size)})
	if err == nil {
		_, err = w.Write(make([]byte, size))
	}
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func check(t testing.TB, img v1.Image, most int64) (int64, error) {
	t.Helper()
	a, err := image.Of(img, "a/b:c")
	if err != nil {
		t.Fatal(err)
	}
	return a.Images[0].Check(t.Context(), most)
}

func TestCheck(t *testing.T) {
	good := layered(t, fileOf(t, 1000), fileOf(t, 2000))
	if n, err := check(t, good, 1<<20); err != nil || n != 3000+2*512 {
		t.Errorf("got %d, %v", n, err)
	}
	for _, most := range []int64{0, 1000, 4000} {
		if _, err := check(t, good, most); !errors.Is(err, image.ErrTooLarge) {
			t.Errorf("at most %d: %v", most, err)
		}
	}
	// Sparse: its holes are not in the archive, and on the disk they are.
	sparse := fileOf(t, 512)
	sparse[156] = tar.TypeGNUSparse
	copy(sparse[386:], "00000000000\x0000000001000\x00") // from 0, 512 bytes
	copy(sparse[483:], "07777777777\x00")                // 1 GiB in all
	copy(sparse[257:], "ustar  \x00")
	copy(sparse[148:], "        ")
	sum := 0
	for _, c := range sparse[:512] {
		sum += int(c)
	}
	copy(sparse[148:], []byte{byte('0' + sum>>15&7), byte('0' + sum>>12&7), byte('0' + sum>>9&7), byte('0' + sum>>6&7), byte('0' + sum>>3&7), byte('0' + sum&7), 0, ' '})
	if _, err := check(t, layered(t, sparse), 1<<20); !errors.Is(err, image.ErrTooLarge) {
		t.Errorf("a sparse file: %v", err)
	}
	if _, err := check(t, layered(t, append(fileOf(t, 10), make([]byte, 1<<20)...)), 1<<16); !errors.Is(err, image.ErrTooLarge) {
		t.Errorf("what follows the archive: %v", err)
	}
	for want, img := range map[string]v1.Image{
		"layer 1: it is no archive": layered(t, []byte(strings.Repeat("no tar", 200))),
		"the configuration says":    altered(t, good, func(c *v1.ConfigFile) { c.RootFS.DiffIDs[1] = c.RootFS.DiffIDs[0] }),
		"its configuration says 1":  altered(t, good, func(c *v1.ConfigFile) { c.RootFS.DiffIDs = c.RootFS.DiffIDs[:1] }),
	} {
		if _, err := check(t, img, 1<<20); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	a, err := image.Of(good, "a/b:c")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Images[0].Check(ctx, 1<<20); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func altered(t testing.TB, img v1.Image, change func(*v1.ConfigFile)) v1.Image {
	t.Helper()
	c, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	c = c.DeepCopy()
	change(c)
	if img, err = mutate.ConfigFile(img, c); err != nil {
		t.Fatal(err)
	}
	return img
}

func FuzzCheck(f *testing.F) {
	f.Add(fileOf(f, 3))
	f.Add([]byte("no"))
	f.Fuzz(func(t *testing.T, layer []byte) {
		if n, err := check(t, layered(t, layer), 1<<16); err == nil && (n < 0 || n > 1<<16) {
			t.Errorf("%d bytes", n)
		}
	})
}

// TestCheck_AsksNobodyForMemory: a frame of zstd says in its first bytes how much
// memory it takes to read, up to 512 MiB.
func TestCheck_AsksNobodyForMemory(t *testing.T) {
	const frame = "\x28\xb5\x2f\xfd\x00\x98\x01\x00\x00" // a window of 512 MiB, one empty block
	l, err := partial.CompressedToLayer(blob{static.NewLayer([]byte(frame), types.OCILayerZStd)})
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(layered(t), l)
	if err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err = check(t, img, 1<<20)
	runtime.ReadMemStats(&after)
	if err == nil || !strings.Contains(err.Error(), "layer 1: it is compressed with zstd") {
		t.Errorf("got %v", err)
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > 64<<20 {
		t.Errorf("it took %d bytes of memory", n)
	}
}

// blob is a layer as a registry has it.
type blob struct{ v1.Layer }

// DiffID implements partial.WithDiffID.
func (blob) DiffID() (v1.Hash, error) {
	return v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("0", 64)}, nil
}
