package cluster_test

import "testing"

func BenchmarkKeys(b *testing.B) {
	s := start(b)
	s.ensure(b)
	for b.Loop() {
		if _, ok, err := s.one.Keys(b.Context(), issuer); !ok || err != nil {
			b.Fatal(ok, err)
		}
	}
}

func BenchmarkToken(b *testing.B) {
	s := start(b)
	s.ensure(b)
	for b.Loop() {
		s.token(b, s.one)
	}
}
