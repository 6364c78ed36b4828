package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// score is a model that takes 20 ms.
func score(ctx context.Context, port, name string) error {
	s := &http.Server{Addr: ":" + port, ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			return // a probe
		}
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
		fmt.Fprintln(w, name)
	})}
	ended := make(chan error, 1)
	go func() {
		<-ctx.Done()
		ended <- s.Shutdown(context.Background())
	}()
	fmt.Println("scoring on", port)
	if err := s.ListenAndServe(); ctx.Err() == nil {
		return err
	}
	return <-ended
}

// load asks again and again, and counts the answers by status and first line.
func load(ctx context.Context, url, key, clients string) error {
	n, err := strconv.Atoi(clients)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	answers := map[string]int{}
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			for ctx.Err() == nil {
				answer := one(url, key)
				mu.Lock()
				answers[answer]++
				mu.Unlock()
			}
		})
	}
	all.Wait()
	for answer, n := range answers {
		fmt.Printf("%d\t%s\n", n, answer)
	}
	return nil
}

// one is what one request is answered.
func one(url, key string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second) // it outlives the word to end
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(`{"data":[]}`))
	if err != nil {
		return err.Error()
	}
	req.Header.Set("Authorization", "Bearer "+key)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err.Error()
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return err.Error()
	}
	line, _, _ := strings.Cut(string(body), "\n")
	return strconv.Itoa(res.StatusCode) + " " + line
}
