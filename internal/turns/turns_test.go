package turns_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"

	"lazurite.dev/internal/turns"
)

func TestTake_OneAfterTheOther(t *testing.T) {
	var all turns.Turns
	var wg sync.WaitGroup
	n := 0 // which -race watches
	for range 50 {
		wg.Go(func() {
			give, err := all.Take(t.Context(), "a")
			if err != nil {
				t.Error(err)
				return
			}
			defer give()
			n++
		})
	}
	wg.Wait()
	if n != 50 || all.Busy() != 0 {
		t.Errorf("%d went, %d are busy", n, all.Busy())
	}
}

func TestTake_WaitsForItsKeyAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all turns.Turns
		give, err := all.Take(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		other, err := all.Take(t.Context(), "b")
		if err != nil {
			t.Fatal(err)
		}
		other()
		if _, ok := all.TryTake("a"); ok {
			t.Error("taken twice")
		}
		ctx, cancel := context.WithCancel(t.Context())
		left := make(chan error)
		go func() {
			_, err := all.Take(ctx, "a")
			left <- err
		}()
		synctest.Wait()
		cancel()
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		give()
		again, ok := all.TryTake("a")
		if !ok || all.Busy() != 1 {
			t.Fatalf("%v, %d busy", ok, all.Busy())
		}
		again()
		if all.Busy() != 0 {
			t.Errorf("%d busy", all.Busy())
		}
	})
}
