// Command server stands for an inference server: MODE says how it goes.
package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

func main() {
	fmt.Println("starting, mode", os.Getenv("MODE"))
	switch os.Getenv("MODE") {
	case "raise":
		fmt.Println("Traceback (most recent call last):\n  File \"score.py\", line 7, in init\nValueError: the model is not a model")
		os.Exit(3)
	case "hang":
		select {
		case <-time.After(time.Hour):
		}
	case "fill":
		f, err := os.Create(filepath.Join(os.Getenv("FILL"), "filler"))
		if err != nil {
			panic(err)
		}
		for range 256 { // and no more: what is written is the machine's
			if _, err := f.Write(make([]byte, 1<<20)); err != nil {
				panic(err)
			}
		}
		fmt.Println("wrote 256 MiB")
		select {
		case <-time.After(time.Hour):
		}
	case "eat":
		var all [][]byte
		for {
			b := make([]byte, 16<<20)
			for i := range b {
				b[i] = 1
			}
			all = append(all, b)
			fmt.Println(len(all)*16, "MiB")
		}
	}
	host, _ := os.Hostname()
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("Healthy")) })
	mux.HandleFunc("/score", func(w http.ResponseWriter, r *http.Request) {
		if d, err := time.ParseDuration(r.URL.Query().Get("wait")); err == nil {
			time.Sleep(d)
		}
		b, err := os.ReadFile(filepath.Join(os.Getenv("AZUREML_MODEL_DIR"), "model", "deep", "model.txt"))
		fmt.Fprint(w, os.Getenv("VERSION"), " ", string(b), " ", err, " ", host)
	})
	mux.HandleFunc("/file", func(w http.ResponseWriter, r *http.Request) {
		b, err := os.ReadFile(r.URL.Query().Get("name"))
		fmt.Fprint(w, string(b), " ", err)
	})
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	srv := &http.Server{Addr: ":5001", Handler: mux, ReadHeaderTimeout: time.Minute}
	go func() {
		<-ctx.Done()
		_ = srv.Close()
	}()
	fmt.Println(srv.ListenAndServe())
}
