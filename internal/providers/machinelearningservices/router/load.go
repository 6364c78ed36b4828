package router

// Pending is how many requests a deployment has: in progress, and waiting for
// an instance.
func (r *Router) Pending(deploymentUID string) int {
	p, ok := r.pools.all.Load(deploymentUID)
	if !ok {
		return 0
	}
	return int(p.(*pool).pending.Load())
}
