// Package mlog stands in for the original's logger, which writes nothing in tests.
package mlog

type LogLevel string

const (
	LevelWarning LogLevel = ""
	LevelInfo    LogLevel = "info"
	LevelDebug   LogLevel = "debug"
	LevelTrace   LogLevel = "trace"
	LevelAll     LogLevel = "all"
)

type Logger struct{}

func New() Logger                          { return Logger{} }
func (l Logger) WithName(string) Logger    { return l }
func (l Logger) WithValues(...any) Logger  { return l }
func (Logger) Error(string, error, ...any) {}
func (Logger) Info(string, ...any)         {}
func (Logger) Debug(string, ...any)        {}
func Enabled(l LogLevel) bool              { return l == LevelInfo || l == LevelWarning }
