package box

import "path/filepath"

// Folders are where the cgroup is, one in each hierarchy.
func (c *Cgroup) Folders() []string {
	var out []string
	for _, h := range c.mine {
		out = append(out, filepath.Join(h.dir, c.Path))
	}
	return out
}
