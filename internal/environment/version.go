package environment

import (
	"math/big"
	"regexp"
	"strings"
)

// version is a release with what stands behind it, as PEP 440 and conda write
// most of them: [N!]N(.N)*[a|b|rc N][.postN][.devN][+LOCAL].
type version struct {
	epoch   *big.Int
	release []*big.Int
	pre     int // -2 dev, -1 a, b or rc, 0 a release, 1 post
	rest    string
}

var versionPattern = regexp.MustCompile(`(?i)^v?(?:([0-9]{1,20})!)?([0-9]{1,20}(?:\.[0-9]{1,20}){0,20})([^+]*)(?:\+.*)?$`)

func parseVersion(s string) (version, bool) {
	m := versionPattern.FindStringSubmatch(s)
	if m == nil {
		return version{}, false
	}
	v := version{epoch: new(big.Int), rest: strings.ToLower(strings.Trim(m[3], "._-"))}
	if m[1] != "" {
		v.epoch.SetString(m[1], 10)
	}
	for part := range strings.SplitSeq(m[2], ".") {
		n, _ := new(big.Int).SetString(part, 10) // digits by the pattern
		v.release = append(v.release, n)
	}
	switch {
	case strings.Contains(v.rest, "dev"):
		v.pre = -2
	case strings.HasPrefix(v.rest, "post"):
		v.pre = 1
	case v.rest != "":
		v.pre = -1
	}
	return v, true
}

// compare is -1, 0 or 1; 1.2 and 1.2.0 are equal.
func (v version) compare(w version) int {
	if c := v.epoch.Cmp(w.epoch); c != 0 {
		return c
	}
	for i := range max(len(v.release), len(w.release)) {
		if c := v.at(i).Cmp(w.at(i)); c != 0 {
			return c
		}
	}
	if v.pre != w.pre {
		if v.pre < w.pre {
			return -1
		}
		return 1
	}
	return strings.Compare(v.rest, w.rest)
}

func (v version) at(i int) *big.Int {
	if i < len(v.release) {
		return v.release[i]
	}
	return new(big.Int)
}

// startsWith reports whether v is one of prefix.*
func (v version) startsWith(prefix version) bool {
	for i := range prefix.release {
		if v.at(i).Cmp(prefix.release[i]) != 0 {
			return false
		}
	}
	return v.epoch.Cmp(prefix.epoch) == 0
}

// meets reports whether has is what asked says, in the words of pip (PEP 440)
// or of conda. What can't be read is not met.
func meets(has, asked string, pip bool) bool {
	if asked == "" || asked == "*" || asked == "==*" {
		return has != ""
	}
	v, ok := parseVersion(has)
	if !ok {
		return has != "" && strings.TrimLeft(asked, "=") == has
	}
	if !pip && strings.Contains(asked, "|") {
		for one := range strings.SplitSeq(asked, "|") {
			if meets(has, one, pip) {
				return true
			}
		}
		return false
	}
	for one := range strings.SplitSeq(asked, ",") {
		if !meetsOne(v, one, pip) {
			return false
		}
	}
	return true
}

func meetsOne(v version, asked string, pip bool) bool {
	number := strings.TrimLeft(asked, "=<>!~")
	operator := asked[:len(asked)-len(number)]
	if !pip && (operator == "=" || operator == "==" || operator == "") {
		number, _, _ = strings.Cut(number, "=") // =VERSION=BUILD
	}
	number, wild := strings.CutSuffix(number, "*")
	want, ok := parseVersion(strings.TrimSuffix(number, "."))
	if !ok {
		return number == "" && wild
	}
	c := v.compare(want)
	switch operator {
	case "=":
		return v.startsWith(want) && (want.rest == "" || c == 0)
	case "==", "===", "":
		if wild {
			return v.startsWith(want)
		}
		return c == 0
	case "!=":
		if wild {
			return !v.startsWith(want)
		}
		return c != 0
	case ">=":
		return c >= 0
	case "<=":
		return c <= 0
	case ">":
		return c > 0
	case "<":
		return c < 0
	case "~=":
		return c >= 0 && len(want.release) > 1 && v.startsWith(version{epoch: want.epoch, release: want.release[:len(want.release)-1]})
	}
	return false
}
