package endpoints

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"time"
)

var errDuration = errors.New("it is no ISO 8601 duration in days, hours, minutes and seconds, such as PT5S or PT0.5S")

// ParseDuration reads an ISO 8601 duration. Years, months and weeks, which have
// no fixed length or are not written by Azure's clients, are refused, and so is
// what is negative or longer than a year.
func ParseDuration(s string) (time.Duration, error) {
	rest, ok := strings.CutPrefix(s, "P")
	if !ok || rest == "" || len(s) > 64 {
		return 0, errDuration
	}
	date, clock, timed := strings.Cut(rest, "T")
	if timed && clock == "" {
		return 0, errDuration
	}
	var total float64
	for _, part := range []struct{ text, units string }{{date, "D"}, {clock, "HMS"}} {
		n, err := sumOf(part.text, part.units)
		if err != nil {
			return 0, err
		}
		total += n
	}
	if total > (366 * 24 * time.Hour).Seconds() {
		return 0, errDuration
	}
	return time.Duration(math.Round(total * float64(time.Second))), nil
}

// sumOf adds numbers with units, in the order of units, in seconds.
func sumOf(text, units string) (float64, error) {
	var total float64
	for text != "" {
		i := strings.IndexAny(text, units)
		if i <= 0 {
			return 0, errDuration
		}
		number, unit := text[:i], text[i]
		if strings.Trim(number, "0123456789.,") != "" || unit != 'S' && strings.ContainsAny(number, ".,") {
			return 0, errDuration
		}
		n, err := strconv.ParseFloat(strings.Replace(number, ",", ".", 1), 64)
		if err != nil || strings.HasSuffix(number, ".") || strings.HasSuffix(number, ",") {
			return 0, errDuration
		}
		units = units[strings.IndexByte(units, unit)+1:]
		text = text[i+1:]
		total += n * map[byte]float64{'D': 86400, 'H': 3600, 'M': 60, 'S': 1}[unit]
	}
	return total, nil
}

// FormatDuration writes an ISO 8601 duration as .NET does: PT1M30S, PT0.5S.
func FormatDuration(d time.Duration) string {
	if d == 0 {
		return "PT0S"
	}
	var b strings.Builder
	b.WriteByte('P')
	if days := d / (24 * time.Hour); days > 0 {
		b.WriteString(strconv.Itoa(int(days)) + "D")
		d -= days * 24 * time.Hour
	}
	if d == 0 {
		return b.String()
	}
	b.WriteByte('T')
	if h := d / time.Hour; h > 0 {
		b.WriteString(strconv.Itoa(int(h)) + "H")
		d -= h * time.Hour
	}
	if m := d / time.Minute; m > 0 {
		b.WriteString(strconv.Itoa(int(m)) + "M")
		d -= m * time.Minute
	}
	if d > 0 {
		b.WriteString(strconv.FormatFloat(d.Seconds(), 'f', -1, 64) + "S")
	}
	return b.String()
}
