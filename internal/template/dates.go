package template

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

func dateFunctions() map[string]builtin {
	return map[string]builtin{
		"utcnow":            {0, 1, utcNow},
		"datetimeadd":       {2, 3, dateTimeAdd},
		"datetimefromepoch": {1, 1, fromEpoch},
		"datetimetoepoch": {1, 1, func(_ *scope, a []any) (any, error) {
			t, err := textArg(a, 0)
			if err != nil {
				return nil, err
			}
			at, _, err := parseTime(t)
			return at.Unix(), err
		}},
	}
}

// compactTime is utcNow's form when none is asked for.
const compactTime = "yyyyMMddTHHmmssZ"

func utcNow(s *scope, a []any) (any, error) {
	if !s.defaults {
		return nil, errors.New("the template function 'utcNow' is not expected at this location: it can only be used in a parameter's default value")
	}
	form := compactTime
	if len(a) == 1 {
		var err error
		if form, err = textArg(a, 0); err != nil {
			return nil, err
		}
	}
	return formatTime(s.d.in.Env.Now.UTC(), form)
}

func fromEpoch(_ *scope, a []any) (any, error) {
	n, err := intArg(a, 0)
	if err != nil {
		return nil, err
	}
	if n < -62135596800 || n > 253402300799 {
		return nil, errors.New("the time is outside of the years 1 to 9999")
	}
	return time.Unix(n, 0).UTC().Format("2006-01-02T15:04:05Z"), nil
}

// parseTime reads ISO 8601; form is the one to write results in.
func parseTime(t string) (at time.Time, form string, err error) {
	for _, l := range []struct{ layout, form string }{
		{"20060102T150405Z", compactTime},
		{"2006-01-02T15:04:05.999999999Z07:00", "yyyy-MM-ddTHH:mm:ssZ"},
		{"2006-01-02T15:04:05", "yyyy-MM-ddTHH:mm:ssZ"},
		{"2006-01-02 15:04:05Z07:00", "G"},
		{"2006-01-02 15:04:05", "G"},
		{"1/2/2006 3:04:05 PM", "G"},
		{"2006-01-02", "G"},
	} {
		if at, err := time.Parse(l.layout, t); err == nil {
			return at.UTC(), l.form, nil
		}
	}
	return at, "", fmt.Errorf("the text '%s' is no time in ISO 8601", short(t))
}

var durationPattern = regexp.MustCompile(`^(-)?P(?:(\d{1,9})Y)?(?:(\d{1,9})M)?(?:(\d{1,9})W)?(?:(\d{1,9})D)?(?:T(?:(\d{1,9})H)?(?:(\d{1,9})M)?(?:(\d{1,9})(?:\.\d+)?S)?)?$`)

// dateTimeAdd adds an ISO 8601 duration.
func dateTimeAdd(_ *scope, a []any) (any, error) {
	t, err := textArg(a, 0)
	if err != nil {
		return nil, err
	}
	at, form, err := parseTime(t)
	if err != nil {
		return nil, err
	}
	d, err := textArg(a, 1)
	if err != nil {
		return nil, err
	}
	m := durationPattern.FindStringSubmatch(d)
	if m == nil || strings.HasSuffix(d, "P") || strings.HasSuffix(d, "T") {
		return nil, fmt.Errorf("the text '%s' is no duration in ISO 8601", short(d))
	}
	var n [7]int
	for i := range n {
		if m[i+2] != "" {
			if n[i], err = strconv.Atoi(m[i+2]); err != nil {
				return nil, err
			}
		}
		if m[1] == "-" {
			n[i] = -n[i]
		}
	}
	at = at.AddDate(n[0], n[1], n[2]*7+n[3]).Add(time.Duration(n[4])*time.Hour + time.Duration(n[5])*time.Minute + time.Duration(n[6])*time.Second)
	if at.Year() < 1 || at.Year() > 9999 {
		return nil, errors.New("the time is outside of the years 1 to 9999")
	}
	if len(a) == 3 {
		if form, err = textArg(a, 2); err != nil {
			return nil, err
		}
	}
	return formatTime(at, form)
}

// formatTime writes a UTC time in .NET's forms. Source: "Standard" and
// "Custom date and time format strings" of .NET, invariant culture.
func formatTime(t time.Time, form string) (string, error) {
	if len(form) == 1 {
		std, ok := map[string]string{
			"d": "MM/dd/yyyy", "D": "dddd, dd MMMM yyyy", "f": "dddd, dd MMMM yyyy HH:mm", "F": "dddd, dd MMMM yyyy HH:mm:ss",
			"g": "MM/dd/yyyy HH:mm", "G": "M/d/yyyy h:mm:ss tt", "m": "MMMM dd", "M": "MMMM dd", "o": "yyyy-MM-ddTHH:mm:ss.fffffffZ", "O": "yyyy-MM-ddTHH:mm:ss.fffffffZ",
			"r": "ddd, dd MMM yyyy HH:mm:ss 'GMT'", "R": "ddd, dd MMM yyyy HH:mm:ss 'GMT'", "s": "yyyy-MM-ddTHH:mm:ss", "t": "HH:mm", "T": "HH:mm:ss",
			"u": "yyyy-MM-dd HH:mm:ss'Z'", "U": "dddd, dd MMMM yyyy HH:mm:ss", "y": "yyyy MMMM", "Y": "yyyy MMMM",
		}[form]
		if !ok {
			return "", fmt.Errorf("the time format '%s' is not supported", form)
		}
		form = std
	}
	if len(form) > 200 {
		return "", errors.New("the time format is longer than 200 characters")
	}
	var b strings.Builder
	for i := 0; i < len(form); {
		c := form[i]
		n := 1
		for i+n < len(form) && form[i+n] == c {
			n++
		}
		switch c {
		case '\'', '"':
			end := strings.IndexByte(form[i+1:], c)
			if end < 0 {
				return "", errors.New("the time format has a quote that is not closed")
			}
			b.WriteString(form[i+1 : i+1+end])
			i += end + 2
			continue
		case '\\':
			if i+1 < len(form) {
				b.WriteByte(form[i+1])
			}
			i += 2
			continue
		}
		b.WriteString(timePart(t, c, n))
		i += n
	}
	return b.String(), nil
}

// timePart is n times the letter c.
func timePart(t time.Time, c byte, n int) string {
	pad := func(v int) string { return fmt.Sprintf("%0*d", min(n, 2), v) }
	switch c {
	case 'y':
		if n <= 2 {
			return pad(t.Year() % 100)
		}
		return fmt.Sprintf("%0*d", n, t.Year())
	case 'M':
		switch {
		case n <= 2:
			return pad(int(t.Month()))
		case n == 3:
			return t.Format("Jan")
		}
		return t.Format("January")
	case 'd':
		switch {
		case n <= 2:
			return pad(t.Day())
		case n == 3:
			return t.Format("Mon")
		}
		return t.Format("Monday")
	case 'H':
		return pad(t.Hour())
	case 'h':
		return pad((t.Hour()+11)%12 + 1)
	case 'm':
		return pad(t.Minute())
	case 's':
		return pad(t.Second())
	case 'f', 'F':
		digits := fmt.Sprintf("%09d", t.Nanosecond())[:min(n, 9)]
		if c == 'F' {
			digits = strings.TrimRight(digits, "0")
		}
		return digits
	case 't':
		return t.Format("PM")[:min(n, 2)]
	case 'K':
		return strings.Repeat("Z", n)
	case 'z':
		if n >= 3 {
			return "+00:00"
		}
		return "+00"[:n+1]
	}
	return strings.Repeat(string(c), n)
}
