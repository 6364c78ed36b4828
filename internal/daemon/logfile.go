package daemon

import (
	"os"
	"sync"
)

// maxLog is the size at which the log begins anew; the one before is kept as
// FILE.1.
const maxLog = 32 << 20

// logFile is an io.Writer for whole lines.
type logFile struct {
	path string

	mu   sync.Mutex // guards the rest
	f    *os.File
	size int64
}

func openLog(path string) (*logFile, error) {
	l := &logFile{path: path}
	return l, l.open()
}

func (l *logFile) open() error {
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	l.f, l.size = f, fi.Size()
	return nil
}

// Write appends p. It never splits p between two files.
func (l *logFile) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.size > maxLog {
		if err := os.Rename(l.path, l.path+".1"); err == nil {
			old := l.f
			if err := l.open(); err != nil {
				l.f = old // better the old file than none
			} else {
				_ = old.Close() // nothing is buffered
			}
		}
		l.size = 0 // or try again a file's length later
	}
	n, err := l.f.Write(p)
	l.size += int64(n)
	return n, err
}

// Close closes the file.
func (l *logFile) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.f.Close()
}
