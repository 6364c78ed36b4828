package tinywriter

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// ggufFile is what a GGUF file holds: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
type ggufFile struct {
	fields  map[string]any // uint64, float64, bool, string or []any
	tensors map[string]tensor
}

// tensor is a matrix, or a vector of one row.
type tensor struct {
	rows, cols int
	data       []float32
}

// errGGUF is an end too soon, or a length that can't be.
var errGGUF = errors.New("GGUF file is cut off")

// ggufReader reads little-endian values; after an error it gives zeros.
type ggufReader struct {
	src string
	at  int
	err error
}

func (r *ggufReader) bytes(n uint64) string {
	if r.err == nil && n > uint64(len(r.src)-r.at) {
		r.err = errGGUF
	}
	if r.err != nil {
		return ""
	}
	s := r.src[r.at : r.at+int(n)]
	r.at += int(n)
	return s
}

func (r *ggufReader) uint(size int) uint64 {
	var b [8]byte
	copy(b[:], r.bytes(uint64(size)))
	return binary.LittleEndian.Uint64(b[:])
}

func (r *ggufReader) string() string { return r.bytes(r.uint(8)) }

func (r *ggufReader) value(kind uint64) any {
	switch kind {
	case 0, 1, 7: // uint8, int8, bool
		return r.uint(1)
	case 2, 3:
		return r.uint(2)
	case 4, 5:
		return r.uint(4)
	case 10, 11:
		return r.uint(8)
	case 6:
		return float64(math.Float32frombits(uint32(r.uint(4))))
	case 12:
		return math.Float64frombits(r.uint(8))
	case 8:
		return r.string()
	case 9:
		of, n := r.uint(4), r.uint(8)
		var list []any
		for i := uint64(0); i < n && r.err == nil && of != 9; i++ {
			list = append(list, r.value(of))
		}
		return list
	}
	r.err = fmt.Errorf("GGUF value of unknown type %d", kind)
	return nil
}

// readGGUF reads a whole file. Tensors become float32: f32 and f16 are known.
func readGGUF(src string) (*ggufFile, error) {
	r := &ggufReader{src: src}
	if r.bytes(4) != "GGUF" || r.uint(4) != 3 {
		return nil, errors.New("not GGUF version 3")
	}
	tensors, fields := r.uint(8), r.uint(8)
	f := &ggufFile{map[string]any{}, map[string]tensor{}}
	for i := uint64(0); i < fields && r.err == nil; i++ {
		key := r.string()
		f.fields[key] = r.value(r.uint(4))
	}
	type info struct {
		name string
		dims [2]uint64
		kind uint64
		at   uint64
	}
	var infos []info
	for i := uint64(0); i < tensors && r.err == nil; i++ {
		in := info{name: r.string(), dims: [2]uint64{0, 1}}
		n := r.uint(4)
		if n < 1 || n > 2 {
			return nil, fmt.Errorf("tensor %q has %d dimensions", in.name, n)
		}
		for d := range n {
			in.dims[d] = r.uint(8)
		}
		in.kind, in.at = r.uint(4), r.uint(8)
		infos = append(infos, in)
	}
	if r.err != nil {
		return nil, r.err
	}
	base := uint64(r.at+31) / 32 * 32
	for _, in := range infos {
		t, err := readTensor(src, base+in.at, in.dims, in.kind)
		if err != nil {
			return nil, fmt.Errorf("tensor %q: %w", in.name, err)
		}
		f.tensors[in.name] = t
	}
	return f, nil
}

func readTensor(src string, at uint64, dims [2]uint64, kind uint64) (tensor, error) {
	width := map[uint64]uint64{0: 4, 1: 2}[kind]
	if width == 0 {
		return tensor{}, fmt.Errorf("unknown type %d", kind)
	}
	const most = 1 << 20 // of a dimension
	if dims[0] > most || dims[1] > most || at > uint64(len(src)) || dims[0]*dims[1]*width > uint64(len(src))-at {
		return tensor{}, errGGUF
	}
	t := tensor{rows: int(dims[1]), cols: int(dims[0]), data: make([]float32, dims[0]*dims[1])}
	for i := range t.data {
		p := int(at) + i*int(width)
		if kind == 1 {
			t.data[i] = half(uint16(src[p]) | uint16(src[p+1])<<8)
		} else {
			t.data[i] = math.Float32frombits(uint32(src[p]) | uint32(src[p+1])<<8 | uint32(src[p+2])<<16 | uint32(src[p+3])<<24)
		}
	}
	return t, nil
}

// half widens an IEEE 754 half.
func half(h uint16) float32 {
	sign, exp, frac := uint32(h>>15)<<31, uint32(h>>10&31), uint32(h&1023)
	switch exp {
	case 0:
		v := float32(frac) / (1 << 24)
		if sign != 0 {
			return -v
		}
		return v
	case 31:
		return math.Float32frombits(sign | 0xff<<23 | frac<<13)
	}
	return math.Float32frombits(sign | (exp+112)<<23 | frac<<13)
}

func (f *ggufFile) number(key string) int {
	n, _ := f.fields[key].(uint64)
	return int(min(n, 1<<20))
}

func (f *ggufFile) strings(key string) []string {
	list, _ := f.fields[key].([]any)
	out := make([]string, len(list))
	for i, v := range list {
		out[i], _ = v.(string)
	}
	return out
}

// tensor gives a tensor that must have this form.
func (f *ggufFile) tensor(name string, rows, cols int) ([]float32, error) {
	t, ok := f.tensors[name]
	if !ok || t.rows != rows || t.cols != cols {
		return nil, fmt.Errorf("tensor %q is %d×%d, want %d×%d", name, t.rows, t.cols, rows, cols)
	}
	return t.data, nil
}
