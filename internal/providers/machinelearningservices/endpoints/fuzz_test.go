package endpoints_test

import (
	"testing"
	"time"

	"lazurite.dev/internal/providers/machinelearningservices/endpoints"
)

func TestParseDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"PT5S": 5 * time.Second, "PT0.5S": 500 * time.Millisecond, "PT1M30S": 90 * time.Second, "P1DT2H": 26 * time.Hour, "PT0S": 0, "P1D": 24 * time.Hour, "PT0,25S": 250 * time.Millisecond,
	} {
		if got, err := endpoints.ParseDuration(text); err != nil || got != want {
			t.Errorf("%s: got %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "P", "PT", "5S", "PT5", "PT-5S", "P1Y", "P1M", "P1W", "PT1S1M", "PT1.5M", "PT1e3S", "PTS", "PT1.S", "PT1S1S", "P400D", "PT999999999999999999999S", "-PT5S", "pt5s"} {
		if d, err := endpoints.ParseDuration(text); err == nil {
			t.Errorf("%q is %v", text, d)
		}
	}
}

func FuzzParseDuration(f *testing.F) {
	for _, s := range []string{"PT5S", "PT0.5S", "P1DT2H3M4.5S", "P", "PT1e3S"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := endpoints.ParseDuration(s)
		if err != nil {
			return
		}
		if d < 0 {
			t.Fatalf("%q is %v", s, d)
		}
		text := endpoints.FormatDuration(d)
		if again, err := endpoints.ParseDuration(text); err != nil || again != d {
			t.Fatalf("%q is %v, which is written %q and read %v, %v", s, d, text, again, err)
		}
	})
}

func FuzzVerify(f *testing.F) {
	key, now := []byte("0123456789abcdef0123456789abcdef"), time.Unix(1_800_000_000, 0)
	good, err := endpoints.Sign(key, "uid", now.Add(time.Hour))
	if err != nil {
		f.Fatal(err)
	}
	if err := endpoints.Verify(key, "uid", good, now); err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add("..")
	f.Fuzz(func(t *testing.T, raw string) {
		if err := endpoints.Verify(key, "uid", raw, now); err == nil && raw != good {
			t.Fatalf("%q is taken", raw)
		}
		if endpoints.Verify([]byte("another key"), "uid", raw, now) == nil || endpoints.Verify(key, "other", raw, now) == nil {
			t.Fatalf("%q is taken by another endpoint", raw)
		}
	})
}
