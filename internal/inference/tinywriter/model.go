package tinywriter

import (
	"fmt"
	"math"
)

// shape is the model's size.
type shape struct {
	vocab, dim, layers, heads, hidden, context int
	eps                                        float32
}

// layer is one block; matrices are row by row, a row for each output.
type layer struct {
	attnNorm, ffnNorm []float32
	qkv               []float32 // query, key and value, one below the other
	out               []float32
	gateUp            []float32 // gate and up, one below the other
	down              []float32
}

// model is Llama's architecture: RMSNorm, rotary positions on neighbouring
// pairs, SwiGLU, and one matrix for tokens in and out. It does not change once
// it is read, so any number of runs share it.
type model struct {
	shape
	emb    []float32
	norm   []float32
	blocks []layer
	cos    []float32 // [context × head/2]
	sin    []float32
}

func newModel(f *ggufFile) (*model, error) {
	s := shape{
		vocab: len(f.strings("tokenizer.ggml.tokens")), dim: f.number("llama.embedding_length"), layers: f.number("llama.block_count"),
		heads: f.number("llama.attention.head_count"), hidden: f.number("llama.feed_forward_length"), context: f.number("llama.context_length"),
	}
	eps, _ := f.fields["llama.attention.layer_norm_rms_epsilon"].(float64)
	s.eps = float32(eps)
	if s.heads == 0 || s.dim == 0 || s.dim%(2*s.heads) != 0 || s.layers == 0 || s.context == 0 || s.vocab <= specials || f.number("llama.attention.head_count_kv") != s.heads {
		return nil, fmt.Errorf("model of %d layers, %d wide, with %d heads", s.layers, s.dim, s.heads)
	}
	m := &model{shape: s}
	var err error
	get := func(name string, rows, cols int) []float32 {
		data, e := f.tensor(name+".weight", rows, cols)
		if e != nil && err == nil {
			err = e
		}
		return data
	}
	d, h := s.dim, s.hidden
	m.emb, m.norm = get("token_embd", s.vocab, d), get("output_norm", 1, d)
	for i := range s.layers {
		b := fmt.Sprintf("blk.%d.", i)
		m.blocks = append(m.blocks, layer{
			attnNorm: get(b+"attn_norm", 1, d), ffnNorm: get(b+"ffn_norm", 1, d),
			qkv:    stack(get(b+"attn_q", d, d), get(b+"attn_k", d, d), get(b+"attn_v", d, d)),
			out:    get(b+"attn_output", d, d),
			gateUp: stack(get(b+"ffn_gate", h, d), get(b+"ffn_up", h, d)),
			down:   get(b+"ffn_down", d, h),
		})
	}
	base, _ := f.fields["llama.rope.freq_base"].(float64)
	m.turns(base)
	return m, err
}

func stack(parts ...[]float32) []float32 {
	var all []float32
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

// turns fills the tables of rotary positions.
func (m *model) turns(base float64) {
	pairs := m.dim / m.heads / 2
	m.cos, m.sin = make([]float32, m.context*pairs), make([]float32, m.context*pairs)
	for pos := range m.context {
		for i := range pairs {
			a := float64(pos) * math.Pow(base, -float64(i)/float64(pairs))
			m.cos[pos*pairs+i], m.sin[pos*pairs+i] = float32(math.Cos(a)), float32(math.Sin(a))
		}
	}
}

// run is one text being read and written: the keys and values of its tokens, and room to compute in.
type run struct {
	m                       *model
	pos                     int
	keys, values            [][]float32 // of each layer: [tokens × dim]
	x, h, qkv, att, gu, sum []float32
	logits                  []float32
}

func (m *model) newRun(tokens int) *run {
	r := &run{m: m, keys: make([][]float32, m.layers), values: make([][]float32, m.layers)}
	for i := range m.layers {
		r.keys[i], r.values[i] = make([]float32, tokens*m.dim), make([]float32, tokens*m.dim)
	}
	r.x, r.h, r.sum = make([]float32, m.dim), make([]float32, m.dim), make([]float32, max(m.dim, m.hidden))
	r.qkv, r.att, r.gu = make([]float32, 3*m.dim), make([]float32, tokens), make([]float32, 2*m.hidden)
	r.logits = make([]float32, m.vocab)
	return r
}

// fork is a run that goes on from where r is; r itself is not changed by it.
func (r *run) fork() *run {
	f := r.m.newRun(len(r.att))
	for i := range r.keys {
		copy(f.keys[i], r.keys[i][:r.pos*r.m.dim])
		copy(f.values[i], r.values[i][:r.pos*r.m.dim])
	}
	copy(f.x, r.x)
	f.pos = r.pos
	return f
}

// room is how many tokens the run can still take.
func (r *run) room() int { return min(len(r.att), r.m.context) - r.pos }

// read takes one token in.
func (r *run) read(token int32) {
	m := r.m
	d := m.dim
	copy(r.x, m.emb[int(token)*d:(int(token)+1)*d])
	for i := range m.blocks {
		b := &m.blocks[i]
		rms(r.h, r.x, b.attnNorm, m.eps)
		matVec(r.qkv, b.qkv, r.h)
		r.attend(i)
		matVec(r.h, b.out, r.sum[:d])
		add(r.x, r.h)
		rms(r.h, r.x, b.ffnNorm, m.eps)
		matVec(r.gu, b.gateUp, r.h)
		gate, up := r.gu[:m.hidden], r.gu[m.hidden:]
		for j, g := range gate {
			gate[j] = g / (1 + exp(-g)) * up[j]
		}
		matVec(r.h, b.down, gate)
		add(r.x, r.h)
	}
	r.pos++
}

// attend puts into sum what the heads of layer i take from the tokens up to this one.
func (r *run) attend(i int) {
	m := r.m
	d, hd := m.dim, m.dim/m.heads
	q, k, v := r.qkv[:d], r.qkv[d:2*d], r.qkv[2*d:]
	r.turn(q)
	r.turn(k)
	keys, values := r.keys[i], r.values[i]
	copy(keys[r.pos*d:], k)
	copy(values[r.pos*d:], v)
	scale := float32(1 / math.Sqrt(float64(hd)))
	sum := r.sum[:d]
	clear(sum)
	att := r.att[:r.pos+1]
	for h := 0; h < d; h += hd {
		top := float32(math.Inf(-1))
		for t := range att {
			att[t] = dot(q[h:h+hd], keys[t*d+h:t*d+h+hd]) * scale
			top = max(top, att[t])
		}
		total := float32(0)
		for t, a := range att {
			att[t] = exp(a - top)
			total += att[t]
		}
		to := sum[h : h+hd]
		for t, a := range att {
			if a /= total; a > 1e-7 { // less can't be seen in a float32 sum
				axpy(to, a, values[t*d+h:t*d+h+hd])
			}
		}
	}
}

// turn turns each pair of each head by the token's position.
func (r *run) turn(v []float32) {
	pairs := r.m.dim / r.m.heads / 2
	cos, sin := r.m.cos[r.pos*pairs:(r.pos+1)*pairs], r.m.sin[r.pos*pairs:(r.pos+1)*pairs]
	for len(v) > 0 {
		for i, c := range cos {
			a, b := v[2*i], v[2*i+1]
			v[2*i], v[2*i+1] = a*c-b*sin[i], a*sin[i]+b*c
		}
		v = v[2*pairs:]
	}
}

// next gives how likely each token is to come next, as logits. The slice is the run's own.
func (r *run) next() []float32 {
	rms(r.h, r.x, r.m.norm, r.m.eps)
	matVec(r.logits, r.m.emb, r.h)
	return r.logits
}

func exp(x float32) float32 { return float32(math.Exp(float64(x))) }

func rms(to, x, w []float32, eps float32) {
	s := float32(math.Sqrt(float64(dot(x, x)/float32(len(x)) + eps)))
	for i, v := range x {
		to[i] = v / s * w[i]
	}
}

// What follows is the arithmetic, on slices that belong to one run and on
// weights that nobody writes. Each of its reads looked at for a race is a minute
// of the tests; a run that two share shows in read and attend, which are looked at.

//go:norace
func add(to, x []float32) {
	for i, v := range x {
		to[i] += v
	}
}

//go:norace
func axpy(to []float32, a float32, x []float32) {
	to = to[:len(x)]
	for i, v := range x {
		to[i] += a * v
	}
}

// matVec is to = w·x, four rows at a time: each value of x is read once for the four.
//
//go:norace
func matVec(to, w, x []float32) {
	n := len(x)
	i := 0
	for ; i+4 <= len(to); i += 4 {
		w0, w1, w2, w3 := w[i*n:][:n], w[(i+1)*n:][:n], w[(i+2)*n:][:n], w[(i+3)*n:][:n]
		var s0, s1, s2, s3 float32
		for j, v := range x {
			s0 += w0[j] * v
			s1 += w1[j] * v
			s2 += w2[j] * v
			s3 += w3[j] * v
		}
		to[i], to[i+1], to[i+2], to[i+3] = s0, s1, s2, s3
	}
	for ; i < len(to); i++ {
		to[i] = dot(w[i*n:][:n], x)
	}
}

//go:norace
func dot(a, b []float32) float32 {
	b = b[:len(a)]
	var s0, s1, s2, s3 float32
	i := 0
	for ; i+4 <= len(a); i += 4 {
		s0 += a[i] * b[i]
		s1 += a[i+1] * b[i+1]
		s2 += a[i+2] * b[i+2]
		s3 += a[i+3] * b[i+3]
	}
	for ; i < len(a); i++ {
		s0 += a[i] * b[i]
	}
	return s0 + s1 + s2 + s3
}
