package inference

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

// maxEvent bounds one event, in bytes.
const maxEvent = 4 << 20

// events reads server-sent events. Source: WHATWG HTML, "Server-sent events";
// only the data matters here.
type events struct {
	lines *bufio.Reader
	data  []byte
	any   bool // data has a line, maybe an empty one
}

func newEvents(r io.Reader) *events { return &events{lines: bufio.NewReaderSize(r, 4<<10)} }

// next gives the data of the next event, good until the next call. An event that
// no empty line ends is none: io.EOF then, as at the end.
func (e *events) next() ([]byte, error) {
	e.data, e.any = e.data[:0], false
	for {
		line, err := e.line()
		if err != nil {
			return nil, err
		}
		if len(line) == 0 {
			if e.any {
				return e.data, nil
			}
			continue
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		if string(name) != "data" {
			continue
		}
		if e.any {
			e.data = append(e.data, '\n')
		}
		e.data, e.any = append(e.data, bytes.TrimPrefix(value, []byte(" "))...), true
		if len(e.data) > maxEvent {
			return nil, fmt.Errorf("an event of more than %d bytes", maxEvent)
		}
	}
}

// line reads up to a line feed and gives what is before it, without a carriage
// return. A lone carriage return ends no line here: no backend sends it so.
func (e *events) line() ([]byte, error) {
	var long []byte
	for {
		part, err := e.lines.ReadSlice('\n')
		switch {
		case err == nil && long == nil:
			return bytes.TrimSuffix(part[:len(part)-1], []byte("\r")), nil
		case err == nil:
			long = append(long, part[:len(part)-1]...)
			return bytes.TrimSuffix(long, []byte("\r")), nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		}
		if long = append(long, part...); len(long) > maxEvent {
			return nil, fmt.Errorf("a line of more than %d bytes", maxEvent)
		}
	}
}
