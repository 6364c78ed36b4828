package box

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
)

// maxLog is how large a process's log grows before it is put aside; there is
// one put aside, so a process has at most twice that on the disk.
const maxLog = 8 << 20

// logFile takes what a process prints. It never fails: a full disk must not
// stop the process that prints.
type logFile struct {
	path string

	mu   sync.Mutex // guards what follows
	f    *os.File
	size int64
	tail []byte // the last of what was printed
}

func openLogFile(path string) *logFile { return &logFile{path: path} }

// OpenLog is a file for a log that stays bounded: the agent's own. Its folder
// is made; nothing that is written to it fails.
func OpenLog(path string) io.WriteCloser {
	_ = os.MkdirAll(filepath.Dir(path), 0o700) // without it nothing is logged
	return openLogFile(path)
}

// Write implements io.Writer.
func (l *logFile) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tail = append(l.tail, b...)
	if len(l.tail) > 4096 {
		l.tail = append([]byte(nil), l.tail[len(l.tail)-2048:]...)
	}
	if l.f == nil && l.open() != nil {
		return len(b), nil
	}
	if l.size+int64(len(b)) > maxLog {
		_ = l.f.Close()
		l.f = nil
		if os.Rename(l.path, l.path+".1") != nil || l.open() != nil {
			return len(b), nil
		}
	}
	n, _ := l.f.Write(b)
	l.size += int64(n)
	return len(b), nil
}

func (l *logFile) open() error {
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	fi, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	l.f, l.size = f, fi.Size()
	return nil
}

// forget starts the tail anew, for the next process that prints here.
func (l *logFile) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tail = nil
}

// last is the last line that says something; of a panic the line that names it.
func (l *logFile) last() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := bytes.Index(l.tail, []byte("panic: ")); i >= 0 {
		line, _, _ := bytes.Cut(l.tail[i:], []byte("\n"))
		return lastLine(line)
	}
	return lastLine(l.tail)
}

// Close closes the file; what is written later opens it again.
func (l *logFile) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f == nil {
		return nil
	}
	err := l.f.Close()
	l.f = nil
	return err
}
