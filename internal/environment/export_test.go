package environment

import "bytes"

// Meets is meets for a requirement.
func Meets(has string, r Requirement) bool { return meets(has, r.Asked, r.Pip) }

// ForPip is what pip is asked for, or why it can't be.
func (r Requirement) ForPip() (text, reason string) { return r.forPip() }

// ReadTree gives the paths that a build's archive would have in an image.
func ReadTree(archive []byte) (paths []string, err error) {
	return ReadTreeOf(archive, maxTreeFiles, maxInstalled)
}

// ReadTreeOf is ReadTree with other limits.
func ReadTreeOf(archive []byte, files int, most int64) (paths []string, err error) {
	t := tree{files: files, most: most}
	err = t.read(bytes.NewReader(archive))
	for _, e := range t.entries {
		paths = append(paths, e.Path)
	}
	return paths, err
}
