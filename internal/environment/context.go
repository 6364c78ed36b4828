package environment

import "context"

// context makes the image of a build context and returns its name.
func (r *resolving) context(_ context.Context, _ Build) (string, error) {
	return "", r.refuse("images are not built from a Dockerfile here")
}
