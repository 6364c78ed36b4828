package cli

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// maxScript is the most of a scoring script that is read, in bytes.
const maxScript = 4 << 20

// checkScript looks whether a scoring script is where the description says and
// has the two functions that the inference server calls.
func checkScript(deployment, folder, script string) error {
	const bypass = "\nIf you wish to bypass this validation use --skip-script-validation parameter."
	if st, err := os.Stat(folder); err != nil || !st.IsDir() {
		return failf("Failed to submit deployment %s: there is no folder %s (code_configuration.code).", deployment, folder)
	}
	path := filepath.Join(folder, filepath.FromSlash(script))
	if rel, err := filepath.Rel(folder, path); err != nil || strings.HasPrefix(rel, "..") {
		return failf("Failed to submit deployment %s: the scoring script %s is not in the folder %s.", deployment, script, folder)
	}
	b, err := readLimited(path, maxScript)
	if err != nil {
		return failf("Failed to submit deployment %s: there is no scoring script %s in %s.%s", deployment, script, folder, bypass)
	}
	var lacks []string
	for _, name := range []string{"init", "run"} {
		if !definesFunction(string(b), name) {
			lacks = append(lacks, name+"()")
		}
	}
	if len(lacks) > 0 {
		return failf("Failed to submit deployment %s: the scoring script %s defines no %s. The inference server calls init() once, and run() with each request.%s",
			deployment, script, strings.Join(lacks, " and no "), bypass)
	}
	return nil
}

// definesFunction reports whether Python text defines a name at its top level,
// or may have it from an import.
func definesFunction(text, name string) bool {
	re := regexp.MustCompile(`^(?:(?:async\s+)?def\s+` + name + `\s*\(|` + name + `\s*(?::[^=]*)?=|from\s+\S+\s+import\s+(?:.*\b` + name + `\b|\*|\(\s*$))`)
	quote := ""
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		if quote == "" && re.MatchString(line) {
			return true
		}
		quote = stringAfter(line, quote)
	}
	return false
}

// stringAfter is which quotes of a text over several lines are open after line.
func stringAfter(line, quote string) string {
	for i := 0; i < len(line); i++ {
		switch {
		case quote == "" && line[i] == '#':
			return ""
		case quote == "" && (strings.HasPrefix(line[i:], `"""`) || strings.HasPrefix(line[i:], `'''`)):
			quote = line[i : i+3]
			i += 2
		case quote == "" && (line[i] == '"' || line[i] == '\''):
			i = skipString(line, i)
		case quote != "" && line[i] == '\\':
			i++
		case quote != "" && strings.HasPrefix(line[i:], quote):
			quote = ""
			i += 2
		}
	}
	return quote
}

// skipString is where the text that begins at i ends.
func skipString(line string, i int) int {
	for j := i + 1; j < len(line); j++ {
		switch line[j] {
		case '\\':
			j++
		case line[i]:
			return j
		}
	}
	return len(line)
}
