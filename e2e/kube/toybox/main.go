// Command toybox is the one program in the test image: it waits, serves, asks,
// writes and reads, so that a test can see what a pod can do.
//
//	toybox pause
//	toybox serve PORT [NAME]     HTTP: answers NAME, the peer's address and the host's name
//	toybox get URL               one request; prints the answer, ends with 1 when there is none
//	toybox ask METHOD URL BODY [NAME:VALUE...]
//	                             one request with headers, whoever answers it; a
//	                             header sni is the name that TLS asks for
//	toybox dial ADDRESS          connects within 3 s, and is not cut off for 1 s
//	toybox lookup NAME           prints the addresses
//	toybox outside ADDRESS NAME  a resolver for NAME and what listens there at 443; says who asked and who came
//	toybox probes PORT           HTTP: says of each line that is POSTed what became of it; see probe
//	toybox eat MIB               takes so much memory, and waits
//	toybox score PORT NAME       answers every POST with NAME after 20 ms; ends what it has begun when told to end
//	toybox load URL KEY N        N clients POST without a pause until told to end; prints what was answered how often
//	                             without a word: those of the variable TOYBOX, or pause
//	toybox env | write FILE TEXT | read FILE | stat FILE | list FOLDER
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		args = strings.Fields(os.Getenv("TOYBOX"))
	}
	if len(args) == 0 {
		args = []string{"pause"}
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	arg := func(i int) string {
		if i < len(args) {
			return args[i]
		}
		return ""
	}
	switch args[0] {
	case "pause":
		<-ctx.Done()
		return nil
	case "eat":
		return eat(ctx, arg(1))
	case "serve":
		return serve(ctx, arg(1), arg(2))
	case "score":
		return score(ctx, arg(1), arg(2))
	case "load":
		return load(ctx, arg(1), arg(2), arg(3))
	case "get":
		return get(ctx, arg(1))
	case "ask":
		return ask(ctx, arg(1), arg(2), arg(3), args[min(4, len(args)):])
	case "dial":
		return dial(arg(1))
	case "outside":
		return outside(ctx, arg(1), arg(2))
	case "probes":
		return answers(ctx, arg(1))
	case "lookup":
		addresses, err := net.DefaultResolver.LookupHost(ctx, arg(1))
		fmt.Println(strings.Join(addresses, "\n"))
		return err
	case "env":
		fmt.Println(strings.Join(os.Environ(), "\n"))
		return nil
	case "write":
		return os.WriteFile(arg(1), []byte(arg(2)), 0o644)
	case "read":
		b, err := os.ReadFile(arg(1))
		fmt.Println(string(b))
		return err
	case "list":
		entries, err := os.ReadDir(arg(1))
		for _, e := range entries {
			fmt.Println(e.Name())
		}
		return err
	case "stat":
		st, err := os.Stat(arg(1))
		if err == nil {
			fmt.Println(st.Mode(), st.Size())
		}
		return err
	default:
		return fmt.Errorf("toybox: unknown word %q", args[0])
	}
}

// eat writes to each page of so many MiB.
func eat(ctx context.Context, mib string) error {
	n, err := strconv.Atoi(mib)
	if err != nil {
		return err
	}
	food := make([]byte, n<<20)
	for i := 0; i < len(food); i += 4096 {
		food[i] = 1
	}
	<-ctx.Done()
	fmt.Println(food[0], "is what it tasted of")
	return nil
}

func serve(ctx context.Context, port, name string) error {
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	s := &http.Server{Addr: ":" + port, ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, name, r.RemoteAddr, host)
	})}
	go func() {
		<-ctx.Done()
		_ = s.Close() // the program ends with it
	}()
	fmt.Println("serving on", port)
	if err := s.ListenAndServe(); ctx.Err() == nil {
		return err
	}
	return nil
}

// dial connects. The way out of a cluster takes connections before it knows
// where they go, and resets those that may not go there.
func dial(address string) error {
	c, err := net.DialTimeout("tcp", address, 3*time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	if _, err := c.Read(make([]byte, 1)); errors.Is(err, syscall.ECONNRESET) {
		return fmt.Errorf("%s: connected, and then: %w", address, err)
	}
	fmt.Println("connected")
	return nil
}

func get(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	fmt.Print(res.Status, " ", string(body))
	return err
}

// ask says what any server answers, also one that nobody should trust.
func ask(ctx context.Context, method, url, body string, headers []string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return err
	}
	trust := &tls.Config{InsecureSkipVerify: true}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ":")
		switch strings.ToLower(name) {
		case "host":
			req.Host = value
		case "sni":
			trust.ServerName = value
		default:
			req.Header.Set(name, value)
		}
	}
	res, err := (&http.Transport{TLSClientConfig: trust}).RoundTrip(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	fmt.Print(res.Status, "\n", string(answer))
	return err
}
