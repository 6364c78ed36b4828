package daemon

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"lazurite.dev/internal/server"
)

const logsUsage = `Show the log.

    laz logs [-f] [-n LINES | --since TIME] [-o json]

    -f            go on showing what comes
    -n LINES      the newest lines (default 100)
    --since TIME  from then on: 10m, 2h, or 2026-01-31T12:00:00Z
    -o json       as it is written, one JSON object a line
`

const followEvery = 150 * time.Millisecond

type logOptions struct {
	follow bool
	lines  int
	since  time.Time
	json   bool
}

func logs(ctx context.Context, args []string, env Env) error {
	o, err := logFlags(args, env)
	if err != nil {
		return err
	}
	h, err := home(env)
	if err != nil {
		return err
	}
	f, err := os.Open(h.Log())
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("there is no log at %s yet", h.Log())
	}
	if err != nil {
		return err
	}
	l := &logView{h: h, f: f, o: o, s: styleOf(env), out: bufio.NewWriter(env.Stdout)}
	defer func() { _ = l.f.Close() }()
	if err := l.past(); err != nil {
		return err
	}
	if !o.follow {
		return nil
	}
	return l.follow(ctx)
}

func logFlags(args []string, env Env) (logOptions, error) {
	var o logOptions
	fs := flag.NewFlagSet("logs", flag.ContinueOnError)
	fs.BoolVar(&o.follow, "f", false, "")
	fs.BoolVar(&o.follow, "follow", false, "")
	fs.IntVar(&o.lines, "n", 100, "")
	since, format := fs.String("since", "", ""), fs.String("o", "", "")
	rest, err := parse(fs, args, logsUsage, env)
	if err == nil {
		err = noMore(rest)
	}
	if err != nil {
		return o, err
	}
	if *format != "" && *format != "json" {
		return o, usage("-o: %q is not json", *format)
	}
	o.json = *format == "json"
	if *since == "" {
		return o, nil
	}
	if d, err := time.ParseDuration(*since); err == nil {
		o.since = time.Now().Add(-d)
	} else if o.since, err = time.Parse(time.RFC3339, *since); err != nil {
		return o, usage("--since: %q is neither a span such as 10m nor a time such as 2026-01-31T12:00:00Z", *since)
	}
	return o, nil
}

// logView reads whole lines of the log and shows them.
type logView struct {
	h    server.Home
	f    *os.File
	o    logOptions
	s    style
	out  *bufio.Writer
	part []byte // of a line that has not ended
}

// past shows what is there already.
func (l *logView) past() error {
	var last [][]byte
	err := l.read(func(line []byte) {
		switch {
		case l.o.since.IsZero():
			if last = append(last, bytes.Clone(line)); len(last) > max(l.o.lines, 0)+1000 {
				last = slices.Delete(last, 0, 1000)
			}
		case timeOf(line).After(l.o.since):
			l.show(line)
		}
	})
	for _, line := range last[max(0, len(last)-max(l.o.lines, 0)):] {
		l.show(line)
	}
	return errors.Join(err, l.out.Flush())
}

// follow shows what comes until ctx ends, in a new file too.
func (l *logView) follow(ctx context.Context) error {
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := errors.Join(l.read(l.show), l.out.Flush()); err != nil {
			return err
		}
		if err := l.reopen(); err != nil {
			return err
		}
	}
}

// reopen goes on with a new file when the log began anew.
func (l *logView) reopen() error {
	now, err := os.Stat(l.h.Log())
	if err != nil {
		return nil // between two files
	}
	mine, err := l.f.Stat()
	if err != nil || os.SameFile(now, mine) {
		return err
	}
	f, err := os.Open(l.h.Log())
	if err != nil {
		return nil
	}
	_ = l.f.Close() // read only
	l.f, l.part = f, nil
	return nil
}

// read calls each with the whole lines from where the file stands.
func (l *logView) read(each func([]byte)) error {
	buf := make([]byte, 64<<10)
	for {
		n, err := l.f.Read(buf)
		l.part = append(l.part, buf[:n]...)
		for {
			end := bytes.IndexByte(l.part, '\n')
			if end < 0 {
				break
			}
			each(l.part[:end])
			l.part = l.part[end+1:]
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (l *logView) show(line []byte) {
	if !l.o.json {
		if text, ok := l.s.event(line); ok {
			line = []byte(text)
		}
	}
	_, _ = l.out.Write(line) // Flush gives the error
	_ = l.out.WriteByte('\n')
}

func timeOf(line []byte) time.Time {
	var e struct{ Time time.Time }
	_ = json.Unmarshal(line, &e) // what is no event has no time
	return e.Time
}

// field is one attribute in the order of the log.
type field struct{ key, value string }

// event makes a line of the log readable; false when it is no event.
func (s style) event(line []byte) (string, bool) {
	fields, ok := fieldsOf(line)
	if !ok {
		return "", false
	}
	get := map[string]string{}
	for _, f := range fields {
		get[f.key] = f.value
	}
	at, err := time.Parse(time.RFC3339Nano, get["time"])
	if err != nil {
		return "", false
	}
	var b strings.Builder
	b.WriteString(s.dim(at.Local().Format("15:04:05.000")) + " ")
	shown := map[string]bool{"time": true, "level": true, "msg": true}
	if get["msg"] == "request" {
		for _, k := range []string{"status", "method", "host", "path", "ms", "bytes", "surface", "request", "client"} {
			shown[k] = true
		}
		fmt.Fprintf(&b, "%s %-6s %s%s %s", s.status(get["status"]), get["method"], printable(get["host"]), printable(get["path"]), s.dim(get["ms"]+" ms"))
	} else {
		fmt.Fprintf(&b, "%s %s", s.level(get["level"]), printable(get["msg"]))
	}
	for _, f := range fields {
		if !shown[f.key] {
			b.WriteString(" " + s.dim(printable(f.key)+"=") + quoted(f.value))
		}
	}
	return b.String(), true
}

func (s style) status(code string) string {
	switch {
	case code >= "500":
		return s.red(code)
	case code >= "400":
		return s.yellow(code)
	default:
		return s.green(code)
	}
}

func (s style) level(l string) string {
	switch l {
	case "ERROR":
		return s.red("ERR")
	case "WARN":
		return s.yellow("WRN")
	case "DEBUG":
		return s.dim("DBG")
	default:
		return s.green("---")
	}
}

// printable is v without what a terminal takes for commands.
func printable(v string) string {
	return strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return '?'
		}
		return r
	}, v)
}

func quoted(v string) string {
	if v == "" || strings.ContainsFunc(v, func(r rune) bool { return r == ' ' || r == '"' || !strconv.IsPrint(r) }) {
		return strconv.Quote(v)
	}
	return v
}

// fieldsOf reads a flat JSON object in its order.
func fieldsOf(line []byte) ([]field, bool) {
	dec := json.NewDecoder(bytes.NewReader(line))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, false
	}
	var out []field
	for dec.More() {
		k, err := dec.Token()
		if err != nil {
			return nil, false
		}
		key, ok := k.(string)
		var raw json.RawMessage
		if !ok || dec.Decode(&raw) != nil {
			return nil, false
		}
		value := string(raw)
		if raw[0] == '"' && json.Unmarshal(raw, &value) != nil {
			return nil, false
		}
		out = append(out, field{key, value})
	}
	return out, true
}
