package telemetry

import (
	"strconv"
	"strings"
	"time"

	"lazurite.dev/internal/kql"
)

// parseTimespan reads a time range as ISO 8601 writes it: a duration up to now,
// or a start and an end, one of which may be a duration. "" is all time.
func parseTimespan(s string, now time.Time) (span, error) {
	if s = strings.TrimSpace(s); s == "" {
		return span{}, nil
	}
	wrong := bad("InvalidArgument", "The timespan '%.100s' is none: PT12H, 2026-01-31T08:00:00Z/2026-01-31T09:00:00Z, or 2026-01-31T08:00:00Z/PT1H.", s)
	first, second, two := strings.Cut(s, "/")
	if !two {
		d, ok := parseDuration(first)
		if !ok {
			return span{}, wrong
		}
		return span{from: now.Add(-d)}, nil
	}
	from, okFrom := kql.ParseTime(first)
	to, okTo := kql.ParseTime(second)
	if d, ok := parseDuration(second); ok && okFrom {
		to, okTo = from.Add(d), true
	} else if d, ok := parseDuration(first); ok && okTo {
		from, okFrom = to.Add(-d), true
	}
	if !okFrom || !okTo || to.Before(from) {
		return span{}, wrong
	}
	return span{from, to}, nil
}

// parseDuration reads a duration of ISO 8601 (section 5.5.2), of weeks, days,
// hours, minutes and seconds: years and months have no fixed length.
func parseDuration(s string) (time.Duration, bool) {
	rest, ok := strings.CutPrefix(s, "P")
	if !ok || rest == "" || strings.HasSuffix(rest, "T") || len(s) > 64 {
		return 0, false
	}
	units, total := "WD", 0.0
	for rest != "" {
		if rest[0] == 'T' && units != "HMS" && !strings.HasPrefix("MS", units) {
			units, rest = "HMS", rest[1:]
			continue
		}
		n := strings.IndexFunc(rest, func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
		if n <= 0 {
			return 0, false
		}
		v, err := strconv.ParseFloat(rest[:n], 64)
		at := strings.IndexByte(units, rest[n])
		if err != nil || at < 0 {
			return 0, false
		}
		unit := map[byte]time.Duration{'W': 7 * 24 * time.Hour, 'D': 24 * time.Hour, 'H': time.Hour, 'M': time.Minute, 'S': time.Second}[rest[n]]
		total += v * float64(unit)
		units, rest = units[at+1:]+" ", rest[n+1:]
	}
	return time.Duration(total), total < 1<<62
}
