package cli

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// TestWaitForCode: the page that ends a sign-in arrives whole, though the program
// has all that it waits for before the page is on its way.
func TestWaitForCode(t *testing.T) {
	for range 100 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		got := make(chan string, 1)
		go func() {
			code, err := waitForCode(t.Context(), l, "s")
			if err != nil {
				t.Error(err)
			}
			got <- code
		}()
		get := func(query string) string {
			a, err := http.Get("http://" + l.Addr().String() + "/?" + query)
			if err != nil {
				t.Fatal(err)
			}
			defer a.Body.Close()
			page, err := io.ReadAll(a.Body)
			if err != nil {
				t.Fatal(err)
			}
			return a.Status + " " + string(page)
		}
		if a := get("state=other&code=stolen"); !strings.HasPrefix(a, "404") {
			t.Errorf("with another state: %s", a)
		}
		if a := get("state=s&code=c"); !strings.Contains(a, "You are signed in") {
			t.Errorf("got %s", a)
		}
		if code := <-got; code != "c" {
			t.Errorf("got the code %q", code)
		}
	}
}
